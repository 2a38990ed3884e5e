//! Which stages a command that touches the medium goes through.

use scst_cmdset::BlockRange;
use scst_cmdset::command::VerifyCheck;
use scst_cmdset::medium::MediumChange;

/// A run of bytes of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bytes {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl Bytes {
    /// The bytes of a range that is within the capacity.
    pub(crate) fn of(range: BlockRange, block_size: u32) -> Self {
        Self { offset: range.lba * u64::from(block_size), len: range.blocks * u64::from(block_size) }
    }
}

/// What becomes of the blocks that a scan reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ScanWith {
    /// They only have to be readable.
    Nothing,
    /// They have to equal the data-out.
    Data,
    /// Each of them has to equal the one block of data-out.
    OneBlock,
    /// They are or-ed into the data-out.
    OrIntoData,
}

/// How blocks are given back or become zeros (or a pattern). Where the storage cannot do it, `Discard` falls back on
/// `Zero`, that on `WriteZeros`; a `Trim` is then left undone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Clear {
    /// Tell the storage that they are not needed; no promise of zeros.
    Trim,
    /// Deallocate, to zeros.
    Discard,
    /// Zero without writing.
    Zero,
    /// Write zeros.
    WriteZeros,
    /// Write the block of data-out over and over.
    WritePattern,
}

/// Which blocks a clearing stage is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Which {
    /// One range.
    One(Bytes),
    /// The ranges in the UNMAP parameter list.
    UnmapList,
}

/// One stage of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Make all earlier writes durable.
    Flush,
    /// Read into the buffer.
    Read(Bytes),
    /// Write `bytes` from `sg_offset` of the buffer on.
    Write { bytes: Bytes, sg_offset: u32, durable: bool },
    /// Read piece by piece into a scratch buffer and do something with it.
    Scan { bytes: Bytes, with: ScanWith },
    /// Clear ranges; `anchor` them afterwards.
    Clear { which: Which, how: Clear, anchor: bool },
    /// Start read-ahead.
    Prefetch(Bytes),
    /// Find out what is allocated.
    LbaStatus { lba: u64, allocation: u32 },
    /// Make a MODE SELECT effective.
    ModeSelect,
    /// Eject or load the medium.
    Medium(MediumChange),
}

/// Most stages of a command.
const MAX_STAGES: usize = 3;

/// The stages of a command, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Plan {
    stages: [Option<Stage>; MAX_STAGES],
}

impl Plan {
    /// A plan of the stages that are there, at most three.
    pub(crate) fn of<const N: usize>(stages: [Option<Stage>; N]) -> Self {
        let mut plan = Self::default();
        for (slot, stage) in plan.stages.iter_mut().zip(stages.into_iter().flatten()) {
            *slot = Some(stage);
        }
        plan
    }

    /// One stage alone.
    pub(crate) fn one(stage: Stage) -> Self {
        Self::of([Some(stage)])
    }

    /// The stages that `keep` picks.
    pub(crate) fn only(&self, keep: impl Fn(&Stage) -> bool) -> Self {
        Self::of(self.stages.map(|stage| stage.filter(&keep)))
    }

    /// The stage that is under way.
    pub(crate) fn current(&self) -> Option<Stage> {
        self.stages[0]
    }

    /// Whether the stage under way is to be followed by one that changes the disk itself.
    pub(crate) fn changes_the_disk(&self) -> bool {
        matches!(self.stages[1], Some(Stage::ModeSelect | Stage::Medium(_)))
    }

    /// Replaces the stage that is under way.
    pub(crate) fn replace(&mut self, stage: Stage) {
        self.stages[0] = Some(stage);
    }

    /// Goes on to the next stage.
    pub(crate) fn advance(&mut self) {
        self.stages[0] = None;
        self.stages.rotate_left(1);
    }
}

/// The stages of a write. `durable`: its data have to be on the storage; `apart`: for that they need a flush, which other commands
/// may share, after the write.
pub(crate) fn write(bytes: Bytes, sg_offset: u32, durable: bool, apart: bool) -> [Option<Stage>; 2] {
    let write = Stage::Write { bytes, sg_offset, durable: durable && !apart };
    [Some(write), (durable && apart && bytes.len > 0).then_some(Stage::Flush)]
}

/// The scan that a check after a write, or VERIFY, needs.
pub(crate) fn verify(bytes: Bytes, check: VerifyCheck) -> Stage {
    let with = match check {
        VerifyCheck::Medium => ScanWith::Nothing,
        VerifyCheck::Compare => ScanWith::Data,
        VerifyCheck::CompareOne => ScanWith::OneBlock,
    };
    Stage::Scan { bytes, with }
}
