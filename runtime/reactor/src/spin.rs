//! Polling before sleeping, as long as it pays.
//!
//! A wake-up costs more than most commands do, so where the next event is likely to come soon it is cheaper, and much
//! faster, to look for it for a while. "Likely" is what the last waits say: their mean length is kept, and as long as it
//! is below the limit a wait polls up to the limit before it sleeps. An idle reactor polls once more and then no longer.

use scst_core::Nanos;

/// Mean of so many waits, roughly.
const WEIGHT: u64 = 4;
/// A longer wait counts as so many limits: one pause does not keep the reactor from polling for long.
const LONGEST: u64 = 8;

/// When to poll.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Spin {
    limit: u64,
    mean: u64,
}

impl Spin {
    /// Polls for at most `limit`; 0 never polls.
    pub(crate) fn new(limit: Nanos) -> Self {
        Self { limit: limit.0, mean: 0 }
    }

    /// Whether a wait is worth being measured.
    pub(crate) fn is_on(&self) -> bool {
        self.limit > 0
    }

    /// Until when a wait that began at `start` polls.
    pub(crate) fn until(&self, start: Nanos) -> Nanos {
        if self.mean <= self.limit { start.after(Nanos(self.limit)) } else { start }
    }

    /// A wait has brought something after so long.
    pub(crate) fn waited(&mut self, time: Nanos) {
        if self.is_on() {
            let time = time.0.min(self.limit.saturating_mul(LONGEST));
            self.mean = (self.mean * (WEIGHT - 1) + time) / WEIGHT;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_polls_while_events_come_soon_and_stops_when_they_do_not() {
        let mut spin = Spin::new(Nanos(50));
        assert_eq!(spin.until(Nanos(1000)), Nanos(1050));
        for _ in 0..10 {
            spin.waited(Nanos(20));
        }
        assert_eq!(spin.until(Nanos(1000)), Nanos(1050));
        spin.waited(Nanos(1_000_000));
        assert_eq!(spin.until(Nanos(1000)), Nanos(1000), "one pause and it sleeps at once");
        let mut quick = 0;
        while spin.until(Nanos(0)) == Nanos(0) {
            spin.waited(Nanos(20));
            quick += 1;
        }
        assert!((1..10).contains(&quick), "{quick} quick waits and it polls again");
    }

    #[test]
    fn without_a_limit_it_never_polls() {
        let mut spin = Spin::new(Nanos(0));
        spin.waited(Nanos(0));
        assert!(!spin.is_on());
        assert_eq!(spin.until(Nanos(7)), Nanos(7));
    }
}
