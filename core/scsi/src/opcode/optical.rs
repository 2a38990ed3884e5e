//! Commands of optical memory devices: the part of SBC that they share with disks, and their own (SBC, the last
//! standard that has them; the SPC annex of operation codes keeps theirs).

use super::descriptor::{CommandDescriptor, DataLength, Field};
use super::sbc::{LBA_4, LEN_10, LEN_12, MEDIUM, WE, WRITES};
use crate::flags::DataDirection;

const fn row(name: &'static str, usage: &'static [u8]) -> CommandDescriptor {
    CommandDescriptor::new(name, usage)
}

/// Whether a row of SBC is one of optical memory devices too.
pub(super) const fn shares(row: &CommandDescriptor) -> bool {
    match row.opcode {
        0x04 | 0x07 | 0x08 | 0x0a | 0x1b | 0x1e => true,
        0x25 | 0x28 | 0x2a | 0x2e | 0x2f | 0x34 | 0x35 | 0x37 | 0x3e | 0x3f => true,
        0x88 | 0x8a | 0x8e | 0x8f | 0x90 | 0x91 => true,
        // READ CAPACITY(16) alone.
        0x9e => matches!(row.service_action, Some(0x10)),
        0xa8 | 0xaa | 0xae | 0xaf | 0xb7 => true,
        _ => false,
    }
}

/// The rows that disks do not have.
pub(super) const ROWS: &[CommandDescriptor] = &[
    // ERA, erase all: from the block to the end.
    row("ERASE(10)", &[0x2c, 0x04, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04])
        .range(LBA_4, Some(LEN_10))
        .flags(WRITES)
        .timeout(3600),
    row("READ UPDATED BLOCK(10)", &[0x2d, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04])
        .data(DataDirection::FromDevice, DataLength::OneBlock(None))
        .range(LBA_4, None)
        .flags(MEDIUM.union(WE)),
    row("MEDIUM SCAN", &[0x38, 0x1e, 0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0x04])
        .data(DataDirection::ToDevice, DataLength::ParameterList(Field::new(8, 1)))
        .range(LBA_4, None)
        .flags(MEDIUM.union(WE)),
    row("UPDATE BLOCK", &[0x3d, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0x04])
        .data(DataDirection::ToDevice, DataLength::OneBlock(None))
        .range(LBA_4, None)
        .flags(WRITES),
    row("ERASE(12)", &[0xac, 0x04, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x04])
        .range(LBA_4, Some(LEN_12))
        .flags(WRITES)
        .timeout(3600),
];
