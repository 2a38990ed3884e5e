//! CHAP (RFC 1994, RFC 7143 12.1): one way and mutual, with MD5, SHA-1, SHA-256 and SHA3-256.
//!
//! Weaknesses of the protocol and what is done about them: a peer that reflects our challenge is refused (RFC 7143
//! 12.1.3), so is a secret that serves both directions; unknown users take the same path as known ones; responses are
//! compared in constant time; challenges come from the caller's random source, one per login.

use core::fmt;

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

use crate::text::{BinaryForm, TextWriter, parse_binary, parse_number};

/// Shortest secret (RFC 7143 12.1.3: 96 bits unless IPsec protects the connection).
pub const MIN_SECRET_LENGTH: usize = 12;
/// Longest secret.
pub const MAX_SECRET_LENGTH: usize = 256;

/// A CHAP user.
#[derive(Clone, PartialEq, Eq)]
pub struct ChapUser {
    /// CHAP_N.
    pub name: String,
    /// The secret.
    pub secret: Vec<u8>,
}

impl fmt::Debug for ChapUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChapUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A user that cannot be configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SecretError {
    /// The secret is too short or too long.
    #[error("the CHAP secret has {length} bytes, it must have {MIN_SECRET_LENGTH} to {MAX_SECRET_LENGTH}")]
    Length {
        /// Its length.
        length: usize,
    },
    /// The name is empty or too long.
    #[error("the CHAP user name must have 1 to 255 bytes")]
    Name,
}

impl ChapUser {
    /// A user, checked.
    ///
    /// # Errors
    /// When the secret is too short (or absurdly long) or the name cannot be sent.
    pub fn new(name: &str, secret: &[u8]) -> Result<Self, SecretError> {
        if !(MIN_SECRET_LENGTH..=MAX_SECRET_LENGTH).contains(&secret.len()) {
            return Err(SecretError::Length { length: secret.len() });
        }
        if name.is_empty() || name.len() > crate::text::MAX_VALUE_LENGTH {
            return Err(SecretError::Name);
        }
        Ok(Self { name: name.into(), secret: secret.into() })
    }
}

/// What a target demands and offers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ChapConfig {
    /// Who may log in (`IncomingUser`). Empty: no authentication is asked for.
    pub incoming: Vec<ChapUser>,
    /// Who we are (`OutgoingUser`), for an initiator that asks.
    pub outgoing: Option<ChapUser>,
}

/// Random bytes for one login; must be fresh for each.
#[derive(Clone, Copy)]
pub struct ChapEntropy {
    /// CHAP_I.
    pub identifier: u8,
    /// Source of CHAP_C.
    pub challenge: [u8; 32],
}

impl fmt::Debug for ChapEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChapEntropy")
    }
}

/// CHAP_A.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChapAlgorithm {
    /// 5
    Md5,
    /// 6
    Sha1,
    /// 7
    Sha256,
    /// 8
    Sha3256,
}

impl ChapAlgorithm {
    /// From the number that IANA gave it.
    pub const fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            5 => Self::Md5,
            6 => Self::Sha1,
            7 => Self::Sha256,
            8 => Self::Sha3256,
            _ => return None,
        })
    }

    /// The number that IANA gave it.
    pub const fn number(self) -> u8 {
        match self {
            Self::Md5 => 5,
            Self::Sha1 => 6,
            Self::Sha256 => 7,
            Self::Sha3256 => 8,
        }
    }

    /// Bytes of a response; challenges are as long.
    pub const fn length(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Sha3256 => 32,
        }
    }

    /// The response to a challenge (RFC 1994 4.1).
    pub fn response(self, identifier: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
        fn hash<D: Digest>(parts: [&[u8]; 3]) -> Vec<u8> {
            parts.iter().fold(D::new(), |hasher, part| hasher.chain_update(part)).finalize().to_vec()
        }
        let parts = [&[identifier][..], secret, challenge];
        match self {
            Self::Md5 => hash::<Md5>(parts),
            Self::Sha1 => hash::<sha1::Sha1>(parts),
            Self::Sha256 => hash::<sha2::Sha256>(parts),
            Self::Sha3256 => hash::<sha3::Sha3_256>(parts),
        }
    }
}

