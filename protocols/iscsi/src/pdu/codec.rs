//! Where a field sits in a basic header segment, and the macro that turns a list of fields into a PDU.

use scst_scsi::Lun;

use super::BasicHeaderSegment;

/// Reads and writes one field.
pub(super) trait Codec<T> {
    /// Reads it.
    fn get(&self, bhs: &BasicHeaderSegment) -> T;
    /// Writes it into bits that are still zero.
    fn put(&self, bhs: &mut BasicHeaderSegment, value: T);
}

/// A bit: byte and mask.
pub(super) struct Bit(pub(super) usize, pub(super) u8);
/// Some bits of a byte: byte, lowest bit, mask after shifting.
pub(super) struct Bits(pub(super) usize, pub(super) u32, pub(super) u8);
/// A whole field of big-endian bytes, from this byte on; its type says how long.
pub(super) struct At(pub(super) usize);
/// A 24-bit field.
pub(super) struct Be24(pub(super) usize);
/// TotalAHSLength, in bytes.
pub(super) struct AhsWords;

impl Codec<bool> for Bit {
    fn get(&self, bhs: &BasicHeaderSegment) -> bool {
        bhs.0[self.0] & self.1 != 0
    }

    fn put(&self, bhs: &mut BasicHeaderSegment, value: bool) {
        if value {
            bhs.0[self.0] |= self.1;
        }
    }
}

impl<T: From<u8> + Into<u8>> Codec<T> for Bits {
    fn get(&self, bhs: &BasicHeaderSegment) -> T {
        T::from((bhs.0[self.0] >> self.1) & self.2)
    }

    fn put(&self, bhs: &mut BasicHeaderSegment, value: T) {
        let value: u8 = value.into();
        bhs.0[self.0] |= (value & self.2) << self.1;
    }
}

impl Codec<u32> for Be24 {
    fn get(&self, bhs: &BasicHeaderSegment) -> u32 {
        u32::from_be_bytes([0, bhs.0[self.0], bhs.0[self.0 + 1], bhs.0[self.0 + 2]])
    }

    fn put(&self, bhs: &mut BasicHeaderSegment, value: u32) {
        bhs.0[self.0..self.0 + 3].copy_from_slice(&value.to_be_bytes()[1..]);
    }
}

impl Codec<u16> for AhsWords {
    fn get(&self, bhs: &BasicHeaderSegment) -> u16 {
        u16::from(bhs.0[4]) * 4
    }

    fn put(&self, bhs: &mut BasicHeaderSegment, value: u16) {
        bhs.0[4] = value.div_ceil(4).min(255) as u8;
    }
}

impl Codec<u16> for At {
    fn get(&self, bhs: &BasicHeaderSegment) -> u16 {
        u16::from_be_bytes([bhs.0[self.0], bhs.0[self.0 + 1]])
    }

    fn put(&self, bhs: &mut BasicHeaderSegment, value: u16) {
        bhs.0[self.0..self.0 + 2].copy_from_slice(&value.to_be_bytes());
    }
}

impl Codec<u32> for At {
    fn get(&self, bhs: &BasicHeaderSegment) -> u32 {
        u32::from_be_bytes(Codec::<[u8; 4]>::get(self, bhs))
    }

    fn put(&self, bhs: &mut BasicHeaderSegment, value: u32) {
        Codec::<[u8; 4]>::put(self, bhs, value.to_be_bytes());
    }
}

impl<const N: usize> Codec<[u8; N]> for At {
    fn get(&self, bhs: &BasicHeaderSegment) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&bhs.0[self.0..self.0 + N]);
        out
    }

    fn put(&self, bhs: &mut BasicHeaderSegment, value: [u8; N]) {
        bhs.0[self.0..self.0 + N].copy_from_slice(&value);
    }
}

impl Codec<Lun> for At {
    fn get(&self, bhs: &BasicHeaderSegment) -> Lun {
        Lun(Codec::<[u8; 8]>::get(self, bhs))
    }

    fn put(&self, bhs: &mut BasicHeaderSegment, value: Lun) {
        Codec::<[u8; 8]>::put(self, bhs, value.0);
    }
}

/// Declares a PDU: its opcode, the fixed bits of byte 1, and its fields.
macro_rules! pdu {
    (
        $(#[$meta:meta])*
        $name:ident = $opcode:expr, byte1 $byte1:expr;
        $( $(#[$field_meta:meta])* $field:ident: $ty:ty = $codec:expr; )*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
        }

        impl $name {
            /// The opcode.
            pub const OPCODE: u8 = $opcode;

            /// Reads the fields; the opcode has been looked at already.
            pub fn parse(bhs: &$crate::pdu::BasicHeaderSegment) -> Self {
                Self { $( $field: $crate::pdu::codec::Codec::<$ty>::get(&$codec, bhs), )* }
            }

            /// Writes the header.
            pub fn emit(&self) -> $crate::pdu::BasicHeaderSegment {
                let mut bhs = $crate::pdu::BasicHeaderSegment::default();
                bhs.0[0] = $opcode;
                bhs.0[1] = $byte1;
                $( $crate::pdu::codec::Codec::<$ty>::put(&$codec, &mut bhs, self.$field); )*
                bhs
            }
        }
    };
}

pub(super) use pdu;
