//! SCSI commands (RFC 7143 11.3).

use scst_scsi::sense::SenseFormat;
use scst_scsi::cdb::MAX_CDB_LENGTH;
use scst_scsi::{Cdb, ScsiStatus, TaskAttribute};

use crate::event::{CommandEvent, TaskHandle};
use crate::login::SessionType;
use crate::pdu::{Ahs, AhsIter, RESERVED_TAG, RejectReason, ScsiCommand, TaskAttributeCode};
use crate::session::{Held, Order, Session, SessionParameters};
use crate::task::{DataFault, DataOutState, MAX_SENSE_LENGTH, Task};

use super::data_out::DataPdu;
use super::receive::{NewTask, Segment};
use super::{Connection, State, TaskResponse};

/// CDB and bidirectional read length, put together from header and additional header segments.
struct Extended {
    cdb: Cdb,
    read_length: u32,
}

impl Connection {
    /// `self.header` is a command's: makes it a task, unless something is wrong with it, and sees to its data segment.
    pub(super) fn start_command(&mut self, session: &mut Session, now: u64, ahs: &[u8]) -> Option<NewTask> {
        let pdu = ScsiCommand::parse(&self.header);
        if !pdu.immediate && session.order(pdu.cmd_sn) == Order::Ignore {
            self.expect_segment(Segment::Discard);
            return None;
        }
        match self.admit(session, &pdu, ahs) {
            Ok(bidirectional) => self.accept(session, now, &pdu, bidirectional),
            Err(reason) => {
                self.refuse(session, now, reason);
                None
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn refuse(&mut self, session: &mut Session, now: u64, reason: RejectReason) {
        let header = self.header;
        self.reject(reason, &header);
        self.skip_number(session, now, &header);
        if self.state != State::Closed {
            self.expect_segment(Segment::Discard);
        }
    }

    /// What the driver hears of a task that was just made of `self.header` and these additional header segments (and what
    /// comes behind them).
    #[inline(always)]
    pub(super) fn describe(&self, new: NewTask, behind: &[u8], event: &mut CommandEvent) {
        let pdu = ScsiCommand::parse(&self.header);
        let ahs = behind.get(..usize::from(pdu.ahs_length)).unwrap_or_default();
        // That they are right has been seen before there was a task.
        let Extended { cdb, read_length } =
            extend(&pdu, ahs).unwrap_or_else(|| Extended { cdb: Cdb::new(&pdu.cdb), read_length: 0 });
        let (write_length, read_length) = lengths(&pdu, read_length);
        *event = CommandEvent {
            task: new.task,
            itt: pdu.itt,
            cmd_sn: pdu.cmd_sn,
            lun: pdu.lun,
            cdb,
            attribute: attribute(pdu.attribute),
            read: pdu.read,
            write: pdu.write,
            write_length,
            read_length,
            immediate_length: pdu.data_length,
            immediate: pdu.immediate,
            held: new.held,
        };
    }

    /// Whether the command can become a task. Returns the bidirectional read length.
    fn admit(&self, session: &mut Session, pdu: &ScsiCommand, ahs: &[u8]) -> Result<u32, RejectReason> {
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
        Ok(extended.read_length)
    }

    fn accept(&mut self, session: &mut Session, now: u64, pdu: &ScsiCommand, bidirectional: u32) -> Option<NewTask> {
        let parameters = session.parameters();
        let (write_length, read_length) = lengths(pdu, bidirectional);
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
        let Some(task) = task else {
            self.expect_segment(Segment::Discard);
            return None;
        };
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
            Some(NewTask { task, held })
        };
        if !held && !pdu.immediate && session.has_held() {
            self.serve_held(session, now);
        }
        // Immediate data are the first part of the unsolicited sequence, and without F bit not the last.
        if self.state != State::Closed {
            let (length, last) = (pdu.data_length, pdu.last);
            self.expect_segment(Segment::Task(DataPdu {
                task,
                offset: 0,
                length,
                solicited: false,
                last,
                immediate: true,
            }));
        }
        command
    }

    /// Answers a command on the spot; the mid-level never hears of it.
    #[cold]
    #[inline(never)]
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

/// Bytes of data-out and data-in that the initiator expects.
fn lengths(pdu: &ScsiCommand, bidirectional: u32) -> (u32, u32) {
    match (pdu.read, pdu.write) {
        (true, true) => (pdu.expected_length, bidirectional),
        (true, false) => (0, pdu.expected_length),
        (false, true) => (pdu.expected_length, 0),
        (false, false) => (0, 0),
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

#[inline(always)]
fn extend(pdu: &ScsiCommand, ahs: &[u8]) -> Option<Extended> {
    if ahs.is_empty() {
        return Some(Extended { cdb: Cdb::new(&pdu.cdb), read_length: 0 });
    }
    extend_by(pdu.cdb, ahs)
}

#[cold]
#[inline(never)]
fn extend_by(first: [u8; 16], ahs: &[u8]) -> Option<Extended> {
    let mut extended = Extended { cdb: Cdb::new(&first), read_length: 0 };
    for segment in AhsIter::new(ahs) {
        match segment.ok()? {
            Ahs::ExtendedCdb(tail) => {
                let length = first.len() + tail.len();
                let mut cdb = [0; MAX_CDB_LENGTH];
                // No command has more bytes.
                let cdb = cdb.get_mut(..length)?;
                cdb[..first.len()].copy_from_slice(&first);
                cdb[first.len()..].copy_from_slice(tail);
                extended.cdb = Cdb::new(cdb);
            }
            Ahs::BidirectionalReadLength(length) => extended.read_length = length,
            Ahs::Unknown(_) => return None,
        }
    }
    Some(extended)
}
