//! From answers to PDUs. StatSN, ExpCmdSN and MaxCmdSN are those of the moment a PDU is handed over.

use scst_scsi::{Lun, ScsiStatus};

use crate::digest::{crc32c, digest_bytes};
use crate::event::TaskHandle;
use crate::pdu::{BHS_LENGTH, BasicHeaderSegment, DIGEST_LENGTH, DataIn, R2t, RESERVED_TAG, ScsiResponse, padding};
use crate::session::Session;
use crate::task::{Answer, MAX_SENSE_LENGTH, Stage, Task};
use crate::transmit::{TransmitSink, Transmitted};

use super::Connection;
use super::data_out::transfer_tag;
use super::memory::{RequestData, Share};

/// Something that waits to be sent.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// The response of a task, with its data-in.
    Response(TaskHandle),
    /// R2Ts of a task, as many as are allowed when its turn comes.
    R2t(TaskHandle),
    /// Any other PDU.
    Small(Box<SmallPdu>),
}

/// A PDU with its own data segment.
#[derive(Debug)]
pub(super) struct SmallPdu {
    pub(super) header: BasicHeaderSegment,
    pub(super) data: RequestData,
    /// It advances StatSN.
    pub(super) status: bool,
}

/// A PDU of which a part has been handed over.
#[derive(Debug)]
pub(super) struct Partial {
    bytes: Vec<u8>,
    sent: usize,
    /// Its data are still there.
    _share: Share,
}

/// Padding and digest after a data segment.
const MAX_TRAILER: usize = 3 + DIGEST_LENGTH;
/// Room that a PDU with payload needs besides the payload.
const MAX_FRAME: usize = BHS_LENGTH + DIGEST_LENGTH + MAX_TRAILER;
/// Longest SCSI Response.
const MAX_RESPONSE: usize = MAX_FRAME + 2 + MAX_SENSE_LENGTH;

/// What of a task its answer needs.
#[derive(Clone, Copy)]
struct Reply {
    itt: u32,
    user: u64,
    write: bool,
    data_sn: u32,
    answer: Answer,
}

impl Reply {
    fn of(task: &Task) -> Self {
        Self { itt: task.itt, user: task.user, write: task.write, data_sn: task.data_sn, answer: task.answer }
    }
}

/// Whether an item is finished or the sink is full.
#[derive(PartialEq, Eq)]
enum Sent {
    All,
    SinkFull,
}

impl Connection {
    /// Whether `poll_transmit` has something.
    pub fn has_output(&self) -> bool {
        !self.outgoing.is_empty() || self.partial.is_some()
    }

    /// Hands as many PDUs as fit to the sink. A sink with room for 256 bytes and one payload segment of the size that
    /// the initiator accepts always makes progress.
    pub fn poll_transmit<S: TransmitSink + ?Sized>(
        &mut self,
        session: &mut Session,
        now: u64,
        sink: &mut S,
    ) -> Transmitted {
        while self.send_partial(sink) == Sent::All {
            let sent = match self.outgoing.front() {
                None => return Transmitted { more: false, close: self.close_after_send },
                Some(&Outgoing::Response(task)) => self.send_response(session, task, sink),
                Some(&Outgoing::R2t(task)) => self.send_r2ts(session, now, task, sink),
                Some(Outgoing::Small(_)) => {
                    self.start_small(session);
                    continue;
                }
            };
            if sent == Sent::SinkFull {
                return Transmitted { more: true, close: false };
            }
            self.outgoing.pop_front();
        }
        Transmitted { more: true, close: false }
    }

    fn stamp(&mut self, session: &Session, header: &mut BasicHeaderSegment, status: bool) {
        header.0[24..28].copy_from_slice(&self.stat_sn.to_be_bytes());
        header.0[28..32].copy_from_slice(&session.exp_cmd_sn().to_be_bytes());
        header.0[32..36].copy_from_slice(&session.max_cmd_sn().to_be_bytes());
        if status {
            self.stat_sn = self.stat_sn.wrapping_add(1);
        }
    }

    /// Header and header digest.
    fn send_header<S: TransmitSink + ?Sized>(&self, header: &BasicHeaderSegment, sink: &mut S) {
        if !self.parameters.header_digest {
            return sink.header(header);
        }
        let mut bytes = [0; BHS_LENGTH + DIGEST_LENGTH];
        bytes[..BHS_LENGTH].copy_from_slice(&header.0);
        bytes[BHS_LENGTH..].copy_from_slice(&digest_bytes(crc32c(0, &header.0)));
        sink.bytes(&bytes);
    }

