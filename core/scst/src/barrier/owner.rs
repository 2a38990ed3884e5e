//! Barriers that commands and task management functions of this engine have asked for.

use scst_scsi::{DeviceType, ScsiStatus, opcode};

use crate::Nanos;
use crate::command::{CommandMarks, CommandState, NONE};
use crate::engine::{Effects, Engine, no_lun};
use crate::event::{BarrierId, BarrierScope, DeviceUpdate, Effect, Message};
use crate::handler::Outcome;
use crate::ids::{CmdId, DeviceId, ReactorId, TmfId};
use crate::latency::Stage;
use crate::slab::Vacant;

/// What asked for a barrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BarrierOwner {
    Command(CmdId),
    Tmf(TmfId),
}

/// A barrier that this engine owns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnedBarrier {
    pub(crate) device: DeviceId,
    pub(crate) owner: BarrierOwner,
    scope: BarrierScope,
    /// When it was asked for; from then on when it was granted.
    since: Nanos,
    granted: bool,
    /// The operations of its owner have been cancelled.
    cancelled: bool,
    /// It has been released: so many engines have not applied yet what has changed.
    opening: u16,
}

/// What the look after an owner finds.
enum Overdue {
    /// It has waited too long to be alone.
    Waiting,
    /// It has waited too long for the commands that QERR aborts.
    Clearing,
    /// It has worked too long.
    Working,
}

impl Engine {
    /// Makes a command wait until it is alone.
    pub(crate) fn request_barrier_for(&mut self, id: CmdId, device: DeviceId, scope: BarrierScope, fx: &mut Effects) {
        if let Some(command) = self.command_mut(id) {
            command.state = CommandState::AwaitingBarrier;
        }
        self.enter_stage(id, Stage::CheckBlocking);
        self.own_barrier(id, device, scope, fx);
    }

    /// Asks for a barrier that a command owns. A command without one is BUSY.
    pub(crate) fn own_barrier(&mut self, id: CmdId, device: DeviceId, scope: BarrierScope, fx: &mut Effects) {
        match (self.request_barrier(BarrierOwner::Command(id), device, scope, fx), self.command_mut(id)) {
            (Some(barrier), Some(command)) => {
                command.marks |= CommandMarks::OWNS_BARRIER;
                command.barrier = barrier.index;
            }
            _ => self.complete(id, &Outcome::status(ScsiStatus::BUSY), fx),
        }
    }

    /// Asks for the fence of a command that is to be parked.
    pub(crate) fn request_fence(&mut self, id: CmdId, device: DeviceId, scope: BarrierScope, fx: &mut Effects) {
        if let Some(barrier) = self.request_barrier(BarrierOwner::Command(id), device, scope, fx)
            && let Some(command) = self.command_mut(id)
        {
            command.marks |= CommandMarks::OWNS_BARRIER | CommandMarks::FENCED;
            command.barrier = barrier.index;
        }
    }

    /// Asks the home engine for a barrier. Returns nothing when there are too many.
    pub(crate) fn request_barrier(
        &mut self,
        owner: BarrierOwner,
        device: DeviceId,
        scope: BarrierScope,
        fx: &mut Effects,
    ) -> Option<BarrierId> {
        let owned =
            OwnedBarrier { device, owner, scope, since: self.now, granted: false, cancelled: false, opening: 0 };
        let (index, generation) = self.owned.insert(owned)?;
        self.unit_resets += u32::from(matches!(owner, BarrierOwner::Tmf(_)));
        let barrier = BarrierId { owner: self.config.reactor, index, generation };
        self.post(self.home(device), Message::BarrierRequest { device, barrier, scope }, fx);
        self.keep_looking();
        Some(barrier)
    }

    /// Gives up the barrier that a command owns.
    pub(crate) fn release_barrier_of(&mut self, id: CmdId, update: DeviceUpdate, fx: &mut Effects) {
        let Some(command) = self.command_mut(id) else { return };
        if !command.marks.contains(CommandMarks::OWNS_BARRIER) {
            return;
        }
        command.marks.remove(CommandMarks::OWNS_BARRIER);
        let slot = std::mem::replace(&mut command.barrier, NONE);
        if let Some((index, generation)) = self.owned.name(slot) {
            self.release_barrier(BarrierId { owner: self.config.reactor, index, generation }, update, fx);
        }
    }

    /// Gives a barrier up. Returns what owned it, if it was owned still.
    pub(crate) fn release_barrier(
        &mut self,
        barrier: BarrierId,
        update: DeviceUpdate,
        fx: &mut Effects,
    ) -> Option<BarrierOwner> {
        let OwnedBarrier { device, scope, owner, .. } = self.take_owned(barrier)?;
        let message = Message::BarrierRelease { device, barrier, scope, update, acknowledge: false };
        self.post(self.home(device), message, fx);
        Some(owner)
    }

