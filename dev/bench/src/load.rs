//! The `load` sub-command.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::connection::Connection;
use crate::echo::EchoConnection;
use crate::histogram::Histogram;
use crate::machine::core_busy;
use crate::nbd::NbdConnection;
use crate::outbox::Payload;
use crate::peer::{Peer, Shared};
use crate::proc_cpu::cpu_time;
use crate::sys::{Epoll, Events, Interest};

/// READ or WRITE.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Operation {
    /// READ (16).
    Read,
    /// WRITE (16). Destroys what the LUN holds.
    Write,
}

/// Which block next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Order {
    /// Any.
    Random,
    /// The next one; each connection starts somewhere else.
    Sequential,
}

/// What the target speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Protocol {
    /// iSCSI.
    Iscsi,
    /// NBD; the target's name is that of the export.
    Nbd,
    /// What `echo` speaks: lengths only.
    Echo,
}

/// Options of `load`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LoadOptions {
    /// Where the target listens.
    #[arg(long)]
    pub(crate) portal: SocketAddr,
    /// Its name.
    #[arg(long)]
    pub(crate) target: String,
    /// What it speaks.
    #[arg(long, value_enum, default_value = "iscsi")]
    pub(crate) protocol: Protocol,
    /// The LUN.
    #[arg(long, default_value_t = 0)]
    pub(crate) lun: u32,
    /// READ or WRITE.
    #[arg(long = "op", value_enum, default_value = "read")]
    pub(crate) operation: Operation,
    /// Random or sequential.
    #[arg(long, value_enum, default_value = "random")]
    pub(crate) order: Order,
    /// Bytes per command.
    #[arg(long, default_value_t = 4096)]
    pub(crate) size: u32,
    /// Commands outstanding per connection.
    #[arg(long, default_value_t = 32)]
    pub(crate) depth: usize,
    /// Connections, each a session of its own.
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: u16,
    /// Each connection has a LUN of its own: this one, the next one and so on.
    #[arg(long)]
    pub(crate) private_luns: bool,
    /// End after so many commands instead of after a time.
    #[arg(long)]
    pub(crate) commands: Option<u64>,
    /// Seconds to measure.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Seconds before that are not measured.
    #[arg(long, default_value_t = 0.5)]
    pub(crate) warmup: f64,
    /// Use only so many bytes from the start of the LUN.
    #[arg(long)]
    pub(crate) range: Option<u64>,
    /// Header digests.
    #[arg(long)]
    pub(crate) header_digest: bool,
    /// Data digests (ours are computed once per size; the target's are not verified).
    #[arg(long)]
    pub(crate) data_digest: bool,
    /// The target's process, to measure its CPU time.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// The target's core and ours, to see what else runs there.
    #[arg(long, num_args = 2)]
    pub(crate) cores: Option<Vec<usize>>,
    /// Sleep until there is something to receive, instead of asking again and again.
    #[arg(long)]
    pub(crate) block: bool,
    /// Print one line of key=value pairs.
    #[arg(long)]
    pub(crate) machine: bool,
}

