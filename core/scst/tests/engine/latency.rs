//! Stories about where the time goes. The clock goes 10 ns on with every reading, so that each reading shows.

use std::cell::Cell;
use std::rc::Rc;

use scst_core::Nanos;
use scst_core::buffer::Extent;
use scst_core::driver::NewCommand;
use scst_core::engine::Limits;
use scst_core::handler::ControlSettings;
use scst_core::ids::{CmdId, DeviceId, SessionId};
use scst_core::latency::{Clock, SizeLatency, Stage};
use scst_scsi::{TaskAttribute, TaskManagementFunction, TaskManagementResponse};

use crate::common::{READ_1, Seen, WRITE_1, World, good, new_command};

/// See the module.
struct Ticking(Rc<Cell<u64>>);

impl Clock for Ticking {
    fn now(&self) -> Nanos {
        self.0.set(self.0.get() + 10);
        Nanos(self.0.get())
    }
}

struct Story {
    world: World,
    clock: Rc<Cell<u64>>,
    host: SessionId,
}

impl Story {
    fn new() -> Self {
        Self::with(ControlSettings { task_set_per_nexus: true, ..ControlSettings::default() })
    }

    /// A session without attentions, and measuring since.
    fn with(control: ControlSettings) -> Self {
        let mut world = World::with(1, Limits::default(), control);
        let host = world.login(0, "iqn.h");
        let mut story = Self { world, clock: Rc::default(), host };
        story.switch(true);
        story
    }

    fn switch(&mut self, on: bool) {
        let clock = on.then(|| Box::new(Ticking(Rc::clone(&self.clock))) as Box<dyn Clock>);
        self.world.nodes[0].shard.measure_latency(clock);
    }

    /// A turn of the loop begins.
    fn at(&mut self, now: u64) {
        self.world.now = Nanos(now);
        self.clock.set(now);
    }

    fn answered(&mut self, tag: u64) {
        self.world.expect(0, &[good(tag)]);
    }

    /// The figures of the session, one row: each stage that was entered with count, minimum, maximum and sum.
    fn row(&self, name: &str) -> Vec<(Stage, [u64; 4])> {
        let rows = self.rows();
        let Some(found) = rows.iter().find(|row| row.row.name() == name) else { return Vec::new() };
        let stages = Stage::ALL.iter().zip(&found.stages).filter(|(_, summary)| summary.count > 0);
        stages.map(|(stage, s)| (*stage, [s.count, s.min, s.max, s.sum])).collect()
    }

    fn rows(&self) -> Vec<SizeLatency> {
        let mut sessions = self.world.nodes[0].shard.engine().session_statistics(0..16);
        sessions.find(|s| s.id == self.host).and_then(|s| s.latency).unwrap_or_default()
    }

    /// How many times a logical unit went through a stage, and the end of the bucket of the longest.
    fn unit(&self, device: u32, stage: Stage) -> (u64, u64) {
        let engine = self.world.nodes[0].shard.engine();
        let unit = engine.unit_latency(device..device + 1).next();
        unit.map_or((0, 0), |unit| {
            assert_eq!(unit.device, Some(DeviceId(device)));
            let histogram = &unit.stages[stage as usize];
            (histogram.count(), histogram.quantile(1000))
        })
    }
}

/// One command that spent so much.
fn once(nanos: u64) -> [u64; 4] {
    [1, nanos, nanos, nanos]
}

