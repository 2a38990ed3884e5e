//! Starts the targets, pinned to their core.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use scst_testkit::{Scstd, ScstdOptions, free_portal};
use tempfile::TempDir;

use super::CompareOptions;

/// Size of every disk; files are filled, so that reads hit the page cache and not a hole.
pub(super) const DISK_SIZE: u64 = 256 << 20;
const SCSTD_TARGET: &str = "iqn.2026-01.bench:scstd";
const TGT_TARGET: &str = "iqn.2026-01.bench:tgt";
const DEADLINE: Duration = Duration::from_secs(20);

/// What is behind a LUN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Store {
    /// Nothing.
    Null,
    /// A file in the page cache.
    File,
}

/// Whose target it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Ours.
    Scstd,
    /// Debian's tgt.
    Tgt,
    /// The minimal responder.
    Limit,
}

/// One target and LUN to measure.
#[derive(Clone, Debug)]
pub(super) struct Contender {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) store: Store,
    pub(super) portal: SocketAddr,
    pub(super) target: &'static str,
    pub(super) lun: u32,
    pub(super) pid: u32,
    /// Whether it can do digests.
    pub(super) digests: bool,
}

/// The running targets; they end with this value.
pub(super) struct Field {
    pub(super) contenders: Vec<Contender>,
    _scstd: Option<Scstd>,
    _children: Vec<Running>,
    _directory: TempDir,
}

/// A child that is killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing else to do about it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts everything.
pub(super) fn start(options: &CompareOptions) -> Result<Field> {
    let place = options.directory.clone().unwrap_or_else(|| {
        let memory = PathBuf::from("/dev/shm");
        if memory.is_dir() { memory } else { std::env::temp_dir() }
    });
    let directory = tempfile::Builder::new().prefix("scst-bench-").tempdir_in(place)?;
    let pin = vec!["taskset".to_owned(), "-c".to_owned(), options.target_core.to_string()];
    let mut contenders = Vec::new();
    let mut children = Vec::new();

    let scstd = if options.without_scstd {
        None
    } else {
        let file = make_disk(directory.path(), "scstd.img")?;
        let scstd = start_scstd(options, pin.clone(), &file)?;
        let (portal, pid) = (scstd.portal(), scstd.pid());
        let lun = |name, store, lun| Contender {
            name,
            kind: Kind::Scstd,
            store,
            portal,
            target: SCSTD_TARGET,
            lun,
            pid,
            digests: true,
        };
        contenders.push(lun("scstd nullio", Store::Null, 0));
        contenders.push(lun("scstd fileio", Store::File, 1));
        Some(scstd)
    };
    if Path::new("/usr/sbin/tgtd").exists() {
        let file = make_disk(directory.path(), "tgt.img")?;
        let (child, portal) = start_tgt(&pin, directory.path(), &file)?;
        let pid = child.0.id();
        children.push(child);
        let lun = |name, store, lun| Contender {
            name,
            kind: Kind::Tgt,
            store,
            portal,
            target: TGT_TARGET,
            lun,
            pid,
            digests: true,
        };
        contenders.push(lun("tgt null", Store::Null, 1));
        contenders.push(lun("tgt rdwr", Store::File, 2));
        contenders.push(lun("tgt aio", Store::File, 3));
    } else {
        eprintln!("tgtd is not installed (Debian package tgt): measuring without it");
    }
    let portal = free_portal()?;
    let limit = Command::new(&pin[0])
        .args(&pin[1..])
        .arg(std::env::current_exe()?)
        .args(["limit", "--portal", &portal.to_string(), "--size", &DISK_SIZE.to_string()])
        .stdin(Stdio::null())
        .spawn()
        .context("starting taskset")?;
    let limit = Running(limit);
    let pid = limit.0.id();
    children.push(limit);
    wait_until("the responder accepts", || TcpStream::connect(portal).is_ok())?;
    contenders.push(Contender {
        name: "limit",
        kind: Kind::Limit,
        store: Store::Null,
        portal,
        target: "iqn.2026-01.bench:limit",
        lun: 0,
        pid,
        digests: false,
    });
    Ok(Field { contenders, _scstd: scstd, _children: children, _directory: directory })
}

fn make_disk(directory: &Path, name: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    let mut file = File::create(&path)?;
    io_copy_random(&mut file)?;
    Ok(path)
}

fn io_copy_random(file: &mut File) -> Result<()> {
    use std::io::Write;
    let block = scst_testkit::rng::Rng::new(3).bytes(1 << 20);
    for _ in 0..DISK_SIZE >> 20 {
        file.write_all(&block)?;
    }
    Ok(())
}

