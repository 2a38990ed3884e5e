//! What a connection has to send: headers in an arena, payload as slices of one shared buffer, gathered into one
//! `sendmsg` per loop turn. Payload is never copied.

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;

use crate::sys;

/// Most pieces in one call; the kernel's limit is 1024.
const MAX_PIECES: usize = 512;

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
        if length > 0 {
            self.parts.push(Part::Payload { start, length });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.next == self.parts.len()
    }

    /// Sends as much as the socket takes.
    pub(crate) fn send(&mut self, socket: &impl AsRawFd, payload: &[u8]) -> io::Result<()> {
        while !self.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_PIECES];
            let mut gone = self.gone;
            let mut count = 0;
            for (slot, part) in slices.iter_mut().zip(&self.parts[self.next..]) {
                let bytes = match *part {
                    Part::Header { start, length } => &self.arena[start..start + length],
                    Part::Payload { start, length } => &payload[start..start + length],
                };
                *slot = IoSlice::new(&bytes[gone..]);
                gone = 0;
                count += 1;
            }
            match sys::send(socket, &slices[..count]) {
                Ok(sent) => self.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
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

    #[test]
    fn headers_and_payload_leave_in_order_also_when_the_socket_is_full() {
        let payload: Vec<u8> = (0..65_536).map(|index| (index % 251) as u8).collect();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (mut outbox, mut expected) = (Outbox::default(), Vec::new());
        for number in 0..100u8 {
            outbox.header(&[number; 48]);
            expected.extend_from_slice(&[number; 48]);
            outbox.payload(usize::from(number), 60_000);
            expected.extend_from_slice(&payload[usize::from(number)..][..60_000]);
        }
        let mut received = vec![0; expected.len()];
        let mut at = 0;
        let mut turns = 0;
        while at < received.len() {
            outbox.send(&ours, &payload).unwrap();
            at += theirs.read(&mut received[at..]).unwrap();
            turns += 1;
        }
        assert!(turns > 1, "the socket took all at once, the test proves nothing");
        assert!(received == expected);
        assert!(outbox.is_empty() && outbox.arena.is_empty());
    }
}
