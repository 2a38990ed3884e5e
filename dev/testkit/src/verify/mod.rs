//! Finds lost, stale and torn writes.
//!
//! Every block that is written carries its address, the number of the write (its generation) and a pattern that
//! follows from both. [`History`] knows for each block which generations a read may return, given what overlapped
//! with what, what a completed SYNCHRONIZE CACHE made durable, and whether there was a crash. [`Workload`] makes random
//! commands and judges their results; it does no I/O, so a simulator can drive it as well as [`Workload::run`].

mod history;
mod pattern;
mod workload;

pub use history::{History, Time};
pub use pattern::{Content, Pattern};
pub use workload::{OpId, Progress, RunError, Workload, WorkloadOptions};

/// What the verifier found.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Corruption {
    /// A read returned a generation that was overwritten before the read began, or lost in spite of a flush.
    #[error("block {lba} holds generation {found}, allowed are {allowed:?}")]
    WrongGeneration {
        /// The block.
        lba: u64,
        /// What was read; 0 are zeros.
        found: u64,
        /// What could have been read.
        allowed: Vec<u64>,
    },
    /// A block holds parts of different writes, or bytes that were never written.
    #[error("block {lba} is torn or foreign: {what}")]
    Torn {
        /// The block.
        lba: u64,
        /// What is wrong.
        what: String,
    },
    /// A block holds the data of another block.
    #[error("block {lba} holds the data of block {belongs_to}")]
    Misplaced {
        /// The block.
        lba: u64,
        /// Where the data belong.
        belongs_to: u64,
    },
    /// A READ ended with GOOD and too few bytes.
    #[error("{got} bytes instead of {expected} at block {lba}")]
    Short {
        /// First block.
        lba: u64,
        /// Bytes.
        got: usize,
        /// Bytes.
        expected: usize,
    },
    /// A command ended in a way that the workload cannot explain.
    #[error("{what}: status {status:#04x}, sense {kcq:02x?}")]
    Failed {
        /// Which command.
        what: String,
        /// SCSI status.
        status: u8,
        /// Sense key, ASC, ASCQ.
        kcq: Option<(u8, u8, u8)>,
    },
}