    /// Gives up the barrier of a command that has changed something. Returns true when the command has to wait until
    /// every engine has applied the change ([`Engine::settled`] follows): what does not wait for barriers must not find
    /// the old state after the command was answered.
    pub(crate) fn settle_barrier_of(&mut self, id: CmdId, update: DeviceUpdate, fx: &mut Effects) -> bool {
        let Some(command) = self.command(id).filter(|c| c.marks.contains(CommandMarks::OWNS_BARRIER)) else {
            return false;
        };
        let owned = self.owned.name(command.barrier);
        if update == DeviceUpdate::default() {
            self.release_barrier_of(id, update, fx);
            return false;
        }
        let Some((index, generation)) = owned else { return false };
        if let Some(command) = self.command_mut(id) {
            command.state = CommandState::Settling;
        }
        self.settle_barrier(BarrierId { owner: self.config.reactor, index, generation }, update, fx);
        true
    }

    /// Gives a barrier up with a change that the owner waits for.
    pub(crate) fn settle_barrier(&mut self, barrier: BarrierId, update: DeviceUpdate, fx: &mut Effects) {
        let engines = self.config.reactors.max(1);
        let Some(owned) = self.owned.get_mut(barrier.index, barrier.generation) else { return };
        owned.opening = engines;
        let (device, scope) = (owned.device, owned.scope);
        let message = Message::BarrierRelease { device, barrier, scope, update, acknowledge: true };
        self.post(self.home(device), message, fx);
    }

    /// One more engine has applied what the owner has changed; after the last one the owner goes on.
    pub(super) fn opened(&mut self, barrier: BarrierId, fx: &mut Effects) {
        let Some(owned) = self.owned.get_mut(barrier.index, barrier.generation) else { return };
        owned.opening = owned.opening.saturating_sub(1);
        if owned.opening > 0 {
            return;
        }
        match self.take_owned(barrier).map(|owned| owned.owner) {
            Some(BarrierOwner::Command(id)) => {
                if let Some(command) = self.command_mut(id) {
                    command.marks.remove(CommandMarks::OWNS_BARRIER);
                }
                self.settled(id, fx);
            }
            Some(BarrierOwner::Tmf(tmf)) => self.tmf_step_done(tmf, fx),
            None => {}
        }
    }

    fn owner_of(&self, barrier: BarrierId) -> Option<BarrierOwner> {
        if barrier.owner != self.config.reactor {
            return None;
        }
        Some(self.owned.get(barrier.index, barrier.generation)?.owner)
    }

    /// The function that owns a barrier, if it is one of this engine.
    pub(super) fn function_of(&self, barrier: BarrierId) -> Option<TmfId> {
        match self.owner_of(barrier)? {
            BarrierOwner::Tmf(tmf) => Some(tmf),
            BarrierOwner::Command(_) => None,
        }
    }

    /// Returns true while a command waits for those that QERR aborts.
    pub(crate) fn is_clearing(&self, id: CmdId) -> bool {
        let owner = self.command(id).filter(|c| c.marks.contains(CommandMarks::OWNS_BARRIER));
        let owned = owner.and_then(|c| self.owned.at(c.barrier));
        owned.is_some_and(|owned| owned.opening == 0 && matches!(owned.scope, BarrierScope::Abort { .. }))
    }

    /// The command that owns a barrier, if it is one of this engine.
    pub(super) fn command_of(&self, barrier: BarrierId) -> Option<CmdId> {
        match self.owner_of(barrier)? {
            BarrierOwner::Command(id) => Some(id),
            BarrierOwner::Tmf(_) => None,
        }
    }

    fn take_owned(&mut self, barrier: BarrierId) -> Option<OwnedBarrier> {
        let owned = self.owned.remove(barrier.index, barrier.generation)?;
        self.unit_resets -= u32::from(matches!(owned.owner, BarrierOwner::Tmf(_)));
        Some(owned)
    }

    /// Gives up the barriers that a task management function waits for. Where it is alone already, the reset of the device
    /// is on its way, and every engine has to hear of it.
    pub(crate) fn release_barriers_of(&mut self, tmf: TmfId, update: DeviceUpdate, fx: &mut Effects) {
        let owned: Vec<(u32, u32)> = (self.owned.iter())
            .filter(|(_, _, owned)| owned.owner == BarrierOwner::Tmf(tmf) && !owned.granted)
            .map(|(index, generation, _)| (index, generation))
            .collect();
        for (index, generation) in owned {
            self.release_barrier(BarrierId { owner: self.config.reactor, index, generation }, update, fx);
        }
    }

