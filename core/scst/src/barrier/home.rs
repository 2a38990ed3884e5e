//! The order of a device's barriers at its home engine.
//!
//! * One barrier over the whole unit at a time, and no range beside it. While one waits, ranges that come later wait behind
//!   it, so that it gets its turn.
//! * Ranges that overlap come one after the other; each waits behind the one in its way, not behind the device's queue.
//! * An abort (a reset) waits only for another abort, and nothing new begins beside it.
//! * A fence waits for nothing and nothing waits for it here.

use std::collections::{BTreeSet, VecDeque};

use crate::event::{BarrierId, BarrierScope};

type Request = (BarrierId, BarrierScope);

/// A barrier that is closed or closing.
#[derive(Debug)]
struct Active {
    id: BarrierId,
    /// Engines that have not said yet that they are empty.
    missing: u16,
}

impl Active {
    fn new(id: BarrierId, engines: u16) -> Self {
        Self { id, missing: engines }
    }

    fn one_more_is_empty(&mut self) -> bool {
        self.missing = self.missing.saturating_sub(1);
        self.missing == 0
    }
}

/// A range that is closed or closing, and those that wait for it.
#[derive(Debug)]
struct ActiveRange {
    lba: u64,
    end: u64,
    active: Active,
    behind: VecDeque<Request>,
    /// Those behind it want exactly its blocks.
    alike: bool,
}

/// Barriers of a device at its home.
#[derive(Debug, Default)]
pub(crate) struct HomeQueue {
    waiting: VecDeque<Request>,
    whole: Option<Active>,
    abort: Option<Active>,
    aborts: VecDeque<Request>,
    /// By first block; no two overlap.
    ranges: Vec<ActiveRange>,
    fences: Vec<Active>,
    /// Requests that still stand in a queue although their owner has given up.
    withdrawn: BTreeSet<BarrierId>,
    /// The number of them from which all queues are swept.
    most_withdrawn: usize,
}

/// Withdrawn requests that may stay in the queues of a device, however short those are.
const FEW: usize = 64;

impl HomeQueue {
    pub(crate) fn is_empty(&self) -> bool {
        let idle = self.whole.is_none() && self.abort.is_none() && self.ranges.is_empty() && self.fences.is_empty();
        idle && self.waiting.is_empty() && self.aborts.is_empty()
    }

    /// A barrier is asked for. `close` is called for each barrier that is to be closed by all `engines` now.
    pub(crate) fn request(&mut self, request: Request, engines: u16, close: &mut dyn FnMut(Request)) {
        match request.1 {
            BarrierScope::Fence { .. } => {
                self.fences.push(Active::new(request.0, engines));
                close(request);
            }
            BarrierScope::Abort { .. } => {
                self.aborts.push_back(request);
                self.next_abort(engines, close);
            }
            BarrierScope::Device | BarrierScope::Range { .. } => {
                self.waiting.push_back(request);
                self.advance(engines, close);
            }
        }
    }

    /// One more engine is empty. Returns true when it was the last: the owner is alone.
    pub(crate) fn closed(&mut self, (id, scope): Request) -> bool {
        let active = match scope {
            BarrierScope::Device => self.whole.as_mut(),
            BarrierScope::Abort { .. } => self.abort.as_mut(),
            BarrierScope::Fence { .. } => self.fences.iter_mut().find(|fence| fence.id == id),
            BarrierScope::Range { lba, .. } => self.range_at(lba).map(|at| &mut self.ranges[at].active),
        };
        active.filter(|active| active.id == id).is_some_and(Active::one_more_is_empty)
    }

