//! The simulated network: byte streams in segments that take time, with a window, stalls and resets.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::net::SocketAddr;

use scst_core::Nanos;
use scst_core::buffer::Extent;
use scst_mem::Arenas;

use super::backend::SocketState;
use super::world::{Event, World};
use crate::backend::{Completion, SocketId, SocketToken};

/// Largest segment: what one step of a sender moves.
const SEGMENT: u64 = 16 << 10;
/// Connections that wait to be accepted.
const BACKLOG: usize = 1024;

/// An end of a connection: the initiator's or the target's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Peer,
    Target,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Peer => Self::Target,
            Self::Target => Self::Peer,
        }
    }
}

/// Who holds an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Holder {
    Peer,
    /// In a listener's backlog, on the way there, or detached.
    Nobody,
    Socket {
        backend: usize,
        socket: u32,
    },
    /// Closed.
    Gone,
}

pub(crate) struct PendingRecv {
    token: SocketToken,
    into: Vec<Extent>,
}

pub(crate) struct PendingSend {
    token: SocketToken,
    from: Vec<Extent>,
    total: u32,
    sent: u32,
    /// Set when all is sent: the event that tells.
    told: u64,
}

/// One end.
pub(crate) struct End {
    pub(crate) holder: Holder,
    pub(crate) addr: SocketAddr,
    /// Bytes that have arrived.
    pub(crate) rx: VecDeque<u8>,
    pub(crate) ended: bool,
    pub(crate) error: Option<i32>,
    /// Bytes of the peer that wait for the window.
    out: VecDeque<u8>,
    /// No more will be sent after what is there now.
    finishing: bool,
    finished: bool,
    in_transit: u64,
    last_arrival: Nanos,
    pump_at: Option<Nanos>,
    recv: Option<PendingRecv>,
    send: Option<PendingSend>,
    closing: bool,
}

impl End {
    fn new(holder: Holder, addr: SocketAddr) -> Self {
        Self {
            holder,
            addr,
            rx: VecDeque::new(),
            ended: false,
            error: None,
            out: VecDeque::new(),
            finishing: false,
            finished: false,
            in_transit: 0,
            last_arrival: Nanos(0),
            pump_at: None,
            recv: None,
            send: None,
            closing: false,
        }
    }

    /// An operation is in flight.
    pub(crate) fn is_busy(&self) -> bool {
        self.recv.is_some() || self.send.is_some() || self.closing
    }

    fn to_send(&self) -> u64 {
        match &self.send {
            Some(send) => u64::from(send.total - send.sent),
            None => self.out.len() as u64,
        }
    }
}

/// A connection.
pub(crate) struct Conn {
    peer: End,
    target: End,
    /// Where its listener is.
    listener: (usize, u32),
}

impl Conn {
    pub(crate) fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Peer => &mut self.peer,
            Side::Target => &mut self.target,
        }
    }
}

impl World {
    pub(crate) fn connect(&mut self, addr: SocketAddr) -> Result<u64, i32> {
        let listener = self.listener_at(addr).ok_or(-libc::ECONNREFUSED)?;
        let id = self.serial();
        self.next_port = self.next_port.checked_add(1).unwrap_or(32_768);
        let local: std::net::IpAddr =
            if addr.is_ipv4() { [192, 0, 2, 1].into() } else { [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into() };
        let peer = End::new(Holder::Peer, SocketAddr::new(local, self.next_port));
        let mut target = End::new(Holder::Nobody, addr);
        let at = self.now.after(self.config.net.latency.0).after(Nanos(self.rng.below(self.config.net.latency.1.0)));
        target.last_arrival = at;
        let mut conn = Conn { peer, target, listener };
        conn.peer.last_arrival = at;
        self.conns.insert(id, conn);
        self.note("connect", id, 0, 0);
        self.schedule(at, Event::Connect { conn: id });
        Ok(id)
    }

    fn listener_at(&self, addr: SocketAddr) -> Option<(usize, u32)> {
        let fits = |bound: &SocketAddr| {
            bound.port() == addr.port()
                && (bound.ip() == addr.ip() || bound.ip().is_unspecified() && (bound.is_ipv6() || addr.is_ipv4()))
        };
        self.backends.iter().enumerate().filter(|(_, b)| b.alive).find_map(|(n, backend)| {
            backend.sockets.iter().find_map(|(id, s)| match s {
                SocketState::Listener { addr: bound, .. } if fits(bound) => Some((n, id)),
                _ => None,
            })
        })
    }

    pub(crate) fn connect_arrives(&mut self, id: u64) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (backend, listener) = conn.listener;
        match self.backends[backend].sockets.get_mut(listener) {
            Some(SocketState::Listener { backlog, .. }) if backlog.len() < BACKLOG => {
                backlog.push_back(id);
                self.try_accept(backend, listener);
            }
            _ => self.reset(id, Side::Target),
        }
    }

