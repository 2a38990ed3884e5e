//! A back-end with one connection and no kernel: it keeps what it is asked for, and the harness plays the rest.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ptr;
use std::sync::Arc;

use scst_core::Nanos;
use scst_core::buffer::Extent;
use scst_core::ids::CmdId;
use scst_core::io::{FileId, IoOp, IoQueue, IoToken, QueueFull};
use scst_core::latency::Clock;
use scst_mem::{Arenas, BufferPool};
use scst_reactor::backend::{
    Backend, Completion, DetachedSocket, FileRegistry, MAX_SEGMENTS, SocketId, SocketToken, Wake, Waker,
};

/// A clock for measuring latencies that costs next to nothing: it goes on by 200 ns with every reading.
#[derive(Debug, Default)]
pub struct Ticking(Cell<u64>);

impl Ticking {
    /// Such a clock.
    pub fn clock() -> Box<dyn Clock> {
        Box::new(Self::default())
    }
}

impl Clock for Ticking {
    fn now(&self) -> Nanos {
        self.0.set(self.0.get() + 200);
        Nanos(self.0.get())
    }
}

const LISTENER: SocketId = SocketId(0);
const CONNECTION: SocketId = SocketId(1);

/// A receive under way.
struct Transfer {
    token: SocketToken,
    extents: Vec<Extent>,
    started: bool,
}

impl Transfer {
    fn new() -> Self {
        Self { token: SocketToken(0), extents: Vec::with_capacity(MAX_SEGMENTS), started: false }
    }

    fn start(&mut self, token: SocketToken, extents: &[Extent]) {
        debug_assert!(!self.started, "one at a time");
        self.token = token;
        self.extents.clear();
        self.extents.extend_from_slice(extents);
        self.started = true;
    }
}

/// See the module.
pub struct NullBackend {
    arenas: Arc<Arenas>,
    now: Nanos,
    accept: Option<SocketToken>,
    receive: Transfer,
    /// Bytes that have been sent.
    sent: Vec<u8>,
    completions: Vec<Completion>,
}

impl NullBackend {
    /// No connection yet.
    pub fn new(pool: &BufferPool) -> Self {
        Self {
            arenas: Arc::clone(pool.arenas()),
            now: Nanos(1),
            accept: None,
            receive: Transfer::new(),
            sent: Vec::with_capacity(1 << 20),
            completions: Vec::with_capacity(16),
        }
    }

    /// Some time passes.
    pub fn pass(&mut self, time: Nanos) {
        self.now = self.now.after(time);
    }

    /// The connection arrives.
    pub fn connect(&mut self) {
        let token = self.accept.take().unwrap_or_else(|| panic!("the driver listens"));
        self.completions.push(Completion::Accepted { token, result: Ok(CONNECTION) });
    }

    /// Ends the receive under way with the first bytes of what the peer has sent. Returns how many found room; 0 while
    /// nothing is being received.
    pub fn deliver(&mut self, wire: &[u8]) -> usize {
        if !self.receive.started || wire.is_empty() {
            return 0;
        }
        let mut done = 0;
        for &extent in &self.receive.extents {
            let part = &wire[done..wire.len().min(done + extent.len as usize)];
            let to = self.arenas.resolve(extent).unwrap_or_else(|| panic!("the driver receives into its pool"));
            // SAFETY: `resolve` checked that the extent lies within its arena, which lives as long as `arenas`; by the
            // contract of `Backend` nobody else uses the extents of a receive under way.
            unsafe { ptr::copy_nonoverlapping(part.as_ptr(), to.as_ptr(), part.len()) };
            done += part.len();
        }
        self.receive.started = false;
        self.completions.push(Completion::Received { token: self.receive.token, result: done as i32 });
        done
    }

    /// What has been sent goes to the end of `wire`. False when there is nothing.
    pub fn collect(&mut self, wire: &mut Vec<u8>) -> bool {
        let any = !self.sent.is_empty();
        wire.append(&mut self.sent);
        any
    }
}

impl IoQueue for NullBackend {
    fn submit(&mut self, _: IoToken, _: IoOp<'_>) -> Result<(), QueueFull> {
        Err(QueueFull)
    }

    fn cancel(&mut self, _: CmdId) {}
}

impl FileRegistry for NullBackend {
    fn register_file(&mut self, _: Arc<File>, _: bool) -> FileId {
        FileId(0)
    }

    fn unregister_file(&mut self, _: FileId) {}
}

struct NoWaker;

impl Wake for NoWaker {
    fn wake(&self) {}
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

impl Backend for NullBackend {
    fn now(&self) -> Nanos {
        self.now
    }

    fn listen(&mut self, _: SocketAddr) -> io::Result<SocketId> {
        Ok(LISTENER)
    }

    fn local_addr(&self, _: SocketId) -> io::Result<SocketAddr> {
        Ok(address(3260))
    }

    fn peer_addr(&self, _: SocketId) -> io::Result<SocketAddr> {
        Ok(address(40_000))
    }

    fn accept(&mut self, _: SocketId, token: SocketToken) {
        self.accept = Some(token);
    }

    fn detach(&mut self, _: SocketId) -> io::Result<DetachedSocket> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn adopt(&mut self, _: DetachedSocket) -> io::Result<SocketId> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn recv(&mut self, _: SocketId, into: &[Extent], _: &mut BufferPool, token: SocketToken) {
        self.receive.start(token, into);
    }

    fn send(&mut self, socket: SocketId, from: &[Extent], pool: &BufferPool, token: SocketToken) {
        if let Some(result) = self.try_send(socket, from, pool, token) {
            self.completions.push(Completion::Sent { token, result });
        }
    }

    fn try_send(&mut self, _: SocketId, from: &[Extent], _: &BufferPool, _: SocketToken) -> Option<i32> {
        let before = self.sent.len();
        for &extent in from {
            let from = self.arenas.resolve(extent).unwrap_or_else(|| panic!("the driver sends from its pool"));
            // SAFETY: as above, and arenas are initialised memory: anonymous mappings are zero.
            self.sent.extend_from_slice(unsafe { std::slice::from_raw_parts(from.as_ptr(), extent.len as usize) });
        }
        Some((self.sent.len() - before) as i32)
    }

    fn shutdown_write(&mut self, _: SocketId) {
        panic!("the driver ends the connection");
    }

    fn close(&mut self, _: SocketId, _: SocketToken) {
        panic!("the driver closes the connection");
    }

    fn wait(&mut self, _: Option<Nanos>, out: &mut Vec<Completion>) -> io::Result<()> {
        out.append(&mut self.completions);
        Ok(())
    }

    fn clock(&self) -> Box<dyn Clock> {
        Ticking::clock()
    }

    fn set_spin(&mut self, _: Nanos) {}

    fn waker(&self) -> Waker {
        Arc::new(NoWaker)
    }

    fn name(&self) -> &'static str {
        "null"
    }
}
