//! Stories between the core and a target that the test plays by hand.

use super::*;
use crate::chap::{Chap, ChapAlgorithm, Notation, decode_binary};
use crate::pdu::{Digests, Pdu, PduDecoder, RESERVED_TAG, opcode};
use crate::scsi::cdb;
use crate::text;

/// The target's side: reads what the core sent, answers with the right sequence numbers.
struct Target {
    core: Core,
    decoder: PduDecoder,
    digests: Digests,
    stat_sn: u32,
    exp_cmd_sn: u32,
    window: u32,
}

impl Target {
    fn new(config: LoginConfig) -> Self {
        let mut core = Core::new(config);
        core.start();
        let decoder = PduDecoder::default();
        Self { core, decoder, digests: Digests::default(), stat_sn: 100, exp_cmd_sn: 1, window: 8 }
    }

    fn next(&mut self) -> Option<Pdu> {
        let sent = self.core.take_output();
        self.decoder.push(&sent);
        let pdu = self.decoder.next_pdu(self.digests).unwrap()?;
        if pdu.bhs[0] & 0x40 == 0 && pdu.opcode() != opcode::DATA_OUT {
            assert_eq!(pdu.sn(), self.exp_cmd_sn);
            self.exp_cmd_sn += 1;
        }
        Some(pdu)
    }

    fn expect(&mut self, code: u8) -> Pdu {
        let pdu = self.next().expect("the core sent something");
        assert_eq!(pdu.opcode(), code, "{pdu:?}");
        pdu
    }

    /// Fills in sequence numbers; `counts` says whether StatSN is used up.
    fn answer(&mut self, mut pdu: Pdu, counts: bool) {
        pdu.set_u32(24, self.stat_sn);
        pdu.set_u32(28, self.exp_cmd_sn);
        pdu.set_u32(32, self.exp_cmd_sn + self.window - 1);
        self.stat_sn += u32::from(counts);
        self.core.handle_input(&pdu.to_bytes(self.digests));
    }

    fn login_answer(&mut self, request: &Pdu, flags: u8, keys: &[(&str, &str)]) {
        let mut pdu = Pdu::new(opcode::LOGIN_RESPONSE)
            .with_flags(flags)
            .with_u32(16, request.itt())
            .with_data(text::encode(&text::keys(keys)));
        pdu.bhs[20..24].fill(0);
        pdu.bhs[8..14].copy_from_slice(&request.bhs[8..14]);
        pdu.set_u16(14, if flags & 0x83 == 0x83 { 77 } else { 0 });
        self.answer(pdu, true);
    }

    /// Accepts everything that the core offers, except for the changes.
    fn logged_in(config: LoginConfig, changes: &[(&str, &str)]) -> Self {
        let mut target = Self::new(config);
        let request = target.expect(opcode::LOGIN);
        assert_eq!(request.flags(), 0x81);
        target.login_answer(&request, 0x81, &[("AuthMethod", "None"), ("TargetPortalGroupTag", "1")]);
        let request = target.expect(opcode::LOGIN);
        assert_eq!(request.flags(), 0x87);
        let offered = text::decode(&request.data).unwrap();
        let answers: Vec<(&str, &str)> = offered
            .iter()
            .map(|(key, value)| {
                let change = changes.iter().find(|(changed, _)| changed == key);
                (key.as_str(), change.map_or(value.as_str(), |(_, value)| value))
            })
            .collect();
        target.login_answer(&request, 0x87, &answers);
        assert_eq!(target.core.poll_event(), Some(Event::LoggedIn));
        assert_eq!(target.core.poll_event(), None);
        target.digests = target.core.parameters().digests;
        target
    }

    fn data_in(&mut self, itt: u32, sn: u32, offset: u32, data: &[u8], flags: u8) {
        let pdu = Pdu::new(opcode::DATA_IN)
            .with_flags(flags)
            .with_u32(16, itt)
            .with_u32(36, sn)
            .with_u32(40, offset)
            .with_data(data);
        self.answer(pdu, flags & 1 != 0);
    }

