//! Stories of logins that succeed and that fail.

use crate::common::*;
use scst_protocol_iscsi::chap::{ChapAlgorithm, ChapConfig, ChapUser};
use scst_protocol_iscsi::error::{CloseReason, Garbage, Misbehavior, TimeoutKind};
use scst_protocol_iscsi::login::{LoginStatus, Refusal, RefusalReason, SessionType};
use scst_protocol_iscsi::params::{DigestPolicy, TargetParameters};
use scst_protocol_iscsi::pdu::{BasicHeaderSegment, LoginRequest, NopOut, RESERVED_TAG};
use scst_protocol_iscsi::text::BinaryForm;

fn pair() -> LoginPair {
    LoginPair::new(admission(TargetParameters::default()))
}

fn chap_pair() -> LoginPair {
    let mut admission = admission(TargetParameters::default());
    admission.chap = Some(ChapConfig {
        incoming: vec![ChapUser::new("joe", b"12charsecret").unwrap()],
        outgoing: Some(ChapUser::new("disk", b"another-secret").unwrap()),
    });
    LoginPair::new(admission)
}

fn refused(login: &LoginPair, status: LoginStatus) {
    let Some(CloseReason::Refused(reason)) = login.closed else { panic!("{:?}", login.closed) };
    assert_eq!(reason.status(), status);
    assert!(!login.full_feature);
}

/// The status of a one-request login that must fail.
fn status_of(keys: &[(&str, &str)]) -> u16 {
    let mut login = pair();
    let (response, _) = login.one(1, Some(3), keys);
    refused(&login, LoginStatus(response.status));
    assert!(!response.transit);
    response.status
}

fn own(keys: &[(&str, &str)]) -> Vec<(String, String)> {
    keys.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
}

#[test]
fn open_iscsi_logs_in_through_both_stages() {
    let mut login = pair();
    let (response, text) =
        login.one(0, Some(1), &[NAMES, &[("SessionType", "Normal"), ("AuthMethod", "None")]].concat());
    assert_eq!((response.status, response.transit, response.csg, response.nsg), (0, true, 0, 1));
    assert_eq!((response.stat_sn, response.exp_cmd_sn, response.max_cmd_sn), (500, 100, 100));
    assert_eq!(text, own(&[("TargetPortalGroupTag", "1"), ("AuthMethod", "None")]));
    let offers = [
        ("HeaderDigest", "None"),
        ("DataDigest", "None"),
        ("DefaultTime2Wait", "2"),
        ("DefaultTime2Retain", "0"),
        ("IFMarker", "No"),
        ("OFMarker", "No"),
        ("ErrorRecoveryLevel", "0"),
        ("InitialR2T", "No"),
        ("ImmediateData", "Yes"),
        ("MaxBurstLength", "16776192"),
        ("FirstBurstLength", "262144"),
        ("MaxOutstandingR2T", "1"),
        ("MaxConnections", "1"),
        ("DataPDUInOrder", "Yes"),
        ("DataSequenceInOrder", "Yes"),
        ("MaxRecvDataSegmentLength", "262144"),
    ];
    let (response, text) = login.one(1, Some(3), &offers);
    assert_eq!((response.status, response.transit, response.nsg, response.tsih), (0, true, 3, TSIH));
    assert_eq!((response.stat_sn, response.exp_cmd_sn, response.max_cmd_sn), (501, 100, 131));
    let mut expected = own(&offers[..15]);
    expected.retain(|(k, _)| k != "FirstBurstLength");
    expected.iter_mut().filter(|(k, _)| k == "MaxBurstLength").for_each(|(_, v)| *v = "1048576".into());
    expected.extend(own(&[("FirstBurstLength", "65536"), ("MaxRecvDataSegmentLength", "1048576")]));
    assert_eq!(text, expected);
    assert!(login.full_feature);
    assert_eq!(login.established, login.authorized);
    assert_eq!(login.authorized[0].target_name.as_deref(), Some("iqn.2024-01.example:target"));

    let (connection, session) = login.target.into_full_feature(0).unwrap();
    assert_eq!(connection.parameters().max_send_data_segment_length, 262_144);
    assert_eq!(session.parameters().max_burst_length, 1_048_576);
    assert!(!session.parameters().initial_r2t);
    assert_eq!((session.tsih(), session.exp_cmd_sn(), session.max_cmd_sn()), (TSIH, 100, 131));
}

