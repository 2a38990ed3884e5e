//! SCSI commands (RFC 7143 11.3).

use scst_scsi::sense::SenseFormat;
use scst_scsi::{Cdb, ScsiStatus, TaskAttribute};

use crate::event::{CommandEvent, TaskHandle};
use crate::login::SessionType;
use crate::pdu::{Ahs, AhsIter, BasicHeaderSegment, RESERVED_TAG, RejectReason, ScsiCommand, TaskAttributeCode};
use crate::session::{Held, Order, Session, SessionParameters};
use crate::task::{DataFault, DataOutState, MAX_SENSE_LENGTH, Task};

use super::data_out::DataPdu;
use super::receive::Segment;
use super::{Connection, TaskResponse};

/// CDB and bidirectional read length, put together from header and additional header segments.
struct Extended {
    cdb: Cdb,
    read_length: u32,
}

impl Connection {
    pub(super) fn start_command(
        &mut self,
        session: &mut Session,
        now: u64,
        header: &BasicHeaderSegment,
        ahs: &[u8],
    ) -> (Segment, Option<CommandEvent>) {
        let pdu = ScsiCommand::parse(header);
        if !pdu.immediate && session.order(pdu.cmd_sn) == Order::Ignore {
            return (Segment::Discard, None);
        }
        let extended = match self.admit(session, &pdu, ahs) {
            Ok(extended) => extended,
            Err(reason) => {
                self.reject(reason, header);
                self.skip_number(session, now, header);
                return (Segment::Discard, None);
            }
        };
        self.accept(session, now, &pdu, &extended)
    }

    /// Whether the command can become a task.
    fn admit(&self, session: &mut Session, pdu: &ScsiCommand, ahs: &[u8]) -> Result<Extended, RejectReason> {
        if session.identity().session_type == SessionType::Discovery {
            return Err(RejectReason::PROTOCOL_ERROR);
        }
        if pdu.itt == RESERVED_TAG {
            return Err(RejectReason::INVALID_PDU_FIELD);
        }
        if session.tasks.find(pdu.itt).is_some() {
            return Err(RejectReason::TASK_IN_PROGRESS);
        }
        let extended = extend(pdu, ahs).ok_or(RejectReason::INVALID_PDU_FIELD)?;
        if pdu.immediate && !session.take_immediate() {
            return Err(RejectReason::TOO_MANY_IMMEDIATE_COMMANDS);
        }
        Ok(extended)
    }

    fn accept(
        &mut self,
        session: &mut Session,
        now: u64,
        pdu: &ScsiCommand,
        extended: &Extended,
    ) -> (Segment, Option<CommandEvent>) {
        let parameters = session.parameters();
        let write_length = if pdu.write { pdu.expected_length } else { 0 };
        let read_length = match (pdu.read, pdu.write) {
            (true, true) => extended.read_length,
            (true, false) => pdu.expected_length,
            _ => 0,
        };
        let unsolicited_limit = parameters.first_burst_length.min(write_length);
        let fault = fault(pdu, parameters, unsolicited_limit);
        let unsolicited_open = fault.is_none() && (!pdu.last || pdu.data_length > 0);
        let task = session.tasks.insert(Task {
            itt: pdu.itt,
            cmd_sn: pdu.cmd_sn,
            lun: pdu.lun,
            cid: self.cid,
            immediate: pdu.immediate,
            read: pdu.read,
            write: pdu.write,
            read_length,
            out: DataOutState {
                expected: write_length,
                unsolicited_limit,
                unsolicited_open,
                waiting_since: unsolicited_open.then_some(now),
                ..DataOutState::default()
            },
            ..Task::default()
        });
        // The window and the limit of immediate tasks together are the number of slots.
        let Some(task) = task else { return (Segment::Discard, None) };
        let held = !pdu.immediate && session.order(pdu.cmd_sn) == Order::Early;
        if held {
            session.hold(pdu.cmd_sn, Held::Task(task));
        } else if !pdu.immediate {
            session.advance();
        }
        let command = if let Some(fault) = fault {
            self.refuse_data(session, task, fault);
            None
        } else {
            if unsolicited_open {
                self.timers.owed(now);
            }
            Some(CommandEvent {
                task,
                itt: pdu.itt,
                cmd_sn: pdu.cmd_sn,
                lun: pdu.lun,
                cdb: extended.cdb,
                attribute: attribute(pdu.attribute),
                read: pdu.read,
                write: pdu.write,
                write_length,
                read_length,
                immediate_length: pdu.data_length,
                immediate: pdu.immediate,
                held,
            })
        };
        if !held && !pdu.immediate {
            self.serve_held(session, now);
        }
        if pdu.data_length == 0 {
            // There is no segment whose end would have to be seen.
            return (Segment::Discard, command);
        }
        // Immediate data are the first part of the unsolicited sequence, and without F bit not the last.
        let data =
            DataPdu { task, offset: 0, length: pdu.data_length, solicited: false, last: pdu.last, immediate: true };
        (Segment::Task(data), command)
    }