    fn r2t(&mut self, itt: u32, ttt: u32, sn: u32, offset: u32, length: u32) {
        let pdu = Pdu::new(opcode::R2T)
            .with_u32(16, itt)
            .with_u32(20, ttt)
            .with_u32(36, sn)
            .with_u32(40, offset)
            .with_u32(44, length);
        self.answer(pdu, false);
    }

    fn good(&mut self, itt: u32) {
        let mut pdu = Pdu::new(opcode::SCSI_RESPONSE).with_u32(16, itt);
        pdu.bhs[20..24].fill(0);
        self.answer(pdu, true);
    }

    fn violation(&mut self) -> String {
        match self.core.poll_event() {
            Some(Event::Violation(Violation(what))) => what,
            other => panic!("no violation but {other:?}"),
        }
    }
}

fn config() -> LoginConfig {
    LoginConfig::normal("iqn.2026-01.test:i", "iqn.2026-01.test:t")
}

#[test]
fn a_login_puts_the_answers_in_force() {
    let target = Target::logged_in(
        config().with_digests(Digests { header: true, data: true }),
        &[("DataDigest", "CRC32C"), ("MaxBurstLength", "8192"), ("MaxRecvDataSegmentLength", "4096")],
    );
    let parameters = target.core.parameters();
    assert_eq!(parameters.digests, Digests { header: true, data: true });
    assert_eq!(parameters.max_burst_length, 8192);
    assert_eq!(parameters.max_xmit_data_segment_length, 4096);
    assert_eq!(parameters.max_recv_data_segment_length, 262_144);
    assert_eq!((parameters.tsih, parameters.target_portal_group_tag), (77, Some(1)));
}

#[test]
fn a_key_without_answer_and_an_answer_beyond_the_offer_are_violations() {
    let mut target = Target::new(LoginConfig { offer: Offer::OperationalOnly, ..config() });
    let request = target.expect(opcode::LOGIN);
    let keys = text::decode(&request.data).unwrap();
    let pairs: Vec<(&str, &str)> = keys
        .iter()
        .skip(3)
        .filter(|(key, _)| key != "ErrorRecoveryLevel")
        .map(|(key, value)| (key.as_str(), if key == "MaxConnections" { "2" } else { value }))
        .collect();
    target.login_answer(&request, 0x87, &pairs);
    assert_eq!(target.violation(), "MaxConnections=2 as answer to Some(\"1\")");
    assert_eq!(target.violation(), "no TargetPortalGroupTag in the login of a normal session");
    assert_eq!(target.violation(), "key ErrorRecoveryLevel was not answered");
    assert_eq!(target.core.poll_event(), Some(Event::LoggedIn));
}

#[test]
fn a_refused_login_has_its_status() {
    let mut target = Target::new(config());
    let request = target.expect(opcode::LOGIN);
    let mut pdu = Pdu::new(opcode::LOGIN_RESPONSE).with_flags(0).with_u32(16, request.itt());
    (pdu.bhs[36], pdu.bhs[37]) = (2, 3);
    target.answer(pdu, true);
    assert_eq!(target.core.poll_event(), Some(Event::LoginFailed(LoginFailure { class: 2, detail: 3 })));
    assert_eq!(target.core.phase(), Phase::Failed);
}

fn challenge(chap: Chap) -> (Target, Pdu) {
    let mut target = Target::new(config().with_chap(chap));
    let request = target.expect(opcode::LOGIN);
    assert_eq!(request.flags(), 0);
    target.login_answer(&request, 0, &[("AuthMethod", "CHAP")]);
    let request = target.expect(opcode::LOGIN);
    assert_eq!(text::get(&text::decode(&request.data).unwrap(), "CHAP_A"), Some("7"));
    target.login_answer(&request, 0, &[("CHAP_A", "7"), ("CHAP_I", "9"), ("CHAP_C", "0x0102030405")]);
    let request = target.expect(opcode::LOGIN);
    (target, request)
}

