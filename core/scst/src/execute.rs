//! A command has its turn: the checks of SAM and SPC, then the device handler or the core.

use scst_scsi::{Asc, CommandFlags, ScsiStatus, SenseData, SenseKey, TaskAttribute};

use crate::attention::{REPORTED_LUNS_CHANGED, attention_sense};
use crate::command::{CommandMarks, CommandState, NONE};
use crate::engine::{Effects, Engine, no_lun};
use crate::event::{BarrierScope, Effect};
use crate::handler::Outcome;
use crate::ids::{CmdId, DeviceId};
use crate::latency::Stage;

/// WRITE PROTECTED.
const WRITE_PROTECTED: SenseData = SenseData::new(SenseKey::DATA_PROTECT, Asc(0x2700));
/// LOGICAL UNIT SOFTWARE WRITE PROTECTED.
const SOFTWARE_WRITE_PROTECTED: SenseData = SenseData::new(SenseKey::DATA_PROTECT, Asc(0x2702));

impl Engine {
    /// Runs a command that nothing can keep from running, which is what nearly every command is: ordinary, alone
    /// concerned with what it does, to a unit without reservation, barrier or attention. True: the device handler is to
    /// execute it. False: it takes the long way, which would come to the same.
    #[inline(always)]
    pub(crate) fn start_plain(&mut self, id: CmdId) -> bool {
        let Some(command) = self.commands.get_mut(id.index, id.generation) else { return false };
        let Some(device) = command.device else { return false };
        let Some(nexus) = self.nexuses.at_mut(command.nexus) else { return false };
        let Some(device) = self.devices.get_mut(device.index()).and_then(Option::as_mut) else { return false };
        let flags = command.parsed.flags;
        if command.marks - CommandMarks::BORROWED != self.plain_marks
            || command.attribute != TaskAttribute::Simple
            || nexus.ordered | nexus.head_of_queue != 0
            || command.reject.is_some()
            || !nexus.access.lets(flags)
            || !device.barriers.is_empty()
        {
            return false;
        }
        command.state = CommandState::Executing;
        device.executing += 1;
        true
    }

    /// Runs a command whose turn has come, or finds out why it may not.
    pub(crate) fn start(&mut self, id: CmdId, fx: &mut Effects) {
        let now = self.now;
        let Some(command) = self.command_mut(id) else { return };
        if command.state != CommandState::Blocked {
            command.state = CommandState::Blocked;
            command.blocked_since = now;
        }
        let Some(device) = command.device else {
            self.start_without_lun(id, fx);
            return;
        };
        // What has to be alone waits at the device's home for its turn, not here; but for parked writes it waits here.
        let scope = self.scope_of(id);
        if self.keep_out(id, device, scope.is_some()) {
            self.enter_stage(id, Stage::CheckBlocking);
            return;
        }
        if let Some(outcome) = self.refusal(id, device) {
            self.complete(id, &outcome, fx);
            return;
        }
        match scope {
            Some(scope) => self.request_barrier_for(id, device, scope, fx),
            None => self.execute(id, fx),
        }
    }

    /// Hands a command that passed all checks to whoever executes it.
    pub(crate) fn execute(&mut self, id: CmdId, fx: &mut Effects) {
        let Some(command) = self.command_mut(id) else { return };
        command.state = CommandState::Executing;
        let core = command.parsed.flags.contains(CommandFlags::CORE);
        if let Some(device) = command.device.and_then(|d| self.device_mut(d)) {
            device.executing += 1;
        }
        fx.push_back(if core { Effect::ExecuteCore { cmd: id } } else { Effect::Execute { cmd: id } });
    }

    fn start_without_lun(&mut self, id: CmdId, fx: &mut Effects) {
        let Some(command) = self.command_mut(id) else { return };
        if let Some(sense) = command.reject {
            self.complete(id, &Outcome::check(sense), fx);
        } else if command.parsed.flags.contains(CommandFlags::CORE) {
            self.execute(id, fx);
        } else {
            self.complete(id, &Outcome::check(no_lun()), fx);
        }
    }

