//! Task sets (SAM-5 8.6): who may run before whom.
//!
//! Each I_T_L nexus keeps its commands in the order they arrived. With only SIMPLE commands around, every one may run
//! at once and three counters say so. With TST = 000b the logical unit has one task set for all nexuses: an ORDERED
//! command then also asks for a barrier over the whole unit, which gives the same order across reactors.

use scst_scsi::{CommandFlags, TaskAttribute};

use crate::command::{Command, CommandMarks, CommandState, NONE};
use crate::engine::{Effects, Engine};
use crate::event::Effect;
use crate::ids::CmdId;
use crate::latency::Stage;
use crate::nexus::Nexus;

/// What keeps a command from its place in the order, or has to be written down; one test for all.
const HELD_UP_OR_MEASURED: CommandMarks =
    CommandMarks::ABORTED.union(CommandMarks::UNDELIVERED).union(CommandMarks::MEASURED);

/// What older commands of the task set mean for the ones behind them.
#[derive(Default)]
struct Older {
    any: bool,
    ordered: bool,
    head_of_queue: bool,
}

impl Older {
    fn lets(&self, attribute: TaskAttribute) -> bool {
        match attribute {
            TaskAttribute::HeadOfQueue => true,
            TaskAttribute::Ordered => !self.any,
            TaskAttribute::Simple | TaskAttribute::Aca => !self.ordered && !self.head_of_queue,
        }
    }
}

/// Where in the order a command stands.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    nexus: u32,
    previous: u32,
    next: u32,
    attribute: TaskAttribute,
}

impl Place {
    pub(crate) fn of(command: &Command) -> Self {
        let &Command { nexus, previous, next, attribute, .. } = command;
        Self { nexus, previous, next, attribute }
    }
}

impl Nexus {
    /// Puts a command behind all others; returns the slot of the one before it, whose `next` it has to be, or [`NONE`].
    #[inline(always)]
    pub(crate) fn take_in(&mut self, command: &mut Command, index: u32, restricted_reordering: bool) -> u32 {
        if restricted_reordering && command.attribute == TaskAttribute::Simple {
            // What depends on no other command's work does not wait for it.
            let unblocked = command.parsed.flags.contains(CommandFlags::UNBLOCKED);
            command.attribute = if unblocked { TaskAttribute::HeadOfQueue } else { TaskAttribute::Ordered };
        }
        command.marks |= CommandMarks::IN_TASK_SET;
        command.previous = self.newest;
        command.next = NONE;
        if command.attribute != TaskAttribute::Simple {
            self.ordered += u32::from(command.attribute == TaskAttribute::Ordered);
            self.head_of_queue += u32::from(command.attribute == TaskAttribute::HeadOfQueue);
        }
        self.in_task_set += 1;
        let before = std::mem::replace(&mut self.newest, index);
        if before == NONE {
            self.oldest = index;
        }
        before
    }
}

impl Engine {
    /// Gives a command its place in the order of its nexus.
    pub(crate) fn join_task_set(&mut self, id: CmdId) {
        let Some(command) = self.commands.get_mut(id.index, id.generation) else { return };
        if command.marks.intersects(CommandMarks::IN_TASK_SET | CommandMarks::UNDELIVERED) {
            return;
        }
        let Some(nexus) = self.nexuses.at_mut(command.nexus) else { return };
        let device = command.device.and_then(|d| self.devices.get(d.index())?.as_ref());
        let before = nexus.take_in(command, id.index, device.is_some_and(|d| d.control.restricted_reordering));
        if before != NONE
            && let Some(before) = self.commands.at_mut(before)
        {
            before.next = id.index;
        }
    }

    /// A command is complete as far as the transport is concerned: it runs, or waits for its turn.
    pub(crate) fn enter_task_set(&mut self, id: CmdId, fx: &mut Effects) {
        if self.start_plain(id) {
            fx.push_back(Effect::Execute { cmd: id });
        } else {
            self.enter_task_set_slowly(id, fx);
        }
    }

    pub(crate) fn enter_task_set_slowly(&mut self, id: CmdId, fx: &mut Effects) {
        let Some(command) = self.command_mut(id) else { return };
        command.state = CommandState::Queued;
        let nexus = command.nexus;
        if command.marks.intersects(HELD_UP_OR_MEASURED) {
            if command.is_aborted() {
                self.finish_aborted(id, fx);
                return;
            }
            if command.marks.contains(CommandMarks::UNDELIVERED) {
                command.state = CommandState::Held;
                self.enter_stage(id, Stage::TargetPreExec);
                return;
            }
            // So it is measured.
            self.enter_stage(id, Stage::CheckOrder);
        }
        if nexus == NONE {
            self.start(id, fx);
            return;
        }
        self.join_task_set(id);
        if self.has_turn(id) {
            self.start(id, fx);
        } else if let Some(nexus) = self.command(id).map(|c| c.nexus).and_then(|n| self.nexuses.at_mut(n)) {
            nexus.queued += 1;
        }
    }

