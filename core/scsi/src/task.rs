//! SAM-5 clauses 7 and 8: task management functions and task attributes.

/// Task attribute (SAM-5 8.6). Untagged commands are treated as `Simple`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum TaskAttribute {
    /// May be reordered against other SIMPLE commands.
    #[default]
    Simple,
    /// Runs after all older and before all newer commands of its task set.
    Ordered,
    /// Runs before all commands that have not started yet.
    HeadOfQueue,
    /// Only allowed while an ACA condition is established.
    Aca,
}

/// Task management function (SAM-5 clause 7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TaskManagementFunction {
    /// Aborts one command of the nexus.
    AbortTask,
    /// Aborts all commands of the nexus on the logical unit.
    AbortTaskSet,
    /// Clears the ACA condition of the faulted nexus.
    ClearAca,
    /// Aborts all commands in the task set.
    ClearTaskSet,
    /// Resets the logical unit.
    LogicalUnitReset,
    /// Resets every logical unit that the nexus can reach.
    TargetReset,
    /// Ends all commands and state of one I_T nexus.
    ITNexusReset,
    /// Asks whether a command is in the task set.
    QueryTask,
    /// Asks whether any command of the nexus is in the task set.
    QueryTaskSet,
    /// Asks for a pending unit attention.
    QueryAsynchronousEvent,
}

/// Service response of a task management function (SAM-5 7.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TaskManagementResponse {
    /// FUNCTION COMPLETE.
    Complete,
    /// FUNCTION SUCCEEDED (query functions: found).
    Succeeded,
    /// FUNCTION REJECTED: not supported.
    NotSupported,
    /// FUNCTION REJECTED for any other reason.
    Rejected,
    /// The command to abort is not there.
    TaskDoesNotExist,
    /// INCORRECT LOGICAL UNIT NUMBER.
    IncorrectLun,
    /// The function failed.
    Failed,
}
