//! WRITEs into a file in memory through its mapping.
//!
//! What a system call would do under locks and look-ups is one copy here. A page that is not there is taken from the file system
//! by the touch; one that cannot be had (the file was cut, the file system is full) ends the copy, and the caller
//! writes the ordinary way, which has an error to tell.

use std::fs::File;
use std::hint;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread;

use scst_core::Nanos;

use super::{BELIEVED, FilePages, guarded};

/// What is written as a whole. No block is larger, and none crosses its end.
const PIECE_BYTES: u64 = 64 << 10;

/// What WRITEs through a mapping need to know.
pub(super) struct Writes {
    end: End,
    turns: Turns,
    worn: Worn,
}

impl Writes {
    pub(super) fn new(len: u64) -> Self {
        Self { end: End::default(), turns: Turns::default(), worn: Worn::new(len) }
    }
}

impl FilePages {
    /// Writes through the mapping. False when all or a part of it has to be written another way. Two WRITEs of one block
    /// leave one of them in it.
    pub fn write(&self, now: Nanos, mut offset: u64, mut data: &[u8]) -> bool {
        let Some(Writes { end, turns, worn }) = &self.writes else { return false };
        let Some(behind) = self.touchable(offset, data.len() as u64) else { return false };
        if !end.reaches(now, behind, &self.file) || !worn.is_in(offset, behind) {
            return false;
        }
        while !data.is_empty() {
            let (piece, rest) = data.split_at(data.len().min((PIECE_BYTES - offset % PIECE_BYTES) as usize));
            let turn = turns.take(offset / PIECE_BYTES);
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

/// Where the file ends, as far as is known. Pages reach behind it, and what is written there is not in the file.
#[derive(Default)]
struct End {
    at: AtomicU64,
    /// Known until then.
    until: AtomicU64,
}

impl End {
    /// Whether the file reaches up to `offset`.
    fn reaches(&self, now: Nanos, offset: u64, file: &File) -> bool {
        if now.0 >= self.until.load(Ordering::Acquire) {
            self.at.store(file.metadata().map_or(0, |data| data.len()), Ordering::Relaxed);
            self.until.store(now.after(BELIEVED).0, Ordering::Release);
            // The touch of a page that is there already does not change when the file was modified; backups go by that.
            // SAFETY: no times are passed, which is now. It may fail.
            unsafe { libc::futimens(file.as_raw_fd(), std::ptr::null()) };
        }
        offset <= self.at.load(Ordering::Relaxed)
    }
}

/// How often each piece of the file has been written the ordinary way. The first touch of a page through the mapping is a fault,
/// which costs more than it saves until the page has been written a few times again: it would make a disk that is filled once slower.
struct Worn(Box<[AtomicU8]>);

impl Worn {
    /// A piece is worn in after so many times its own length.
    const TIMES: u64 = 2;
    /// What is counted: with this a piece of 64 KiB is worn in at 32.
    const UNIT_BYTES: u64 = 4096;
    const ENOUGH: u8 = (Self::TIMES * PIECE_BYTES / Self::UNIT_BYTES) as u8;

    fn new(len: u64) -> Self {
        Self((0..len.div_ceil(PIECE_BYTES)).map(|_| AtomicU8::new(0)).collect())
    }

    /// Whether all pieces of a range are worn in; else it is taken to be written the ordinary way.
    fn is_in(&self, offset: u64, end: u64) -> bool {
        let mut all = true;
        for piece in offset / PIECE_BYTES..=(end - 1) / PIECE_BYTES {
            let times = &self.0[piece as usize];
            let before = times.load(Ordering::Relaxed);
            if before < Self::ENOUGH {
                let written = end.min((piece + 1) * PIECE_BYTES) - offset.max(piece * PIECE_BYTES);
                let units = written.div_ceil(Self::UNIT_BYTES) as u8;
                // Two reactors may count one of two; it is an estimate.
                times.store(before.saturating_add(units).min(Self::ENOUGH), Ordering::Relaxed);
                all = false;
            }
        }
        all
    }
}

/// Whose turn it is to write into a piece of the file: one at a time, as a disk writes a block. The other waits for the copy, faults
/// of its pages included, without sleeping; that it has to is rare.
struct Turns(Box<[AtomicBool; Turns::COUNT]>);

impl Default for Turns {
    fn default() -> Self {
        Self(Box::new([const { AtomicBool::new(false) }; Turns::COUNT]))
    }
}

impl Turns {
    /// Pieces share them.
    const COUNT: usize = 1 << Turns::BITS;
    const BITS: u32 = 10;
    /// Looks before the processor is offered to the thread that has it.
    const LOOKS: u32 = 1000;

    fn take(&self, piece: u64) -> Turn<'_> {
        // Neighbours far apart (Fibonacci hashing): those that lie in one cache line are one to the processor.
        let index = piece.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - Self::BITS);
        let taken = &self.0[index as usize];
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
