//! Which pages are free: power-of-two blocks on LIFO lists, kept outside of the memory they describe.
//!
//! Releasing does not merge at once: up to [`KEEP`] blocks of a class stay whole, so that the next command of the same
//! size finds a warm one. Above that a released block merges with its buddy. Unmerged pairs can therefore only be among
//! the `KEEP` oldest entries of a list, which bounds the work of [`Buddy::merge_all`].
//!
//! A free block is warm (its pages were used and may be resident) or cold (fresh from the system, or given back to it).
//! Warm ones are taken first. How many pages may be resident only changes when a cold block is taken, merges with a warm
//! one or becomes cold, so the usual way costs nothing for it. Cold blocks are never unmerged pairs: [`Buddy::chill`]
//! merges a block instead of cooling it when its buddy is free.

/// Bytes of a page, the smallest class.
pub const PAGE_BYTES: u32 = 4096;
/// Number of size classes: 4 KiB to 1 MiB.
pub const CLASSES: usize = 9;
/// Pages of the largest class.
pub(crate) const TOP_PAGES: u32 = 1 << (CLASSES - 1);
/// Blocks of a class that are kept unmerged.
const KEEP: u32 = 32;
const NIL: u32 = u32::MAX;
const FREE: u8 = 0x40;
const USED: u8 = 0x80;
/// Besides `FREE`: no page of the block is resident.
const COLD: u8 = 0x20;

#[derive(Clone, Copy)]
struct Page {
    next: u32,
    prev: u32,
    /// `FREE | order`, `FREE | COLD | order` or `USED | order` for the first page of a block, 0 for the others.
    state: u8,
}

#[derive(Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
    len: u32,
}

/// Free and used blocks over a growing range of page numbers.
pub(crate) struct Buddy {
    pages: Vec<Page>,
    /// Warm free blocks, the last used first.
    lists: [List; CLASSES],
    /// Cold free blocks.
    cold: [List; CLASSES],
    /// Pages of used and of warm blocks.
    resident: u32,
    /// Merges of two blocks, by their class.
    merged: [u64; CLASSES],
}

/// What [`Buddy::chill`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Chilled {
    /// This block counts as cold now: its pages are to be given back at once.
    Block {
        /// Its first page.
        page: u32,
        /// How many.
        pages: u32,
    },
    /// A block was merged with its buddy; nothing is to be given back yet.
    Merged,
}

impl Buddy {
    pub(crate) fn new() -> Self {
        let empty = [List { head: NIL, tail: NIL, len: 0 }; CLASSES];
        Self { pages: Vec::new(), lists: empty, cold: empty, resident: 0, merged: [0; CLASSES] }
    }

    /// Adds `count` pages (a multiple of [`TOP_PAGES`]) after the ones there are.
    pub(crate) fn add(&mut self, count: u32) {
        assert_eq!(count % TOP_PAGES, 0);
        let first = self.pages.len() as u32;
        self.pages.resize((first + count) as usize, Page { next: NIL, prev: NIL, state: 0 });
        // Backwards, so that the lowest block is taken first.
        for page in (first..first + count).step_by(TOP_PAGES as usize).rev() {
            self.push(page, CLASSES - 1, COLD);
        }
    }

    /// A warm block of exactly this class.
    pub(crate) fn pop(&mut self, order: usize) -> Option<u32> {
        let list = &mut self.lists[order];
        let page = list.head;
        if page == NIL {
            return None;
        }
        // As `unlink`, of the first one.
        let taken = &mut self.pages[page as usize];
        taken.state = USED | order as u8;
        let next = taken.next;
        list.head = next;
        list.len -= 1;
        if next == NIL {
            list.tail = NIL;
        } else {
            self.pages[next as usize].prev = NIL;
        }
        Some(page)
    }

    /// A block of this class, cold or split off a larger one.
    pub(crate) fn split(&mut self, order: usize) -> Option<u32> {
        let (from, page) = (order..CLASSES).find_map(|o| {
            let page = if self.lists[o].head == NIL { self.cold[o].head } else { self.lists[o].head };
            (page != NIL).then_some((o, page))
        })?;
        let temperature = self.pages[page as usize].state & COLD;
        self.unlink(page, from);
        for half in (order..from).rev() {
            self.push(page + (1 << half), half, temperature);
        }
        self.pages[page as usize].state = USED | order as u8;
        if temperature == COLD {
            self.resident += 1 << order;
        }
        Some(page)
    }

