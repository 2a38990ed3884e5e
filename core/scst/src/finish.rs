//! From execution to the free slot: outcome, side effects, response, release.

use scst_scsi::{ScsiStatus, SenseData};

use crate::Nanos;
use crate::attention::COMMANDS_CLEARED;
use crate::buffer::{Extent, SgList};
use crate::command::{Command, CommandMarks, CommandState, NONE};
use crate::engine::{Effects, Engine};
use crate::event::{DeviceUpdate, Effect};
use crate::handler::Outcome;
use crate::ids::{CmdId, TmfId};
use crate::latency::Stage;
use crate::task_set::Place;

/// The marks of a plain command while latencies are measured.
const MEASURED_IN_TASK_SET: CommandMarks = CommandMarks::IN_TASK_SET.union(CommandMarks::MEASURED);

/// In place of the number of functions that have aborted a command: something else has (QERR).
const NO_FUNCTION: u16 = u16::MAX;

impl Engine {
    /// Whoever executed the command is done with it. True: it is to be answered now ([`Effect::Respond`] without the
    /// detour; what waits in `fx` is not about it, for whatever concerned it would have left a mark).
    #[inline(always)]
    pub(crate) fn executed<const MEASURED: bool>(&mut self, id: CmdId, outcome: &Outcome, fx: &mut Effects) -> bool {
        let plain = if MEASURED { MEASURED_IN_TASK_SET } else { CommandMarks::IN_TASK_SET };
        let Some(command) = self.commands.get_mut(id.index, id.generation) else { return false };
        debug_assert_eq!(command.state, CommandState::Executing, "one completion per execution");
        if command.state != CommandState::Executing {
            return false;
        }
        let good = outcome.status == ScsiStatus::GOOD && outcome.sense.is_none() && outcome.effects.is_none();
        if command.marks - CommandMarks::BORROWED != plain || !good {
            return self.executed_specially::<MEASURED>(id, outcome, fx);
        }
        if MEASURED && let Some(latency) = &mut self.latency {
            latency.executed(id, command, self.now);
        }
        if let Some(device) = command.device
            && let Some(Some(device)) = self.devices.get_mut(device.index())
        {
            device.executing -= 1;
        }
        // `complete`, for what nobody waits for.
        command.marks.remove(CommandMarks::IN_TASK_SET);
        // Made anew: to copy in wide moves what has just been written in narrow ones would wait for those.
        command.outcome = Outcome::good(outcome.transferred);
        command.state = CommandState::Responding;
        let place = Place::of(command);
        self.close_gap(id.index, place, fx);
        true
    }

    /// The end of a command that did not end well, is measured where nobody expected it, was aborted, is waited for, owns a
    /// barrier, or changes something. Returns the same.
    #[cold]
    fn executed_specially<const MEASURED: bool>(&mut self, id: CmdId, outcome: &Outcome, fx: &mut Effects) -> bool {
        let Some(command) = self.commands.get_mut(id.index, id.generation) else { return false };
        if command.marks.contains(CommandMarks::MEASURED) {
            if !MEASURED && command.marks - CommandMarks::BORROWED == MEASURED_IN_TASK_SET {
                return self.executed::<true>(id, outcome, fx);
            }
            if let Some(latency) = &mut self.latency {
                latency.executed(id, command, self.now);
            }
        }
        if command.marks.contains(CommandMarks::MAPPED) {
            if !command.is_aborted() {
                self.complete(id, outcome, fx);
                return false;
            }
            command.marks.remove(CommandMarks::MAPPED);
        }
        self.no_longer_executing(id);
        // What the command did has happened, also when it was aborted meanwhile: side effects are not optional.
        if !self.apply_side_effects(id, outcome, fx) {
            self.end_or_abort(id, outcome, fx);
        }
        false
    }

    fn end_or_abort(&mut self, id: CmdId, outcome: &Outcome, fx: &mut Effects) {
        if self.command(id).is_some_and(Command::is_aborted) {
            self.finish_aborted(id, fx);
        } else {
            self.complete(id, outcome, fx);
        }
    }

    /// Every engine has applied what a command has changed.
    pub(crate) fn settled(&mut self, id: CmdId, fx: &mut Effects) {
        let Some(outcome) = self.command(id).map(|c| c.outcome) else { return };
        self.end_or_abort(id, &outcome, fx);
    }

