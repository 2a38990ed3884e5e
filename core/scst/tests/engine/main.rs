//! Stories about the engine: N shards, a device that finishes when told to, a driver that records.

mod common;
mod deadlines;
mod latency;
mod many_units;
mod mapped;
mod ordering;
mod parking;
mod queue_error;
mod random;
mod sharing;
mod task_management;