#[cfg(test)]
impl LoadOptions {
    /// A thousand commands to a responder in this process.
    pub(crate) fn for_test(
        portal: SocketAddr,
        operation: Operation,
        size: u32,
        depth: usize,
        connections: u16,
    ) -> Self {
        Self {
            portal,
            target: "iqn.t".to_owned(),
            lun: 0,
            operation,
            order: Order::Random,
            size,
            depth,
            connections,
            protocol: Protocol::Iscsi,
            private_luns: false,
            commands: Some(1000),
            seconds: 0.0,
            warmup: 0.0,
            range: None,
            header_digest: false,
            data_digest: false,
            pid: Some(std::process::id()),
            block: false,
            cores: None,
            machine: false,
        }
    }
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LoadReport {
    pub(crate) iops: f64,
    pub(crate) megabytes: f64,
    /// Microseconds: p50, p90, p99, p99.9, max.
    pub(crate) latency: [f64; Histogram::QUANTILES],
    /// Microseconds of CPU per I/O: the target's (if known) and ours.
    pub(crate) target_cpu: f64,
    pub(crate) own_cpu: f64,
    /// The same as share of a core.
    pub(crate) target_busy: f64,
    pub(crate) own_busy: f64,
    /// The share of the time in which the load had something to do; in the rest it waited for the target.
    pub(crate) own_work: f64,
    /// What the slowest connection got, as a share of what the one in the middle got.
    pub(crate) least_share: f64,
    /// What others took of the busier of both cores, as a share of the time.
    pub(crate) others: f64,
    /// Nanoseconds from core to core and back at that time, if it was measured.
    pub(crate) distance: f64,
}

const LATENCY_NAMES: [&str; 5] = ["p50", "p90", "p99", "p99.9", "max"];

impl LoadReport {
    fn fields(&self) -> [(&'static str, f64); 10] {
        [
            ("iops", self.iops),
            ("mbps", self.megabytes),
            ("target_cpu", self.target_cpu),
            ("own_cpu", self.own_cpu),
            ("target_busy", self.target_busy),
            ("own_busy", self.own_busy),
            ("own_work", self.own_work),
            ("least_share", self.least_share),
            ("others", self.others),
            ("distance", self.distance),
        ]
    }

    /// All values with their names.
    pub(crate) fn pairs(&self) -> Vec<(&'static str, f64)> {
        self.fields().into_iter().chain(LATENCY_NAMES.into_iter().zip(self.latency)).collect()
    }

    /// One line of key=value pairs.
    pub(crate) fn to_line(&self) -> String {
        self.pairs().into_iter().map(|(name, value)| format!("{name}={value:.4}")).collect::<Vec<_>>().join(" ")
    }

    /// Reads such a line.
    pub(crate) fn from_line(line: &str) -> Result<Self> {
        let get = |key| value(line, key);
        let mut latency = [0.0; Histogram::QUANTILES];
        for (slot, name) in latency.iter_mut().zip(LATENCY_NAMES) {
            *slot = get(name)?;
        }
        Ok(Self {
            iops: get("iops")?,
            megabytes: get("mbps")?,
            latency,
            target_cpu: get("target_cpu")?,
            own_cpu: get("own_cpu")?,
            target_busy: get("target_busy")?,
            own_busy: get("own_busy")?,
            own_work: get("own_work")?,
            least_share: get("least_share")?,
            others: get("others")?,
            distance: get("distance")?,
        })
    }
}

/// The number of a `key=value` pair.
pub(crate) fn value(line: &str, key: &str) -> Result<f64> {
    let mut pairs = line.split_whitespace().filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == key).with_context(|| format!("no {key} in {line:?}"))?;
    Ok(value.parse()?)
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:.0} IOPS, {:.1} MB/s", self.iops, self.megabytes)?;
        write!(f, "latency in us:")?;
        for (name, value) in LATENCY_NAMES.iter().zip(self.latency) {
            write!(f, " {name} {value:.1}")?;
        }
        writeln!(f)?;
        if self.target_busy > 0.0 {
            writeln!(f, "target CPU: {:.2} us per I/O, {:.0} % of a core", self.target_cpu, self.target_busy * 100.0)?;
        }
        let (busy, work) = (self.own_busy * 100.0, self.own_work * 100.0);
        writeln!(f, "our CPU: {:.2} us per I/O, {busy:.0} % of a core, work in {work:.0} % of the time", self.own_cpu)?;
        writeln!(f, "slowest connection: {:.2} of the median", self.least_share)
    }
}

/// Runs the load.
pub(crate) fn run(options: &LoadOptions) -> Result<LoadReport> {
    if options.connections == 0 || options.depth == 0 {
        bail!("--connections and --depth must be at least 1");
    }
    let numbers = 0..options.connections;
    match options.protocol {
        Protocol::Iscsi => run_with(options, numbers.map(|n| Connection::open(options, n)).collect::<Result<_>>()?),
        Protocol::Nbd => run_with(options, numbers.map(|n| NbdConnection::open(options, n)).collect::<Result<_>>()?),
        Protocol::Echo => run_with(options, numbers.map(|_| EchoConnection::open(options)).collect::<Result<_>>()?),
    }
}

