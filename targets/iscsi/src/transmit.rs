//! The way out: PDUs of many commands in one send, payload from where it lies.

use scst_core::buffer::Extent;
use scst_core::ids::CmdId;
use scst_core::shard::Shard;
use scst_mem::BufferPool;
use scst_protocol_iscsi::error::CloseReason;
use scst_protocol_iscsi::event::TaskHandle;
use scst_protocol_iscsi::pdu::{BHS_LENGTH, BasicHeaderSegment};
use scst_protocol_iscsi::transmit::TransmitSink;
use scst_reactor::backend::{Backend, MAX_SEGMENTS};

use crate::connection::{Connection, Phase, Want, Why};
use crate::digest::crc_of;
use crate::ids::{Operation, Slot, token};
use crate::limits::{DRAIN_TIMEOUT, SEND_HEADER_BYTES, SEND_PAYLOAD_BYTES};
use crate::session::Tasks;
use crate::target::{Env, IscsiTarget, Shared};

/// Builds one send.
struct Sink<'a> {
    pool: &'a mut BufferPool,
    shard: &'a Shard,
    tasks: &'a mut Tasks,
    /// Room for headers.
    header: Extent,
    used: u32,
    segments: &'a mut Vec<Extent>,
    payload: u32,
    /// Commands that end with this send.
    commands: &'a mut Vec<CmdId>,
}

impl Sink<'_> {
    /// Room for so many bytes after all that is to be sent so far.
    #[inline(always)]
    fn place(&mut self, length: u32) -> Extent {
        let to = self.header.slice(self.used, length);
        self.used += to.len;
        match self.segments.last_mut() {
            Some(last) if last.arena == to.arena && last.offset + u64::from(last.len) == to.offset => {
                last.len += to.len;
            }
            _ => self.segments.push(to),
        }
        to
    }
}

impl TransmitSink for Sink<'_> {
    fn room(&self) -> usize {
        // The last segment may be a header that grows; a new one needs a segment of its own.
        if self.segments.len() < MAX_SEGMENTS { (self.header.len - self.used) as usize } else { 0 }
    }

    fn payload_fits(&self, task: TaskHandle, _user: u64, offset: u32, length: u32) -> bool {
        let Some(sg) = self.tasks.sg(task, self.shard) else { return true };
        // One segment stays free for the padding and digest behind the payload.
        let segments =
            self.segments.len() + 2 + if sg.extents().len() == 1 { 1 } else { sg.range(offset, length).count() };
        segments <= MAX_SEGMENTS && (self.payload == 0 || self.payload.saturating_add(length) <= SEND_PAYLOAD_BYTES)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let to = self.place(bytes.len() as u32);
        debug_assert_eq!(to.len as usize, bytes.len(), "the protocol looks at `room` first");
        self.pool.bytes_mut(to).copy_from_slice(&bytes[..to.len as usize]);
    }

    // Of known length, so no call of memcpy.
    #[inline(always)]
    fn header(&mut self, header: &BasicHeaderSegment) {
        let to = self.place(BHS_LENGTH as u32);
        match self.pool.bytes_mut(to).as_mut_array() {
            Some(place) => *place = header.0,
            None => debug_assert!(false, "the protocol looks at `room` first"),
        }
    }

    fn payload(&mut self, task: TaskHandle, _user: u64, offset: u32, length: u32) {
        if let Some(sg) = self.tasks.sg(task, self.shard) {
            debug_assert!(offset + length <= sg.bytes(), "data-in outside the buffer");
            match sg.extents() {
                [one] => self.segments.push(one.slice(offset, length)),
                _ => self.segments.extend(sg.range(offset, length)),
            }
            self.payload = self.payload.saturating_add(length);
        }
    }

    fn payload_crc32c(&mut self, task: TaskHandle, _user: u64, offset: u32, length: u32, crc: u32) -> u32 {
        self.tasks.sg(task, self.shard).map_or(crc, |sg| crc_of(self.pool, sg, offset, length, crc))
    }

    fn end_of_task(&mut self, task: TaskHandle, _user: u64) {
        self.commands.extend(self.tasks.remove(task).and_then(|task| task.cmd));
    }
}

