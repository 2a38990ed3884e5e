//! Command buffers that the kernel knows (registered buffers): it need not look up and hold their pages for every direct
//! transfer.
//!
//! Whole arenas are registered, each under its own number, when the first transfer wants one: that makes all of the arena
//! resident and takes the time of filling it, once. From then on the pool gives nothing back.

use io_uring::IoUring;
use scst_core::buffer::Extent;
use scst_mem::{Arenas, MAX_ARENAS};

/// Which arenas the kernel knows.
pub(crate) struct Registered {
    /// The first so many.
    count: u32,
    /// More can be registered. False: nobody wants it, or the kernel has refused.
    on: bool,
}

impl Registered {
    /// With `wanted`, makes a table in the kernel; what it says when it will not is logged, and nothing is registered.
    pub(crate) fn new(ring: &IoUring, wanted: bool) -> Self {
        let mut this = Self { count: 0, on: wanted };
        if wanted && let Err(error) = ring.submitter().register_buffers_sparse(MAX_ARENAS as u32) {
            this.give_up(&error);
        }
        this
    }

    /// The kernel's number of the buffer that an extent is in.
    #[inline]
    pub(crate) fn number(&mut self, ring: &IoUring, arenas: &Arenas, extent: Extent) -> Option<u16> {
        if extent.arena >= self.count && !(self.on && self.extend(ring, arenas)) {
            return None;
        }
        u16::try_from(extent.arena).ok().filter(|_| extent.arena < self.count)
    }

    /// Registers the arenas that have come since the last time; false when that is not all of them.
    #[cold]
    fn extend(&mut self, ring: &IoUring, arenas: &Arenas) -> bool {
        // Before the kernel holds the first page: what is given back afterwards would be another page.
        arenas.pin();
        for arena in arenas.iter().skip(self.count as usize) {
            let buffer = libc::iovec { iov_base: arena.base.cast(), iov_len: arena.len };
            // SAFETY: an arena stays mapped for as long as the back-end holds the table, and the ring goes before that.
            if let Err(error) = unsafe { ring.submitter().register_buffers_update(arena.arena, &[buffer], None) } {
                self.give_up(&error);
                return false;
            }
            self.count = arena.arena + 1;
        }
        true
    }

    fn give_up(&mut self, error: &std::io::Error) {
        self.on = false;
        let hint = if error.raw_os_error() == Some(libc::ENOMEM) { ": raise RLIMIT_MEMLOCK" } else { "" };
        tracing::warn!(%error, "command buffers are not registered with io_uring, direct transfers cost more{hint}");
    }
}
