//! Addresses of portals as operators write them: `address[:port]`, IPv6 in brackets (RFC 7143 13.8).
//!
//! Names are not looked up: the answer of a name server must not decide where a target listens or sends initiators.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use core::str::FromStr;

/// The port of iSCSI (RFC 7143 4.1).
pub const ISCSI_PORT: u16 = 3260;

/// An address, perhaps with a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortalAddress {
    /// The IP address.
    pub ip: IpAddr,
    /// Index of the interface, for a link-local IPv6 address; else 0.
    pub scope: u32,
    /// The port, if one was written.
    pub port: Option<u16>,
}

/// A text that is no address of a portal. The message says what would be one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddressError {
    /// An IPv6 address without brackets, where the port could be a part of the address.
    #[error("an IPv6 address in brackets, such as [{0}]")]
    NoBrackets(Ipv6Addr),
    /// An IPv4 address in brackets.
    #[error("an IPv4 address without brackets, such as {0}")]
    Brackets(Ipv4Addr),
    /// Something else than an IP address.
    #[error("an IP address, since names are not looked up, such as 192.0.2.1 or [2001:db8::1]")]
    NotAnAddress,
    /// Something else than a port after the colon.
    #[error("a port from 0 to 65535 after the colon")]
    Port,
    /// Port 0, where nothing can be reached.
    #[error("a port from 1 to 65535 after the colon")]
    PortZero,
    /// All addresses, or a group of hosts, where one host is needed.
    #[error("the address of one host, not {0}")]
    NotOneHost(IpAddr),
    /// A group of hosts, where no listener can be.
    #[error("an address of this machine, not {0}")]
    Multicast(IpAddr),
}

impl FromStr for PortalAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Ok(ip) = text.parse::<Ipv6Addr>() {
            return Err(AddressError::NoBrackets(ip));
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or(AddressError::NotAnAddress)?;
                if let Ok(ip) = host.parse::<Ipv4Addr>() {
                    return Err(AddressError::Brackets(ip));
                }
                let port = match rest.strip_prefix(':') {
                    None if rest.is_empty() => None,
                    None => return Err(AddressError::NotAnAddress),
                    port => port,
                };
                // The standard library knows interfaces (%2) only together with a port.
                let socket: SocketAddrV6 = format!("[{host}]:0").parse().map_err(|_| AddressError::NotAnAddress)?;
                ((IpAddr::V6(*socket.ip()), socket.scope_id()), port)
            }
            None => {
                let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
                let ip: Ipv4Addr = host.parse().map_err(|_| AddressError::NotAnAddress)?;
                ((IpAddr::V4(ip), 0), port)
            }
        };
        let (ip, scope) = host;
        Ok(Self { ip, scope, port: port.map(parse_port).transpose()? })
    }
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(AddressError::Port)
}

impl PortalAddress {
    /// Reads the address of another portal, where initiators can be sent.
    ///
    /// # Errors
    /// What is wrong, among it an address where no initiator can go.
    pub fn remote(text: &str) -> Result<Self, AddressError> {
        let address: Self = text.parse()?;
        let ip = address.ip.to_canonical();
        let limited = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        if ip.is_unspecified() || ip.is_multicast() || limited {
            return Err(AddressError::NotOneHost(ip));
        }
        if address.port == Some(0) {
            return Err(AddressError::PortZero);
        }
        // Interfaces are numbered by each host for itself.
        Ok(Self { ip, scope: 0, port: address.port })
    }

    /// Reads an address to listen on; without a port it is that of iSCSI, with port 0 any free one.
    ///
    /// # Errors
    /// What is wrong.
    pub fn local(text: &str) -> Result<SocketAddr, AddressError> {
        let Self { ip, scope, port } = text.parse()?;
        let port = port.unwrap_or(ISCSI_PORT);
        match ip.to_canonical() {
            ip if ip.is_multicast() => Err(AddressError::Multicast(ip)),
            IpAddr::V6(ip) => Ok(SocketAddrV6::new(ip, port, 0, scope).into()),
            IpAddr::V4(ip) => Ok((ip, port).into()),
        }
    }
}

