//! Where the time of commands goes (`measure_latency`): by session, size and stage, and by logical unit and stage.
//!
//! When it is off, a command pays for a test when it arrives, when its device gets it and when its answer has left, a write
//! for one more; all other places are reached through marks that are tested anyway. When it is on, every command that arrives is marked, carries a lap (arrival, the stage it is in,
//! what it has spent in each), and is counted when its answer has left: all of it or nothing, so commands in flight at
//! a switch, and aborted ones, leave no half figures. Tables are made when the option is switched on, a session logs in
//! or a device comes, never for a command.
//!
//! Time: what comes from outside carries the time of the loop's turn, which is when it was there. Only where the
//! reactor itself spends time a [`Clock`] is read: once for each run of the shard, after each handler's work, and when
//! data-out are complete.

mod engine;
mod histogram;
mod lap;
mod summary;
mod tables;

pub use engine::{SizeLatency, UnitLatency};
pub use histogram::{BUCKETS, Histogram};
pub use summary::{SIZES, STAGES, SizeRow, Stage, Summary};
pub use tables::{MAX_MEASURED_SESSIONS, MAX_MEASURED_UNITS};

pub(crate) use tables::Latency;

use crate::Nanos;

/// Reads the time while latencies are measured: the same time as the `now` that the engine is told, but not only once
/// for each turn. A simulator passes its virtual one.
pub trait Clock {
    /// Now.
    fn now(&self) -> Nanos;
}