    /// Padding and data digest; `crc` covers the data segment.
    fn send_trailer<S: TransmitSink + ?Sized>(&self, length: u32, crc: u32, sink: &mut S) {
        let pad = padding(length) as usize;
        let mut bytes = [0; MAX_TRAILER];
        let mut end = pad;
        if self.parameters.data_digest && length > 0 {
            bytes[pad..pad + DIGEST_LENGTH].copy_from_slice(&digest_bytes(crc32c(crc, &[0; 3][..pad])));
            end += DIGEST_LENGTH;
        }
        if end > 0 {
            sink.bytes(&bytes[..end]);
        }
    }

    fn send_response<S: TransmitSink + ?Sized>(
        &mut self,
        session: &mut Session,
        handle: TaskHandle,
        sink: &mut S,
    ) -> Sent {
        while let Some(task) = session.tasks.get(handle) {
            let reply = Reply::of(task);
            let answer = &reply.answer;
            if answer.data_sent == answer.data_in {
                if sink.room() < MAX_RESPONSE {
                    return Sent::SinkFull;
                }
                self.send_status(session, handle, &reply, sink);
                break;
            }
            let length = self.next_length(session, answer);
            let fits = sink.room() >= MAX_FRAME && sink.payload_fits(handle, reply.user, answer.data_sent, length);
            if !fits {
                return Sent::SinkFull;
            }
            self.send_data_in(session, handle, &reply, length, sink);
        }
        Sent::All
    }

    /// A Data-In PDU ends at the longest segment, at the end of a burst, or at the end of the data.
    fn next_length(&self, session: &Session, answer: &Answer) -> u32 {
        let burst = session.parameters().max_burst_length;
        let burst_left = burst - answer.data_sent % burst;
        (answer.data_in - answer.data_sent).min(burst_left).min(self.parameters.max_send_data_segment_length)
    }

    fn send_data_in<S: TransmitSink + ?Sized>(
        &mut self,
        session: &mut Session,
        handle: TaskHandle,
        reply: &Reply,
        length: u32,
        sink: &mut S,
    ) {
        let answer = &reply.answer;
        let offset = answer.data_sent;
        let end = offset + length;
        let finished = end == answer.data_in;
        // RFC 7143 11.7.3: status may come with the last Data-In, but there is no place for a second residual count.
        let good = answer.status == ScsiStatus::GOOD.0 && answer.sense_length == 0;
        let has_status = finished && good && !reply.write;
        let (overflow, underflow, residual) = if has_status { residual(answer.residual) } else { (false, false, 0) };
        let mut header = DataIn {
            last: finished || end.is_multiple_of(session.parameters().max_burst_length),
            acknowledge: false,
            overflow,
            underflow,
            has_status,
            status: if has_status { answer.status } else { 0 },
            data_length: length,
            lun: Lun::default(),
            itt: reply.itt,
            ttt: RESERVED_TAG,
            stat_sn: 0,
            exp_cmd_sn: 0,
            max_cmd_sn: 0,
            data_sn: reply.data_sn,
            buffer_offset: offset,
            residual,
        }
        .emit();
        if has_status {
            session.end_task(handle);
        } else if let Some(entry) = session.tasks.get_mut(handle) {
            entry.answer.data_sent = end;
            entry.data_sn = entry.data_sn.wrapping_add(1);
        }
        self.stamp(session, &mut header, has_status);
        if !has_status {
            // StatSN is only valid with status.
            header.0[24..28].fill(0);
        }
        self.send_header(&header, sink);
        let crc =
            if self.parameters.data_digest { sink.payload_crc32c(handle, reply.user, offset, length, 0) } else { 0 };
        sink.payload(handle, reply.user, offset, length);
        self.send_trailer(length, crc, sink);
        if has_status {
            sink.end_of_task(handle, reply.user);
        }
    }

    fn send_status<S: TransmitSink + ?Sized>(
        &mut self,
        session: &mut Session,
        handle: TaskHandle,
        reply: &Reply,
        sink: &mut S,
    ) {
        let answer = &reply.answer;
        let (overflow, underflow, count) = residual(answer.residual);
        let (read_overflow, read_underflow, read_residual) = residual(answer.read_residual);
        let sense_length = usize::from(answer.sense_length);
        let data_length = if sense_length > 0 { 2 + sense_length } else { 0 };
        let mut header = ScsiResponse {
            read_overflow,
            read_underflow,
            overflow,
            underflow,
            response: 0,
            status: answer.status,
            data_length: data_length as u32,
            itt: reply.itt,
            snack_tag: 0,
            stat_sn: 0,
            exp_cmd_sn: 0,
            max_cmd_sn: 0,
            exp_data_sn: reply.data_sn,
            read_residual,
            residual: count,
        }
        .emit();
        session.end_task(handle);
        self.stamp(session, &mut header, true);
        self.send_header(&header, sink);
        if data_length > 0 {
            let mut data = [0; 2 + MAX_SENSE_LENGTH];
            data[..2].copy_from_slice(&(sense_length as u16).to_be_bytes());
            data[2..data_length].copy_from_slice(&session.tasks.sense(handle)[..sense_length]);
            sink.bytes(&data[..data_length]);
            let crc = if self.parameters.data_digest { crc32c(0, &data[..data_length]) } else { 0 };
            self.send_trailer(data_length as u32, crc, sink);
        }
        sink.end_of_task(handle, reply.user);
    }

