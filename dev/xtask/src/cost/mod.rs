//! Instructions per command, against the budget in the repository.
//!
//! Each scenario of `dev/cost` runs twice under callgrind, the second time with twice the commands; the difference is
//! exactly what the commands cost. Only our own instructions count, so the numbers do not depend on the processor or on
//! the C library, but they do on the compiler.

mod budget;
mod callgrind;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::cargo;
use crate::stage::Tally;
use budget::{Budget, Comparison, Compiler, Cost, Verdict};
use callgrind::Profile;

/// Commands of the first run; the second has twice as many.
const COMMANDS: u32 = 1024;
const PROGRAM: &str = "scst-cost";

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Arguments {
    /// Make what is measured the budget
    #[arg(long)]
    record: bool,
    /// Show where the instructions of one scenario go, and nothing else
    #[arg(long, value_name = "SCENARIO", conflicts_with = "record")]
    profile: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Tally> {
    let program = cargo::build_release(PROGRAM)?;
    if let Some(scenario) = &arguments.profile {
        measure(&program, scenario)?.print();
        return Ok(Tally::ONE);
    }
    let compiler = Compiler::parse(&cargo::output(Command::new("rustc").arg("-vV").current_dir(cargo::root()))?)?;
    let listing = cargo::output(&mut Command::new(&program))?;
    let scenarios: Vec<&str> = listing.lines().collect();
    let measured = measure_all(&program, &scenarios)?;
    let file = cargo::root().join("dev/cost/budget.toml");
    if arguments.record {
        let costs = measured.iter().map(|(name, cost)| ((*name).to_owned(), *cost)).collect();
        fs::write(&file, Budget { compiler: compiler.clone(), costs }.render())?;
        println!("recorded in {}", file.display());
    }
    let text = fs::read_to_string(&file).with_context(|| format!("{}: cargo xtask cost --record", file.display()))?;
    let budget = Budget::parse(&text).with_context(|| file.display().to_string())?;
    Ok(judge(&budget, &compiler, &scenarios, &measured))
}

/// Prints the table; one check per scenario, and one for the record itself.
fn judge(budget: &Budget, compiler: &Compiler, scenarios: &[&str], measured: &BTreeMap<&str, Cost>) -> Tally {
    let comparison = budget.comparison(compiler);
    let recorded = &budget.compiler;
    match comparison {
        Comparison::Exact => {}
        Comparison::Roughly => println!(
            "the budget is that of rustc {}, this is {}: only growth of more than 15 % fails (and what is over a limit)",
            recorded.release, compiler.release
        ),
        Comparison::LimitsOnly => println!(
            "the budget is that of {}, this is {}: only what is over a limit fails",
            recorded.host, compiler.host
        ),
    }
    println!("{:<28}{:>13}{:>9}{:>9}{:>9}{:>9}", "", "instructions", "budget", "growth", "calls", "budget");
    let (mut tally, mut slack) = (Tally::default(), false);
    for name in scenarios {
        let Some(&cost) = measured.get(name) else { continue };
        let old = budget.costs.get(*name).copied().unwrap_or(Cost { instructions: f64::NAN, calls: f64::NAN });
        let growth = (cost.instructions / old.instructions - 1.0) * 100.0;
        let verdict = budget.judge(name, cost, comparison);
        let remark = match &verdict {
            Verdict::Good => "",
            Verdict::Slack => "cheaper",
            Verdict::Bad(_) => "FAILED",
        };
        println!(
            "{name:<28}{:>13.1}{:>9.1}{growth:>7.1} %{:>9.2}{:>9.2}  {remark}",
            cost.instructions, old.instructions, cost.calls, old.calls
        );
        if let Verdict::Bad(why) = &verdict {
            println!("    {name} {why}; to see where: cargo xtask cost --profile {name}");
        }
        slack |= verdict == Verdict::Slack;
        tally.count(!matches!(verdict, Verdict::Bad(_)));
    }
    let known: BTreeSet<&str> = scenarios.iter().copied().collect();
    let stale: Vec<_> = budget.costs.keys().filter(|name| !known.contains(name.as_str())).collect();
    if !stale.is_empty() {
        println!("the budget has scenarios that are no more: {stale:?}; cargo xtask cost --record");
    }
    tally.count(stale.is_empty());
    if slack {
        println!("some of it is cheaper than its budget by more than 5 %: cargo xtask cost --record keeps that");
    }
    if tally.failed > 0 {
        println!("growth that is worth it is recorded with: cargo xtask cost --record");
    }
    tally
}

/// All scenarios, as many at a time as there are processors.
fn measure_all<'a>(program: &Path, scenarios: &[&'a str]) -> Result<BTreeMap<&'a str, Cost>> {
    let left = Mutex::new(scenarios.iter());
    let costs = Mutex::new(Ok(BTreeMap::new()));
    let work = || {
        // The lock is held for one step of the iterator, not while measuring.
        let next = || left.lock().ok()?.next().copied();
        while let Some(name) = next() {
            let cost = measure(program, name).map(|profile| Cost::of(&profile, name));
            let Ok(mut costs) = costs.lock() else { return };
            match (&mut *costs, cost) {
                (Ok(costs), Ok(cost)) => {
                    costs.insert(name, cost);
                }
                (Ok(_), Err(error)) => *costs = Err(error),
                (Err(_), _) => return,
            }
        }
    };
    let jobs = thread::available_parallelism()?.get();
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    costs.into_inner().unwrap_or_else(|_| anyhow::bail!("a measurement has panicked"))
}

/// What a command of a scenario costs.
fn measure(program: &Path, scenario: &str) -> Result<Profile> {
    let less = callgrind(program, scenario, COMMANDS)?;
    let more = callgrind(program, scenario, 2 * COMMANDS)?;
    Ok(more.per_command(&less, COMMANDS))
}

fn callgrind(program: &Path, scenario: &str, commands: u32) -> Result<Profile> {
    let folder = cargo::target_directory().join("cost");
    fs::create_dir_all(&folder)?;
    let file: PathBuf = folder.join(format!("{scenario}.{commands}.callgrind"));
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind", "--collect-atstart=no"]);
    valgrind.args(["--compress-strings=no", "--compress-pos=no", "--dump-line=no"]);
    // The one function of the program between whose entry and return counts.
    valgrind.arg("--toggle-collect=*scst_cost*meter*measured*");
    valgrind.arg(format!("--callgrind-out-file={}", file.display()));
    valgrind.arg(program).arg(scenario).arg(commands.to_string());
    let out = valgrind.stdin(Stdio::null()).output().context("cannot start valgrind; cargo xtask setup")?;
    let errors = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "{scenario} under valgrind: {}\n{errors}", out.status);
    Profile::parse(&fs::read_to_string(&file)?, PROGRAM).with_context(|| file.display().to_string())
}