#[test]
fn discovery_needs_no_target_name() {
    let mut login = pair();
    let (response, text) =
        login.one(1, Some(3), &[("InitiatorName", "iqn.1991-05.com.microsoft:HOST"), ("SessionType", "Discovery")]);
    assert_eq!((response.status, response.max_cmd_sn), (0, 107));
    assert_eq!(text, own(&[("MaxRecvDataSegmentLength", "1048576")]));
    assert_eq!(login.authorized[0].session_type, SessionType::Discovery);
    assert_eq!(login.authorized[0].initiator_name, "iqn.1991-05.com.microsoft:host");
}

#[test]
fn straight_from_security_to_full_feature_keeps_the_defaults_that_the_target_takes() {
    let mut login = pair();
    let (response, _) = login.one(0, Some(3), &[NAMES, &[("AuthMethod", "CHAP,None")]].concat());
    assert_eq!((response.status, response.nsg), (0, 3));
    let (connection, session) = login.target.into_full_feature(0).unwrap();
    assert_eq!(connection.parameters().max_send_data_segment_length, 8192);
    assert!(session.parameters().initial_r2t);
}

#[test]
fn each_failure_has_its_status() {
    let name = ("InitiatorName", "iqn.a:i");
    let target = ("TargetName", "iqn.a:t");
    assert_eq!(status_of(&[target]), 0x0207);
    assert_eq!(status_of(&[name]), 0x0207);
    assert_eq!(status_of(&[name, target, ("SessionType", "Strange")]), 0x0209);
    assert_eq!(status_of(&[("InitiatorName", "me"), target]), 0x0200);
    assert_eq!(status_of(&[name, name, target]), 0x0200);
    assert_eq!(status_of(&[name, target, ("AuthMethod", "CHAP")]), 0x0201);
    assert_eq!(status_of(&[name, target, ("InitialR2T", "No"), ("InitialR2T", "No")]), 0x0200);
    assert_eq!(status_of(&[name, target, ("MaxRecvDataSegmentLength", "1")]), 0x0200);
    let long = "x".repeat(256);
    assert_eq!(status_of(&[name, target, ("InitiatorAlias", &long)]), 0x0200);
}

#[test]
fn the_driver_refuses_with_any_status_and_can_name_another_place() {
    let mut login = pair();
    login.admission = Err(RefusalReason::NotAllowed.into());
    let (response, _) = login.one(1, Some(3), NAMES);
    assert_eq!(response.status, 0x0203);
    refused(&login, LoginStatus::NOT_FOUND);

    let mut login = pair();
    let moved = Refusal { reason: RefusalReason::MovedTemporarily, address: Some("10.0.0.9:3260".into()) };
    login.admission = Err(moved);
    let (response, text) = login.one(1, Some(3), NAMES);
    assert_eq!((response.status, text), (0x0101, own(&[("TargetAddress", "10.0.0.9:3260")])));

    let mut login = pair();
    login.tsih = Err(RefusalReason::MaxSessions.into());
    let (response, _) = login.one(1, Some(3), NAMES);
    assert_eq!((response.status, response.tsih), (0x0302, 0));
    refused(&login, LoginStatus::OUT_OF_RESOURCES);
}

#[test]
fn a_second_connection_asks_the_driver_with_its_tsih() {
    let mut login = pair();
    login.template.tsih = 9;
    login.admission = Err(RefusalReason::NoMoreConnections.into());
    let (response, _) = login.one(1, Some(3), NAMES);
    assert_eq!((response.status, login.authorized[0].tsih), (0x0206, 9));
}

#[test]
fn stages_and_bits_in_the_wrong_order_are_refused() {
    let wrong: [fn(&mut LoginRequest); 6] = [
        |r| r.csg = 2,
        |r| (r.transit, r.nsg) = (true, 1),
        |r| (r.transit, r.nsg) = (true, 2),
        |r| (r.transit, r.nsg, r.continues) = (true, 3, true),
        |r| r.csg = 3,
        |r| (r.transit, r.nsg) = (true, 0),
    ];
    for change in wrong {
        let mut login = pair();
        let mut request = login.template;
        change(&mut request);
        let all = login.send(request, b"InitiatorName=iqn.a:i\0TargetName=iqn.a:t\0");
        assert_eq!(all[0].0.status, 0x0200, "{request:?}");
        refused(&login, LoginStatus::INITIATOR_ERROR);
    }
    let mut login = pair();
    let request = LoginRequest { version_min: 1, ..login.template };
    assert_eq!(login.send(request, b"")[0].0.status, 0x0205);
}

