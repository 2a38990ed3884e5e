//! epoll, non-blocking sockets and a few threads: for systems where io_uring is missing or forbidden.
//!
//! Sockets are registered edge-triggered once; an operation is tried at once and waits for an edge only when the socket
//! was not ready. What is submitted for files goes to the pool.
#![allow(unsafe_code)]

mod socket;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use scst_core::Nanos;
use scst_core::buffer::Extent;
use scst_core::ids::CmdId;
use scst_core::io::{FileId, IoCompletion, IoOp, IoQueue, IoToken, QueueFull};
use scst_core::latency::Clock;
use scst_mem::{Arenas, BufferPool, FilePages};

use crate::backend::{Backend, Completion, DetachedSocket, FileRegistry, MAX_SEGMENTS, SocketId, SocketToken, Waker};
use crate::by_command::ByCommand;
use crate::config::ReactorConfig;
use crate::doorbell::{self, Doorbell, RUNG_BY_GATE, RUNG_BY_USER};
use crate::file::{self, FileEntry, Work};
use crate::iovec::IoVecs;
use crate::net::{self, Socket, last_errno};
use crate::offload::{Done, Job, Offload, Threads};
use crate::slab::Slab;
use crate::spin::Spin;
use crate::sync::{Next, SyncGate};
use crate::{clock, posix::socket::SocketState};

const THREADS: Threads = Threads { per_file: 4, stay: 4, most: 64 };
const EVENTS: usize = 256;
/// The epoll data of the doorbell; no socket id is that large.
const BELL: u64 = u64::MAX;

/// The back-end.
pub struct Posix {
    /// First, so that it is dropped first: the threads use the arenas until they end.
    pool: Offload,
    epoll: OwnedFd,
    bell: Arc<Doorbell>,
    arenas: Arc<Arenas>,
    sockets: Slab<SocketState>,
    files: Slab<FileEntry>,
    /// Files that are unregistered while flushes of theirs are under way.
    retired: Vec<(u32, FileEntry)>,
    /// Files whose turn to be synced has not come.
    queued: VecDeque<u32>,
    /// Storage operations in flight, by the key of their job.
    ops: Slab<StorageOp>,
    /// The same operations by their command.
    by_command: ByCommand,
    done: Vec<Done>,
    /// Range lists that are not in use.
    spare: Vec<IoVecs>,
    /// For operations that are done at once.
    scratch: IoVecs,
    ready: VecDeque<Completion>,
    events: Vec<libc::epoll_event>,
    now: Nanos,
    spin: Spin,
}

/// A storage operation in flight.
struct StorageOp {
    token: IoToken,
    way: Way,
}

/// How a storage operation is carried out.
#[derive(Clone, Copy)]
enum Way {
    /// By a job of its own, at this place in the pool.
    Job(u32),
    /// By a sync of this file, which it shares with other flushes.
    Sync(u32),
}

impl std::fmt::Debug for Posix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Posix").field("now", &self.now).finish_non_exhaustive()
    }
}

