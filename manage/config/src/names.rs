//! Names: iSCSI names (RFC 7143 4.2.7), initiator patterns, device and group names.

use std::collections::BTreeSet;

use scst_protocol_iscsi::text::prepare;

/// The longest iSCSI name (RFC 7143 4.2.7.1).
pub const MAX_ISCSI_NAME: usize = 223;
/// The longest device or group name.
pub const MAX_OBJECT_NAME: usize = 255;
/// The longest initiator pattern: `!`, a name, `#`, a portal address.
pub const MAX_PATTERN: usize = MAX_ISCSI_NAME + 64;

/// Why a name is not accepted, and what helps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadName {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: &'static str,
}

fn bad(message: String, remedy: &'static str) -> BadName {
    BadName { message, remedy }
}

const FORM: &str = "write iqn.YYYY-MM.reversed.domain:name, eui. and 16 hex digits, or naa. and 16 or 32 hex digits";

/// Checks an iSCSI name and gives its normal form (small letters, RFC 7143 4.2.7.2).
///
/// # Errors
/// The part that is wrong.
pub fn iscsi_name(name: &str) -> Result<String, BadName> {
    if name.len() > MAX_ISCSI_NAME {
        return Err(bad(format!("the name has {} bytes", name.len()), "223 is the most that RFC 7143 4.2.7 allows"));
    }
    let name = name.to_ascii_lowercase();
    if let Some(c) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || "-.:_".contains(*c))) {
        let message = format!("the character {c:?} is not allowed in the iSCSI name {name:?}");
        return Err(bad(message, "use letters, digits, and - . : (RFC 7143 4.2.7.2)"));
    }
    let (form, rest) = name.split_once('.').ok_or_else(|| bad(format!("{name:?} is not an iSCSI name"), FORM))?;
    match form {
        "iqn" => qualified(&name, rest)?,
        "eui" => hexadecimal(&name, rest, &[16])?,
        "naa" => hexadecimal(&name, rest, &[16, 32])?,
        _ => return Err(bad(format!("{name:?} is not an iSCSI name"), FORM)),
    }
    Ok(name)
}

/// `YYYY-MM.domain[:anything]` (RFC 7143 4.2.7.4).
fn qualified(name: &str, rest: &str) -> Result<(), BadName> {
    let (date, authority) = rest.split_once('.').unwrap_or((rest, ""));
    let date_ok = matches!(date.as_bytes(), [a, b, c, d, b'-', e, f] if [a, b, c, d, e, f].iter().all(|x| x.is_ascii_digit()))
        && (1..=12).contains(&date[5..].parse::<u8>().unwrap_or(0));
    if !date_ok {
        return Err(bad(format!("{name:?}: {date:?} is not a year and month"), FORM));
    }
    let domain = authority.split(':').next().unwrap_or("");
    if domain.is_empty() || domain.split('.').any(str::is_empty) {
        return Err(bad(format!("{name:?}: {domain:?} is not a reversed domain name"), FORM));
    }
    Ok(())
}

fn hexadecimal(name: &str, rest: &str, lengths: &[usize]) -> Result<(), BadName> {
    if lengths.contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(bad(format!("{name:?}: wrong number of hex digits, or something else than hex digits"), FORM))
}

/// Checks the name of a device or a group.
///
/// # Errors
/// What is wrong with it.
pub fn object_name(name: &str) -> Result<(), BadName> {
    if name.is_empty() || name.len() > MAX_OBJECT_NAME {
        return Err(bad(format!("a name of {} bytes", name.len()), "give it 1 to 255 bytes"));
    }
    // The management tree makes a folder of it, one day; and a glued-on brace is a typing error.
    if let Some(c) = name.chars().find(|c| c.is_control() || c.is_whitespace() || "/{}\"".contains(*c)) {
        return Err(bad(format!("the character {c:?} is not allowed in the name {name:?}"), "leave it out"));
    }
    if name == "." || name == ".." {
        return Err(bad(format!("{name:?} cannot be a name"), "choose another"));
    }
    Ok(())
}

