//! TCP sockets as both real back-ends make them.
#![allow(unsafe_code)]

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Connections that wait to be accepted; the kernel cuts it to net.core.somaxconn.
const BACKLOG: libc::c_int = 1024;

/// A socket with what std knows of it.
#[derive(Debug)]
pub(crate) enum Socket {
    Stream(TcpStream),
    Listener(TcpListener),
}

impl Socket {
    pub(crate) fn fd(&self) -> RawFd {
        match self {
            Self::Stream(s) => s.as_raw_fd(),
            Self::Listener(l) => l.as_raw_fd(),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Stream(s) => s.local_addr(),
            Self::Listener(l) => l.local_addr(),
        }
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Stream(s) => s.peer_addr(),
            Self::Listener(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Ends our half. A peer that is gone already (ENOTCONN) needs no end.
    pub(crate) fn shutdown_write(&self) {
        // SAFETY: the descriptor is open and owned by `self`.
        unsafe { libc::shutdown(self.fd(), libc::SHUT_WR) };
    }

    /// Makes operations in flight fail. It says ENOTCONN when the peer was faster, which is as good.
    pub(crate) fn shutdown(&self) {
        // SAFETY: the descriptor is open and owned by `self`.
        unsafe { libc::shutdown(self.fd(), libc::SHUT_RDWR) };
    }
}

/// Opens a listener: SO_REUSEADDR, and IPv4 too on the IPv6 wildcard address.
pub(crate) fn listen(addr: SocketAddr, nonblocking: bool) -> io::Result<TcpListener> {
    let family = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | if nonblocking { libc::SOCK_NONBLOCK } else { 0 };
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: the descriptor is new and ours.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    set_option(&fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if addr.is_ipv6() {
        let only = libc::c_int::from(!addr.ip().is_unspecified());
        set_option(&fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, only)?;
    }
    bind(&fd, addr)?;
    // SAFETY: no memory is passed.
    check(unsafe { libc::listen(fd.as_raw_fd(), BACKLOG) })?;
    Ok(TcpListener::from(fd))
}

fn bind(fd: &OwnedFd, addr: SocketAddr) -> io::Result<()> {
    let result = match addr {
        SocketAddr::V4(v4) => {
            let name = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: `name` is an initialised address of the length given.
            unsafe { libc::bind(fd.as_raw_fd(), (&raw const name).cast(), size_of_val(&name) as libc::socklen_t) }
        }
        SocketAddr::V6(v6) => {
            let name = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: `name` is an initialised address of the length given.
            unsafe { libc::bind(fd.as_raw_fd(), (&raw const name).cast(), size_of_val(&name) as libc::socklen_t) }
        }
    };
    check(result).map(|_| ())
}

fn set_option(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: `value` is an int, as both options take.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len) }).map(|_| ())
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A new connection that `accept` made.
pub(crate) fn accepted(fd: RawFd) -> TcpStream {
    // SAFETY: the kernel has just made the descriptor for us.
    let stream = unsafe { TcpStream::from_raw_fd(fd) };
    // A connection that is reset already says EINVAL; its first receive will tell.
    let _ = stream.set_nodelay(true);
    stream
}

/// `errno` of a failed call, negative.
pub(crate) fn last_errno() -> i32 {
    -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ipv6_wildcard_takes_ipv4_too_and_others_do_not() {
        let both = listen("[::]:0".parse().unwrap(), false).unwrap();
        let port = both.local_addr().unwrap().port();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
        assert!(TcpStream::connect(("::1", port)).is_ok());
        let one = listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let addr = one.local_addr().unwrap();
        assert!(TcpStream::connect(addr).is_ok());
        assert_eq!(listen(addr, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
