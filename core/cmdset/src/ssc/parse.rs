//! CDB to typed command.

use scst_scsi::opcode::CommandDescriptor;
use scst_scsi::{Cdb, CommandFlags, DataDirection, SenseData};

use super::command::{ParsedTapeCommand, SpaceOver, TapeCommand};
use super::partition::POSITION_BYTES;
use super::{MAX_BLOCK_LENGTH, TapeParameters};
use crate::opcodes;
use crate::params::{MAX_RESPONSE_BYTES, MAX_TRANSFER_BYTES};
use crate::parse::{check_bits, decode_primary};

/// Reads a CDB by the opcode table. `block_length` is the one in force, 0 for blocks of any length.
///
/// # Errors
/// ILLEGAL REQUEST with a pointer to what is wrong.
pub fn parse(cdb: &Cdb, tape: &TapeParameters, block_length: u32) -> Result<ParsedTapeCommand, SenseData> {
    let row = opcodes::find(cdb, &tape.identity)?;
    check_bits(row, cdb, &tape.identity)?;
    let command = decode(cdb, tape)?;
    let length = data_length(&command, row, cdb, block_length)?;
    let mut flags = row.flags - CommandFlags::UNKNOWN_LENGTH;
    if command.uses_position() {
        flags |= CommandFlags::EXCLUSIVE;
    }
    let direction = if length == 0 { DataDirection::None } else { row.direction };
    Ok(ParsedTapeCommand { command, direction, length, flags })
}

fn invalid_bit(byte: u16, bit: u8) -> SenseData {
    SenseData::invalid_field_in_cdb(byte, Some(bit))
}

fn decode(cdb: &Cdb, tape: &TapeParameters) -> Result<TapeCommand, SenseData> {
    use TapeCommand as C;
    let (fixed, length) = (cdb.bit(1, 0), cdb.u24(2));
    Ok(match cdb.opcode() {
        // SILI with FIXED (READ(6) of SSC-5): which of many blocks would it be about?
        0x08 if fixed && cdb.bit(1, 1) => return Err(invalid_bit(1, 1)),
        0x08 => C::Read { fixed, sili: cdb.bit(1, 1), length },
        0x0a => C::Write { fixed, length },
        0x10 => C::WriteFilemarks { count: length },
        0x11 => space(cdb)?,
        0x2b => locate(cdb)?,
        0x01 => C::Rewind,
        0x19 => C::Erase,
        0x1b => load_unload(cdb)?,
        // The short form; 01h asks for vendor specific positions, which are the same here.
        0x34 if cdb.bits(1, 4, 0) > 1 => return Err(invalid_bit(1, 4)),
        0x34 => C::ReadPosition,
        0x05 => C::ReadBlockLimits,
        // MEDIUM TYPE: there are no descriptors of that kind.
        0x44 if cdb.bit(1, 1) => return Err(invalid_bit(1, 1)),
        0x44 => C::ReportDensity { medium: cdb.bit(1, 0), allocation: cdb.u16(7) },
        _ => C::Common(decode_primary(cdb, &tape.identity)?),
    })
}

fn space(cdb: &Cdb) -> Result<TapeCommand, SenseData> {
    let over = match cdb.bits(1, 3, 0) {
        0 => SpaceOver::Blocks,
        1 => SpaceOver::Filemarks,
        3 => SpaceOver::ToEndOfData,
        _ => return Err(invalid_bit(1, 3)),
    };
    // COUNT has 24 bits and a sign.
    Ok(TapeCommand::Space { over, count: (cdb.u24(2) << 8) as i32 >> 8 })
}

/// There is one partition, which a change of partition may name.
fn locate(cdb: &Cdb) -> Result<TapeCommand, SenseData> {
    if cdb.bit(1, 1) && cdb.u8(8) != 0 {
        return Err(SenseData::invalid_field_in_cdb(8, None));
    }
    Ok(TapeCommand::Locate { object: cdb.u32(3) })
}

fn load_unload(cdb: &Cdb) -> Result<TapeCommand, SenseData> {
    let (hold, end_of_tape, load) = (cdb.bit(4, 3), cdb.bit(4, 2), cdb.bit(4, 0));
    if hold {
        return Err(invalid_bit(4, 3));
    }
    // A medium is not loaded at its end.
    if end_of_tape && load {
        return Err(invalid_bit(4, 2));
    }
    Ok(TapeCommand::LoadUnload { load })
}

fn data_length(command: &TapeCommand, row: &CommandDescriptor, cdb: &Cdb, block_length: u32) -> Result<u32, SenseData> {
    match *command {
        TapeCommand::Read { fixed: true, length, .. } | TapeCommand::Write { fixed: true, length } => {
            if block_length == 0 {
                return Err(invalid_bit(1, 0));
            }
            let bytes = u64::from(length) * u64::from(block_length);
            u32::try_from(bytes).ok().filter(|b| *b <= MAX_TRANSFER_BYTES).ok_or_else(bad_length)
        }
        // No block is longer than the longest, whatever the initiator has room for.
        TapeCommand::Read { length, .. } => Ok(length.min(MAX_BLOCK_LENGTH)),
        TapeCommand::Write { length, .. } if length > MAX_BLOCK_LENGTH => Err(bad_length()),
        TapeCommand::ReadPosition => Ok(POSITION_BYTES),
        _ => Ok(row.data_length(cdb, 1).min(u64::from(MAX_RESPONSE_BYTES)) as u32),
    }
}

/// INVALID FIELD IN CDB at TRANSFER LENGTH.
fn bad_length() -> SenseData {
    SenseData::invalid_field_in_cdb(2, None)
}

#[cfg(test)]
mod tests;
