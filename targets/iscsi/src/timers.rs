//! Deadlines of many connections. A deadline that moves later costs nothing: it is looked at again when the old one
//! comes up. So per command there is one comparison, and the heap holds about one entry per connection.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use scst_core::Nanos;

use crate::ids::Slot;

/// Whose deadline it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub(crate) enum Timer {
    Connection(Slot),
    Listener(Slot),
    /// To look for connections that rest.
    Rest,
    /// To log how much was left out of the log.
    Complaints,
}

/// The time to wake up for a deadline: later than it by at most a sixteenth of the time until then, so that deadlines of
/// many connections (pings, above all) come up together and cost one turn. Less than a second is exact.
pub(crate) fn coarse(now: Nanos, at: Nanos) -> Nanos {
    let away = at.0.saturating_sub(now.0);
    if away < Nanos::from_secs(1).0 {
        return at;
    }
    let grain = 1 << (away.ilog2() - 4);
    Nanos(at.0.checked_next_multiple_of(grain).unwrap_or(at.0))
}

/// All deadlines, earliest first.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Nanos, Timer)>>,
}

impl Timers {
    /// Sets a deadline. Those that the owner has set before come up too: it knows its own by the time.
    pub(crate) fn set(&mut self, at: Nanos, timer: Timer) {
        self.heap.push(Reverse((at, timer)));
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Nanos> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes out one deadline that has passed.
    pub(crate) fn pop_due(&mut self, now: Nanos) -> Option<(Nanos, Timer)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_deadlines_come_up_together_and_near_ones_in_time() {
        let now = Nanos::from_secs(1000);
        let ping = |ms: u64| coarse(now, now.after(Nanos::from_millis(30_000 + ms)));
        let late = ping(0).0 - now.after(Nanos::from_secs(30)).0;
        assert!(late <= Nanos::from_secs(30).0 / 16, "{late}");
        let distinct: std::collections::BTreeSet<Nanos> = (0..1000).map(ping).collect();
        assert!(distinct.len() <= 2, "{distinct:?}");
        let near = now.after(Nanos::from_millis(999));
        assert_eq!(coarse(now, near), near);
        assert_eq!((coarse(now, Nanos(5)), coarse(now, Nanos(u64::MAX))), (Nanos(5), Nanos(u64::MAX)));
    }

    #[test]
    fn the_earliest_comes_first_and_only_when_due() {
        let mut timers = Timers::default();
        let slot = |index| Slot { index, generation: 0 };
        timers.set(Nanos(20), Timer::Connection(slot(1)));
        timers.set(Nanos(10), Timer::Listener(slot(2)));
        assert_eq!(timers.next(), Some(Nanos(10)));
        assert_eq!(timers.pop_due(Nanos(9)), None);
        assert_eq!(timers.pop_due(Nanos(20)), Some((Nanos(10), Timer::Listener(slot(2)))));
        assert_eq!(timers.pop_due(Nanos(20)), Some((Nanos(20), Timer::Connection(slot(1)))));
        assert_eq!(timers.next(), None);
    }
}
