//! Runs a target process: start, readiness, log, stop, kill, restart.
//!
//! Readiness is an accepted connection, not a time; every wait has a deadline that is a failure, never a success.

use std::collections::hash_map::RandomState;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::rng::Rng;

/// A start or stop that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(2);
/// Ports to choose from: below `net.ipv4.ip_local_port_range`.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// A loopback address with a port that was free a moment ago.
///
/// It lies below the range that Linux gives to outgoing connections: from that range a restarting target could lose its
/// port to somebody's client, and a client that polls a port without a listener could even be connected to itself.
///
/// # Errors
/// No port can be bound.
pub fn free_portal() -> io::Result<SocketAddr> {
    let mut rng = Rng::new(RandomState::new().build_hasher().finish());
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..1000 {
        let port = PORTS.start + rng.below(u64::from(PORTS.end - PORTS.start)) as u16;
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => return listener.local_addr(),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// How to start a target.
#[derive(Clone, Debug)]
pub struct ScstdOptions {
    /// Goes in front of the binary, and must `exec` it so that the process id stays (`taskset -c 0`); often empty.
    pub launcher: Vec<String>,
    /// The binary.
    pub binary: PathBuf,
    /// Text of the configuration file.
    pub config: String,
    /// Where it listens.
    pub portal: SocketAddr,
    /// More arguments, after `--config FILE --iscsi-portal ADDR:PORT`.
    pub arguments: Vec<String>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
}

/// A running `scstd` with a directory of its own (configuration, log, backing files). Killed when dropped.
#[derive(Debug)]
pub struct Scstd {
    options: ScstdOptions,
    directory: TempDir,
    child: Option<Child>,
    starts: u32,
}

impl ScstdOptions {
    /// A binary and its configuration, on a free loopback port.
    ///
    /// # Errors
    /// There is no free port.
    pub fn new(binary: impl Into<PathBuf>, config: &str) -> io::Result<Self> {
        Ok(Self {
            launcher: Vec::new(),
            binary: binary.into(),
            config: config.to_owned(),
            portal: free_portal()?,
            arguments: Vec::new(),
            environment: Vec::new(),
        })
    }
}

impl Scstd {
    /// Prepares a directory and starts the binary on a free loopback port. `%DIR%` in the configuration becomes the
    /// directory's path.
    ///
    /// # Errors
    /// It does not start listening; the error holds the end of its log.
    pub fn start(binary: impl Into<PathBuf>, config: &str) -> Result<Self> {
        Self::start_with(ScstdOptions::new(binary, config)?)
    }

    /// The same with all options.
    ///
    /// # Errors
    /// It does not start listening.
    pub fn start_with(options: ScstdOptions) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("scstd-test-").tempdir()?;
        let mut target = Self { options, directory, child: None, starts: 0 };
        target.write_config(&target.options.config.clone())?;
        target.spawn()?;
        Ok(target)
    }

    /// The directory of this target.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.directory().join("scst.conf")
    }

    /// Replaces the configuration file (`%DIR%` is replaced); SIGHUP or a restart makes it count.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_config(&self, config: &str) -> Result<()> {
        let config = config.replace("%DIR%", &self.directory().display().to_string());
        fs::write(self.config_path(), config).context("writing scst.conf")
    }

    /// Where it listens.
    pub fn portal(&self) -> SocketAddr {
        self.options.portal
    }

    /// Process id.
    ///
    /// # Panics
    /// When it is not running.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the target is running").id()
    }

    /// Everything it logged since the last start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.directory().join(format!("log.{}", self.starts))
    }

    /// Starts it again after [`Scstd::stop`] or [`Scstd::kill`], on the same port.
    ///
    /// # Errors
    /// It does not start listening.
    pub fn spawn(&mut self) -> Result<()> {
        self.starts += 1;
        let log = File::create(self.log_path())?;
        let mut process = match self.options.launcher.split_first() {
            None => Process::new(&self.options.binary),
            Some((launcher, arguments)) => {
                let mut process = Process::new(launcher);
                process.args(arguments).arg(&self.options.binary);
                process
            }
        };
        process.arg("--config").arg(self.config_path());
        process.arg("--iscsi-portal").arg(self.options.portal.to_string());
        process.args(&self.options.arguments).envs(self.options.environment.iter().cloned());
        process.current_dir(self.directory());
        process.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = process.spawn().with_context(|| format!("starting {}", self.options.binary.display()))?;
        self.child = Some(child);
        // Not by trying the port: after `kill` the listener of the process before may still be there for a moment, and a
        // connection made only to try would count among the target's open files for another.
        self.wait_for_log("listening on")
    }

    /// Waits until its log contains a text.
    ///
    /// # Errors
    /// It exits first, or the text does not come.
    pub fn wait_for_log(&mut self, text: &str) -> Result<()> {
        self.wait_until(&format!("its log says {text:?}"), |target| target.log().contains(text))
    }

    fn wait_until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if done(self) {
                return Ok(());
            }
            if let Some(status) = self.exited()? {
                bail!("the target ended ({status}) before {what}; its log:\n{}", self.log());
            }
            if Instant::now() > deadline {
                bail!("waited {DEADLINE:?} until {what}; the target's log:\n{}", self.log());
            }
            thread::sleep(POLL);
        }
    }

    /// Its exit status, if it has ended by itself.
    ///
    /// # Errors
    /// The process cannot be asked.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(match &mut self.child {
            Some(child) => child.try_wait()?,
            None => None,
        })
    }

    /// Sends a signal by name ("TERM", "HUP", "STOP", "CONT").
    ///
    /// # Errors
    /// The signal cannot be sent.
    pub fn signal(&self, name: &str) -> Result<()> {
        send_signal(self.pid(), name)
    }

    /// SIGTERM, then waits for the end.
    ///
    /// # Errors
    /// It does not end; it is killed then.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal("TERM")?;
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self.exited()? {
                self.child = None;
                return Ok(status);
            }
            thread::sleep(POLL);
        }
        self.kill()?;
        bail!("no end after SIGTERM within {DEADLINE:?}; its log:\n{}", self.log())
    }

    /// SIGKILL, as a crash would be.
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// `/proc` does not say.
    pub fn resident_memory(&self) -> Result<u64> {
        resident_memory(self.pid())
    }

    /// Bytes of a file (by its canonical path) that it has touched through mappings. That is what zero-copy looks like
    /// from outside.
    ///
    /// # Errors
    /// `/proc` does not say.
    pub fn touched(&self, file: &Path) -> Result<u64> {
        let smaps = fs::read_to_string(format!("/proc/{}/smaps", self.pid()))?;
        let file = file.display().to_string();
        let (mut ours, mut kib) = (false, 0);
        for line in smaps.lines() {
            match line.split_once(':') {
                Some(("Rss", value)) if ours => kib += value.trim().trim_end_matches(" kB").parse::<u64>()?,
                Some((key, _)) if !key.contains(' ') => {}
                _ => ours = line.ends_with(&file),
            }
        }
        Ok(kib << 10)
    }
}

