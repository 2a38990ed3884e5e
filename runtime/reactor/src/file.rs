//! Blocking file operations, as a pool thread carries them out.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use scst_core::Nanos;
use scst_core::buffer::Extent;
use scst_core::io::IoOp;
use scst_mem::{Arenas, FilePages, is_memory_file};

use crate::backend::Waker;
use crate::iovec::IoVecs;
use crate::net::last_errno;
use crate::offload::Lane;
use crate::sync::FileSync;

const BLKDISCARD: libc::Ioctl = libc::_IO(0x12, 119);
const BLKZEROOUT: libc::Ioctl = libc::_IO(0x12, 127);

/// A registered file.
pub(crate) struct FileEntry {
    pub(crate) file: Arc<File>,
    pub(crate) block_device: bool,
    /// Reads and writes that may be done at once, through the page cache; None with O_DIRECT.
    cached: Option<Cached>,
    /// Its pages, and their number with the arenas.
    pages: Option<(u32, Arc<FilePages>)>,
    /// The ring can discard.
    pub(crate) ring_discards: bool,
    /// It lives in memory: there is nothing to be synced to.
    pub(crate) in_memory: bool,
    pub(crate) sync: FileSync,
    /// Its jobs that wait for a thread.
    pub(crate) lane: Lane,
    /// What would make a transfer wait can be told from what would not.
    pub(crate) has_nowait: bool,
}

/// How transfers are done at once.
struct Cached {
    /// RWF_NOWAIT, where something can keep a transfer waiting.
    flags: libc::c_int,
    reads: Attempts,
    writes: Attempts,
}

impl FileEntry {
    /// `waker` is used when the file's turn to be synced has come.
    pub(crate) fn new(file: Arc<File>, block_device: bool, waker: Waker, lane: Lane) -> Self {
        // SAFETY: no memory is passed.
        let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
        let in_memory = is_memory_file(&file);
        // With O_DIRECT, RWF_NOWAIT would not mean "from the page cache".
        let cached = (flags >= 0 && flags & libc::O_DIRECT == 0).then(|| Cached {
            flags: if in_memory { 0 } else { libc::RWF_NOWAIT },
            reads: Attempts::default(),
            writes: Attempts::default(),
        });
        let has_nowait = has_nowait(&file);
        let sync = FileSync::new(waker);
        Self { file, block_device, cached, ring_discards: false, pages: None, in_memory, sync, lane, has_nowait }
    }

    /// Whether it was opened with O_DIRECT.
    pub(crate) fn is_direct(&self) -> bool {
        self.cached.is_none()
    }

    /// Does a READ or WRITE at once if the page cache allows it without waiting; `iov` is scratch. May be short.
    // In line: after a system call a processor that guards against speculation does not know the way back,
    // and every return is mispredicted.
    #[inline(always)]
    pub(crate) fn try_now(&mut self, op: &IoOp<'_>, arenas: &Arenas, iov: &mut IoVecs) -> Option<i32> {
        let Cached { flags, reads, writes } = self.cached.as_mut()?;
        let (write, attempts, flags) = match op {
            IoOp::Read { .. } => (false, reads, *flags),
            IoOp::Write { dsync: false, .. } => (true, writes, *flags),
            _ => return None,
        };
        if !attempts.worthwhile() {
            return None;
        }
        let result = match one_range(op, arenas) {
            Some((base, len, offset)) if flags == 0 => plainly(write, &self.file, base, len, offset),
            _ => by_ranges(Work::of(op, arenas, iov)?, self.file.as_raw_fd(), iov, flags)?,
        };
        attempts.note(result);
        (result > 0).then_some(result)
    }

    /// Lets page-cached data of the file be lent.
    pub(crate) fn share_pages(&mut self, pages: &Arc<FilePages>, arenas: &Arenas) {
        self.withdraw_pages(arenas);
        self.pages = arenas.attach(Arc::clone(pages)).map(|arena| (arena, Arc::clone(pages)));
    }

    /// Nothing more is lent; what has been stays.
    pub(crate) fn withdraw_pages(&mut self, arenas: &Arenas) {
        if let Some((arena, _)) = self.pages.take() {
            arenas.detach(arena);
        }
    }

    pub(crate) fn cached_pages(&self, now: Nanos, offset: u64, len: u32, arenas: &Arenas) -> Option<Extent> {
        let (arena, pages) = self.pages.as_ref()?;
        if pages.are_cached(now, offset, len) { arenas.lend(*arena, offset, len) } else { None }
    }
}

