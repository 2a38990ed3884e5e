//! Requests other than SCSI commands: NOP-Out, task management, logout; and the order they are served in.

use scst_scsi::TaskManagementFunction;

use crate::event::{LogoutReason, RecvEvent, TaskHandle, TaskManagementEvent, TmfTag};
use crate::login::SessionType;
use crate::pdu::{
    BasicHeaderSegment, LogoutReasonCode, LogoutRequest, LogoutResponseCode, NopIn, NopOut, RESERVED_TAG, Reject,
    RejectReason, TaskManagementRequest, TextRequest, TmfFunction, TmfResponseCode, opcode,
};
use crate::session::{Held, Order, Session};
use crate::task::Stage;
use crate::text::MAX_TEXT_LENGTH;

use super::{Connection, RequestData, State};

/// iSCSIProtocolLevel from which the functions of RFC 7144 may be used.
const PROTOCOL_LEVEL_OF_NEW_FUNCTIONS: u16 = 2;

impl Connection {
    /// A request with its whole data segment is there: serve it now, keep it, or ignore it (RFC 7143 4.2.2.1).
    pub(super) fn request_arrived(
        &mut self,
        session: &mut Session,
        now: u64,
        header: &BasicHeaderSegment,
        data: RequestData,
    ) {
        if header.opcode() == opcode::TEXT_REQUEST && !data.is_whole() {
            // There is no room for it now (RFC 7143 11.17.1), or there never is.
            let later = header.data_length() as usize <= MAX_TEXT_LENGTH;
            self.reject(if later { RejectReason::LONG_OPERATION } else { RejectReason::PROTOCOL_ERROR }, header);
            return self.skip_number(session, now, header);
        }
        if header.immediate() {
            self.serve(session, now, header, data);
            return;
        }
        match session.order(header.cmd_sn()) {
            Order::Ignore => {}
            Order::Next => {
                session.advance();
                self.serve(session, now, header, data);
                self.serve_held(session, now);
            }
            Order::Early => {
                if !session.hold(header.cmd_sn(), Held::Pdu(Box::new((*header, data)))) {
                    self.reject(RejectReason::LONG_OPERATION, header);
                }
            }
        }
    }

    /// The gap before requests that came early may be closed now.
    pub(super) fn serve_held(&mut self, session: &mut Session, now: u64) {
        while self.state == State::Open
            && let Some(held) = session.take_next()
        {
            match held {
                Held::Task(task) => {
                    let user = session.user(task).unwrap_or(0);
                    self.events.push_back(RecvEvent::Deliver { task, user });
                }
                Held::Gone => {}
                Held::Pdu(pdu) => self.serve(session, now, &pdu.0, pdu.1),
            }
        }
    }

    /// A request was refused: its number counts as received all the same.
    #[cold]
    #[inline(never)]
    pub(super) fn skip_number(&mut self, session: &mut Session, now: u64, header: &BasicHeaderSegment) {
        if !header.immediate() && session.skip(header.cmd_sn()) {
            self.serve_held(session, now);
        }
    }

    fn serve(&mut self, session: &mut Session, now: u64, header: &BasicHeaderSegment, data: RequestData) {
        if header.opcode() == opcode::TASK_MANAGEMENT_REQUEST {
            // Its place in the window is given back with the answer.
            self.task_management(session, now, header);
            return;
        }
        if !header.immediate() {
            session.release(false);
        }
        match header.opcode() {
            opcode::NOP_OUT => self.nop_out(&NopOut::parse(header), data),
            opcode::TEXT_REQUEST => {
                self.text_request(session, header, &TextRequest::parse(header), &data);
                self.timers.text_served(now, self.text.is_active());
            }
            opcode::LOGOUT_REQUEST => self.logout(session, &LogoutRequest::parse(header)),
            _ => self.reject(RejectReason::COMMAND_NOT_SUPPORTED, header),
        }
    }

    /// RFC 7143 11.17: the data segment is the header that was rejected.
    pub(super) fn reject(&mut self, reason: RejectReason, header: &BasicHeaderSegment) {
        let data = header.0.to_vec();
        let pdu = Reject {
            reason,
            data_length: data.len() as u32,
            tag: RESERVED_TAG,
            stat_sn: 0,
            exp_cmd_sn: 0,
            max_cmd_sn: 0,
            data_sn: 0,
        };
        self.queue_small(pdu.emit(), data, true);
    }

    /// RFC 7143 11.18: a ping is answered, an answer ends our own ping.
    fn nop_out(&mut self, pdu: &NopOut, mut data: RequestData) {
        if pdu.ttt != RESERVED_TAG {
            self.timers.pong(pdu.ttt);
        }
        if pdu.itt == RESERVED_TAG {
            return;
        }
        // RFC 7143 11.18.3: no more than the initiator takes, and no more than there was room for.
        data.bytes.truncate(self.parameters.max_send_data_segment_length as usize);
        let answer = NopIn {
            data_length: data.bytes.len() as u32,
            lun: pdu.lun,
            itt: pdu.itt,
            ttt: RESERVED_TAG,
            stat_sn: 0,
            exp_cmd_sn: 0,
            max_cmd_sn: 0,
        };
        self.queue_small(answer.emit(), data, true);
    }

