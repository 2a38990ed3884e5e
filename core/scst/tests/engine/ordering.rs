//! SAM-5 8.6: task attributes.

use crate::common::{READ_1, Seen, WRITE_1, World, good, new_command};
use scst_core::handler::ControlSettings;
use scst_core::{CommandState, engine::Limits};
use scst_scsi::{ScsiStatus, TaskAttribute};

#[test]
fn simple_commands_run_side_by_side() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let (t1, a) = w.simple(0, s, &READ_1);
    let (t2, b) = w.simple(0, s, &READ_1);
    assert_eq!(w.executing(0), [a, b]);
    w.finish(0, b);
    w.finish(0, a);
    w.expect(0, &[good(t2), good(t1)]);
    w.assert_clean();
}

#[test]
fn an_ordered_command_waits_for_older_ones_and_keeps_newer_ones_back() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let (t1, a) = w.simple(0, s, &READ_1);
    let (t2, b) = w.send_with(0, s, 0, &READ_1, TaskAttribute::Ordered, false);
    let (t3, c) = w.simple(0, s, &READ_1);
    let (t4, d) = w.simple(0, s, &READ_1);
    assert_eq!(w.executing(0), [a]);
    w.finish(0, a);
    assert_eq!(w.executing(0), [b]);
    w.finish(0, b);
    assert_eq!(w.executing(0), [c, d]);
    w.finish(0, c);
    w.finish(0, d);
    w.expect(0, &[good(t1), good(t2), good(t3), good(t4)]);
    w.assert_clean();
}

#[test]
fn head_of_queue_runs_at_once_and_holds_newer_simple_commands() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let (_, a) = w.simple(0, s, &READ_1);
    let (_, b) = w.send_with(0, s, 0, &READ_1, TaskAttribute::Ordered, false);
    let (_, c) = w.send_with(0, s, 0, &READ_1, TaskAttribute::HeadOfQueue, false);
    let (_, d) = w.simple(0, s, &READ_1);
    assert_eq!(w.executing(0), [a, c]);
    w.finish(0, a);
    assert_eq!(w.executing(0), [c, b]);
    w.finish(0, c);
    assert_eq!(w.executing(0), [b], "the ordered one still keeps the newest back");
    w.finish(0, b);
    assert_eq!(w.executing(0), [d]);
}

#[test]
fn a_write_keeps_its_place_while_its_data_are_on_the_way() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let (t1, a) = w.simple(0, s, &WRITE_1);
    w.expect(0, &[Seen::RequestData(t1, 512)]);
    let (_, b) = w.send_with(0, s, 0, &READ_1, TaskAttribute::Ordered, false);
    assert_eq!(w.executing(0), [], "the ordered command is behind the write");
    w.data(0, a, Ok(()));
    assert_eq!(w.executing(0), [a]);
    w.finish(0, a);
    assert_eq!(w.executing(0), [b]);
}

#[test]
fn a_held_command_enters_the_task_set_when_it_is_delivered() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let (_, late) = w.send_with(0, s, 0, &READ_1, TaskAttribute::Ordered, true);
    let (_, first) = w.simple(0, s, &READ_1);
    assert_eq!(w.nodes[0].shard.engine().state(late), Some(CommandState::Held));
    assert_eq!(w.executing(0), [first]);
    w.nodes[0].shard.deliver(w.now, late);
    w.run(0);
    assert_eq!(w.executing(0), [first]);
    w.finish(0, first);
    assert_eq!(w.executing(0), [late]);
}

#[test]
fn with_one_task_set_for_all_an_ordered_command_is_alone_across_reactors() {
    let mut w = World::with(2, Limits::default(), ControlSettings::default());
    let (s0, s1) = (w.login(0, "iqn.a"), w.login(1, "iqn.b"));
    let (_, a) = w.simple(0, s0, &READ_1);
    let (_, b) = w.send_with(1, s1, 0, &READ_1, TaskAttribute::Ordered, false);
    let (_, c) = w.simple(0, s0, &READ_1);
    assert_eq!(w.executing(0), [a], "the ordered one waits, and what is newer waits behind it");
    w.finish(0, a);
    assert_eq!(w.executing(0), [b]);
    w.finish(1, b);
    assert_eq!(w.executing(0), [c]);
}

#[test]
fn too_many_commands_get_task_set_full_and_a_lonely_one_busy() {
    let limits = Limits { commands_per_nexus: 2, ..Limits::default() };
    let mut w = World::with(1, limits, crate::common::per_nexus());
    let s = w.login(0, "iqn.a");
    let (t1, a) = w.simple(0, s, &READ_1);
    let (t2, b) = w.simple(0, s, &READ_1);
    let (t3, _) = w.simple(0, s, &READ_1);
    w.expect(0, &[Seen::Response(t3, ScsiStatus::TASK_SET_FULL, None)]);
    w.finish(0, a);
    w.finish(0, b);
    w.expect(0, &[good(t1), good(t2)]);
    w.nodes[0].pool.refuse = true;
    let (t4, _) = w.simple(0, s, &READ_1);
    w.expect(0, &[Seen::Response(t4, ScsiStatus::BUSY, None)]);
    w.assert_clean();
}

