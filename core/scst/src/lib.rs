//! The SCSI target mid-level: everything that makes a shared logical unit correct.
//!
//! One [`engine::Engine`] per reactor takes events and yields effects; it never calls a target driver or a device
//! handler, reads no clock and does no I/O. [`shard::Shard`] joins it with the device handlers. The plug-in seams are plain traits and values:
//!
//! * [`handler::HandlerShard`]: a device handler's half of one logical unit on one reactor.
//! * [`driver::TargetDriver`]: what the mid-level asks of a target driver (iSCSI, ...).
//! * [`io`]: storage operations as data; [`buffer`]: command buffers as data.
//! * [`ids`]: generation-checked names of commands, sessions, devices. [`config`]: snapshots from the control plane.
//!
//! Inside the engine a file is one concern: `admit` (arrival to task set), `task_set` (order), `execute` (the checks),
//! `finish` (outcome to free slot), `barrier` (alone on a unit or range, across reactors), `tmf` and `target_reset`,
//! `queue_error` (QERR), `wait` (for commands to end), `park` (sessions end, commands do not), `look` (deadlines),
//! `members` (which commands are whose), `access` (what a nexus lets pass), `luns`, `attention`, `latency` (where the time
//! goes, when asked), `statistics`, `check` (counts, for tests).
#![forbid(unsafe_code)]

mod access;
mod admit;
mod attention;
pub mod attribute;
mod barrier;
pub mod buffer;
mod check;
mod command;
pub mod config;
pub mod core_commands;
pub mod driver;
mod effects;
pub mod engine;
pub mod event;
mod execute;
mod finish;
pub mod handler;
pub mod ids;
pub mod io;
pub mod latency;
mod look;
mod luns;
mod members;
mod nexus;
mod park;
mod queue_error;
pub mod shard;
mod slab;
pub mod statistics;
mod target_reset;
mod task_set;
mod tmf;
mod wait;

pub use command::CommandState;

/// Time in nanoseconds since an arbitrary start; a parameter everywhere, read from a clock only in `runtime/`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Nanos(pub u64);

impl Nanos {
    /// So many seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1_000_000_000)
    }

    /// So many microseconds.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros * 1000)
    }

    /// So many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }

    /// This point in time plus a duration.
    #[must_use]
    pub const fn after(self, duration: Self) -> Self {
        Self(self.0.saturating_add(duration.0))
    }
}
