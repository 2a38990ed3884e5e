//! SAM-5 clause 7, and its promise: when the answer is out, nothing of the aborted commands touches the medium.

use std::sync::Arc;

use crate::common::{CAW, EXCLUSIVE, READ_1, Seen, WRITE_1, World, good, new_command, rows, target};
use scst_core::event::{DataError, Message};
use scst_core::handler::{ControlSettings, Outcome, SideEffects};
use scst_core::ids::DeviceId;
use scst_core::shard::Control;
use scst_core::{Nanos, engine::Limits};
use scst_scsi::TaskManagementFunction as F;
use scst_scsi::TaskManagementResponse as R;
use scst_scsi::sense::SenseFormat;
use scst_scsi::{ScsiStatus, TaskAttribute};

const CHECK: ScsiStatus = ScsiStatus::CHECK_CONDITION;

#[test]
fn abort_task_is_answered_when_the_device_has_let_go() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let (t, a) = w.simple(0, s, &READ_1);
    let tmf = w.tmf(0, s, F::AbortTask, Some(a));
    w.expect(0, &[]);
    assert_eq!(w.media[0].borrow().cancelled, [a]);
    w.finish(0, a);
    w.expect(0, &[Seen::Dropped(t), Seen::Tmf(tmf, R::Complete)]);
    w.assert_clean();
}

#[test]
fn abort_task_stops_data_that_are_on_the_way() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let (t, a) = w.simple(0, s, &WRITE_1);
    let tmf = w.tmf(0, s, F::AbortTask, Some(a));
    w.expect(0, &[Seen::RequestData(t, 512), Seen::AbortData(t)]);
    assert_eq!(w.nodes[0].pool.out, 1, "bytes may still arrive in the buffer");
    w.data(0, a, Err(DataError::Stopped));
    w.expect(0, &[Seen::Dropped(t), Seen::Tmf(tmf, R::Complete)]);
    assert_eq!(w.executing(0), []);
    w.assert_clean();
}

#[test]
fn abort_task_knows_its_own_session_lun_and_what_is_gone() {
    let mut w = World::new(1);
    let (s, other) = (w.login(0, "iqn.a"), w.login(0, "iqn.b"));
    let (t, a) = w.simple(0, s, &READ_1);
    let foreign = w.tmf(0, other, F::AbortTask, Some(a));
    let (t1, on_lun_1) = w.send_with(0, s, 1, &READ_1, TaskAttribute::Simple, false);
    let wrong_lun = w.tmf(0, s, F::AbortTask, Some(on_lun_1));
    w.finish(0, a);
    w.expect(0, &[Seen::Tmf(foreign, R::TaskDoesNotExist), Seen::Tmf(wrong_lun, R::Rejected), good(t)]);
    let answered = w.simple(0, s, &[0xee; 6]);
    let too_late = w.tmf(0, s, F::AbortTask, Some(answered.1));
    let check = Seen::Response(answered.0, CHECK, Some((5, 0x2000)));
    w.expect(0, &[check, Seen::Tmf(too_late, R::TaskDoesNotExist)]);
    let late = w.tmf(0, s, F::AbortTask, Some(a));
    w.finish(0, on_lun_1);
    w.expect(0, &[Seen::Tmf(late, R::TaskDoesNotExist), good(t1)]);
}

#[test]
fn abort_task_set_takes_only_the_commands_of_its_nexus() {
    let mut w = World::new(1);
    let (s, other) = (w.login(0, "iqn.a"), w.login(0, "iqn.b"));
    let (t1, a) = w.simple(0, s, &READ_1);
    let (t2, _queued) = w.send_with(0, s, 0, &READ_1, TaskAttribute::Ordered, false);
    let (t3, c) = w.simple(0, other, &READ_1);
    let tmf = w.tmf(0, s, F::AbortTaskSet, None);
    w.expect(0, &[]);
    w.finish(0, c);
    w.finish(0, a);
    w.expect(0, &[good(t3), Seen::Dropped(t1), Seen::Dropped(t2), Seen::Tmf(tmf, R::Complete)]);
    w.assert_clean();
}

