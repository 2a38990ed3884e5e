//! SAM-5 5.3: status codes.

/// A SCSI status byte (SAM-5 table 39).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ScsiStatus(pub u8);

impl ScsiStatus {
    /// The command completed without error.
    pub const GOOD: Self = Self(0x00);
    /// Sense data say what happened.
    pub const CHECK_CONDITION: Self = Self(0x02);
    /// A PRE-FETCH found room for all blocks.
    pub const CONDITION_MET: Self = Self(0x04);
    /// The device server cannot take the command now.
    pub const BUSY: Self = Self(0x08);
    /// Another I_T nexus holds a conflicting reservation.
    pub const RESERVATION_CONFLICT: Self = Self(0x18);
    /// The task set has no room for this nexus.
    pub const TASK_SET_FULL: Self = Self(0x28);
    /// An ACA condition blocks the command.
    pub const ACA_ACTIVE: Self = Self(0x30);
    /// Another I_T nexus aborted the command (TAS set to one).
    pub const TASK_ABORTED: Self = Self(0x40);
}
