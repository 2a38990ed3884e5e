//! Task management functions (SAM-5 clause 7). The answer goes out only when no affected command can touch the
//! medium or a buffer any more. When that takes too long the answer says that the function has failed, and it has: what
//! still executes is not aborted then.

use scst_scsi::{TaskManagementFunction, TaskManagementResponse};

use crate::Nanos;
use crate::attention::{NEXUS_LOSS, POWER_ON};
use crate::barrier::BarrierOwner;
use crate::command::{Command, CommandMarks, CommandState, NONE};
use crate::engine::{Effects, Engine};
use crate::event::{BarrierId, BarrierScope, DeviceUpdate, Effect, ReservationChange, TaskManagementRequest};
use crate::handler::ControlSettings;
use crate::ids::{CmdId, DeviceId, SessionId, TmfId};
use crate::slab::Vacant;
use crate::wait::Then;

/// A function in progress.
#[derive(Debug)]
pub(crate) struct Tmf {
    session: SessionId,
    driver_tag: u64,
    /// TARGET RESETs that came before this one had begun: one reset serves them all.
    also: Vec<u64>,
    function: TaskManagementFunction,
    /// Commands of its session that it has aborted. Their end is told with its own.
    pub(crate) aborted: Vec<CmdId>,
    /// Steps (waits for commands, barriers) that are not done yet.
    steps: u32,
    response: TaskManagementResponse,
    /// When it is given up.
    deadline: Nanos,
}

impl Engine {
    pub(crate) fn task_management(&mut self, request: TaskManagementRequest, fx: &mut Effects) {
        if request.function == TaskManagementFunction::TargetReset && self.join_target_reset(&request, fx) {
            return;
        }
        let tmf = Tmf {
            session: request.session,
            driver_tag: request.driver_tag,
            also: Vec::new(),
            aborted: Vec::new(),
            function: request.function,
            // One step for this call itself, so that nothing is answered half-way through it.
            steps: 1,
            response: TaskManagementResponse::Complete,
            deadline: self.now.after(self.config.limits.task_management_time),
        };
        let Some((index, generation)) = self.tmfs.insert(tmf) else {
            let tmf = TmfId { index: u32::MAX, generation: 0 };
            self.answer(request.session, request.driver_tag, tmf, TaskManagementResponse::Failed, fx);
            return;
        };
        let id = TmfId { index, generation };
        if let Some(response) = self.begin(id, &request, fx)
            && let Some(tmf) = self.tmfs.get_mut(index, generation)
        {
            tmf.response = response;
        }
        self.tmf_step_done(id, fx);
        if self.tmfs.get(index, generation).is_some() {
            self.keep_looking();
        }
    }

    /// Starts a function; returns its response when that is known at once.
    fn begin(
        &mut self,
        id: TmfId,
        request: &TaskManagementRequest,
        fx: &mut Effects,
    ) -> Option<TaskManagementResponse> {
        use TaskManagementFunction as F;
        use TaskManagementResponse as R;
        match request.function {
            F::TargetReset => return self.begin_target_reset(id, request.session, fx),
            F::ITNexusReset => return self.begin_nexus_reset(id, request.session, fx),
            _ => {}
        }
        if let Some(entry) = request.lun.number().and_then(|n| self.unmet(request.session, n))
            && !self.meet(request.session, &entry)
        {
            // There is such a unit, and nothing can be done about it.
            return Some(R::Failed);
        }
        let Some(session) = self.sessions.get(request.session.index, request.session.generation) else {
            return Some(R::Failed);
        };
        let slot = request.lun.number().map_or(NONE, |n| session.nexus(n));
        let device = self.nexuses.at(slot).map(|n| n.device);
        match request.function {
            F::AbortTask => self.abort_task(id, request, device.is_some(), fx),
            F::AbortTaskSet | F::ClearTaskSet | F::LogicalUnitReset => self.abort_set(id, request, slot, device, fx),
            _ if device.is_none() => Some(R::IncorrectLun),
            F::QueryTask => Some(self.query(|c| c.nexus == slot, request.referenced)),
            F::QueryTaskSet => {
                let busy = self.nexuses.at(slot).is_some_and(|n| n.in_task_set > 0);
                Some(if busy { R::Succeeded } else { R::Complete })
            }
            F::QueryAsynchronousEvent => {
                let pending = self.nexuses.at(slot).is_some_and(|n| !n.attentions().is_empty());
                Some(if pending { R::Succeeded } else { R::Complete })
            }
            F::TargetReset | F::ITNexusReset | F::ClearAca => Some(R::NotSupported),
        }
    }

