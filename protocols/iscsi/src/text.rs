//! `key=value` texts of login and text PDUs (RFC 7143 6.1), with limits on everything.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Longest key name (RFC 7143 6.1).
pub const MAX_KEY_LENGTH: usize = 63;
/// Longest simple value (RFC 7143 6.1); holds for each item of a list.
pub const MAX_VALUE_LENGTH: usize = 255;
/// Longest value of any kind, with room for the hexadecimal form of the longest binary value.
pub const MAX_LONG_VALUE_LENGTH: usize = 8192;
/// Most bytes of one text, over all PDUs that carry it. A full login with every key needs about one kilobyte.
pub const MAX_TEXT_LENGTH: usize = 64 * 1024;
/// Longest binary value, decoded (RFC 7143 12.1.3: CHAP_C and CHAP_R take at most 1024 bytes).
pub const MAX_BINARY_LENGTH: usize = 1024;

/// What is wrong with a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TextError {
    /// More than [`MAX_TEXT_LENGTH`].
    TooLong,
    /// No `=` in an item.
    NoSeparator,
    /// A key that is empty, too long or has a character that keys do not have.
    Key,
    /// A value that is too long or not UTF-8.
    Value,
}

/// Collects a text from the data segments that carry it.
#[derive(Debug, Default)]
pub struct TextCollector(Vec<u8>);

impl TextCollector {
    /// Adds a segment.
    ///
    /// # Errors
    /// [`TextError::TooLong`]; the text is to be refused then.
    pub fn push(&mut self, segment: &[u8]) -> Result<(), TextError> {
        if self.0.len() + segment.len() > MAX_TEXT_LENGTH {
            return Err(TextError::TooLong);
        }
        self.0.extend_from_slice(segment);
        Ok(())
    }

    /// Whether nothing was collected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The text so far; the collector starts again.
    pub fn take(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.0)
    }
}

/// Walks over the `key=value` items of a complete text. Empty items (extra padding) are passed over.
pub fn pairs(text: &[u8]) -> impl Iterator<Item = Result<(&str, &str), TextError>> {
    text.split(|b| *b == 0).filter(|item| !item.is_empty()).map(pair)
}

fn pair(item: &[u8]) -> Result<(&str, &str), TextError> {
    let at = item.iter().position(|b| *b == b'=').ok_or(TextError::NoSeparator)?;
    let (key, value) = (&item[..at], &item[at + 1..]);
    let key_char = |b: &u8| b.is_ascii_alphanumeric() || b".-+@_#".contains(b);
    if key.is_empty() || key.len() > MAX_KEY_LENGTH || !key.iter().all(key_char) {
        return Err(TextError::Key);
    }
    let key = core::str::from_utf8(key).map_err(|_| TextError::Key)?;
    let value = core::str::from_utf8(value).map_err(|_| TextError::Value)?;
    let simple = |item: &str| item.len() <= MAX_VALUE_LENGTH || is_binary(item);
    if value.len() > MAX_LONG_VALUE_LENGTH || !value.split(',').all(simple) {
        return Err(TextError::Value);
    }
    Ok((key, value))
}

/// Builds a text.
#[derive(Debug, Default)]
pub struct TextWriter(Vec<u8>);

impl TextWriter {
    /// Adds an item.
    pub fn pair(&mut self, key: &str, value: &str) {
        self.0.extend_from_slice(key.as_bytes());
        self.0.push(b'=');
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(0);
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// A text on its way out, cut into data segments.
#[derive(Debug, Default)]
pub struct OutgoingText {
    bytes: Vec<u8>,
    sent: usize,
}

impl OutgoingText {
    /// From a complete text.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, sent: 0 }
    }

    /// Whether all of it was taken.
    pub fn is_done(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// The next data segment, of at most `max` bytes.
    pub fn next_segment(&mut self, max: usize) -> &[u8] {
        let from = self.sent;
        self.sent = self.bytes.len().min(from + max);
        &self.bytes[from..self.sent]
    }
}

/// `Yes` or `No`.
pub fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

/// How a boolean is written.
pub const fn bool_str(value: bool) -> &'static str {
    if value { "Yes" } else { "No" }
}

/// A decimal or hexadecimal constant.
pub fn parse_number(value: &str) -> Option<u64> {
    let (digits, radix) = match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (value, 10),
    };
    // from_str_radix takes a sign, RFC 7143 6.1 does not.
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, radix).ok())?
}

