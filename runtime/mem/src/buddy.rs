//! Which pages are free: power-of-two blocks on LIFO lists, kept outside of the memory they describe.
//!
//! Releasing does not merge at once: up to [`KEEP`] blocks of a class stay whole, so that the next command of the same
//! size finds a warm one. Above that a released block merges with its buddy. Unmerged pairs can therefore only be among
//! the `KEEP` oldest entries of a list, which bounds the work of [`Buddy::merge_all`].

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

#[derive(Clone, Copy)]
struct Page {
    next: u32,
    prev: u32,
    /// `FREE | order` or `USED | order` for the first page of a block, 0 for the others.
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
    lists: [List; CLASSES],
}

impl Buddy {
    pub(crate) fn new() -> Self {
        Self { pages: Vec::new(), lists: [List { head: NIL, tail: NIL, len: 0 }; CLASSES] }
    }

    /// Adds `count` pages (a multiple of [`TOP_PAGES`]) after the ones there are.
    pub(crate) fn add(&mut self, count: u32) {
        assert_eq!(count % TOP_PAGES, 0);
        let first = self.pages.len() as u32;
        self.pages.resize((first + count) as usize, Page { next: NIL, prev: NIL, state: 0 });
        // Backwards, so that the lowest block is taken first.
        for page in (first..first + count).step_by(TOP_PAGES as usize).rev() {
            self.push(page, CLASSES - 1);
        }
    }

    /// A block of exactly this class that is free already.
    pub(crate) fn pop(&mut self, order: usize) -> Option<u32> {
        let page = self.lists[order].head;
        if page == NIL {
            return None;
        }
        self.unlink(page, order);
        self.pages[page as usize].state = USED | order as u8;
        Some(page)
    }

    /// A block of this class split off a larger one.
    pub(crate) fn split(&mut self, order: usize) -> Option<u32> {
        let from = (order + 1..CLASSES).find(|&o| self.lists[o].len > 0)?;
        let page = self.pop(from)?;
        for half in (order..from).rev() {
            self.push(page + (1 << half), half);
        }
        self.pages[page as usize].state = USED | order as u8;
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
            self.push(page, order);
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

    fn merge(&mut self, mut page: u32, mut order: usize) {
        while order < CLASSES - 1 {
            let buddy = page ^ (1 << order);
            if !self.is_free(buddy, order) {
                break;
            }
            self.unlink(buddy, order);
            self.pages[page as usize].state = 0;
            self.pages[buddy as usize].state = 0;
            page = page.min(buddy);
            order += 1;
        }
        self.push(page, order);
    }

    fn is_free(&self, page: u32, order: usize) -> bool {
        self.pages[page as usize].state == FREE | order as u8
    }

    fn push(&mut self, page: u32, order: usize) {
        let list = &mut self.lists[order];
        let head = std::mem::replace(&mut list.head, page);
        list.len += 1;
        if head == NIL {
            list.tail = page;
        } else {
            self.pages[head as usize].prev = page;
        }
        self.pages[page as usize] = Page { next: head, prev: NIL, state: FREE | order as u8 };
    }

    fn unlink(&mut self, page: u32, order: usize) {
        let Page { next, prev, .. } = self.pages[page as usize];
        let list = &mut self.lists[order];
        list.len -= 1;
        if prev == NIL {
            list.head = next;
        } else {
            self.pages[prev as usize].next = next;
        }
        if next == NIL {
            list.tail = prev;
        } else {
            self.pages[next as usize].prev = prev;
        }
    }

    /// Free blocks per class, smallest first.
    pub(crate) fn free_counts(&self) -> [u32; CLASSES] {
        self.lists.map(|l| l.len)
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
        assert_eq!(buddy.free_counts(), [1, 1, 1, 1, 1, 1, 1, 1, 0]);
        assert_eq!(buddy.pop(0), Some(1));
        buddy.release(0);
        buddy.release(1);
        assert_eq!(buddy.pop(0), Some(1));
        buddy.release(1);
        buddy.merge_all();
        assert_eq!(buddy.free_counts(), [0, 0, 0, 0, 0, 0, 0, 0, 1]);
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
        assert!(buddy.free_counts()[0] <= KEEP);
        buddy.merge_all();
        assert_eq!(buddy.free_counts(), [0, 0, 0, 0, 0, 0, 0, 0, 1]);
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
