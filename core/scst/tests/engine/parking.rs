//! One operation that never comes back costs its own command only.

use crate::common::{CAW, READ_1, Seen, WRITE_1, World, good, rows, target};
use scst_core::Nanos;
use scst_core::engine::Limits;
use scst_core::handler::ControlSettings;
use scst_core::ids::{CmdId, DeviceId};
use scst_core::shard::{Control, Notice};
use scst_scsi::TaskManagementFunction as F;
use scst_scsi::TaskManagementResponse as R;
use scst_scsi::{ScsiStatus, TaskAttribute};

const fn write(lba: u8) -> [u8; 10] {
    [0x2a, 0, 0, 0, 0, lba, 0, 0, 1, 0]
}

const fn read(lba: u8) -> [u8; 10] {
    [0x28, 0, 0, 0, 0, lba, 0, 0, 1, 0]
}

/// A session of reactor 0 that has ended, but for a command which does not.
fn stuck(w: &mut World, cdb: &[u8]) -> (u64, CmdId) {
    let s = w.login(0, "iqn.a");
    let (t, hung) = w.simple(0, s, cdb);
    if cdb[0] == 0x2a {
        w.data(0, hung, Ok(()));
    }
    w.nodes[0].driver.seen.clear();
    w.nodes[0].shard.session_down(w.now, s);
    w.run(0);
    w.pass(Nanos::from_millis(500));
    w.expect(0, &[]);
    w.pass(Nanos::from_millis(500));
    w.expect(0, &[Seen::Parked(t), Seen::Closed(s)]);
    assert_eq!(w.nodes[0].notices, [Notice::DeviceStuck { device: DeviceId(0), stuck: true }]);
    (t, hung)
}

#[test]
fn a_session_goes_on_without_a_command_that_does_not_end() {
    for cdb in [READ_1, WRITE_1, CAW] {
        let mut w = World::new(2);
        let (_, hung) = stuck(&mut w, &cdb);
        assert_eq!(w.nodes[0].shard.engine().session_count(), 0);
        assert_eq!(w.nodes[0].pool.out, u32::from(cdb != CAW), "the buffer is in use");
        // The initiator is back at once and uses its other LUN, and other blocks of this one.
        let again = w.login(0, "iqn.a");
        let (t, other) = w.send_with(0, again, 1, &READ_1, TaskAttribute::Simple, false);
        w.finish(0, other);
        w.expect(0, &[good(t)]);
        let (t, apart) = w.simple(0, again, &read(9));
        w.finish(0, apart);
        w.expect(0, &[good(t)]);
        w.finish(0, hung);
        w.expect(0, &[Seen::Unparked(hung)]);
        assert_eq!(w.nodes[0].notices.last(), Some(&Notice::DeviceStuck { device: DeviceId(0), stuck: false }));
        w.assert_clean();
        w.assert_nothing_waits();
    }
}

#[test]
fn nothing_meets_a_write_whose_session_has_ended() {
    for other_at in [0, 1] {
        let mut w = World::new(2);
        let other = w.login(other_at, "iqn.b");
        let (_, hung) = stuck(&mut w, &write(4));
        let (kept_out, reading) = w.simple(other_at, other, &read(4));
        let (t, apart) = w.simple(other_at, other, &read(5));
        assert_eq!(w.executing(0), [hung, apart]);
        w.finish(other_at, apart);
        w.expect(other_at, &[good(t)]);
        w.pass(Nanos::from_secs(31));
        w.expect(other_at, &[Seen::Response(kept_out, ScsiStatus::BUSY, None)]);
        let (t, waiting) = w.simple(other_at, other, &read(4));
        w.finish(0, hung);
        assert_eq!(w.executing(0), [waiting], "{reading:?} gave up");
        w.finish(other_at, waiting);
        assert!(w.nodes[other_at].driver.seen.contains(&good(t)));
    }
}

