//! Running the programs of the distribution, with errors that say which one failed and why.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Runs `command` and returns its standard output; a failure carries its standard error.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(out.status.success(), "{command:?}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr).trim_end());
    Ok(out.stdout)
}

/// Runs `command` for its effect; a failure carries its standard error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}
