//! The slab of operations in flight and the meaning of `user_data`.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;

use scst_core::io::IoToken;

use crate::backend::{MAX_SEGMENTS, SocketToken};
use crate::iovec::{self, IoVecs};

const KIND_OP: u64 = 1;
const KIND_CANCEL: u64 = 2;
const KIND_BELL: u64 = 3;
const KIND_ALARM: u64 = 4;
const KIND_ALARM_MOVED: u64 = 5;
const GENERATION: u32 = 0xff_ffff;

/// What a completion is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tag {
    Op { slot: u32, generation: u32 },
    Cancel,
    Bell,
    Alarm,
    AlarmMoved,
}

impl Tag {
    pub(crate) fn encode(self) -> u64 {
        match self {
            Self::Op { slot, generation } => KIND_OP << 56 | u64::from(generation & GENERATION) << 32 | u64::from(slot),
            Self::Cancel => KIND_CANCEL << 56,
            Self::Bell => KIND_BELL << 56,
            Self::Alarm => KIND_ALARM << 56,
            Self::AlarmMoved => KIND_ALARM_MOVED << 56,
        }
    }

    pub(crate) fn decode(data: u64) -> Option<Self> {
        match data >> 56 {
            KIND_OP => Some(Self::Op { slot: data as u32, generation: (data >> 32) as u32 & GENERATION }),
            KIND_CANCEL => Some(Self::Cancel),
            KIND_BELL => Some(Self::Bell),
            KIND_ALARM => Some(Self::Alarm),
            KIND_ALARM_MOVED => Some(Self::AlarmMoved),
            _ => None,
        }
    }
}

/// Whose operation it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    Free,
    Accept { socket: u32, token: SocketToken },
    Recv { socket: u32, token: SocketToken },
    Send { socket: u32, token: SocketToken, len: u32, sent: u32 },
    Storage { file: u32, token: IoToken, kind: StorageKind },
}

/// How a storage operation is carried out, and what of its result is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StorageKind {
    /// By the ring.
    Ring,
    /// By the ring; it is advice, and never fails visibly.
    Advice,
    /// By the offload pool.
    Offload,
    /// By a sync of the file that it shares with others: `crate::sync`.
    Flush,
}

struct Op {
    generation: u32,
    owner: Owner,
    cancelled: bool,
    /// Where the pool has its job.
    place: u32,
    iov: IoVecs,
}

/// A message header that the kernel reads and writes while its operation is in flight.
#[repr(transparent)]
struct Header(UnsafeCell<libc::msghdr>);

// SAFETY: a header is plain addresses; it is accessed only by the owner of the table, and by the kernel.
unsafe impl Send for Header {}
// SAFETY: as above; nothing is reachable through `&Header` but its address.
unsafe impl Sync for Header {}

/// All operations of a ring. The tables never move and never grow.
pub(crate) struct OpTable {
    ops: Box<[Op]>,
    headers: Box<[Header]>,
    free: Vec<u32>,
    /// Scatter lists that no operation uses. There are as many as operations were ever under way at once, not as slots.
    lists: Vec<IoVecs>,
}

/// Scatter lists that are there from the beginning, each with room for any operation: memory that is not touched before
/// it is needed, and nothing to allocate for a reactor that has no more under way.
const FIRST_LISTS: u32 = 32;

impl OpTable {
    pub(crate) fn new(slots: u32) -> Self {
        let op = |_| Op { generation: 0, owner: Owner::Free, cancelled: false, place: 0, iov: IoVecs::default() };
        // SAFETY: all zeros is a valid msghdr.
        let header = |_| Header(UnsafeCell::new(unsafe { std::mem::zeroed() }));
        let mut lists = Vec::with_capacity(slots as usize);
        lists.extend((0..slots.min(FIRST_LISTS)).map(|_| IoVecs::with_capacity(MAX_SEGMENTS)));
        Self {
            lists,
            ops: (0..slots).map(op).collect(),
            headers: (0..slots).map(header).collect(),
            free: (0..slots).rev().collect(),
        }
    }

    /// A free slot.
    pub(crate) fn take(&mut self, owner: Owner) -> Option<u32> {
        let slot = self.free.pop()?;
        let op = &mut self.ops[slot as usize];
        op.owner = owner;
        op.cancelled = false;
        if let Some(list) = self.lists.pop() {
            op.iov = list;
        }
        Some(slot)
    }

