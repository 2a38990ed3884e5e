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
