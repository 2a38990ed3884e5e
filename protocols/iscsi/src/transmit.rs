//! The seam through which PDUs leave.

use crate::event::TaskHandle;
use crate::pdu::BasicHeaderSegment;

/// Where [`crate::connection::Connection::poll_transmit`] puts PDUs: bytes (headers, digests, padding, small data) are
/// copied by the sink, payload is only named. The order of calls is the order on the wire.
pub trait TransmitSink {
    /// How many more bytes `bytes` can take now. What belongs to a command is handed over whole; other PDUs (a long
    /// answer to a ping or to SendTargets) may be split over batches.
    fn room(&self) -> usize;
    /// Whether one more `payload` call for this range fits now.
    fn payload_fits(&self, task: TaskHandle, user: u64, offset: u32, length: u32) -> bool;
    /// Takes bytes; at most `room()` of them.
    fn bytes(&mut self, bytes: &[u8]);
    /// The same for a basic header segment, which is what comes most often.
    fn header(&mut self, header: &BasicHeaderSegment) {
        self.bytes(&header.0);
    }
    /// Takes a range of a task's buffer, to be sent after all bytes so far. It must stay unchanged until sent.
    fn payload(&mut self, task: TaskHandle, user: u64, offset: u32, length: u32);
    /// CRC32C of a range of a task's buffer, continuing `crc` (as `crc32c::crc32c_append` does). Only called when the
    /// initiator asked for data digests, right before `payload` of the same range.
    fn payload_crc32c(&mut self, task: TaskHandle, user: u64, offset: u32, length: u32, crc: u32) -> u32;
    /// The response of the task is complete in what was handed over so far: when that is sent, the command is over.
    /// The handle is invalid from now on.
    fn end_of_task(&mut self, task: TaskHandle, user: u64);
}

/// Result of `poll_transmit`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Transmitted {
    /// More is waiting, but the sink is full: call again when it has room.
    pub more: bool,
    /// Close the connection when everything handed over so far is sent (after a logout response or such).
    pub close: bool,
}
