//! Every command, field by field.

use super::*;
use crate::params::Provisioning;

fn disk() -> DiskParameters {
    DiskParameters {
        provisioning: Some(Provisioning {
            granularity: 8,
            alignment: 0,
            max_unmap_blocks: 8192,
            reads_zeros: true,
            anchor: true,
        }),
        ..DiskParameters::new("d", "", 512)
    }
}

fn read(cdb: &[u8]) -> Result<ParsedCommand, SenseData> {
    parse(&Cdb::new(cdb), &disk())
}

fn ok(cdb: &[u8]) -> ParsedCommand {
    read(cdb).unwrap_or_else(|sense| panic!("{cdb:02x?}: {sense:?}"))
}

fn command(cdb: &[u8]) -> DiskCommand {
    ok(cdb).command
}

/// Byte and bit that the sense data of a refused CDB point at.
fn refused(cdb: &[u8]) -> (u16, Option<u8>) {
    let sense = read(cdb).expect_err("refused");
    let Some(scst_scsi::sense::SenseKeySpecific::Field(field)) = sense.specific else { panic!("{sense:?}") };
    assert_eq!(sense, SenseData::invalid_field_in_cdb(field.byte, field.bit));
    (field.byte, field.bit)
}

fn cdb_16(opcode: u8, byte_1: u8, lba: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (opcode, byte_1);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

fn range(lba: u64, blocks: u64) -> BlockRange {
    BlockRange { lba, blocks }
}

#[test]
fn reads_of_all_lengths() {
    let plain = |range| DiskCommand::Read { range, fua: false, dpo: false };
    let six = ok(&[0x08, 0x1f, 0x02, 0x03, 4, 0]);
    assert_eq!(six.command, plain(range(0x1f_0203, 4)));
    assert_eq!((six.direction, six.length, six.lba, six.blocks), (DataDirection::FromDevice, 2048, 0x1f_0203, 4));
    assert_eq!(command(&[0x28, 0, 1, 2, 3, 4, 0, 0x10, 0, 0]), plain(range(0x0102_0304, 0x1000)));
    assert_eq!(command(&[0xa8, 0, 1, 2, 3, 4, 0, 0, 0x10, 0, 0, 0]), plain(range(0x0102_0304, 0x1000)));
    assert_eq!(command(&cdb_16(0x88, 0, 0x0102_0304_0506_0708, 9)), plain(range(0x0102_0304_0506_0708, 9)));
    let flags = ok(&cdb_16(0x88, 0x18, 0, 1));
    assert_eq!(flags.command, DiskCommand::Read { range: range(0, 1), fua: true, dpo: true });
    assert!(flags.flags.contains(CommandFlags::FLUSH | CommandFlags::MEDIUM_ACCESS));
    assert!(!six.flags.contains(CommandFlags::FLUSH));
}

#[test]
fn writes_of_all_lengths() {
    let plain = |range| DiskCommand::Write { range, fua: false, dpo: false };
    let six = ok(&[0x0a, 0, 0, 3, 4, 0]);
    assert_eq!((six.command, six.direction, six.length), (plain(range(3, 4)), DataDirection::ToDevice, 2048));
    assert!(six.flags.contains(CommandFlags::WRITES_MEDIUM));
    assert_eq!(command(&[0x2a, 0, 1, 2, 3, 4, 0, 0x10, 0, 0]), plain(range(0x0102_0304, 0x1000)));
    assert_eq!(command(&[0xaa, 0, 1, 2, 3, 4, 0, 0, 0x10, 0, 0, 0]), plain(range(0x0102_0304, 0x1000)));
    assert_eq!(command(&cdb_16(0x8a, 0, u64::MAX, 9)), plain(range(u64::MAX, 9)));
    let fua = DiskCommand::Write { range: range(0, 1), fua: true, dpo: false };
    assert_eq!(command(&[0x2a, 0x08, 0, 0, 0, 0, 0, 0, 1, 0]), fua);
}

#[test]
fn a_length_of_zero_is_256_in_six_bytes_and_nothing_elsewhere() {
    assert_eq!(ok(&[0x08, 0, 0, 0, 0, 0]).length, 256 * 512);
    assert_eq!(ok(&[0x0a, 0, 0, 0, 0, 0]).blocks, 256);
    for cdb in [cdb_16(0x88, 0, 7, 0), cdb_16(0x8a, 0, 7, 0), cdb_16(0x8f, 2, 7, 0), cdb_16(0x8b, 0, 7, 0)] {
        let parsed = ok(&cdb);
        assert_eq!((parsed.direction, parsed.length, parsed.blocks), (DataDirection::None, 0, 0));
    }
}

#[test]
fn protection_information_is_refused_at_its_leftmost_bit() {
    for protect in 1..8 {
        for opcode in [0x28, 0x2a, 0x2e, 0x2f, 0x41] {
            assert_eq!(refused(&[opcode, protect << 5, 0, 0, 0, 0, 0, 0, 1, 0]), (1, Some(7)));
        }
        for opcode in [0x88, 0x89, 0x8a, 0x8b, 0x8e, 0x8f, 0x93] {
            assert_eq!(refused(&cdb_16(opcode, protect << 5, 0, 1)), (1, Some(7)));
        }
        for opcode in [0xa8, 0xaa, 0xae, 0xaf] {
            assert_eq!(refused(&[opcode, protect << 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]), (1, Some(7)));
        }
    }
}

#[test]
fn a_transfer_is_at_most_8_mib() {
    assert_eq!(ok(&cdb_16(0x88, 0, 0, 16384)).length, 8 << 20);
    assert_eq!(refused(&cdb_16(0x88, 0, 0, 16385)), (10, None));
    assert_eq!(refused(&cdb_16(0x8a, 0, 0, u32::MAX)), (10, None));
    assert_eq!(refused(&[0x2a, 0, 0, 0, 0, 0, 0, 0x40, 0x01, 0]), (7, None));
    assert_eq!(refused(&[0xa8, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x01, 0, 0]), (6, None));
    assert_eq!(refused(&cdb_16(0x8f, 0x02, 0, 16385)), (10, None));
    assert_eq!(ok(&cdb_16(0x8f, 0x00, 0, u32::MAX)).length, 0, "nothing is transferred");
}

#[test]
fn old_and_advisory_bits_are_passed_over() {
    assert_eq!(command(&[0x28, 0x06, 0, 0, 0, 0, 0, 0, 1, 0]), command(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]));
    assert_eq!(command(&[0x35, 0x04, 0, 0, 0, 0, 0, 0, 1, 0]), command(&[0x35, 0, 0, 0, 0, 0, 0, 0, 1, 0]));
    assert!(read(&[0x34, 0, 0, 0, 0, 0, 3, 0, 1, 0]).is_ok(), "GROUP NUMBER");
    assert_eq!(refused(&[0x28, 0x01, 0, 0, 0, 0, 0, 0, 1, 0]), (1, Some(0)), "RELADR");
}