#[test]
fn a_session_is_gone_only_when_every_reactor_keeps_others_from_its_write() {
    let mut w = World::new(2);
    let (s, other) = (w.login(0, "iqn.a"), w.login(1, "iqn.b"));
    let (_, hung) = w.simple(0, s, &write(4));
    w.data(0, hung, Ok(()));
    w.nodes[0].driver.seen.clear();
    w.nodes[0].shard.session_down(w.now, s);
    w.run(0);
    w.prompt = false;
    w.pass(Nanos::from_secs(1));
    w.expect(0, &[]);
    w.deliver_messages();
    assert!(w.nodes[0].driver.seen.contains(&Seen::Closed(s)));
    w.simple(1, other, &read(4));
    assert_eq!(w.executing(0), [hung]);
}

#[test]
fn a_parked_command_does_not_keep_the_whole_unit_from_others() {
    let mut w = World::new(1);
    let b = w.login(0, "iqn.b");
    let (_, hung) = stuck(&mut w, &write(4));
    // MODE SELECT and RESERVE have nothing to do with it.
    for cdb in [[0x55, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0x16, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
        let (t, select) = w.simple(0, b, &cdb[..if cdb[0] == 0x16 { 6 } else { 10 }]);
        if cdb[0] == 0x55 {
            assert_eq!(w.executing(0), [hung, select]);
            w.finish(0, select);
        }
        w.expect(0, &[good(t)]);
    }
    // A reset is not complete before it has ended.
    let tmf = w.tmf(0, b, F::LogicalUnitReset, None);
    w.pass(Nanos::from_secs(12));
    w.expect(0, &[Seen::Tmf(tmf, R::Failed)]);
    let tmf = w.tmf(0, b, F::LogicalUnitReset, None);
    w.finish(0, hung);
    w.expect(0, &[Seen::Unparked(hung), Seen::Tmf(tmf, R::Complete)]);
    w.assert_clean();
}

#[test]
fn a_command_that_ends_in_time_is_not_parked() {
    let mut w = World::new(2);
    let s = w.login(0, "iqn.a");
    let (t, slow) = w.simple(0, s, &READ_1);
    w.nodes[0].shard.session_down(w.now, s);
    w.run(0);
    w.pass(Nanos::from_millis(500));
    w.finish(0, slow);
    w.expect(0, &[Seen::Dropped(t), Seen::Closed(s)]);
    assert_eq!(w.nodes[0].notices, []);
    w.assert_clean();
    w.assert_nothing_waits();
}

#[test]
fn a_medium_with_too_many_parked_commands_is_busy_until_they_have_ended() {
    let limits = Limits { parked_per_device: 2, ..Limits::default() };
    let mut w = World::with(1, limits, crate::common::per_nexus());
    let b = w.login(0, "iqn.b");
    let s = w.login(0, "iqn.a");
    let hung: Vec<CmdId> = (0..2).map(|lba| w.simple(0, s, &read(lba)).1).collect();
    w.nodes[0].shard.session_down(w.now, s);
    w.run(0);
    w.pass(Nanos::from_secs(1));
    w.nodes[0].driver.seen.clear();
    let (t1, _) = w.simple(0, b, &read(9));
    let (t2, ready) = w.simple(0, b, &[0; 6]);
    assert_eq!(w.executing(0), [hung[0], hung[1], ready], "only the medium is busy");
    w.finish(0, ready);
    w.expect(0, &[Seen::Response(t1, ScsiStatus::BUSY, None), good(t2)]);
    w.finish(0, hung[0]);
    let (_, next) = w.simple(0, b, &read(9));
    assert_eq!(w.executing(0), [hung[1], next]);
}

#[test]
fn a_device_goes_when_its_last_parked_command_has_ended() {
    let mut w = World::new(2);
    let (_, hung) = stuck(&mut w, &WRITE_1);
    w.set_target(target(rows(&[(1, 1, false)])));
    for node in [0, 1] {
        w.control(node, Control::RemoveDevice(DeviceId(0)));
    }
    assert_eq!(w.nodes[0].notices.len(), 1, "it is still there");
    w.finish(0, hung);
    assert_eq!(w.nodes[0].notices.last(), Some(&Notice::DeviceRemoved(DeviceId(0))));
    assert_eq!(w.nodes[1].notices, [Notice::DeviceRemoved(DeviceId(0))]);
    w.assert_clean();
}

#[test]
fn an_ordered_command_of_the_whole_unit_does_not_meet_a_parked_write_either() {
    // The write is parked before it comes, or while it waits for its turn to be alone.
    for before in [true, false] {
        let mut w = World::with(2, Limits::default(), ControlSettings::default());
        let (s, b, c) = (w.login(0, "iqn.a"), w.login(0, "iqn.b"), w.login(0, "iqn.c"));
        let (_, hung) = w.simple(0, s, &write(4));
        w.data(0, hung, Ok(()));
        let (compared, in_the_way) = w.simple(0, c, &[0x89, 0, 0, 0, 0, 9, 0, 0, 1, 0]);
        let mut ordered = 0;
        for first in [before, !before] {
            if first {
                w.nodes[0].shard.session_down(w.now, s);
                w.run(0);
                w.pass(Nanos::from_secs(1));
            } else {
                ordered = w.send(0, b, 0, &read(4), TaskAttribute::Ordered);
            }
        }
        w.nodes[0].driver.seen.clear();
        w.finish(0, in_the_way);
        w.expect(0, &[good(compared)]);
        assert_eq!(w.executing(0), [hung]);
        w.finish(0, hung);
        let [waiting] = w.executing(0)[..] else { panic!("it has its turn") };
        w.finish(0, waiting);
        w.expect(0, &[Seen::Unparked(hung), good(ordered)]);
        w.assert_clean();
        w.assert_nothing_waits();
    }
}

#[test]
fn what_has_to_be_alone_gives_up_in_time_when_a_parked_write_is_in_its_way() {
    let mut w = World::with(1, Limits::default(), ControlSettings::default());
    let b = w.login(0, "iqn.b");
    let (_, hung) = stuck(&mut w, &write(4));
    let caw = w.simple(0, b, &[0x89, 0, 0, 0, 0, 4, 0, 0, 1, 0]).0;
    let ordered = w.send(0, b, 0, &read(4), TaskAttribute::Ordered);
    w.pass(Nanos::from_secs(31));
    let busy = |tag| Seen::Response(tag, ScsiStatus::BUSY, None);
    w.expect(0, &[busy(caw)]);
    assert_eq!(w.executing(0), [hung]);
    w.pass(Nanos::from_secs(31));
    w.expect(0, &[busy(ordered)]);
    w.finish(0, hung);
    w.expect(0, &[Seen::Unparked(hung)]);
    w.assert_clean();
    w.assert_nothing_waits();
}

#[test]
fn a_parked_ordered_command_keeps_its_own_blocks_only() {
    for (cdb, kept_out) in [(read(4), false), (write(4), true)] {
        let mut w = World::with(2, Limits::default(), ControlSettings::default());
        let (s, b) = (w.login(0, "iqn.a"), w.login(1, "iqn.b"));
        let (_, hung) = w.send_with(0, s, 0, &cdb, TaskAttribute::Ordered, false);
        w.data(0, hung, Ok(()));
        w.nodes[0].shard.session_down(w.now, s);
        w.run(0);
        w.pass(Nanos::from_secs(1));
        assert!(w.nodes[0].driver.seen.contains(&Seen::Closed(s)));
        let (_, apart) = w.simple(1, b, &read(9));
        let (_, same) = w.simple(1, b, &read(4));
        let executing = if kept_out { vec![hung, apart] } else { vec![hung, apart, same] };
        assert_eq!(w.executing(0), executing);
    }
}
