//! What the receive side tells the driver.

use scst_scsi::{Cdb, Lun, SenseData, TaskAttribute, TaskManagementFunction};

use crate::error::CloseReason;

/// A task of one session: a slot and its reuse count. A stale handle is detected and ignored.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct TaskHandle {
    /// Slot number.
    pub index: u32,
    /// Reuse count of the slot.
    pub generation: u32,
}

impl TaskHandle {
    /// The handle as one number, for the core's `driver_tag`.
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// Back from [`Self::to_bits`].
    pub const fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

/// Names a task management request until it is answered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TmfTag {
    /// Its initiator task tag.
    pub itt: u32,
    /// Whether it was marked for immediate delivery.
    pub immediate: bool,
}

impl TmfTag {
    /// The tag as one number, for the core's `driver_tag`.
    pub const fn to_bits(self) -> u64 {
        (self.immediate as u64) << 32 | self.itt as u64
    }

    /// Back from [`Self::to_bits`].
    pub const fn from_bits(bits: u64) -> Self {
        Self { itt: bits as u32, immediate: bits >> 32 != 0 }
    }
}

/// A SCSI command has arrived (RFC 7143 11.3).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CommandEvent {
    /// The task. Set the driver's own value with `Session::set_user`.
    pub task: TaskHandle,
    /// Initiator task tag.
    pub itt: u32,
    /// Command sequence number.
    pub cmd_sn: u32,
    /// LUN field.
    pub lun: Lun,
    /// CDB, extended by the AHS if there is one.
    pub cdb: Cdb,
    /// Task attribute.
    pub attribute: TaskAttribute,
    /// R bit: data-in expected.
    pub read: bool,
    /// W bit: data-out expected.
    pub write: bool,
    /// Bytes of data-out that the initiator will send (0 without W).
    pub write_length: u32,
    /// Bytes of data-in that the initiator has room for (0 without R).
    pub read_length: u32,
    /// Bytes of immediate data that follow this header.
    pub immediate_length: u32,
    /// Marked for immediate delivery (I bit).
    pub immediate: bool,
    /// An older command is missing: do not let it enter the task set before [`RecvEvent::Deliver`].
    pub held: bool,
}

/// A task management function request (RFC 7143 11.5), already checked against the task table. Functions that need no
/// mid-level (TASK REASSIGN, an unknown task, ...) are answered by the connection itself and never reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskManagementEvent {
    /// Give this back with `task_management_response`.
    pub tag: TmfTag,
    /// The function; both target resets of iSCSI are TARGET RESET.
    pub function: TaskManagementFunction,
    /// TARGET COLD RESET: the connections of the session end after the function.
    pub cold_reset: bool,
    /// LUN field.
    pub lun: Lun,
    /// ABORT TASK and QUERY TASK: the task they name; always there for these two.
    pub referenced: Option<TaskHandle>,
    /// The driver's value of that task.
    pub referenced_user: u64,
}

/// Which targets a SendTargets request asks for (RFC 7143 appendix C).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SendTargets {
    /// All targets that the initiator may see; only in discovery sessions.
    All,
    /// One target.
    Name(String),
    /// The target of this session.
    This,
}

/// Logout reason (RFC 7143 11.14.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogoutReason {
    /// Close the session with all its connections.
    CloseSession,
    /// Close one connection.
    CloseConnection,
    /// Remove a connection for recovery; refused at error recovery level 0.
    RemoveForRecovery,
}

/// What the received bytes mean.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecvEvent {
    /// A command. Answer with `request_data` (if it wants data-out), then `queue_response` or `drop_task`.
    Command(Box<CommandEvent>),
    /// A held command is now in order.
    Deliver {
        /// The task.
        task: TaskHandle,
        /// The driver's value of it.
        user: u64,
    },
    /// The next `length` bytes of the stream belong at `offset` of the task's buffer. Take any number of them, from
    /// read-ahead or straight from the socket, and report with `payload_received`; until all are there, `poll_input`
    /// repeats this event with what is left.
    Payload {
        /// The task.
        task: TaskHandle,
        /// The driver's value of it.
        user: u64,
        /// Offset in the task's buffer.
        offset: u32,
        /// How many bytes.
        length: u32,
    },
    /// All data that `request_data` asked for are in the buffer.
    DataComplete {
        /// The task.
        task: TaskHandle,
        /// The driver's value of it.
        user: u64,
    },
    /// The data that `request_data` asked for will not come; no byte goes to the buffer any more.
    DataError {
        /// The task.
        task: TaskHandle,
        /// The driver's value of it.
        user: u64,
        /// Sense data for the command.
        sense: SenseData,
    },
    /// The end of data after `abort_data`; no byte goes to the buffer any more.
    DataAborted {
        /// The task.
        task: TaskHandle,
        /// The driver's value of it.
        user: u64,
    },
    /// A task management function; answer with `task_management_response`.
    TaskManagement(TaskManagementEvent),
    /// SendTargets; answer with `send_targets_response`.
    SendTargets(SendTargets),
    /// Logout of this connection or its session; stop the session's commands, then `logout_response`. Nothing more
    /// is received.
    Logout {
        /// What is to be closed.
        reason: LogoutReason,
    },
    /// The connection is over: close the socket. Nothing more is received or sent.
    Close(CloseReason),
}

/// What `poll_input` needs or has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// Something for the driver; call again afterwards, even with no new bytes.
    Event(RecvEvent),
    /// Nothing to do before at least this many more bytes (beyond those given and not consumed) are there.
    NeedBytes(usize),
    /// Payload follows for a task for which the driver has neither called `request_data` nor answered. Receive no
    /// more until it has, then call again.
    WaitForDriver {
        /// The task.
        task: TaskHandle,
        /// The driver's value of it.
        user: u64,
    },
    /// Too much is waiting to be sent; receive no more until `poll_transmit` has made room, then call again.
    WaitForTransmit,
    /// The connection is over (a logout or `Close` was reported).
    Closed,
}
