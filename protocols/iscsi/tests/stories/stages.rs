//! Every way through the stages of login, and what must be true in the full feature phase: both sides use the same
//! values, and none goes beyond what the target takes.

use std::collections::BTreeMap;

use scst_protocol_iscsi::chap::{ChapAlgorithm, ChapConfig, ChapUser};
use scst_protocol_iscsi::params::{DigestPolicy, TargetParameters};
use scst_protocol_iscsi::text::BinaryForm;

use crate::common::*;

const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;

/// What a request asks for: the stage it is meant for, and the stage to go to.
type Ask = (u8, Option<u8>);

/// Every way that RFC 7143 6.3 allows, with and without requests that end nothing.
const WAYS: &[&[Ask]] = &[
    &[(OPERATIONAL, Some(FULL_FEATURE))],
    &[(OPERATIONAL, None), (OPERATIONAL, Some(FULL_FEATURE))],
    &[(SECURITY, Some(OPERATIONAL)), (OPERATIONAL, Some(FULL_FEATURE))],
    &[(SECURITY, None), (SECURITY, Some(OPERATIONAL)), (OPERATIONAL, None), (OPERATIONAL, Some(FULL_FEATURE))],
    &[(SECURITY, Some(FULL_FEATURE))],
    &[(SECURITY, None), (SECURITY, Some(FULL_FEATURE))],
];

/// Keys that the initiator offers in the operational stage, if it comes there.
const OFFERS: &[&[(&str, &str)]] = &[
    &[],
    &[("HeaderDigest", "CRC32C,None"), ("DataDigest", "None,CRC32C")],
    &[("ImmediateData", "Yes"), ("InitialR2T", "No"), ("MaxOutstandingR2T", "8")],
    &[("MaxBurstLength", "16776192"), ("FirstBurstLength", "262144"), ("MaxRecvDataSegmentLength", "65536")],
];

fn targets() -> Vec<(TargetParameters, bool)> {
    let default = TargetParameters::default;
    let crc = DigestPolicy::Crc32cOnly;
    // With each: whether the operational stage can be left out.
    vec![
        (default(), true),
        (TargetParameters { header_digest: crc, ..default() }, false),
        (TargetParameters { data_digest: crc, ..default() }, false),
        (TargetParameters { data_digest: DigestPolicy::NoneOrCrc32c, ..default() }, true),
        (TargetParameters { immediate_data: false, ..default() }, false),
        (TargetParameters { max_burst_length: 65_536, ..default() }, false),
        (TargetParameters { first_burst_length: 4096, ..default() }, false),
        (TargetParameters { max_recv_data_segment_length: 4096, ..default() }, false),
        (TargetParameters { max_recv_data_segment_length: 8192, initial_r2t: false, ..default() }, true),
        (
            TargetParameters {
                header_digest: crc,
                data_digest: crc,
                immediate_data: false,
                max_burst_length: 65_536,
                first_burst_length: 512,
                max_recv_data_segment_length: 512,
                ..default()
            },
            false,
        ),
    ]
}

/// The values that an initiator works with: the RFC's defaults until something else is said.
struct View(BTreeMap<String, String>);

