//! Credentials that are not right.

use scst_testkit::chap::{Chap, ChapAlgorithm, Notation};
use scst_testkit::hostile::{LoginResult, try_login, wrong_chap};

use crate::login_stages::RawLogin;
use crate::stage::{HOST, ROGUE, Stage, TARGET, rogue};

const ACCESS: &str = "IncomingUser \"joe 12charsecret\"\nOutgoingUser \"us targetsecret1\"";
const REFUSED: LoginResult = LoginResult::Refused { class: 2, detail: 1 };

fn joe() -> Chap {
    Chap::new("joe", "12charsecret")
}

#[test]
fn every_wrong_way_through_chap_is_an_authentication_failure() {
    let stage = Stage::new("auto", ACCESS, &[]);
    let portal = stage.daemon.portal();
    let good = rogue().with_chap(joe());
    for algorithm in ChapAlgorithm::ALL {
        assert_eq!(try_login(portal, rogue().with_chap(joe().with_algorithm(algorithm))), LoginResult::LoggedIn);
        let wrong = Chap::new("joe", "12charsecreu").with_algorithm(algorithm);
        assert_eq!(try_login(portal, rogue().with_chap(wrong)), REFUSED, "{algorithm:?}");
    }
    for (case, result) in wrong_chap(portal, &good) {
        assert_eq!(result, REFUSED, "{case}");
    }
    // The target has to prove itself too: with another secret than expected the initiator gives up.
    let mutual = |secret: &str| try_login(portal, rogue().with_chap(joe().with_mutual("us", secret)));
    assert_eq!(mutual("targetsecret1"), LoginResult::LoggedIn);
    assert_eq!(mutual("targetsecret2"), LoginResult::GivenUp("the target's CHAP_R is wrong or missing".to_owned()));
    // The way in is as long for those that are refused as for others.
    let mut host = scst_testkit::Initiator::connect(portal, good.with_isid(9)).unwrap();
    host.clear_unit_attentions(0).unwrap();
    host.logout_and_wait().unwrap();
    stage.stop();
}

/// Asks for a challenge and gives back its identifier and value.
fn challenge(login: &mut RawLogin) -> (String, Vec<u8>) {
    let first = [("InitiatorName", ROGUE), ("TargetName", TARGET), ("SessionType", "Normal"), ("AuthMethod", "CHAP")];
    assert_eq!(login.exchange(0x00, &first).get("AuthMethod"), "CHAP");
    let answer = login.exchange(0x00, &[("CHAP_A", "5")]);
    assert_eq!(answer.get("CHAP_A"), "5");
    let value = scst_testkit::chap::decode_binary(answer.get("CHAP_C")).unwrap();
    assert!(value.len() >= 16, "{value:?}");
    (answer.get("CHAP_I").to_owned(), value)
}

#[test]
fn a_reflected_challenge_proves_nothing() {
    // The same secret both ways, which reflection needs, is refused with the configuration.
    let access = "IncomingUser \"joe 12charsecret\"\nOutgoingUser \"disk 13charssecret\"";
    let stage = Stage::new("auto", access, &[]);
    let portal = stage.daemon.portal();
    let hex = |bytes: &[u8]| Notation::Hex.encode(bytes);

    // On one connection, with the right response even (RFC 7143 12.1.3: no reuse of the challenge).
    let mut login = RawLogin::open(portal);
    let (identifier, value) = challenge(&mut login);
    let number = identifier.parse().unwrap();
    let response = hex(&ChapAlgorithm::Md5.response(number, b"12charsecret", &value));
    let reply =
        [("CHAP_N", "joe"), ("CHAP_R", response.as_str()), ("CHAP_I", identifier.as_str()), ("CHAP_C", &hex(&value))];
    let answer = login.exchange(0x81, &reply);
    assert_eq!((answer.class, answer.detail), (2, 1), "{answer:?}");
    login.assert_closed();

    // Over another connection: the target signs nothing for somebody who has not proved who he is.
    let mut first = RawLogin::open(portal);
    let (identifier, value) = challenge(&mut first);
    let mut second = RawLogin::open(portal);
    challenge(&mut second);
    let nonsense = hex(&[7; 16]);
    let reply = [("CHAP_N", "joe"), ("CHAP_R", nonsense.as_str()), ("CHAP_I", &identifier), ("CHAP_C", &hex(&value))];
    let answer = second.exchange(0x81, &reply);
    assert_eq!((answer.class, answer.detail), (2, 1), "{answer:?}");
    assert!(answer.keys.iter().all(|(key, _)| key != "CHAP_R"), "{answer:?}");
    second.assert_closed();

    // Challenges do not come twice.
    let mut seen = std::collections::BTreeSet::from([value]);
    for _ in 0..50 {
        assert!(seen.insert(challenge(&mut RawLogin::open(portal)).1));
    }
    assert_eq!(
        try_login(portal, scst_testkit::LoginConfig::normal(HOST, TARGET).with_chap(joe())),
        LoginResult::LoggedIn
    );
    stage.stop();
}
