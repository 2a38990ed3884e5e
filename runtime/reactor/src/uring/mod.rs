//! io_uring: every operation is a submission, one `enter` per loop turn submits and waits. The exception is a send: the
//! socket nearly always takes all of it, and as a system call of its own it is over at once, while its completion in the
//! ring would end the wait of the next `enter` before anything worth waiting for has come.
//!
//! Ownership: an operation lives in a slot of one fixed slab, with its `msghdr` and scatter list; the slot is freed
//! only by the operation's own completion, never by a cancellation. `user_data` is `{kind: 8, generation: 24, slot: 32}`, so
//! a completion that belongs to nobody is noticed and dropped. Slots are fewer than half of the completion queue: it
//! cannot overflow, even when every operation is being cancelled.
#![allow(unsafe_code)]

mod alarm;
mod discard;
mod entry;
mod ops;
mod registered;
mod setup;
mod sockets;
mod storage;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use scst_core::Nanos;
use scst_core::buffer::Extent;
use scst_core::ids::CmdId;
use scst_core::io::{FileId, IoOp, IoQueue, IoToken, QueueFull};
use scst_core::latency::Clock;
use scst_mem::{Arenas, BufferPool, FilePages};

use crate::backend::{Backend, Completion, DetachedSocket, FileRegistry, MAX_SEGMENTS, SocketId, SocketToken, Waker};
use crate::by_command::ByCommand;
use crate::clock;
use crate::config::ReactorConfig;
use crate::doorbell::{self, Doorbell, RUNG_BY_GATE, RUNG_BY_USER};
use crate::file::{FileEntry, file_of};
use crate::iovec::IoVecs;
use crate::net::{self, Socket};
use crate::offload::{Done, Offload, Threads};
use crate::slab::Slab;
use crate::spin::Spin;
use crate::sync::SyncGate;
pub use setup::UringError;

use alarm::Alarm;
use entry::Entry;
use ops::{OpTable, StorageKind, Tag};
use registered::Registered;
use sockets::SocketState;

const THREADS: Threads = Threads { per_file: 4, stay: 2, most: 64 };
/// Entries of the submission queue; more operations in one turn are submitted in between.
const SQ_ENTRIES: u32 = 512;

/// The back-end.
pub struct Uring {
    ring: IoUring,
    /// The ring was made disabled, to be bound to the thread that first enters it.
    disabled: bool,
    entry: Entry,
    /// Receives can be told to wait before they try (Linux 5.19; rings that are made disabled are younger).
    has_poll_first: bool,
    /// The last turn found nothing to do and slept.
    slept: bool,
    features: String,
    arenas: Arc<Arenas>,
    registered: Registered,
    bell: Arc<Doorbell>,
    /// Where the read of the doorbell's eventfd goes.
    bell_word: Box<u64>,
    bell_armed: bool,
    alarm: Alarm,
    ops: OpTable,
    /// Storage operations by their command.
    by_command: ByCommand,
    sockets: Slab<SocketState>,
    files: Slab<(FileEntry, u32)>,
    /// The kernel is known to have discard as a command of the ring.
    ring_discards: bool,
    /// Files that are unregistered but still used by operations are kept here as `(id, file, operations left)`.
    retired: Vec<(u32, FileEntry, u32)>,
    /// Files whose turn to be synced has not come.
    queued: VecDeque<u32>,
    io_in_flight: u32,
    io_depth: u32,
    pool: Offload,
    done: Vec<Done>,
    /// For operations that are done at once.
    scratch: IoVecs,
    /// Entries for which the submission queue had no room.
    backlog: VecDeque<squeue::Entry>,
    reaped: Vec<(u64, i32)>,
    ready: VecDeque<Completion>,
    now: Nanos,
    spin: Spin,
    /// Completions that belonged to no operation; always 0 unless there is a bug.
    strays: u64,
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring").field("features", &self.features).field("now", &self.now).finish_non_exhaustive()
    }
}