    /// Returns true when a command was sent to the LUN of a request, on its session. The LUN may be gone or show another
    /// unit by now; the initiator means what it has sent.
    fn is_addressed(&self, command: &Command, request: &TaskManagementRequest) -> bool {
        command.session == request.session
            && self.nexuses.at(command.nexus).is_some_and(|n| Some(n.lun) == request.lun.number())
    }

    /// ABORT TASK SET, CLEAR TASK SET and LOGICAL UNIT RESET.
    fn abort_set(
        &mut self,
        id: TmfId,
        request: &TaskManagementRequest,
        slot: u32,
        device: Option<DeviceId>,
        fx: &mut Effects,
    ) -> Option<TaskManagementResponse> {
        let whole = match request.function {
            TaskManagementFunction::AbortTaskSet => false,
            TaskManagementFunction::ClearTaskSet => {
                device.and_then(|d| self.device(d)).is_some_and(|d| !d.control.task_set_per_nexus)
            }
            _ => device.is_some(),
        };
        let unfinished = |c: &Command| c.state != CommandState::Responding;
        // What was sent to the LUN while it showed another unit, ...
        let mut own = self
            .strays_of_session(request.session, |c| c.nexus != NONE && self.is_addressed(c, request) && unfinished(c));
        // ... and what is on the unit that is there now, unless it is aborted together with what others have on it.
        if !whole {
            own.extend(self.commands_of_nexus(slot, unfinished));
        }
        let held_back = self.share_held_back(id, request.session, |engine, _, c| {
            engine.is_addressed(c, request) || (whole && c.device == device)
        });
        if device.is_none() && own.is_empty() && !held_back {
            return Some(TaskManagementResponse::IncorrectLun);
        }
        self.abort_and_wait(id, &own, fx);
        if let Some(device) = device.filter(|_| whole) {
            self.abort_unit(id, request.session, device, fx);
        }
        None
    }

    /// I_T NEXUS RESET (SAM-5 7.7): the nexus is as if it had been lost.
    fn begin_nexus_reset(&mut self, id: TmfId, session: SessionId, fx: &mut Effects) -> Option<TaskManagementResponse> {
        let found = self.sessions.get(session.index, session.generation)?;
        let slots: Vec<u32> = found.by_lun.iter().copied().filter(|slot| *slot != NONE).collect();
        for &slot in &slots {
            if let Some(nexus) = self.nexuses.at_mut(slot) {
                nexus.establish(NEXUS_LOSS);
            }
            self.release_holds(slot, fx);
        }
        self.share_held_back(id, session, |_, _, _| true);
        let all = self.commands_of_session(session, |c| c.state != CommandState::Responding);
        self.abort_and_wait(id, &all, fx);
        None
    }

    fn abort_task(
        &mut self,
        id: TmfId,
        request: &TaskManagementRequest,
        has_lun: bool,
        fx: &mut Effects,
    ) -> Option<TaskManagementResponse> {
        use TaskManagementResponse as R;
        if self.share_held_back(id, request.session, |engine, cmd, c| {
            Some(cmd) == request.referenced && engine.is_addressed(c, request)
        }) {
            return None;
        }
        // A command whose answer is on the way is no task any more: the initiator sees the answer first, then this.
        let found = request.referenced.filter(|cmd| self.is_unfinished(*cmd));
        let found = found.and_then(|cmd| Some((cmd, self.command(cmd)?)));
        match found.filter(|(_, command)| command.session == request.session) {
            Some((cmd, command)) if self.is_addressed(command, request) => {
                self.abort_and_wait(id, &[cmd], fx);
                None
            }
            _ if !has_lun => Some(R::IncorrectLun),
            Some(_) => Some(R::Rejected),
            None => Some(R::TaskDoesNotExist),
        }
    }

    pub(crate) fn abort_and_wait(&mut self, id: TmfId, commands: &[CmdId], fx: &mut Effects) {
        for cmd in commands {
            self.abort(*cmd, CommandMarks::empty(), Some(id), fx);
        }
        let unfinished: Vec<CmdId> = commands.iter().copied().filter(|c| self.is_unfinished(*c)).collect();
        if !unfinished.is_empty() {
            self.add_step(id);
            self.wait_for(&unfinished, Then::Tmf(id), fx);
        }
    }

    /// Aborts everything on a logical unit, whatever sent it.
    pub(crate) fn abort_unit(&mut self, id: TmfId, session: SessionId, device: DeviceId, fx: &mut Effects) {
        let by = (self.config.reactor, session);
        self.add_step(id);
        if self.request_barrier(BarrierOwner::Tmf(id), device, BarrierScope::Abort { by, others: true }, fx).is_none() {
            self.tmf_failed(id, fx);
        }
    }