impl Posix {
    /// Opens the back-end.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn new(config: &ReactorConfig) -> io::Result<Self> {
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and ours.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        let bell = Arc::new(Doorbell::new(true)?);
        let this = Self {
            epoll,
            pool: Offload::new(THREADS, config.io_depth, Arc::clone(&bell)),
            bell,
            arenas: Arc::clone(&config.arenas),
            sockets: Slab::new(config.sockets),
            files: Slab::new(u32::MAX),
            retired: Vec::new(),
            queued: VecDeque::new(),
            ops: Slab::new(config.io_depth),
            by_command: ByCommand::new(config.io_depth, config.io_depth),
            done: Vec::with_capacity(config.io_depth as usize),
            spare: Vec::new(),
            scratch: IoVecs::default(),
            ready: VecDeque::with_capacity(EVENTS),
            events: Vec::with_capacity(EVENTS),
            now: clock::now(),
            spin: Spin::new(config.spin),
        };
        this.watch(this.bell.fd(), BELL, libc::EPOLLIN)?;
        Ok(this)
    }

    fn watch(&self, fd: RawFd, data: u64, events: libc::c_int) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: data };
        // SAFETY: `event` is read during the call.
        let result = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn add(&mut self, socket: Socket) -> io::Result<SocketId> {
        let fd = socket.fd();
        let state = SocketState::new(socket);
        let id = self.sockets.insert(state).map_err(|_| io::Error::from_raw_os_error(libc::EMFILE))?;
        let events = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        if let Err(error) = self.watch(fd, u64::from(id), events) {
            self.sockets.remove(id);
            return Err(error);
        }
        Ok(SocketId(id))
    }

    fn socket(&self, id: SocketId) -> io::Result<&SocketState> {
        self.sockets.get(id.0).ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    fn try_accept(&mut self, id: u32) {
        let Some(state) = self.sockets.get_mut(id) else { return };
        let Some((token, result)) = state.try_accept() else { return };
        let result = result
            .and_then(|stream| self.add(Socket::Stream(stream)).map_err(|e| -e.raw_os_error().unwrap_or(libc::EIO)));
        self.ready.push_back(Completion::Accepted { token, result });
    }

    fn poll(&mut self, timeout_ms: libc::c_int) -> io::Result<()> {
        let max = self.events.capacity() as libc::c_int;
        // SAFETY: the vector has room for `max` events.
        let n = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), max, timeout_ms) };
        let rung = self.bell.awake();
        if n < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        // SAFETY: the kernel has filled the first `n`.
        unsafe { self.events.set_len(n as usize) };
        for at in 0..self.events.len() {
            let event = self.events[at];
            if event.u64 == BELL {
                self.bell.drain();
            } else {
                self.socket_event(event.u64 as u32, event.events as libc::c_int);
            }
        }
        self.take_done();
        if rung & RUNG_BY_GATE != 0 {
            self.look_at_queued();
        }
        if rung & RUNG_BY_USER != 0 {
            self.ready.push_back(Completion::Woken);
        }
        Ok(())
    }

    fn socket_event(&mut self, id: u32, events: libc::c_int) {
        let Some(state) = self.sockets.get_mut(id) else { return };
        state.note(events);
        if state.is_listener() {
            self.try_accept(id);
            return;
        }
        if let Some(completion) = state.try_recv() {
            self.ready.push_back(completion);
        }
        if let Some((token, result)) = state.try_send() {
            self.ready.push_back(Completion::Sent { token, result });
        }
    }

    fn take_done(&mut self) {
        let mut all = std::mem::take(&mut self.done);
        self.pool.take_done(&mut all);
        for Done { key, result, extra, iov } in all.drain(..) {
            match self.ops.get(key).map(|op| op.way) {
                Some(Way::Sync(file)) => self.synced(file, result),
                _ => {
                    self.spare.push(iov);
                    self.end_op(key, result, extra);
                }
            }
        }
        self.done = all;
    }

    /// Gives an operation a key. None when there are too many already.
    fn begin_op(&mut self, token: IoToken, way: Way) -> Option<u32> {
        let key = self.ops.insert(StorageOp { token, way }).ok()?;
        self.by_command.insert(Slab::<StorageOp>::index(key), token.cmd);
        Some(key)
    }

    fn end_op(&mut self, key: u32, result: i32, extra: u64) {
        if let Some(StorageOp { token, .. }) = self.ops.remove(key) {
            self.by_command.remove(Slab::<StorageOp>::index(key), token.cmd);
            self.ready.push_back(Completion::Io(IoCompletion { token, result, extra }));
        }
    }

    fn file_mut(&mut self, file: u32) -> Option<&mut FileEntry> {
        find(&mut self.files, &mut self.retired, file)
    }

    /// A sync of a file has ended.
    fn synced(&mut self, file: u32, result: i32) {
        if let Some(entry) = self.file_mut(file) {
            entry.sync.end(result);
        }
        while let Some(key) = self.file_mut(file).and_then(|entry| entry.sync.ended()) {
            self.end_op(key, result, 0);
        }
        self.sync(file);
    }

    /// Begins a sync of a file, if one is wanted and it is its turn.
    fn sync(&mut self, file: u32) {
        while let Some(entry) = find(&mut self.files, &mut self.retired, file) {
            match entry.sync.next() {
                Next::Sync(key) => {
                    let (file, block_device) = (Arc::clone(&entry.file), entry.block_device);
                    let iov = IoVecs::default();
                    self.pool.push(&entry.lane, Job { key, file, block_device, work: Work::Flush, iov });
                    return;
                }
                Next::Fail(key, errno) => self.end_op(key, -errno, 0),
                Next::Queued => {
                    if !self.queued.contains(&file) {
                        self.queued.push_back(file);
                    }
                    return;
                }
                Next::Nothing => break,
            }
        }
        self.retired.retain(|(id, entry)| *id != file || !entry.sync.is_idle());
    }

    /// Goes on with the files whose turn has come.
    fn look_at_queued(&mut self) {
        for _ in 0..self.queued.len() {
            if let Some(file) = self.queued.pop_front() {
                self.sync(file);
            }
        }
    }

    fn submit_flush(&mut self, token: IoToken, file: u32) -> Result<(), QueueFull> {
        let Some(key) = self.begin_op(token, Way::Sync(file)) else { return Err(QueueFull) };
        match self.files.get_mut(file) {
            None => self.end_op(key, -libc::EBADF, 0),
            Some(entry) if entry.in_memory => {
                let result = entry.sync.failed().map_or(0, |errno| -errno);
                self.end_op(key, result, 0);
            }
            Some(entry) => {
                entry.sync.join(key);
                self.sync(file);
            }
        }
        Ok(())
    }

    /// Ends a flush for which no sync has begun. The sync under way is for others, too, and only its own result says what has
    /// become of the data.
    fn cancel_flush(&mut self, file: u32, key: u32) {
        if self.file_mut(file).is_some_and(|entry| entry.sync.cancel(key)) {
            self.end_op(key, -libc::ECANCELED, 0);
        }
    }

    fn complete(&mut self, token: IoToken, result: i32) {
        self.ready.push_back(Completion::Io(IoCompletion { token, result, extra: 0 }));
    }
}

