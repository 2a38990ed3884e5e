//! The list of scenarios.

use crate::Direction::{self, Read, Write};
use crate::meter::Meter;
use crate::mid_level::ShardAlone;
use crate::path::Path;
use crate::pool::Pool;
use crate::protocol::Protocol;

/// Commands that end together.
pub trait Batch {
    /// Runs one batch to its end: every command is answered, and the answer was checked.
    fn run(&mut self, meter: Meter);
}

/// What a scenario drives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Subject {
    Shard,
    /// The mid-level with a disk that the session has reserved.
    Reserved,
    Protocol {
        digests: bool,
    },
    Path,
    Pool,
}

/// A scenario.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scenario {
    /// Its name, as in `budget.toml`.
    pub name: &'static str,
    subject: Subject,
    direction: Direction,
    batch: u32,
    measured: bool,
}

const fn row(name: &'static str, subject: Subject, direction: Direction, batch: u32) -> Scenario {
    Scenario { name, subject, direction, batch, measured: false }
}

/// The same while latencies are measured.
const fn measured(name: &'static str, subject: Subject, direction: Direction, batch: u32) -> Scenario {
    Scenario { measured: true, ..row(name, subject, direction, batch) }
}

/// All scenarios, from the inside out.
pub const SCENARIOS: &[Scenario] = &[
    row("pool-1", Subject::Pool, Read, 1),
    row("pool-32", Subject::Pool, Read, 32),
    row("core-read-1", Subject::Shard, Read, 1),
    row("core-read-32", Subject::Shard, Read, 32),
    row("core-write-1", Subject::Shard, Write, 1),
    row("core-write-32", Subject::Shard, Write, 32),
    row("core-read-32-reserved", Subject::Reserved, Read, 32),
    measured("core-read-32-measured", Subject::Shard, Read, 32),
    measured("core-write-32-measured", Subject::Shard, Write, 32),
    row("protocol-read-32", Subject::Protocol { digests: false }, Read, 32),
    row("protocol-write-32", Subject::Protocol { digests: false }, Write, 32),
    row("protocol-read-32-digests", Subject::Protocol { digests: true }, Read, 32),
    row("protocol-write-32-digests", Subject::Protocol { digests: true }, Write, 32),
    row("path-read-1", Subject::Path, Read, 1),
    row("path-read-32", Subject::Path, Read, 32),
    row("path-write-1", Subject::Path, Write, 1),
    row("path-write-32", Subject::Path, Write, 32),
    measured("path-read-1-measured", Subject::Path, Read, 1),
    measured("path-read-32-measured", Subject::Path, Read, 32),
    measured("path-write-32-measured", Subject::Path, Write, 32),
];

impl Scenario {
    /// The scenario with this name.
    pub fn find(name: &str) -> Option<Self> {
        SCENARIOS.iter().copied().find(|s| s.name == name)
    }

    fn batch(self) -> Box<dyn Batch> {
        let Self { direction, batch, measured, .. } = self;
        match self.subject {
            Subject::Shard => Box::new(ShardAlone::new(direction, batch, measured, false)),
            Subject::Reserved => Box::new(ShardAlone::new(direction, batch, measured, true)),
            Subject::Protocol { digests } => Box::new(Protocol::new(direction, batch, digests)),
            Subject::Path => Box::new(Path::new(direction, batch, measured)),
            Subject::Pool => Box::new(Pool::new(batch)),
        }
    }

    /// Runs at least so many commands under the meter, after as many as make every table and list warm. Returns how
    /// many they were.
    pub fn run(self, commands: u32) -> u32 {
        let mut batch = self.batch();
        for _ in 0..64u32.div_ceil(self.batch) {
            batch.run(Meter::OFF);
        }
        let batches = commands.div_ceil(self.batch);
        for _ in 0..batches {
            batch.run(Meter::ON);
        }
        batches * self.batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The scenarios check themselves that each command was answered well.
    #[test]
    fn every_scenario_runs() {
        for scenario in SCENARIOS {
            assert_eq!(scenario.run(96), 96, "{}", scenario.name);
        }
    }
}
