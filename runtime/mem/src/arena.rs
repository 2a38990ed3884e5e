//! Arenas: large anonymous mappings, known by number, never unmapped while anybody holds the table.
#![allow(unsafe_code)]

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use scst_core::buffer::Extent;

use crate::mapping::{FOREIGN, FilePages, Foreign};

/// Most arenas of one pool. With the smallest arena of 1 MiB that is a budget of 4 GiB, with the default one 128 GiB.
pub const MAX_ARENAS: usize = 4096;
const HUGE_PAGE: usize = 2 << 20;

/// One anonymous mapping.
struct Mapping {
    base: NonNull<u8>,
    len: usize,
    huge: bool,
}

// SAFETY: a mapping is plain memory; who may read or write which part is decided by the owner of the extents.
unsafe impl Send for Mapping {}
// SAFETY: as above; the table only hands out addresses.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are what mmap returned (after trimming), and nobody holds the table any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// What registration with a kernel interface needs to know of an arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArenaInfo {
    /// Its number, as in [`Extent::arena`].
    pub arena: u32,
    /// Address of the first byte.
    pub base: *mut u8,
    /// Length in bytes.
    pub len: usize,
    /// Reserved huge pages back it (not merely advised).
    pub huge: bool,
}

/// The arenas of one pool. Append-only; shared with the back-end, which keeps the memory mapped for as long as the
/// kernel may use it.
pub struct Arenas {
    slots: Box<[OnceLock<Mapping>]>,
    count: AtomicU32,
    /// Mapped files; made when there is the first.
    foreign: OnceLock<Foreign>,
    pinned: AtomicBool,
}

impl std::fmt::Debug for Arenas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arenas").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl Arenas {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            slots: (0..capacity).map(|_| OnceLock::new()).collect(),
            count: AtomicU32::new(0),
            foreign: OnceLock::new(),
            pinned: AtomicBool::new(false),
        }
    }

    /// How many arenas there are.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// Maps one more arena and returns its number.
    pub(crate) fn grow(&self, len: usize, huge: bool) -> io::Result<u32> {
        let index = self.count();
        let slot = self.slots.get(index as usize).ok_or(io::ErrorKind::OutOfMemory)?;
        let mapping = map(len, huge)?;
        if slot.set(mapping).is_err() {
            unreachable!("only the pool that owns the table grows it");
        }
        self.count.store(index + 1, Ordering::Release);
        Ok(index)
    }

    /// The address of an extent, when it lies within its arena or mapped file. That of a mapped file is for the kernel
    /// only.
    pub fn resolve(&self, extent: Extent) -> Option<NonNull<u8>> {
        if Self::is_mapped_file(extent) { self.foreign.get()?.resolve(extent) } else { self.resolve_own(extent) }
    }

    /// Whether an extent is one of a mapped file: not registered with the kernel, and its bytes not to be touched.
    pub fn is_mapped_file(extent: Extent) -> bool {
        extent.arena >= FOREIGN
    }

    /// Makes a file's pages known; the number to lend them by. None when there are too many. This and the next three are
    /// for the reactor's thread.
    pub fn attach(&self, pages: Arc<FilePages>) -> Option<u32> {
        self.foreign.get_or_init(Foreign::new).attach(pages)
    }

    /// Forgets a file. It stays mapped until all extents are back.
    pub fn detach(&self, arena: u32) {
        if let Some(foreign) = self.foreign.get() {
            foreign.detach(arena);
        }
    }

    /// Lends an extent of a file, to be given back through [`BufferPool::release`](crate::BufferPool::release).
    pub fn lend(&self, arena: u32, offset: u64, len: u32) -> Option<Extent> {
        self.foreign.get()?.lend(arena, offset, len)
    }

    /// Takes an extent of a file back.
    ///
    /// # Panics
    /// When the extent is not lent.
    pub(crate) fn take_back(&self, extent: Extent) {
        self.foreign.get().expect("released extent is lent").take_back(extent);
    }

    /// The address of an extent of anonymous memory.
    pub(crate) fn resolve_own(&self, extent: Extent) -> Option<NonNull<u8>> {
        let mapping = self.slots.get(extent.arena as usize)?.get()?;
        let offset = usize::try_from(extent.offset).ok()?;
        if offset.checked_add(extent.len as usize)? > mapping.len {
            return None;
        }
        // SAFETY: `offset` is within the mapping.
        Some(unsafe { mapping.base.add(offset) })
    }

    /// Says that something else than this process's page tables knows where the pages are: buffers registered with
    /// io_uring, memory regions of a network card. From now on no page is given back, for those would keep the old one.
    /// Call it before the registration.
    pub fn pin(&self) {
        self.pinned.store(true, Ordering::Release);
    }

    /// Whether [`Arenas::pin`] was called.
    pub fn is_pinned(&self) -> bool {
        self.pinned.load(Ordering::Acquire)
    }

    /// Gives the memory behind a range back to the system; it reads as zeros afterwards. Reserved huge pages stay, for
    /// nobody else could use them.
    ///
    /// # Safety
    /// Nobody has or gets a reference into the range during the call, and no operation of the kernel uses it.
    pub(crate) unsafe fn give_back(&self, extent: Extent) -> io::Result<()> {
        let base = self.resolve(extent).ok_or(io::ErrorKind::InvalidInput)?;
        if self.slots[extent.arena as usize].get().is_some_and(|m| m.huge) {
            return Ok(());
        }
        // SAFETY: `resolve` checked that the range lies within the mapping; that its content may change is the caller's
        // promise.
        let result = unsafe { libc::madvise(base.as_ptr().cast(), extent.len as usize, libc::MADV_DONTNEED) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// All arenas, for registration.
    pub fn iter(&self) -> impl Iterator<Item = ArenaInfo> + '_ {
        self.slots.iter().map_while(OnceLock::get).zip(0..).map(|(m, arena)| ArenaInfo {
            arena,
            base: m.base.as_ptr(),
            len: m.len,
            huge: m.huge,
        })
    }
}

