//! Bad logins of every kind, and how each ended.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::chap::{Chap, Notation, decode_binary};
use crate::initiator::{Error, Initiator, LoginConfig, Tamper};
use crate::pdu::{Pdu, opcode};
use crate::text;

/// A target that neither answers nor closes for so long does not count as bounded.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a login ended.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LoginResult {
    /// Full feature phase.
    LoggedIn,
    /// A login response with an error.
    Refused {
        /// Status-Class.
        class: u8,
        /// Status-Detail.
        detail: u8,
    },
    /// A Reject with this reason.
    Rejected(u8),
    /// The connection was closed without a word.
    Closed,
    /// We ended it: the target did not prove itself, or its answer makes no sense.
    GivenUp(String),
    /// Neither answer nor close.
    Silence,
    /// Anything else.
    Other(String),
}

impl From<Result<(), Error>> for LoginResult {
    fn from(result: Result<(), Error>) -> Self {
        match result {
            Ok(()) => Self::LoggedIn,
            Err(Error::Login(failure)) => Self::Refused { class: failure.class, detail: failure.detail },
            Err(Error::Rejected(rejected)) => Self::Rejected(rejected.reason),
            Err(Error::Closed) => Self::Closed,
            Err(Error::GivenUp(why)) => Self::GivenUp(why),
            Err(Error::Timeout(_)) => Self::Silence,
            Err(other) => Self::Other(other.to_string()),
        }
    }
}

/// Logs in and closes the connection at once.
pub fn try_login(portal: SocketAddr, config: LoginConfig) -> LoginResult {
    login_with(portal, config, |_| {})
}

fn login_with(portal: SocketAddr, config: LoginConfig, prepare: impl FnOnce(&mut Initiator)) -> LoginResult {
    let attempt = || {
        let mut initiator = Initiator::open(portal, config)?;
        initiator.set_timeout(PATIENCE);
        prepare(&mut initiator);
        initiator.login()
    };
    LoginResult::from(attempt())
}

/// `count` logins, `parallel` at a time, each with an ISID of its own. Sessions that get in stay until all are done, so
/// that limits show. Returns how many ended how.
pub fn login_flood(
    portal: SocketAddr,
    config: &LoginConfig,
    count: usize,
    parallel: usize,
) -> BTreeMap<LoginResult, usize> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut results = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return results;
            }
            let mut config = config.clone();
            config.isid[3..].copy_from_slice(&(number as u32).to_be_bytes()[1..]);
            let opened = Initiator::open(portal, config).and_then(|mut initiator| {
                initiator.set_timeout(PATIENCE);
                initiator.login()?;
                Ok(initiator)
            });
            results.push(match opened {
                Ok(initiator) => (LoginResult::LoggedIn, Some(initiator)),
                Err(error) => (LoginResult::from(Err(error)), None),
            });
        }
    };
    let all: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..parallel.max(1)).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|one| one.join().unwrap_or_default()).collect()
    });
    let mut counts = BTreeMap::new();
    for (result, _session) in &all {
        *counts.entry(result.clone()).or_insert(0) += 1;
    }
    counts
}

/// Changes the value of one key in whichever login request has it; an empty value of None removes the key.
fn rewrite(initiator: &mut Initiator, change: impl Fn(&str, &str) -> Option<Vec<u8>> + Send + 'static) {
    initiator.core().set_hook(Some(Box::new(move |pdu: &mut Pdu| {
        if pdu.opcode() == opcode::LOGIN {
            let mut out = Vec::new();
            for (key, value) in text::decode(&pdu.data).unwrap_or_default() {
                if let Some(value) = change(&key, &value) {
                    out.extend_from_slice(key.as_bytes());
                    out.push(b'=');
                    out.extend_from_slice(&value);
                    out.push(0);
                }
            }
            pdu.data = out;
        }
        Tamper::Send
    })));
}

