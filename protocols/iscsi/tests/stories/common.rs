//! A tiny initiator and a target driver over plain byte vectors, in virtual time.

use std::collections::BTreeMap;

use scst_protocol_iscsi::chap::ChapEntropy;
use scst_protocol_iscsi::connection::{Connection, TaskResponse};
use scst_protocol_iscsi::digest::{crc32c, digest_bytes};
use scst_protocol_iscsi::error::CloseReason;
use scst_protocol_iscsi::event::{CommandEvent, Input, RecvEvent, TaskHandle};
use scst_protocol_iscsi::login::{Admission, LoginConnection, LoginEvent, Refusal, SessionIdentity};
use scst_protocol_iscsi::params::TargetParameters;
use scst_protocol_iscsi::pdu::*;
use scst_protocol_iscsi::session::Session;
use scst_protocol_iscsi::text::pairs;
use scst_protocol_iscsi::transmit::TransmitSink;
use scst_scsi::{Lun, ScsiStatus};

pub(crate) const LUN: Lun = Lun([0, 1, 0, 0, 0, 0, 0, 0]);
pub(crate) const ISID: [u8; 6] = [0x00, 0x02, 0x3d, 0, 0, 1];
pub(crate) const TSIH: u16 = 0x4711;
pub(crate) const FIRST_CMD_SN: u32 = 100;
pub(crate) const FIRST_STAT_SN: u32 = 500;
pub(crate) const ENTROPY: ChapEntropy = ChapEntropy { identifier: 7, challenge: [0x5a; 32] };
pub(crate) const NAMES: &[(&str, &str)] =
    &[("InitiatorName", "iqn.2024-01.example:initiator"), ("TargetName", "iqn.2024-01.example:target")];
pub(crate) const SECOND: u64 = 1_000_000_000;

/// A PDU from the target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pdu {
    pub(crate) header: BasicHeaderSegment,
    pub(crate) data: Vec<u8>,
}

impl Pdu {
    pub(crate) fn opcode(&self) -> u8 {
        self.header.opcode()
    }

    pub(crate) fn text(&self) -> Vec<(String, String)> {
        pairs(&self.data).map(|p| p.unwrap()).map(|(k, v)| (k.into(), v.into())).collect()
    }
}

/// Puts a PDU on the wire.
pub(crate) fn frame(
    header: BasicHeaderSegment,
    ahs: &[u8],
    data: &[u8],
    header_digest: bool,
    data_digest: bool,
) -> Vec<u8> {
    let mut out = header.0.to_vec();
    out[4] = (ahs.len() / 4) as u8;
    out[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(ahs);
    if header_digest {
        out.extend_from_slice(&digest_bytes(crc32c(0, &out)));
    }
    let start = out.len();
    out.extend_from_slice(data);
    out.resize(out.len() + padding(data.len() as u32) as usize, 0);
    if data_digest && !data.is_empty() {
        let crc = crc32c(0, &out[start..]);
        out.extend_from_slice(&digest_bytes(crc));
    }
    out
}

/// Takes whole PDUs off the wire and checks their digests.
pub(crate) fn unframe(wire: &mut Vec<u8>, header_digest: bool, data_digest: bool) -> Vec<Pdu> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(header) = BasicHeaderSegment::from_slice(&wire[at..]) {
        let mut end = at + BHS_LENGTH;
        assert_eq!(header.ahs_length(), 0);
        if header_digest {
            assert_eq!(wire[end..end + 4], digest_bytes(crc32c(0, &header.0)));
            end += 4;
        }
        let length = header.data_length();
        let data = wire[end..end + length as usize].to_vec();
        let padded = end + (length + padding(length)) as usize;
        let crc = crc32c(0, &wire[end..padded]);
        end = padded;
        if data_digest && length > 0 {
            assert_eq!(wire[end..end + 4], digest_bytes(crc));
            end += 4;
        }
        out.push(Pdu { header, data });
        at = end;
    }
    wire.drain(..at);
    assert!(wire.is_empty(), "half a PDU was sent");
    out
}