/// A numeric range `low~high`.
pub fn parse_range(value: &str) -> Option<(u64, u64)> {
    let (low, high) = value.split_once('~')?;
    let (low, high) = (parse_number(low)?, parse_number(high)?);
    (low <= high).then_some((low, high))
}

fn is_binary(value: &str) -> bool {
    matches!(value.as_bytes(), [b'0', b'x' | b'X' | b'b' | b'B', ..])
}

/// A binary value: `0x` and hexadecimal digits or `0b` and base64, of at most [`MAX_BINARY_LENGTH`] bytes.
pub fn parse_binary(value: &str) -> Option<Vec<u8>> {
    let (prefix, body) = value.split_at_checked(2)?;
    let bytes = match prefix {
        "0x" | "0X" => parse_hex(body)?,
        "0b" | "0B" => BASE64.decode(body).ok()?,
        _ => return None,
    };
    (bytes.len() <= MAX_BINARY_LENGTH).then_some(bytes)
}

fn parse_hex(body: &str) -> Option<Vec<u8>> {
    if body.is_empty() || !body.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    // An odd number of digits has a leading zero left out.
    let padded = if body.len() % 2 == 1 { format!("0{body}") } else { body.to_owned() };
    (0..padded.len()).step_by(2).map(|i| u8::from_str_radix(&padded[i..i + 2], 16).ok()).collect()
}

/// How a binary value is written: the form that the peer used is the one that it surely understands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BinaryForm {
    /// `0x...`
    #[default]
    Hex,
    /// `0b...`
    Base64,
}

impl BinaryForm {
    /// The form of a received value.
    pub fn of(value: &str) -> Self {
        if value.starts_with("0b") || value.starts_with("0B") { Self::Base64 } else { Self::Hex }
    }

    /// Writes a value.
    pub fn encode(self, bytes: &[u8]) -> String {
        use core::fmt::Write as _;
        match self {
            Self::Base64 => format!("0b{}", BASE64.encode(bytes)),
            Self::Hex => bytes.iter().fold(String::from("0x"), |mut text, byte| {
                // Writing to a String cannot fail.
                let _ = write!(text, "{byte:02x}");
                text
            }),
        }
    }
}

/// Longest iSCSI name (RFC 7143 4.2.7.1).
pub const MAX_NAME_LENGTH: usize = 223;

/// Checks an iSCSI name and gives its normal form, in which names are compared (RFC 7143 4.2.7, RFC 3722).
pub fn normalize_name(name: &str) -> Option<String> {
    let name = prepare(name)?;
    let typed = ["iqn.", "eui.", "naa."].iter().any(|kind| name.len() > kind.len() && name.starts_with(kind));
    let clean = !name.chars().any(|c| c.is_control() || c.is_whitespace() || c == ',');
    (typed && clean && name.len() <= MAX_NAME_LENGTH).then_some(name)
}