    fn no_longer_executing(&mut self, id: CmdId) {
        let device = self.command(id).and_then(|c| c.device);
        if let Some(found) = device.and_then(|d| self.device_mut(d)) {
            found.executing -= 1;
        }
    }

    /// A READ is complete with page-cached data instead of a buffer. They are read when they are sent, so everything
    /// that must not show in them (what is ordered behind it, who must be alone) waits for that.
    pub fn executed_mapped(&mut self, now: Nanos, id: CmdId, pages: Extent, fx: &mut Effects) {
        let Some(command) = self.command_mut(id) else { return };
        debug_assert_eq!(command.state, CommandState::Executing, "one completion per execution");
        let mut sg = SgList::default();
        sg.push(pages);
        let buffer = std::mem::replace(&mut command.sg, sg);
        command.marks |= CommandMarks::MAPPED;
        if !buffer.is_empty() {
            fx.release(&buffer);
        }
        self.now = now;
        self.executed::<false>(id, &Outcome::good(pages.len), fx);
        self.settle(fx);
    }

    #[cold]
    #[inline(never)]
    fn special_sent(&mut self, id: CmdId, marks: CommandMarks, fx: &mut Effects) {
        if marks.contains(CommandMarks::MAPPED) {
            self.mapped_sent(id, fx);
        }
        if marks.contains(CommandMarks::MEASURED)
            && let (Some(latency), Some(command)) = (&mut self.latency, self.commands.get(id.index, id.generation))
        {
            latency.finished(id, command, self.now);
        }
    }

    /// Mapped data have been sent, or will not be.
    fn mapped_sent(&mut self, id: CmdId, fx: &mut Effects) {
        self.no_longer_executing(id);
        if let Some(command) = self.command_mut(id) {
            command.marks.remove(CommandMarks::MAPPED);
        }
        self.leave_task_set(id, fx);
        self.end_waits(id, fx);
    }

    /// Spreads what a command has changed. Returns true when it has to wait until every engine knows.
    fn apply_side_effects(&mut self, id: CmdId, outcome: &Outcome, fx: &mut Effects) -> bool {
        let effects = &outcome.effects;
        let Some(command) = self.command(id) else { return false };
        let (slot, device, owns) = (command.nexus, command.device, command.marks.contains(CommandMarks::OWNS_BARRIER));
        // A reset of its nexus has let the medium go; an aborted command does not prevent its removal again.
        let prevents = effects.prevent_removal.filter(|prevents| !(*prevents && command.is_aborted()));
        if let Some(nexus) = self.nexuses.at_mut(slot) {
            nexus.holds |= prevents == Some(true);
        }
        let update = DeviceUpdate {
            control: effects.control,
            prevention: prevents.and_then(|p| Some((self.nexus_id(slot)?, p))),
            attention: effects.attention_for_others,
            attention_except: effects.attention_for_others.and_then(|_| self.nexus_id(slot)),
            ..DeviceUpdate::default()
        };
        let settles = update.control.is_some() || update.prevention.is_some();
        debug_assert!(owns || !settles, "such a command must be EXCLUSIVE");
        if owns {
            return self.spread(id, outcome, update, fx);
        }
        if let Some(device) = device.filter(|_| settles || update.attention.is_some()) {
            self.update_device(device, update, fx);
        }
        false
    }

    /// An owner is done. Returns true when it waits until every engine has applied what it has changed.
    fn spread(&mut self, id: CmdId, outcome: &Outcome, update: DeviceUpdate, fx: &mut Effects) -> bool {
        if let Some(command) = self.command_mut(id) {
            command.outcome = *outcome;
        }
        self.settle_barrier_of(id, update, fx)
    }

    /// The core has executed a command that owns a barrier and changes the state of the device.
    pub(crate) fn executed_with_update(&mut self, id: CmdId, update: DeviceUpdate, fx: &mut Effects) {
        self.no_longer_executing(id);
        let outcome = Outcome::good(0);
        if !self.spread(id, &outcome, update, fx) {
            self.end_or_abort(id, &outcome, fx);
        }
    }