impl fmt::Display for PortalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ip, self.scope) {
            (IpAddr::V4(ip), _) => write!(f, "{ip}")?,
            (IpAddr::V6(ip), 0) => write!(f, "[{ip}]")?,
            (IpAddr::V6(ip), scope) => write!(f, "[{ip}%{scope}]")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Whether a listener on `a` leaves no room for one on `b`: the same port, and an address of `a` among those of `b` or
/// the other way round. Listeners on `[::]` take IPv4 connections, too.
pub fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |a: SocketAddr, b: SocketAddr| match a.ip() {
        IpAddr::V6(ip) if ip.is_unspecified() => true,
        IpAddr::V4(ip) if ip.is_unspecified() => b.is_ipv4(),
        _ => a == b,
    };
    a.port() != 0 && a.port() == b.port() && (covers(a, b) || covers(b, a))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written, what `remote` and `local` make of it.
    const TABLE: &[(&str, &str, &str)] = &[
        ("192.0.2.1", "192.0.2.1", "192.0.2.1:3260"),
        ("192.0.2.1:3261", "192.0.2.1:3261", "192.0.2.1:3261"),
        ("[2001:db8::1]", "[2001:db8::1]", "[2001:db8::1]:3260"),
        ("[2001:DB8:0::1]:1", "[2001:db8::1]:1", "[2001:db8::1]:1"),
        ("[::ffff:192.0.2.1]:80", "192.0.2.1:80", "192.0.2.1:80"),
        ("[fe80::1%2]:80", "[fe80::1]:80", "[fe80::1%2]:80"),
        ("0.0.0.0", "the address of one host, not 0.0.0.0", "0.0.0.0:3260"),
        ("[::]:5", "the address of one host, not ::", "[::]:5"),
        ("255.255.255.255", "the address of one host, not 255.255.255.255", "255.255.255.255:3260"),
        ("[ff02::1]", "the address of one host, not ff02::1", "an address of this machine, not ff02::1"),
        ("192.0.2.1:0", "a port from 1 to 65535 after the colon", "192.0.2.1:0"),
        ("fd00::1", "an IPv6 address in brackets, such as [fd00::1]", "an IPv6 address in brackets, such as [fd00::1]"),
        (
            "[10.0.0.1]",
            "an IPv4 address without brackets, such as 10.0.0.1",
            "an IPv4 address without brackets, such as 10.0.0.1",
        ),
        (
            "[10.0.0.1]:1",
            "an IPv4 address without brackets, such as 10.0.0.1",
            "an IPv4 address without brackets, such as 10.0.0.1",
        ),
    ];

    #[test]
    fn addresses_in_every_form() {
        let shown = |result: Result<String, AddressError>| result.unwrap_or_else(|error| error.to_string());
        for (text, remote, local) in TABLE {
            assert_eq!(shown(PortalAddress::remote(text).map(|a| a.to_string())), *remote, "{text}");
            assert_eq!(shown(PortalAddress::local(text).map(|a| a.to_string())), *local, "{text}");
        }
        for text in
            ["", "localhost", "localhost:3260", "[::1", "::1]", "[::1]x", "1.2.3", "1.2.3.4.5", "[]", "[::1%eth0]"]
        {
            assert_eq!(text.parse::<PortalAddress>(), Err(AddressError::NotAnAddress), "{text}");
        }
        for text in ["1.2.3.4:", "1.2.3.4:+1", "1.2.3.4:65536", "[::1]:", "[::1]:x", "1.2.3.4:1:2"] {
            assert_eq!(text.parse::<PortalAddress>(), Err(AddressError::Port), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for (_, remote, _) in TABLE {
            if let Ok(address) = PortalAddress::remote(remote) {
                assert_eq!(address.to_string(), *remote);
            }
        }
    }

    #[test]
    fn listeners_that_are_in_each_others_way() {
        for (a, b, expected) in [
            ("[::]:1", "0.0.0.0:1", true),
            ("[::]:1", "192.0.2.1:1", true),
            ("0.0.0.0:1", "192.0.2.1:1", true),
            ("192.0.2.1:1", "192.0.2.1:1", true),
            ("[2001:db8::1]:1", "[::]:1", true),
            ("[2001:db8::1]:1", "0.0.0.0:1", false),
            ("192.0.2.1:1", "192.0.2.2:1", false),
            ("[::]:1", "[::]:2", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!((overlap(a, b), overlap(b, a)), (expected, expected), "{a} {b}");
        }
    }
}
