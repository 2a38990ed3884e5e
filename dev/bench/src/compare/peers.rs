//! Starts the targets to compare with: tgt, nbdkit, the responders.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use scst_testkit::free_portal;

use super::contenders::DISK_SIZE;

pub(super) const TGT_TARGET: &str = "iqn.2026-01.bench:tgt";
const TGTD: &str = "/usr/sbin/tgtd";
const NBDKIT: &str = "/usr/bin/nbdkit";
const DEADLINE: Duration = Duration::from_secs(20);

/// A child that is killed when dropped.
pub(super) struct Running(Child);

impl Running {
    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing else to do about it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The minimal responder.
pub(super) fn limit(pin: &[String]) -> Result<(Running, SocketAddr)> {
    responder(pin, &["limit", "--size", &DISK_SIZE.to_string()])
}

/// The responder without PDUs.
pub(super) fn echo(pin: &[String]) -> Result<(Running, SocketAddr)> {
    responder(pin, &["echo"])
}

fn responder(pin: &[String], arguments: &[&str]) -> Result<(Running, SocketAddr)> {
    let portal = free_portal()?;
    let mut command = pinned(pin);
    command.arg(std::env::current_exe()?).args(arguments).args(["--portal", &portal.to_string()]);
    let child = Running(command.spawn().context("starting taskset")?);
    wait_until("the responder accepts", || TcpStream::connect(portal).is_ok())?;
    Ok((child, portal))
}

/// nbdkit with its memory plugin, if it is installed.
pub(super) fn nbdkit(pin: &[String]) -> Result<Option<(Running, SocketAddr)>> {
    if !Path::new(NBDKIT).exists() {
        return Ok(None);
    }
    let portal = free_portal()?;
    let mut command = pinned(pin);
    command.args([NBDKIT, "--foreground", "--port", &portal.port().to_string()]);
    command.args(["--ipaddr", &portal.ip().to_string(), "memory", &format!("size={DISK_SIZE}")]);
    // It complains of clients that leave without a word, as the load does.
    let child = Running(command.stderr(Stdio::null()).spawn().context("starting nbdkit")?);
    wait_until("nbdkit accepts", || TcpStream::connect(portal).is_ok())?;
    Ok(Some((child, portal)))
}

/// tgtd with LUN 1 (null), 2 (rdwr) and 3 (aio), if it is installed.
pub(super) fn tgt(pin: &[String], directory: &Path, file: &Path) -> Result<Option<(Running, SocketAddr)>> {
    if !Path::new(TGTD).exists() {
        return Ok(None);
    }
    let portal = free_portal()?;
    // A control socket of our own: neither root's directory nor another tgtd is touched.
    let socket = directory.join("tgt-control");
    let log = File::create(directory.join("tgt.log"))?;
    let child = pinned(pin)
        .args([TGTD, "-f", "-C", "1", "--iscsi", &format!("portal={portal}")])
        .env("TGT_IPC_SOCKET", &socket)
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
    for step in tgt_steps(file) {
        if !admin(&step)? {
            let log = fs::read_to_string(directory.join("tgt.log")).unwrap_or_default();
            bail!("tgtadm --mode {step} failed; tgtd said:\n{log}");
        }
    }
    Ok(Some((child, portal)))
}

fn tgt_steps(file: &Path) -> Vec<String> {
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
    steps
}

fn pinned(pin: &[String]) -> Command {
    let mut command = Command::new(&pin[0]);
    command.args(&pin[1..]).stdin(Stdio::null());
    command
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
