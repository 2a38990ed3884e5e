//! CDB to typed command: everything that can be said of a CDB without knowing the capacity or the state of the disk.

use scst_scsi::cdb::MAX_CDB_LENGTH;
use scst_scsi::opcode::{CommandDescriptor, DataLength};
use scst_scsi::{Cdb, CommandFlags, DataDirection, DeviceType, SenseData};

use crate::command::{
    BlockRange, DiskCommand, LogSense, ModeSelect, ModeSense, ParsedCommand, StartStop, VerifyCheck, WriteSame,
};
use crate::opcodes;
use crate::params::{DiskParameters, MAX_RESPONSE_BYTES, MAX_TRANSFER_BYTES};

/// NACA in the CONTROL byte.
const NACA: u8 = 0x04;

/// Reads a CDB by the opcode table.
///
/// # Errors
/// ILLEGAL REQUEST with a pointer to what is wrong: an operation code or service action that the disk does not have, a
/// reserved or unsupported bit, a transfer that is too long, a field with a value it must not have.
pub fn parse(cdb: &Cdb, disk: &DiskParameters) -> Result<ParsedCommand, SenseData> {
    match plain_transfer(cdb, disk) {
        Some(parsed) => Ok(parsed),
        None => parse_by_table(cdb, disk),
    }
}

fn parse_by_table(cdb: &Cdb, disk: &DiskParameters) -> Result<ParsedCommand, SenseData> {
    let row = opcodes::find(cdb, disk)?;
    check_bits(row, cdb, disk)?;
    let range = BlockRange { lba: row.lba(cdb).unwrap_or(0), blocks: row.blocks(cdb).unwrap_or(0) };
    let command = decode(row, cdb, range, disk)?;
    let length = data_length(row, cdb, disk)?;
    let mut flags = row.flags;
    if is_durable(&command) {
        flags |= CommandFlags::FLUSH;
    }
    Ok(ParsedCommand {
        command,
        direction: if length == 0 { DataDirection::None } else { row.direction },
        length,
        flags,
        lba: range.lba,
        blocks: match command {
            DiskCommand::Unmap { .. } | DiskCommand::Erase { all: true, .. } => u64::MAX,
            _ => range.blocks,
        },
    })
}

fn invalid_bit(byte: u16, bit: u8) -> SenseData {
    SenseData::invalid_field_in_cdb(byte, Some(bit))
}

/// Refuses bits that nothing here evaluates (SPC-6 4.2.5.2 lets a device server check reserved bits).
pub(crate) fn check_bits(row: &CommandDescriptor, cdb: &Cdb, disk: &DiskParameters) -> Result<(), SenseData> {
    if cdb.control() & NACA != 0 && !disk.normal_aca {
        return Err(invalid_bit(u16::from(row.cdb_length) - 1, 2));
    }
    let Some(field) = row.reserved_bit_set(cdb).and_then(|_| row.reserved_bit_set(&without_ignored_bits(cdb))) else {
        return Ok(());
    };
    // RDPROTECT, WRPROTECT and VRPROTECT are a field of three bits; the pointer names the leftmost.
    let protect = field.byte == 1 && field.bit.is_some_and(|bit| bit >= 5) && has_protect_field(row);
    let bit = if protect { Some(7) } else { field.bit };
    Err(SenseData::invalid_field_in_cdb(field.byte, bit))
}

/// DPO and FUA in byte 1.
const DPO: u8 = 0x10;
const FUA: u8 = 0x08;