#[test]
fn naca_is_an_invalid_field_without_aca() {
    assert_eq!(refused(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0x04]), (9, Some(2)));
    assert_eq!(refused(&[0x00, 0, 0, 0, 0, 0x04]), (5, Some(2)));
    let aca = DiskParameters { normal_aca: true, ..disk() };
    assert!(parse(&Cdb::new(&[0x00, 0, 0, 0, 0, 0x04]), &aca).is_ok());
}

#[test]
fn verify_has_three_kinds_of_data() {
    let verify = |byte_1| {
        let parsed = ok(&[0x2f, byte_1, 0, 0, 0, 1, 0, 0, 3, 0]);
        let DiskCommand::Verify { range, check, dpo } = parsed.command else { panic!("{parsed:?}") };
        assert_eq!(range, self::range(1, 3));
        (check, dpo, parsed.direction, parsed.length)
    };
    assert_eq!(verify(0x00), (VerifyCheck::Medium, false, DataDirection::None, 0));
    assert_eq!(verify(0x12), (VerifyCheck::Compare, true, DataDirection::ToDevice, 1536));
    assert_eq!(verify(0x06), (VerifyCheck::CompareOne, false, DataDirection::ToDevice, 512));
    assert_eq!(refused(&[0x2f, 0x04, 0, 0, 0, 1, 0, 0, 3, 0]), (1, Some(2)));
}

