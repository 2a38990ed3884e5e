//! What is counted where, and how much of it there may be.

use std::fmt;

use scst_scsi::CommandFlags;

use super::Clock;
use super::histogram::Histogram;
use super::lap::Lap;
use super::summary::{ROWS, STAGES, SizeRow, Stage, Summary};
use crate::Nanos;
use crate::command::Command;
use crate::ids::CmdId;

/// Sessions of one engine with a table of their own, 7.2 KiB each (15 MiB together); the others share one.
pub const MAX_MEASURED_SESSIONS: usize = 2048;

/// Logical units of one engine with histograms of their own, 13.5 KiB each (54 MiB together); the others share them.
pub const MAX_MEASURED_UNITS: usize = 4096;

/// One session's figures.
#[derive(Clone, Debug)]
pub(crate) struct SessionTable {
    /// Rows that are not empty, by bit.
    pub(super) used: u32,
    pub(super) rows: [[Summary; STAGES]; ROWS],
}

impl Default for SessionTable {
    fn default() -> Self {
        Self { used: 0, rows: [[Summary::default(); STAGES]; ROWS] }
    }
}

/// One logical unit's.
#[derive(Clone, Debug)]
pub(crate) struct UnitTable {
    pub(super) used: bool,
    pub(super) stages: [Histogram; STAGES],
}

impl Default for UnitTable {
    fn default() -> Self {
        Self { used: false, stages: std::array::from_fn(|_| Histogram::default()) }
    }
}

/// Tables by slot, so many of them at most, and one for the rest.
#[derive(Debug)]
pub(crate) struct Tables<T> {
    own: Vec<Option<Box<T>>>,
    used: usize,
    limit: usize,
    pub(super) other: Box<T>,
}

impl<T: Default> Tables<T> {
    fn new(limit: usize) -> Self {
        Self { own: Vec::new(), used: 0, limit, other: Box::default() }
    }

    pub(crate) fn add(&mut self, slot: u32) {
        let slot = slot as usize;
        if self.own.len() <= slot {
            self.own.resize_with(slot + 1, || None);
        }
        if self.used < self.limit && self.own[slot].is_none() {
            self.own[slot] = Some(Box::default());
            self.used += 1;
        }
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        if self.own.get_mut(slot as usize).and_then(Option::take).is_some() {
            self.used -= 1;
        }
    }

    /// A slot's own table, if it has one.
    pub(super) fn own(&self, slot: u32) -> Option<&T> {
        self.own.get(slot as usize)?.as_deref()
    }

    fn at(&mut self, slot: u32) -> &mut T {
        self.own.get_mut(slot as usize).and_then(Option::as_deref_mut).unwrap_or(&mut self.other)
    }

    pub(super) fn slots(&self) -> u32 {
        self.own.len() as u32
    }
}

/// Everything that measuring needs; there while it is on.
pub(crate) struct Latency {
    clock: Box<dyn Clock>,
    /// What the clock said last, or the time of the turn where that is later: when what goes on now began.
    read: Nanos,
    /// The same when the shard's run began: every buffer that was given out in it was there then.
    run: Nanos,
    laps: Vec<Lap>,
    pub(crate) sessions: Tables<SessionTable>,
    pub(crate) units: Tables<UnitTable>,
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latency").field("read", &self.read).finish_non_exhaustive()
    }
}

impl Latency {
    /// Empty tables, with laps for as many commands as there are slots now.
    pub(super) fn new(clock: Box<dyn Clock>, slots: usize) -> Self {
        let laps = vec![Lap::default(); slots];
        let (sessions, units) = (Tables::new(MAX_MEASURED_SESSIONS), Tables::new(MAX_MEASURED_UNITS));
        Self { clock, read: Nanos(0), run: Nanos(0), laps, sessions, units }
    }

    /// The reactor has spent time.
    pub(crate) fn read_clock(&mut self) {
        self.read = self.read.max(self.clock.now());
    }

    /// The shard begins a run in a turn of this time.
    pub(crate) fn begin_run(&mut self, now: Nanos) {
        self.read = self.read.max(self.clock.now()).max(now);
        self.run = self.read;
    }

    /// A command enters a stage. `now` is what the engine was told last; the clock may have been read since.
    pub(crate) fn enter(&mut self, id: CmdId, command: &Command, stage: Stage, now: Nanos) {
        let lap = lap(&mut self.laps, id.index);
        if !lap.is_of(id.generation) {
            lap.begin(id.generation, command.arrived);
        } else if lap.worked_within(now) {
            self.read = self.read.max(self.clock.now());
        }
        lap.enter(stage, now.max(self.read));
    }

