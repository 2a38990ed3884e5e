//! What the connections of all protocols have in common: a socket with its output, tags, blocks to pick, ready PDUs.

use std::net::TcpStream;

use anyhow::{Context, Result, bail, ensure};
use scst_testkit::rng::Rng;

use crate::histogram::Histogram;
use crate::inbox::{Filled, Inbox};
use crate::load::{LoadOptions, Order};
use crate::outbox::Outbox;
use crate::sys::Memory;

/// WRITEs with less immediate data than this are laid out as ready PDUs, header and data, so that one call sends many.
/// Longer data are sent from the payload that all share.
pub(crate) const READY_BELOW: usize = 16 << 10;
/// The payload comes first in the shared memory.
pub(crate) const PAYLOAD: usize = 0;

/// A connection of the load.
pub(crate) trait Peer {
    fn link(&mut self) -> &mut Link;
    fn tags(&self) -> &Tags;
    fn ready(&mut self) -> &mut Ready;
    /// Issues commands until the depth is reached.
    fn issue(&mut self, now: u64, shared: &mut Shared);
    /// Takes what the socket has and handles all responses; when, if there was something.
    fn receive(&mut self, clock: impl Fn() -> u64, shared: &mut Shared) -> Result<Option<u64>>;
}

/// Takes what the socket has, as answers of `N` bytes with `data` bytes behind each; when, if there was something.
pub(crate) fn receive_fixed<const N: usize>(
    stream: &TcpStream,
    inbox: &mut Inbox,
    data: usize,
    clock: impl Fn() -> u64,
    mut answer: impl FnMut([u8; N], u64) -> Result<()>,
) -> Result<Option<u64>> {
    let mut time = None;
    loop {
        match inbox.fill(stream)? {
            Filled::Some => {}
            Filled::Nothing => return Ok(time),
            Filled::Closed => bail!("the server closed a connection"),
        }
        let full = inbox.is_full();
        let now = clock();
        time = Some(now);
        while let Some(bytes) = inbox.next_fixed(data) {
            answer(bytes, now)?;
        }
        if !full {
            return Ok(time);
        }
    }
}

/// The socket, non-blocking, and what waits to be sent.
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
    pub(crate) outbox: Outbox,
    /// Set while the socket's write readiness is waited for.
    pub(crate) wants_write: bool,
    pub(crate) completed: u64,
}

impl Link {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, outbox: Outbox::default(), wants_write: false, completed: 0 }
    }
}

/// What all connections share.
pub(crate) struct Shared {
    /// The payload, then the ready PDUs of all connections.
    pub(crate) memory: Memory,
    pub(crate) latencies: Histogram,
    pub(crate) completed: u64,
}

impl Shared {
    /// Makes the payload for commands of `size` bytes, and lays out the ready PDUs of these connections.
    pub(crate) fn new(size: u32, connections: &mut [impl Peer]) -> Result<Self> {
        let payload = (size as usize).max(1 << 16);
        let mut end = payload;
        for one in connections.iter_mut() {
            let tags = one.tags().issued.len();
            end = one.ready().place(end, tags);
        }
        let mut memory = Memory::new(end).context("memory for the payload")?;
        memory.bytes_mut()[..payload].copy_from_slice(&Rng::new(1).bytes(payload));
        for one in connections {
            let tags = one.tags().issued.len();
            one.ready().lay_out(memory.bytes_mut(), tags);
        }
        Ok(Self { memory, latencies: Histogram::new(), completed: 0 })
    }

    /// A command has ended.
    pub(crate) fn count(&mut self, now: u64, issued: u64) {
        self.latencies.record(now.saturating_sub(issued));
        self.completed += 1;
    }
}

/// The commands in flight. There are twice as many tags as commands, and they are used in turn: the ready PDUs of a batch
/// lie side by side also when a command takes longer.
#[derive(Debug)]
pub(crate) struct Tags {
    /// When the command of each tag was issued, [`FREE`] if there is none.
    issued: Vec<u64>,
    next: usize,
    in_flight: usize,
}

const FREE: u64 = u64::MAX;