fn map(len: usize, huge: bool) -> io::Result<Mapping> {
    let plain = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    if huge && len.is_multiple_of(HUGE_PAGE) {
        if let Ok(base) = mmap(len, plain | libc::MAP_HUGETLB) {
            let mapping = Mapping { base, len, huge: true };
            advise(&mapping, libc::MADV_DONTFORK);
            return Ok(mapping);
        }
        // No huge pages reserved: align the mapping so that transparent ones fit, and trim the rest.
        let raw = mmap(len + HUGE_PAGE, plain)?;
        let head = raw.as_ptr().align_offset(HUGE_PAGE);
        // SAFETY: `head` is at most HUGE_PAGE - 1, the mapping is that much longer than `len`.
        let base = unsafe { raw.add(head) };
        if head > 0 {
            // SAFETY: the head is part of the mapping just made and nobody has its address.
            unsafe { libc::munmap(raw.as_ptr().cast(), head) };
        }
        // SAFETY: the tail is part of the mapping just made, is not empty, and nobody has its address.
        unsafe { libc::munmap(base.add(len).as_ptr().cast(), HUGE_PAGE - head) };
        let mapping = Mapping { base, len, huge: false };
        advise(&mapping, libc::MADV_HUGEPAGE);
        advise(&mapping, libc::MADV_DONTFORK);
        return Ok(mapping);
    }
    let mapping = Mapping { base: mmap(len, plain)?, len, huge: false };
    advise(&mapping, libc::MADV_DONTFORK);
    Ok(mapping)
}

fn mmap(len: usize, flags: libc::c_int) -> io::Result<NonNull<u8>> {
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing memory.
    let p = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if p == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(p.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// Advice may fail (an old kernel, no THP); everything works without.
fn advise(mapping: &Mapping, advice: libc::c_int) {
    // SAFETY: the range is a mapping of ours, and neither advice changes its content.
    unsafe { libc::madvise(mapping.base.as_ptr().cast(), mapping.len, advice) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_is_resolved_only_within_its_arena() {
        let arenas = Arenas::new(2);
        assert_eq!(arenas.grow(1 << 20, false).unwrap(), 0);
        let base = arenas.iter().next().unwrap().base;
        let at = |arena, offset, len| arenas.resolve(Extent { arena, offset, len }).map(NonNull::as_ptr);
        assert_eq!(at(0, 4096, 1).unwrap() as usize, base as usize + 4096);
        assert!(at(0, (1 << 20) - 1, 1).is_some());
        assert!(at(0, 1 << 20, 0).is_some());
        assert!(at(0, 1 << 20, 1).is_none());
        assert!(at(0, u64::MAX, 1).is_none());
        assert!(at(1, 0, 0).is_none());
        assert!(at(7, 0, 0).is_none());
    }

    #[test]
    fn huge_arenas_are_aligned_and_the_table_has_a_limit() {
        let arenas = Arenas::new(2);
        arenas.grow(4 << 20, true).unwrap();
        arenas.grow(2 << 20, true).unwrap();
        for info in arenas.iter() {
            assert_eq!(info.base as usize % HUGE_PAGE, 0);
        }
        assert_eq!(arenas.iter().map(|i| i.len).collect::<Vec<_>>(), [4 << 20, 2 << 20]);
        assert!(arenas.grow(2 << 20, true).is_err());
    }
}
