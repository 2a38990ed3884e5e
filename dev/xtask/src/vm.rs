//! The virtual machine tier; the work is in dev/vmtest.

use anyhow::Result;
use clap::Args;
use scst_vmtest::{Options, Verdict, scenario};

use crate::stage::Tally;
use crate::{Daemon, cargo};

#[derive(Args, Default)]
pub(crate) struct Arguments {
    /// Scenarios to run instead of all
    names: Vec<String>,
    /// Only list the scenarios
    #[arg(long)]
    pub(crate) list: bool,
    /// Show the guest kernel's messages
    #[arg(long)]
    verbose: bool,
    #[command(flatten)]
    daemon: Daemon,
}

pub(crate) fn list() {
    for scenario in scenario::all() {
        println!("{:<16} {}", scenario.name, scenario.about);
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<Tally> {
    let outcomes = scst_vmtest::run(&Options {
        scstd: arguments.daemon.program()?,
        directory: cargo::target_directory().join("vm"),
        names: arguments.names.clone(),
        verbose: arguments.verbose,
    })?;
    println!();
    let mut tally = Tally::default();
    for outcome in &outcomes {
        println!("{outcome}");
        tally.count(outcome.verdict == Verdict::Passed);
    }
    Ok(tally)
}
