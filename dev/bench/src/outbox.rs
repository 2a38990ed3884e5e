//! What a connection has to send: headers in an arena, payload as ranges of one shared buffer, gathered into one
//! `sendmsg` per loop turn. Payload is never copied here, and where its buffer allows it the kernel does not either.

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;

use crate::sys::{self, Memory};

/// Most pieces in one call; the kernel's limit is 1024.
const MAX_PIECES: usize = 512;

/// From so many bytes on, sending pages costs less than copying them.
const WITHOUT_COPY: usize = 4096;

/// Where the payload lies.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload<'a> {
    /// In memory that the kernel has to copy.
    Bytes(&'a [u8]),
    /// In memory whose pages can be sent.
    Pages(&'a Memory),
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Header { start: usize, length: usize },
    Payload { start: usize, length: usize },
}

/// Pending output of one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    arena: Vec<u8>,
    parts: Vec<Part>,
    /// First part that is not gone, and how much of it is.
    next: usize,
    gone: usize,
}

impl Outbox {
    /// Appends bytes of a header (or digest).
    pub(crate) fn header(&mut self, bytes: &[u8]) {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        if let Some(Part::Header { start: first, length }) = self.parts.last_mut()
            && *first + *length == start
        {
            *length += bytes.len();
            return;
        }
        self.parts.push(Part::Header { start, length: bytes.len() });
    }

    /// Appends a piece of the shared payload.
    pub(crate) fn payload(&mut self, start: usize, length: usize) {
        if let Some(Part::Payload { start: first, length: before }) = self.parts.last_mut()
            && *first + *before == start
        {
            *before += length;
            return;
        }
        if length > 0 {
            self.parts.push(Part::Payload { start, length });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.next == self.parts.len()
    }

    /// Sends as much as the socket takes. With [`Payload::Pages`] the socket must be non-blocking.
    pub(crate) fn send(&mut self, socket: &impl AsRawFd, payload: Payload<'_>) -> io::Result<()> {
        while !self.is_empty() {
            let sent = match payload {
                Payload::Bytes(bytes) => self.send_gathered(socket, bytes, false),
                Payload::Pages(memory) => match self.pages() {
                    Some((start, length)) => memory.send(socket, start, length),
                    None => self.send_gathered(socket, memory.bytes(), true),
                },
            };
            match sent {
                Ok(sent) => self.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next part, if its pages shall be sent.
    fn pages(&self) -> Option<(usize, usize)> {
        match self.parts[self.next] {
            Part::Payload { start, length } if length >= WITHOUT_COPY => Some((start + self.gone, length - self.gone)),
            _ => None,
        }
    }

    /// Sends many parts at once; `up_to_pages` stops before the first whose pages shall be sent.
    fn send_gathered(&self, socket: &impl AsRawFd, payload: &[u8], up_to_pages: bool) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); MAX_PIECES];
        let (mut gone, mut count, mut more) = (self.gone, 0, false);
        for (slot, part) in slices.iter_mut().zip(&self.parts[self.next..]) {
            let bytes = match *part {
                Part::Header { start, length } => &self.arena[start..start + length],
                Part::Payload { length, .. } if up_to_pages && length >= WITHOUT_COPY => {
                    more = true;
                    break;
                }
                Part::Payload { start, length } => &payload[start..start + length],
            };
            *slot = IoSlice::new(&bytes[gone..]);
            gone = 0;
            count += 1;
        }
        sys::send(socket, &slices[..count], more)
    }

    fn advance(&mut self, mut sent: usize) {
        while sent > 0 {
            let (Part::Header { length, .. } | Part::Payload { length, .. }) = self.parts[self.next];
            let left = length - self.gone;
            if sent < left {
                self.gone += sent;
                return;
            }
            sent -= left;
            self.gone = 0;
            self.next += 1;
        }
        if self.is_empty() {
            self.arena.clear();
            self.parts.clear();
            self.next = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    /// A hundred headers, each with payload of a length from `lengths`, through a socket that takes only some at once.
    fn leave_in_order(payload: Payload<'_>, lengths: [usize; 3]) {
        let bytes = match payload {
            Payload::Bytes(bytes) => bytes,
            Payload::Pages(memory) => memory.bytes(),
        };
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (mut outbox, mut expected) = (Outbox::default(), Vec::new());
        for number in 0..100u8 {
            outbox.header(&[number; 48]);
            expected.extend_from_slice(&[number; 48]);
            let (start, length) = (usize::from(number), lengths[usize::from(number) % 3]);
            outbox.payload(start, length);
            outbox.payload(start + length, 7);
            expected.extend_from_slice(&bytes[start..][..length + 7]);
        }
        let mut received = vec![0; expected.len()];
        let mut at = 0;
        let mut turns = 0;
        while at < received.len() {
            outbox.send(&ours, payload).unwrap();
            at += theirs.read(&mut received[at..]).unwrap();
            turns += 1;
        }
        assert!(turns > 1, "the socket took all at once, the test proves nothing");
        assert!(received == expected);
        assert!(outbox.is_empty() && outbox.arena.is_empty());
    }

    #[test]
    fn headers_and_payload_leave_in_order_also_when_the_socket_is_full() {
        let bytes: Vec<u8> = (0..65_536).map(|index| (index % 251) as u8).collect();
        leave_in_order(Payload::Bytes(&bytes), [60_000, 0, 60_000]);
    }

    #[test]
    fn pages_and_copied_bytes_leave_in_order() {
        let mut memory = Memory::new(65_536).unwrap();
        memory.bytes_mut().iter_mut().enumerate().for_each(|(index, byte)| *byte = (index % 251) as u8);
        leave_in_order(Payload::Pages(&memory), [60_000, 512, 4096]);
    }

    #[test]
    fn neighbouring_payload_is_one_part() {
        let mut outbox = Outbox::default();
        outbox.payload(100, 50);
        outbox.payload(150, 50);
        outbox.payload(300, 50);
        assert_eq!(outbox.parts.len(), 2);
    }
}
