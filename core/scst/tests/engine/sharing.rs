//! What several initiators on one device may and may not do, and what they are told.

use crate::common::{READ_1, Seen, WRITE_1, World, good, new_command, per_nexus, rows, target};
use scst_core::engine::{Limits, NoSlot, SessionRefused, SessionRequest};
use scst_core::handler::{ControlSettings, Outcome, SideEffects};
use scst_core::ids::{DeviceId, SessionId, TargetId};
use scst_core::shard::{Control, Notice};
use scst_scsi::TaskManagementFunction as F;
use scst_scsi::TaskManagementResponse as R;
use scst_scsi::{Asc, ScsiStatus, TaskAttribute};

const CHECK: ScsiStatus = ScsiStatus::CHECK_CONDITION;
const RESERVE: [u8; 6] = [0x16, 0, 0, 0, 0, 0];
const RELEASE: [u8; 6] = [0x17, 0, 0, 0, 0, 0];
const REPORT_LUNS: [u8; 12] = [0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];

#[test]
fn a_reservation_keeps_others_out_on_every_reactor() {
    let mut w = World::new(2);
    let (holder, other) = (w.login(0, "iqn.a"), w.login(1, "iqn.b"));
    let (t, _) = w.simple(0, holder, &RESERVE);
    w.expect(0, &[good(t)]);
    let (t1, _) = w.simple(1, other, &READ_1);
    let (t2, _) = w.simple(1, other, &RESERVE);
    let (t3, _) = w.simple(1, other, &RELEASE);
    let conflict = |t| Seen::Response(t, ScsiStatus::RESERVATION_CONFLICT, None);
    w.expect(1, &[conflict(t1), conflict(t2), good(t3)]);
    let (_, a) = w.simple(0, holder, &READ_1);
    assert_eq!(w.executing(0), [a]);
    w.finish(0, a);
    let (_, _) = w.simple(0, holder, &RELEASE);
    let (_, b) = w.simple(1, other, &READ_1);
    assert_eq!(w.executing(0), [b]);
}

#[test]
fn a_reservation_goes_with_its_session() {
    let mut w = World::new(2);
    let (holder, other) = (w.login(1, "iqn.a"), w.login(0, "iqn.b"));
    let (t, _) = w.simple(1, holder, &RESERVE);
    w.expect(1, &[good(t)]);
    w.nodes[1].shard.session_down(w.now, holder);
    w.run(1);
    let (_, b) = w.simple(0, other, &READ_1);
    assert_eq!(w.executing(0), [b]);
}

#[test]
fn a_reservation_that_arrives_after_its_session_is_not_kept() {
    let mut w = World::new(2);
    let (holder, other) = (w.login(1, "iqn.a"), w.login(0, "iqn.b"));
    w.prompt = false;
    let (_, _) = w.simple(1, holder, &RESERVE);
    // Close, closed, granted: one message at a time until the owner has reserved.
    while w.nodes[1].driver.responding.is_empty() {
        let (_, to, message) = w.wire.pop_front().unwrap();
        w.nodes[to].shard.message(w.now, message);
        w.run(to);
    }
    w.nodes[1].driver.seen.clear();
    w.expect(1, &[]);
    w.nodes[1].shard.session_down(w.now, holder);
    w.run(1);
    w.prompt = true;
    w.deliver_messages();
    let (_, b) = w.simple(0, other, &READ_1);
    assert_eq!(w.executing(0), [b]);
}

/// A world in which a RESERVE of reactor 1 has been sent and so many messages of it have arrived. Device 0 has its home
/// on reactor 0. None: it took fewer.
fn reserving(messages: usize) -> Option<(World, SessionId, SessionId)> {
    let mut w = World::new(2);
    let (holder, other) = (w.login(1, "iqn.a"), w.login(0, "iqn.b"));
    w.prompt = false;
    w.simple(1, holder, &RESERVE);
    for _ in 0..messages {
        let (_, to, message) = w.wire.pop_front()?;
        w.nodes[to].shard.message(w.now, message);
        w.run(to);
    }
    Some((w, holder, other))
}

/// Request, close, closed, granted, release, open, opened.
const MESSAGES_OF_A_BARRIER: usize = 7;

