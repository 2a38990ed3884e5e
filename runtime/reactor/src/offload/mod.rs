//! Threads for file operations that may block. Results come back as completions; the doorbell tells.
//!
//! Jobs wait in the lane of their file, oldest first, and a file has a few threads at the most at a time. So a file whose storage
//! does not answer keeps these, and other files get others. A few threads start with the first job and stay. More start when a
//! job finds none that is idle, up to a limit over all files, and end when they have been idle for a while. All end with the
//! pool, after the operations they are at.

mod queue;

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::doorbell::{Doorbell, RUNG_BY_POOL};
use crate::file::{self, Work};
use crate::iovec::IoVecs;
use queue::{LaneId, Queue, Wants};

/// A thread more than those that stay ends after so much idle time.
const LINGER: Duration = Duration::from_secs(10);

/// How many threads a pool has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Threads {
    /// At work for one file, at the most.
    pub(crate) per_file: u32,
    /// Idle or not, from the first job on.
    pub(crate) stay: u32,
    /// Altogether, at the most.
    pub(crate) most: u32,
}

/// An operation for a thread. Its memory travels with it and comes back with the result, to be used again.
pub(crate) struct Job {
    pub(crate) key: u32,
    pub(crate) file: Arc<File>,
    pub(crate) block_device: bool,
    pub(crate) work: Work,
    pub(crate) iov: IoVecs,
}

/// The end of a job.
pub(crate) struct Done {
    pub(crate) key: u32,
    pub(crate) result: i32,
    pub(crate) extra: u64,
    pub(crate) iov: IoVecs,
}

impl Done {
    /// The end of a job that no thread has begun.
    fn without_work(job: Job, errno: i32) -> Self {
        Self { key: job.key, result: -errno, extra: 0, iov: job.iov }
    }
}

struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    /// A thread has ended.
    ended: Condvar,
    done: Mutex<Vec<Done>>,
    bell: Arc<Doorbell>,
    linger: Duration,
}

/// The jobs of one file that wait for a thread. When it is dropped, those that are there are still done.
pub(crate) struct Lane {
    shared: Arc<Shared>,
    id: LaneId,
}

impl Drop for Lane {
    fn drop(&mut self) {
        lock(&self.shared.queue).close(self.id);
    }
}

/// The pool of one back-end.
pub(crate) struct Offload {
    shared: Arc<Shared>,
    /// The last attempt to start a thread failed.
    is_short: bool,
}

impl Offload {
    /// Prepares for `capacity` jobs at a time.
    pub(crate) fn new(threads: Threads, capacity: u32, bell: Arc<Doorbell>) -> Self {
        Self::lingering(threads, capacity, bell, LINGER)
    }

    fn lingering(threads: Threads, capacity: u32, bell: Arc<Doorbell>, linger: Duration) -> Self {
        let shared = Shared {
            queue: Mutex::new(Queue::new(threads)),
            work: Condvar::new(),
            ended: Condvar::new(),
            done: Mutex::new(Vec::with_capacity(capacity as usize)),
            bell,
            linger,
        };
        Self { shared: Arc::new(shared), is_short: false }
    }

    /// Adds a file.
    pub(crate) fn lane(&self) -> Lane {
        let id = lock(&self.shared.queue).open();
        Lane { shared: Arc::clone(&self.shared), id }
    }

    /// Hands a job to the threads. Returns its place, by which it can be cancelled.
    pub(crate) fn push(&mut self, lane: &Lane, job: Job) -> u32 {
        let (place, wants) = lock(&self.shared.queue).push(lane.id, job);
        match wants {
            Wants::Nothing => {}
            Wants::Wake => self.shared.work.notify_one(),
            Wants::Start(count) => (0..count).for_each(|_| self.start()),
        }
        place
    }

