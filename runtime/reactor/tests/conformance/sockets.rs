//! Stories about sockets.

use scst_core::Nanos;
use scst_core::buffer::{Extent, SgList};
use scst_reactor::backend::{Backend, Completion, MAX_SEGMENTS, SocketId, SocketToken};

use crate::stage::Stage;

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Cuts a buffer into extents of odd lengths, not all of it, in an order that is not that of the memory.
fn scattered(sg: &SgList) -> Vec<Extent> {
    let whole = sg.extents()[0];
    let mut cuts: Vec<Extent> = (0..MAX_SEGMENTS as u32).map(|i| whole.slice(i * 1000, 1 + i * 3)).collect();
    cuts.reverse();
    cuts
}

fn total(extents: &[Extent]) -> usize {
    extents.iter().map(|e| e.len as usize).sum()
}

pub(crate) fn bytes_are_echoed_through_many_extents<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let (socket, mut peer) = stage.connected();
    let sg = stage.pool.allocate(1 << 20).unwrap();
    let extents = scattered(&sg);
    let data = pattern(total(&extents) - 77);
    peer.send(&data);
    // Receive piece by piece, each time into the rest.
    let mut got = 0;
    while got < data.len() {
        let mut skip = got as u32;
        let rest: Vec<Extent> = extents
            .iter()
            .filter_map(|e| {
                let part = e.slice(skip, u32::MAX);
                skip = skip.saturating_sub(e.len);
                (part.len > 0).then_some(part)
            })
            .collect();
        stage.backend.recv(socket, &rest, &mut stage.pool, SocketToken(1));
        let n = stage.received();
        assert!(n > 0, "{n}");
        got += n as usize;
    }
    assert_eq!(got, data.len());
    let mut all: Vec<u8> = extents.iter().flat_map(|e| stage.pool.bytes(*e)).copied().collect();
    all.truncate(got);
    assert!(all == data, "the bytes are in the extents in order");
    // And back in one send; the tail of the last extent was not received, so it is cut off first.
    let mut back = extents;
    let last = back.last_mut().unwrap();
    *last = last.slice(0, 1);
    let mut cut = Vec::new();
    let mut left = data.len() as u32;
    for e in &back {
        let part = e.slice(0, left);
        left -= part.len;
        if part.len > 0 {
            cut.push(part);
        }
    }
    stage.backend.send(socket, &cut, &stage.pool, SocketToken(2));
    let (sent, back) = stage.next_while_receiving(&mut peer, data.len());
    assert_eq!(sent, Completion::Sent { token: SocketToken(2), result: data.len() as i32 });
    assert!(back == data);
    stage.assert_quiet();
}

pub(crate) fn a_large_send_completes_whole<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let (socket, mut peer) = stage.connected();
    let data = pattern(8 << 20);
    let sg = stage.buffer(&data);
    // Many times what the buffers of a connection take.
    let thrice: Vec<Extent> = sg.extents().iter().chain(sg.extents()).chain(sg.extents()).copied().collect();
    stage.backend.send(socket, &thrice, &stage.pool, SocketToken(1));
    let (sent, back) = stage.next_while_receiving(&mut peer, 24 << 20);
    assert_eq!(sent, Completion::Sent { token: SocketToken(1), result: 24 << 20 });
    assert!(back.chunks(8 << 20).all(|part| part == data));
}

pub(crate) fn a_receive_completes_with_what_there_is<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let (socket, mut peer) = stage.connected();
    let sg = stage.pool.allocate(4096).unwrap();
    stage.recv(socket, &sg, 1);
    stage.assert_quiet();
    peer.send(b"x");
    assert_eq!(stage.next(), Completion::Received { token: SocketToken(1), result: 1 });
    assert_eq!(stage.pool.bytes(sg.extents()[0])[0], b'x');
    // Bytes that came while no receive was waiting.
    peer.send(b"yz");
    let mut got = Vec::new();
    while got.len() < 2 {
        stage.recv(socket, &sg, 2);
        let n = stage.received() as usize;
        got.extend_from_slice(&stage.pool.bytes(sg.extents()[0])[..n]);
    }
    assert_eq!(got, b"yz");
}

