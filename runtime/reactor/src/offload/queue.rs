//! Which job is next, and how many threads there have to be. No thread is touched here.

use std::collections::VecDeque;

use super::{Job, Threads};
use crate::slab::Slab;

/// No id of a slab.
const NONE: u32 = u32::MAX;

/// The number of a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LaneId(u32);

/// What has to be done about threads after a job has been added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wants {
    Nothing,
    /// An idle thread has to be woken.
    Wake,
    /// So many threads have to be started. They are counted already.
    Start(u32),
}

/// A job that waits, in the list of its lane.
struct Waiting {
    job: Job,
    lane: LaneId,
    older: u32,
    newer: u32,
}

struct Lane {
    oldest: u32,
    newest: u32,
    waiting: u32,
    /// Threads that are at jobs of this lane.
    running: u32,
    /// It is in the list of lanes from which a job can be taken.
    is_listed: bool,
    is_closed: bool,
}

/// The jobs that wait, the lanes, and the numbers of threads.
pub(super) struct Queue {
    jobs: Slab<Waiting>,
    lanes: Slab<Lane>,
    /// Lanes with jobs and fewer threads than they may have. Each gives one job in its turn.
    runnable: VecDeque<LaneId>,
    pub(super) limits: Threads,
    pub(super) threads: u32,
    /// Threads that are at a job.
    running: u32,
    /// Jobs that wait for a thread.
    waiting: u32,
    /// Threads that wait for a job.
    pub(super) idle: u32,
    /// How many of these have been woken for a job and have not noticed yet.
    woken: u32,
    pub(super) stop: bool,
}

impl Queue {
    pub(super) fn new(limits: Threads) -> Self {
        Self {
            jobs: Slab::new(u32::MAX),
            lanes: Slab::new(u32::MAX),
            runnable: VecDeque::new(),
            limits,
            threads: 0,
            running: 0,
            waiting: 0,
            idle: 0,
            woken: 0,
            stop: false,
        }
    }

    /// Adds a lane.
    pub(super) fn open(&mut self) -> LaneId {
        let (oldest, newest) = (NONE, NONE);
        let lane = Lane { oldest, newest, waiting: 0, running: 0, is_listed: false, is_closed: false };
        match self.lanes.insert(lane) {
            Ok(id) => LaneId(id),
            Err(_) => panic!("more than a million open files"),
        }
    }

    /// Removes a lane as soon as nothing of it is left.
    pub(super) fn close(&mut self, id: LaneId) {
        self.lane(id).is_closed = true;
        self.settle(id);
    }

    fn lane(&mut self, id: LaneId) -> &mut Lane {
        self.lanes.get_mut(id.0).expect("a lane is there until it is closed and empty")
    }

    /// Adds a job. Returns its place.
    pub(super) fn push(&mut self, id: LaneId, job: Job) -> (u32, Wants) {
        let older = self.lane(id).newest;
        let Ok(place) = self.jobs.insert(Waiting { job, lane: id, older, newer: NONE }) else {
            panic!("more than a million file operations");
        };
        match self.jobs.get_mut(older) {
            Some(older) => older.newer = place,
            None => self.lane(id).oldest = place,
        }
        let lane = self.lane(id);
        lane.newest = place;
        lane.waiting += 1;
        self.waiting += 1;
        let lane = self.lane(id);
        let needed = lane.running + lane.waiting;
        self.settle(id);
        // Above its limit the next one that ends is followed by this.
        (place, if needed > self.limits.per_file { Wants::Nothing } else { self.call() })
    }

    /// Calls one more thread, unless there is one for each job that waits: one that has just started or ended a job looks
    /// for another before it waits.
    fn call(&mut self) -> Wants {
        if self.woken < self.idle {
            self.woken += 1;
            Wants::Wake
        } else if self.waiting <= self.threads - self.running {
            Wants::Nothing
        } else if self.threads < self.limits.most {
            let count = self.limits.stay.saturating_sub(self.threads).max(1);
            self.threads += count;
            Wants::Start(count)
        } else {
            Wants::Nothing
        }
    }

