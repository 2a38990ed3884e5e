//! REPORT SUPPORTED OPERATION CODES (SPC-6 6.42) and REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (6.43).

use bitflags::bitflags;

use super::descriptor::{CommandDescriptor, Timeout};
use super::table::OpcodeTable;
use crate::bytes::Writer;
use crate::cdb::Cdb;
use crate::sense::SenseData;

/// Length of the command timeouts descriptor without its length field (SPC-6 table 217).
const TIMEOUTS_LENGTH: u16 = 10;

/// Builds the parameter data that a REPORT SUPPORTED OPERATION CODES CDB asks for, of the rows that `supported` picks.
/// The writer stands for the data-in buffer, cut at the allocation length.
///
/// # Errors
/// Invalid REPORTING OPTIONS, or options that do not fit the operation code (SPC-6 table 213).
pub fn encode_supported_opcodes(
    table: &OpcodeTable,
    supported: &dyn Fn(&CommandDescriptor) -> bool,
    cdb: &Cdb,
    w: &mut Writer<'_>,
) -> Result<(), SenseData> {
    let timeouts = cdb.bit(2, 7);
    let (opcode, action) = (cdb.u8(3), cdb.u16(4));
    let rows = |opcode: u8| table.with_opcode(opcode).filter(|row| supported(row));
    let has_actions = rows(opcode).any(|row| row.service_action.is_some());
    let exists = rows(opcode).next().is_some();
    let found = match cdb.bits(2, 2, 0) {
        0b000 => {
            encode_all(w, timeouts, (0..=0xff).flat_map(rows));
            return Ok(());
        }
        0b001 if has_actions => return Err(SenseData::invalid_field_in_cdb(2, Some(2))),
        0b001 => rows(opcode).next(),
        0b010 if exists && !has_actions => return Err(SenseData::invalid_field_in_cdb(2, Some(2))),
        0b010 => rows(opcode).find(|row| row.service_action == Some(action)),
        0b011 => rows(opcode).find(|row| row.service_action.unwrap_or(0) == action),
        _ => return Err(SenseData::invalid_field_in_cdb(2, Some(2))),
    };
    encode_one(w, timeouts, found);
    Ok(())
}

/// The all_commands parameter data format (SPC-6 6.42.2).
fn encode_all(w: &mut Writer<'_>, timeouts: bool, rows: impl Iterator<Item = &'static CommandDescriptor>) {
    let start = w.position();
    w.u32(0);
    for row in rows {
        // CTDP in bit 1, SERVACTV in bit 0.
        let flags = u8::from(timeouts) << 1 | u8::from(row.service_action.is_some());
        w.u8(row.opcode).u8(0).u16(row.service_action.unwrap_or(0)).u8(0).u8(flags).u16(u16::from(row.cdb_length));
        if timeouts {
            encode_timeouts(w, row.timeout);
        }
    }
    w.patch_length_u32(start);
}

/// The one_command parameter data format (SPC-6 6.42.3).
fn encode_one(w: &mut Writer<'_>, timeouts: bool, row: Option<&CommandDescriptor>) {
    /// SUPPORT: not supported; supported in conformance with a standard.
    const NOT_SUPPORTED: u8 = 0b001;
    const SUPPORTED: u8 = 0b011;
    let Some(row) = row else {
        w.u8(0).u8(NOT_SUPPORTED).u16(0);
        return;
    };
    w.u8(0).u8(u8::from(timeouts) << 7 | SUPPORTED).u16(u16::from(row.cdb_length)).bytes(row.usage);
    if timeouts {
        encode_timeouts(w, row.timeout);
    }
}

fn encode_timeouts(w: &mut Writer<'_>, timeout: Timeout) {
    w.u16(TIMEOUTS_LENGTH).u16(0).u32(timeout.nominal).u32(timeout.recommended);
}

bitflags! {
    /// Task management functions that a logical unit supports, as bytes 0 and 1 of the parameter data (SPC-6 table 220).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct SupportedTmfs: u16 {
        /// ATS: ABORT TASK.
        const ABORT_TASK = 1 << 15;
        /// ATSS: ABORT TASK SET.
        const ABORT_TASK_SET = 1 << 14;
        /// CACAS: CLEAR ACA.
        const CLEAR_ACA = 1 << 13;
        /// CTSS: CLEAR TASK SET.
        const CLEAR_TASK_SET = 1 << 12;
        /// LURS: LOGICAL UNIT RESET.
        const LOGICAL_UNIT_RESET = 1 << 11;
        /// QTS: QUERY TASK.
        const QUERY_TASK = 1 << 10;
        /// TRS: TARGET RESET.
        const TARGET_RESET = 1 << 9;
        /// QAES: QUERY ASYNCHRONOUS EVENT.
        const QUERY_ASYNCHRONOUS_EVENT = 1 << 2;
        /// QTSS: QUERY TASK SET.
        const QUERY_TASK_SET = 1 << 1;
        /// ITNRS: I_T NEXUS RESET.
        const IT_NEXUS_RESET = 1 << 0;
    }
}

/// Timeouts of task management functions, in units of 100 ms (SPC-6 table 221).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TmfTimeouts {
    /// TASK MANAGEMENT FUNCTIONS LONG TIMEOUT.
    pub long: u32,
    /// TASK MANAGEMENT FUNCTIONS SHORT TIMEOUT.
    pub short: u32,
    /// The functions that take the short one.
    pub short_for: SupportedTmfs,
}

