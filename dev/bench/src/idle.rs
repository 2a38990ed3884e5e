//! The `idle` sub-command: sessions that are logged in and do nothing but answer pings. What they cost the target.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;

use crate::connection::Connection;
use crate::load::LoadOptions;
use crate::outbox::Payload;
use crate::peer::{Peer, Shared};
use crate::proc_cpu::cpu_time;
use crate::sys::{self, Epoll, Events, Interest};

/// Options of `idle`.
#[derive(Clone, Debug, Args)]
pub(crate) struct IdleOptions {
    #[command(flatten)]
    pub(crate) load: LoadOptions,
}

/// What idle sessions cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct IdleReport {
    pub(crate) sessions: f64,
    /// Resident memory of the target before the first login and with all sessions, in bytes.
    pub(crate) before: f64,
    pub(crate) with: f64,
    /// Share of a core.
    pub(crate) busy: f64,
    /// Pings answered.
    pub(crate) pings: f64,
}

impl IdleReport {
    pub(crate) fn to_line(self) -> String {
        let Self { sessions, before, with, busy, pings } = self;
        format!("sessions={sessions} before={before} with={with} busy={busy:.7} pings={pings}")
    }

    pub(crate) fn from_line(line: &str) -> Result<Self> {
        let get = |key| crate::load::value(line, key);
        Ok(Self {
            sessions: get("sessions")?,
            before: get("before")?,
            with: get("with")?,
            busy: get("busy")?,
            pings: get("pings")?,
        })
    }
}

/// Resident memory of a process in bytes (`VmRSS`, proc_pid_status(5)).
pub(crate) fn resident(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>().context("VmRSS")? * 1024.0)
}

/// Logs in, waits, answers pings.
pub(crate) fn run(options: &IdleOptions) -> Result<IdleReport> {
    let load = &options.load;
    let pid = load.pid.context("--pid is needed: whose memory and CPU time?")?;
    sys::many_files(u64::from(load.connections) + 100).context("raising the limit of open files")?;
    let before = resident(pid)?;
    let mut idlers = Idlers::new(load)?;
    for number in 0..load.connections {
        idlers.add(Connection::open(load, number)?)?;
        // Logging all in may take longer than the target waits for the answer to a ping.
        if number % 64 == 0 {
            idlers.answer(0)?;
        }
    }
    idlers.pings = 0;
    let (start, cpu) = (Instant::now(), cpu_time(pid)?);
    let time = Duration::from_secs_f64(load.seconds);
    while start.elapsed() < time {
        idlers.answer(20)?;
    }
    let busy = cpu_time(pid)?.saturating_sub(cpu).as_secs_f64() / start.elapsed().as_secs_f64();
    let sessions = f64::from(load.connections);
    Ok(IdleReport { sessions, before, with: resident(pid)?, busy, pings: idlers.pings as f64 })
}

/// The sessions.
struct Idlers {
    connections: Vec<Connection>,
    shared: Shared,
    epoll: Epoll,
    events: Events,
    pings: u64,
}

impl Idlers {
    fn new(load: &LoadOptions) -> Result<Self> {
        let shared = Shared::new(load.size, &mut [] as &mut [Connection])?;
        Ok(Self { connections: Vec::new(), shared, epoll: Epoll::new()?, events: Events::new(), pings: 0 })
    }

    fn add(&mut self, mut connection: Connection) -> Result<()> {
        self.epoll.add(&connection.link().stream, self.connections.len(), Interest::Read)?;
        self.connections.push(connection);
        Ok(())
    }

    /// Waits at most so long, and answers the pings that have come.
    fn answer(&mut self, timeout_ms: i32) -> Result<()> {
        self.epoll.wait(&mut self.events, timeout_ms)?;
        for token in self.events.tokens() {
            let connection = &mut self.connections[token];
            connection.receive(|| 0, &mut self.shared)?;
            let link = connection.link();
            self.pings += u64::from(!link.outbox.is_empty());
            link.outbox.send(&link.stream, Payload::Pages(&self.shared.memory))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_its_line() {
        let report = IdleReport { sessions: 1000.0, before: 1e7, with: 2e7, busy: 0.000_125, pings: 33.0 };
        assert_eq!(IdleReport::from_line(&report.to_line()).unwrap(), report);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident(std::process::id()).unwrap() > 100_000.0);
    }
}