#[test]
fn commands_that_arrive_together_keep_their_order_with_and_without_a_buffer() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    // One receive brings both; the second needs no buffer and is ready first.
    let (t1, a) = w.arrive(0, new_command(s, 0, &READ_1, TaskAttribute::Simple));
    let (t2, b) = w.arrive(0, new_command(s, 0, &[0; 6], TaskAttribute::Ordered));
    let (t3, c) = w.arrive(0, new_command(s, 0, &WRITE_1, TaskAttribute::Simple));
    w.run(0);
    w.expect(0, &[Seen::RequestData(t3, 512)]);
    assert_eq!(w.executing(0), [a], "the ordered one is behind the read");
    w.finish(0, a);
    w.data(0, c, Ok(()));
    assert_eq!(w.executing(0), [b]);
    w.finish(0, b);
    assert_eq!(w.executing(0), [c]);
    w.finish(0, c);
    w.expect(0, &[good(t1), good(t2), good(t3)]);
    w.assert_clean();
}

#[test]
fn a_held_command_that_is_delivered_before_it_has_a_buffer_takes_its_place() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let read = new_command(s, 0, &READ_1, TaskAttribute::Simple);
    let (_, a) = w.arrive(0, scst_core::driver::NewCommand { held: true, ..read });
    w.nodes[0].shard.deliver(w.now, a);
    let (_, b) = w.arrive(0, new_command(s, 0, &[0; 6], TaskAttribute::Ordered));
    w.run(0);
    assert_eq!(w.executing(0), [a]);
    w.finish(0, a);
    assert_eq!(w.executing(0), [b]);
}

#[test]
fn a_write_that_is_announced_in_both_directions_is_refused_not_forgotten() {
    use scst_core::driver::{ExpectedTransfer, NewCommand};
    use scst_scsi::DataDirection::Bidirectional;
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let expected = Some(ExpectedTransfer { direction: Bidirectional, length: 512, read_length: 512 });
    for cdb in [&WRITE_1, &READ_1] {
        let new = NewCommand { expected, ..new_command(s, 0, cdb, TaskAttribute::Simple) };
        let (tag, _) = w.arrive(0, new);
        w.run(0);
        w.expect(0, &[Seen::Response(tag, ScsiStatus::CHECK_CONDITION, Some((5, 0x4900)))]);
    }
    w.assert_clean();
}

#[test]
fn a_session_has_its_share_of_buffers_and_no_more() {
    let limits = Limits { bytes_per_session: 1024, ..Limits::default() };
    let mut w = World::with(1, limits, crate::common::per_nexus());
    let (s, other) = (w.login(0, "iqn.a"), w.login(0, "iqn.b"));
    let read = |blocks| [0x28, 0, 0, 0, 0, 0, 0, 0, blocks, 0];
    let (t1, a) = w.simple(0, s, &read(9));
    let (t2, _) = w.simple(0, s, &READ_1);
    w.expect(0, &[Seen::Response(t2, ScsiStatus::TASK_SET_FULL, None)]);
    let (t3, b) = w.simple(0, other, &READ_1);
    w.finish(0, b);
    w.finish(0, a);
    w.expect(0, &[good(t3), good(t1)]);
    let (t4, c) = w.simple(0, s, &read(2));
    w.finish(0, c);
    w.expect(0, &[good(t4)]);
    w.assert_clean();
}

#[test]
fn an_ordered_command_is_not_answered_before_what_it_waited_for() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let (first, a) = w.simple(0, s, &READ_1);
    let (second, _) = w.send_with(0, s, 0, &READ_1, TaskAttribute::Ordered, false);
    assert_eq!(w.executing(0), [a]);
    // Its device answers the second one at once, while the end of the first is still being dealt with.
    w.media[0].borrow_mut().inline = true;
    w.finish(0, a);
    w.expect(0, &[good(first), good(second)]);
    w.assert_clean();
}

#[test]
fn a_command_that_arrives_while_an_ordered_one_ends_is_answered_after_it() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let (first, a) = w.send_with(0, s, 0, &READ_1, TaskAttribute::Ordered, false);
    assert_eq!(w.executing(0), [a]);
    w.media[0].borrow_mut().inline = true;
    // It arrives, then the first one ends, then the shard runs.
    let (second, _) = w.arrive(0, new_command(s, 0, &READ_1, TaskAttribute::Simple));
    w.finish(0, a);
    w.expect(0, &[good(first), good(second)]);
    w.assert_clean();
}

#[test]
fn what_waited_for_report_luns_is_answered_after_it() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    w.media[0].borrow_mut().inline = true;
    let report_luns = [0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    let (first, _) = w.arrive(0, new_command(s, 0, &report_luns, TaskAttribute::Simple));
    let (second, _) = w.arrive(0, new_command(s, 0, &READ_1, TaskAttribute::Simple));
    w.run(0);
    w.expect(0, &[good(first), good(second)]);
    w.assert_clean();
}