#[test]
fn logical_unit_reset_reaches_every_reactor_and_tells_every_nexus() {
    let mut w = World::new(2);
    let (s0, s1) = (w.login(0, "iqn.a"), w.login(1, "iqn.b"));
    let (t1, a) = w.simple(1, s1, &READ_1);
    let tmf = w.tmf(0, s0, F::LogicalUnitReset, None);
    let (t2, _) = w.simple(0, s0, &READ_1);
    w.expect(0, &[]);
    assert_eq!(w.executing(0), [a], "the reset waits, and what came later waits for the reset");
    w.finish(1, a);
    assert_eq!(w.media[0].borrow().resets, 1);
    w.expect(1, &[Seen::Dropped(t1)]);
    w.expect(0, &[Seen::Response(t2, CHECK, Some((6, 0x2900))), Seen::Tmf(tmf, R::Complete)]);
    let (t3, _) = w.simple(1, s1, &READ_1);
    w.expect(1, &[Seen::Response(t3, CHECK, Some((6, 0x2900)))]);
    w.assert_clean();
}

#[test]
fn the_task_aborted_status_is_for_the_victims_only() {
    let control = ControlSettings { task_aborted_status: true, ..ControlSettings::default() };
    let mut w = World::with(1, Limits::default(), control);
    let (s, victim) = (w.login(0, "iqn.a"), w.login(0, "iqn.b"));
    let (t1, a) = w.simple(0, s, &READ_1);
    let (t2, b) = w.simple(0, victim, &READ_1);
    let tmf = w.tmf(0, s, F::ClearTaskSet, None);
    w.finish(0, a);
    w.finish(0, b);
    let aborted = Seen::Response(t2, ScsiStatus::TASK_ABORTED, None);
    w.expect(0, &[aborted, Seen::Dropped(t1), Seen::Tmf(tmf, R::Complete)]);
    w.assert_clean();
}

#[test]
fn without_it_the_victims_get_a_unit_attention() {
    let mut w = World::with(1, Limits::default(), ControlSettings::default());
    let (s, victim) = (w.login(0, "iqn.a"), w.login(0, "iqn.b"));
    let (t1, a) = w.simple(0, victim, &READ_1);
    let tmf = w.tmf(0, s, F::ClearTaskSet, None);
    w.finish(0, a);
    w.expect(0, &[Seen::Dropped(t1), Seen::Tmf(tmf, R::Complete)]);
    let (t2, _) = w.simple(0, victim, &READ_1);
    w.expect(0, &[Seen::Response(t2, CHECK, Some((6, 0x2f00)))]);
}

#[test]
fn target_reset_resets_every_unit_of_the_nexus() {
    let mut w = World::new(2);
    let s = w.login(1, "iqn.a");
    let tmf = w.tmf(1, s, F::TargetReset, None);
    w.expect(1, &[Seen::Tmf(tmf, R::Complete)]);
    assert_eq!((w.media[0].borrow().resets, w.media[1].borrow().resets), (1, 1));
}

#[test]
fn a_lost_session_ends_its_commands_without_a_word() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let (t1, a) = w.simple(0, s, &READ_1);
    let (t2, b) = w.simple(0, s, &WRITE_1);
    w.expect(0, &[Seen::RequestData(t2, 512)]);
    w.nodes[0].shard.session_down(w.now, s);
    w.run(0);
    w.expect(0, &[Seen::AbortData(t2)]);
    w.data(0, b, Err(DataError::Stopped));
    w.finish(0, a);
    w.expect(0, &[Seen::Dropped(t2), Seen::Dropped(t1), Seen::Closed(s)]);
    assert_eq!(w.nodes[0].shard.engine().session_count(), 0);
    w.assert_clean();
}