/// The CHAP keys of one text.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct ChapKeys<'a> {
    pub(crate) algorithms: Option<&'a str>,
    pub(crate) name: Option<&'a str>,
    pub(crate) response: Option<&'a str>,
    pub(crate) identifier: Option<&'a str>,
    pub(crate) challenge: Option<&'a str>,
}

impl<'a> ChapKeys<'a> {
    /// Takes one of the keys; false when it is none of them or comes twice.
    pub(crate) fn take(&mut self, key: &str, value: &'a str) -> bool {
        let slot = match key {
            "CHAP_A" => &mut self.algorithms,
            "CHAP_N" => &mut self.name,
            "CHAP_R" => &mut self.response,
            "CHAP_I" => &mut self.identifier,
            "CHAP_C" => &mut self.challenge,
            _ => return false,
        };
        slot.replace(value).is_none()
    }
}

/// Why authentication failed; for logs, the initiator only gets status 0201.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ChapError {
    /// No algorithm in common.
    Algorithm,
    /// A key is missing, comes too early or does not parse.
    Sequence,
    /// No user has that name.
    UnknownUser,
    /// The response was not made with the user's secret.
    WrongSecret,
    /// The initiator sent our own challenge back.
    Reflection,
    /// The initiator wants us to authenticate, but no `OutgoingUser` (or one with the same secret) is configured.
    NoOutgoing,
}

impl fmt::Display for ChapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Algorithm => "no CHAP algorithm in common",
            Self::Sequence => "CHAP keys are missing, malformed or out of order",
            Self::UnknownUser => "unknown CHAP user",
            Self::WrongSecret => "wrong CHAP secret",
            Self::Reflection => "the initiator sent our own CHAP challenge back",
            Self::NoOutgoing => {
                "the initiator wants the target to authenticate, and there is no OutgoingUser with a secret of its own"
            }
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Algorithm,
    Response(ChapAlgorithm),
    Done,
}

/// The target's side of one authentication.
#[derive(Debug)]
pub(crate) struct ChapExchange {
    config: ChapConfig,
    entropy: ChapEntropy,
    step: Step,
}

impl ChapExchange {
    pub(crate) fn new(config: ChapConfig, entropy: ChapEntropy) -> Self {
        Self { config, entropy, step: Step::Algorithm }
    }

    /// Whether the initiator is authenticated.
    pub(crate) fn is_done(&self) -> bool {
        self.step == Step::Done
    }

    /// One exchange: what the initiator sent, and what to answer.
    pub(crate) fn advance(&mut self, keys: &ChapKeys<'_>, out: &mut TextWriter) -> Result<(), ChapError> {
        match self.step {
            Step::Algorithm => {
                if keys.name.is_some() || keys.response.is_some() {
                    return Err(ChapError::Sequence);
                }
                // Until CHAP_A comes, there is nothing to do.
                keys.algorithms.map_or(Ok(()), |offer| self.challenge(offer, out))
            }
            Step::Response(algorithm) => self.verify(algorithm, keys, out),
            Step::Done => Err(ChapError::Sequence),
        }
    }

    fn challenge(&mut self, offer: &str, out: &mut TextWriter) -> Result<(), ChapError> {
        // The initiator's order is its preference (RFC 7143 6.2.1).
        let algorithm = offer
            .split(',')
            .filter_map(parse_number)
            .find_map(ChapAlgorithm::from_number)
            .ok_or(ChapError::Algorithm)?;
        out.pair("CHAP_A", &algorithm.number().to_string());
        out.pair("CHAP_I", &self.entropy.identifier.to_string());
        out.pair("CHAP_C", &BinaryForm::Hex.encode(self.own_challenge(algorithm)));
        self.step = Step::Response(algorithm);
        Ok(())
    }