pub(crate) fn the_end_of_the_stream_is_zero_bytes<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let (socket, mut peer) = stage.connected();
    let sg = stage.pool.allocate(4096).unwrap();
    peer.send(b"bye");
    peer.shutdown();
    let mut got = 0;
    while got < 3 {
        stage.recv(socket, &sg, 1);
        got += stage.received();
    }
    for _ in 0..2 {
        stage.recv(socket, &sg, 2);
        assert_eq!(stage.next(), Completion::Received { token: SocketToken(2), result: 0 });
    }
    // The other half still works.
    let answer = stage.buffer(b"answer");
    stage.send(socket, &answer, 3);
    assert_eq!(stage.next(), Completion::Sent { token: SocketToken(3), result: 6 });
    assert_eq!(peer.recv(6), b"answer");
}

pub(crate) fn a_reset_fails_what_is_in_flight<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let (socket, peer) = stage.connected();
    let sg = stage.pool.allocate(4096).unwrap();
    let word = stage.buffer(b"unread");
    stage.send(socket, &word, 1);
    assert_eq!(stage.next(), Completion::Sent { token: SocketToken(1), result: 6 });
    stage.recv(socket, &sg, 2);
    stage.assert_quiet();
    peer.reset();
    assert_eq!(stage.next(), Completion::Received { token: SocketToken(2), result: -libc::ECONNRESET });
    stage.send(socket, &word, 3);
    assert_eq!(stage.next(), Completion::Sent { token: SocketToken(3), result: -libc::EPIPE });
    stage.backend.close(socket, SocketToken(4));
    assert_eq!(stage.next(), Completion::Closed { token: SocketToken(4) });
}

pub(crate) fn close_ends_what_is_in_flight_first<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let (socket, _peer) = stage.connected();
    let sg = stage.pool.allocate(4096).unwrap();
    // More than the peer, which does not receive, and the buffers in between can take.
    let much = stage.pool.allocate(8 << 20).unwrap();
    let twice: Vec<Extent> = much.extents().iter().chain(much.extents()).chain(much.extents()).copied().collect();
    stage.recv(socket, &sg, 1);
    stage.backend.send(socket, &twice, &stage.pool, SocketToken(2));
    let now = stage.backend.now();
    assert_eq!(stage.wait_until(now), []);
    stage.backend.close(socket, SocketToken(3));
    let mut ends = stage.take(3);
    assert_eq!(ends.pop(), Some(Completion::Closed { token: SocketToken(3) }));
    ends.sort_by_key(|c| matches!(c, Completion::Sent { .. }));
    for (end, token) in ends.iter().zip([1, 2]) {
        match end {
            Completion::Received { token: t, result } | Completion::Sent { token: t, result } => {
                assert_eq!(*t, SocketToken(token));
                assert!(*result < 0, "{ends:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    stage.assert_quiet();
    // The buffers are free: nothing is written to them any more.
    stage.pool.release(&sg);
    stage.pool.release(&much);
}

pub(crate) fn an_idle_socket_closes_and_its_id_is_dead<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let (socket, mut peer) = stage.connected();
    stage.backend.close(socket, SocketToken(1));
    assert_eq!(stage.next(), Completion::Closed { token: SocketToken(1) });
    assert_eq!(peer.recv_to_end(), b"");
    let sg = stage.pool.allocate(4096).unwrap();
    stage.recv(socket, &sg, 2);
    assert_eq!(stage.next(), Completion::Received { token: SocketToken(2), result: -libc::EBADF });
    stage.send(socket, &sg, 3);
    assert_eq!(stage.next(), Completion::Sent { token: SocketToken(3), result: -libc::EBADF });
    stage.backend.close(socket, SocketToken(4));
    assert_eq!(stage.next(), Completion::Closed { token: SocketToken(4) });
    assert!(stage.backend.peer_addr(socket).is_err());
}

pub(crate) fn a_listener_closes_under_an_accept<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let (listener, addr) = stage.listen();
    stage.backend.accept(listener, SocketToken(1));
    stage.assert_quiet();
    stage.backend.close(listener, SocketToken(2));
    match stage.next() {
        Completion::Accepted { token: SocketToken(1), result: Err(errno) } => assert!(errno < 0),
        other => panic!("{other:?}"),
    }
    assert_eq!(stage.next(), Completion::Closed { token: SocketToken(2) });
    // The address is free again.
    let again = stage.backend.listen(addr).unwrap();
    assert_eq!(stage.backend.local_addr(again).unwrap(), addr);
    stage.backend.accept(again, SocketToken(3));
    let peer = stage.connect(addr);
    assert!(matches!(stage.next(), Completion::Accepted { token: SocketToken(3), result: Ok(_) }));
    drop(peer);
}

pub(crate) fn what_was_sent_before_close_arrives<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let (socket, mut peer) = stage.connected();
    let last = stage.buffer(b"logged out");
    stage.send(socket, &last, 1);
    assert_eq!(stage.next(), Completion::Sent { token: SocketToken(1), result: 10 });
    stage.backend.close(socket, SocketToken(2));
    assert_eq!(stage.next(), Completion::Closed { token: SocketToken(2) });
    assert_eq!(peer.recv_to_end(), b"logged out");
}

