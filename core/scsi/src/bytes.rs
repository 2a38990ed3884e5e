//! Bounds-safe big-endian reading and writing of parameter data.

/// Writes parameter data into a buffer that may be too short.
///
/// SPC-6 4.2.5.6: data-in are cut at the ALLOCATION LENGTH, and the length fields in them are not changed by the cut. So
/// whatever does not fit is dropped silently and only counted: [`Writer::position`] is the length of the full data,
/// [`Writer::written`] what is in the buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    buf: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// Starts at the first byte of `buf`.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, at: 0 }
    }

    /// Length of everything put so far, also of what did not fit.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes in the buffer.
    pub fn written(&self) -> usize {
        self.at.min(self.buf.len())
    }

    /// Whether everything fitted.
    pub fn complete(&self) -> bool {
        self.at <= self.buf.len()
    }

    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.patch(self.at, bytes);
        self.at += bytes.len();
        self
    }

    /// Appends a byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    /// Appends two bytes.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends the low three bytes.
    pub fn u24(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes()[1..])
    }

    /// Appends four bytes.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends the low six bytes.
    pub fn u48(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_be_bytes()[2..])
    }

    /// Appends eight bytes.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Appends `count` zero bytes.
    pub fn zeros(&mut self, count: usize) -> &mut Self {
        for _ in 0..count {
            self.u8(0);
        }
        self
    }

    /// Appends text in a field of `width` bytes: cut, or padded with spaces (SPC-6 4.3.1, left-aligned ASCII).
    /// Characters outside 20h to 7Eh, which such a field must not have, become `?`.
    pub fn ascii(&mut self, text: &str, width: usize) -> &mut Self {
        let printable = text.bytes().map(|b| if (0x20..=0x7e).contains(&b) { b } else { b'?' });
        for byte in printable.chain(std::iter::repeat(b' ')).take(width) {
            self.u8(byte);
        }
        self
    }

    /// Overwrites bytes at an earlier position (length fields). What lies past the buffer is dropped.
    pub fn patch(&mut self, at: usize, bytes: &[u8]) {
        let room = self.buf.len().saturating_sub(at).min(bytes.len());
        if room > 0 {
            self.buf[at..at + room].copy_from_slice(&bytes[..room]);
        }
    }

    /// Overwrites one byte with the count of bytes that follow it.
    pub fn patch_length_u8(&mut self, at: usize) {
        self.patch(at, &[(self.at - at - 1) as u8]);
    }

    /// Overwrites two bytes with the count of bytes that follow them.
    pub fn patch_length_u16(&mut self, at: usize) {
        self.patch(at, &((self.at - at - 2) as u16).to_be_bytes());
    }

    /// Overwrites four bytes with the count of bytes that follow them.
    pub fn patch_length_u32(&mut self, at: usize) {
        self.patch(at, &((self.at - at - 4) as u32).to_be_bytes());
    }
}

/// Reads parameter data; None when there are not enough bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    buf: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(buf: &'a [u8]) -> Self {
        Self { buf, at: 0 }
    }

    /// Offset of the next byte.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    pub fn remaining(&self) -> usize {
        self.buf.len() - self.at
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let bytes = self.buf.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(bytes)
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = &self.buf[self.at..];
        self.at = self.buf.len();
        rest
    }

    /// The next byte.
    pub fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> Option<u16> {
        Some(self.uint(2)? as u16)
    }

    /// The next three bytes.
    pub fn u24(&mut self) -> Option<u32> {
        Some(self.uint(3)? as u32)
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        Some(self.uint(4)? as u32)
    }

    /// The next six bytes.
    pub fn u48(&mut self) -> Option<u64> {
        self.uint(6)
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        self.uint(8)
    }

    fn uint(&mut self, width: usize) -> Option<u64> {
        Some(self.take(width)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }
}

/// A big-endian number of all the bytes of a slice of at most eight.
pub(crate) fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_dropped() {
        let mut buf = [0xee; 4];
        let mut w = Writer::new(&mut buf);
        w.u16(0).u24(0x01_0203).u32(7).patch_length_u16(0);
        assert_eq!((w.position(), w.written(), w.complete()), (9, 4, false));
        assert_eq!(buf, [0, 7, 1, 2]);
    }

    #[test]
    fn text_is_padded_cut_and_printable() {
        let mut buf = [0; 8];
        Writer::new(&mut buf).ascii("ab\n", 5).ascii("wxyz", 3);
        assert_eq!(&buf, b"ab?  wxy");
    }

    #[test]
    fn a_reader_never_reads_past_the_end() {
        let mut r = Reader::new(&[1, 2, 3, 4, 5]);
        assert_eq!((r.u8(), r.u24(), r.u16(), r.remaining()), (Some(1), Some(0x02_0304), None, 1));
        assert_eq!((r.rest(), r.u8()), (&[5][..], None));
    }
}
