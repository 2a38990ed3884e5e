//! CLOCK_MONOTONIC from the time stamp counter, in half the time that the kernel's own function needs.
//!
//! A look pairs the counter with CLOCK_MONOTONIC. After that the time is that of the look and what the counter has gone on
//! since, for a millisecond; then comes the next look. So what is said strays from CLOCK_MONOTONIC by no more than what the
//! rate is wrong by in a millisecond (10 ns at the very most), and follows whatever is done to that clock. The rate is what two
//! looks say that are far enough apart; until there is one, every reading is a look, and nothing waits to be calibrated.
//!
//! At a look the time may step back by those few nanoseconds; see [`Clock`].

use std::cell::Cell;
use std::fs;
use std::ops::Range;
use std::sync::OnceLock;

use scst_core::Nanos;
use scst_core::latency::Clock;

use super::now;

/// The counter is believed for so many nanoseconds after a look.
const TRUST: u64 = 1_000_000;
/// Nanoseconds between the looks that tell the rate.
const SPAN: u64 = 100_000_000;
/// A look takes no more ticks than that, or it was interrupted and pairs nothing.
const TOUCH: u64 = 2_000;
/// Fractional bits of a rate.
const SHIFT: u32 = 32;
/// Nanoseconds per tick, a sixteenth to sixteen. Otherwise the machine was moved or stopped in between.
const RATES: Range<u64> = 1 << (SHIFT - 4)..1 << (SHIFT + 4);

/// Whether the counter goes at one rate always and everywhere: the processor says so, and the kernel, which watches it,
/// takes its own time from it.
pub(super) fn are_steady() -> bool {
    static STEADY: OnceLock<bool> = OnceLock::new();
    *STEADY.get_or_init(|| {
        let source = fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource");
        is_invariant() && source.is_ok_and(|source| source.trim() == "tsc")
    })
}

/// CPUID 8000_0007h, EDX bit 8.
fn is_invariant() -> bool {
    use std::arch::x86_64::__cpuid;
    const POWER_MANAGEMENT: u32 = 0x8000_0007;
    __cpuid(0x8000_0000).eax >= POWER_MANAGEMENT && __cpuid(POWER_MANAGEMENT).edx & 1 << 8 != 0
}

/// Where ticks and time come from.
pub(super) trait Source {
    /// The counter.
    fn ticks(&self) -> u64;
    /// CLOCK_MONOTONIC.
    fn time(&self) -> u64;
}

/// This machine.
pub(super) struct Processor;

impl Source for Processor {
    #[inline(always)]
    fn ticks(&self) -> u64 {
        // SAFETY: every x86-64 processor has the instruction, and Linux lets programs use it unless they forbid it
        // themselves (PR_SET_TSC), which nobody here does.
        unsafe { std::arch::x86_64::_rdtsc() }
    }

    fn time(&self) -> u64 {
        now().0
    }
}

/// A counter and a time of the same moment.
#[derive(Clone, Copy)]
struct Look {
    ticks: u64,
    time: u64,
}

/// See the module.
pub(super) struct Ticks<S> {
    source: S,
    /// The last look.
    look: Cell<Look>,
    /// The counter is believed for so many ticks after it; 0: not at all.
    trust: Cell<u64>,
    /// Nanoseconds per tick; 0: unknown.
    rate: Cell<u64>,
    /// The look from which the next rate is told.
    origin: Cell<Look>,
}

impl<S: Source> Ticks<S> {
    pub(super) fn new(source: S) -> Self {
        let look = Look { ticks: source.ticks(), time: source.time() };
        Self { source, look: Cell::new(look), trust: Cell::new(0), rate: Cell::new(0), origin: Cell::new(look) }
    }

    #[cold]
    #[inline(never)]
    fn look(&self) -> Nanos {
        let ticks = self.source.ticks();
        let look = Look { ticks, time: self.source.time() };
        if self.source.ticks().wrapping_sub(ticks) > TOUCH {
            // It is the time all the same.
            self.trust.set(0);
            return Nanos(look.time);
        }
        self.look.set(look);
        let origin = self.origin.get();
        let span = look.time.saturating_sub(origin.time);
        if span >= SPAN {
            let rate = (u128::from(span) << SHIFT) / u128::from(ticks.wrapping_sub(origin.ticks).max(1));
            self.rate.set(u64::try_from(rate).ok().filter(|rate| RATES.contains(rate)).unwrap_or(0));
            self.origin.set(look);
        }
        self.trust.set((TRUST << SHIFT).checked_div(self.rate.get()).unwrap_or(0));
        Nanos(look.time)
    }
}

