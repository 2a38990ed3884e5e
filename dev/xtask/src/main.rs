//! `cargo xtask`: the development commands. `cargo xtask test` runs every test there is and installs what it needs.
//!
//! Each sub-command but `setup` is also a stage of `test`; [`stage`] has their order. A stage that ran nothing has
//! failed, and so has one that was left out: the closing line `N passed, M failed` never hides either.

mod cargo;
mod conformance;
mod cost;
mod fuzz;
mod layers;
mod licences;
mod setup;
mod sim;
mod stage;
mod style;
mod tests;
mod vm;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::stage::{Report, Stage};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run all tests, installing what they need; or only the named stages
    #[command(visible_alias = "ci")]
    Test {
        /// Stages to run instead of all
        #[arg(value_enum)]
        stages: Vec<Stage>,
        /// Go on after a stage has failed
        #[arg(long)]
        keep_going: bool,
    },
    /// Install the Debian packages and Rust components that the tests need
    Setup {
        /// Also what the comparison with another target (dev/bench) needs
        #[arg(long)]
        bench: bool,
    },
    /// Check that dependencies only point down, where `unsafe` stands, licences and file lengths
    Layers,
    /// Run simulations with fresh seeds
    Sim(sim::Arguments),
    /// Replay the kept corpus of each fuzz target, then fuzz for a while
    Fuzz(fuzz::Arguments),
    /// Count instructions per command and compare them with dev/cost/budget.toml
    Cost(cost::Arguments),
    /// Run libiscsi's iscsi-test-cu against scstd, per I/O back-end
    Conformance(conformance::Arguments),
    /// Run real Linux initiators in a virtual machine
    Vm(vm::Arguments),
}

/// How the stages that need the daemon find it.
#[derive(Args, Clone, Debug, Default)]
struct Daemon {
    /// Use this program instead of building scstd
    #[arg(long)]
    scstd: Option<PathBuf>,
}

impl Daemon {
    fn program(&self) -> Result<PathBuf> {
        self.scstd.clone().map_or_else(|| cargo::build_release("scstd"), Ok)
    }
}

fn main() -> ExitCode {
    let mut report = Report::default();
    match Cli::parse().command {
        Command::Test { stages, keep_going } => return stage::test(&stages, keep_going),
        Command::Setup { bench } => report.run("setup", || setup::run(bench)),
        Command::Layers => report.run("layers", layers::stage),
        Command::Sim(arguments) => report.run("sim", || sim::run(&arguments)),
        Command::Fuzz(arguments) => report.run("fuzz", || fuzz::run(&arguments)),
        Command::Cost(arguments) => report.run("cost", || cost::run(&arguments)),
        Command::Conformance(arguments) => report.run("conformance", || conformance::run(&arguments)),
        Command::Vm(arguments) if arguments.list => {
            vm::list();
            return ExitCode::SUCCESS;
        }
        Command::Vm(arguments) => report.run("vm", || vm::run(&arguments)),
    };
    report.close()
}