    /// Ends a command that was not aborted: it leaves the task set and is answered.
    pub(crate) fn complete(&mut self, id: CmdId, outcome: &Outcome, fx: &mut Effects) {
        if outcome.status == ScsiStatus::CHECK_CONDITION && self.clear_queue(id, outcome, fx) {
            return;
        }
        let Some(command) = self.command_mut(id) else { return };
        command.outcome = *outcome;
        command.state = CommandState::Responding;
        if command.marks.contains(CommandMarks::MAPPED) {
            // The rest follows in `mapped_sent`.
            fx.push_back(Effect::Respond { cmd: id });
            return;
        }
        let marks = command.marks;
        // Before what may run once it has left: a command that was ordered behind it must not be answered first.
        fx.push_back(Effect::Respond { cmd: id });
        self.leave_task_set(id, fx);
        if marks.contains(CommandMarks::MEASURED) {
            self.enter_stage(id, Stage::TransmitWait);
        }
        if marks.contains(CommandMarks::AWAITED) {
            self.end_waits(id, fx);
        }
    }

    /// Ends a command with a bare status before it entered the task set.
    #[cold]
    #[inline(never)]
    pub(crate) fn respond_status(&mut self, id: CmdId, status: ScsiStatus, fx: &mut Effects) {
        self.complete(id, &Outcome::status(status), fx);
    }

    /// The response is gone, or cannot go any more.
    #[inline(always)]
    pub(crate) fn response_sent(&mut self, id: CmdId, fx: &mut Effects) {
        let Some(command) = self.command(id).filter(|c| c.state == CommandState::Responding) else { return };
        let marks = command.marks;
        if marks.intersects(CommandMarks::MAPPED | CommandMarks::MEASURED) {
            self.special_sent(id, marks, fx);
        }
        self.free(id, fx);
    }

    /// Marks a command as aborted and ends it as soon as nothing can touch the medium or the buffer any more. `by` is the
    /// function of its own session that aborts it.
    pub(crate) fn abort(&mut self, id: CmdId, marks: CommandMarks, by: Option<TmfId>, fx: &mut Effects) {
        let Some(command) = self.commands.get_mut(id.index, id.generation) else { return };
        if command.state == CommandState::Responding {
            // Its work is done and its answer is on the way; only a vanished session changes that.
            command.marks |= marks & CommandMarks::SESSION_GONE;
            return;
        }
        let again = command.is_aborted();
        command.marks |= marks | CommandMarks::ABORTED;
        if !again {
            command.aborters = NO_FUNCTION;
        }
        if let Some(tmf) = by.and_then(|by| self.tmfs.get_mut(by.index, by.generation)) {
            command.aborters = if command.aborters == NO_FUNCTION { 1 } else { command.aborters + 1 };
            tmf.aborted.push(id);
        }
        match command.state {
            CommandState::Executing if !again => fx.push_back(Effect::CancelIo { cmd: id }),
            CommandState::AwaitingData if !again => fx.push_back(Effect::AbortData { cmd: id }),
            CommandState::Settling => self.stop_clearing(id, fx),
            CommandState::AwaitingBuffer | CommandState::Executing | CommandState::AwaitingData => {}
            CommandState::Queued => {
                self.unqueue(id);
                self.finish_aborted(id, fx);
            }
            CommandState::Held => self.finish_aborted(id, fx),
            CommandState::Blocked => {
                command.state = CommandState::Responding;
                self.forget_blocked(id);
                self.finish_aborted(id, fx);
            }
            CommandState::AwaitingBarrier => {
                self.release_barrier_of(id, DeviceUpdate::default(), fx);
                self.finish_aborted(id, fx);
            }
            CommandState::Responding => {}
        }
    }

