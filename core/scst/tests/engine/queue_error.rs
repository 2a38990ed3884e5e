//! QERR in all its values (SPC-6 7.5.10).

use crate::common::{READ_1, Seen, World, good};
use scst_core::Nanos;
use scst_core::engine::Limits;
use scst_core::handler::ControlSettings;
use scst_scsi::ScsiStatus;
use scst_scsi::TaskManagementFunction as F;
use scst_scsi::TaskManagementResponse as R;

const BAD: [u8; 6] = [0xee; 6];

fn check(tag: u64) -> Seen {
    Seen::Response(tag, ScsiStatus::CHECK_CONDITION, Some((5, 0x2000)))
}

/// Two reactors, and a command each of two nexuses that executes. The first nexus sends a bad command then.
struct Story {
    w: World,
    reads: [(u64, scst_core::ids::CmdId); 2],
    bad: u64,
}

fn story(control: ControlSettings) -> Story {
    let mut w = World::with(2, Limits::default(), control);
    let (a, b) = (w.login(0, "iqn.a"), w.login(1, "iqn.b"));
    let reads = [w.simple(0, a, &READ_1), w.simple(1, b, &READ_1)];
    let (bad, _) = w.simple(0, a, &BAD);
    Story { w, reads, bad }
}

#[test]
fn nothing_happens_to_others_with_00b() {
    let Story { mut w, reads, bad } = story(ControlSettings::default());
    w.expect(0, &[check(bad)]);
    assert_eq!(w.media[0].borrow().cancelled, []);
    w.finish(0, reads[0].1);
    w.expect(0, &[good(reads[0].0)]);
}

#[test]
fn the_whole_task_set_is_aborted_with_01b_as_tas_says() {
    for task_aborted_status in [false, true] {
        let control = ControlSettings { queue_error: 1, task_aborted_status, ..ControlSettings::default() };
        let Story { mut w, reads, bad } = story(control);
        assert_eq!(w.media[0].borrow().cancelled, reads.map(|r| r.1));
        w.finish(1, reads[1].1);
        w.expect(0, &[]);
        w.finish(0, reads[0].1);
        w.expect(0, &[Seen::Dropped(reads[0].0), check(bad)]);
        if task_aborted_status {
            w.expect(1, &[Seen::Response(reads[1].0, ScsiStatus::TASK_ABORTED, None)]);
        } else {
            w.expect(1, &[Seen::Dropped(reads[1].0)]);
        }
        w.assert_clean();
        w.assert_nothing_waits();
    }
}

#[test]
fn only_the_same_nexus_is_concerned_with_11b_or_with_a_task_set_of_its_own() {
    for (queue_error, task_set_per_nexus) in [(3, false), (3, true), (1, true)] {
        let control = ControlSettings { queue_error, task_set_per_nexus, ..ControlSettings::default() };
        let Story { mut w, reads, bad } = story(control);
        assert_eq!(w.media[0].borrow().cancelled, [reads[0].1]);
        w.finish(0, reads[0].1);
        w.expect(0, &[Seen::Dropped(reads[0].0), check(bad)]);
        w.finish(1, reads[1].1);
        w.expect(1, &[good(reads[1].0)]);
        w.assert_clean();
    }
}

#[test]
fn a_failed_command_is_answered_in_time_when_the_others_do_not_end() {
    let control = ControlSettings { queue_error: 1, ..ControlSettings::default() };
    let Story { mut w, reads, bad } = story(control);
    w.pass(Nanos::from_secs(30));
    w.expect(0, &[check(bad)]);
    // They were not aborted then.
    for (node, read) in reads.into_iter().enumerate() {
        w.finish(node, read.1);
        w.expect(node, &[good(read.0)]);
    }
    w.assert_clean();
}

#[test]
fn a_reset_does_not_wait_for_a_failed_command_that_waits_for_it() {
    let control = ControlSettings { queue_error: 1, ..ControlSettings::default() };
    for reset_first in [false, true] {
        let mut w = World::with(2, Limits::default(), control);
        let (a, b) = (w.login(0, "iqn.a"), w.login(1, "iqn.b"));
        let (t, read) = w.simple(0, a, &READ_1);
        let tmf;
        let bad;
        if reset_first {
            w.prompt = false;
            tmf = w.tmf(1, b, F::LogicalUnitReset, None);
            bad = w.simple(0, a, &BAD).0;
            w.prompt = true;
            w.deliver_messages();
        } else {
            bad = w.simple(0, a, &BAD).0;
            tmf = w.tmf(1, b, F::LogicalUnitReset, None);
        }
        w.finish(0, read);
        w.expect(1, &[Seen::Tmf(tmf, R::Complete)]);
        let seen = std::mem::take(&mut w.nodes[0].driver.seen);
        let ends_of = |tag: u64| {
            seen.iter().filter(|s| matches!(s, Seen::Dropped(t) | Seen::Response(t, ..) if *t == tag)).count()
        };
        assert_eq!((ends_of(t), ends_of(bad)), (1, 1), "{seen:?}");
        w.expect(0, &[]);
        w.assert_clean();
        w.assert_nothing_waits();
    }
}
