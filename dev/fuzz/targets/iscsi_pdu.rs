//! Bytes of an initiator against the sans-IO protocol, in random fragments: from the first byte of a login, or after a
//! valid login whose keys the first bytes choose. The driver's side is played mechanically.
//!
//! Checked: no panic; never more consumed than offered; payload stays inside its buffer; tasks and queued answers stay
//! within their limits.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use scst_protocol_iscsi::chap::{ChapConfig, ChapEntropy, ChapUser};
use scst_protocol_iscsi::connection::{
    AsyncMessage, Connection, LogoutResponse, MAX_SMALL_BYTES, MAX_SMALL_PDUS, TargetListing, TaskResponse,
};
use scst_protocol_iscsi::event::{CommandEvent, Input, RecvEvent, TaskHandle, TmfTag};
use scst_protocol_iscsi::login::{Admission, LoginConnection, LoginEvent, RefusalReason};
use scst_protocol_iscsi::params::TargetParameters;
use scst_protocol_iscsi::session::Session;
use scst_protocol_iscsi::transmit::TransmitSink;
use scst_scsi::{Lun, ScsiStatus, TaskManagementResponse};
use scst_testkit::initiator::{Core, LoginConfig};
use scst_testkit::pdu::{Digests, Pdu, PduDecoder, opcode};

/// Commands that a session may have, with the immediate ones beside the window.
const MOST_TASKS: usize = 32 + 64;
/// What a driver can hold of one header and what is before it.
const READ_AHEAD: usize = 64 << 10;
/// Longest data phase that is played; more is cut by the driver, as it would by the mid-level.
const LONGEST: usize = 1 << 16;

