//! The `limit` sub-command: a minimal responder, the reference that real targets are compared with.
//!
//! It answers logins, the few commands that a load needs to begin, and READ and WRITE with fixed data from memory.
//! Received data are copied out of the socket as a real target has to, every PDU of a turn is answered, one `sendmsg`
//! sends all answers. There is no SCSI behind it.

use std::io;
use std::net::{SocketAddr, TcpStream};

use anyhow::Result;
use clap::Args;
use scst_testkit::pdu::Digests;
use scst_testkit::text::{self, Keys};

use crate::inbox::{Filled, Header, Inbox};
use crate::outbox::{Outbox, Payload};
use crate::responder::{PAYLOAD_BYTES, Responder, serve};

/// Options of `limit`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LimitOptions {
    /// Where to listen.
    #[arg(long)]
    portal: SocketAddr,
    /// Size of the disk that it claims to be.
    #[arg(long, default_value_t = 1 << 30)]
    size: u64,
}

const BLOCK_SIZE: u64 = 512;
/// Commands that may be outstanding per session.
const WINDOW: u32 = 256;
/// Longest burst and segment, as SCST's defaults.
const MAX_BURST: u32 = PAYLOAD_BYTES as u32;
const FIRST_BURST: u32 = 65_536;
const RESERVED: u32 = 0xffff_ffff;

/// Serves until killed.
pub(crate) fn run(options: &LimitOptions) -> Result<()> {
    serve(options.portal, |stream| Client::new(stream, options.size))
}

struct Client {
    stream: TcpStream,
    inbox: Inbox,
    outbox: Outbox,
    /// A PDU whose data segment is not all there yet.
    deferred: Option<Header>,
    full_feature: bool,
    digests: Digests,
    closing: bool,
    size: u64,
    stat_sn: u32,
    exp_cmd_sn: u32,
    initiator_segment: u32,
    /// WRITEs that wait for data: expected and received bytes, and the LUN.
    writes: Vec<PendingWrite>,
}

struct PendingWrite {
    itt: u32,
    expected: u32,
    received: u32,
    lun: [u8; 8],
}