#[test]
fn a_reservation_does_not_survive_a_reset_wherever_it_is_on_its_way() {
    for function in [F::ITNexusReset, F::LogicalUnitReset, F::TargetReset] {
        for messages in 0..=MESSAGES_OF_A_BARRIER {
            let (mut w, holder, other) = reserving(messages).unwrap();
            let tmf = w.tmf(1, holder, function, None);
            w.prompt = true;
            w.deliver_messages();
            assert!(w.nodes[1].driver.seen.contains(&Seen::Tmf(tmf, R::Complete)), "{function:?} after {messages}");
            w.simple(0, other, &READ_1);
            // A reset of the unit is told first.
            let (_, b) = w.simple(0, other, &READ_1);
            assert_eq!(w.executing(0).last(), Some(&b), "{function:?} after {messages} messages");
        }
        assert!(reserving(MESSAGES_OF_A_BARRIER + 1).is_none());
    }
}

#[test]
fn a_reservation_that_is_made_after_a_reset_of_the_nexus_is_kept() {
    for messages in 0..=MESSAGES_OF_A_BARRIER {
        let (mut w, holder, other) = reserving(messages).unwrap();
        w.tmf(1, holder, F::ITNexusReset, None);
        // The first one is told of the reset.
        w.simple(1, holder, &RESERVE);
        w.simple(1, holder, &RESERVE);
        w.prompt = true;
        w.deliver_messages();
        let (t, _) = w.simple(0, other, &READ_1);
        w.expect(0, &[Seen::Response(t, ScsiStatus::RESERVATION_CONFLICT, None)]);
    }
}

#[test]
fn a_reset_of_the_nexus_reaches_a_reservation_that_comes_with_it() {
    let mut w = World::new(1);
    let (holder, other) = (w.login(0, "iqn.a"), w.login(0, "iqn.b"));
    // It is granted already, and carried out when the shard runs: after the reset has begun.
    let (t, _) = w.arrive(0, new_command(holder, 0, &RESERVE, TaskAttribute::Simple));
    let tmf = w.tmf(0, holder, F::ITNexusReset, None);
    w.expect(0, &[Seen::Dropped(t), Seen::Tmf(tmf, R::Complete)]);
    let (_, b) = w.simple(0, other, &READ_1);
    assert_eq!(w.executing(0), [b]);
}

#[test]
fn a_late_reservation_of_a_replaced_lun_is_given_back() {
    let (before, exchanged) = (rows(&[(0, 0, false), (1, 1, false)]), rows(&[(0, 1, false), (1, 0, false)]));
    // The LUN shows another unit; or the same one again, to a new nexus of the same name.
    for back in [false, true] {
        for messages in 0..=MESSAGES_OF_A_BARRIER {
            let (mut w, _, other) = reserving(messages).unwrap();
            w.nodes[1].driver.seen.clear();
            w.expect(1, &[]);
            w.set_target(target(exchanged.clone()));
            if back {
                w.set_target(target(before.clone()));
            }
            w.prompt = true;
            w.deliver_messages();
            // If it was not answered before, it is now.
            w.nodes[1].driver.seen.clear();
            w.expect(1, &[]);
            let lun = u8::from(!back);
            // The new nexus has something to be told first.
            w.send(0, other, lun, &READ_1, TaskAttribute::Simple);
            w.send(0, other, lun, &READ_1, TaskAttribute::Simple);
            let (_, b) = w.send_with(0, other, lun, &READ_1, TaskAttribute::Simple, false);
            assert_eq!(w.executing(0).last(), Some(&b), "after {messages} messages, back: {back}");
        }
    }
}

#[test]
fn a_lun_that_is_put_back_keeps_its_reservation_when_the_last_command_of_its_predecessor_ends() {
    let (before, exchanged) = (rows(&[(0, 0, false), (1, 1, false)]), rows(&[(0, 1, false), (1, 0, false)]));
    let conflict = |t| Seen::Response(t, ScsiStatus::RESERVATION_CONFLICT, None);
    for (holder_at, other_at) in [(0, 1), (1, 0)] {
        let mut w = World::new(2);
        let (holder, other) = (w.login(holder_at, "iqn.a"), w.login(other_at, "iqn.b"));
        let (t, _) = w.simple(holder_at, holder, &RESERVE);
        w.expect(holder_at, &[good(t)]);
        // It has no data yet.
        let (late, write) = w.simple(holder_at, holder, &WRITE_1);
        // LUN 0 is taken away, and its reservation with it, although a command of it is still there.
        w.set_target(target(exchanged.clone()));
        w.send(other_at, other, 1, &READ_1, TaskAttribute::Simple);
        w.send(other_at, other, 1, &READ_1, TaskAttribute::Simple);
        let (_, b) = w.send_with(other_at, other, 1, &READ_1, TaskAttribute::Simple, false);
        assert_eq!(w.executing(0), [b]);
        w.finish(other_at, b);
        // It is put back, reserves again after what it has to be told, and then the last command from before ends.
        w.set_target(target(before.clone()));
        for _ in 0..3 {
            w.simple(holder_at, holder, &RESERVE);
            w.simple(other_at, other, &[0; 6]);
        }
        let (t, _) = w.simple(holder_at, holder, &RESERVE);
        assert_eq!(w.nodes[holder_at].driver.seen.last(), Some(&good(t)));
        w.data(holder_at, write, Ok(()));
        assert_eq!(w.nodes[holder_at].driver.seen.last(), Some(&conflict(late)), "of another nexus");
        w.nodes[other_at].driver.seen.clear();
        let (t, _) = w.simple(other_at, other, &READ_1);
        w.expect(other_at, &[conflict(t)]);
    }
}

