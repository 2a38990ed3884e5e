//! Being alone on a logical unit, or on a range of it, across all reactors.
//!
//! The home engine of a device (device number modulo reactors) serialises barriers that conflict. Closing one keeps
//! new commands out everywhere and waits for those that execute; then the owner is alone, does its work and releases
//! the barrier with what has changed; every engine applies that before it lets commands in again. Never global, always
//! with a deadline: an owner that waits too long gives up and answers BUSY.

use std::collections::VecDeque;

use scst_scsi::{CommandFlags, ScsiStatus};

use crate::Nanos;
use crate::attention::COMMANDS_CLEARED;
use crate::command::{CommandMarks, CommandState};
use crate::engine::{Effects, Engine, no_lun};
use crate::event::{BarrierId, BarrierScope, DeviceUpdate, Effect, Message, ReservationChange};
use crate::handler::Outcome;
use crate::ids::{CmdId, DeviceId, ReactorId, TmfId};
use crate::latency::Stage;

/// A barrier in one engine's view of a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ActiveBarrier {
    id: BarrierId,
    scope: BarrierScope,
}

/// Barriers of a device at its home.
#[derive(Debug, Default)]
pub(crate) struct HomeQueue {
    waiting: VecDeque<(BarrierId, BarrierScope)>,
    active: Vec<HomeBarrier>,
}

impl HomeQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.active.is_empty()
    }
}

#[derive(Debug)]
struct HomeBarrier {
    id: BarrierId,
    scope: BarrierScope,
    /// Engines that have not said yet that they are empty.
    missing: u16,
}

/// What happens when some commands have ended.
#[derive(Debug)]
pub(crate) struct Wait {
    pub(crate) commands: Vec<CmdId>,
    pub(crate) then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Then {
    Closed { device: DeviceId, barrier: BarrierId },
    Tmf(TmfId),
}

/// Who asked for a barrier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BarrierOwner {
    Command(CmdId),
    Tmf(TmfId),
}

/// A barrier that this engine owns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnedBarrier {
    pub(crate) id: BarrierId,
    pub(crate) device: DeviceId,
    pub(crate) owner: BarrierOwner,
    pub(crate) granted: bool,
    deadline: Nanos,
}

impl Engine {
    fn home(&self, device: DeviceId) -> ReactorId {
        ReactorId((device.0 % u32::from(self.config.reactors.max(1))) as u16)
    }

    /// Sends a message; one to itself is handled before `handle` returns.
    fn post(&mut self, to: ReactorId, message: Message, fx: &mut Effects) {
        if to == self.config.reactor {
            self.loopback.push_back(message);
        } else {
            fx.push_back(Effect::Send { to, message: Box::new(message) });
        }
    }

    fn post_all(&mut self, message: Message, fx: &mut Effects) {
        for reactor in 0..self.config.reactors.max(1) {
            self.post(ReactorId(reactor), message, fx);
        }
    }

    /// Whether a closed barrier keeps a command from running.
    pub(crate) fn is_kept_out(&self, id: CmdId, device: DeviceId) -> bool {
        let (Some(found), Some(command)) = (self.device(device), self.command(id)) else { return false };
        found.barriers.iter().any(|b| match b.scope {
            BarrierScope::Device | BarrierScope::Abort { .. } => true,
            BarrierScope::Range { lba, blocks } => {
                command.parsed.flags.contains(CommandFlags::MEDIUM_ACCESS) && command.overlaps(lba, blocks)
            }
        })
    }

    pub(crate) fn request_barrier_for(&mut self, id: CmdId, device: DeviceId, scope: BarrierScope, fx: &mut Effects) {
        if let Some(command) = self.command_mut(id) {
            command.state = CommandState::AwaitingBarrier;
            command.marks |= CommandMarks::OWNS_BARRIER;
        }
        self.enter_stage(id, Stage::CheckBlocking);
        self.request_barrier(BarrierOwner::Command(id), device, scope, fx);
    }

