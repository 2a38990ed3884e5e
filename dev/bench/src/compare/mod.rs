//! The `compare` sub-command: targets side by side, interleaved, medians and spread.

mod contenders;
mod report;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::load::LoadReport;
use contenders::Contender;

/// Which cases to measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Matrix {
    /// 4 KiB at depth 1 and 32, 128 KiB at depth 8, READ and WRITE.
    Quick,
    /// More depths, sizes, connections, digests.
    Full,
}

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
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds per measurement.
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// Core of the targets.
    #[arg(long, default_value_t = 0)]
    target_core: usize,
    /// Core of the load.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Which cases.
    #[arg(long, value_enum, default_value = "quick")]
    matrix: Matrix,
    /// Only cases whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Directory of the files behind LUNs; by default memory, so that the page cache is what is measured.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Also write the tables to a file.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// One shape of load.
#[derive(Clone, Debug, PartialEq)]
struct Case {
    name: String,
    arguments: Vec<String>,
}

fn case(operation: &str, size: u32, depth: usize, connections: u16, digests: bool) -> Case {
    let unit = if size >= 1 << 20 {
        format!("{} MiB", size >> 20)
    } else if size >= 1024 {
        format!("{} KiB", size >> 10)
    } else {
        format!("{size} B")
    };
    let mut name = format!("{unit} {} QD {depth}", operation.to_uppercase());
    let order = if size >= 65_536 { "sequential" } else { "random" };
    let size = size.to_string();
    let mut arguments: Vec<String> = ["--op", operation, "--size", &size, "--order", order].map(str::to_owned).to_vec();
    arguments.extend(["--depth".to_owned(), depth.to_string()]);
    if connections > 1 {
        name.push_str(&format!(" x{connections}"));
        arguments.extend(["--connections".to_owned(), connections.to_string()]);
    }
    if digests {
        name.push_str(" digests");
        arguments.extend(["--header-digest".to_owned(), "--data-digest".to_owned()]);
    }
    Case { name, arguments }
}

fn cases(matrix: Matrix) -> Vec<Case> {
    const K: u32 = 1024;
    let quick = [(4 * K, 1, 1, false), (4 * K, 32, 1, false), (128 * K, 8, 1, false)];
    let more = [
        (4 * K, 4, 1, false),
        (4 * K, 128, 1, false),
        (512, 32, 1, false),
        (K * K, 8, 1, false),
        (4 * K, 32, 4, false),
        (4 * K, 8, 64, false),
        (4 * K, 32, 1, true),
        (128 * K, 8, 1, true),
    ];
    let all = quick.iter().chain(if matrix == Matrix::Full { more.iter() } else { [].iter() });
    all.flat_map(|&(size, depth, connections, digests)| {
        ["read", "write"].map(|operation| case(operation, size, depth, connections, digests))
    })
    .collect()
}

/// All measurements of one contender in one case.
#[derive(Clone, Debug)]
struct Series {
    case: usize,
    contender: usize,
    reports: Vec<LoadReport>,
}

/// Runs the comparison.
pub(crate) fn run(options: &CompareOptions) -> Result<()> {
    if options.rounds == 0 {
        bail!("--rounds must be at least 1");
    }
    let cases: Vec<Case> = cases(options.matrix)
        .into_iter()
        .filter(|case| options.only.as_ref().is_none_or(|part| case.name.contains(part.as_str())))
        .collect();
    let field = contenders::start(options)?;
    let mut series: Vec<Series> = (0..cases.len())
        .flat_map(|case| (0..field.contenders.len()).map(move |contender| Series { case, contender, reports: vec![] }))
        .collect();
    for round in 0..options.rounds {
        for (number, case) in cases.iter().enumerate() {
            for step in 0..field.contenders.len() {
                // Another one begins in every round and case: drifts of the machine hit all alike.
                let index = (step + round + number) % field.contenders.len();
                let contender = &field.contenders[index];
                if case.name.contains("digests") && !contender.digests {
                    continue;
                }
                eprintln!("round {}/{}: {}: {}", round + 1, options.rounds, case.name, contender.name);
                let report = measure(options, contender, case)
                    .with_context(|| format!("measuring {} with {}", contender.name, case.name))?;
                series[number * field.contenders.len() + index].reports.push(report);
            }
        }
    }
    let text = report::render(options.rounds, options.seconds, &cases, &field.contenders, &series);
    print!("{text}");
    if let Some(path) = &options.output {
        std::fs::write(path, &text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn measure(options: &CompareOptions, contender: &Contender, case: &Case) -> Result<LoadReport> {
    let mut load = Command::new("taskset");
    load.args(["-c", &options.load_core.to_string()]).arg(std::env::current_exe()?);
    load.args(["load", "--machine", "--warmup", "0.3", "--portal", &contender.portal.to_string()]);
    load.args(["--target", contender.target, "--lun", &contender.lun.to_string()]);
    load.args(["--pid", &contender.pid.to_string(), "--seconds", &options.seconds.to_string()]);
    load.args(["--range", &contenders::DISK_SIZE.to_string()]);
    let output = load.args(&case.arguments).output().context("starting taskset")?;
    if !output.status.success() {
        bail!("the load failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    LoadReport::from_line(String::from_utf8_lossy(&output.stdout).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_have_names_and_arguments() {
        let quick = cases(Matrix::Quick);
        let names: Vec<&str> = quick.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "4 KiB READ QD 1",
                "4 KiB WRITE QD 1",
                "4 KiB READ QD 32",
                "4 KiB WRITE QD 32",
                "128 KiB READ QD 8",
                "128 KiB WRITE QD 8"
            ]
        );
        assert_eq!(quick[5].arguments.join(" "), "--op write --size 131072 --order sequential --depth 8");
        assert_eq!(cases(Matrix::Full).len(), 22);
        assert_eq!(case("read", 1 << 20, 8, 4, true).name, "1 MiB READ QD 8 x4 digests");
    }
}
