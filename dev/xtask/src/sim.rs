//! Deterministic simulation with fresh seeds; the work is in dev/sim, which prints each seed that fails.

use std::process::Command;
use std::thread;

use anyhow::Result;
use clap::Args;

use crate::cargo;
use crate::stage::Tally;

/// So many runs fit into a minute or two of the whole test.
const RUNS: u64 = 500;

#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Arguments {
    /// How many runs
    #[arg(long)]
    runs: Option<u64>,
    /// The first seed; a fresh one when it is not given
    #[arg(long)]
    seed: Option<u64>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Tally> {
    let runs = arguments.runs.unwrap_or(RUNS);
    let jobs = thread::available_parallelism()?;
    // A profile of its own: optimised, with every assertion of the daemon.
    cargo::run(&mut cargo::cargo(&["build", "--profile", "sim", "--package", "scst-sim"]))?;
    let mut sim = Command::new(cargo::target_directory().join("sim/scst-sim"));
    sim.args(["--runs", &runs.to_string(), "--jobs", &jobs.to_string()]);
    if let Some(seed) = arguments.seed {
        sim.args(["--seed", &seed.to_string()]);
    }
    cargo::run(&mut sim)?;
    Ok(Tally { passed: runs, failed: 0 })
}