#[test]
fn a_login_does_not_change_who_it_is_or_go_back() {
    let changes: [fn(&mut LoginRequest); 4] = [|r| r.isid[5] = 9, |r| r.cid = 1, |r| r.tsih = 1, |r| r.csg = 0];
    for change in changes {
        let mut login = pair();
        login.one(1, None, NAMES);
        let mut request = login.template;
        change(&mut request);
        assert_eq!(login.send(request, b"")[0].0.status, 0x0200);
    }
    for other in [("InitiatorName", "iqn.a:other"), ("TargetName", "iqn.a:other"), ("SessionType", "Discovery")] {
        let mut login = pair();
        login.one(1, None, NAMES);
        assert_eq!(login.one(1, Some(3), &[other]).0.status, 0x0200);
    }
}

#[test]
fn an_initiator_may_count_its_login_requests() {
    let mut login = pair();
    login.one(0, Some(1), NAMES);
    login.template.itt += 1;
    login.template.cmd_sn += 1;
    let (response, _) = login.one(1, None, &[]);
    assert_eq!((response.status, response.itt, response.exp_cmd_sn, response.max_cmd_sn), (0, 2, 101, 101));
    login.template.itt = 77;
    login.template.cmd_sn += 1;
    let (response, _) = login.one(1, Some(3), &[]);
    assert_eq!((response.status, response.itt, response.exp_cmd_sn, response.max_cmd_sn), (0, 77, 102, 133));
    // What the last response says is in force.
    let (_, session) = login.target.into_full_feature(0).unwrap();
    assert_eq!((session.exp_cmd_sn(), session.max_cmd_sn()), (102, 133));
}

#[test]
fn who_asks_for_no_authentication_may_say_so_in_the_operational_stage() {
    for offer in ["None", "CHAP,None"] {
        let mut login = pair();
        let (response, text) = login.one(1, Some(3), &[NAMES, &[("AuthMethod", offer)]].concat());
        assert_eq!((response.status, login.full_feature), (0, true));
        assert_eq!(text[1], ("AuthMethod".into(), "None".into()));
    }
    // Also again, in every stage; but what somebody has to prove is proved once, in its stage.
    let mut login = pair();
    login.one(0, Some(1), &[NAMES, &[("AuthMethod", "None")]].concat());
    assert_eq!(login.one(1, Some(3), &[("AuthMethod", "None")]).1[0], ("AuthMethod".into(), "None".into()));
    for stage in [0, 1] {
        let twice = [("AuthMethod", "None"), ("AuthMethod", "None")];
        assert_eq!(pair().one(stage, Some(3), &[NAMES, &twice].concat()).0.status, 0x0200);
    }
    let mut login = chap_pair();
    assert_eq!(login.one(1, Some(3), &[NAMES, &[("AuthMethod", "None")]].concat()).0.status, 0x0201);
    let mut login = chap_pair();
    login.one(0, Some(1), &[NAMES, &[("AuthMethod", "CHAP")]].concat());
    assert_eq!(login.one(0, Some(1), &[("AuthMethod", "CHAP")]).0.status, 0x0200);
}

#[test]
fn a_text_over_several_requests_is_one_text() {
    let mut login = pair();
    let part = |login: &LoginPair, last: bool| LoginRequest {
        continues: !last,
        transit: last,
        nsg: if last { 3 } else { 0 },
        ..login.template
    };
    let request = part(&login, false);
    let all = login.send(request, b"InitiatorName=iqn.a:i\0TargetNa");
    assert_eq!((all.len(), all[0].0.status, all[0].0.transit, all[0].1.data.len()), (1, 0, false, 0));
    let request = part(&login, true);
    let all = login.send(request, b"me=iqn.a:t\0");
    assert_eq!((all[0].0.status, all[0].0.nsg), (0, 3));
    assert_eq!(login.authorized[0].target_name.as_deref(), Some("iqn.a:t"));
}

#[test]
fn endless_texts_and_endless_logins_are_refused() {
    let mut login = pair();
    let request = LoginRequest { continues: true, ..login.template };
    let mut statuses: Vec<u16> = Vec::new();
    while login.closed.is_none() {
        statuses.extend(login.send(request, &[b'a'; 8000]).iter().map(|(r, _)| r.status));
    }
    assert_eq!((statuses.len(), statuses.last()), (9, Some(&0x0200)));

    let mut login = pair();
    login.one(1, None, NAMES);
    let mut count = 1;
    while login.closed.is_none() {
        login.one(1, None, &[]);
        count += 1;
    }
    assert_eq!(count, 65);

    let mut login = pair();
    let header = LoginRequest { data_length: 8193, ..login.template }.emit();
    assert_eq!(login.offer(&header.0)[0].0.status, 0x0200);
    refused(&login, LoginStatus::INITIATOR_ERROR);
}