    /// The class of a used block; None when `page` does not start one.
    pub(crate) fn used_order(&self, page: u32) -> Option<usize> {
        let state = self.pages.get(page as usize)?.state;
        (state & USED != 0).then_some(usize::from(state & !USED))
    }

    /// Takes a block back.
    ///
    /// # Panics
    /// When `page` does not start a used block: it was released twice or never handed out.
    pub(crate) fn release(&mut self, page: u32) {
        let order = self.used_order(page).expect("released buffer is in use");
        if order < CLASSES - 1 && self.lists[order].len >= KEEP {
            self.merge(page, order);
        } else {
            self.push(page, order, 0);
        }
    }

    /// Merges all pairs of free buddies.
    pub(crate) fn merge_all(&mut self) {
        for order in 0..CLASSES - 1 {
            // From the tail: see the module's head for why `KEEP` steps are enough.
            let mut page = self.lists[order].tail;
            let mut steps = KEEP;
            while page != NIL && steps > 0 {
                steps -= 1;
                let mut prev = self.pages[page as usize].prev;
                let buddy = page ^ (1 << order);
                if self.is_free(buddy, order) {
                    if prev == buddy {
                        prev = self.pages[buddy as usize].prev;
                    }
                    self.unlink(page, order);
                    self.merge(page, order);
                }
                page = prev;
            }
        }
    }

    /// Makes the largest warm block cold that was not used for longest, or merges it first. None when nothing is warm.
    pub(crate) fn chill(&mut self) -> Option<Chilled> {
        let order = (0..CLASSES).rev().find(|&o| self.lists[o].len > 0)?;
        let page = self.lists[order].tail;
        if order < CLASSES - 1 && self.is_free(page ^ (1 << order), order) {
            self.unlink(page, order);
            self.merge(page, order);
            return Some(Chilled::Merged);
        }
        self.cool(page, order);
        Some(Chilled::Block { page, pages: 1 << order })
    }

    /// Makes a block of the largest class cold, if it is free and warm. For the neighbour of one that is.
    pub(crate) fn chill_top(&mut self, page: u32) -> bool {
        let order = CLASSES - 1;
        let warm = self.pages.get(page as usize).is_some_and(|p| p.state == FREE | order as u8);
        if warm {
            self.cool(page, order);
        }
        warm
    }

    fn cool(&mut self, page: u32, order: usize) {
        self.unlink(page, order);
        self.push(page, order, COLD);
        self.resident -= 1 << order;
    }

    /// Merges a warm block that is on no list with its buddies, as far as they are free.
    fn merge(&mut self, mut page: u32, mut order: usize) {
        while order < CLASSES - 1 {
            let buddy = page ^ (1 << order);
            if !self.is_free(buddy, order) {
                break;
            }
            if self.pages[buddy as usize].state & COLD != 0 {
                self.resident += 1 << order;
            }
            self.unlink(buddy, order);
            self.pages[page as usize].state = 0;
            self.pages[buddy as usize].state = 0;
            self.merged[order] += 1;
            page = page.min(buddy);
            order += 1;
        }
        self.push(page, order, 0);
    }

    fn is_free(&self, page: u32, order: usize) -> bool {
        self.pages[page as usize].state & !COLD == FREE | order as u8
    }

    fn list(&mut self, temperature: u8, order: usize) -> &mut List {
        if temperature & COLD == 0 { &mut self.lists[order] } else { &mut self.cold[order] }
    }

    fn push(&mut self, page: u32, order: usize, temperature: u8) {
        let list = self.list(temperature, order);
        let head = std::mem::replace(&mut list.head, page);
        list.len += 1;
        if head == NIL {
            list.tail = page;
        } else {
            self.pages[head as usize].prev = page;
        }
        self.pages[page as usize] = Page { next: head, prev: NIL, state: FREE | temperature | order as u8 };
    }

    fn unlink(&mut self, page: u32, order: usize) {
        let Page { next, prev, state } = self.pages[page as usize];
        let list = self.list(state, order);
        list.len -= 1;
        if prev == NIL {
            list.head = next;
        } else {
            self.pages[prev as usize].next = next;
        }
        let list = self.list(state, order);
        if next == NIL {
            list.tail = prev;
        } else {
            self.pages[next as usize].prev = prev;
        }
    }

