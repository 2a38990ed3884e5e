//! CHAP (RFC 1994, RFC 7143 12.1.3): responses, and the two notations of binary values (RFC 7143 6.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Digest as _;

/// A hash algorithm, by its number in CHAP_A (IANA PPP authentication algorithms).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChapAlgorithm {
    /// 5.
    Md5,
    /// 6.
    Sha1,
    /// 7.
    Sha256,
    /// 8.
    Sha3_256,
}

impl ChapAlgorithm {
    /// All of them, the strongest first.
    pub const ALL: [Self; 4] = [Self::Sha3_256, Self::Sha256, Self::Sha1, Self::Md5];

    /// The number in CHAP_A.
    pub fn number(self) -> u8 {
        match self {
            Self::Md5 => 5,
            Self::Sha1 => 6,
            Self::Sha256 => 7,
            Self::Sha3_256 => 8,
        }
    }

    /// The algorithm of a CHAP_A value.
    pub fn from_number(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.number().to_string() == text)
    }

    /// The response: hash of identifier, secret, challenge (RFC 1994 4.1).
    pub fn response(self, identifier: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
        let mut input = vec![identifier];
        input.extend_from_slice(secret);
        input.extend_from_slice(challenge);
        match self {
            Self::Md5 => md5::Md5::digest(&input).to_vec(),
            Self::Sha1 => sha1::Sha1::digest(&input).to_vec(),
            Self::Sha256 => sha2::Sha256::digest(&input).to_vec(),
            Self::Sha3_256 => sha3::Sha3_256::digest(&input).to_vec(),
        }
    }
}

/// How binary values are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Notation {
    /// `0x` and hexadecimal digits.
    #[default]
    Hex,
    /// `0b` and base64.
    Base64,
}

impl Notation {
    /// Writes a binary value.
    pub fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => bytes.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}")),
            Self::Base64 => format!("0b{}", STANDARD.encode(bytes)),
        }
    }
}

/// Reads a binary value in either notation.
pub fn decode_binary(text: &str) -> Option<Vec<u8>> {
    let (prefix, digits) = text.split_at_checked(2)?;
    match prefix {
        "0x" | "0X" if digits.len() % 2 == 0 => (0..digits.len())
            .step_by(2)
            .map(|at| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .collect(),
        "0b" | "0B" => STANDARD.decode(digits).ok(),
        _ => None,
    }
}

/// CHAP credentials of an initiator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chap {
    /// Our name (CHAP_N).
    pub name: String,
    /// Our secret.
    pub secret: Vec<u8>,
    /// Algorithms to offer, in order.
    pub algorithms: Vec<ChapAlgorithm>,
    /// The target must prove that it knows this name (None: any) and secret.
    pub mutual: Option<MutualChap>,
    /// How we write binary values.
    pub notation: Notation,
    /// Offer `CHAP,None` instead of `CHAP` alone.
    pub offer_none: bool,
}

/// What the target has to prove.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MutualChap {
    /// The expected CHAP_N, if it matters.
    pub name: Option<String>,
    /// The target's secret.
    pub secret: Vec<u8>,
    /// Our CHAP_I.
    pub identifier: u8,
    /// Our CHAP_C. A fixed one keeps a run reproducible.
    pub challenge: Vec<u8>,
}

impl Chap {
    /// One-way credentials, all algorithms, hexadecimal.
    pub fn new(name: &str, secret: &str) -> Self {
        Self {
            name: name.to_owned(),
            secret: secret.as_bytes().to_vec(),
            algorithms: ChapAlgorithm::ALL.to_vec(),
            mutual: None,
            notation: Notation::Hex,
            offer_none: false,
        }
    }

    /// The same, offering only one algorithm.
    #[must_use]
    pub fn with_algorithm(mut self, algorithm: ChapAlgorithm) -> Self {
        self.algorithms = vec![algorithm];
        self
    }

    /// The same, and the target must prove itself.
    #[must_use]
    pub fn with_mutual(mut self, name: &str, secret: &str) -> Self {
        let challenge = (0..16).map(|byte: u8| byte.wrapping_mul(29).wrapping_add(7)).collect();
        let name = Some(name.to_owned());
        self.mutual = Some(MutualChap { name, secret: secret.as_bytes().to_vec(), identifier: 0x5a, challenge });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values made with coreutils' and OpenSSL's hashes of the bytes 01 "secret" 00 01 02.
    #[test]
    fn responses_are_the_hash_of_identifier_secret_challenge() {
        let hex = |algorithm: ChapAlgorithm| Notation::Hex.encode(&algorithm.response(1, b"secret", &[0, 1, 2]));
        assert_eq!(hex(ChapAlgorithm::Md5), "0xc4081e0c9f89346155ddb08f0bf91611");
        assert_eq!(hex(ChapAlgorithm::Sha1), "0x533cc6aafc3c095f0b042929d9e05f1ddb590803");
        assert_eq!(hex(ChapAlgorithm::Sha256), "0xcffc5dcbdadd7e87012032080d10cda0a807686f84bc2a2d72ab2ad4f1552626");
        assert_eq!(hex(ChapAlgorithm::Sha3_256), "0x654924f8b087f9fcb167ba178093db9d8384eecca49e3c42970c3eeff430a9b2");
    }

    #[test]
    fn both_notations_are_read() {
        assert_eq!(decode_binary("0x00ffA0").unwrap(), [0, 0xff, 0xa0]);
        assert_eq!(decode_binary("0bAP+g").unwrap(), [0, 0xff, 0xa0]);
        assert_eq!(decode_binary(&Notation::Base64.encode(&[1, 2, 3, 4])).unwrap(), [1, 2, 3, 4]);
        assert_eq!(decode_binary("0x123"), None);
        assert_eq!(decode_binary("1234"), None);
    }

    #[test]
    fn algorithms_have_the_numbers_of_the_registry() {
        assert_eq!(ChapAlgorithm::ALL.map(ChapAlgorithm::number), [8, 7, 6, 5]);
        assert_eq!(ChapAlgorithm::from_number("7"), Some(ChapAlgorithm::Sha256));
        assert_eq!(ChapAlgorithm::from_number("9"), None);
    }
}
