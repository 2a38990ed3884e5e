//! Kinds of attribute values: what is accepted, and the normal form in which the model keeps it.

use std::net::IpAddr;

use scst_core::config::pattern::negated;
use scst_protocol_iscsi::address::PortalAddress;

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
    /// An IP address, perhaps with a port, `*` and `?` in it and `!` before it.
    PortalPattern,
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
    let (not, address) = match negated(value) {
        Some(rest) => ("!", rest),
        None => ("", value),
    };
    let allowed = |c: char| c.is_ascii_hexdigit() || ".:*?[]".contains(c);
    if address.is_empty() || value.len() > 64 || !address.chars().all(allowed) {
        return Err("an IP address, perhaps with * or ? in it, and with ! before it".to_owned());
    }
    // One address has many spellings, and patterns are compared with the shortest.
    let address = match (address.parse::<IpAddr>(), address.parse::<PortalAddress>()) {
        (Ok(ip), _) => ip.to_canonical().to_string(),
        (_, Ok(portal)) => PortalAddress { ip: portal.ip.to_canonical(), ..portal }.to_string(),
        _ => address.to_ascii_lowercase(),
    };
    Ok(format!("{not}{address}"))
}

fn redirect(value: &str) -> Result<String, String> {
    let form = "of the form <ip>[:port] temp|perm";
    let (portal, how) = value.trim().rsplit_once(char::is_whitespace).ok_or(form)?;
    let how = one_of(how, &["temp", "perm"], str::eq_ignore_ascii_case).map_err(|_| form)?;
    let portal = PortalAddress::remote(portal.trim()).map_err(|expected| format!("{form}; {expected}"))?;
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
        for (value, normal) in [
            ("10.0.0.1:3261 temp", "10.0.0.1:3261 temp"),
            ("[fe80::1] PERM", "[fe80::1] perm"),
            ("[FD00:0::1]:1  temp", "[fd00::1]:1 temp"),
            ("[::ffff:10.0.0.1] temp", "10.0.0.1 temp"),
        ] {
            assert_eq!(ok(Kind::Redirect, value), normal);
        }
        let form = "of the form <ip>[:port] temp|perm";
        for (value, expected) in [
            ("10.0.0.1", String::new()),
            ("10.0.0.1 later", String::new()),
            ("host temp", "; an IP address, since names are not looked up, such as 192.0.2.1 or [2001:db8::1]".into()),
            ("fd00::1 temp", "; an IPv6 address in brackets, such as [fd00::1]".into()),
            ("[10.0.0.1] temp", "; an IPv4 address without brackets, such as 10.0.0.1".into()),
            ("10.0.0.1:0 temp", "; a port from 1 to 65535 after the colon".into()),
            ("0.0.0.0 temp", "; the address of one host, not 0.0.0.0".into()),
        ] {
            assert_eq!(check(Kind::Redirect, value).unwrap_err(), format!("{form}{expected}"), "{value}");
        }
    }

    #[test]
    fn portal_patterns_have_one_spelling() {
        for (value, normal) in [
            ("10.0.0.*", "10.0.0.*"),
            ("!10.1.0.1", "!10.1.0.1"),
            ("FD00:0:0::1", "fd00::1"),
            ("![FD00:0::1]:3260", "![fd00::1]:3260"),
            ("[::ffff:10.0.0.1]", "10.0.0.1"),
            ("FD00:*", "fd00:*"),
        ] {
            assert_eq!(ok(Kind::PortalPattern, value), normal);
        }
        for value in ["", "!", "10.!0", "!!10.*", "host1"] {
            assert!(check(Kind::PortalPattern, value).is_err(), "{value}");
        }
    }
}
