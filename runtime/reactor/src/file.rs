//! Blocking file operations, as a pool thread carries them out.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use scst_core::io::IoOp;
use scst_mem::Arenas;

use crate::iovec::IoVecs;
use crate::net::last_errno;

const BLKDISCARD: libc::Ioctl = libc::_IO(0x12, 119);
const BLKZEROOUT: libc::Ioctl = libc::_IO(0x12, 127);

/// A registered file.
pub(crate) struct FileEntry {
    pub(crate) file: Arc<File>,
    pub(crate) block_device: bool,
    /// Opened with O_DIRECT: RWF_NOWAIT would not mean "from the page cache".
    pub(crate) direct: bool,
    /// The ring can discard.
    pub(crate) ring_discards: bool,
}

impl FileEntry {
    pub(crate) fn new(file: Arc<File>, block_device: bool) -> Self {
        // SAFETY: no memory is passed.
        let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
        Self { file, block_device, direct: flags >= 0 && flags & libc::O_DIRECT != 0, ring_discards: false }
    }
}

/// An operation without its memory: that is in the `IoVecs` next to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Work {
    Read { offset: u64 },
    Write { offset: u64, dsync: bool },
    Flush,
    Prefetch { offset: u64, len: u64 },
    Discard { offset: u64, len: u64 },
    Trim { offset: u64, len: u64 },
    Zero { offset: u64, len: u64 },
    Allocate { offset: u64, len: u64 },
    Mapped { offset: u64, len: u64 },
}

impl Work {
    /// Splits an operation into work and ranges. None when an extent is not in its arena.
    pub(crate) fn of(op: &IoOp<'_>, arenas: &Arenas, iov: &mut IoVecs) -> Option<Self> {
        Some(match *op {
            IoOp::Read { offset, sg, sg_offset, len, .. } => {
                iov.set(arenas, sg.range(sg_offset, len))?;
                Self::Read { offset }
            }
            IoOp::Write { offset, sg, sg_offset, len, dsync, .. } => {
                iov.set(arenas, sg.range(sg_offset, len))?;
                Self::Write { offset, dsync }
            }
            IoOp::Flush { .. } => Self::Flush,
            IoOp::Prefetch { offset, len, .. } => Self::Prefetch { offset, len },
            IoOp::Discard { offset, len, .. } => Self::Discard { offset, len },
            IoOp::Trim { offset, len, .. } => Self::Trim { offset, len },
            IoOp::Zero { offset, len, .. } => Self::Zero { offset, len },
            IoOp::Allocate { offset, len, .. } => Self::Allocate { offset, len },
            IoOp::Mapped { offset, len, .. } => Self::Mapped { offset, len },
        })
    }
}

/// The file an operation is about.
pub(crate) fn file_of(op: &IoOp<'_>) -> u32 {
    match op {
        IoOp::Read { file, .. }
        | IoOp::Write { file, .. }
        | IoOp::Flush { file }
        | IoOp::Prefetch { file, .. }
        | IoOp::Discard { file, .. }
        | IoOp::Trim { file, .. }
        | IoOp::Zero { file, .. }
        | IoOp::Allocate { file, .. }
        | IoOp::Mapped { file, .. } => file.0,
    }
}

/// Mode of fallocate for a discard: the range reads as zeros, the size stays. On a block device it is a discard that
/// guarantees zeros (plain BLKDISCARD does not).
pub(crate) const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
/// Mode of fallocate for zeroing without deallocation.
pub(crate) const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;

