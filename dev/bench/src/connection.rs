//! One connection of the load: keeps its commands outstanding, reads responses, answers R2Ts.

use std::net::TcpStream;

use anyhow::{Context, Result, bail};
use scst_testkit::initiator::Parameters;
use scst_testkit::rng::Rng;
use scst_testkit::{Initiator, LoginConfig, scsi};

use crate::histogram::Histogram;
use crate::inbox::{Filled, Header, Inbox};
use crate::load::{LoadOptions, Operation, Order};
use crate::outbox::Outbox;
use crate::sys::Memory;

const RESERVED: u32 = 0xffff_ffff;
/// WRITEs with less immediate data than this are laid out as ready PDUs, header and data, so that one call sends many.
/// Longer data are sent from the payload that all share.
const READY_BELOW: usize = 16 << 10;
/// The payload comes first in the shared memory.
const PAYLOAD: usize = 0;

/// What all connections share.
pub(crate) struct Shared {
    /// The payload, then the ready PDUs of all connections.
    pub(crate) memory: Memory,
    pub(crate) latencies: Histogram,
    pub(crate) completed: u64,
}

impl Shared {
    /// Makes the payload for commands of `size` bytes, and lays out the ready PDUs of these connections.
    pub(crate) fn new(size: u32, connections: &mut [Connection]) -> Result<Self> {
        let payload = (size as usize).max(1 << 16);
        let mut end = payload;
        for one in connections.iter_mut() {
            one.ready.start = end;
            end += one.ready.stride * one.issued.len();
        }
        let mut memory = Memory::new(end).context("memory for the payload")?;
        memory.bytes_mut()[..payload].copy_from_slice(&Rng::new(1).bytes(payload));
        for one in connections {
            one.lay_out(memory.bytes_mut());
        }
        Ok(Self { memory, latencies: Histogram::new(), completed: 0 })
    }
}

/// In [`Connection::issued`].
const FREE: u64 = u64::MAX;

/// Ready WRITEs: one PDU per task tag, all of one length.
#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    start: usize,
    /// Zero: there are none.
    stride: usize,
}

/// A logged-in connection in full feature phase.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) outbox: Outbox,
    /// Set while the socket's write readiness is waited for.
    pub(crate) wants_write: bool,
    pub(crate) completed: u64,
    inbox: Inbox,
    parameters: Parameters,
    template: Header,
    operation: Operation,
    order: Order,
    length: usize,
    blocks: u32,
    positions: u64,
    position: u64,
    rng: Rng,
    cmd_sn: u32,
    exp_stat_sn: u32,
    max_cmd_sn: u32,
    /// When the command of each task tag was issued, [`FREE`] if there is none. There are twice as many tags as commands,
    /// and they are used in turn: the ready PDUs of a batch lie side by side also when a command takes longer.
    issued: Vec<u64>,
    tag: usize,
    in_flight: usize,
    depth: usize,
    ready: Ready,
    /// Data digests by length: all data segments start at the same byte of the payload.
    data_digests: Vec<(usize, [u8; 4])>,
}

impl Connection {
    /// Logs in and clears unit attentions.
    pub(crate) fn open(options: &LoadOptions, number: u16) -> Result<Self> {
        let digest = |on: bool| if on { "CRC32C" } else { "None" };
        let config = LoginConfig::normal("iqn.2026-01.bench:load", &options.target)
            .with_isid(number)
            .with_key("HeaderDigest", digest(options.header_digest))
            .with_key("DataDigest", digest(options.data_digest));
        let mut initiator = Initiator::connect(options.portal, config).context("login")?;
        // Measuring a target that is a little off the standard is still useful.
        initiator.tolerate();
        initiator.clear_unit_attentions(options.lun)?;
        let capacity = initiator.capacity(options.lun)?;
        let blocks = options.size / capacity.block_size;
        let used = options.range.map_or(capacity.blocks, |bytes| bytes / u64::from(capacity.block_size));
        let positions = used.min(capacity.blocks) / u64::from(blocks.max(1));
        if blocks == 0 || !options.size.is_multiple_of(capacity.block_size) || positions == 0 {
            bail!("{} bytes do not suit {} blocks of {}", options.size, capacity.blocks, capacity.block_size);
        }
        let core = initiator.core();
        let (cmd_sn, exp_stat_sn, max_cmd_sn) = (core.cmd_sn(), core.exp_stat_sn().unwrap_or(0), core.window().1);
        let parameters = core.parameters().clone();
        let stream = initiator.stream().try_clone()?;
        stream.set_nonblocking(true)?;
        let mut rng = Rng::new(u64::from(number) + 1);
        let mut connection = Self {
            stream,
            outbox: Outbox::default(),
            wants_write: false,
            completed: 0,
            inbox: Inbox::new(parameters.digests.header, parameters.digests.data, true),
            template: template(options, blocks),
            operation: options.operation,
            order: options.order,
            length: options.size as usize,
            blocks,
            positions,
            position: rng.below(positions),
            rng,
            cmd_sn,
            exp_stat_sn,
            max_cmd_sn,
            issued: vec![FREE; options.depth * 2],
            tag: 0,
            in_flight: 0,
            depth: options.depth,
            ready: Ready::default(),
            data_digests: Vec::new(),
            parameters,
        };
        let (immediate, unsolicited) = connection.first_burst();
        if options.operation == Operation::Write && unsolicited == 0 && (1..READY_BELOW).contains(&immediate) {
            connection.ready.stride = connection.front() + immediate + connection.back();
        }
        Ok(connection)
    }

