//! The daemon on the host: started with a configuration on a free loopback port, stopped or killed at the end.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// From start to listening, and from SIGTERM to the end.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often the daemon is asked whether it is there (or gone) yet.
const POLL: Duration = Duration::from_millis(20);

/// How to start the daemon.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The program.
    pub binary: &'a Path,
    /// An existing directory for the configuration, the state and the log.
    pub directory: &'a Path,
    /// The text of `scst.conf`.
    pub config: &'a str,
    /// `uring`, `posix` or `auto`.
    pub backend: &'a str,
    /// How many loopback portals to listen on.
    pub portals: usize,
}

/// A running daemon; killed when dropped.
#[derive(Debug)]
pub struct Scstd {
    child: Child,
    portals: Vec<SocketAddr>,
    log: PathBuf,
}

impl Scstd {
    /// Starts the daemon and returns once every portal accepts connections.
    pub fn start(start: Start<'_>) -> Result<Self> {
        let config = start.directory.join("scst.conf");
        fs::write(&config, start.config)?;
        let log = start.directory.join("scstd.log");
        let output = File::create(&log)?;
        let portals = free_ports(start.portals)?;
        let mut command = Command::new(start.binary);
        command.arg("--config").arg(&config).arg("--state-dir").arg(start.directory.join("state"));
        command.args(["--backend", start.backend]);
        for portal in &portals {
            command.args(["--iscsi-portal", &portal.to_string()]);
        }
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("cannot start {}", start.binary.display()))?;
        let mut scstd = Self { child, portals, log };
        scstd.wait_until_listening()?;
        Ok(scstd)
    }

    fn wait_until_listening(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for portal in self.portals.clone() {
            while TcpStream::connect(portal).is_err() {
                if let Some(status) = self.child.try_wait()? {
                    bail!("scstd ended while starting: {status}\n{}", self.log_tail());
                }
                ensure!(Instant::now() < deadline, "scstd does not listen on {portal}\n{}", self.log_tail());
                thread::sleep(POLL);
            }
        }
        Ok(())
    }

    /// The addresses it listens on.
    pub fn portals(&self) -> &[SocketAddr] {
        &self.portals
    }

    /// The `iscsi://` URL of a LUN on the portal with this number.
    pub fn url(&self, portal: usize, target: &str, lun: u64) -> String {
        format!("iscsi://{}/{target}/{lun}", self.portals[portal])
    }

    /// Asks it to stop and requires that it does so in order.
    pub fn stop(mut self) -> Result<()> {
        let status = self.terminate()?;
        ensure!(status.success(), "scstd did not stop in order: {status}\n{}", self.log_tail());
        Ok(())
    }

    fn terminate(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            bail!("scstd had ended before it was told to: {status}\n{}", self.log_tail());
        }
        crate::shell::run(Command::new("kill").arg(self.child.id().to_string()))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "scstd does not stop on SIGTERM\n{}", self.log_tail());
            thread::sleep(POLL);
        }
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let Ok(file) = File::open(&self.log) else { return String::new() };
        let lines: Vec<_> = BufReader::new(file).lines().map_while(Result::ok).collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Scstd {
    fn drop(&mut self) {
        // Already gone after `stop`, for which both calls are harmless.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Different ports that nobody listens on at present.
fn free_ports(count: usize) -> Result<Vec<SocketAddr>> {
    let listeners = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<Vec<_>>>()?;
    Ok(listeners.iter().map(TcpListener::local_addr).collect::<std::io::Result<Vec<_>>>()?)
}
