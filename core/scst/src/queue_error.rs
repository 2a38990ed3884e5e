//! QERR (SPC-6 7.5.10): what happens to the other commands of a task set when one ends with CHECK CONDITION.
//!
//! 00b: nothing. 01b: all other commands of the task set are aborted, those of other nexuses as TAS says. 11b: those of the
//! same I_T nexus. The command that has failed is answered when the others have ended, because its initiator takes them for
//! aborted then; or, when they do not end in time, without them: what still executes is not aborted then.

use crate::barrier::BarrierOwner;
use crate::command::{CommandMarks, CommandState};
use crate::engine::{Effects, Engine};
use crate::event::{BarrierScope, DeviceUpdate};
use crate::handler::Outcome;
use crate::ids::CmdId;

/// QERR: all commands of the task set.
const ALL: u8 = 0b01;
/// QERR: the commands of the same I_T nexus.
const SAME_NEXUS: u8 = 0b11;

impl Engine {
    /// Aborts what QERR demands before a command ends with CHECK CONDITION. Returns false when there is nothing to do.
    pub(crate) fn clear_queue(&mut self, id: CmdId, outcome: &Outcome, fx: &mut Effects) -> bool {
        let Some(command) = self.command(id) else { return false };
        let Some(device) = command.device else { return false };
        let session = command.session;
        let marks = CommandMarks::OWNS_BARRIER | CommandMarks::MAPPED;
        if command.state == CommandState::Settling || command.marks.intersects(marks) {
            return false;
        }
        let Some(control) = self.device(device).map(|d| d.control) else { return false };
        let others = control.queue_error == ALL && !control.task_set_per_nexus;
        if !others && !matches!(control.queue_error, ALL | SAME_NEXUS) {
            return false;
        }
        let scope = BarrierScope::Abort { by: (self.config.reactor, session), others };
        let Some(barrier) = self.request_barrier(BarrierOwner::Command(id), device, scope, fx) else { return false };
        if let Some(command) = self.command_mut(id) {
            command.outcome = *outcome;
            command.state = CommandState::Settling;
            command.marks |= CommandMarks::OWNS_BARRIER;
            command.barrier = barrier.index;
        }
        true
    }

    /// The other commands have ended, or do not end in time.
    pub(crate) fn queue_is_clear(&mut self, id: CmdId, all_have_ended: bool, fx: &mut Effects) {
        let update = DeviceUpdate { abort_failed: !all_have_ended, ..DeviceUpdate::default() };
        self.release_barrier_of(id, update, fx);
        self.settled(id, fx);
    }

    /// A command that waits for the others is aborted itself. One whose own changes are on their way ends with them.
    pub(crate) fn stop_clearing(&mut self, id: CmdId, fx: &mut Effects) {
        if self.is_clearing(id) {
            self.release_barrier_of(id, DeviceUpdate::default(), fx);
            self.finish_aborted(id, fx);
        }
    }
}
