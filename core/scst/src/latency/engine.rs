//! The option in the engine: on, off, and reading the figures.

use std::ops::Range;

use super::histogram::Histogram;
use super::summary::{STAGES, SizeRow, Stage, Summary};
use super::tables::{SessionTable, UnitTable};
use super::{Clock, Latency};
use crate::Nanos;
use crate::command::{Command, CommandMarks};
use crate::engine::Engine;
use crate::ids::{CmdId, DeviceId};

/// The stages of one session's commands of one direction and size, by [`Stage::ALL`].
#[derive(Clone, PartialEq, Debug)]
pub struct SizeLatency {
    /// Direction and size.
    pub row: SizeRow,
    /// Figures by stage.
    pub stages: [Summary; STAGES],
}

/// The stages of one logical unit's commands, by [`Stage::ALL`].
#[derive(Clone, PartialEq, Debug)]
pub struct UnitLatency {
    /// The logical unit; None: those that have no histograms of their own.
    pub device: Option<DeviceId>,
    /// Figures by stage.
    pub stages: Box<[Histogram; STAGES]>,
}

impl Engine {
    /// Measures from now on, or (None) no longer. Figures begin anew when it is switched on, and are gone when it is
    /// switched off; commands that are under way then are not counted.
    pub fn measure_latency(&mut self, clock: Option<Box<dyn Clock>>) {
        self.new_marks = CommandMarks::empty();
        self.plain_marks = CommandMarks::IN_TASK_SET;
        self.latency = None;
        let Some(clock) = clock else { return };
        // Those of an earlier time have no lap in these tables.
        for slot in 0..self.commands.slots() {
            if let Some(command) = self.commands.at_mut(slot) {
                command.marks.remove(CommandMarks::MEASURED);
            }
        }
        let mut latency = Box::new(Latency::new(clock, self.commands.slots() as usize));
        self.sessions.iter().for_each(|(slot, ..)| latency.sessions.add(slot));
        let devices = self.devices.iter().zip(0..).filter(|(device, _)| device.is_some());
        devices.for_each(|(_, number)| latency.units.add(number));
        self.latency = Some(latency);
        self.new_marks = CommandMarks::MEASURED;
        self.plain_marks |= CommandMarks::MEASURED;
    }

    /// Whether latencies are measured.
    pub fn measures_latency(&self) -> bool {
        self.latency.is_some()
    }

    /// The reactor itself has spent time: reads the clock.
    #[cold]
    pub(crate) fn read_clock(&mut self) {
        if let Some(latency) = &mut self.latency {
            latency.read_clock();
        }
    }

    /// The shard begins a run.
    pub(crate) fn begin_run(&mut self, now: Nanos) {
        if let Some(latency) = &mut self.latency {
            latency.begin_run(now);
        }
    }

    /// A device is at work on a command.
    #[cold]
    pub(crate) fn handed_over(&mut self, id: CmdId) {
        if let Some((latency, command)) = self.measured(id) {
            latency.handed_over(id, command);
        }
    }

    /// A command enters a stage, if it is measured.
    #[cold]
    pub(crate) fn enter_stage(&mut self, id: CmdId, stage: Stage) {
        let now = self.now;
        if let Some((latency, command)) = self.measured(id) {
            latency.enter(id, command, stage, now);
        }
    }

    fn measured(&mut self, id: CmdId) -> Option<(&mut Latency, &Command)> {
        let command = self.commands.get(id.index, id.generation)?;
        command.marks.contains(CommandMarks::MEASURED).then_some((self.latency.as_mut()?, command))
    }

    /// What a session has in its table, row by row; None: it has none of its own, or nothing is measured.
    pub(crate) fn session_latency(&self, slot: u32) -> Option<Vec<SizeLatency>> {
        Some(rows(self.latency.as_ref()?.sessions.own(slot)?))
    }

    /// What sessions without a table of their own have together.
    pub fn other_session_latency(&self) -> Vec<SizeLatency> {
        self.latency.as_ref().map(|latency| rows(&latency.sessions.other)).unwrap_or_default()
    }

    /// Device numbers with histograms are below this.
    pub fn measured_units(&self) -> u32 {
        self.latency.as_ref().map_or(0, |latency| latency.units.slots())
    }

    /// What the logical units in a range of numbers have, if anything.
    pub fn unit_latency(&self, numbers: Range<u32>) -> impl Iterator<Item = UnitLatency> + '_ {
        let units = self.latency.iter().map(|latency| &latency.units);
        let own = units.flat_map(move |units| {
            numbers.clone().take_while(|n| *n < units.slots()).filter_map(|n| Some((DeviceId(n), units.own(n)?)))
        });
        own.filter_map(|(device, table)| unit(Some(device), table))
    }

    /// What those without histograms of their own have together.
    pub fn other_unit_latency(&self) -> Option<UnitLatency> {
        unit(None, &self.latency.as_ref()?.units.other)
    }
}

fn rows(table: &SessionTable) -> Vec<SizeLatency> {
    let used = SizeRow::all().filter(|row| table.used & 1 << row.index() != 0);
    used.map(|row| SizeLatency { row, stages: table.rows[row.index()] }).collect()
}

fn unit(device: Option<DeviceId>, table: &UnitTable) -> Option<UnitLatency> {
    table.used.then(|| UnitLatency { device, stages: Box::new(table.stages.clone()) })
}