#[test]
fn a_reset_that_nothing_lets_through_fails_and_has_aborted_nothing_that_still_executes() {
    let mut w = World::new(2);
    let (s, victim) = (w.login(0, "iqn.a"), w.login(1, "iqn.b"));
    let (t1, a) = w.simple(0, s, &READ_1);
    let (t2, b) = w.simple(1, victim, &READ_1);
    let tmf = w.tmf(0, s, F::LogicalUnitReset, None);
    assert_eq!(w.media[0].borrow().cancelled, [a, b]);
    w.pass(Nanos::from_millis(11_500));
    w.expect(0, &[]);
    w.pass(Nanos::from_millis(500));
    w.expect(0, &[Seen::Tmf(tmf, R::Failed)]);
    assert_eq!(w.media[0].borrow().resets, 0);
    // The unit is open for others, and what was not aborted is answered when it ends.
    let (t3, c) = w.simple(0, s, &READ_1);
    assert_eq!(w.executing(0), [a, b, c]);
    w.finish(0, a);
    w.finish(1, b);
    w.finish(0, c);
    w.expect(1, &[good(t2)]);
    w.expect(0, &[good(t1), good(t3)]);
    w.assert_clean();
    w.assert_nothing_waits();
}

#[test]
fn abort_task_fails_in_time_and_the_command_is_answered_when_it_ends() {
    for function in [F::AbortTask, F::AbortTaskSet, F::ITNexusReset] {
        let mut w = World::new(1);
        let s = w.login(0, "iqn.a");
        let (t, a) = w.simple(0, s, &WRITE_1);
        w.data(0, a, Ok(()));
        w.nodes[0].driver.seen.clear();
        let tmf = w.tmf(0, s, function, Some(a));
        w.pass(Nanos::from_secs(12));
        w.expect(0, &[Seen::Tmf(tmf, R::Failed)]);
        w.finish(0, a);
        w.expect(0, &[good(t)]);
        w.assert_clean();
    }
}

#[test]
fn no_command_vanishes_with_a_function_that_fails() {
    for function in [F::AbortTaskSet, F::LogicalUnitReset, F::TargetReset, F::ITNexusReset] {
        let mut w = World::new(1);
        let s = w.login(0, "iqn.a");
        let (t1, hung) = w.simple(0, s, &READ_1);
        let (t2, _queued) = w.send_with(0, s, 0, &READ_1, TaskAttribute::Ordered, false);
        let tmf = w.tmf(0, s, function, None);
        w.expect(0, &[]);
        w.pass(Nanos::from_secs(12));
        let aborted = Seen::Response(t2, ScsiStatus::TASK_ABORTED, None);
        w.expect(0, &[aborted, Seen::Tmf(tmf, R::Failed)]);
        w.finish(0, hung);
        w.expect(0, &[good(t1)]);
        w.assert_clean();
    }
}

#[test]
fn a_session_ends_within_a_function_that_keeps_commands_back() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let (t1, a) = w.simple(0, s, &READ_1);
    let (t2, _queued) = w.send_with(0, s, 0, &READ_1, TaskAttribute::Ordered, false);
    let tmf = w.tmf(0, s, F::AbortTaskSet, None);
    w.nodes[0].shard.session_down(w.now, s);
    w.run(0);
    w.expect(0, &[Seen::Dropped(t2)]);
    w.finish(0, a);
    w.expect(0, &[Seen::Dropped(t1), Seen::Tmf(tmf, R::Complete), Seen::Closed(s)]);
    w.assert_clean();
}