#[test]
fn write_and_verify_always_has_data_and_is_durable() {
    for (byte_1, check) in [(0x00, VerifyCheck::Medium), (0x02, VerifyCheck::Compare)] {
        let parsed = ok(&[0x2e, byte_1, 0, 0, 0, 1, 0, 0, 3, 0]);
        assert_eq!(parsed.command, DiskCommand::WriteAndVerify { range: range(1, 3), check, dpo: false });
        assert_eq!(parsed.length, 1536);
        assert!(parsed.flags.contains(CommandFlags::FLUSH));
    }
    assert_eq!(refused(&[0x2e, 0x04, 0, 0, 0, 1, 0, 0, 3, 0]), (1, Some(2)));
    assert_eq!(refused(&[0x2e, 0x06, 0, 0, 0, 1, 0, 0, 3, 0]), (1, Some(2)));
}

#[test]
fn cache_commands() {
    let sync = DiskCommand::SynchronizeCache { range: range(2, 0), immed: true };
    assert_eq!(command(&[0x35, 0x02, 0, 0, 0, 2, 0, 0, 0, 0]), sync);
    assert_eq!(command(&cdb_16(0x91, 0x02, 2, 0)), sync);
    assert!(ok(&[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]).flags.contains(CommandFlags::FLUSH));
    let fetch = DiskCommand::PreFetch { range: range(2, 9), immed: false };
    assert_eq!(command(&[0x34, 0, 0, 0, 0, 2, 0, 0, 9, 0]), fetch);
    assert_eq!(command(&cdb_16(0x90, 0, 2, 9)), fetch);
    assert_eq!(ok(&cdb_16(0x90, 0, 2, u32::MAX)).direction, DataDirection::None);
}

#[test]
fn compare_and_write_has_twice_the_data() {
    let mut cdb = cdb_16(0x89, 0x08, 7, 0);
    cdb[13] = 255;
    let parsed = ok(&cdb);
    assert_eq!(parsed.command, DiskCommand::CompareAndWrite { range: range(7, 255), fua: true, dpo: false });
    assert_eq!((parsed.length, parsed.blocks), (2 * 255 * 512, 255));
    assert!(parsed.flags.contains(CommandFlags::RANGE_LOCK));
    let large = DiskParameters::new("d", "", 65536);
    cdb[13] = 64;
    assert_eq!(parse(&Cdb::new(&cdb), &large).unwrap().length, 8 << 20);
    cdb[13] = 65;
    assert_eq!(parse(&Cdb::new(&cdb), &large), Err(SenseData::invalid_field_in_cdb(13, None)));
}

#[test]
fn orwrite() {
    let parsed = ok(&cdb_16(0x8b, 0x10, 7, 2));
    assert_eq!(parsed.command, DiskCommand::OrWrite { range: range(7, 2), fua: false, dpo: true });
    assert_eq!((parsed.length, parsed.direction), (1024, DataDirection::ToDevice));
}

#[test]
fn write_same_bits() {
    let same = |byte_1| {
        let parsed = ok(&cdb_16(0x93, byte_1, 5, 100));
        let DiskCommand::WriteSame(same) = parsed.command else { panic!("{parsed:?}") };
        assert_eq!(same.range, range(5, 100));
        (same.unmap, same.anchor, same.no_data, parsed.length)
    };
    assert_eq!(same(0x00), (false, false, false, 512));
    assert_eq!(same(0x08), (true, false, false, 512));
    assert_eq!(same(0x18), (true, true, false, 512));
    assert_eq!(same(0x01), (false, false, true, 0));
    assert_eq!(refused(&cdb_16(0x93, 0x10, 0, 1)), (1, Some(4)), "ANCHOR without UNMAP");
    assert_eq!(refused(&cdb_16(0x93, 0x04, 0, 1)), (1, Some(2)), "PBDATA");
    assert_eq!(refused(&cdb_16(0x93, 0x02, 0, 1)), (1, Some(1)), "LBDATA");
    assert_eq!(refused(&cdb_16(0x93, 0x00, 0, 0)), (10, None), "WSNZ");
    assert_eq!(refused(&[0x41, 0x01, 0, 0, 0, 0, 0, 0, 1, 0]), (1, Some(0)), "no NDOB in ten bytes");
    assert_eq!(refused(&[0x41, 0x08, 0, 0, 0, 0, 0, 0, 0, 0]), (7, None));
}

