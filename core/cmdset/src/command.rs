//! Commands of a disk as typed values.

use scst_scsi::{CommandFlags, DataDirection, SenseData};

use crate::params::{DiskParameters, DiskState};
use crate::validate;

/// A run of logical blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BlockRange {
    /// First block.
    pub lba: u64,
    /// Number of blocks.
    pub blocks: u64,
}

/// What BYTCHK asks of VERIFY and WRITE AND VERIFY (SBC-4 5.40).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VerifyCheck {
    /// 00b: the blocks can be read; no data-out for VERIFY.
    Medium,
    /// 01b: the blocks equal the data-out, byte by byte.
    Compare,
    /// 11b (VERIFY only): every block equals the one block of data-out.
    CompareOne,
}

/// Which pages MODE SENSE returns, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModeSense {
    /// The ten-byte command, with the longer header.
    pub ten: bool,
    /// DBD: no block descriptor.
    pub no_block_descriptor: bool,
    /// LLBAA: a long LBA block descriptor is welcome.
    pub long_lba: bool,
    /// PC field: 0 current, 1 changeable, 2 default, 3 saved.
    pub control: u8,
    /// PAGE CODE, 3Fh for all.
    pub page: u8,
    /// SUBPAGE CODE, FFh for all.
    pub subpage: u8,
    /// ALLOCATION LENGTH.
    pub allocation: u32,
}

/// MODE SELECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModeSelect {
    /// The ten-byte command, with the longer header.
    pub ten: bool,
    /// SP: save the pages as well.
    pub save: bool,
    /// PARAMETER LIST LENGTH.
    pub length: u16,
}

/// LOG SENSE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogSense {
    /// PC field: 1 is cumulative current values.
    pub control: u8,
    /// PAGE CODE.
    pub page: u8,
    /// SUBPAGE CODE.
    pub subpage: u8,
    /// PARAMETER POINTER: the first parameter wanted.
    pub pointer: u16,
    /// ALLOCATION LENGTH.
    pub allocation: u16,
}

/// START STOP UNIT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StartStop {
    /// IMMED: answer before it is done.
    pub immed: bool,
    /// POWER CONDITION; with any but 0 (START_VALID), `load_eject` and `start` are ignored.
    pub power_condition: u8,
    /// NO_FLUSH: cached data need not be written.
    pub no_flush: bool,
    /// LOEJ.
    pub load_eject: bool,
    /// START.
    pub start: bool,
}

/// WRITE SAME.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteSame {
    /// Blocks to be written.
    pub range: BlockRange,
    /// UNMAP: deallocating is as good as writing, if the blocks then read as the data.
    pub unmap: bool,
    /// ANCHOR: what is deallocated stays anchored.
    pub anchor: bool,
    /// NDOB: no data-out, the block is zeros.
    pub no_data: bool,
}