#[test]
fn a_long_answer_goes_over_several_responses() {
    let mut login = pair();
    let keys: Vec<(String, String)> = (0..400).map(|i| (format!("X-com.example.key{i}"), "v".into())).collect();
    let borrowed: Vec<(&str, &str)> = keys.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let text: Vec<u8> = NAMES.iter().chain(&borrowed).flat_map(|(k, v)| format!("{k}={v}\0").into_bytes()).collect();
    let mut data = Vec::new();
    let mut chunks = text.chunks(8000).peekable();
    while let Some(chunk) = chunks.next() {
        let last = chunks.peek().is_none();
        let request = LoginRequest { continues: !last, transit: last, nsg: if last { 3 } else { 0 }, ..login.template };
        let all = login.send(request, chunk);
        assert!(!all[0].0.transit);
        assert_eq!(all[0].0.continues, last);
        data.extend_from_slice(&all[0].1.data);
    }
    while !login.full_feature {
        let request = LoginRequest { transit: true, nsg: 3, ..login.template };
        let all = login.send(request, b"");
        assert_eq!(all[0].0.continues, !all[0].0.transit);
        data.extend_from_slice(&all[0].1.data);
    }
    let text = String::from_utf8(data).unwrap();
    assert_eq!(text.matches("=NotUnderstood\0").count(), 400);
    assert!(text.contains("X-com.example.key399=NotUnderstood\0"));
}

#[test]
fn chap_in_both_directions() {
    for algorithm in [ChapAlgorithm::Md5, ChapAlgorithm::Sha1, ChapAlgorithm::Sha256, ChapAlgorithm::Sha3256] {
        let mut login = chap_pair();
        let (response, text) = login.one(0, Some(1), &[NAMES, &[("AuthMethod", "CHAP,None")]].concat());
        assert_eq!((response.status, response.transit), (0, false));
        assert_eq!(text[1], ("AuthMethod".into(), "CHAP".into()));
        let number = algorithm.number().to_string();
        let (_, text) = login.one(0, Some(1), &[("CHAP_A", &number)]);
        let challenge = &ENTROPY.challenge[..algorithm.length()];
        let encoded = BinaryForm::Hex.encode(challenge);
        assert_eq!(text, own(&[("CHAP_A", &number), ("CHAP_I", "7"), ("CHAP_C", &encoded)]));
        let answer = BinaryForm::Hex.encode(&algorithm.response(7, b"12charsecret", challenge));
        let (response, text) =
            login.one(0, Some(1), &[("CHAP_N", "joe"), ("CHAP_R", &answer), ("CHAP_I", "66"), ("CHAP_C", "0x010203")]);
        assert_eq!((response.status, response.transit, response.nsg), (0, true, 1));
        let ours = BinaryForm::Hex.encode(&algorithm.response(66, b"another-secret", &[1, 2, 3]));
        assert_eq!(text, own(&[("CHAP_N", "disk"), ("CHAP_R", &ours)]));
        let (response, _) = login.one(1, Some(3), &[]);
        assert_eq!((response.status, login.full_feature), (0, true));
    }
}

#[test]
fn without_the_secret_nobody_passes() {
    let mut login = chap_pair();
    assert_eq!(login.one(1, Some(3), NAMES).0.status, 0x0201);
    let mut login = chap_pair();
    assert_eq!(login.one(0, Some(1), &[NAMES, &[("AuthMethod", "None")]].concat()).0.status, 0x0201);
    let mut login = chap_pair();
    assert_eq!(login.one(0, Some(3), NAMES).0.status, 0x0201);
    let mut login = chap_pair();
    login.one(0, Some(1), &[NAMES, &[("AuthMethod", "CHAP")]].concat());
    assert_eq!(login.one(0, Some(1), &[("CHAP_N", "joe"), ("CHAP_R", "0x00")]).0.status, 0x0201);
    let mut login = chap_pair();
    login.one(0, Some(1), &[NAMES, &[("AuthMethod", "CHAP")]].concat());
    login.one(0, Some(1), &[("CHAP_A", "5")]);
    let wrong = BinaryForm::Hex.encode(&[0; 16]);
    assert_eq!(login.one(0, Some(1), &[("CHAP_N", "joe"), ("CHAP_R", &wrong)]).0.status, 0x0201);
    refused(&login, LoginStatus::AUTHENTICATION_FAILURE);
    assert!(login.established.is_empty());
    // A target without users cannot satisfy an initiator that insists on CHAP.
    let mut login = pair();
    assert_eq!(login.one(0, Some(1), &[NAMES, &[("AuthMethod", "CHAP")]].concat()).0.status, 0x0201);
}