    /// Answers a command on the spot; the mid-level never hears of it.
    fn refuse_data(&mut self, session: &mut Session, task: TaskHandle, fault: DataFault) {
        let mut bytes = [0; MAX_SENSE_LENGTH];
        let length = fault.sense().emit(SenseFormat::Fixed, &mut bytes);
        let response = TaskResponse {
            status: ScsiStatus::CHECK_CONDITION,
            sense: &bytes[..length],
            data_in: 0,
            wanted: 0,
            read_wanted: 0,
        };
        self.queue_response(session, task, response);
    }
}

/// What is wrong with the data that a command brings or announces (RFC 7143 11.3.1, 13.10, 13.11, 13.14).
fn fault(pdu: &ScsiCommand, parameters: &SessionParameters, unsolicited_limit: u32) -> Option<DataFault> {
    let immediate_allowed = pdu.write && parameters.immediate_data;
    let unsolicited_allowed = pdu.write && !parameters.initial_r2t;
    let immediate = pdu.data_length > 0;
    let unsolicited = !pdu.last;
    if (immediate && !immediate_allowed) || (unsolicited && !unsolicited_allowed) {
        Some(DataFault::Unexpected)
    } else {
        (pdu.data_length > unsolicited_limit).then_some(DataFault::WrongAmount)
    }
}

fn attribute(code: TaskAttributeCode) -> TaskAttribute {
    match code {
        TaskAttributeCode::ORDERED => TaskAttribute::Ordered,
        TaskAttributeCode::HEAD_OF_QUEUE => TaskAttribute::HeadOfQueue,
        TaskAttributeCode::ACA => TaskAttribute::Aca,
        // RFC 7143 11.3.1.1: 5 to 7 are reserved.
        _ => TaskAttribute::Simple,
    }
}

fn extend(pdu: &ScsiCommand, ahs: &[u8]) -> Option<Extended> {
    let mut extended = Extended { cdb: Cdb::new(&pdu.cdb), read_length: 0 };
    for segment in AhsIter::new(ahs) {
        match segment.ok()? {
            Ahs::ExtendedCdb(tail) => {
                let mut cdb = [0; scst_scsi::cdb::MAX_CDB_LENGTH];
                let tail = &tail[..tail.len().min(cdb.len() - pdu.cdb.len())];
                cdb[..pdu.cdb.len()].copy_from_slice(&pdu.cdb);
                cdb[pdu.cdb.len()..][..tail.len()].copy_from_slice(tail);
                extended.cdb = Cdb::new(&cdb[..pdu.cdb.len() + tail.len()]);
            }
            Ahs::BidirectionalReadLength(length) => extended.read_length = length,
            Ahs::Unknown(_) => return None,
        }
    }
    Some(extended)
}