impl Uring {
    /// Opens the back-end. It is bound to the thread that first calls `wait`.
    ///
    /// # Errors
    /// [`UringError`] when the kernel lacks io_uring or a part of it that is needed, or forbids it.
    pub fn new(config: &ReactorConfig) -> Result<Self, UringError> {
        let slots = config.io_depth + 2 * config.sockets;
        // Every slot may have a completion of its own and one of its cancellation; a few more for the doorbell.
        let ring = setup::build(SQ_ENTRIES, 2 * slots + 64)?;
        let slots = slots.min((ring.ring.params().cq_entries() - 64) / 2);
        let io_depth = config.io_depth.min(slots / 2);
        let bell = Arc::new(Doorbell::new(false).map_err(UringError::Doorbell)?);
        Ok(Self {
            registered: Registered::new(&ring.ring, config.register_buffers),
            entry: Entry::by_descriptor(&ring.ring),
            ring: ring.ring,
            disabled: ring.disabled,
            has_poll_first: ring.disabled,
            slept: false,
            features: ring.features,
            arenas: Arc::clone(&config.arenas),
            pool: Offload::new(THREADS, config.io_depth, Arc::clone(&bell)),
            bell,
            bell_word: Box::new(0),
            bell_armed: false,
            alarm: Alarm::new(),
            ops: OpTable::new(slots),
            by_command: ByCommand::new(io_depth, slots),
            sockets: Slab::new(config.sockets),
            files: Slab::new(u32::MAX),
            ring_discards: false,
            retired: Vec::new(),
            queued: VecDeque::new(),
            io_in_flight: 0,
            io_depth,
            done: Vec::with_capacity(config.io_depth as usize),
            scratch: IoVecs::with_capacity(MAX_SEGMENTS),
            backlog: VecDeque::new(),
            reaped: Vec::with_capacity(1024),
            ready: VecDeque::with_capacity(1024),
            now: clock::now(),
            spin: Spin::new(config.spin),
            strays: 0,
        })
    }

    /// The ring's flags, for logs.
    pub fn features(&self) -> &str {
        &self.features
    }

