//! What waits has a deadline, and what depends on nothing does not wait.

use crate::common::{CAW, EXCLUSIVE, INQUIRY, READ_1, Seen, WRITE_1, World, good};
use scst_core::Nanos;
use scst_core::engine::Limits;
use scst_core::handler::{ControlSettings, Outcome, SideEffects};
use scst_scsi::{Asc, ScsiStatus, TaskAttribute};

fn busy(tag: u64) -> Seen {
    Seen::Response(tag, ScsiStatus::BUSY, None)
}

#[test]
fn inquiry_is_answered_beside_the_owner_of_the_unit() {
    for reactor in [0, 1] {
        let mut w = World::new(2);
        let (a, b) = (w.login(0, "iqn.a"), w.login(reactor, "iqn.b"));
        let (t, owner) = w.simple(0, a, &EXCLUSIVE);
        let (asked, inquiry) = w.simple(reactor, b, &INQUIRY);
        assert_eq!(w.executing(0), [owner, inquiry]);
        w.finish(reactor, inquiry);
        assert_eq!(w.nodes[reactor].driver.seen, [good(asked)]);
        w.expect(reactor, &[good(asked)]);
        w.finish(0, owner);
        assert!(w.nodes[0].driver.seen.contains(&good(t)));
    }
}

#[test]
fn what_the_mid_level_answers_itself_does_not_wait_either() {
    const REPORT_LUNS: [u8; 12] = [0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    const REQUEST_SENSE: [u8; 6] = [0x03, 0, 0, 0, 18, 0];
    let mut w = World::new(1);
    let (a, b) = (w.login(0, "iqn.a"), w.login(0, "iqn.b"));
    let (_, owner) = w.simple(0, a, &EXCLUSIVE);
    let (t1, _) = w.simple(0, b, &REPORT_LUNS);
    let (t2, _) = w.simple(0, b, &REQUEST_SENSE);
    w.expect(0, &[good(t1), good(t2)]);
    assert_eq!(w.executing(0), [owner]);
}

#[test]
fn an_owner_does_not_wait_for_inquiry() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let (_, inquiry) = w.simple(0, s, &INQUIRY);
    let (_, owner) = w.simple(0, s, &EXCLUSIVE);
    assert_eq!(w.executing(0), [inquiry, owner]);
}

#[test]
fn with_restricted_reordering_inquiry_overtakes_what_waits_for_its_turn() {
    let control = ControlSettings { restricted_reordering: true, ..ControlSettings::default() };
    let mut w = World::with(1, Limits::default(), control);
    let s = w.login(0, "iqn.a");
    let (_, first) = w.simple(0, s, &READ_1);
    let (_, _second) = w.simple(0, s, &READ_1);
    let (_, inquiry) = w.simple(0, s, &INQUIRY);
    assert_eq!(w.executing(0), [first, inquiry]);
}

#[test]
fn a_command_that_is_kept_out_too_long_is_busy() {
    for (owner, kept_out) in [(EXCLUSIVE, READ_1), (CAW, READ_1)] {
        let mut w = World::new(2);
        let (a, b) = (w.login(0, "iqn.a"), w.login(1, "iqn.b"));
        let (_, owner) = w.simple(0, a, &owner);
        let (t1, _) = w.simple(1, b, &kept_out);
        w.pass(Nanos::from_secs(20));
        let (t2, _) = w.simple(1, b, &kept_out);
        w.pass(Nanos::from_millis(9_500));
        w.expect(1, &[]);
        w.pass(Nanos::from_millis(500));
        w.expect(1, &[busy(t1)]);
        w.pass(Nanos::from_secs(20));
        w.expect(1, &[busy(t2)]);
        assert_eq!(w.executing(0), [owner]);
    }
}

#[test]
fn a_command_that_cannot_be_alone_in_time_is_busy() {
    for cdb in [EXCLUSIVE, CAW] {
        let mut w = World::new(2);
        let (a, b) = (w.login(0, "iqn.a"), w.login(1, "iqn.b"));
        let (_, hung) = w.simple(1, b, &READ_1);
        let (t, _) = w.simple(0, a, &cdb);
        w.pass(Nanos::from_millis(29_500));
        w.expect(0, &[]);
        w.pass(Nanos::from_millis(500));
        w.expect(0, &[busy(t)]);
        // The unit is open again.
        let (_, next) = w.simple(0, a, &READ_1);
        assert_eq!(w.executing(0), [hung, next]);
    }
}