#[test]
fn every_stage_of_a_write() {
    let mut story = Story::new();
    story.at(1000);
    let (tag, cmd) = story.world.simple(0, story.host, &WRITE_1);
    story.world.expect(0, &[Seen::RequestData(tag, 512)]);
    story.at(5000);
    story.world.data(0, cmd, Ok(()));
    story.at(9000);
    story.world.finish(0, cmd);
    assert_eq!(story.row("w512"), [], "nothing is counted before the answer has left");
    story.at(9500);
    story.answered(tag);
    let expected = [
        // The shard ran at 1010 (one reading), the data were there at 5000, the device got the command at 5010.
        (Stage::PrepareSpace, once(10)),
        (Stage::DataWait, once(3990)),
        (Stage::CheckOrder, once(10)),
        (Stage::ExecWait, once(3990)),
        (Stage::TransmitWait, once(500)),
        (Stage::Total, once(8500)),
    ];
    assert_eq!(story.row("w512"), expected);
    assert_eq!(story.rows().len(), 1);
    for (stage, [count, _, max, _]) in expected {
        let bucket = [(10, 127), (500, 511), (3990, 4095), (8500, 9215)].into_iter().find(|(nanos, _)| *nanos == max);
        assert_eq!(story.unit(0, stage), (count, bucket.unwrap().1), "{stage:?}");
    }
    assert_eq!(story.unit(0, Stage::TargetPreExec), (0, 0));
    assert_eq!(story.unit(1, Stage::Total), (0, 0), "the other unit had nothing to do");
    story.world.assert_clean();
}

#[test]
fn work_within_a_turn_is_told_by_the_clock() {
    let mut story = Story::new();
    story.world.media[0].borrow_mut().inline = true;
    story.at(1000);
    let read = new_command(story.host, 0, &READ_1, TaskAttribute::Simple);
    let tags = [0, 1].map(|_| story.world.arrive(0, read.clone()).0);
    story.world.run(0);
    story.at(2000);
    story.world.expect(0, &tags.map(good));
    // Readings: 1010 the shard runs, 1020 the first is done, 1030 the second. Each device time is one step, and the
    // second one's wait behind the first is the reactor's.
    let expected = [
        (Stage::PrepareSpace, [2, 10, 10, 20]),
        (Stage::CheckOrder, [2, 0, 10, 10]),
        (Stage::ExecWait, [2, 10, 10, 20]),
        (Stage::TransmitWait, [2, 970, 980, 1950]),
        (Stage::Total, [2, 1000, 1000, 2000]),
    ];
    assert_eq!(story.row("r512"), expected);
}

#[test]
fn to_tell_the_device_of_one_command_is_not_the_time_of_the_next() {
    let mut story = Story::new();
    story.at(1000);
    let read = new_command(story.host, 0, &READ_1, TaskAttribute::Simple);
    let sent = [0, 1].map(|_| story.world.arrive(0, read.clone()));
    story.world.run(0);
    assert_eq!(story.world.executing(0), sent.map(|(_, cmd)| cmd));
    story.at(5000);
    for (_, cmd) in sent {
        story.world.finish(0, cmd);
    }
    story.at(6000);
    story.world.expect(0, &sent.map(|(tag, _)| good(tag)));
    // Readings: 1010 the shard runs, 1020 the first is at its device. The first answer was ready when the turn began; the
    // shard ran at 5010, before the second was looked at.
    let expected = [
        (Stage::PrepareSpace, [2, 10, 10, 20]),
        (Stage::CheckOrder, [2, 0, 10, 10]),
        (Stage::ExecWait, [2, 3990, 3990, 7980]),
        (Stage::TransmitWait, [2, 990, 1000, 1990]),
        (Stage::Total, [2, 5000, 5000, 10_000]),
    ];
    assert_eq!(story.row("r512"), expected);
}

#[test]
fn data_that_stay_where_they_came_need_no_preparation() {
    let mut story = Story::new();
    story.world.media[0].borrow_mut().inline = true;
    story.at(1000);
    let write = NewCommand {
        data: Some(Extent { arena: 0, offset: 0, len: 512 }),
        ..new_command(story.host, 0, &WRITE_1, TaskAttribute::Simple)
    };
    let tags = [0, 1].map(|_| story.world.arrive(0, write.clone()).0);
    story.world.run(0);
    story.at(2000);
    story.world.expect(0, &tags.map(good));
    let expected = [
        // 1010 the shard runs, 1020 the first is done, 1030 the second.
        (Stage::PrepareSpace, [2, 0, 0, 0]),
        (Stage::CheckOrder, [2, 10, 20, 30]),
        (Stage::ExecWait, [2, 10, 10, 20]),
        (Stage::TransmitWait, [2, 970, 980, 1950]),
        (Stage::Total, [2, 1000, 1000, 2000]),
    ];
    assert_eq!(story.row("w512"), expected);
}

