//! Received bytes, cut at PDU boundaries; payload is skipped, not looked at.

use std::io;
use std::os::fd::AsRawFd;

use crate::sys;

/// Larger payload than this is dropped in the kernel instead of being copied, where that is allowed.
const DISCARD_FROM: usize = 64 << 10;
const BUFFER: usize = 512 << 10;
const BHS: usize = 48;

/// A basic header segment.
pub(crate) type Header = [u8; BHS];

/// What [`Inbox::fill`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Filled {
    /// There are bytes.
    Some,
    /// Nothing there.
    Nothing,
    /// The peer has closed.
    Closed,
}

/// Input of one connection.
#[derive(Debug)]
pub(crate) struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of payload, padding and digest that are still to come.
    skip: usize,
    header_digest: usize,
    data_digest: usize,
    discard: bool,
    /// Digests are computed over all that passes, and compared.
    check: bool,
    /// CRC32C of the data segment as far as it has passed, and its digest, which comes last.
    crc: u32,
    digest: u32,
    corrupt: bool,
}

impl Inbox {
    /// `discard` lets the kernel drop long payload without a copy.
    pub(crate) fn new(header_digest: bool, data_digest: bool, discard: bool) -> Self {
        let digest = |on: bool| if on { 4 } else { 0 };
        Self {
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            skip: 0,
            header_digest: digest(header_digest),
            data_digest: digest(data_digest),
            discard,
            check: false,
            crc: 0,
            digest: 0,
            corrupt: false,
        }
    }

    /// From the next PDU on there are digests (RFC 7143 6.2), and they are checked. The last one is whole.
    pub(crate) fn check_digests(&mut self, header: bool, data: bool) {
        self.drop_skipped();
        let digest = |on: bool| if on { 4 } else { 0 };
        (self.header_digest, self.data_digest, self.check) = (digest(header), digest(data), header || data);
    }

    /// A digest was wrong.
    pub(crate) fn is_corrupt(&self) -> bool {
        self.corrupt
    }

    /// Receives once.
    pub(crate) fn fill(&mut self, socket: &impl AsRawFd) -> io::Result<Filled> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.discard && self.skip >= DISCARD_FROM {
                return self.discard_some(socket);
            }
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        match sys::recv(socket, &mut self.buffer[self.end..]) {
            Ok(0) => Ok(Filled::Closed),
            Ok(count) => {
                self.end += count;
                Ok(Filled::Some)
            }
            Err(error) => nothing(error),
        }
    }

    fn discard_some(&mut self, socket: &impl AsRawFd) -> io::Result<Filled> {
        match sys::recv_discard(socket, self.skip) {
            Ok(0) => Ok(Filled::Closed),
            Ok(count) => {
                self.skip -= count;
                Ok(Filled::Some)
            }
            Err(error) => nothing(error),
        }
    }

    /// True when the last receive left no room: there may be more.
    pub(crate) fn is_full(&self) -> bool {
        self.end == self.buffer.len()
    }

    /// The next header, as soon as it is whole; its payload is skipped.
    pub(crate) fn next_header(&mut self) -> Option<Header> {
        let (header, _) = self.cut(false)?;
        Some(header)
    }

    /// The next header of `N` bytes, as soon as it is whole; so many bytes behind it are skipped.
    pub(crate) fn next_fixed<const N: usize>(&mut self, skip: usize) -> Option<[u8; N]> {
        self.drop_skipped();
        if self.skip > 0 {
            return None;
        }
        let header = *self.buffer[self.start..self.end].first_chunk()?;
        self.start += N;
        self.skip = skip;
        self.drop_skipped();
        Some(header)
    }

    /// The next PDU as soon as its data segment is whole.
    pub(crate) fn next_pdu(&mut self) -> Option<(Header, &[u8])> {
        let (header, data) = self.cut(true)?;
        Some((header, &self.buffer[data.0..data.1]))
    }

    /// True while payload of the last PDU is still to come.
    pub(crate) fn is_skipping(&mut self) -> bool {
        self.drop_skipped();
        self.skip > 0
    }

    /// Cuts off the next PDU; `whole` waits for its data segment, whose place in the buffer is the second result.
    fn cut(&mut self, whole: bool) -> Option<(Header, (usize, usize))> {
        self.drop_skipped();
        let bytes = &self.buffer[self.start..self.end];
        if self.skip > 0 || bytes.len() < BHS {
            return None;
        }
        let mut header = [0; BHS];
        header.copy_from_slice(&bytes[..BHS]);
        let data = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
        let front = BHS + 4 * usize::from(header[4]) + self.header_digest;
        let back = data.next_multiple_of(4) + if data > 0 { self.data_digest } else { 0 };
        if bytes.len() < front || (whole && bytes.len() < front + back) {
            return None;
        }
        if self.check && self.header_digest > 0 {
            let (covered, digest) = bytes[..front].split_at(front - 4);
            self.corrupt |= crc32c::crc32c(covered).to_le_bytes() != digest;
        }
        let at = self.start + front;
        self.start = at;
        self.skip = back;
        if !whole {
            self.drop_skipped();
        }
        Some((header, (at, at + data)))
    }

    fn drop_skipped(&mut self) {
        let dropped = self.skip.min(self.end - self.start);
        if self.check && self.data_digest > 0 && dropped > 0 {
            self.check_data(dropped);
        }
        self.start += dropped;
        self.skip -= dropped;
    }

    /// So many bytes of the data segment (with padding) and its digest pass.
    fn check_data(&mut self, passing: usize) {
        let bytes = &self.buffer[self.start..self.start + passing];
        let (data, digest) = bytes.split_at(passing.min(self.skip.saturating_sub(self.data_digest)));
        self.crc = crc32c::crc32c_append(self.crc, data);
        for byte in digest {
            self.digest = self.digest >> 8 | u32::from(*byte) << 24;
        }
        if passing == self.skip {
            self.corrupt |= self.crc != self.digest;
            self.crc = 0;
        }
    }
}