#[test]
fn mutual_chap_answers_and_checks() {
    for right in [true, false] {
        let chap = Chap::new("joe", "secret of joe").with_algorithm(ChapAlgorithm::Sha256);
        let (mut target, request) = challenge(chap.with_mutual("target", "secret of target"));
        let keys = text::decode(&request.data).unwrap();
        let response = ChapAlgorithm::Sha256.response(9, b"secret of joe", &[1, 2, 3, 4, 5]);
        assert_eq!(text::get(&keys, "CHAP_N"), Some("joe"));
        assert_eq!(text::get(&keys, "CHAP_R").and_then(decode_binary), Some(response));
        let theirs = text::get(&keys, "CHAP_C").and_then(decode_binary).unwrap();
        let secret: &[u8] = if right { b"secret of target" } else { b"something else" };
        let proof = Notation::Base64.encode(&ChapAlgorithm::Sha256.response(0x5a, secret, &theirs));
        target.login_answer(&request, 0x81, &[("CHAP_N", "target"), ("CHAP_R", &proof)]);
        if right {
            assert_eq!(target.core.poll_event(), None);
            assert_eq!(target.expect(opcode::LOGIN).flags(), 0x87);
        } else {
            let why = "the target's CHAP_R is wrong or missing".to_owned();
            assert_eq!(target.core.poll_event(), Some(Event::AuthenticationFailed(why)));
        }
    }
}

#[test]
fn long_login_text_is_split_and_goes_on_after_empty_answers() {
    let mut target = Target::new(LoginConfig { split_text: Some(40), ..config() });
    let mut whole = Vec::new();
    loop {
        let request = target.expect(opcode::LOGIN);
        whole.extend_from_slice(&request.data);
        assert!(request.data.len() <= 40);
        if request.flags() == 0x81 {
            break;
        }
        assert_eq!(request.flags(), 0x40);
        target.login_answer(&request, 0, &[]);
    }
    let keys = text::decode(&whole).unwrap();
    assert_eq!(keys.len(), 4);
    assert_eq!(keys[3], ("AuthMethod".to_owned(), "None".to_owned()));
    assert_eq!(target.core.poll_event(), None);
}

#[test]
fn data_in_is_put_together_and_status_may_come_with_it() {
    let mut target = Target::logged_in(config(), &[]);
    let itt = target.core.submit(Command::read_blocks(3, 5, 2, 512));
    let command = target.expect(opcode::SCSI_COMMAND);
    assert_eq!(command.flags(), 0xc1);
    assert_eq!(command.lun(), [0, 3, 0, 0, 0, 0, 0, 0]);
    assert_eq!(command.ttt(), 1024);
    assert_eq!(command.bhs[32..48], [0x88, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0]);
    target.data_in(itt, 0, 0, &[1; 1000], 0);
    target.data_in(itt, 1, 1000, &[2; 24], 0x81);
    let Some(Event::Completed(outcome)) = target.core.poll_event() else { panic!() };
    assert!(outcome.is_good() && outcome.phase_collapse);
    assert_eq!((outcome.data_in.len(), outcome.data_in[999], outcome.data_in[1000]), (1024, 1, 2));
    assert_eq!(outcome.data_in_pdus, 2);
    assert_eq!(target.core.exp_stat_sn(), Some(target.stat_sn));
}