impl Drop for Scstd {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of the target ---\n{}", self.log());
        }
        // Nothing is left to do about a process that cannot be killed.
        drop(self.kill());
    }
}

/// Sends a signal to a process by name, without libc: through the shell's own `kill`.
///
/// # Errors
/// The signal cannot be sent.
pub fn send_signal(pid: u32, name: &str) -> Result<()> {
    let status = Process::new("sh").args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &pid.to_string()]).status()?;
    if !status.success() {
        bail!("kill -s {name} {pid}: {status}");
    }
    Ok(())
}

/// Raises the limit of open files of a process (0: this one) to its hard limit, with util-linux's `prlimit`: a crowd of
/// 1,000 connections needs more than the usual 1,024.
///
/// # Errors
/// There is no `prlimit`, or it may not.
pub fn raise_file_limit(pid: u32) -> Result<()> {
    let pid = if pid == 0 { std::process::id() } else { pid }.to_string();
    let output = Process::new("prlimit").args(["--pid", &pid, "--nofile", "--raw", "--noheadings"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // RESOURCE DESCRIPTION... SOFT HARD UNITS
    let hard = text.split_whitespace().rev().nth(1).context("prlimit says nothing")?;
    let status = Process::new("prlimit").args(["--pid", &pid, &format!("--nofile={hard}:{hard}")]).status()?;
    if !status.success() {
        bail!("prlimit --nofile={hard}: {status}");
    }
    Ok(())
}

/// Resident memory of a process in bytes.
///
/// # Errors
/// `/proc` does not say.
pub fn resident_memory(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

/// Number of open file descriptors of a process.
///
/// # Errors
/// `/proc` does not say.
pub fn open_files(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    /// `sh -c script` in place of a target; the arguments of a target become the script's own.
    fn shell(script: &str) -> ScstdOptions {
        let launcher = ["sh", "-c", script].map(str::to_owned).to_vec();
        ScstdOptions { launcher, ..ScstdOptions::new("unused", "file %DIR%/disk").unwrap() }
    }

    #[test]
    fn a_target_that_ends_at_once_is_an_error_with_its_log() {
        let error = Scstd::start_with(shell("echo line 3: no such handler; exit 7")).unwrap_err().to_string();
        assert!(error.contains("exit status: 7") && error.contains("line 3: no such handler"), "{error}");
    }

    #[test]
    fn a_target_is_stopped_killed_and_started_again() {
        let portal = free_portal().unwrap();
        let script = r#"cat "$2"; echo " listening on $4"; exec sleep 1000"#;
        let mut target = Scstd::start_with(ScstdOptions { portal, ..shell(script) }).unwrap();
        assert_eq!(target.log(), format!("file {}/disk listening on {portal}\n", target.directory().display()));
        assert!(target.resident_memory().unwrap() > 0 && open_files(target.pid()).unwrap() >= 3);
        raise_file_limit(target.pid()).unwrap();
        let limits = fs::read_to_string(format!("/proc/{}/limits", target.pid())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let fields: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(fields[3], fields[4]);
        assert_eq!(target.stop().unwrap().signal(), Some(15));
        target.write_config("second").unwrap();
        target.spawn().unwrap();
        target.wait_for_log("second listening").unwrap();
        target.kill().unwrap();
        assert_eq!(target.exited().unwrap(), None);
    }
}
