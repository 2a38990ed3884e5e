//! A few threads for file operations that may block. Results come back as completions; the doorbell tells.
//!
//! The threads start with the first operation and end with the pool, after the operations they are at.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::doorbell::{Doorbell, RUNG_BY_POOL};
use crate::file::{self, Work};
use crate::iovec::IoVecs;

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

struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    done: Mutex<Vec<Done>>,
    bell: Arc<Doorbell>,
}

struct Queue {
    jobs: VecDeque<Job>,
    stop: bool,
}

/// The pool of one back-end.
pub(crate) struct Offload {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    size: u32,
}

impl Offload {
    pub(crate) fn new(size: u32, capacity: u32, bell: Arc<Doorbell>) -> Self {
        let queue = Queue { jobs: VecDeque::with_capacity(capacity as usize), stop: false };
        let shared = Shared {
            queue: Mutex::new(queue),
            work: Condvar::new(),
            done: Mutex::new(Vec::with_capacity(capacity as usize)),
            bell,
        };
        Self { shared: Arc::new(shared), threads: Vec::new(), size: size.max(1) }
    }

    /// Hands a job to the threads.
    pub(crate) fn push(&mut self, job: Job) {
        if self.threads.is_empty() {
            self.start();
        }
        lock(&self.shared.queue).jobs.push_back(job);
        self.shared.work.notify_one();
    }

    fn start(&mut self) {
        for n in 0..self.size {
            let shared = Arc::clone(&self.shared);
            let spawned = std::thread::Builder::new().name(format!("scst-io-{n}")).spawn(move || run(&shared));
            match spawned {
                Ok(thread) => self.threads.push(thread),
                Err(error) => tracing::error!(%error, "cannot start a thread for file operations"),
            }
        }
        assert!(!self.threads.is_empty(), "no thread for file operations could be started");
    }

    /// Takes back the jobs that no thread has begun and whose key is asked for; they end with ECANCELED.
    pub(crate) fn cancel(&self, mut wanted: impl FnMut(u32) -> bool) {
        let mut queue = lock(&self.shared.queue);
        let (mut at, before) = (0, queue.jobs.len());
        while at < queue.jobs.len() {
            if wanted(queue.jobs[at].key)
                && let Some(job) = queue.jobs.remove(at)
            {
                let done = Done { key: job.key, result: -libc::ECANCELED, extra: 0, iov: job.iov };
                lock(&self.shared.done).push(done);
            } else {
                at += 1;
            }
        }
        if queue.jobs.len() < before {
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
        queue.jobs.clear();
        drop(queue);
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A panic of a thread has been reported by its hook; here the memory only must not go before it ends.
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(shared: &Shared) {
    let mut queue = lock(&shared.queue);
    while !queue.stop {
        let Some(job) = queue.jobs.pop_front() else {
            queue = shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(queue);
        let (result, extra) = file::run(&job.file, job.block_device, job.work, &job.iov);
        lock(&shared.done).push(Done { key: job.key, result, extra, iov: job.iov });
        shared.bell.ring(RUNG_BY_POOL);
        queue = lock(&shared.queue);
    }
}
