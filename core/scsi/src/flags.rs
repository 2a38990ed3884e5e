//! What the mid-level has to know of a command before it runs: one word of flags per row of the opcode table.

use bitflags::bitflags;

bitflags! {
    /// Properties of a command (SPC-6 5.14, 5.16, SAM-5 5.14), read by the mid-level to admit and order it.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct CommandFlags: u32 {
        /// Changes the medium: refused on a read-only LUN.
        const WRITES_MEDIUM = 1 << 0;
        /// Reads or writes the medium: its range counts for range locks.
        const MEDIUM_ACCESS = 1 << 1;
        /// Allowed while another nexus holds an SPC-2 reservation (SPC-2 5.5.1).
        const RESERVED_OK = 1 << 2;
        /// Allowed for a non-holder under a Write Exclusive persistent reservation.
        const WRITE_EXCLUSIVE_OK = 1 << 3;
        /// Allowed for a non-holder under an Exclusive Access persistent reservation.
        const EXCLUSIVE_ACCESS_OK = 1 << 4;
        /// Allowed in ALUA state standby.
        const STANDBY_OK = 1 << 5;
        /// Allowed in ALUA states unavailable and offline.
        const UNAVAILABLE_OK = 1 << 6;
        /// Treated as HEAD OF QUEUE whatever its attribute.
        const IMPLICIT_HEAD_OF_QUEUE = 1 << 7;
        /// Runs without reporting a pending unit attention (INQUIRY, REPORT LUNS, REQUEST SENSE).
        const SKIPS_UNIT_ATTENTION = 1 << 8;
        /// Must be alone on the logical unit: closes the gate.
        const EXCLUSIVE = 1 << 9;
        /// Needs its LBA range for itself (COMPARE AND WRITE, ORWRITE).
        const RANGE_LOCK = 1 << 10;
        /// Answered by the mid-level, never by a device handler.
        const CORE = 1 << 11;
        /// Stored data must be durable before GOOD (SYNCHRONIZE CACHE, FUA): only informative.
        const FLUSH = 1 << 12;
        /// The CDB does not say how long the data are: the transport's expected length counts.
        const UNKNOWN_LENGTH = 1 << 13;
        /// Depends on nothing that a barrier protects: answered whatever is closed, and closing waits for it as little
        /// (INQUIRY, REPORT LUNS, REQUEST SENSE, TEST UNIT READY, what is supported).
        const UNBLOCKED = 1 << 14;
    }
}

/// Direction of the data phase, seen from the initiator.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum DataDirection {
    /// No data.
    #[default]
    None,
    /// Data-Out: the initiator sends.
    ToDevice,
    /// Data-In: the initiator receives.
    FromDevice,
    /// Both.
    Bidirectional,
}
