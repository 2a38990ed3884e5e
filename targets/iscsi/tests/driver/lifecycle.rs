//! Sessions that end: by logout, by a new login, by abort, by breaking, by shutdown.

use std::sync::Arc;

use scst_core::Nanos;
use scst_core::shard::Control;
use scst_reactor::sim::{PeerState, SimConfig};
use scst_target_iscsi::limits::DRAIN_TIMEOUT;
use scst_testkit::initiator::{Amount, Command, DataOutPlan, Event, tmf};

use crate::handler::BLOCK;
use crate::harness::{Setup, normal, pattern, target};

fn write(lba: u64, data: &[u8]) -> Command {
    Command::write_blocks(0, lba, BLOCK, data)
}

#[test]
fn the_same_nexus_logs_in_again_on_the_same_reactor() {
    let mut world = Setup::default().build();
    let mut old = world.login(normal());
    let (new, event) = world.try_login(normal());
    assert_eq!(event, Event::LoggedIn);
    assert_ne!(new.core.parameters().tsih, old.core.parameters().tsih);
    world.closed(&mut old);
    new.logout(&mut world);
    world.assert_clean();
}

#[test]
fn reinstatement_waits_for_the_old_commands_for_a_moment_also_on_another_reactor() {
    let mut world = Setup { reactors: 2, ..Setup::default() }.build();
    let mut old = world.login(normal());
    world.slow_disk(Nanos::from_millis(600));
    old.core.submit(write(0, &pattern(1, 4096)));
    old.exchange();
    world.pass(Nanos::from_millis(100));
    assert_eq!(world.reactors[0].shard.engine().commands_in_use(), 1);
    let started = world.sim.now();
    let (new, event) = world.try_login(normal());
    assert_eq!(event, Event::LoggedIn);
    assert_eq!(world.reactors[0].shard.engine().commands_in_use(), 0, "the old command is gone");
    assert_eq!(world.reactors[1].shard.engine().session_count(), 1, "the new session lives on the other reactor");
    assert!(world.sim.now().0 - started.0 < 1_000_000_000);
    assert_eq!(world.registry.session_count(scst_core::ids::TargetId(0)), 1);
    new.logout(&mut world);
    world.assert_clean();
}

#[test]
fn a_login_does_not_wait_for_a_command_that_does_not_end_and_its_data_stay() {
    for reactors in [1, 2] {
        let mut world = Setup { reactors, ..Setup::default() }.build();
        let mut old = world.login(normal());
        world.slow_disk(Nanos::from_secs(40));
        // Its data lie in the read-ahead of its connection.
        old.core.submit(write(0, &pattern(1, 4096)));
        old.exchange();
        world.pass(Nanos::from_millis(100));
        let started = world.sim.now();
        let (mut new, event) = world.try_login(normal());
        assert_eq!(event, Event::LoggedIn);
        assert!(world.sim.now().0 - started.0 < 3_000_000_000);
        world.closed(&mut old);
        assert_eq!(world.reactors[0].shard.engine().parked_commands(), 1);
        // What is sent now is not what the old WRITE writes, and waits for it.
        new.core.submit(write(8, &pattern(2, 4096)));
        new.exchange();
        new.core.submit(Command::read_blocks(0, 0, 8, BLOCK));
        new.exchange();
        world.pass(Nanos::from_secs(45));
        assert_eq!(world.reactors[0].shard.engine().parked_commands(), 0);
        let read = Command::read_blocks(0, 0, 8, BLOCK);
        let outcome = world.execute(&mut new, read);
        assert_eq!(outcome.data_in, pattern(1, 4096), "{reactors} reactors");
        new.logout(&mut world);
        world.assert_clean();
    }
}

#[test]
fn a_login_that_names_the_session_reinstates_its_connection_but_adds_none() {
    let mut world = Setup::default().build();
    let mut old = world.login(normal());
    let tsih = old.core.parameters().tsih;
    let mut second = normal();
    (second.tsih, second.cid) = (tsih, 1);
    let (_refused, event) = world.try_login(second);
    assert!(matches!(event, Event::LoginFailed(f) if (f.class, f.detail) == (2, 6)), "{event:?}");
    let mut again = normal();
    again.tsih = tsih;
    let (new, event) = world.try_login(again);
    assert_eq!(event, Event::LoggedIn);
    assert_eq!(new.core.parameters().tsih, tsih);
    world.closed(&mut old);
    new.logout(&mut world);
    world.assert_clean();
}

