//! Starts all contenders, pinned to the core of the targets.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use scst_testkit::Scstd;
use scst_testkit::rng::Rng;
use tempfile::TempDir;

use super::CompareOptions;
use super::contenders::{Contender, DISK_SIZE, Role, Way};
use super::idle::{self, Idle};
use super::peers::{self, Running, TGT_TARGET};
use super::scstd::Launcher;

/// The running targets; they end with this value.
pub(super) struct Field {
    pub(super) contenders: Vec<Contender>,
    /// What could not be started, and why.
    pub(super) skipped: Vec<String>,
    _scstd: Vec<Scstd>,
    _children: Vec<Running>,
    _directory: TempDir,
}

/// What came of the idle sessions.
#[derive(Default)]
pub(super) struct IdleResults {
    pub(super) found: Vec<Idle>,
    pub(super) skipped: Vec<String>,
}

/// Starts everything.
pub(super) fn start(options: &CompareOptions) -> Result<Field> {
    let directory = scratch(options)?;
    let pin = pin(options);
    let file = make_disk(directory.path(), "disk.img")?;
    let (mut contenders, mut children, mut skipped) = (Vec::new(), Vec::new(), Vec::new());

    let mut scstd = Vec::new();
    if !options.without_scstd {
        let backing = make_disk(directory.path(), "loop.img")?;
        let block = Loop::attach(&backing);
        if let Err(error) = &block {
            skipped.push(format!("{}: {error:#}", Role::ScstdDirect.name()));
        }
        let launcher = Launcher::new(options, &pin, directory.path())?;
        (scstd, contenders) = launcher.field(&file, block.as_ref().ok().map(|one| one.0.as_path()), &mut skipped)?;
    }
    match peers::tgt(&pin, directory.path(), &file)? {
        Some((child, portal)) => {
            let pid = child.pid();
            children.push(child);
            contenders.extend(
                [(Role::TgtNull, 1), (Role::TgtRdwr, 2), (Role::TgtAio, 3)]
                    .map(|(role, lun)| Contender { role, way: Way::Iscsi { portal, target: TGT_TARGET, lun, pid } }),
            );
        }
        None => skipped.push("tgt is not installed (Debian package tgt; cargo xtask setup --bench)".to_owned()),
    }
    match peers::nbdkit(&pin)? {
        Some((child, portal)) => {
            contenders.push(Contender { role: Role::Nbdkit, way: Way::Nbd { portal, pid: child.pid() } });
            children.push(child);
        }
        None => skipped.push("nbdkit is not installed (Debian package nbdkit; cargo xtask setup --bench)".to_owned()),
    }
    let (child, portal) = peers::limit(&pin)?;
    let way = Way::Iscsi { portal, target: "iqn.2026-01.bench:limit", lun: 0, pid: child.pid() };
    contenders.push(Contender { role: Role::Limit, way });
    children.push(child);
    let (child, portal) = peers::echo(&pin)?;
    contenders.push(Contender { role: Role::Echo, way: Way::Echo { portal, pid: child.pid() } });
    children.push(child);
    contenders.push(Contender { role: Role::Pass, way: Way::Processor });
    contenders.push(Contender { role: Role::Inline, way: Way::File(file.clone()) });
    if Command::new("fio").arg("--version").output().is_ok() {
        contenders.push(Contender { role: Role::Fio, way: Way::File(file) });
    } else {
        skipped.push("fio is not installed (Debian package fio)".to_owned());
    }
    Ok(Field { contenders, skipped, _scstd: scstd, _children: children, _directory: directory })
}

/// Measures idle sessions, if that is wanted.
pub(super) fn idle(options: &CompareOptions) -> Result<IdleResults> {
    let mut results = IdleResults::default();
    if options.idle && !options.without_scstd {
        let directory = scratch(options)?;
        let launcher = Launcher::new(options, &pin(options), directory.path())?;
        results.found = idle::measure(options, &launcher, &mut results.skipped)?;
    }
    Ok(results)
}

fn scratch(options: &CompareOptions) -> Result<TempDir> {
    let place = options.directory.clone().unwrap_or_else(|| {
        let memory = PathBuf::from("/dev/shm");
        if memory.is_dir() { memory } else { std::env::temp_dir() }
    });
    Ok(tempfile::Builder::new().prefix("scst-bench-").tempdir_in(place)?)
}

/// The command line that a target's own is appended to. Whatever happens to this process, no target stays behind. The threads of
/// a target share a core here, so they are SCHED_BATCH: one that wakes does not take it from another, as it would not if each had its
/// own.
fn pin(options: &CompareOptions) -> Vec<String> {
    let core = options.target_core.to_string();
    ["setpriv", "--pdeathsig", "KILL", "chrt", "--batch", "0", "taskset", "-c", &core].map(str::to_owned).to_vec()
}

/// A loop device. It is given back when dropped; the kernel does that when the last who has it open closes it
/// (loop(4), LO_FLAGS_AUTOCLEAR), so that a target may be using it still.
struct Loop(PathBuf);

impl Loop {
    fn attach(file: &Path) -> Result<Self> {
        let output =
            Command::new("losetup").args(["--find", "--show"]).arg(file).output().context("starting losetup")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "a loop device cannot be had (this needs root): {}", said.trim());
        Ok(Self(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Nothing can be done about a failure.
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

fn make_disk(directory: &Path, name: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    let mut file = File::create(&path)?;
    let block = Rng::new(3).bytes(1 << 20);
    for _ in 0..DISK_SIZE >> 20 {
        file.write_all(&block)?;
    }
    Ok(path)
}
