//! Command descriptor blocks.

/// The longest CDB that is kept: SPC-6 4.2.5 variable-length CDBs of SBC are 32 bytes.
pub const MAX_CDB_LENGTH: usize = 32;

/// Operation code of variable-length CDBs (SPC-6 4.2.3.2).
pub const VARIABLE_LENGTH_OPCODE: u8 = 0x7f;

/// A command descriptor block of 6 to 32 bytes; bytes past `len` are zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cdb {
    bytes: [u8; MAX_CDB_LENGTH],
    len: u8,
}

impl Cdb {
    /// Copies a CDB. A longer one than [`MAX_CDB_LENGTH`] is cut: no command that is implemented here has one, so the
    /// opcode table rejects it by its length.
    pub fn new(bytes: &[u8]) -> Self {
        let len = bytes.len().min(MAX_CDB_LENGTH);
        let mut cdb = Self { bytes: [0; MAX_CDB_LENGTH], len: len as u8 };
        cdb.bytes[..len].copy_from_slice(&bytes[..len]);
        cdb
    }

    /// The bytes of the CDB.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Byte 0, the operation code.
    #[inline]
    pub fn opcode(&self) -> u8 {
        self.bytes[0]
    }

    /// Length that the operation code demands (SPC-6 4.2.5.1: the group code), or None for vendor specific and
    /// reserved groups. Variable-length CDBs state theirs in byte 7.
    pub fn required_length(&self) -> Option<usize> {
        match (self.opcode(), self.opcode() >> 5) {
            (VARIABLE_LENGTH_OPCODE, _) => Some(8 + usize::from(self.u8(7))),
            (_, 0) => Some(6),
            (_, 1 | 2) => Some(10),
            (_, 4) => Some(16),
            (_, 5) => Some(12),
            _ => None,
        }
    }

    /// The CONTROL byte: the last one of a fixed-length CDB, byte 1 of a variable-length one.
    pub fn control(&self) -> u8 {
        match self.required_length() {
            _ if self.opcode() == VARIABLE_LENGTH_OPCODE => self.u8(1),
            Some(length) => self.u8(length - 1),
            None => 0,
        }
    }

    /// The byte at `at`; zero past the end, as all of the readers here.
    #[inline]
    pub fn u8(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    /// Two bytes, big endian.
    #[inline]
    pub fn u16(&self, at: usize) -> u16 {
        self.chunk(at).map_or_else(|| self.uint(at, 2) as u16, u16::from_be_bytes)
    }

    /// Three bytes, big endian.
    pub fn u24(&self, at: usize) -> u32 {
        self.uint(at, 3) as u32
    }

    /// Four bytes, big endian.
    #[inline]
    pub fn u32(&self, at: usize) -> u32 {
        self.chunk(at).map_or_else(|| self.uint(at, 4) as u32, u32::from_be_bytes)
    }

    /// Eight bytes, big endian.
    #[inline]
    pub fn u64(&self, at: usize) -> u64 {
        self.chunk(at).map_or_else(|| self.uint(at, 8), u64::from_be_bytes)
    }

    /// `N` bytes, if all of them are within the longest CDB.
    #[inline]
    fn chunk<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..)?.first_chunk().copied()
    }

    /// One bit of a byte (7 is the leftmost).
    #[inline]
    pub fn bit(&self, at: usize, bit: u8) -> bool {
        self.u8(at) >> bit & 1 == 1
    }

    /// Bits `high ..= low` of a byte.
    pub fn bits(&self, at: usize, high: u8, low: u8) -> u8 {
        (self.u8(at) >> low) & (0xff >> (7 - (high - low)))
    }

    /// `width` bytes (at most 8), big endian.
    pub fn uint(&self, at: usize, width: usize) -> u64 {
        (at..at + width).fold(0, |value, i| value << 8 | u64::from(self.u8(i)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_big_endian_and_zero_past_the_end() {
        let cdb = Cdb::new(&[0x28, 0xb8, 0x01, 0x02, 0x03, 0x04, 0, 0x12, 0x34, 0x05]);
        assert_eq!((cdb.u32(2), cdb.u16(7), cdb.u24(3)), (0x0102_0304, 0x1234, 0x0002_0304));
        assert_eq!((cdb.bits(1, 7, 5), cdb.bit(1, 4), cdb.bit(1, 2)), (5, true, false));
        assert_eq!((cdb.u64(8), cdb.u8(40)), (0x3405_0000_0000_0000, 0));
        assert_eq!((cdb.required_length(), cdb.control()), (Some(10), 5));
    }

    #[test]
    fn the_length_follows_the_group_code() {
        let length = |bytes: &[u8]| Cdb::new(bytes).required_length();
        assert_eq!(length(&[0x12]), Some(6));
        assert_eq!(length(&[0x5a]), Some(10));
        assert_eq!(length(&[0x9e]), Some(16));
        assert_eq!(length(&[0xa0]), Some(12));
        assert_eq!(length(&[0xc0]), None);
        assert_eq!(length(&[0x7f, 4, 0, 0, 0, 0, 0, 0x18]), Some(32));
        assert_eq!(Cdb::new(&[0x7f, 4, 0, 0, 0, 0, 0, 0x18]).control(), 4);
    }
}