fn run_with(options: &LoadOptions, mut connections: Vec<impl Peer>) -> Result<LoadReport> {
    let mut shared = Shared::new(options.size, &mut connections)?;
    let waiting = Waiting::choose(options.block, &mut connections)?;
    let start = Instant::now();
    let clock = move || start.elapsed().as_nanos() as u64;
    let mut engine =
        Engine { waiting, events: Events::new(), connections: &mut connections, shared: &mut shared, worked: 0 };
    engine.issue_all(clock())?;
    engine.run_until(Duration::from_secs_f64(options.warmup), None, clock)?;

    let mark = Mark::take(options)?;
    engine.shared.latencies.reset();
    engine.shared.completed = 0;
    engine.worked = 0;
    engine.connections.iter_mut().for_each(|one| one.link().completed = 0);
    let end = Duration::from_secs_f64(options.warmup + options.seconds);
    engine.run_until(end, options.commands, clock)?;
    let completed = engine.shared.completed;
    let shares = engine.connections.iter_mut().map(|one| one.link().completed).collect();
    if completed == 0 {
        bail!("no command was answered while measuring: the target hangs, or --seconds is too short");
    }
    let report = mark.report(options, &engine, shares)?;
    engine.drain(clock)?;
    Ok(report)
}

/// How the load finds out which connection has something.
///
/// It has a core of its own, so by default it never sleeps: waking a sleeper costs the target two microseconds of its
/// CPU time, which belong to the load, and the target would see commands in other batches than a busy network brings.
enum Waiting {
    /// Sleep in epoll.
    Block(Epoll),
    /// Ask each socket in turn. No epoll instance hears of the sockets, so the target does not pay for its callbacks.
    RoundRobin,
    /// Ask epoll without sleeping.
    Poll(Epoll),
}

/// From so many connections on, asking each of them costs more than epoll.
const MANY: usize = 9;

impl Waiting {
    fn choose(block: bool, connections: &mut [impl Peer]) -> Result<Self> {
        if !block && connections.len() < MANY {
            return Ok(Self::RoundRobin);
        }
        let epoll = Epoll::new()?;
        for (token, connection) in connections.iter_mut().enumerate() {
            epoll.add(&connection.link().stream, token, Interest::Read)?;
        }
        Ok(if block { Self::Block(epoll) } else { Self::Poll(epoll) })
    }
}

struct Engine<'a, P> {
    waiting: Waiting,
    events: Events,
    connections: &'a mut [P],
    shared: &'a mut Shared,
    /// Nanoseconds in which there was something to receive or to send; the rest is waiting for the target.
    worked: u64,
}

impl<P: Peer> Engine<'_, P> {
    fn issue_all(&mut self, now: u64) -> Result<()> {
        for index in 0..self.connections.len() {
            self.connections[index].issue(now, self.shared);
            self.send(index)?;
        }
        Ok(())
    }

    /// Until a time or, if there is such a number, until so many commands have ended.
    fn run_until(&mut self, end: Duration, commands: Option<u64>, clock: impl Fn() -> u64 + Copy) -> Result<()> {
        let end = if commands.is_some() { u64::MAX } else { end.as_nanos() as u64 };
        let commands = commands.unwrap_or(u64::MAX);
        let mut now = clock();
        while now < end && self.shared.completed < commands {
            let worked = self.step(clock, true)?;
            let after = clock();
            if worked {
                self.worked += after - now;
            }
            now = after;
        }
        Ok(())
    }

    /// Waits in its way, and takes a turn with each connection that may have something. Was there something?
    fn step(&mut self, clock: impl Fn() -> u64 + Copy, issue: bool) -> Result<bool> {
        let mut worked = false;
        let (epoll, timeout) = match &self.waiting {
            Waiting::RoundRobin => {
                for index in 0..self.connections.len() {
                    worked |= self.turn(index, clock, issue)?;
                }
                return Ok(worked);
            }
            Waiting::Block(epoll) => (epoll, 100),
            Waiting::Poll(epoll) => (epoll, 0),
        };
        let mut events = std::mem::replace(&mut self.events, Events::empty());
        epoll.wait(&mut events, timeout)?;
        for token in events.tokens() {
            worked |= self.turn(token, clock, issue)?;
        }
        self.events = events;
        Ok(worked)
    }

    fn turn(&mut self, index: usize, clock: impl Fn() -> u64, issue: bool) -> Result<bool> {
        let connection = &mut self.connections[index];
        // One reading of the clock ends the commands that were answered and begins those that follow them.
        let now = connection.receive(clock, self.shared)?;
        if let Some(now) = now
            && issue
        {
            connection.issue(now, self.shared);
        }
        let link = connection.link();
        let sending = !link.outbox.is_empty();
        if sending || link.wants_write {
            self.send(index)?;
        }
        Ok(sending || now.is_some())
    }

    fn send(&mut self, index: usize) -> Result<()> {
        let link = self.connections[index].link();
        link.outbox.send(&link.stream, Payload::Pages(&self.shared.memory))?;
        let wants_write = !link.outbox.is_empty();
        if wants_write == link.wants_write {
            return Ok(());
        }
        link.wants_write = wants_write;
        let (Waiting::Block(epoll) | Waiting::Poll(epoll)) = &self.waiting else { return Ok(()) };
        let interest = if wants_write { Interest::ReadWrite } else { Interest::Read };
        Ok(epoll.modify(&link.stream, index, interest)?)
    }

    /// Lets the commands in flight end, so that the target is left in a clean state.
    fn drain(&mut self, clock: impl Fn() -> u64 + Copy) -> Result<()> {
        let deadline = clock() + 10_000_000_000;
        while self.connections.iter().any(|one| one.tags().in_flight() > 0) && clock() < deadline {
            self.step(clock, false)?;
        }
        match self.connections.iter().map(|one| one.tags().in_flight()).sum::<usize>() {
            0 => Ok(()),
            left => bail!("{left} commands were never answered"),
        }
    }
}