fn word(header: &Header, at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

fn data_length(header: &Header) -> u32 {
    word(header, 4) & 0xff_ffff
}

impl Client {
    fn new(stream: TcpStream, size: u64) -> Self {
        Self {
            stream,
            inbox: Inbox::new(false, false, false),
            outbox: Outbox::default(),
            deferred: None,
            full_feature: false,
            digests: Digests::default(),
            closing: false,
            size,
            stat_sn: 1,
            exp_cmd_sn: 1,
            initiator_segment: 8192,
            writes: Vec::new(),
        }
    }

    fn answer_all(&mut self, payload: &[u8]) {
        loop {
            let header = match self.deferred.take() {
                Some(header) => header,
                None => match self.inbox.next_header() {
                    Some(header) => header,
                    None => return,
                },
            };
            if self.inbox.is_skipping() {
                self.deferred = Some(header);
                return;
            }
            self.request(&header, payload);
        }
    }

    fn request(&mut self, header: &Header, payload: &[u8]) {
        let opcode = header[0] & 0x3f;
        if header[0] & 0x40 == 0 && opcode != 0x05 {
            self.exp_cmd_sn = word(header, 24).wrapping_add(1);
        }
        match opcode {
            0x01 => self.command(header, payload),
            0x05 => self.data_out(header),
            0x06 => {
                self.closing = true;
                self.respond(0x26, header, |_| {});
            }
            0x00 if word(header, 16) != RESERVED => self.respond(0x20, header, |answer| answer[20..24].fill(0xff)),
            0x00 => {}
            0x02 => self.respond(0x22, header, |_| {}),
            _ => self.closing = true,
        }
    }

    fn command(&mut self, header: &Header, payload: &[u8]) {
        let expected = word(header, 20);
        match header[32] {
            0x28 | 0x88 | 0xa8 => self.read(header, expected, payload),
            0x2a | 0x8a | 0xaa => self.write(header, expected),
            0x12 => {
                let mut data = vec![0, 0, 6, 2, 31, 0, 0, 2];
                data.extend_from_slice(b"BENCH   LIMIT           0001");
                self.data_in(header, expected, &data);
            }
            0x9e => {
                let mut data = (self.size / BLOCK_SIZE - 1).to_be_bytes().to_vec();
                data.extend_from_slice(&(BLOCK_SIZE as u32).to_be_bytes());
                data.resize(32, 0);
                self.data_in(header, expected, &data);
            }
            _ => self.respond(0x21, header, |_| {}),
        }
    }

    /// Fixed data, status in the last Data-In PDU.
    fn read(&mut self, header: &Header, expected: u32, payload: &[u8]) {
        let mut offset = 0;
        let mut data_sn = 0_u32;
        while offset < expected {
            let piece = (expected - offset).min(self.initiator_segment).min(MAX_BURST);
            let last = offset + piece == expected;
            let mut answer = self.answer(0x25, header);
            answer[1] = if last { 0x81 } else { 0 };
            answer[5..8].copy_from_slice(&piece.to_be_bytes()[1..]);
            answer[20..24].fill(0xff);
            answer[36..40].copy_from_slice(&data_sn.to_be_bytes());
            answer[40..44].copy_from_slice(&offset.to_be_bytes());
            self.put(&answer);
            self.outbox.payload(0, piece as usize);
            if self.digests.data {
                self.outbox.header(&crc32c::crc32c(&payload[..piece as usize]).to_le_bytes());
            }
            offset += piece;
            data_sn += 1;
        }
        self.stat_sn = self.stat_sn.wrapping_add(1);
    }

    fn data_in(&mut self, header: &Header, expected: u32, data: &[u8]) {
        let data = &data[..data.len().min(expected as usize)];
        let residual = expected - data.len() as u32;
        let mut answer = self.answer(0x25, header);
        answer[1] = if residual > 0 { 0x83 } else { 0x81 };
        answer[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
        answer[20..24].fill(0xff);
        answer[44..48].copy_from_slice(&residual.to_be_bytes());
        self.put(&answer);
        let mut data = data.to_vec();
        data.resize(data.len().next_multiple_of(4), 0);
        self.outbox.header(&data);
        if self.digests.data && !data.is_empty() {
            self.outbox.header(&crc32c::crc32c(&data).to_le_bytes());
        }
        self.stat_sn = self.stat_sn.wrapping_add(1);
    }

    /// Sends a header, with its digest if there shall be one.
    fn put(&mut self, header: &Header) {
        self.outbox.header(header);
        if self.digests.header {
            self.outbox.header(&crc32c::crc32c(header).to_le_bytes());
        }
    }

    fn write(&mut self, header: &Header, expected: u32) {
        let received = data_length(header);
        if received >= expected {
            return self.respond(0x21, header, |_| {});
        }
        let mut lun = [0; 8];
        lun.copy_from_slice(&header[8..16]);
        let itt = word(header, 16);
        self.writes.push(PendingWrite { itt, expected, received, lun });
        if header[1] & 0x80 != 0 {
            self.ask_for_more(header);
        }
    }

    fn data_out(&mut self, header: &Header) {
        let itt = word(header, 16);
        let Some(at) = self.writes.iter().position(|write| write.itt == itt) else { return };
        self.writes[at].received += data_length(header);
        if self.writes[at].received >= self.writes[at].expected {
            self.writes.swap_remove(at);
            self.respond(0x21, header, |_| {});
        } else if header[1] & 0x80 != 0 {
            self.ask_for_more(header);
        }
    }

    /// R2T for the next burst of the WRITE that this PDU belongs to.
    fn ask_for_more(&mut self, header: &Header) {
        let itt = word(header, 16);
        let Some(write) = self.writes.iter().find(|write| write.itt == itt) else { return };
        let length = (write.expected - write.received).min(MAX_BURST);
        let (offset, lun) = (write.received, write.lun);
        let mut answer = self.answer(0x31, header);
        answer[8..16].copy_from_slice(&lun);
        answer[20..24].copy_from_slice(&itt.to_be_bytes());
        answer[36..40].copy_from_slice(&(offset / MAX_BURST).to_be_bytes());
        answer[40..44].copy_from_slice(&offset.to_be_bytes());
        answer[44..48].copy_from_slice(&length.to_be_bytes());
        self.put(&answer);
    }

    /// An answer without data that takes a StatSN.
    fn respond(&mut self, opcode: u8, header: &Header, change: impl FnOnce(&mut Header)) {
        let mut answer = self.answer(opcode, header);
        change(&mut answer);
        self.put(&answer);
        self.stat_sn = self.stat_sn.wrapping_add(1);
    }

    fn answer(&self, opcode: u8, header: &Header) -> Header {
        let mut answer = [0; 48];
        answer[0] = opcode;
        answer[1] = 0x80;
        answer[16..20].copy_from_slice(&header[16..20]);
        answer[24..28].copy_from_slice(&self.stat_sn.to_be_bytes());
        answer[28..32].copy_from_slice(&self.exp_cmd_sn.to_be_bytes());
        answer[32..36].copy_from_slice(&self.exp_cmd_sn.wrapping_add(WINDOW - 1).to_be_bytes());
        answer
    }

    /// Accepts any login. False when what came is no login.
    fn login(&mut self) -> bool {
        while !self.full_feature {
            let Some((header, data)) = self.inbox.next_pdu() else { return true };
            let Ok(keys) = text::decode(data) else { return false };
            if header[0] & 0x3f != 0x03 {
                return false;
            }
            if let Some(length) = text::get(&keys, "MaxRecvDataSegmentLength").and_then(|value| value.parse().ok()) {
                self.initiator_segment = length;
            }
            self.exp_cmd_sn = word(&header, 24);
            let answers = answers(&keys);
            for (key, value) in &answers {
                match key.as_str() {
                    "HeaderDigest" => self.digests.header = value == "CRC32C",
                    "DataDigest" => self.digests.data = value == "CRC32C",
                    _ => {}
                }
            }
            let text = text::encode(&answers);
            let mut answer = self.answer(0x23, &header);
            answer[1] = header[1] & 0x8f;
            answer[5..8].copy_from_slice(&(text.len() as u32).to_be_bytes()[1..]);
            answer[8..16].copy_from_slice(&header[8..16]);
            if header[1] & 0x83 == 0x83 {
                self.full_feature = true;
                self.inbox.check_digests(self.digests.header, self.digests.data);
                answer[14..16].copy_from_slice(&1_u16.to_be_bytes());
            }
            self.outbox.header(&answer);
            self.outbox.header(&text);
            self.outbox.header(&[0; 3][..text.len().next_multiple_of(4) - text.len()]);
            self.stat_sn = self.stat_sn.wrapping_add(1);
        }
        true
    }
}

impl Responder for Client {
    fn turn(&mut self, payload: &[u8]) -> io::Result<bool> {
        loop {
            match self.inbox.fill(&self.stream)? {
                Filled::Some => {}
                Filled::Nothing => break,
                Filled::Closed => return Ok(false),
            }
            let full = self.inbox.is_full();
            if !self.full_feature && !self.login() {
                return Ok(false);
            }
            if self.full_feature {
                self.answer_all(payload);
                if self.inbox.is_corrupt() {
                    return Ok(false);
                }
            }
            if !full {
                break;
            }
        }
        self.outbox.send(&self.stream, Payload::Bytes(payload))?;
        Ok(!(self.closing && self.outbox.is_empty()))
    }

    fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn wants_write(&self) -> bool {
        !self.outbox.is_empty()
    }
}

/// What a target with SCST's defaults answers.
fn answers(keys: &Keys) -> Keys {
    let mut answers = Keys::new();
    if text::get(keys, "TargetName").is_some() {
        answers.push(("TargetPortalGroupTag".to_owned(), "1".to_owned()));
    }
    for (key, value) in keys {
        let smaller = |limit: u32| value.parse::<u32>().map_or(limit, |offered| offered.min(limit)).to_string();
        let answer = match key.as_str() {
            "InitiatorName" | "TargetName" | "SessionType" | "InitiatorAlias" => continue,
            "HeaderDigest" | "DataDigest" => value.split(',').next().unwrap_or("None").to_owned(),
            "AuthMethod" => "None".to_owned(),
            "MaxRecvDataSegmentLength" => MAX_BURST.to_string(),
            "MaxBurstLength" => smaller(MAX_BURST),
            "FirstBurstLength" => smaller(FIRST_BURST),
            _ => value.clone(),
        };
        answers.push((key.clone(), answer));
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{self, LoadOptions, Operation};
    use scst_testkit::{Initiator, LoginConfig, free_portal};

    /// The responder and the load against each other, every path of data: immediate, unsolicited, solicited, split.
    #[test]
    fn the_load_runs_against_the_responder_and_the_strict_initiator_has_no_complaint() {
        let portal = free_portal().unwrap();
        std::thread::spawn(move || run(&LimitOptions { portal, size: 1 << 26 }));
        while TcpStream::connect(portal).is_err() {
            std::thread::yield_now();
        }
        let mut initiator = Initiator::connect(portal, LoginConfig::normal("iqn.i", "iqn.t")).unwrap();
        assert_eq!(initiator.capacity(0).unwrap().blocks, 1 << 17);
        let write = scst_testkit::Command::write_blocks(0, 0, 512, vec![1; 1 << 19]);
        assert_eq!(initiator.run(write).unwrap().r2ts, 1);
        assert_eq!(initiator.run(scst_testkit::Command::read_blocks(0, 0, 2048, 512)).unwrap().data_in_pdus, 4);
        assert_eq!(initiator.ping(b"").unwrap(), b"");
        assert_eq!(initiator.logout_and_wait().unwrap(), 0);

        for (operation, size, depth, connections, block, digests) in [
            (Operation::Read, 4096, 32, 1, false, false),
            (Operation::Write, 4096, 32, 3, false, false),
            (Operation::Write, 4096, 32, 16, false, true),
            (Operation::Write, 4096, 32, 3, true, false),
            (Operation::Read, 1 << 20, 4, 2, true, true),
            (Operation::Write, 1 << 20, 4, 1, true, true),
            (Operation::Write, 1 << 20, 4, 1, false, false),
        ] {
            let options = LoadOptions::for_test(portal, operation, size, depth, connections);
            let digests = LoadOptions { header_digest: digests, data_digest: digests, block, ..options };
            let report = load::run(&digests).unwrap();
            assert!(report.iops > 0.0, "{operation:?} {size}: {report}");
        }
    }
}
