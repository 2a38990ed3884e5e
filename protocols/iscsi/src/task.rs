//! The task table of a session: slots, found by handle or by initiator task tag.
//!
//! It grows to what the session needs, up to a limit, and gives everything back when asked to while it is empty.

use scst_scsi::{Asc, Lun, SenseData, SenseKey};

use crate::event::TaskHandle;

/// Longest sense data of a response; the same as the buffer of the Linux initiator.
pub(crate) const MAX_SENSE_LENGTH: usize = 96;

/// Where the answer of a task stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Stage {
    /// The driver works on it.
    #[default]
    Open,
    /// The response is queued or being sent; what still comes in for it is thrown away.
    Responding,
}

/// Why the data-out of a task are unusable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DataFault {
    /// Unexpected unsolicited data (RFC 7143 11.4.7.2).
    Unexpected,
    /// Incorrect amount of data.
    WrongAmount,
    /// Protocol service CRC error.
    Crc,
}

impl DataFault {
    /// What the initiator is told.
    pub(crate) const fn sense(self) -> SenseData {
        SenseData::new(
            SenseKey::ABORTED_COMMAND,
            match self {
                Self::Unexpected => Asc(0x0c0c),
                Self::WrongAmount => Asc(0x0c0d),
                Self::Crc => Asc(0x4705),
            },
        )
    }
}

/// The data-out side of a task.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DataOutState {
    /// What the initiator said it will send.
    pub(crate) expected: u32,
    /// What the driver wants of it.
    pub(crate) fetch: Option<u32>,
    /// Next offset in order.
    pub(crate) received: u32,
    /// Unsolicited data may come up to here.
    pub(crate) unsolicited_limit: u32,
    /// The end of the unsolicited data has not been seen.
    pub(crate) unsolicited_open: bool,
    /// Next DataSN of the current sequence.
    pub(crate) next_data_sn: u32,
    /// First offset that R2Ts ask for.
    pub(crate) solicited_from: u32,
    /// R2Ts sent.
    pub(crate) r2t_sent: u32,
    /// R2Ts whose sequence has ended.
    pub(crate) r2t_done: u32,
    /// An item for R2Ts is in the transmit queue.
    pub(crate) r2t_queued: bool,
    /// Why the data are unusable.
    pub(crate) error: Option<DataFault>,
    /// The driver wants no more.
    pub(crate) aborted: bool,
    /// `DataComplete` or `DataError` was reported.
    pub(crate) reported: bool,
    /// Since when the initiator owes data (nanoseconds), if it does.
    pub(crate) waiting_since: Option<u64>,
}

impl DataOutState {
    /// First and last-plus-one offset that R2T number `index` covers.
    pub(crate) fn r2t_range(&self, index: u32, max_burst: u32) -> (u32, u32) {
        let fetch = self.fetch.unwrap_or(0);
        let from = u64::from(self.solicited_from) + u64::from(index) * u64::from(max_burst);
        let from = from.min(u64::from(fetch)) as u32;
        (from, fetch.min(from.saturating_add(max_burst)))
    }

    /// Whether no more data PDU is due now.
    pub(crate) fn quiet(&self) -> bool {
        !self.unsolicited_open && self.r2t_sent == self.r2t_done
    }
}

/// The answer of a task, but for its sense data.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u8,
    pub(crate) data_in: u32,
    pub(crate) data_sent: u32,
    /// Positive: overflow, negative: underflow.
    pub(crate) residual: i64,
    pub(crate) read_residual: i64,
    pub(crate) sense_length: u8,
}

/// A task.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Task {
    pub(crate) itt: u32,
    pub(crate) cmd_sn: u32,
    pub(crate) lun: Lun,
    pub(crate) cid: u16,
    pub(crate) immediate: bool,
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) read_length: u32,
    pub(crate) user: u64,
    pub(crate) stage: Stage,
    pub(crate) out: DataOutState,
    pub(crate) answer: Answer,
    /// Data-In and R2T PDUs sent: one sequence for both (RFC 7143 11.7.5).
    pub(crate) data_sn: u32,
}

/// What is left to be known of a task that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ended {
    pub(crate) itt: u32,
    pub(crate) cmd_sn: u32,
    pub(crate) immediate: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    generation: u32,
    /// The next slot (plus one) with a tag of the same home, or 0.
    next: u32,
    task: Option<Task>,
}