#[test]
fn the_log_hears_the_reason_that_the_initiator_does_not() {
    let reason = |login: &LoginPair| match login.closed {
        Some(CloseReason::Refused(reason)) => (reason.to_string(), reason.status().0),
        other => panic!("{other:?}"),
    };
    let chap = |name: &str, secret: &[u8]| {
        let mut login = chap_pair();
        login.one(0, Some(1), &[NAMES, &[("AuthMethod", "CHAP")]].concat());
        login.one(0, Some(1), &[("CHAP_A", "5")]);
        let answer = ChapAlgorithm::Md5.response(7, secret, &ENTROPY.challenge[..16]);
        login.one(0, Some(1), &[("CHAP_N", name), ("CHAP_R", &BinaryForm::Hex.encode(&answer))]);
        reason(&login)
    };
    assert_eq!(chap("joe", b"not the secret"), ("wrong CHAP secret".into(), 0x0201));
    assert_eq!(chap("ann", b"12charsecret"), ("unknown CHAP user".into(), 0x0201));
    let mut login = chap_pair();
    login.one(0, Some(1), &[NAMES, &[("AuthMethod", "None")]].concat());
    assert_eq!(reason(&login), ("CHAP is required and the initiator does not offer it".into(), 0x0201));
    let mut login = pair();
    login.one(1, Some(3), &[NAMES, &[("HeaderDigest", "CRC32C")]].concat());
    assert_eq!(reason(&login), ("no value of HeaderDigest suits both initiator and target".into(), 0x0200));
    assert_eq!(login.target.identity().map(|i| i.initiator_name.as_str()), Some("iqn.2024-01.example:initiator"));
    let mut login = pair();
    login.one(1, Some(3), &[("InitiatorName", "me"), ("TargetName", "iqn.a:t")]);
    assert_eq!((reason(&login), login.target.identity()), (("a name that is no iSCSI name".into(), 0x0200), None));
}

#[test]
fn a_digest_that_the_target_insists_on_is_asked_for() {
    let strict = TargetParameters { header_digest: DigestPolicy::Crc32cOnly, ..TargetParameters::default() };
    let mut login = LoginPair::new(admission(strict));
    let (response, text) = login.one(1, Some(3), NAMES);
    assert_eq!((response.status, response.transit), (0, false));
    assert!(text.contains(&("HeaderDigest".into(), "CRC32C".into())));
    let (response, text) = login.one(1, Some(3), &[("HeaderDigest", "CRC32C")]);
    assert_eq!((response.status, response.transit, text.len()), (0, true, 0));
    assert!(login.target.into_full_feature(0).unwrap().0.parameters().header_digest);
}

#[test]
fn what_is_no_login_closes_the_connection() {
    let mut login = pair();
    let nop =
        NopOut { immediate: true, data_length: 0, lun: LUN, itt: 1, ttt: RESERVED_TAG, cmd_sn: 0, exp_stat_sn: 0 };
    assert!(login.offer(&nop.emit().0).is_empty());
    assert_eq!(login.closed, Some(CloseReason::Misbehaved(Misbehavior::NotLogin(0))));

    let mut login = pair();
    let mut http = BasicHeaderSegment::default();
    http.0[..16].copy_from_slice(b"GET / HTTP/1.1\r\n");
    assert!(login.offer(&http.0).is_empty());
    assert_eq!(login.closed, Some(CloseReason::Garbage(Garbage::Opcode(0x07))));

    let mut login = pair();
    login.target.handle_timeout(15 * SECOND - 1);
    assert_eq!(login.target.poll_event(), None);
    login.target.handle_timeout(15 * SECOND);
    login.offer(b"");
    assert_eq!(login.closed, Some(CloseReason::Timeout(TimeoutKind::Login)));
}

#[test]
fn fragments_make_no_difference_and_what_follows_is_left_alone() {
    for fragment in [1, 3, 47, 48, 49] {
        let mut login = pair();
        login.fragment = fragment;
        let (response, _) = login.one(1, Some(3), NAMES);
        assert_eq!((response.status, login.full_feature), (0, true));
        assert_eq!(login.target.input(&[0; 48]), 0);
    }
}

#[test]
fn libiscsi_says_its_names_again_in_the_operational_stage() {
    let names = [NAMES, &[("SessionType", "Normal"), ("InitiatorAlias", "me")]].concat();
    let mut login = pair();
    let (response, _) = login.one(0, Some(1), &[&names[..], &[("AuthMethod", "CHAP,None")]].concat());
    assert_eq!((response.status, response.nsg), (0, 1));
    let (response, _) = login.one(1, Some(3), &[&names[..], &[("MaxConnections", "1")]].concat());
    assert_eq!((response.status, login.full_feature), (0, true));
}
