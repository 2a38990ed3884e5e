//! Fuzz targets of dev/fuzz: every input of the kept corpus is replayed, then each target runs for a while.
//!
//! libFuzzer needs coverage instrumentation only, which the stable compiler has; so neither a nightly toolchain nor
//! cargo-fuzz is needed. (`cargo +nightly fuzz run TARGET` works too, and adds the address sanitiser.)

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::cargo::{self, cargo};
use crate::stage::Tally;

/// Time for fresh inputs per target, in the whole test.
const SECONDS: u64 = 10;

/// As cargo-fuzz sets them, less the sanitiser.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Ccodegen-units=1";

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Arguments {
    /// Targets to run instead of all
    targets: Vec<String>,
    /// Seconds of fresh fuzzing per target
    #[arg(long)]
    seconds: Option<u64>,
    /// Add what a fresh run finds to the kept corpus
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Tally> {
    let folder = cargo::root().join("dev/fuzz");
    let all = targets(&folder.join("targets"))?;
    ensure!(!all.is_empty(), "dev/fuzz/targets holds no target");
    for name in &arguments.targets {
        ensure!(all.contains(name), "no fuzz target {name}; there are: {}", all.join(", "));
    }
    let chosen = if arguments.targets.is_empty() { &all } else { &arguments.targets };
    let programs = build(&folder)?;
    let mut tally = Tally::default();
    for target in chosen {
        let seconds = arguments.seconds.unwrap_or(SECONDS);
        let result = fuzz(&programs.join(target), &folder.join("corpus").join(target), seconds, arguments.keep);
        if let Err(error) = &result {
            println!("{target}: {error:#}");
        }
        tally.count(result.is_ok());
    }
    Ok(tally)
}

fn targets(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

fn build(folder: &Path) -> Result<PathBuf> {
    // Named, so that build scripts and procedural macros are not instrumented.
    let machine = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let target_directory = cargo::target_directory().join("fuzz");
    let mut build = cargo(&["build", "--release", "--bins", "--target", &machine]);
    build.arg("--manifest-path").arg(folder.join("Cargo.toml")).arg("--target-dir").arg(&target_directory);
    cargo::run(build.env("RUSTFLAGS", RUSTFLAGS).env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
    Ok(target_directory.join(machine).join("release"))
}

fn fuzz(program: &Path, corpus: &Path, seconds: u64, keep: bool) -> Result<()> {
    ensure!(fs::read_dir(corpus).is_ok_and(|mut files| files.next().is_some()), "no corpus in {}", corpus.display());
    cargo::run(Command::new(program).arg("-runs=0").arg(corpus)).context("replaying the corpus")?;
    let work = cargo::target_directory().join("fuzz").join(corpus.file_name().context("the corpus has no name")?);
    let (found, artifacts) = (work.join("found"), work.join("artifacts"));
    fs::create_dir_all(&found)?;
    fs::create_dir_all(&artifacts)?;
    let mut run = Command::new(program);
    run.arg(format!("-max_total_time={seconds}")).args(["-print_final_stats=1", "-rss_limit_mb=2048", "-timeout=10"]);
    run.arg(format!("-artifact_prefix={}/", artifacts.display()));
    // What is found goes to the first folder.
    let folders = if keep { vec![corpus] } else { vec![found.as_path(), corpus] };
    cargo::run(run.args(folders)).context("a fresh run")
}