#[test]
fn mode_select_is_alone_and_tells_the_others() {
    let mut w = World::new(2);
    let (s0, s1) = (w.login(0, "iqn.a"), w.login(1, "iqn.b"));
    let (_, a) = w.simple(1, s1, &READ_1);
    let (t, select) = w.simple(0, s0, &[0x55, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(w.executing(0), [a]);
    let (_, c) = w.simple(1, s1, &READ_1);
    w.finish(1, a);
    assert_eq!(w.executing(0), [select]);
    let control = ControlSettings { descriptor_sense: true, ..crate::common::per_nexus() };
    let effects =
        SideEffects { attention_for_others: Some(Asc(0x2a01)), control: Some(control), prevent_removal: None };
    w.media[0].borrow_mut().outcome = Some(Outcome { effects, ..Outcome::good(0) });
    w.finish(0, select);
    w.expect(0, &[good(t)]);
    assert_eq!(w.executing(0), [], "the waiting read was told first");
    let seen = w.nodes[1].driver.seen.clone();
    assert_eq!(seen[1..], [Seen::Response(4 + 3, CHECK, Some((6, 0x2a01)))]);
    assert_eq!(w.nodes[1].shard.engine().state(c), Some(scst_core::CommandState::Responding));
}

#[test]
fn compare_and_write_keeps_out_only_what_overlaps() {
    let mut w = World::new(2);
    let (s0, s1) = (w.login(0, "iqn.a"), w.login(1, "iqn.b"));
    let write = |lba| [0x2a, 0, 0, 0, 0, lba, 0, 0, 1, 0];
    let (_, before) = w.simple(1, s1, &write(5));
    w.data(1, before, Ok(()));
    let (_, compare) = w.simple(0, s0, &[0x89, 0, 0, 0, 0, 4, 0, 0, 2, 0]);
    assert_eq!(w.executing(0), [before]);
    let (_, apart) = w.simple(1, s1, &write(6));
    w.data(1, apart, Ok(()));
    let (_, inside) = w.simple(1, s1, &write(4));
    w.data(1, inside, Ok(()));
    assert_eq!(w.executing(0), [before, apart]);
    w.finish(1, before);
    assert_eq!(w.executing(0), [apart, compare]);
    w.finish(0, compare);
    assert_eq!(w.executing(0), [apart, inside]);
}

#[test]
fn a_read_only_lun_refuses_writes() {
    let mut w = World::new(1);
    w.set_target(target(rows(&[(0, 0, true), (1, 0, false)])));
    let s = w.login(0, "iqn.a");
    let (t, a) = w.simple(0, s, &WRITE_1);
    w.data(0, a, Ok(()));
    w.expect(0, &[Seen::RequestData(t, 512), Seen::Response(t, CHECK, Some((7, 0x2700)))]);
    let (_, b) = w.send_with(0, s, 1, &WRITE_1, TaskAttribute::Simple, false);
    w.data(0, b, Ok(()));
    assert_eq!(w.executing(0), [b], "the same device, writable under another LUN");
}

#[test]
fn a_changed_lun_map_reaches_live_sessions() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let (t, a) = w.send_with(0, s, 1, &READ_1, TaskAttribute::Simple, false);
    w.set_target(target(rows(&[(0, 0, false), (7, 1, false)])));
    w.expect(0, &[Seen::Async(0x3f0e)]);
    w.finish(0, a);
    w.expect(0, &[good(t)]);
    let (t0, _) = w.simple(0, s, &READ_1);
    let t1 = w.send(0, s, 1, &READ_1, TaskAttribute::Simple);
    let t7 = w.send(0, s, 7, &READ_1, TaskAttribute::Simple);
    let (_, again) = w.simple(0, s, &READ_1);
    w.expect(
        0,
        &[
            Seen::Response(t0, CHECK, Some((6, 0x3f0e))),
            Seen::Response(t1, CHECK, Some((5, 0x2500))),
            Seen::Response(t7, CHECK, Some((6, 0x2900))),
        ],
    );
    assert_eq!(w.executing(0), [again], "told once, it is told for the whole session");
}

#[test]
fn report_luns_lists_the_map_and_clears_the_attention() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    w.set_target(target(rows(&[(0, 0, false), (300, 1, false)])));
    w.expect(0, &[Seen::Async(0x3f0e)]);
    let (t, _) = w.simple(0, s, &REPORT_LUNS);
    w.expect(0, &[good(t)]);
    assert_eq!(w.nodes[0].pool.last, [[0, 0, 0, 16, 0, 0, 0, 0], [0; 8], [0x41, 0x2c, 0, 0, 0, 0, 0, 0]].concat());
    let (_, a) = w.simple(0, s, &READ_1);
    assert_eq!(w.executing(0), [a]);
}