    fn logout(&mut self, session: &Session, pdu: &LogoutRequest) {
        let reason = match pdu.reason {
            LogoutReasonCode::CLOSE_SESSION => LogoutReason::CloseSession,
            LogoutReasonCode::CLOSE_CONNECTION if pdu.cid == self.cid => LogoutReason::CloseConnection,
            LogoutReasonCode::CLOSE_CONNECTION => {
                return self.queue_logout_response(session, pdu.itt, LogoutResponseCode::CID_NOT_FOUND);
            }
            // RFC 7143 11.14: recovery needs error recovery level 2.
            _ => return self.queue_logout_response(session, pdu.itt, LogoutResponseCode::RECOVERY_NOT_SUPPORTED),
        };
        self.state = State::LoggingOut { itt: pdu.itt };
        self.events.push_back(RecvEvent::Logout { reason });
    }

    fn task_management(&mut self, session: &mut Session, now: u64, header: &BasicHeaderSegment) {
        let pdu = TaskManagementRequest::parse(header);
        let tag = TmfTag { itt: pdu.itt, immediate: pdu.immediate };
        if session.identity().session_type == SessionType::Discovery {
            if !pdu.immediate {
                session.release(false);
            }
            return self.reject(RejectReason::PROTOCOL_ERROR, header);
        }
        if pdu.immediate && !session.take_immediate() {
            return self.reject(RejectReason::TOO_MANY_IMMEDIATE_COMMANDS, header);
        }
        let event = |function, referenced, referenced_user| {
            RecvEvent::TaskManagement(TaskManagementEvent {
                tag,
                function,
                cold_reset: pdu.function == TmfFunction::TARGET_COLD_RESET,
                lun: pdu.lun,
                referenced,
                referenced_user,
            })
        };
        let Some(function) = function(pdu.function, session.parameters().protocol_level) else {
            let code = if pdu.function == TmfFunction::TASK_REASSIGN {
                TmfResponseCode::REASSIGN_NOT_SUPPORTED
            } else {
                TmfResponseCode::NOT_SUPPORTED
            };
            return self.queue_tmf_response(session, tag, code);
        };
        if !matches!(function, TaskManagementFunction::AbortTask | TaskManagementFunction::QueryTask) {
            self.events.push_back(event(function, None, 0));
            return;
        }
        match self.referenced(session, now, &pdu) {
            Ok((task, user)) => self.events.push_back(event(function, Some(task), user)),
            Err(code) => self.queue_tmf_response(session, tag, code),
        }
    }

    /// The task that ABORT TASK or QUERY TASK names, or the answer if there is none (RFC 7143 11.5.4, 11.6.1).
    fn referenced(
        &mut self,
        session: &mut Session,
        now: u64,
        pdu: &TaskManagementRequest,
    ) -> Result<(TaskHandle, u64), TmfResponseCode> {
        let found = session.tasks.find(pdu.referenced_task_tag);
        if let Some((handle, task)) = found.and_then(|handle| Some((handle, session.tasks.get(handle)?))) {
            if task.stage == Stage::Responding {
                return Err(TmfResponseCode::TASK_DOES_NOT_EXIST);
            }
            if task.lun != pdu.lun || task.cmd_sn != pdu.ref_cmd_sn {
                return Err(TmfResponseCode::REJECTED);
            }
            return Ok((handle, task.user));
        }
        let older = (pdu.cmd_sn.wrapping_sub(pdu.ref_cmd_sn) as i32) > 0;
        let missing = older && session.order(pdu.ref_cmd_sn) != Order::Ignore;
        if pdu.function != TmfFunction::ABORT_TASK || !missing {
            return Err(TmfResponseCode::TASK_DOES_NOT_EXIST);
        }
        // The command has not arrived and never shall: its number counts as received.
        if session.skip(pdu.ref_cmd_sn) {
            self.serve_held(session, now);
        }
        Err(TmfResponseCode::COMPLETE)
    }
}

fn function(code: TmfFunction, protocol_level: u16) -> Option<TaskManagementFunction> {
    let new = protocol_level >= PROTOCOL_LEVEL_OF_NEW_FUNCTIONS;
    Some(match code {
        TmfFunction::ABORT_TASK => TaskManagementFunction::AbortTask,
        TmfFunction::ABORT_TASK_SET => TaskManagementFunction::AbortTaskSet,
        TmfFunction::CLEAR_ACA => TaskManagementFunction::ClearAca,
        TmfFunction::CLEAR_TASK_SET => TaskManagementFunction::ClearTaskSet,
        TmfFunction::LOGICAL_UNIT_RESET => TaskManagementFunction::LogicalUnitReset,
        TmfFunction::TARGET_WARM_RESET | TmfFunction::TARGET_COLD_RESET => TaskManagementFunction::TargetReset,
        TmfFunction::QUERY_TASK if new => TaskManagementFunction::QueryTask,
        TmfFunction::QUERY_TASK_SET if new => TaskManagementFunction::QueryTaskSet,
        TmfFunction::I_T_NEXUS_RESET if new => TaskManagementFunction::ITNexusReset,
        TmfFunction::QUERY_ASYNC_EVENT if new => TaskManagementFunction::QueryAsynchronousEvent,
        _ => return None,
    })
}
