//! Kinds of attribute values: what is accepted, and the normal form in which the model keeps it.

use std::net::IpAddr;

use crate::names;

/// What values an attribute takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `0` or `1`.
    Flag,
    /// `Yes` or `No` (iSCSI keys).
    YesNo,
    /// A number: decimal, `0x` hexadecimal, or octal with a leading 0.
    Number {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A power of two.
    PowerOfTwo {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// Bytes; a suffix k, M, G, T multiplies by 1024 and so on.
    Bytes,
    /// Text of at most so many bytes.
    Text(usize),
    /// Printable ASCII text of 1 to so many bytes.
    Ascii(usize),
    /// A path from the root.
    Path,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// One or more of these words with commas between, most wanted first.
    ListOf(&'static [&'static str]),
    /// An identifier: `0x` and so many hex digits (one of the lengths).
    Hex(&'static [usize]),
    /// A mask: hex digits, perhaps with `0x` or commas.
    Mask,
    /// A CHAP name and a secret of at least 12 bytes.
    Account,
    /// An IP address, perhaps with `*` and `?` in it.
    PortalPattern,
    /// An IP address.
    Address,
    /// `<ip>[:port] temp|perm`.
    Redirect,
}

/// Checks a value and gives its normal form.
///
/// # Errors
/// What would be right, as the rest of "value ... is not ...".
pub fn check(kind: Kind, value: &str) -> Result<String, String> {
    match kind {
        Kind::Flag => one_of(value, &["0", "1"], |a, b| a == b),
        Kind::YesNo => one_of(value, &["Yes", "No"], str::eq_ignore_ascii_case),
        Kind::OneOf(words) => one_of(value, words, str::eq_ignore_ascii_case),
        Kind::Number { min, max } => match number(value) {
            Some(n) if (min..=max).contains(&n) => Ok(n.to_string()),
            _ => Err(format!("a number from {min} to {max}")),
        },
        Kind::PowerOfTwo { min, max } => match number(value) {
            Some(n) if (min..=max).contains(&n) && n.is_power_of_two() => Ok(n.to_string()),
            _ => Err(format!("a power of two from {min} to {max}")),
        },
        Kind::Bytes => {
            bytes(value).map(|n| n.to_string()).ok_or_else(|| "a number of bytes such as 1073741824 or 1G".to_owned())
        }
        Kind::Text(max) if value.len() > max => Err(format!("at most {max} bytes long")),
        Kind::Text(_) => Ok(value.to_owned()),
        Kind::Ascii(max) if (1..=max).contains(&value.len()) && value.bytes().all(|b| (0x20..0x7f).contains(&b)) => {
            Ok(value.to_owned())
        }
        Kind::Ascii(max) => Err(format!("1 to {max} printable ASCII characters")),
        Kind::Path if value.starts_with('/') => Ok(value.to_owned()),
        Kind::Path => Err("a path from the root (/...)".to_owned()),
        Kind::ListOf(words) => list_of(value, words),
        Kind::Hex(lengths) => hex(value, lengths),
        Kind::Mask => mask(value),
        Kind::Account => account(value),
        Kind::PortalPattern => portal_pattern(value),
        Kind::Address => value.parse::<IpAddr>().map(|a| a.to_string()).map_err(|_| "an IP address".to_owned()),
        Kind::Redirect => redirect(value),
    }
}

/// Base detected as the original does: 0x, 0, decimal.
pub fn number(value: &str) -> Option<u64> {
    let digits = |text: &str, radix| (!text.starts_with('+')).then(|| u64::from_str_radix(text, radix).ok()).flatten();
    if let Some(hex) = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        return digits(hex, 16);
    }
    match value.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => digits(octal, 8),
        _ => digits(value, 10),
    }
}

fn bytes(value: &str) -> Option<u64> {
    let suffixes = [(['k', 'K'], 10), (['m', 'M'], 20), (['g', 'G'], 30), (['t', 'T'], 40)];
    for (letters, shift) in suffixes {
        if let Some(digits) = value.strip_suffix(letters) {
            return number(digits)?.checked_mul(1 << shift);
        }
    }
    number(value)
}

fn one_of(value: &str, words: &[&str], same: fn(&str, &str) -> bool) -> Result<String, String> {
    let found = words.iter().find(|w| same(w, value));
    found.map(|w| (*w).to_owned()).ok_or_else(|| words.join(" or "))
}

fn list_of(value: &str, words: &[&str]) -> Result<String, String> {
    let mut out: Vec<&str> = Vec::new();
    for part in value.split(',') {
        match words.iter().find(|w| w.eq_ignore_ascii_case(part.trim())) {
            Some(word) if !out.contains(word) => out.push(word),
            _ => return Err(format!("a list of {} with commas between, each once", words.join(", "))),
        }
    }
    Ok(out.join(","))
}

fn hex(value: &str, lengths: &[usize]) -> Result<String, String> {
    let digits = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")).unwrap_or(value);
    if lengths.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(format!("0x{}", digits.to_ascii_lowercase()));
    }
    let lengths: Vec<String> = lengths.iter().map(ToString::to_string).collect();
    Err(format!("0x and {} hex digits", lengths.join(" or ")))
}