    pub(crate) fn try_accept(&mut self, n: usize, listener: u32) {
        let backend = &mut self.backends[n];
        let Some(SocketState::Listener { backlog, accept, .. }) = backend.sockets.get_mut(listener) else { return };
        if accept.is_none() {
            return;
        }
        let Some(id) = backlog.pop_front() else { return };
        let Some(token) = accept.take() else { return };
        let result = match backend.sockets.insert(SocketState::Connection { conn: id }) {
            Ok(socket) => {
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.target.holder = Holder::Socket { backend: n, socket };
                }
                Ok(SocketId(socket))
            }
            Err(_) => Err(-libc::EMFILE),
        };
        backend.ready.push_back(Completion::Accepted { token, result });
        if result.is_err() {
            self.reset(id, Side::Target);
        }
    }

    /// A side breaks the connection: the other one hears of it later.
    pub(crate) fn reset(&mut self, id: u64, from: Side) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let end = conn.end(from);
        end.holder = Holder::Gone;
        end.error = Some(-libc::ECONNRESET);
        let at = self.now.after(self.config.net.latency.0);
        self.schedule(at, Event::Reset { conn: id, to: from.other() });
    }

    pub(crate) fn reset_arrives(&mut self, id: u64, to: Side) {
        self.note("reset", id, to as u64, 0);
        self.break_end(id, to);
        self.forget(id);
    }

    fn break_end(&mut self, id: u64, side: Side) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let end = conn.end(side);
        if end.error.is_none() {
            end.error = Some(-libc::ECONNRESET);
        }
        end.rx.clear();
        end.out.clear();
        self.fail_pending(id, side, -libc::ECONNRESET);
    }

    /// Ends what is in flight on a side with an error.
    fn fail_pending(&mut self, id: u64, side: Side, errno: i32) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let end = conn.end(side);
        let Holder::Socket { backend, .. } = end.holder else { return };
        if end.closing && errno != -libc::ECANCELED {
            return;
        }
        let ready = &mut self.backends[backend].ready;
        if let Some(recv) = end.recv.take() {
            ready.push_back(Completion::Received { token: recv.token, result: errno });
        }
        if let Some(send) = end.send.take() {
            ready.push_back(Completion::Sent { token: send.token, result: errno });
        }
    }

    pub(crate) fn start_recv(&mut self, n: usize, socket: u32, into: &[Extent], token: SocketToken) -> Result<(), i32> {
        let id = self.backends[n].connection(socket)?;
        let end = self.conns.get_mut(&id).ok_or(-libc::ECONNRESET)?.end(Side::Target);
        if end.recv.is_some() || end.closing {
            return Err(-libc::EALREADY);
        }
        if let Some(errno) = end.error {
            return Err(errno);
        }
        check(&self.backends[n].arenas, into)?;
        end.recv = Some(PendingRecv { token, into: into.to_vec() });
        self.deliver(id, Side::Target);
        Ok(())
    }

    pub(crate) fn start_send(&mut self, n: usize, socket: u32, from: &[Extent], token: SocketToken) -> Result<(), i32> {
        let id = self.backends[n].connection(socket)?;
        let end = self.conns.get_mut(&id).ok_or(-libc::ECONNRESET)?.end(Side::Target);
        if end.send.is_some() || end.closing {
            return Err(-libc::EALREADY);
        }
        if end.error.is_some() || end.finishing {
            return Err(-libc::EPIPE);
        }
        let total = check(&self.backends[n].arenas, from)?;
        end.send = Some(PendingSend { token, from: from.to_vec(), total, sent: 0, told: 0 });
        self.pump(id, Side::Target);
        Ok(())
    }

    /// Half of the sends that the network has taken whole are over at once.
    pub(crate) fn sent_at_once(&mut self, n: usize, socket: u32) -> Option<i32> {
        let id = self.backends[n].connection(socket).ok()?;
        let end = self.conns.get_mut(&id)?.end(Side::Target);
        let whole = end.send.as_ref().is_some_and(|send| send.sent == send.total);
        if !whole || !self.rng.chance(500_000) {
            return None;
        }
        self.conns.get_mut(&id)?.end(Side::Target).send.take().map(|send| send.total as i32)
    }

    pub(crate) fn peer_send(&mut self, id: u64, data: &[u8]) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.peer.error.is_none() && !conn.peer.finishing {
            conn.peer.out.extend(data);
            self.pump(id, Side::Peer);
        }
    }

    /// Takes what has arrived at the peer's side.
    pub(crate) fn peer_recv(&mut self, id: u64, out: &mut Vec<u8>) {
        if let Some(conn) = self.conns.get_mut(&id) {
            out.extend(conn.peer.rx.drain(..));
            self.pump(id, Side::Target);
        }
    }

    /// No more bytes come from this side after those that wait.
    pub(crate) fn finish(&mut self, id: u64, side: Side, gone: bool) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let end = conn.end(side);
        end.finishing = true;
        if gone {
            let unread = !end.rx.is_empty();
            end.holder = Holder::Gone;
            if unread {
                // Closing with unread data is a reset (RFC 1122 4.2.2.13).
                self.reset(id, side);
                return;
            }
        }
        self.pump(id, side);
        self.forget(id);
    }

    pub(crate) fn pump_event(&mut self, id: u64, from: Side) {
        if let Some(conn) = self.conns.get_mut(&id)
            && conn.end(from).pump_at.is_some_and(|at| at <= self.now)
        {
            conn.end(from).pump_at = None;
            self.pump(id, from);
        }
    }

    /// Moves the next segment of a side onto the wire, if there is one and room for it.
    fn pump(&mut self, id: u64, from: Side) {
        let net = self.config.net;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let unread = conn.end(from.other()).rx.len() as u64;
        let receiver_gone = conn.end(from.other()).holder == Holder::Gone;
        let end = conn.end(from);
        if end.pump_at.is_some() || end.error.is_some() || end.finished || end.closing {
            return;
        }
        let left = end.to_send();
        if left == 0 {
            if end.finishing && end.send.is_none() {
                end.finished = true;
                let at = end.last_arrival.max(self.now.after(net.latency.0));
                self.schedule(at, Event::Finish { conn: id, to: from.other() });
            }
            return;
        }
        let room = if receiver_gone { SEGMENT } else { u64::from(net.window).saturating_sub(end.in_transit + unread) };
        let mut n = left.min(room).min(SEGMENT);
        if n == 0 {
            return;
        }
        if self.rng.chance(net.reset) {
            self.note("broken", id, from as u64, 0);
            self.break_end(id, from);
            let at = self.now.after(net.latency.0);
            self.schedule(at, Event::Reset { conn: id, to: from.other() });
            return;
        }
        if self.rng.chance(net.fragment) {
            n = self.rng.between(1, n);
        }
        let delay = self.delay(net.latency);
        let stall = if self.rng.chance(net.stall) { net.stall_time } else { Nanos(0) };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let end = conn.end(from);
        let mut data = Vec::with_capacity(n as usize);
        match (&mut end.send, end.holder) {
            (Some(send), Holder::Socket { backend, .. }) => {
                copy_out(&self.backends[backend].arenas, &send.from, send.sent, n as u32, &mut data);
                send.sent += n as u32;
            }
            _ => data.extend(end.out.drain(..n as usize)),
        }
        end.in_transit += n;
        end.last_arrival = end.last_arrival.max(self.now.after(delay));
        let at = end.last_arrival;
        let all_sent = end.send.as_ref().is_some_and(|s| s.sent == s.total);
        self.schedule(at, Event::Arrive { conn: id, to: from.other(), data });
        let later = self.now.after(stall).after(Nanos(1_000));
        if all_sent {
            let serial = self.serial();
            if let Some(send) = self.conns.get_mut(&id).and_then(|c| c.end(from).send.as_mut()) {
                send.told = serial;
            }
            self.schedule(later, Event::Sent { conn: id, serial });
        } else {
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.end(from).pump_at = Some(later);
            }
            self.schedule(later, Event::Pump { conn: id, from });
        }
    }

    pub(crate) fn sent(&mut self, id: u64, serial: u64) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let end = &mut conn.target;
        let Holder::Socket { backend, .. } = end.holder else { return };
        if end.closing || end.send.as_ref().is_none_or(|s| s.told != serial) {
            return;
        }
        if let Some(send) = end.send.take() {
            let sent = Completion::Sent { token: send.token, result: send.total as i32 };
            self.backends[backend].ready.push_back(sent);
        }
    }

    pub(crate) fn segment_arrives(&mut self, id: u64, to: Side, data: &[u8]) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let sender = conn.end(to.other());
        sender.in_transit -= data.len() as u64;
        let end = conn.end(to);
        if end.error.is_none() && end.holder == Holder::Gone {
            // Nobody is there any more.
            self.reset(id, to);
        } else if end.error.is_none() && !end.closing {
            end.rx.extend(data);
            self.note("segment", id, to as u64, data.len() as u64);
            self.deliver(id, to);
        }
        self.forget(id);
    }

    pub(crate) fn finish_arrives(&mut self, id: u64, to: Side) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.end(to).ended = true;
            self.note("finish", id, to as u64, 0);
            self.deliver(id, to);
            self.forget(id);
        }
    }

    /// Gives arrived bytes to the receive that waits.
    fn deliver(&mut self, id: u64, side: Side) {
        let fragment = self.config.net.fragment;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let end = conn.end(side);
        let Holder::Socket { backend, .. } = end.holder else { return };
        if end.closing || (end.rx.is_empty() && !end.ended) {
            return;
        }
        let Some(recv) = end.recv.take() else { return };
        let room: u64 = recv.into.iter().map(|e| u64::from(e.len)).sum();
        let mut n = room.min(end.rx.len() as u64);
        if n > 1 && self.rng.chance(fragment) {
            n = self.rng.between(1, n);
        }
        copy_in(&self.backends[backend].arenas, &recv.into, end.rx.drain(..n as usize));
        self.backends[backend].ready.push_back(Completion::Received { token: recv.token, result: n as i32 });
        self.pump(id, side.other());
    }

    pub(crate) fn start_close(&mut self, n: usize, socket: u32, token: SocketToken) {
        let delay = self.rng.below(50_000);
        let backend = &mut self.backends[n];
        let known = match backend.sockets.get_mut(socket) {
            None => false,
            Some(SocketState::Listener { closing, .. }) => closing.replace(token).is_none(),
            Some(SocketState::Connection { conn }) => {
                let conn = *conn;
                backend.closing.push((socket, token));
                match self.conns.get_mut(&conn) {
                    Some(c) => !std::mem::replace(&mut c.target.closing, true),
                    None => true,
                }
            }
        };
        if known {
            let at = self.now.after(Nanos(delay));
            self.schedule(at, Event::Close { backend: n, socket });
        } else {
            self.backends[n].ready.push_back(Completion::Closed { token });
        }
    }

    pub(crate) fn close_done(&mut self, n: usize, socket: u32) {
        let backend = &mut self.backends[n];
        match backend.sockets.remove(socket) {
            None => {}
            Some(SocketState::Listener { backlog, accept, closing, .. }) => {
                if let Some(token) = accept {
                    backend.ready.push_back(Completion::Accepted { token, result: Err(-libc::ECANCELED) });
                }
                backend.ready.extend(closing.map(|token| Completion::Closed { token }));
                for conn in backlog {
                    self.reset(conn, Side::Target);
                }
            }
            Some(SocketState::Connection { conn }) => {
                self.fail_pending(conn, Side::Target, -libc::ECANCELED);
                if let Some(c) = self.conns.get_mut(&conn) {
                    c.target.closing = false;
                    c.target.pump_at = None;
                }
                self.finish(conn, Side::Target, true);
                let backend = &mut self.backends[n];
                if let Some(at) = backend.closing.iter().position(|c| c.0 == socket) {
                    let token = backend.closing.remove(at).1;
                    backend.ready.push_back(Completion::Closed { token });
                }
            }
        }
    }

    /// Drops a connection that nobody holds.
    pub(crate) fn forget(&mut self, id: u64) {
        if let Some(conn) = self.conns.get(&id)
            && conn.peer.holder == Holder::Gone
            && conn.target.holder == Holder::Gone
        {
            self.conns.remove(&id);
        }
    }

    pub(crate) fn crash_sockets(&mut self) {
        let held = self.conns.iter().filter(|(_, conn)| conn.target.holder != Holder::Gone);
        let ids: Vec<u64> = held.map(|(id, _)| *id).collect();
        for id in ids {
            self.reset(id, Side::Target);
        }
    }
}