    /// A thread waits no longer. Returns true when it was woken for a job.
    pub(super) fn called(&mut self) -> bool {
        self.idle -= 1;
        let called = self.woken > 0;
        self.woken -= u32::from(called);
        called
    }

    /// The next job for a thread.
    pub(super) fn take(&mut self) -> Option<(LaneId, Job)> {
        while let Some(id) = self.runnable.pop_front() {
            let lane = self.lane(id);
            lane.is_listed = false;
            let oldest = lane.oldest;
            let job = self.unlink(oldest);
            if job.is_some() {
                self.lane(id).running += 1;
                self.running += 1;
            }
            self.settle(id);
            if let Some(job) = job {
                return Some((id, job));
            }
        }
        None
    }

    /// A thread has ended a job.
    pub(super) fn finished(&mut self, id: LaneId) {
        self.lane(id).running -= 1;
        self.running -= 1;
        self.settle(id);
    }

    /// Takes a job back. None when a thread has it, or had it.
    pub(super) fn cancel(&mut self, place: u32, key: u32) -> Option<Job> {
        let lane = self.jobs.get(place).filter(|waiting| waiting.job.key == key)?.lane;
        let job = self.unlink(place);
        self.settle(lane);
        job
    }

    /// Takes all jobs back.
    pub(super) fn take_all(&mut self) -> Vec<Job> {
        let places: Vec<u32> = self.jobs.iter().map(|(place, _)| place).collect();
        places.into_iter().filter_map(|place| self.cancel(place, self.jobs.get(place)?.job.key)).collect()
    }

    fn unlink(&mut self, place: u32) -> Option<Job> {
        let Waiting { job, lane, older, newer } = self.jobs.remove(place)?;
        match self.jobs.get_mut(older) {
            Some(older) => older.newer = newer,
            None => self.lane(lane).oldest = newer,
        }
        match self.jobs.get_mut(newer) {
            Some(newer) => newer.older = older,
            None => self.lane(lane).newest = older,
        }
        self.lane(lane).waiting -= 1;
        self.waiting -= 1;
        Some(job)
    }

