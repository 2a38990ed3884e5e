//! The monotonic clock, the same for all reactors of the host.
#![allow(unsafe_code)]

use scst_core::Nanos;
use scst_core::latency::Clock;

#[cfg(target_arch = "x86_64")]
mod ticks;

/// CLOCK_MONOTONIC.
pub(crate) fn now() -> Nanos {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is valid for writing; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut ts) };
    Nanos(ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64)
}

/// The same time for measuring: from the processor's counter where the kernel takes it from there, too.
pub(crate) fn for_measuring() -> Box<dyn Clock> {
    #[cfg(target_arch = "x86_64")]
    if ticks::are_steady() {
        return Box::new(ticks::Ticks::new(ticks::Processor));
    }
    Box::new(Monotonic)
}

/// CLOCK_MONOTONIC, for measuring. About 20 ns: the kernel answers without a system call.
struct Monotonic;

impl Clock for Monotonic {
    fn now(&self) -> Nanos {
        now()
    }
}
