//! One command: its slot, its states, its flags.

use bitflags::bitflags;
use scst_scsi::{Cdb, SenseData, TaskAttribute};

use crate::Nanos;
use crate::buffer::SgList;
use crate::event::{BarrierId, BarrierScope};
use crate::handler::{Outcome, Parsed};
use crate::ids::{DeviceId, SessionId};
use crate::slab::Vacant;

/// Where a command is (DESIGN section 3; the states of the original, folded).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommandState {
    /// Parsed; it needs a buffer.
    AwaitingBuffer,
    /// The target driver fetches its data-out.
    AwaitingData,
    /// It has its data but an older command has not arrived yet (see `NewCommand::held`).
    Held,
    /// Waits for its turn in the task set.
    Queued,
    /// Its turn has come, but a gate or range lock of the logical unit keeps it.
    Blocked,
    /// Waits until all others have left the logical unit or range (it owns the barrier).
    AwaitingBarrier,
    /// A device handler, or the core, works on it.
    Executing,
    /// It has changed something that others have to know; it is answered when every engine does.
    Settling,
    /// The target driver sends its response.
    Responding,
}

bitflags! {
    /// Orthogonal to the state.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub(crate) struct CommandMarks: u16 {
        /// Aborted: it ends without touching the medium any more and, as a rule, without a response.
        const ABORTED = 1 << 0;
        /// The one who aborted it is another I_T nexus: TAS decides about a TASK ABORTED status.
        const BY_OTHER = 1 << 1;
        /// A task management function or a barrier waits for its end.
        const AWAITED = 1 << 2;
        /// It is in the task set of its nexus.
        const IN_TASK_SET = 1 << 3;
        /// It owns a barrier.
        const OWNS_BARRIER = 1 << 4;
        /// It arrived ahead of an older command and has not been delivered yet.
        const UNDELIVERED = 1 << 5;
        /// Its session is going away: no response, whatever happened.
        const SESSION_GONE = 1 << 6;
        /// Its way through the stages is measured (see `latency`).
        const MEASURED = 1 << 8;
        /// Its data are the driver's (see `NewCommand::data`): there is no buffer to give back.
        const BORROWED = 1 << 9;
        /// Its data-in are those of a file at the moment they are sent: until then it counts as executing, and stays in
        /// its task set.
        const MAPPED = 1 << 10;
        /// Its session has gone on without it (see `park`).
        const PARKED = 1 << 11;
        /// It is in the list of its session (see `members`).
        const LOOSE = 1 << 12;
        /// The barrier that it owns is the fence of a command that is parked, or is to be.
        const FENCED = 1 << 13;
        /// It has been aborted and has ended, but that is told only with the function that aborted it (see `tmf`).
        const HELD_BACK = 1 << 14;
        /// It has sense data of a real device (`Engine::raw_senses`).
        const RAW_SENSE = 1 << 15;
    }
}

/// No neighbour in a list, no nexus.
pub(crate) const NONE: u32 = u32::MAX;

/// A command slot.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) state: CommandState,
    pub(crate) marks: CommandMarks,
    pub(crate) attribute: TaskAttribute,
    pub(crate) session: SessionId,
    /// Slot of the I_T_L nexus, or [`NONE`] when there is no such LUN.
    pub(crate) nexus: u32,
    pub(crate) device: Option<DeviceId>,
    pub(crate) driver_tag: u64,
    /// When it arrived; of interest only while latencies are measured.
    pub(crate) arrived: Nanos,
    pub(crate) parsed: Parsed,
    /// What is wrong with it, found while it was parsed or while its data were fetched.
    pub(crate) reject: Option<SenseData>,
    /// Neighbours in the list of its nexus (by slot), in the order they entered the task set.
    pub(crate) previous: u32,
    pub(crate) next: u32,
    /// What waits for its end, as long as it is AWAITED (see `wait`).
    pub(crate) waits: u32,
    /// How many functions of its own session have aborted it and are not at their end, as long as it is ABORTED.
    pub(crate) aborters: u16,
    /// The slot of the barrier that it owns, as long as it OWNS_BARRIER.
    pub(crate) barrier: u32,
    /// The barrier that keeps it out, while it is `Blocked`, and since when one does.
    pub(crate) kept_by: Option<(BarrierId, BarrierScope)>,
    pub(crate) blocked_since: Nanos,
    pub(crate) sg: SgList,
    /// Bytes of the session's share that it takes.
    pub(crate) reserved: u32,
    pub(crate) outcome: Outcome,
    pub(crate) cdb: Cdb,
}

impl Vacant for Command {
    fn vacant() -> Self {
        Self {
            state: CommandState::AwaitingBuffer,
            marks: CommandMarks::empty(),
            attribute: TaskAttribute::Simple,
            session: SessionId { index: 0, generation: 0 },
            nexus: NONE,
            device: None,
            driver_tag: 0,
            arrived: Nanos(0),
            parsed: Parsed::default(),
            reject: None,
            previous: NONE,
            next: NONE,
            waits: NONE,
            aborters: 0,
            barrier: NONE,
            kept_by: None,
            blocked_since: Nanos(0),
            sg: SgList::default(),
            reserved: 0,
            outcome: Outcome::good(0),
            cdb: Cdb::new(&[]),
        }
    }
}

impl Command {
    pub(crate) fn is_aborted(&self) -> bool {
        self.marks.contains(CommandMarks::ABORTED)
    }

    /// Whether it works on the medium: a handler does, or its data-in are yet to be fetched by who sends them.
    pub(crate) fn is_executing(&self) -> bool {
        match self.state {
            CommandState::Executing => true,
            CommandState::Responding => self.marks.contains(CommandMarks::MAPPED),
            _ => false,
        }
    }

    /// Whether two medium accesses touch a common block.
    pub(crate) fn overlaps(&self, lba: u64, blocks: u64) -> bool {
        self.parsed.lba < lba.saturating_add(blocks) && lba < self.parsed.lba.saturating_add(self.parsed.blocks)
    }
}
