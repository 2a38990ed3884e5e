//! Installs what the tests need from the distribution, and says so when it cannot.

use std::env;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cargo;
use crate::stage::Tally;

/// Debian packages and what needs them.
const PACKAGES: &[(&str, &str)] = &[
    ("busybox-static", "the guest's first stage"),
    ("cpio", "the guest's first stage"),
    ("e2fsprogs", "file systems in the guest"),
    ("fio", "verified load"),
    ("g++", "fuzz targets"),
    ("iproute2", "the guest's network"),
    ("kmod", "the guest's modules"),
    ("libiscsi-bin", "conformance"),
    ("open-iscsi", "the initiator in the guest"),
    ("procps", "the guest's processes"),
    ("qemu-block-extra", "QEMU's own initiator"),
    ("qemu-system-x86", "the virtual machine"),
    ("qemu-utils", "qemu-img"),
    ("sg3-utils", "single SCSI commands"),
    ("valgrind", "instructions per command"),
    ("xfsprogs", "file systems in the guest"),
    ("xz-utils", "unpacking the guest's kernel"),
    ("zstd", "unpacking the guest's kernel"),
];

/// For the comparison only: its daemon would listen on the iSCSI port.
const BENCH_PACKAGES: &[(&str, &str)] = &[
    ("mount", "losetup, for a block device"),
    ("nbdkit", "an NBD server to compare with"),
    ("tgt", "the target to compare with"),
    ("util-linux", "taskset"),
];

/// Installs what is missing.
pub(crate) fn run(bench: bool) -> Result<Tally> {
    rust_components()?;
    let wanted = PACKAGES.iter().chain(if bench { BENCH_PACKAGES } else { &[] });
    let wanted: Vec<_> = wanted.map(|(package, _)| *package).collect();
    let missing = missing(&wanted)?;
    if !missing.is_empty() {
        install(&missing).with_context(|| format!("these packages are needed: {}", missing.join(" ")))?;
    }
    println!("{} packages are there", wanted.len());
    Ok(Tally::ONE)
}

fn rust_components() -> Result<()> {
    for (command, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        let found = cargo::cargo(&[command, "--version"]).output().is_ok_and(|out| out.status.success());
        if !found {
            cargo::run(Command::new("rustup").args(["component", "add", component]))?;
        }
    }
    Ok(())
}

/// Which of `wanted` dpkg does not have installed.
fn missing<'a>(wanted: &[&'a str]) -> Result<Vec<&'a str>> {
    let query = Command::new("dpkg-query").args(["-W", "-f", "${Package} ${db:Status-Status}\n"]).args(wanted).output();
    let Ok(query) = query else {
        bail!("this is no Debian; the tests need what Debian packages as: {}", wanted.join(" "));
    };
    Ok(missing_of(wanted, &String::from_utf8_lossy(&query.stdout)))
}

fn missing_of<'a>(wanted: &[&'a str], listing: &str) -> Vec<&'a str> {
    let installed = |package: &&&str| listing.lines().any(|line| line == format!("{package} installed"));
    wanted.iter().filter(|package| !installed(package)).copied().collect()
}

fn install(packages: &[&str]) -> Result<()> {
    let root = cargo::output(Command::new("id").arg("-u"))?.trim() == "0";
    ensure!(root, "not root; please run: sudo apt-get install {}", packages.join(" "));
    // Lists may be absent (a fresh container) or stale; when no server answers, those at hand may do.
    if let Err(error) = cargo::run(Command::new("apt-get").args(["-qq", "update"])) {
        println!("{error:#}; trying with the package lists at hand");
    }
    let Err(error) = apt_install(packages, None) else { return Ok(()) };
    // Where some QEMU package already comes from backports the plain ones conflict with it ("qemu-utils : Breaks:
    // qemu-system-common"): take all of them from there.
    let backports = add_backports().with_context(|| format!("after {error:#}"))?;
    apt_install(packages, Some(&backports))
}

fn apt_install(packages: &[&str], release: Option<&str>) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.args(["-qq", "-y", "-o", "Dpkg::Use-Pty=0", "install", "--no-install-recommends"]);
    if let Some(release) = release {
        apt.args(["-t", release]);
    }
    cargo::run(apt.args(packages).env("DEBIAN_FRONTEND", "noninteractive"))
}

/// The file with the package source that is added.
const SOURCES: &str = "/etc/apt/sources.list.d/scst-backports.list";

/// Tells whether somebody is there to be asked.
fn may_ask(is_ci: bool, is_terminal: bool) -> bool {
    is_terminal && !is_ci
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// Makes sure that the backports are among apt's sources, at the address the release itself comes from.
fn add_backports() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release")?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("the release has no code name")?;
    let backports = format!("{codename}-backports");
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(RELEASE)|$(REPO_URI)|$(SIGNED_BY)", "Created-By: Packages"]);
    let targets = cargo::output(&mut targets)?;
    if targets.lines().any(|line| line.starts_with(&format!("{backports}|"))) {
        return Ok(backports);
    }
    let source = targets
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{codename}|")))
        .and_then(|line| line.split_once('|'))
        .context("apt has no source for the release itself")?;
    let (uri, key) = source;
    let signed = if key.starts_with('/') { format!("[signed-by={key}] ") } else { String::new() };
    let line = format!("deb {signed}{uri} {backports} main");
    println!(
        "packages of {backports} are needed, because newer versions of some are installed; apt does not know it yet"
    );
    println!("this adds {SOURCES} with the line: {line}");
    let is_ci = env::var("CI").is_ok_and(|ci| ci == "true");
    if may_ask(is_ci, io::stdin().is_terminal()) {
        print!("add it? [y/N] ");
        io::stdout().flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        ensure!(is_yes(&answer), "not added; install the packages yourself");
    }
    fs::write(SOURCES, format!("{line}\n"))?;
    cargo::run(Command::new("apt-get").args(["-qq", "update"]))?;
    Ok(backports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_source_is_added_after_a_yes_where_somebody_can_say_it() {
        assert!(may_ask(false, true));
        assert!(!may_ask(true, true) && !may_ask(false, false) && !may_ask(true, false));
        for (answer, expected) in
            [("y\n", true), ("Yes\n", true), ("\n", false), ("", false), ("n\n", false), ("yep\n", false)]
        {
            assert_eq!(is_yes(answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn a_package_counts_only_when_it_is_installed() {
        let listing = "fio installed\ncpio config-files\n";
        assert_eq!(missing_of(&["fio", "cpio", "tgt"], listing), ["cpio", "tgt"]);
    }
}
