//! The pool: a byte budget over arenas, and access to the bytes of extents.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;

use scst_core::Nanos;
use scst_core::buffer::{BufferSource, Extent, MAX_TRANSFER_BYTES, Memory, SgList};

use crate::arena::{Arenas, MAX_ARENAS};
use crate::buddy::{Buddy, CLASSES, PAGE_BYTES, TOP_PAGES};
use purge::Purge;

/// Largest class: the longest single extent.
pub const MAX_CLASS_BYTES: u32 = PAGE_BYTES * TOP_PAGES;
/// One part in so many of the budget is not for commands ([`BufferSource`]), only for who asks the pool itself.
const RESERVED_FRACTION: u64 = 8;
/// What a released buffer is filled with when poisoning is on.
const POISON: u8 = 0xa5;

/// Settings of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolConfig {
    /// Most bytes it maps: the reactor's share of `scst_max_cmd_mem`. Rounded down to 1 MiB, at least 1 MiB.
    pub budget: u64,
    /// Bytes of one arena, the step in which the pool grows. Rounded up to 1 MiB; at most 1 GiB, the most that the
    /// kernel registers as one buffer.
    pub arena_bytes: u32,
    /// Try huge pages.
    pub huge_pages: bool,
    /// Fill every buffer with zeros when it is handed out (strict security).
    pub zero_fill: bool,
    /// Overwrite buffers when they come back, so that late use shows. Costs time.
    pub poison: bool,
    /// What is cached, and for how long.
    pub cache: CacheConfig,
}

/// How much free memory stays with the pool. Memory in use is never touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheConfig {
    /// So many free bytes stay, however long nobody needs them.
    pub low_watermark: u64,
    /// Free bytes above this are given back soon (at the next look, an eighth of the interval), needed or not.
    pub high_watermark: u64,
    /// Free bytes that were not needed for so long are given back down to the low watermark. 0: never.
    pub purge_interval: Nanos,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { low_watermark: 8 << 20, high_watermark: 128 << 20, purge_interval: Nanos::from_secs(60) }
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            budget: 256 << 20,
            arena_bytes: 32 << 20,
            huge_pages: true,
            zero_fill: false,
            poison: cfg!(debug_assertions),
            cache: CacheConfig::default(),
        }
    }
}

/// One size class in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClassStatistics {
    /// Bytes of a buffer of this class.
    pub bytes: u32,
    /// Extents asked for.
    pub total: u64,
    /// Of these, taken ready-made from the free list of the class; the others had to be split off, merged or mapped.
    pub hits: u64,
    /// Times that two free blocks of this class became one of the next.
    pub merged: u64,
    /// In use now.
    pub in_use: u32,
    /// Free now.
    pub free: u32,
    /// Of these, with memory behind them.
    pub cached: u32,
}

/// A pool in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PoolStatistics {
    /// Extents asked for.
    pub total: u64,
    /// Of these, taken ready-made from a free list.
    pub hits: u64,
    /// Buffers asked for that need several extents, because they are longer than the largest class.
    pub big: u64,
    /// Requests refused because the budget was used up.
    pub refused: u64,
    /// Bytes handed out, rounded up to classes.
    pub in_use: u64,
    /// The most that `in_use` has been.
    pub peak: u64,
    /// Bytes mapped.
    pub mapped: u64,
    /// Bytes that may be mapped.
    pub budget: u64,
    /// Bytes with memory behind them, in use or cached, at most.
    pub resident: u64,
    /// Bytes given back to the system.
    pub purged: u64,
    /// Purges that were begun because of the high watermark.
    pub over_high_watermark: u64,
    /// Steps of a purge that the system refused.
    pub purge_failures: u64,
    /// What is cached, and for how long.
    pub cache: CacheConfig,
    /// By size class, smallest first.
    pub classes: [ClassStatistics; CLASSES],
}

/// Command buffers of one reactor. Not shared, no lock; may be built on one thread and moved to another.
pub struct BufferPool {
    arenas: Arc<Arenas>,
    buddy: Buddy,
    config: PoolConfig,
    arena_pages: u32,
    stats: PoolStatistics,
    purge: Purge,
}

impl std::fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BufferPool").field("config", &self.config).field("stats", &self.stats).finish_non_exhaustive()
    }
}

impl BufferPool {
    /// An empty pool; the first allocation maps the first arena.
    pub fn new(mut config: PoolConfig) -> Self {
        let unit = u64::from(MAX_CLASS_BYTES);
        config.budget = (config.budget / unit).max(1) * unit;
        config.arena_bytes = config.arena_bytes.clamp(MAX_CLASS_BYTES, 1 << 30).next_multiple_of(MAX_CLASS_BYTES);
        let stats = PoolStatistics {
            budget: config.budget,
            cache: config.cache,
            classes: std::array::from_fn(|o| ClassStatistics { bytes: PAGE_BYTES << o, ..Default::default() }),
            ..Default::default()
        };
        let arenas = config.budget.div_ceil(u64::from(config.arena_bytes)).min(MAX_ARENAS as u64) as usize;
        Self {
            arenas: Arc::new(Arenas::new(arenas)),
            buddy: Buddy::new(),
            config,
            arena_pages: config.arena_bytes / PAGE_BYTES,
            stats,
            purge: Purge::default(),
        }
    }