    /// Bytes of a PDU before and after its data.
    fn front(&self) -> usize {
        if self.parameters.digests.header { 52 } else { 48 }
    }

    fn back(&self) -> usize {
        if self.parameters.digests.data { 4 } else { 0 }
    }

    /// Bytes of a WRITE's immediate data, and of its unsolicited Data-Out PDUs.
    fn first_burst(&self) -> (usize, usize) {
        let segment = self.parameters.max_xmit_data_segment_length as usize;
        let first_burst = self.length.min(self.parameters.first_burst_length as usize);
        let immediate = if self.parameters.immediate_data { first_burst.min(segment) } else { 0 };
        (immediate, if self.parameters.initial_r2t { 0 } else { first_burst - immediate })
    }

    /// Writes data and data digests of the ready PDUs; headers come with each command.
    fn lay_out(&self, memory: &mut [u8]) {
        if self.ready.stride == 0 {
            return;
        }
        let (payload, ready) = memory.split_at_mut(self.ready.start);
        let (front, length) = (self.front(), self.first_burst().0);
        let digest = crc32c::crc32c(&payload[..length]).to_le_bytes();
        for pdu in ready.chunks_exact_mut(self.ready.stride).take(self.issued.len()) {
            pdu[front..front + length].copy_from_slice(&payload[..length]);
            if self.parameters.digests.data {
                pdu[front + length..].copy_from_slice(&digest);
            }
        }
    }

