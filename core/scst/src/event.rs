//! What goes into an engine and what comes out of it.

use std::sync::Arc;

use scst_scsi::{Asc, Lun, SenseData, TaskManagementFunction};

use crate::config::TargetConfig;
use crate::handler::ControlSettings;
use crate::ids::{CmdId, DeviceId, NexusId, ReactorId, SessionId, TargetId, TmfId};

/// Data-out that did not arrive whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataError {
    /// The transport rejected them: the command ends with this sense data.
    Rejected(SenseData),
    /// The transfer was given up because the command had been aborted or the connection broke.
    Stopped,
}

/// An input of the engine.
#[derive(Debug)]
#[expect(missing_docs, reason = "the sentence on each variant names its fields")]
pub enum Event {
    /// All older commands of a held command have arrived.
    Deliver { cmd: CmdId },
    /// A task management function arrived.
    TaskManagement(TaskManagementRequest),
    /// Answer to [`Effect::ResetDevice`].
    DeviceReset { barrier: BarrierId, control: ControlSettings },
    /// A session ends: all its commands are aborted.
    SessionDown { session: SessionId },
    /// A message from another engine (or from itself).
    Message(Message),
    /// A device exists from now on.
    AddDevice { device: DeviceId, peripheral_type: u8, control: ControlSettings },
    /// No LUN map names the device any more; it can go when its commands have ended.
    RemoveDevice { device: DeviceId },
    /// A target is new or has changed.
    SetTarget(Arc<TargetConfig>),
    /// A target goes away, with its sessions.
    RemoveTarget { target: TargetId },
    /// Something about a device changed that every nexus must hear of.
    Attention { device: DeviceId, asc: Asc },
}

/// A task management function as a target driver delivers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskManagementRequest {
    /// The session it came on.
    pub session: SessionId,
    /// The LUN field.
    pub lun: Lun,
    /// The function.
    pub function: TaskManagementFunction,
    /// For ABORT TASK and QUERY TASK: the command, when the driver knows it.
    pub referenced: Option<CmdId>,
    /// The driver's own handle.
    pub driver_tag: u64,
}

/// An output of the engine. Small, because every command makes several: what is rare and large is boxed, and buffers to
/// give back go beside ([`Effects::pop_released`](crate::engine::Effects::pop_released)).
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the sentence on each variant names its fields")]
pub enum Effect {
    /// Taken out already.
    Nothing,
    /// Get a buffer of so many bytes.
    Allocate { cmd: CmdId, bytes: u32 },
    /// Ask the driver for data-out.
    RequestData { cmd: CmdId },
    /// Ask the driver to stop fetching data-out.
    AbortData { cmd: CmdId },
    /// Hand the command to its device handler.
    Execute { cmd: CmdId },
    /// Let the core answer it (`Engine::execute_core`).
    ExecuteCore { cmd: CmdId },
    /// Tell the device handler that the command was aborted.
    CancelIo { cmd: CmdId },
    /// Answer it.
    Respond { cmd: CmdId },
    /// It ended without an answer.
    Dropped { session: SessionId, driver_tag: u64, cmd: CmdId },
    /// It goes on without its session, which is to forget it.
    Parked { session: SessionId, driver_tag: u64, cmd: CmdId },
    /// A parked command has ended.
    Unparked { cmd: CmdId },
    /// A device has parked commands from now on, or has none any more.
    DeviceStuck { device: DeviceId, stuck: bool },
    /// A task management function is complete.
    TaskManagementDone { session: SessionId, driver_tag: u64, tmf: TmfId, response: scst_scsi::TaskManagementResponse },
    /// Reset the device handler's volatile state.
    ResetDevice { device: DeviceId, barrier: BarrierId },
    /// Deliver a message to another engine.
    Send { to: ReactorId, message: Box<Message> },
    /// Report an event on the session, if the transport can.
    AsyncEvent { session: SessionId, sense: Box<SenseData> },
    /// Close the session's connections.
    CloseSession { session: SessionId },
    /// Nothing of the session is left.
    SessionClosed { session: SessionId },
    /// Nothing of the device is left in this engine.
    DeviceRemoved { device: DeviceId },
}

