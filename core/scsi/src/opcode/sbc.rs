//! Commands of SBC-4: disks.

use super::descriptor::{CommandDescriptor, DataLength, Field};
use crate::flags::{CommandFlags, DataDirection};

const fn row(name: &'static str, usage: &'static [u8]) -> CommandDescriptor {
    CommandDescriptor::new(name, usage)
}

pub(super) const WE: CommandFlags = CommandFlags::WRITE_EXCLUSIVE_OK;
const ANY_PR: CommandFlags = WE.union(CommandFlags::EXCLUSIVE_ACCESS_OK);
pub(super) const MEDIUM: CommandFlags = CommandFlags::MEDIUM_ACCESS;
pub(super) const WRITES: CommandFlags = MEDIUM.union(CommandFlags::WRITES_MEDIUM);
const RANGE_LOCK: CommandFlags = CommandFlags::RANGE_LOCK;
const UNKNOWN: CommandFlags = CommandFlags::UNKNOWN_LENGTH;

/// LOGICAL BLOCK ADDRESS of 6-byte CDBs: 21 bits.
const LBA_6: Field = Field { at: 1, width: 3, first_mask: 0x1f };
/// LOGICAL BLOCK ADDRESS of 10-byte and 12-byte CDBs.
pub(super) const LBA_4: Field = Field::new(2, 4);
/// LOGICAL BLOCK ADDRESS of 16-byte CDBs.
const LBA_8: Field = Field::new(2, 8);
/// LOGICAL BLOCK ADDRESS of 32-byte CDBs.
const LBA_32: Field = Field::new(12, 8);
/// TRANSFER LENGTH by length of the CDB.
const LEN_6: Field = Field::new(4, 1);
pub(super) const LEN_10: Field = Field::new(7, 2);
pub(super) const LEN_12: Field = Field::new(6, 4);
const LEN_16: Field = Field::new(10, 4);
const LEN_32: Field = Field::new(28, 4);

/// Reads blocks into the data-in buffer.
const fn read(name: &'static str, usage: &'static [u8], lba: Field, blocks: Field) -> CommandDescriptor {
    row(name, usage)
        .data(DataDirection::FromDevice, DataLength::Blocks(blocks))
        .range(lba, Some(blocks))
        .flags(MEDIUM.union(WE))
}

/// Writes blocks from the data-out buffer.
const fn write(name: &'static str, usage: &'static [u8], lba: Field, blocks: Field) -> CommandDescriptor {
    row(name, usage).data(DataDirection::ToDevice, DataLength::Blocks(blocks)).range(lba, Some(blocks)).flags(WRITES)
}

/// Compares blocks, by BYTCHK (in byte `check`) with the data-out buffer.
const fn verify(name: &'static str, usage: &'static [u8], lba: Field, blocks: Field, check: u8) -> CommandDescriptor {
    row(name, usage)
        .data(DataDirection::ToDevice, DataLength::Verify(blocks, check))
        .range(lba, Some(blocks))
        .flags(MEDIUM.union(WE))
}

/// Writes one block many times; NDOB, where there is such a bit, means a block of zeros.
const fn write_same(
    name: &'static str,
    usage: &'static [u8],
    lba: Field,
    blocks: Field,
    ndob: Option<(u8, u8)>,
) -> CommandDescriptor {
    row(name, usage)
        .data(DataDirection::ToDevice, DataLength::OneBlock(ndob))
        .range(lba, Some(blocks))
        .flags(WRITES)
        .timeout(300)
}

/// Works on a range without data.
const fn no_data(name: &'static str, usage: &'static [u8], lba: Field, blocks: Field) -> CommandDescriptor {
    row(name, usage).range(lba, Some(blocks))
}

const fn sanitize(name: &'static str, usage: &'static [u8]) -> CommandDescriptor {
    row(name, usage).service_action().parameters(7, 2).flags(WRITES.union(CommandFlags::EXCLUSIVE)).timeout(3600)
}

/// Usage data of a 12-byte CDB with an LBA and a transfer length.
const fn usage_12(opcode: u8, bits: u8) -> [u8; 12] {
    [opcode, bits, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04]
}

/// Usage data of a 16-byte CDB with an LBA and a transfer length.
const fn usage_16(opcode: u8, bits: u8) -> [u8; 16] {
    [opcode, bits, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04]
}

