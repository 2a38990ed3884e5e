//! Which generation a read of a block may return.
//!
//! Operations are intervals of logical time. A read may return a write unless the write began after the read ended, or
//! another write lay wholly between the two. That is linearizability per block for what can be observed; a value that
//! was read once counts as written from then on, so that a later read may not return to an older one.

use std::collections::BTreeMap;

/// Logical time: one tick per event.
pub type Time = u64;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Write {
    generation: u64,
    start: Time,
    /// Acknowledged at.
    end: Option<Time>,
    /// Known to be visible since: acknowledged, or seen by a read.
    visible: Option<Time>,
}

/// The writes of all blocks that still matter.
#[derive(Clone, Debug)]
pub struct History {
    blocks: BTreeMap<u64, Vec<Write>>,
    now: Time,
    /// Start of the latest completed flush: writes acknowledged before are durable.
    flushed: Time,
    /// Starts of reads that have not ended.
    reads: BTreeMap<Time, u32>,
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}

impl History {
    /// All blocks hold zeros, generation 0, durably.
    pub fn new() -> Self {
        Self { blocks: BTreeMap::new(), now: 1, flushed: 1, reads: BTreeMap::new() }
    }

    fn tick(&mut self) -> Time {
        self.now += 1;
        self.now
    }

    fn block(&mut self, lba: u64) -> &mut Vec<Write> {
        let zeros = Write { generation: 0, start: 0, end: Some(0), visible: Some(0) };
        self.blocks.entry(lba).or_insert_with(|| vec![zeros])
    }

    /// A write of blocks begins.
    pub fn write_begins(&mut self, lba: u64, blocks: u64, generation: u64) {
        let start = self.tick();
        for lba in lba..lba + blocks {
            self.block(lba).push(Write { generation, start, end: None, visible: None });
        }
    }

    /// A write was acknowledged.
    pub fn write_ends(&mut self, lba: u64, blocks: u64, generation: u64) {
        let end = self.tick();
        let oldest_read = self.reads.keys().next().copied().unwrap_or(end);
        let flushed = self.flushed;
        for lba in lba..lba + blocks {
            let writes = self.block(lba);
            if let Some(write) = writes.iter_mut().find(|write| write.generation == generation) {
                write.end = Some(end);
                write.visible = write.visible.or(Some(end));
            }
            prune(writes, oldest_read, flushed);
        }
    }

    /// A write certainly did not happen (it was refused before it began).
    pub fn write_refused(&mut self, lba: u64, blocks: u64, generation: u64) {
        for lba in lba..lba + blocks {
            self.block(lba).retain(|write| write.generation != generation);
        }
    }

    /// A read begins; the result is for [`History::read_ends`].
    pub fn read_begins(&mut self) -> Time {
        let start = self.tick();
        *self.reads.entry(start).or_insert(0) += 1;
        start
    }

    /// A read that began at `start` has ended.
    pub fn read_ends(&mut self, start: Time) {
        if let Some(count) = self.reads.get_mut(&start) {
            *count -= 1;
            if *count == 0 {
                self.reads.remove(&start);
            }
        }
    }

    /// Judges what a read that began at `start` returned for a block.
    ///
    /// # Errors
    /// The generations that were allowed.
    pub fn observed(&mut self, start: Time, lba: u64, generation: u64) -> Result<(), Vec<u64>> {
        let now = self.tick();
        let writes = self.block(lba);
        let allowed: Vec<u64> =
            writes.iter().filter(|write| !superseded(writes, write, start)).map(|write| write.generation).collect();
        if !allowed.contains(&generation) {
            return Err(allowed);
        }
        if let Some(write) = writes.iter_mut().find(|write| write.generation == generation) {
            write.visible = write.visible.or(Some(now));
        }
        Ok(())
    }

    /// A flush begins; the result is for [`History::flush_ends`].
    pub fn flush_begins(&mut self) -> Time {
        self.tick()
    }

    /// A flush that began at `start` ended well: writes acknowledged before `start` are durable.
    pub fn flush_ends(&mut self, start: Time) {
        self.flushed = self.flushed.max(start);
    }

    /// The target lost what was not durable, and every operation in flight. Each block may hold any write that is not
    /// older than its last durable one, until it is read.
    pub fn crashed(&mut self) {
        let now = self.tick();
        let flushed = self.flushed;
        self.reads.clear();
        for writes in self.blocks.values_mut() {
            let kept: Vec<Write> = writes.iter().filter(|write| !lost(writes, write, flushed)).copied().collect();
            *writes = kept.into_iter().map(|write| Write { end: None, visible: None, ..write }).collect();
        }
        self.flushed = now;
    }

