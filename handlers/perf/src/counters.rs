//! What the log page General Statistics and Performance counts.

use std::sync::atomic::{AtomicU64, Ordering};

use scst_scsi::log::StatisticsPage;

/// Counters of one shard. Only the shard writes them, so an addition needs no locked instruction.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    reads: AtomicU64,
    writes: AtomicU64,
    blocks_read: AtomicU64,
    blocks_written: AtomicU64,
}

fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn read(&self, blocks: u64) {
        add(&self.reads, 1);
        add(&self.blocks_read, blocks);
    }

    pub(crate) fn write(&self, blocks: u64) {
        add(&self.writes, 1);
        add(&self.blocks_written, blocks);
    }

    /// Adds what this shard has counted.
    pub(crate) fn add_to(&self, page: &mut StatisticsPage) {
        page.read_commands += self.reads.load(Ordering::Relaxed);
        page.write_commands += self.writes.load(Ordering::Relaxed);
        page.blocks_transmitted += self.blocks_read.load(Ordering::Relaxed);
        page.blocks_received += self.blocks_written.load(Ordering::Relaxed);
    }
}
