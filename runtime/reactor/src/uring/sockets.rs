//! Sockets over the ring: at most one receive and one send each, and a close that waits for them.
#![allow(unsafe_code)]

use std::io;
use std::net::TcpStream;
use std::os::fd::RawFd;

use io_uring::{opcode, types};
use scst_core::buffer::Extent;

use super::Uring;
use super::ops::Owner;
use crate::backend::{Completion, DetachedSocket, SocketId, SocketToken};
use crate::iovec::{self, IoVecs};
use crate::net::{self, Socket};
use crate::posix::{Again, classify, prepare};

pub(crate) struct SocketState {
    pub(crate) socket: Socket,
    /// Slot of the receive or accept in flight.
    input: Option<u32>,
    /// Slot of the send in flight.
    output: Option<u32>,
    closing: Option<SocketToken>,
}

impl Uring {
    pub(crate) fn add_socket(&mut self, socket: Socket) -> io::Result<SocketId> {
        let state = SocketState { socket, input: None, output: None, closing: None };
        match self.sockets.insert(state) {
            Ok(id) => Ok(SocketId(id)),
            Err(_) => Err(io::Error::from_raw_os_error(libc::EMFILE)),
        }
    }

    pub(crate) fn socket(&self, id: SocketId) -> io::Result<&SocketState> {
        self.sockets.get(id.0).ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    /// A slot for an operation on a socket, and the socket's descriptor; else the errno that the operation ends with.
    fn take_slot(&mut self, socket: SocketId, owner: Owner, listener: bool) -> Result<(u32, types::Fd), i32> {
        let state = self.sockets.get_mut(socket.0).ok_or(-libc::EBADF)?;
        if state.closing.is_some() {
            return Err(-libc::EBADF);
        }
        let output = matches!(owner, Owner::Send { .. });
        let field = if output { &mut state.output } else { &mut state.input };
        if field.is_some() || matches!(state.socket, Socket::Listener(_)) != listener {
            return Err(-libc::EALREADY);
        }
        let slot = self.ops.take(owner).ok_or(-libc::ENOBUFS)?;
        *field = Some(slot);
        Ok((slot, types::Fd(state.socket.fd())))
    }

    pub(crate) fn start_accept(&mut self, listener: SocketId, token: SocketToken) {
        match self.take_slot(listener, Owner::Accept { socket: listener.0, token }, true) {
            Err(errno) => self.ready.push_back(Completion::Accepted { token, result: Err(errno) }),
            Ok((slot, fd)) => self.push_accept(slot, fd),
        }
    }

    fn push_accept(&mut self, slot: u32, fd: types::Fd) {
        let null = std::ptr::null_mut();
        let accept = opcode::Accept::new(fd, null, null.cast()).flags(libc::SOCK_CLOEXEC).build();
        let data = self.ops.data(slot);
        self.push(accept.user_data(data));
    }

    pub(crate) fn start_recv(&mut self, socket: SocketId, into: &[Extent], token: SocketToken) {
        let started = self.take_slot(socket, Owner::Recv { socket: socket.0, token }, false).and_then(|(slot, fd)| {
            prepare(self.ops.iov(slot), into, &self.arenas).inspect_err(|_| self.abandon(socket, slot))?;
            Ok((slot, fd))
        });
        match started {
            Err(result) => self.ready.push_back(Completion::Received { token, result }),
            Ok((slot, fd)) => self.push_recv(slot, fd),
        }
    }

    /// A reactor that had to sleep for its last bytes has nothing to gain from looking for more before it has waited.
    fn push_recv(&mut self, slot: u32, fd: types::Fd) {
        const POLL_FIRST: u16 = 1;
        let priority = if self.slept && self.has_poll_first { POLL_FIRST } else { 0 };
        let data = self.ops.data(slot);
        let entry = match self.ops.iov(slot).single() {
            Some((base, len)) => opcode::Recv::new(fd, base, len).ioprio(priority).build(),
            None => opcode::RecvMsg::new(fd, self.ops.header(slot)).ioprio(priority).build(),
        };
        self.push(entry.user_data(data));
    }

    /// Sends what the socket takes now, and gives the rest to the ring. Some: the send is over.
    pub(crate) fn start_send(&mut self, socket: SocketId, from: &[Extent], token: SocketToken) -> Option<i32> {
        let Some(state) = self.sockets.get(socket.0) else { return Some(-libc::EBADF) };
        if state.closing.is_some() {
            return Some(-libc::EBADF);
        }
        if state.output.is_some() || matches!(state.socket, Socket::Listener(_)) {
            return Some(-libc::EALREADY);
        }
        let len = match prepare(&mut self.scratch, from, &self.arenas) {
            Ok(len) => len,
            Err(errno) => return Some(errno),
        };
        let sent = match send_some(state.socket.fd(), &mut self.scratch) {
            Ok(sent) if sent == len => return Some(len as i32),
            Ok(sent) => sent,
            Err(errno) => return Some(errno),
        };
        let owner = Owner::Send { socket: socket.0, token, len, sent };
        match self.take_slot(socket, owner, false) {
            Ok((slot, fd)) => {
                self.scratch.advance(sent as usize);
                std::mem::swap(self.ops.iov(slot), &mut self.scratch);
                self.push_send(slot, fd);
                None
            }
            Err(errno) => Some(errno),
        }
    }

    fn push_send(&mut self, slot: u32, fd: types::Fd) {
        let data = self.ops.data(slot);
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let entry = match self.ops.iov(slot).single() {
            Some((base, len)) => opcode::Send::new(fd, base, len).flags(flags).build(),
            None => opcode::SendMsg::new(fd, self.ops.header(slot)).flags(flags as u32).build(),
        };
        self.push(entry.user_data(data));
    }

    /// Takes back a slot whose operation was not submitted.
    fn abandon(&mut self, socket: SocketId, slot: u32) {
        self.ops.put(slot);
        if let Some(state) = self.sockets.get_mut(socket.0) {
            state.input = state.input.filter(|&s| s != slot);
            state.output = state.output.filter(|&s| s != slot);
        }
    }

    pub(crate) fn start_close(&mut self, socket: SocketId, token: SocketToken) {
        let Some(state) = self.sockets.get_mut(socket.0).filter(|s| s.closing.is_none()) else {
            self.ready.push_back(Completion::Closed { token });
            return;
        };
        state.closing = Some(token);
        state.socket.shutdown();
        let (input, output) = (state.input, state.output);
        for slot in [input, output].into_iter().flatten() {
            self.cancel_op(slot);
        }
        self.finish_close(socket.0);
    }

    /// Closes the socket when nothing of it is in flight any more.
    fn finish_close(&mut self, socket: u32) {
        if let Some(SocketState { closing: Some(token), input: None, output: None, .. }) = self.sockets.get(socket) {
            let token = *token;
            self.sockets.remove(socket);
            self.ready.push_back(Completion::Closed { token });
        }
    }

    pub(crate) fn detach_socket(&mut self, socket: SocketId) -> io::Result<DetachedSocket> {
        let state = self.socket(socket)?;
        if state.input.is_some() || state.output.is_some() || state.closing.is_some() {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        if matches!(state.socket, Socket::Listener(_)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match self.sockets.remove(socket.0).map(|s| s.socket) {
            Some(Socket::Stream(stream)) => Ok(DetachedSocket::Real(stream)),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    pub(crate) fn socket_completed(&mut self, slot: u32, owner: Owner, result: i32) {
        let (Owner::Accept { socket, .. } | Owner::Recv { socket, .. } | Owner::Send { socket, .. }) = owner else {
            return;
        };
        let Some(state) = self.sockets.get(socket) else {
            unreachable!("a socket outlives its operations");
        };
        let (fd, closing) = (types::Fd(state.socket.fd()), state.closing.is_some());
        let cancelled = |result: i32| if closing && result == 0 { -libc::ECANCELED } else { result };
        let again = !closing && (result == -libc::EINTR || result == -libc::EAGAIN);
        match owner {
            Owner::Accept { token, .. } => {
                if again || (!closing && result == -libc::ECONNABORTED) {
                    self.push_accept(slot, fd);
                    return;
                }
                let result = if result < 0 { Err(result) } else { self.accepted(net::accepted(result), closing) };
                self.ready.push_back(Completion::Accepted { token, result });
            }
            Owner::Recv { token, .. } => {
                if again {
                    self.push_recv(slot, fd);
                    return;
                }
                self.ready.push_back(Completion::Received { token, result: cancelled(result) });
            }
            Owner::Send { token, len, sent, .. } => {
                let total = sent + result.max(0) as u32;
                if again || (result > 0 && total < len && !closing) {
                    self.ops.iov(slot).advance(result.max(0) as usize);
                    self.ops.set_owner(slot, Owner::Send { socket, token, len, sent: total });
                    self.push_send(slot, fd);
                    return;
                }
                let result = match result {
                    e if e < 0 => e,
                    _ if total < len => -libc::ECANCELED,
                    _ => total as i32,
                };
                self.ready.push_back(Completion::Sent { token, result });
            }
            Owner::Storage { .. } | Owner::Free => return,
        }
        self.abandon(SocketId(socket), slot);
        self.finish_close(socket);
    }

    fn accepted(&mut self, stream: TcpStream, closing: bool) -> Result<SocketId, i32> {
        if closing {
            return Err(-libc::ECANCELED);
        }
        self.add_socket(Socket::Stream(stream)).map_err(|e| -e.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// One send that does not wait; 0 when there is no room at all.
fn send_some(fd: RawFd, iov: &mut IoVecs) -> Result<u32, i32> {
    const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let (range, header) = (iov.single(), iovec::header(iov));
    loop {
        let n = match range {
            // SAFETY: the range is the caller's for the time of the call.
            Some((base, len)) => unsafe { libc::send(fd, base.cast(), len as usize, FLAGS) },
            // SAFETY: the header and its ranges are the caller's for the time of the call.
            None => unsafe { libc::sendmsg(fd, &header, FLAGS) },
        };
        if n >= 0 {
            return Ok(n as u32);
        }
        match classify() {
            Again::NotReady => return Ok(0),
            Again::Repeat => {}
            Again::Failed(errno) => return Err(errno),
        }
    }
}