impl<S: Source> Clock for Ticks<S> {
    fn now(&self) -> Nanos {
        let look = self.look.get();
        let ticks = self.source.ticks().wrapping_sub(look.ticks);
        if ticks >= self.trust.get() {
            return self.look();
        }
        Nanos(look.time + ((ticks * self.rate.get()) >> SHIFT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose counter goes five ticks in two nanoseconds.
    #[derive(Default)]
    struct Machine {
        time: Cell<u64>,
        ticks: Cell<u64>,
        looks: Cell<u64>,
        /// What the next look at CLOCK_MONOTONIC takes.
        delay: Cell<u64>,
    }

    impl Machine {
        fn pass(&self, nanos: u64) {
            self.time.set(self.time.get() + nanos);
            self.ticks.set(self.ticks.get().wrapping_add(nanos * 5 / 2));
        }
    }

    impl Source for &Machine {
        fn ticks(&self) -> u64 {
            self.ticks.get()
        }

        fn time(&self) -> u64 {
            self.looks.set(self.looks.get() + 1);
            self.pass(self.delay.take());
            self.time.get()
        }
    }

    /// A machine that is up for a while, and a clock that knows the rate.
    fn known(machine: &Machine) -> Ticks<&Machine> {
        machine.pass(7_000_000_000);
        let clock = Ticks::new(machine);
        machine.pass(SPAN);
        clock.now();
        machine.looks.set(0);
        clock
    }

    #[test]
    fn until_the_rate_is_known_every_reading_is_a_look() {
        let machine = Machine::default();
        machine.pass(7_000_000_000);
        let clock = Ticks::new(&machine);
        for reading in 1..=10 {
            machine.pass(SPAN / 10);
            assert_eq!((clock.now(), machine.looks.get()), (Nanos(7_000_000_000 + reading * SPAN / 10), 1 + reading));
        }
        for reading in 1..=10 {
            machine.pass(100);
            assert_eq!(
                (clock.now(), machine.looks.get()),
                (Nanos(7_100_000_000 + reading * 100 - 1), 11),
                "rounded down"
            );
        }
    }

    #[test]
    fn a_millisecond_after_a_look_comes_the_next() {
        let machine = Machine::default();
        let clock = known(&machine);
        machine.pass(TRUST - 10);
        assert_eq!((clock.now(), machine.looks.get()), (Nanos(7_100_999_989), 0));
        machine.pass(10);
        assert_eq!((clock.now(), machine.looks.get()), (Nanos(7_101_000_000), 1));
        machine.pass(100);
        assert_eq!((clock.now(), machine.looks.get()), (Nanos(7_101_000_099), 1));
    }

    #[test]
    fn what_is_done_to_the_clock_is_followed() {
        let machine = Machine::default();
        let clock = known(&machine);
        machine.time.set(machine.time.get() + 5000);
        assert_eq!(clock.now(), Nanos(7_100_000_000), "nobody has looked");
        machine.pass(TRUST);
        assert_eq!(clock.now(), Nanos(7_101_005_000));
        // A clock that goes a thousandth faster than the counter from now on: a microsecond wrong at most, and not for long.
        for _ in 0..2 * SPAN / TRUST {
            machine.pass(TRUST);
            machine.time.set(machine.time.get() + TRUST / 1000);
            assert_eq!(clock.now().0, machine.time.get());
        }
        machine.pass(TRUST / 2);
        machine.time.set(machine.time.get() + TRUST / 2000);
        assert!(machine.time.get() - clock.now().0 < 10, "the new rate");
    }

    #[test]
    fn an_interrupted_look_tells_the_time_and_nothing_more() {
        let machine = Machine::default();
        let clock = known(&machine);
        machine.pass(TRUST);
        machine.delay.set(50_000);
        assert_eq!((clock.now(), machine.looks.get()), (Nanos(7_101_050_000), 1));
        machine.pass(100);
        assert_eq!((clock.now(), machine.looks.get()), (Nanos(7_101_050_100), 2), "again");
        machine.pass(100);
        assert_eq!((clock.now(), machine.looks.get()), (Nanos(7_101_050_199), 2));
    }

    #[test]
    fn a_counter_that_was_set_back_is_not_believed() {
        let machine = Machine::default();
        let clock = known(&machine);
        machine.ticks.set(3);
        assert_eq!((clock.now(), machine.looks.get()), (Nanos(7_100_000_000), 1));
        machine.pass(SPAN);
        clock.now();
        machine.pass(100);
        assert_eq!((clock.now(), machine.looks.get()), (Nanos(7_200_000_100), 3), "no rate comes of that");
        machine.pass(SPAN);
        clock.now();
        machine.pass(100);
        assert_eq!((clock.now(), machine.looks.get()), (Nanos(7_300_000_199), 4));
    }

    /// On whatever machine this is.
    #[test]
    fn the_clock_for_measuring_goes_with_the_monotonic_clock() {
        let clock = super::super::for_measuring();
        let end = now().after(Nanos(2 * SPAN));
        while now() < end {
            let (before, reading, after) = (now(), clock.now(), now());
            assert!(before.0 <= reading.0 + TRUST && reading.0 <= after.0 + TRUST, "{before:?} {reading:?} {after:?}");
        }
    }
}