    /// Frees a slot at the operation's end. Its scatter list, with the room that it has, is for the next one.
    pub(crate) fn put(&mut self, slot: u32) {
        let op = &mut self.ops[slot as usize];
        debug_assert!(op.owner != Owner::Free, "a slot is freed once");
        op.owner = Owner::Free;
        op.generation = (op.generation + 1) & GENERATION;
        self.lists.push(std::mem::take(&mut op.iov));
        self.free.push(slot);
    }

    pub(crate) fn owner(&self, slot: u32, generation: u32) -> Option<Owner> {
        let op = self.ops.get(slot as usize)?;
        (op.generation == generation && op.owner != Owner::Free).then_some(op.owner)
    }

    pub(crate) fn owner_at(&self, slot: u32) -> Owner {
        self.ops[slot as usize].owner
    }

    pub(crate) fn set_owner(&mut self, slot: u32, owner: Owner) {
        self.ops[slot as usize].owner = owner;
    }

    pub(crate) fn data(&self, slot: u32) -> u64 {
        Tag::Op { slot, generation: self.ops[slot as usize].generation }.encode()
    }

    pub(crate) fn iov(&mut self, slot: u32) -> &mut IoVecs {
        &mut self.ops[slot as usize].iov
    }

    pub(crate) fn put_iov(&mut self, slot: u32, iov: IoVecs) {
        self.ops[slot as usize].iov = iov;
    }

    /// Notes where the pool has the job of a slot.
    pub(crate) fn set_place(&mut self, slot: u32, place: u32) {
        self.ops[slot as usize].place = place;
    }

    /// Returns where the pool has, or had, the job of a slot.
    pub(crate) fn place(&self, slot: u32) -> u32 {
        self.ops[slot as usize].place
    }

    /// Builds the message header of a slot over its scatter list, and says where it is.
    pub(crate) fn header(&mut self, slot: u32) -> *mut libc::msghdr {
        let header = self.headers[slot as usize].0.get();
        // SAFETY: no operation of this slot is in the kernel's hands when its header is built.
        unsafe { header.write(iovec::header(&mut self.ops[slot as usize].iov)) };
        header
    }

    /// The `user_data` to cancel, unless that was asked for already or the ring does not have the operation.
    pub(crate) fn mark_cancelled(&mut self, slot: u32) -> Option<u64> {
        let op = &mut self.ops[slot as usize];
        let offloaded = matches!(op.owner, Owner::Storage { kind: StorageKind::Offload, .. });
        if op.owner == Owner::Free || offloaded || std::mem::replace(&mut op.cancelled, true) {
            return None;
        }
        Some(self.data(slot))
    }

    /// Slots in use.
    pub(crate) fn busy(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.ops).filter(|(_, op)| op.owner != Owner::Free).map(|(slot, _)| slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_says_what_a_completion_is_about() {
        let op = Tag::Op { slot: u32::MAX, generation: 0xff_ffff };
        for tag in [op, Tag::Cancel, Tag::Bell, Tag::Alarm, Tag::AlarmMoved] {
            assert_eq!(Tag::decode(tag.encode()), Some(tag));
        }
        assert_eq!(Tag::decode(0), None);
        assert_eq!(Tag::decode(9 << 56), None);
    }

    #[test]
    fn a_late_completion_does_not_reach_the_next_owner() {
        let mut table = OpTable::new(1);
        let owner = Owner::Accept { socket: 1, token: SocketToken(1) };
        let slot = table.take(owner).unwrap();
        assert_eq!(table.take(owner), None);
        let Some(Tag::Op { generation, .. }) = Tag::decode(table.data(slot)) else { panic!() };
        table.put(slot);
        assert_eq!(table.owner(slot, generation), None);
        assert_eq!(table.take(owner), Some(slot));
        assert_eq!(table.owner(slot, generation), None);
        assert_eq!(table.owner(slot, generation + 1), Some(owner));
    }

    #[test]
    fn a_cancellation_is_sent_once() {
        let mut table = OpTable::new(1);
        assert_eq!(table.mark_cancelled(0), None);
        let slot = table.take(Owner::Accept { socket: 1, token: SocketToken(1) }).unwrap();
        assert_eq!(table.mark_cancelled(slot), Some(table.data(slot)));
        assert_eq!(table.mark_cancelled(slot), None);
    }
}