/// The slots, and an index of tags: chains of those that share a home, of which there are twice as many as slots.
#[derive(Debug)]
pub(crate) struct TaskTable {
    slots: Vec<Slot>,
    /// Sense data of answers by slot; apart from the tasks, because nearly always there are none.
    senses: Vec<[u8; MAX_SENSE_LENGTH]>,
    free: Vec<u32>,
    /// The first slot (plus one) of each chain, or 0. Never empty.
    index: Vec<u32>,
    limit: usize,
    /// Where new slots begin to count: no handle from before [`TaskTable::shrink`] is valid again.
    generation: u32,
}

/// Slots of a session that has begun to send commands.
const FIRST_SLOTS: usize = 8;
/// Most slots: target transfer tags have 12 bits for one.
pub(crate) const MAX_SLOTS: usize = 4095;

impl TaskTable {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            slots: Vec::new(),
            senses: Vec::new(),
            free: Vec::new(),
            index: vec![0],
            limit: limit.min(MAX_SLOTS),
            generation: 0,
        }
    }

    /// Twice as many slots, up to the limit; one of the new ones.
    #[cold]
    fn grow(&mut self) -> Option<u32> {
        let old = self.slots.len();
        let new = (old * 2).max(FIRST_SLOTS).min(self.limit);
        if new == old {
            return None;
        }
        let generation = self.generation;
        self.slots.reserve_exact(new - old);
        self.slots.resize(new, Slot { generation, ..Slot::default() });
        self.senses.reserve_exact(new - old);
        self.senses.resize(new, [0; MAX_SENSE_LENGTH]);
        self.free.reserve_exact(new);
        self.free.extend((old as u32..new as u32).rev());
        self.index = vec![0; (new * 2).next_power_of_two()];
        for slot in 0..old {
            if let Some(task) = &self.slots[slot].task {
                self.enter(task.itt, slot as u32);
            }
        }
        self.free.pop()
    }

    /// Gives the memory of an empty table back.
    pub(crate) fn shrink(&mut self) {
        if self.len() == 0 && !self.slots.is_empty() {
            let newest = self.slots.iter().map(|slot| slot.generation).max().unwrap_or(0);
            *self = Self { generation: newest, ..Self::new(self.limit) };
        }
    }

    /// Makes a slot known under its tag.
    fn enter(&mut self, itt: u32, slot: u32) {
        let home = self.home(itt);
        let first = std::mem::replace(&mut self.index[home], slot + 1);
        self.slots[slot as usize].next = first;
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn home(&self, itt: u32) -> usize {
        // Fibonacci hashing; the length is a power of two. Bad luck only costs the initiator that chose the tags.
        (itt.wrapping_mul(0x9e37_79b1) >> 7) as usize & (self.index.len() - 1)
    }

    /// None when all slots are taken; the tag must not be in the table.
    #[inline]
    pub(crate) fn insert(&mut self, task: Task) -> Option<TaskHandle> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.grow()?,
        };
        self.enter(task.itt, slot);
        let entry = &mut self.slots[slot as usize];
        entry.task = Some(task);
        Some(TaskHandle { index: slot, generation: entry.generation })
    }

    pub(crate) fn find(&self, itt: u32) -> Option<TaskHandle> {
        let mut at = self.index[self.home(itt)];
        loop {
            let index = at.checked_sub(1)?;
            let slot = &self.slots[index as usize];
            if slot.task.as_ref().is_some_and(|task| task.itt == itt) {
                return Some(TaskHandle { index, generation: slot.generation });
            }
            at = slot.next;
        }
    }

    pub(crate) fn get(&self, handle: TaskHandle) -> Option<&Task> {
        self.slots.get(handle.index as usize).filter(|s| s.generation == handle.generation)?.task.as_ref()
    }

    pub(crate) fn get_mut(&mut self, handle: TaskHandle) -> Option<&mut Task> {
        self.slots.get_mut(handle.index as usize).filter(|s| s.generation == handle.generation)?.task.as_mut()
    }

    /// The bytes for the sense data of a task, also of one that has just ended.
    pub(crate) fn sense(&self, handle: TaskHandle) -> &[u8] {
        self.senses.get(handle.index as usize).map_or(&[], |sense| sense)
    }

    /// Keeps the sense data of a task, as far as there is room; returns how many bytes.
    pub(crate) fn keep_sense(&mut self, handle: TaskHandle, sense: &[u8]) -> u8 {
        let Some(kept) = self.senses.get_mut(handle.index as usize) else { return 0 };
        let length = sense.len().min(MAX_SENSE_LENGTH);
        kept[..length].copy_from_slice(&sense[..length]);
        length as u8
    }

    pub(crate) fn remove(&mut self, handle: TaskHandle) -> Option<Ended> {
        let slot = self.slots.get_mut(handle.index as usize).filter(|s| s.generation == handle.generation)?;
        let &Task { itt, cmd_sn, immediate, .. } = slot.task.as_ref()?;
        slot.generation = slot.generation.wrapping_add(1);
        slot.task = None;
        let (known, next) = (handle.index + 1, slot.next);
        let home = self.home(itt);
        let mut at = self.index[home];
        if at == known {
            self.index[home] = next;
        } else {
            // It is in the chain of its home, behind another one.
            while let Some(before) = self.slots.get_mut(at.wrapping_sub(1) as usize) {
                if before.next == known {
                    before.next = next;
                    break;
                }
                at = before.next;
            }
        }
        self.free.push(handle.index);
        Some(Ended { itt, cmd_sn, immediate })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Task> {
        self.slots.iter().filter_map(|slot| slot.task.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn task(itt: u32) -> Task {
        Task { itt, ..Task::default() }
    }

    #[test]
    fn a_stale_handle_finds_nothing() {
        let mut table = TaskTable::new(2);
        let old = table.insert(task(1)).unwrap();
        assert_eq!(table.remove(old).map(|t| t.itt), Some(1));
        let new = table.insert(task(2)).unwrap();
        assert_eq!((new.index, new.generation), (old.index, old.generation + 1));
        assert!(table.get(old).is_none() && table.remove(old).is_none());
        table.insert(task(3)).unwrap();
        assert!(table.insert(task(4)).is_none());
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn an_empty_table_gives_its_memory_back_and_old_handles_stay_stale() {
        let mut table = TaskTable::new(48);
        assert_eq!((table.slots.capacity(), table.index.len()), (0, 1));
        let handles: Vec<_> = (0..20).map(|itt| table.insert(task(itt)).unwrap()).collect();
        assert_eq!((table.slots.len(), table.index.len()), (32, 64));
        for itt in 0..20 {
            assert_eq!(table.find(itt), Some(handles[itt as usize]), "found after growing");
        }
        for &handle in &handles {
            table.shrink();
            assert_eq!(table.remove(handle).map(|t| t.itt), Some(handle.index));
        }
        table.shrink();
        assert_eq!((table.slots.capacity(), table.free.capacity(), table.index.len()), (0, 0, 1));
        let new = table.insert(task(5)).unwrap();
        assert!(handles.iter().all(|old| *old != new && table.get(*old).is_none()));
        assert!((1..48).all(|itt| table.insert(task(100 + itt)).is_some()) && table.insert(task(99)).is_none());
    }

    proptest! {
        /// The index agrees with a plain list, whatever comes and goes.
        #[test]
        fn the_index_is_right(steps in prop::collection::vec((any::<bool>(), 0u32..24), 0..200)) {
            let mut table = TaskTable::new(8);
            let mut model: Vec<(u32, TaskHandle)> = Vec::new();
            for (add, tag) in steps {
                // Tags that share homes: multiples of a large power of two.
                let itt = tag << 27 | tag;
                let known = model.iter().position(|(t, _)| *t == itt);
                if add && known.is_none() {
                    match table.insert(task(itt)) {
                        Some(handle) => model.push((itt, handle)),
                        None => prop_assert_eq!(model.len(), 8),
                    }
                } else if let (false, Some(at)) = (add, known) {
                    let (_, handle) = model.swap_remove(at);
                    prop_assert_eq!(table.remove(handle).map(|t| t.itt), Some(itt));
                }
                for tag in 0..24u32 {
                    let itt = tag << 27 | tag;
                    let expected = model.iter().find(|(t, _)| *t == itt).map(|(_, h)| *h);
                    prop_assert_eq!(table.find(itt), expected);
                }
            }
        }
    }
}