/// Checks an initiator pattern (`*`, `?`, a leading `!`, `#portal` at the end) and gives its normal form.
///
/// # Errors
/// What is wrong with it.
pub fn initiator_pattern(pattern: &str) -> Result<String, BadName> {
    let name = pattern.strip_prefix('!').unwrap_or(pattern);
    if name.is_empty() || pattern.len() > MAX_PATTERN {
        return Err(bad(
            format!("an initiator pattern of {} bytes", pattern.len()),
            "write a name, perhaps with * or ?; * alone means every initiator",
        ));
    }
    if let Some(c) = name.chars().find(|c| c.is_control() || c.is_whitespace() || "!{}\"/".contains(*c)) {
        let message = format!("the character {c:?} is not allowed in the initiator pattern {pattern:?}");
        return Err(bad(message, "write one name in each INITIATOR line; ! may only come first"));
    }
    // As names are at login, or they could not be equal.
    prepare(pattern).ok_or_else(|| {
        let remedy = "RFC 3722 says which characters a name can have";
        bad(format!("no initiator has a name like {pattern:?}"), remedy)
    })
}

/// The name among `candidates` that somebody may have meant.
pub(crate) fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let unique: BTreeSet<&str> = candidates.into_iter().collect();
    unique
        .into_iter()
        .map(|c| (distance(&name.to_ascii_lowercase(), &c.to_ascii_lowercase()), c))
        .filter(|(d, c)| *d <= 2 && *d < c.len())
        .min()
        .map(|(_, c)| c)
}

/// Levenshtein distance, for words of reasonable length only.
fn distance(a: &str, b: &str) -> usize {
    if a.len().abs_diff(b.len()) > 2 || a.len() > 64 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let best = (diagonal + usize::from(ca != *cb)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iscsi_names_of_every_form() {
        assert_eq!(iscsi_name("iqn.2026-01.com.example:Disk.1").unwrap(), "iqn.2026-01.com.example:disk.1");
        assert_eq!(iscsi_name("iqn.2001-04.com.example").unwrap(), "iqn.2001-04.com.example");
        assert_eq!(iscsi_name("eui.02004567A425678D").unwrap(), "eui.02004567a425678d");
        assert_eq!(iscsi_name("naa.52004567ba64678d").unwrap(), "naa.52004567ba64678d");
        assert!(iscsi_name("naa.62004567ba64678d0123456789abcdef").is_ok());
    }

    #[test]
    fn wrong_iscsi_names() {
        let message = |name: &str| iscsi_name(name).unwrap_err().message;
        assert_eq!(message("disk1"), "\"disk1\" is not an iSCSI name");
        assert_eq!(message("foo.1"), "\"foo.1\" is not an iSCSI name");
        assert_eq!(message("iqn.2026-13.com.a"), "\"iqn.2026-13.com.a\": \"2026-13\" is not a year and month");
        assert_eq!(message("iqn.2026-01"), "\"iqn.2026-01\": \"\" is not a reversed domain name");
        assert_eq!(message("iqn.2026-01.a..b:x"), "\"iqn.2026-01.a..b:x\": \"a..b\" is not a reversed domain name");
        assert_eq!(
            message("iqn.2026-01.a:x y"),
            "the character ' ' is not allowed in the iSCSI name \"iqn.2026-01.a:x y\""
        );
        assert_eq!(message("eui.0200"), "\"eui.0200\": wrong number of hex digits, or something else than hex digits");
        assert_eq!(message(&format!("iqn.2026-01.a:{}", "x".repeat(223))), "the name has 237 bytes");
    }

    #[test]
    fn patterns() {
        assert_eq!(initiator_pattern("!IQN.*:host?").unwrap(), "!iqn.*:host?");
        assert_eq!(initiator_pattern("*").unwrap(), "*");
        assert_eq!(initiator_pattern("iqn.2026-01.a:x#10.0.0.1").unwrap(), "iqn.2026-01.a:x#10.0.0.1");
        assert_eq!(initiator_pattern("iqn.a:A\u{308}*").unwrap(), "iqn.a:\u{e4}*");
        assert!(initiator_pattern("iqn.a:\u{e000}").is_err());
        assert!(initiator_pattern("!").is_err());
        assert!(initiator_pattern("a!b").is_err());
        assert!(initiator_pattern("a b").is_err());
    }

    #[test]
    fn object_names() {
        assert!(object_name("disk-1.a").is_ok());
        for name in ["", "a/b", "a b", "disk1{", ".."] {
            assert!(object_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_was_meant() {
        assert_eq!(closest("filname", ["filename", "size"]), Some("filename"));
        assert_eq!(closest("Handler", ["HANDLER", "DEVICE"]), Some("HANDLER"));
        assert_eq!(closest("zzz", ["filename", "size"]), None);
    }
}