/// A barrier of one engine: a command or task management function that must be alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct BarrierId {
    /// The engine of the owner.
    pub owner: ReactorId,
    /// Slot in the table of that engine.
    pub index: u32,
    /// Reuse count of the slot.
    pub generation: u32,
}

/// What a barrier keeps out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BarrierScope {
    /// Every command.
    Device,
    /// Medium accesses that touch the range.
    Range {
        /// First block.
        lba: u64,
        /// Number of blocks.
        blocks: u64,
    },
    /// Every command, and those that are there are aborted (LOGICAL UNIT RESET, CLEAR TASK SET of a shared set, QERR), owners
    /// of other barriers, too.
    Abort {
        /// The session that asks for it: its own commands get no status, those of others may get TASK ABORTED.
        by: (ReactorId, SessionId),
        /// Commands of others are aborted, too.
        others: bool,
    },
    /// Medium accesses that touch the blocks of a parked command. Those that execute already go on.
    Fence {
        /// First block.
        lba: u64,
        /// Number of blocks.
        blocks: u64,
    },
}

/// What changes on a logical unit when a barrier opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeviceUpdate {
    /// New control settings.
    pub control: Option<ControlSettings>,
    /// New SPC-2 reservation.
    pub reservation: Option<ReservationChange>,
    /// A nexus prevents medium removal from now on (true), or no longer.
    pub prevention: Option<(NexusId, bool)>,
    /// Unit attention for all nexuses but `attention_except`.
    pub attention: Option<Asc>,
    /// Who caused it.
    pub attention_except: Option<NexusId>,
    /// All volatile state per nexus goes (logical unit reset).
    pub reset: bool,
    /// The barrier was to abort everything and could not: what still executes is answered after all.
    pub abort_failed: bool,
}

/// A change of the SPC-2 reservation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReservationChange {
    /// Now held by.
    Hold(NexusId),
    /// Released by its holder; nothing when another holds it.
    ReleaseBy(NexusId),
    /// Cleared whoever holds it.
    Clear,
}

/// Between engines. For every device one engine is its home and serialises the barriers; messages between two
/// engines keep their order, so an engine has applied an update before it lets a blocked command go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the sentence on each variant names its fields")]
pub enum Message {
    /// Owner to home: close this.
    BarrierRequest { device: DeviceId, barrier: BarrierId, scope: BarrierScope },
    /// Home to all: keep commands out, tell when none is left.
    BarrierClose { device: DeviceId, barrier: BarrierId, scope: BarrierScope },
    /// All to home: none is left here.
    BarrierClosed { device: DeviceId, barrier: BarrierId, scope: BarrierScope },
    /// Home to owner: you are alone.
    BarrierGranted { device: DeviceId, barrier: BarrierId },
    /// Home to owner: the device is not here any more.
    BarrierRefused { device: DeviceId, barrier: BarrierId },
    /// Owner to home: done (or given up), with what has changed.
    BarrierRelease {
        device: DeviceId,
        barrier: BarrierId,
        scope: BarrierScope,
        update: DeviceUpdate,
        acknowledge: bool,
    },
    /// Home to all: apply the change, let commands in.
    BarrierOpen { device: DeviceId, barrier: BarrierId, scope: BarrierScope, update: DeviceUpdate, acknowledge: bool },
    /// All to owner, when it has asked for that: the change is applied here.
    BarrierOpened { barrier: BarrierId },
    /// Anyone to home: a change that needs no barrier.
    Update { device: DeviceId, update: DeviceUpdate },
    /// Home to all: apply it.
    Apply { device: DeviceId, update: DeviceUpdate },
}
