//! What a simulated world promises beyond the contract of `Backend`: seeds, crashes, faults, scheduling.

use std::collections::{BTreeMap, BTreeSet};

use scst_core::Nanos;
use scst_core::buffer::{Memory, SgList};
use scst_core::ids::CmdId;
use scst_core::io::{FileId, IoOp, IoQueue, IoToken};
use scst_mem::{BufferPool, PoolConfig};
use scst_reactor::backend::{Backend, Completion, FileRegistry, SocketId, SocketToken};
use scst_reactor::sim::{Crash, PeerState, SimBackend, SimConfig, SimDisk, SimPeer, SimWorld};

fn pool() -> BufferPool {
    BufferPool::new(PoolConfig { budget: 4 << 20, arena_bytes: 1 << 20, huge_pages: false, ..PoolConfig::default() })
}

/// A reactor that echoes what it receives and writes it to a disk, byte `n` of a connection at offset `n`.
struct Echo {
    backend: SimBackend,
    pool: BufferPool,
    listener: SocketId,
    disk: FileId,
    conns: BTreeMap<u64, Connection>,
    next: u64,
    out: Vec<Completion>,
}

struct Connection {
    socket: SocketId,
    buffer: SgList,
    offset: u64,
}

impl Echo {
    fn new(world: &SimWorld, port: u16, disk: &SimDisk) -> Self {
        let pool = pool();
        let mut backend = world.backend(pool.arenas().clone());
        let listener = backend.listen(([127, 0, 0, 1], port).into()).unwrap();
        let disk = backend.register_file(disk.file(), false);
        backend.accept(listener, SocketToken(0));
        Self { backend, pool, listener, disk, conns: BTreeMap::new(), next: 1, out: Vec::new() }
    }

    fn turn(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        self.backend.wait(None, &mut out).unwrap();
        for completion in out.drain(..) {
            self.handle(completion);
        }
        self.out = out;
    }

    fn handle(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { result, .. } => {
                if let Ok(socket) = result {
                    let connection = Connection { socket, buffer: self.pool.allocate(8192).unwrap(), offset: 0 };
                    self.conns.insert(self.next, connection);
                    self.receive(self.next);
                    self.next += 1;
                }
                self.backend.accept(self.listener, SocketToken(0));
            }
            Completion::Received { token, result } if result <= 0 => self.close(token.0),
            Completion::Received { token, result } => {
                let conn = self.conns.get_mut(&token.0).unwrap();
                let cmd = CmdId { index: token.0 as u32, generation: result as u32 };
                let (sg, len) = (&conn.buffer, result as u32);
                let op = IoOp::Write { file: self.disk, offset: conn.offset, sg, sg_offset: 0, len, dsync: false };
                if self.backend.submit(IoToken { cmd, tag: 0 }, op).is_err() {
                    self.close(token.0);
                }
            }
            Completion::Io(io) => {
                let (n, len) = (u64::from(io.token.cmd.index), io.token.cmd.generation);
                if io.result != len as i32 {
                    self.close(n);
                    return;
                }
                let conn = self.conns.get_mut(&n).unwrap();
                conn.offset += u64::from(len);
                let part = [conn.buffer.extents()[0].slice(0, len)];
                self.backend.send(conn.socket, &part, &self.pool, SocketToken(n));
            }
            Completion::Sent { token, result } if result < 0 => self.close(token.0),
            Completion::Sent { token, .. } => self.receive(token.0),
            Completion::Closed { token } => {
                let conn = self.conns.remove(&token.0).unwrap();
                self.pool.release(&conn.buffer);
            }
            Completion::Woken => {}
        }
    }

    fn receive(&mut self, n: u64) {
        let conn = &self.conns[&n];
        self.backend.recv(conn.socket, conn.buffer.extents(), &mut self.pool, SocketToken(n));
    }

    fn close(&mut self, n: u64) {
        self.backend.close(self.conns[&n].socket, SocketToken(n));
    }
}

