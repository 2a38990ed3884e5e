//! Command descriptor blocks.

/// The longest CDB there is: a variable-length one whose ADDITIONAL CDB LENGTH is at its most (SPC-6 4.2.3.1).
pub const MAX_CDB_LENGTH: usize = 260;

/// Bytes of a CDB that need no memory of their own: all but those of long variable-length ones.
const INLINE: usize = 32;

/// Operation code of variable-length CDBs (SPC-6 4.2.3.2).
pub const VARIABLE_LENGTH_OPCODE: u8 = 0x7f;

/// A command descriptor block.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Cdb {
    /// The first bytes; those past `len` are zero.
    bytes: [u8; INLINE],
    len: u8,
    /// All bytes of one that does not fit above.
    long: Option<Box<[u8]>>,
}

impl Clone for Cdb {
    #[inline(always)]
    fn clone(&self) -> Self {
        let &Self { bytes, len, ref long } = self;
        Self { bytes, len, long: if long.is_none() { None } else { long.clone() } }
    }
}

impl Cdb {
    /// Makes a CDB another one's copy, without a look at memory that neither has.
    #[inline(always)]
    pub fn assign(&mut self, other: &Self) {
        (self.bytes, self.len) = (other.bytes, other.len);
        if self.long.is_some() || other.long.is_some() {
            self.long.clone_from(&other.long);
        }
    }

    /// Makes it a CDB of 16 bytes, as the headers of transports carry them.
    #[inline(always)]
    pub fn set(&mut self, bytes: &[u8; 16]) {
        self.bytes[..16].copy_from_slice(bytes);
        self.bytes[16..].fill(0);
        self.len = 16;
        if self.long.is_some() {
            self.long = None;
        }
    }

    /// Copies a CDB. There is no command with more than [`MAX_CDB_LENGTH`] bytes; what follows them is left out, as it is
    /// behind the CDB that an initiator pads.
    #[inline]
    pub fn new(bytes: &[u8]) -> Self {
        let len = bytes.len().min(INLINE);
        let mut cdb = Self { bytes: [0; INLINE], len: len as u8, long: None };
        cdb.bytes[..len].copy_from_slice(&bytes[..len]);
        if bytes.len() > INLINE {
            cdb.long = Some(bytes[..bytes.len().min(MAX_CDB_LENGTH)].into());
        }
        cdb
    }

    /// The bytes of the CDB.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match &self.long {
            None => &self.bytes[..usize::from(self.len)],
            Some(long) => long,
        }
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
        match self.bytes.get(at) {
            Some(byte) => *byte,
            None => self.bytes().get(at).copied().unwrap_or(0),
        }
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

    /// `N` bytes, if all of them are among the first ones.
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
    fn a_long_cdb_is_kept_whole() {
        let mut bytes: Vec<u8> = (0..=255).chain(0..4).collect();
        bytes[0] = VARIABLE_LENGTH_OPCODE;
        let cdb = Cdb::new(&bytes);
        assert_eq!((cdb.bytes(), cdb.bytes().len()), (&bytes[..], MAX_CDB_LENGTH));
        assert_eq!((cdb.u8(259), cdb.u8(260), cdb.u16(31), cdb.u32(200)), (3, 0, 0x1f20, 0xc8c9_cacb));
        let mut short = cdb.clone();
        short.set(&[7; 16]);
        assert_eq!(short, Cdb::new(&[7; 16]));
        short.assign(&cdb);
        assert_eq!(short, cdb);
        bytes.push(0xee);
        assert_eq!(Cdb::new(&bytes), cdb);
        assert_eq!(Cdb::new(&bytes[..33]).bytes(), &bytes[..33]);
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
