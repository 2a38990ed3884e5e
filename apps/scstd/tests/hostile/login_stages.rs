//! Logins that break the rules: names, versions, stages, bits, texts without end. Statuses are those of RFC 7143
//! 11.13.5; after each of them the target closes the connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use scst_testkit::hostile::{LoginResult, oversized_texts, try_login, wrong_names};
use scst_testkit::pdu::{Digests, Pdu, PduDecoder, opcode};
use scst_testkit::text::{self, Keys};
use scst_testkit::{Initiator, LoginConfig};

use crate::stage::{HOST, PATIENCE, ROGUE, Stage, TARGET, rogue};

/// Initiator error.
const INITIATOR_ERROR: LoginResult = LoginResult::Refused { class: 2, detail: 0 };

/// A login by hand.
#[derive(Debug)]
pub(crate) struct RawLogin {
    stream: TcpStream,
    decoder: PduDecoder,
    /// The next request, but for flags and text.
    pub(crate) request: Pdu,
}

/// A login response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    pub(crate) flags: u8,
    pub(crate) class: u8,
    pub(crate) detail: u8,
    pub(crate) keys: Keys,
}

impl Answer {
    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> &str {
        text::get(&self.keys, key).unwrap_or_else(|| panic!("no {key} in {self:?}"))
    }

    fn status(&self) -> (u8, u8) {
        (self.class, self.detail)
    }
}

impl RawLogin {
    /// Connects.
    pub(crate) fn open(portal: SocketAddr) -> Self {
        let stream = TcpStream::connect(portal).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request = Pdu::new(opcode::LOGIN | 0x40).with_u32(16, 1).with_u32(20, 0).with_u32(24, 1);
        request.bhs[8..14].copy_from_slice(&[0x80, 0, 0, 1, 0, 1]);
        Self { stream, decoder: PduDecoder::default(), request }
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, flags: u8, data: &[u8]) {
        let pdu = self.request.clone().with_flags(flags).with_data(data);
        self.stream.write_all(&pdu.to_bytes(Digests::default())).unwrap();
    }

    /// Takes the next answer; None when the connection is closed.
    pub(crate) fn receive(&mut self) -> Option<Answer> {
        loop {
            if let Some(pdu) = self.decoder.next_pdu(Digests::default()).unwrap() {
                assert_eq!(pdu.opcode(), opcode::LOGIN_RESPONSE, "{pdu:?}");
                // A text may go on in the next PDU: only whole ones are looked at.
                let keys = text::decode(&pdu.data).unwrap_or_default();
                return Some(Answer { flags: pdu.flags(), class: pdu.bhs[36], detail: pdu.bhs[37], keys });
            }
            let mut bytes = [0; 16384];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.decoder.push(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("neither an answer nor a close: {error}"),
            }
        }
    }

    /// Sends a request and takes the answer.
    pub(crate) fn exchange(&mut self, flags: u8, keys: &[(&str, &str)]) -> Answer {
        self.send(flags, &text::encode(&text::keys(keys)));
        self.receive().unwrap_or_else(|| panic!("closed without an answer to {keys:?}"))
    }

    /// Nothing comes but the end.
    pub(crate) fn assert_closed(&mut self) {
        assert_eq!(self.receive(), None);
    }
}

const NAMES: [(&str, &str); 3] = [("InitiatorName", ROGUE), ("TargetName", TARGET), ("SessionType", "Normal")];

fn names_and(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    [&NAMES, more].concat()
}

#[test]
fn wrong_names_versions_and_handles_get_their_status() {
    let stage = Stage::new("auto", "", &[]);
    let status = |case: &str| match case {
        "unknown target" => (2, 3),
        "no target name" | "no initiator name" => (2, 7),
        "unknown session type" => (2, 9),
        "unknown version" => (2, 5),
        "unknown session handle" => (2, 10),
        // Names that are none.
        _ => (2, 0),
    };
    let results = wrong_names(stage.daemon.portal(), &rogue());
    assert_eq!(results.len(), 13);
    for (case, result) in results {
        let (class, detail) = status(case);
        assert_eq!(result, LoginResult::Refused { class, detail }, "{case}");
    }
    stage.assert_healthy();
    stage.stop();
}