#[test]
fn a_reset_ends_the_owner_of_a_barrier() {
    // MODE SELECT has the unit for itself, COMPARE AND WRITE its blocks; from another nexus and from its own.
    for (cdb, own, reactor) in [(EXCLUSIVE, false, 0), (EXCLUSIVE, true, 0), (CAW, false, 1), (CAW, true, 0)] {
        let mut w = World::new(2);
        let (a, b) = (w.login(0, "iqn.a"), w.login(reactor, "iqn.b"));
        let (t, owner) = w.simple(0, a, &cdb);
        let (waits, _) = w.simple(0, a, &READ_1);
        assert_eq!(w.executing(0), [owner]);
        let (node, session) = if own { (0, a) } else { (reactor, b) };
        let tmf = w.tmf(node, session, F::LogicalUnitReset, None);
        assert_eq!(w.media[0].borrow().cancelled, [owner], "{cdb:02x?} own {own}");
        w.finish(0, owner);
        let mut expected = vec![Seen::Dropped(waits), Seen::Dropped(t)];
        if own {
            // A function tells the end of its own nexus's commands when it is complete.
            expected.reverse();
        }
        if node == 0 {
            expected.push(Seen::Tmf(tmf, R::Complete));
        } else {
            w.expect(1, &[Seen::Tmf(tmf, R::Complete)]);
        }
        w.expect(0, &expected);
        assert_eq!(w.media[0].borrow().resets, 1);
        w.assert_clean();
        w.assert_nothing_waits();
    }
}

#[test]
fn clear_task_set_of_a_shared_set_ends_the_owner_of_a_barrier() {
    let mut w = World::with(1, Limits::default(), ControlSettings::default());
    let (a, b) = (w.login(0, "iqn.a"), w.login(0, "iqn.b"));
    let (t, owner) = w.simple(0, a, &CAW);
    let tmf = w.tmf(0, b, F::ClearTaskSet, None);
    assert_eq!(w.media[0].borrow().cancelled, [owner]);
    w.finish(0, owner);
    w.expect(0, &[Seen::Dropped(t), Seen::Tmf(tmf, R::Complete)]);
    w.assert_clean();
}

#[test]
fn what_an_owner_changed_before_it_was_reset_is_there_before_the_reset() {
    let mut w = World::new(2);
    let (a, b) = (w.login(0, "iqn.a"), w.login(1, "iqn.b"));
    let (_, owner) = w.simple(0, a, &EXCLUSIVE);
    w.tmf(1, b, F::LogicalUnitReset, None);
    let control = ControlSettings { descriptor_sense: true, ..crate::common::per_nexus() };
    let effects = SideEffects { control: Some(control), ..SideEffects::default() };
    w.media[0].borrow_mut().outcome = Some(Outcome { effects, ..Outcome::good(0) });
    w.finish(0, owner);
    // The reset has brought the defaults back.
    let t = w.send(1, b, 0, &[0xee; 6], TaskAttribute::Simple);
    w.nodes[1].driver.seen.clear();
    let (_, c) = w.simple(1, b, &[0xee; 6]);
    assert_eq!(w.nodes[1].shard.engine().response(c).unwrap().sense_format, SenseFormat::Fixed, "{t}");
}

#[test]
fn queries_say_what_is_there() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let (_, a) = w.simple(0, s, &READ_1);
    let q1 = w.tmf(0, s, F::QueryTask, Some(a));
    let q2 = w.tmf(0, s, F::QueryTaskSet, None);
    let q3 = w.tmf(0, s, F::QueryAsynchronousEvent, None);
    w.expect(0, &[Seen::Tmf(q1, R::Succeeded), Seen::Tmf(q2, R::Succeeded), Seen::Tmf(q3, R::Complete)]);
}

#[test]
fn an_aborted_command_for_which_there_is_no_buffer_ends_without_a_status() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    w.nodes[0].pool.refuse = true;
    let (t, a) = w.arrive(0, new_command(s, 0, &READ_1, TaskAttribute::Simple));
    let tmf = w.tmf(0, s, F::AbortTask, Some(a));
    w.expect(0, &[Seen::Dropped(t), Seen::Tmf(tmf, R::Complete)]);
    w.assert_clean();
}