impl IscsiTarget {
    /// Sends as much as fits, if nothing is being sent.
    pub(crate) fn transmit<B: Backend>(&mut self, slot: Slot, env: &mut Env<'_, B>) {
        let Some((connection, Some(session), shared)) = self.parts(slot) else { return };
        let (Phase::Full(protocol), Some(state)) = (&mut connection.phase, session.protocol.as_mut()) else { return };
        if connection.output.in_flight {
            return;
        }
        if !protocol.has_output() {
            if let Some(why) = connection.output.close_after {
                if session.core.is_some() {
                    // Commands of a session that was taken away may wait for the end of their data.
                    return connection.want_close(why);
                }
                connection.half_close(env.backend);
                shared.mark(connection);
            }
            return;
        }
        if connection.output.buffer.is_empty() {
            match env.pool.allocate(SEND_HEADER_BYTES) {
                Some(buffer) => connection.output.buffer = buffer,
                None if connection.resting && shared.rest.lend(slot, &mut connection.output, env.pool) => {}
                None if connection.resting => return,
                None => return connection.want_close(Why::NoMemory),
            }
        }
        let Some(&header) = connection.output.buffer.extents().first() else { return };
        let mut segments = std::mem::take(&mut shared.segments);
        segments.clear();
        let mut sink = Sink {
            pool: &mut *env.pool,
            shard: &*env.shard,
            tasks: &mut session.tasks,
            header,
            used: 0,
            segments: &mut segments,
            payload: 0,
            commands: &mut connection.output.commands,
        };
        let sent = protocol.poll_transmit(state, env.now.0, &mut sink);
        if sent.close {
            connection.output.close_after.get_or_insert(Why::Protocol(CloseReason::LoggedOut));
            // Nothing is received any more, so nothing else notices that the initiator does not take it.
            connection.drain_deadline.get_or_insert_with(|| env.now.after(DRAIN_TIMEOUT));
        }
        if segments.is_empty() {
            debug_assert!(!sent.more, "an empty send buffer has room for any PDU");
            if connection.resting {
                shared.rest.sent(connection, false, env.pool);
            }
        } else {
            connection.output.length = segments.iter().map(|e| e.len).sum();
            let token = token(Operation::Send, slot);
            match env.backend.try_send(connection.socket, &segments, env.pool, token) {
                Some(result) => {
                    env.shard.time_has_passed();
                    finish_send(connection, shared, result, env);
                }
                None => {
                    protocol.sending(env.now.0, true);
                    connection.output.in_flight = true;
                }
            }
        }
        shared.segments = segments;
        // The protocol may have waited for room, or have more to send; or all is said and the connection is to be closed.
        let waits = connection.input.want == Want::Transmit;
        if waits || sent.more || connection.output.close_after.is_some() || !connection.is_open() {
            shared.mark(connection);
        }
    }

    /// A send has ended.
    pub(crate) fn sent<B: Backend>(&mut self, slot: Slot, result: i32, env: &mut Env<'_, B>) {
        let Some((connection, _, shared)) = self.parts(slot) else { return };
        connection.output.in_flight = false;
        if !connection.is_open() {
            // `Closed` follows and settles everything.
            return;
        }
        if let Phase::Full(protocol) = &mut connection.phase {
            protocol.sending(env.now.0, false);
        }
        finish_send(connection, shared, result, env);
        shared.mark(connection);
    }
}

/// Nothing of what was sent is needed any more.
fn finish_send<B: Backend>(connection: &mut Connection, shared: &mut Shared, result: i32, env: &mut Env<'_, B>) {
    if result < 0 || result.unsigned_abs() < connection.output.length {
        return connection.want_close(Why::Send(result.min(0).unsigned_abs() as i32));
    }
    let served = !connection.output.commands.is_empty();
    for cmd in connection.output.commands.drain(..) {
        env.shard.response_sent(env.now, cmd);
    }
    if connection.resting {
        shared.rest.sent(connection, served, env.pool);
    }
}

impl Connection {
    /// All is said and nothing of the session is left. RFC 7143 11.14: the target ends its half, the initiator closes.
    ///
    /// To close at once would be to gamble for the last PDU: when something that the initiator sends crosses it (the
    /// answer to a ping, above all) the kernel resets the connection, and the initiator may never see what it has received.
    fn half_close<B: Backend>(&mut self, backend: &mut B) {
        debug_assert!(self.input.direct.is_none(), "a command's data are being received");
        debug_assert!(self.drain_deadline.is_some(), "nobody waits for ever");
        self.phase = Phase::Over;
        backend.shutdown_write(self.socket);
    }

    /// Asks for the socket to be closed, and for `flush` to see to it.
    pub(crate) fn want_close_and_mark(&mut self, why: Why, shared: &mut Shared) {
        self.want_close(why);
        shared.mark(self);
    }
}