/// Two reactors, some peers that send and close; until nothing happens any more. Returns how many peers got all of
/// their bytes back.
fn run(config: SimConfig) -> (usize, u64) {
    let world = SimWorld::new(config);
    let disk = world.disk(1 << 20);
    let mut echoes = [Echo::new(&world, 1, &disk), Echo::new(&world, 2, &disk)];
    let mut peers: Vec<(SimPeer, Vec<u8>, Vec<u8>)> = (0..8u8)
        .map(|n| {
            let peer = world.connect(([127, 0, 0, 1], 1 + u16::from(n % 2)).into()).unwrap();
            let data: Vec<u8> = (0..40_000u32).map(|i| i as u8 ^ n).collect();
            peer.send(&data);
            (peer, data, Vec::new())
        })
        .collect();
    let mut complete = 0;
    loop {
        while let Some(n) = world.pick() {
            echoes[n].turn();
        }
        for (peer, data, mut got) in std::mem::take(&mut peers) {
            let state = peer.recv(&mut got);
            assert_eq!(got, data[..got.len()], "bytes come back in order and unchanged");
            if got.len() == data.len() {
                complete += 1;
                peer.close();
            } else if state == PeerState::Open {
                peers.push((peer, data, got));
            } else {
                peer.close();
            }
        }
        if world.step().is_none() {
            break;
        }
    }
    assert!(peers.is_empty(), "no peer is left hanging: {:?}", world.trace());
    for echo in &echoes {
        assert_eq!(echo.pool.statistics().in_use, 0, "no buffer is lost");
        assert!(echo.conns.is_empty());
    }
    assert_eq!(world.connections(), 0, "no connection is left over");
    (complete, world.fingerprint())
}

#[test]
fn the_same_seed_is_the_same_run() {
    let mut prints = BTreeSet::new();
    for seed in 0..20 {
        let first = run(SimConfig::faulty(seed));
        assert_eq!(first, run(SimConfig::faulty(seed)), "seed {seed}");
        prints.insert(first.1);
    }
    assert_eq!(prints.len(), 20, "and another seed another");
}

#[test]
fn without_faults_everything_arrives_and_with_faults_not() {
    let all = |config: fn(u64) -> SimConfig| (0..30).map(|seed| run(config(seed)).0).sum::<usize>();
    assert_eq!(all(SimConfig::calm), 240);
    assert_eq!(all(SimConfig::rough), 240);
    let some = all(SimConfig::faulty);
    assert!((1..240).contains(&some), "{some}");
}

#[test]
fn who_has_nothing_to_do_sleeps_until_its_deadline() {
    let world = SimWorld::new(SimConfig::calm(1));
    let pool = pool();
    let mut backend = world.backend(pool.arenas().clone());
    assert_eq!(world.pick(), Some(0), "the first turn");
    let mut out = Vec::new();
    let deadline = world.now().after(Nanos::from_millis(5));
    backend.wait(Some(deadline), &mut out).unwrap();
    assert_eq!((world.pick(), world.next_time()), (None, Some(deadline)));
    assert_eq!(world.step(), Some(deadline));
    assert_eq!(world.pick(), Some(0));
    backend.wait(None, &mut out).unwrap();
    assert_eq!((world.pick(), world.step(), backend.now()), (None, None, deadline));
    backend.waker().wake();
    assert_eq!(world.pick(), Some(0));
    backend.wait(None, &mut out).unwrap();
    assert_eq!(out, [Completion::Woken]);
}

struct Storage {
    world: SimWorld,
    pool: BufferPool,
    backend: SimBackend,
    disk: SimDisk,
    file: FileId,
}

impl Storage {
    fn new(config: SimConfig) -> Self {
        let world = SimWorld::new(config);
        let pool = pool();
        let mut backend = world.backend(pool.arenas().clone());
        let disk = world.disk(1 << 20);
        let file = backend.register_file(disk.file(), true);
        Self { world, pool, backend, disk, file }
    }

    fn submit(&mut self, offset: u64, value: u8, len: u32) {
        let sg = self.pool.allocate(len).unwrap();
        self.pool.fill(&sg, 0, len, value);
        let token = IoToken { cmd: CmdId { index: 0, generation: 0 }, tag: value };
        let op = IoOp::Write { file: self.file, offset, sg: &sg, sg_offset: 0, len, dsync: false };
        self.backend.submit(token, op).unwrap();
    }

    fn results(&mut self) -> Vec<(u8, i32)> {
        while self.world.step().is_some() {}
        let mut out = Vec::new();
        while self.world.runnable(0) {
            self.backend.wait(None, &mut out).unwrap();
        }
        let mut all: Vec<_> = out
            .iter()
            .map(|c| match c {
                Completion::Io(io) => (io.token.tag, io.result),
                other => panic!("{other:?}"),
            })
            .collect();
        all.sort_unstable();
        all
    }

    fn flush(&mut self) {
        let token = IoToken { cmd: CmdId { index: 0, generation: 0 }, tag: 99 };
        self.backend.submit(token, IoOp::Flush { file: self.file }).unwrap();
    }

