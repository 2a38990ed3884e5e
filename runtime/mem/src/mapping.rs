//! Page-cached data of files as memory: what a READ can be answered from without a copy into a buffer.
//!
//! A [`FilePages`] maps a file once, shared by all reactors; each pool's [`Arenas`](crate::Arenas) give it
//! a number, lend extents of it and take them back. The file can be truncated at any time, and a touch of a page that is
//! gone is SIGBUS: so nobody touches the memory but the kernel, which copies the bytes to a socket and answers EFAULT.
#![allow(unsafe_code)]

mod memory_file;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scst_core::Nanos;
use scst_core::buffer::Extent;

use crate::buddy::PAGE_BYTES;
use memory_file::Stretches;
pub use memory_file::is_memory_file;

/// Arena numbers from here on are those of mapped files.
pub(crate) const FOREIGN: u32 = 1 << 31;
/// Most files that one pool knows; READs of more files are copied.
pub const MAX_MAPPED_FILES: usize = 1024;
/// Page tables are built by the touch and stay until the mapping goes, 2 MiB for a region of this size.
const REGION_BYTES: u64 = 1 << 30;
/// Most regions of a file that are touched, which bounds its page tables to 128 MiB; READs elsewhere are copied.
const MAX_REGIONS: u32 = 64;
/// Pages that one mincore looks at.
const PAGES_AT_ONCE: usize = 512;
/// How long it is believed what a file in memory has, and where it ends.
const BELIEVED: Nanos = Nanos::from_millis(200);
/// A shorter READ is copied: to ask whether its pages are cached costs as much as the copy, or nearly.
const SHORTEST: u32 = 32 << 10;
/// The same for a file in memory, of which that is known beforehand.
const SHORTEST_IN_MEMORY: u32 = PAGE_BYTES;

/// The pages of a file.
pub struct FilePages {
    base: NonNull<u8>,
    len: u64,
    file: Arc<File>,
    /// Regions that have been touched.
    touched: Box<[AtomicBool]>,
    count: AtomicU32,
    /// Of a file that lives in memory.
    stretches: Option<Stretches>,
}

// SAFETY: the mapping is only an address range to us (see the module); nobody has a reference to what is in it.
unsafe impl Send for FilePages {}
// SAFETY: as above.
unsafe impl Sync for FilePages {}

impl std::fmt::Debug for FilePages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FilePages").field("len", &self.len).field("regions", &self.count).finish_non_exhaustive()
    }
}

impl FilePages {
    /// Maps the first `len` bytes of a file, for READs. What it grows by later is not part of it.
    ///
    /// # Errors
    /// The file cannot be mapped, or the system would not tell which of its pages are cached.
    pub fn new(file: Arc<File>, len: u64) -> io::Result<Self> {
        if !tells_what_is_cached(&file)? {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let bytes = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let fd = file.as_raw_fd();
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        for advice in [libc::MADV_DONTFORK, libc::MADV_DONTDUMP] {
            // SAFETY: the range is the new mapping, and neither advice changes its content. It may fail.
            unsafe { libc::madvise(base, bytes, advice) };
        }
        let regions = len.div_ceil(REGION_BYTES);
        Ok(Self {
            base: NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?,
            len,
            stretches: is_memory_file(&file).then(|| Stretches::new(len)),
            file,
            touched: (0..regions).map(|_| AtomicBool::new(false)).collect(),
            count: AtomicU32::new(0),
        })
    }

    /// Whether a READ of a range is better answered with its pages: it is long enough, and all of it is in the page cache
    /// and in the file. That can change at once; then who sends it waits for the storage, or is told EFAULT.
    pub fn are_cached(&self, now: Nanos, offset: u64, len: u32) -> bool {
        let shortest = if self.stretches.is_some() { SHORTEST_IN_MEMORY } else { SHORTEST };
        len >= shortest && self.are_there(now, offset, len)
    }

    fn are_there(&self, now: Nanos, offset: u64, len: u32) -> bool {
        let Some(end) = offset.checked_add(u64::from(len)).filter(|end| *end <= self.len && len > 0) else {
            return false;
        };
        if !self.may_touch(offset / REGION_BYTES) || !self.may_touch((end - 1) / REGION_BYTES) {
            return false;
        }
        let there = |first, behind| self.has_byte(behind - 1) && self.are_resident(first, behind);
        match &self.stretches {
            Some(stretches) => stretches.are_there(now, offset, end, there),
            None => there(offset, end),
        }
    }

    /// Whether a region is one that is touched.
    fn may_touch(&self, region: u64) -> bool {
        let touched = &self.touched[region as usize];
        if touched.load(Ordering::Relaxed) {
            return true;
        }
        // Two reactors may count the same region twice; the bound is one of memory, not of addresses.
        if self.count.load(Ordering::Relaxed) >= MAX_REGIONS {
            return false;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        touched.store(true, Ordering::Relaxed);
        true
    }

    /// Whether a byte can be read at once. That of a page beyond the end of the file cannot, and what is between the end
    /// of the file and the end of its last page would read as zeros through the mapping.
    fn has_byte(&self, offset: u64) -> bool {
        let mut byte = 0u8;
        let iov = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let Ok(offset) = libc::off_t::try_from(offset) else { return false };
        let flags = if self.stretches.is_some() { 0 } else { libc::RWF_NOWAIT };
        // SAFETY: the range is `byte`.
        unsafe { libc::preadv2(self.file.as_raw_fd(), &iov, 1, offset, flags) == 1 }
    }

    fn are_resident(&self, offset: u64, end: u64) -> bool {
        let page = u64::from(PAGE_BYTES);
        let mut at = offset - offset % page;
        let mut pages = [0u8; PAGES_AT_ONCE];
        while at < end {
            let len = (end - at).min(PAGES_AT_ONCE as u64 * page);
            let found = &mut pages[..len.div_ceil(page) as usize];
            // SAFETY: `end` is within the mapping, and there is a byte for each page of the range.
            let result =
                unsafe { libc::mincore(self.base.add(at as usize).as_ptr().cast(), len as usize, found.as_mut_ptr()) };
            if result != 0 || found.iter().any(|page| page & 1 == 0) {
                return false;
            }
            at += len;
        }
        true
    }
}

impl Drop for FilePages {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are what mmap returned, and no extent of it is lent (the tables hold a reference).
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len as usize) };
    }
}