    /// Ends an aborted command: with TASK ABORTED when another nexus aborted it and TAS asks for that, or when the functions
    /// that aborted it have failed; else silently.
    #[cold]
    #[inline(never)]
    pub(crate) fn finish_aborted(&mut self, id: CmdId, fx: &mut Effects) {
        let Some(command) = self.commands.get_mut(id.index, id.generation) else { return };
        let (marks, slot, device) = (command.marks, command.nexus, command.device);
        command.state = CommandState::Responding;
        let by_other = marks.contains(CommandMarks::BY_OTHER) && !marks.contains(CommandMarks::SESSION_GONE);
        let own = !marks.intersects(CommandMarks::BY_OTHER | CommandMarks::SESSION_GONE);
        // The functions that aborted it have failed meanwhile, so it must not vanish.
        let failed = own && command.aborters == 0;
        let device = device.and_then(|d| self.devices.get(d.index())).and_then(Option::as_ref);
        let control = device.map(|d| d.control).unwrap_or_default();
        if failed || by_other && control.task_aborted_status {
            command.outcome = Outcome::status(ScsiStatus::TASK_ABORTED);
            fx.push_back(Effect::Respond { cmd: id });
            self.leave_task_set(id, fx);
            self.end_waits(id, fx);
            return;
        }
        self.leave_task_set(id, fx);
        if by_other {
            // SAM-5 5.14.5: the initiator hears of it through a unit attention.
            if let Some(nexus) = self.nexuses.at_mut(slot) {
                nexus.establish(COMMANDS_CLEARED);
            }
        }
        let Some(command) = self.command_mut(id) else { return };
        let (session, driver_tag) = (command.session, command.driver_tag);
        if own && command.aborters != NO_FUNCTION {
            command.marks |= CommandMarks::HELD_BACK;
            self.end_waits(id, fx);
            return;
        }
        if marks.contains(CommandMarks::PARKED) {
            self.unpark(id, fx);
        } else {
            fx.push_back(Effect::Dropped { session, driver_tag, cmd: id });
        }
        self.end_waits(id, fx);
        self.free(id, fx);
    }

    /// A function that aborted a command is at its end. The command has been aborted with it; or else, when no other one
    /// has, it must not vanish: its initiator is told that the function has failed.
    pub(crate) fn aborter_ends(&mut self, id: CmdId, aborted: bool, fx: &mut Effects) {
        let Some(command) = self.command_mut(id) else { return };
        if command.aborters != NO_FUNCTION {
            command.aborters = command.aborters.saturating_sub(1);
        }
        if !command.marks.contains(CommandMarks::HELD_BACK) {
            return;
        }
        if aborted {
            let (session, driver_tag) = (command.session, command.driver_tag);
            fx.push_back(Effect::Dropped { session, driver_tag, cmd: id });
            self.free(id, fx);
        } else if command.aborters == 0 {
            command.marks.remove(CommandMarks::HELD_BACK);
            command.outcome = Outcome::status(ScsiStatus::TASK_ABORTED);
            fx.push_back(Effect::Respond { cmd: id });
        }
    }

    /// Frees the slot and what hangs on it.
    #[inline(always)]
    fn free(&mut self, id: CmdId, fx: &mut Effects) {
        let Some(command) = self.commands.retire(id.index, id.generation) else { return };
        let (session, nexus, reserved, marks) = (command.session, command.nexus, command.reserved, command.marks);
        if !command.sg.is_empty() && !marks.contains(CommandMarks::BORROWED) {
            fx.release(&command.sg);
        }
        if nexus != NONE {
            self.nexus_lost_command(nexus, fx);
        }
        if marks.intersects(CommandMarks::PARKED | CommandMarks::LOOSE | CommandMarks::RAW_SENSE) {
            self.raw_senses.remove(&id.index);
            if marks.contains(CommandMarks::PARKED) {
                // Its session has gone on without it.
                return;
            }
            if marks.contains(CommandMarks::LOOSE) {
                self.no_longer_loose(session, id.index);
            }
        }
        self.command_left(session, reserved, fx);
    }

    #[inline(always)]
    fn nexus_lost_command(&mut self, slot: u32, fx: &mut Effects) {
        let Some(nexus) = self.nexuses.at_mut(slot) else { return };
        nexus.commands -= 1;
        if nexus.removed && nexus.commands == 0 {
            self.drop_nexus(slot, fx);
        }
    }

    /// A command with nothing but sense data to say, for the shard when a device vanished under it.
    pub fn fail(&mut self, now: Nanos, id: CmdId, sense: SenseData, fx: &mut Effects) {
        let place = fx.place();
        if self.executed_at::<false>(now, id, &Outcome::check(sense), fx) {
            fx.insert(place, Effect::Respond { cmd: id });
        }
    }

    /// The buffer of a command, to be released by nobody but the engine; for tests and checkers.
    pub fn buffers_in_use(&self) -> impl Iterator<Item = &SgList> {
        let own = self.commands.iter().filter(|(_, _, c)| !c.marks.contains(CommandMarks::BORROWED));
        own.map(|(_, _, c)| &c.sg).filter(|sg| !sg.is_empty())
    }
}