    fn query(&self, on_nexus: impl Fn(&Command) -> bool, referenced: Option<CmdId>) -> TaskManagementResponse {
        let there = referenced
            .and_then(|c| self.command(c))
            .is_some_and(|c| on_nexus(c) && c.state != CommandState::Responding);
        if there { TaskManagementResponse::Succeeded } else { TaskManagementResponse::Complete }
    }

    pub(crate) fn is_in_progress(&self, id: TmfId) -> bool {
        self.tmfs.get(id.index, id.generation).is_some()
    }

    /// Lets a function answer one more request. Returns false when it answers `most` already.
    pub(crate) fn add_answer(&mut self, id: TmfId, driver_tag: u64, most: usize) -> bool {
        let Some(tmf) = self.tmfs.get_mut(id.index, id.generation).filter(|tmf| tmf.also.len() + 1 < most) else {
            return false;
        };
        tmf.also.push(driver_tag);
        true
    }

    pub(crate) fn add_step(&mut self, id: TmfId) {
        if let Some(tmf) = self.tmfs.get_mut(id.index, id.generation) {
            tmf.steps += 1;
        }
    }

    /// Its barrier is closed and everything on the unit has ended.
    pub(crate) fn tmf_alone(&mut self, id: TmfId, device: DeviceId, barrier: BarrierId, fx: &mut Effects) {
        let resets =
            self.tmfs.get(id.index, id.generation).is_some_and(|t| t.function != TaskManagementFunction::ClearTaskSet);
        if resets {
            fx.push_back(Effect::ResetDevice { device, barrier });
        } else {
            self.release_barrier(barrier, DeviceUpdate::default(), fx);
            self.tmf_step_done(id, fx);
        }
    }

    /// The device handler has reset its volatile state. The step is done when every engine knows.
    pub(crate) fn device_reset(&mut self, barrier: BarrierId, control: ControlSettings, fx: &mut Effects) {
        let update = DeviceUpdate {
            control: Some(control),
            reservation: Some(ReservationChange::Clear),
            attention: Some(POWER_ON),
            reset: true,
            ..DeviceUpdate::default()
        };
        self.settle_barrier(barrier, update, fx);
    }

    /// One step is done; the last one sends the answer.
    pub(crate) fn tmf_step_done(&mut self, id: TmfId, fx: &mut Effects) {
        let Some(tmf) = self.tmfs.get_mut(id.index, id.generation) else { return };
        tmf.steps -= 1;
        if tmf.steps > 0 {
            return;
        }
        self.tmf_done(id, fx);
    }

    fn tmf_done(&mut self, id: TmfId, fx: &mut Effects) {
        let Some(tmf) = self.tmfs.remove(id.index, id.generation) else { return };
        for cmd in tmf.aborted {
            self.aborter_ends(cmd, tmf.response == TaskManagementResponse::Complete, fx);
        }
        for driver_tag in std::iter::once(tmf.driver_tag).chain(tmf.also) {
            self.answer(tmf.session, driver_tag, id, tmf.response, fx);
        }
    }

    /// Gives up the functions that have waited too long. Returns true while there are others.
    pub(crate) fn look_after_functions(&mut self, fx: &mut Effects) -> bool {
        let overdue: Vec<TmfId> = (self.tmfs.iter().filter(|(_, _, tmf)| tmf.deadline <= self.now))
            .map(|(index, generation, _)| TmfId { index, generation })
            .collect();
        for id in overdue {
            self.give_up(id, fx);
        }
        self.tmfs.len() > 0
    }

    /// A function cannot be completed in time, because operations do not end. It is answered with that: what it was to
    /// abort and what still executes is not aborted then, and is answered when it ends.
    fn give_up(&mut self, id: TmfId, fx: &mut Effects) {
        self.stop(id, fx);
        if let Some(tmf) = self.tmfs.get_mut(id.index, id.generation) {
            tmf.response = TaskManagementResponse::Failed;
        }
        self.tmf_done(id, fx);
    }

    /// A function waits for nothing any more, and keeps nothing out.
    fn stop(&mut self, id: TmfId, fx: &mut Effects) {
        self.target_resets.retain(|reset| reset.tmf != id);
        let commands = self.stop_waits_of(id);
        self.revive(&commands);
        let update = DeviceUpdate { abort_failed: true, ..DeviceUpdate::default() };
        self.release_barriers_of(id, update, fx);
    }