    /// The arenas, for a back-end.
    pub fn arenas(&self) -> &Arc<Arenas> {
        &self.arenas
    }

    /// Counters.
    pub fn statistics(&self) -> PoolStatistics {
        let mut stats = self.stats;
        let ((free, cached), merged) = (self.buddy.free_counts(), self.buddy.merged());
        for (order, class) in stats.classes.iter_mut().enumerate() {
            (class.free, class.cached, class.merged) = (free[order], cached[order], merged[order]);
        }
        stats.peak = stats.peak.max(self.purge.peak);
        stats.resident = self.resident();
        stats
    }

    /// Extents that have been given back so far: who has found no room need not look again before there are more.
    pub fn returned(&self) -> u64 {
        self.stats.total - self.stats.classes.iter().map(|class| u64::from(class.in_use)).sum::<u64>()
    }

    /// A buffer of exactly `bytes` (up to [`MAX_TRANSFER_BYTES`]): one extent up to 1 MiB, else several of 1 MiB and a
    /// last one for the rest. None when the budget is used up.
    pub fn allocate(&mut self, bytes: u32) -> Option<SgList> {
        let mut sg = SgList::default();
        self.fill_list(bytes, &mut sg).then_some(sg)
    }

    /// The same, into a list that is there already.
    #[inline]
    fn fill_list(&mut self, bytes: u32, sg: &mut SgList) -> bool {
        if !(1..=MAX_CLASS_BYTES).contains(&bytes) {
            return self.fill_long(bytes, sg);
        }
        let extent = self.allocate_extent(bytes);
        match extent {
            Some(extent) => sg.set(extent),
            None => self.stats.refused += 1,
        }
        extent.is_some()
    }

    /// Nothing, or more than one extent.
    #[cold]
    fn fill_long(&mut self, bytes: u32, sg: &mut SgList) -> bool {
        sg.clear();
        self.stats.big += u64::from(bytes > MAX_CLASS_BYTES);
        while bytes <= MAX_TRANSFER_BYTES && sg.bytes() < bytes {
            let len = (bytes - sg.bytes()).min(MAX_CLASS_BYTES);
            let Some(extent) = self.allocate_extent(len) else { break };
            let pushed = sg.push(extent);
            debug_assert!(pushed, "MAX_EXTENTS classes of the largest size are MAX_TRANSFER_BYTES");
        }
        let whole = sg.bytes() == bytes;
        if !whole {
            self.release(sg);
            sg.clear();
            self.stats.refused += 1;
        }
        whole
    }

    fn allocate_extent(&mut self, len: u32) -> Option<Extent> {
        let order = order_of(len);
        let class = &mut self.stats.classes[order];
        let page = match self.buddy.pop(order) {
            Some(page) => {
                class.hits += 1;
                self.stats.hits += 1;
                page
            }
            None => self.take_larger(order)?,
        };
        let class = &mut self.stats.classes[order];
        class.total += 1;
        class.in_use += 1;
        self.stats.total += 1;
        self.stats.in_use += u64::from(class.bytes);
        self.purge.peak = self.purge.peak.max(self.stats.in_use);
        let whole = Extent {
            arena: page / self.arena_pages,
            len: class.bytes,
            offset: u64::from(page % self.arena_pages) * u64::from(PAGE_BYTES),
        };
        if self.config.zero_fill {
            self.bytes_mut(whole).fill(0);
        }
        Some(whole.slice(0, len))
    }

    /// Nothing ready: take a cold block, split a larger one, merge free ones, or map an arena, in this order.
    fn take_larger(&mut self, order: usize) -> Option<u32> {
        self.purge.watch();
        if let Some(page) = self.buddy.split(order) {
            return Some(page);
        }
        self.buddy.merge_all();
        if let Some(page) = self.buddy.split(order) {
            return Some(page);
        }
        self.grow()?;
        self.buddy.split(order)
    }

    fn grow(&mut self) -> Option<()> {
        let left = self.config.budget - self.stats.mapped;
        let len = u64::from(self.config.arena_bytes).min(left) as u32;
        if len == 0 {
            return None;
        }
        self.arenas.grow(len as usize, self.config.huge_pages).ok()?;
        self.buddy.add(len / PAGE_BYTES);
        self.stats.mapped += u64::from(len);
        Some(())
    }

    /// Gives a buffer back, whole as it was allocated; or what was lent of a file.
    ///
    /// # Panics
    /// When the buffer is not in use: released twice, or never allocated here.
    pub fn release(&mut self, sg: &SgList) {
        for &extent in sg.extents() {
            if Arenas::is_mapped_file(extent) {
                self.arenas.take_back(extent);
            } else {
                self.release_extent(extent);
            }
        }
    }

