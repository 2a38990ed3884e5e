//! What the driver answers.

use scst_scsi::{Lun, TaskManagementResponse};

use crate::event::{TaskHandle, TmfTag};
use crate::login::SessionType;
use crate::pdu::{
    AsyncEvent, AsyncMessagePdu, LogoutResponseCode, LogoutResponsePdu, NopIn, RESERVED_TAG, TaskManagementPdu,
    TmfResponseCode,
};
use crate::session::Session;
use crate::task::{Answer, MAX_SENSE_LENGTH, Stage};

use super::send::Outgoing;
use super::{AsyncMessage, Connection, LogoutResponse, MAX_SMALL_PDUS, State, TaskResponse};

impl Connection {
    /// Answers a command. False: the handle is stale.
    pub fn queue_response(&mut self, session: &mut Session, task: TaskHandle, response: TaskResponse<'_>) -> bool {
        let Some(entry) = session.tasks.get_mut(task).filter(|t| t.stage == Stage::Open) else { return false };
        let difference = |wanted: u32, expected: u32| i64::from(wanted) - i64::from(expected);
        let expected = if entry.write { entry.out.expected } else { entry.read_length };
        let bidirectional = entry.read && entry.write;
        entry.answer = Answer {
            status: response.status.0,
            data_in: response.data_in.min(entry.read_length),
            data_sent: 0,
            residual: difference(response.wanted, expected),
            read_residual: if bidirectional { difference(response.read_wanted, entry.read_length) } else { 0 },
            sense_length: 0,
        };
        entry.stage = Stage::Responding;
        entry.out.waiting_since = None;
        if !response.sense.is_empty() {
            let length = session.tasks.keep_sense(task, response.sense);
            if let Some(entry) = session.tasks.get_mut(task) {
                entry.answer.sense_length = length;
            }
        }
        self.outgoing.push_back(Outgoing::Response(task));
        true
    }

    /// Forgets a command that ended without an answer. False: the handle is stale.
    pub fn drop_task(&mut self, session: &mut Session, task: TaskHandle) -> bool {
        session.end_task(task).is_some()
    }

    /// Answers a task management function.
    pub fn task_management_response(&mut self, session: &mut Session, tag: TmfTag, response: TaskManagementResponse) {
        let code = match response {
            TaskManagementResponse::Complete => TmfResponseCode::COMPLETE,
            TaskManagementResponse::Succeeded => TmfResponseCode::SUCCEEDED,
            TaskManagementResponse::NotSupported => TmfResponseCode::NOT_SUPPORTED,
            TaskManagementResponse::TaskDoesNotExist => TmfResponseCode::TASK_DOES_NOT_EXIST,
            TaskManagementResponse::IncorrectLun => TmfResponseCode::LUN_DOES_NOT_EXIST,
            TaskManagementResponse::Rejected | TaskManagementResponse::Failed => TmfResponseCode::REJECTED,
        };
        self.queue_tmf_response(session, tag, code);
    }

    pub(super) fn queue_tmf_response(&mut self, session: &mut Session, tag: TmfTag, response: TmfResponseCode) {
        session.release(tag.immediate);
        let pdu = TaskManagementPdu { response, itt: tag.itt, stat_sn: 0, exp_cmd_sn: 0, max_cmd_sn: 0 };
        self.queue_small(pdu.emit(), Vec::new(), true);
    }

    /// Answers the logout that was reported. What was queued before is sent first; then the connection ends
    /// (`Transmitted::close`). Without a reported logout it does nothing.
    pub fn logout_response(&mut self, session: &Session, response: LogoutResponse) {
        let State::LoggingOut { itt } = self.state else { return };
        let code = match response {
            LogoutResponse::Closed => LogoutResponseCode::CLOSED,
            LogoutResponse::CidNotFound => LogoutResponseCode::CID_NOT_FOUND,
            LogoutResponse::RecoveryNotSupported => LogoutResponseCode::RECOVERY_NOT_SUPPORTED,
            LogoutResponse::CleanupFailed => LogoutResponseCode::CLEANUP_FAILED,
        };
        self.queue_logout_response(session, itt, code);
        self.state = State::Ending;
        self.close_after_send = true;
    }

    pub(super) fn queue_logout_response(&mut self, session: &Session, itt: u32, response: LogoutResponseCode) {
        let pdu = LogoutResponsePdu {
            response,
            itt,
            stat_sn: 0,
            exp_cmd_sn: 0,
            max_cmd_sn: 0,
            time2wait: session.parameters().default_time2wait,
            time2retain: session.parameters().default_time2retain,
        };
        self.queue_small(pdu.emit(), Vec::new(), true);
    }

    /// Sends an asynchronous message. False when too much is waiting already, the connection is ending, or a SCSI event
    /// does not belong to the session because it is a discovery session.
    pub fn async_message(&mut self, session: &Session, now: u64, message: AsyncMessage<'_>) -> bool {
        let misplaced = matches!(message, AsyncMessage::ScsiEvent { .. })
            && session.identity().session_type == SessionType::Discovery;
        if misplaced || self.small_pdus >= MAX_SMALL_PDUS || self.state != State::Open {
            return false;
        }
        let mut pdu = AsyncMessagePdu {
            data_length: 0,
            lun: Lun::default(),
            tag: RESERVED_TAG,
            stat_sn: 0,
            exp_cmd_sn: 0,
            max_cmd_sn: 0,
            event: AsyncEvent::SCSI,
            vendor_code: 0,
            parameter1: 0,
            parameter2: 0,
            parameter3: 0,
        };
        let mut data = Vec::new();
        match message {
            AsyncMessage::ScsiEvent { lun, sense } => {
                // RFC 7143 11.9.4: SenseLength, then sense data.
                let sense = &sense[..sense.len().min(MAX_SENSE_LENGTH)];
                data.extend_from_slice(&(sense.len() as u16).to_be_bytes());
                data.extend_from_slice(sense);
                pdu.lun = lun;
                pdu.data_length = data.len() as u32;
            }
            AsyncMessage::LogoutRequest { seconds } => {
                pdu.event = AsyncEvent::LOGOUT_REQUEST;
                pdu.parameter3 = seconds;
                self.timers.logout_due(now, seconds);
            }
            AsyncMessage::ConnectionDropped { time2wait, time2retain } => {
                pdu.event = AsyncEvent::CONNECTION_DROPPED;
                (pdu.parameter1, pdu.parameter2, pdu.parameter3) = (self.cid, time2wait, time2retain);
            }
            AsyncMessage::SessionDropped { time2wait, time2retain } => {
                pdu.event = AsyncEvent::SESSION_DROPPED;
                (pdu.parameter2, pdu.parameter3) = (time2wait, time2retain);
            }
        }
        self.queue_small(pdu.emit(), data, true);
        true
    }

    /// Pings the initiator; `NopInTimeout` runs from now on. Does nothing while a ping is not answered.
    pub fn nop_in(&mut self, now: u64) {
        if self.state != State::Open {
            return;
        }
        let Some(ttt) = self.timers.ping(now) else { return };
        let pdu = NopIn {
            data_length: 0,
            lun: Lun::default(),
            itt: RESERVED_TAG,
            ttt,
            stat_sn: 0,
            exp_cmd_sn: 0,
            max_cmd_sn: 0,
        };
        // RFC 7143 11.19.2: without an initiator task tag it carries StatSN, but does not advance it.
        self.queue_small(pdu.emit(), Vec::new(), false);
    }
}