/// Finds a file that is registered, or whose flushes are still under way.
fn find<'a>(
    files: &'a mut Slab<FileEntry>,
    retired: &'a mut [(u32, FileEntry)],
    file: u32,
) -> Option<&'a mut FileEntry> {
    let retired = retired.iter_mut().find(|(id, _)| *id == file).map(|(_, entry)| entry);
    files.get_mut(file).or(retired)
}

impl IoQueue for Posix {
    fn submit(&mut self, token: IoToken, op: IoOp<'_>) -> Result<(), QueueFull> {
        if let IoOp::Flush { file } = op {
            return self.submit_flush(token, file.0);
        }
        let id = file::file_of(&op);
        if self.files.get(id).is_none() {
            self.complete(token, -libc::EBADF);
            return Ok(());
        }
        let mut iov = self.spare.pop().unwrap_or_default();
        let Some(work) = Work::of(&op, &self.arenas, &mut iov) else {
            self.spare.push(iov);
            self.complete(token, -libc::EFAULT);
            return Ok(());
        };
        let Some(key) = self.begin_op(token, Way::Job(0)) else {
            self.spare.push(iov);
            return Err(QueueFull);
        };
        if let (Some(entry), Some(op)) = (self.files.get(id), self.ops.get_mut(key)) {
            let (file, block_device) = (Arc::clone(&entry.file), entry.block_device);
            op.way = Way::Job(self.pool.push(&entry.lane, Job { key, file, block_device, work, iov }));
        }
        Ok(())
    }

    fn try_now(&mut self, op: &IoOp<'_>) -> Option<i32> {
        let iov = &mut self.scratch;
        self.files.get_mut(file::file_of(op))?.try_now(op, &self.arenas, iov)
    }

