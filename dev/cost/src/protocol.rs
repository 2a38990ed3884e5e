//! The protocol alone: SCSI Command PDUs go in, headers of Data-In and responses come out; payload is only named.

use scst_protocol_iscsi::chap::ChapEntropy;
use scst_protocol_iscsi::connection::{Connection, TaskResponse};
use scst_protocol_iscsi::event::{CommandEvent, Input, RecvEvent, TaskHandle};
use scst_protocol_iscsi::login::{Admission, LoginConnection, LoginEvent};
use scst_protocol_iscsi::params::{DigestPolicy, TargetParameters};
use scst_protocol_iscsi::session::Session;
use scst_protocol_iscsi::transmit::TransmitSink;
use scst_scsi::ScsiStatus;
use scst_testkit::initiator::{Command, Core, Event, LoginConfig, Phase};
use scst_testkit::pdu::Digests;

use crate::meter::Meter;
use crate::scenario::Batch;
use crate::{BYTES, Direction};

const NOW: u64 = 1;

/// The least that a driver can do.
pub struct Protocol {
    initiator: Initiator,
    connection: Connection,
    session: Session,
    ready: Vec<TaskHandle>,
    sink: Sink,
    /// Data digest of one command's data, which are all zero: the sum itself is not measured.
    crc: Option<u32>,
    direction: Direction,
    batch: u32,
}

impl Protocol {
    /// Logged in.
    pub fn new(direction: Direction, batch: u32, digests: bool) -> Self {
        let parameters = TargetParameters {
            header_digest: DigestPolicy::NoneOrCrc32c,
            data_digest: DigestPolicy::NoneOrCrc32c,
            ..TargetParameters::default()
        };
        let mut initiator = Initiator::new(direction, Digests { header: digests, data: digests });
        let (connection, session) = log_in(&mut initiator, parameters);
        let crc = digests.then(|| crc32c::crc32c(&[0; BYTES as usize]));
        let sink = Sink { wire: Vec::with_capacity(64 << 10), payloads: Vec::with_capacity(64), crc };
        Self { initiator, connection, session, ready: Vec::with_capacity(64), sink, crc, direction, batch }
    }
}

fn log_in(initiator: &mut Initiator, parameters: TargetParameters) -> (Connection, Session) {
    let mut login = LoginConnection::new(u64::MAX);
    let mut wire = Vec::new();
    loop {
        wire.extend(initiator.core.take_output());
        let used = login.input(&wire);
        wire.drain(..used);
        match login.poll_event() {
            Some(LoginEvent::Authorize(_)) => login.authorize(Ok(Admission {
                parameters: parameters.clone(),
                chap: None,
                entropy: ChapEntropy { identifier: 0, challenge: [0; 32] },
                portal_group_tag: 1,
                target_alias: None,
            })),
            Some(LoginEvent::Establish(_)) => login.establish(Ok(1)),
            Some(LoginEvent::FullFeature) => break,
            Some(LoginEvent::Close(reason)) => panic!("login failed: {reason}"),
            None => {}
        }
        let mut out = [0; 4096];
        let sent = login.poll_transmit(&mut out);
        initiator.core.handle_input(&out[..sent]);
    }
    assert_eq!(initiator.core.phase(), Phase::FullFeature);
    initiator.drain_events();
    login.into_full_feature(NOW).unwrap_or_else(|| panic!("the login is complete"))
}

/// All that arrived, and a driver that answers when it has everything.
fn receive(
    connection: &mut Connection,
    session: &mut Session,
    wire: &[u8],
    crc: Option<u32>,
    ready: &mut Vec<TaskHandle>,
) {
    let mut at = 0;
    let mut command = CommandEvent::default();
    loop {
        let (used, input) = connection.poll_input_into(session, NOW, &wire[at..], &mut command);
        at += used;
        let Some(input) = input else {
            if command.write {
                connection.request_data(session, NOW, command.task, command.write_length);
            } else {
                ready.push(command.task);
            }
            continue;
        };
        match input {
            Input::Event(RecvEvent::Payload { length, .. }) => {
                at += length as usize;
                connection.payload_received(length, crc);
            }
            Input::Event(RecvEvent::DataComplete { task, .. }) => ready.push(task),
            Input::NeedBytes(_) => break,
            _ => unreachable!("nothing else happens here"),
        }
    }
    assert_eq!(at, wire.len());
}

