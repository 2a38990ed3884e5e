//! The `compare` sub-command: targets side by side, interleaved, medians and spread.

mod cases;
mod contenders;
mod field;
mod idle;
mod peers;
mod plot;
mod report;
mod scstd;
mod stats;
mod verdict;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::ceiling::{self, InlineOptions};
use crate::load::LoadReport;
use crate::machine;
use cases::{Case, Matrix};
use contenders::{Contender, DISK_SIZE, Role, Way};
use stats::{DISTURBED, Results, Series};

/// Options of `compare`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareOptions {
    /// The scstd binary; by default the one beside this program, built with cargo if it is not there.
    #[arg(long)]
    scstd: Option<PathBuf>,
    /// Measure without scstd.
    #[arg(long, conflicts_with = "scstd")]
    without_scstd: bool,
    /// More arguments for scstd.
    #[arg(long = "scstd-arg", allow_hyphen_values = true)]
    scstd_arguments: Vec<String>,
    /// Interleaved rounds; the table shows medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds per measurement.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Core of the targets.
    #[arg(long, default_value_t = 0)]
    target_core: usize,
    /// Core of the load.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Which cases.
    #[arg(long, value_enum, default_value = "bars")]
    matrix: Matrix,
    /// Only cases whose name contains one of these.
    #[arg(long)]
    only: Vec<String>,
    /// Only targets whose name contains one of these.
    #[arg(long)]
    targets: Vec<String>,
    /// Microseconds that scstd polls before it sleeps, where polling is measured.
    #[arg(long, default_value_t = 50)]
    poll_us: u32,
    /// Also measure idle sessions and many LUNs.
    #[arg(long)]
    idle: bool,
    /// Seconds to watch idle sessions.
    #[arg(long, default_value_t = 31.0)]
    idle_seconds: f64,
    /// Directory of the files behind LUNs; by default memory, so that the page cache is what is measured.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Also write the report to FILE, and what was measured beside it: FILE.csv and FILE.svg (with .md replaced).
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A measurement is repeated so often when something else ran on the cores meanwhile.
const TRIES: usize = 3;

/// Runs the comparison.
pub(crate) fn run(options: &CompareOptions) -> Result<()> {
    if options.rounds == 0 {
        bail!("--rounds must be at least 1");
    }
    let mut cases = cases::cases(options.matrix);
    cases.retain(|case| wanted(&case.name(), &options.only));
    let results = measure_all(options, cases)?;
    let idle = field::idle(options)?;
    let mut text = report::render(&results);
    for line in &idle.skipped {
        text.push_str(&format!("- skipped: {line}\n"));
    }
    text.push_str(&idle::render(&idle.found));
    text.push_str(&verdict::render(&verdict::bars(&results, &idle.found)));
    print!("{text}");
    if let Some(path) = &options.output {
        let write = |path: PathBuf, text: &str| {
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
        };
        write(path.clone(), &text)?;
        write(path.with_extension("csv"), &report::csv(&results))?;
        write(path.with_extension("svg"), &plot::render(&results))?;
    }
    Ok(())
}

fn wanted(name: &str, parts: &[String]) -> bool {
    parts.is_empty() || parts.iter().any(|part| name.contains(part.as_str()))
}

/// All rounds, each with targets that have just been started: what a target keeps from one case to the next (tgt's
/// buffers are the example, see docs/performance.md) shall not make rounds differ.
fn measure_all(options: &CompareOptions, cases: Vec<Case>) -> Result<Results> {
    let (rounds, seconds) = (options.rounds, options.seconds);
    let mut results =
        Results { rounds, seconds, cases, contenders: Vec::new(), series: Vec::new(), skipped: Vec::new() };
    let mut failed = BTreeSet::new();
    for round in 0..rounds {
        let mut field = field::start(options)?;
        field.contenders.retain(|contender| wanted(contender.role.name(), &options.targets));
        let contenders = std::mem::take(&mut field.contenders);
        if round == 0 {
            results.skipped.append(&mut field.skipped);
            results.series = (0..results.cases.len())
                .flat_map(|case| {
                    (0..contenders.len()).map(move |contender| Series { case, contender, reports: vec![] })
                })
                .collect();
        } else if !contenders.iter().map(|c| c.role).eq(results.contenders.iter().map(|c| c.role)) {
            bail!("not all targets could be started again: {}", field.skipped.join("; "));
        }
        results.contenders = contenders;
        measure_round(options, round, &mut results, &mut failed);
    }
    Ok(results)
}

