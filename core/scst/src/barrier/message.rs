//! Messages between engines, and what they change: a barrier closes and opens, state of a device is applied.

use scst_scsi::{CommandFlags, ScsiStatus};

use super::closed::overlaps;
use crate::attention::COMMANDS_CLEARED;
use crate::command::{Command, CommandMarks, CommandState};
use crate::engine::{Effects, Engine};
use crate::event::{BarrierId, BarrierScope, DeviceUpdate, Effect, Message, ReservationChange};
use crate::handler::Outcome;
use crate::ids::{CmdId, DeviceId, ReactorId, SessionId};
use crate::wait::Then;

impl Engine {
    /// Sends a message; one to itself is handled before `handle` returns.
    pub(crate) fn post(&mut self, to: ReactorId, message: Message, fx: &mut Effects) {
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

    /// A change that every engine applies, without a barrier.
    pub(crate) fn update_device(&mut self, device: DeviceId, update: DeviceUpdate, fx: &mut Effects) {
        self.post(self.home(device), Message::Update { device, update }, fx);
    }

    /// A message from an engine.
    #[cold]
    #[inline(never)]
    pub(crate) fn message(&mut self, message: Message, fx: &mut Effects) {
        match message {
            Message::BarrierRequest { device, barrier, scope } => self.requested(device, barrier, scope, fx),
            Message::BarrierClose { device, barrier, scope } => self.close_barrier(device, barrier, scope, fx),
            Message::BarrierClosed { device, barrier, scope } => {
                let last = self.device_mut(device).is_some_and(|d| d.home.closed((barrier, scope)));
                if last {
                    self.post(barrier.owner, Message::BarrierGranted { device, barrier }, fx);
                }
            }
            Message::BarrierGranted { device, barrier } => self.granted(device, barrier, fx),
            Message::BarrierRefused { device, barrier } => self.refused(device, barrier, fx),
            Message::BarrierRelease { device, barrier, scope, update, acknowledge } => {
                // Also where the device is gone: engines that still have something of it must not wait for ever.
                self.post_all(Message::BarrierOpen { device, barrier, scope, update, acknowledge }, fx);
                self.released(device, barrier, scope, fx);
            }
            Message::BarrierOpen { device, barrier, scope, update, acknowledge } => {
                self.open_barrier(device, barrier, scope, update, fx);
                if acknowledge {
                    self.post(barrier.owner, Message::BarrierOpened { barrier }, fx);
                }
            }
            Message::BarrierOpened { barrier } => self.opened(barrier, fx),
            Message::Update { device, update } => self.post_all(Message::Apply { device, update }, fx),
            Message::Apply { device, update } => self.apply(device, update),
        }
    }

    /// Home: an owner wants to be alone.
    fn requested(&mut self, device: DeviceId, barrier: BarrierId, scope: BarrierScope, fx: &mut Effects) {
        let engines = self.config.reactors.max(1);
        let mut closing = std::mem::take(&mut self.to_close);
        match self.device_mut(device) {
            Some(found) => found.home.request((barrier, scope), engines, &mut |request| closing.push(request)),
            None => self.post(barrier.owner, Message::BarrierRefused { device, barrier }, fx),
        }
        self.close_everywhere(device, closing, fx);
    }

    /// Home: the owner is done, or has given up.
    fn released(&mut self, device: DeviceId, barrier: BarrierId, scope: BarrierScope, fx: &mut Effects) {
        let engines = self.config.reactors.max(1);
        let mut closing = std::mem::take(&mut self.to_close);
        if let Some(found) = self.device_mut(device) {
            found.home.release((barrier, scope), engines, &mut |request| closing.push(request));
        }
        self.close_everywhere(device, closing, fx);
    }

    fn close_everywhere(&mut self, device: DeviceId, mut closing: Vec<(BarrierId, BarrierScope)>, fx: &mut Effects) {
        for (barrier, scope) in closing.drain(..) {
            self.post_all(Message::BarrierClose { device, barrier, scope }, fx);
        }
        self.to_close = closing;
    }

    /// Keeps commands out from now on, and tells home when none is left.
    fn close_barrier(&mut self, device: DeviceId, barrier: BarrierId, scope: BarrierScope, fx: &mut Effects) {
        let Some(found) = self.device_mut(device) else {
            return self.tell_closed(device, barrier, scope, fx);
        };
        found.barriers.insert(barrier, scope);
        let executing = found.executing > 0;
        let commands = match scope {
            BarrierScope::Abort { by, others } => self.abort_device(device, barrier, by, others, fx),
            BarrierScope::Device | BarrierScope::Range { .. } if executing => self.executing_within(device, scope),
            BarrierScope::Device | BarrierScope::Range { .. } | BarrierScope::Fence { .. } => Vec::new(),
        };
        let wait = self.wait_for(&commands, Then::Closed { device, barrier, scope }, fx);
        if let Some(closed) = self.device_mut(device).and_then(|d| d.barriers.get_mut(barrier, scope)) {
            closed.wait = wait;
        }
    }

    pub(crate) fn tell_closed(&mut self, device: DeviceId, barrier: BarrierId, scope: BarrierScope, fx: &mut Effects) {
        self.post(self.home(device), Message::BarrierClosed { device, barrier, scope }, fx);
    }

    /// The commands of a device that execute within a scope and that its owner must not meet. Parked commands are not among
    /// them: no session has them any more, and an owner that accesses their blocks waits for their fences.
    fn executing_within(&self, device: DeviceId, scope: BarrierScope) -> Vec<CmdId> {
        self.commands_of_device(device, |c| {
            c.is_executing()
                && !c.parsed.flags.contains(CommandFlags::UNBLOCKED)
                && !c.marks.contains(CommandMarks::PARKED)
                && overlaps(scope, c)
        })
    }

    /// Aborts everything on a device; returns what has not ended yet.
    fn abort_device(
        &mut self,
        device: DeviceId,
        barrier: BarrierId,
        by: (ReactorId, SessionId),
        others: bool,
        fx: &mut Effects,
    ) -> Vec<CmdId> {
        // The same I_T nexus may see the unit under several numbers.
        let is_own = |c: &Command| by.0 == self.config.reactor && c.session == by.1;
        let mut all = self.commands_of_device(device, |c| c.state != CommandState::Responding && (others || is_own(c)));
        // With QERR a command clears the task set, and not itself.
        let owner = self.command_of(barrier);
        all.retain(|id| Some(*id) != owner);
        for &id in &all {
            let own = by.0 == self.config.reactor && self.command(id).is_some_and(|c| c.session == by.1);
            let (marks, tmf) =
                if own { (CommandMarks::empty(), self.function_of(barrier)) } else { (CommandMarks::BY_OTHER, None) };
            self.abort(id, marks, tmf, fx);
        }
        all.retain(|id| self.is_unfinished(*id));
        all
    }

    /// A function that was to abort everything on a device could not: what still executes is answered after all, when it
    /// ends. Commands without a session stay aborted.
    fn revive_device(&mut self, device: DeviceId) {
        let commands = self.commands_of_device(device, |c| c.is_aborted() && c.state == CommandState::Executing);
        self.revive(&commands);
    }

    /// Keeps a command out as long as a barrier is in its way; of one that is to own a barrier itself (`owner`), as long as a
    /// fence is. Returns false when none is.
    pub(crate) fn keep_out(&mut self, id: CmdId, device: DeviceId, owner: bool) -> bool {
        let Some(command) = self.commands.get_mut(id.index, id.generation) else { return false };
        let Some(found) = self.devices.get_mut(device.index()).and_then(Option::as_mut) else { return false };
        let barriers = &mut found.barriers;
        let closed = if owner { barriers.fence_in_the_way_of(command) } else { barriers.in_the_way_of(command) };
        let Some(closed) = closed else { return false };
        closed.block(id);
        command.state = CommandState::Blocked;
        command.kept_by = Some((closed.id, closed.scope));
        if !std::mem::replace(&mut found.watched, true) {
            self.watched.push(device);
        }
        self.keep_looking();
        true
    }

    /// A command that was kept out has been aborted.
    pub(crate) fn forget_blocked(&mut self, id: CmdId) {
        let Some(command) = self.commands.get_mut(id.index, id.generation) else { return };
        let (Some((barrier, scope)), Some(device)) = (command.kept_by.take(), command.device) else { return };
        if let Some(found) = self.devices.get_mut(device.index()).and_then(Option::as_mut) {
            found.barriers.forget(barrier, scope, &self.commands);
        }
    }

    /// Ends commands that have been kept out too long. Returns true while there are others.
    pub(crate) fn look_after_blocked(&mut self, fx: &mut Effects) -> bool {
        let (now, allowed) = (self.now, self.config.limits.barrier);
        let mut overdue = Vec::new();
        for device in std::mem::take(&mut self.watched) {
            let found = self.devices.get_mut(device.index()).and_then(Option::as_mut);
            let Some(found) = found.filter(|found| found.id == device) else { continue };
            found.barriers.take_overdue(now, allowed, &self.commands, &mut overdue);
            found.watched = found.barriers.keeps_any_out();
            if found.watched {
                self.watched.push(device);
            }
        }
        for id in overdue {
            self.complete(id, &Outcome::status(ScsiStatus::BUSY), fx);
        }
        !self.watched.is_empty()
    }

    /// Applies what the owner has changed and lets commands in.
    fn open_barrier(
        &mut self,
        device: DeviceId,
        barrier: BarrierId,
        scope: BarrierScope,
        update: DeviceUpdate,
        fx: &mut Effects,
    ) {
        self.apply(device, update);
        let Some(closed) = self.device_mut(device).and_then(|d| d.barriers.remove(barrier, scope)) else { return };
        if let Some(wait) = closed.wait {
            self.stop_waiting(wait);
        }
        for id in closed.into_blocked() {
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
        }
        if update.control.is_some() || update.reservation.is_some() || update.reset {
            self.renew_access(device, update.reset.then_some(COMMANDS_CLEARED));
        }
        if let Some(asc) = update.attention {
            self.attention(device, asc, update.attention_except);
        }
        if update.abort_failed {
            self.revive_device(device);
        }
    }
}
