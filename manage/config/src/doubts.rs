//! What is allowed and does not do what its author means: patterns without effect, accounts that keep nobody out,
//! identifiers that two devices share.

use std::net::IpAddr;

use scst_core::config::pattern::{negated, wildcard_match};
use scst_protocol_iscsi::address::PortalAddress;
use scst_protocol_iscsi::text::normalize_name;

/// A finding without its place: the message and the remedy.
pub(crate) type Doubt = (String, &'static str);

fn has_wildcard(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}

/// Says why an initiator pattern, in its normal form, describes no name that an initiator can have.
pub(crate) fn initiator(pattern: &str) -> Option<Doubt> {
    let name = negated(pattern).unwrap_or(pattern);
    if name.contains('#') {
        let remedy = "remove the # and what follows; groups match initiator names only, in this version";
        return Some((format!("no initiator has a name like {name:?}, with a portal in it"), remedy));
    }
    let possible = match has_wildcard(name) {
        false => normalize_name(name).is_some(),
        // The text before the first wildcard, against the beginning of each kind of name (RFC 7143 4.2.7.2).
        true => {
            let literal = name.split(['*', '?']).next().unwrap_or("");
            ["iqn.", "eui.", "naa."].iter().any(|kind| literal.starts_with(kind) || kind.starts_with(literal))
        }
    };
    if possible {
        return None;
    }
    let remedy = "write the whole name, which begins with iqn., eui. or naa., perhaps with * or ? in it; addresses of \
                  initiators are not looked at";
    Some((format!("no initiator has a name like {name:?}"), remedy))
}

/// Says why a portal pattern, in its normal form, describes no address.
pub(crate) fn portal(pattern: &str) -> Option<Doubt> {
    let address = negated(pattern).unwrap_or(pattern);
    let is_one = address.parse::<IpAddr>().is_ok() || address.parse::<PortalAddress>().is_ok();
    if has_wildcard(address) || is_one {
        return None;
    }
    Some((format!("no portal has an address like {address:?}"), "write a whole address, or * for a part of it"))
}

/// Finds patterns that others of the same list keep out altogether: the pattern, and the one that does it.
pub(crate) fn kept_out(patterns: &[String]) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for pattern in patterns.iter().filter(|p| negated(p).is_none() && !p.contains('*')) {
        let by = patterns.iter().find(|other| negated(other).is_some_and(|rest| wildcard_match(rest, pattern)));
        found.extend(by.map(|by| (pattern.as_str(), by.as_str())));
    }
    found
}

/// Says what is odd about the name of an account. The remedy must not repeat the secret.
pub(crate) fn account(value: &str) -> Option<Doubt> {
    let quote = |c: char| "\"'`\u{201c}\u{201d}\u{201e}\u{2018}\u{2019}\u{ab}\u{bb}".contains(c);
    let name = value.split(' ').next().unwrap_or(value);
    (name.starts_with(quote) || name.ends_with(quote)).then(|| {
        let remedy = "leave it out, or put plain double quotes around name and secret together";
        (format!("the quote is a part of the user name {name}"), remedy)
    })
}

/// One account as `IncomingUser` or `OutgoingUser` has it.
fn parts(account: &str) -> (&str, &str) {
    account.split_once(' ').unwrap_or((account, ""))
}

/// What two accounts of one object do to each other.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Clash<'a> {
    /// One name has two secrets, of which only the first can work.
    TwoSecrets(&'a str),
    /// An incoming and an outgoing user have the same secret.
    SameSecret(&'a str, &'a str),
    /// There is an outgoing user, and nobody is asked for a password.
    OutgoingAlone(&'a str),
}

/// Finds accounts of one object that cannot work, or keep nobody out.
pub(crate) fn clashes<'a>(incoming: &[&'a str], outgoing: Option<&'a str>) -> Vec<Clash<'a>> {
    let mut found = Vec::new();
    for (at, account) in incoming.iter().enumerate() {
        let name = parts(account).0;
        if incoming[..at].iter().any(|before| parts(before).0 == name) {
            found.push(Clash::TwoSecrets(name));
        }
    }
    if let Some((name, secret)) = outgoing.map(parts) {
        let same = incoming.iter().map(|account| parts(account)).find(|(_, other)| *other == secret);
        found.extend(same.map(|(other, _)| Clash::SameSecret(other, name)));
        if incoming.is_empty() {
            found.push(Clash::OutgoingAlone(name));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initiator_patterns_that_describe_no_name() {
        let odd = ["10.0.0.1", "host1", "iqn", "iqn.", "!10.0.0.*", "host?", "wwn.*", "iqn.a:x#10.0.0.1", "iqnx*"];
        for pattern in odd {
            assert!(initiator(pattern).is_some(), "{pattern}");
        }
        let good =
            ["*", "iqn*", "iqn.*", "i?n.a", "!iqn.a:x", "eui.0123456789abcdef", "naa.5*", "iqn.a:\u{e4}", "*:host1"];
        for pattern in good {
            assert_eq!(initiator(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn portal_patterns_that_describe_no_address() {
        for pattern in ["10.0.0", "!10.0", "fd00:1", "[10.0.0.1]", "1.2.3.4:99999"] {
            assert!(portal(pattern).is_some(), "{pattern}");
        }
        for pattern in ["10.0.0.1", "!10.0.0.1:3260", "fd00::1", "[fd00::1]", "[fd00::1]:1", "10.*", "fd00:?"] {
            assert_eq!(portal(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn patterns_that_others_keep_out() {
        let list: Vec<String> = ["iqn.a1", "iqn.b?", "iqn.a*", "!iqn.a*", "!iqn.b*"].map(str::to_owned).to_vec();
        assert_eq!(kept_out(&list), [("iqn.a1", "!iqn.a*"), ("iqn.b?", "!iqn.b*")]);
    }
}