    /// Commands in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Issues commands until the depth is reached.
    pub(crate) fn issue(&mut self, now: u64, shared: &mut Shared) {
        while self.in_flight < self.depth && self.max_cmd_sn.wrapping_sub(self.cmd_sn) < 1 << 31 {
            let tag = self.next_tag();
            self.issued[tag] = now;
            self.in_flight += 1;
            self.position = match self.order {
                Order::Random => self.rng.below(self.positions),
                Order::Sequential => (self.position + 1) % self.positions,
            };
            let lba = self.position * u64::from(self.blocks);
            let mut header = self.template;
            header[16..20].copy_from_slice(&(tag as u32).to_be_bytes());
            header[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
            header[28..32].copy_from_slice(&self.exp_stat_sn.to_be_bytes());
            header[34..42].copy_from_slice(&lba.to_be_bytes());
            self.cmd_sn = self.cmd_sn.wrapping_add(1);
            match self.operation {
                Operation::Read => self.put(header, 0, &[]),
                Operation::Write if self.ready.stride > 0 => self.issue_ready(header, tag, shared.memory.bytes_mut()),
                Operation::Write => self.issue_write(header, tag as u32, shared.memory.bytes()),
            }
        }
    }

    /// The next in turn that is free; as only half of them can be in use, there is one.
    fn next_tag(&mut self) -> usize {
        loop {
            let tag = self.tag;
            self.tag = if tag + 1 == self.issued.len() { 0 } else { tag + 1 };
            if self.issued[tag] == FREE {
                return tag;
            }
        }
    }

    /// The target has answered the command that had this PDU before, so it has read it: the PDU may change.
    fn issue_ready(&mut self, mut header: Header, tag: usize, memory: &mut [u8]) {
        let at = self.ready.start + tag * self.ready.stride;
        let length = self.ready.stride - self.front() - self.back();
        header[5..8].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
        memory[at..at + 48].copy_from_slice(&header);
        if self.parameters.digests.header {
            memory[at + 48..at + 52].copy_from_slice(&crc32c::crc32c(&header).to_le_bytes());
        }
        self.outbox.payload(at, self.ready.stride);
    }

    fn issue_write(&mut self, mut header: Header, tag: u32, payload: &[u8]) {
        let (immediate, unsolicited) = self.first_burst();
        if unsolicited > 0 {
            // F clear: unsolicited Data-Out PDUs follow (RFC 7143 11.3.1).
            header[1] &= 0x7f;
        }
        self.put(header, immediate, payload);
        if unsolicited > 0 {
            self.data_out(tag, RESERVED, immediate as u32, unsolicited, payload);
        }
    }

    fn data_out(&mut self, itt: u32, ttt: u32, offset: u32, length: usize, payload: &[u8]) {
        let segment = self.parameters.max_xmit_data_segment_length as usize;
        let mut done = 0;
        let mut data_sn = 0_u32;
        while done < length {
            let piece = segment.min(length - done);
            let mut header = [0; 48];
            header[0] = 0x05;
            header[1] = if done + piece == length { 0x80 } else { 0 };
            if ttt != RESERVED {
                header[8..16].copy_from_slice(&self.template[8..16]);
            }
            header[16..20].copy_from_slice(&itt.to_be_bytes());
            header[20..24].copy_from_slice(&ttt.to_be_bytes());
            header[28..32].copy_from_slice(&self.exp_stat_sn.to_be_bytes());
            header[36..40].copy_from_slice(&data_sn.to_be_bytes());
            header[40..44].copy_from_slice(&(offset + done as u32).to_be_bytes());
            self.put(header, piece, payload);
            done += piece;
            data_sn += 1;
        }
    }

    fn put(&mut self, mut header: Header, data: usize, payload: &[u8]) {
        header[5..8].copy_from_slice(&(data as u32).to_be_bytes()[1..]);
        self.outbox.header(&header);
        if self.parameters.digests.header {
            self.outbox.header(&crc32c::crc32c(&header).to_le_bytes());
        }
        self.outbox.payload(PAYLOAD, data);
        if self.parameters.digests.data && data > 0 {
            let digest = self.data_digest(data, payload);
            self.outbox.header(&digest);
        }
    }

    fn data_digest(&mut self, length: usize, payload: &[u8]) -> [u8; 4] {
        if let Some((_, digest)) = self.data_digests.iter().find(|(known, _)| *known == length) {
            return *digest;
        }
        let digest = crc32c::crc32c(&payload[..length]).to_le_bytes();
        self.data_digests.push((length, digest));
        digest
    }

    /// Receives once and handles all responses; when, if there was something.
    pub(crate) fn receive(&mut self, clock: impl Fn() -> u64, shared: &mut Shared) -> Result<Option<u64>> {
        let mut time = None;
        loop {
            match self.inbox.fill(&self.stream)? {
                Filled::Some => {}
                Filled::Nothing => return Ok(time),
                Filled::Closed => bail!("the target closed a connection"),
            }
            let full = self.inbox.is_full();
            let now = clock();
            time = Some(now);
            while let Some(header) = self.inbox.next_header() {
                self.response(&header, now, shared)?;
            }
            if !full {
                return Ok(time);
            }
        }
    }

    fn response(&mut self, header: &Header, now: u64, shared: &mut Shared) -> Result<()> {
        let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (code, tag) = (header[0] & 0x3f, word(16));
        let has_status = match code {
            0x21 => true,
            0x25 => header[1] & 1 != 0,
            0x20 => tag != RESERVED,
            0x31 => false,
            _ => bail!("unexpected PDU {header:02x?}"),
        };
        let max_cmd_sn = word(32);
        if max_cmd_sn.wrapping_sub(self.max_cmd_sn) < 1 << 31 {
            self.max_cmd_sn = max_cmd_sn;
        }
        if has_status {
            self.exp_stat_sn = word(24).wrapping_add(1);
        }
        match code {
            0x31 => self.data_out(tag, word(20), word(40), word(44) as usize, shared.memory.bytes()),
            0x20 => self.answer_ping(header, tag),
            _ if has_status => {
                if header[3] != 0 || (code == 0x21 && header[2] != 0) {
                    bail!("a command ended with response {} status {:#04x}", header[2], header[3]);
                }
                let issued = self.issued.get_mut(tag as usize).filter(|issued| **issued != FREE);
                let issued = std::mem::replace(issued.context("an answer to a task that there is not")?, FREE);
                shared.latencies.record(now.saturating_sub(issued));
                shared.completed += 1;
                self.completed += 1;
                self.in_flight -= 1;
            }
            _ => {}
        }
        Ok(())
    }

    fn answer_ping(&mut self, header: &Header, tag: u32) {
        if tag != RESERVED || header[20..24] == RESERVED.to_be_bytes() {
            return;
        }
        let mut answer = [0; 48];
        (answer[0], answer[1]) = (0x40, 0x80);
        answer[8..16].copy_from_slice(&header[8..16]);
        answer[16..20].fill(0xff);
        answer[20..24].copy_from_slice(&header[20..24]);
        answer[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        answer[28..32].copy_from_slice(&self.exp_stat_sn.to_be_bytes());
        self.put(answer, 0, &[]);
    }
}

/// A SCSI Command PDU with READ (16) or WRITE (16); tag, sequence numbers and LBA are filled in later.
fn template(options: &LoadOptions, blocks: u32) -> Header {
    let mut header = [0; 48];
    let (flags, opcode) = match options.operation {
        Operation::Read => (0xc1, 0x88),
        Operation::Write => (0xa1, 0x8a),
    };
    header[0] = 0x01;
    header[1] = flags;
    header[8..16].copy_from_slice(&scsi::lun(options.lun));
    header[20..24].copy_from_slice(&options.size.to_be_bytes());
    header[32] = opcode;
    header[42..46].copy_from_slice(&blocks.to_be_bytes());
    header
}
