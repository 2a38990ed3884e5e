//! READs that are answered with the page cache itself: what must not show in them waits until they are sent.

use crate::common::{READ_1, Seen, WRITE_1, World, good, per_nexus};
use scst_core::engine::Limits;
use scst_core::handler::ControlSettings;
use scst_core::ids::SessionId;
use scst_scsi::{ScsiStatus, TaskAttribute, TaskManagementFunction, TaskManagementResponse};

/// COMPARE AND WRITE of block 0 and of block 9.
const COMPARE_0: [u8; 10] = [0x89, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const COMPARE_9: [u8; 10] = [0x89, 0, 0, 0, 0, 9, 0, 0, 1, 0];
const RESERVE: [u8; 6] = [0x16, 0, 0, 0, 0, 0];

fn world(reactors: u16, control: ControlSettings) -> World {
    let w = World::with(reactors, Limits::default(), control);
    w.media[0].borrow_mut().mapped = true;
    w
}

fn login(w: &mut World, node: usize, initiator: &str) -> SessionId {
    let session = w.login(node, initiator);
    w.nodes[node].shard.set_takes_mapped(session, true);
    session
}

#[test]
fn an_ordered_write_behind_a_mapped_read_waits_until_its_data_are_sent() {
    let mut w = world(1, per_nexus());
    let s = login(&mut w, 0, "iqn.a");
    let (read, _) = w.simple(0, s, &READ_1);
    let (write, cmd) = w.send_with(0, s, 0, &WRITE_1, TaskAttribute::Ordered, false);
    w.data(0, cmd, Ok(()));
    assert_eq!(w.executing(0), [], "the read's data are still in the file");
    w.expect(0, &[good(read), Seen::RequestData(write, 512)]);
    assert_eq!(w.executing(0), [cmd]);
    w.finish(0, cmd);
    w.expect(0, &[good(write)]);
    w.assert_clean();
}

#[test]
fn with_restricted_reordering_every_write_waits() {
    let mut w = world(1, ControlSettings { restricted_reordering: true, ..per_nexus() });
    let s = login(&mut w, 0, "iqn.a");
    let (read, _) = w.simple(0, s, &READ_1);
    let (write, cmd) = w.simple(0, s, &WRITE_1);
    w.data(0, cmd, Ok(()));
    assert_eq!(w.executing(0), []);
    w.expect(0, &[good(read), Seen::RequestData(write, 512)]);
    assert_eq!(w.executing(0), [cmd]);
}

#[test]
fn a_simple_write_does_not_wait() {
    let mut w = world(1, per_nexus());
    let s = login(&mut w, 0, "iqn.a");
    let (read, _) = w.simple(0, s, &READ_1);
    let (write, cmd) = w.simple(0, s, &WRITE_1);
    w.data(0, cmd, Ok(()));
    assert_eq!(w.executing(0), [cmd]);
    w.finish(0, cmd);
    w.expect(0, &[good(read), Seen::RequestData(write, 512), good(write)]);
    w.assert_clean();
}

#[test]
fn who_must_be_alone_waits_for_mapped_data_on_every_reactor() {
    let mut w = world(2, per_nexus());
    let (a, b) = (login(&mut w, 0, "iqn.a"), login(&mut w, 1, "iqn.b"));
    let (read, _) = w.simple(1, b, &READ_1);
    let (apart, other) = w.simple(0, a, &COMPARE_9);
    assert_eq!(w.executing(0), [other], "another range");
    w.finish(0, other);
    let (compare, cmd) = w.simple(0, a, &COMPARE_0);
    w.expect(0, &[good(apart)]);
    assert_eq!(w.executing(0), []);
    w.expect(1, &[good(read)]);
    assert_eq!(w.executing(0), [cmd]);
    w.finish(0, cmd);
    w.expect(0, &[good(compare)]);
    let (read, _) = w.simple(1, b, &READ_1);
    let (reserve, _) = w.simple(0, a, &RESERVE);
    w.expect(0, &[]);
    w.expect(1, &[good(read)]);
    w.expect(0, &[good(reserve)]);
    w.assert_clean();
}

#[test]
fn a_read_that_is_alone_itself_and_one_of_a_session_that_looks_at_data_get_a_buffer() {
    let mut w = world(1, ControlSettings::default());
    let (plain, mapped) = (w.login(0, "iqn.a"), login(&mut w, 0, "iqn.b"));
    let (t1, cmd) = w.simple(0, plain, &READ_1);
    assert_eq!(w.executing(0), [cmd]);
    w.finish(0, cmd);
    let (t2, ordered) = w.send_with(0, mapped, 0, &READ_1, TaskAttribute::Ordered, false);
    assert_eq!(w.executing(0), [ordered], "its barrier must not wait for a socket");
    w.finish(0, ordered);
    let (t3, _) = w.simple(0, mapped, &READ_1);
    w.expect(0, &[good(t1), good(t2), good(t3)]);
    w.assert_clean();
}

#[test]
fn task_management_does_not_wait_for_a_socket() {
    let mut w = world(1, per_nexus());
    let s = login(&mut w, 0, "iqn.a");
    let (read, cmd) = w.simple(0, s, &READ_1);
    let t1 = w.tmf(0, s, TaskManagementFunction::LogicalUnitReset, None);
    let t2 = w.tmf(0, s, TaskManagementFunction::AbortTask, Some(cmd));
    let seen = std::mem::take(&mut w.nodes[0].driver.seen);
    assert_eq!(seen[0], good(read));
    assert!(seen.contains(&Seen::Tmf(t1, TaskManagementResponse::Complete)), "{seen:?}");
    assert!(matches!(seen.last(), Some(Seen::Tmf(t, _)) if *t == t2), "{seen:?}");
    w.expect(0, &[]);
    w.assert_clean();
}

#[test]
fn a_read_that_is_aborted_before_it_began_gives_everything_back() {
    let mut w = world(1, ControlSettings { task_aborted_status: true, ..per_nexus() });
    let (a, b) = (login(&mut w, 0, "iqn.a"), login(&mut w, 0, "iqn.b"));
    // The command and the reset that aborts it are there before the shard runs.
    let new = crate::common::new_command(a, 0, &READ_1, TaskAttribute::Simple);
    let (read, _) = w.arrive(0, new);
    let reset = w.tmf(0, b, TaskManagementFunction::LogicalUnitReset, None);
    let aborted = Seen::Response(read, ScsiStatus::TASK_ABORTED, None);
    let seen = w.nodes[0].driver.seen.clone();
    assert!(seen.contains(&aborted) && seen.contains(&Seen::Tmf(reset, TaskManagementResponse::Complete)), "{seen:?}");
    w.nodes[0].driver.seen.clear();
    w.expect(0, &[]);
    w.assert_clean();
    let (told, _) = w.simple(0, b, &COMPARE_0);
    w.expect(0, &[Seen::Response(told, ScsiStatus::CHECK_CONDITION, Some((6, 0x2900)))]);
    let (_, alone) = w.simple(0, b, &COMPARE_0);
    assert_eq!(w.executing(0), [alone], "nobody is left to wait for");
}

#[test]
fn a_session_that_ends_before_its_data_are_sent_lets_the_others_on() {
    let mut w = world(1, per_nexus());
    let (a, b) = (login(&mut w, 0, "iqn.a"), login(&mut w, 0, "iqn.b"));
    let (read, cmd) = w.simple(0, a, &READ_1);
    let (compare, alone) = w.simple(0, b, &COMPARE_0);
    w.nodes[0].shard.session_down(w.now, a);
    w.run(0);
    assert_eq!(w.executing(0), [], "the socket can still be sending");
    w.nodes[0].shard.response_sent(w.now, cmd);
    w.nodes[0].driver.responding.clear();
    w.run(0);
    assert_eq!(w.executing(0), [alone]);
    w.finish(0, alone);
    w.expect(0, &[good(read), Seen::Closed(a), good(compare)]);
    w.assert_clean();
}