    /// Starts a thread, which the queue has counted already.
    fn start(&mut self) {
        let shared = Arc::clone(&self.shared);
        let spawned = thread::Builder::new().name("scst-io".to_owned()).spawn(move || run(&shared));
        let Err(error) = spawned else {
            self.is_short = false;
            return;
        };
        if !std::mem::replace(&mut self.is_short, true) {
            tracing::error!(%error, "cannot start a thread for file operations; they wait for others to end");
        }
        let mut queue = lock(&self.shared.queue);
        queue.threads -= 1;
        if queue.threads == 0 {
            // Nothing will ever end.
            let jobs = queue.take_all();
            drop(queue);
            self.give_back(jobs, libc::EAGAIN);
        }
    }

    /// Takes a job back, unless a thread has begun it; it ends with ECANCELED. `key` has to be the job's own.
    pub(crate) fn cancel(&self, place: u32, key: u32) {
        let job = lock(&self.shared.queue).cancel(place, key);
        self.give_back(job, libc::ECANCELED);
    }

    /// Takes back all jobs that no thread has begun.
    pub(crate) fn cancel_all(&self) {
        let jobs = lock(&self.shared.queue).take_all();
        self.give_back(jobs, libc::ECANCELED);
    }

    fn give_back(&self, jobs: impl IntoIterator<Item = Job>, errno: i32) {
        let mut jobs = jobs.into_iter().peekable();
        if jobs.peek().is_some() {
            lock(&self.shared.done).extend(jobs.map(|job| Done::without_work(job, errno)));
            self.shared.bell.ring(RUNG_BY_POOL);
        }
    }

    /// Swaps the results so far into `out`, which must be empty.
    pub(crate) fn take_done(&self, out: &mut Vec<Done>) {
        debug_assert!(out.is_empty());
        std::mem::swap(&mut *lock(&self.shared.done), out);
    }
}

impl Drop for Offload {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.stop = true;
        drop(queue.take_all());
        self.shared.work.notify_all();
        while queue.threads > 0 {
            queue = self.shared.ended.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says that a thread has ended, in whatever way.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            lock(&self.0.queue).threads -= 1;
        }
        self.0.ended.notify_all();
    }
}

fn run(shared: &Shared) {
    let _ending = Ending(shared);
    let mut queue = lock(&shared.queue);
    while !queue.stop {
        if let Some((lane, job)) = queue.take() {
            drop(queue);
            let (result, extra) = file::run(&job.file, job.block_device, job.work, &job.iov);
            lock(&shared.done).push(Done { key: job.key, result, extra, iov: job.iov });
            shared.bell.ring(RUNG_BY_POOL);
            queue = lock(&shared.queue);
            queue.finished(lane);
            continue;
        }
        let stays = queue.threads <= queue.limits.stay;
        let timed_out;
        queue.idle += 1;
        (queue, timed_out) = if stays {
            (shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner), false)
        } else {
            let waited = shared.work.wait_timeout(queue, shared.linger).unwrap_or_else(PoisonError::into_inner);
            (waited.0, waited.1.timed_out())
        };
        if !queue.called() && timed_out && queue.threads > queue.limits.stay {
            break;
        }
    }
    queue.threads -= 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_are_not_needed_end_and_some_stay() {
        let bell = Arc::new(Doorbell::new(true).unwrap());
        let mut pool = Offload::lingering(Threads { per_file: 2, stay: 2, most: 32 }, 16, bell, Duration::ZERO);
        let file = Arc::new(tempfile::tempfile().unwrap());
        let lanes = [(); 8].map(|()| pool.lane());
        for key in 0..16 {
            let (file, iov) = (Arc::clone(&file), IoVecs::default());
            let job = Job { key, file, block_device: false, work: Work::Mapped { offset: 0, len: 1 }, iov };
            pool.push(&lanes[key as usize % 8], job);
        }
        let mut queue = lock(&pool.shared.queue);
        while queue.threads > 2 || queue.idle < queue.threads {
            queue = pool.shared.ended.wait_timeout(queue, Duration::from_millis(1)).unwrap().0;
        }
        drop(queue);
        let mut done = Vec::new();
        pool.take_done(&mut done);
        let mut keys: Vec<u32> = done.iter().map(|done| done.key).collect();
        keys.sort_unstable();
        assert_eq!(keys, (0..16).collect::<Vec<_>>());
    }
}