#[test]
fn a_lun_that_is_not_there_answers_what_it_must() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let t1 = w.send(0, s, 9, &[0x12, 0, 0, 0, 36, 0], TaskAttribute::Simple);
    w.expect(0, &[good(t1)]);
    assert_eq!(w.nodes[0].pool.last[0], 0x7f);
    let t2 = w.send(0, s, 9, &REPORT_LUNS, TaskAttribute::Simple);
    let t3 = w.send(0, s, 9, &READ_1, TaskAttribute::Simple);
    let t4 = w.send(0, s, 9, &[3, 0, 0, 0, 18, 0], TaskAttribute::Simple);
    w.expect(0, &[good(t2), Seen::Response(t3, CHECK, Some((5, 0x2500))), good(t4)]);
    assert_eq!((w.nodes[0].pool.last[2], w.nodes[0].pool.last[12]), (5, 0x25));
    w.assert_clean();
}

#[test]
fn request_sense_tells_an_attention_and_clears_it() {
    let mut w = World::new(1);
    let s = w.fresh_login(0, "iqn.a");
    for expected in [(6, 0x29), (0, 0)] {
        let (t, _) = w.simple(0, s, &[3, 0, 0, 0, 18, 0]);
        w.expect(0, &[good(t)]);
        assert_eq!((w.nodes[0].pool.last[2], w.nodes[0].pool.last[12]), expected);
    }
}

#[test]
fn who_finds_no_nexus_left_is_busy_until_a_session_goes() {
    let mut w = World::with(1, Limits { nexuses: 3, ..Limits::default() }, per_nexus());
    let late = w.fresh_login(0, "iqn.late");
    let early = w.login(0, "iqn.early");
    let t = w.send(0, late, 0, &[0; 6], TaskAttribute::Simple);
    w.expect(0, &[Seen::Response(t, CHECK, Some((6, 0x2900)))]);
    // The table is full: the driver has to say BUSY, and nothing is promised about the unit.
    let new = new_command(late, 1, &READ_1, TaskAttribute::Simple);
    assert_eq!(w.nodes[0].shard.command(w.now, &new), Err(NoSlot));
    // A reset of the target needs no nexus.
    let reset = w.tmf(0, late, F::TargetReset, None);
    w.expect(0, &[Seen::Tmf(reset, R::Complete)]);
    assert_eq!((w.media[0].borrow().resets, w.media[1].borrow().resets), (1, 1));
    let t = w.send(0, late, 0, &[0; 6], TaskAttribute::Simple);
    w.expect(0, &[Seen::Response(t, CHECK, Some((6, 0x2900)))]);
    let request = SessionRequest { target: TargetId(0), initiator: "iqn.later" };
    assert_eq!(w.nodes[0].shard.session_up(w.now, request), Err(SessionRefused::NoResources));
    // What it has used goes on.
    let (t, a) = w.simple(0, late, &READ_1);
    w.finish(0, a);
    w.expect(0, &[good(t)]);
    w.nodes[0].shard.session_down(w.now, early);
    w.run(0);
    let t = w.send(0, late, 1, &READ_1, TaskAttribute::Simple);
    w.expect(0, &[Seen::Closed(early), Seen::Response(t, CHECK, Some((6, 0x2900)))]);
    w.assert_clean();
}