#[test]
fn a_third_login_takes_the_place_of_the_second() {
    let mut world = Setup::default().build();
    let mut old = world.login(normal());
    world.slow_disk(Nanos::from_millis(600));
    old.core.submit(write(0, &pattern(1, 4096)));
    old.exchange();
    world.pass(Nanos::from_millis(100));
    let mut second = world.connect(normal());
    second.core.start();
    second.exchange();
    for _ in 0..20 {
        world.pass(Nanos::from_millis(10));
        second.exchange();
    }
    let (third, event) = world.try_login(normal());
    assert_eq!(event, Event::LoggedIn);
    world.closed(&mut second);
    assert!(!second.is_logged_in());
    third.logout(&mut world);
    world.assert_clean();
}

#[test]
fn a_login_that_gives_up_waiting_leaves_nothing_behind() {
    let mut world = Setup::default().build();
    let mut old = world.login(normal());
    world.slow_disk(Nanos::from_secs(8));
    old.core.submit(write(0, &pattern(1, 4096)));
    old.exchange();
    world.pass(Nanos::from_millis(100));
    let mut second = world.connect(normal());
    second.core.start();
    for _ in 0..20 {
        second.exchange();
        world.pass(Nanos::from_millis(10));
    }
    second.peer.reset();
    world.pass(Nanos::from_secs(10));
    assert_eq!(world.registry.session_count(scst_core::ids::TargetId(0)), 0);
    let host = world.login(normal());
    host.logout(&mut world);
    world.assert_clean();
}

#[test]
fn sessions_are_spread_over_the_reactors() {
    let mut world = Setup { reactors: 3, ..Setup::default() }.build();
    let hosts: Vec<_> = (0..6).map(|i| world.login(normal().with_isid(i))).collect();
    let counts: Vec<usize> = world.reactors.iter().map(|r| r.shard.engine().session_count()).collect();
    assert_eq!(counts, [2, 2, 2]);
    for host in hosts {
        host.logout(&mut world);
    }
    world.assert_clean();
}

#[test]
fn an_abort_of_a_write_that_waits_for_data_answers_and_later_data_are_thrown_away() {
    let mut world = Setup::default().build();
    let mut host = world.login(normal());
    let plan =
        DataOutPlan { immediate: Amount::Bytes(0), unsolicited: Amount::Bytes(0), hold: true, ..Default::default() };
    let itt = host.core.submit(write(8, &pattern(3, 64 << 10)).with_plan(plan));
    let Event::R2t(r2t) = world.until(&mut host, |e| matches!(e, Event::R2t(_))) else { panic!() };
    let cmd_sn = host.core.cmd_sn_of(itt).unwrap();
    host.core.task_management(tmf::ABORT_TASK, [0; 8], Some((itt, cmd_sn)));
    let event = world.until(&mut host, |e| matches!(e, Event::TaskManagement { .. }));
    assert!(matches!(event, Event::TaskManagement { response: tmf::response::COMPLETE, .. }), "{event:?}");
    // The initiator had already begun to answer the R2T.
    host.core.send_data_out(itt, r2t.ttt, 0, 64 << 10);
    assert!(world.execute(&mut host, write(8, &pattern(4, 4096))).is_good());
    let mut disk = vec![0; 64 << 10];
    world.disk.peek(8 * 512, &mut disk);
    assert!(disk[..4096] == pattern(4, 4096) && disk[4096..].iter().all(|b| *b == 0), "aborted data on the disk");
    host.core.forget(itt);
    host.logout(&mut world);
    world.assert_clean();
}

