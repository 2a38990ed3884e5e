//! One command's way through the stages.

use super::summary::{STAGES, Stage};
use crate::Nanos;

/// See the module. One for each command slot, outside of the slot: it costs nothing while nothing is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lap {
    /// Generation of the command it belongs to, plus one; 0 for none.
    owner: u32,
    stage: Stage,
    /// Stages it was in, by bit.
    visited: u8,
    arrived: Nanos,
    /// When it entered its stage.
    since: Nanos,
    /// Holds what was spent in the visited stages, in the others anything.
    spent: [u64; STAGES - 1],
}

impl Default for Lap {
    fn default() -> Self {
        let (stage, never) = (Stage::PrepareSpace, Nanos(0));
        Self { owner: 0, stage, visited: 0, arrived: never, since: never, spent: [0; STAGES - 1] }
    }
}

impl Lap {
    /// A command begins its way.
    pub(super) fn begin(&mut self, generation: u32, now: Nanos) {
        (self.owner, self.stage, self.visited) = (generation + 1, Stage::PrepareSpace, 0);
        (self.arrived, self.since) = (now, now);
    }

    pub(super) fn is_of(&self, generation: u32) -> bool {
        self.owner == generation + 1
    }

    /// Whether device or driver did all their work since the loop's turn began: then only the clock knows how long.
    pub(super) fn worked_within(&self, turn: Nanos) -> bool {
        matches!(self.stage, Stage::ExecWait | Stage::DataWait) && turn <= self.since
    }

    /// Leaves its stage for another. Time does not run backwards: an event may carry the time of a turn in which the
    /// clock was read since.
    pub(super) fn enter(&mut self, stage: Stage, now: Nanos) {
        let now = now.max(self.since);
        let (left, bit) = (self.stage as usize, 1 << self.stage as u8);
        let before = if self.visited & bit == 0 { 0 } else { self.spent[left] };
        self.spent[left] = before + (now.0 - self.since.0);
        self.visited |= bit;
        self.since = now;
        self.stage = stage;
    }

    /// The end: hands out the stages it was in with what it spent there, and the total.
    pub(super) fn finish(&mut self, now: Nanos, mut each: impl FnMut(usize, u64)) {
        self.enter(self.stage, now);
        self.owner = 0;
        let (mut left, mut sum) = (self.visited, 0);
        while left != 0 {
            let stage = left.trailing_zeros() as usize;
            sum += self.spent[stage];
            each(stage, self.spent[stage]);
            left &= left - 1;
        }
        let total = self.since.0 - self.arrived.0;
        debug_assert_eq!(sum, total, "every moment belongs to one stage");
        each(Stage::Total as usize, total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_add_up_whatever_the_clock_says() {
        let mut lap = Lap { spent: [99; STAGES - 1], ..Lap::default() };
        lap.begin(7, Nanos(100));
        assert!(lap.is_of(7) && !lap.is_of(8));
        lap.enter(Stage::ExecWait, Nanos(130));
        lap.enter(Stage::TransmitWait, Nanos(120));
        lap.enter(Stage::ExecWait, Nanos(140));
        let mut seen = Vec::new();
        lap.finish(Nanos(145), |stage, nanos| seen.push((Stage::ALL[stage], nanos)));
        use Stage::{ExecWait, PrepareSpace, Total, TransmitWait};
        assert_eq!(seen, [(PrepareSpace, 30), (ExecWait, 5), (TransmitWait, 10), (Total, 45)]);
        assert!(!lap.is_of(7));
    }
}