#[test]
fn oversized_texts_are_an_initiator_error() {
    let stage = Stage::new("auto", "", &[]);
    let results = oversized_texts(stage.daemon.portal(), &rogue());
    assert_eq!(results.len(), 5);
    for (case, result) in results {
        if case == "many small keys, split" {
            // Within the limits: it is answered, in several parts.
            assert!(!matches!(result, LoginResult::Silence | LoginResult::Closed), "{result:?}");
        } else {
            assert_eq!(result, INITIATOR_ERROR, "{case}");
        }
    }
    stage.assert_healthy();
    stage.stop();
}

#[test]
fn stages_and_bits_that_contradict_end_the_login() {
    let stage = Stage::new("auto", "", &[]);
    let portal = stage.daemon.portal();
    let none = names_and(&[("AuthMethod", "None")]);
    // Flags of a first request: T 80h, C 40h, CSG 0Ch, NSG 03h.
    let first = [
        ("NSG 2 is reserved", 0x82),
        ("a step to the stage it is in", 0x85),
        ("a step back", 0x84),
        ("security to security", 0x80),
        ("CSG 2 is reserved", 0x0b),
        ("login in the full feature phase", 0x0f),
        ("T and C together", 0xc1),
    ];
    for (case, flags) in first {
        let mut login = RawLogin::open(portal);
        assert_eq!(login.exchange(flags, &none).status(), (2, 0), "{case}");
        login.assert_closed();
    }

    // What the second request may not change.
    type Change = fn(&mut Pdu);
    let changes: [(&str, Change, u8); 4] = [
        ("another ISID", |p| p.bhs[13] = 9, 0x87),
        ("another TSIH", |p| p.set_u16(14, 5), 0x87),
        ("another CID", |p| p.set_u16(20, 5), 0x87),
        ("back to the security stage", |_| {}, 0x81),
    ];
    for (case, change, flags) in changes {
        let mut login = RawLogin::open(portal);
        let answer = login.exchange(0x81, &none);
        assert_eq!((answer.status(), answer.flags & 0x8f), ((0, 0), 0x81), "{case}");
        change(&mut login.request);
        assert_eq!(login.exchange(flags, &[]).status(), (2, 0), "{case}");
        login.assert_closed();
    }

    // What loses nothing is taken: initiators count their requests.
    let mut login = RawLogin::open(portal);
    assert_eq!(login.exchange(0x81, &none).status(), (0, 0));
    login.request.set_u32(16, 5);
    login.request.set_u32(24, 5);
    assert_eq!(login.exchange(0x87, &[]).status(), (0, 0));

    // A method that was never offered, a key of the wrong stage, a name that changes, a key twice.
    type Case = (&'static str, u8, Vec<(&'static str, &'static str)>, (u8, u8));
    let texts: [Case; 6] = [
        ("no method", 0x87, names_and(&[]), (0, 0)),
        ("no method that we have", 0x81, names_and(&[("AuthMethod", "KRB5,SRP")]), (2, 1)),
        ("CHAP out of the blue", 0x81, names_and(&[("CHAP_A", "5")]), (2, 1)),
        ("an operational key", 0x81, names_and(&[("AuthMethod", "None"), ("MaxBurstLength", "512")]), (2, 0)),
        ("a name twice", 0x81, [&NAMES[..], &NAMES[..1]].concat(), (2, 0)),
        ("a method twice", 0x81, names_and(&[("AuthMethod", "None"), ("AuthMethod", "None")]), (2, 0)),
    ];
    for (case, flags, keys, expected) in texts {
        let mut login = RawLogin::open(portal);
        assert_eq!(login.exchange(flags, &keys).status(), expected, "{case}");
        if expected != (0, 0) {
            login.assert_closed();
        }
    }
    let mut login = RawLogin::open(portal);
    login.exchange(0x81, &none);
    assert_eq!(login.exchange(0x87, &[("InitiatorName", HOST)]).status(), (2, 0), "another name");
    login.assert_closed();
    let mut login = RawLogin::open(portal);
    login.exchange(0x81, &none);
    assert_eq!(login.exchange(0x87, &[("MaxBurstLength", "512"), ("MaxBurstLength", "512")]).status(), (2, 0));
    login.assert_closed();
    stage.assert_healthy();
    stage.stop();
}

#[test]
fn texts_without_an_end_or_a_meaning_are_refused() {
    let stage = Stage::new("auto", "", &[]);
    let portal = stage.daemon.portal();
    let texts: [(&str, &[u8]); 5] = [
        ("no separator", b"InitiatorName\0"),
        ("an empty key", b"=x\0"),
        ("a key of odd characters", b"Initiator Name=x\0"),
        ("zeros in between", b"InitiatorName=iqn.2026-01.example:a\0b\0"),
        ("not UTF-8", b"InitiatorName=iqn.2026-01.example:\xff\0"),
    ];
    for (case, bytes) in texts {
        let mut login = RawLogin::open(portal);
        login.send(0x87, bytes);
        assert_eq!(login.receive().map(|a| a.status()), Some((2, 0)), "{case}");
        login.assert_closed();
    }

    // The C bit for ever, with nothing in it: the number of requests is bounded, not only their bytes.
    let mut login = RawLogin::open(portal);
    let mut answers = 0;
    let last = loop {
        let answer = login.exchange(0x40, &[]);
        answers += 1;
        if answer.class != 0 {
            break answer;
        }
        assert_eq!((answer.flags, answer.keys.len()), (0, 0), "an empty answer that asks for more");
        assert!(answers < 1000, "without end");
    };
    assert_eq!((last.status(), answers), ((2, 0), 65));
    login.assert_closed();

    // A negotiation that never ends: no T bit, nothing new.
    let mut login = RawLogin::open(portal);
    login.exchange(0x81, &names_and(&[("AuthMethod", "None")]));
    let mut answers = 1;
    while login.exchange(0x04, &[]).class == 0 {
        answers += 1;
        assert!(answers < 1000, "without end");
    }
    assert_eq!(answers, 64);
    login.assert_closed();

    // A value in pieces that come to nothing: the C bit, then a request of another stage.
    let mut login = RawLogin::open(portal);
    assert_eq!(login.exchange(0x40, &[("InitiatorName", ROGUE)]).status(), (0, 0));
    assert_eq!(login.exchange(0x81, &NAMES[1..]).status(), (0, 0), "the rest may come with T");
    let mut login = RawLogin::open(portal);
    assert_eq!(login.exchange(0x40, &NAMES).status(), (0, 0));
    assert_eq!(login.exchange(0x87 | 0x04, &[]).status(), (2, 0), "a stage that was not agreed");
    login.assert_closed();
    stage.assert_healthy();
    stage.stop();
}

#[test]
fn what_is_no_login_is_closed() {
    let stage = Stage::new("auto", "", &[]);
    let portal = stage.daemon.portal();
    for code in (0..0x40).filter(|code| *code != opcode::LOGIN) {
        let mut login = RawLogin::open(portal);
        login.request.bhs[0] = 0x40 | code;
        login.send(0x80, b"");
        login.assert_closed();
    }
    // After a good request too.
    let mut login = RawLogin::open(portal);
    login.exchange(0x81, &names_and(&[("AuthMethod", "None")]));
    login.request.bhs[0] = opcode::SCSI_COMMAND;
    login.send(0x80, b"");
    login.assert_closed();
    // A data segment that is longer than any login may be is refused from its header.
    let mut login = RawLogin::open(portal);
    login.stream.write_all(&[0x43, 0x87, 0, 0, 0, 0xff, 0xff, 0xff]).unwrap();
    login.stream.write_all(&[0; 40]).unwrap();
    assert_eq!(login.receive().map(|a| a.status()), Some((2, 0)));
    login.assert_closed();
    // Two logins in a row on one connection, the second in the full feature phase.
    let mut twice = Initiator::connect(portal, rogue()).unwrap();
    twice.send_raw(Pdu::new(opcode::LOGIN | 0x40).with_flags(0x87)).unwrap();
    twice.wait_closed().unwrap();
    // Everything in one segment, no answer awaited: the second login request is there before the first is answered.
    let mut eager = RawLogin::open(portal);
    eager.send(0x81, &text::encode(&text::keys(&names_and(&[("AuthMethod", "None")]))));
    eager.send(0x87, b"");
    assert_eq!(eager.receive().map(|a| (a.status(), a.flags & 0x83)), Some(((0, 0), 0x81)));
    assert_eq!(eager.receive().map(|a| (a.status(), a.flags & 0x83)), Some(((0, 0), 0x83)));
    assert_eq!(try_login(portal, LoginConfig::discovery(HOST)), LoginResult::LoggedIn);
    stage.assert_healthy();
    stage.stop();
}