#[test]
fn an_abort_in_the_middle_of_a_payload_waits_for_the_buffer() {
    let mut world = Setup::default().build();
    let mut host = world.login(normal());
    let plan =
        DataOutPlan { immediate: Amount::Bytes(0), unsolicited: Amount::Bytes(0), hold: true, ..Default::default() };
    let itt = host.core.submit(write(8, &pattern(3, 256 << 10)).with_plan(plan));
    let Event::R2t(r2t) = world.until(&mut host, |e| matches!(e, Event::R2t(_))) else { panic!() };
    host.core.send_data_out(itt, r2t.ttt, 0, r2t.length);
    let bytes = host.core.take_output();
    host.peer.send(&bytes[..100_000]);
    world.pass(Nanos::from_secs(1));
    // The rest of the payload is being received straight into the buffer; the session is taken away now.
    let (new, event) = world.try_login(normal());
    assert_eq!(event, Event::LoggedIn);
    world.closed(&mut host);
    new.logout(&mut world);
    let mut disk = vec![0; 256 << 10];
    world.disk.peek(8 * 512, &mut disk);
    assert!(disk.iter().all(|b| *b == 0), "half a write reached the disk");
    world.assert_clean();
}

#[test]
fn an_initiator_that_stops_in_the_middle_of_a_payload_is_dropped_in_time() {
    let mut world = Setup::parameters(|p| (p.nop_in_interval, p.rsp_timeout) = (0, 20)).build();
    let mut host = world.login(normal());
    host.core.submit(write(8, &pattern(3, 48 << 10)));
    let bytes = host.core.take_output();
    host.peer.send(&bytes[..20_000]);
    let before = world.sim.now();
    world.closed(&mut host);
    let waited = (world.sim.now().0 - before.0) / 1_000_000_000;
    assert!((20..=60).contains(&waited), "{waited} s");
    world.assert_clean();
}

#[test]
fn a_broken_connection_takes_its_commands_along() {
    let mut world = Setup::default().build();
    let mut host = world.login(normal());
    world.slow_disk(Nanos::from_secs(3));
    for i in 0..10 {
        host.core.submit(write(i * 64, &pattern(i as u8, 20_000 / 512 * 512)));
        host.core.submit(Command::read_blocks(0, i * 64, 64, BLOCK));
    }
    host.flush();
    world.pass(Nanos::from_millis(50));
    assert!(world.reactors[0].shard.engine().commands_in_use() > 0);
    host.peer.reset();
    world.assert_clean();
}

#[test]
fn an_initiator_that_does_not_read_is_dropped_and_its_buffers_come_back() {
    let mut world = Setup::parameters(|p| (p.rsp_timeout, p.nop_in_interval) = (10, 0)).build();
    let mut host = world.login(normal());
    for i in 0..20 {
        host.core.submit(Command::read_blocks(0, i * 2048, 1024, BLOCK));
    }
    host.flush();
    // It never takes a byte: the send stalls at the window.
    world.pass(Nanos::from_secs(30));
    assert_eq!(world.connections(), 0);
    host.peer.close();
    world.assert_clean();
}

#[test]
fn logout_waits_for_the_commands_and_is_answered() {
    let mut world = Setup::default().build();
    let mut host = world.login(normal());
    world.slow_disk(Nanos::from_secs(2));
    let itt = host.core.submit(write(0, &pattern(1, 4096)));
    host.flush();
    world.pass(Nanos::from_millis(10));
    host.core.forget(itt);
    host.logout(&mut world);
    world.assert_clean();
}

#[test]
fn what_crosses_the_answer_to_a_logout_does_not_take_it_away() {
    let mut world = Setup::default().build();
    let mut host = world.login(normal());
    host.core.logout(0);
    host.flush();
    // The answer is there and has not been looked at; the end of the target's half follows it.
    world.pass(Nanos::from_millis(10));
    host.core.ping(b"late", false);
    host.flush();
    world.pass(Nanos::from_millis(10));
    host.exchange();
    assert_eq!(host.state, PeerState::Ended);
    assert!(host.events.iter().any(|e| matches!(e, Event::LoggedOut { response: 0, .. })), "{:?}", host.events);
    assert_eq!(world.connections(), 1, "it is for the initiator to close it");
    host.peer.close();
    world.pass(Nanos::from_millis(10));
    assert_eq!(world.connections(), 0);
    world.assert_clean();
}

