//! What the log page General Statistics and Performance counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one shard. Only the shard writes them, so an addition needs no locked instruction.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) read_commands: Count,
    pub(crate) write_commands: Count,
    pub(crate) blocks_read: Count,
    pub(crate) blocks_written: Count,
}

/// A number with one writer and any number of readers.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds; only from the shard that owns the counter.
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The number now.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
