//! Syncs (fdatasync) of one opening of a file: one at a time on all reactors, and none succeeds after one has failed.
//!
//! The kernel reports an error of writeback once to each open file description and marks the pages as clean. What lies below a file (a
//! file system in user space, a loop device, the cache of a drive) may report its own error once altogether. Of two syncs that run
//! at the same time one would then be told that all is well, although data that it was for are lost.
//!
//! So all syncs of an opening pass one [`SyncGate`], and its error is recorded before the next may begin. Syncs that are asked for
//! while one is under way share the next one ([`FileSync`]): it begins after all of the writes that they are for have completed, so
//! its result is true for each of them.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::backend::{Wake, Waker};

const FREE: u32 = 0;
const TAKEN: u32 = 1;
/// Taken, and somebody waits for it.
const WANTED: u32 = 2;

/// Lets one sync at a time run on an opening of a file, and keeps the first error. Shared by all reactors and the control thread.
#[derive(Debug, Default)]
pub struct SyncGate {
    state: AtomicU32,
    /// Errno of the first sync that failed; 0 while none has.
    error: AtomicI32,
    /// Those who wait. Locked only when two want the gate at the same time.
    queue: Mutex<VecDeque<Arc<Turn>>>,
}

/// One reactor's, or the control thread's, wish to pass a gate.
pub(crate) struct Turn {
    granted: AtomicBool,
    waker: Waker,
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn").field("granted", &self.granted).finish_non_exhaustive()
    }
}

impl Turn {
    pub(crate) fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Self { granted: AtomicBool::new(false), waker })
    }

    /// Whether the gate has been handed over since the last call.
    fn take(&self) -> bool {
        self.granted.swap(false, Ordering::Acquire)
    }
}

impl SyncGate {
    /// Errno of the first failure. Data that were written before may be lost, so nothing may be called durable until the file has
    /// been opened anew.
    pub fn error(&self) -> Option<i32> {
        Some(self.error.load(Ordering::Acquire)).filter(|errno| *errno != 0)
    }

