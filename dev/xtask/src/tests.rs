//! What cargo itself checks: format, lints, documentation, the oldest compiler, and `cargo test`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{self, cargo};
use crate::stage::Tally;

pub(crate) fn fmt() -> Result<Tally> {
    cargo::run(&mut cargo(&["fmt", "--all", "--check"]))?;
    // Outside the workspace, so not among "all".
    cargo::run(&mut cargo(&["fmt", "--manifest-path", "dev/fuzz/Cargo.toml", "--check"]))?;
    Ok(Tally::ONE)
}

pub(crate) fn clippy() -> Result<Tally> {
    cargo::run(&mut cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    Ok(Tally::ONE)
}

pub(crate) fn docs() -> Result<Tally> {
    let mut doc = cargo(&["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"]);
    cargo::run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(Tally::ONE)
}

/// Checks the workspace with exactly the compiler that `rust-version` promises. When that is the compiler in use, every
/// other stage is this check.
pub(crate) fn msrv() -> Result<Tally> {
    let manifest = std::fs::read_to_string(cargo::root().join("Cargo.toml"))?;
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"'))
        .context("Cargo.toml names no rust-version")?;
    let current = cargo::output(Command::new("rustc").arg("--version"))?;
    if current.starts_with(&format!("rustc {version}.")) {
        println!("the compiler in use is the oldest that is supported: {}", current.trim());
        return Ok(Tally::ONE);
    }
    let toolchains = cargo::output(Command::new("rustup").args(["toolchain", "list"]))
        .context("rustup is needed to check the oldest supported compiler: https://rustup.rs")?;
    let name = format!("{version}-");
    if !toolchains.lines().any(|line| line.starts_with(&name)) {
        cargo::run(Command::new("rustup").args(["toolchain", "install", version, "--profile", "minimal"]))?;
    }
    let mut check = Command::new("rustup");
    check.args(["run", version, "cargo", "check", "--quiet", "--workspace", "--all-targets"]);
    // Set by the cargo that started us, and of another toolchain.
    for inherited in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        check.env_remove(inherited);
    }
    cargo::run(check.current_dir(cargo::root()))?;
    Ok(Tally::ONE)
}

/// `cargo test`, counting from what the test programs print.
pub(crate) fn unit() -> Result<Tally> {
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast"]);
    println!("$ cargo test --workspace --no-fail-fast");
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start cargo test")?;
    let stdout = child.stdout.take().context("no pipe from cargo test")?;
    let mut tally = Tally::default();
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("{line}");
        if let Some(counted) = Counted::parse(&line) {
            // An ignored test proves nothing.
            tally.passed += counted.passed;
            tally.failed += counted.failed + counted.ignored;
        }
    }
    let status = child.wait()?;
    if !status.success() && tally.failed == 0 {
        bail!("cargo test: {status}");
    }
    ensure!(tally.passed > 0, "cargo test ran no test");
    Ok(tally)
}

#[derive(Debug, Eq, PartialEq)]
struct Counted {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counted {
    /// `test result: ok. 3 passed; 0 failed; 0 ignored; ...`
    fn parse(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let count =
            |what: &str| counts.split("; ").find_map(|part| part.strip_suffix(what)?.trim_end().parse::<u64>().ok());
        Some(Self { passed: count("passed")?, failed: count("failed")?, ignored: count("ignored")? })
    }
}

#[cfg(test)]
mod parsing {
    use super::*;

    #[test]
    fn reads_the_line_that_ends_a_test_program() {
        let line = "test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.10s";
        assert_eq!(Counted::parse(line), Some(Counted { passed: 12, failed: 2, ignored: 1 }));
        assert_eq!(Counted::parse("test story ... ok"), None);
    }
}
