//! A reactor's view of the simulated world.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use scst_core::Nanos;
use scst_core::buffer::Extent;
use scst_core::ids::CmdId;
use scst_core::io::{FileId, IoOp, IoQueue, IoToken, QueueFull};
use scst_core::latency::Clock;
use scst_mem::{Arenas, BufferPool};

use super::net::{Holder, Side};
use super::storage::{SimFile, SimOp};
use super::world::SimWorld;
use crate::backend::{Backend, Completion, DetachedSocket, FileRegistry, SocketId, SocketToken, Wake, Waker};
use crate::config::ReactorConfig;
use crate::slab::Slab;
use crate::sync::SyncGate;

/// A socket of one back-end.
pub(crate) enum SocketState {
    Listener { addr: SocketAddr, backlog: VecDeque<u64>, accept: Option<SocketToken>, closing: Option<SocketToken> },
    Connection { conn: u64 },
}

/// What the world knows of one back-end.
pub(crate) struct BackendState {
    pub(crate) alive: bool,
    pub(crate) arenas: Arc<Arenas>,
    pub(crate) ready: VecDeque<Completion>,
    pub(crate) woken: Arc<AtomicBool>,
    pub(crate) deadline: Option<Nanos>,
    /// It has waited at least once; before, it has its start to do.
    pub(crate) waited: bool,
    pub(crate) sockets: Slab<SocketState>,
    pub(crate) closing: Vec<(u32, SocketToken)>,
    pub(crate) files: Slab<SimFile>,
    /// Files that are unregistered while flushes of theirs are under way.
    pub(crate) retired: Vec<(u32, SimFile)>,
    /// Files whose turn to be synced has not come.
    pub(crate) queued: Vec<u32>,
    /// The turn of one of them has come.
    pub(crate) granted: Arc<AtomicBool>,
    pub(crate) ops: Slab<SimOp>,
}

impl BackendState {
    /// The connection of a socket.
    pub(crate) fn connection(&self, socket: u32) -> Result<u64, i32> {
        match self.sockets.get(socket) {
            Some(SocketState::Connection { conn }) => Ok(*conn),
            Some(SocketState::Listener { .. }) => Err(-libc::ENOTCONN),
            None => Err(-libc::EBADF),
        }
    }

    /// It has crashed.
    pub(crate) fn end(&mut self) {
        self.alive = false;
        self.deadline = None;
        self.ready.clear();
        self.closing.clear();
        self.sockets = Slab::new(0);
        self.files = Slab::new(0);
        self.retired.clear();
        self.queued.clear();
        self.ops = Slab::new(0);
    }
}

pub(crate) struct SimWake(pub(crate) Arc<AtomicBool>);

impl Wake for SimWake {
    fn wake(&self) {
        self.0.store(true, SeqCst);
    }
}

/// A back-end in a [`SimWorld`]. `wait` never blocks: the driver of the simulation lets time pass.
#[derive(Debug)]
pub struct SimBackend {
    world: SimWorld,
    number: usize,
    now: Nanos,
}

impl SimBackend {
    pub(crate) fn new(world: SimWorld, config: &ReactorConfig) -> Self {
        let mut inner = world.lock();
        let number = inner.backends.len();
        inner.backends.push(BackendState {
            alive: true,
            arenas: Arc::clone(&config.arenas),
            ready: VecDeque::new(),
            woken: Arc::default(),
            deadline: None,
            waited: false,
            sockets: Slab::new(config.sockets),
            closing: Vec::new(),
            files: Slab::new(u32::MAX),
            retired: Vec::new(),
            queued: Vec::new(),
            granted: Arc::default(),
            ops: Slab::new(config.io_depth),
        });
        let now = inner.now;
        drop(inner);
        Self { world, number, now }
    }

    /// Its number in the world: see [`SimWorld::pick`].
    pub fn number(&self) -> usize {
        self.number
    }

    /// Storage operations in flight.
    pub fn io_in_flight(&self) -> usize {
        self.world.lock().backends[self.number].ops.iter().count()
    }
}

fn from_errno(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(-errno)
}

impl IoQueue for SimBackend {
    fn submit(&mut self, token: IoToken, op: IoOp<'_>) -> Result<(), QueueFull> {
        self.world.lock().submit_io(self.number, token, &op)
    }

    fn try_now(&mut self, op: &IoOp<'_>) -> Option<i32> {
        self.world.lock().try_io(self.number, op)
    }

    fn cancel(&mut self, cmd: CmdId) {
        self.world.lock().cancel_io(self.number, cmd);
    }
}

impl FileRegistry for SimBackend {
    /// A disk's own [`file`](super::SimDisk::file) stands for the disk. Any other file becomes a new disk with a copy
    /// of its contents.
    fn register_file(&mut self, file: Arc<File>, _block_device: bool) -> FileId {
        self.world.lock().register(self.number, &file)
    }

    fn unregister_file(&mut self, file: FileId) {
        let backend = &mut self.world.lock().backends[self.number];
        if let Some(entry) = backend.files.remove(file.0).filter(|entry| !entry.sync.is_idle()) {
            backend.retired.push((file.0, entry));
        }
    }

    fn order_syncs(&mut self, file: FileId, gate: &Arc<SyncGate>) {
        if let Some(entry) = self.world.lock().backends[self.number].files.get_mut(file.0) {
            entry.sync.pass(gate);
        }
    }
}

impl Backend for SimBackend {
    fn now(&self) -> Nanos {
        self.now
    }

    fn clock(&self) -> Box<dyn Clock> {
        Box::new(self.world.clone())
    }

