//! Portal addresses: how they are written, which of them a target is seen on, which SendTargets lists.

use std::net::{IpAddr, SocketAddr};

use scst_core::config::pattern;
use scst_protocol_iscsi::address::PortalAddress;

/// Every portal is in the one portal group (as in the original).
pub(crate) const PORTAL_GROUP_TAG: u16 = 1;

/// An IPv4 peer of a dual-stack listener shows up as a mapped IPv6 address; it is an IPv4 portal.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// `address:port,tag` (RFC 7143 appendix C), IPv6 in brackets, without a scope.
pub(crate) fn target_address(addr: SocketAddr) -> String {
    format!("{},{PORTAL_GROUP_TAG}", written(addr))
}

fn written(addr: SocketAddr) -> PortalAddress {
    PortalAddress { ip: addr.ip().to_canonical(), scope: 0, port: Some(addr.port()) }
}

/// Tells whether a target with this `allowed_portal` list is seen through a local address. Patterns are matched against
/// the address with and without port, and an IPv6 address without port with and without brackets.
pub(crate) fn allowed(patterns: &[String], local: SocketAddr) -> bool {
    if patterns.is_empty() {
        return true;
    }
    let portal = written(local);
    let forms = [portal.ip.to_string(), PortalAddress { port: None, ..portal }.to_string(), portal.to_string()];
    pattern::list_takes(patterns, &forms.each_ref().map(String::as_str))
}

/// Portals to list for an initiator that came in at `local`: that one first, then the others, each once.
pub(crate) fn listing(
    local: SocketAddr,
    others: impl Iterator<Item = SocketAddr>,
    patterns: &[String],
    link_local: bool,
) -> Vec<String> {
    let mut seen = Vec::new();
    for portal in std::iter::once(local).chain(others).map(canonical) {
        let hidden = portal.ip().is_unspecified() || (is_link_local(portal.ip()) && !link_local);
        if !hidden && allowed(patterns, portal) && !seen.contains(&portal) {
            seen.push(portal);
        }
    }
    seen.into_iter().map(target_address).collect()
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_written_as_the_rfc_wants() {
        assert_eq!(target_address(addr("192.0.2.1:3260")), "192.0.2.1:3260,1");
        assert_eq!(target_address(addr("[2001:db8::1]:3261")), "[2001:db8::1]:3261,1");
        assert_eq!(target_address(addr("[::ffff:192.0.2.1]:3260")), "192.0.2.1:3260,1");
    }

    #[test]
    fn allowed_portal_takes_patterns_with_and_without_port() {
        let list = |p: &[&str]| p.iter().map(|s| (*s).to_string()).collect::<Vec<_>>();
        let local = addr("[::ffff:192.0.2.1]:3260");
        for (patterns, expected) in [
            (&[][..], true),
            (&["192.0.2.1"], true),
            (&["192.0.2.*"], true),
            (&["192.0.2.1:3260"], true),
            (&["192.0.2.1:3261"], false),
            (&["198.51.100.1", "192.0.2.?"], true),
            (&["198.51.100.1"], false),
            (&["!192.0.2.1"], false),
            (&["!192.0.2.1:3261"], true),
            (&["!198.51.100.1"], true),
            (&["192.0.*", "!192.0.2.1"], false),
            (&["!192.0.2.1", "192.0.*"], false),
            (&["192.0.*", "!192.0.2.2"], true),
        ] {
            assert_eq!(allowed(&list(patterns), local), expected, "{patterns:?}");
        }
        for (pattern, expected) in [
            ("[2001:db8::1]", true),
            ("2001:db8::1", true),
            ("[2001:db8::1]:3260", true),
            ("[2001:db8::*", true),
            ("2001:db8::?", true),
            ("![2001:db8::1]", false),
            ("!2001:db8:*", false),
        ] {
            assert_eq!(allowed(&list(&[pattern]), addr("[2001:db8::1]:3260")), expected, "{pattern}");
        }
    }

    #[test]
    fn the_portal_in_use_comes_first_and_each_once() {
        let others = [addr("192.0.2.2:3260"), addr("192.0.2.1:3260"), addr("[fe80::1]:3260"), addr("[::]:3260")];
        let list = |link_local| listing(addr("[::ffff:192.0.2.1]:3260"), others.into_iter(), &[], link_local);
        assert_eq!(list(false), ["192.0.2.1:3260,1", "192.0.2.2:3260,1"]);
        assert_eq!(list(true), ["192.0.2.1:3260,1", "192.0.2.2:3260,1", "[fe80::1]:3260,1"]);
        let only = ["192.0.2.2".to_string()];
        assert_eq!(listing(addr("192.0.2.1:1"), others.into_iter(), &only, true), ["192.0.2.2:3260,1"]);
    }
}
