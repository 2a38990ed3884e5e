//! A connection: its socket, its two buffers, and where it is in its life.

use std::fmt;
use std::net::SocketAddr;

use scst_core::Nanos;
use scst_core::buffer::{Extent, SgList};
use scst_core::ids::CmdId;
use scst_mem::BufferPool;
use scst_protocol_iscsi::connection::Connection as Protocol;
use scst_protocol_iscsi::error::CloseReason;
use scst_protocol_iscsi::event::TaskHandle;
use scst_reactor::backend::SocketId;

use crate::ids::Slot;
use crate::limits::{MAX_LEFT_BYTES, READ_AHEAD_SIZES, SMALL_RECEIVES};
use crate::login::Login;

/// Why a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Why {
    /// The protocol says so.
    Protocol(CloseReason),
    /// The peer closed it.
    Peer,
    /// Receiving failed with this errno.
    Receive(i32),
    /// Sending failed with this errno (0: it was cut short).
    Send(i32),
    /// The same nexus has logged in again.
    Reinstated,
    /// A later login has taken its place in the wait for a session.
    Displaced,
    /// Too many connections that do not log in; this was the oldest.
    Evicted,
    /// No memory for its buffers.
    NoMemory,
    /// The mid-level wants the session closed.
    SessionClosed,
    /// An aborted command's data did not come to an end.
    AbortTimeout,
    /// It did not take its last PDU in time.
    DrainTimeout,
    /// The daemon stops.
    Shutdown,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(reason) => reason.fmt(f),
            Self::Peer => f.write_str("closed by the initiator"),
            Self::Receive(errno) => write!(f, "receive failed (errno {errno})"),
            Self::Send(0) => f.write_str("connection broke while sending"),
            Self::Send(errno) => write!(f, "send failed (errno {errno})"),
            Self::Reinstated => f.write_str("the initiator logged in again"),
            Self::Displaced => f.write_str("a later login of the same session took over"),
            Self::Evicted => f.write_str("too many connections that do not log in"),
            Self::NoMemory => f.write_str("no memory for buffers"),
            Self::SessionClosed => f.write_str("the target or its access changed"),
            Self::AbortTimeout => f.write_str("data of an aborted command did not come to an end"),
            Self::DrainTimeout => f.write_str("the initiator does not take its last response"),
            Self::Shutdown => f.write_str("the daemon stops"),
        }
    }
}

/// What the connection is doing for the protocol.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Logging in.
    Login(Box<Login>),
    /// Full-feature phase.
    Full(Box<Protocol>),
    /// Nothing is sent any more, and what is received is thrown away.
    Over,
}

/// What the connection is doing with its socket. Only ever goes down this list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    /// Open.
    Open,
    /// To be closed at the next `flush`.
    CloseWanted(Why),
    /// The back-end was told to close; operations may be in flight.
    Closing,
    /// No operation is in flight, no buffer is in use.
    Closed,
}

/// What is to be received next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Want {
    /// At least so many bytes after those that are there.
    Bytes(u32),
    /// Payload of a task; nothing unread is left before it.
    Payload {
        /// The task.
        task: TaskHandle,
        /// Offset in its buffer.
        offset: u32,
        /// Bytes.
        length: u32,
    },
    /// Nothing until the mid-level has said what it does with the data of this task.
    Driver(TaskHandle),
    /// Nothing until something has been sent.
    Transmit,
    /// Nothing any more.
    Nothing,
}

/// A receive into a command's buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Direct {
    pub(crate) task: TaskHandle,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

/// Names a read-ahead buffer of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ChunkId(u32);

/// A read-ahead buffer that is full, or left, but for commands whose data are in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    pub(crate) id: ChunkId,
    pub(crate) buffer: SgList,
    pub(crate) users: u32,
}

/// The receive side.
///
/// What is received goes to the end of the read-ahead buffer. Data of a command that have come whole stay where they are
/// until the command is done with them: as long as a buffer has such users, nothing in it moves and nothing is written
/// over. When there is no room behind them the connection goes on with another buffer, up to [`MAX_LEFT_BYTES`].
#[derive(Debug)]
pub(crate) struct Input {
    /// The read-ahead buffer.
    buffer: SgList,
    id: ChunkId,
    users: u32,
    start: u32,
    end: u32,
    /// Buffers before this one, as long as they have users.
    left: Vec<Chunk>,
    /// A receive is in flight.
    pub(crate) in_flight: bool,
    /// Its first bytes go here.
    pub(crate) direct: Option<Direct>,
    pub(crate) want: Want,
    /// Receives in a row that the next smaller buffer would have held. The greatest number there is: the smallest buffer
    /// will do.
    pub(crate) small: u32,
    /// The last receive filled the buffer: a larger one is worth it.
    pub(crate) filled: bool,
}

impl Input {
    pub(crate) fn new(buffer: SgList) -> Self {
        Self {
            buffer,
            id: ChunkId(0),
            users: 0,
            start: 0,
            end: 0,
            left: Vec::new(),
            in_flight: false,
            direct: None,
            want: Want::Bytes(1),
            small: 0,
            filled: false,
        }
    }