/// The start of the measurement.
struct Mark {
    pid: Option<u32>,
    time: Instant,
    target: Duration,
    own: Duration,
    cores: Vec<(usize, f64)>,
}

impl Mark {
    fn take(options: &LoadOptions) -> Result<Self> {
        let pid = options.pid;
        let cores = options.cores.iter().flatten().map(|&core| Ok((core, core_busy(core)?))).collect::<Result<_>>()?;
        let target = pid.map_or(Ok(Duration::ZERO), cpu_time)?;
        Ok(Self { pid, time: Instant::now(), target, own: cpu_time(std::process::id())?, cores })
    }

    fn report<P>(&self, options: &LoadOptions, engine: &Engine<'_, P>, mut shares: Vec<u64>) -> Result<LoadReport> {
        let (latencies, completed) = (&engine.shared.latencies, engine.shared.completed);
        shares.sort_unstable();
        let (least, median) = (shares[0], shares[shares.len() / 2]);
        let seconds = self.time.elapsed().as_secs_f64();
        let target = self.pid.map_or(Ok(Duration::ZERO), cpu_time)?.saturating_sub(self.target);
        let own = cpu_time(std::process::id())?.saturating_sub(self.own);
        let mut others = 0.0_f64;
        for (&(core, before), ours) in self.cores.iter().zip([target, own]) {
            others = others.max((core_busy(core)? - before - ours.as_secs_f64()) / seconds);
        }
        let count = completed.max(1) as f64;
        let micros = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
        let quantile = |fraction: f64| micros(latencies.quantile(fraction));
        let latency = [quantile(0.5), quantile(0.9), quantile(0.99), quantile(0.999), micros(latencies.max())];
        Ok(LoadReport {
            iops: completed as f64 / seconds,
            megabytes: completed as f64 * f64::from(options.size) / seconds / 1e6,
            latency,
            target_cpu: target.as_secs_f64() * 1e6 / count,
            own_cpu: own.as_secs_f64() * 1e6 / count,
            target_busy: target.as_secs_f64() / seconds,
            own_busy: own.as_secs_f64() / seconds,
            own_work: engine.worked as f64 / 1e9 / seconds,
            least_share: least as f64 / median.max(1) as f64,
            others,
            distance: 0.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_its_line() {
        let report = LoadReport {
            iops: 1234.5,
            megabytes: 5.25,
            latency: [1.0, 2.0, 3.0, 4.0, 5.0],
            target_cpu: 1.125,
            own_cpu: 0.5,
            target_busy: 0.75,
            own_busy: 0.25,
            own_work: 0.125,
            least_share: 1.0,
            others: 0.0625,
            distance: 62.5,
        };
        assert_eq!(LoadReport::from_line(&report.to_line()).unwrap(), report);
    }
}
