//! Header and data digests: CRC32C (RFC 7143 13.1).

use crc_fast::{CrcAlgorithm, Digest, crc32_iscsi};

use crate::pdu::DIGEST_LENGTH;

/// CRC32C of bytes, continued from that of the bytes before them (0: there are none).
// A function of its own, because `cargo xtask cost` leaves it out: what it costs is the processor's matter.
#[inline(never)]
pub fn crc32c(before: u32, bytes: &[u8]) -> u32 {
    if before == 0 {
        return crc32_iscsi(bytes);
    }
    // Padding, nearly always.
    if bytes.is_empty() {
        return before;
    }
    // What is between two pieces is the register before its last step, which inverts it.
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!before));
    digest.update(bytes);
    digest.finalize() as u32
}

/// A CRC32C as it goes over the wire (RFC 7143 13.1: the examples of RFC 3720 B.4 fix the order).
pub const fn digest_bytes(crc: u32) -> [u8; DIGEST_LENGTH] {
    crc.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_the_one_of_the_examples() {
        // RFC 7143 A.4.
        assert_eq!(digest_bytes(crc32c(0, &[0; 32])), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(digest_bytes(crc32c(0, &[0xff; 32])), [0x43, 0xab, 0xa8, 0x62]);
    }

    /// Bit by bit, as the standard defines it.
    fn slowly(bytes: &[u8]) -> u32 {
        let step = |crc: u32, _| crc >> 1 ^ if crc & 1 != 0 { 0x82f6_3b78 } else { 0 };
        !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
    }

    proptest! {
        #[test]
        fn pieces_of_any_length_come_to_the_same(
            bytes in prop::collection::vec(any::<u8>(), 0..10_000),
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = slowly(&bytes);
            prop_assert_eq!(crc32c(0, &bytes), whole);
            let (first, second) = bytes.split_at(cut.index(bytes.len() + 1));
            prop_assert_eq!(crc32c(crc32c(0, first), second), whole);
        }
    }
}