#[test]
fn mapped_data_are_on_their_way_until_they_are_sent() {
    let mut story = Story::new();
    story.world.media[0].borrow_mut().mapped = true;
    story.world.nodes[0].shard.set_takes_mapped(story.host, true);
    story.at(1000);
    let (tag, _) = story.world.simple(0, story.host, &READ_1);
    story.at(2000);
    story.answered(tag);
    let expected = [
        (Stage::PrepareSpace, once(10)),
        (Stage::CheckOrder, once(0)),
        (Stage::ExecWait, once(10)),
        (Stage::TransmitWait, once(980)),
        (Stage::Total, once(1000)),
    ];
    assert_eq!(story.row("r512"), expected);
    story.world.assert_clean();
}

#[test]
fn data_that_came_with_the_command_are_told_by_the_clock() {
    let mut story = Story::new();
    story.at(1000);
    let (tag, cmd) = story.world.simple(0, story.host, &WRITE_1);
    // The driver has the data already and copies them in the same turn.
    story.world.data(0, cmd, Ok(()));
    story.at(4000);
    story.world.finish(0, cmd);
    story.world.expect(0, &[Seen::RequestData(tag, 512), good(tag)]);
    let expected = [
        // 1010 the shard runs, 1020 the data are there, 1030 it runs again.
        (Stage::PrepareSpace, once(10)),
        (Stage::DataWait, once(10)),
        (Stage::CheckOrder, once(10)),
        (Stage::ExecWait, once(2970)),
        // The answer leaves in the turn in which the shard has run once more.
        (Stage::TransmitWait, once(10)),
        (Stage::Total, once(3010)),
    ];
    assert_eq!(story.row("w512"), expected);
}

#[test]
fn a_command_ahead_of_an_older_one_waits_for_the_driver() {
    let mut story = Story::new();
    story.at(1000);
    let (tag, cmd) = story.world.send_with(0, story.host, 0, &READ_1, TaskAttribute::Simple, true);
    story.at(3000);
    story.world.nodes[0].shard.deliver(Nanos(3000), cmd);
    story.world.run(0);
    story.at(4000);
    story.world.finish(0, cmd);
    story.at(4100);
    story.answered(tag);
    let expected = [
        (Stage::PrepareSpace, once(10)),
        (Stage::TargetPreExec, once(1990)),
        (Stage::CheckOrder, once(10)),
        (Stage::ExecWait, once(990)),
        (Stage::TransmitWait, once(100)),
        (Stage::Total, once(3100)),
    ];
    assert_eq!(story.row("r512"), expected);
}

#[test]
fn waiting_for_ones_turn_and_for_the_unit_are_different_stages() {
    // One task set for all: an ORDERED command is also alone on the unit.
    let mut story = Story::with(ControlSettings::default());
    story.at(1000);
    let (first, first_cmd) = story.world.simple(0, story.host, &READ_1);
    story.at(2000);
    let (ordered, ordered_cmd) = story.world.send_with(0, story.host, 0, &[0; 6], TaskAttribute::Ordered, false);
    story.at(3000);
    let other = story.world.fresh_login(0, "iqn.other");
    story.at(4000);
    story.world.finish(0, first_cmd);
    story.answered(first);
    // The ORDERED one has its turn and the unit now. Another session's command is kept out.
    assert_eq!(story.world.executing(0), [ordered_cmd]);
    story.at(5000);
    let (kept_out, _) = story.world.send_with(0, other, 0, &READ_1, TaskAttribute::Simple, false);
    story.at(7000);
    story.world.finish(0, ordered_cmd);
    story.at(7500);
    let attention = Seen::Response(kept_out, scst_scsi::ScsiStatus::CHECK_CONDITION, Some((6, 0x2900)));
    story.world.expect(0, &[good(ordered), attention]);
    let expected = [
        (Stage::PrepareSpace, once(0)),
        (Stage::CheckOrder, once(2000)),
        (Stage::CheckBlocking, once(10)),
        (Stage::ExecWait, once(2990)),
        (Stage::TransmitWait, once(500)),
        (Stage::Total, once(5500)),
    ];
    assert_eq!(story.row("n512"), expected);
    assert_eq!(story.unit(0, Stage::CheckBlocking), (2, 2047), "the other session's one waited for the unit");
}