/// Prepares a name, or a part of one, as RFC 3722 asks for: small letters, one form for characters that have several, no
/// invisible ones. None for characters that no name has. ASCII characters that RFC 3722 forbids are left in: initiators
/// with an underscore in their name exist, and nothing is mistaken for something else.
pub fn prepare(name: &str) -> Option<String> {
    if name.is_ascii() {
        return Some(name.to_ascii_lowercase());
    }
    // The mapping, normalisation, prohibition and bidirectional check of RFC 3722 are those of nameprep (RFC 3491), and
    // one more prohibited character.
    stringprep::nameprep(name).ok().map(|name| name.into_owned()).filter(|name| !name.contains('\u{3002}'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn items_end_with_nul_and_padding_is_passed_over() {
        let all: Vec<_> = pairs(b"A=1\0Bb=x=y\0\0\0C=\0").collect();
        assert_eq!(all, [Ok(("A", "1")), Ok(("Bb", "x=y")), Ok(("C", ""))]);
    }

    #[test]
    fn names_that_look_alike_are_the_same_name() {
        let one = Some("iqn.2026-01.example:stra\u{df}e-\u{e4}".replace('\u{df}', "ss"));
        for name in [
            "iqn.2026-01.example:stra\u{df}e-\u{e4}",
            // Capital letters, an umlaut of two characters, a soft hyphen, full-width letters.
            "IQN.2026-01.EXAMPLE:STRASSE-A\u{308}",
            "iqn.2026-01.example:stra\u{ad}sse-\u{c4}",
            "iqn.2026-01.example:\u{ff33}trasse-\u{e4}",
        ] {
            assert_eq!(normalize_name(name), one, "{name}");
        }
        // An ideographic full stop, a space of another kind, a private character, letters of both directions.
        for name in ["iqn.a:\u{3002}", "iqn.a:\u{2003}x", "iqn.a:\u{e000}", "iqn.a:\u{5d0}"] {
            assert_eq!(normalize_name(name), None, "{name}");
        }
        assert_eq!(normalize_name("iqn.a:Host_1").as_deref(), Some("iqn.a:host_1"));
    }

    #[test]
    fn limits_are_the_rfcs() {
        let key = "k".repeat(MAX_KEY_LENGTH);
        let text = format!("{key}={}\0", "v".repeat(MAX_VALUE_LENGTH));
        assert!(pairs(text.as_bytes()).all(|p| p.is_ok()));
        assert_eq!(pairs(format!("k{key}=v").as_bytes()).next(), Some(Err(TextError::Key)));
        assert_eq!(pairs(format!("k={}", "v".repeat(256)).as_bytes()).next(), Some(Err(TextError::Value)));
        assert!(pairs(format!("CHAP_R=0x{}", "0".repeat(2048)).as_bytes()).all(|p| p.is_ok()));
        assert_eq!(pairs(b"novalue\0").next(), Some(Err(TextError::NoSeparator)));
        assert_eq!(pairs(b"=v\0").next(), Some(Err(TextError::Key)));
        assert_eq!(pairs(b"a b=v\0").next(), Some(Err(TextError::Key)));
        assert_eq!(pairs(b"a=\xff\0").next(), Some(Err(TextError::Value)));
        let mut collector = TextCollector::default();
        assert_eq!(collector.push(&[b'a'; MAX_TEXT_LENGTH]), Ok(()));
        assert_eq!(collector.push(b"a"), Err(TextError::TooLong));
    }

    #[test]
    fn values_of_every_type() {
        assert_eq!(parse_bool("Yes"), Some(true));
        assert_eq!(parse_bool("yes"), None);
        assert_eq!(parse_number("262144"), Some(262_144));
        assert_eq!(parse_number("0x1F"), Some(31));
        assert_eq!(parse_number("+1"), None);
        assert_eq!(parse_number(""), None);
        assert_eq!(parse_number("1f"), None);
        assert_eq!(parse_range("2048~0x1000"), Some((2048, 4096)));
        assert_eq!(parse_range("2~1"), None);
        assert_eq!(parse_binary("0xabc"), Some(vec![0x0a, 0xbc]));
        assert_eq!(parse_binary("0bqg=="), Some(vec![0xaa]));
        assert_eq!(parse_binary("0x"), None);
        assert_eq!(parse_binary("ab"), None);
        assert_eq!(parse_binary(&BinaryForm::Hex.encode(&[0; MAX_BINARY_LENGTH + 1])), None);
    }

    #[test]
    fn names_are_normalised() {
        assert_eq!(normalize_name("IQN.2001-04.com.Example:Disk"), Some("iqn.2001-04.com.example:disk".into()));
        assert_eq!(normalize_name("iqn."), None);
        assert_eq!(normalize_name("disk"), None);
        assert_eq!(normalize_name("iqn.a b"), None);
        assert_eq!(normalize_name(&format!("iqn.{}", "a".repeat(220))), None);
    }

    proptest! {
        #[test]
        fn binary_values_survive(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
            for form in [BinaryForm::Hex, BinaryForm::Base64] {
                let text = form.encode(&bytes);
                prop_assert_eq!(parse_binary(&text), Some(bytes.clone()));
                prop_assert_eq!(BinaryForm::of(&text), form);
            }
        }

        #[test]
        fn written_texts_are_read_back(items in prop::collection::vec(("[A-Z][a-zA-Z0-9.]{0,20}", "[ -+.-~]{0,60}"), 0..20)) {
            let mut writer = TextWriter::default();
            for (key, value) in &items {
                writer.pair(key, value);
            }
            let mut out = OutgoingText::new(writer.finish());
            let mut collector = TextCollector::default();
            while !out.is_done() {
                collector.push(out.next_segment(7)).unwrap();
            }
            let text = collector.take();
            let read: Vec<_> = pairs(&text).map(|p| p.unwrap()).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            prop_assert_eq!(read, items);
        }

        #[test]
        fn garbage_never_panics(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = pairs(&text).count();
        }
    }
}