    /// The owner is alone now.
    pub(super) fn granted(&mut self, device: DeviceId, barrier: BarrierId, fx: &mut Effects) {
        let now = self.now;
        let Some(owned) = self.owned.get_mut(barrier.index, barrier.generation) else { return };
        owned.granted = true;
        owned.since = now;
        match (owned.owner, owned.scope) {
            (BarrierOwner::Command(id), BarrierScope::Fence { .. }) => self.detach(id, fx),
            (BarrierOwner::Command(id), BarrierScope::Abort { .. }) => self.queue_is_clear(id, true, fx),
            (BarrierOwner::Command(id), _) => {
                // What held when the barrier was asked for may have changed while it closed.
                if let Some(outcome) =
                    self.reservation_conflict(id, device).or_else(|| self.write_protection(id, device))
                {
                    self.release_barrier_of(id, DeviceUpdate::default(), fx);
                    self.complete(id, &outcome, fx);
                } else if self.keep_out(id, device, true) {
                    // A write has been parked meanwhile. It asks again when that has ended.
                    self.release_barrier_of(id, DeviceUpdate::default(), fx);
                } else {
                    self.execute(id, fx);
                }
            }
            (BarrierOwner::Tmf(tmf), _) => self.tmf_alone(tmf, device, barrier, fx),
        }
    }

    /// The device has left its home: what wants to be alone on it comes too late, as to a LUN that is not there.
    pub(super) fn refused(&mut self, device: DeviceId, barrier: BarrierId, fx: &mut Effects) {
        let Some(owned) = self.take_owned(barrier) else { return };
        match owned.owner {
            BarrierOwner::Command(id) => {
                if let Some(command) = self.command_mut(id) {
                    command.marks.remove(CommandMarks::OWNS_BARRIER);
                }
                match owned.scope {
                    BarrierScope::Fence { .. } => self.detach(id, fx),
                    BarrierScope::Abort { .. } => self.settled(id, fx),
                    _ => self.complete(id, &Outcome::check(no_lun()), fx),
                }
            }
            BarrierOwner::Tmf(tmf) => self.tmf_refused(tmf, device, fx),
        }
    }

    /// Ends owners that have waited too long, and cancels the operations of those that have worked too long. Returns true
    /// while there are owners that have a deadline.
    pub(crate) fn look_after_owners(&mut self, fx: &mut Effects) -> bool {
        let mut overdue = Vec::new();
        let mut more = false;
        for (index, generation, owned) in self.owned.iter() {
            let BarrierOwner::Command(id) = owned.owner else { continue };
            if owned.cancelled || owned.opening > 0 || matches!(owned.scope, BarrierScope::Fence { .. }) {
                continue;
            }
            let (allowed, what) = if owned.granted {
                (self.time_allowed(id, owned.device), Overdue::Working)
            } else {
                let clears = matches!(owned.scope, BarrierScope::Abort { .. });
                (self.config.limits.barrier, if clears { Overdue::Clearing } else { Overdue::Waiting })
            };
            if owned.since.after(allowed) <= self.now {
                overdue.push((index, generation, id, what));
            } else {
                more = true;
            }
        }
        for (index, generation, id, what) in overdue {
            match what {
                Overdue::Clearing => self.queue_is_clear(id, false, fx),
                Overdue::Waiting => {
                    self.release_barrier_of(id, DeviceUpdate::default(), fx);
                    self.complete(id, &Outcome::status(ScsiStatus::BUSY), fx);
                }
                Overdue::Working => {
                    if let Some(owned) = self.owned.get_mut(index, generation) {
                        owned.cancelled = true;
                    }
                    fx.push_back(Effect::CancelIo { cmd: id });
                }
            }
        }
        more
    }

    /// How long a command may work: what the opcode table recommends (SPC-6 6.42.4).
    fn time_allowed(&self, id: CmdId, device: DeviceId) -> Nanos {
        let row = self
            .command(id)
            .zip(self.device(device))
            .and_then(|(command, device)| opcode::lookup(DeviceType(device.peripheral_type), &command.cdb).ok());
        row.map_or(self.config.limits.barrier, |row| Nanos::from_secs(u64::from(row.timeout.recommended)))
    }

    pub(crate) fn home(&self, device: DeviceId) -> ReactorId {
        ReactorId((device.index() % usize::from(self.config.reactors.max(1))) as u16)
    }
}

impl Vacant for OwnedBarrier {
    fn vacant() -> Self {
        Self {
            device: DeviceId(0),
            owner: BarrierOwner::Tmf(TmfId { index: NONE, generation: 0 }),
            scope: BarrierScope::Device,
            since: Nanos(0),
            granted: false,
            cancelled: false,
            opening: 0,
        }
    }
}