/// Whether a file knows RWF_NOWAIT. What is beyond the end of any file is asked for, so that nothing is read.
fn has_nowait(file: &File) -> bool {
    const BEYOND: libc::off_t = 1 << 62;
    let mut byte = 0u8;
    let iov = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: the range is `byte`.
    let result = retry(|| unsafe { libc::preadv2(file.as_raw_fd(), &iov, 1, BEYOND, libc::RWF_NOWAIT) });
    result != -libc::EOPNOTSUPP && result != -libc::ENOSYS
}

/// Whether it pays to try. A medium that is not in the cache costs one useless call per miss, so after misses in a row
/// only some operations are tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Attempts {
    /// Misses in a row.
    misses: u32,
    /// So many operations are not tried.
    skip: u32,
    /// The file system cannot do it.
    never: bool,
}

impl Attempts {
    /// The most operations that are not tried after a miss.
    const MAX_SKIP: u32 = 32;

    fn worthwhile(&mut self) -> bool {
        let skipped = self.skip > 0;
        self.skip = self.skip.saturating_sub(1);
        !self.never && !skipped
    }

    fn note(&mut self, result: i32) {
        match result {
            1.. => self.misses = 0,
            e if e == -libc::EAGAIN || e == 0 => {
                self.misses += 1;
                // One miss is nothing yet: the first read of a cold range, say.
                self.skip = (self.misses / 4).min(Self::MAX_SKIP);
            }
            e => self.never |= e == -libc::EOPNOTSUPP || e == -libc::ENOSYS || e == -libc::EINVAL,
        }
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

/// Address, length and offset of a transfer of one range.
#[inline(always)]
fn one_range(op: &IoOp<'_>, arenas: &Arenas) -> Option<(*mut u8, usize, u64)> {
    let (&IoOp::Read { offset, sg, sg_offset, len, .. } | &IoOp::Write { offset, sg, sg_offset, len, .. }) = op else {
        return None;
    };
    let &[extent] = sg.extents() else { return None };
    let extent = extent.slice(sg_offset, len);
    Some((arenas.resolve(extent)?.as_ptr(), extent.len as usize, offset))
}

/// One range without flags has calls of its own, which are cheaper: by themselves, and, made in line, because the C
/// library makes a thread cancellable around its own.
#[inline(always)]
fn plainly(write: bool, file: &File, base: *mut u8, len: usize, offset: u64) -> i32 {
    loop {
        let result = if write {
            // SAFETY: the range is the caller's for the time of the call, and initialised as all of an arena is.
            rustix::io::pwrite(file, unsafe { std::slice::from_raw_parts(base, len) }, offset)
        } else {
            // SAFETY: as above, and nobody else looks at it until the READ is done.
            rustix::io::pread(file, unsafe { std::slice::from_raw_parts_mut(base, len) }, offset)
        };
        match result {
            Ok(done) => return i32::try_from(done).unwrap_or(i32::MAX),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return -errno.raw_os_error(),
        }
    }
}

#[inline(never)]
fn by_ranges(work: Work, fd: RawFd, iov: &IoVecs, flags: libc::c_int) -> Option<i32> {
    match work {
        Work::Read { offset } => {
            // SAFETY: the ranges are the caller's for the time of the call.
            Some(retry(|| unsafe { libc::preadv2(fd, iov.as_ptr(), count(iov), offset as _, flags) }))
        }
        Work::Write { offset, .. } => {
            // SAFETY: as above.
            Some(retry(|| unsafe { libc::pwritev2(fd, iov.as_ptr(), count(iov), offset as _, flags) }))
        }
        _ => None,
    }
}

#[inline]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cold_medium_is_tried_ever_less_and_a_warm_one_always() {
        let mut attempts = Attempts::default();
        let mut tried = 0;
        for _ in 0..1000 {
            if attempts.worthwhile() {
                tried += 1;
                attempts.note(-libc::EAGAIN);
            }
        }
        assert!((30..150).contains(&tried), "{tried} attempts");
        while !attempts.worthwhile() {}
        attempts.note(4096);
        for _ in 0..100 {
            assert!(attempts.worthwhile());
            attempts.note(4096);
        }
        attempts.note(-libc::EOPNOTSUPP);
        assert!(!attempts.worthwhile());
    }
}
