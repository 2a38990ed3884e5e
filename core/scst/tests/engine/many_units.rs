//! Costs do not depend on units and commands that are not concerned. What is counted here is work; times are for benchmarks.

use std::rc::Rc;

use crate::common::{CAW, READ_1, Seen, World, handler, target};
use scst_core::Nanos;
use scst_core::config::{LunEntry, LunMap};
use scst_core::engine::Limits;
use scst_core::ids::{DeviceId, SessionId};
use scst_core::shard::Control;
use scst_scsi::TaskAttribute;
use scst_scsi::TaskManagementFunction as F;
use scst_scsi::TaskManagementResponse as R;

/// A world of two reactors in which a session sees so many units, and all but the first two are one medium.
fn with_units(units: u32) -> (World, SessionId) {
    let mut w = World::new(2);
    let medium = Rc::clone(&w.media[0]);
    for node in 0..2 {
        for id in 2..units {
            w.nodes[node].shard.control(Nanos(0), Control::AddDevice { id: DeviceId(id), handler: handler(&medium) });
        }
    }
    w.set_target(target(LunMap::new((0..units).map(|n| LunEntry { lun: n, device: DeviceId(n), read_only: false }))));
    let session = w.fresh_login(0, "iqn.a");
    (w, session)
}

/// Turns both reactors until nothing is left to do. Returns the most messages that were on their way at once.
fn turn_until_done(w: &mut World) -> usize {
    let mut most = w.wire.len();
    loop {
        while let Some((_, to, message)) = w.wire.pop_front() {
            w.nodes[to].shard.message(w.now, message);
            w.run(to);
            most = most.max(w.wire.len());
        }
        if w.nodes[0].shard.poll_timeout().is_none_or(|at| at > w.now) {
            return most;
        }
        w.nodes[0].shard.handle_timeout(w.now);
        w.run(0);
    }
}

#[test]
fn sixteen_resets_of_a_large_target_are_two_and_their_messages_are_bounded() {
    const UNITS: u32 = 4096;
    let (mut w, s) = with_units(UNITS);
    w.prompt = false;
    let resets: Vec<u64> = (0..16).map(|_| w.tmf(0, s, F::TargetReset, None)).collect();
    let most = turn_until_done(&mut w);
    let expected: Vec<Seen> = resets.iter().map(|tag| Seen::Tmf(*tag, R::Complete)).collect();
    w.expect(0, &expected);
    let medium = |at: usize| w.media[at].borrow().resets;
    assert_eq!(medium(0) + medium(1), 2 * UNITS, "the first, and one for all that came before it had begun");
    assert!(most <= 2048, "{most} messages at once");
    w.assert_nothing_waits();
}

#[test]
fn a_reset_of_a_large_target_lets_other_commands_run_between_its_slices() {
    let (mut w, s) = with_units(1000);
    let tmf = w.tmf(0, s, F::TargetReset, None);
    w.expect(0, &[]);
    assert!(w.nodes[0].shard.poll_timeout().is_some_and(|at| at <= w.now), "there is more to do at once");
    turn_until_done(&mut w);
    w.expect(0, &[Seen::Tmf(tmf, R::Complete)]);
}

#[test]
fn a_session_that_ends_within_its_reset_leaves_nothing_behind() {
    let (mut w, s) = with_units(1000);
    w.tmf(0, s, F::TargetReset, None);
    w.nodes[0].shard.session_down(w.now, s);
    w.run(0);
    w.expect(0, &[Seen::Closed(s)]);
    turn_until_done(&mut w);
    assert_eq!(w.media[0].borrow().resets + w.media[1].borrow().resets, 128, "the first slice");
    w.assert_clean();
    w.assert_nothing_waits();
}

#[test]
fn compare_and_write_looks_at_the_commands_of_its_own_device_only() {
    let limits = Limits { commands_per_nexus: 1 << 20, ..Limits::default() };
    let mut w = World::with(1, limits, crate::common::per_nexus());
    let s = w.login(0, "iqn.a");
    for _ in 0..100 {
        w.send_with(0, s, 1, &READ_1, TaskAttribute::Simple, false);
    }
    let (_, caw) = w.simple(0, s, &CAW);
    assert_eq!(w.executing(0), [caw], "no command of the other device is in its way");
    assert_eq!(w.executing(1).len(), 100);
}