    /// Its device has got a command and is at work on it. What it has cost to tell the device is not the time of the one
    /// that comes next.
    pub(crate) fn handed_over(&mut self, id: CmdId, command: &Command) {
        let lap = lap(&mut self.laps, id.index);
        if !lap.is_of(id.generation) {
            lap.begin(id.generation, command.arrived);
            lap.enter(Stage::CheckOrder, prepared(command, self.run));
        }
        lap.enter(Stage::ExecWait, self.read);
        self.read_clock();
    }

    /// Who executes a command is done with it.
    #[inline(always)]
    pub(crate) fn executed(&mut self, id: CmdId, command: &Command, now: Nanos) {
        let lap = lap(&mut self.laps, id.index);
        if lap.is_of(id.generation) {
            return self.executed_at_last(id, command, now);
        }
        // Nothing is known of it yet: it was handed over in this run, and nobody has read the clock since then.
        let prepared = prepared(command, self.run);
        let began = self.read.max(prepared);
        self.read = began.max(self.clock.now());
        lap.at_once(id.generation, [command.arrived, prepared, began, self.read]);
    }

    #[cold]
    #[inline(never)]
    fn executed_at_last(&mut self, id: CmdId, command: &Command, now: Nanos) {
        // The core's own commands never get to a device.
        if !command.parsed.flags.contains(CommandFlags::CORE) {
            lap(&mut self.laps, id.index).enter_once(Stage::ExecWait, self.read);
        }
        self.enter(id, command, Stage::TransmitWait, now);
    }

    /// Its answer has left.
    #[inline(always)]
    pub(crate) fn finished(&mut self, id: CmdId, command: &Command, now: Nanos) {
        let Some(lap) = self.laps.get_mut(id.index as usize).filter(|lap| lap.is_of(id.generation)) else { return };
        let row = SizeRow::of(command.parsed.direction, command.parsed.length);
        let table = self.sessions.at(command.session.index);
        table.used |= 1 << row.index();
        let summaries = &mut table.rows[row.index()];
        let now = now.max(self.read);
        match command.device {
            None => lap.finish(now, |stage, nanos| summaries[stage as usize].add(nanos)),
            Some(device) => {
                let unit = self.units.at(device.index() as u32);
                unit.used = true;
                lap.finish(now, |stage, nanos| {
                    summaries[stage as usize].add(nanos);
                    unit.stages[stage as usize].add(nanos);
                });
            }
        }
    }
}

/// The lap of a slot. Slots beyond those of the beginning come with the first commands in them.
#[inline(always)]
fn lap(laps: &mut Vec<Lap>, slot: u32) -> &mut Lap {
    let slot = slot as usize;
    if laps.len() <= slot {
        grow(laps, slot);
    }
    &mut laps[slot]
}

#[cold]
#[inline(never)]
fn grow(laps: &mut Vec<Lap>, slot: usize) {
    laps.resize_with((slot + 1).next_power_of_two(), Lap::default);
}

/// When a command had a buffer: in the run that hands it over if it is one of the pool, else from the beginning.
#[inline(always)]
fn prepared(command: &Command, run: Nanos) -> Nanos {
    if command.reserved > 0 { run.max(command.arrived) } else { command.arrived }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_the_limit_all_share_one_table() {
        let mut tables = Tables::<SessionTable>::new(2);
        for slot in [5, 0, 3] {
            tables.add(slot);
            tables.at(slot).used |= 1 << slot;
        }
        let own = |tables: &Tables<SessionTable>| [0, 3, 5].map(|slot| tables.own(slot).map(|t| t.used));
        assert_eq!(own(&tables), [Some(1 << 0), None, Some(1 << 5)]);
        assert_eq!(tables.other.used, 1 << 3);
        tables.remove(3);
        tables.remove(5);
        tables.add(3);
        assert_eq!(own(&tables), [Some(1 << 0), Some(0), None], "a freed table serves the next one, empty");
        tables.at(99).used |= 1 << 9;
        assert_eq!(tables.other.used, 1 << 3 | 1 << 9);
    }

    #[test]
    fn tables_have_the_documented_size() {
        assert_eq!(size_of::<SessionTable>(), 7368);
        assert_eq!(size_of::<UnitTable>(), 13_832);
        assert_eq!(size_of::<Lap>(), 64);
    }
}