impl Tags {
    pub(crate) fn new(depth: usize) -> Self {
        Self { issued: vec![FREE; depth * 2], next: 0, in_flight: 0 }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// A tag for a command that is issued now; none when there are enough commands.
    pub(crate) fn next(&mut self, now: u64) -> Option<usize> {
        if self.in_flight * 2 == self.issued.len() {
            return None;
        }
        // Half of the tags are free at least.
        loop {
            let tag = self.next;
            self.next = if tag + 1 == self.issued.len() { 0 } else { tag + 1 };
            if self.issued[tag] == FREE {
                self.issued[tag] = now;
                self.in_flight += 1;
                return Some(tag);
            }
        }
    }

    /// The command has ended; when it was issued.
    pub(crate) fn end(&mut self, tag: u32) -> Result<u64> {
        let issued = self.issued.get_mut(tag as usize).filter(|issued| **issued != FREE);
        let issued = issued.with_context(|| format!("an answer to task {tag}, which there is not"))?;
        self.in_flight -= 1;
        Ok(std::mem::replace(issued, FREE))
    }
}

/// Ready WRITEs: one PDU per tag, all of one length.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ready {
    start: usize,
    front: usize,
    data: usize,
    /// Four: a CRC32C of the data follows them.
    back: usize,
}

impl Ready {
    /// PDUs with so many bytes before the data, of data, and behind them (a data digest).
    pub(crate) fn new(front: usize, data: usize, back: usize) -> Self {
        Self { start: 0, front, data, back }
    }

    pub(crate) fn is_some(&self) -> bool {
        self.data > 0
    }

    fn stride(&self) -> usize {
        self.front + self.data + self.back
    }

    fn place(&mut self, start: usize, tags: usize) -> usize {
        self.start = start;
        if self.is_some() { start + self.stride() * tags } else { start }
    }

    /// Writes data and data digests; headers come with each command.
    fn lay_out(&self, memory: &mut [u8], tags: usize) {
        if !self.is_some() {
            return;
        }
        let (payload, ready) = memory.split_at_mut(self.start);
        let data = &payload[..self.data];
        let digest = crc32c::crc32c(data).to_le_bytes();
        for pdu in ready.chunks_exact_mut(self.stride()).take(tags) {
            pdu[self.front..self.front + self.data].copy_from_slice(data);
            pdu[self.front + self.data..].copy_from_slice(&digest[..self.back]);
        }
    }

    /// The PDU of a tag and its place. It may change: the peer has answered the command that had it before, so it has
    /// read it.
    pub(crate) fn pdu<'a>(&self, tag: usize, memory: &'a mut [u8]) -> (usize, &'a mut [u8]) {
        let start = self.start + tag * self.stride();
        (start, &mut memory[start..start + self.stride()])
    }

    pub(crate) fn data_length(&self) -> usize {
        self.data
    }
}

/// Which piece of the disk is next, as a multiple of the command's length.
#[derive(Debug)]
pub(crate) struct Picker {
    order: Order,
    positions: u64,
    position: u64,
    rng: Rng,
}

impl Picker {
    pub(crate) fn new(options: &LoadOptions, disk: u64, mut rng: Rng) -> Result<Self> {
        let used = options.range.unwrap_or(disk).min(disk);
        let positions = used / u64::from(options.size.max(1));
        ensure!(positions > 0, "commands of {} bytes do not fit in {used} bytes", options.size);
        Ok(Self { order: options.order, positions, position: rng.below(positions), rng })
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.position = match self.order {
            Order::Random => self.rng.below(self.positions),
            Order::Sequential => (self.position + 1) % self.positions,
        };
        self.position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_go_round_and_skip_those_in_use() {
        let mut tags = Tags::new(2);
        assert_eq!((tags.next(7), tags.next(8), tags.next(9)), (Some(0), Some(1), None));
        assert_eq!(tags.end(1).unwrap(), 8);
        assert_eq!((tags.next(10), tags.end(2).unwrap()), (Some(2), 10));
        assert_eq!((tags.next(11), tags.end(3).unwrap()), (Some(3), 11));
        assert_eq!(tags.next(12), Some(1), "0 is still in use");
        assert!(tags.end(3).is_err() && tags.end(4).is_err());
        assert_eq!(tags.in_flight(), 2);
    }

    #[test]
    fn ready_pdus_carry_data_and_digest() {
        let mut ready = Ready::new(3, 4, 4);
        assert_eq!(ready.place(8, 2), 30);
        let mut memory = vec![0; 30];
        memory[..8].copy_from_slice(b"abcdefgh");
        ready.lay_out(&mut memory, 2);
        let (start, pdu) = ready.pdu(1, &mut memory);
        assert_eq!((start, &pdu[..7]), (19, &b"\0\0\0abcd"[..]));
        assert_eq!(pdu[7..], crc32c::crc32c(b"abcd").to_le_bytes());
    }
}