    fn send_r2ts<S: TransmitSink + ?Sized>(
        &mut self,
        session: &mut Session,
        now: u64,
        handle: TaskHandle,
        sink: &mut S,
    ) -> Sent {
        let max_burst = session.parameters().max_burst_length;
        let max_outstanding = session.parameters().max_outstanding_r2t;
        while let Some(task) = session.tasks.get_mut(handle) {
            let out = &mut task.out;
            let unwanted = task.stage != Stage::Open || out.error.is_some() || out.aborted;
            let fetch = out.fetch.unwrap_or(0);
            let (from, to) = out.r2t_range(out.r2t_sent, max_burst);
            if unwanted || from >= fetch || out.r2t_sent - out.r2t_done >= max_outstanding {
                out.r2t_queued = false;
                break;
            }
            if sink.room() < MAX_FRAME {
                return Sent::SinkFull;
            }
            let ttt = transfer_tag(handle, out.r2t_sent);
            out.r2t_sent += 1;
            out.waiting_since = Some(now);
            let mut header = R2t {
                lun: task.lun,
                itt: task.itt,
                ttt,
                stat_sn: 0,
                exp_cmd_sn: 0,
                max_cmd_sn: 0,
                r2t_sn: task.data_sn,
                buffer_offset: from,
                desired_length: to - from,
            }
            .emit();
            task.data_sn = task.data_sn.wrapping_add(1);
            self.timers.owed(now);
            self.stamp(session, &mut header, false);
            self.send_header(&header, sink);
        }
        Sent::All
    }

    /// Takes a small PDU from the queue and makes its bytes.
    fn start_small(&mut self, session: &Session) {
        let Some(Outgoing::Small(pdu)) = self.outgoing.pop_front() else { return };
        let SmallPdu { mut header, data, status } = *pdu;
        self.small_pdus -= 1;
        self.small_bytes -= data.bytes.len();
        self.stamp(session, &mut header, status);
        let mut bytes = VecSink(Vec::with_capacity(MAX_FRAME + data.bytes.len()));
        self.send_header(&header, &mut bytes);
        bytes.bytes(&data.bytes);
        let crc = if self.parameters.data_digest { crc32c(0, &data.bytes) } else { 0 };
        self.send_trailer(data.bytes.len() as u32, crc, &mut bytes);
        self.partial = Some(Partial { bytes: bytes.0, sent: 0, _share: data.into_share() });
    }

    fn send_partial<S: TransmitSink + ?Sized>(&mut self, sink: &mut S) -> Sent {
        let Some(Partial { bytes, sent, .. }) = &mut self.partial else { return Sent::All };
        let take = sink.room().min(bytes.len() - *sent);
        if take > 0 {
            sink.bytes(&bytes[*sent..*sent + take]);
            *sent += take;
        }
        if *sent < bytes.len() {
            return Sent::SinkFull;
        }
        self.partial = None;
        Sent::All
    }
}

/// O and U bits and the residual count (RFC 7143 11.4.5).
fn residual(difference: i64) -> (bool, bool, u32) {
    // The difference of two u32 fits in a u32 after taking the sign off.
    (difference > 0, difference < 0, difference.unsigned_abs() as u32)
}

/// Collects the bytes of a small PDU.
struct VecSink(Vec<u8>);

impl TransmitSink for VecSink {
    fn room(&self) -> usize {
        usize::MAX
    }

    fn payload_fits(&self, _: TaskHandle, _: u64, _: u32, _: u32) -> bool {
        false
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn payload(&mut self, _: TaskHandle, _: u64, _: u32, _: u32) {}

    fn payload_crc32c(&mut self, _: TaskHandle, _: u64, _: u32, _: u32, crc: u32) -> u32 {
        crc
    }

    fn end_of_task(&mut self, _: TaskHandle, _: u64) {}
}
