//! Stories about the engine: N shards, a device that finishes when told to, a driver that records.

mod common;
mod latency;
mod mapped;
mod ordering;
mod random;
mod sharing;
mod task_management;
