//! The report that SIGUSR1 asks for.
//!
//! Every reactor gives a [`Snapshot`], plain values taken between two turns. Sessions and logical units can be many, so
//! a reactor gives them in parts and serves commands in between. The control thread puts the parts of all reactors
//! together and prints a table of `SECTIONS`.
//!
//! A new section is a field of [`Snapshot`] (filled in `take`, carried on in `append`) and a row of `SECTIONS`.

mod latency;
mod sessions;
mod sgv;
mod storage;

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use scst_core::ids::{DeviceId, ReactorId};
use scst_core::latency::{SizeLatency, UnitLatency};
use scst_core::shard::Shard;
use scst_core::statistics::SessionStatistics;
use scst_handler_vdisk::{ErrorCount, ErrorKind};
use scst_mem::{BufferPool, PoolStatistics};

/// Session slots in one part.
const SESSIONS_PER_PART: u32 = 256;
/// Device numbers in one part; each may have 14 KiB.
const UNITS_PER_PART: u32 = 32;

/// What one reactor has counted.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// There are more parts.
    pub more: bool,
    /// Its sessions.
    pub sessions: Vec<SessionStatistics>,
    /// Latencies of sessions that are not measured on their own.
    pub other_sessions: Vec<SizeLatency>,
    /// Latencies by logical unit.
    pub units: Vec<UnitLatency>,
    /// Its command buffers; in part 0.
    pub buffers: Option<Box<PoolStatistics>>,
}

impl Snapshot {
    /// Takes one part, numbered from 0. What is not many is in part 0.
    pub fn take(part: u32, shard: &Shard, pool: &BufferPool) -> Self {
        let engine = shard.engine();
        let range = |size: u32| part.saturating_mul(size)..part.saturating_add(1).saturating_mul(size);
        let (sessions, units) = (range(SESSIONS_PER_PART), range(UNITS_PER_PART));
        let first = part == 0;
        Self {
            more: engine.session_slots() > sessions.end || engine.measured_units() > units.end,
            sessions: engine.session_statistics(sessions).collect(),
            other_sessions: if first { engine.other_session_latency() } else { Vec::new() },
            units: engine.unit_latency(units).chain(engine.other_unit_latency().filter(|_| first)).collect(),
            buffers: first.then(|| Box::new(pool.statistics())),
        }
    }

    /// Adds the next part.
    pub fn append(&mut self, part: Self) {
        self.more = part.more;
        self.sessions.extend(part.sessions);
        self.other_sessions.extend(part.other_sessions);
        self.units.extend(part.units);
        self.buffers = self.buffers.take().or(part.buffers);
    }
}

/// What all reactors have counted.
#[derive(Debug, Default)]
pub struct Statistics {
    /// By reactor.
    pub reactors: BTreeMap<ReactorId, Snapshot>,
    /// Names of devices.
    pub devices: BTreeMap<DeviceId, String>,
    /// Errors of the storage of devices that have any, by the name of the device.
    pub storage: Vec<(String, [(ErrorKind, ErrorCount); 3])>,
}

impl Statistics {
    /// Adds the next part of a reactor.
    pub fn add(&mut self, reactor: ReactorId, part: Snapshot) {
        self.reactors.entry(reactor).or_default().append(part);
    }

    /// Whether a reactor has more to say.
    pub fn is_incomplete(&self) -> bool {
        self.reactors.values().any(|snapshot| snapshot.more)
    }
}

/// A part of the report under a heading of its own.
struct Section {
    name: &'static str,
    print: fn(&Statistics, &mut String) -> fmt::Result,
}

/// The report, in order.
const SECTIONS: &[Section] = &[
    Section { name: "sessions", print: sessions::print },
    Section { name: "latency", print: latency::print_sessions },
    Section { name: "histograms", print: latency::print_units },
    Section { name: "sgv", print: sgv::print },
    Section { name: "sgv_sizes", print: sgv::print_sizes },
    Section { name: "storage_errors", print: storage::print },
];

/// The report as text: `[section]` lines, under each a table with a line of headings.
pub fn report(statistics: &Statistics, version: &str, unix_seconds: u64) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(out, "scstd {version} time {unix_seconds} reactors {}", statistics.reactors.len());
    for section in SECTIONS {
        let _ = writeln!(out, "\n[{}]", section.name);
        let _ = (section.print)(statistics, &mut out);
    }
    out
}

/// A name as one field: what the other side has chosen must not look like more fields or lines.
fn word(name: &str) -> String {
    if name.is_empty() {
        return "-".to_owned();
    }
    name.chars().map(|c| if c.is_whitespace() || c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests;