/// Usage data of a 32-byte CDB with an LBA and a transfer length; the protection information fields are reserved.
const fn usage_32(service_action: u16, bits: u8) -> [u8; 32] {
    let mut usage = [0; 32];
    usage[0] = 0x7f;
    usage[1] = 0x04;
    usage[7] = 0x18;
    usage[8] = (service_action >> 8) as u8;
    usage[9] = service_action as u8;
    usage[10] = bits;
    let mut at = 12;
    while at < 32 {
        if at < 20 || at >= 28 {
            usage[at] = 0xff;
        }
        at += 1;
    }
    usage
}

/// The rows.
pub(super) const ROWS: &[CommandDescriptor] = &[
    row("FORMAT UNIT", &[0x04, 0xff, 0xff, 0, 0, 0x04])
        .data(DataDirection::ToDevice, DataLength::Unknown)
        .flags(WRITES.union(CommandFlags::EXCLUSIVE).union(UNKNOWN))
        .timeout(3600),
    row("REASSIGN BLOCKS", &[0x07, 0x03, 0, 0, 0, 0x04])
        .data(DataDirection::ToDevice, DataLength::Unknown)
        .flags(WRITES.union(UNKNOWN)),
    row("READ(6)", &[0x08, 0x1f, 0xff, 0xff, 0xff, 0x04])
        .data(DataDirection::FromDevice, DataLength::BlocksOr256(LEN_6))
        .range(LBA_6, Some(LEN_6))
        .flags(MEDIUM.union(WE)),
    row("WRITE(6)", &[0x0a, 0x1f, 0xff, 0xff, 0xff, 0x04])
        .data(DataDirection::ToDevice, DataLength::BlocksOr256(LEN_6))
        .range(LBA_6, Some(LEN_6))
        .flags(WRITES),
    // Alone, because one decides what the other may do, on whatever reactor its nexus lives.
    row("START STOP UNIT", &[0x1b, 0x01, 0, 0x0f, 0xf7, 0x04]).flags(CommandFlags::EXCLUSIVE),
    row("PREVENT ALLOW MEDIUM REMOVAL", &[0x1e, 0, 0, 0, 0x03, 0x04]).flags(CommandFlags::EXCLUSIVE),
    row("READ CAPACITY(10)", &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0x04])
        .data(DataDirection::FromDevice, DataLength::Fixed(8))
        .flags(ANY_PR.union(CommandFlags::RESERVED_OK).union(CommandFlags::IMPLICIT_HEAD_OF_QUEUE)),
    read("READ(10)", &[0x28, 0x18, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04], LBA_4, LEN_10),
    write("WRITE(10)", &[0x2a, 0x18, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04], LBA_4, LEN_10),
    write("WRITE AND VERIFY(10)", &[0x2e, 0x16, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04], LBA_4, LEN_10),
    verify("VERIFY(10)", &[0x2f, 0x16, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04], LBA_4, LEN_10, 1),
    no_data("PRE-FETCH(10)", &[0x34, 0x02, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04], LBA_4, LEN_10)
        .flags(MEDIUM.union(WE)),
    no_data("SYNCHRONIZE CACHE(10)", &[0x35, 0x02, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04], LBA_4, LEN_10)
        .flags(CommandFlags::FLUSH)
        .timeout(120),
    row("READ DEFECT DATA(10)", &[0x37, 0, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0x04]).allocation(7, 2).flags(WE),
    row("READ LONG(10)", &[0x3e, 0x06, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04])
        .allocation(7, 2)
        .range(LBA_4, None)
        .flags(MEDIUM.union(WE)),
    row("WRITE LONG(10)", &[0x3f, 0xe0, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04])
        .parameters(7, 2)
        .range(LBA_4, None)
        .flags(WRITES),
    write_same("WRITE SAME(10)", &[0x41, 0x18, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04], LBA_4, LEN_10, None),
    // The ranges are in the parameter list: for the mid-level it touches the whole medium.
    row("UNMAP", &[0x42, 0x01, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04]).parameters(7, 2).flags(WRITES).timeout(120),
    sanitize("SANITIZE, OVERWRITE", &[0x48, 0x81, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04]),
    sanitize("SANITIZE, BLOCK ERASE", &[0x48, 0x82, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04]),
    sanitize("SANITIZE, CRYPTOGRAPHIC ERASE", &[0x48, 0x83, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04]),
    sanitize("SANITIZE, EXIT FAILURE MODE", &[0x48, 0x9f, 0, 0, 0, 0, 0, 0xff, 0xff, 0x04]),
    read("READ(32)", &usage_32(0x0009, 0x18), LBA_32, LEN_32).service_action(),
    verify("VERIFY(32)", &usage_32(0x000a, 0x16), LBA_32, LEN_32, 10).service_action(),
    write("WRITE(32)", &usage_32(0x000b, 0x18), LBA_32, LEN_32).service_action(),
    write("WRITE AND VERIFY(32)", &usage_32(0x000c, 0x16), LBA_32, LEN_32).service_action(),
    write_same("WRITE SAME(32)", &usage_32(0x000d, 0x19), LBA_32, LEN_32, Some((10, 0))).service_action(),
    write("ORWRITE(32)", &usage_32(0x000e, 0x18), LBA_32, LEN_32).service_action().flags(RANGE_LOCK),
    read("READ(16)", &usage_16(0x88, 0x18), LBA_8, LEN_16),
    row("COMPARE AND WRITE", &[0x89, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0, 0x04])
        .data(DataDirection::ToDevice, DataLength::TwiceBlocks(Field::new(13, 1)))
        .range(LBA_8, Some(Field::new(13, 1)))
        .flags(WRITES.union(RANGE_LOCK)),
    write("WRITE(16)", &usage_16(0x8a, 0x18), LBA_8, LEN_16),
    write("ORWRITE(16)", &usage_16(0x8b, 0x18), LBA_8, LEN_16).flags(RANGE_LOCK),
    write("WRITE AND VERIFY(16)", &usage_16(0x8e, 0x16), LBA_8, LEN_16),
    verify("VERIFY(16)", &usage_16(0x8f, 0x16), LBA_8, LEN_16, 1),
    no_data("PRE-FETCH(16)", &usage_16(0x90, 0x02), LBA_8, LEN_16).flags(MEDIUM.union(WE)),
    no_data("SYNCHRONIZE CACHE(16)", &usage_16(0x91, 0x02), LBA_8, LEN_16).flags(CommandFlags::FLUSH).timeout(120),
    write_same("WRITE SAME(16)", &usage_16(0x93, 0x19), LBA_8, LEN_16, Some((1, 0))),
    write(
        "WRITE ATOMIC(16)",
        &[0x9c, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04],
        LBA_8,
        Field::new(12, 2),
    )
    .flags(RANGE_LOCK),
    row("READ CAPACITY(16)", &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0x04])
        .service_action()
        .allocation(10, 4)
        .flags(ANY_PR.union(CommandFlags::RESERVED_OK)),
    row("READ LONG(16)", &[0x9e, 0x11, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff, 0x03, 0x04])
        .service_action()
        .allocation(12, 2)
        .range(LBA_8, None)
        .flags(MEDIUM.union(WE)),
    row(
        "GET LBA STATUS(16)",
        &[0x9e, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x04],
    )
    .service_action()
    .allocation(10, 4)
    .range(LBA_8, None)
    .flags(WE),
    row(
        "REPORT REFERRALS",
        &[0x9e, 0x13, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 4],
    )
    .service_action()
    .allocation(10, 4)
    .flags(ANY_PR),
    row("WRITE LONG(16)", &[0x9f, 0xf1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0x04])
        .service_action()
        .parameters(12, 2)
        .range(LBA_8, None)
        .flags(WRITES),
    read("READ(12)", &usage_12(0xa8, 0x18), LBA_4, LEN_12),
    write("WRITE(12)", &usage_12(0xaa, 0x18), LBA_4, LEN_12),
    write("WRITE AND VERIFY(12)", &usage_12(0xae, 0x16), LBA_4, LEN_12),
    verify("VERIFY(12)", &usage_12(0xaf, 0x16), LBA_4, LEN_12, 1),
    row("READ DEFECT DATA(12)", &[0xb7, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04])
        .allocation(6, 4)
        .flags(WE),
];