#[test]
fn wrong_numbers_of_the_target_are_violations() {
    let mut target = Target::logged_in(config(), &[]);
    let itt = target.core.submit(Command::read_blocks(0, 0, 1, 512));
    target.data_in(itt, 1, 0, &[0; 256], 0);
    assert!(target.violation().starts_with("DataSN 1, expected 0"));
    target.data_in(itt, 2, 0, &[0; 256], 0);
    assert!(target.violation().starts_with("Data-In at offset 0, expected 256"));
    target.data_in(itt, 3, 256, &[0; 300], 0);
    assert!(target.violation().starts_with("Data-In up to 556, expected at most 512"));
    target.stat_sn += 1;
    target.good(itt);
    let expected = target.stat_sn - 2;
    assert!(target.violation().starts_with(&format!("StatSN {}, expected {expected}", expected + 1)));
    assert_eq!(target.violation(), "256 bytes and None of 512");
    assert!(matches!(target.core.poll_event(), Some(Event::Completed(_))));
    target.good(itt);
    assert!(target.violation().starts_with("response for no command"));
}

#[test]
fn a_write_sends_immediate_unsolicited_and_solicited_data() {
    let changes = [("FirstBurstLength", "8192"), ("MaxRecvDataSegmentLength", "4096")];
    let mut target = Target::logged_in(config(), &changes);
    let data: Vec<u8> = (0..32 * 512).map(|index| (index / 512) as u8).collect();
    let itt = target.core.submit(Command::write_blocks(1, 0, 512, data));
    let command = target.expect(opcode::SCSI_COMMAND);
    assert_eq!((command.flags(), command.data.len()), (0x21, 4096));
    let unsolicited = target.expect(opcode::DATA_OUT);
    assert_eq!((unsolicited.flags(), unsolicited.ttt(), unsolicited.lun()), (0x80, RESERVED_TAG, [0; 8]));
    assert_eq!((unsolicited.u32_at(36), unsolicited.u32_at(40), unsolicited.data[0]), (0, 4096, 8));
    assert_eq!(target.next(), None);
    target.r2t(itt, 0x77, 0, 8192, 8192);
    for (sn, offset, flags) in [(0, 8192, 0), (1, 12_288, 0x80)] {
        let pdu = target.expect(opcode::DATA_OUT);
        assert_eq!((pdu.u32_at(36), pdu.u32_at(40), pdu.flags(), pdu.ttt()), (sn, offset, flags, 0x77));
        assert_eq!(pdu.data[0], (offset / 512) as u8);
    }
    target.good(itt);
    let Some(Event::Completed(outcome)) = target.core.poll_event() else { panic!() };
    assert_eq!((outcome.is_good(), outcome.r2ts), (true, 1));
    assert_eq!(target.core.violations(), []);
}

#[test]
fn held_r2ts_are_reported_and_more_than_negotiated_are_a_violation() {
    let changes = [("MaxOutstandingR2T", "1"), ("ImmediateData", "No"), ("InitialR2T", "Yes")];
    let config = config().with_key("ImmediateData", "No").with_key("InitialR2T", "Yes");
    let mut target = Target::logged_in(config, &changes);
    let plan = DataOutPlan { hold: true, ..DataOutPlan::default() };
    let itt = target.core.submit(Command::write_blocks(1, 0, 512, vec![9; 8192]).with_plan(plan));
    assert_eq!(target.expect(opcode::SCSI_COMMAND).data.len(), 0);
    target.r2t(itt, 1, 0, 0, 4096);
    assert_eq!(target.next(), None);
    assert_eq!(target.core.poll_event(), Some(Event::R2t(R2t { itt, ttt: 1, sn: 0, offset: 0, length: 4096 })));
    target.r2t(itt, 2, 1, 4096, 4096);
    assert!(target.violation().starts_with("2 R2Ts outstanding"));
    target.core.send_data_out(itt, 2, 4096, 4096);
    assert_eq!(target.expect(opcode::DATA_OUT).u32_at(40), 4096);
}