impl TmfTimeouts {
    /// 30 seconds for what waits for commands to end, 15 for the rest, as the original recommends.
    pub const RECOMMENDED: Self = Self {
        long: 300,
        short: 150,
        short_for: SupportedTmfs::CLEAR_ACA
            .union(SupportedTmfs::QUERY_TASK)
            .union(SupportedTmfs::QUERY_TASK_SET)
            .union(SupportedTmfs::QUERY_ASYNCHRONOUS_EVENT),
    };
}

/// Builds the parameter data: 4 bytes, or 16 with timeouts when REPD of the CDB (byte 2, bit 7) is set.
pub fn encode_supported_tmfs(supported: SupportedTmfs, timeouts: TmfTimeouts, cdb: &Cdb, w: &mut Writer<'_>) {
    let repd = cdb.bit(2, 7);
    w.u16(supported.bits()).u8(0).u8(if repd { 12 } else { 0 });
    if repd {
        // TMFTMOV: the timeouts are valid.
        let short = timeouts.short_for & supported;
        w.u8(1).u8(0).u16(short.bits()).u32(timeouts.long).u32(timeouts.short);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opcode::DISK;

    fn report(options: u8, opcode: u8, action: u16) -> Result<Vec<u8>, SenseData> {
        let only = |row: &CommandDescriptor| matches!(row.opcode, 0x00 | 0x28 | 0x9e) && row.name != "READ LONG(16)";
        let [high, low] = action.to_be_bytes();
        let cdb = Cdb::new(&[0xa3, 0x0c, options, opcode, high, low, 0, 0, 0xff, 0xff, 0, 0]);
        let mut out = [0; 256];
        let mut w = Writer::new(&mut out);
        encode_supported_opcodes(&DISK, &only, &cdb, &mut w)?;
        let length = w.written();
        Ok(out[..length].to_vec())
    }

    #[test]
    fn all_commands_are_sorted_by_opcode() {
        let expected = [
            [0x00, 0, 0, 0, 0, 0, 0, 6],
            [0x28, 0, 0, 0, 0, 0, 0, 10],
            [0x9e, 0, 0, 0x10, 0, 1, 0, 16],
            [0x9e, 0, 0, 0x12, 0, 1, 0, 16],
            [0x9e, 0, 0, 0x13, 0, 1, 0, 16],
        ];
        let data = report(0, 0, 0).unwrap();
        assert_eq!(data[..4], [0, 0, 0, 40]);
        assert_eq!(data[4..], *expected.as_flattened());
    }

    #[test]
    fn all_commands_with_timeouts() {
        let data = report(0x80, 0, 0).unwrap();
        assert_eq!(data[..4], [0, 0, 0, 100]);
        assert_eq!(data[4..24], [0, 0, 0, 0, 0, 2, 0, 6, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 30]);
    }

    #[test]
    fn one_command_with_and_without_service_action() {
        let usage = [0x28, 0x18, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0x04];
        let data = report(1, 0x28, 0).unwrap();
        assert_eq!((&data[..4], &data[4..]), (&[0, 3, 0, 10][..], &usage[..]));
        assert_eq!(report(3, 0x28, 0).unwrap(), data);
        let data = report(0x82, 0x9e, 0x10).unwrap();
        assert_eq!(data[..6], [0, 0x83, 0, 16, 0x9e, 0x10]);
        assert_eq!(data[20..], [0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 30]);
        assert_eq!(report(3, 0x9e, 0x12).unwrap()[..4], [0, 3, 0, 16]);
    }

    #[test]
    fn what_is_not_supported_says_so() {
        let no = vec![0, 1, 0, 0];
        assert_eq!(report(1, 0x2a, 0), Ok(no.clone()));
        assert_eq!(report(2, 0x9e, 0x11), Ok(no.clone()));
        assert_eq!(report(2, 0x2a, 5), Ok(no.clone()));
        assert_eq!(report(3, 0x28, 1), Ok(no));
    }

    #[test]
    fn options_that_do_not_fit_the_opcode_are_refused() {
        let refused = Err(SenseData::invalid_field_in_cdb(2, Some(2)));
        assert_eq!(report(1, 0x9e, 0), refused);
        assert_eq!(report(2, 0x28, 0), refused);
        assert_eq!(report(4, 0x28, 0), refused);
    }

    #[test]
    fn task_management_functions_in_both_forms() {
        let supported = SupportedTmfs::ABORT_TASK | SupportedTmfs::QUERY_TASK | SupportedTmfs::IT_NEXUS_RESET;
        let emit = |byte: u8| {
            let mut out = [0; 16];
            let mut w = Writer::new(&mut out);
            encode_supported_tmfs(supported, TmfTimeouts::RECOMMENDED, &Cdb::new(&[0xa3, 0x0d, byte]), &mut w);
            let length = w.written();
            out[..length].to_vec()
        };
        assert_eq!(emit(0), [0x84, 0x01, 0, 0]);
        assert_eq!(emit(0x80), [0x84, 0x01, 0, 12, 1, 0, 0x04, 0, 0, 0, 1, 44, 0, 0, 0, 150]);
    }
}