    /// The owner is done with a barrier, or does not want it any more.
    pub(crate) fn release(&mut self, (id, scope): Request, engines: u16, close: &mut dyn FnMut(Request)) {
        let is_it = |active: &mut Active| active.id == id;
        match scope {
            BarrierScope::Device if self.whole.take_if(is_it).is_some() => {}
            BarrierScope::Abort { .. } if self.abort.take_if(is_it).is_some() => self.next_abort(engines, close),
            BarrierScope::Fence { .. } => self.fences.retain(|fence| fence.id != id),
            BarrierScope::Range { lba, .. } => match self.range_at(lba).filter(|at| self.ranges[*at].active.id == id) {
                Some(at) if self.hand_on(at, engines, close) => {}
                Some(at) => {
                    let behind = self.ranges.remove(at).behind;
                    // They are older than what stands in the queue.
                    behind.into_iter().rev().for_each(|request| self.waiting.push_front(request));
                    self.place_ranges(engines, close);
                }
                None => self.withdraw(id, scope),
            },
            BarrierScope::Device | BarrierScope::Abort { .. } => self.withdraw(id, scope),
        }
        self.advance(engines, close);
    }

    /// Gives the blocks of a range that is released to the next owner that wants exactly them, at a cost that does not depend
    /// on how many want them. Returns false when nothing may begin (beside an abort) or when what waits wants different blocks.
    fn hand_on(&mut self, at: usize, engines: u16, close: &mut dyn FnMut(Request)) -> bool {
        let range = &mut self.ranges[at];
        if self.abort.is_some() || !range.alike {
            return false;
        }
        trim(&mut range.behind, &mut self.withdrawn);
        let Some(next) = range.behind.pop_front() else { return false };
        range.active = Active::new(next.0, engines);
        close(next);
        true
    }

    fn range_at(&self, lba: u64) -> Option<usize> {
        self.ranges.binary_search_by_key(&lba, |range| range.lba).ok()
    }

    /// The active ranges that overlap one.
    fn overlapping(&self, lba: u64, end: u64) -> std::ops::Range<usize> {
        let from = self.ranges.partition_point(|range| range.end <= lba);
        let to = self.ranges.partition_point(|range| range.lba < end);
        from..to.max(from)
    }

    fn withdraw(&mut self, id: BarrierId, scope: BarrierScope) {
        self.withdrawn.insert(id);
        if self.withdrawn.len() > self.most_withdrawn.max(FEW) {
            return self.sweep();
        }
        trim(&mut self.waiting, &mut self.withdrawn);
        trim(&mut self.aborts, &mut self.withdrawn);
        if let BarrierScope::Range { lba, blocks } = scope {
            for at in self.overlapping(lba, lba.saturating_add(blocks)) {
                trim(&mut self.ranges[at].behind, &mut self.withdrawn);
            }
        }
    }

    /// Takes all withdrawn requests out of the queues. The next sweep comes when as many have been withdrawn as now remain, so
    /// each of them costs the same.
    fn sweep(&mut self) {
        let mut left = self.ranges.len();
        let behind = self.ranges.iter_mut().map(|range| &mut range.behind);
        for queue in behind.chain([&mut self.waiting, &mut self.aborts]) {
            queue.retain(|(id, _)| !self.withdrawn.contains(id));
            left += queue.len();
        }
        self.withdrawn.clear();
        self.most_withdrawn = left;
    }

    fn next_abort(&mut self, engines: u16, close: &mut dyn FnMut(Request)) {
        trim(&mut self.aborts, &mut self.withdrawn);
        if self.abort.is_none()
            && let Some(request) = self.aborts.pop_front()
        {
            self.abort = Some(Active::new(request.0, engines));
            close(request);
        }
    }

    /// Closes what waits, in order, as long as nothing is in its way.
    fn advance(&mut self, engines: u16, close: &mut dyn FnMut(Request)) {
        self.place_ranges(engines, close);
        if self.abort.is_none()
            && self.whole.is_none()
            && self.ranges.is_empty()
            && let Some(request) = self.waiting.pop_front()
        {
            self.whole = Some(Active::new(request.0, engines));
            close(request);
        }
    }