#[test]
fn target_reset_resets_a_unit_with_two_numbers_once() {
    let mut w = World::new(1);
    w.set_target(target(rows(&[(0, 0, false), (1, 0, false)])));
    let s = w.login(0, "iqn.a");
    let tmf = w.tmf(0, s, F::TargetReset, None);
    w.expect(0, &[Seen::Tmf(tmf, R::Complete)]);
    assert_eq!(w.media[0].borrow().resets, 1);
}

#[test]
fn commands_that_are_kept_out_and_aborted_leave_nothing_behind() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    // It owns the unit until the device has finished it.
    let (_, owner) = w.simple(0, s, &[0x55; 1]);
    assert_eq!(w.executing(0), [owner]);
    let size = |w: &World| format!("{:?}", w.nodes[0].shard.engine()).len();
    let round = |w: &mut World| {
        let (t, a) = w.simple(0, s, &READ_1);
        let tmf = w.tmf(0, s, F::AbortTask, Some(a));
        w.expect(0, &[Seen::Dropped(t), Seen::Tmf(tmf, R::Complete)]);
    };
    round(&mut w);
    let before = size(&w);
    for _ in 0..500 {
        round(&mut w);
    }
    assert!(size(&w) < before + 1000, "{} bytes of state, {before} before", size(&w));
}

#[test]
fn functions_reach_commands_that_were_sent_before_their_lun_became_another_unit() {
    for function in [F::LogicalUnitReset, F::AbortTaskSet, F::ClearTaskSet, F::AbortTask] {
        let mut w = World::new(1);
        let s = w.login(0, "iqn.a");
        let (t, a) = w.simple(0, s, &WRITE_1);
        w.data(0, a, Ok(()));
        w.set_target(target(rows(&[(0, 1, false)])));
        w.nodes[0].driver.seen.clear();
        let tmf = w.tmf(0, s, function, Some(a));
        w.expect(0, &[]);
        assert_eq!(w.executing(0), [a], "{function:?}: the write can still reach the medium");
        w.finish(0, a);
        w.expect(0, &[Seen::Dropped(t), Seen::Tmf(tmf, R::Complete)]);
        w.assert_clean();
    }
}

#[test]
fn functions_for_a_unit_that_has_left_the_home_engine_are_answered_at_once() {
    for function in [F::LogicalUnitReset, F::ClearTaskSet, F::TargetReset] {
        let mut w = World::with(2, Limits::default(), ControlSettings::default());
        let s = w.login(1, "iqn.a");
        let (t, a) = w.simple(1, s, &READ_1);
        // The news have reached the home of device 0 and not yet this reactor.
        for control in
            [Control::SetTarget(Arc::new(target(rows(&[(1, 1, false)])))), Control::RemoveDevice(DeviceId(0))]
        {
            w.control(0, control);
        }
        let first = w.tmf(1, s, function, None);
        w.expect(1, &[]);
        assert_eq!(w.executing(0), [a], "{function:?}: the read is not over yet");
        w.finish(1, a);
        w.expect(1, &[Seen::Dropped(t), Seen::Tmf(first, R::Complete)]);
        let second = w.tmf(1, s, function, None);
        let nothing_there = if function == F::TargetReset { R::Complete } else { R::IncorrectLun };
        w.expect(1, &[Seen::Tmf(second, nothing_there)]);
        w.assert_nothing_waits();
        w.assert_clean();
    }
}

#[test]
fn functions_reach_commands_whose_lun_is_gone() {
    for function in [F::LogicalUnitReset, F::AbortTaskSet, F::ClearTaskSet, F::AbortTask] {
        let mut w = World::new(1);
        let s = w.login(0, "iqn.a");
        let (t, a) = w.simple(0, s, &READ_1);
        w.set_target(target(rows(&[(1, 1, false)])));
        w.nodes[0].driver.seen.clear();
        let tmf = w.tmf(0, s, function, Some(a));
        w.expect(0, &[]);
        w.finish(0, a);
        w.expect(0, &[Seen::Dropped(t), Seen::Tmf(tmf, R::Complete)]);
        let late = w.tmf(0, s, function, Some(a));
        w.expect(0, &[Seen::Tmf(late, R::IncorrectLun)]);
    }
}