    pub(crate) fn request_barrier(
        &mut self,
        owner: BarrierOwner,
        device: DeviceId,
        scope: BarrierScope,
        fx: &mut Effects,
    ) {
        let id = BarrierId { owner: self.config.reactor, serial: self.next_barrier };
        self.next_barrier += 1;
        let deadline = self.now.after(self.config.limits.barrier);
        self.owned.push(OwnedBarrier { id, device, owner, granted: false, deadline });
        self.post(self.home(device), Message::BarrierRequest { device, barrier: id, scope }, fx);
    }

    /// A command that owns a barrier gives it up.
    pub(crate) fn release_barrier_of(&mut self, id: CmdId, device: DeviceId, update: DeviceUpdate, fx: &mut Effects) {
        if let Some(command) = self.command_mut(id) {
            command.marks.remove(CommandMarks::OWNS_BARRIER);
        }
        let owner = BarrierOwner::Command(id);
        if let Some(at) = self.owned.iter().position(|o| o.owner == owner) {
            let barrier = self.owned.swap_remove(at).id;
            self.post(self.home(device), Message::BarrierRelease { device, barrier, update }, fx);
        }
    }

    pub(crate) fn release_barrier(&mut self, barrier: BarrierId, update: DeviceUpdate, fx: &mut Effects) {
        if let Some(at) = self.owned.iter().position(|o| o.id == barrier) {
            let device = self.owned.swap_remove(at).device;
            self.post(self.home(device), Message::BarrierRelease { device, barrier, update }, fx);
        }
    }

    /// A change that every engine applies, without a barrier.
    pub(crate) fn update_device(&mut self, device: DeviceId, update: DeviceUpdate, fx: &mut Effects) {
        self.post(self.home(device), Message::Update { device, update }, fx);
    }

    /// A message from an engine.
    #[cold]
    #[inline(never)]
    pub(crate) fn message(&mut self, message: Message, fx: &mut Effects) {
        match message {
            Message::BarrierRequest { device, barrier, scope } => match self.device_mut(device) {
                Some(found) => {
                    found.home.waiting.push_back((barrier, scope));
                    self.pump_home(device, fx);
                }
                None => self.post(barrier.owner, Message::BarrierRefused { device, barrier }, fx),
            },
            Message::BarrierClose { device, barrier, scope } => self.close_barrier(device, barrier, scope, fx),
            Message::BarrierClosed { device, barrier } => self.closed_somewhere(device, barrier, fx),
            Message::BarrierGranted { device, barrier } => self.granted(device, barrier, fx),
            Message::BarrierRefused { device, barrier } => self.refused(device, barrier, fx),
            Message::BarrierRelease { device, barrier, update } => self.released(device, barrier, update, fx),
            Message::BarrierOpen { device, barrier, update } => self.open_barrier(device, barrier, update, fx),
            Message::Update { device, update } => self.post_all(Message::Apply { device, update }, fx),
            Message::Apply { device, update } => self.apply(device, update),
        }
    }

    /// Home: closes what waits, in order, as long as it does not conflict with what is closed.
    fn pump_home(&mut self, device: DeviceId, fx: &mut Effects) {
        let reactors = self.config.reactors.max(1);
        while let Some(home) = self.device_mut(device).map(|d| &mut d.home) {
            let Some(&(id, scope)) = home.waiting.front() else { return };
            if home.active.iter().any(|a| a.scope.conflicts_with(&scope)) {
                return;
            }
            home.waiting.pop_front();
            home.active.push(HomeBarrier { id, scope, missing: reactors });
            self.post_all(Message::BarrierClose { device, barrier: id, scope }, fx);
        }
    }

    /// Home: one more engine is empty.
    fn closed_somewhere(&mut self, device: DeviceId, barrier: BarrierId, fx: &mut Effects) {
        let Some(found) = self.device_mut(device) else { return };
        let Some(active) = found.home.active.iter_mut().find(|a| a.id == barrier) else { return };
        active.missing = active.missing.saturating_sub(1);
        if active.missing == 0 {
            self.post(barrier.owner, Message::BarrierGranted { device, barrier }, fx);
        }
    }

