//! Where the time of commands goes (`measure_latency`): by session, size and stage, and by logical unit and stage.
//!
//! When it is off, no command is tested for it: a run of the shard and a send are, once each, and a command notes when it
//! arrived. What is special about a measured command is found through marks that are tested anyway, and the shard's run is
//! there twice.
//!
//! When it is on, every command that arrives is marked, has a lap (the stage it is in, what it has spent in each), and is
//! counted when its answer has left: all of it or nothing, so commands in flight at a switch, and aborted ones, leave no
//! half figures. A command that its device does at once, as nearly all are, goes the short way as ever; its lap is written
//! once, at the end of it. Tables are made when the option is switched on, a session logs in or a device comes, never for a
//! command.
//!
//! Time: what comes from outside carries the time of the loop's turn, which is when it was there. Only where the
//! reactor itself spends time a [`Clock`] is read: once for each run of the shard, after each handler's work, and when
//! data-out are complete. Where one piece of work ends the next begins, so one reading serves both.

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
/// for each turn. A simulator passes its virtual one. One that is put together from several may step back by some
/// nanoseconds; what is measured with it does not.
pub trait Clock {
    /// Now.
    fn now(&self) -> Nanos;
}
