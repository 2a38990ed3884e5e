//! TARGET RESET: a LOGICAL UNIT RESET of every unit that the session sees, in slices.
//!
//! A target may have 16,384 units. So a reset of all of them is done some units at a time, with a turn of the reactor
//! between two slices, and with a bound on the messages that are on their way. Resets of one session that come before an
//! earlier one has begun are one reset: each of them asks for what the other does.

use std::collections::VecDeque;

use scst_scsi::TaskManagementResponse;

use crate::command::CommandState;
use crate::engine::{Effects, Engine};
use crate::event::TaskManagementRequest;
use crate::ids::{DeviceId, SessionId, TmfId};
use crate::luns::is_there;

/// Units of one slice.
const SLICE: u32 = 128;
/// Resets of units that may be on their way between engines at the same time.
const MAX_ON_THE_WAY: u32 = 256;
/// Most functions that one reset answers.
const MAX_JOINED: usize = 256;

/// A reset that has units left.
#[derive(Debug)]
pub(crate) struct TargetReset {
    pub(crate) tmf: TmfId,
    session: SessionId,
    units: Vec<DeviceId>,
    /// The next unit.
    next: usize,
}

/// Resets with units left, oldest first.
pub(crate) type TargetResets = VecDeque<TargetReset>;

impl Engine {
    /// Lets a reset that has not begun stand for one more. Returns false when there is none.
    pub(crate) fn join_target_reset(&mut self, request: &TaskManagementRequest, fx: &mut Effects) -> bool {
        let same = |reset: &&TargetReset| reset.session == request.session && reset.next == 0;
        let Some(id) = self.target_resets.iter().find(same).map(|reset| reset.tmf) else { return false };
        if !self.add_answer(id, request.driver_tag, MAX_JOINED) {
            return false;
        }
        self.abort_strays(id, request.session, fx);
        true
    }

    pub(crate) fn begin_target_reset(
        &mut self,
        id: TmfId,
        session: SessionId,
        fx: &mut Effects,
    ) -> Option<TaskManagementResponse> {
        let Some(found) = self.sessions.get(session.index, session.generation) else {
            return Some(TaskManagementResponse::Failed);
        };
        let devices = found.map.entries().iter().map(|entry| entry.device);
        let mut units: Vec<DeviceId> = devices.filter(|device| is_there(&self.devices, *device)).collect();
        // A unit that shows under several numbers is reset once.
        units.sort_unstable();
        units.dedup();
        self.abort_strays(id, session, fx);
        self.add_step(id);
        self.target_resets.push_back(TargetReset { tmf: id, session, units, next: 0 });
        if self.target_resets.len() == 1 {
            self.go_on_with_resets(fx);
        }
        None
    }

    /// Commands to units that the session's map does not show any more, and those that another function keeps back.
    fn abort_strays(&mut self, id: TmfId, session: SessionId, fx: &mut Effects) {
        self.share_held_back(id, session, |_, _, _| true);
        let strays = self.strays_of_session(session, |c| c.state != CommandState::Responding);
        self.abort_and_wait(id, &strays, fx);
    }

    /// Returns true when there are units to reset and nothing has to come back first.
    pub(crate) fn resets_can_go_on(&self) -> bool {
        !self.target_resets.is_empty() && self.unit_resets < MAX_ON_THE_WAY
    }

    /// Resets some more units.
    pub(crate) fn go_on_with_resets(&mut self, fx: &mut Effects) {
        for _ in 0..SLICE {
            if !self.resets_can_go_on() {
                return;
            }
            let Some(reset) = self.target_resets.front_mut() else { return };
            let (tmf, session) = (reset.tmf, reset.session);
            let unit = reset.units.get(reset.next).copied();
            reset.next += 1;
            match unit.filter(|_| self.is_in_progress(tmf)) {
                Some(device) => self.abort_unit(tmf, session, device, fx),
                None => {
                    self.target_resets.pop_front();
                    self.tmf_step_done(tmf, fx);
                }
            }
        }
    }
}