fn start_scstd(options: &CompareOptions, pin: Vec<String>, file: &Path) -> Result<Scstd> {
    let config = format!(
        "HANDLER vdisk_nullio {{\n    DEVICE bench_null {{\n        size {DISK_SIZE}\n    }}\n}}\n\
         HANDLER vdisk_fileio {{\n    DEVICE bench_file {{\n        filename {}\n    }}\n}}\n\
         TARGET_DRIVER iscsi {{\n    enabled 1\n    TARGET {SCSTD_TARGET} {{\n        enabled 1\n        \
         QueuedCommands 128\n        \
         HeaderDigest CRC32C,None\n        DataDigest CRC32C,None\n        \
         LUN 0 bench_null\n        LUN 1 bench_file\n    }}\n}}\n",
        file.display()
    );
    let binary = match &options.scstd {
        Some(path) => path.canonicalize().with_context(|| format!("--scstd {}", path.display()))?,
        None => built_scstd()?,
    };
    let mut arguments = vec!["--reactors".to_owned(), "1".to_owned()];
    arguments.extend(options.scstd_arguments.iter().cloned());
    Scstd::start_with(ScstdOptions { launcher: pin, arguments, ..ScstdOptions::new(binary, &config)? })
}

/// The scstd beside this program; cargo brings it up to date where there is a cargo.
fn built_scstd() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let directory = own.parent().context("no directory")?;
    let path = directory.join("scstd");
    if !path.exists() {
        eprintln!("building scstd");
        let status = Command::new("cargo").args(["build", "--release", "--package", "scstd"]).status()?;
        if !status.success() || !path.exists() {
            bail!("no {}: build it with `cargo build --release -p scstd`, or give --scstd PATH", path.display());
        }
    }
    Ok(path)
}

fn start_tgt(pin: &[String], directory: &Path, file: &Path) -> Result<(Running, SocketAddr)> {
    let portal = free_portal()?;
    // A control socket of our own: neither root's directory nor another tgtd is touched.
    let socket = directory.join("tgt-control");
    let log = File::create(directory.join("tgt.log"))?;
    let child = Command::new(&pin[0])
        .args(&pin[1..])
        .args(["/usr/sbin/tgtd", "-f", "-C", "1", "--iscsi", &format!("portal={portal}")])
        .env("TGT_IPC_SOCKET", &socket)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("starting tgtd")?;
    let child = Running(child);
    let admin = |arguments: &str| -> Result<bool> {
        let output = Command::new("/usr/sbin/tgtadm")
            .args(["-C", "1", "--lld", "iscsi", "--mode"])
            .args(arguments.split_whitespace())
            .env("TGT_IPC_SOCKET", &socket)
            .output()?;
        Ok(output.status.success())
    };
    wait_until("tgtd answers", || TcpStream::connect(portal).is_ok() && matches!(admin("sys --op show"), Ok(true)))?;
    let file = file.display();
    let mut steps = vec![
        format!("target --op new --tid 1 -T {TGT_TARGET}"),
        format!("logicalunit --op new --tid 1 --lun 1 --bstype null -b {file}"),
        format!("logicalunit --op new --tid 1 --lun 2 --bstype rdwr -b {file}"),
        format!("logicalunit --op new --tid 1 --lun 3 --bstype aio -b {file}"),
        "target --op bind --tid 1 -I ALL".to_owned(),
    ];
    // The same session as SCST's defaults give, so that both move the same PDUs.
    for (key, value) in [
        ("MaxRecvDataSegmentLength", "1048576"),
        ("MaxXmitDataSegmentLength", "1048576"),
        ("MaxBurstLength", "1048576"),
        ("InitialR2T", "No"),
        ("MaxOutstandingR2T", "8"),
        ("HeaderDigest", "CRC32C,None"),
        ("DataDigest", "CRC32C,None"),
    ] {
        steps.push(format!("target --op update --tid 1 --name {key} --value {value}"));
    }
    for step in &steps {
        if !admin(step)? {
            let log = fs::read_to_string(directory.join("tgt.log")).unwrap_or_default();
            bail!("tgtadm --mode {step} failed; tgtd said:\n{log}");
        }
    }
    Ok((child, portal))
}

fn wait_until(what: &str, done: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while !done() {
        if Instant::now() > deadline {
            bail!("waited {DEADLINE:?} until {what}");
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
