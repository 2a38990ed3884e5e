//! Data-Out: unsolicited data, R2Ts, and what can be wrong with either (RFC 7143 11.7, 11.8).

use crate::event::{RecvEvent, TaskHandle};
use crate::pdu::{BasicHeaderSegment, DataOut, RESERVED_TAG, RejectReason};
use crate::session::Session;
use crate::task::{DataFault, Stage};

use super::receive::Segment;
use super::send::Outgoing;
use super::{AbortData, Connection};

/// A PDU that brings data for a task.
#[derive(Clone, Copy, Debug)]
pub(super) struct DataPdu {
    pub(super) task: TaskHandle,
    /// Offset of the next byte.
    pub(super) offset: u32,
    /// Length of the whole data segment.
    pub(super) length: u32,
    pub(super) solicited: bool,
    /// F bit: the sequence ends here.
    pub(super) last: bool,
    /// Immediate data of a command.
    pub(super) immediate: bool,
}

/// Target transfer tag of an R2T: number, reuse count and slot, so that a late PDU cannot be taken for a newer task's.
pub(super) fn transfer_tag(task: TaskHandle, r2t: u32) -> u32 {
    (r2t & 0xfff) << 20 | (task.generation & 0xff) << 12 | (task.index & 0xfff)
}

impl Connection {
    pub(super) fn start_data_out(&mut self, session: &mut Session, header: &BasicHeaderSegment) -> Segment {
        let pdu = DataOut::parse(header);
        let max_burst = session.parameters().max_burst_length;
        // Data of a task that was aborted or answered meanwhile: nobody wants them any more.
        let Some(handle) = session.tasks.find(pdu.itt) else { return Segment::Discard };
        let Some(task) = session.tasks.get_mut(handle) else { return Segment::Discard };
        if task.stage != Stage::Open || task.out.aborted {
            return Segment::Discard;
        }
        let out = &mut task.out;
        let solicited = pdu.ttt != RESERVED_TAG;
        let limit = if !solicited {
            if !out.unsolicited_open {
                out.error.get_or_insert(DataFault::Unexpected);
                self.progress(session, handle);
                return Segment::Discard;
            }
            out.unsolicited_limit
        } else if out.r2t_done == out.r2t_sent || pdu.ttt != transfer_tag(handle, out.r2t_done) {
            // RFC 7143 11.7.4: no R2T has this tag, or an older one is not answered (DataSequenceInOrder).
            self.reject(RejectReason::PROTOCOL_ERROR, header);
            return Segment::Discard;
        } else {
            out.r2t_range(out.r2t_done, max_burst).1
        };
        if out.error.is_none() && (pdu.data_sn != out.next_data_sn || pdu.buffer_offset != out.received) {
            // RFC 7143 7.9: a DataSN out of order says that an earlier PDU was lost to a digest error, and is answered as
            // one (7.8). With DataPDUInOrder another offset is simply wrong. At error recovery level 0 nothing can be
            // repeated.
            let in_order = pdu.data_sn == out.next_data_sn;
            out.error = Some(if in_order { DataFault::WrongAmount } else { DataFault::Crc });
            self.reject(RejectReason::PROTOCOL_ERROR, header);
        } else if out.error.is_none() && pdu.data_length > limit - out.received {
            out.error = Some(DataFault::WrongAmount);
        }
        Segment::Task(DataPdu {
            task: handle,
            offset: pdu.buffer_offset.min(u32::MAX - pdu.data_length),
            length: pdu.data_length,
            solicited,
            last: pdu.last,
            immediate: false,
        })
    }

    pub(super) fn end_of_data_pdu(&mut self, session: &mut Session, now: u64, pdu: &DataPdu, intact: bool) {
        let max_burst = session.parameters().max_burst_length;
        let Some(task) = session.tasks.get_mut(pdu.task) else { return };
        let out = &mut task.out;
        if !intact {
            out.error.get_or_insert(DataFault::Crc);
        }
        if out.error.is_none() {
            out.received += pdu.length;
        }
        // Immediate data do not count in the DataSN of the sequence that follows (RFC 7143 11.7.5).
        out.next_data_sn = if pdu.last || pdu.immediate { 0 } else { out.next_data_sn.wrapping_add(1) };
        if pdu.last && pdu.solicited {
            if out.error.is_none() && out.received != out.r2t_range(out.r2t_done, max_burst).1 {
                out.error = Some(DataFault::WrongAmount);
            }
            out.r2t_done += 1;
        } else if pdu.last {
            out.unsolicited_open = false;
        }
        out.waiting_since = if out.quiet() { None } else { Some(now) };
        self.progress(session, pdu.task);
    }

    /// Reports the end of the data phase, or asks for more.
    pub(super) fn progress(&mut self, session: &mut Session, handle: TaskHandle) {
        let max_burst = session.parameters().max_burst_length;
        let max_outstanding = session.parameters().max_outstanding_r2t;
        let Some(task) = session.tasks.get_mut(handle) else { return };
        let (out, user) = (&mut task.out, task.user);
        let Some(fetch) = out.fetch else { return };
        if out.reported || out.aborted || out.unsolicited_open || task.stage != Stage::Open {
            return;
        }
        if let Some(fault) = out.error {
            // RFC 7143 7.8: the sequences that are under way come to their end first.
            if out.quiet() {
                out.reported = true;
                self.events.push_back(RecvEvent::DataError { task: handle, user, sense: fault.sense() });
            }
        } else if out.received >= fetch {
            out.reported = true;
            self.events.push_back(RecvEvent::DataComplete { task: handle, user });
        } else {
            if out.r2t_sent == 0 {
                out.solicited_from = out.received;
            }
            let room = out.r2t_sent - out.r2t_done < max_outstanding;
            let more = out.r2t_range(out.r2t_sent, max_burst).0 < fetch;
            if room && more && !out.r2t_queued {
                out.r2t_queued = true;
                self.outgoing.push_back(Outgoing::R2t(handle));
            }
        }
    }

    /// Fetches the first `length` bytes of the task's data-out: accepts unsolicited data into the buffer and solicits
    /// the rest. Ends with `DataComplete` or `DataError`, reported by `poll_input` (also when there is nothing to
    /// wait for). No more is fetched than the initiator said it will send. False: the handle is stale.
    pub fn request_data(&mut self, session: &mut Session, now: u64, task: TaskHandle, length: u32) -> bool {
        let Some(entry) = session.tasks.get_mut(task).filter(|t| t.stage == Stage::Open) else { return false };
        entry.out.fetch = Some(length.min(entry.out.expected));
        if entry.out.waiting_since.is_some() {
            entry.out.waiting_since = Some(now);
        }
        self.progress(session, task);
        true
    }

    /// Stops fetching: what still comes for the task is thrown away.
    pub fn abort_data(&mut self, session: &mut Session, task: TaskHandle) -> AbortData {
        let Some(entry) = session.tasks.get_mut(task) else { return AbortData::Done };
        entry.out.aborted = true;
        entry.out.waiting_since = None;
        let receiving = self.incoming.is_some_and(
            |incoming| matches!(incoming.segment, Segment::Task(pdu) if pdu.task == task && incoming.announced),
        );
        if receiving { AbortData::Pending } else { AbortData::Done }
    }
}
