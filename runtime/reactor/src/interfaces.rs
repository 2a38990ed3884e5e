//! The addresses of this machine.
#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ptr;

/// Lists the addresses of all interfaces that are up, IPv4 first, each once and in an order that stays the same. A
/// link-local IPv6 address has the scope of its interface; ports are 0.
///
/// It waits for the kernel, never for the network. Not for a reactor all the same.
///
/// # Errors
/// Whatever getifaddrs(3) says.
pub fn interface_addresses() -> io::Result<Vec<SocketAddr>> {
    let mut first: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: `first` is a valid place for the head of the list.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut at = first;
    // SAFETY: the list was made by getifaddrs and is not freed yet; each `ifa_next` is an entry of it or null.
    while let Some(entry) = unsafe { at.as_ref() } {
        if entry.ifa_flags & libc::IFF_UP as libc::c_uint != 0 {
            // SAFETY: the address is null or belongs to the entry.
            found.extend(unsafe { address(entry.ifa_addr) });
        }
        at = entry.ifa_next;
    }
    // SAFETY: `first` comes from getifaddrs, and nothing points into the list any more.
    unsafe { libc::freeifaddrs(first) };
    found.sort();
    found.dedup();
    Ok(found)
}

/// # Safety
/// `address` is null or points to a socket address as long as its family says.
unsafe fn address(address: *const libc::sockaddr) -> Option<SocketAddr> {
    // SAFETY: null or valid for the family, as the caller promises.
    match i32::from(unsafe { address.as_ref() }?.sa_family) {
        libc::AF_INET => {
            // SAFETY: an address of this family is a sockaddr_in; it need not be aligned as one.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes())), 0))
        }
        libc::AF_INET6 => {
            // SAFETY: an address of this family is a sockaddr_in6; it need not be aligned as one.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddr::V6(SocketAddrV6::new(ip, 0, 0, v6.sin6_scope_id)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_address_is_there_and_each_comes_once() {
        let all = interface_addresses().unwrap();
        assert!(all.contains(&"127.0.0.1:0".parse().unwrap()), "{all:?}");
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{all:?}");
    }
}