#[test]
fn write_same_has_its_own_limit() {
    assert_eq!(ok(&cdb_16(0x93, 0, 0, 65_535)).blocks, 65_535);
    assert_eq!(refused(&cdb_16(0x93, 0, 0, 65_536)), (10, None), "the default");
    let unlimited = DiskParameters { max_write_same_blocks: 0, ..disk() };
    assert!(parse(&Cdb::new(&cdb_16(0x93, 0, 0, u32::MAX)), &unlimited).is_ok());
    let limited = DiskParameters { max_write_same_blocks: 100, ..disk() };
    assert!(parse(&Cdb::new(&cdb_16(0x93, 0, 0, 100)), &limited).is_ok());
    let over = parse(&Cdb::new(&cdb_16(0x93, 0, 0, 101)), &limited);
    assert_eq!(over, Err(SenseData::invalid_field_in_cdb(10, None)));
}

#[test]
fn unmap_is_for_thin_disks() {
    let cdb = [0x42, 0x01, 0, 0, 0, 0, 0, 0, 24, 0];
    let parsed = ok(&cdb);
    assert_eq!(parsed.command, DiskCommand::Unmap { anchor: true, length: 24 });
    assert_eq!((parsed.length, parsed.lba, parsed.blocks), (24, 0, u64::MAX));
    let thick = DiskParameters::new("d", "", 512);
    assert_eq!(parse(&Cdb::new(&cdb), &thick), Err(SenseData::invalid_opcode()));
    let mut no_anchor = disk();
    no_anchor.provisioning = no_anchor.provisioning.map(|p| Provisioning { anchor: false, ..p });
    assert_eq!(parse(&Cdb::new(&cdb), &no_anchor), Err(SenseData::invalid_field_in_cdb(1, Some(0))));
}

#[test]
fn capacity_and_lba_status() {
    assert_eq!(ok(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]).length, 8);
    let parsed = ok(&cdb_16(0x9e, 0x10, 0, 32));
    assert_eq!((parsed.command, parsed.length), (DiskCommand::ReadCapacity16 { allocation: 32 }, 32));
    let huge = ok(&cdb_16(0x9e, 0x10, 0, u32::MAX));
    assert_eq!(huge.length, MAX_RESPONSE_BYTES);
    let status = DiskCommand::GetLbaStatus { lba: 5, allocation: 24 };
    let mut cdb = cdb_16(0x9e, 0x12, 5, 24);
    assert_eq!(command(&cdb), status);
    cdb[14] = 1;
    assert_eq!(refused(&cdb), (14, None), "REPORT TYPE");
    assert_eq!(refused(&cdb_16(0x9e, 0x11, 0, 0)), (1, Some(4)), "READ LONG");
    assert_eq!(refused(&[0x25, 0, 0, 0, 0, 1, 0, 0, 0, 0]), (5, Some(0)), "an LBA means nothing without PMI");
}

#[test]
fn inquiry_pages_need_evpd() {
    assert_eq!(command(&[0x12, 0, 0, 1, 2, 0]), DiskCommand::Inquiry { page: None, allocation: 0x102 });
    let vpd = DiskCommand::Inquiry { page: Some(0x83), allocation: 255 };
    assert_eq!(command(&[0x12, 1, 0x83, 0, 255, 0]), vpd);
    assert_eq!(refused(&[0x12, 0, 1, 1, 0, 0]), (2, None));
    assert_eq!(refused(&[0x12, 2, 0, 1, 0, 0]), (1, Some(1)), "CMDDT");
}

