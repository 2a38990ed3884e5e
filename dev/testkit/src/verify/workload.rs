//! Random commands on a range of blocks, and the judgement of their results.

use std::collections::BTreeMap;

use super::{Content, Corruption, History, Pattern, Time};
use crate::initiator::{Command, Error, Initiator, Outcome};
use crate::rng::Rng;
use crate::scsi::{
    cdb::{self, RwFlags},
    status,
};

/// Shape of a workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkloadOptions {
    /// The LUN.
    pub lun: u32,
    /// Bytes per block.
    pub block_size: u32,
    /// First block that it uses.
    pub first_lba: u64,
    /// Number of blocks that it uses; nobody else writes them.
    pub blocks: u64,
    /// Commands outstanding.
    pub depth: usize,
    /// Longest command, in blocks.
    pub max_blocks: u32,
    /// Writes among 100 commands.
    pub write_percent: u64,
    /// Flushes among 100 commands.
    pub flush_percent: u64,
    /// Same seed, same commands.
    pub seed: u64,
}

impl WorkloadOptions {
    /// A mixed load: depth 8, half writes, up to 64 blocks per command.
    pub fn mixed(lun: u32, block_size: u32, blocks: u64, seed: u64) -> Self {
        let (first_lba, depth, max_blocks, write_percent, flush_percent) = (0, 8, 64, 50, 2);
        Self { lun, block_size, first_lba, blocks, depth, max_blocks, write_percent, flush_percent, seed }
    }
}

/// Names one command of a workload.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OpId(u64);

#[derive(Clone, Copy, Debug)]
enum Op {
    Read { lba: u64, blocks: u32, start: Time, settle: bool },
    Write { lba: u64, blocks: u32, generation: u64 },
    Flush { start: Time },
}

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// READs that ended well and held what they should.
    pub reads: u64,
    /// WRITEs acknowledged.
    pub writes: u64,
    /// Flushes that ended well.
    pub flushes: u64,
    /// Commands refused with BUSY, TASK SET FULL or a unit attention, or aborted.
    pub refused: u64,
}