fn measure_round(options: &CompareOptions, round: usize, results: &mut Results, failed: &mut BTreeSet<(usize, usize)>) {
    let Results { cases, contenders, series, skipped, .. } = results;
    for (number, case) in cases.iter().enumerate() {
        for step in 0..contenders.len() {
            // Another one begins in every round and case: drifts of the machine hit all alike.
            let index = (step + round + number) % contenders.len();
            let contender = &contenders[index];
            if !contender.role.plays(case) || failed.contains(&(number, index)) {
                continue;
            }
            let (case_name, role) = (case.name(), contender.role.name());
            match measure_undisturbed(options, contender, case) {
                Ok(report) => {
                    eprintln!(
                        "round {}/{}: {case_name}: {role}: {:.0} IOPS, {:.2} us ({:.0} ns from core to core, others {:.0} %)",
                        round + 1,
                        options.rounds,
                        report.iops,
                        report.target_cpu,
                        report.distance,
                        report.others * 100.0
                    );
                    series[number * contenders.len() + index].reports.push(report);
                }
                // One that fails must not spoil hours of measuring the others.
                Err(error) => {
                    skipped.push(format!("{role}, {case_name}: {error:#}").replace('\n', " "));
                    failed.insert((number, index));
                    series[number * contenders.len() + index].reports.clear();
                }
            }
        }
    }
}

/// Measures again when something else has used the cores or when they have moved; the least disturbed of all tries counts.
fn measure_undisturbed(options: &CompareOptions, contender: &Contender, case: &Case) -> Result<LoadReport> {
    let distance = || machine::core_distance(options.target_core, options.load_core);
    let mut best: Option<LoadReport> = None;
    for _ in 0..TRIES {
        let before = distance()?;
        let report = LoadReport { distance: before, ..measure(options, contender, case)? };
        // The kernel's threads behind a loop device are others too, and always there.
        let alone = report.others <= DISTURBED || contender.role == Role::ScstdDirect;
        let undisturbed = alone && stats::same_distance(before, distance()?);
        if best.as_ref().is_none_or(|best| undisturbed || report.others < best.others) {
            best = Some(report);
        }
        if undisturbed {
            break;
        }
    }
    best.context("not one try")
}

fn measure(options: &CompareOptions, contender: &Contender, case: &Case) -> Result<LoadReport> {
    let (portal, pid) = match &contender.way {
        Way::File(file) => return measure_file(options, contender.role, file.clone(), case),
        Way::Processor => return measure_pass(options, case),
        Way::Iscsi { portal, pid, .. } | Way::Nbd { portal, pid } | Way::Echo { portal, pid } => {
            (portal.to_string(), pid.to_string())
        }
    };
    let mut load = Command::new("taskset");
    load.args(["-c", &options.load_core.to_string()]).arg(std::env::current_exe()?);
    load.args(["load", "--machine", "--warmup", "0.3", "--portal", &portal, "--pid", &pid]);
    load.args(["--seconds", &options.seconds.to_string(), "--range", &DISK_SIZE.to_string()]);
    load.args(["--cores", &options.target_core.to_string(), &options.load_core.to_string()]);
    match &contender.way {
        Way::Iscsi { target, lun, .. } => load.args(["--target", target, "--lun", &lun.to_string()]),
        Way::Echo { .. } => load.args(["--target", "", "--protocol", "echo"]),
        _ => load.args(["--target", "", "--protocol", "nbd"]),
    };
    if contender.role == Role::ScstdPrivate {
        load.arg("--private-luns");
    }
    report_of(load.args(case.arguments()))
}

/// On the core of the targets, as they would have to do it.
fn measure_file(options: &CompareOptions, role: Role, file: PathBuf, case: &Case) -> Result<LoadReport> {
    let (operation, order, size, seconds) = (case.operation, case.order(), case.size, options.seconds);
    let inline = InlineOptions { file, operation, order, size, seconds };
    if role == Role::Fio {
        return ceiling::fio(options.target_core, &inline.file.clone(), &inline, case.depth);
    }
    let mut command = on_target_core(options, "inline")?;
    command.arg("--file").arg(&inline.file).args(["--seconds", &seconds.to_string()]);
    // The same arguments as those of a load, as far as there are such.
    report_of(command.args(&case.arguments()[..6]))
}

fn measure_pass(options: &CompareOptions, case: &Case) -> Result<LoadReport> {
    let mut command = on_target_core(options, "pass")?;
    command.args(["--size", &case.size.to_string(), "--depth", &case.depth.to_string()]);
    report_of(command.args(["--seconds", &options.seconds.to_string()]))
}

/// A sub-command of this program.
fn on_target_core(options: &CompareOptions, name: &str) -> Result<Command> {
    let mut command = Command::new("taskset");
    command.args(["-c", &options.target_core.to_string()]).arg(std::env::current_exe()?).arg(name);
    Ok(command)
}

fn report_of(command: &mut Command) -> Result<LoadReport> {
    let output = command.env("RUST_BACKTRACE", "0").output().context("starting taskset")?;
    if !output.status.success() {
        bail!("the load failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    LoadReport::from_line(String::from_utf8_lossy(&output.stdout).trim())
}