#[test]
fn mode_commands() {
    let sense = ModeSense {
        ten: true,
        no_block_descriptor: true,
        long_lba: true,
        control: 2,
        page: 0x0a,
        subpage: 1,
        allocation: 0x1234,
    };
    assert_eq!(command(&[0x5a, 0x18, 0x8a, 1, 0, 0, 0, 0x12, 0x34, 0]), DiskCommand::ModeSense(sense));
    let six = ModeSense { ten: false, long_lba: false, allocation: 0x34, ..sense };
    assert_eq!(command(&[0x1a, 0x08, 0x8a, 1, 0x34, 0]), DiskCommand::ModeSense(six));
    assert_eq!(refused(&[0x1a, 0x10, 0x8a, 1, 0x34, 0]), (1, Some(4)), "no LLBAA in six bytes");

    let select = ModeSelect { ten: false, save: false, length: 16 };
    assert_eq!(command(&[0x15, 0x10, 0, 0, 16, 0]), DiskCommand::ModeSelect(select));
    assert_eq!(ok(&[0x55, 0x10, 0, 0, 0, 0, 0, 1, 0, 0]).length, 256);
    assert_eq!(refused(&[0x15, 0x00, 0, 0, 16, 0]), (1, Some(4)), "PF");
    assert_eq!(refused(&[0x15, 0x11, 0, 0, 16, 0]), (1, Some(0)), "SP");
    let saving = DiskParameters { saves_mode_pages: true, ..disk() };
    assert!(parse(&Cdb::new(&[0x15, 0x11, 0, 0, 16, 0]), &saving).is_ok());
}

#[test]
fn log_sense_fields() {
    let sense = LogSense { control: 1, page: 0x19, subpage: 2, pointer: 0x0304, allocation: 0x0506 };
    assert_eq!(command(&[0x4d, 0, 0x59, 2, 0, 3, 4, 5, 6, 0]), DiskCommand::LogSense(sense));
    assert_eq!(refused(&[0x4d, 0x01, 0x59, 0, 0, 0, 0, 0, 9, 0]), (1, Some(0)), "SP");
    assert_eq!(refused(&[0x4d, 0x02, 0x59, 0, 0, 0, 0, 0, 9, 0]), (1, Some(1)), "PPC");
}

#[test]
fn unit_control() {
    let eject = StartStop { immed: true, power_condition: 3, no_flush: true, load_eject: true, start: false };
    assert_eq!(command(&[0x1b, 1, 0, 0, 0x36, 0]), DiskCommand::StartStop(eject));
    assert_eq!(command(&[0x1e, 0, 0, 0, 1, 0]), DiskCommand::PreventAllow { prevent: true });
    assert_eq!(command(&[0x1e, 0, 0, 0, 0, 0]), DiskCommand::PreventAllow { prevent: false });
    assert_eq!(refused(&[0x1e, 0, 0, 0, 2, 0]), (4, Some(1)));
    assert_eq!(command(&[0x00, 0, 0, 0, 0, 0]), DiskCommand::TestUnitReady);
    assert_eq!(refused(&[0x00, 0, 0, 0, 1, 0]), (4, Some(0)));
}

#[test]
fn self_tests_in_the_foreground_only() {
    for byte_1 in [0x00, 0x04, 0x14, 0xa0, 0xc0] {
        assert_eq!(command(&[0x1d, byte_1, 0, 0, 0, 0]), DiskCommand::SendDiagnostic);
    }
    for byte_1 in [0x20, 0x40, 0x60, 0x80, 0xe0, 0xa4] {
        assert_eq!(refused(&[0x1d, byte_1, 0, 0, 0, 0]), (1, Some(7)));
    }
    assert_eq!(refused(&[0x1d, 0x10, 0, 0, 8, 0]), (3, None), "no diagnostic pages");
}

