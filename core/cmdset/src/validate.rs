//! The one place where ranges, lengths and write protection are checked.

use scst_scsi::{Asc, CommandFlags, SenseData, SenseKey};

use crate::command::{BlockRange, DiskCommand, ParsedCommand, WriteSame};
use crate::params::{DiskParameters, DiskState, Geometry, Provisioning};

/// Whether all of `range` exists. An empty range is good up to and including the block after the last (SBC-4 4.20.1:
/// a TRANSFER LENGTH of zero is not an error).
///
/// # Errors
/// LOGICAL BLOCK ADDRESS OUT OF RANGE; INFORMATION is the first block that does not exist.
pub fn check_range(range: BlockRange, geometry: &Geometry) -> Result<(), SenseData> {
    match range.lba.checked_add(range.blocks) {
        Some(end) if end <= geometry.blocks => Ok(()),
        _ => Err(SenseData::lba_out_of_range(range.lba.max(geometry.blocks))),
    }
}

/// See [`ParsedCommand::admit`].
pub(crate) fn admit(parsed: &ParsedCommand, disk: &DiskParameters, state: &DiskState) -> Result<(), SenseData> {
    if !state.medium_present && needs_medium(&parsed.command) {
        return Err(no_medium());
    }
    if parsed.flags.contains(CommandFlags::WRITES_MEDIUM) {
        check_writable(disk.read_only || state.read_only, state.software_write_protect)?;
    }
    if let DiskCommand::WriteSame(same) = &parsed.command {
        check_provisioning(same, disk.provisioning.as_ref())?;
    }
    match parsed.command.range() {
        Some(range) => check_range(range, &state.geometry),
        None => Ok(()),
    }
}

fn needs_medium(command: &DiskCommand) -> bool {
    use DiskCommand as C;
    let with_medium =
        matches!(command, C::TestUnitReady | C::ReadCapacity10 | C::ReadCapacity16 { .. } | C::Unmap { .. });
    with_medium || command.range().is_some()
}

/// WRITE SAME that unmaps needs a thin provisioned disk; that anchors, one that can (SBC-4 5.48).
fn check_provisioning(same: &WriteSame, provisioning: Option<&Provisioning>) -> Result<(), SenseData> {
    match provisioning {
        None if same.unmap => Err(SenseData::invalid_field_in_cdb(1, Some(3))),
        Some(thin) if same.anchor && !thin.anchor => Err(SenseData::invalid_field_in_cdb(1, Some(4))),
        _ => Ok(()),
    }
}

/// Whether the medium may be changed.
///
/// # Errors
/// WRITE PROTECTED, or LOGICAL UNIT SOFTWARE WRITE PROTECTED (SBC-4 6.5.7, SWP).
pub fn check_writable(read_only: bool, swp: bool) -> Result<(), SenseData> {
    if read_only {
        Err(SenseData::write_protected())
    } else if swp {
        Err(SenseData::new(SenseKey::DATA_PROTECT, Asc::SOFTWARE_WRITE_PROTECTED))
    } else {
        Ok(())
    }
}

