//! Idle sessions and many LUNs: memory and CPU time of an scstd of its own.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::CompareOptions;
use super::scstd::{Launcher, TARGET};
use crate::idle::{IdleReport, resident};
use crate::sys;

/// Sessions and LUNs of one measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Idle {
    pub(super) luns: u32,
    pub(super) report: IdleReport,
}

const POINTS: [(u16, u32); 4] = [(1, 1), (1000, 1), (10_000, 1), (1, 4096)];

/// All points. Pings come every 30 seconds (SCST's default), so that is how long one has to look to see one of each.
pub(super) fn measure(
    options: &CompareOptions,
    launcher: &Launcher<'_>,
    skipped: &mut Vec<String>,
) -> Result<Vec<Idle>> {
    if let Err(error) = sys::many_files(20_000) {
        skipped.push(format!("10,000 idle sessions: the limit of open files cannot be raised: {error}"));
    }
    let mut found = Vec::new();
    for (sessions, luns) in POINTS {
        eprintln!("idle: {sessions} sessions, {luns} LUNs");
        let scstd = launcher.with_luns(luns, reactors(sessions))?;
        let fresh = resident(scstd.pid())?;
        let seconds = if sessions == 1 { 1.0 } else { options.idle_seconds };
        let mut idle = Command::new("taskset");
        idle.args(["-c", &options.load_core.to_string()]).arg(std::env::current_exe()?);
        idle.args(["idle", "--portal", &scstd.portal().to_string(), "--target", TARGET, "--depth", "1"]);
        idle.args(["--connections", &sessions.to_string(), "--pid", &scstd.pid().to_string()]);
        idle.args(["--seconds", &seconds.to_string()]);
        match run(idle) {
            Ok(report) => found.push(Idle { luns, report: IdleReport { before: fresh, ..report } }),
            Err(error) => skipped.push(format!("{sessions} idle sessions: {error:#}")),
        }
    }
    Ok(found)
}

/// One has room for 8,192 connections.
fn reactors(sessions: u16) -> usize {
    if sessions > 8192 { 2 } else { 1 }
}

fn run(mut command: Command) -> Result<IdleReport> {
    let output = command.env("RUST_BACKTRACE", "0").output().context("starting taskset")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}", said.lines().collect::<Vec<_>>().join(" "));
    }
    IdleReport::from_line(String::from_utf8_lossy(&output.stdout).trim())
}

/// The section of the report.
pub(super) fn render(idle: &[Idle]) -> String {
    if idle.is_empty() {
        return String::new();
    }
    let mut text = "### Idle sessions and many LUNs (one reactor; two for 10,000 sessions)\n\n| sessions | LUNs | MiB resident at start | MiB \
                    with the sessions | KiB per session | CPU, % of a core | pings answered |\n\
                    |--:|--:|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for Idle { luns, report } in idle {
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {luns} | {:.1} | {:.1} | {:.1} | {:.4} | {} |",
            report.sessions,
            mib(report.before),
            mib(report.with),
            (report.with - report.before) / report.sessions / 1024.0,
            report.busy * 100.0,
            report.pings,
        );
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_per_session_is_what_the_sessions_added() {
        let report = IdleReport { sessions: 1024.0, before: 1048576.0, with: 3145728.0, busy: 0.0005, pings: 33.0 };
        let text = render(&[Idle { luns: 1, report }]);
        assert!(text.contains("| 1024 | 1 | 1.0 | 3.0 | 2.0 | 0.0500 | 33 |"), "{text}");
        assert_eq!(render(&[]), "");
    }
}