/// Does it, blocking. Result and `extra` as in [`scst_core::io::IoCompletion`].
pub(crate) fn run(file: &File, block_device: bool, work: Work, iov: &IoVecs) -> (i32, u64) {
    let fd = file.as_raw_fd();
    let result = match work {
        // SAFETY: the ranges belong to the operation until it completes.
        Work::Read { offset } => retry(|| unsafe { libc::preadv(fd, iov.as_ptr(), count(iov), offset as _) }),
        Work::Write { offset, dsync } => write(fd, iov, offset, dsync),
        // SAFETY: no memory is passed.
        Work::Flush => retry(|| unsafe { libc::fdatasync(fd) } as isize),
        Work::Prefetch { offset, len } => {
            // SAFETY: no memory is passed. Advice never fails visibly.
            unsafe { libc::posix_fadvise(fd, offset as _, len as _, libc::POSIX_FADV_WILLNEED) };
            0
        }
        Work::Discard { offset, len } => match fallocate(fd, PUNCH, offset, len) {
            e if e == -libc::EOPNOTSUPP && block_device => range_ioctl(fd, BLKZEROOUT, offset, len),
            done => done,
        },
        Work::Trim { offset, len } if block_device => range_ioctl(fd, BLKDISCARD, offset, len),
        Work::Trim { offset, len } => fallocate(fd, PUNCH, offset, len),
        Work::Zero { offset, len } if block_device => range_ioctl(fd, BLKZEROOUT, offset, len),
        Work::Zero { offset, len } => fallocate(fd, ZERO, offset, len),
        Work::Allocate { .. } if block_device => 0,
        Work::Allocate { offset, len } => fallocate(fd, libc::FALLOC_FL_KEEP_SIZE, offset, len),
        Work::Mapped { len, .. } if block_device => return (1, len),
        Work::Mapped { offset, len } => return mapped(fd, offset, len),
    };
    (result, 0)
}

fn count(iov: &IoVecs) -> libc::c_int {
    iov.len() as libc::c_int
}

fn retry(mut call: impl FnMut() -> isize) -> i32 {
    loop {
        let result = call();
        if result >= 0 {
            return i32::try_from(result).unwrap_or(i32::MAX);
        }
        let errno = last_errno();
        if errno != -libc::EINTR {
            return errno;
        }
    }
}

fn write(fd: RawFd, iov: &IoVecs, offset: u64, dsync: bool) -> i32 {
    let flags = if dsync { libc::RWF_DSYNC } else { 0 };
    // SAFETY: the ranges belong to the operation until it completes.
    let done = retry(|| unsafe { libc::pwritev2(fd, iov.as_ptr(), count(iov), offset as _, flags) });
    if done != -libc::EOPNOTSUPP && done != -libc::ENOSYS {
        return done;
    }
    // SAFETY: as above.
    let done = retry(|| unsafe { libc::pwritev(fd, iov.as_ptr(), count(iov), offset as _) });
    if done < 0 || !dsync {
        return done;
    }
    // SAFETY: no memory is passed.
    let synced = retry(|| unsafe { libc::fdatasync(fd) } as isize);
    if synced < 0 { synced } else { done }
}

fn fallocate(fd: RawFd, mode: i32, offset: u64, len: u64) -> i32 {
    // SAFETY: no memory is passed.
    retry(|| unsafe { libc::fallocate(fd, mode, offset as _, len as _) } as isize)
}

/// BLKDISCARD or BLKZEROOUT.
fn range_ioctl(fd: RawFd, request: libc::Ioctl, offset: u64, len: u64) -> i32 {
    let range = [offset, len];
    // SAFETY: both requests read two u64 from `range`.
    retry(|| unsafe { libc::ioctl(fd, request as _, range.as_ptr()) } as isize)
}

/// Data or hole at `offset`, and how long the run is. A file system that cannot tell has data everywhere.
fn mapped(fd: RawFd, offset: u64, len: u64) -> (i32, u64) {
    // SAFETY: no memory is passed. The file position it moves is used by nobody: all transfers name their offset.
    let seek = |from: u64, whence| unsafe { libc::lseek(fd, from as _, whence) };
    let data = seek(offset, libc::SEEK_DATA);
    if data < 0 {
        return match -last_errno() {
            // No data up to the end of the file.
            libc::ENXIO => (0, len),
            libc::EINVAL | libc::EOPNOTSUPP | libc::ESPIPE => (1, len),
            errno => (-errno, 0),
        };
    }
    let data = data as u64;
    if data > offset {
        return (0, len.min(data - offset));
    }
    let hole = seek(offset, libc::SEEK_HOLE);
    if hole < 0 {
        return (last_errno(), 0);
    }
    (1, len.min((hole as u64).saturating_sub(offset)))
}

/// A read that the page cache can satisfy whole, done at once; None otherwise (then it must go to a thread).
pub(crate) fn read_cached(file: &File, offset: u64, iov: &IoVecs, len: u32) -> Option<i32> {
    // SAFETY: the ranges belong to the operation until it completes.
    let n = unsafe { libc::preadv2(file.as_raw_fd(), iov.as_ptr(), count(iov), offset as _, libc::RWF_NOWAIT) };
    (n == len as isize).then_some(n as i32)
}
