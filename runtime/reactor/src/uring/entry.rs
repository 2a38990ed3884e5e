//! Entering the ring: by the number under which the thread has registered it, so that the kernel need not look up and hold a
//! descriptor for each turn (IORING_REGISTER_RING_FDS, Linux 5.18), and by a system call in line, as in `file.rs`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use io_uring::IoUring;
use rustix::io_uring::{
    IoringEnterFlags, IoringRegisterOp, io_uring_enter, io_uring_ptr, io_uring_register, io_uring_rsrc_update,
};

/// How to enter a ring.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    /// Its number with the thread, or its descriptor.
    ring: RawFd,
    flags: IoringEnterFlags,
}

impl Entry {
    /// From any thread that may.
    pub(super) fn by_descriptor(ring: &IoUring) -> Self {
        // Without GETEVENTS deferred work would not be done, nor completions brought that had no room.
        Self { ring: ring.as_raw_fd(), flags: IoringEnterFlags::GETEVENTS }
    }

    /// From this thread only.
    pub(super) fn by_number(ring: &IoUring) -> Self {
        let by_descriptor = Self::by_descriptor(ring);
        let mut update = io_uring_rsrc_update::default();
        // Any number that is free; the kernel says which.
        update.offset = u32::MAX;
        update.data = io_uring_ptr::new(by_descriptor.ring as usize as *mut _);
        // SAFETY: the ring is open, and the kernel reads and writes the one structure.
        let registered = unsafe {
            let fd = BorrowedFd::borrow_raw(by_descriptor.ring);
            io_uring_register(fd, IoringRegisterOp::RegisterRingFds, (&raw mut update).cast(), 1)
        };
        match registered {
            Ok(1) => {
                Self { ring: update.offset as RawFd, flags: by_descriptor.flags | IoringEnterFlags::REGISTERED_RING }
            }
            _ => by_descriptor,
        }
    }

    /// Submits so many entries and waits for so many completions.
    pub(super) fn enter(self, to_submit: u32, want: u32) -> io::Result<()> {
        // SAFETY: the number or descriptor is that of the ring, whose entries describe memory of operations in flight.
        unsafe { io_uring_enter(BorrowedFd::borrow_raw(self.ring), to_submit, want, self.flags) }?;
        Ok(())
    }
}
