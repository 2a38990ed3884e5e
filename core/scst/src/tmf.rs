//! Task management functions (SAM-5 clause 7). The answer goes out only when no affected command can touch the
//! medium or a buffer any more.

use scst_scsi::{TaskManagementFunction, TaskManagementResponse};

use crate::attention::{NEXUS_LOSS, POWER_ON};
use crate::barrier::{BarrierOwner, Then};
use crate::command::{Command, CommandMarks, CommandState, NONE};
use crate::engine::{Effects, Engine};
use crate::event::{BarrierId, BarrierScope, DeviceUpdate, Effect, ReservationChange, TaskManagementRequest};
use crate::handler::ControlSettings;
use crate::ids::{CmdId, DeviceId, SessionId, TmfId};
use crate::slab::Vacant;

/// A function in progress.
#[derive(Debug)]
pub(crate) struct Tmf {
    session: SessionId,
    driver_tag: u64,
    function: TaskManagementFunction,
    /// Steps (waits for commands, barriers) that are not done yet.
    steps: u32,
    response: TaskManagementResponse,
}

impl Engine {
    pub(crate) fn task_management(&mut self, request: TaskManagementRequest, fx: &mut Effects) {
        let tmf = Tmf {
            session: request.session,
            driver_tag: request.driver_tag,
            function: request.function,
            // One step for this call itself, so that nothing is answered half-way through it.
            steps: 1,
            response: TaskManagementResponse::Complete,
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
    }

    /// Starts a function; Some when its response is known at once.
    fn begin(
        &mut self,
        id: TmfId,
        request: &TaskManagementRequest,
        fx: &mut Effects,
    ) -> Option<TaskManagementResponse> {
        use TaskManagementFunction as F;
        use TaskManagementResponse as R;
        let met = match request.lun.number().and_then(|n| self.unmet(request.session, n)) {
            _ if matches!(request.function, F::TargetReset | F::ITNexusReset) => self.meet_all(request.session),
            Some(entry) => self.meet(request.session, &entry),
            None => true,
        };
        if !met {
            // There is such a unit, and nothing can be done about it.
            return Some(R::Failed);
        }
        let Some(session) = self.sessions.get(request.session.index, request.session.generation) else {
            return Some(R::Failed);
        };
        let slot = request.lun.number().map_or(NONE, |n| session.nexus(n));
        let device = self.nexuses.at(slot).map(|n| n.device);
        match request.function {
            F::TargetReset | F::ITNexusReset => self.begin_wide(id, request, fx),
            F::AbortTask => self.abort_task(id, request, device.is_some(), fx),
            F::AbortTaskSet | F::ClearTaskSet | F::LogicalUnitReset => self.abort_set(id, request, slot, device, fx),
            _ if device.is_none() => Some(R::IncorrectLun),
            F::QueryTask => Some(self.query(|c| c.nexus == slot, request.referenced)),
            F::QueryTaskSet => {
                let busy = self.nexuses.at(slot).is_some_and(|n| n.in_task_set > 0);
                Some(if busy { R::Succeeded } else { R::Complete })
            }
            F::QueryAsynchronousEvent => {
                let pending = self.nexuses.at(slot).is_some_and(|n| !n.attentions.is_empty());
                Some(if pending { R::Succeeded } else { R::Complete })
            }
            F::ClearAca => Some(R::NotSupported),
        }
    }

    /// Whether a command was sent to the LUN of a request, on its session. The LUN may be gone or show another unit by
    /// now; the initiator means what it has sent.
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
        let own = self.commands_where(|c| {
            // What is on the unit that is there now is aborted together with what others have on it.
            self.is_addressed(c, request) && c.state != CommandState::Responding && !(whole && c.nexus == slot)
        });
        if device.is_none() && own.is_empty() {
            return Some(TaskManagementResponse::IncorrectLun);
        }
        self.abort_and_wait(id, own, fx);
        if let Some(device) = device.filter(|_| whole) {
            self.abort_unit(id, slot, device, fx);
        }
        None
    }

    /// Functions that are not about one LUN.
    fn begin_wide(
        &mut self,
        id: TmfId,
        request: &TaskManagementRequest,
        fx: &mut Effects,
    ) -> Option<TaskManagementResponse> {
        let session = request.session;
        let slots: Vec<u32> = self
            .sessions
            .get(session.index, session.generation)
            .map(|s| s.by_lun.iter().copied().filter(|s| *s != NONE).collect())
            .unwrap_or_default();
        if request.function == TaskManagementFunction::ITNexusReset {
            for &slot in &slots {
                if let Some(nexus) = self.nexuses.at_mut(slot) {
                    nexus.attentions.establish(NEXUS_LOSS);
                }
                self.release_holds(slot, fx);
            }
            let all = self.commands_where(|c| c.session == session && c.state != CommandState::Responding);
            self.abort_and_wait(id, all, fx);
            return None;
        }
        let nexus_of = |slot: u32| self.nexuses.at(slot).map(|n| (n.device, slot));
        let mut units: Vec<(DeviceId, u32)> = slots.into_iter().filter_map(nexus_of).collect();
        // A unit that shows under several numbers is reset once.
        units.sort_unstable();
        units.dedup_by_key(|(device, _)| *device);
        for (device, slot) in units {
            self.abort_unit(id, slot, device, fx);
        }
        // No unit of the session's map shows these: their LUN was taken away, or never was there.
        let strays = self.commands_where(|c| {
            let mapped = self.nexuses.at(c.nexus).is_some_and(|n| !n.removed);
            c.session == session && !mapped && c.state != CommandState::Responding
        });
        self.abort_and_wait(id, strays, fx);
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
        // A command whose answer is on the way is no task any more: the initiator sees the answer first, then this.
        let found = request.referenced.filter(|cmd| self.is_unfinished(*cmd));
        let found = found.and_then(|cmd| Some((cmd, self.command(cmd)?)));
        match found.filter(|(_, command)| command.session == request.session) {
            Some((cmd, command)) if self.is_addressed(command, request) => {
                self.abort_and_wait(id, vec![cmd], fx);
                None
            }
            _ if !has_lun => Some(R::IncorrectLun),
            Some(_) => Some(R::Rejected),
            None => Some(R::TaskDoesNotExist),
        }
    }

