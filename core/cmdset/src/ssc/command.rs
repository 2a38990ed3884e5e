//! Commands of a tape as typed values.

use scst_scsi::{CommandFlags, DataDirection, SenseData};

use super::{TapeParameters, TapeState};
use crate::command::DiskCommand;
use crate::validate;

/// What SPACE counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpaceOver {
    /// Logical blocks.
    Blocks,
    /// Filemarks.
    Filemarks,
    /// Everything, to the end of data; the count means nothing.
    ToEndOfData,
}

/// A command of a sequential access device, every field checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "fields are named in the standard's words; the variant says the rest")]
pub enum TapeCommand {
    /// READ(6): `length` blocks if `fixed`, else one block of at most `length` bytes.
    Read { fixed: bool, sili: bool, length: u32 },
    /// WRITE(6): `length` blocks if `fixed`, else one block of `length` bytes.
    Write { fixed: bool, length: u32 },
    /// WRITE FILEMARKS(6). IMMED changes nothing: there is no buffer to write back.
    WriteFilemarks { count: u32 },
    /// SPACE(6); a negative count goes backwards.
    Space { over: SpaceOver, count: i32 },
    /// LOCATE(10).
    Locate { object: u32 },
    /// REWIND.
    Rewind,
    /// ERASE(6): all that follows is gone, with LONG and without.
    Erase,
    /// LOAD UNLOAD. Retension and end of tape change nothing on this medium.
    LoadUnload { load: bool },
    /// READ POSITION, short form.
    ReadPosition,
    /// READ BLOCK LIMITS, see [`super::read_block_limits`].
    ReadBlockLimits,
    /// REPORT DENSITY SUPPORT, of the drive or of the `medium` in it, see [`super::report_density`].
    ReportDensity { medium: bool, allocation: u16 },
    /// A command that devices of all types have.
    Common(DiskCommand),
}

impl TapeCommand {
    /// Whether it reads, writes or depends on the position, and so must be alone on the device.
    pub fn uses_position(&self) -> bool {
        matches!(
            self,
            Self::Read { .. }
                | Self::Write { .. }
                | Self::WriteFilemarks { .. }
                | Self::Space { .. }
                | Self::Locate { .. }
                | Self::Rewind
                | Self::Erase
                | Self::ReadPosition
        )
    }

    fn needs_medium(&self) -> bool {
        let asks = matches!(self, Self::ReportDensity { medium: true, .. } | Self::Common(DiskCommand::TestUnitReady));
        asks || self.uses_position()
    }
}

/// A command and what the mid-level wants to know of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParsedTapeCommand {
    /// The command.
    pub command: TapeCommand,
    /// Direction of the data phase; `None` when `length` is 0.
    pub direction: DataDirection,
    /// Bytes of the data phase: exact for data-out, the most there can be for data-in.
    pub length: u32,
    /// Flags of the opcode table, plus EXCLUSIVE for what uses the position.
    pub flags: CommandFlags,
}

impl ParsedTapeCommand {
    /// Whether the command may run on the tape as it is now. To be called when it starts.
    ///
    /// # Errors
    /// MEDIUM NOT PRESENT, or WRITE PROTECTED.
    pub fn admit(&self, tape: &TapeParameters, state: &TapeState) -> Result<(), SenseData> {
        if !state.loaded && self.command.needs_medium() {
            return Err(validate::no_medium());
        }
        if self.flags.contains(CommandFlags::WRITES_MEDIUM) && (state.write_protected || tape.identity.read_only) {
            return Err(SenseData::write_protected());
        }
        Ok(())
    }
}