/// The login phase, PDU by PDU.
pub(crate) struct LoginPair {
    pub(crate) target: LoginConnection,
    pub(crate) template: LoginRequest,
    /// Bytes that the machine is offered at a time.
    pub(crate) fragment: usize,
    pub(crate) admission: Result<Admission, Refusal>,
    pub(crate) tsih: Result<u16, Refusal>,
    pub(crate) authorized: Vec<SessionIdentity>,
    pub(crate) established: Vec<SessionIdentity>,
    pub(crate) closed: Option<CloseReason>,
    pub(crate) full_feature: bool,
}

pub(crate) fn admission(parameters: TargetParameters) -> Admission {
    Admission { parameters, chap: None, entropy: ENTROPY, portal_group_tag: 1, target_alias: None }
}

impl LoginPair {
    pub(crate) fn new(admission: Admission) -> Self {
        let template = LoginRequest {
            immediate: true,
            transit: false,
            continues: false,
            csg: 1,
            nsg: 0,
            version_max: 0,
            version_min: 0,
            ahs_length: 0,
            data_length: 0,
            isid: ISID,
            tsih: 0,
            itt: 1,
            cid: 0,
            cmd_sn: FIRST_CMD_SN,
            exp_stat_sn: FIRST_STAT_SN,
        };
        Self {
            target: LoginConnection::new(15 * SECOND),
            template,
            fragment: usize::MAX,
            admission: Ok(admission),
            tsih: Ok(TSIH),
            authorized: Vec::new(),
            established: Vec::new(),
            closed: None,
            full_feature: false,
        }
    }

    /// One request and what comes back. `to` is the stage to go to.
    pub(crate) fn step(&mut self, csg: u8, to: Option<u8>, keys: &[(&str, &str)]) -> Vec<(LoginResponse, Pdu)> {
        let text: Vec<u8> = keys.iter().flat_map(|(k, v)| format!("{k}={v}\0").into_bytes()).collect();
        self.send(LoginRequest { csg, transit: to.is_some(), nsg: to.unwrap_or(0), ..self.template }, &text)
    }

    pub(crate) fn send(&mut self, request: LoginRequest, data: &[u8]) -> Vec<(LoginResponse, Pdu)> {
        self.offer(&frame(request.emit(), &[], data, false, false))
    }

    pub(crate) fn offer(&mut self, bytes: &[u8]) -> Vec<(LoginResponse, Pdu)> {
        let mut wire = Vec::new();
        let mut at = 0usize;
        let mut idle = 0;
        while idle < 3 {
            let end = bytes.len().min(at.saturating_add(self.fragment));
            let used = self.target.input(&bytes[at..end]);
            at += used;
            let mut out = [0; 100];
            let sent = self.target.poll_transmit(&mut out);
            wire.extend_from_slice(&out[..sent]);
            let event = self.target.poll_event();
            idle = if used == 0 && sent == 0 && event.is_none() { idle + 1 } else { 0 };
            match event {
                Some(LoginEvent::Authorize(identity)) => {
                    self.authorized.push(identity);
                    self.target.authorize(self.admission.clone());
                }
                Some(LoginEvent::Establish(identity)) => {
                    self.established.push(identity);
                    self.target.establish(self.tsih.clone());
                }
                Some(LoginEvent::FullFeature) => self.full_feature = true,
                Some(LoginEvent::Close(reason)) => self.closed = Some(reason),
                None => {}
            }
        }
        unframe(&mut wire, false, false).into_iter().map(|p| (LoginResponse::parse(&p.header), p)).collect()
    }

    /// One request with one response.
    pub(crate) fn one(
        &mut self,
        csg: u8,
        to: Option<u8>,
        keys: &[(&str, &str)],
    ) -> (LoginResponse, Vec<(String, String)>) {
        let mut all = self.step(csg, to, keys);
        assert_eq!(all.len(), 1, "{all:?} {:?}", self.closed);
        let (response, pdu) = all.remove(0);
        (response, pdu.text())
    }
}