    /// Lists a lane from which a job can be taken; removes one that is closed and empty.
    fn settle(&mut self, id: LaneId) {
        let per_file = self.limits.per_file;
        let lane = self.lane(id);
        if lane.is_listed {
            return;
        }
        if lane.waiting > 0 && lane.running < per_file {
            lane.is_listed = true;
            self.runnable.push_back(id);
        } else if lane.is_closed && lane.waiting == 0 && lane.running == 0 {
            self.lanes.remove(id.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::file::Work;
    use crate::iovec::IoVecs;

    fn job(key: u32) -> Job {
        let file = Arc::new(std::fs::File::open("/dev/null").unwrap());
        Job { key, file, block_device: false, work: Work::Flush, iov: IoVecs::default() }
    }

    fn limits(per_file: u32, most: u32) -> Threads {
        Threads { per_file, stay: 1, most }
    }

    fn taken(queue: &mut Queue) -> Vec<(LaneId, u32)> {
        std::iter::from_fn(|| queue.take()).map(|(lane, job)| (lane, job.key)).collect()
    }

    /// Adds jobs and returns what each wants.
    fn push(queue: &mut Queue, lane: LaneId, keys: std::ops::Range<u32>) -> Vec<Wants> {
        keys.map(|key| queue.push(lane, job(key)).1).collect()
    }

    #[test]
    fn a_file_has_its_own_threads_at_the_most_and_its_jobs_keep_their_order() {
        let mut queue = Queue::new(limits(2, 32));
        let (stuck, other) = (queue.open(), queue.open());
        use Wants::{Nothing, Start};
        assert_eq!(push(&mut queue, stuck, 0..5), [Start(1), Start(1), Nothing, Nothing, Nothing]);
        assert_eq!(taken(&mut queue), [(stuck, 0), (stuck, 1)]);
        assert_eq!(push(&mut queue, other, 10..13), [Start(1), Start(1), Nothing]);
        assert_eq!(taken(&mut queue), [(other, 10), (other, 11)]);
        queue.finished(other);
        assert_eq!(taken(&mut queue), [(other, 12)]);
        queue.finished(stuck);
        assert_eq!(taken(&mut queue), [(stuck, 2)]);
        assert_eq!(queue.threads, 4);
    }

    #[test]
    fn files_take_turns() {
        let mut queue = Queue::new(limits(3, 3));
        let lanes = [queue.open(), queue.open()];
        push(&mut queue, lanes[0], 0..3);
        push(&mut queue, lanes[1], 10..12);
        assert_eq!(taken(&mut queue).iter().map(|(_, key)| *key).collect::<Vec<_>>(), [0, 10, 1, 11, 2]);
    }

    #[test]
    fn each_job_that_can_begin_calls_a_thread_and_one_call_is_not_for_two() {
        let mut queue = Queue::new(limits(4, 3));
        let lane = queue.open();
        queue.threads = 1;
        queue.idle = 1;
        use Wants::{Nothing, Start, Wake};
        assert_eq!(push(&mut queue, lane, 0..4), [Wake, Start(1), Start(1), Nothing], "the limit of all threads");
        assert!(queue.called(), "the one that was idle");
        queue.idle = 1;
        assert!(!queue.called(), "one that wakes by itself");
        assert_eq!((queue.idle, queue.threads), (0, 3));
    }

    #[test]
    fn those_that_stay_start_with_the_first_job() {
        let mut queue = Queue::new(Threads { per_file: 4, stay: 3, most: 9 });
        let lane = queue.open();
        assert_eq!(push(&mut queue, lane, 0..2), [Wants::Start(3), Wants::Nothing]);
        assert_eq!(queue.threads, 3);
        // One that has ended a job and does not wait yet takes the next.
        assert_eq!(taken(&mut queue), [(lane, 0), (lane, 1)]);
        queue.finished(lane);
        assert_eq!(push(&mut queue, lane, 2..4), [Wants::Nothing, Wants::Nothing]);
        assert_eq!(push(&mut queue, lane, 4..5), [Wants::Start(1)]);
    }

    #[test]
    fn what_is_cancelled_leaves_its_place_to_the_next() {
        let mut queue = Queue::new(limits(1, 4));
        let lane = queue.open();
        let places: Vec<u32> = (0..5).map(|key| queue.push(lane, job(key)).0).collect();
        assert_eq!(taken(&mut queue), [(lane, 0)]);
        let mut cancel = |n: usize, key| queue.cancel(places[n], key).map(|job| job.key);
        assert_eq!(cancel(0, 0), None, "a thread is at it");
        assert_eq!(cancel(2, 9), None, "another operation");
        assert_eq!([cancel(2, 2), cancel(4, 4), cancel(2, 2)], [Some(2), Some(4), None]);
        queue.finished(lane);
        assert_eq!(taken(&mut queue), [(lane, 1)]);
        queue.finished(lane);
        assert_eq!(queue.take_all().iter().map(|job| job.key).collect::<Vec<_>>(), [3]);
        assert_eq!(taken(&mut queue), []);
    }

    #[test]
    fn a_lane_goes_when_its_last_job_has_ended() {
        let mut queue = Queue::new(limits(1, 4));
        let lane = queue.open();
        let place = queue.push(lane, job(0)).0;
        queue.push(lane, job(1));
        assert!(queue.cancel(place, 0).is_some());
        assert_eq!(taken(&mut queue), [(lane, 1)]);
        queue.close(lane);
        assert!(queue.lanes.get(lane.0).is_some());
        queue.finished(lane);
        assert!(queue.lanes.get(lane.0).is_none());
        let idle = queue.open();
        queue.close(idle);
        assert_eq!(queue.lanes.iter().count(), 0);
    }
}
