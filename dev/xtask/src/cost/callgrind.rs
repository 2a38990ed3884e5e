//! What callgrind wrote, summed up: instructions per function, calls out of the program.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

/// The checksum itself, of which each processor has another form: left out where digests are wanted.
const CHECKSUM: [&str; 2] = ["scst_protocol_iscsi::digest::crc32c", "crc_fast::"];

/// One run, or the difference of two.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Profile {
    /// Instructions by function of the program itself.
    pub(crate) functions: BTreeMap<String, f64>,
    /// Calls by caller and function called, of the program into libraries.
    calls: BTreeMap<(String, String), f64>,
}

/// Where a line of costs belongs.
#[derive(Default)]
struct Place {
    object: String,
    function: String,
    called_object: Option<String>,
    called: String,
    /// The next line of costs is that of so many calls.
    calls: Option<f64>,
}

impl Profile {
    /// Reads a file written with `--compress-strings=no --compress-pos=no --dump-line=no`. Objects other than `program`
    /// count as libraries: what they do depends on the processor (`memcpy` comes in many variants).
    pub(crate) fn parse(text: &str, program: &str) -> Result<Self> {
        let own = |object: &str| object.rsplit('/').next() == Some(program);
        let mut profile = Self::default();
        let mut place = Place::default();
        for line in text.lines() {
            if let Some((key, value)) = line.split_once('=') {
                match key {
                    "ob" => value.clone_into(&mut place.object),
                    "fn" => value.clone_into(&mut place.function),
                    "cob" => place.called_object = Some(value.to_owned()),
                    "cfn" => value.clone_into(&mut place.called),
                    "calls" => {
                        let count = value.split(' ').next().and_then(|count| count.parse().ok());
                        place.calls = Some(count.with_context(|| format!("callgrind wrote {line}"))?);
                    }
                    _ => {}
                }
            } else if line.starts_with(|first: char| first.is_ascii_digit()) {
                let cost = line.split(' ').nth(1).and_then(|cost| cost.parse::<f64>().ok());
                let cost = cost.with_context(|| format!("callgrind wrote {line}"))?;
                let called_object = place.called_object.take();
                match place.calls.take() {
                    None if own(&place.object) => {
                        *profile.functions.entry(name(&place.function)).or_default() += cost;
                    }
                    // Calls are counted outside of the measured part, too, but cost nothing there.
                    Some(count) if cost > 0.0 && own(&place.object) && called_object.is_some_and(|to| !own(&to)) => {
                        *profile.calls.entry((name(&place.function), name(&place.called))).or_default() += count;
                    }
                    _ => {}
                }
            }
        }
        ensure!(profile.functions.values().sum::<f64>() > 0.0, "callgrind has counted nothing of {program}");
        Ok(profile)
    }

    /// What `commands` commands more cost, each: the difference to a run with fewer.
    pub(crate) fn per_command(mut self, fewer: &Self, commands: u32) -> Self {
        for (function, cost) in &mut self.functions {
            *cost = (*cost - fewer.functions.get(function).unwrap_or(&0.0)) / f64::from(commands);
        }
        for (call, count) in &mut self.calls {
            *count = (*count - fewer.calls.get(call).unwrap_or(&0.0)) / f64::from(commands);
        }
        self
    }

    /// Instructions of the program's own functions, with those of checksums or without.
    pub(crate) fn instructions(&self, checksums: bool) -> f64 {
        let counts = |function: &str| checksums || !CHECKSUM.iter().any(|name| function.starts_with(name));
        self.functions.iter().filter(|(function, _)| counts(function)).map(|(_, cost)| cost).sum()
    }

    /// Calls into libraries: copies of more than a few words, and allocations.
    pub(crate) fn calls(&self) -> f64 {
        self.calls.values().sum()
    }

    /// The dearest functions, and who calls libraries.
    pub(crate) fn print(&self) {
        let mut functions: Vec<_> = self.functions.iter().filter(|(_, cost)| **cost >= 0.5).collect();
        functions.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        for (function, cost) in functions {
            println!("{cost:9.1}  {function}");
        }
        for ((caller, called), count) in self.calls.iter().filter(|(_, count)| **count >= 0.01) {
            println!("{count:9.2}  calls of {called} by {caller}");
        }
    }
}

/// The name of a function without the hash that the compiler adds.
fn name(function: &str) -> String {
    match function.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.chars().all(|c| c.is_ascii_hexdigit()) => name.to_owned(),
        _ => function.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
version: 1
events: Ir

ob=/somewhere/prog
fl=a.rs
fn=ours::copy::h0123456789abcdef
0 70
cob=/lib/libc.so.6
cfi=???
cfn=__memcpy_fast
calls=30 0
0 600
cob=/lib/libc.so.6
cfn=__memcpy_fast
calls=5 0
0 0
cfn=ours::other
calls=10 0
0 30

fn=ours::other
0 30

fn=scst_protocol_iscsi::digest::crc32c
0 400

fn=crc_fast::somewhere::within
0 600

ob=/lib/libc.so.6
fn=__memcpy_fast
0 600
";

    #[test]
    fn counts_the_program_and_its_calls_into_libraries() {
        let profile = Profile::parse(TEXT, "prog").unwrap();
        assert_eq!((profile.instructions(false), profile.instructions(true)), (100.0, 1100.0));
        assert_eq!(profile.calls(), 30.0);
        assert_eq!(profile.functions["ours::copy"], 70.0);
        assert!(Profile::parse(TEXT, "another").is_err());
    }

    #[test]
    fn the_difference_of_two_runs_is_what_commands_cost() {
        let less = Profile::parse(TEXT, "prog").unwrap();
        let more = Profile::parse(&TEXT.replace("0 70", "0 110").replace("calls=30", "calls=70"), "prog").unwrap();
        let each = more.per_command(&less, 20);
        assert_eq!((each.instructions(true), each.calls()), (2.0, 2.0));
    }
}