/// mincore says of files that are neither ours nor open for writing that all their pages are there.
fn tells_what_is_cached(file: &File) -> io::Result<bool> {
    // SAFETY: no memory is passed.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    // SAFETY: no memory is passed; it never fails.
    let user = unsafe { libc::geteuid() };
    Ok(flags >= 0 && flags & libc::O_ACCMODE == libc::O_RDWR || file.metadata()?.uid() == user)
}

/// The files that a pool's arenas know. One thread, the reactor's, changes it.
pub(crate) struct Foreign {
    slots: Box<[Slot]>,
}

#[derive(Default)]
struct Slot {
    /// Keeps the file mapped. Locked only when a file comes or goes.
    pages: Mutex<Option<Arc<FilePages>>>,
    /// Where it is, for who has an extent.
    base: AtomicPtr<u8>,
    len: AtomicU64,
    /// Extents that are lent.
    lent: AtomicU32,
    /// The file is not lent any more; the slot is free when the last extent is back.
    retired: AtomicBool,
}

impl Foreign {
    pub(crate) fn new() -> Self {
        Self { slots: (0..MAX_MAPPED_FILES).map(|_| Slot::default()).collect() }
    }

    fn slot(&self, arena: u32) -> Option<&Slot> {
        self.slots.get(arena.checked_sub(FOREIGN)? as usize)
    }

    pub(crate) fn attach(&self, pages: Arc<FilePages>) -> Option<u32> {
        let free = self.slots.iter().position(|slot| slot.pages().is_none())?;
        let slot = &self.slots[free];
        slot.base.store(pages.base.as_ptr(), Ordering::Relaxed);
        slot.len.store(pages.len, Ordering::Release);
        *slot.pages() = Some(pages);
        Some(FOREIGN + free as u32)
    }

    pub(crate) fn detach(&self, arena: u32) {
        let Some(slot) = self.slot(arena) else { return };
        slot.retired.store(true, Ordering::Relaxed);
        slot.free_if_unused();
    }

    pub(crate) fn lend(&self, arena: u32, offset: u64, len: u32) -> Option<Extent> {
        let extent = Extent { arena, len, offset };
        let slot = self.slot(arena).filter(|slot| !slot.retired.load(Ordering::Relaxed))?;
        self.resolve(extent)?;
        slot.lent.fetch_add(1, Ordering::Relaxed);
        Some(extent)
    }

    pub(crate) fn take_back(&self, extent: Extent) {
        let slot = self.slot(extent.arena).expect("released extent is of a mapped file");
        let before = slot.lent.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "released extent is lent");
        slot.free_if_unused();
    }

    pub(crate) fn resolve(&self, extent: Extent) -> Option<NonNull<u8>> {
        let slot = self.slot(extent.arena)?;
        let end = extent.offset.checked_add(u64::from(extent.len))?;
        if end > slot.len.load(Ordering::Acquire) {
            return None;
        }
        NonNull::new(slot.base.load(Ordering::Relaxed).wrapping_add(extent.offset as usize))
    }
}

impl Slot {
    fn pages(&self) -> MutexGuard<'_, Option<Arc<FilePages>>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn free_if_unused(&self) {
        if self.retired.load(Ordering::Relaxed) && self.lent.load(Ordering::Relaxed) == 0 {
            self.len.store(0, Ordering::Release);
            self.retired.store(false, Ordering::Relaxed);
            *self.pages() = None;
        }
    }
}

#[cfg(test)]
mod tests;