impl Batch for Protocol {
    fn run(&mut self, meter: Meter) {
        for _ in 0..self.batch {
            self.initiator.submit();
        }
        let wire = self.initiator.core.take_output();
        let Self { connection, session, ready, sink, crc, direction, .. } = self;
        let (crc, data_in) = (*crc, if *direction == Direction::Read { BYTES } else { 0 });
        meter.run(|| {
            receive(connection, session, &wire, crc, ready);
            for &task in ready.iter() {
                let response =
                    TaskResponse { status: ScsiStatus::GOOD, sense: &[], data_in, wanted: BYTES, read_wanted: 0 };
                connection.queue_response(session, task, response);
            }
            ready.clear();
            let sent = connection.poll_transmit(session, NOW, sink);
            debug_assert!(!sent.more);
        });
        let wire = self.sink.take();
        self.initiator.check(&wire, self.batch);
    }
}

/// Takes headers, and remembers where payload goes.
struct Sink {
    wire: Vec<u8>,
    /// Place in `wire`, and length.
    payloads: Vec<(usize, u32)>,
    crc: Option<u32>,
}

impl Sink {
    /// All bytes in order, payload filled with zeros.
    fn take(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut from = 0;
        for (at, length) in self.payloads.drain(..) {
            bytes.extend_from_slice(&self.wire[from..at]);
            bytes.resize(bytes.len() + length as usize, 0);
            from = at;
        }
        bytes.extend_from_slice(&self.wire[from..]);
        self.wire.clear();
        bytes
    }
}

impl TransmitSink for Sink {
    fn room(&self) -> usize {
        self.wire.capacity() - self.wire.len()
    }

    fn payload_fits(&self, _: TaskHandle, _: u64, _: u32, _: u32) -> bool {
        true
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.wire.extend_from_slice(bytes);
    }

    fn payload(&mut self, _: TaskHandle, _: u64, _: u32, length: u32) {
        self.payloads.push((self.wire.len(), length));
    }

    fn payload_crc32c(&mut self, _: TaskHandle, _: u64, _: u32, _: u32, _: u32) -> u32 {
        self.crc.unwrap_or(0)
    }

    fn end_of_task(&mut self, _: TaskHandle, _: u64) {}
}

/// An initiator with an endless supply of commands; nothing of it is measured.
pub struct Initiator {
    /// The test kit's.
    pub core: Core,
    direction: Direction,
    number: u32,
}

/// The name of the target.
pub const TARGET: &str = "iqn.2024-01.net.example:disk";

impl Initiator {
    /// About to log in.
    pub fn new(direction: Direction, digests: Digests) -> Self {
        let config = LoginConfig::normal("iqn.2024-01.net.example:host", TARGET).with_digests(digests);
        let mut core = Core::new(config);
        core.start();
        Self { core, direction, number: 0 }
    }

    /// The next command.
    pub fn submit(&mut self) {
        let cdb = self.direction.cdb(self.number).to_vec();
        self.number = self.number.wrapping_add(1);
        self.core.submit(match self.direction {
            Direction::Read => Command::read(0, cdb, BYTES),
            Direction::Write => Command::write(0, cdb, vec![0; BYTES as usize]),
        });
    }

    /// Forgets what has happened so far.
    pub fn drain_events(&mut self) {
        while self.core.poll_event().is_some() {}
    }

    /// Takes what the target sent: so many good answers, and nothing else.
    pub fn check(&mut self, wire: &[u8], commands: u32) {
        self.core.handle_input(wire);
        let expected = if self.direction == Direction::Read { BYTES as usize } else { 0 };
        for _ in 0..commands {
            match self.core.poll_event() {
                Some(Event::Completed(outcome)) => {
                    assert!(outcome.is_good() && outcome.data_in.len() == expected, "{outcome:?}");
                }
                other => panic!("no answer but {other:?}"),
            }
        }
        assert_eq!(self.core.poll_event(), None);
    }
}