fn check(arenas: &Arenas, extents: &[Extent]) -> Result<u32, i32> {
    if extents.len() > crate::backend::MAX_SEGMENTS {
        return Err(-libc::EMSGSIZE);
    }
    if extents.iter().any(|e| arenas.resolve(*e).is_none()) {
        return Err(-libc::EFAULT);
    }
    match extents.iter().map(|e| e.len).sum() {
        0 => Err(-libc::EINVAL),
        total => Ok(total),
    }
}

/// Copies `n` bytes at `from` of the extents.
pub(crate) fn copy_out(arenas: &Arenas, extents: &[Extent], from: u32, n: u32, out: &mut Vec<u8>) {
    let (mut skip, mut left) = (from, n);
    for extent in extents {
        if left == 0 {
            break;
        }
        let part = extent.slice(skip, left);
        skip = skip.saturating_sub(extent.len);
        left -= part.len;
        let Some(base) = arenas.resolve(part) else { return };
        // SAFETY: `resolve` checked the range, the arena is mapped while `arenas` lives, and the extents belong to the
        // operation in flight on whose behalf they are read; everything runs in one thread.
        out.extend_from_slice(unsafe { std::slice::from_raw_parts(base.as_ptr(), part.len as usize) });
    }
}

/// Copies bytes to the start of the extents.
pub(crate) fn copy_in(arenas: &Arenas, extents: &[Extent], mut data: impl ExactSizeIterator<Item = u8>) {
    for extent in extents {
        let part = extent.slice(0, u32::try_from(data.len()).unwrap_or(u32::MAX));
        let Some(base) = arenas.resolve(part) else { return };
        // SAFETY: as in `copy_out`; the extents belong to the operation in flight that writes them.
        let bytes = unsafe { std::slice::from_raw_parts_mut(base.as_ptr(), part.len as usize) };
        for (to, from) in bytes.iter_mut().zip(&mut data) {
            *to = from;
        }
    }
}
