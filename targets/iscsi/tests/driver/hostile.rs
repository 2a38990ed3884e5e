//! Peers that mean no good, and what others notice of them: nothing.

use scst_core::Nanos;
use scst_reactor::sim::PeerState;
use scst_target_iscsi::limits::{LOGIN_READ_AHEAD_BYTES, MAX_PENDING_LOGINS};
use scst_testkit::initiator::{Command, Event};
use scst_testkit::pdu::{Digests, Pdu, RESERVED_TAG, opcode};

use crate::handler::BLOCK;
use crate::harness::{Setup, normal, pattern};

fn state(peer: &scst_reactor::sim::SimPeer) -> PeerState {
    let mut bytes = Vec::new();
    peer.recv(&mut bytes)
}

#[test]
fn who_says_nothing_is_gone_after_the_login_timeout() {
    let mut world = Setup::default().build();
    let silent = world.sim.connect(world.portal).unwrap();
    world.pass(Nanos::from_secs(14));
    assert_eq!(state(&silent), PeerState::Open);
    world.pass(Nanos::from_secs(2));
    assert_ne!(state(&silent), PeerState::Open);
    world.assert_clean();
}

#[test]
fn garbage_ends_the_connection_at_once() {
    let mut world = Setup::default().build();
    let peer = world.sim.connect(world.portal).unwrap();
    peer.send(b"GET / HTTP/1.1\r\nHost: target\r\nAccept: everything and more than a header takes\r\n\r\n");
    world.pass(Nanos::from_secs(1));
    assert_ne!(state(&peer), PeerState::Open);
    world.assert_clean();
}

#[test]
fn a_thousand_silent_connections_do_not_keep_an_initiator_out() {
    let mut world = Setup::default().build();
    let mut host = world.login(normal());
    let crowd: Vec<_> = (0..1000u32)
        .map(|i| {
            let peer = world.sim.connect(world.portal).unwrap();
            match i % 4 {
                0 => {}
                1 => peer.send(&[0x43; 20]),
                2 => peer.send(&pattern(i as u8, 3000)),
                _ => peer.send(&[0x43, 0x87, 0, 0, 0, 0, 0x20, 0]),
            }
            world.settle();
            peer
        })
        .collect();
    world.pass(Nanos::from_millis(500));
    assert!(world.connections() <= MAX_PENDING_LOGINS + 1, "{}", world.connections());
    let held = world.reactors[0].pool.statistics().in_use;
    assert!(held <= (MAX_PENDING_LOGINS as u64 + 1) * u64::from(LOGIN_READ_AHEAD_BYTES) * 3 + 200_000, "{held} bytes");
    assert!(world.execute(&mut host, Command::write_blocks(0, 0, BLOCK, pattern(1, 4096))).is_good());
    let other = world.login(normal().with_isid(5));
    other.logout(&mut world);
    world.pass(Nanos::from_secs(20));
    assert_eq!(world.connections(), 1, "only the session is left");
    drop(crowd);
    host.logout(&mut world);
    world.assert_clean();
}

#[test]
fn half_a_header_in_the_full_feature_phase_costs_nothing_but_time() {
    let mut world = Setup::parameters(|p| (p.nop_in_interval, p.nop_in_timeout) = (5, 5)).build();
    let mut half = world.login(normal().with_isid(1));
    let mut host = world.login(normal().with_isid(2));
    half.core.submit(Command::new(0, vec![0; 6]));
    let bytes = half.core.take_output();
    half.peer.send(&bytes[..20]);
    for _ in 0..20 {
        assert!(world.execute(&mut host, Command::read_blocks(0, 0, 8, BLOCK)).is_good());
        world.pass(Nanos::from_secs(1));
    }
    assert_ne!(state(&half.peer), PeerState::Open, "a ping was not answered");
    host.logout(&mut world);
    world.assert_clean();
}

#[test]
fn an_initiator_that_sends_without_end_while_it_waits_for_its_session_is_held_back() {
    let mut world = Setup::default().build();
    let mut old = world.login(normal());
    let mut faults = scst_reactor::sim::SimConfig::calm(0).disk;
    faults.latency = (Nanos::from_secs(5), Nanos::from_secs(5));
    world.sim.set_disk_faults(faults);
    old.core.submit(Command::write_blocks(0, 0, BLOCK, pattern(1, 4096)));
    old.exchange();
    world.pass(Nanos::from_millis(100));
    let mut second = world.connect(normal());
    second.core.start();
    for _ in 0..20 {
        second.exchange();
        world.pass(Nanos::from_millis(10));
    }
    assert!(!second.is_logged_in());
    // Pings that want no answer, far more than are read ahead.
    let ping = Pdu::new(opcode::NOP_OUT | 0x40).with_u32(16, RESERVED_TAG).with_u32(20, RESERVED_TAG);
    second.peer.send(&ping.with_u32(24, 1).to_bytes(Digests::default()).repeat(2000));
    world.pass(Nanos::from_secs(1));
    assert!(world.reactors[0].pool.statistics().in_use < 400_000);
    world.pass(Nanos::from_secs(10));
    second.exchange();
    assert!(second.events.iter().any(|e| *e == Event::LoggedIn), "{second:?}");
    while !world.execute(&mut second, Command::new(0, vec![0; 6])).is_good() {}
    second.logout(&mut world);
    drop(old);
    world.assert_clean();
}

#[test]
fn who_logs_out_and_does_not_take_the_answer_is_cut() {
    let mut setup = Setup::default();
    // The data and the status of one read fill the peer's window but for a few bytes.
    setup.sim.net.window = 48 + 4096 + 20;
    let mut world = setup.build();
    let mut host = world.login(normal());
    host.core.submit(Command::read_blocks(0, 0, 4096 / BLOCK, BLOCK));
    host.flush();
    world.pass(Nanos::from_secs(1));
    host.core.logout(0);
    host.flush();
    world.pass(Nanos::from_secs(1));
    assert_eq!(world.connections(), 1, "the answer does not fit");
    world.pass(Nanos::from_secs(5));
    assert_eq!(world.connections(), 0);
    world.assert_clean();
}