    fn block(&self, offset: u64) -> BTreeSet<u8> {
        let mut data = [0; 4096];
        self.disk.peek(offset, &mut data);
        data.into_iter().collect()
    }
}

#[test]
fn a_crash_of_the_process_keeps_what_was_written_and_a_loss_of_power_what_was_flushed() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..100 {
        for crash in [Crash::Process, Crash::Power] {
            let mut s = Storage::new(SimConfig::calm(seed));
            s.submit(0, 1, 4096);
            assert_eq!(s.results(), [(1, 4096)]);
            s.flush();
            s.results();
            s.submit(4096, 2, 4096);
            assert_eq!(s.results(), [(2, 4096)]);
            s.submit(8192, 3, 4096);
            s.world.crash(crash);
            assert_eq!(s.results(), [], "a crashed back-end reports nothing");
            assert_eq!(s.block(0), [1].into());
            match crash {
                Crash::Process => assert_eq!(s.block(4096), [2].into()),
                Crash::Power if s.block(4096) == [2].into() => kept += 1,
                Crash::Power => lost += 1,
            }
            assert!(s.block(8192).is_subset(&[0, 3].into()), "in flight: all, nothing or a part");
        }
    }
    assert!(lost > 0 && kept > 0, "{lost} {kept}");
}

#[test]
fn a_flush_promises_nothing_of_writes_that_were_in_flight() {
    let mut lost = 0;
    for seed in 0..100 {
        let mut s = Storage::new(SimConfig::calm(seed));
        s.submit(0, 1, 4096);
        s.flush();
        assert_eq!(s.results(), [(1, 4096), (99, 0)]);
        s.world.crash(Crash::Power);
        lost += u32::from(s.block(0) != [1].into());
    }
    assert!(lost > 0);
}

#[test]
fn faults_of_a_disk_are_reported_as_what_they_are() {
    let mut s = Storage::new(SimConfig::calm(5));
    s.disk.fail_range(4096..4608, libc::EIO);
    s.submit(0, 1, 4096);
    s.submit(512, 2, 8192);
    assert_eq!(s.results(), [(1, 4096), (2, -libc::EIO)]);
    s.disk.fail(Some(libc::ENOSPC));
    s.submit(0, 3, 512);
    assert_eq!(s.results(), [(3, -libc::ENOSPC)]);
    s.disk.fail(None);
    s.disk.repair();
    s.submit(512, 4, 8192);
    assert_eq!(s.results(), [(4, 8192)]);
    let mut faults = SimConfig::calm(5).disk;
    faults.short = 1_000_000;
    s.world.set_disk_faults(faults);
    s.submit(0, 5, 8192);
    let short = s.results()[0].1;
    assert!((512..8192).contains(&short) && short % 512 == 0, "{short}");
    faults = SimConfig::calm(5).disk;
    faults.queue_full = 1_000_000;
    s.world.set_disk_faults(faults);
    let op = IoOp::Flush { file: s.file };
    let token = IoToken { cmd: CmdId { index: 0, generation: 0 }, tag: 0 };
    assert!(s.backend.submit(token, op).is_err());
}

#[test]
fn a_peer_that_does_not_receive_stalls_the_send_at_the_window() {
    let world = SimWorld::new(SimConfig::calm(3));
    let mut pool = pool();
    let mut backend = world.backend(pool.arenas().clone());
    let listener = backend.listen("[::]:3260".parse().unwrap()).unwrap();
    assert_eq!(world.connect("127.0.0.1:3261".parse().unwrap()).unwrap_err(), -libc::ECONNREFUSED);
    let peer = world.connect("127.0.0.1:3260".parse().unwrap()).unwrap();
    backend.accept(listener, SocketToken(1));
    let mut out = Vec::new();
    while world.step().is_some() {}
    backend.wait(None, &mut out).unwrap();
    let Completion::Accepted { result: Ok(socket), .. } = out.remove(0) else { panic!() };
    assert_eq!(backend.peer_addr(socket).ok(), peer.local_addr());
    let sg = pool.allocate(1 << 20).unwrap();
    backend.send(socket, sg.extents(), &pool, SocketToken(2));
    while world.step().is_some() {}
    assert_eq!((peer.available(), world.runnable(0)), (256 << 10, false));
    let mut got = Vec::new();
    while got.len() < 1 << 20 {
        assert_eq!(peer.recv(&mut got), PeerState::Open);
        world.step();
    }
    backend.wait(None, &mut out).unwrap();
    assert_eq!(out, [Completion::Sent { token: SocketToken(2), result: 1 << 20 }]);
}