#[test]
fn commands_under_way_at_a_switch_are_not_counted() {
    let mut story = Story::new();
    let finish = |story: &mut Story, (tag, cmd): (u64, CmdId)| {
        story.world.finish(0, cmd);
        story.answered(tag);
    };
    story.at(1000);
    let before = story.world.simple(0, story.host, &READ_1);
    let over_both = story.world.simple(0, story.host, &READ_1);
    story.switch(false);
    story.at(2000);
    finish(&mut story, before);
    let unmeasured = story.world.simple(0, story.host, &READ_1);
    story.switch(true);
    story.at(3000);
    finish(&mut story, over_both);
    finish(&mut story, unmeasured);
    assert_eq!(story.rows(), []);
    assert_eq!(story.unit(0, Stage::Total), (0, 0));
    let after = story.world.simple(0, story.host, &READ_1);
    story.at(4000);
    finish(&mut story, after);
    assert_eq!(story.row("r512").last(), Some(&(Stage::Total, once(1010))));
    story.switch(false);
    assert_eq!(story.rows(), []);
    story.world.assert_clean();
}

#[test]
fn aborted_commands_are_not_counted_and_leave_nothing_to_the_next() {
    let mut story = Story::new();
    story.at(1000);
    let (_, cmd) = story.world.simple(0, story.host, &READ_1);
    let function = story.world.tmf(0, story.host, TaskManagementFunction::AbortTask, Some(cmd));
    story.at(2000);
    story.world.finish(0, cmd);
    let seen = std::mem::take(&mut story.world.nodes[0].driver.seen);
    assert!(seen.contains(&Seen::Tmf(function, TaskManagementResponse::Complete)), "{seen:?}");
    assert_eq!(story.rows(), []);
    // The same slot again.
    story.at(3000);
    let (tag, next) = story.world.simple(0, story.host, &READ_1);
    assert_eq!(next.index, cmd.index);
    story.at(3500);
    story.world.finish(0, next);
    story.at(3600);
    story.answered(tag);
    assert_eq!(story.row("r512").last(), Some(&(Stage::Total, once(600))));
}

#[test]
fn refused_commands_and_absent_units_are_counted_by_session() {
    let mut story = Story::new();
    story.at(1000);
    let new = NewCommand {
        lun: scst_scsi::Lun([0, 9, 0, 0, 0, 0, 0, 0]),
        ..new_command(story.host, 0, &READ_1, TaskAttribute::Simple)
    };
    let (tag, _) = story.world.arrive(0, new);
    story.world.run(0);
    story.at(1700);
    story.world.expect(0, &[Seen::Response(tag, scst_scsi::ScsiStatus::CHECK_CONDITION, Some((5, 0x2500)))]);
    let expected = [
        (Stage::PrepareSpace, once(0)),
        (Stage::CheckOrder, once(0)),
        (Stage::TransmitWait, once(700)),
        (Stage::Total, once(700)),
    ];
    assert_eq!(story.row("n512"), expected);
    assert_eq!(story.world.nodes[0].shard.engine().other_unit_latency(), None);
}

#[test]
fn a_session_that_ends_takes_its_figures_with_it() {
    let mut story = Story::new();
    story.at(1000);
    let (tag, cmd) = story.world.simple(0, story.host, &READ_1);
    story.world.finish(0, cmd);
    story.answered(tag);
    assert_eq!(story.rows().len(), 1);
    story.world.nodes[0].shard.session_down(Nanos(2000), story.host);
    story.world.run(0);
    story.world.expect(0, &[Seen::Closed(story.host)]);
    let host = story.world.login(0, "iqn.next");
    assert_eq!(host.index, story.host.index);
    story.host = host;
    // Only its own: the two commands that met the power-on attentions.
    assert_eq!(story.row("n512").last().map(|(_, [count, ..])| *count), Some(2));
    assert_eq!(story.rows().len(), 1);
    assert_eq!(story.unit(0, Stage::Total).0, 2, "the unit's figures stay");
}
