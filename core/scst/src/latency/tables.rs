//! What is counted where, and how much of it there may be.

use std::fmt;

use super::Clock;
use super::histogram::Histogram;
use super::lap::Lap;
use super::summary::{ROWS, STAGES, SizeRow, Stage, Summary};
use crate::Nanos;
use crate::ids::{CmdId, DeviceId, SessionId};

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
    /// What the clock said last.
    read: Nanos,
    /// A command was handed to its device since.
    handed_over: bool,
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
        Self { clock, read: Nanos(0), handed_over: false, laps, sessions, units }
    }

    /// Reads the clock.
    pub(crate) fn read_clock(&mut self) {
        self.read = self.clock.now();
        self.handed_over = false;
    }

    /// A command has arrived. Slots beyond those of the beginning come with the slot itself.
    #[cold]
    pub(crate) fn arrived(&mut self, id: CmdId, now: Nanos) {
        let slot = id.index as usize;
        if self.laps.len() <= slot {
            self.laps.resize_with((slot + 1).next_power_of_two(), Lap::default);
        }
        self.laps[slot].begin(id.generation, now);
    }

    /// A command enters a stage. `now` is what the engine was told last; the clock may have been read since.
    pub(crate) fn enter(&mut self, id: CmdId, stage: Stage, now: Nanos) {
        let Some(lap) = self.laps.get_mut(id.index as usize).filter(|lap| lap.is_of(id.generation)) else { return };
        if lap.worked_within(now) {
            self.read = self.clock.now();
            self.handed_over = false;
        }
        lap.enter(stage, now.max(self.read));
    }

    /// A command is handed to its device. What the one before has cost, when it is still with its device, is not this
    /// one's time.
    pub(crate) fn hand_over(&mut self, id: CmdId, now: Nanos) {
        if self.handed_over {
            self.read_clock();
        }
        self.enter(id, Stage::ExecWait, now);
        self.handed_over = true;
    }

    /// Its answer has left.
    pub(crate) fn finished(
        &mut self,
        id: CmdId,
        now: Nanos,
        session: SessionId,
        device: Option<DeviceId>,
        row: SizeRow,
    ) {
        let Some(lap) = self.laps.get_mut(id.index as usize).filter(|lap| lap.is_of(id.generation)) else { return };
        let table = self.sessions.at(session.index);
        table.used |= 1 << row.index();
        let summaries = &mut table.rows[row.index()];
        let now = now.max(self.read);
        match device {
            None => lap.finish(now, |stage, nanos| summaries[stage].add(nanos)),
            Some(device) => {
                let unit = self.units.at(device.0);
                unit.used = true;
                lap.finish(now, |stage, nanos| {
                    summaries[stage].add(nanos);
                    unit.stages[stage].add(nanos);
                });
            }
        }
    }
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
        assert_eq!(size_of::<Lap>(), 80);
    }
}