    fn own_challenge(&self, algorithm: ChapAlgorithm) -> &[u8] {
        &self.entropy.challenge[..algorithm.length()]
    }

    fn verify(&mut self, algorithm: ChapAlgorithm, keys: &ChapKeys<'_>, out: &mut TextWriter) -> Result<(), ChapError> {
        let (Some(name), Some(response)) = (keys.name, keys.response) else { return Err(ChapError::Sequence) };
        let given = parse_binary(response).ok_or(ChapError::Sequence)?;
        let user = self.config.incoming.iter().find(|user| user.name == name);
        let secret = user.map_or(&[][..], |user| &user.secret[..]);
        let expected = algorithm.response(self.entropy.identifier, secret, self.own_challenge(algorithm));
        let equal = bool::from(expected.ct_eq(&given));
        if user.is_none() {
            return Err(ChapError::UnknownUser);
        }
        if !equal {
            return Err(ChapError::WrongSecret);
        }
        match (keys.identifier, keys.challenge) {
            (None, None) => {}
            (Some(identifier), Some(challenge)) => {
                self.authenticate_ourselves(algorithm, secret, identifier, challenge, out)?;
            }
            _ => return Err(ChapError::Sequence),
        }
        self.step = Step::Done;
        Ok(())
    }

    fn authenticate_ourselves(
        &self,
        algorithm: ChapAlgorithm,
        incoming_secret: &[u8],
        identifier: &str,
        challenge_text: &str,
        out: &mut TextWriter,
    ) -> Result<(), ChapError> {
        let identifier = parse_number(identifier).and_then(|i| u8::try_from(i).ok()).ok_or(ChapError::Sequence)?;
        let challenge = parse_binary(challenge_text).filter(|c| !c.is_empty()).ok_or(ChapError::Sequence)?;
        if challenge == self.own_challenge(algorithm) {
            return Err(ChapError::Reflection);
        }
        let user = self.config.outgoing.as_ref().ok_or(ChapError::NoOutgoing)?;
        if user.secret == incoming_secret {
            return Err(ChapError::NoOutgoing);
        }
        out.pair("CHAP_N", &user.name);
        let response = algorithm.response(identifier, &user.secret, &challenge);
        out.pair("CHAP_R", &BinaryForm::of(challenge_text).encode(&response));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTROPY: ChapEntropy = ChapEntropy { identifier: 39, challenge: [0xa5; 32] };

    fn config() -> ChapConfig {
        ChapConfig {
            incoming: vec![ChapUser::new("joe", b"12charsecret").unwrap()],
            outgoing: Some(ChapUser::new("target", b"anothersecret").unwrap()),
        }
    }

    fn run(keys: ChapKeys<'_>) -> Result<String, ChapError> {
        let mut exchange = ChapExchange::new(config(), ENTROPY);
        let mut out = TextWriter::default();
        exchange.advance(&ChapKeys { algorithms: Some("7"), ..Default::default() }, &mut out).unwrap();
        let mut out = TextWriter::default();
        exchange.advance(&keys, &mut out)?;
        assert!(exchange.is_done());
        Ok(String::from_utf8(out.finish()).unwrap())
    }

    fn answer() -> String {
        BinaryForm::Hex.encode(&ChapAlgorithm::Sha256.response(39, b"12charsecret", &[0xa5; 32]))
    }

    #[test]
    fn responses_are_the_hashes_of_identifier_secret_and_challenge() {
        // Computed with coreutils: printf '\x01secret challenge' | md5sum (and so on).
        let response = |a: ChapAlgorithm| BinaryForm::Hex.encode(&a.response(1, b"secret ", b"challenge"));
        assert_eq!(response(ChapAlgorithm::Md5), "0x468205d94d836fb93eca7987b98578e2");
        assert_eq!(response(ChapAlgorithm::Sha1), "0xe268f59c4048281a2bea7314c05e96d2b49e980c");
        assert_eq!(
            response(ChapAlgorithm::Sha256),
            "0x80295e0ccf1178ca819c4461526d755fdbf259b576948619dbb4752d77bc1f90"
        );
        assert_eq!(
            response(ChapAlgorithm::Sha3256),
            "0xc4794bcf0cb86152f40a21664c1d0eab8b5daa0dc26a90dc8431de7eba17d127"
        );
    }

    #[test]
    fn the_first_known_algorithm_of_the_initiator_is_taken() {
        let mut exchange = ChapExchange::new(config(), ENTROPY);
        let mut out = TextWriter::default();
        exchange.advance(&ChapKeys { algorithms: Some("99,6,5"), ..Default::default() }, &mut out).unwrap();
        let expected = format!("CHAP_A=6\0CHAP_I=39\0CHAP_C=0x{}\0", "a5".repeat(20));
        assert_eq!(String::from_utf8(out.finish()).unwrap(), expected);
        let mut exchange = ChapExchange::new(config(), ENTROPY);
        let keys = ChapKeys { algorithms: Some("1,2"), ..Default::default() };
        assert_eq!(exchange.advance(&keys, &mut TextWriter::default()), Err(ChapError::Algorithm));
    }

    #[test]
    fn one_way_succeeds_with_the_secret_and_only_with_it() {
        let good = answer();
        let keys = ChapKeys { name: Some("joe"), response: Some(&good), ..Default::default() };
        assert_eq!(run(keys), Ok(String::new()));
        assert_eq!(run(ChapKeys { name: Some("jim"), ..keys }), Err(ChapError::UnknownUser));
        assert_eq!(run(ChapKeys { response: Some("0x00"), ..keys }), Err(ChapError::WrongSecret));
        assert_eq!(run(ChapKeys { response: None, ..keys }), Err(ChapError::Sequence));
        // The hash over an empty secret is what an unknown user is compared with; it opens nothing.
        let empty = BinaryForm::Hex.encode(&ChapAlgorithm::Sha256.response(39, b"", &[0xa5; 32]));
        assert_eq!(run(ChapKeys { name: Some("jim"), response: Some(&empty), ..keys }), Err(ChapError::UnknownUser));
    }

    #[test]
    fn mutual_answers_in_the_form_of_the_challenge() {
        let good = answer();
        let keys = ChapKeys {
            name: Some("joe"),
            response: Some(&good),
            identifier: Some("7"),
            challenge: Some("0bAQID"),
            ..Default::default()
        };
        let ours = BinaryForm::Base64.encode(&ChapAlgorithm::Sha256.response(7, b"anothersecret", &[1, 2, 3]));
        assert_eq!(run(keys), Ok(format!("CHAP_N=target\0CHAP_R={ours}\0")));
    }

    #[test]
    fn a_reflected_challenge_and_a_shared_secret_are_refused() {
        let good = answer();
        let reflected = BinaryForm::Hex.encode(&[0xa5; 32]);
        let keys = ChapKeys {
            name: Some("joe"),
            response: Some(&good),
            identifier: Some("7"),
            challenge: Some(&reflected),
            ..Default::default()
        };
        assert_eq!(run(keys), Err(ChapError::Reflection));
        let mut same = config();
        same.outgoing = Some(ChapUser::new("target", b"12charsecret").unwrap());
        let mut exchange = ChapExchange::new(same, ENTROPY);
        exchange
            .advance(&ChapKeys { algorithms: Some("7"), ..Default::default() }, &mut TextWriter::default())
            .unwrap();
        let keys = ChapKeys { challenge: Some("0x01"), ..keys };
        assert_eq!(exchange.advance(&keys, &mut TextWriter::default()), Err(ChapError::NoOutgoing));
    }

    #[test]
    fn secrets_have_twelve_bytes_at_least() {
        assert_eq!(ChapUser::new("joe", b"11charsecre"), Err(SecretError::Length { length: 11 }));
        assert_eq!(format!("{:?}", ChapUser::new("joe", b"12charsecret").unwrap()), "ChapUser { name: \"joe\", .. }");
    }
}