/// The session ends while a function of it is in progress.
fn close(w: &mut World, node: usize, session: scst_core::ids::SessionId) {
    w.nodes[node].shard.session_down(w.now, session);
    w.run(node);
}

#[test]
fn clear_task_set_does_not_become_a_reset_when_its_session_ends() {
    let mut w = World::with(1, Limits::default(), ControlSettings::default());
    let (s, other) = (w.login(0, "iqn.a"), w.login(0, "iqn.b"));
    let (t, slow) = w.simple(0, other, &READ_1);
    w.tmf(0, s, F::ClearTaskSet, None);
    close(&mut w, 0, s);
    w.expect(0, &[Seen::Closed(s)]);
    w.finish(0, slow);
    w.expect(0, &[good(t)]);
    assert_eq!(w.media[0].borrow().resets, 0);
    w.assert_nothing_waits();
}

#[test]
fn a_reset_whose_session_has_ended_keeps_nothing_out() {
    for function in [F::LogicalUnitReset, F::TargetReset] {
        let mut w = World::new(2);
        let (s, other) = (w.login(0, "iqn.a"), w.login(1, "iqn.b"));
        let (t, hung) = w.simple(1, other, &READ_1);
        w.tmf(0, s, function, None);
        close(&mut w, 0, s);
        let (_, next) = w.simple(1, other, &READ_1);
        assert_eq!(w.executing(0), [hung, next]);
        w.finish(1, hung);
        w.expect(1, &[good(t)]);
        w.finish(1, next);
        w.assert_nothing_waits();
    }
}

#[test]
fn a_command_does_not_vanish_when_its_data_come_to_rest_after_the_function_has_failed() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let (t, a) = w.simple(0, s, &WRITE_1);
    let tmf = w.tmf(0, s, F::AbortTask, Some(a));
    w.pass(Nanos::from_secs(13));
    w.expect(0, &[Seen::RequestData(t, 512), Seen::AbortData(t), Seen::Tmf(tmf, R::Failed)]);
    w.data(0, a, Err(DataError::Stopped));
    w.expect(0, &[Seen::Response(t, ScsiStatus::TASK_ABORTED, None)]);
    w.assert_clean();
}

#[test]
fn every_engine_hears_of_a_reset_that_was_given_up_while_the_device_was_reset() {
    let mut w = World::new(2);
    let (s, holder) = (w.login(1, "iqn.a"), w.login(0, "iqn.b"));
    let reserved = w.send(0, holder, 0, &[0x16, 0, 0, 0, 0, 0], TaskAttribute::Simple);
    w.expect(0, &[good(reserved)]);
    w.prompt = false;
    let reset = w.tmf(1, s, F::LogicalUnitReset, None);
    while let Some((_, to, message)) = w.wire.pop_front() {
        let alone = matches!(message, Message::BarrierGranted { .. });
        w.nodes[to].shard.message(w.now, message);
        if alone {
            break;
        }
        w.run(to);
    }
    // The shard has not run when the time is over.
    w.now = w.now.after(Nanos::from_secs(13));
    w.nodes[1].shard.handle_timeout(w.now);
    w.run(1);
    w.deliver_messages();
    assert_eq!(w.media[0].borrow().resets, 1);
    w.expect(1, &[Seen::Tmf(reset, R::Failed)]);
    let ready = w.send(1, s, 0, &[0; 6], TaskAttribute::Simple);
    w.expect(1, &[Seen::Response(ready, CHECK, Some((6, 0x2900)))]);
    assert_eq!(w.nodes[1].shard.poll_timeout().filter(|at| *at > w.now.after(Nanos::from_secs(1))), None);
}