    /// Queues an entry; it is submitted with the next `enter`.
    fn push(&mut self, entry: squeue::Entry) {
        if self.backlog.is_empty() {
            // SAFETY: what an entry points to (slot, arena, doorbell word) lives until its completion.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            if self.enter(0, None).is_ok() {
                // SAFETY: as above.
                if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                    return;
                }
            }
        }
        self.backlog.push_back(entry);
    }

    fn flush_backlog(&mut self) {
        while let Some(entry) = self.backlog.front() {
            // SAFETY: as in `push`.
            if unsafe { self.ring.submission().push(entry) }.is_err() {
                if self.enter(0, None).is_err() || self.ring.submission().is_full() {
                    return;
                }
                continue;
            }
            self.backlog.pop_front();
        }
    }

    /// Submits what is queued and waits for `want` completions at most for `timeout`.
    fn enter(&mut self, want: usize, timeout: Option<Nanos>) -> io::Result<()> {
        if self.disabled {
            self.ring.submitter().register_enable_rings()?;
            self.disabled = false;
            self.entry = Entry::by_number(&self.ring);
        }
        let result = match timeout {
            None => {
                let to_submit = self.ring.submission().len();
                self.entry.enter(to_submit as u32, want as u32)
            }
            Some(left) => {
                let ts = types::Timespec::new().sec(left.0 / 1_000_000_000).nsec((left.0 % 1_000_000_000) as u32);
                self.ring.submitter().submit_with_args(want, &types::SubmitArgs::new().timespec(&ts)).map(drop)
            }
        };
        match result {
            Ok(()) => Ok(()),
            // The time is over, a signal came, the completions must be taken first, or memory is short for a moment:
            // the caller reaps and comes again.
            Err(e) => match e.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(e),
            },
        }
    }

    /// Takes all completions off the ring and handles them.
    ///
    /// Deferred work and an overflowed queue need an `enter` to show up, but one only: the kernel may leave the flag set
    /// with no work behind it (it sets it after it has queued the work, and we may have run that work in between), and
    /// then nothing clears it before the next event. Work that is still hidden after that comes with the next `enter`.
    fn reap(&mut self) -> io::Result<()> {
        self.take_completions();
        let sq = self.ring.submission();
        let hidden = sq.taskrun() || sq.cq_overflow();
        drop(sq);
        if hidden {
            self.enter(0, None)?;
            self.take_completions();
        }
        Ok(())
    }

    fn take_completions(&mut self) {
        let mut reaped = std::mem::take(&mut self.reaped);
        reaped.extend(self.ring.completion().map(|cqe: cqueue::Entry| (cqe.user_data(), cqe.result())));
        for &(data, result) in &reaped {
            self.completed(data, result);
        }
        reaped.clear();
        self.reaped = reaped;
    }

    fn completed(&mut self, data: u64, result: i32) {
        match Tag::decode(data) {
            Some(Tag::Op { slot, generation }) => match self.ops.owner(slot, generation) {
                Some(owner) => self.op_completed(slot, owner, result),
                None => self.stray(data),
            },
            // Only the cancelled operation's own completion counts.
            Some(Tag::Cancel) => {}
            Some(Tag::Bell) => self.bell_armed = false,
            Some(Tag::Alarm) => self.alarm.gone_off(),
            Some(Tag::AlarmMoved) => {}
            None => self.stray(data),
        }
    }

    fn stray(&mut self, data: u64) {
        self.strays += 1;
        debug_assert!(false, "completion {data:#x} belongs to no operation");
        tracing::error!(data, "a completion belongs to no operation");
    }

    fn op_completed(&mut self, slot: u32, owner: ops::Owner, result: i32) {
        match owner {
            ops::Owner::Recv { .. } | ops::Owner::Send { .. } | ops::Owner::Accept { .. } => {
                self.socket_completed(slot, owner, result);
            }
            ops::Owner::Storage { file, kind: StorageKind::Flush, .. } => self.synced(file, result),
            ops::Owner::Storage { .. } => self.storage_completed(slot, owner, result, 0),
            ops::Owner::Free => unreachable!("`owner` never yields a free slot"),
        }
    }

    /// Asks the kernel to end an operation early, at most once.
    fn cancel_op(&mut self, slot: u32) {
        if let Some(target) = self.ops.mark_cancelled(slot) {
            self.push(opcode::AsyncCancel::new(target).build().user_data(Tag::Cancel.encode()));
        }
    }

    fn arm_bell(&mut self) {
        if !self.bell_armed {
            let word: *mut u64 = &mut *self.bell_word;
            let fd = types::Fd(self.bell.fd());
            self.push(opcode::Read::new(fd, word.cast(), 8).build().user_data(Tag::Bell.encode()));
            self.bell_armed = true;
        }
    }

    fn take_done(&mut self) {
        let mut done = std::mem::take(&mut self.done);
        self.pool.take_done(&mut done);
        for Done { key, result, extra, iov } in done.drain(..) {
            self.ops.put_iov(key, iov);
            let owner = self.ops.owner_at(key);
            self.storage_completed(key, owner, result, extra);
        }
        self.done = done;
    }

    /// Whether the kernel has to be told or asked something.
    fn must_enter(&mut self) -> bool {
        let sq = self.ring.submission();
        !sq.is_empty() || sq.taskrun() || sq.cq_overflow()
    }

    /// Submits, and looks for anything to happen until a time.
    fn poll(&mut self, until: Nanos) -> io::Result<()> {
        loop {
            if self.must_enter() {
                self.enter(0, None)?;
            }
            if !self.ring.completion().is_empty() || self.bell.is_rung() || clock::now() >= until {
                return Ok(());
            }
            std::hint::spin_loop();
        }
    }

    /// One turn: submit, wait if there is nothing yet, take what there is. Until `poll_until` it polls instead of
    /// sleeping.
    fn turn(&mut self, poll_until: Nanos, deadline: Option<Nanos>) -> io::Result<()> {
        self.arm_bell();
        self.flush_backlog();
        self.take_done();
        let mut want = 0;
        if self.ready.is_empty() && self.backlog.is_empty() {
            // Without polling the time of the last turn is near enough: a deadline that has passed since then ends the
            // sleep at once.
            let clock = if self.spin.is_on() { clock::now() } else { self.now };
            if deadline.is_none_or(|at| at > clock) {
                if clock < poll_until {
                    self.poll(deadline.map_or(poll_until, |at| at.min(poll_until)))?;
                } else if self.bell.prepare_sleep() {
                    want = 1;
                    if let Some(entry) = deadline.and_then(|at| self.alarm.at(at)) {
                        self.push(entry);
                    }
                }
            }
        }
        self.slept = want > 0;
        if want > 0 || self.must_enter() {
            self.enter(want, None)?;
        }
        let rung = self.bell.awake();
        self.now = clock::now();
        self.reap()?;
        self.take_done();
        if rung & RUNG_BY_GATE != 0 {
            self.look_at_queued();
        }
        if rung & RUNG_BY_USER != 0 {
            self.ready.push_back(Completion::Woken);
        }
        Ok(())
    }
}

