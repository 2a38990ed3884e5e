//! How other threads end a reactor's sleep: an eventfd that is written only when somebody sleeps.
//!
//! One word holds who rang and whether the reactor sleeps. The reactor goes to sleep by changing 0 to `SLEEPING`, which
//! fails when somebody has rung; who rings adds a bit and writes the eventfd only if it found `SLEEPING` alone. So a
//! ring is never lost, and a ring of a reactor that is awake costs one atomic operation.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::backend::{Wake, Waker};

/// A [`Waker`] was used.
pub(crate) const RUNG_BY_USER: u32 = 2;
/// The offload pool has results.
pub(crate) const RUNG_BY_POOL: u32 = 4;
/// A [`SyncGate`](crate::SyncGate) was handed over.
pub(crate) const RUNG_BY_GATE: u32 = 8;
const SLEEPING: u32 = 1;

/// The bell of one reactor.
pub(crate) struct Doorbell {
    eventfd: OwnedFd,
    state: AtomicU32,
}

impl Doorbell {
    pub(crate) fn new(nonblocking: bool) -> io::Result<Self> {
        let flags = libc::EFD_CLOEXEC | if nonblocking { libc::EFD_NONBLOCK } else { 0 };
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::eventfd(0, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and ours.
        let eventfd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { eventfd, state: AtomicU32::new(0) })
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    /// Rings, from any thread.
    pub(crate) fn ring(&self, who: u32) {
        if self.state.fetch_or(who, Ordering::AcqRel) == SLEEPING {
            self.write();
        }
    }

    /// Makes the eventfd readable, whether somebody sleeps or not.
    pub(crate) fn write(&self) {
        let one = 1u64;
        // SAFETY: eight bytes are read from `one`. It cannot fail: one write per sleep never overflows.
        unsafe { libc::write(self.fd(), (&raw const one).cast(), 8) };
    }

    /// Announces that the reactor is about to sleep; false when somebody has rung already.
    pub(crate) fn prepare_sleep(&self) -> bool {
        self.state.compare_exchange(0, SLEEPING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether somebody has rung since `awake`. Only for a reactor that is awake.
    pub(crate) fn is_rung(&self) -> bool {
        self.state.load(Ordering::Acquire) != 0
    }

    /// The reactor is awake: who has rung since the last call?
    pub(crate) fn awake(&self) -> u32 {
        if self.state.load(Ordering::Acquire) == 0 {
            return 0;
        }
        self.state.swap(0, Ordering::AcqRel) & !SLEEPING
    }

    /// Empties the eventfd (non-blocking bells only).
    pub(crate) fn drain(&self) {
        let mut count = 0u64;
        // SAFETY: eight bytes are written to `count`; an empty eventfd answers EAGAIN.
        unsafe { libc::read(self.fd(), (&raw mut count).cast(), 8) };
    }
}

struct Ringer(Arc<Doorbell>, u32);

impl Wake for Ringer {
    fn wake(&self) {
        self.0.ring(self.1);
    }
}

/// A waker on this bell that rings as `who`.
pub(crate) fn waker(bell: &Arc<Doorbell>, who: u32) -> Waker {
    Arc::new(Ringer(Arc::clone(bell), who))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(bell: &Doorbell) -> Option<u64> {
        let mut count = 0u64;
        // SAFETY: eight bytes are written to `count`.
        let n = unsafe { libc::read(bell.fd(), (&raw mut count).cast(), 8) };
        (n == 8).then_some(count)
    }

    #[test]
    fn only_the_first_ring_of_a_sleeper_writes_the_eventfd() {
        let bell = Doorbell::new(true).unwrap();
        bell.ring(RUNG_BY_USER);
        assert_eq!(count(&bell), None, "awake: no system call");
        assert!(!bell.prepare_sleep(), "a ring before the sleep is not lost");
        assert_eq!(bell.awake(), RUNG_BY_USER);
        assert!(bell.prepare_sleep());
        bell.ring(RUNG_BY_POOL);
        bell.ring(RUNG_BY_USER);
        bell.ring(RUNG_BY_USER);
        assert_eq!(count(&bell), Some(1));
        assert_eq!(bell.awake(), RUNG_BY_POOL | RUNG_BY_USER);
        assert_eq!(bell.awake(), 0);
    }
}
