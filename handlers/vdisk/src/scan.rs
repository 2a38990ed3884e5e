//! Comparing and combining bytes of two buffers, piece by piece through the stack.

use scst_core::buffer::{BufferSource, SgList};

/// Bytes looked at in one go.
const PIECE: usize = 4096;

/// Bytes of `scratch` against bytes of `data`, which starts at `data_at` and repeats every `period` bytes. Returns the
/// offset in `data` of the first byte that differs.
pub(crate) fn first_difference(
    mem: &dyn BufferSource,
    scratch: &SgList,
    len: u32,
    data: &SgList,
    data_at: u64,
    period: u64,
) -> Option<u64> {
    let (mut a, mut b) = ([0; PIECE], [0; PIECE]);
    let mut at = 0;
    while at < len {
        let from = (data_at + u64::from(at)) % period;
        let piece = u64::from(len - at).min(PIECE as u64).min(period - from) as usize;
        mem.copy_out(scratch, at, &mut a[..piece]);
        mem.copy_out(data, from as u32, &mut b[..piece]);
        if let Some(differs) = a[..piece].iter().zip(&b[..piece]).position(|(a, b)| a != b) {
            return Some(from + differs as u64);
        }
        at += piece as u32;
    }
    None
}

/// Ors `len` bytes of `scratch` into `data` from `data_at` on.
pub(crate) fn or_into(mem: &mut dyn BufferSource, scratch: &SgList, len: u32, data: &SgList, data_at: u32) {
    each_piece(len, |at, piece| {
        let (mut a, mut b) = ([0; PIECE], [0; PIECE]);
        mem.copy_out(scratch, at, &mut a[..piece]);
        mem.copy_out(data, data_at + at, &mut b[..piece]);
        for (b, a) in b[..piece].iter_mut().zip(&a[..piece]) {
            *b |= a;
        }
        mem.copy_in(data, data_at + at, &b[..piece]);
    });
}

/// Copies `len` bytes of `from` to `to` at `to_at`; what does not fit is dropped.
pub(crate) fn copy(mem: &mut dyn BufferSource, from: &SgList, len: u32, to: &SgList, to_at: u32) {
    copy_from(mem, from, 0, len, to, to_at);
}

/// The same with the bytes from `from_at` on.
pub(crate) fn copy_from(mem: &mut dyn BufferSource, from: &SgList, from_at: u32, len: u32, to: &SgList, to_at: u32) {
    each_piece(len, |at, piece| {
        let mut bytes = [0; PIECE];
        mem.copy_out(from, from_at + at, &mut bytes[..piece]);
        mem.copy_in(to, to_at + at, &bytes[..piece]);
    });
}

/// Fills all of `scratch` with the first `block` bytes of `data`, over and over.
pub(crate) fn repeat(mem: &mut dyn BufferSource, data: &SgList, block: u32, scratch: &SgList) {
    copy(mem, data, block, scratch, 0);
    // The filled part doubles until the buffer is full.
    let mut filled = block;
    while filled < scratch.bytes() {
        let part = filled.min(scratch.bytes() - filled);
        copy(mem, scratch, part, scratch, filled);
        filled += part;
    }
}

fn each_piece(len: u32, mut f: impl FnMut(u32, usize)) {
    let mut at = 0;
    while at < len {
        let piece = (len - at).min(PIECE as u32);
        f(at, piece as usize);
        at += piece;
    }
}
