//! A disk as simple as can be: READ (16) and WRITE (16) of 512-byte blocks on a simulated disk.

use scst_core::handler::{ControlSettings, ExecCommand, ExecContext, Execution, HandlerShard, Outcome, Parsed};
use scst_core::ids::CmdId;
use scst_core::io::{FileId, IoCompletion, IoOp, IoQueue, IoToken};
use scst_scsi::{Asc, Cdb, CommandFlags, DataDirection, ScsiStatus, SenseData, SenseKey};

/// Bytes of a block.
pub(crate) const BLOCK: u32 = 512;

const TEST_UNIT_READY: u8 = 0x00;
const READ_16: u8 = 0x88;
const WRITE_16: u8 = 0x8a;

pub(crate) struct Disk {
    pub(crate) file: FileId,
    pub(crate) blocks: u64,
}

fn check(key: SenseKey, asc: u16) -> SenseData {
    SenseData::new(key, Asc(asc))
}

impl HandlerShard for Disk {
    fn peripheral_type(&self) -> u8 {
        0
    }

    fn parse(&mut self, cdb: &Cdb) -> Result<Parsed, SenseData> {
        let direction = match cdb.opcode() {
            TEST_UNIT_READY => return Ok(Parsed::default()),
            READ_16 => DataDirection::FromDevice,
            WRITE_16 => DataDirection::ToDevice,
            _ => return Err(check(SenseKey::ILLEGAL_REQUEST, 0x2000)),
        };
        let (lba, blocks) = (cdb.u64(2), cdb.u32(10));
        if lba.saturating_add(u64::from(blocks)) > self.blocks {
            return Err(check(SenseKey::ILLEGAL_REQUEST, 0x2100));
        }
        Ok(Parsed {
            direction,
            length: blocks * BLOCK,
            flags: CommandFlags::MEDIUM_ACCESS,
            lba,
            blocks: u64::from(blocks),
        })
    }

    fn execute(&mut self, cmd: ExecCommand<'_>, cx: &mut ExecContext<'_>) -> Execution {
        let token = IoToken { cmd: cmd.id, tag: 0 };
        let (file, offset, sg, len) = (self.file, cmd.parsed.lba * u64::from(BLOCK), cmd.sg, cmd.sg.bytes());
        let op = match cmd.cdb.opcode() {
            _ if len == 0 => return Execution::Done(Outcome::good(0)),
            READ_16 => IoOp::Read { file, offset, sg, sg_offset: 0, len },
            _ => IoOp::Write { file, offset, sg, sg_offset: 0, len, dsync: false },
        };
        match cx.io.submit(token, op) {
            Ok(()) => Execution::Pending,
            Err(_) => Execution::Done(Outcome::status(ScsiStatus::BUSY)),
        }
    }

    fn io_completed(&mut self, cmd: ExecCommand<'_>, completion: IoCompletion, _: &mut ExecContext<'_>) -> Execution {
        Execution::Done(match u32::try_from(completion.result) {
            Ok(bytes) if cmd.parsed.direction == DataDirection::FromDevice => Outcome::good(bytes),
            Ok(_) => Outcome::good(0),
            Err(_) => Outcome::check(check(SenseKey::MEDIUM_ERROR, 0x1100)),
        })
    }

    /// A disk that has begun does not stop.
    fn cancel(&mut self, _: CmdId, _: &mut dyn IoQueue) {}

    fn takes_data_in_place(&self) -> bool {
        true
    }

    fn reset(&mut self) -> ControlSettings {
        self.control()
    }

    fn control(&self) -> ControlSettings {
        ControlSettings::default()
    }
}