    /// Home: the owner is done, or has given up.
    fn released(&mut self, device: DeviceId, barrier: BarrierId, update: DeviceUpdate, fx: &mut Effects) {
        let Some(home) = self.device_mut(device).map(|d| &mut d.home) else {
            // The device is gone here; engines that still have something of it must not wait for ever.
            return self.post_all(Message::BarrierOpen { device, barrier, update }, fx);
        };
        home.waiting.retain(|(id, _)| *id != barrier);
        home.active.retain(|a| a.id != barrier);
        self.post_all(Message::BarrierOpen { device, barrier, update }, fx);
        self.pump_home(device, fx);
    }

    /// Keeps commands out from now on, and tells home when none is left.
    fn close_barrier(&mut self, device: DeviceId, barrier: BarrierId, scope: BarrierScope, fx: &mut Effects) {
        let Some(found) = self.device_mut(device) else {
            self.post(self.home(device), Message::BarrierClosed { device, barrier }, fx);
            return;
        };
        found.barriers.push(ActiveBarrier { id: barrier, scope });
        let executing = found.executing;
        let commands = match scope {
            BarrierScope::Abort { by } => self.abort_device(device, by, fx),
            _ if executing == 0 => Vec::new(),
            BarrierScope::Device => self.commands_where(|c| c.device == Some(device) && c.is_executing()),
            BarrierScope::Range { lba, blocks } => self.commands_where(|c| {
                c.device == Some(device)
                    && c.is_executing()
                    && c.parsed.flags.contains(CommandFlags::MEDIUM_ACCESS)
                    && c.overlaps(lba, blocks)
            }),
        };
        self.wait_for(commands, Then::Closed { device, barrier }, fx);
    }

    /// Aborts everything on a device; returns what has not ended yet.
    fn abort_device(&mut self, device: DeviceId, by: crate::ids::NexusId, fx: &mut Effects) -> Vec<CmdId> {
        let all = self.commands_where(|c| c.device == Some(device) && c.state != CommandState::Responding);
        for &id in &all {
            // The same I_T nexus may see the unit under several numbers.
            let own = by.reactor == self.config.reactor && self.command(id).is_some_and(|c| c.session == by.session);
            self.abort(id, if own { CommandMarks::empty() } else { CommandMarks::BY_OTHER }, fx);
        }
        all.into_iter().filter(|id| self.is_unfinished(*id)).collect()
    }

    /// Whether something may still happen on behalf of a command.
    pub(crate) fn is_unfinished(&self, id: CmdId) -> bool {
        self.command(id).is_some_and(|c| c.state != CommandState::Responding)
    }

    /// Calls `then` when all commands have ended; at once if there are none.
    pub(crate) fn wait_for(&mut self, commands: Vec<CmdId>, then: Then, fx: &mut Effects) {
        for id in &commands {
            if let Some(command) = self.command_mut(*id) {
                command.marks |= CommandMarks::AWAITED;
            }
        }
        if commands.is_empty() {
            self.waited(then, fx);
        } else {
            self.waits.push(Wait { commands, then });
        }
    }

    /// A command has ended: those who waited for it may go on.
    pub(crate) fn no_longer_awaited(&mut self, id: CmdId, fx: &mut Effects) {
        let Some(command) = self.command_mut(id) else { return };
        if !command.marks.intersects(CommandMarks::AWAITED | CommandMarks::MEASURED) {
            return;
        }
        let marks = command.marks;
        command.marks.remove(CommandMarks::AWAITED);
        if marks.contains(CommandMarks::MEASURED) {
            self.enter_stage(id, Stage::TransmitWait);
        }
        if !marks.contains(CommandMarks::AWAITED) {
            return;
        }
        for wait in &mut self.waits {
            wait.commands.retain(|c| *c != id);
        }
        while let Some(at) = self.waits.iter().position(|w| w.commands.is_empty()) {
            let wait = self.waits.remove(at);
            self.waited(wait.then, fx);
        }
    }

    fn waited(&mut self, then: Then, fx: &mut Effects) {
        match then {
            Then::Closed { device, barrier } => {
                self.post(self.home(device), Message::BarrierClosed { device, barrier }, fx);
            }
            Then::Tmf(tmf) => self.tmf_step_done(tmf, fx),
        }
    }