/// A session in the full feature phase.
pub(crate) struct Pair {
    pub(crate) target: Connection,
    pub(crate) session: Session,
    pub(crate) now: u64,
    pub(crate) fragment: usize,
    pub(crate) to_target: Vec<u8>,
    pub(crate) buffers: BTreeMap<u64, Vec<u8>>,
    pub(crate) finished: Vec<u64>,
    /// Fetch all data of a write command as soon as it comes.
    pub(crate) auto_fetch: bool,
    pub(crate) cmd_sn: u32,
    /// Room in the sink per batch.
    pub(crate) room: usize,
    pub(crate) close: bool,
    pub(crate) last_input: Option<Input>,
    next_user: u64,
}

impl Pair {
    pub(crate) fn new(parameters: TargetParameters, keys: &[(&str, &str)]) -> Self {
        let mut login = LoginPair::new(admission(parameters));
        let (response, _) = login.one(1, Some(3), &[NAMES, keys].concat());
        assert_eq!((response.status, response.tsih, login.full_feature), (0, TSIH, true));
        let (target, session) = login.target.into_full_feature(0).unwrap();
        Self {
            target,
            session,
            now: 0,
            fragment: usize::MAX,
            to_target: Vec::new(),
            buffers: BTreeMap::new(),
            finished: Vec::new(),
            auto_fetch: true,
            cmd_sn: FIRST_CMD_SN,
            room: 4096,
            close: false,
            last_input: None,
            next_user: 0,
        }
    }

    pub(crate) fn plain() -> Self {
        Self::new(TargetParameters::default(), &[("InitialR2T", "No"), ("MaxRecvDataSegmentLength", "65536")])
    }

    pub(crate) fn send(&mut self, header: BasicHeaderSegment, data: &[u8]) -> Vec<RecvEvent> {
        self.send_ahs(header, &[], data)
    }