#[test]
fn a_device_leaves_when_its_last_command_has() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let (t, a) = w.send_with(0, s, 1, &READ_1, TaskAttribute::Simple, false);
    w.set_target(target(rows(&[(0, 0, false)])));
    w.control(0, Control::RemoveDevice(DeviceId(1)));
    assert_eq!(w.nodes[0].notices, []);
    w.finish(0, a);
    w.expect(0, &[Seen::Async(0x3f0e), good(t)]);
    assert_eq!(w.nodes[0].notices, [Notice::DeviceRemoved(DeviceId(1))]);
}

#[test]
fn a_command_that_must_be_alone_ends_at_once_when_its_device_has_left_the_home_engine() {
    let mut w = World::new(2);
    let s = w.login(1, "iqn.a");
    let (t1, a) = w.simple(1, s, &READ_1);
    let (t2, _) = w.send_with(1, s, 0, &RESERVE, TaskAttribute::Ordered, false);
    w.set_target(target(rows(&[(1, 1, false)])));
    for node in [0, 1] {
        w.control(node, Control::RemoveDevice(DeviceId(0)));
    }
    // The home has nothing of it; here the RESERVE still waits for the READ.
    assert_eq!(w.nodes[0].notices, [Notice::DeviceRemoved(DeviceId(0))]);
    assert_eq!(w.nodes[1].notices, []);
    w.finish(1, a);
    w.expect(1, &[Seen::Async(0x3f0e), good(t1), Seen::Response(t2, CHECK, Some((5, 0x2500)))]);
    w.assert_nothing_waits();
    assert_eq!(w.nodes[1].notices, [Notice::DeviceRemoved(DeviceId(0))]);
    w.assert_clean();
}