    /// The owner is alone now.
    fn granted(&mut self, device: DeviceId, barrier: BarrierId, fx: &mut Effects) {
        let Some(owned) = self.owned.iter_mut().find(|o| o.id == barrier) else { return };
        owned.granted = true;
        match owned.owner {
            BarrierOwner::Command(id) => {
                // What held when the barrier was asked for may have changed while it closed.
                match self.reservation_conflict(id, device).or_else(|| self.write_protection(id, device)) {
                    Some(outcome) => {
                        self.release_barrier_of(id, device, DeviceUpdate::default(), fx);
                        self.complete(id, &outcome, fx);
                    }
                    None => self.execute(id, fx),
                }
            }
            BarrierOwner::Tmf(tmf) => self.tmf_alone(tmf, device, barrier, fx),
        }
    }

    /// The device has left its home: whoever wants to be alone on it comes too late, as to a LUN that is not there.
    fn refused(&mut self, device: DeviceId, barrier: BarrierId, fx: &mut Effects) {
        let Some(at) = self.owned.iter().position(|o| o.id == barrier) else { return };
        match self.owned.swap_remove(at).owner {
            BarrierOwner::Command(id) => {
                if let Some(command) = self.command_mut(id) {
                    command.marks.remove(CommandMarks::OWNS_BARRIER);
                }
                self.complete(id, &Outcome::check(no_lun()), fx);
            }
            BarrierOwner::Tmf(tmf) => self.tmf_refused(tmf, device, fx),
        }
    }

    /// Applies what the owner has changed and lets commands in.
    fn open_barrier(&mut self, device: DeviceId, barrier: BarrierId, update: DeviceUpdate, fx: &mut Effects) {
        self.apply(device, update);
        self.waits.retain(|w| w.then != Then::Closed { device, barrier });
        let Some(found) = self.device_mut(device) else { return };
        found.barriers.retain(|b| b.id != barrier);
        for _ in 0..found.blocked.len() {
            let Some(id) = self.device_mut(device).and_then(|d| d.blocked.pop_front()) else { break };
            if self.command(id).is_some_and(|c| c.state == CommandState::Blocked) {
                self.start(id, fx);
            }
        }
        self.try_remove_device(device, fx);
    }

    fn apply(&mut self, device: DeviceId, update: DeviceUpdate) {
        let Some(found) = self.device_mut(device) else { return };
        if let Some(control) = update.control {
            found.control = control;
        }
        match update.reservation {
            Some(ReservationChange::Hold(nexus)) => found.reservation = Some(nexus),
            Some(ReservationChange::ReleaseBy(nexus)) if found.reservation == Some(nexus) => found.reservation = None,
            Some(ReservationChange::Clear) => found.reservation = None,
            Some(ReservationChange::ReleaseBy(_)) | None => {}
        }
        if let Some((nexus, prevents)) = update.prevention {
            found.preventing.retain(|n| *n != nexus);
            if prevents {
                found.preventing.push(nexus);
            }
        }
        if update.reset {
            found.preventing.clear();
            for slot in found.nexuses.clone() {
                if let Some(nexus) = self.nexuses.at_mut(slot) {
                    // The reset says it all; what it cleared need not be told as well.
                    nexus.attentions.clear(COMMANDS_CLEARED);
                }
            }
        }
        if let Some(asc) = update.attention {
            self.attention(device, asc, update.attention_except);
        }
    }

    pub(crate) fn barrier_deadline(&self) -> Option<Nanos> {
        self.owned.iter().filter(|o| !o.granted).map(|o| o.deadline).min()
    }

    /// Owners that have waited too long give up.
    pub(crate) fn expire_barriers(&mut self, fx: &mut Effects) {
        let now = self.now;
        while let Some(owned) = self.owned.iter().find(|o| !o.granted && o.deadline <= now).copied() {
            match owned.owner {
                BarrierOwner::Command(id) => {
                    self.release_barrier_of(id, owned.device, DeviceUpdate::default(), fx);
                    self.complete(id, &Outcome::status(ScsiStatus::BUSY), fx);
                }
                BarrierOwner::Tmf(tmf) => {
                    self.release_barrier(owned.id, DeviceUpdate::default(), fx);
                    self.tmf_failed(tmf, fx);
                }
            }
        }
    }
}
