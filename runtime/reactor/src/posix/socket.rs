//! One non-blocking socket: what waits on it, and what is known of its readiness.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::net::TcpStream;

use scst_core::buffer::Extent;
use scst_mem::Arenas;

use crate::backend::{Completion, SocketToken};
use crate::iovec::{self, IoVecs};
use crate::net::{self, Socket};
use crate::posix::{Again, classify, prepare};

pub(crate) struct SocketState {
    pub(crate) socket: Socket,
    pub(crate) accept: Option<SocketToken>,
    recv: Option<SocketToken>,
    recv_iov: IoVecs,
    recv_len: u32,
    send: Option<SocketToken>,
    send_iov: IoVecs,
    send_len: u32,
    sent: u32,
    readable: bool,
    writable: bool,
    /// The peer has ended its half: a short receive does not mean that nothing is left (the end is).
    ended: bool,
}

impl SocketState {
    pub(crate) fn new(socket: Socket) -> Self {
        Self {
            socket,
            accept: None,
            recv: None,
            recv_iov: IoVecs::default(),
            recv_len: 0,
            send: None,
            send_iov: IoVecs::default(),
            send_len: 0,
            sent: 0,
            readable: true,
            writable: true,
            ended: false,
        }
    }

    pub(crate) fn is_listener(&self) -> bool {
        matches!(self.socket, Socket::Listener(_))
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.accept.is_none() && self.recv.is_none() && self.send.is_none()
    }

    /// Takes an epoll event to account.
    pub(crate) fn note(&mut self, events: libc::c_int) {
        let broken = events & (libc::EPOLLHUP | libc::EPOLLERR) != 0;
        self.ended |= broken || events & libc::EPOLLRDHUP != 0;
        self.readable |= broken || events & (libc::EPOLLIN | libc::EPOLLRDHUP) != 0;
        self.writable |= broken || events & libc::EPOLLOUT != 0;
    }

    /// Ends what waits with ECANCELED; the socket itself goes with `self`.
    pub(crate) fn cancel(self, out: &mut VecDeque<Completion>) {
        self.socket.shutdown();
        if let Some(token) = self.accept {
            out.push_back(Completion::Accepted { token, result: Err(-libc::ECANCELED) });
        }
        if let Some(token) = self.recv {
            out.push_back(Completion::Received { token, result: -libc::ECANCELED });
        }
        if let Some(token) = self.send {
            out.push_back(Completion::Sent { token, result: -libc::ECANCELED });
        }
    }

    /// A new connection for the accept that waits.
    pub(crate) fn try_accept(&mut self) -> Option<(SocketToken, Result<TcpStream, i32>)> {
        let token = self.accept?;
        loop {
            let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            let (addr, len) = (std::ptr::null_mut(), std::ptr::null_mut());
            // SAFETY: no address is asked for.
            let fd = unsafe { libc::accept4(self.socket.fd(), addr, len, flags) };
            let result = if fd >= 0 {
                Ok(net::accepted(fd))
            } else {
                match classify() {
                    Again::NotReady => return None,
                    Again::Failed(e) if e != -libc::ECONNABORTED => Err(e),
                    Again::Repeat | Again::Failed(_) => continue,
                }
            };
            self.accept = None;
            return Some((token, result));
        }
    }

    /// Makes a receive known; the error when it cannot be.
    pub(crate) fn start_recv(&mut self, into: &[Extent], arenas: &Arenas, token: SocketToken) -> Option<i32> {
        if self.is_listener() || self.recv.is_some() {
            return Some(-libc::EALREADY);
        }
        match prepare(&mut self.recv_iov, into, arenas) {
            Ok(len) => self.recv_len = len,
            Err(errno) => return Some(errno),
        }
        self.recv = Some(token);
        None
    }

    pub(crate) fn try_recv(&mut self) -> Option<Completion> {
        let token = self.recv?;
        while self.readable {
            let mut header = iovec::header(&mut self.recv_iov);
            // SAFETY: the ranges belong to the receive until it completes.
            let n = unsafe { libc::recvmsg(self.socket.fd(), &mut header, 0) };
            let result = if n >= 0 {
                // epoll(7): less than asked for means that the buffer is empty now; an edge tells of more.
                self.readable = n as u32 == self.recv_len || self.ended;
                n as i32
            } else {
                match classify() {
                    Again::NotReady => {
                        self.readable = false;
                        break;
                    }
                    Again::Repeat => continue,
                    Again::Failed(errno) => errno,
                }
            };
            self.recv = None;
            return Some(Completion::Received { token, result });
        }
        None
    }

    /// Makes a send known; the error when it cannot be.
    pub(crate) fn start_send(&mut self, from: &[Extent], arenas: &Arenas, token: SocketToken) -> Option<i32> {
        if self.is_listener() || self.send.is_some() {
            return Some(-libc::EALREADY);
        }
        match prepare(&mut self.send_iov, from, arenas) {
            Ok(len) => self.send_len = len,
            Err(errno) => return Some(errno),
        }
        self.sent = 0;
        self.send = Some(token);
        None
    }

    pub(crate) fn try_send(&mut self) -> Option<(SocketToken, i32)> {
        let token = self.send?;
        while self.writable {
            let header = iovec::header(&mut self.send_iov);
            // SAFETY: the ranges belong to the send until it completes.
            let n = unsafe { libc::sendmsg(self.socket.fd(), &header, libc::MSG_NOSIGNAL) };
            let result = if n >= 0 {
                self.sent += n as u32;
                if self.sent < self.send_len {
                    self.send_iov.advance(n as usize);
                    continue;
                }
                self.sent as i32
            } else {
                match classify() {
                    Again::NotReady => {
                        self.writable = false;
                        break;
                    }
                    Again::Repeat => continue,
                    Again::Failed(errno) => errno,
                }
            };
            self.send = None;
            return Some((token, result));
        }
        None
    }
}