#[test]
fn the_home_engine_keeps_a_device_that_others_wait_to_be_alone_on() {
    let mut w = World::new(2);
    let (s1, s2) = (w.login(1, "iqn.a"), w.login(1, "iqn.b"));
    // Both ask before the first is alone.
    w.prompt = false;
    let (t1, select) = w.simple(1, s1, &[0x55, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let (t2, waiting) = w.simple(1, s2, &[0x55, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    w.prompt = true;
    w.deliver_messages();
    w.set_target(target(rows(&[(1, 1, false)])));
    for node in [0, 1] {
        w.control(node, Control::RemoveDevice(DeviceId(0)));
    }
    assert_eq!(w.executing(0), [select]);
    w.finish(1, select);
    assert_eq!(w.executing(0), [waiting]);
    assert_eq!(w.nodes[0].notices, []);
    w.finish(1, waiting);
    w.expect(1, &[Seen::Async(0x3f0e), Seen::Async(0x3f0e), good(t1), good(t2)]);
    for node in [0, 1] {
        assert_eq!(w.nodes[node].notices, [Notice::DeviceRemoved(DeviceId(0))]);
    }
    w.assert_clean();
}

#[test]
fn a_disabled_target_closes_its_sessions() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let mut disabled = target(rows(&[(0, 0, false)]));
    disabled.enabled = false;
    w.set_target(disabled);
    w.expect(0, &[Seen::CloseSession(s)]);
}

#[test]
fn prevention_of_removal_is_seen_on_every_reactor_and_goes_with_its_nexus() {
    let mut w = World::new(2);
    let (s0, s1) = (w.login(0, "iqn.a"), w.login(1, "iqn.b"));
    let (t, prevent) = w.simple(0, s0, &[0x55, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let effects = SideEffects { prevent_removal: Some(true), ..SideEffects::default() };
    w.media[0].borrow_mut().outcome = Some(Outcome { effects, ..Outcome::good(0) });
    w.finish(0, prevent);
    w.expect(0, &[good(t)]);
    let (_, a) = w.simple(1, s1, &READ_1);
    assert!(w.nodes[1].shard.engine().exec_command(a).unwrap().removal_prevented);
    w.nodes[0].shard.session_down(w.now, s0);
    w.run(0);
    assert!(!w.nodes[1].shard.engine().exec_command(a).unwrap().removal_prevented);
}

#[test]
fn prevention_of_removal_does_not_survive_a_reset_of_the_nexus() {
    // The reset comes before the device has carried it out, or while its news are on the way.
    for executing in [true, false] {
        let mut w = World::new(2);
        let (s, other) = (w.login(1, "iqn.a"), w.login(0, "iqn.b"));
        let (_, prevent) = w.simple(1, s, &[0x55, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let effects = SideEffects { prevent_removal: Some(true), ..SideEffects::default() };
        w.media[0].borrow_mut().outcome = Some(Outcome { effects, ..Outcome::good(0) });
        w.prompt = false;
        if !executing {
            w.finish(1, prevent);
        }
        w.tmf(1, s, F::ITNexusReset, None);
        if executing {
            w.finish(1, prevent);
        }
        w.prompt = true;
        w.deliver_messages();
        let (_, a) = w.simple(0, other, &READ_1);
        assert!(!w.nodes[0].shard.engine().exec_command(a).unwrap().removal_prevented, "executing: {executing}");
    }
}

#[test]
fn prevention_is_in_force_for_the_very_next_command() {
    let mut w = World::new(2);
    // The home of device 1 is the other reactor.
    let s = w.login(0, "iqn.a");
    w.prompt = false;
    let select = [0x55, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (t, prevent) = w.send_with(0, s, 1, &select, TaskAttribute::Simple, false);
    w.deliver_messages();
    let effects = SideEffects { prevent_removal: Some(true), ..SideEffects::default() };
    w.media[1].borrow_mut().outcome = Some(Outcome { effects, ..Outcome::good(0) });
    w.finish(0, prevent);
    let (_, a) = w.send_with(0, s, 1, &READ_1, TaskAttribute::Simple, false);
    assert_eq!(w.executing(1), [], "the news is still on its way");
    w.expect(0, &[]);
    w.deliver_messages();
    w.expect(0, &[good(t)]);
    assert_eq!(w.executing(1), [a]);
    assert!(w.nodes[0].shard.engine().exec_command(a).unwrap().removal_prevented);
}

#[test]
fn a_write_that_waited_behind_the_write_protection_is_refused() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let compare = |lba| [0x89, 0, 0, 0, 0, lba, 0, 0, 1, 0];
    let (t1, first) = w.simple(0, s, &compare(0));
    let (t2, select) = w.simple(0, s, &[0x55, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let (t3, _) = w.simple(0, s, &compare(2));
    assert_eq!(w.executing(0), [first]);
    w.finish(0, first);
    assert_eq!(w.executing(0), [select]);
    let control = ControlSettings { write_protect: true, ..w.media[0].borrow().control };
    let effects = SideEffects { control: Some(control), ..SideEffects::default() };
    w.media[0].borrow_mut().outcome = Some(Outcome { effects, ..Outcome::good(0) });
    w.finish(0, select);
    let protected = Seen::Response(t3, ScsiStatus::CHECK_CONDITION, Some((7, 0x2702)));
    w.expect(0, &[good(t1), good(t2), protected]);
    w.assert_clean();
}

#[test]
fn sense_data_of_a_real_device_are_passed_on_as_they_are() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    // Deferred, with a FRU code and vendor specific bytes, longer than what is made here.
    let mut raw = vec![0x71, 0, 0x04, 0, 0, 0, 0, 40, 1, 2, 3, 4, 0x44, 0x81, 0xee];
    raw.resize(48, 0x5a);
    let (t, a) = w.simple(0, s, &READ_1);
    w.media[0].borrow_mut().raw_sense = Some(raw.clone());
    w.finish(0, a);
    let mut sent = [0; 252];
    let response = w.nodes[0].shard.engine().response(a).unwrap();
    assert!(response.sense.unwrap().deferred);
    let length = response.emit_sense(&mut sent);
    assert_eq!(sent[..length], raw);
    w.expect(0, &[Seen::Response(t, CHECK, Some((4, 0x4481)))]);
    // The next command in the same slot has none.
    let (_, b) = w.simple(0, s, &READ_1);
    w.finish(0, b);
    assert_eq!(w.nodes[0].shard.engine().response(b).unwrap().emit_sense(&mut sent), 0);
}

#[test]
fn a_map_does_not_show_the_device_that_had_the_place_before() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    w.set_target(target(rows(&[(0, DeviceId(0).successor().0, false), (1, 1, false)])));
    w.nodes[0].driver.seen.clear();
    for _ in 0..2 {
        let (t, _) = w.simple(0, s, &READ_1);
        w.expect(0, &[Seen::Response(t, ScsiStatus::CHECK_CONDITION, Some((5, 0x2500)))]);
    }
    w.control(0, Control::RemoveDevice(DeviceId(0)));
    assert_eq!(w.nodes[0].notices, [Notice::DeviceRemoved(DeviceId(0))], "nothing uses it");
}
