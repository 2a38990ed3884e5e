//! A connection in the full feature phase.
//!
//! * `receive`: from bytes to PDUs to events; `command`, `data_out`, `request`, `text`: what PDUs do.
//! * `memory`: what pings and texts may keep on the heap.
//! * `respond`: what the driver answers; `send`: from answers to PDUs; `timer`: what must not take too long.

mod command;
mod data_out;
mod memory;
mod receive;
mod request;
mod respond;
mod send;
mod text;
mod timer;

use std::collections::VecDeque;

use scst_scsi::{Lun, ScsiStatus};

use crate::event::RecvEvent;
use crate::pdu::BasicHeaderSegment;
pub(crate) use memory::RequestData;
pub use memory::{REQUEST_TIMEOUT, RequestMemory, SMALL_REQUEST};
use receive::Incoming;
use send::{Outgoing, Partial, SmallPdu};
pub use text::MAX_SEND_TARGETS_LENGTH;
use text::TextExchange;
use timer::Timers;

/// What login negotiated for one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionParameters {
    /// CRC32C header digests.
    pub header_digest: bool,
    /// CRC32C data digests.
    pub data_digest: bool,
    /// Longest data segment that we accept.
    pub max_recv_data_segment_length: u32,
    /// Longest data segment that we send: what the initiator accepts, but no more than the next value.
    pub max_send_data_segment_length: u32,
    /// MaxXmitDataSegmentLength.
    pub max_xmit_data_segment_length: u32,
    /// RspTimeout, nanoseconds.
    pub rsp_timeout: u64,
    /// NopInInterval, nanoseconds; 0: never.
    pub nop_in_interval: u64,
    /// NopInTimeout, nanoseconds.
    pub nop_in_timeout: u64,
}

/// The answer to a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskResponse<'a> {
    /// SCSI status.
    pub status: ScsiStatus,
    /// Sense data as bytes; empty for none.
    pub sense: &'a [u8],
    /// Valid bytes of data-in in the task's buffer. No more than the initiator expects are sent.
    pub data_in: u32,
    /// Bytes that the command would have liked to move in its main direction (data-out for a bidirectional command).
    /// Compared with the expected length for the residual count.
    pub wanted: u32,
    /// The same for data-in of a bidirectional command.
    pub read_wanted: u32,
}

/// What became of `abort_data`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AbortData {
    /// No byte goes to the buffer any more.
    Done,
    /// A PDU is half received into the buffer; `DataAborted` (or `DataComplete`, `DataError`) comes.
    Pending,
}

/// A target for SendTargets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetListing {
    /// TargetName.
    pub name: String,
    /// TargetAddress values, each `address:port,portal-group-tag` (IPv6 in brackets).
    pub addresses: Vec<String>,
}

/// Logout response (RFC 7143 11.15.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogoutResponse {
    /// Connection or session closed.
    Closed,
    /// CID not found.
    CidNotFound,
    /// Recovery is not supported.
    RecoveryNotSupported,
    /// Cleanup failed.
    CleanupFailed,
}

/// Asynchronous events that a target sends (RFC 7143 11.9.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AsyncMessage<'a> {
    /// SCSI asynchronous event with sense data.
    ScsiEvent {
        /// LUN field.
        lun: Lun,
        /// Sense data.
        sense: &'a [u8],
    },
    /// The initiator is asked to log out within so many seconds.
    LogoutRequest {
        /// Parameter3.
        seconds: u16,
    },
    /// This connection will be dropped.
    ConnectionDropped {
        /// Time2Wait, seconds.
        time2wait: u16,
        /// Time2Retain, seconds.
        time2retain: u16,
    },
    /// All connections of the session will be dropped.
    SessionDropped {
        /// Time2Wait, seconds.
        time2wait: u16,
        /// Time2Retain, seconds.
        time2retain: u16,
    },
}

/// Longest header: basic header segment, all additional header segments, digest. `poll_input` must be offered at least
/// this many bytes at once when it asks for them.
pub const MAX_HEADER_BYTES: usize = crate::pdu::BHS_LENGTH + crate::pdu::MAX_AHS_LENGTH + crate::pdu::DIGEST_LENGTH;
/// Small PDUs (answers to NOP-Out, rejects, ...) that may wait to be sent before nothing more is received.
pub const MAX_SMALL_PDUS: usize = 64;
/// Bytes that small PDUs may keep before nothing more is received. One ping of the largest size always fits.
pub const MAX_SMALL_BYTES: usize = 64 * 1024;
/// Memory for pings and texts of a connection that shares none with others.
const OWN_REQUEST_MEMORY: u64 = 4 << 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    /// A logout was reported; this is its tag.
    LoggingOut {
        itt: u32,
    },
    /// The logout is answered; what is queued is still sent.
    Ending,
    Closed,
}

/// A connection in the full feature phase.
#[derive(Debug)]
pub struct Connection {
    parameters: ConnectionParameters,
    cid: u16,
    state: State,
    stat_sn: u32,
    incoming: Option<Incoming>,
    /// Header of the PDU that is coming in.
    header: BasicHeaderSegment,
    gathered: RequestData,
    requests: RequestMemory,
    events: VecDeque<RecvEvent>,
    outgoing: VecDeque<Outgoing>,
    small_pdus: usize,
    small_bytes: usize,
    partial: Option<Partial>,
    close_after_send: bool,
    text: TextExchange,
    timers: Timers,
}

impl Connection {
    pub(crate) fn new(parameters: ConnectionParameters, cid: u16, stat_sn: u32, now: u64) -> Self {
        Self {
            cid,
            state: State::Open,
            stat_sn,
            incoming: None,
            header: BasicHeaderSegment::default(),
            gathered: RequestData::default(),
            requests: RequestMemory::new(OWN_REQUEST_MEMORY),
            // Both grow to what the session needs: an event per PDU, for a task a response or an item for R2Ts.
            events: VecDeque::new(),
            outgoing: VecDeque::new(),
            small_pdus: 0,
            small_bytes: 0,
            partial: None,
            close_after_send: false,
            text: TextExchange::default(),
            timers: Timers::new(&parameters, now),
            parameters,
        }
    }

    /// Shares the memory for pings and texts with other connections. Call it before the first `poll_input`.
    pub fn share_request_memory(&mut self, memory: RequestMemory) {
        self.requests = memory;
    }

    /// Connection identifier.
    pub fn cid(&self) -> u16 {
        self.cid
    }

    /// What was negotiated.
    pub fn parameters(&self) -> &ConnectionParameters {
        &self.parameters
    }

    /// Gives the memory of queues back that are empty now. Worth it when the connection rests; they grow again.
    pub fn shrink(&mut self) {
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
        if self.outgoing.is_empty() {
            self.outgoing = VecDeque::new();
        }
    }

    /// The connection is over: `poll_input` has nothing but the rest of its events, and may be called even while a
    /// receive straight into a task's buffer is in flight.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Ending | State::Closed)
    }

    /// The connection is over; what was reported before is still delivered.
    #[cold]
    #[inline(never)]
    fn close(&mut self, reason: crate::error::CloseReason) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.incoming = None;
            self.gathered = RequestData::default();
            self.text.abandon();
            self.events.push_back(RecvEvent::Close(reason));
        }
    }

    fn queue_small(&mut self, header: BasicHeaderSegment, data: impl Into<RequestData>, status: bool) {
        let data = data.into();
        self.small_pdus += 1;
        self.small_bytes += data.bytes.len();
        self.outgoing.push_back(Outgoing::Small(Box::new(SmallPdu { header, data, status })));
    }
}
