//! Transfers past the page cache (O_DIRECT): what of a buffer the storage takes as it is, and what goes through a bounce
//! buffer.
//!
//! Only memory is ever bounced, never a part of a sector. A disk whose logical blocks are smaller than the sector of its
//! storage is refused when it is opened, so every command begins and ends at a sector, no two commands share one unless
//! they share a logical block, and there is no read-modify-write that another command, on this reactor or another, could
//! fall into. What the storage does itself for a physical block larger than its sector, it does atomically.

use scst_core::buffer::SgList;

/// What the storage asks of a transfer, in bytes; powers of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Alignment {
    /// Address of every piece of memory; at most a page, for the arenas of buffers are aligned to pages.
    pub(crate) memory: u32,
    /// Offset and length: a sector.
    pub(crate) sector: u32,
}

/// The next part of a transfer that is one operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    /// Its length; whole sectors, but for a read's last piece, when the initiator wants less than a whole block.
    pub(crate) len: u32,
    /// It goes through a bounce buffer.
    pub(crate) bounced: bool,
}

impl Alignment {
    /// Through the page cache: anything goes.
    pub(crate) const NONE: Self = Self { memory: 1, sector: 1 };

    /// Whether all of a transfer from or to the start of a buffer can be one operation.
    pub(crate) fn fits(self, sg: &SgList, len: u32) -> bool {
        self.piece(sg, 0, len, len) == Piece { len, bounced: false }
    }

    /// The piece at `from` of a transfer of which `len` bytes are left. `most`: bytes of the bounce buffer, whole sectors.
    pub(crate) fn piece(self, sg: &SgList, from: u32, len: u32, most: u32) -> Piece {
        let mut done = self.usable(sg, from, len);
        if done > 0 {
            while done < len {
                match self.usable(sg, from + done, len - done) {
                    0 => break,
                    more => done += more,
                }
            }
            return Piece { len: done, bounced: false };
        }
        while done < len && done < most && self.usable(sg, from + done, len - done) == 0 {
            done += self.sector.min(len - done);
        }
        Piece { len: done, bounced: true }
    }

    /// Bytes at `from`, whole sectors, in one aligned run of memory.
    fn usable(self, sg: &SgList, from: u32, len: u32) -> u32 {
        let mut parts = sg.range(from, len);
        let Some(first) = parts.next() else { return 0 };
        if !first.offset.is_multiple_of(u64::from(self.memory)) {
            return 0;
        }
        let mut run = first.len;
        for part in parts {
            if (part.arena, part.offset) != (first.arena, first.offset + u64::from(run)) {
                break;
            }
            run += part.len;
        }
        self.whole(u64::from(run)) as u32
    }

    /// What of `bytes` that were moved counts: a transfer that ends within a sector is taken up again at its start.
    pub(crate) fn whole(self, bytes: u64) -> u64 {
        bytes & !(u64::from(self.sector) - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scst_core::buffer::Extent;

    const LOOSE: Alignment = Alignment { memory: 4, sector: 512 };
    const STRICT: Alignment = Alignment { memory: 512, sector: 4096 };

    fn list(parts: &[(u64, u32)]) -> SgList {
        let mut sg = SgList::default();
        for &(offset, len) in parts {
            assert!(sg.push(Extent { arena: 0, len, offset }));
        }
        sg
    }

    /// Lengths of the pieces, bounced ones negative.
    fn pieces(alignment: Alignment, sg: &SgList, most: u32) -> Vec<i64> {
        let (mut at, mut out) = (0, Vec::new());
        while at < sg.bytes() {
            let Piece { len, bounced } = alignment.piece(sg, at, sg.bytes() - at, most);
            out.push(if bounced { -i64::from(len) } else { i64::from(len) });
            at += len;
        }
        out
    }

    #[test]
    fn buffers_of_the_pool_go_as_they_are() {
        let sg = list(&[(0, 1 << 20), (4 << 20, 1 << 20), (8 << 20, 12_288)]);
        assert!(STRICT.fits(&sg, sg.bytes()) && STRICT.fits(&sg, 8192));
        assert_eq!(pieces(STRICT, &sg, 4096), [(2 << 20) + 12_288]);
        assert!(!STRICT.fits(&sg, sg.bytes() - 512));
        assert!(Alignment::NONE.fits(&list(&[(1, 3), (9, 5)]), 8));
    }

    #[test]
    fn only_the_misaligned_head_and_tail_are_bounced() {
        // Data that came behind a header of 48 bytes, then whole pages; an initiator that wants 100 bytes less.
        let sg = list(&[(48, 8192), (1 << 20, 65_536), (2 << 20, 4096 - 100)]);
        assert_eq!(pieces(STRICT, &sg, 1 << 20), [-8192, 65_536, -3996]);
        assert_eq!(pieces(STRICT, &sg, 4096), [-4096, -4096, 65_536, -3996]);
        assert_eq!(pieces(LOOSE, &sg, 1 << 20), [8192 + 65_536 + 3584, -412]);
        assert!(!STRICT.fits(&sg, 8192) && LOOSE.fits(&sg, 8192));
    }

    #[test]
    fn a_sector_in_two_pieces_of_memory_is_bounced_alone() {
        let sg = list(&[(0, 4096 + 100), (8192, 4096 - 100), (16_384, 4096)]);
        assert_eq!(pieces(STRICT, &sg, 1 << 20), [4096, -4096, 4096]);
        // Neighbours in memory are one piece.
        let sg = list(&[(0, 4196), (4196, 3996)]);
        assert_eq!(pieces(STRICT, &sg, 1 << 20), [8192]);
    }

    #[test]
    fn half_a_sector_does_not_count() {
        assert_eq!((STRICT.whole(4095), STRICT.whole(8193), Alignment::NONE.whole(77)), (0, 8192, 77));
    }
}