fn mask(value: &str) -> Result<String, String> {
    let digits = value.strip_prefix("0x").unwrap_or(value);
    if !digits.is_empty() && digits.len() <= 1024 && digits.bytes().all(|b| b.is_ascii_hexdigit() || b == b',') {
        return Ok(digits.to_ascii_lowercase());
    }
    Err("a hexadecimal mask".to_owned())
}

/// `name secret`, normalised to one blank. RFC 7143 12.1.3 wants 96 bits of secret.
fn account(value: &str) -> Result<String, String> {
    let mut words = value.split_whitespace();
    if let (Some(name), Some(secret), None) = (words.next(), words.next(), words.next()) {
        if (12..=256).contains(&secret.len()) && name.len() <= 255 {
            return Ok(format!("{name} {secret}"));
        }
        return Err("a user name and a secret of 12 to 256 bytes".to_owned());
    }
    Err("a user name and a secret with a blank between".to_owned())
}

fn portal_pattern(value: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_hexdigit() || ".:*?![]".contains(c);
    if !value.is_empty() && value.len() <= 64 && value.chars().all(allowed) {
        return Ok(value.to_ascii_lowercase());
    }
    Err("an IP address, perhaps with * or ? in it".to_owned())
}

fn redirect(value: &str) -> Result<String, String> {
    let want = || "of the form <ip>[:port] temp|perm".to_owned();
    let (portal, how) = value.trim().rsplit_once(char::is_whitespace).ok_or_else(want)?;
    let portal = portal.trim();
    let how = one_of(how, &["temp", "perm"], str::eq_ignore_ascii_case).map_err(|_| want())?;
    let bare = portal.trim_start_matches('[').trim_end_matches(']');
    if portal.parse::<std::net::SocketAddr>().is_err() && bare.parse::<IpAddr>().is_err() {
        return Err(want());
    }
    Ok(format!("{portal} {how}"))
}

/// The part of a value that may be shown in a log or an error.
pub(crate) fn shown(kind: Kind, value: &str) -> String {
    match kind {
        Kind::Account => format!("{:?}", format!("{} ***", value.split_whitespace().next().unwrap_or(""))),
        _ => format!("{value:?}"),
    }
}

/// The attribute that somebody may have meant.
pub(crate) fn meant(name: &str, known: impl IntoIterator<Item = &'static str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match names::closest(name, known.iter().copied()) {
        Some(close) => format!("did you mean {close}?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(kind: Kind, value: &str) -> String {
        check(kind, value).unwrap()
    }

    #[test]
    fn numbers_in_three_bases() {
        let kind = Kind::Number { min: 0, max: 1000 };
        assert_eq!(ok(kind, "10"), "10");
        assert_eq!(ok(kind, "0x1F"), "31");
        assert_eq!(ok(kind, "010"), "8");
        assert_eq!(ok(kind, "0"), "0");
        for wrong in ["", "1001", "-1", "+1", "0x", "08", "1k", "18446744073709551616"] {
            assert_eq!(check(kind, wrong).unwrap_err(), "a number from 0 to 1000", "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(ok(Kind::Bytes, "1G"), "1073741824");
        assert_eq!(ok(Kind::Bytes, "4096"), "4096");
        assert!(check(Kind::Bytes, "99999999999T").is_err());
        assert_eq!(ok(Kind::PowerOfTwo { min: 512, max: 65536 }, "4096"), "4096");
        assert!(check(Kind::PowerOfTwo { min: 512, max: 65536 }, "513").is_err());
    }

    #[test]
    fn words_and_lists() {
        assert_eq!(ok(Kind::YesNo, "yes"), "Yes");
        assert_eq!(ok(Kind::ListOf(&["CRC32C", "None"]), "crc32c, none"), "CRC32C,None");
        assert!(check(Kind::ListOf(&["CRC32C", "None"]), "CRC32C,CRC32C").is_err());
        assert!(check(Kind::Flag, "yes").is_err());
        assert_eq!(ok(Kind::Hex(&[16]), "5002C1FFFFFFFFFF"), "0x5002c1ffffffffff");
    }

    #[test]
    fn accounts_keep_their_secret() {
        assert_eq!(ok(Kind::Account, "joe  12charsecret"), "joe 12charsecret");
        assert_eq!(check(Kind::Account, "joe short").unwrap_err(), "a user name and a secret of 12 to 256 bytes");
        assert_eq!(shown(Kind::Account, "joe 12charsecret"), "\"joe ***\"");
    }

    #[test]
    fn redirects() {
        assert_eq!(ok(Kind::Redirect, "10.0.0.1:3261 temp"), "10.0.0.1:3261 temp");
        assert_eq!(ok(Kind::Redirect, "[fe80::1] PERM"), "[fe80::1] perm");
        assert!(check(Kind::Redirect, "10.0.0.1").is_err());
        assert!(check(Kind::Redirect, "host temp").is_err());
    }
}