#[test]
fn commands_wait_for_the_window() {
    let mut target = Target::logged_in(config(), &[]);
    let tags: Vec<u32> = (0..10).map(|_| target.core.submit(Command::new(0, cdb::test_unit_ready()))).collect();
    for tag in &tags[..8] {
        assert_eq!(target.expect(opcode::SCSI_COMMAND).itt(), *tag);
    }
    assert_eq!(target.next(), None);
    target.good(tags[0]);
    assert_eq!(target.expect(opcode::SCSI_COMMAND).itt(), tags[8]);
    assert_eq!(target.expect(opcode::SCSI_COMMAND).itt(), tags[9]);
    let immediate = target.core.submit(Command::new(0, cdb::test_unit_ready()).immediate());
    let pdu = target.expect(opcode::SCSI_COMMAND);
    assert_eq!((pdu.itt(), pdu.bhs[0], pdu.sn()), (immediate, 0x41, 11));
}

#[test]
fn pings_of_the_target_are_answered_once() {
    let mut target = Target::logged_in(config(), &[]);
    let ping = Pdu::new(opcode::NOP_IN).with_u32(16, RESERVED_TAG).with_u32(20, 0x99);
    target.answer(ping, false);
    let answer = target.expect(opcode::NOP_OUT);
    assert_eq!((answer.bhs[0], answer.itt(), answer.ttt()), (0x40, RESERVED_TAG, 0x99));
    assert_eq!(answer.u32_at(28), target.stat_sn);
    assert_eq!(target.core.poll_event(), Some(Event::Pinged { ttt: 0x99, data: vec![] }));
}

#[test]
fn long_text_responses_are_asked_for_part_by_part() {
    let mut target = Target::logged_in(config(), &[]);
    let itt = target.core.text(&text::keys(&[("SendTargets", "All")]));
    target.expect(opcode::TEXT);
    let whole = text::encode(&text::keys(&[("TargetName", "iqn.a"), ("TargetAddress", "[::1]:3260,1")]));
    let part = |flags, ttt, data: &[u8]| {
        Pdu::new(opcode::TEXT_RESPONSE).with_flags(flags).with_u32(16, itt).with_u32(20, ttt).with_data(data)
    };
    target.answer(part(0x40, 5, &whole[..9]), true);
    let more = target.expect(opcode::TEXT);
    assert_eq!((more.ttt(), more.data.len(), more.flags()), (5, 0, 0x80));
    target.answer(part(0x80, RESERVED_TAG, &whole[9..]), true);
    let keys = text::keys(&[("TargetName", "iqn.a"), ("TargetAddress", "[::1]:3260,1")]);
    assert_eq!(target.core.poll_event(), Some(Event::Text { itt, keys }));
}

#[test]
fn long_cdbs_and_bidirectional_lengths_go_into_additional_headers() {
    let mut target = Target::logged_in(config(), &[]);
    let mut command = Command::write(0, cdb::variable32(0x0b, cdb::RwFlags::NONE, 7, 1), vec![1; 512]);
    command.read_length = 256;
    target.core.submit(command);
    let pdu = target.expect(opcode::SCSI_COMMAND);
    assert_eq!(pdu.flags(), 0xe1);
    assert_eq!(pdu.ahs.len(), 28);
    assert_eq!(pdu.ahs[..4], [0, 17, 1, 0]);
    assert_eq!(pdu.ahs[20..28], [0, 5, 2, 0, 0, 0, 1, 0]);
}

#[test]
fn the_hook_changes_drops_and_doubles() {
    let mut target = Target::logged_in(config(), &[]);
    let mut count = 0;
    target.core.set_hook(Some(Box::new(move |pdu: &mut Pdu| {
        count += 1;
        pdu.bhs[47] = count;
        [Tamper::Send, Tamper::Drop, Tamper::Twice][usize::from(count) - 1]
    })));
    for _ in 0..3 {
        target.core.submit(Command::new(0, cdb::test_unit_ready()).immediate());
    }
    let seen: Vec<u8> = std::iter::from_fn(|| target.next()).map(|pdu| pdu.bhs[47]).collect();
    assert_eq!(seen, [1, 3, 3]);
}
