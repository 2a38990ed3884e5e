//! Stories of CDBs through a shard, over a disk in memory.

mod away;
mod cache;
mod claims;
mod control;
mod direct;
mod faults;
mod mapped;
mod medium;
mod moving;
mod provisioning;
mod rig;
