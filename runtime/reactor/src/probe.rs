//! Which back-end: io_uring when the kernel has what we need and lets us, else epoll.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use scst_core::Nanos;
use scst_core::buffer::Extent;
use scst_core::ids::CmdId;
use scst_core::io::{FileId, IoOp, IoQueue, IoToken, QueueFull};
use scst_core::latency::Clock;
use scst_mem::{BufferPool, FilePages};

use crate::backend::{Backend, Completion, DetachedSocket, FileRegistry, SocketId, SocketToken, Waker};
use crate::config::{BackendChoice, ReactorConfig};
use crate::posix::Posix;
use crate::sync::SyncGate;
use crate::uring::{Uring, UringError};

/// No back-end could be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// io_uring was asked for and cannot be had.
    #[error("io_uring cannot be used: {0}; choose the posix back-end or allow io_uring")]
    Uring(#[from] UringError),
    /// Not even epoll.
    #[error("the posix back-end cannot be opened: {0}")]
    Posix(#[source] io::Error),
}

/// One of the real back-ends.
#[derive(Debug)]
pub enum AnyBackend {
    /// io_uring.
    Uring(Box<Uring>),
    /// epoll and threads.
    Posix(Box<Posix>),
}

/// Opens a back-end. May be called on any thread; the first `wait` binds it to the one it is called on.
///
/// # Errors
/// [`OpenError`]; with [`BackendChoice::Auto`] a missing io_uring is not one.
pub fn open(choice: BackendChoice, config: &ReactorConfig) -> Result<AnyBackend, OpenError> {
    let posix = || Posix::new(config).map(|b| AnyBackend::Posix(Box::new(b))).map_err(OpenError::Posix);
    if choice == BackendChoice::Posix {
        tracing::info!("back-end posix: as configured");
        return posix();
    }
    match Uring::new(config) {
        Ok(ring) => {
            tracing::info!(features = %ring.features(), "back-end uring");
            Ok(AnyBackend::Uring(Box::new(ring)))
        }
        Err(error) if choice == BackendChoice::Uring => Err(error.into()),
        Err(error) => {
            tracing::warn!("back-end posix: io_uring cannot be used: {error}");
            posix()
        }
    }
}

macro_rules! each {
    ($self:ident, $b:ident => $call:expr) => {
        match $self {
            AnyBackend::Uring($b) => $call,
            AnyBackend::Posix($b) => $call,
        }
    };
}

impl IoQueue for AnyBackend {
    fn submit(&mut self, token: IoToken, op: IoOp<'_>) -> Result<(), QueueFull> {
        each!(self, b => b.submit(token, op))
    }
    fn try_now(&mut self, op: &IoOp<'_>) -> Option<i32> {
        each!(self, b => b.try_now(op))
    }
    fn cancel(&mut self, cmd: CmdId) {
        each!(self, b => b.cancel(cmd));
    }
    fn cached_pages(&mut self, file: FileId, offset: u64, len: u32) -> Option<Extent> {
        each!(self, b => b.cached_pages(file, offset, len))
    }
}

impl FileRegistry for AnyBackend {
    fn register_file(&mut self, file: Arc<File>, block_device: bool) -> FileId {
        each!(self, b => b.register_file(file, block_device))
    }
    fn order_syncs(&mut self, file: FileId, gate: &Arc<SyncGate>) {
        each!(self, b => b.order_syncs(file, gate));
    }
    fn share_pages(&mut self, file: FileId, pages: &Arc<FilePages>) {
        each!(self, b => b.share_pages(file, pages));
    }
    fn unregister_file(&mut self, file: FileId) {
        each!(self, b => b.unregister_file(file));
    }
}

impl Backend for AnyBackend {
    fn now(&self) -> Nanos {
        each!(self, b => b.now())
    }
    fn clock(&self) -> Box<dyn Clock> {
        each!(self, b => b.clock())
    }
    fn listen(&mut self, addr: SocketAddr) -> io::Result<SocketId> {
        each!(self, b => b.listen(addr))
    }
    fn local_addr(&self, socket: SocketId) -> io::Result<SocketAddr> {
        each!(self, b => b.local_addr(socket))
    }
    fn peer_addr(&self, socket: SocketId) -> io::Result<SocketAddr> {
        each!(self, b => b.peer_addr(socket))
    }
    fn accept(&mut self, listener: SocketId, token: SocketToken) {
        each!(self, b => b.accept(listener, token));
    }
    fn detach(&mut self, socket: SocketId) -> io::Result<DetachedSocket> {
        each!(self, b => b.detach(socket))
    }
    fn adopt(&mut self, socket: DetachedSocket) -> io::Result<SocketId> {
        each!(self, b => b.adopt(socket))
    }
    fn recv(&mut self, socket: SocketId, into: &[Extent], pool: &mut BufferPool, token: SocketToken) {
        each!(self, b => b.recv(socket, into, pool, token));
    }
    fn send(&mut self, socket: SocketId, from: &[Extent], pool: &BufferPool, token: SocketToken) {
        each!(self, b => b.send(socket, from, pool, token));
    }
    fn try_send(&mut self, socket: SocketId, from: &[Extent], pool: &BufferPool, token: SocketToken) -> Option<i32> {
        each!(self, b => b.try_send(socket, from, pool, token))
    }
    fn shutdown_write(&mut self, socket: SocketId) {
        each!(self, b => b.shutdown_write(socket));
    }
    fn close(&mut self, socket: SocketId, token: SocketToken) {
        each!(self, b => b.close(socket, token));
    }
    fn wait(&mut self, deadline: Option<Nanos>, out: &mut Vec<Completion>) -> io::Result<()> {
        each!(self, b => b.wait(deadline, out))
    }
    fn set_spin(&mut self, limit: Nanos) {
        each!(self, b => b.set_spin(limit));
    }
    fn waker(&self) -> Waker {
        each!(self, b => b.waker())
    }
    fn name(&self) -> &'static str {
        each!(self, b => b.name())
    }
}