    pub(crate) fn send_ahs(&mut self, header: BasicHeaderSegment, ahs: &[u8], data: &[u8]) -> Vec<RecvEvent> {
        let p = *self.target.parameters();
        let bytes = frame(header, ahs, data, p.header_digest, p.data_digest);
        self.send_raw(&bytes)
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> Vec<RecvEvent> {
        self.to_target.extend_from_slice(bytes);
        self.pump()
    }

    /// The driver's receive loop; payload goes to the buffers and is no event.
    pub(crate) fn pump(&mut self) -> Vec<RecvEvent> {
        let mut events = Vec::new();
        let mut window = 0usize;
        loop {
            let end = window.min(self.to_target.len());
            let (used, input) = self.target.poll_input(&mut self.session, self.now, &self.to_target[..end]);
            self.to_target.drain(..used);
            window -= used;
            match &input {
                Input::Event(RecvEvent::Payload { task, user, offset, length }) => {
                    assert_eq!(self.session.user(*task), Some(*user));
                    let take = (*length as usize).min(window);
                    if take == 0 {
                        if window == self.to_target.len() {
                            return events;
                        }
                        window = window.saturating_add(self.fragment).min(self.to_target.len());
                        continue;
                    }
                    let bytes: Vec<u8> = self.to_target.drain(..take).collect();
                    window -= take;
                    let crc = self.target.payload_crc().map(|crc| crc32c(crc, &bytes));
                    let buffer = self.buffers.get_mut(&task.to_bits()).unwrap();
                    buffer[*offset as usize..][..take].copy_from_slice(&bytes);
                    self.target.payload_received(take as u32, crc);
                }
                Input::Event(event) => {
                    if let RecvEvent::Command(command) = event {
                        self.on_command(command);
                    }
                    events.push(event.clone());
                }
                Input::NeedBytes(_) if window < self.to_target.len() => {
                    window = window.saturating_add(self.fragment).min(self.to_target.len());
                }
                _ => {
                    self.last_input = Some(input);
                    return events;
                }
            }
        }
    }

    fn on_command(&mut self, command: &CommandEvent) {
        self.next_user += 1;
        assert!(self.session.set_user(command.task, self.next_user));
        let size = command.write_length.max(command.read_length) as usize;
        self.buffers.insert(command.task.to_bits(), vec![0; size]);
        if self.auto_fetch && command.write {
            assert!(self.target.request_data(&mut self.session, self.now, command.task, command.write_length));
        }
    }

    /// Everything that the target has to send.
    pub(crate) fn receive(&mut self) -> Vec<Pdu> {
        let p = *self.target.parameters();
        let mut wire = Vec::new();
        loop {
            let mut sink = Sink {
                wire: &mut wire,
                room: self.room,
                payloads: 2,
                buffers: &self.buffers,
                finished: &mut self.finished,
            };
            let sent = self.target.poll_transmit(&mut self.session, self.now, &mut sink);
            self.close |= sent.close;
            if !sent.more {
                break;
            }
        }
        unframe(&mut wire, p.header_digest, p.data_digest)
    }

    /// A command with the next CmdSN.
    pub(crate) fn command(&mut self, itt: u32, direction: &str, length: u32) -> ScsiCommand {
        let mut cdb = [0; 16];
        cdb[0] = if direction.contains('w') { 0x2a } else { 0x28 };
        let cmd_sn = self.cmd_sn;
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        ScsiCommand {
            immediate: false,
            last: true,
            read: direction.contains('r'),
            write: direction.contains('w'),
            attribute: TaskAttributeCode::SIMPLE,
            ahs_length: 0,
            data_length: 0,
            lun: LUN,
            itt,
            expected_length: length,
            cmd_sn,
            exp_stat_sn: 0,
            cdb,
        }
    }

    pub(crate) fn data_out(&self, itt: u32, ttt: u32, data_sn: u32, offset: u32, last: bool) -> DataOut {
        DataOut { last, data_length: 0, lun: LUN, itt, ttt, exp_stat_sn: 0, data_sn, buffer_offset: offset }
    }

    pub(crate) fn good(&mut self, task: TaskHandle, data_in: u32, wanted: u32) {
        let response = TaskResponse { status: ScsiStatus::GOOD, sense: &[], data_in, wanted, read_wanted: 0 };
        assert!(self.target.queue_response(&mut self.session, task, response));
    }
}

/// The command among the events.
pub(crate) fn command_of(events: &[RecvEvent]) -> CommandEvent {
    events
        .iter()
        .find_map(|e| if let RecvEvent::Command(c) = e { Some((**c).clone()) } else { None })
        .expect("no command")
}

/// Recognisable bytes.
pub(crate) fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8).wrapping_add(seed)).collect()
}

struct Sink<'a> {
    wire: &'a mut Vec<u8>,
    room: usize,
    payloads: usize,
    buffers: &'a BTreeMap<u64, Vec<u8>>,
    finished: &'a mut Vec<u64>,
}

impl Sink<'_> {
    fn range(&self, task: TaskHandle, offset: u32, length: u32) -> &[u8] {
        &self.buffers[&task.to_bits()][offset as usize..][..length as usize]
    }
}

impl TransmitSink for Sink<'_> {
    fn room(&self) -> usize {
        self.room
    }

    fn payload_fits(&self, _: TaskHandle, _: u64, _: u32, _: u32) -> bool {
        self.payloads > 0
    }

    fn bytes(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.room);
        self.room -= bytes.len();
        self.wire.extend_from_slice(bytes);
    }

    fn payload(&mut self, task: TaskHandle, _: u64, offset: u32, length: u32) {
        self.payloads -= 1;
        let bytes = self.range(task, offset, length).to_vec();
        self.wire.extend_from_slice(&bytes);
    }

    fn payload_crc32c(&mut self, task: TaskHandle, _: u64, offset: u32, length: u32, crc: u32) -> u32 {
        crc32c(crc, self.range(task, offset, length))
    }

    fn end_of_task(&mut self, _: TaskHandle, user: u64) {
        self.finished.push(user);
    }
}