    fn release_extent(&mut self, extent: Extent) {
        assert_eq!(extent.offset % u64::from(PAGE_BYTES), 0, "released extent is not the start of a buffer");
        let page = extent.arena * self.arena_pages + (extent.offset / u64::from(PAGE_BYTES)) as u32;
        let order = self.buddy.used_order(page).expect("released buffer is in use");
        let class = &mut self.stats.classes[order];
        assert!(extent.len <= class.bytes, "released extent is longer than its buffer");
        class.in_use -= 1;
        self.stats.in_use -= u64::from(class.bytes);
        if self.config.poison {
            let whole = Extent { len: class.bytes, ..extent };
            self.bytes_mut(whole).fill(POISON);
        }
        self.buddy.release(page);
    }

    /// Address of an extent.
    ///
    /// # Panics
    /// When the extent is not within its arena. The pages of a file have no address here: to touch them could be the end
    /// of the process.
    pub fn as_ptr(&self, extent: Extent) -> NonNull<u8> {
        self.arenas.resolve_own(extent).expect("extent lies within its arena")
    }

    /// The bytes of an extent. Not for memory that an operation in flight may write.
    ///
    /// # Panics
    /// When the extent is not within its arena.
    pub fn bytes(&self, extent: Extent) -> &[u8] {
        // SAFETY: `as_ptr` checked the range; the memory is mapped for as long as `self`, initialised (anonymous
        // mappings are zero), and only written through `&mut self` or by operations whose extents the caller has lent
        // out and, by the contract of `Backend`, does not look at until they complete.
        unsafe { std::slice::from_raw_parts(self.as_ptr(extent).as_ptr(), extent.len as usize) }
    }

    /// The bytes of an extent, to write. Not for memory that an operation in flight uses.
    ///
    /// # Panics
    /// When the extent is not within its arena.
    pub fn bytes_mut(&mut self, extent: Extent) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes this the only slice of the pool.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr(extent).as_ptr(), extent.len as usize) }
    }

    /// Copies from one extent to another (they may overlap), as many bytes as the shorter one has. Returns how many.
    ///
    /// # Panics
    /// When an extent is not within its arena.
    pub fn copy(&mut self, from: Extent, to: Extent) -> u32 {
        let len = from.len.min(to.len);
        let (from, to) = (self.as_ptr(from), self.as_ptr(to));
        // SAFETY: `as_ptr` checked both ranges, which are mapped for as long as `self`; `&mut self` and the rule of
        // `bytes_mut` (no operation in flight) make this the only access; `ptr::copy` allows overlap.
        unsafe { std::ptr::copy(from.as_ptr(), to.as_ptr(), len as usize) };
        len
    }
}

/// The class that `len` bytes (1 to 1 MiB) need.
fn order_of(len: u32) -> usize {
    len.div_ceil(PAGE_BYTES).next_power_of_two().trailing_zeros() as usize
}

impl Memory for BufferPool {
    fn copy_in(&mut self, sg: &SgList, offset: u32, data: &[u8]) -> usize {
        let mut done = 0;
        for extent in sg.range(offset, u32::try_from(data.len()).unwrap_or(u32::MAX)) {
            let len = extent.len as usize;
            self.bytes_mut(extent).copy_from_slice(&data[done..done + len]);
            done += len;
        }
        done
    }

    fn copy_out(&self, sg: &SgList, offset: u32, out: &mut [u8]) -> usize {
        let mut done = 0;
        for extent in sg.range(offset, u32::try_from(out.len()).unwrap_or(u32::MAX)) {
            let len = extent.len as usize;
            out[done..done + len].copy_from_slice(self.bytes(extent));
            done += len;
        }
        done
    }

    fn fill(&mut self, sg: &SgList, offset: u32, len: u32, value: u8) {
        for extent in sg.range(offset, len) {
            self.bytes_mut(extent).fill(value);
        }
    }
}

impl BufferSource for BufferPool {
    fn allocate(&mut self, bytes: u32) -> Option<SgList> {
        let mut sg = SgList::default();
        self.allocate_into(bytes, &mut sg).then_some(sg)
    }

    /// Commands leave a part of the budget to what serves them: without read-ahead and send buffers nobody could log in,
    /// or abort them.
    #[inline]
    fn allocate_into(&mut self, bytes: u32, sg: &mut SgList) -> bool {
        let reserve = self.config.budget / RESERVED_FRACTION;
        if self.stats.in_use + u64::from(bytes) > self.config.budget - reserve {
            self.stats.refused += 1;
            return false;
        }
        self.fill_list(bytes, sg)
    }

    fn release(&mut self, sg: &SgList) {
        Self::release(self, sg);
    }
}

mod purge;
#[cfg(test)]
mod purge_tests;
#[cfg(test)]
mod tests;