impl View {
    fn new() -> Self {
        let defaults = [
            ("HeaderDigest", "None"),
            ("DataDigest", "None"),
            ("InitialR2T", "Yes"),
            ("ImmediateData", "Yes"),
            ("MaxBurstLength", "262144"),
            ("FirstBurstLength", "65536"),
            ("MaxOutstandingR2T", "1"),
            ("MaxRecvDataSegmentLength", "8192"),
        ];
        Self(defaults.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    fn number(&self, key: &str) -> u32 {
        self.0[key].parse().unwrap()
    }

    fn yes(&self, key: &str) -> bool {
        self.0[key] == "Yes"
    }
}

/// An initiator that takes one way, does what it is told, and answers what it is asked. Returns what it believes, and how
/// many requests it needed.
fn walk(login: &mut LoginPair, way: &[Ask], offers: &[(&str, &str)], chap: bool) -> (View, usize) {
    let mut view = View::new();
    let mut asks = way.iter().copied().peekable();
    let mut stage = way[0].0;
    let mut keys: Vec<(String, String)> = NAMES.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    if chap {
        keys.push(("AuthMethod".into(), "CHAP".into()));
    }
    let (mut requests, mut offered) = (0, false);
    while !login.full_feature {
        assert!(requests < 10, "the login goes in circles");
        requests += 1;
        // Behind the end of its way it goes on to ask for the full feature phase, from wherever it has been sent.
        let (_, to) = asks.next_if(|(csg, _)| *csg == stage).unwrap_or((stage, Some(FULL_FEATURE)));
        if stage == OPERATIONAL && !std::mem::replace(&mut offered, true) {
            keys.extend(offers.iter().map(|(k, v)| ((*k).into(), (*v).into())));
        }
        let sent: Vec<(&str, &str)> = keys.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let (response, text) = login.one(stage, to, &sent);
        assert_eq!(response.status, 0);
        keys.clear();
        for (key, value) in text {
            match key.as_str() {
                "TargetPortalGroupTag" | "AuthMethod" if value == "1" || value == "CHAP" => {
                    if value == "CHAP" {
                        keys.push(("CHAP_A".into(), "5".into()));
                    }
                }
                "CHAP_C" => {
                    let answer = ChapAlgorithm::Md5.response(7, b"12charsecret", &ENTROPY.challenge[..16]);
                    keys.push(("CHAP_N".into(), "joe".into()));
                    keys.push(("CHAP_R".into(), BinaryForm::Hex.encode(&answer)));
                }
                "CHAP_A" | "CHAP_I" => {}
                _ => {
                    assert_eq!(stage, OPERATIONAL, "{key} is no key of the security stage");
                    let own = offers.iter().any(|(offer, _)| *offer == key);
                    if !own && key != "MaxRecvDataSegmentLength" {
                        assert!(!response.transit, "{key} asks for an answer, and the stage ends");
                        keys.push((key.clone(), value.clone()));
                    }
                    assert!(view.0.insert(key.clone(), value).is_some(), "{key}");
                }
            }
        }
        if response.transit {
            assert!(to.is_some_and(|to| response.nsg <= to) && response.nsg > stage);
            stage = response.nsg;
        }
    }
    (view, requests)
}

#[test]
fn in_full_feature_phase_both_sides_use_the_same_values_and_none_beyond_the_targets() {
    let mut walks = 0;
    for (target, may_skip) in targets() {
        for (way, offers, chap) in WAYS
            .iter()
            .flat_map(|way| OFFERS.iter().flat_map(move |offers| [(way, offers, false), (way, offers, true)]))
        {
            if chap && way[0].0 == OPERATIONAL {
                continue;
            }
            // A target without digests of its own cannot take an initiator that demands them; the lists here allow none.
            let mut admission = admission(target.clone());
            let joe = ChapUser::new("joe", b"12charsecret").unwrap();
            admission.chap = chap.then(|| ChapConfig { incoming: vec![joe], outgoing: None });
            let mut login = LoginPair::new(admission);
            let (view, requests) = walk(&mut login, way, offers, chap);
            let case = format!("{way:?} {offers:?} {chap} {target:?}");
            let (connection, session) = login.target.into_full_feature(0).unwrap();
            let (of_connection, of_session) = (connection.parameters(), session.parameters());

            assert_eq!(of_connection.header_digest, view.0["HeaderDigest"] == "CRC32C", "{case}");
            assert_eq!(of_connection.data_digest, view.0["DataDigest"] == "CRC32C", "{case}");
            assert_eq!(of_session.immediate_data, view.yes("ImmediateData"), "{case}");
            assert_eq!(of_session.initial_r2t, view.yes("InitialR2T"), "{case}");
            assert_eq!(of_session.max_burst_length, view.number("MaxBurstLength"), "{case}");
            assert_eq!(of_session.max_outstanding_r2t, view.number("MaxOutstandingR2T"), "{case}");
            let first_burst = view.number("FirstBurstLength").min(view.number("MaxBurstLength"));
            assert_eq!(of_session.first_burst_length, first_burst, "{case}");

            let demands = |policy| policy == DigestPolicy::Crc32cOnly;
            assert!(of_connection.header_digest || !demands(target.header_digest), "{case}");
            assert!(of_connection.data_digest || !demands(target.data_digest), "{case}");
            assert!(target.immediate_data || !of_session.immediate_data, "{case}");
            assert!(of_session.max_burst_length <= target.max_burst_length, "{case}");
            assert!(of_session.first_burst_length <= target.first_burst_length, "{case}");
            assert!(view.number("MaxRecvDataSegmentLength") <= target.max_recv_data_segment_length, "{case}");
            assert!(of_connection.max_recv_data_segment_length <= target.max_recv_data_segment_length, "{case}");

            // The operational stage is not forced on an initiator to which there is nothing to say.
            if may_skip && way.last() == Some(&(SECURITY, Some(FULL_FEATURE))) && !chap {
                assert_eq!(requests, way.len(), "{case}");
            }
            walks += 1;
        }
    }
    assert_eq!(walks, 10 * 4 * (6 + 4));
}

#[test]
fn a_discovery_session_may_go_straight_unless_a_digest_is_demanded() {
    let names = [("InitiatorName", "iqn.a:i"), ("SessionType", "Discovery")];
    for (target, stage) in [
        (TargetParameters { immediate_data: false, max_burst_length: 512, ..Default::default() }, FULL_FEATURE),
        (TargetParameters { header_digest: DigestPolicy::Crc32cOnly, ..Default::default() }, OPERATIONAL),
    ] {
        let mut login = LoginPair::new(admission(target));
        let (response, _) = login.one(SECURITY, Some(FULL_FEATURE), &names);
        assert_eq!((response.status, response.transit, response.nsg), (0, true, stage));
    }
}
