//! The barriers of a device that are closed, or closing, in one engine, and the commands that they keep out.

use std::collections::VecDeque;

use scst_scsi::CommandFlags;

use crate::Nanos;
use crate::command::{Command, CommandState};
use crate::event::{BarrierId, BarrierScope};
use crate::ids::CmdId;
use crate::slab::Slab;
use crate::wait::WaitId;

/// A closed barrier.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) id: BarrierId,
    pub(super) scope: BarrierScope,
    /// Waits for the commands that the barrier has met.
    pub(super) wait: Option<WaitId>,
    /// Commands that it keeps out, in the order in which they came to it, and some that have been aborted since.
    blocked: VecDeque<CmdId>,
    /// How many of them are blocked no more.
    gone: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct ClosedBarriers {
    /// Those over the whole unit; more than one only while a reset ends the owner of another.
    whole: Vec<Closed>,
    /// Ranges by first block; no two overlap.
    ranges: Vec<Closed>,
    /// Ranges of parked commands.
    fences: Vec<Closed>,
    count: usize,
}

impl ClosedBarriers {
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn insert(&mut self, id: BarrierId, scope: BarrierScope) {
        let closed = Closed { id, scope, wait: None, blocked: VecDeque::new(), gone: 0 };
        match scope {
            BarrierScope::Device | BarrierScope::Abort { .. } => self.whole.push(closed),
            BarrierScope::Fence { .. } => self.fences.push(closed),
            BarrierScope::Range { lba, .. } => {
                let at = self.ranges.partition_point(|range| range.first_lba() < lba);
                debug_assert!(self.ranges.get(at).is_none_or(|next| lba_end(scope) <= next.first_lba()));
                self.ranges.insert(at, closed);
            }
        }
        self.count += 1;
    }

    pub(super) fn remove(&mut self, id: BarrierId, scope: BarrierScope) -> Option<Closed> {
        let list = self.list(scope);
        let at = position(list, id, scope)?;
        let closed = list.remove(at);
        self.count -= 1;
        Some(closed)
    }

    pub(super) fn get_mut(&mut self, id: BarrierId, scope: BarrierScope) -> Option<&mut Closed> {
        let list = self.list(scope);
        let at = position(list, id, scope)?;
        list.get_mut(at)
    }

    fn list(&mut self, scope: BarrierScope) -> &mut Vec<Closed> {
        match scope {
            BarrierScope::Device | BarrierScope::Abort { .. } => &mut self.whole,
            BarrierScope::Fence { .. } => &mut self.fences,
            BarrierScope::Range { .. } => &mut self.ranges,
        }
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Closed> {
        self.whole.iter_mut().chain(&mut self.ranges).chain(&mut self.fences)
    }

    /// The barrier that keeps a command out, if any does.
    pub(super) fn in_the_way_of(&mut self, command: &Command) -> Option<&mut Closed> {
        let flags = command.parsed.flags;
        if self.is_empty() || flags.contains(CommandFlags::UNBLOCKED) {
            return None;
        }
        if !self.whole.is_empty() {
            return self.whole.last_mut();
        }
        if !flags.contains(CommandFlags::MEDIUM_ACCESS) {
            return None;
        }
        let parsed = &command.parsed;
        let end = parsed.lba.saturating_add(parsed.blocks);
        let at = self.ranges.partition_point(|range| lba_end(range.scope) <= parsed.lba);
        if self.ranges.get(at).is_some_and(|range| range.first_lba() < end) {
            return self.ranges.get_mut(at);
        }
        self.fence_in_the_way_of(command)
    }

    /// The fence that keeps a command out, also one that is to be alone, if any does.
    pub(super) fn fence_in_the_way_of(&mut self, command: &Command) -> Option<&mut Closed> {
        self.fences.iter_mut().find(|fence| overlaps(fence.scope, command))
    }

    /// A command that this barrier kept out has been aborted.
    pub(super) fn forget(&mut self, id: BarrierId, scope: BarrierScope, commands: &Slab<Command>) {
        let Some(closed) = self.get_mut(id, scope) else { return };
        closed.gone += 1;
        // Aborted commands are swept when they are half of the queue, which costs each of them the same.
        if closed.gone * 2 > closed.blocked.len() {
            closed.gone = 0;
            closed.blocked.retain(|id| is_blocked(commands, *id));
        }
    }

    /// Takes out the commands that have been kept out for as long as is allowed. One that another barrier kept out before
    /// stands behind younger ones, so all are looked at.
    pub(super) fn take_overdue(&mut self, now: Nanos, allowed: Nanos, commands: &Slab<Command>, out: &mut Vec<CmdId>) {
        for closed in self.all_mut() {
            closed.gone = 0;
            closed.blocked.retain(|&id| {
                let blocked = commands.get(id.index, id.generation).filter(|c| c.state == CommandState::Blocked);
                let Some(command) = blocked else { return false };
                let overdue = command.blocked_since.after(allowed) <= now;
                if overdue {
                    out.push(id);
                }
                !overdue
            });
        }
    }

    /// Returns true when some barrier keeps a command out.
    pub(super) fn keeps_any_out(&self) -> bool {
        self.whole.iter().chain(&self.ranges).chain(&self.fences).any(|closed| !closed.blocked.is_empty())
    }
}

impl Closed {
    /// Keeps a command out.
    pub(super) fn block(&mut self, id: CmdId) {
        self.blocked.push_back(id);
    }

    /// The commands that it kept out, in the order in which they came to it; some may have been aborted.
    pub(super) fn into_blocked(self) -> VecDeque<CmdId> {
        self.blocked
    }

    fn first_lba(&self) -> u64 {
        match self.scope {
            BarrierScope::Range { lba, .. } | BarrierScope::Fence { lba, .. } => lba,
            BarrierScope::Device | BarrierScope::Abort { .. } => 0,
        }
    }
}

/// Where a barrier stands in the list of its kind.
fn position(list: &[Closed], id: BarrierId, scope: BarrierScope) -> Option<usize> {
    match scope {
        BarrierScope::Range { lba, .. } => {
            list.binary_search_by_key(&lba, Closed::first_lba).ok().filter(|at| list[*at].id == id)
        }
        _ => list.iter().position(|closed| closed.id == id),
    }
}

/// The first block behind a range.
fn lba_end(scope: BarrierScope) -> u64 {
    match scope {
        BarrierScope::Range { lba, blocks } | BarrierScope::Fence { lba, blocks } => lba.saturating_add(blocks),
        BarrierScope::Device | BarrierScope::Abort { .. } => u64::MAX,
    }
}

/// Returns true when a command touches the medium within a scope; every command is within the scopes of whole units.
pub(super) fn overlaps(scope: BarrierScope, command: &Command) -> bool {
    match scope {
        BarrierScope::Device | BarrierScope::Abort { .. } => true,
        BarrierScope::Range { lba, blocks } | BarrierScope::Fence { lba, blocks } => {
            command.parsed.flags.contains(CommandFlags::MEDIUM_ACCESS) && command.overlaps(lba, blocks)
        }
    }
}

fn is_blocked(commands: &Slab<Command>, id: CmdId) -> bool {
    commands.get(id.index, id.generation).is_some_and(|c| c.state == CommandState::Blocked)
}