#[test]
fn what_the_mid_level_answers_is_known_and_the_rest_is_not() {
    assert_eq!(command(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0]), DiskCommand::MidLevel);
    assert_eq!(command(&[0x16, 0, 0, 0, 0, 0]), DiskCommand::MidLevel);
    for unknown in [0x04, 0x48, 0x5e, 0x7f, 0x83, 0x9c, 0xc0, 0xff] {
        let mut cdb = [0; 32];
        cdb[0] = unknown;
        assert_eq!(read(&cdb), Err(SenseData::invalid_opcode()), "{unknown:02x}");
    }
    assert_eq!(refused(&[0xa3, 0x05, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), (1, Some(4)));
    assert_eq!(refused(&[0x28, 0, 0, 0, 0, 0]), (6, None), "a CDB that is too short");
}

#[test]
fn optical_memory_devices_erase_and_have_no_commands_of_disks() {
    let disk = DiskParameters { device_type: scst_scsi::DeviceType::OPTICAL, ..DiskParameters::new("mo", "", 2048) };
    let read = |cdb: &[u8]| parse(&Cdb::new(cdb), &disk);
    let erase = |range, all| Ok(DiskCommand::Erase { range, all });
    let command = |cdb: &[u8]| read(cdb).map(|parsed| parsed.command);
    assert_eq!(command(&[0x2c, 0, 0, 0, 1, 0, 0, 0, 8, 0]), erase(range(0x100, 8), false));
    assert_eq!(command(&[0xac, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0]), erase(range(0x100, 0x1_0000), false));
    let all = read(&[0x2c, 4, 0, 0, 1, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!((all.command, all.lba, all.blocks), (erase(range(0x100, 0), true).unwrap(), 0x100, u64::MAX));
    assert_eq!((all.command.range(), all.length), (Some(range(0x100, 1)), 0));
    let length = SenseData::invalid_field_in_cdb(7, None);
    assert_eq!(command(&[0x2c, 4, 0, 0, 0, 0, 0, 0, 1, 0]), Err(length));
    let read_12 = read(&[0xa8, 0, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0]).unwrap();
    assert_eq!((read_12.lba, read_12.length), (9, 4096));
    for cdb in [&[0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0][..], &cdb_16(0x89, 0, 0, 1), &cdb_16(0x93, 0, 0, 1)] {
        assert_eq!(command(cdb), Err(SenseData::invalid_opcode()));
    }
    assert_eq!(refused_opcode(&[0x2c, 0, 0, 0, 1, 0, 0, 0, 8, 0]), Err(SenseData::invalid_opcode()));
}

fn refused_opcode(cdb: &[u8]) -> Result<DiskCommand, SenseData> {
    read(cdb).map(|parsed| parsed.command)
}

proptest::proptest! {
    /// What is read without the table is read as the table has it.
    #[test]
    fn the_short_way_agrees_with_the_table(
        opcode in proptest::sample::select(vec![0x28u8, 0x2a, 0x88, 0x8a]),
        bits in proptest::sample::select(vec![0u8, 0x08, 0x10, 0x18, 0x02, 0x20]),
        lba in proptest::prelude::any::<u64>(),
        blocks in proptest::sample::select(vec![0u32, 1, 8, 0x4000, 0x4001, 0xffff, 0x1_0000]),
        (group, control) in (0u8..0x40, proptest::sample::select(vec![0u8, 0x04, 0xc0])),
        length in 6usize..17,
    ) {
        let mut bytes = cdb_16(opcode, bits, lba, blocks);
        (bytes[14], bytes[15]) = (group, control);
        if opcode < 0x80 {
            bytes[6] = group;
            bytes[7..9].copy_from_slice(&(blocks as u16).to_be_bytes());
            bytes[9] = control;
        }
        let cdb = Cdb::new(&bytes[..length]);
        if let Some(parsed) = plain_transfer(&cdb, &disk()) {
            proptest::prop_assert_eq!(Ok(parsed), parse_by_table(&cdb, &disk()));
        }
        let plain = bits & !0x18 | control | group & 0xe0 == 0 && blocks <= 0x4000 && length == 16;
        proptest::prop_assert!(!plain || plain_transfer(&cdb, &disk()).is_some());
    }
}
