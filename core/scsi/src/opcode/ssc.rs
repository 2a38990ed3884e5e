//! Commands of SSC-5: tapes. None has a range of logical blocks: what they touch is where the tape is.

use super::descriptor::{CommandDescriptor, DataLength, Field};
use crate::flags::{CommandFlags, DataDirection};

const fn row(name: &'static str, usage: &'static [u8]) -> CommandDescriptor {
    CommandDescriptor::new(name, usage)
}

/// Neither reads the medium nor moves it.
const ANY_PR: CommandFlags = CommandFlags::WRITE_EXCLUSIVE_OK.union(CommandFlags::EXCLUSIVE_ACCESS_OK);
const WRITES: CommandFlags = CommandFlags::WRITES_MEDIUM;
const EXCLUSIVE: CommandFlags = CommandFlags::EXCLUSIVE;

/// TRANSFER LENGTH of 6-byte and 16-byte CDBs.
const LEN_6: Field = Field::new(2, 3);
const LEN_16: Field = Field::new(12, 3);

/// Times of real tapes: from one end of the medium to the other, and to write all of it.
const WIND: u32 = 600;
const WHOLE_MEDIUM: u32 = 6 * 3600;

/// Usage data of a 16-byte CDB with PARTITION, LOGICAL OBJECT IDENTIFIER and a length of three bytes.
const fn usage_16(opcode: u8, bits: u8) -> [u8; 16] {
    [opcode, bits, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x04]
}

const fn read(name: &'static str, usage: &'static [u8], length: Field) -> CommandDescriptor {
    row(name, usage).data(DataDirection::FromDevice, DataLength::Sequential(length)).timeout(WIND)
}

const fn write(name: &'static str, usage: &'static [u8], length: Field) -> CommandDescriptor {
    row(name, usage).data(DataDirection::ToDevice, DataLength::Sequential(length)).flags(WRITES).timeout(WIND)
}

/// The rows.
pub(super) const ROWS: &[CommandDescriptor] = &[
    row("REWIND", &[0x01, 0x01, 0, 0, 0, 0x04]).timeout(WIND),
    row("FORMAT MEDIUM", &[0x04, 0x03, 0x0f, 0xff, 0xff, 0x04])
        .parameters(3, 2)
        .flags(WRITES.union(EXCLUSIVE))
        .timeout(WHOLE_MEDIUM),
    row("READ BLOCK LIMITS", &[0x05, 0, 0, 0, 0, 0x04])
        .data(DataDirection::FromDevice, DataLength::Fixed(6))
        .flags(ANY_PR.union(CommandFlags::RESERVED_OK)),
    read("READ(6)", &[0x08, 0x03, 0xff, 0xff, 0xff, 0x04], LEN_6),
    write("WRITE(6)", &[0x0a, 0x01, 0xff, 0xff, 0xff, 0x04], LEN_6),
    row("SET CAPACITY", &[0x0b, 0x01, 0, 0xff, 0xff, 0x04]).flags(WRITES.union(EXCLUSIVE)).timeout(WIND),
    read("READ REVERSE(6)", &[0x0f, 0x07, 0xff, 0xff, 0xff, 0x04], LEN_6),
    row("WRITE FILEMARKS(6)", &[0x10, 0x01, 0xff, 0xff, 0xff, 0x04]).flags(WRITES).timeout(WIND),
    row("SPACE(6)", &[0x11, 0x0f, 0xff, 0xff, 0xff, 0x04]).timeout(WIND),
    row("VERIFY(6)", &[0x13, 0x07, 0xff, 0xff, 0xff, 0x04])
        .data(DataDirection::ToDevice, DataLength::SequentialVerify(LEN_6))
        .timeout(WIND),
    row("ERASE(6)", &[0x19, 0x03, 0, 0, 0, 0x04]).flags(WRITES).timeout(WHOLE_MEDIUM),
    // Alone, because one decides what the other may do, on whatever reactor its nexus lives.
    row("LOAD UNLOAD", &[0x1b, 0x01, 0, 0, 0x0f, 0x04]).flags(EXCLUSIVE).timeout(WIND),
    row("PREVENT ALLOW MEDIUM REMOVAL", &[0x1e, 0, 0, 0, 0x03, 0x04]).flags(EXCLUSIVE),
    row("LOCATE(10)", &[0x2b, 0x03, 0, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0x04]).timeout(WIND),
    row("READ POSITION", &[0x34, 0x1f, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04])
        .data(DataDirection::FromDevice, DataLength::Unknown)
        .flags(CommandFlags::UNKNOWN_LENGTH),
    row("REPORT DENSITY SUPPORT", &[0x44, 0x03, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04])
        .allocation(7, 2)
        .flags(ANY_PR.union(CommandFlags::RESERVED_OK)),
    row("WRITE FILEMARKS(16)", &usage_16(0x80, 0x0d)).flags(WRITES).timeout(WIND),
    read("READ REVERSE(16)", &usage_16(0x81, 0x07), LEN_16),
    row("ALLOW OVERWRITE", &[0x82, 0, 0x0f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0x04]),
    read("READ(16)", &usage_16(0x88, 0x03), LEN_16),
    write("WRITE(16)", &usage_16(0x8a, 0x0d), LEN_16),
    row("READ ATTRIBUTE", &[0x8c, 0x1f, 0xff, 0xff, 0, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x04])
        .allocation(10, 4),
    row("WRITE ATTRIBUTE", &[0x8d, 0x01, 0xff, 0xff, 0, 0xff, 0, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04])
        .parameters(10, 4)
        .flags(WRITES),
    row("VERIFY(16)", &usage_16(0x8f, 0x07))
        .data(DataDirection::ToDevice, DataLength::SequentialVerify(LEN_16))
        .timeout(WIND),
    row("SPACE(16)", &[0x91, 0x0f, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04])
        .parameters(12, 2)
        .timeout(WIND),
    row("LOCATE(16)", &[0x92, 0x3b, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0x04])
        .timeout(WIND),
    row("ERASE(16)", &[0x93, 0x0f, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0x04])
        .flags(WRITES)
        .timeout(WHOLE_MEDIUM),
];
