//! The other end of a simulated connection: an initiator, driven by the simulation.

use std::net::SocketAddr;

use super::net::Side;
use super::world::SimWorld;

/// How a connection is doing, as the peer sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerState {
    /// More may come.
    Open,
    /// The target has ended its half.
    Ended,
    /// Broken, with this (negative) errno.
    Broken(i32),
}

/// A simulated initiator's connection. Dropping it leaves the connection open: end it with `close` or `reset`.
#[derive(Debug)]
pub struct SimPeer {
    world: SimWorld,
    conn: u64,
}

impl SimPeer {
    pub(crate) fn new(world: SimWorld, conn: u64) -> Self {
        Self { world, conn }
    }

    /// The connection's number, as in the trace.
    pub fn id(&self) -> u64 {
        self.conn
    }

    /// The peer's own address.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.world.lock().conns.get_mut(&self.conn).map(|c| c.end(Side::Peer).addr)
    }

    /// Queues bytes; they travel as the window and the network allow.
    pub fn send(&self, data: &[u8]) {
        self.world.lock().peer_send(self.conn, data);
    }

    /// Bytes that have arrived and were not taken. While they are not, the target's sends stall at the window.
    pub fn available(&self) -> usize {
        self.world.lock().conns.get_mut(&self.conn).map_or(0, |c| c.end(Side::Peer).rx.len())
    }

    /// Takes what has arrived, and says how the connection is doing after it.
    pub fn recv(&self, out: &mut Vec<u8>) -> PeerState {
        let mut world = self.world.lock();
        world.peer_recv(self.conn, out);
        let Some(conn) = world.conns.get_mut(&self.conn) else { return PeerState::Broken(-libc::ECONNRESET) };
        let end = conn.end(Side::Peer);
        match end.error {
            Some(errno) => PeerState::Broken(errno),
            None if end.ended => PeerState::Ended,
            None => PeerState::Open,
        }
    }

    /// Ends the peer's half after what is queued; it can still receive.
    pub fn shutdown(&self) {
        self.world.lock().finish(self.conn, Side::Peer, false);
    }

    /// Ends the connection after what is queued.
    pub fn close(self) {
        self.world.lock().finish(self.conn, Side::Peer, true);
    }

    /// Breaks the connection.
    pub fn reset(self) {
        self.world.lock().reset(self.conn, Side::Peer);
    }
}
