//! WRITE SAME (SBC-4 5.48): how to carry it out.

use crate::command::WriteSame;
use crate::params::Provisioning;

/// What brings a range of blocks to the state that WRITE SAME asks for, cheapest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteSameMethod {
    /// Deallocate: the blocks read as zeros then.
    Deallocate,
    /// Deallocate and anchor: as zeros, with space set aside.
    Anchor,
    /// Write zeros, without data.
    Zero,
    /// Write the block of data-out over and over.
    Pattern,
}

/// Chooses the method. `block` is the data-out; it counts as zeros when there is none (NDOB).
///
/// UNMAP allows to deallocate only what then reads as the data do (SBC-4 5.48.1); other data are written.
pub fn method(command: &WriteSame, provisioning: Option<&Provisioning>, block: &[u8]) -> WriteSameMethod {
    if !command.no_data && !is_zero(block) {
        return WriteSameMethod::Pattern;
    }
    let may_unmap = command.unmap && provisioning.is_some_and(|p| p.reads_zeros);
    match (may_unmap, command.anchor) {
        (true, true) => WriteSameMethod::Anchor,
        (true, false) => WriteSameMethod::Deallocate,
        (false, _) => WriteSameMethod::Zero,
    }
}

/// Whether there are only zeros.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::BlockRange;

    const THIN: Provisioning =
        Provisioning { granularity: 8, alignment: 0, max_unmap_blocks: 1, reads_zeros: true, anchor: true };

    fn command(unmap: bool, anchor: bool, no_data: bool) -> WriteSame {
        WriteSame { range: BlockRange { lba: 0, blocks: 8 }, unmap, anchor, no_data }
    }

    #[test]
    fn zeros_are_deallocated_only_when_allowed() {
        let zeros = [0; 512];
        assert_eq!(method(&command(false, false, false), Some(&THIN), &zeros), WriteSameMethod::Zero);
        assert_eq!(method(&command(true, false, false), Some(&THIN), &zeros), WriteSameMethod::Deallocate);
        assert_eq!(method(&command(true, true, false), Some(&THIN), &zeros), WriteSameMethod::Anchor);
        let garbage = Provisioning { reads_zeros: false, ..THIN };
        assert_eq!(method(&command(true, false, false), Some(&garbage), &zeros), WriteSameMethod::Zero);
    }

    #[test]
    fn data_are_always_written() {
        for at in [0, 15, 16, 511] {
            let mut block = [0; 512];
            block[at] = 1;
            assert_eq!(method(&command(true, true, false), Some(&THIN), &block), WriteSameMethod::Pattern);
        }
    }

    #[test]
    fn no_data_out_means_zeros() {
        assert_eq!(method(&command(true, false, true), Some(&THIN), &[]), WriteSameMethod::Deallocate);
        assert_eq!(method(&command(false, false, true), None, &[0xff; 512]), WriteSameMethod::Zero);
    }

    #[test]
    fn odd_lengths_count_to_the_last_byte() {
        assert!(is_zero(&[]) && is_zero(&[0; 17]));
        assert!(!is_zero(&[0, 0, 1]));
        let mut long = [0; 33];
        long[32] = 1;
        assert!(!is_zero(&long));
    }
}