#[test]
fn who_logs_out_and_does_not_close_its_connection_is_cut() {
    let mut world = Setup::default().build();
    let mut host = world.login(normal());
    host.core.logout(0);
    world.until(&mut host, |e| matches!(e, Event::LoggedOut { response: 0, .. }));
    world.closed(&mut host);
    assert_eq!(world.reactors[0].shard.engine().session_count(), 0);
    let pool = world.reactors[0].pool.statistics();
    for _ in 0..4 {
        host.peer.send(&[0x55; 3000]);
        world.pass(Nanos(DRAIN_TIMEOUT.0 / 5));
        assert_eq!((host.peer.available(), world.connections()), (0, 1));
        assert_eq!(world.reactors[0].pool.statistics().in_use, pool.in_use);
    }
    world.pass(Nanos(DRAIN_TIMEOUT.0 / 2));
    assert_eq!(world.connections(), 0);
    host.peer.close();
    world.assert_clean();
}

#[test]
fn a_disabled_target_closes_its_sessions_and_refuses_new_ones() {
    let mut world = Setup::default().build();
    let mut host = world.login(normal());
    let now = world.sim.now();
    world.reactors[0].shard.control(now, Control::SetTarget(Arc::new(target(false))));
    world.kick();
    world.closed(&mut host);
    assert!(host.events.iter().any(|e| matches!(e, Event::Async(m) if m.event == 3)), "{:?}", host.events);
    assert!(matches!(world.try_login(normal()).1, Event::LoginFailed(f) if (f.class, f.detail) == (2, 3)));
    world.assert_clean();
}

#[test]
fn shutdown_asks_for_a_logout_and_cuts_who_does_not_hear() {
    let mut world = Setup::default().build();
    let mut polite = world.login(normal().with_isid(1));
    let mut deaf = world.login(normal().with_isid(2));
    let silent = world.connect(normal());
    world.pass(Nanos::from_millis(10));
    let now = world.sim.now();
    let reactor = &mut world.reactors[0];
    reactor.iscsi.begin_shutdown(now, &mut reactor.backend);
    world.kick();
    let event = world.until(&mut polite, |e| matches!(e, Event::Async(_)));
    let Event::Async(message) = event else { panic!() };
    assert_eq!((message.event, message.parameters[2]), (1, 3));
    polite.logout(&mut world);
    assert!(!world.reactors[0].iscsi.idle());
    world.closed(&mut deaf);
    world.pass(Nanos::from_secs(5));
    assert!(world.reactors[0].iscsi.idle());
    assert!(world.sim.connect(world.portal).is_err(), "nobody listens any more");
    drop(silent);
    world.assert_clean();
}

#[test]
fn a_peer_that_closes_in_the_middle_of_everything_leaves_nothing() {
    for seed in 0..40 {
        let mut setup = Setup { reactors: 2, sim: SimConfig::rough(seed), ..Setup::default() };
        setup.sim.net.fragment = 500_000;
        let mut world = setup.build();
        let mut host = world.login(normal());
        for i in 0..30u64 {
            if (i + seed) % 3 == 0 {
                host.core.submit(Command::read_blocks(0, i * 64, 64, BLOCK));
            } else {
                host.core.submit(write(i * 64, &pattern(i as u8, 512 << (i % 7))));
            }
        }
        for _ in 0..seed {
            host.exchange();
            world.settle();
            world.sim.step();
        }
        if seed % 2 == 0 {
            host.peer.reset();
        } else {
            host.peer.close();
        }
        world.assert_clean();
    }
}

#[test]
fn a_session_survives_the_end_of_another() {
    let mut world = Setup::default().build();
    let mut stays = world.login(normal().with_isid(1));
    let goes = world.login(normal().with_isid(2));
    goes.peer.reset();
    world.pass(Nanos::from_secs(1));
    assert!(world.execute(&mut stays, write(0, &pattern(1, 4096))).is_good());
    assert_eq!(stays.state, PeerState::Open);
    stays.logout(&mut world);
    world.assert_clean();
}