    /// After a crash: a read found this generation, nothing in flight can change it any more, so it is settled (and
    /// counts as durable only after the next flush).
    ///
    /// # Errors
    /// The generations that were allowed.
    pub fn settle(&mut self, lba: u64, generation: u64) -> Result<(), Vec<u64>> {
        let start = self.tick();
        self.observed(start, lba, generation)?;
        let now = self.now;
        let writes = self.block(lba);
        for write in writes.iter_mut().filter(|write| write.generation == generation) {
            write.end = Some(now);
            write.visible = Some(now);
        }
        // What is on the medium survived one crash: all other candidates are gone for good.
        writes.retain(|write| write.generation == generation);
        Ok(())
    }
}

/// Another write lies wholly after this one and was visible before `before`.
fn superseded(writes: &[Write], write: &Write, before: Time) -> bool {
    let Some(end) = write.end.or(write.visible) else { return false };
    writes.iter().any(|other| other.start > end && other.visible.is_some_and(|visible| visible < before))
}

/// Another write lies wholly after this one and was durable.
fn lost(writes: &[Write], write: &Write, flushed: Time) -> bool {
    let Some(end) = write.end else { return false };
    writes.iter().any(|other| other.start > end && other.end.is_some_and(|end| end < flushed))
}

/// Drops what neither a read in flight nor a crash can bring back.
fn prune(writes: &mut Vec<Write>, oldest_read: Time, flushed: Time) {
    if writes.len() < 2 {
        return;
    }
    let all = writes.clone();
    writes.retain(|write| !(superseded(&all, write, oldest_read) && lost(&all, write, flushed)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(history: &mut History, lba: u64, generation: u64) {
        history.write_begins(lba, 1, generation);
        history.write_ends(lba, 1, generation);
    }

    #[test]
    fn a_read_after_an_acknowledged_write_sees_it_and_nothing_older() {
        let mut history = History::new();
        write(&mut history, 7, 1);
        write(&mut history, 7, 2);
        let read = history.read_begins();
        assert_eq!(history.observed(read, 7, 1), Err(vec![2]));
        assert_eq!(history.observed(read, 7, 0), Err(vec![2]));
        assert_eq!(history.observed(read, 7, 2), Ok(()));
        assert_eq!(history.observed(read, 8, 0), Ok(()));
    }

    #[test]
    fn a_read_that_overlaps_a_write_sees_either_but_never_goes_back() {
        let mut history = History::new();
        write(&mut history, 7, 1);
        history.write_begins(7, 1, 2);
        let read = history.read_begins();
        assert_eq!(history.observed(read, 7, 1), Ok(()));
        assert_eq!(history.observed(read, 7, 2), Ok(()));
        let later = history.read_begins();
        assert_eq!(history.observed(later, 7, 1), Err(vec![2]));
        assert_eq!(history.observed(later, 7, 3), Err(vec![2]));
    }

    #[test]
    fn a_read_in_flight_may_still_return_what_was_overwritten_meanwhile() {
        let mut history = History::new();
        write(&mut history, 7, 1);
        let read = history.read_begins();
        write(&mut history, 7, 2);
        write(&mut history, 7, 3);
        assert_eq!(history.observed(read, 7, 1), Ok(()));
        history.read_ends(read);
    }

    #[test]
    fn two_writes_in_flight_may_end_either_way() {
        let mut history = History::new();
        history.write_begins(7, 1, 1);
        history.write_begins(7, 1, 2);
        history.write_ends(7, 1, 2);
        history.write_ends(7, 1, 1);
        let read = history.read_begins();
        assert_eq!(history.observed(read, 7, 0), Err(vec![1, 2]));
        assert_eq!(history.observed(read, 7, 1), Ok(()));
    }

    #[test]
    fn a_crash_keeps_what_was_flushed_and_may_keep_the_rest() {
        let mut history = History::new();
        write(&mut history, 7, 1);
        write(&mut history, 7, 2);
        let flush = history.flush_begins();
        history.flush_ends(flush);
        write(&mut history, 7, 3);
        history.write_begins(7, 1, 4);
        let mut lost = history.clone();
        lost.crashed();
        assert_eq!(lost.settle(7, 1), Err(vec![2, 3, 4]));
        lost.settle(7, 2).unwrap();
        assert_eq!(lost.settle(7, 4), Err(vec![2]));
        history.crashed();
        history.settle(7, 4).unwrap();
    }

    #[test]
    fn a_write_acknowledged_during_a_flush_is_not_durable() {
        let mut history = History::new();
        let flush = history.flush_begins();
        write(&mut history, 7, 1);
        history.flush_ends(flush);
        history.crashed();
        history.settle(7, 0).unwrap();
    }

    #[test]
    fn a_refused_write_never_happened() {
        let mut history = History::new();
        history.write_begins(7, 1, 1);
        history.write_refused(7, 1, 1);
        let read = history.read_begins();
        assert_eq!(history.observed(read, 7, 1), Err(vec![0]));
    }

    #[test]
    fn the_history_stays_short_with_flushes() {
        let mut history = History::new();
        for generation in 1..1000 {
            write(&mut history, 7, generation);
            let flush = history.flush_begins();
            history.flush_ends(flush);
        }
        assert!(history.blocks[&7].len() <= 3, "{:?}", history.blocks[&7]);
    }
}