impl IoQueue for Uring {
    fn submit(&mut self, token: IoToken, op: IoOp<'_>) -> Result<(), QueueFull> {
        self.submit_storage(token, &op)
    }

    fn try_now(&mut self, op: &IoOp<'_>) -> Option<i32> {
        let (entry, _) = self.files.get_mut(file_of(op))?;
        entry.try_now(op, &self.arenas, &mut self.scratch)
    }

    fn cancel(&mut self, cmd: CmdId) {
        self.cancel_storage(cmd);
    }

    fn cached_pages(&mut self, file: FileId, offset: u64, len: u32) -> Option<Extent> {
        self.files.get(file.0)?.0.cached_pages(self.now, offset, len, &self.arenas)
    }
}

impl FileRegistry for Uring {
    fn register_file(&mut self, file: Arc<File>, block_device: bool) -> FileId {
        let mut entry = FileEntry::new(file, block_device, doorbell::waker(&self.bell, RUNG_BY_GATE), self.pool.lane());
        // A kernel that has it for one device has it for all.
        self.ring_discards =
            self.ring_discards || (entry.is_direct() && block_device && discard::works_on(&entry.file));
        entry.ring_discards = self.ring_discards && entry.is_direct() && block_device;
        let Ok(id) = self.files.insert((entry, 0)) else {
            panic!("more than a million open files");
        };
        FileId(id)
    }

    fn unregister_file(&mut self, file: FileId) {
        let Some((mut entry, in_flight)) = self.files.remove(file.0) else { return };
        entry.withdraw_pages(&self.arenas);
        if in_flight > 0 {
            self.retired.push((file.0, entry, in_flight));
        }
    }

    fn order_syncs(&mut self, file: FileId, gate: &Arc<SyncGate>) {
        if let Some((entry, _)) = self.files.get_mut(file.0) {
            entry.sync.pass(gate);
        }
    }

    fn share_pages(&mut self, file: FileId, pages: &Arc<FilePages>) {
        if let Some((entry, _)) = self.files.get_mut(file.0) {
            entry.share_pages(pages, &self.arenas);
        }
    }
}

impl Backend for Uring {
    fn now(&self) -> Nanos {
        self.now
    }

    fn clock(&self) -> Box<dyn Clock> {
        clock::for_measuring()
    }

