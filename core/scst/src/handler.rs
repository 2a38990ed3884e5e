//! The device handler seam.

use std::sync::Arc;

use scst_scsi::opcode::SupportedTmfs;
use scst_scsi::sense::RawSense;
use scst_scsi::{Asc, Cdb, CommandFlags, DataDirection, ScsiStatus, SenseData};

use crate::Nanos;
use crate::buffer::{BufferSource, Extent, SgList};
use crate::config::TargetConfig;
use crate::ids::{CmdId, NexusId};
use crate::io::{IoCompletion, IoQueue};

/// Task management functions that the mid-level carries out for every device, for REPORT SUPPORTED TASK MANAGEMENT
/// FUNCTIONS.
pub const TASK_MANAGEMENT: SupportedTmfs = SupportedTmfs::ABORT_TASK
    .union(SupportedTmfs::ABORT_TASK_SET)
    .union(SupportedTmfs::CLEAR_TASK_SET)
    .union(SupportedTmfs::LOGICAL_UNIT_RESET)
    .union(SupportedTmfs::TARGET_RESET)
    .union(SupportedTmfs::QUERY_TASK)
    .union(SupportedTmfs::QUERY_TASK_SET)
    .union(SupportedTmfs::QUERY_ASYNCHRONOUS_EVENT)
    .union(SupportedTmfs::IT_NEXUS_RESET);

/// What a handler (or the core's own parser) reads off a CDB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Parsed {
    /// Direction of the data phase; `None` when `length` is 0.
    pub direction: DataDirection,
    /// Bytes of the data phase in `direction` (for data-in: the most there can be, the allocation length).
    pub length: u32,
    /// Properties from the opcode table, plus what the CDB's bits add (FUA, ...).
    pub flags: CommandFlags,
    /// First logical block touched, for commands with `MEDIUM_ACCESS`.
    pub lba: u64,
    /// Number of logical blocks touched, for commands with `MEDIUM_ACCESS`.
    pub blocks: u64,
}

/// A command as the handler sees it while it executes.
#[derive(Clone, Copy, Debug)]
pub struct ExecCommand<'a> {
    /// Name of the command; operations are submitted under it.
    pub id: CmdId,
    /// The CDB.
    pub cdb: &'a Cdb,
    /// What [`HandlerShard::parse`] said of it.
    pub parsed: &'a Parsed,
    /// The buffer: data-out is complete in it, data-in goes into it. `parsed.length` bytes, or fewer when the
    /// initiator expects (data-in) or has sent (data-out) fewer.
    pub sg: &'a SgList,
    /// The I_T_L nexus that sent it.
    pub nexus: NexusId,
    /// The LUN is read-only for this nexus (WP bit of MODE SENSE).
    pub read_only: bool,
    /// The target driver takes [`Execution::Mapped`] from this session.
    pub takes_mapped: bool,
    /// Some nexus of the logical unit prevents medium removal.
    pub removal_prevented: bool,
    /// The target port that it came through.
    pub port: Port<'a>,
}

/// A target port. Few commands ask about it, so it is not looked at for the others.
#[derive(Clone, Copy, Debug)]
pub enum Port<'a> {
    /// That of a target; None: it has just gone.
    Target(Option<&'a Arc<TargetConfig>>),
    /// One with this name and identifier.
    Named(&'a str, u16),
}

impl<'a> Port<'a> {
    /// Relative target port identifier.
    pub fn relative(self) -> u16 {
        match self {
            Self::Target(target) => target.map_or(0, |t| t.relative_port),
            Self::Named(_, relative) => relative,
        }
    }

    /// Name of the target, for the SCSI name string of VPD 83h.
    pub fn target_name(self) -> &'a str {
        match self {
            Self::Target(target) => target.map_or("", |t| t.name.as_str()),
            Self::Named(name, _) => name,
        }
    }
}

/// What a handler may use while it works on a command.
pub struct ExecContext<'a> {
    /// Storage operations.
    pub io: &'a mut dyn IoQueue,
    /// Bytes of buffers, and scratch buffers for commands of several steps (never for READ and WRITE): what a command
    /// takes it gives back before it is done.
    pub mem: &'a mut dyn BufferSource,
    /// Where sense data of a real device go that are to be passed on as they are (see [`ExecContext::check_raw`]).
    pub raw_sense: &'a mut Option<RawSense>,
    /// The time.
    pub now: Nanos,
}

impl ExecContext<'_> {
    /// CHECK CONDITION with the sense data of a real device: they are passed on as they are, whatever they say. To be
    /// returned as the outcome of the command at once.
    pub fn check_raw(&mut self, bytes: &[u8]) -> Outcome {
        *self.raw_sense = Some(RawSense::new(bytes));
        Outcome::check(SenseData::parse(bytes).map_or(SenseData::NONE, |parsed| parsed.data))
    }
}