    /// The checks in the original's order: reservation, unit attention, the CDB itself, write protection.
    fn refusal(&mut self, id: CmdId, device: DeviceId) -> Option<Outcome> {
        if let Some(conflict) = self.reservation_conflict(id, device) {
            return Some(conflict);
        }
        let command = self.commands.get(id.index, id.generation)?;
        let flags = command.parsed.flags;
        let (slot, reject) = (command.nexus, command.reject);
        let nexus = self.nexuses.at_mut(slot)?;
        if !nexus.attentions().is_empty() && !flags.contains(CommandFlags::SKIPS_UNIT_ATTENTION) {
            let asc = nexus.take_attention()?;
            self.attention_told(slot, asc);
            return Some(Outcome::check(attention_sense(asc)));
        }
        if let Some(sense) = reject {
            return Some(Outcome::check(sense));
        }
        if flags.contains(CommandFlags::MEDIUM_ACCESS)
            && self.device(device).is_some_and(|d| d.parked >= self.config.limits.parked_per_device)
        {
            // Its storage does not answer; what would come on top could never be let go of.
            return Some(Outcome::status(ScsiStatus::BUSY));
        }
        self.write_protection(id, device)
    }

    /// Whether the medium is protected from the command.
    pub(crate) fn write_protection(&self, id: CmdId, device: DeviceId) -> Option<Outcome> {
        let command = self.command(id).filter(|c| c.parsed.flags.contains(CommandFlags::WRITES_MEDIUM))?;
        if self.nexuses.at(command.nexus)?.read_only {
            return Some(Outcome::check(WRITE_PROTECTED));
        }
        self.device(device)?.control.write_protect.then_some(Outcome::check(SOFTWARE_WRITE_PROTECTED))
    }

    /// SPC-2 5.5.1: whether another nexus's reservation refuses the command.
    pub(crate) fn reservation_conflict(&self, id: CmdId, device: DeviceId) -> Option<Outcome> {
        let holder = self.device(device)?.reservation?;
        let command = self.command(id)?;
        let allowed = command.parsed.flags.contains(CommandFlags::RESERVED_OK) || self.is_nexus(command.nexus, holder);
        (!allowed).then_some(Outcome::status(ScsiStatus::RESERVATION_CONFLICT))
    }

    /// REPORTED LUNS DATA HAS CHANGED waits on every LUN of a session; told once, it is told (SPC-6 6.36 and the
    /// original).
    pub(crate) fn attention_told(&mut self, slot: u32, asc: Asc) {
        if asc != REPORTED_LUNS_CHANGED {
            return;
        }
        let Some(session) = self.nexuses.at(slot).map(|n| n.session) else { return };
        self.clear_attention(session, asc);
    }

    /// Clears a condition on every LUN of a session.
    pub(crate) fn clear_attention(&mut self, session: crate::ids::SessionId, asc: Asc) {
        let Some(session) = self.sessions.get(session.index, session.generation) else { return };
        for &slot in session.by_lun.iter().filter(|s| **s != NONE) {
            if let Some(nexus) = self.nexuses.at_mut(slot) {
                nexus.clear_attention(asc);
            }
        }
    }

    /// What a command must have for itself, if anything.
    fn scope_of(&self, id: CmdId) -> Option<BarrierScope> {
        let command = self.command(id)?;
        let flags = command.parsed.flags;
        if flags.contains(CommandFlags::UNBLOCKED) {
            return None;
        }
        if flags.contains(CommandFlags::EXCLUSIVE) {
            return Some(BarrierScope::Device);
        }
        let device = self.device(command.device?)?;
        let shared_set = !device.control.task_set_per_nexus;
        if shared_set && command.attribute == TaskAttribute::Ordered {
            return Some(BarrierScope::Device);
        }
        // No medium has a last block with this number; so the end of a range is always behind its beginning.
        let (lba, blocks) = (command.parsed.lba.min(u64::MAX - 1), command.parsed.blocks.max(1));
        flags.contains(CommandFlags::RANGE_LOCK).then_some(BarrierScope::Range { lba, blocks })
    }
}
