//! One connection of the load: keeps its commands outstanding, reads responses, answers R2Ts.

use anyhow::{Context, Result, bail};
use scst_testkit::initiator::Parameters;
use scst_testkit::rng::Rng;
use scst_testkit::{Initiator, LoginConfig, scsi};

use crate::inbox::{Filled, Header, Inbox};
use crate::load::{LoadOptions, Operation};
use crate::peer::{Link, PAYLOAD, Peer, Picker, READY_BELOW, Ready, Shared, Tags};

const RESERVED: u32 = 0xffff_ffff;

/// A logged-in connection in full feature phase.
pub(crate) struct Connection {
    link: Link,
    inbox: Inbox,
    parameters: Parameters,
    template: Header,
    operation: Operation,
    length: usize,
    blocks: u32,
    picker: Picker,
    cmd_sn: u32,
    exp_stat_sn: u32,
    max_cmd_sn: u32,
    tags: Tags,
    ready: Ready,
    /// Data digests by length: all data segments start at the same byte of the payload.
    data_digests: Vec<(usize, [u8; 4])>,
}

impl Connection {
    /// Logs in and clears unit attentions.
    pub(crate) fn open(options: &LoadOptions, number: u16) -> Result<Self> {
        let lun = options.lun + if options.private_luns { u32::from(number) } else { 0 };
        let mut initiator = login(options, number)?;
        initiator.clear_unit_attentions(lun)?;
        let capacity = initiator.capacity(lun)?;
        let blocks = options.size / capacity.block_size;
        if blocks == 0 || !options.size.is_multiple_of(capacity.block_size) {
            bail!("{} bytes do not suit blocks of {}", options.size, capacity.block_size);
        }
        let disk = capacity.blocks * u64::from(capacity.block_size);
        let core = initiator.core();
        let (cmd_sn, exp_stat_sn, max_cmd_sn) = (core.cmd_sn(), core.exp_stat_sn().unwrap_or(0), core.window().1);
        let parameters = core.parameters().clone();
        let stream = initiator.stream().try_clone()?;
        stream.set_nonblocking(true)?;
        let mut connection = Self {
            link: Link::new(stream),
            inbox: Inbox::new(parameters.digests.header, parameters.digests.data, true),
            template: template(options, lun, blocks),
            operation: options.operation,
            length: options.size as usize,
            blocks,
            picker: Picker::new(options, disk, Rng::new(u64::from(number) + 1))?,
            cmd_sn,
            exp_stat_sn,
            max_cmd_sn,
            tags: Tags::new(options.depth),
            ready: Ready::default(),
            data_digests: Vec::new(),
            parameters,
        };
        let (immediate, unsolicited) = connection.first_burst();
        if options.operation == Operation::Write && unsolicited == 0 && (1..READY_BELOW).contains(&immediate) {
            connection.ready = Ready::new(connection.front(), immediate, connection.back());
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

    fn issue_ready(&mut self, mut header: Header, tag: usize, memory: &mut [u8]) {
        header[5..8].copy_from_slice(&(self.ready.data_length() as u32).to_be_bytes()[1..]);
        let (start, pdu) = self.ready.pdu(tag, memory);
        pdu[..48].copy_from_slice(&header);
        if self.parameters.digests.header {
            pdu[48..52].copy_from_slice(&crc32c::crc32c(&header).to_le_bytes());
        }
        let length = pdu.len();
        self.link.outbox.payload(start, length);
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
        self.link.outbox.header(&header);
        if self.parameters.digests.header {
            self.link.outbox.header(&crc32c::crc32c(&header).to_le_bytes());
        }
        self.link.outbox.payload(PAYLOAD, data);
        if self.parameters.digests.data && data > 0 {
            let digest = self.data_digest(data, payload);
            self.link.outbox.header(&digest);
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
                let issued = self.tags.end(tag)?;
                self.link.completed += 1;
                shared.count(now, issued);
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

/// Logs in.
pub(crate) fn login(options: &LoadOptions, number: u16) -> Result<Initiator> {
    let digest = |on: bool| if on { "CRC32C" } else { "None" };
    let config = LoginConfig::normal("iqn.2026-01.bench:load", &options.target)
        .with_isid(number)
        .with_key("HeaderDigest", digest(options.header_digest))
        .with_key("DataDigest", digest(options.data_digest));
    let mut initiator = Initiator::connect(options.portal, config).context("login")?;
    // Measuring a target that is a little off the standard is still useful.
    initiator.tolerate();
    Ok(initiator)
}

impl Peer for Connection {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    fn tags(&self) -> &Tags {
        &self.tags
    }

    fn ready(&mut self) -> &mut Ready {
        &mut self.ready
    }

    fn issue(&mut self, now: u64, shared: &mut Shared) {
        while self.max_cmd_sn.wrapping_sub(self.cmd_sn) < 1 << 31
            && let Some(tag) = self.tags.next(now)
        {
            let lba = self.picker.next() * u64::from(self.blocks);
            let mut header = self.template;
            header[16..20].copy_from_slice(&(tag as u32).to_be_bytes());
            header[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
            header[28..32].copy_from_slice(&self.exp_stat_sn.to_be_bytes());
            header[34..42].copy_from_slice(&lba.to_be_bytes());
            self.cmd_sn = self.cmd_sn.wrapping_add(1);
            match self.operation {
                Operation::Read => self.put(header, 0, &[]),
                Operation::Write if self.ready.is_some() => self.issue_ready(header, tag, shared.memory.bytes_mut()),
                Operation::Write => self.issue_write(header, tag as u32, shared.memory.bytes()),
            }
        }
    }

    fn receive(&mut self, clock: impl Fn() -> u64, shared: &mut Shared) -> Result<Option<u64>> {
        let mut time = None;
        loop {
            match self.inbox.fill(&self.link.stream)? {
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
}

/// A SCSI Command PDU with READ (16) or WRITE (16); tag, sequence numbers and LBA are filled in later.
fn template(options: &LoadOptions, lun: u32, blocks: u32) -> Header {
    let mut header = [0; 48];
    let (flags, opcode) = match options.operation {
        Operation::Read => (0xc1, 0x88),
        Operation::Write => (0xa1, 0x8a),
    };
    header[0] = 0x01;
    header[1] = flags;
    header[8..16].copy_from_slice(&scsi::lun(lun));
    header[20..24].copy_from_slice(&options.size.to_be_bytes());
    header[32] = opcode;
    header[42..46].copy_from_slice(&blocks.to_be_bytes());
    header
}
