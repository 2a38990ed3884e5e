//! Virtual disks: FILEIO (a file or block device, through the page cache or past it), BLOCKIO (a block device, past the
//! page cache) and NULLIO (nothing behind it).
//!
//! The control plane makes a [`Vdisk`] from a [`VdiskConfig`] and asks it for one shard per reactor
//! ([`Vdisk::open_shard`]). The mid-level drives the shard as a [`HandlerShard`](scst_core::handler::HandlerShard);
//! `core/cmdset` reads the CDBs and builds the answers; what is here is the storage: which operations a command needs,
//! in which order, and what their failures mean to the initiator.
//!
//! * [`VdiskConfig`], [`ConfigError`]: attributes of a device, checked.
//! * [`Vdisk`], [`Change`]: the control side: open, poll for a file that is missing, resize, flush.
//! * [`OpenShard`], [`ShardLink`]: the reactor side, and how it learns of a reopened file.
//!
//! A READ or WRITE is one operation and needs no memory of its own; only a short transfer, one that O_DIRECT cannot take
//! whole (`direct`), and the commands of several steps, take a task (`task`), which walks the stages of a plan (`plan`).
//!
//! What it never does: block on the data path, hide an error of the storage, or call anything durable after a flush has failed.
#![forbid(unsafe_code)]

mod announce;
mod answer;
mod backing;
mod claim;
mod config;
mod counters;
mod direct;
mod disk;
mod errors;
mod fault;
mod holder;
mod identity;
mod mapped;
mod null;
mod plan;
mod queue;
mod scan;
mod shard;
mod shared;
mod task;
#[cfg(test)]
mod tests;
mod watch;

pub use config::{ConfigError, Kind, MAX_BLOCK_SIZE, VdiskConfig};
pub use disk::{Change, OpenError, OpenShard, ShardLink, Status, Vdisk};
pub use errors::{ErrorCount, ErrorKind};
