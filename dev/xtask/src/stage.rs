//! The stages of `cargo xtask test` and the account of how each went.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::{cargo, conformance, cost, fuzz, layers, setup, sim, tests, vm};

/// One step of the whole test, in the order they run: what is cheap to find comes first.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Stage {
    /// Packages and Rust components
    Setup,
    /// cargo fmt --check
    Fmt,
    /// The project's own rules: layers, unsafe code, licences, file lengths
    Layers,
    /// cargo clippy, warnings denied
    Clippy,
    /// cargo doc, warnings denied
    Docs,
    /// The oldest supported compiler accepts the workspace
    Msrv,
    /// cargo test: unit, property and integration tests
    Unit,
    /// Instructions per command, against the budget
    Cost,
    /// Deterministic simulation with fresh seeds
    Sim,
    /// Fuzz targets: kept corpus, then a short fresh run
    Fuzz,
    /// libiscsi's conformance suite on each back-end
    Conformance,
    /// Real initiators in a virtual machine
    Vm,
}

impl Stage {
    fn run(self) -> Result<Tally> {
        match self {
            Self::Setup => setup::run(false),
            Self::Fmt => tests::fmt(),
            Self::Layers => layers::stage(),
            Self::Clippy => tests::clippy(),
            Self::Docs => tests::docs(),
            Self::Msrv => tests::msrv(),
            Self::Unit => tests::unit(),
            Self::Cost => cost::run(&cost::Arguments::default()),
            Self::Sim => sim::run(&sim::Arguments::default()),
            Self::Fuzz => fuzz::run(&fuzz::Arguments::default()),
            Self::Conformance => conformance::run(&conformance::Arguments::default()),
            Self::Vm => vm::run(&vm::Arguments::default()),
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// What a stage counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    /// One check that held.
    pub(crate) const ONE: Self = Self { passed: 1, failed: 0 };

    /// Counts the one more way or the other.
    pub(crate) fn count(&mut self, passed: bool) {
        if passed { self.passed += 1 } else { self.failed += 1 }
    }
}

/// All stages that have run.
#[derive(Default)]
pub(crate) struct Report {
    lines: Vec<(String, Tally, Duration)>,
    left_out: Vec<String>,
    /// How far the whole test is, for the heading of the next stage.
    place: String,
    /// How long each stage took when it passed last, in seconds.
    usual: BTreeMap<String, u64>,
}

/// Where the durations are kept from one run to the next.
fn durations_file() -> PathBuf {
    cargo::target_directory().join("xtask-durations")
}

/// Reads durations: a name and seconds in each line. Other lines are left out.
fn durations(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (name, seconds) = line.split_once(' ')?;
        Some((name.to_owned(), seconds.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

fn usual(seconds: Option<&u64>) -> String {
    seconds.map_or_else(String::new, |seconds| format!(" (last time {})", duration(*seconds)))
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        _ => format!("{} min", seconds.div_ceil(60)),
    }
}

/// Says how much there is to do, and how long that took before.
fn plan(stages: &[String], usual: &BTreeMap<String, u64>) -> String {
    let (known, new): (Vec<&String>, Vec<&String>) = stages.iter().partition(|stage| usual.contains_key(*stage));
    let total: u64 = known.iter().filter_map(|stage| usual.get(*stage)).sum();
    let count = if stages.len() == 1 { "1 stage".to_owned() } else { format!("{} stages", stages.len()) };
    match (known.len(), new.len()) {
        (0, _) => format!("{count}; the first run downloads and builds everything, so it takes longer than later ones"),
        (_, 0) => format!("{count}; last time they took {}", duration(total)),
        (_, _) => {
            format!("{count}; last time {} of them took {}, the others have not run yet", known.len(), duration(total))
        }
    }
}

impl Report {
    /// Runs one stage and takes it to the account; says whether it passed.
    pub(crate) fn run(&mut self, name: &str, body: impl FnOnce() -> Result<Tally>) -> bool {
        println!("\n== {}{name}{}", self.place, usual(self.usual.get(name)));
        let started = Instant::now();
        let result = body().and_then(|tally| {
            ensure!(tally.passed + tally.failed > 0, "it ran no test");
            Ok(tally)
        });
        let tally = result.unwrap_or_else(|error| {
            println!("error: {error:#}");
            Tally { passed: 0, failed: 1 }
        });
        self.lines.push((name.to_owned(), tally, started.elapsed()));
        tally.failed == 0
    }

    /// Keeps how long the stages took, for the next run to say.
    fn remember(&mut self) {
        let passed = self.lines.iter().filter(|(_, tally, _)| tally.failed == 0);
        self.usual.extend(passed.map(|(name, _, elapsed)| (name.clone(), elapsed.as_secs())));
        let text: String = self.usual.iter().map(|(name, seconds)| format!("{name} {seconds}\n")).collect();
        if let Err(error) = fs::write(durations_file(), text) {
            println!("{}: {error}; the next run will not know how long this one took", durations_file().display());
        }
    }

    /// Prints the account, last of all the totals.
    pub(crate) fn close(self) -> ExitCode {
        println!();
        for (name, tally, elapsed) in &self.lines {
            let verdict = if tally.failed == 0 { "ok" } else { "FAILED" };
            println!(
                "{verdict:<7}{name:<12}{:>7} passed{:>5} failed{:>8.1} s",
                tally.passed,
                tally.failed,
                elapsed.as_secs_f32()
            );
        }
        if !self.left_out.is_empty() {
            println!("not run: {}", self.left_out.join(", "));
        }
        let passed: u64 = self.lines.iter().map(|(_, tally, _)| tally.passed).sum();
        let failed: u64 = self.lines.iter().map(|(_, tally, _)| tally.failed).sum();
        println!("{passed} passed, {failed} failed");
        if failed == 0 && self.left_out.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Runs the chosen stages, or all, up to the first that fails unless `keep_going`.
pub(crate) fn test(chosen: &[Stage], keep_going: bool) -> ExitCode {
    let stages = if chosen.is_empty() { Stage::value_variants() } else { chosen };
    let usual = durations(&fs::read_to_string(durations_file()).unwrap_or_default());
    let names: Vec<String> = stages.iter().map(|stage| stage.name()).collect();
    println!("{}", plan(&names, &usual));
    let mut report = Report { usual, ..Report::default() };
    let mut left = stages.iter();
    for (at, stage) in (1..).zip(left.by_ref()) {
        report.place = format!("[{at}/{}] ", stages.len());
        if !report.run(&stage.name(), || stage.run()) && !keep_going {
            break;
        }
    }
    report.left_out = left.map(|stage| stage.name()).collect();
    report.remember();
    report.close()
}

#[cfg(test)]
mod tests_of_the_account {
    use super::*;

    #[test]
    fn the_plan_says_how_long_it_took_last_time() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let usual = durations("fmt 3\nunit 600\nbroken\nalso broken\n");
        assert_eq!(usual.len(), 2);
        assert_eq!(plan(&names(&["fmt", "unit"]), &usual), "2 stages; last time they took 11 min");
        assert_eq!(plan(&names(&["fmt"]), &usual), "1 stage; last time they took 3 s");
        assert_eq!(
            plan(&names(&["fmt", "sim"]), &usual),
            "2 stages; last time 1 of them took 3 s, the others have not run yet"
        );
        let first = "2 stages; the first run downloads and builds everything, so it takes longer than later ones";
        assert_eq!(plan(&names(&["fmt", "sim"]), &BTreeMap::new()), first);
    }

    #[test]
    fn a_stage_that_ran_nothing_or_broke_has_failed() {
        let mut report = Report::default();
        assert!(report.run("some", || Ok(Tally { passed: 3, failed: 0 })));
        assert!(!report.run("none", || Ok(Tally::default())));
        assert!(!report.run("broken", || anyhow::bail!("no compiler")));
        let tallies: Vec<_> = report.lines.iter().map(|(_, tally, _)| (tally.passed, tally.failed)).collect();
        assert_eq!(tallies, [(3, 0), (0, 1), (0, 1)]);
    }
}