    fn extent(&self) -> Extent {
        self.buffer.extents().first().copied().unwrap_or_default()
    }

    /// The bytes that are there and not used up.
    pub(crate) fn unread(&self) -> Extent {
        self.extent().slice(self.start, self.end - self.start)
    }

    /// The room behind them.
    pub(crate) fn room(&self) -> Extent {
        self.extent().slice(self.end, u32::MAX)
    }

    pub(crate) fn capacity(&self) -> u32 {
        self.extent().len
    }

    /// The next smaller size of the buffer.
    pub(crate) fn smaller(&self) -> Option<u32> {
        READ_AHEAD_SIZES.into_iter().rev().find(|&size| size < self.capacity())
    }

    /// The size to shrink to, if it is time.
    pub(crate) fn shrunk(&self) -> Option<u32> {
        match self.small {
            0..SMALL_RECEIVES => None,
            u32::MAX => self.smaller().and(READ_AHEAD_SIZES.first().copied()),
            _ => self.smaller(),
        }
    }

    /// The next larger size that holds so much.
    pub(crate) fn larger(&self, needed: u32) -> Option<u32> {
        READ_AHEAD_SIZES.into_iter().find(|&size| size > self.capacity() && size >= needed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether data of commands are in the buffer.
    pub(crate) fn is_used(&self) -> bool {
        self.users > 0
    }

    /// Uses up bytes.
    pub(crate) fn consume(&mut self, bytes: u32) {
        debug_assert!(bytes <= self.end - self.start);
        self.start = (self.start + bytes).min(self.end);
        self.start_over();
    }

    fn start_over(&mut self) {
        if self.is_empty() && !self.in_flight && self.users == 0 {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Bytes have been received into the room.
    pub(crate) fn arrived(&mut self, bytes: u32) {
        debug_assert!(bytes <= self.capacity() - self.end);
        self.end = (self.end + bytes).min(self.capacity());
    }

    /// Whether data of one more command may stay where they are.
    pub(crate) fn may_lend(&self) -> bool {
        self.left.iter().map(|chunk| chunk.buffer.bytes()).sum::<u32>() < MAX_LEFT_BYTES
    }

    /// Bytes at the front of the unread ones stay until `give_back`. Use them up.
    pub(crate) fn lend(&mut self) -> ChunkId {
        self.users += 1;
        self.id
    }

    /// A command is done with its data.
    pub(crate) fn give_back(&mut self, id: ChunkId) {
        if id == self.id {
            self.users -= 1;
            self.start_over();
        } else if let Some(chunk) = self.left.iter_mut().find(|chunk| chunk.id == id) {
            chunk.users -= 1;
        } else {
            debug_assert!(false, "data given back twice");
        }
    }

    /// Releases the buffers that nobody uses any more.
    pub(crate) fn sweep(&mut self, pool: &mut BufferPool) {
        self.left.retain(|chunk| {
            if chunk.users == 0 {
                pool.release(&chunk.buffer);
            }
            chunk.users > 0
        });
    }

    /// Gives back what is not needed by a connection that rests; with the next small receive the buffer becomes small.
    pub(crate) fn rest(&mut self, pool: &mut BufferPool) {
        self.sweep(pool);
        self.left.shrink_to_fit();
        self.small = u32::MAX;
    }

    /// Moves unread bytes to the front. Only without a receive in flight; nothing moves while commands use the buffer.
    pub(crate) fn compact(&mut self, pool: &mut BufferPool) {
        debug_assert!(!self.in_flight);
        let unread = self.unread();
        if self.start > 0 && self.users == 0 {
            pool.copy(unread, self.extent());
            (self.start, self.end) = (0, unread.len);
        }
    }

    /// Goes on with another buffer, keeping unread bytes. False: no memory, or too small. Only without a receive in flight.
    pub(crate) fn resize(&mut self, bytes: u32, pool: &mut BufferPool) -> bool {
        debug_assert!(!self.in_flight);
        let unread = self.unread();
        if unread.len > bytes {
            return false;
        }
        let Some(buffer) = pool.allocate(bytes) else { return false };
        let old = Chunk { id: self.id, buffer: std::mem::replace(&mut self.buffer, buffer), users: self.users };
        pool.copy(unread, self.extent());
        (self.start, self.end) = (0, unread.len);
        self.id = ChunkId(self.id.0.wrapping_add(1));
        self.users = 0;
        if old.users > 0 {
            self.left.push(old);
        } else {
            pool.release(&old.buffer);
        }
        true
    }

    /// Takes out the buffers that are left to commands. Only after `release`, when the connection goes.
    pub(crate) fn take_used(&mut self) -> impl Iterator<Item = Chunk> + use<> {
        let current = Chunk { id: self.id, buffer: std::mem::take(&mut self.buffer), users: self.users };
        let used = (self.users > 0).then_some(current);
        self.users = 0;
        std::mem::take(&mut self.left).into_iter().chain(used)
    }

    /// Gives the buffers back that no command uses. Only without a receive in flight.
    pub(crate) fn release(&mut self, pool: &mut BufferPool) {
        debug_assert!(!self.in_flight);
        self.sweep(pool);
        (self.start, self.end) = (0, 0);
        if self.users == 0 {
            pool.release(&std::mem::take(&mut self.buffer));
        }
    }
}

/// The send side.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Where headers, sense data and texts are gathered; empty until the first send.
    pub(crate) buffer: SgList,
    /// A send is in flight.
    pub(crate) in_flight: bool,
    /// Its length.
    pub(crate) length: u32,
    /// Commands whose last byte is in it.
    pub(crate) commands: Vec<CmdId>,
    /// `buffer` is the one that resting connections share.
    pub(crate) borrowed: bool,
    /// Close when all that is queued is sent. Nothing is received meanwhile.
    pub(crate) close_after: Option<Why>,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) slot: Slot,
    pub(crate) socket: SocketId,
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) phase: Phase,
    pub(crate) life: Life,
    /// Its session, from the moment the login was granted it.
    pub(crate) session: Option<Slot>,
    pub(crate) input: Input,
    pub(crate) output: Output,
    /// In the list of connections that `flush` looks at.
    pub(crate) dirty: bool,
    /// It keeps only what it needs.
    pub(crate) resting: bool,
    /// The next CmdSN at the last look.
    pub(crate) seen: Option<u32>,
    /// The earliest timer that is set.
    pub(crate) armed: Option<Nanos>,
    /// When patience with an aborted command's data ends.
    pub(crate) abort_deadline: Option<Nanos>,
    /// When patience with a connection that is to be closed ends.
    pub(crate) drain_deadline: Option<Nanos>,
}

impl Connection {
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.life, Life::Open)
    }

    /// Asks for the socket to be closed; the first reason counts.
    pub(crate) fn want_close(&mut self, why: Why) {
        if self.is_open() {
            let first = self.output.close_after.filter(|_| matches!(self.phase, Phase::Over));
            self.life = Life::CloseWanted(first.unwrap_or(why));
        }
    }

    /// Asks for the socket to be closed once everything queued is sent, at the latest at `deadline`.
    pub(crate) fn drain(&mut self, why: Why, deadline: Nanos) {
        self.output.close_after.get_or_insert(why);
        self.drain_deadline.get_or_insert(deadline);
    }

    /// When this connection has something to do, if nothing else happens.
    pub(crate) fn deadline(&self) -> Option<Nanos> {
        if !self.is_open() {
            return None;
        }
        let protocol = match &self.phase {
            Phase::Login(login) => login.machine.poll_timeout(),
            Phase::Full(protocol) => protocol.poll_timeout(),
            Phase::Over => None,
        };
        [protocol.map(Nanos), self.abort_deadline, self.drain_deadline].into_iter().flatten().min()
    }

    /// Whether a receive is in flight into this task's buffer.
    pub(crate) fn receives_into(&self, task: TaskHandle) -> bool {
        self.input.in_flight && self.input.direct.is_some_and(|d| d.task == task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scst_mem::PoolConfig;

    fn pool() -> BufferPool {
        BufferPool::new(PoolConfig { budget: 4 << 20, arena_bytes: 1 << 20, ..PoolConfig::default() })
    }

    #[test]
    fn unread_bytes_survive_compaction_and_resizing() {
        let mut pool = pool();
        let mut input = Input::new(pool.allocate(4096).unwrap());
        let text: Vec<u8> = (0..100).collect();
        let room = input.room();
        pool.bytes_mut(room.slice(0, 100)).copy_from_slice(&text);
        input.arrived(100);
        input.consume(60);
        input.compact(&mut pool);
        assert_eq!(pool.bytes(input.unread()), &text[60..]);
        assert_eq!(input.room().len, 4096 - 40);
        assert!(input.resize(65536, &mut pool));
        assert_eq!(pool.bytes(input.unread()), &text[60..]);
        assert_eq!(input.room().len, 65536 - 40);
        input.consume(40);
        assert_eq!(input.room().len, 65536, "an empty buffer starts over");
        input.release(&mut pool);
        assert_eq!(pool.statistics().in_use, 0);
    }

    #[test]
    fn lent_bytes_stay_where_they_are_until_they_are_given_back() {
        let mut pool = pool();
        let mut input = Input::new(pool.allocate(4096).unwrap());
        pool.bytes_mut(input.room()).fill(1);
        input.arrived(3000);
        let data = input.unread().slice(0, 1000);
        let first = input.lend();
        input.consume(1000);
        input.consume(1500);
        input.compact(&mut pool);
        assert_eq!(input.room().len, 1096, "nothing moves while data are lent");
        assert!(input.resize(4096, &mut pool));
        assert_eq!((input.unread().len, input.room().len), (500, 3596));
        let room = input.room();
        pool.bytes_mut(room).fill(2);
        let second = input.lend();
        input.consume(500);
        assert_eq!(input.room(), room, "nor does the buffer start over");
        assert_eq!(pool.bytes(data), [1; 1000]);
        input.give_back(first);
        input.sweep(&mut pool);
        assert!(input.left.is_empty());
        input.give_back(second);
        assert_eq!(input.room().len, 4096);
        input.release(&mut pool);
        assert_eq!(pool.statistics().in_use, 0);
    }
}