/// Every wrong way through CHAP, against a target that demands it of `good` (which logs in). The results of all are to
/// be `Refused { class: 2, detail: 1 }` (or 0 for malformed values).
pub fn wrong_chap(portal: SocketAddr, good: &LoginConfig) -> Vec<(&'static str, LoginResult)> {
    let Some(chap) = good.chap.clone() else { return Vec::new() };
    let with = |chap: Chap| good.clone().with_chap(chap);
    let mut results = vec![
        ("wrong secret", try_login(portal, with(Chap { secret: b"not the secret!!".to_vec(), ..chap.clone() }))),
        ("empty secret", try_login(portal, with(Chap { secret: Vec::new(), ..chap.clone() }))),
        ("unknown user", try_login(portal, with(Chap { name: "nobody".to_owned(), ..chap.clone() }))),
        ("empty user", try_login(portal, with(Chap { name: String::new(), ..chap.clone() }))),
        ("no CHAP at all", try_login(portal, LoginConfig { chap: None, ..good.clone() })),
        ("no algorithm", try_login(portal, with(Chap { algorithms: Vec::new(), ..chap.clone() }))),
        ("base64, wrong secret", {
            let chap = Chap { secret: b"not the secret!!".to_vec(), notation: Notation::Base64, ..chap.clone() };
            try_login(portal, with(chap))
        }),
    ];
    type Change = fn(&str, &str) -> Option<Vec<u8>>;
    let changes: [(&'static str, Change); 8] = [
        ("unknown algorithm", |key, value| Some(if key == "CHAP_A" { b"250".to_vec() } else { value.into() })),
        ("response is no number", |key, value| Some(if key == "CHAP_R" { b"zzzz".to_vec() } else { value.into() })),
        ("response cut", |key, value| Some(value[..if key == "CHAP_R" { 10 } else { value.len() }].into())),
        ("response empty", |key, value| Some(if key == "CHAP_R" { b"0x".to_vec() } else { value.into() })),
        ("response doubled", |key, value| {
            let mut value = value.as_bytes().to_vec();
            if key == "CHAP_R" {
                value.extend_from_within(2..);
            }
            Some(value)
        }),
        ("response one bit off", |key, value| {
            let mut bytes = if key == "CHAP_R" { decode_binary(value)? } else { return Some(value.into()) };
            bytes[0] ^= 1;
            Some(Notation::Hex.encode(&bytes).into_bytes())
        }),
        ("no response", |key, value| (key != "CHAP_R").then(|| value.into())),
        ("no name", |key, value| (key != "CHAP_N").then(|| value.into())),
    ];
    for (name, change) in changes {
        results.push((name, login_with(portal, with(chap.clone()), |initiator| rewrite(initiator, change))));
    }
    results
}

/// Every kind of wrong name. Expected of a target by RFC 7143 11.13.5: an unknown target 02/03, a missing name 02/07, a
/// malformed one 02/00 (or a Reject, or a close).
pub fn wrong_names(portal: SocketAddr, good: &LoginConfig) -> Vec<(&'static str, LoginResult)> {
    let target = |name: &str| LoginConfig { target_name: Some(name.to_owned()), ..good.clone() };
    let initiator = |name: &str| LoginConfig { initiator_name: Some(name.to_owned()), ..good.clone() };
    let long = format!("iqn.2026-01.test:{}", "x".repeat(300));
    let session = |kind: &str| LoginConfig { session_type: Some(kind.to_owned()), ..good.clone() };
    let cases = [
        ("unknown target", target("iqn.2026-01.test:no-such-target")),
        ("empty target name", target("")),
        ("target name too long", target(&long)),
        ("no target name", LoginConfig { target_name: None, ..good.clone() }),
        ("empty initiator name", initiator("")),
        ("initiator name too long", initiator(&long)),
        ("initiator name of no kind", initiator("joe")),
        ("initiator name with blanks", initiator("iqn.2026-01.test:a b")),
        ("no initiator name", LoginConfig { initiator_name: None, ..good.clone() }),
        ("unknown session type", session("Weird")),
        ("unknown version", LoginConfig { versions: (9, 9), ..good.clone() }),
        ("unknown session handle", LoginConfig { tsih: 0x7777, ..good.clone() }),
    ];
    let mut results: Vec<_> = cases.into_iter().map(|(name, config)| (name, try_login(portal, config))).collect();
    let not_utf8 = |key: &str, value: &str| {
        Some(if key == "InitiatorName" { b"iqn.2026-01.test:\xff\xfe".to_vec() } else { value.into() })
    };
    results.push(("initiator name not UTF-8", login_with(portal, good.clone(), |one| rewrite(one, not_utf8))));
    results
}

/// Texts beyond what RFC 7143 6.1 and clause 13 allow. None of them may log in except "many small keys", where the
/// target may as well answer NotUnderstood to each.
pub fn oversized_texts(portal: SocketAddr, good: &LoginConfig) -> Vec<(&'static str, LoginResult)> {
    let mut many = good.clone();
    for number in 0..2000 {
        many = many.with_extra_key(&format!("X-test.key{number}"), "v");
    }
    let split = |mut config: LoginConfig| {
        config.split_text = Some(8192);
        config
    };
    let cases = [
        ("key name of 300 bytes", good.clone().with_extra_key(&"K".repeat(300), "v")),
        ("value of 9000 bytes, split", split(good.clone().with_extra_key("X-test.long", &"v".repeat(9000)))),
        ("value of 20000 bytes in one PDU", good.clone().with_extra_key("X-test.long", &"v".repeat(20_000))),
        ("many small keys, split", split(many)),
    ];
    let mut results: Vec<_> = cases.into_iter().map(|(name, config)| (name, try_login(portal, config))).collect();
    results.push(("text without an end", endless_text(portal, 1 << 20)));
    results
}

/// Sends login requests with the C bit for ever (up to `limit` bytes of text): a target must end it. `LoggedIn` would
/// mean that it took all.
pub fn endless_text(portal: SocketAddr, limit: usize) -> LoginResult {
    let attempt = || {
        let mut initiator = Initiator::open(portal, LoginConfig::discovery("iqn.2026-01.test:endless"))?;
        initiator.set_timeout(PATIENCE);
        let mut pdu = Pdu::new(opcode::LOGIN | 0x40).with_flags(0x40).with_u32(16, 1).with_u32(20, 0);
        pdu.data = text::encode(&text::keys(&[("InitiatorName", "iqn.2026-01.test:endless")]));
        pdu.data.extend_from_slice(b"X-test=");
        pdu.data.resize(8192, b'v');
        for part in 0..limit / 8192 {
            initiator.send_raw(pdu.clone().with_u32(28, part as u32))?;
            pdu.data.fill(b'v');
            let answer = initiator.receive_raw()?;
            match (answer.opcode(), answer.bhs[36], answer.bhs[37]) {
                (opcode::LOGIN_RESPONSE, 0, _) => {}
                (opcode::LOGIN_RESPONSE, class, detail) => {
                    return Ok(LoginResult::Refused { class, detail });
                }
                (opcode::REJECT, ..) => return Ok(LoginResult::Rejected(answer.bhs[2])),
                _ => return Ok(LoginResult::Other(format!("{answer:?}"))),
            }
        }
        Ok(LoginResult::LoggedIn)
    };
    attempt().unwrap_or_else(|error| LoginResult::from(Err(error)))
}
