//! WRITEs into a file in memory through its mapping.
//!
//! What a system call would do under locks and look-ups is one copy here. A page that is not there is taken from the file system
//! by the touch; one that cannot be had (the file was cut, the file system is full) ends the copy, and the caller
//! writes the ordinary way, which has an error to tell.

use std::fs::File;
use std::hint;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use scst_core::Nanos;

use super::{BELIEVED, FilePages, guarded};

/// What is written as a whole. No block is larger, and none crosses its end.
const PIECE: u64 = 64 << 10;

/// What WRITEs through a mapping need to know.
#[derive(Default)]
pub(super) struct Writes {
    end: End,
    turns: Turns,
}

impl FilePages {
    /// Whether WRITEs can go through the mapping.
    pub fn takes_writes(&self) -> bool {
        self.writes.is_some()
    }

    /// Writes through the mapping. False when all or a part of it has to be written another way. Two WRITEs of one block
    /// leave one of them in it.
    pub fn write(&self, now: Nanos, mut offset: u64, mut data: &[u8]) -> bool {
        let Some(Writes { end, turns }) = &self.writes else { return false };
        let Some(behind) = self.touchable(offset, data.len() as u64) else { return false };
        if !end.is_at(now, behind, &self.file) {
            return false;
        }
        while !data.is_empty() {
            let (piece, rest) = data.split_at(data.len().min((PIECE - offset % PIECE) as usize));
            let turn = turns.take(offset / PIECE);
            // SAFETY: the range is within the mapping, to which nobody has references; whoever made `writes` has called
            // `guarded::prepare`.
            if !unsafe { guarded::copy(self.base.add(offset as usize).as_ptr(), piece) } {
                return false;
            }
            drop(turn);
            offset += piece.len() as u64;
            data = rest;
        }
        true
    }
}

/// Where the file ends, as far as is known. Behind it, but in the same page, bytes would be lost without an error.
#[derive(Default)]
struct End {
    at: AtomicU64,
    /// Known until then.
    until: AtomicU64,
}

impl End {
    /// Whether it is at `offset` or behind it.
    fn is_at(&self, now: Nanos, offset: u64, file: &File) -> bool {
        if now.0 >= self.until.load(Ordering::Relaxed) {
            self.at.store(file.metadata().map_or(0, |data| data.len()), Ordering::Relaxed);
            self.until.store(now.after(BELIEVED).0, Ordering::Relaxed);
        }
        offset <= self.at.load(Ordering::Relaxed)
    }
}

/// Whose turn it is to write into a piece of the file: one at a time, as a disk writes a block. The other waits for the copy, which
/// is shorter than any other way to wait for it; that it has to is rare.
struct Turns(Box<[AtomicBool; Turns::COUNT]>);

impl Default for Turns {
    fn default() -> Self {
        Self(Box::new([const { AtomicBool::new(false) }; Turns::COUNT]))
    }
}

impl Turns {
    /// Pieces share them.
    const COUNT: usize = 1024;
    /// Looks before the thread that has it is given the processor.
    const LOOKS: u32 = 1000;

    fn take(&self, piece: u64) -> Turn<'_> {
        let taken = &self.0[piece as usize % Self::COUNT];
        let mut looks = 0_u32;
        while taken.swap(true, Ordering::Acquire) {
            while taken.load(Ordering::Relaxed) {
                hint::spin_loop();
                looks += 1;
                if looks.is_multiple_of(Self::LOOKS) {
                    thread::yield_now();
                }
            }
        }
        Turn(taken)
    }
}

struct Turn<'a>(&'a AtomicBool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
