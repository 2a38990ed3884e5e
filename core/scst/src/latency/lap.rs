//! One command's way through the stages.

use super::summary::{STAGES, Stage};
use crate::Nanos;

/// Stages that end before the answer is on its way; once it is, it stays so until it has left.
const PASSED: usize = Stage::TransmitWait as usize;

/// The stages of a command that its device did at once, as nearly all are; the answer is on its way.
const AT_ONCE: u8 = Stage::PrepareSpace.bit() | Stage::CheckOrder.bit() | Stage::ExecWait.bit();

/// See the module. One for each command slot, outside of the slot: it costs nothing while nothing is measured. A cache
/// line of its own, written at most a few times.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Lap {
    /// Generation of the command it belongs to, plus one; 0 for none.
    owner: u32,
    stage: Stage,
    /// Stages it was in and has left, by bit.
    passed: u8,
    /// When it entered its stage.
    since: Nanos,
    /// Holds what was spent in the passed stages, in the others anything.
    spent: [u64; PASSED],
}

impl Default for Lap {
    fn default() -> Self {
        Self { owner: 0, stage: Stage::PrepareSpace, passed: 0, since: Nanos(0), spent: [0; PASSED] }
    }
}

impl Lap {
    /// A command begins its way.
    pub(super) fn begin(&mut self, generation: u32, arrived: Nanos) {
        (self.owner, self.stage, self.passed) = (generation + 1, Stage::PrepareSpace, 0);
        self.since = arrived;
    }

    /// The whole way of a command up to its answer, when its device was done with it at once. Times in order.
    #[inline(always)]
    pub(super) fn at_once(&mut self, generation: u32, [arrived, prepared, began, done]: [Nanos; 4]) {
        (self.owner, self.stage, self.passed) = (generation + 1, Stage::TransmitWait, AT_ONCE);
        self.since = done;
        self.spent[Stage::PrepareSpace as usize] = prepared.0 - arrived.0;
        self.spent[Stage::CheckOrder as usize] = began.0 - prepared.0;
        self.spent[Stage::ExecWait as usize] = done.0 - began.0;
    }

    #[inline(always)]
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
        let Some(spent) = self.spent.get_mut(self.stage as usize) else { return };
        let (now, bit) = (now.max(self.since), self.stage.bit());
        let before = if self.passed & bit == 0 { 0 } else { *spent };
        *spent = before + (now.0 - self.since.0);
        self.passed |= bit;
        self.since = now;
        self.stage = stage;
    }

    /// Enters a stage unless it is there already.
    pub(super) fn enter_once(&mut self, stage: Stage, now: Nanos) {
        if self.stage != stage {
            self.enter(stage, now);
        }
    }

    /// The end: hands out the stages it was in with what it spent there, and the total.
    #[inline(always)]
    pub(super) fn finish(&mut self, now: Nanos, mut each: impl FnMut(Stage, u64)) {
        self.owner = 0;
        if self.stage != Stage::TransmitWait {
            self.enter(Stage::TransmitWait, now);
        }
        let last = now.0.max(self.since.0) - self.since.0;
        let mut total = last;
        let mut passed = |stage: Stage, spent: &[u64; PASSED]| {
            total += spent[stage as usize];
            each(stage, spent[stage as usize]);
        };
        if self.passed == AT_ONCE {
            passed(Stage::PrepareSpace, &self.spent);
            passed(Stage::CheckOrder, &self.spent);
            passed(Stage::ExecWait, &self.spent);
        } else {
            let left = Stage::ALL.into_iter().take(PASSED).filter(|stage| self.passed & stage.bit() != 0);
            left.for_each(|stage| passed(stage, &self.spent));
        }
        each(Stage::TransmitWait, last);
        each(Stage::Total, total);
    }
}

impl Stage {
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

const _: () = assert!(PASSED + 2 == STAGES);

#[cfg(test)]
mod tests {
    use super::*;

    use Stage::{CheckOrder, ExecWait, PrepareSpace, Total, TransmitWait};

    fn finish(lap: &mut Lap, now: u64) -> Vec<(Stage, u64)> {
        let mut seen = Vec::new();
        lap.finish(Nanos(now), |stage, nanos| seen.push((stage, nanos)));
        seen
    }

    #[test]
    fn stages_add_up_whatever_the_clock_says() {
        let mut lap = Lap { spent: [99; PASSED], ..Lap::default() };
        lap.begin(7, Nanos(100));
        assert!(lap.is_of(7) && !lap.is_of(8));
        lap.enter(ExecWait, Nanos(130));
        lap.enter(CheckOrder, Nanos(120));
        lap.enter(ExecWait, Nanos(140));
        lap.enter(TransmitWait, Nanos(145));
        assert_eq!(
            finish(&mut lap, 150),
            [(PrepareSpace, 30), (CheckOrder, 10), (ExecWait, 5), (TransmitWait, 5), (Total, 50)]
        );
        assert!(!lap.is_of(7));
    }

    #[test]
    fn what_is_done_at_once_is_written_at_once() {
        let mut lap = Lap { spent: [99; PASSED], ..Lap::default() };
        lap.at_once(7, [100, 130, 130, 145].map(Nanos));
        assert!(lap.is_of(7));
        lap.enter(TransmitWait, Nanos(147));
        assert_eq!(
            finish(&mut lap, 150),
            [(PrepareSpace, 30), (CheckOrder, 0), (ExecWait, 15), (TransmitWait, 5), (Total, 50)]
        );
        assert!(!lap.is_of(7));
    }
}