    /// Takes the abort of commands back. Only those that execute can be meant; those without a session stay aborted.
    pub(crate) fn revive(&mut self, commands: &[CmdId]) {
        for id in commands {
            let Some(command) = self.command_mut(*id) else { continue };
            if command.state == CommandState::Executing && !command.marks.contains(CommandMarks::SESSION_GONE) {
                command.marks.remove(CommandMarks::ABORTED | CommandMarks::BY_OTHER);
            }
        }
    }

    /// The unit has left its home engine and is reset no more. What the nexus has on it here is still aborted.
    pub(crate) fn tmf_refused(&mut self, id: TmfId, device: DeviceId, fx: &mut Effects) {
        let Some(session) = self.tmfs.get(id.index, id.generation).map(|t| t.session) else { return };
        let own = self.commands_of_device(device, |c| c.session == session && c.state != CommandState::Responding);
        if own.is_empty()
            && let Some(tmf) = self.tmfs.get_mut(id.index, id.generation)
            && tmf.function != TaskManagementFunction::TargetReset
        {
            tmf.response = TaskManagementResponse::IncorrectLun;
        }
        self.abort_and_wait(id, &own, fx);
        self.tmf_step_done(id, fx);
    }

    /// A step was given up.
    pub(crate) fn tmf_failed(&mut self, id: TmfId, fx: &mut Effects) {
        if let Some(tmf) = self.tmfs.get_mut(id.index, id.generation) {
            tmf.response = TaskManagementResponse::Failed;
        }
        self.tmf_step_done(id, fx);
    }

    /// Lets a function stand for commands that an earlier one of its session keeps back: what is completed first tells
    /// their end. Returns true when there are some.
    pub(crate) fn share_held_back(
        &mut self,
        id: TmfId,
        session: SessionId,
        take: impl Fn(&Self, CmdId, &Command) -> bool,
    ) -> bool {
        let mut shared: Vec<CmdId> = Vec::new();
        for (index, generation, tmf) in self.tmfs.iter() {
            if tmf.session == session && (index, generation) != (id.index, id.generation) {
                let held_back =
                    |cmd: &CmdId, c: &Command| c.marks.contains(CommandMarks::HELD_BACK) && take(self, *cmd, c);
                shared.extend(tmf.aborted.iter().filter(|cmd| self.command(**cmd).is_some_and(|c| held_back(cmd, c))));
            }
        }
        shared.sort_unstable();
        shared.dedup();
        for cmd in &shared {
            if let Some(command) = self.command_mut(*cmd) {
                command.aborters += 1;
            }
        }
        let any = !shared.is_empty();
        if let Some(tmf) = self.tmfs.get_mut(id.index, id.generation) {
            tmf.aborted.extend(shared);
        }
        any
    }

    /// A session ends: its functions keep nothing back any more.
    pub(crate) fn drop_held_back_of(&mut self, session: SessionId, fx: &mut Effects) {
        let of_session = self.tmfs.iter().filter(|(_, _, tmf)| tmf.session == session);
        let ids: Vec<(u32, u32)> = of_session.map(|(index, generation, _)| (index, generation)).collect();
        for (index, generation) in ids {
            let aborted = self.tmfs.get_mut(index, generation).map(|tmf| std::mem::take(&mut tmf.aborted));
            for cmd in aborted.unwrap_or_default() {
                self.aborter_ends(cmd, true, fx);
            }
        }
    }

    /// The session is gone: its functions are given up, and nothing waits for their answers.
    pub(crate) fn drop_tmfs_of(&mut self, session: SessionId, fx: &mut Effects) {
        let of_session = self.tmfs.iter().filter(|(_, _, tmf)| tmf.session == session);
        let ids: Vec<TmfId> = of_session.map(|(index, generation, _)| TmfId { index, generation }).collect();
        for id in ids {
            self.stop(id, fx);
            self.tmfs.remove(id.index, id.generation);
        }
    }

    fn answer(
        &self,
        session: SessionId,
        driver_tag: u64,
        tmf: TmfId,
        response: TaskManagementResponse,
        fx: &mut Effects,
    ) {
        fx.push_back(Effect::TaskManagementDone { session, driver_tag, tmf, response });
    }
}

impl Vacant for Tmf {
    fn vacant() -> Self {
        Self {
            session: SessionId { index: 0, generation: 0 },
            driver_tag: 0,
            also: Vec::new(),
            aborted: Vec::new(),
            function: TaskManagementFunction::AbortTask,
            steps: 0,
            response: TaskManagementResponse::Complete,
            deadline: Nanos(0),
        }
    }
}
