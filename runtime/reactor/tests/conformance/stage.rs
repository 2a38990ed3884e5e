//! What a story needs: a back-end, its pool, a peer and files, real or simulated.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use scst_core::Nanos;
use scst_core::buffer::{Memory, SgList};
use scst_mem::BufferPool;
use scst_reactor::backend::{Backend, Completion, SocketId, SocketToken};
use scst_reactor::sim::{PeerState, SimPeer, SimWorld};

/// No story takes that long; it only turns a hang into a failure.
const LONG: Nanos = Nanos::from_secs(30);

pub(crate) struct Stage<B> {
    pub(crate) backend: B,
    pub(crate) pool: BufferPool,
    world: Option<SimWorld>,
    seen: VecDeque<Completion>,
}

impl<B: Backend> Stage<B> {
    pub(crate) fn real(backend: B, pool: BufferPool) -> Self {
        Self { backend, pool, world: None, seen: VecDeque::new() }
    }

    pub(crate) fn simulated(backend: B, pool: BufferPool, world: SimWorld) -> Self {
        Self { backend, pool, world: Some(world), seen: VecDeque::new() }
    }

    /// Waits up to a deadline, letting virtual time pass where there is such.
    pub(crate) fn wait_until(&mut self, deadline: Nanos) -> Vec<Completion> {
        let mut out = Vec::new();
        loop {
            self.backend.wait(Some(deadline), &mut out).unwrap();
            match &self.world {
                Some(world) if out.is_empty() && self.backend.now() < deadline => {
                    world.step();
                }
                _ => return out,
            }
        }
    }

    /// The next completion.
    pub(crate) fn next(&mut self) -> Completion {
        if self.seen.is_empty() {
            let deadline = self.backend.now().after(LONG);
            let more = self.wait_until(deadline);
            self.seen.extend(more);
        }
        self.seen.pop_front().expect("a completion")
    }

    /// The next completion, while the peer receives `n` bytes.
    pub(crate) fn next_while_receiving(&mut self, peer: &mut Peer, n: usize) -> (Completion, Vec<u8>) {
        if let Peer::Simulated { peer, world, got } = peer {
            let mut out = Vec::new();
            while out.is_empty() || got.len() < n {
                peer.recv(got);
                let now = self.backend.now();
                self.backend.wait(Some(now), &mut out).unwrap();
                if out.is_empty() || got.len() < n {
                    world.step().expect("more to come");
                }
            }
            self.seen.extend(out);
            return (self.next(), got.drain(..n).collect());
        }
        std::thread::scope(|scope| {
            let receiver = scope.spawn(|| peer.recv(n));
            (self.next(), receiver.join().unwrap())
        })
    }

    /// The next `n` completions.
    pub(crate) fn take(&mut self, n: usize) -> Vec<Completion> {
        (0..n).map(|_| self.next()).collect()
    }

    /// Nothing has been reported and nothing is there to be.
    pub(crate) fn assert_quiet(&mut self) {
        let now = self.backend.now();
        let mut out = Vec::new();
        self.backend.wait(Some(now), &mut out).unwrap();
        assert_eq!((self.seen.make_contiguous(), &out[..]), (&mut [][..], &[][..]));
    }

    pub(crate) fn listen(&mut self) -> (SocketId, SocketAddr) {
        let listener = self.backend.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = self.backend.local_addr(listener).unwrap();
        (listener, addr)
    }

    pub(crate) fn connect(&self, addr: SocketAddr) -> Peer {
        match &self.world {
            None => {
                let stream = TcpStream::connect(addr).unwrap();
                stream.set_read_timeout(Some(Duration::from_nanos(LONG.0))).unwrap();
                Peer::Real { stream, sender: None }
            }
            Some(world) => {
                Peer::Simulated { peer: world.connect(addr).unwrap(), world: world.clone(), got: Vec::new() }
            }
        }
    }

    /// A connection, accepted.
    pub(crate) fn connected(&mut self) -> (SocketId, Peer) {
        let (listener, addr) = self.listen();
        self.connected_at(listener, addr)
    }