    /// Free blocks per class, smallest first: all, and the warm ones.
    pub(crate) fn free_counts(&self) -> ([u32; CLASSES], [u32; CLASSES]) {
        (std::array::from_fn(|o| self.lists[o].len + self.cold[o].len), self.lists.map(|l| l.len))
    }

    /// Pages that may be resident, of used and of free blocks.
    pub(crate) fn resident(&self) -> u32 {
        self.resident
    }

    /// Merges so far, by the class of the blocks that merged.
    pub(crate) fn merged(&self) -> [u64; CLASSES] {
        self.merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_block_is_split_off_and_reused_last_in_first_out() {
        let mut buddy = Buddy::new();
        buddy.add(TOP_PAGES);
        assert_eq!(buddy.pop(0), None);
        assert_eq!(buddy.split(0), Some(0));
        assert_eq!(buddy.free_counts().0, [1, 1, 1, 1, 1, 1, 1, 1, 0]);
        assert_eq!(buddy.pop(0), None, "the other half is cold");
        assert_eq!(buddy.split(0), Some(1));
        buddy.release(0);
        buddy.release(1);
        assert_eq!(buddy.pop(0), Some(1));
        buddy.release(1);
        buddy.merge_all();
        assert_eq!(buddy.free_counts(), ([0, 0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 0, 1]));
        assert_eq!(buddy.merged(), [1, 1, 1, 1, 1, 1, 1, 1, 0]);
        assert_eq!(buddy.pop(8), Some(0));
    }

    #[test]
    fn more_than_a_few_free_blocks_merge_by_themselves() {
        let mut buddy = Buddy::new();
        buddy.add(TOP_PAGES);
        let mut taken = vec![buddy.split(0).unwrap()];
        while let Some(page) = buddy.pop(0).or_else(|| buddy.split(0)) {
            taken.push(page);
        }
        assert_eq!(taken.len(), 256);
        for page in taken {
            buddy.release(page);
        }
        assert!(buddy.free_counts().0[0] <= KEEP);
        buddy.merge_all();
        assert_eq!(buddy.free_counts().0, [0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn only_pages_that_were_used_count_as_resident() {
        let mut buddy = Buddy::new();
        buddy.add(2 * TOP_PAGES);
        assert_eq!(buddy.resident(), 0);
        let (a, b) = (buddy.split(0).unwrap(), buddy.split(8).unwrap());
        assert_eq!((a, b, buddy.resident()), (0, TOP_PAGES, 1 + TOP_PAGES));
        buddy.release(a);
        buddy.release(b);
        assert_eq!(buddy.resident(), 1 + TOP_PAGES, "a released block stays");
        assert_eq!(buddy.chill(), Some(Chilled::Block { page: b, pages: TOP_PAGES }));
        assert_eq!(buddy.resident(), 1);
        assert_eq!(buddy.chill(), Some(Chilled::Merged), "the other page of the pair is free, too");
        assert_eq!(buddy.free_counts().0, [0, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(buddy.chill(), Some(Chilled::Block { page: 0, pages: TOP_PAGES }));
        assert_eq!((buddy.resident(), buddy.chill()), (0, None));
        assert_eq!(buddy.free_counts(), ([0, 0, 0, 0, 0, 0, 0, 0, 2], [0; CLASSES]));
    }

    #[test]
    fn a_block_in_use_is_never_chilled() {
        let mut buddy = Buddy::new();
        buddy.add(TOP_PAGES);
        let taken: Vec<u32> = (0..TOP_PAGES).map(|_| buddy.split(0).unwrap()).collect();
        for page in taken.iter().filter(|p| **p % 2 == 0) {
            buddy.release(*page);
        }
        let mut chilled = Vec::new();
        while let Some(what) = buddy.chill() {
            let Chilled::Block { page, pages: 1 } = what else { panic!("{what:?}") };
            chilled.push(page);
        }
        chilled.sort_unstable();
        assert_eq!(chilled, (0..TOP_PAGES).step_by(2).collect::<Vec<_>>());
        assert_eq!(buddy.resident(), TOP_PAGES / 2);
    }

    #[test]
    #[should_panic(expected = "released buffer is in use")]
    fn a_double_release_is_caught() {
        let mut buddy = Buddy::new();
        buddy.add(TOP_PAGES);
        let page = buddy.split(3).unwrap();
        buddy.release(page);
        buddy.release(page);
    }
}