/// READ and WRITE (10 and 16) with nothing in them but DPO, FUA, range and group number: what nearly every command is,
/// read without the table. It comes to the same as the table (a test compares them); None: ask the table.
#[inline]
pub fn plain_transfer(cdb: &Cdb, disk: &DiskParameters) -> Option<ParsedCommand> {
    let opcode = cdb.opcode();
    let (length, lba, blocks, group, control) = match opcode {
        0x28 | 0x2a => (10, u64::from(cdb.u32(2)), u32::from(cdb.u16(7)), cdb.u8(6), cdb.u8(9)),
        0x88 | 0x8a => (16, cdb.u64(2), cdb.u32(10), cdb.u8(14), cdb.u8(15)),
        _ => return None,
    };
    let bits = cdb.u8(1);
    let bytes = u64::from(blocks) * u64::from(disk.block_size);
    let odd = bits & !(DPO | FUA) | group & 0xe0 | control != 0;
    let disk_like = disk.device_type == DeviceType::DISK;
    if odd || !disk_like || cdb.bytes().len() < length || bytes > u64::from(MAX_TRANSFER_BYTES) {
        return None;
    }
    let range = BlockRange { lba, blocks: u64::from(blocks) };
    let (fua, dpo) = (bits & FUA != 0, bits & DPO != 0);
    let (command, direction, flags) = if opcode & 2 == 0 {
        (DiskCommand::Read { range, fua, dpo }, DataDirection::FromDevice, CommandFlags::WRITE_EXCLUSIVE_OK)
    } else {
        (DiskCommand::Write { range, fua, dpo }, DataDirection::ToDevice, CommandFlags::WRITES_MEDIUM)
    };
    let flush = if fua { CommandFlags::FLUSH } else { CommandFlags::empty() };
    Some(ParsedCommand {
        command,
        direction: if bytes == 0 { DataDirection::None } else { direction },
        length: bytes as u32,
        flags: flags | flush | CommandFlags::MEDIUM_ACCESS,
        lba,
        blocks: range.blocks,
    })
}

/// The CDB without the bits of byte 1 that are obsolete or advisory and change nothing here, so that older initiators
/// may set them: FUA_NV, SYNC_NV (SBC-3) and RARC.
fn without_ignored_bits(cdb: &Cdb) -> Cdb {
    let ignored = match cdb.opcode() {
        0x28 | 0x88 | 0xa8 => 0x06,
        0x2a | 0x8a | 0xaa | 0x8b => 0x02,
        0x35 | 0x91 => 0x04,
        _ => 0,
    };
    let mut bytes = [0; MAX_CDB_LENGTH];
    let length = cdb.bytes().len();
    bytes[..length].copy_from_slice(cdb.bytes());
    bytes[1] &= !ignored;
    Cdb::new(&bytes[..length])
}

fn has_protect_field(row: &CommandDescriptor) -> bool {
    let moves_blocks = matches!(
        row.length,
        DataLength::Blocks(_) | DataLength::Verify(..) | DataLength::TwiceBlocks(_) | DataLength::OneBlock(_)
    );
    moves_blocks && row.cdb_length > 6
}

/// Length of the data phase: that of blocks within MAXIMUM TRANSFER LENGTH, an allocation length within what any answer
/// can have.
fn data_length(row: &CommandDescriptor, cdb: &Cdb, disk: &DiskParameters) -> Result<u32, SenseData> {
    let length = row.data_length(cdb, disk.block_size);
    if let DataLength::Allocation(_) = row.length {
        return Ok(length.min(u64::from(MAX_RESPONSE_BYTES)) as u32);
    }
    match u32::try_from(length) {
        Ok(length) if length <= MAX_TRANSFER_BYTES => Ok(length),
        _ => Err(bad_block_count(row)),
    }
}

/// INVALID FIELD IN CDB at the number of blocks.
fn bad_block_count(row: &CommandDescriptor) -> SenseData {
    let byte = row.blocks.map_or(0, |field| u16::from(field.at));
    SenseData::invalid_field_in_cdb(byte, None)
}

fn is_durable(command: &DiskCommand) -> bool {
    use DiskCommand as C;
    match *command {
        C::Read { fua, .. } | C::Write { fua, .. } | C::CompareAndWrite { fua, .. } | C::OrWrite { fua, .. } => fua,
        C::WriteAndVerify { .. } => true,
        _ => false,
    }
}

