//! Giving memory back: when, how much, and in which steps.
//!
//! The measure of what is needed is the most that was in use at once during a purge interval; it is kept anyway, so a
//! command costs nothing more. Every look compares: free memory above the high watermark goes soon; at the end of an
//! interval what the interval did not need goes, down to the low watermark. A step is at most 2 MiB or 16 system calls,
//! once a millisecond, and waits a little when commands keep the reactor busy.

use scst_core::Nanos;
use scst_core::buffer::Extent;

use super::{BufferPool, MAX_CLASS_BYTES};
use crate::buddy::{Chilled, PAGE_BYTES, TOP_PAGES};

/// Looks per purge interval.
const LOOKS: u64 = 8;
/// Pages that one step gives back: one huge page.
const STEP_PAGES: u32 = 2 * TOP_PAGES;
/// Blocks that one step looks at.
const STEP_BLOCKS: u32 = 16;
/// Time between two steps.
const STEP_PAUSE: Nanos = Nanos::from_millis(1);
/// How long a step waits for a turn without commands.
const STEP_PATIENCE: Nanos = Nanos::from_millis(20);
/// Nothing to look at.
const NEVER: Nanos = Nanos(u64::MAX);
/// A look is due, but the time of it is not known yet.
const AT_ONCE: Nanos = Nanos(0);

/// Where purging stands.
#[derive(Debug)]
pub(super) struct Purge {
    /// Most bytes in use since the interval began.
    pub(super) peak: u64,
    /// When to look next.
    look_at: Nanos,
    /// When the interval ends; None while nothing is watched.
    interval_ends: Option<Nanos>,
    /// Steps go on until no more free bytes than this have memory behind them.
    target: Option<u64>,
    stepped: Nanos,
}

impl Default for Purge {
    fn default() -> Self {
        Self { peak: 0, look_at: NEVER, interval_ends: None, target: None, stepped: Nanos(0) }
    }
}

impl Purge {
    /// More memory may be resident than before.
    pub(super) fn watch(&mut self) {
        if self.look_at == NEVER {
            self.look_at = AT_ONCE;
        }
    }
}

impl BufferPool {
    /// Bytes with memory behind them, in use or free.
    pub(super) fn resident(&self) -> u64 {
        u64::from(self.buddy.resident()) * u64::from(PAGE_BYTES)
    }

    /// Free bytes with memory behind them.
    fn cached(&self) -> u64 {
        self.resident() - self.stats.in_use
    }

    /// Gives everything back that is free. The work is done by [`BufferPool::maintain`].
    pub fn purge(&mut self) {
        self.purge.target = Some(0);
        self.purge.look_at = AT_ONCE;
    }

    /// When [`BufferPool::maintain`] has something to do.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        (self.purge.look_at != NEVER).then_some(self.purge.look_at)
    }

    /// To be called in every turn of the reactor; `idle` says that the turn brought no work. Costs one comparison when
    /// nothing is due, and never more than tens of microseconds.
    #[inline]
    pub fn maintain(&mut self, now: Nanos, idle: bool) {
        if now >= self.purge.look_at {
            self.look(now, idle);
        }
    }

    #[cold]
    fn look(&mut self, now: Nanos, idle: bool) {
        if self.purge.target.is_none() {
            self.decide(now);
        }
        let Some(target) = self.purge.target else { return };
        if !idle && now < self.purge.stepped.after(STEP_PATIENCE) {
            self.purge.look_at = now.after(STEP_PAUSE);
            return;
        }
        self.purge.stepped = now;
        if self.arenas.is_pinned() || !self.step(target) {
            self.purge.target = None;
            self.purge.interval_ends = None;
            self.watch_on(now);
        } else {
            self.purge.look_at = now.after(STEP_PAUSE);
        }
    }

    /// Whether to purge, and down to what.
    fn decide(&mut self, now: Nanos) {
        let cache = self.config.cache;
        let free = self.cached();
        if cache.purge_interval == Nanos(0) || self.arenas.is_pinned() {
            self.purge.look_at = NEVER;
        } else if free > cache.high_watermark {
            self.stats.over_high_watermark += 1;
            self.purge.target = Some(cache.high_watermark);
        } else if self.purge.interval_ends.is_some_and(|at| at <= now) {
            let needed = self.purge.peak - self.stats.in_use + cache.low_watermark;
            self.purge.target = (free > needed).then_some(needed);
            self.purge.interval_ends = None;
            self.watch_on(now);
        } else {
            self.watch_on(now);
        }
    }

    /// Sets the time of the next look. A pool that holds less than the low watermark needs none.
    fn watch_on(&mut self, now: Nanos) {
        let cache = self.config.cache;
        if self.purge.interval_ends.is_none() {
            self.stats.peak = self.stats.peak.max(self.purge.peak);
            self.purge.peak = self.stats.in_use;
        }
        if cache.purge_interval == Nanos(0) || self.resident() <= cache.low_watermark {
            self.purge.interval_ends = None;
            self.purge.look_at = NEVER;
            return;
        }
        let ends = *self.purge.interval_ends.get_or_insert_with(|| now.after(cache.purge_interval));
        self.purge.look_at = now.after(Nanos(cache.purge_interval.0 / LOOKS)).min(ends);
    }

    /// Gives a bounded amount back. False when the target is reached or nothing is left.
    fn step(&mut self, target: u64) -> bool {
        let mut pages = 0;
        for _ in 0..STEP_BLOCKS {
            if self.cached() <= target || pages >= STEP_PAGES {
                break;
            }
            match self.buddy.chill() {
                None => return false,
                Some(Chilled::Merged) => {}
                Some(Chilled::Block { page, pages: count }) => pages += self.give_back(page, count, target),
            }
        }
        self.cached() > target
    }

    /// Gives a cold block back, together with the other half of its huge page when that is free and to go as well.
    fn give_back(&mut self, mut page: u32, mut pages: u32, target: u64) -> u32 {
        if pages == TOP_PAGES && self.cached() >= target + u64::from(MAX_CLASS_BYTES) {
            let at = page % self.arena_pages;
            let other = if at.is_multiple_of(STEP_PAGES) { page + pages } else { page - pages };
            if other / self.arena_pages == page / self.arena_pages && self.buddy.chill_top(other) {
                (page, pages) = (page.min(other), STEP_PAGES);
            }
        }
        let extent = Extent {
            arena: page / self.arena_pages,
            len: pages * PAGE_BYTES,
            offset: u64::from(page % self.arena_pages) * u64::from(PAGE_BYTES),
        };
        // SAFETY: the pages are free: who had them has given them back, which invariant 2 of the buffers allows only when
        // the kernel and the peer are done with them; `&mut self` keeps every reference away.
        match unsafe { self.arenas.give_back(extent) } {
            Ok(()) => self.stats.purged += u64::from(extent.len),
            Err(_) => self.stats.purge_failures += 1,
        }
        pages
    }
}
