//! Every command of a tape, field by field.

use super::*;
use crate::DiskCommand;
use crate::ssc::TapeState;
use crate::ssc::tests::tape;
use proptest::prelude::*;
use scst_scsi::Asc;
use scst_scsi::opcode::TAPE;
use scst_scsi::sense::SenseKeySpecific;

fn with_block(block_length: u32, cdb: &[u8]) -> Result<ParsedTapeCommand, SenseData> {
    parse(&Cdb::new(cdb), &tape(), block_length)
}

fn command(cdb: &[u8]) -> TapeCommand {
    with_block(1024, cdb).unwrap_or_else(|sense| panic!("{cdb:02x?}: {sense}")).command
}

fn refused(cdb: &[u8]) -> SenseData {
    with_block(1024, cdb).expect_err("refused")
}

#[test]
fn reads_and_writes_in_both_modes() {
    let fixed = with_block(1024, &[0x08, 1, 0, 0, 3, 0]).unwrap();
    assert_eq!(fixed.command, TapeCommand::Read { fixed: true, sili: false, length: 3 });
    assert_eq!((fixed.direction, fixed.length), (DataDirection::FromDevice, 3072));
    assert!(fixed.flags.contains(CommandFlags::EXCLUSIVE) && !fixed.flags.contains(CommandFlags::MEDIUM_ACCESS));
    let variable = with_block(0, &[0x08, 2, 1, 2, 3, 0]).unwrap();
    assert_eq!(variable.command, TapeCommand::Read { fixed: false, sili: true, length: 0x01_0203 });
    assert_eq!(variable.length, 0x01_0203);
    let write = with_block(1024, &[0x0a, 1, 0, 0, 2, 0]).unwrap();
    assert_eq!(write.command, TapeCommand::Write { fixed: true, length: 2 });
    assert_eq!((write.direction, write.length), (DataDirection::ToDevice, 2048));
    assert!(write.flags.contains(CommandFlags::EXCLUSIVE | CommandFlags::WRITES_MEDIUM));
    let nothing = with_block(0, &[0x0a, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!((nothing.direction, nothing.length), (DataDirection::None, 0));
}

#[test]
fn transfers_that_cannot_be_are_refused() {
    let at = |byte, bit| SenseData::invalid_field_in_cdb(byte, bit);
    assert_eq!(with_block(0, &[0x08, 1, 0, 0, 1, 0]), Err(at(1, Some(0))), "fixed without a block length");
    assert_eq!(with_block(0, &[0x0a, 1, 0, 0, 1, 0]), Err(at(1, Some(0))));
    assert_eq!(refused(&[0x08, 3, 0, 0, 1, 0]), at(1, Some(1)), "SILI and FIXED");
    assert_eq!(refused(&[0x08, 1, 0, 0x20, 1, 0]), at(2, None), "8 MiB and a block");
    assert_eq!(with_block(1024, &[0x08, 1, 0, 0x20, 0, 0]).unwrap().length, 8 << 20);
    assert_eq!(refused(&[0x0a, 0, 0x80, 0, 1, 0]), at(2, None), "longer than the longest block");
    assert_eq!(with_block(0, &[0x08, 0, 0xff, 0xff, 0xff, 0]).unwrap().length, 8 << 20, "room for more is no error");
}

#[test]
fn what_moves_the_tape() {
    let space = |over, count| TapeCommand::Space { over, count };
    assert_eq!(command(&[0x01, 1, 0, 0, 0, 0]), TapeCommand::Rewind);
    assert_eq!(command(&[0x10, 0, 0, 1, 2, 0]), TapeCommand::WriteFilemarks { count: 0x102 });
    assert_eq!(command(&[0x11, 0, 0, 1, 0, 0]), space(SpaceOver::Blocks, 256));
    assert_eq!(command(&[0x11, 1, 0xff, 0xff, 0xfe, 0]), space(SpaceOver::Filemarks, -2));
    assert_eq!(command(&[0x11, 0, 0x80, 0, 0, 0]), space(SpaceOver::Blocks, -0x80_0000));
    assert_eq!(command(&[0x11, 3, 0, 0, 0, 0]), space(SpaceOver::ToEndOfData, 0));
    assert_eq!(refused(&[0x11, 2, 0, 0, 1, 0]), SenseData::invalid_field_in_cdb(1, Some(3)));
    assert_eq!(command(&[0x19, 1, 0, 0, 0, 0]), TapeCommand::Erase);
    assert_eq!(command(&[0x1b, 0, 0, 0, 1, 0]), TapeCommand::LoadUnload { load: true });
    assert_eq!(command(&[0x1b, 1, 0, 0, 2, 0]), TapeCommand::LoadUnload { load: false });
    assert_eq!(refused(&[0x1b, 0, 0, 0, 5, 0]), SenseData::invalid_field_in_cdb(4, Some(2)));
    assert_eq!(refused(&[0x1b, 0, 0, 0, 8, 0]), SenseData::invalid_field_in_cdb(4, Some(3)));
    assert_eq!(command(&[0x2b, 2, 0, 1, 2, 3, 4, 0, 0, 0]), TapeCommand::Locate { object: 0x0102_0304 });
    assert_eq!(refused(&[0x2b, 2, 0, 0, 0, 0, 0, 0, 1, 0]), SenseData::invalid_field_in_cdb(8, None));
    assert_eq!(refused(&[0x2b, 4, 0, 0, 0, 0, 0, 0, 0, 0]), SenseData::invalid_field_in_cdb(1, Some(2)));
}

#[test]
fn what_tells_of_the_tape() {
    let position = with_block(0, &[0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!((position.command, position.length), (TapeCommand::ReadPosition, 20));
    assert!(position.flags.contains(CommandFlags::EXCLUSIVE) && !position.flags.contains(CommandFlags::UNKNOWN_LENGTH));
    assert_eq!(refused(&[0x34, 6, 0, 0, 0, 0, 0, 0, 0, 0]), SenseData::invalid_field_in_cdb(1, Some(4)));
    let limits = with_block(0, &[0x05, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!((limits.command, limits.length), (TapeCommand::ReadBlockLimits, 6));
    assert!(!limits.flags.contains(CommandFlags::EXCLUSIVE));
    let density = with_block(0, &[0x44, 1, 0, 0, 0, 0, 0, 1, 0, 0]).unwrap();
    assert_eq!(density.command, TapeCommand::ReportDensity { medium: true, allocation: 256 });
    assert_eq!(density.length, 256);
    assert_eq!(refused(&[0x44, 2, 0, 0, 0, 0, 0, 1, 0, 0]), SenseData::invalid_field_in_cdb(1, Some(1)));
    let inquiry = with_block(0, &[0x12, 0, 0, 0, 36, 0]).unwrap();
    assert_eq!(inquiry.command, TapeCommand::Common(DiskCommand::Inquiry { page: None, allocation: 36 }));
    assert_eq!(refused(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]), SenseData::invalid_opcode());
    assert_eq!(refused(&[0x0f, 0, 0, 0, 1, 0]), SenseData::invalid_opcode(), "READ REVERSE");
}

#[test]
fn without_a_medium_only_what_needs_none_runs() {
    let state = TapeState { loaded: false, write_protected: false };
    let admit = |cdb: &[u8]| with_block(512, cdb).unwrap().admit(&tape(), &state);
    let absent = Err(SenseData::not_ready(Asc::MEDIUM_NOT_PRESENT));
    for cdb in [[0x00, 0, 0, 0, 0, 0], [0x08, 1, 0, 0, 1, 0], [0x01, 0, 0, 0, 0, 0], [0x10, 0, 0, 0, 0, 0]] {
        assert_eq!(admit(&cdb), absent);
    }
    for cdb in [[0x12, 0, 0, 0, 36, 0], [0x1b, 0, 0, 0, 1, 0], [0x1a, 0, 0x3f, 0, 99, 0], [0x05, 0, 0, 0, 0, 0]] {
        assert_eq!(admit(&cdb), Ok(()));
    }
    assert_eq!(admit(&[0x44, 1, 0, 0, 0, 0, 0, 1, 0, 0]), absent);
    assert_eq!(admit(&[0x44, 0, 0, 0, 0, 0, 0, 1, 0, 0]), Ok(()));
}

#[test]
fn a_protected_tape_is_not_written() {
    let state = TapeState { loaded: true, write_protected: true };
    let admit = |cdb: &[u8]| with_block(512, cdb).unwrap().admit(&tape(), &state);
    for opcode in [0x0a, 0x10, 0x19] {
        assert_eq!(admit(&[opcode, 0, 0, 0, 0, 0]), Err(SenseData::write_protected()));
    }
    assert_eq!(admit(&[0x08, 1, 0, 0, 1, 0]), Ok(()));
}

/// What REPORT SUPPORTED OPERATION CODES lists parses, and what it does not list does not.
#[test]
fn the_list_of_operation_codes_is_true() {
    let identity = tape().identity;
    let listed: Vec<&str> =
        TAPE.rows().iter().filter(|row| opcodes::is_supported(row, &identity)).map(|row| row.name).collect();
    assert_eq!(listed.len(), 28);
    for row in TAPE.rows() {
        let mut cdb = [0; 16];
        cdb[0] = row.opcode;
        cdb[1] = row.service_action.unwrap_or(0) as u8;
        let parsed = with_block(512, &cdb[..usize::from(row.cdb_length)]);
        assert_eq!(parsed.is_ok(), listed.contains(&row.name), "{}: {parsed:?}", row.name);
    }
}

proptest! {
    #[test]
    fn any_cdb_is_a_command_within_the_limits_or_an_illegal_request(
        row in 0..TAPE.rows().len(), bits: [u8; 16], masked: bool, block_length in prop_oneof![Just(0), 1..=MAX_BLOCK_LENGTH],
    ) {
        let row = &TAPE.rows()[row];
        let mask = |(usage, bits): (&u8, u8)| if masked { usage & bits } else { bits };
        let mut cdb: Vec<u8> = row.usage.iter().zip(bits).map(mask).collect();
        cdb[0] = row.opcode;
        match with_block(block_length, &cdb) {
            Ok(parsed) => {
                prop_assert!(parsed.length <= MAX_TRANSFER_BYTES);
                prop_assert_eq!(parsed.direction == DataDirection::None, parsed.length == 0);
                let exclusive = parsed.flags.contains(CommandFlags::EXCLUSIVE);
                prop_assert!(exclusive || !parsed.command.uses_position());
            }
            Err(sense) => {
                let Some(SenseKeySpecific::Field(field)) = sense.specific else { panic!("{sense}") };
                prop_assert!(field.in_cdb && usize::from(field.byte) < cdb.len());
            }
        }
    }
}
