//! The SSC command set: sequential access devices (tapes), without I/O.
//!
//! A handler parses a CDB with [`parse()`] into a [`TapeCommand`] and carries it out on a [`Partition`], which knows what
//! has been recorded where (lengths of blocks, filemarks, never the data) and where the tape stands. What tapes share
//! with disks (INQUIRY, LOG SENSE, ...) comes as the [`DiskCommand`](crate::DiskCommand) that it is and is answered by
//! the same builders.
//!
//! The position is one for all initiators: whatever depends on it bears
//! [`EXCLUSIVE`](scst_scsi::CommandFlags::EXCLUSIVE), so that a tape works on one command at a time, whatever reactors
//! the commands come from.

mod command;
mod density;
mod mode;
mod parse;
mod partition;
mod transfer;

pub use command::{ParsedTapeCommand, SpaceOver, TapeCommand};
pub use density::{DENSITY_CODE, read_block_limits, report_density};
pub use mode::{TapeModeChange, TapeModes, mode_sense};
pub use parse::parse;
pub use partition::{FILEMARK_BYTES, MAX_RUNS, Partition};
pub use transfer::Transferred;

use crate::params::{DiskParameters, MAX_TRANSFER_BYTES};

/// The longest block, as READ BLOCK LIMITS tells.
pub const MAX_BLOCK_LENGTH: u32 = MAX_TRANSFER_BYTES;
/// The shortest one.
pub const MIN_BLOCK_LENGTH: u16 = 1;

/// Identity and fixed properties of a tape.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TapeParameters {
    /// What INQUIRY tells, with the device type of a tape.
    pub identity: DiskParameters,
    /// Bytes from the beginning to the end of the one partition.
    pub capacity: u64,
    /// Bytes from the beginning to the early warning.
    pub early_warning: u64,
    /// The block length after a reset: 0 for blocks of any length.
    pub block_length: u32,
}

/// What can change while the tape is in use, as it is when a command starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TapeState {
    /// A medium is loaded.
    pub loaded: bool,
    /// It cannot be written, for the nexus that asks.
    pub write_protected: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use scst_scsi::DeviceType;

    /// A tape for tests: 1 GiB, blocks of any length.
    pub(super) fn tape() -> TapeParameters {
        let identity = DiskParameters {
            device_type: DeviceType::TAPE,
            removable: true,
            ..DiskParameters::new("tape", "", MAX_BLOCK_LENGTH)
        };
        TapeParameters { identity, capacity: 1 << 30, early_warning: 1 << 29, block_length: 0 }
    }
}
