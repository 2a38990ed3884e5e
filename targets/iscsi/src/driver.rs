//! What the mid-level asks of the driver. Nothing here talks to the back-end or to the shard: it changes the protocol's
//! state or queues a call, and marks the connection for `flush`.

use scst_core::buffer::SgList;
use scst_core::driver::{Response, TargetDriver};
use scst_core::ids::{CmdId, SessionId, TmfId};
use scst_protocol_iscsi::connection::{AbortData, AsyncMessage, Connection as Protocol, LogoutResponse, TaskResponse};
use scst_protocol_iscsi::event::{TaskHandle, TmfTag};
use scst_protocol_iscsi::session::Session;
use scst_scsi::sense::{MAX_RAW_SENSE_LENGTH, MAX_SENSE_LENGTH, SenseFormat};
use scst_scsi::{Lun, SenseData, TaskManagementResponse};

use crate::connection::{Connection, Life, Phase, Why};
use crate::limits::{ABORT_DATA_TIMEOUT, DRAIN_TIMEOUT};
use crate::session::{SessionState, TaskState};
use crate::target::{IscsiTarget, ShardCall, Shared};

/// Marks the tag of a TARGET COLD RESET: the connection ends after the answer (RFC 7143 11.5.1).
const COLD_RESET: u64 = 1 << 63;

/// The driver's tag of a task management function.
pub(crate) fn tmf_tag(tag: TmfTag, cold_reset: bool) -> u64 {
    tag.to_bits() | if cold_reset { COLD_RESET } else { 0 }
}

/// Both halves of the protocol's state, when PDUs can still be exchanged.
fn live<'a>(
    connection: &'a mut Connection,
    session: &'a mut SessionState,
) -> Option<(&'a mut Protocol, &'a mut Session)> {
    match (&mut connection.phase, &mut session.protocol) {
        (Phase::Full(protocol), Some(state)) if matches!(connection.life, Life::Open) => Some((protocol, state)),
        _ => None,
    }
}

impl IscsiTarget {
    fn owner(&mut self, core: SessionId) -> Option<(&mut Connection, &mut SessionState, &mut Shared)> {
        let slot = self.shared.session_of(core)?;
        let session = self.sessions.get_mut(slot).filter(|s| s.core == Some(core))?;
        let connection = self.connections.get_mut(session.connection)?;
        Some((connection, session, &mut self.shared))
    }
}

impl TargetDriver for IscsiTarget {
    fn request_data(&mut self, session: SessionId, driver_tag: u64, cmd: CmdId, _sg: &SgList, length: u32) {
        let handle = TaskHandle::from_bits(driver_tag);
        let Some((connection, session, shared)) = self.owner(session) else { return };
        let Some(task) = session.tasks.get_mut(handle) else {
            debug_assert!(false, "data requested for a task that is not there");
            return shared.calls.push_back(ShardCall::Stopped(cmd));
        };
        task.state = TaskState::Fetching;
        let now = shared.now.0;
        // A connection that is being closed takes its session down, and `abort_data` follows.
        if let Some((protocol, state)) = live(connection, session) {
            protocol.request_data(state, now, handle, length);
            shared.mark(connection);
        }
    }

    fn respond(&mut self, response: Response<'_>) {
        let handle = TaskHandle::from_bits(response.driver_tag);
        let Some((connection, session, shared)) = self.owner(response.session) else { return };
        let answer = TaskResponse {
            status: response.status,
            sense: &[],
            data_in: response.data_in,
            wanted: response.wanted,
            read_wanted: 0,
        };
        let queued = match session.tasks.get_mut(handle) {
            Some(task) => {
                task.state = TaskState::Responding;
                if let Some(chunk) = task.lent.take() {
                    connection.input.give_back(chunk);
                }
                live(connection, session).is_some_and(|(protocol, state)| match response.sense {
                    None => protocol.queue_response(state, handle, answer),
                    Some(_) => {
                        let mut bytes = [0; MAX_RAW_SENSE_LENGTH];
                        let length = response.emit_sense(&mut bytes);
                        protocol.queue_response(state, handle, TaskResponse { sense: &bytes[..length], ..answer })
                    }
                })
            }
            None => false,
        };
        if queued {
            shared.mark(connection);
        } else {
            // Nobody is there to hear it any more.
            session.tasks.remove(handle);
            shared.calls.push_back(ShardCall::ResponseSent(response.cmd));
        }
    }

    fn dropped(&mut self, session: SessionId, driver_tag: u64, _cmd: CmdId) {
        let handle = TaskHandle::from_bits(driver_tag);
        let Some((connection, session, shared)) = self.owner(session) else { return };
        if let Some(chunk) = session.tasks.remove(handle).and_then(|task| task.lent) {
            connection.input.give_back(chunk);
            shared.mark(connection);
        }
        if let Some((protocol, state)) = live(connection, session) {
            protocol.drop_task(state, handle);
            shared.mark(connection);
        }
    }

