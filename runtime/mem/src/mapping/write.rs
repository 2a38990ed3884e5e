//! WRITEs into a file in memory through its mapping.
//!
//! What a system call would do under locks and look-ups is one copy here. A page that is not there is taken from the file system
//! by the touch; one that cannot be had (the file was cut, the file system is full) ends the copy, and the caller
//! writes the ordinary way, which has an error to tell.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};

use scst_core::Nanos;

use super::{BELIEVED, FilePages, guarded};

/// Where the file ends, as far as is known. Behind it, but in the same page, bytes would be lost without an error.
#[derive(Default)]
pub(super) struct End {
    at: AtomicU64,
    /// Known until then.
    until: AtomicU64,
}

impl End {
    fn is_behind(&self, now: Nanos, offset: u64, file: &File) -> bool {
        if now.0 >= self.until.load(Ordering::Relaxed) {
            self.at.store(file.metadata().map_or(0, |data| data.len()), Ordering::Relaxed);
            self.until.store(now.after(BELIEVED).0, Ordering::Relaxed);
        }
        offset <= self.at.load(Ordering::Relaxed)
    }
}

impl FilePages {
    /// Whether WRITEs can go through the mapping.
    pub fn takes_writes(&self) -> bool {
        self.writes.is_some()
    }

    /// Writes through the mapping. False when all or a part of it has to be written another way.
    pub fn write(&self, now: Nanos, offset: u64, data: &[u8]) -> bool {
        let Some(known) = &self.writes else { return false };
        let Some(end) = self.touchable(offset, data.len() as u64) else { return false };
        // SAFETY: the range is within the mapping, to which nobody has references; whoever made `writes` has called
        // `guarded::prepare`.
        known.is_behind(now, end, &self.file) && unsafe { guarded::copy(self.base.add(offset as usize).as_ptr(), data) }
    }
}