/// The fuzzer's decisions, used from the front.
struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    fn u8(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn u16(&mut self) -> u16 {
        u16::from(self.u8()) << 8 | u16::from(self.u8())
    }

    fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        head
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fuzz_target!(|data: &[u8]| {
    let mut source = Source(data);
    let mode = source.u8();
    match mode % 4 {
        0 => login_from_the_first_byte(&mut source),
        1 => {
            if let Some(mut target) = Target::log_in(&mut source, false) {
                target.play_raw(&mut source);
            }
        }
        _ => {
            if let Some(mut target) = Target::log_in(&mut source, true) {
                target.play(&mut source);
            }
        }
    }
});

fn admission(chap: bool) -> Admission {
    let user = ChapUser::new("user", b"a secret of sixteen").ok();
    let chap = chap.then(|| ChapConfig { incoming: user.clone().into_iter().collect(), outgoing: user });
    Admission {
        parameters: parameters(),
        chap,
        entropy: ChapEntropy { identifier: 7, challenge: [0x5a; 32] },
        portal_group_tag: 1,
        target_alias: Some("alias".to_owned()),
    }
}

fn parameters() -> TargetParameters {
    let mut parameters = TargetParameters::default();
    for name in ["HeaderDigest", "DataDigest"] {
        parameters.set(name, "CRC32C,None").expect("a valid value");
    }
    parameters
}

fn login_from_the_first_byte(source: &mut Source<'_>) {
    let (chap, refuse, fragment) = (source.u8() & 1 != 0, source.u8() & 7 == 7, usize::from(source.u8()).max(1));
    let mut machine = LoginConnection::new(15);
    let mut unread = Vec::new();
    let mut idle = 0;
    while idle < 3 {
        unread.extend_from_slice(source.take(fragment));
        let used = machine.input(&unread);
        assert!(used <= unread.len());
        unread.drain(..used);
        let mut out = [0; 700];
        let sent = machine.poll_transmit(&mut out);
        let event = machine.poll_event();
        idle = if used == 0 && sent == 0 && event.is_none() && source.is_empty() { idle + 1 } else { 0 };
        match event {
            Some(LoginEvent::Authorize(_)) if refuse => machine.authorize(Err(RefusalReason::NoTarget.into())),
            Some(LoginEvent::Authorize(_)) => machine.authorize(Ok(admission(chap))),
            Some(LoginEvent::Establish(_)) => machine.establish(Ok(1)),
            Some(LoginEvent::FullFeature) => {
                let Some((connection, session)) = machine.into_full_feature(0) else { return };
                let mut target = Target::new(connection, session, Digests::default());
                target.wire = unread;
                return target.play_raw(source);
            }
            Some(LoginEvent::Close(_)) => return,
            None => {}
        }
        if unread.len() > READ_AHEAD {
            return;
        }
    }
    machine.handle_timeout(16);
    while machine.poll_event().is_some() {}
}

/// A task as the driver knows it.
struct Task {
    handle: TaskHandle,
    buffer: Vec<u8>,
    read: usize,
    write: usize,
    requested: bool,
    answered: bool,
}

#[derive(Clone, Copy)]
struct R2t {
    itt: u32,
    ttt: u32,
    offset: u32,
    length: u32,
}

struct Target {
    connection: Connection,
    session: Session,
    digests: Digests,
    now: u64,
    wire: Vec<u8>,
    tasks: BTreeMap<u64, Task>,
    functions: Vec<TmfTag>,
    logout: bool,
    decoder: PduDecoder,
    r2ts: Vec<R2t>,
    over: bool,
}

impl Target {
    fn new(connection: Connection, session: Session, digests: Digests) -> Self {
        Self {
            connection,
            session,
            digests,
            now: 0,
            wire: Vec::new(),
            tasks: BTreeMap::new(),
            functions: Vec::new(),
            logout: false,
            decoder: PduDecoder::default(),
            r2ts: Vec::new(),
            over: false,
        }
    }

    /// A valid login with keys that the fuzzer chooses.
    fn log_in(source: &mut Source<'_>, digests: bool) -> Option<Self> {
        let choice = source.u8();
        let yes_no = |bit: u8| if choice & bit != 0 { "Yes" } else { "No" };
        let size = ["512", "1024", "8192", "65536"][usize::from(source.u8() & 3)];
        let wanted = Digests { header: digests && choice & 4 != 0, data: digests && choice & 8 != 0 };
        let mut login = LoginConfig::normal("iqn.2026-01.local.host:1", "iqn.2026-01.local.scst:fuzz")
            .with_digests(wanted)
            .with_key("InitialR2T", yes_no(1))
            .with_key("ImmediateData", yes_no(2))
            .with_key("MaxBurstLength", size)
            .with_key("FirstBurstLength", if choice & 16 != 0 { "512" } else { size })
            .with_key("MaxRecvDataSegmentLength", if choice & 32 != 0 { "512" } else { "65536" });
        if choice & 64 != 0 {
            login = LoginConfig::discovery("iqn.2026-01.local.host:1");
        }
        let digests = if choice & 64 != 0 { Digests::default() } else { wanted };
        let mut core = Core::new(login);
        core.start();
        let mut machine = LoginConnection::new(15);
        for _ in 0..64 {
            let bytes = core.take_output();
            let mut at = 0;
            while at < bytes.len() {
                at += machine.input(&bytes[at..]);
                match machine.poll_event() {
                    Some(LoginEvent::Authorize(_)) => machine.authorize(Ok(admission(false))),
                    Some(LoginEvent::Establish(_)) => machine.establish(Ok(1)),
                    _ => {}
                }
            }
            loop {
                let mut out = [0; 512];
                let sent = machine.poll_transmit(&mut out);
                core.handle_input(&out[..sent]);
                match machine.poll_event() {
                    Some(LoginEvent::Authorize(_)) => machine.authorize(Ok(admission(false))),
                    Some(LoginEvent::Establish(_)) => machine.establish(Ok(1)),
                    Some(LoginEvent::FullFeature) => {
                        let (connection, session) = machine.into_full_feature(0)?;
                        return Some(Self::new(connection, session, digests));
                    }
                    Some(LoginEvent::Close(reason)) => panic!("a valid login failed: {reason:?}"),
                    None if sent == 0 => break,
                    None => {}
                }
            }
        }
        panic!("a valid login does not end");
    }

    /// The rest is what the initiator sends.
    fn play_raw(&mut self, source: &mut Source<'_>) {
        while !source.is_empty() && !self.over {
            let fragment = usize::from(source.u8()).max(1);
            self.wire.extend_from_slice(source.take(fragment));
            self.pump(usize::MAX);
            let act = self.wire.len() & 7;
            self.serve(act as u8);
        }
        self.end();
    }

    /// The rest is decisions: PDUs with right lengths and digests, and what the driver does.
    fn play(&mut self, source: &mut Source<'_>) {
        let mut steps = 0;
        while !source.is_empty() && !self.over && steps < 400 {
            steps += 1;
            let what = source.u8();
            match what & 15 {
                0 => self.any_pdu(source),
                1 | 2 => self.command(source),
                3 | 4 => self.solicited(source),
                5 => self.unsolicited(source),
                6 => self.request(source, opcode::NOP_OUT),
                7 => self.request(source, opcode::TEXT),
                8 => self.request(source, opcode::TASK_MANAGEMENT),
                9 => self.request(source, [opcode::LOGOUT, opcode::SNACK][usize::from(what >> 7)]),
                10 | 11 => self.answer(source),
                12 => self.abort(source),
                13 => self.time(source),
                14 => self.speak(source),
                _ => self.transmit(usize::from(source.u8()) * 16 + 512),
            }
            self.pump(usize::from(what >> 4) * 37 + 1);
        }
        self.end();
    }

    fn send(&mut self, pdu: &Pdu) {
        pdu.encode(self.digests, &mut self.wire);
    }

    fn any_pdu(&mut self, source: &mut Source<'_>) {
        let mut pdu = Pdu::new(0);
        let header = source.take(48);
        pdu.bhs[..header.len()].copy_from_slice(header);
        let ahs = usize::from(source.u8() & 15) * 4;
        pdu.ahs = source.take(ahs).to_vec();
        pdu.ahs.resize(pdu.ahs.len().next_multiple_of(4), 0);
        let length = usize::from(source.u16() & 0x3ff);
        pdu.data = source.take(length).to_vec();
        self.send(&pdu);
    }

    fn command(&mut self, source: &mut Source<'_>) {
        let (flags, itt, more) = (source.u8(), u32::from(source.u8() & 31), source.u8());
        let length = u32::from(source.u16()) << (more & 3);
        let cmd_sn = self.session.exp_cmd_sn().wrapping_add(if more & 0x0c == 0x0c { u32::from(more >> 4) } else { 0 });
        let immediate = usize::from(source.u16() & 0x7ff);
        let mut pdu = Pdu::new(opcode::SCSI_COMMAND | if more & 0xf0 == 0xf0 { 0x40 } else { 0 })
            .with_flags(flags)
            .with_u32(16, itt)
            .with_u32(20, length)
            .with_u32(24, cmd_sn);
        pdu.bhs[32] = 0x2a;
        if more & 0x10 != 0 {
            pdu.data = vec![0xa5; immediate];
        }
        self.send(&pdu);
    }

    /// Data for an R2T, right or not quite.
    fn solicited(&mut self, source: &mut Source<'_>) {
        if self.r2ts.is_empty() {
            self.transmit(4096);
        }
        if self.r2ts.is_empty() {
            return;
        }
        let r2t = self.r2ts.remove(0);
        let (pieces, twist) = (u32::from(source.u8() & 3) + 1, source.u8());
        let piece = (r2t.length.min(8192) / pieces).max(1);
        let mut at = 0;
        let mut number = 0;
        while at < r2t.length.min(8192) {
            let length = piece.min(r2t.length - at);
            let last = at + length >= r2t.length.min(8192);
            let offset = r2t.offset + at + u32::from(twist == 1);
            let sn = number + u32::from(twist == 2);
            let ttt = if twist == 3 { r2t.ttt ^ 1 } else { r2t.ttt };
            self.data_out(r2t.itt, ttt, sn, offset, length as usize, last ^ (twist == 4));
            at += length;
            number += 1;
        }
    }

    fn unsolicited(&mut self, source: &mut Source<'_>) {
        let (itt, sn, last) = (u32::from(source.u8() & 31), u32::from(source.u8() & 3), source.u8() & 1 != 0);
        let (offset, length) = (u32::from(source.u16()), usize::from(source.u16() & 0x7ff));
        self.data_out(itt, 0xffff_ffff, sn, offset, length, last);
    }

    fn data_out(&mut self, itt: u32, ttt: u32, sn: u32, offset: u32, length: usize, last: bool) {
        let pdu = Pdu::new(opcode::DATA_OUT)
            .with_flags(if last { 0x80 } else { 0 })
            .with_u32(16, itt)
            .with_u32(20, ttt)
            .with_u32(36, sn)
            .with_u32(40, offset)
            .with_data(vec![0x3c; length]);
        self.send(&pdu);
    }

    fn request(&mut self, source: &mut Source<'_>, code: u8) {
        let (flags, itt, more) = (source.u8(), u32::from(source.u8() & 31), source.u8());
        let immediate = more & 1 != 0;
        let referenced = u32::from(source.u8() & 31);
        let cmd_sn = self.session.exp_cmd_sn();
        let ttt = if more & 2 != 0 { 0xffff_ffff } else { u32::from(more >> 4) };
        let mut pdu = Pdu::new(code | if immediate { 0x40 } else { 0 })
            .with_flags(flags)
            .with_u32(16, if more & 12 == 12 { 0xffff_ffff } else { itt | 32 })
            .with_u32(20, if code == opcode::TASK_MANAGEMENT { referenced } else { ttt })
            .with_u32(24, cmd_sn)
            .with_u32(32, cmd_sn.wrapping_sub(u32::from(more >> 4)));
        if matches!(code, opcode::TEXT | opcode::NOP_OUT) {
            let length = usize::from(source.u8());
            pdu.data = source.take(length).to_vec();
            if more & 0xc0 == 0xc0 {
                pdu.data = b"SendTargets=All\0".to_vec();
            }
        }
        self.send(&pdu);
    }

    fn some_task(&mut self, source: &mut Source<'_>) -> Option<u64> {
        let at = usize::from(source.u8());
        let count = self.tasks.len();
        (count > 0).then(|| *self.tasks.keys().nth(at % count).expect("below the count"))
    }

    fn answer(&mut self, source: &mut Source<'_>) {
        if let Some(tag) = self.functions.pop() {
            let response = [TaskManagementResponse::Complete, TaskManagementResponse::TaskDoesNotExist];
            let response = response[usize::from(source.u8() & 1)];
            return self.connection.task_management_response(&mut self.session, tag, response);
        }
        if let Some(key) = self.some_task(source) {
            let (data_in, wanted, fails) = (u32::from(source.u16()), u32::from(source.u16()), source.u8() & 3 == 0);
            self.respond(key, data_in, wanted, fails);
        }
    }

    fn respond(&mut self, key: u64, data_in: u32, wanted: u32, fails: bool) {
        let Some(task) = self.tasks.get_mut(&key).filter(|t| !t.answered) else { return };
        task.answered = true;
        let data_in = data_in.min(task.read.min(task.buffer.len()) as u32);
        let (status, sense): (_, &[u8]) =
            if fails { (ScsiStatus::CHECK_CONDITION, &[0x70; 18]) } else { (ScsiStatus::GOOD, &[]) };
        let response = TaskResponse { status, sense, data_in, wanted, read_wanted: 0 };
        if !self.connection.queue_response(&mut self.session, task.handle, response) {
            self.tasks.remove(&key);
        }
    }

    fn abort(&mut self, source: &mut Source<'_>) {
        let Some(key) = self.some_task(source).filter(|key| !self.tasks[key].answered) else { return };
        let handle = self.tasks[&key].handle;
        if source.u8() & 1 != 0 {
            self.connection.abort_data(&mut self.session, handle);
        } else if !self.tasks[&key].requested {
            self.connection.drop_task(&mut self.session, handle);
            self.tasks.remove(&key);
        }
    }

    fn time(&mut self, source: &mut Source<'_>) {
        self.now += u64::from(source.u16()) * 100_000_000;
        self.connection.sending(self.now, source.u8() & 1 != 0);
        if self.connection.poll_timeout().is_some_and(|at| at <= self.now) {
            self.connection.handle_timeout(&self.session, self.now);
        }
    }

    fn speak(&mut self, source: &mut Source<'_>) {
        let message = match source.u8() & 3 {
            0 => return self.connection.nop_in(self.now),
            1 => AsyncMessage::ScsiEvent { lun: Lun::default(), sense: &[0x70; 18] },
            2 => AsyncMessage::LogoutRequest { seconds: 3 },
            _ => AsyncMessage::SessionDropped { time2wait: 2, time2retain: 0 },
        };
        self.connection.async_message(&self.session, self.now, message);
    }

    /// What a driver does without much thought, for raw streams.
    fn serve(&mut self, how: u8) {
        if how & 1 != 0 {
            while let Some(tag) = self.functions.pop() {
                self.connection.task_management_response(&mut self.session, tag, TaskManagementResponse::Complete);
            }
            let keys: Vec<u64> = self.tasks.keys().copied().collect();
            for key in keys {
                self.respond(key, u32::MAX, 512, how & 2 != 0);
            }
        }
        if how & 4 != 0 {
            self.transmit(8192);
        }
    }

    /// Takes input in fragments until nothing goes on.
    fn pump(&mut self, fragment: usize) {
        let mut window = 0;
        for _ in 0..100_000 {
            let end = self.wire.len().min(window);
            let (used, input) = self.connection.poll_input(&mut self.session, self.now, &self.wire[..end]);
            assert!(used <= end, "more was used than offered");
            self.wire.drain(..used);
            window = end - used;
            assert!(self.session.tasks() <= MOST_TASKS, "{} tasks", self.session.tasks());
            match input {
                Input::Event(RecvEvent::Payload { task, offset, length, .. }) => {
                    let take = (length as usize).min(window);
                    if take == 0 {
                        if window == self.wire.len() {
                            return;
                        }
                        window = self.wire.len().min(window.saturating_add(fragment));
                        continue;
                    }
                    self.payload(task, offset as usize, take);
                    window -= take;
                }
                Input::Event(event) => self.event(event),
                Input::NeedBytes(more) => {
                    assert!(more > 0 && window + more <= READ_AHEAD, "{more} bytes behind {window} in one piece");
                    if window == self.wire.len() {
                        return;
                    }
                    window = self.wire.len().min(window.saturating_add(fragment));
                }
                Input::WaitForDriver { task, .. } => {
                    let length = self.tasks.get(&task.to_bits()).map_or(0, |t| t.write.min(t.buffer.len()) as u32);
                    assert!(self.connection.request_data(&mut self.session, self.now, task, length));
                    if let Some(task) = self.tasks.get_mut(&task.to_bits()) {
                        task.requested = true;
                    }
                }
                Input::WaitForTransmit => self.transmit(1 << 20),
                Input::Closed => {
                    self.over = !self.logout;
                    return;
                }
            }
        }
        panic!("input never comes to an end");
    }

    fn payload(&mut self, task: TaskHandle, offset: usize, take: usize) {
        let bytes: Vec<u8> = self.wire.drain(..take).collect();
        let crc = self.connection.payload_crc().map(|crc| crc32c(crc, &bytes));
        let task = self.tasks.get_mut(&task.to_bits()).expect("payload only for tasks that asked");
        assert!(task.requested, "payload before it was asked for");
        task.buffer[offset..offset + take].copy_from_slice(&bytes);
        self.connection.payload_received(take as u32, crc);
    }

    fn event(&mut self, event: RecvEvent) {
        match event {
            RecvEvent::Command(command) => self.new_task(&command),
            RecvEvent::DataComplete { task, .. }
            | RecvEvent::DataError { task, .. }
            | RecvEvent::DataAborted { task, .. } => {
                if let Some(task) = self.tasks.get_mut(&task.to_bits()) {
                    task.requested = false;
                }
            }
            RecvEvent::TaskManagement(function) => self.functions.push(function.tag),
            RecvEvent::SendTargets(_) => {
                let name = "iqn.2026-01.local.scst:fuzz".to_owned();
                let addresses = vec!["192.0.2.1:3260,1".to_owned(); 40];
                let listing = TargetListing { name, addresses };
                self.connection.send_targets_response(&self.session, &vec![listing; 20]);
            }
            RecvEvent::Logout { .. } => {
                self.logout = true;
                self.connection.logout_response(&self.session, LogoutResponse::Closed);
            }
            RecvEvent::Close(_) => self.over = true,
            RecvEvent::Deliver { .. } | RecvEvent::Payload { .. } => {}
        }
    }

    fn new_task(&mut self, command: &CommandEvent) {
        let (read, write) = (command.read_length as usize, command.write_length as usize);
        let task = Task {
            handle: command.task,
            buffer: vec![0; read.max(write).min(LONGEST)],
            read,
            write,
            requested: false,
            answered: false,
        };
        let wants = write > 0 && command.itt % 3 != 0;
        let length = write.min(task.buffer.len()) as u32;
        assert!(self.tasks.insert(command.task.to_bits(), task).is_none(), "a task twice");
        if wants {
            assert!(self.connection.request_data(&mut self.session, self.now, command.task, length));
            if let Some(task) = self.tasks.get_mut(&command.task.to_bits()) {
                task.requested = true;
            }
        }
    }

    /// Takes what there is to send, a sink full at a time.
    fn transmit(&mut self, room: usize) {
        for _ in 0..100_000 {
            let mut sink = Sink { room: room.max(512), payloads: 2, out: Vec::new(), tasks: &mut self.tasks };
            let sent = self.connection.poll_transmit(&mut self.session, self.now, &mut sink);
            let out = std::mem::take(&mut sink.out);
            self.decoder.push(&out);
            if sent.close {
                self.over = true;
            }
            if !sent.more {
                return self.read_answers();
            }
        }
        panic!("output never comes to an end");
    }

    fn read_answers(&mut self) {
        loop {
            match self.decoder.next_pdu(self.digests) {
                Ok(Some(pdu)) if pdu.opcode() == opcode::R2T => self.r2ts.push(R2t {
                    itt: pdu.itt(),
                    ttt: pdu.ttt(),
                    offset: pdu.u32_at(40),
                    length: pdu.u32_at(44),
                }),
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(error) => panic!("the target sent {error:?}"),
            }
        }
    }

    fn end(&mut self) {
        self.pump(usize::MAX);
        let mut queued = 0;
        loop {
            let mut sink = Sink { room: 8192, payloads: 2, out: Vec::new(), tasks: &mut self.tasks };
            let more = self.connection.poll_transmit(&mut self.session, self.now, &mut sink).more;
            queued += 8192 - sink.room;
            let most = MAX_SMALL_BYTES * 2 + (MAX_SMALL_PDUS + MOST_TASKS) * 512 + (64 << 10);
            assert!(queued <= most, "{queued} bytes were queued");
            if !more {
                return;
            }
        }
    }
}

struct Sink<'a> {
    room: usize,
    payloads: usize,
    out: Vec<u8>,
    tasks: &'a mut BTreeMap<u64, Task>,
}

impl TransmitSink for Sink<'_> {
    fn room(&self) -> usize {
        self.room
    }

    fn payload_fits(&self, _: TaskHandle, _: u64, _: u32, _: u32) -> bool {
        self.payloads > 0
    }

    fn bytes(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.room, "more bytes than room");
        self.room -= bytes.len();
        self.out.extend_from_slice(bytes);
    }

    fn payload(&mut self, task: TaskHandle, _: u64, offset: u32, length: u32) {
        self.payloads -= 1;
        let buffer = &self.tasks[&task.to_bits()].buffer;
        self.out.extend_from_slice(&buffer[offset as usize..][..length as usize]);
    }

    fn payload_crc32c(&mut self, task: TaskHandle, _: u64, offset: u32, length: u32, crc: u32) -> u32 {
        crc32c(crc, &self.tasks[&task.to_bits()].buffer[offset as usize..][..length as usize])
    }

    fn end_of_task(&mut self, task: TaskHandle, _: u64) {
        self.tasks.remove(&task.to_bits());
    }
}

fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}