pub(crate) fn our_half_ends_and_the_other_goes_on<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let (socket, mut peer) = stage.connected();
    let sg = stage.pool.allocate(4096).unwrap();
    let last = stage.buffer(b"logged out");
    stage.send(socket, &last, 1);
    assert_eq!(stage.next(), Completion::Sent { token: SocketToken(1), result: 10 });
    stage.recv(socket, &sg, 2);
    stage.backend.shutdown_write(socket);
    assert_eq!(peer.recv_to_end(), b"logged out");
    stage.assert_quiet();
    stage.send(socket, &last, 3);
    assert_eq!(stage.next(), Completion::Sent { token: SocketToken(3), result: -libc::EPIPE });
    peer.send(b"late");
    let mut got = Vec::new();
    while got.len() < 4 {
        let n = stage.received();
        assert!(n > 0, "{n}");
        got.extend_from_slice(&stage.pool.bytes(sg.extents()[0])[..n as usize]);
        stage.recv(socket, &sg, 2);
    }
    assert_eq!(got, b"late");
    peer.shutdown();
    assert_eq!(stage.next(), Completion::Received { token: SocketToken(2), result: 0 });
    stage.backend.close(socket, SocketToken(4));
    assert_eq!(stage.next(), Completion::Closed { token: SocketToken(4) });
    // Nothing is there any more to end.
    stage.backend.shutdown_write(socket);
    stage.assert_quiet();
}

pub(crate) fn wrong_requests_are_answered_not_obeyed<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let (socket, _peer) = stage.connected();
    let sg = stage.pool.allocate(4096).unwrap();
    let received = |token, result| Completion::Received { token: SocketToken(token), result };
    stage.recv(socket, &sg, 1);
    stage.recv(socket, &sg, 2);
    assert_eq!(stage.next(), received(2, -libc::EALREADY), "one receive at a time");
    let other = SocketToken(3);
    let wild = [Extent { arena: 0, len: 1, offset: 1 << 40 }];
    stage.backend.send(socket, &wild, &stage.pool, other);
    assert_eq!(stage.next(), Completion::Sent { token: other, result: -libc::EFAULT });
    stage.backend.send(socket, &[], &stage.pool, other);
    assert_eq!(stage.next(), Completion::Sent { token: other, result: -libc::EINVAL });
    let many = vec![sg.extents()[0]; MAX_SEGMENTS + 1];
    stage.backend.send(socket, &many, &stage.pool, other);
    assert_eq!(stage.next(), Completion::Sent { token: other, result: -libc::EMSGSIZE });
    stage.send(socket, &sg, 4);
    assert_eq!(stage.next(), Completion::Sent { token: SocketToken(4), result: 4096 }, "nothing was left behind");
    stage.backend.accept(socket, SocketToken(5));
    assert!(matches!(stage.next(), Completion::Accepted { token: SocketToken(5), result: Err(_) }));
    assert!(stage.backend.detach(socket).is_err(), "a receive is in flight");
}