    pub(crate) fn connected_at(&mut self, listener: SocketId, addr: SocketAddr) -> (SocketId, Peer) {
        let peer = self.connect(addr);
        self.backend.accept(listener, SocketToken(99));
        match self.next() {
            Completion::Accepted { token: SocketToken(99), result: Ok(socket) } => (socket, peer),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn buffer(&mut self, data: &[u8]) -> SgList {
        let sg = self.pool.allocate(data.len() as u32).unwrap();
        assert_eq!(self.pool.copy_in(&sg, 0, data), data.len());
        sg
    }

    pub(crate) fn contents(&self, sg: &SgList) -> Vec<u8> {
        let mut out = vec![0; sg.bytes() as usize];
        self.pool.copy_out(sg, 0, &mut out);
        out
    }

    /// A file of so many zeros, all holes.
    pub(crate) fn file(&self, size: u64) -> Arc<File> {
        match &self.world {
            None => {
                let file = tempfile::tempfile().unwrap();
                file.set_len(size).unwrap();
                Arc::new(file)
            }
            Some(world) => world.disk(size).file(),
        }
    }

    pub(crate) fn recv(&mut self, socket: SocketId, sg: &SgList, token: u64) {
        self.backend.recv(socket, sg.extents(), &mut self.pool, SocketToken(token));
    }

    pub(crate) fn send(&mut self, socket: SocketId, sg: &SgList, token: u64) {
        self.backend.send(socket, sg.extents(), &self.pool, SocketToken(token));
    }

    pub(crate) fn received(&mut self) -> i32 {
        match self.next() {
            Completion::Received { result, .. } => result,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) enum Peer {
    Real { stream: TcpStream, sender: Option<JoinHandle<()>> },
    Simulated { peer: SimPeer, world: SimWorld, got: Vec<u8> },
}

impl Peer {
    /// Sends without waiting for anybody to receive.
    pub(crate) fn send(&mut self, data: &[u8]) {
        match self {
            Self::Real { stream, sender } => {
                if let Some(earlier) = sender.take() {
                    earlier.join().unwrap();
                }
                let (mut stream, data) = (stream.try_clone().unwrap(), data.to_vec());
                *sender = Some(std::thread::spawn(move || stream.write_all(&data).unwrap()));
            }
            Self::Simulated { peer, .. } => peer.send(data),
        }
    }

    /// Receives exactly so many bytes.
    pub(crate) fn recv(&mut self, n: usize) -> Vec<u8> {
        match self {
            Self::Real { stream, .. } => {
                let mut out = vec![0; n];
                stream.read_exact(&mut out).unwrap();
                out
            }
            Self::Simulated { peer, world, got } => {
                while got.len() < n {
                    assert_eq!(peer.recv(got), PeerState::Open);
                    if got.len() < n {
                        world.step().expect("more to come");
                    }
                }
                got.drain(..n).collect()
            }
        }
    }

    /// Receives up to the end of the stream.
    pub(crate) fn recv_to_end(&mut self) -> Vec<u8> {
        match self {
            Self::Real { stream, .. } => {
                let mut out = Vec::new();
                stream.read_to_end(&mut out).unwrap();
                out
            }
            Self::Simulated { peer, world, got } => {
                while peer.recv(got) != PeerState::Ended {
                    world.step().expect("an end");
                }
                std::mem::take(got)
            }
        }
    }

    /// Ends its half of the connection, after what was sent.
    pub(crate) fn shutdown(&mut self) {
        match self {
            Self::Real { stream, sender } => {
                if let Some(sender) = sender.take() {
                    sender.join().unwrap();
                }
                stream.shutdown(std::net::Shutdown::Write).unwrap();
            }
            Self::Simulated { peer, .. } => peer.shutdown(),
        }
    }

    /// Breaks the connection. Something must have been sent to it that it has not received: closing then is a reset.
    pub(crate) fn reset(self) {
        match self {
            Self::Real { stream, .. } => {
                assert_eq!(stream.peek(&mut [0]).unwrap(), 1);
            }
            Self::Simulated { peer, .. } => peer.reset(),
        }
    }
}
