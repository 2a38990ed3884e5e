//! Which rows of the opcode table a disk has, and the commands that report it (SPC-6 6.42, 6.43).

use scst_scsi::bytes::Writer;
use scst_scsi::opcode::{
    CommandDescriptor, OpcodeTable, SupportedTmfs, TmfTimeouts, encode_supported_opcodes, encode_supported_tmfs,
};
use scst_scsi::{Cdb, CommandFlags, DeviceType, SenseData};

use crate::params::{DiskParameters, finish};

/// UNMAP is there only when the disk is thin provisioned.
const UNMAP: u8 = 0x42;

/// Operation codes that are implemented with all their rows.
const SUPPORTED: [u8; 38] = [
    0x00,
    0x08,
    0x0a,
    0x12,
    0x15,
    0x1a,
    0x1b,
    0x1d,
    0x1e,
    0x25,
    0x28,
    0x2a,
    0x2c,
    0x2e,
    0x2f,
    0x34,
    0x35,
    0x41,
    UNMAP,
    0x4d,
    0x55,
    0x5a,
    0x88,
    0x89,
    0x8a,
    0x8b,
    0x8e,
    0x8f,
    0x90,
    0x91,
    0x93,
    0xa8,
    0xaa,
    0xac,
    0xae,
    0xaf,
    SERVICE_ACTION_IN_16,
    MAINTENANCE_IN,
];

const SERVICE_ACTION_IN_16: u8 = 0x9e;
const MAINTENANCE_IN: u8 = 0xa3;

const IS_SUPPORTED: [bool; 256] = {
    let mut set = [false; 256];
    let mut at = 0;
    while at < SUPPORTED.len() {
        set[SUPPORTED[at] as usize] = true;
        at += 1;
    }
    set
};

/// The table of the disk's device type.
fn table(disk: &DiskParameters) -> &'static OpcodeTable {
    OpcodeTable::for_device(disk.device_type)
}

/// Operation codes of a tape that are implemented with all their rows.
const SUPPORTED_BY_TAPE: [u8; 21] = [
    0x00,
    0x01,
    0x05,
    0x08,
    0x0a,
    0x10,
    0x11,
    0x12,
    0x15,
    0x19,
    0x1a,
    0x1b,
    0x1d,
    0x1e,
    0x2b,
    0x34,
    0x44,
    0x4d,
    0x55,
    0x5a,
    MAINTENANCE_IN,
];

/// Whether the disk, or the mid-level on its behalf, does the command of a row.
pub fn is_supported(row: &CommandDescriptor, disk: &DiskParameters) -> bool {
    if row.flags.contains(CommandFlags::CORE) {
        return disk.mid_level_opcodes.contains(&row.opcode);
    }
    match (row.opcode, row.service_action) {
        (UNMAP, _) => disk.provisioning.is_some(),
        // READ CAPACITY (16), GET LBA STATUS (16).
        (SERVICE_ACTION_IN_16, Some(action)) => matches!(action, 0x10 | 0x12),
        // REPORT SUPPORTED OPERATION CODES, REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS.
        (MAINTENANCE_IN, Some(action)) => matches!(action, 0x0c | 0x0d),
        (opcode, _) if disk.device_type == DeviceType::TAPE => SUPPORTED_BY_TAPE.contains(&opcode),
        (opcode, _) => IS_SUPPORTED[usize::from(opcode)],
    }
}

/// The row of a CDB.
///
/// # Errors
/// INVALID COMMAND OPERATION CODE, or INVALID FIELD IN CDB at the service action when the disk has others of that
/// operation code.
pub(crate) fn find(cdb: &Cdb, disk: &DiskParameters) -> Result<&'static CommandDescriptor, SenseData> {
    let found = table(disk).lookup(cdb);
    if let Ok(row) = found
        && is_supported(row, disk)
    {
        return Ok(row);
    }
    if !table(disk).with_opcode(cdb.opcode()).any(|row| is_supported(row, disk)) {
        return Err(SenseData::invalid_opcode());
    }
    match found {
        Ok(_) => Err(SenseData::invalid_field_in_cdb(1, Some(4))),
        Err(error) => Err(error.sense()),
    }
}

/// Answers REPORT SUPPORTED OPERATION CODES. Returns the bytes to send.
///
/// # Errors
/// INVALID FIELD IN CDB at REPORTING OPTIONS.
pub fn report_opcodes(cdb: &Cdb, disk: &DiskParameters, allocation: u32, buf: &mut [u8]) -> Result<usize, SenseData> {
    let mut out = Writer::new(buf);
    encode_supported_opcodes(table(disk), &|row| is_supported(row, disk), cdb, &mut out)?;
    Ok(finish(&out, allocation))
}

/// Answers REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS; `supported` is what the mid-level and the transport do.
pub fn report_tmfs(cdb: &Cdb, supported: SupportedTmfs, allocation: u32, buf: &mut [u8]) -> usize {
    let mut out = Writer::new(buf);
    encode_supported_tmfs(supported, TmfTimeouts::RECOMMENDED, cdb, &mut out);
    finish(&out, allocation)
}