pub(crate) fn a_connection_moves_to_another_back_end<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let (socket, mut peer) = stage.connected();
    let from = stage.backend.peer_addr(socket).unwrap();
    peer.send(b"early");
    let detached = stage.backend.detach(socket).unwrap();
    assert!(stage.backend.peer_addr(socket).is_err());
    // Back-ends of a simulation move connections within one world, the real ones anywhere.
    let mut other = if stage.backend.name() == "sim" { None } else { Some(open()) };
    let second = other.as_mut().unwrap_or(&mut stage);
    let socket = second.backend.adopt(detached).unwrap();
    assert_eq!(second.backend.peer_addr(socket).unwrap(), from);
    let sg = second.pool.allocate(4096).unwrap();
    let mut got = Vec::new();
    while got.len() < 5 {
        second.recv(socket, &sg, 1);
        let n = second.received() as usize;
        got.extend_from_slice(&second.pool.bytes(sg.extents()[0])[..n]);
    }
    assert_eq!(got, b"early");
    let answer = second.buffer(b"moved");
    second.send(socket, &answer, 2);
    assert_eq!(second.next(), Completion::Sent { token: SocketToken(2), result: 5 });
    assert_eq!(peer.recv(5), b"moved");
}

pub(crate) fn many_connections_at_once<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let (listener, addr) = stage.listen();
    let mut all: Vec<(SocketId, _, SgList)> = Vec::new();
    for _ in 0..100 {
        let (socket, peer) = stage.connected_at(listener, addr);
        let sg = stage.pool.allocate(4096).unwrap();
        all.push((socket, peer, sg));
    }
    for (n, (socket, peer, sg)) in all.iter_mut().enumerate() {
        stage.backend.recv(*socket, sg.extents(), &mut stage.pool, SocketToken(n as u64));
        peer.send(&[n as u8]);
    }
    for _ in 0..100 {
        let Completion::Received { token, result: 1 } = stage.next() else { panic!() };
        assert_eq!(stage.pool.bytes(all[token.0 as usize].2.extents()[0])[0], token.0 as u8);
    }
    for (n, (socket, _, _)) in all.iter().enumerate() {
        stage.backend.close(*socket, SocketToken(n as u64));
    }
    let mut closed: Vec<u64> = stage
        .take(100)
        .into_iter()
        .map(|c| match c {
            Completion::Closed { token } => token.0,
            other => panic!("{other:?}"),
        })
        .collect();
    closed.sort_unstable();
    assert_eq!(closed, (0..100).collect::<Vec<_>>());
}

pub(crate) fn the_table_of_sockets_has_a_limit<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let (listener, addr) = stage.listen();
    let peers: Vec<_> = (1..256).map(|_| stage.connected_at(listener, addr)).collect();
    let _refused = stage.connect(addr);
    stage.backend.accept(listener, SocketToken(1));
    assert_eq!(stage.next(), Completion::Accepted { token: SocketToken(1), result: Err(-libc::EMFILE) });
    stage.backend.close(peers[0].0, SocketToken(2));
    assert_eq!(stage.next(), Completion::Closed { token: SocketToken(2) });
    stage.connected_at(listener, addr);
}

pub(crate) fn a_waker_ends_the_wait<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let waker = stage.backend.waker();
    waker.wake();
    waker.wake();
    assert_eq!(stage.next(), Completion::Woken, "a wake before the wait is not lost");
    stage.assert_quiet();
    if stage.backend.name() == "sim" {
        return;
    }
    for _ in 0..1000 {
        let waker = waker.clone();
        let thread = std::thread::spawn(move || waker.wake());
        assert_eq!(stage.next(), Completion::Woken);
        thread.join().unwrap();
    }
    stage.assert_quiet();
}

pub(crate) fn a_deadline_ends_the_wait<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let start = stage.backend.now();
    for millis in [1, 3, 10] {
        let deadline = start.after(Nanos::from_millis(millis));
        assert_eq!(stage.wait_until(deadline), []);
        assert!(stage.backend.now() >= deadline);
    }
    assert_eq!(stage.wait_until(start), [], "a deadline in the past only polls");
}

pub(crate) fn both_address_families<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let listener = stage.backend.listen("[::]:0".parse().unwrap()).unwrap();
    let port = stage.backend.local_addr(listener).unwrap().port();
    for host in ["127.0.0.1", "[::1]"] {
        let (socket, _peer) = stage.connected_at(listener, format!("{host}:{port}").parse().unwrap());
        assert!(stage.backend.local_addr(socket).unwrap().port() == port);
    }
    let taken = stage.backend.local_addr(listener).unwrap();
    assert_eq!(stage.backend.listen(taken).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
}