/// A command of a direct access block device, every field checked against what needs no knowledge of the capacity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "fields are named in the standard's words; the variant says the rest")]
pub enum DiskCommand {
    /// READ 6/10/12/16.
    Read { range: BlockRange, fua: bool, dpo: bool },
    /// WRITE 6/10/12/16.
    Write { range: BlockRange, fua: bool, dpo: bool },
    /// WRITE AND VERIFY 10/12/16. The data are durable before GOOD.
    WriteAndVerify { range: BlockRange, check: VerifyCheck, dpo: bool },
    /// VERIFY 10/12/16.
    Verify { range: BlockRange, check: VerifyCheck, dpo: bool },
    /// SYNCHRONIZE CACHE 10/16; zero blocks mean up to the end.
    SynchronizeCache { range: BlockRange, immed: bool },
    /// PRE-FETCH 10/16; zero blocks mean up to the end.
    PreFetch { range: BlockRange, immed: bool },
    /// COMPARE AND WRITE: the first half of the data-out is compared, the second written.
    CompareAndWrite { range: BlockRange, fua: bool, dpo: bool },
    /// ORWRITE (16): the data-out are or-ed into the blocks.
    OrWrite { range: BlockRange, fua: bool, dpo: bool },
    /// WRITE SAME 10/16.
    WriteSame(WriteSame),
    /// ERASE 10/12 of optical memory devices; `all` is everything from the first block on.
    Erase { range: BlockRange, all: bool },
    /// UNMAP with a parameter list of `length` bytes, see [`crate::unmap`].
    Unmap { anchor: bool, length: u16 },
    /// GET LBA STATUS (16), see [`crate::lba_status`].
    GetLbaStatus { lba: u64, allocation: u32 },
    /// READ CAPACITY (10).
    ReadCapacity10,
    /// READ CAPACITY (16).
    ReadCapacity16 { allocation: u32 },
    /// TEST UNIT READY.
    TestUnitReady,
    /// INQUIRY; `page` is the VPD page when EVPD is set.
    Inquiry { page: Option<u8>, allocation: u16 },
    /// MODE SENSE 6/10.
    ModeSense(ModeSense),
    /// MODE SELECT 6/10.
    ModeSelect(ModeSelect),
    /// LOG SENSE.
    LogSense(LogSense),
    /// START STOP UNIT, see [`crate::medium`].
    StartStop(StartStop),
    /// PREVENT ALLOW MEDIUM REMOVAL.
    PreventAllow { prevent: bool },
    /// SEND DIAGNOSTIC: a self test, or nothing; it always succeeds.
    SendDiagnostic,
    /// REPORT SUPPORTED OPERATION CODES, see [`crate::opcodes`].
    ReportSupportedOpcodes { allocation: u32 },
    /// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS, see [`crate::opcodes`].
    ReportSupportedTmf { allocation: u32 },
    /// A command that the mid-level answers itself (REPORT LUNS, REQUEST SENSE, RESERVE, RELEASE): a handler never
    /// gets it.
    MidLevel,
}

impl DiskCommand {
    /// The blocks that must exist for the command to run. GET LBA STATUS needs its first block, UNMAP checks the ranges
    /// in its parameter list.
    pub fn range(&self) -> Option<BlockRange> {
        match *self {
            Self::Read { range, .. }
            | Self::Write { range, .. }
            | Self::WriteAndVerify { range, .. }
            | Self::Verify { range, .. }
            | Self::SynchronizeCache { range, .. }
            | Self::PreFetch { range, .. }
            | Self::CompareAndWrite { range, .. }
            | Self::OrWrite { range, .. }
            | Self::WriteSame(WriteSame { range, .. }) => Some(range),
            Self::Erase { range, all: false } => Some(range),
            Self::Erase { range: BlockRange { lba, .. }, all: true } | Self::GetLbaStatus { lba, .. } => {
                Some(BlockRange { lba, blocks: 1 })
            }
            _ => None,
        }
    }
}

/// A command and what the mid-level wants to know of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParsedCommand {
    /// The command.
    pub command: DiskCommand,
    /// Direction of the data phase; `None` when `length` is 0.
    pub direction: DataDirection,
    /// Bytes of the data phase: exact for data-out and for READ, the most there can be for other data-in.
    pub length: u32,
    /// Flags of the opcode table, plus FLUSH for FUA.
    pub flags: CommandFlags,
    /// First block touched, for commands with `MEDIUM_ACCESS`.
    pub lba: u64,
    /// Number of blocks touched, for commands with `MEDIUM_ACCESS`; `u64::MAX` for UNMAP, whose parameter list has the
    /// ranges, and ERASE of all; 0 for a PRE-FETCH up to the end.
    pub blocks: u64,
}

impl ParsedCommand {
    /// Whether the command may run on the disk as it is now. To be called when it starts, not when it is parsed: all of
    /// this can change in between.
    ///
    /// # Errors
    /// In this order: MEDIUM NOT PRESENT; WRITE PROTECTED or LOGICAL UNIT SOFTWARE WRITE PROTECTED; INVALID FIELD IN
    /// CDB for provisioning that the disk does not do; LOGICAL BLOCK ADDRESS OUT OF RANGE with the first block that
    /// does not exist.
    pub fn admit(&self, disk: &DiskParameters, state: &DiskState) -> Result<(), SenseData> {
        validate::admit(self, disk, state)
    }
}