    /// Records a failure, unless there is one already.
    pub fn fail(&self, errno: i32) {
        let _ = self.error.compare_exchange(0, errno, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Runs a sync on this thread when its turn has come.
    ///
    /// # Errors
    /// The error of the sync, or of an earlier one; `TimedOut` when another one does not end within `patience`.
    pub fn sync(&self, patience: Duration, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        let turn = Turn::new(Arc::new(Unpark(thread::current())));
        let mut entered = self.enter(&turn);
        while !entered {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.withdraw(&turn);
                return Err(io::Error::new(io::ErrorKind::TimedOut, "another flush of the file does not end"));
            }
            thread::park_timeout(left);
            entered = turn.take();
        }
        let result = match self.error() {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => sync(),
        };
        if let Err(error) = &result {
            self.fail(error.raw_os_error().unwrap_or(libc::EIO));
        }
        self.leave();
        result
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Arc<Turn>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, from: u32, to: u32) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Takes the gate; false when `turn` will be granted and woken later.
    fn enter(&self, turn: &Arc<Turn>) -> bool {
        if self.change(FREE, TAKEN) {
            return true;
        }
        let mut queue = self.queue();
        loop {
            if self.change(FREE, TAKEN) {
                return true;
            }
            if self.change(TAKEN, WANTED) || self.state.load(Ordering::Acquire) == WANTED {
                // Only whoever holds the queue makes it free again from here on.
                queue.push_back(Arc::clone(turn));
                return false;
            }
        }
    }

    /// Hands the gate to the one that has waited longest, or makes it free.
    fn leave(&self) {
        if self.change(TAKEN, FREE) {
            return;
        }
        let mut queue = self.queue();
        match queue.pop_front() {
            Some(next) => {
                next.granted.store(true, Ordering::Release);
                next.waker.wake();
            }
            None => self.state.store(FREE, Ordering::Release),
        }
    }

    /// Waits no longer.
    fn withdraw(&self, turn: &Arc<Turn>) {
        let mut queue = self.queue();
        let before = queue.len();
        queue.retain(|other| !Arc::ptr_eq(other, turn));
        let granted = queue.len() == before;
        drop(queue);
        if granted && turn.take() {
            self.leave();
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(&self) {
        self.0.unpark();
    }
}

/// The syncs of a file on one reactor. Keys are the back-end's names of the operations that want one.
#[derive(Debug)]
pub(crate) struct FileSync {
    gate: Arc<SyncGate>,
    turn: Arc<Turn>,
    phase: Phase,
    /// Those that the sync under way is for, the one that carries it first.
    running: VecDeque<u32>,
    /// Those that came later: the next sync is for them.
    waiting: VecDeque<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Idle,
    /// In the queue of the gate.
    Queued,
    Running,
}

/// What a back-end has to do for a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Sync the file, by the operation with this key.
    Sync(u32),
    /// End the operation with this key with an errno, and ask again.
    Fail(u32, i32),
    /// Ask again when the waker of the turn has been used.
    Queued,
    /// Nothing.
    Nothing,
}

impl FileSync {
    pub(crate) fn new(waker: Waker) -> Self {
        Self {
            gate: Arc::default(),
            turn: Turn::new(waker),
            phase: Phase::Idle,
            running: VecDeque::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Passes this gate from now on. To be called before the first sync.
    pub(crate) fn pass(&mut self, gate: &Arc<SyncGate>) {
        debug_assert_eq!(self.phase, Phase::Idle, "a gate is changed between syncs");
        self.gate = Arc::clone(gate);
    }

    /// Whether nothing is under way or wanted.
    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle && self.waiting.is_empty() && self.running.is_empty()
    }

    /// Errno of the first sync of the opening that failed.
    pub(crate) fn failed(&self) -> Option<i32> {
        self.gate.error()
    }

    /// Adds an operation that wants a sync which begins from now on.
    pub(crate) fn join(&mut self, key: u32) {
        self.waiting.push_back(key);
    }

    /// Takes an operation back for which no sync has begun. One for which there is a sync under way has to hear its result:
    /// another would not be told the same.
    pub(crate) fn cancel(&mut self, key: u32) -> bool {
        let at = self.waiting.iter().position(|other| *other == key);
        at.is_some_and(|at| self.waiting.remove(at).is_some())
    }

    /// What there is to do now.
    pub(crate) fn next(&mut self) -> Next {
        let entered = match self.phase {
            Phase::Running => return Next::Nothing,
            Phase::Queued if !self.turn.take() => return Next::Queued,
            Phase::Queued => true,
            Phase::Idle if self.waiting.is_empty() => return Next::Nothing,
            Phase::Idle => self.gate.enter(&self.turn),
        };
        if !entered {
            self.phase = Phase::Queued;
            return Next::Queued;
        }
        let failed = self.gate.error();
        match self.waiting.front().copied() {
            Some(key) if failed.is_none() => {
                self.phase = Phase::Running;
                std::mem::swap(&mut self.running, &mut self.waiting);
                Next::Sync(key)
            }
            key => {
                self.phase = Phase::Idle;
                self.gate.leave();
                self.waiting.pop_front();
                key.zip(failed).map_or(Next::Nothing, |(key, errno)| Next::Fail(key, errno))
            }
        }
    }

    /// The sync has ended, with zero or a negative errno: [`FileSync::ended`] gives the operations that it was for.
    pub(crate) fn end(&mut self, result: i32) {
        debug_assert_eq!(self.phase, Phase::Running, "a sync ends once");
        if result < 0 {
            self.gate.fail(-result);
        }
        self.phase = Phase::Idle;
        self.gate.leave();
    }

    /// The next operation whose sync has ended.
    pub(crate) fn ended(&mut self) -> Option<u32> {
        if self.phase == Phase::Running { None } else { self.running.pop_front() }
    }
}

impl Drop for FileSync {
    fn drop(&mut self) {
        match self.phase {
            Phase::Idle => {}
            Phase::Queued => self.gate.withdraw(&self.turn),
            // Nobody will know how it ended.
            Phase::Running => {
                self.gate.fail(libc::EIO);
                self.gate.leave();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A file of one reactor, and how often that was woken.
    fn file(gate: &Arc<SyncGate>) -> (FileSync, Arc<Count>) {
        let woken = Arc::new(Count::default());
        let waker: Waker = woken.clone();
        let mut file = FileSync::new(waker);
        file.pass(gate);
        (file, woken)
    }

    fn ended(file: &mut FileSync) -> Vec<u32> {
        std::iter::from_fn(|| file.ended()).collect()
    }

    #[test]
    fn what_comes_during_a_sync_shares_the_next_one() {
        let (mut file, _) = file(&Arc::default());
        file.join(1);
        assert_eq!(file.next(), Next::Sync(1));
        file.join(2);
        file.join(3);
        assert_eq!((file.next(), ended(&mut file)), (Next::Nothing, vec![]));
        file.end(0);
        assert_eq!(ended(&mut file), [1]);
        assert_eq!(file.next(), Next::Sync(2));
        file.end(0);
        assert_eq!((ended(&mut file), file.next()), (vec![2, 3], Next::Nothing));
    }

    #[test]
    fn after_a_failure_nothing_is_synced() {
        let gate = Arc::default();
        let (mut file, _) = file(&gate);
        file.join(1);
        assert_eq!(file.next(), Next::Sync(1));
        file.join(2);
        file.end(-libc::ENOSPC);
        assert_eq!(ended(&mut file), [1]);
        // The kernel would say that this one is fine: it has told the error.
        assert_eq!((file.next(), file.next()), (Next::Fail(2, libc::ENOSPC), Next::Nothing));
        file.join(3);
        assert_eq!(file.next(), Next::Fail(3, libc::ENOSPC));
        gate.fail(libc::EIO);
        assert_eq!(gate.error(), Some(libc::ENOSPC), "the first error stays");
        let error = gate.sync(Duration::ZERO, || unreachable!("it has failed")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    }

    #[test]
    fn reactors_take_turns_and_hear_of_a_failure_before_they_begin() {
        let gate = Arc::default();
        let ((mut a, _), (mut b, woken)) = (file(&gate), file(&gate));
        a.join(1);
        b.join(2);
        assert_eq!((a.next(), b.next(), b.next()), (Next::Sync(1), Next::Queued, Next::Queued));
        a.join(3);
        a.end(0);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!((ended(&mut a), a.next()), (vec![1], Next::Queued), "the other has waited longer");
        assert_eq!(b.next(), Next::Sync(2));
        b.end(-libc::EIO);
        assert_eq!((ended(&mut b), a.next()), (vec![2], Next::Fail(3, libc::EIO)));
        assert_eq!((a.next(), b.next(), gate.state.load(Ordering::Relaxed)), (Next::Nothing, Next::Nothing, FREE));
    }

    #[test]
    fn only_what_no_sync_has_begun_for_can_be_cancelled() {
        let gate = Arc::default();
        let ((mut a, _), (mut b, _)) = (file(&gate), file(&gate));
        a.join(1);
        assert_eq!(a.next(), Next::Sync(1));
        a.join(2);
        b.join(3);
        assert_eq!(b.next(), Next::Queued);
        assert_eq!((a.cancel(1), a.cancel(2), a.cancel(2), b.cancel(3)), (false, true, false, true));
        a.end(0);
        assert_eq!((ended(&mut a), a.next()), (vec![1], Next::Nothing));
        assert_eq!((b.next(), gate.state.load(Ordering::Relaxed)), (Next::Nothing, FREE), "it has no use for its turn");
    }

    #[test]
    fn a_file_that_goes_holds_up_nobody() {
        let gate = Arc::default();
        let ((mut a, _), (mut b, _), (mut c, _)) = (file(&gate), file(&gate), file(&gate));
        for (n, file) in (0..).zip([&mut a, &mut b, &mut c]) {
            file.join(n);
            assert_eq!(file.next(), if n == 0 { Next::Sync(0) } else { Next::Queued });
        }
        drop(b);
        a.end(0);
        drop(a);
        assert_eq!(c.next(), Next::Sync(2));
        drop(c);
        assert_eq!(
            (gate.error(), gate.state.load(Ordering::Relaxed)),
            (Some(libc::EIO), FREE),
            "how it ended is not known"
        );
        let (mut a, mut granted) = (file(&gate).0, file(&Arc::default()).0);
        a.join(0);
        assert_eq!(a.next(), Next::Fail(0, libc::EIO));
        // One that goes when its turn has just come.
        let gate = Arc::default();
        granted.pass(&gate);
        a.pass(&gate);
        a.join(1);
        granted.join(2);
        assert_eq!((a.next(), granted.next()), (Next::Sync(1), Next::Queued));
        a.end(0);
        drop(granted);
        assert_eq!(gate.state.load(Ordering::Relaxed), FREE);
    }

    #[test]
    fn the_control_thread_waits_for_its_turn_but_not_for_ever() {
        let gate: Arc<SyncGate> = Arc::default();
        let (mut file, _) = file(&gate);
        file.join(1);
        assert_eq!(file.next(), Next::Sync(1));
        assert_eq!(gate.sync(Duration::ZERO, || Ok(())).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(gate.error(), None);
        thread::scope(|scope| {
            let control = scope.spawn(|| gate.sync(Duration::from_secs(60), || Ok(())));
            while gate.queue().is_empty() {
                thread::yield_now();
            }
            file.end(0);
            control.join().unwrap().unwrap();
        });
        assert_eq!(gate.state.load(Ordering::Relaxed), FREE);
    }

    #[test]
    fn many_threads_pass_one_at_a_time() {
        let (gate, inside) = (SyncGate::default(), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let sync = || {
                            assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                            thread::yield_now();
                            assert_eq!(inside.fetch_sub(1, Ordering::Relaxed), 1);
                            Ok(())
                        };
                        gate.sync(Duration::from_secs(60), sync).unwrap();
                    }
                });
            }
        });
        assert_eq!(gate.state.load(Ordering::Relaxed), FREE);
    }
}