    fn cancel(&mut self, cmd: CmdId) {
        let mut at = self.by_command.first(cmd);
        while let Some(index) = at {
            // The operation may end here.
            at = self.by_command.next(index);
            let Some(key) = self.ops.id_at(index) else { continue };
            match self.ops.get(key).filter(|op| op.token.cmd == cmd).map(|op| op.way) {
                Some(Way::Job(place)) => self.pool.cancel(place, key),
                Some(Way::Sync(file)) => self.cancel_flush(file, key),
                None => {}
            }
        }
    }

    fn cached_pages(&mut self, file: FileId, offset: u64, len: u32) -> Option<Extent> {
        self.files.get(file.0)?.cached_pages(self.now, offset, len, &self.arenas)
    }
}

impl FileRegistry for Posix {
    fn register_file(&mut self, file: Arc<File>, block_device: bool) -> FileId {
        let waker = doorbell::waker(&self.bell, RUNG_BY_GATE);
        let Ok(id) = self.files.insert(FileEntry::new(file, block_device, waker, self.pool.lane())) else {
            panic!("more than a million open files");
        };
        FileId(id)
    }

    fn unregister_file(&mut self, file: FileId) {
        if let Some(mut entry) = self.files.remove(file.0) {
            entry.withdraw_pages(&self.arenas);
            if !entry.sync.is_idle() {
                self.retired.push((file.0, entry));
            }
        }
    }

    fn order_syncs(&mut self, file: FileId, gate: &Arc<SyncGate>) {
        if let Some(entry) = self.files.get_mut(file.0) {
            entry.sync.pass(gate);
        }
    }

    fn share_pages(&mut self, file: FileId, pages: &Arc<FilePages>) {
        if let Some(entry) = self.files.get_mut(file.0) {
            entry.share_pages(pages, &self.arenas);
        }
    }
}

impl Backend for Posix {
    fn now(&self) -> Nanos {
        self.now
    }

    fn clock(&self) -> Box<dyn Clock> {
        clock::for_measuring()
    }

    fn listen(&mut self, addr: SocketAddr) -> io::Result<SocketId> {
        let listener = net::listen(addr, true)?;
        self.add(Socket::Listener(listener))
    }

    fn local_addr(&self, socket: SocketId) -> io::Result<SocketAddr> {
        self.socket(socket)?.socket.local_addr()
    }

    fn peer_addr(&self, socket: SocketId) -> io::Result<SocketAddr> {
        self.socket(socket)?.socket.peer_addr()
    }

    fn accept(&mut self, listener: SocketId, token: SocketToken) {
        match self.sockets.get_mut(listener.0) {
            Some(state) if state.is_listener() && state.accept.is_none() => {
                state.accept = Some(token);
                self.try_accept(listener.0);
            }
            _ => self.ready.push_back(Completion::Accepted { token, result: Err(-libc::EBADF) }),
        }
    }

