//! The log: which events are written (`--log`, RUST_LOG) and how a line looks on a terminal, in a file, in the journal.

use std::fmt;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use anyhow::{Result, bail};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
/// Other words for levels, as syslog(3) and other programs have them.
const SYNONYMS: [(&str, &str); 4] = [("warning", "warn"), ("err", "error"), ("notice", "info"), ("none", "off")];

/// Reads a filter: a level, or a list of `target=level` with commas between. `tracing` takes a word that is no level for
/// the name of a target and leaves everything else out, so the words are checked here first.
///
/// # Errors
/// The part of the list that is neither a level nor about a part of the daemon.
pub fn filter(text: &str) -> Result<EnvFilter> {
    let parts: Vec<String> = text.split(',').map(directive).collect::<Result<_>>()?;
    Ok(EnvFilter::try_new(parts.join(","))?)
}

/// Checks one directive and writes its level as `tracing` does.
fn directive(text: &str) -> Result<String> {
    let text = text.trim();
    let (target, word) = match text.split_once('=') {
        Some((target, word)) => (Some(target.trim()), word.trim()),
        None => (None, text),
    };
    let Some(target) = target else {
        return match level(word) {
            Some(level) => Ok(level.to_owned()),
            None if is_target(word) => Ok(word.to_owned()),
            None => bail!("{word:?} is not a level; use {}", LEVELS.join(", ")),
        };
    };
    let Some(level) = level(word) else { bail!("{word:?} is not a level; use {}", LEVELS.join(", ")) };
    if !is_target(target) {
        bail!("{target:?} is no part of scstd; name one that begins with scst, such as scst_target_iscsi");
    }
    Ok(format!("{target}={level}"))
}

fn level(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    let meant = SYNONYMS.iter().find(|(other, _)| *other == word).map_or(word.as_str(), |(_, level)| level);
    LEVELS.into_iter().find(|level| *level == meant)
}

/// Whether events can have this target: those of the daemon and its crates are named after their modules.
fn is_target(word: &str) -> bool {
    word.starts_with("scst") && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:".contains(&b))
}

/// Whether standard error is the journal: systemd.exec(5) puts device and inode of its stream into JOURNAL_STREAM, which
/// child processes inherit also when their output goes elsewhere.
pub fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let stderr = std::io::stderr().as_fd().try_clone_to_owned();
    let Ok(metadata) = stderr.and_then(|descriptor| File::from(descriptor).metadata()) else { return false };
    stream == format!("{}:{}", metadata.dev(), metadata.ino())
}

/// Begins each line with the priority of its event, as sd-daemon(3) has it: `<3>` error to `<7>` debug.
#[derive(Clone, Debug)]
pub struct WithPriority<F>(pub F);

impl<S, N, F> FormatEvent<S, N> for WithPriority<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut text = String::new();
        self.0.format_event(ctx, Writer::new(&mut text), event)?;
        let priority = priority(*event.metadata().level());
        // The journal makes an entry of every line.
        text.lines().try_for_each(|line| writeln!(out, "<{priority}>{line}"))
    }
}

fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_levels_in_every_spelling() {
        for (text, expected) in [
            ("warning", "warn"),
            ("WARN", "warn"),
            ("err", "error"),
            ("notice", "info"),
            ("off", "off"),
            ("scst_target_iscsi", "scst_target_iscsi=trace"),
            ("info, scst_target_iscsi=debug", "scst_target_iscsi=debug,info"),
            ("scstd::control=Warning,error", "scstd::control=warn,error"),
        ] {
            assert_eq!(
                filter(text).map(|f| f.to_string()).map_err(|e| e.to_string()),
                Ok(expected.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_word_that_would_switch_the_log_off_is_refused() {
        let levels = "use error, warn, info, debug, trace, off";
        for (text, expected) in [
            ("verbose", format!("\"verbose\" is not a level; {levels}")),
            ("", format!("\"\" is not a level; {levels}")),
            ("info,", format!("\"\" is not a level; {levels}")),
            ("scst_target_iscsi=loud", format!("\"loud\" is not a level; {levels}")),
            ("a=b=c", format!("\"b=c\" is not a level; {levels}")),
            (
                "iscsi=debug",
                "\"iscsi\" is no part of scstd; name one that begins with scst, such as scst_target_iscsi".into(),
            ),
        ] {
            assert_eq!(filter(text).unwrap_err().to_string(), expected, "{text}");
        }
    }
}