fn nothing(error: io::Error) -> io::Result<Filled> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(Filled::Nothing),
        io::ErrorKind::ConnectionReset => Ok(Filled::Closed),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scst_testkit::pdu::{Digests, Pdu};
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn headers_are_found_in_any_fragments_and_payload_is_skipped() {
        let digests = Digests { header: true, data: true };
        let mut bytes = Vec::new();
        for number in 0..50u32 {
            let data = vec![0xab; (number as usize * 37) % 5000];
            Pdu::new(0x25).with_u32(16, number).with_data(data).encode(digests, &mut bytes);
        }
        for fragment in [1, 7, 48, 1000, 100_000] {
            let (mut theirs, ours) = UnixStream::pair().unwrap();
            let mut inbox = Inbox::new(true, true, false);
            let mut found = Vec::new();
            for piece in bytes.chunks(fragment) {
                theirs.write_all(piece).unwrap();
                while inbox.fill(&ours).unwrap() == Filled::Some {
                    while let Some(header) = inbox.next_header() {
                        found.push(u32::from_be_bytes(header[16..20].try_into().unwrap()));
                    }
                }
            }
            assert_eq!(found, (0..50).collect::<Vec<_>>(), "fragments of {fragment}");
        }
    }

    #[test]
    fn a_wrong_digest_is_found_wherever_the_bit_is() {
        let digests = Digests { header: true, data: true };
        let mut bytes = Vec::new();
        Pdu::new(0x01).with_data(vec![0x5a; 302]).encode(digests, &mut bytes);
        let corrupt = |bytes: &[u8], fragment: usize| {
            let (mut theirs, ours) = UnixStream::pair().unwrap();
            let mut inbox = Inbox::new(false, false, false);
            inbox.check_digests(true, true);
            for piece in bytes.chunks(fragment) {
                theirs.write_all(piece).unwrap();
                assert_eq!(inbox.fill(&ours).unwrap(), Filled::Some);
                while inbox.next_header().is_some() {}
            }
            assert!(!inbox.is_skipping());
            inbox.is_corrupt()
        };
        for fragment in [1, 5, 1000] {
            assert!(!corrupt(&bytes, fragment));
            // An opcode, a header digest, data, padding, a data digest.
            for at in [0, 50, 60, 52 + 303, bytes.len() - 1] {
                let mut bad = bytes.clone();
                bad[at] ^= 0x10;
                assert!(corrupt(&bad, fragment), "bit at {at}, fragments of {fragment}");
            }
        }
    }

    #[test]
    fn headers_of_a_fixed_length() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        theirs.write_all(b"AAxxxBBxxxCC").unwrap();
        let mut inbox = Inbox::new(false, false, false);
        assert_eq!(inbox.fill(&ours).unwrap(), Filled::Some);
        assert_eq!(inbox.next_fixed::<2>(3), Some(*b"AA"));
        assert_eq!(inbox.next_fixed::<2>(3), Some(*b"BB"));
        assert_eq!(inbox.next_fixed::<2>(3), Some(*b"CC"));
        assert_eq!(inbox.next_fixed::<2>(3), None);
    }
}