    fn has_turn(&self, id: CmdId) -> bool {
        let Some(command) = self.command(id) else { return false };
        let Some(nexus) = self.nexuses.at(command.nexus) else { return true };
        match command.attribute {
            TaskAttribute::HeadOfQueue => true,
            TaskAttribute::Simple | TaskAttribute::Aca if nexus.ordered == 0 && nexus.head_of_queue == 0 => true,
            attribute => self.older_than(id.index, nexus.oldest).lets(attribute),
        }
    }

    /// What stands before a command in its list.
    fn older_than(&self, slot: u32, oldest: u32) -> Older {
        let mut older = Older::default();
        let mut at = oldest;
        while at != slot && at != NONE {
            let Some(command) = self.commands.at(at) else { break };
            older.count(command);
            at = command.next;
        }
        older
    }

    /// Takes a command out of the order; those behind it may get their turn.
    pub(crate) fn leave_task_set(&mut self, id: CmdId, fx: &mut Effects) {
        let Some(command) = self.commands.get_mut(id.index, id.generation) else { return };
        if !command.marks.contains(CommandMarks::IN_TASK_SET) {
            return;
        }
        command.marks.remove(CommandMarks::IN_TASK_SET);
        let place = Place::of(command);
        self.close_gap(id.index, place, fx);
    }

    /// The command with this slot has left its place.
    #[inline(always)]
    pub(crate) fn close_gap(&mut self, index: u32, place: Place, fx: &mut Effects) {
        let Place { nexus: slot, previous, next, attribute } = place;
        if previous != NONE
            && let Some(previous) = self.commands.at_mut(previous)
        {
            previous.next = next;
        }
        if next != NONE
            && let Some(next) = self.commands.at_mut(next)
        {
            next.previous = previous;
        }
        let Some(nexus) = self.nexuses.at_mut(slot) else { return };
        if nexus.oldest == index {
            nexus.oldest = next;
        }
        if nexus.newest == index {
            nexus.newest = previous;
        }
        nexus.in_task_set -= 1;
        if attribute != TaskAttribute::Simple {
            fx.keep_order();
            nexus.ordered -= u32::from(attribute == TaskAttribute::Ordered);
            nexus.head_of_queue -= u32::from(attribute == TaskAttribute::HeadOfQueue);
        }
        if nexus.queued > 0 {
            self.give_turns(slot, fx);
        }
    }

    /// Starts every queued command of a nexus whose turn has come. Commands that complete while this goes on come
    /// back here themselves, so each start begins a fresh look.
    #[cold]
    #[inline(never)]
    fn give_turns(&mut self, slot: u32, fx: &mut Effects) {
        while let Some(id) = self.next_turn(slot) {
            if let Some(nexus) = self.nexuses.at_mut(slot) {
                nexus.queued -= 1;
            }
            self.start(id, fx);
        }
    }

    fn next_turn(&self, slot: u32) -> Option<CmdId> {
        let nexus = self.nexuses.at(slot)?;
        if nexus.queued == 0 {
            return None;
        }
        let mut older = Older::default();
        let mut at = nexus.oldest;
        while at != NONE {
            let command = self.commands.at(at)?;
            if command.state == CommandState::Queued && older.lets(command.attribute) {
                return self.commands.name(at).map(|(index, generation)| CmdId { index, generation });
            }
            older.count(command);
            at = command.next;
        }
        None
    }

    /// A queued command ends without having had its turn.
    pub(crate) fn unqueue(&mut self, id: CmdId) {
        let Some(command) = self.command(id) else { return };
        if command.state == CommandState::Queued && command.marks.contains(CommandMarks::IN_TASK_SET) {
            let slot = command.nexus;
            if let Some(nexus) = self.nexuses.at_mut(slot) {
                nexus.queued -= 1;
            }
        }
    }
}

impl Older {
    fn count(&mut self, command: &Command) {
        self.any = true;
        match command.attribute {
            TaskAttribute::Ordered => self.ordered = true,
            TaskAttribute::HeadOfQueue => self.head_of_queue = true,
            TaskAttribute::Simple | TaskAttribute::Aca => {}
        }
    }
}