#[test]
fn the_operations_of_an_owner_that_works_too_long_are_cancelled_once() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    // What the opcode table recommends for MODE SELECT.
    let (t, owner) = w.simple(0, s, &EXCLUSIVE);
    w.pass(Nanos::from_millis(29_500));
    assert_eq!(w.media[0].borrow().cancelled, []);
    w.pass(Nanos::from_millis(500));
    assert_eq!(w.media[0].borrow().cancelled, [owner]);
    // It has the unit until it has ended, because until then it may change it.
    let (late, _) = w.simple(0, s, &READ_1);
    w.pass(Nanos::from_secs(31));
    assert_eq!(w.media[0].borrow().cancelled, [owner]);
    w.expect(0, &[busy(late)]);
    w.finish(0, owner);
    w.expect(0, &[good(t)]);
    let (_, next) = w.simple(0, s, &READ_1);
    assert_eq!(w.executing(0), [next]);
}

#[test]
fn ranges_that_do_not_overlap_do_not_wait_for_a_range_that_hangs() {
    let caw = |lba| [0x89, 0, 0, 0, 0, lba, 0, 0, 1, 0];
    let mut w = World::new(2);
    let (a, b) = (w.login(0, "iqn.a"), w.login(1, "iqn.b"));
    let (_, hung) = w.simple(0, a, &caw(1));
    w.simple(1, b, &caw(1));
    let (_, apart) = w.simple(1, b, &caw(2));
    assert_eq!(w.executing(0), [hung, apart]);
}

#[test]
fn a_write_that_waited_longest_goes_first() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let (_, owner) = w.simple(0, s, &EXCLUSIVE);
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let (_, write) = w.send_with(0, s, 0, &WRITE_1, TaskAttribute::Simple, false);
            w.data(0, write, Ok(()));
            write
        })
        .collect();
    w.finish(0, owner);
    assert_eq!(w.executing(0), waiting);
}

#[test]
fn what_does_not_wait_finds_what_an_answered_command_has_changed() {
    // The owner lives on the home of the device, or elsewhere.
    for (owner_at, other_at) in [(0, 1), (1, 0)] {
        let mut w = World::new(2);
        let (a, b) = (w.login(owner_at, "iqn.a"), w.login(other_at, "iqn.b"));
        let (t, owner) = w.simple(owner_at, a, &EXCLUSIVE);
        w.prompt = false;
        let effects = SideEffects { attention_for_others: Some(Asc(0x2a01)), ..SideEffects::default() };
        w.media[0].borrow_mut().outcome = Some(Outcome { effects, ..Outcome::good(0) });
        w.finish(owner_at, owner);
        // It is not answered before every reactor knows.
        while !w.nodes[owner_at].driver.seen.contains(&good(t)) {
            let (_, to, message) = w.wire.pop_front().expect("an answer");
            w.nodes[to].shard.message(w.now, message);
            w.run(to);
        }
        let (asked, _) = w.simple(other_at, b, &[3, 0, 0, 0, 18, 0]);
        w.expect(other_at, &[good(asked)]);
        assert_eq!((w.nodes[other_at].pool.last[2], w.nodes[other_at].pool.last[12]), (6, 0x2a));
    }
}

#[test]
fn the_time_that_one_barrier_has_kept_a_command_out_counts_at_the_next() {
    const fn at(opcode: u8, lba: u8, blocks: u8) -> [u8; 10] {
        [opcode, 0, 0, 0, 0, lba, 0, 0, blocks, 0]
    }
    let mut w = World::new(1);
    let (s, b) = (w.login(0, "iqn.a"), w.login(0, "iqn.b"));
    let (t, first) = w.simple(0, s, &at(0x89, 0, 1));
    let (_, second) = w.simple(0, s, &at(0x89, 1, 1));
    let (old, _) = w.simple(0, b, &at(0x28, 0, 2));
    w.pass(Nanos::from_secs(20));
    let (young, _) = w.simple(0, b, &at(0x28, 1, 1));
    w.pass(Nanos::from_secs(9));
    w.finish(0, first);
    w.expect(0, &[good(t)]);
    w.pass(Nanos::from_secs(1));
    w.expect(0, &[busy(old)]);
    w.pass(Nanos::from_secs(19));
    w.expect(0, &[]);
    w.pass(Nanos::from_secs(1));
    w.expect(0, &[busy(young)]);
    assert_eq!(w.executing(0), [second]);
}

#[test]
fn ranges_at_the_last_number_of_a_block_come_one_after_the_other() {
    let mut w = World::new(1);
    let s = w.login(0, "iqn.a");
    let last = [0x89, 0, 0, 0, 0, 0xff, 0, 0, 1, 0];
    let commands = [w.simple(0, s, &last), w.simple(0, s, &last), w.simple(0, s, &last)];
    for (tag, id) in commands {
        assert_eq!(w.executing(0), [id]);
        w.finish(0, id);
        w.expect(0, &[good(tag)]);
    }
    w.assert_clean();
    w.assert_nothing_waits();
}