/// A unit attention (or a change of core settings) that a completed command causes. Settings and prevention change only
/// by commands with `EXCLUSIVE`: what comes after them, on any reactor, then finds the new state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SideEffects {
    /// Unit attention for every other I_T nexus of the logical unit.
    pub attention_for_others: Option<Asc>,
    /// New control mode page settings.
    pub control: Option<ControlSettings>,
    /// Set (true) or clear (false) PREVENT MEDIUM REMOVAL for this nexus.
    pub prevent_removal: Option<bool>,
}

impl SideEffects {
    /// Whether there are none.
    #[inline]
    pub fn is_none(&self) -> bool {
        if self.attention_for_others.is_some() || self.control.is_some() {
            return false;
        }
        self.prevent_removal.is_none()
    }
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Status.
    pub status: ScsiStatus,
    /// Sense data; with CHECK CONDITION always there.
    pub sense: Option<SenseData>,
    /// Valid bytes of data-in in the buffer (0 for other directions).
    pub transferred: u32,
    /// What it causes elsewhere.
    pub effects: SideEffects,
}

impl Outcome {
    /// GOOD, with so many bytes of data-in.
    pub fn good(transferred: u32) -> Self {
        Self { status: ScsiStatus::GOOD, sense: None, transferred, effects: SideEffects::default() }
    }

    /// CHECK CONDITION.
    pub fn check(sense: SenseData) -> Self {
        Self {
            status: ScsiStatus::CHECK_CONDITION,
            sense: Some(sense),
            transferred: 0,
            effects: SideEffects::default(),
        }
    }

    /// A status without sense data.
    pub fn status(status: ScsiStatus) -> Self {
        Self { status, sense: None, transferred: 0, effects: SideEffects::default() }
    }
}

/// Result of a step of execution.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Execution {
    /// The command is complete.
    Done(Outcome),
    /// The command is complete with GOOD, and its data-in are not in its buffer but here: page-cached data of a file,
    /// as they are when they are sent (see [`IoQueue::cached_pages`]). Only from `execute`, and only when the command's
    /// `takes_mapped` says so. The mid-level lets nothing that has to come after the command begin before they are sent.
    Mapped(Extent),
    /// At least one operation is in flight; `io_completed` will be called.
    Pending,
}

/// Settings of the control mode page (SPC-6 7.5.10) that the core obeys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ControlSettings {
    /// TST: false = one task set for all nexuses (000b), true = one per I_T nexus (001b).
    pub task_set_per_nexus: bool,
    /// D_SENSE: descriptor format sense data.
    pub descriptor_sense: bool,
    /// TAS: commands aborted by another nexus end with TASK ABORTED.
    pub task_aborted_status: bool,
    /// SWP: software write protect.
    pub write_protect: bool,
    /// QUEUE ALGORITHM MODIFIER 0: restricted reordering, everything runs in order.
    pub restricted_reordering: bool,
    /// QERR field.
    pub queue_error: u8,
}

/// A device handler's half of one logical unit on one reactor.
///
/// Contract:
/// * No method may block or allocate per READ or WRITE.
/// * Every `execute` leads to exactly one `Done`: at once, or from `io_completed` after `Pending`.
/// * After `cancel` the command still completes; cancelling is a wish, and `Done` may say anything.
/// * The handler checks every range against its own capacity: `parse` may run long before `execute`, and the
///   capacity may have changed in between.
/// * The buffer stays valid and unchanged by others until `Done`; the handler submits no operation after it.
/// * `parse` has no side effects; what it rejects is reported as CHECK CONDITION when the command's turn comes.
pub trait HandlerShard {
    /// PERIPHERAL DEVICE TYPE of the logical unit.
    fn peripheral_type(&self) -> u8;
    /// Reads a CDB: direction, length, flags, range.
    ///
    /// # Errors
    /// The sense data (with field pointer) of a CDB that is invalid for this device.
    fn parse(&mut self, cdb: &Cdb) -> Result<Parsed, SenseData>;
    /// Starts a command.
    fn execute(&mut self, cmd: ExecCommand<'_>, cx: &mut ExecContext<'_>) -> Execution;
    /// One of the command's operations has completed.
    fn io_completed(&mut self, cmd: ExecCommand<'_>, completion: IoCompletion, cx: &mut ExecContext<'_>) -> Execution;
    /// The command has been aborted: end it soon if that is possible.
    fn cancel(&mut self, cmd: CmdId, io: &mut dyn IoQueue);
    /// Whether data-out may lie anywhere in memory, at any address. Where it may not, they come in a page-aligned buffer.
    fn takes_data_in_place(&self) -> bool {
        false
    }
    /// The logical unit was reset: volatile settings go back to their saved or default values.
    fn reset(&mut self) -> ControlSettings;
    /// The settings in force now.
    fn control(&self) -> ControlSettings;
}