    fn listen(&mut self, addr: SocketAddr) -> io::Result<SocketId> {
        // Blocking: io_uring waits for readiness itself, and answers EAGAIN on a non-blocking socket.
        let listener = net::listen(addr, false)?;
        self.add_socket(Socket::Listener(listener))
    }

    fn local_addr(&self, socket: SocketId) -> io::Result<SocketAddr> {
        self.socket(socket)?.socket.local_addr()
    }

    fn peer_addr(&self, socket: SocketId) -> io::Result<SocketAddr> {
        self.socket(socket)?.socket.peer_addr()
    }

    fn accept(&mut self, listener: SocketId, token: SocketToken) {
        self.start_accept(listener, token);
    }

    fn detach(&mut self, socket: SocketId) -> io::Result<DetachedSocket> {
        self.detach_socket(socket)
    }

    fn adopt(&mut self, socket: DetachedSocket) -> io::Result<SocketId> {
        let DetachedSocket::Real(stream) = socket else { return Err(io::ErrorKind::InvalidInput.into()) };
        stream.set_nonblocking(false)?;
        self.add_socket(Socket::Stream(stream))
    }

    fn recv(&mut self, socket: SocketId, into: &[Extent], pool: &mut BufferPool, token: SocketToken) {
        debug_assert!(Arc::ptr_eq(pool.arenas(), &self.arenas), "the pool is not this back-end's");
        self.start_recv(socket, into, token);
    }

    fn send(&mut self, socket: SocketId, from: &[Extent], pool: &BufferPool, token: SocketToken) {
        debug_assert!(Arc::ptr_eq(pool.arenas(), &self.arenas), "the pool is not this back-end's");
        if let Some(result) = self.start_send(socket, from, token) {
            self.ready.push_back(Completion::Sent { token, result });
        }
    }

    fn try_send(&mut self, socket: SocketId, from: &[Extent], pool: &BufferPool, token: SocketToken) -> Option<i32> {
        debug_assert!(Arc::ptr_eq(pool.arenas(), &self.arenas), "the pool is not this back-end's");
        self.start_send(socket, from, token)
    }

    fn shutdown_write(&mut self, socket: SocketId) {
        if let Some(state) = self.sockets.get(socket.0) {
            state.socket.shutdown_write();
        }
    }

    fn close(&mut self, socket: SocketId, token: SocketToken) {
        self.start_close(socket, token);
    }

    fn wait(&mut self, deadline: Option<Nanos>, out: &mut Vec<Completion>) -> io::Result<()> {
        let start = if self.spin.is_on() { clock::now() } else { Nanos(0) };
        loop {
            self.turn(self.spin.until(start), deadline)?;
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
        "uring"
    }
}

impl Drop for Uring {
    /// The kernel may still write to arenas and slots: nothing is freed before every operation has ended. If that
    /// cannot be seen to (another thread drops it), the memory is left to the kernel for good.
    fn drop(&mut self) {
        // This may be another thread, to which the number means another ring.
        self.entry = Entry::by_descriptor(&self.ring);
        for (_, state) in self.sockets.iter() {
            state.socket.shutdown();
        }
        for slot in self.ops.busy().collect::<Vec<_>>() {
            // A flush for which no sync has begun ends here.
            if !self.cancel_flush(slot) {
                self.cancel_op(slot);
            }
        }
        self.pool.cancel_all();
        // Ends the read of the doorbell.
        self.bell.write();
        while self.ops.busy().next().is_some() || self.bell_armed {
            self.flush_backlog();
            let result = self.enter(1, Some(Nanos::from_millis(10))).and_then(|()| self.reap());
            self.take_done();
            if let Err(error) = result {
                tracing::error!(%error, "the ring cannot be drained; its memory stays in use");
                std::mem::forget(Arc::clone(&self.arenas));
                std::mem::forget(std::mem::take(&mut self.bell_word));
                std::mem::forget(std::mem::replace(&mut self.ops, OpTable::new(0)));
                return;
            }
        }
    }
}