    /// Takes the ranges off the front of the queue: each is closed, or waits behind one that overlaps it.
    fn place_ranges(&mut self, engines: u16, close: &mut dyn FnMut(Request)) {
        trim(&mut self.waiting, &mut self.withdrawn);
        while self.abort.is_none()
            && self.whole.is_none()
            && let Some(&(id, BarrierScope::Range { lba, blocks })) = self.waiting.front()
            && let Some(request) = self.waiting.pop_front()
        {
            let end = lba.saturating_add(blocks);
            let in_the_way = self.overlapping(lba, end);
            if in_the_way.is_empty() {
                let active = Active::new(id, engines);
                let range = ActiveRange { lba, end, active, behind: VecDeque::new(), alike: true };
                self.ranges.insert(in_the_way.start, range);
                close(request);
            } else {
                let range = &mut self.ranges[in_the_way.start];
                range.alike &= (lba, end) == (range.lba, range.end);
                range.behind.push_back(request);
            }
            trim(&mut self.waiting, &mut self.withdrawn);
        }
    }
}

/// Takes withdrawn requests off the front of a queue.
fn trim(queue: &mut VecDeque<Request>, withdrawn: &mut BTreeSet<BarrierId>) {
    while queue.front().is_some_and(|(id, _)| withdrawn.remove(id)) {
        queue.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ReactorId, SessionId};

    const ABORT: BarrierScope =
        BarrierScope::Abort { by: (ReactorId(0), SessionId { index: 0, generation: 0 }), others: true };

    struct Home {
        queue: HomeQueue,
        next: u32,
    }

    impl Home {
        fn new() -> Self {
            Self { queue: HomeQueue::default(), next: 0 }
        }

        /// Asks for a barrier; returns it, and what is to be closed now.
        fn request(&mut self, scope: BarrierScope) -> (Request, Vec<u32>) {
            let id = BarrierId { owner: ReactorId(0), index: self.next, generation: 0 };
            self.next += 1;
            let mut closing = Vec::new();
            self.queue.request((id, scope), 2, &mut |(id, _)| closing.push(id.index));
            ((id, scope), closing)
        }

        fn release(&mut self, request: Request) -> Vec<u32> {
            let mut closing = Vec::new();
            self.queue.release(request, 2, &mut |(id, _)| closing.push(id.index));
            closing
        }
    }

    fn range(lba: u64, blocks: u64) -> BarrierScope {
        BarrierScope::Range { lba, blocks }
    }

    #[test]
    fn ranges_wait_only_for_those_that_overlap_them() {
        let mut home = Home::new();
        let (first, closing) = home.request(range(0, 8));
        assert_eq!(closing, [0]);
        let (second, closing) = home.request(range(4, 8));
        assert_eq!(closing, [0; 0]);
        let (apart, closing) = home.request(range(8, 4));
        assert_eq!(closing, [2], "what waits is in nobody's way");
        assert!(!home.queue.closed(first) && home.queue.closed(first), "two engines");
        assert_eq!(home.release(first), [0; 0], "the second overlaps the third as well");
        assert_eq!(home.release(apart), [1]);
        assert_eq!(home.release(second), [0; 0]);
        assert!(home.queue.is_empty());
    }

    #[test]
    fn the_whole_unit_waits_for_ranges_and_later_ranges_for_it() {
        let mut home = Home::new();
        let (first, _) = home.request(range(0, 8));
        let (same, _) = home.request(range(0, 8));
        let (whole, closing) = home.request(BarrierScope::Device);
        assert_eq!(closing, [0; 0]);
        let (later, closing) = home.request(range(100, 1));
        assert_eq!(closing, [0; 0]);
        assert_eq!(home.release(first), [1], "it came before the whole unit was asked for");
        assert_eq!(home.release(same), [2]);
        assert_eq!(home.release(whole), [3]);
        assert_eq!(home.release(later), [0; 0]);
        assert!(home.queue.is_empty());
    }

    #[test]
    fn an_abort_passes_all_others_and_nothing_begins_beside_it() {
        let mut home = Home::new();
        let (whole, _) = home.request(BarrierScope::Device);
        let (abort, closing) = home.request(ABORT);
        assert_eq!(closing, [1]);
        let (again, closing) = home.request(ABORT);
        assert_eq!(closing, [0; 0]);
        let (later, closing) = home.request(range(0, 1));
        assert_eq!(closing, [0; 0]);
        assert_eq!(home.release(whole), [0; 0]);
        assert_eq!(home.release(abort), [2], "one reset after the other");
        assert_eq!(home.release(again), [3]);
        home.release(later);
        assert!(home.queue.is_empty());
    }

    #[test]
    fn what_is_withdrawn_leaves_no_trace() {
        let mut home = Home::new();
        let (owner, _) = home.request(range(0, 1));
        let waiting: Vec<Request> = (0..100).map(|_| home.request(range(0, 1)).0).collect();
        let (whole, _) = home.request(BarrierScope::Device);
        // From the middle first: they go when those before them have gone.
        for request in waiting.iter().skip(50).chain(&waiting[..50]) {
            assert_eq!(home.release(*request), [0; 0]);
        }
        assert_eq!((home.queue.ranges[0].behind.len(), home.queue.withdrawn.len()), (0, 0));
        assert_eq!(home.release(whole), [0; 0]);
        assert_eq!(home.release(owner), [0; 0]);
        assert!(home.queue.is_empty() && home.queue.withdrawn.is_empty());
    }

    #[test]
    fn withdrawn_requests_do_not_pile_up_behind_one_that_waits() {
        for scope in [BarrierScope::Device, range(0, 1), ABORT] {
            let mut home = Home::new();
            let (owner, _) = home.request(scope);
            let (waiting, _) = home.request(scope);
            for _ in 0..10_000 {
                let (request, _) = home.request(scope);
                home.release(request);
            }
            let queue = &home.queue;
            let behind: usize = queue.ranges.iter().map(|range| range.behind.len()).sum();
            assert!(queue.waiting.len() + queue.aborts.len() + behind <= 66, "{scope:?}");
            assert!(queue.withdrawn.len() <= 64);
            assert_eq!(home.release(owner), [1]);
            home.release(waiting);
            assert!(home.queue.is_empty() && home.queue.withdrawn.is_empty());
        }
    }

    #[test]
    fn owners_of_the_same_blocks_follow_each_other_and_others_keep_their_place_among_them() {
        let mut home = Home::new();
        let first: Vec<Request> = (0..3).map(|_| home.request(range(4, 1)).0).collect();
        assert_eq!(home.release(first[0]), [1]);
        assert_eq!(home.queue.ranges[0].behind.len(), 1, "what waits stays where it is");
        let (wider, _) = home.request(range(3, 2));
        let (last, _) = home.request(range(4, 1));
        assert!(!home.queue.closed(first[1]) && home.queue.closed(first[1]));
        assert!(!home.queue.closed(first[0]), "it has been released");
        assert_eq!(home.release(first[1]), [2]);
        assert_eq!(home.release(first[2]), [3]);
        assert_eq!(home.release(wider), [4]);
        let (behind, _) = home.request(range(4, 1));
        let (abort, _) = home.request(ABORT);
        assert_eq!(home.release(last), [0; 0]);
        assert_eq!(home.release(abort), [5]);
        home.release(behind);
        assert!(home.queue.is_empty());
    }

    #[test]
    fn a_fence_waits_for_nothing_and_keeps_nobody_waiting_here() {
        let mut home = Home::new();
        let (_, _) = home.request(BarrierScope::Device);
        let fence = BarrierScope::Fence { lba: 0, blocks: 9 };
        let (fence, closing) = home.request(fence);
        assert_eq!(closing, [1]);
        assert!(!home.queue.closed(fence) && home.queue.closed(fence));
        home.release(fence);
        assert!(home.queue.fences.is_empty());
    }

    #[test]
    fn what_waited_for_a_range_begins_after_the_abort_that_came_meanwhile() {
        let mut home = Home::new();
        let (owner, _) = home.request(range(0, 1));
        let (abort, _) = home.request(ABORT);
        let (later, closing) = home.request(range(0, 1));
        assert_eq!(closing, [0; 0]);
        assert_eq!(home.release(owner), [0; 0]);
        assert_eq!(home.release(abort), [2]);
        home.release(later);
        assert!(home.queue.is_empty());
    }
}
