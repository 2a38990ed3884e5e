//! The back-end trait: what a reactor can do. Completion based, also where the system is readiness based.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use scst_core::Nanos;
use scst_core::buffer::Extent;
use scst_core::io::{FileId, IoCompletion, IoQueue};
use scst_core::latency::Clock;
use scst_mem::{BufferPool, FilePages};

use crate::sync::SyncGate;

/// A socket (connection or listener) of one back-end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct SocketId(pub u32);

/// A connection between back-ends: taken out of one, to be adopted by another.
#[derive(Debug)]
pub enum DetachedSocket {
    /// A real socket.
    Real(std::net::TcpStream),
    /// A simulated one.
    Simulated(u64),
}

/// Who gets a socket completion; chosen by the submitter, never interpreted by the back-end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SocketToken(pub u64);

/// What `wait` reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the sentence on each variant names its fields")]
pub enum Completion {
    /// A storage operation ended.
    Io(IoCompletion),
    /// `accept` ended: a new socket, or a negative errno.
    Accepted { token: SocketToken, result: Result<SocketId, i32> },
    /// `recv` ended: bytes (0 = end of stream) or a negative errno.
    Received { token: SocketToken, result: i32 },
    /// `send` ended: bytes (all, unless the connection broke) or a negative errno.
    Sent { token: SocketToken, result: i32 },
    /// `close` is complete: no operation of the socket is in flight any more, the token's buffers are free.
    Closed { token: SocketToken },
    /// A `Waker` of this back-end was used; look into the mailboxes.
    Woken,
}

/// Wakes a reactor from any thread. Cheap when the reactor is already awake or being woken.
pub trait Wake: Send + Sync {
    /// Wakes it.
    fn wake(&self);
}

/// A handle to wake a reactor.
pub type Waker = Arc<dyn Wake>;

/// Files are registered with each back-end that uses them.
pub trait FileRegistry {
    /// Makes an open file known. `block_device` picks ioctls over fallocate; O_DIRECT is read off the file.
    fn register_file(&mut self, file: Arc<File>, block_device: bool) -> FileId;
    /// Forgets a file. Operations in flight keep it open until they end.
    fn unregister_file(&mut self, file: FileId);
    /// Lets the flushes of a file pass a gate that all reactors with the same opening share: one sync at a time, and none that
    /// succeeds after one has failed. To be called before the first; without it a file has a gate of its own.
    fn order_syncs(&mut self, file: FileId, gate: &Arc<SyncGate>) {
        let _ = (file, gate);
    }
    /// Lets page-cached data of a file be lent ([`IoQueue::cached_pages`]) until it is unregistered. A back-end without
    /// such a thing goes on reading them.
    fn share_pages(&mut self, file: FileId, pages: &Arc<FilePages>) {
        let _ = (file, pages);
    }
}

/// Everything a reactor can do.
///
/// Contract: nothing blocks but `wait`. Flushes that are submitted while one of the same file is under way share the next
/// sync, which begins when that has ended; once a sync has failed, every later flush of that opening fails with its error.
/// Extents in `recv`, `send` and `try_send` belong to the kernel from the call to the completion. At most one `recv` and one
/// `send` in flight per socket. A `recv` completes as soon as there is any byte; a `send` completes only when all bytes are
/// gone or the connection broke. After `close` the operations in flight complete (with an error) first, then `Closed` comes;
/// the id is invalid from then on. Completions are reported in the order they happened, each exactly once.
pub trait Backend: IoQueue + FileRegistry {
    /// Monotonic time. Taken once per `wait` and constant until the next.
    fn now(&self) -> Nanos;
    /// Reads the same time at any moment, for what wants to know more than once for each `wait`.
    fn clock(&self) -> Box<dyn Clock>;
    /// Opens a TCP listener (SO_REUSEADDR; an IPv6 wildcard address also takes IPv4).
    ///
    /// # Errors
    /// Whatever socket, bind or listen say.
    fn listen(&mut self, addr: SocketAddr) -> io::Result<SocketId>;
    /// Local address of a socket.
    fn local_addr(&self, socket: SocketId) -> io::Result<SocketAddr>;
    /// Peer's address of a connection.
    fn peer_addr(&self, socket: SocketId) -> io::Result<SocketAddr>;
    /// Takes one connection from a listener (TCP_NODELAY is set on it).
    fn accept(&mut self, listener: SocketId, token: SocketToken);
    /// Takes a connection out of this back-end; no operation may be in flight on it.
    fn detach(&mut self, socket: SocketId) -> io::Result<DetachedSocket>;
    /// Adds a connection from another back-end.
    fn adopt(&mut self, socket: DetachedSocket) -> io::Result<SocketId>;
    /// Receives into the extents, in order. At most [`MAX_SEGMENTS`] of them.
    fn recv(&mut self, socket: SocketId, into: &[Extent], pool: &mut BufferPool, token: SocketToken);
    /// Sends the extents, in order. At most [`MAX_SEGMENTS`] of them.
    fn send(&mut self, socket: SocketId, from: &[Extent], pool: &BufferPool, token: SocketToken);
    /// As `send`, and whatever the socket takes goes at once. Some: it is over, with the result that `Sent` would have
    /// brought, and no completion follows. None: the completion follows.
    fn try_send(&mut self, socket: SocketId, from: &[Extent], pool: &BufferPool, token: SocketToken) -> Option<i32>;
    /// Ends our half of a connection: the peer sees the end of the stream behind what has been sent, and what it sends is
    /// received as before. No send may be in flight. Over at once, without a completion.
    fn shutdown_write(&mut self, socket: SocketId);
    /// Closes a socket; see the contract.
    fn close(&mut self, socket: SocketId, token: SocketToken);
    /// Submits what is queued and waits for a completion, at most until `deadline` (None: for ever). Adds all there
    /// are to `out`. With a deadline in the past it only polls.
    ///
    /// # Errors
    /// Only when the back-end itself is broken; the reactor cannot go on then.
    fn wait(&mut self, deadline: Option<Nanos>, out: &mut Vec<Completion>) -> io::Result<()>;
    /// Changes [`ReactorConfig::spin`](crate::ReactorConfig::spin).
    fn set_spin(&mut self, limit: Nanos);
    /// A handle to wake this back-end's `wait`.
    fn waker(&self) -> Waker;
    /// Name for logs: "uring", "posix" or "sim".
    fn name(&self) -> &'static str;
}

/// Most extents in one `recv` or `send`.
pub const MAX_SEGMENTS: usize = 256;
