//! Files of a file system that lives in memory.
//!
//! Nothing is ever read in there, so a page of the file is there for good, and need not be asked about for every READ. What
//! may be missing are holes, for which a read through the mapping would take memory, and an end that was cut off. So
//! stretches are asked about as a whole, when some READs have wanted them, and the answer is believed for a while. A hole that
//! is made meanwhile costs a page of memory, an end that is cut off meanwhile is EFAULT in the send.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use scst_core::Nanos;

use super::BELIEVED;

/// What is asked about as a whole.
const STRETCH_BYTES: u64 = 2 << 20;
/// READs that are copied before it is asked. To ask costs up to ten times what a copy does.
const WANTED: u32 = 16;

/// Whether the file is on a file system that lives in memory: it does not know RWF_NOWAIT, and needs it not. The node of a
/// block device lies on one, too (devtmpfs); its data do not.
pub fn is_memory_file(file: &File) -> bool {
    const RAMFS_MAGIC: i64 = 0x8584_58f6;
    if !file.metadata().is_ok_and(|data| data.is_file()) {
        return false;
    }
    // SAFETY: all zeros is a valid statfs, and the kernel fills it during the call.
    let kind = unsafe {
        let mut fs: libc::statfs = std::mem::zeroed();
        if libc::fstatfs(file.as_raw_fd(), &mut fs) < 0 {
            return false;
        }
        fs.f_type
    };
    kind == libc::TMPFS_MAGIC || kind == RAMFS_MAGIC
}

/// What is known of the stretches of a file. Reactors share it, and may ask twice.
pub(super) struct Stretches {
    len: u64,
    list: Box<[Stretch]>,
}

#[derive(Default)]
struct Stretch {
    /// All of it is there, until then.
    until: AtomicU64,
    /// READs that wanted it since it was asked about.
    wanted: AtomicU32,
}

impl Stretches {
    pub(super) fn new(len: u64) -> Self {
        Self { len, list: (0..len.div_ceil(STRETCH_BYTES)).map(|_| Stretch::default()).collect() }
    }

    /// Whether all stretches of a range are there; `ask` says it of one, given by its first byte and the one behind it.
    pub(super) fn are_there(&self, now: Nanos, offset: u64, end: u64, ask: impl Fn(u64, u64) -> bool) -> bool {
        (offset / STRETCH_BYTES..=(end - 1) / STRETCH_BYTES).all(|index| {
            let first = index * STRETCH_BYTES;
            let behind = (first + STRETCH_BYTES).min(self.len);
            self.list[index as usize].is_there(now, || ask(first, behind))
        })
    }
}

impl Stretch {
    fn is_there(&self, now: Nanos, ask: impl FnOnce() -> bool) -> bool {
        if now.0 < self.until.load(Ordering::Relaxed) {
            return true;
        }
        if self.wanted.fetch_add(1, Ordering::Relaxed) < WANTED {
            return false;
        }
        self.wanted.store(0, Ordering::Relaxed);
        let there = ask();
        if there {
            self.until.store(now.after(BELIEVED).0, Ordering::Relaxed);
        }
        there
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    #[test]
    fn a_file_in_memory_is_told_from_a_node_that_lies_there() {
        assert!(is_memory_file(&tempfile::tempfile_in("/dev/shm").unwrap()));
        // A device, on devtmpfs as block devices are.
        assert!(!is_memory_file(&File::open("/dev/null").unwrap()));
    }

    #[test]
    fn a_stretch_is_asked_about_when_it_is_wanted_often_and_the_answer_is_believed_for_a_while() {
        let stretches = Stretches::new(5 << 20);
        let (there, asked) = (Cell::new(true), RefCell::new(Vec::new()));
        let wanted = |now, offset, end| {
            stretches.are_there(Nanos(now), offset, end, |first, behind| {
                asked.borrow_mut().push((first, behind));
                there.get()
            })
        };
        for _ in 0..WANTED {
            assert!(!wanted(0, 4 << 20, 5 << 20));
        }
        assert!(wanted(0, 4 << 20, 5 << 20));
        assert_eq!(asked.take(), [(4 << 20, 5 << 20)], "the last one is shorter");
        there.set(false);
        assert!(wanted(BELIEVED.0 - 1, (4 << 20) + 4096, (4 << 20) + 8192));
        assert!(!wanted(0, (4 << 20) - 1, 5 << 20), "of the one before nothing is known");
        for _ in 0..WANTED {
            assert!(!wanted(BELIEVED.0, 4 << 20, 5 << 20));
        }
        assert_eq!(asked.take(), []);
        assert!(!wanted(BELIEVED.0, 4 << 20, 5 << 20));
        assert_eq!(asked.take(), [(4 << 20, 5 << 20)]);
        assert!(!wanted(BELIEVED.0, 4 << 20, 5 << 20), "after a no it has to be wanted again");
        assert_eq!(asked.take(), []);
    }
}