/// NOT READY, MEDIUM NOT PRESENT.
pub fn no_medium() -> SenseData {
    SenseData::not_ready(Asc::MEDIUM_NOT_PRESENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: Geometry = Geometry { block_size: 512, blocks: 1000 };

    fn check(lba: u64, blocks: u64) -> Result<(), u64> {
        check_range(BlockRange { lba, blocks }, &DISK).map_err(|sense| {
            assert_eq!((sense.key, sense.asc), (SenseKey::ILLEGAL_REQUEST, Asc(0x2100)));
            sense.information.expect("the LBA")
        })
    }

    #[test]
    fn a_range_ends_at_the_last_block() {
        assert_eq!(check(0, 1000), Ok(()));
        assert_eq!(check(999, 1), Ok(()));
        assert_eq!(check(999, 2), Err(1000));
        assert_eq!(check(0, 1001), Err(1000));
        assert_eq!(check(1001, 1), Err(1001));
    }

    #[test]
    fn an_empty_range_may_start_behind_the_last_block_but_not_further() {
        assert_eq!(check(1000, 0), Ok(()));
        assert_eq!(check(1001, 0), Err(1001));
        assert_eq!(check(u64::MAX, 0), Err(u64::MAX));
    }

    #[test]
    fn the_end_of_a_range_does_not_wrap() {
        assert_eq!(check(u64::MAX, 1), Err(u64::MAX));
        assert_eq!(check(u64::MAX, 2), Err(u64::MAX));
        assert_eq!(check(1 << 63, 1 << 63), Err(1 << 63));
        assert_eq!(check(1, u64::MAX), Err(1000));
    }

    #[test]
    fn write_protection_tells_why() {
        assert_eq!(check_writable(false, false), Ok(()));
        assert_eq!(check_writable(true, true).unwrap_err().asc, Asc(0x2700));
        let soft = check_writable(false, true).unwrap_err();
        assert_eq!((soft.key, soft.asc), (SenseKey::DATA_PROTECT, Asc(0x2702)));
    }

    fn admitted(cdb: &[u8], disk: &DiskParameters, state: &DiskState) -> Result<(), SenseData> {
        crate::parse(&scst_scsi::Cdb::new(cdb), disk).expect("a valid CDB").admit(disk, state)
    }

    const READY: DiskState =
        DiskState { geometry: DISK, medium_present: true, read_only: false, software_write_protect: false };
    const READ: [u8; 10] = [0x28, 0, 0, 0, 0x03, 0xe7, 0, 0, 2, 0];
    const WRITE: [u8; 10] = [0x2a, 0, 0, 0, 0x03, 0xe7, 0, 0, 2, 0];

    #[test]
    fn without_a_medium_only_commands_that_need_none_run() {
        let disk = DiskParameters::new("d", "", 512);
        let state = DiskState { medium_present: false, read_only: true, ..READY };
        for cdb in [&READ[..], &WRITE, &[0; 6], &[0x25; 1], &[0x35; 1]] {
            let mut bytes = [0; 10];
            bytes[..cdb.len()].copy_from_slice(cdb);
            assert_eq!(admitted(&bytes, &disk, &state), Err(no_medium()), "{bytes:02x?}");
        }
        for cdb in [[0x12, 0, 0, 0, 36, 0], [0x1b, 0, 0, 0, 1, 0], [0x1e, 0, 0, 0, 1, 0], [0x1a, 0, 8, 0, 99, 0]] {
            assert_eq!(admitted(&cdb, &disk, &state), Ok(()));
        }
    }

    #[test]
    fn write_protection_comes_before_the_range() {
        let mut disk = DiskParameters::new("d", "", 512);
        assert_eq!(admitted(&WRITE, &disk, &READY), Err(SenseData::lba_out_of_range(1000)));
        let locked = DiskState { read_only: true, ..READY };
        assert_eq!(admitted(&WRITE, &disk, &locked), Err(SenseData::write_protected()));
        assert_eq!(admitted(&READ, &disk, &locked), Err(SenseData::lba_out_of_range(1000)));
        let swp = DiskState { software_write_protect: true, ..READY };
        assert_eq!(admitted(&WRITE, &disk, &swp).unwrap_err().asc, Asc(0x2702));
        disk.read_only = true;
        assert_eq!(admitted(&WRITE, &disk, &READY), Err(SenseData::write_protected()));
        let write_same_unmap = [0x41, 0x08, 0, 0, 0, 0, 0, 0, 1, 0];
        assert_eq!(admitted(&write_same_unmap, &disk, &READY), Err(SenseData::write_protected()));
    }

    #[test]
    fn write_same_unmaps_and_anchors_only_what_can() {
        let mut disk = DiskParameters::new("d", "", 512);
        let (unmap, anchor) = ([0x41, 0x08, 0, 0, 0, 0, 0, 0, 1, 0], [0x41, 0x18, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(admitted(&unmap, &disk, &READY), Err(SenseData::invalid_field_in_cdb(1, Some(3))));
        let mut thin =
            Provisioning { granularity: 8, alignment: 0, max_unmap_blocks: 1000, reads_zeros: true, anchor: false };
        disk.provisioning = Some(thin);
        assert_eq!(admitted(&unmap, &disk, &READY), Ok(()));
        assert_eq!(admitted(&anchor, &disk, &READY), Err(SenseData::invalid_field_in_cdb(1, Some(4))));
        thin.anchor = true;
        disk.provisioning = Some(thin);
        assert_eq!(admitted(&anchor, &disk, &READY), Ok(()));
    }

    #[test]
    fn lba_status_needs_a_block_that_exists() {
        let disk = DiskParameters::new("d", "", 512);
        let status = |lba: u8| {
            let mut cdb = [0; 16];
            (cdb[0], cdb[1], cdb[8], cdb[9], cdb[13]) = (0x9e, 0x12, 3, lba, 24);
            admitted(&cdb, &disk, &READY)
        };
        assert_eq!(status(0xe7), Ok(()));
        assert_eq!(status(0xe8), Err(SenseData::lba_out_of_range(1000)));
    }
}