fn decode(
    row: &CommandDescriptor,
    cdb: &Cdb,
    range: BlockRange,
    disk: &DiskParameters,
) -> Result<DiskCommand, SenseData> {
    use DiskCommand as C;
    let six = row.cdb_length == 6;
    let (dpo, fua) = (!six && cdb.bit(1, 4), !six && cdb.bit(1, 3));
    Ok(match cdb.opcode() {
        0x08 | 0x28 | 0x88 | 0xa8 => C::Read { range, fua, dpo },
        0x0a | 0x2a | 0x8a | 0xaa => C::Write { range, fua, dpo },
        0x8b => C::OrWrite { range, fua, dpo },
        0x89 if range.blocks > u64::from(disk.max_compare_and_write_blocks()) => return Err(bad_block_count(row)),
        0x89 => C::CompareAndWrite { range, fua, dpo },
        0x2e | 0x8e | 0xae => C::WriteAndVerify { range, check: byte_check(cdb, false)?, dpo },
        0x2f | 0x8f | 0xaf => C::Verify { range, check: byte_check(cdb, true)?, dpo },
        0x34 | 0x90 => C::PreFetch { range, immed: cdb.bit(1, 1) },
        0x35 | 0x91 => C::SynchronizeCache { range, immed: cdb.bit(1, 1) },
        0x41 | 0x93 => C::WriteSame(write_same(row, cdb, range, disk)?),
        // ERA: with it there is no length (SBC, ERASE).
        0x2c | 0xac if cdb.bit(1, 2) && range.blocks != 0 => return Err(bad_block_count(row)),
        0x2c | 0xac => C::Erase { range, all: cdb.bit(1, 2) },
        0x42 => C::Unmap { anchor: unmap_anchor(cdb, disk)?, length: cdb.u16(7) },
        0x9e if cdb.bits(1, 4, 0) == 0x12 => lba_status(cdb, range)?,
        0x9e => C::ReadCapacity16 { allocation: cdb.u32(10) },
        0x25 => C::ReadCapacity10,
        _ => return decode_primary(cdb, disk),
    })
}

/// Commands of SPC, and of SBC that do not touch the medium.
pub(crate) fn decode_primary(cdb: &Cdb, disk: &DiskParameters) -> Result<DiskCommand, SenseData> {
    use DiskCommand as C;
    Ok(match cdb.opcode() {
        0x00 => C::TestUnitReady,
        0x12 => inquiry(cdb)?,
        0x15 => C::ModeSelect(mode_select(cdb, false, u16::from(cdb.u8(4)), disk)?),
        0x55 => C::ModeSelect(mode_select(cdb, true, cdb.u16(7), disk)?),
        0x1a => C::ModeSense(mode_sense(cdb, false, u32::from(cdb.u8(4)))),
        0x5a => C::ModeSense(mode_sense(cdb, true, u32::from(cdb.u16(7)))),
        0x4d => C::LogSense(log_sense(cdb)?),
        0x1b => C::StartStop(start_stop(cdb)),
        // PREVENT: values with the left bit set are obsolete.
        0x1e if cdb.bit(4, 1) => return Err(invalid_bit(4, 1)),
        0x1e => C::PreventAllow { prevent: cdb.bit(4, 0) },
        0x1d => send_diagnostic(cdb)?,
        0xa3 if cdb.bits(1, 4, 0) == 0x0c => C::ReportSupportedOpcodes { allocation: cdb.u32(6) },
        0xa3 => C::ReportSupportedTmf { allocation: cdb.u32(6) },
        _ => C::MidLevel,
    })
}

/// BYTCHK. 10b is reserved, and 11b is for VERIFY alone (SBC-4 5.40, 5.44).
fn byte_check(cdb: &Cdb, one_block: bool) -> Result<VerifyCheck, SenseData> {
    match cdb.bits(1, 2, 1) {
        0b00 => Ok(VerifyCheck::Medium),
        0b01 => Ok(VerifyCheck::Compare),
        0b11 if one_block => Ok(VerifyCheck::CompareOne),
        _ => Err(invalid_bit(1, 2)),
    }
}

fn write_same(
    row: &CommandDescriptor,
    cdb: &Cdb,
    range: BlockRange,
    disk: &DiskParameters,
) -> Result<WriteSame, SenseData> {
    let (unmap, anchor) = (cdb.bit(1, 3), cdb.bit(1, 4));
    if anchor && !unmap {
        return Err(invalid_bit(1, 4));
    }
    // WSNZ: zero blocks would mean up to the end of the medium.
    let too_many = disk.max_write_same_blocks != 0 && range.blocks > disk.max_write_same_blocks;
    if range.blocks == 0 || too_many {
        return Err(bad_block_count(row));
    }
    Ok(WriteSame { range, unmap, anchor, no_data: cdb.opcode() == 0x93 && cdb.bit(1, 0) })
}