    fn detach(&mut self, socket: SocketId) -> io::Result<DetachedSocket> {
        let state = self.socket(socket)?;
        if !state.is_idle() {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        // SAFETY: no memory is read for EPOLL_CTL_DEL.
        unsafe {
            let fd = state.socket.fd();
            libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut());
        }
        match self.sockets.remove(socket.0).map(|s| s.socket) {
            Some(Socket::Stream(stream)) => Ok(DetachedSocket::Real(stream)),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn adopt(&mut self, socket: DetachedSocket) -> io::Result<SocketId> {
        let DetachedSocket::Real(stream) = socket else { return Err(io::ErrorKind::InvalidInput.into()) };
        stream.set_nonblocking(true)?;
        self.add(Socket::Stream(stream))
    }

    fn recv(&mut self, socket: SocketId, into: &[Extent], pool: &mut BufferPool, token: SocketToken) {
        debug_assert!(Arc::ptr_eq(pool.arenas(), &self.arenas), "the pool is not this back-end's");
        let completion = match self.sockets.get_mut(socket.0) {
            None => Some(-libc::EBADF),
            Some(state) => state.start_recv(into, &self.arenas, token),
        };
        match completion {
            Some(result) => self.ready.push_back(Completion::Received { token, result }),
            None => self.ready.extend(self.sockets.get_mut(socket.0).and_then(SocketState::try_recv)),
        }
    }

    fn send(&mut self, socket: SocketId, from: &[Extent], pool: &BufferPool, token: SocketToken) {
        if let Some(result) = self.try_send(socket, from, pool, token) {
            self.ready.push_back(Completion::Sent { token, result });
        }
    }

    fn try_send(&mut self, socket: SocketId, from: &[Extent], pool: &BufferPool, token: SocketToken) -> Option<i32> {
        debug_assert!(Arc::ptr_eq(pool.arenas(), &self.arenas), "the pool is not this back-end's");
        match self.sockets.get_mut(socket.0) {
            None => Some(-libc::EBADF),
            Some(state) => state.start_send(from, &self.arenas, token).or_else(|| Some(state.try_send()?.1)),
        }
    }

    fn shutdown_write(&mut self, socket: SocketId) {
        if let Some(state) = self.sockets.get(socket.0) {
            state.socket.shutdown_write();
        }
    }

    fn close(&mut self, socket: SocketId, token: SocketToken) {
        // Nothing of a non-blocking socket is in the kernel's hands, so it is over at once.
        if let Some(state) = self.sockets.remove(socket.0) {
            state.cancel(&mut self.ready);
        }
        self.ready.push_back(Completion::Closed { token });
    }

    fn wait(&mut self, deadline: Option<Nanos>, out: &mut Vec<Completion>) -> io::Result<()> {
        let start = clock::now();
        self.take_done();
        loop {
            let mut timeout = 0;
            if self.ready.is_empty() {
                timeout = match deadline {
                    None => -1,
                    Some(at) => {
                        let left = at.0.saturating_sub(clock::now().0);
                        i32::try_from(left.div_ceil(1_000_000)).unwrap_or(i32::MAX)
                    }
                };
                let spinning = self.spin.is_on() && clock::now() < self.spin.until(start);
                if timeout != 0 && (spinning || !self.bell.prepare_sleep()) {
                    timeout = 0;
                }
            }
            self.poll(timeout)?;
            self.now = clock::now();
            if !self.ready.is_empty() || deadline.is_some_and(|at| at <= self.now) {
                self.spin.waited(Nanos(self.now.0.saturating_sub(start.0)));
                out.extend(self.ready.drain(..));
                return Ok(());
            }
        }
    }

    fn set_spin(&mut self, limit: Nanos) {
        self.spin = Spin::new(limit);
    }

    fn waker(&self) -> Waker {
        doorbell::waker(&self.bell, RUNG_BY_USER)
    }

    fn name(&self) -> &'static str {
        "posix"
    }
}

/// Checks a scatter list and makes it ready; the negative errno when it is not acceptable.
pub(crate) fn prepare(iov: &mut IoVecs, extents: &[Extent], arenas: &Arenas) -> Result<u32, i32> {
    if extents.len() > MAX_SEGMENTS {
        return Err(-libc::EMSGSIZE);
    }
    match iov.set(arenas, extents.iter().copied()) {
        None => Err(-libc::EFAULT),
        Some(0) => Err(-libc::EINVAL),
        Some(total) => i32::try_from(total).map(|_| total).map_err(|_| -libc::EMSGSIZE),
    }
}

/// The errors after which a non-blocking call waits for readiness, or is simply repeated.
pub(crate) enum Again {
    NotReady,
    Repeat,
    Failed(i32),
}

pub(crate) fn classify() -> Again {
    match last_errno() {
        e if e == -libc::EAGAIN => Again::NotReady,
        e if e == -libc::EINTR => Again::Repeat,
        e => Again::Failed(e),
    }
}