    fn abort_and_wait(&mut self, id: TmfId, commands: Vec<CmdId>, fx: &mut Effects) {
        for cmd in &commands {
            self.abort(*cmd, CommandMarks::empty(), fx);
        }
        let unfinished: Vec<CmdId> = commands.into_iter().filter(|c| self.is_unfinished(*c)).collect();
        if !unfinished.is_empty() {
            self.add_step(id);
            self.wait_for(unfinished, Then::Tmf(id), fx);
        }
    }

    /// Aborts everything on a logical unit, whoever sent it.
    fn abort_unit(&mut self, id: TmfId, slot: u32, device: DeviceId, fx: &mut Effects) {
        let Some(by) = self.nexus_id(slot) else { return };
        self.add_step(id);
        self.request_barrier(BarrierOwner::Tmf(id), device, BarrierScope::Abort { by }, fx);
    }

    fn query(&self, on_nexus: impl Fn(&Command) -> bool, referenced: Option<CmdId>) -> TaskManagementResponse {
        let there = referenced
            .and_then(|c| self.command(c))
            .is_some_and(|c| on_nexus(c) && c.state != CommandState::Responding);
        if there { TaskManagementResponse::Succeeded } else { TaskManagementResponse::Complete }
    }

    fn add_step(&mut self, id: TmfId) {
        if let Some(tmf) = self.tmfs.get_mut(id.index, id.generation) {
            tmf.steps += 1;
        }
    }

    /// Its barrier is closed and everything on the unit has ended.
    pub(crate) fn tmf_alone(&mut self, id: TmfId, device: DeviceId, barrier: BarrierId, fx: &mut Effects) {
        let resets =
            self.tmfs.get(id.index, id.generation).is_none_or(|t| t.function != TaskManagementFunction::ClearTaskSet);
        if resets {
            fx.push_back(Effect::ResetDevice { device, barrier });
        } else {
            self.release_barrier(barrier, DeviceUpdate::default(), fx);
            self.tmf_step_done(id, fx);
        }
    }

    /// The device handler has reset its volatile state.
    pub(crate) fn device_reset(
        &mut self,
        device: DeviceId,
        barrier: BarrierId,
        control: ControlSettings,
        fx: &mut Effects,
    ) {
        let Some(owned) = self.owned.iter().find(|o| o.id == barrier).copied() else { return };
        debug_assert_eq!(owned.device, device);
        let update = DeviceUpdate {
            control: Some(control),
            reservation: Some(ReservationChange::Clear),
            attention: Some(POWER_ON),
            reset: true,
            ..DeviceUpdate::default()
        };
        self.release_barrier(barrier, update, fx);
        if let BarrierOwner::Tmf(tmf) = owned.owner {
            self.tmf_step_done(tmf, fx);
        }
    }

    /// One step is done; the last one sends the answer.
    pub(crate) fn tmf_step_done(&mut self, id: TmfId, fx: &mut Effects) {
        let Some(tmf) = self.tmfs.get_mut(id.index, id.generation) else { return };
        tmf.steps -= 1;
        if tmf.steps > 0 {
            return;
        }
        if let Some(tmf) = self.tmfs.remove(id.index, id.generation) {
            self.answer(tmf.session, tmf.driver_tag, id, tmf.response, fx);
        }
    }

    /// The unit has left its home engine and is reset no more. What the nexus has on it here is still aborted.
    pub(crate) fn tmf_refused(&mut self, id: TmfId, device: DeviceId, fx: &mut Effects) {
        let Some(session) = self.tmfs.get(id.index, id.generation).map(|t| t.session) else { return };
        let own = self.commands_where(|c| {
            c.session == session && c.device == Some(device) && c.state != CommandState::Responding
        });
        if own.is_empty()
            && let Some(tmf) = self.tmfs.get_mut(id.index, id.generation)
            && tmf.function != TaskManagementFunction::TargetReset
        {
            tmf.response = TaskManagementResponse::IncorrectLun;
        }
        self.abort_and_wait(id, own, fx);
        self.tmf_step_done(id, fx);
    }

    /// A step was given up.
    pub(crate) fn tmf_failed(&mut self, id: TmfId, fx: &mut Effects) {
        if let Some(tmf) = self.tmfs.get_mut(id.index, id.generation) {
            tmf.response = TaskManagementResponse::Failed;
        }
        self.tmf_step_done(id, fx);
    }

    /// The session is gone: nobody waits for the answers any more. Barriers on the way finish by themselves.
    pub(crate) fn drop_tmfs_of(&mut self, session: SessionId) {
        let ids: Vec<(u32, u32)> =
            self.tmfs.iter().filter(|(_, _, t)| t.session == session).map(|(i, g, _)| (i, g)).collect();
        for (index, generation) in ids {
            self.tmfs.remove(index, generation);
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
            function: TaskManagementFunction::AbortTask,
            steps: 0,
            response: TaskManagementResponse::Complete,
        }
    }
}