    fn parked(&mut self, session: SessionId, driver_tag: u64, cmd: CmdId) {
        let handle = TaskHandle::from_bits(driver_tag);
        let Some((connection, session, shared)) = self.owner(session) else { return };
        if let Some(chunk) = session.tasks.remove(handle).and_then(|task| task.lent) {
            shared.parked.insert(cmd, (connection.slot, chunk));
        }
        if let Some((protocol, state)) = live(connection, session) {
            protocol.drop_task(state, handle);
        }
        shared.mark(connection);
    }

    fn unparked(&mut self, cmd: CmdId) {
        let Some(place) = self.shared.parked.remove(cmd) else { return };
        let (connection, chunk) = place;
        match self.connections.get_mut(connection) {
            Some(connection) => {
                connection.input.give_back(chunk);
                self.shared.mark(connection);
            }
            None => self.shared.parked.give_back(place),
        }
    }

    fn abort_data(&mut self, session: SessionId, driver_tag: u64, cmd: CmdId) {
        let handle = TaskHandle::from_bits(driver_tag);
        let Some((connection, session, shared)) = self.owner(session) else { return };
        let pending = match live(connection, session) {
            Some((protocol, state)) => protocol.abort_data(state, handle) == AbortData::Pending,
            None => connection.life != Life::Closed && connection.receives_into(handle),
        };
        if !pending {
            debug_assert!(
                connection.life == Life::Closed || !connection.receives_into(handle),
                "a receive into the buffer is in flight"
            );
            if let Some(task) = session.tasks.get_mut(handle) {
                task.state = TaskState::Given;
            }
            shared.calls.push_back(ShardCall::Stopped(cmd));
        } else if let Some(task) = session.tasks.get_mut(handle) {
            task.state = TaskState::Stopping;
            connection.abort_deadline.get_or_insert_with(|| shared.now.after(ABORT_DATA_TIMEOUT));
        }
        shared.mark(connection);
    }

    fn task_management_done(
        &mut self,
        session: SessionId,
        driver_tag: u64,
        _tmf: TmfId,
        response: TaskManagementResponse,
    ) {
        let Some((connection, session, shared)) = self.owner(session) else { return };
        let peer = connection.peer;
        let Some((protocol, state)) = live(connection, session) else { return };
        if response == TaskManagementResponse::Failed {
            tracing::warn!(%peer, initiator = %state.identity().initiator_name,
                target = state.identity().target_name.as_deref().unwrap_or(""),
                "task management function rejected: commands that it is about do not end; is a device's storage stuck?");
        }
        protocol.task_management_response(state, TmfTag::from_bits(driver_tag & !COLD_RESET), response);
        if driver_tag & COLD_RESET != 0 && response == TaskManagementResponse::Complete {
            connection.drain(Why::SessionClosed, shared.now.after(DRAIN_TIMEOUT));
        }
        shared.mark(connection);
    }

    fn async_event(&mut self, session: SessionId, lun: Lun, sense: &SenseData) -> bool {
        let Some((connection, session, shared)) = self.owner(session) else { return false };
        let Some((protocol, state)) = live(connection, session) else { return false };
        let mut bytes = [0; MAX_SENSE_LENGTH];
        let length = sense.emit(SenseFormat::Fixed, &mut bytes);
        let message = AsyncMessage::ScsiEvent { lun, sense: &bytes[..length] };
        let taken = protocol.async_message(state, shared.now.0, message);
        shared.mark(connection);
        taken
    }

    fn close_session(&mut self, session: SessionId) {
        let core = session;
        let Some((connection, session, shared)) = self.owner(session) else { return };
        let now = shared.now;
        match live(connection, session) {
            Some((protocol, state)) => {
                protocol.async_message(state, now.0, AsyncMessage::SessionDropped { time2wait: 2, time2retain: 0 });
                connection.drain(Why::SessionClosed, now.after(DRAIN_TIMEOUT));
            }
            None => connection.want_close(Why::SessionClosed),
        }
        shared.calls.push_back(ShardCall::SessionDown(core));
        shared.mark(connection);
    }

    fn session_closed(&mut self, session: SessionId) {
        let Some((connection, session, shared)) = self.owner(session) else { return };
        if let Some(entry) = session.core.take().and_then(|core| shared.by_core.get_mut(core.index as usize)) {
            *entry = None;
        }
        shared.release(session.claim.take());
        if std::mem::take(&mut session.logout)
            && let Some((protocol, state)) = live(connection, session)
        {
            protocol.logout_response(state, LogoutResponse::Closed);
        }
        shared.mark(connection);
    }
}