fn unmap_anchor(cdb: &Cdb, disk: &DiskParameters) -> Result<bool, SenseData> {
    let anchor = cdb.bit(1, 0);
    if anchor && !disk.provisioning.is_some_and(|p| p.anchor) {
        return Err(invalid_bit(1, 0));
    }
    Ok(anchor)
}

/// GET LBA STATUS. REPORT TYPE 0 is all there is.
fn lba_status(cdb: &Cdb, range: BlockRange) -> Result<DiskCommand, SenseData> {
    if cdb.u8(14) != 0 {
        return Err(SenseData::invalid_field_in_cdb(14, None));
    }
    Ok(DiskCommand::GetLbaStatus { lba: range.lba, allocation: cdb.u32(10) })
}

/// INQUIRY. Without EVPD there is no page (SPC-6 6.7.1).
fn inquiry(cdb: &Cdb) -> Result<DiskCommand, SenseData> {
    let page = cdb.bit(1, 0).then(|| cdb.u8(2));
    if page.is_none() && cdb.u8(2) != 0 {
        return Err(SenseData::invalid_field_in_cdb(2, None));
    }
    Ok(DiskCommand::Inquiry { page, allocation: cdb.u16(3) })
}

fn mode_sense(cdb: &Cdb, ten: bool, allocation: u32) -> ModeSense {
    ModeSense {
        ten,
        no_block_descriptor: cdb.bit(1, 3),
        long_lba: ten && cdb.bit(1, 4),
        control: cdb.bits(2, 7, 6),
        page: cdb.bits(2, 5, 0),
        subpage: cdb.u8(3),
        allocation,
    }
}

/// MODE SELECT. Only pages in the standard's format (PF) are understood.
fn mode_select(cdb: &Cdb, ten: bool, length: u16, disk: &DiskParameters) -> Result<ModeSelect, SenseData> {
    let (page_format, save) = (cdb.bit(1, 4), cdb.bit(1, 0));
    if !page_format && length > 0 {
        return Err(invalid_bit(1, 4));
    }
    if save && !disk.saves_mode_pages {
        return Err(invalid_bit(1, 0));
    }
    Ok(ModeSelect { ten, save, length })
}

/// LOG SENSE. Log parameters are never saved (SP).
fn log_sense(cdb: &Cdb) -> Result<LogSense, SenseData> {
    if cdb.bit(1, 0) {
        return Err(invalid_bit(1, 0));
    }
    Ok(LogSense {
        control: cdb.bits(2, 7, 6),
        page: cdb.bits(2, 5, 0),
        subpage: cdb.u8(3),
        pointer: cdb.u16(5),
        allocation: cdb.u16(7),
    })
}

fn start_stop(cdb: &Cdb) -> StartStop {
    StartStop {
        immed: cdb.bit(1, 0),
        power_condition: cdb.bits(4, 7, 4),
        no_flush: cdb.bit(4, 2),
        load_eject: cdb.bit(4, 1),
        start: cdb.bit(4, 0),
    }
}

/// SEND DIAGNOSTIC: the default self test, a foreground one, or nothing. There is no background self test and no
/// diagnostic page (SPC-6 6.41).
fn send_diagnostic(cdb: &Cdb) -> Result<DiskCommand, SenseData> {
    let (code, self_test) = (cdb.bits(1, 7, 5), cdb.bit(1, 2));
    let known = matches!(code, 0b000 | 0b101 | 0b110);
    if !known || (self_test && code != 0) {
        return Err(invalid_bit(1, 7));
    }
    if cdb.u16(3) != 0 {
        return Err(SenseData::invalid_field_in_cdb(3, None));
    }
    Ok(DiskCommand::SendDiagnostic)
}

#[cfg(test)]
mod tests;
