//! Portal addresses: how they are written, which of them a target is seen on, which SendTargets lists.

use std::net::SocketAddr;

use scst_core::config::pattern;
use scst_protocol_iscsi::address::PortalAddress;

/// Every portal is in the one portal group (as in the original); the port name in VPD page 83h says the same.
pub(crate) const PORTAL_GROUP_TAG: u16 = scst_scsi::designator::ISCSI_PORTAL_GROUP_TAG;

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

/// Lists portals for an initiator that came in at `local`: that one first, then the others that it can use, each once.
pub(crate) fn listing(
    local: SocketAddr,
    others: impl Iterator<Item = SocketAddr>,
    patterns: &[String],
    link_local: bool,
) -> Vec<String> {
    let mut seen = Vec::new();
    for portal in std::iter::once(local).chain(others.filter(|other| can_use(local, *other))) {
        let hidden = link_scope(portal).is_some() && !link_local;
        let portal = canonical(portal);
        if !hidden && allowed(patterns, portal) && !seen.contains(&portal) {
            seen.push(portal);
        }
    }
    seen.into_iter().map(target_address).collect()
}

/// Tells whether an initiator that came in at `local` can come in at another portal too, as far as addresses tell. A loopback
/// address leads another machine to itself, and a link-local address is good for one link only (RFC 4291 2.5.6).
fn can_use(local: SocketAddr, portal: SocketAddr) -> bool {
    let ip = portal.ip().to_canonical();
    let reachable = !ip.is_loopback() || local.ip().to_canonical().is_loopback();
    let same_link = link_scope(portal).is_none_or(|scope| link_scope(local) == Some(scope));
    !ip.is_unspecified() && reachable && same_link
}

/// Returns the link of a link-local IPv6 address.
fn link_scope(addr: SocketAddr) -> Option<u32> {
    match addr {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => Some(v6.scope_id()),
        _ => None,
    }
}

/// Lists the portals that a listener opens: its own address or, on a wildcard address, its port on every address of the
/// machine of that family, and of IPv4 on the IPv6 wildcard. Loopback addresses are left out there, as in the original.
pub fn portals_of(listener: SocketAddr, machine: &[SocketAddr]) -> Vec<SocketAddr> {
    if !listener.ip().is_unspecified() {
        return vec![listener];
    }
    let served = |address: &&SocketAddr| {
        !address.ip().is_loopback() && (listener.is_ipv6() || address.is_ipv4() == listener.is_ipv4())
    };
    machine.iter().filter(served).map(|address| with_port(*address, listener.port())).collect()
}

fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
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

    fn addrs(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| addr(text)).collect()
    }

    #[test]
    fn the_portal_in_use_comes_first_and_the_others_that_can_be_used_each_once() {
        let others = addrs(&[
            "192.0.2.2:3260",
            "192.0.2.1:3260",
            "127.0.0.1:3260",
            "[::1]:3260",
            "[::ffff:127.0.0.2]:3260",
            "[2001:db8::1]:3260",
            "[fe80::1%2]:3260",
            "[fe80::2%2]:3260",
            "[fe80::1%3]:3260",
            "[::]:3260",
            "0.0.0.0:3260",
        ]);
        let list = |local: &str, link_local| listing(addr(local), others.iter().copied(), &[], link_local).join(" ");
        let remote = "192.0.2.1:3260,1 192.0.2.2:3260,1 [2001:db8::1]:3260,1";
        for link_local in [false, true] {
            assert_eq!(list("[::ffff:192.0.2.1]:3260", link_local), remote);
        }
        let all = "192.0.2.2:3260,1 192.0.2.1:3260,1";
        assert_eq!(
            list("127.0.0.1:3260", true),
            format!("127.0.0.1:3260,1 {all} [::1]:3260,1 127.0.0.2:3260,1 [2001:db8::1]:3260,1")
        );
        assert_eq!(
            list("[fe80::1%2]:3260", true),
            format!("[fe80::1]:3260,1 {all} [2001:db8::1]:3260,1 [fe80::2]:3260,1")
        );
        assert_eq!(list("[fe80::1%2]:3260", false), format!("{all} [2001:db8::1]:3260,1"));
        let only = ["192.0.2.2".to_string()];
        assert_eq!(listing(addr("192.0.2.1:1"), others.into_iter(), &only, true), ["192.0.2.2:3260,1"]);
    }

    #[test]
    fn a_wildcard_listener_is_at_every_address_of_its_family() {
        let machine =
            addrs(&["127.0.0.1:0", "192.0.2.1:0", "192.0.2.2:0", "[::1]:0", "[2001:db8::1]:0", "[fe80::1%2]:0"]);
        let of = |listener: &str| portals_of(addr(listener), &machine);
        assert_eq!(of("192.0.2.1:860"), addrs(&["192.0.2.1:860"]));
        assert_eq!(of("127.0.0.1:860"), addrs(&["127.0.0.1:860"]));
        assert_eq!(of("0.0.0.0:860"), addrs(&["192.0.2.1:860", "192.0.2.2:860"]));
        let dual = addrs(&["192.0.2.1:860", "192.0.2.2:860", "[2001:db8::1]:860", "[fe80::1%2]:860"]);
        assert_eq!(of("[::]:860"), dual);
    }
}