/// Why [`Workload::run`] ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Data are wrong.
    #[error("corruption: {0}")]
    Corruption(#[from] Corruption),
    /// The connection failed; the workload can go on over another one.
    #[error("connection: {0}")]
    Connection(#[from] Error),
}

/// A verifying workload. It owns its range of blocks, which holds zeros at first (or call
/// [`Workload::initialise`]), and survives any number of connections and crashes.
#[derive(Debug)]
pub struct Workload {
    options: WorkloadOptions,
    pattern: Pattern,
    history: History,
    rng: Rng,
    generation: u64,
    next_op: u64,
    ops: BTreeMap<OpId, Op>,
    progress: Progress,
}

impl Workload {
    /// A workload on blocks of zeros.
    pub fn new(options: WorkloadOptions) -> Self {
        Self {
            pattern: Pattern::new(options.seed),
            history: History::new(),
            rng: Rng::new(options.seed),
            generation: 0,
            next_op: 0,
            ops: BTreeMap::new(),
            progress: Progress::default(),
            options,
        }
    }

    /// What was done so far.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Commands that have not ended.
    pub fn outstanding(&self) -> usize {
        self.ops.len()
    }

    /// Its options; the depth and the percentages may be changed at any time.
    pub fn options_mut(&mut self) -> &mut WorkloadOptions {
        &mut self.options
    }

    /// The next random command.
    pub fn next_command(&mut self) -> (OpId, Command) {
        let length = 1 + self.rng.below(u64::from(self.options.max_blocks).min(self.options.blocks));
        let lba = self.options.first_lba + self.rng.below(self.options.blocks - length + 1);
        let kind = self.rng.below(100);
        if kind < self.options.flush_percent {
            self.flush()
        } else if kind < self.options.flush_percent + self.options.write_percent {
            let fua = self.rng.percent(3);
            self.write(lba, length as u32, fua)
        } else {
            self.read(lba, length as u32, false)
        }
    }

    fn begin(&mut self, op: Op) -> OpId {
        let id = OpId(self.next_op);
        self.next_op += 1;
        self.ops.insert(id, op);
        id
    }

    fn flush(&mut self) -> (OpId, Command) {
        let start = self.history.flush_begins();
        (self.begin(Op::Flush { start }), Command::flush(self.options.lun))
    }

    fn read(&mut self, lba: u64, blocks: u32, settle: bool) -> (OpId, Command) {
        let start = self.history.read_begins();
        let id = self.begin(Op::Read { lba, blocks, start, settle });
        (id, Command::read_blocks(self.options.lun, lba, blocks, self.options.block_size))
    }

    fn write(&mut self, lba: u64, blocks: u32, fua: bool) -> (OpId, Command) {
        self.generation += 1;
        let generation = self.generation;
        let size = self.options.block_size as usize;
        let mut data = vec![0; blocks as usize * size];
        for (block, lba) in data.chunks_exact_mut(size).zip(lba..) {
            self.pattern.fill(lba, generation, block);
        }
        self.history.write_begins(lba, u64::from(blocks), generation);
        let id = self.begin(Op::Write { lba, blocks, generation });
        let flags = if fua { RwFlags::FUA } else { RwFlags::NONE };
        (id, Command::write(self.options.lun, cdb::write16(lba, blocks, flags), data))
    }

    /// Judges the end of a command.
    ///
    /// # Errors
    /// Data or status are wrong.
    pub fn complete(&mut self, id: OpId, outcome: &Outcome) -> Result<(), Corruption> {
        let Some(op) = self.ops.remove(&id) else { return Ok(()) };
        if outcome.is_good() {
            return self.complete_good(op, outcome);
        }
        let kcq = outcome.kcq();
        let not_begun = matches!(outcome.status, status::BUSY | status::TASK_SET_FULL | status::RESERVATION_CONFLICT)
            || kcq.is_some_and(|(key, ..)| key == 6);
        let aborted = outcome.status == status::TASK_ABORTED || kcq.is_some_and(|(key, ..)| key == 0xb);
        match op {
            Op::Write { lba, blocks, generation } if not_begun => {
                self.history.write_refused(lba, u64::from(blocks), generation);
            }
            Op::Read { start, .. } => self.history.read_ends(start),
            _ => {}
        }
        if not_begun || aborted {
            self.progress.refused += 1;
            return Ok(());
        }
        Err(Corruption::Failed { what: format!("{op:?}"), status: outcome.status, kcq })
    }

    fn complete_good(&mut self, op: Op, outcome: &Outcome) -> Result<(), Corruption> {
        match op {
            Op::Flush { start } => {
                self.history.flush_ends(start);
                self.progress.flushes += 1;
            }
            Op::Write { lba, blocks, generation } => {
                self.history.write_ends(lba, u64::from(blocks), generation);
                self.progress.writes += 1;
            }
            Op::Read { lba, blocks, start, settle } => {
                let checked = self.check(lba, blocks, start, settle, &outcome.data_in);
                self.history.read_ends(start);
                checked?;
                self.progress.reads += 1;
            }
        }
        Ok(())
    }

    fn check(&mut self, lba: u64, blocks: u32, start: Time, settle: bool, data: &[u8]) -> Result<(), Corruption> {
        let size = self.options.block_size as usize;
        let expected = blocks as usize * size;
        if data.len() != expected {
            return Err(Corruption::Short { lba, got: data.len(), expected });
        }
        for (block, lba) in data.chunks_exact(size).zip(lba..) {
            let found = match self.pattern.read(block) {
                Content::Zeros => 0,
                Content::Written { lba: at, generation } if at == lba => generation,
                Content::Written { lba: belongs_to, .. } => return Err(Corruption::Misplaced { lba, belongs_to }),
                Content::Foreign(what) => return Err(Corruption::Torn { lba, what }),
            };
            let judged =
                if settle { self.history.settle(lba, found) } else { self.history.observed(start, lba, found) };
            judged.map_err(|allowed| Corruption::WrongGeneration { lba, found, allowed })?;
        }
        Ok(())
    }

    /// The connection is gone, and with it every command in flight; whether the writes happened, a read will tell.
    /// Call [`Workload::verify_all`] on the next connection before anything else.
    pub fn connection_lost(&mut self) {
        for op in std::mem::take(&mut self.ops).into_values() {
            if let Op::Read { start, .. } = op {
                self.history.read_ends(start);
            }
        }
    }

    /// The target was killed, or the machine lost power: only flushed data are certain.
    pub fn crashed(&mut self) {
        self.connection_lost();
        self.history.crashed();
    }

    /// Writes the whole range once: for a medium that does not hold zeros.
    ///
    /// # Errors
    /// A command fails.
    pub fn initialise(&mut self, initiator: &mut Initiator) -> Result<(), RunError> {
        let (first, end) = (self.options.first_lba, self.options.first_lba + self.options.blocks);
        for lba in (first..end).step_by(self.options.max_blocks as usize) {
            let blocks = (end - lba).min(u64::from(self.options.max_blocks)) as u32;
            let (id, command) = self.write(lba, blocks, false);
            let outcome = initiator.execute(command)?;
            self.complete(id, &outcome)?;
        }
        Ok(())
    }

    /// Reads and judges the whole range; after a crash or a lost connection this settles what each block holds.
    ///
    /// # Errors
    /// Data are wrong, or the connection fails.
    pub fn verify_all(&mut self, initiator: &mut Initiator) -> Result<(), RunError> {
        let (first, end) = (self.options.first_lba, self.options.first_lba + self.options.blocks);
        for lba in (first..end).step_by(self.options.max_blocks as usize) {
            let blocks = (end - lba).min(u64::from(self.options.max_blocks)) as u32;
            let (id, command) = self.read(lba, blocks, self.ops.is_empty());
            let outcome = initiator.run(command)?;
            self.complete(id, &outcome)?;
        }
        Ok(())
    }

    /// Runs so many commands, `depth` at a time, and waits for all of them.
    ///
    /// # Errors
    /// Data are wrong, or the connection fails; in that case call [`Workload::connection_lost`] or
    /// [`Workload::crashed`].
    pub fn run(&mut self, initiator: &mut Initiator, commands: u64) -> Result<Progress, RunError> {
        let mut left = commands;
        self.run_while(initiator, || {
            let more = left > 0;
            left = left.saturating_sub(1);
            more
        })
    }

    /// Runs while `more` says so (asked before each command), and waits for all commands.
    ///
    /// # Errors
    /// As [`Workload::run`].
    pub fn run_while(
        &mut self,
        initiator: &mut Initiator,
        mut more: impl FnMut() -> bool,
    ) -> Result<Progress, RunError> {
        let before = self.progress;
        let mut tags = BTreeMap::new();
        let mut going = true;
        loop {
            while going && tags.len() < self.options.depth {
                going = more();
                if going {
                    let (id, command) = self.next_command();
                    tags.insert(initiator.submit(command)?, id);
                }
            }
            if tags.is_empty() {
                break;
            }
            let outcome = initiator.wait_any()?;
            if let Some(id) = tags.remove(&outcome.itt) {
                self.complete(id, &outcome)?;
            }
        }
        let after = self.progress;
        Ok(Progress {
            reads: after.reads - before.reads,
            writes: after.writes - before.writes,
            flushes: after.flushes - before.flushes,
            refused: after.refused - before.refused,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: usize = 256;

    fn workload(seed: u64) -> Workload {
        Workload::new(WorkloadOptions::mixed(0, 512, BLOCKS as u64, seed))
    }

    /// Carries a command out on a disk in memory.
    fn apply(disk: &mut [u8], command: &Command) -> Outcome {
        let number =
            |range: std::ops::Range<usize>| command.cdb[range].iter().fold(0, |n, &b| (n << 8) | usize::from(b));
        let mut outcome = Outcome::default();
        if matches!(command.cdb[0], 0x88 | 0x8a) {
            let start = number(2..10) * 512;
            let place = &mut disk[start..start + number(10..14) * 512];
            if command.cdb[0] == 0x88 {
                outcome.data_in = place.to_vec();
            } else {
                place.copy_from_slice(&command.data_out);
            }
        }
        outcome
    }

    #[test]
    fn a_right_disk_passes_in_any_order_of_overlapping_commands() {
        let (mut workload, mut disk) = (workload(1), vec![0; BLOCKS * 512]);
        let mut rng = Rng::new(99);
        let (mut issued, mut applied) = (Vec::new(), Vec::new());
        for _ in 0..20_000 {
            match rng.below(3) {
                0 if issued.len() + applied.len() < 16 => issued.push(workload.next_command()),
                1 if !issued.is_empty() => {
                    let (id, command) = issued.swap_remove(rng.below(issued.len() as u64) as usize);
                    applied.push((id, apply(&mut disk, &command)));
                }
                2 if !applied.is_empty() => {
                    let (id, outcome) = applied.swap_remove(rng.below(applied.len() as u64) as usize);
                    workload.complete(id, &outcome).unwrap();
                }
                _ => {}
            }
        }
        assert!(workload.progress().reads > 1000 && workload.progress().writes > 1000);
    }

    #[test]
    fn lost_misplaced_and_torn_writes_are_found() {
        let (mut workload, mut disk) = (workload(2), vec![0; BLOCKS * 512]);
        let (id, command) = workload.write(10, 4, false);
        let good = apply(&mut disk, &command);
        workload.complete(id, &good).unwrap();
        let mut read = |disk: &mut [u8], lba| {
            let (id, command) = workload.read(lba, 1, false);
            let outcome = apply(disk, &command);
            workload.complete(id, &outcome)
        };
        assert_eq!(read(&mut disk, 10), Ok(()));
        let mut lost = disk.clone();
        lost[10 * 512..11 * 512].fill(0);
        assert_eq!(read(&mut lost, 10), Err(Corruption::WrongGeneration { lba: 10, found: 0, allowed: vec![1] }));
        let mut misplaced = disk.clone();
        misplaced.copy_within(10 * 512..11 * 512, 11 * 512);
        assert_eq!(read(&mut misplaced, 11), Err(Corruption::Misplaced { lba: 11, belongs_to: 10 }));
        let mut torn = disk.clone();
        torn[12 * 512 + 300] ^= 1;
        assert!(matches!(read(&mut torn, 12), Err(Corruption::Torn { lba: 12, .. })));
    }

    #[test]
    fn a_flushed_write_must_survive_a_crash_and_another_may_be_lost() {
        for (flushed, expected) in [(true, Err(())), (false, Ok(()))] {
            let (mut workload, mut disk) = (workload(3), vec![0; BLOCKS * 512]);
            let (id, command) = workload.write(0, 1, false);
            let outcome = apply(&mut disk, &command);
            workload.complete(id, &outcome).unwrap();
            if flushed {
                let (id, _) = workload.flush();
                workload.complete(id, &Outcome::default()).unwrap();
            }
            workload.crashed();
            disk.fill(0);
            let (id, command) = workload.read(0, 1, true);
            let outcome = apply(&mut disk, &command);
            assert_eq!(workload.complete(id, &outcome).map_err(drop), expected);
        }
    }

    #[test]
    fn a_failed_command_is_reported_and_a_refused_one_is_not() {
        let mut workload = workload(4);
        let (id, _) = workload.write(0, 1, false);
        let busy = Outcome { status: status::BUSY, ..Outcome::default() };
        assert_eq!(workload.complete(id, &busy), Ok(()));
        assert_eq!(workload.progress().refused, 1);
        let (id, _) = workload.read(0, 1, false);
        let sense_data = vec![0x70, 0, 3, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0];
        let failed = Outcome { status: status::CHECK_CONDITION, sense_data, ..Outcome::default() };
        let Err(Corruption::Failed { kcq, .. }) = workload.complete(id, &failed) else { panic!() };
        assert_eq!(kcq, Some((3, 0x11, 0)));
    }
}