    fn listen(&mut self, mut addr: SocketAddr) -> io::Result<SocketId> {
        let mut world = self.world.lock();
        if addr.port() == 0 {
            world.next_port = world.next_port.checked_add(1).unwrap_or(32_768);
            addr.set_port(world.next_port);
        }
        let taken = world.backends.iter().filter(|b| b.alive).any(|b| {
            b.sockets.iter().any(|(_, s)| matches!(s, SocketState::Listener { addr: bound, .. } if *bound == addr))
        });
        if taken {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let listener = SocketState::Listener { addr, backlog: VecDeque::new(), accept: None, closing: None };
        match world.backends[self.number].sockets.insert(listener) {
            Ok(id) => Ok(SocketId(id)),
            Err(_) => Err(from_errno(-libc::EMFILE)),
        }
    }

    fn local_addr(&self, socket: SocketId) -> io::Result<SocketAddr> {
        let mut world = self.world.lock();
        let conn = match world.backends[self.number].sockets.get(socket.0) {
            Some(SocketState::Listener { addr, .. }) => return Ok(*addr),
            Some(SocketState::Connection { conn }) => *conn,
            None => return Err(from_errno(-libc::EBADF)),
        };
        world.conns.get_mut(&conn).map(|c| c.end(Side::Target).addr).ok_or_else(|| from_errno(-libc::ENOTCONN))
    }

    fn peer_addr(&self, socket: SocketId) -> io::Result<SocketAddr> {
        let mut world = self.world.lock();
        let conn = world.backends[self.number].connection(socket.0).map_err(from_errno)?;
        world.conns.get_mut(&conn).map(|c| c.end(Side::Peer).addr).ok_or_else(|| from_errno(-libc::ENOTCONN))
    }

    fn accept(&mut self, listener: SocketId, token: SocketToken) {
        let mut world = self.world.lock();
        let backend = &mut world.backends[self.number];
        match backend.sockets.get_mut(listener.0) {
            Some(SocketState::Listener { accept: accept @ None, closing: None, .. }) => {
                *accept = Some(token);
                world.try_accept(self.number, listener.0);
            }
            _ => backend.ready.push_back(Completion::Accepted { token, result: Err(-libc::EBADF) }),
        }
    }

    fn detach(&mut self, socket: SocketId) -> io::Result<DetachedSocket> {
        let mut world = self.world.lock();
        let id = world.backends[self.number].connection(socket.0).map_err(from_errno)?;
        if let Some(conn) = world.conns.get_mut(&id) {
            let end = conn.end(Side::Target);
            if end.is_busy() {
                return Err(from_errno(-libc::EBUSY));
            }
            end.holder = Holder::Nobody;
        }
        world.backends[self.number].sockets.remove(socket.0);
        Ok(DetachedSocket::Simulated(id))
    }

    fn adopt(&mut self, socket: DetachedSocket) -> io::Result<SocketId> {
        let DetachedSocket::Simulated(conn) = socket else { return Err(io::ErrorKind::InvalidInput.into()) };
        let mut world = self.world.lock();
        let backend = self.number;
        let added = world.backends[backend].sockets.insert(SocketState::Connection { conn });
        let Ok(id) = added else {
            world.reset(conn, Side::Target);
            return Err(from_errno(-libc::EMFILE));
        };
        if let Some(c) = world.conns.get_mut(&conn) {
            c.end(Side::Target).holder = Holder::Socket { backend, socket: id };
        }
        Ok(SocketId(id))
    }

    fn recv(&mut self, socket: SocketId, into: &[Extent], _pool: &mut BufferPool, token: SocketToken) {
        let mut world = self.world.lock();
        if let Err(result) = world.start_recv(self.number, socket.0, into, token) {
            world.backends[self.number].ready.push_back(Completion::Received { token, result });
        }
    }

    fn send(&mut self, socket: SocketId, from: &[Extent], _pool: &BufferPool, token: SocketToken) {
        let mut world = self.world.lock();
        if let Err(result) = world.start_send(self.number, socket.0, from, token) {
            world.backends[self.number].ready.push_back(Completion::Sent { token, result });
        }
    }

    fn try_send(&mut self, socket: SocketId, from: &[Extent], _pool: &BufferPool, token: SocketToken) -> Option<i32> {
        let mut world = self.world.lock();
        match world.start_send(self.number, socket.0, from, token) {
            Err(result) => Some(result),
            Ok(()) => world.sent_at_once(self.number, socket.0),
        }
    }

    fn shutdown_write(&mut self, socket: SocketId) {
        let mut world = self.world.lock();
        if let Ok(conn) = world.backends[self.number].connection(socket.0) {
            world.finish(conn, Side::Target, false);
        }
    }

    fn close(&mut self, socket: SocketId, token: SocketToken) {
        self.world.lock().start_close(self.number, socket.0, token);
    }

    fn wait(&mut self, deadline: Option<Nanos>, out: &mut Vec<Completion>) -> io::Result<()> {
        let mut world = self.world.lock();
        self.now = world.now;
        world.granted(self.number);
        let partial = world.config.partial_wait;
        let mut n = world.backends[self.number].ready.len();
        if n > 1 && world.rng.chance(partial) {
            n = world.rng.between(1, n as u64) as usize;
        }
        let backend = &mut world.backends[self.number];
        backend.waited = true;
        backend.deadline = deadline;
        out.extend(backend.ready.drain(..n));
        if backend.woken.swap(false, SeqCst) {
            out.push(Completion::Woken);
        }
        Ok(())
    }

    fn set_spin(&mut self, _limit: Nanos) {}

    fn waker(&self) -> Waker {
        Arc::new(SimWake(Arc::clone(&self.world.lock().backends[self.number].woken)))
    }

    fn name(&self) -> &'static str {
        "sim"
    }
}
