//! The tape.

use super::rig::{OLD, Rig};
use crate::Kind;
use scst_core::handler::Outcome;
use scst_scsi::{Asc, CommandFlags, ScsiStatus, SenseData};

const REWIND: [u8; 6] = [0x01, 0, 0, 0, 0, 0];
const READ_POSITION: [u8; 10] = [0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const FIXED: u8 = 1;
const SILI: u8 = 2;

/// A six-byte CDB with a length of three bytes.
fn six(opcode: u8, bits: u8, length: u32) -> [u8; 6] {
    let [_, a, b, c] = length.to_be_bytes();
    [opcode, bits, a, b, c, 0]
}

fn tape() -> Rig {
    Rig::new(Kind::Tape, |config| config.size = 1 << 20)
}

fn block_length(rig: &mut Rig, length: u32) {
    let [_, a, b, c] = length.to_be_bytes();
    rig.send(&[0x15, 0x10, 0, 0, 12, 0], &[0, 0, 0x10, 8, 0, 0, 0, 0, 0, a, b, c]);
}

fn position(rig: &mut Rig) -> u32 {
    u32::from_be_bytes(rig.good(&READ_POSITION)[4..8].try_into().unwrap())
}

#[test]
fn a_tape_is_a_tape() {
    let mut rig = tape();
    assert_eq!(rig.shard.peripheral_type(), 1);
    let inquiry = rig.good(&[0x12, 0, 0, 0, 96, 0]);
    assert_eq!((&inquiry[..3], &inquiry[64..66]), (&[0x01, 0x80, 0x06][..], &[0x04, 0x00][..]));
    assert_eq!(rig.good(&[0x05, 0, 0, 0, 0, 0]), [0, 0x80, 0, 0, 0, 1]);
    assert_eq!(rig.good(&[0x1a, 0, 0, 0, 255, 0]), [11, 0, 0x10, 8, 0x80, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(rig.good(&[0x44, 0, 0, 0, 0, 0, 0, 0, 8, 0]), [0, 54, 0, 0, 0x80, 0x80, 0xa0, 0]);
    assert_eq!(rig.good(&[0x4d, 0, 0x40, 0, 0, 0, 0, 0, 255, 0]), [0, 0, 0, 4, 0, 0x0d, 0x0e, 0x19]);
    let opcodes = rig.good(&[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(opcodes[..4], [0, 0, 0, 28 * 8]);
    assert_eq!(rig.good(&[0xa3, 0x0c, 1, 0x11, 0, 0, 0, 0, 0, 255, 0, 0])[..6], [0, 3, 0, 6, 0x11, 0x0f]);
    assert!(rig.shard.control().restricted_reordering, "commands run in the order in which they come");
}

#[test]
fn fixed_blocks_and_filemarks() {
    let mut rig = tape();
    block_length(&mut rig, 1024);
    rig.send(&six(0x0a, FIXED, 3), &[7; 3072]);
    rig.good(&six(0x10, 0, 1));
    rig.send(&six(0x0a, FIXED, 1), &[7; 1024]);
    assert_eq!(position(&mut rig), 5);
    rig.good(&REWIND);
    assert_eq!(rig.good(&READ_POSITION)[0], 0x80, "BOP");
    assert_eq!(rig.good(&six(0x08, FIXED, 2)), [0; 2048]);
    // One block and the filemark: what was read comes all the same.
    let (data, sense) = rig.run(&six(0x08, FIXED, 4));
    assert_eq!(data, [0; 1024]);
    let mut bytes = [0; 18];
    sense.unwrap().emit(scst_scsi::sense::SenseFormat::Fixed, &mut bytes);
    assert_eq!(bytes, [0xf0, 0, 0x80, 0, 0, 0, 3, 10, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(position(&mut rig), 4);
    assert_eq!(rig.refused(&six(0x0a, FIXED, 0x7f_ffff)), SenseData::invalid_field_in_cdb(2, None));
}

#[test]
fn variable_blocks_have_the_length_they_were_written_with() {
    let mut rig = tape();
    rig.send(&six(0x0a, 0, 100), &[7; 100]);
    rig.send(&six(0x0a, 0, 3000), &[7; 3000]);
    rig.good(&REWIND);
    let (data, sense) = rig.run(&six(0x08, 0, 4096));
    assert_eq!((data, sense.unwrap().information), (vec![0; 100], Some(3996)));
    let (data, sense) = rig.run(&six(0x08, 0, 1000));
    assert_eq!((data, sense.unwrap().information), (vec![0; 1000], Some(-2000_i64 as u64)));
    rig.good(&six(0x11, 0, 0xff_ffff));
    assert_eq!(rig.good(&six(0x08, SILI, 1000)), [0; 1000]);
    assert_eq!(rig.refused(&six(0x08, FIXED, 1)), SenseData::invalid_field_in_cdb(1, Some(0)));
    let end = rig.refused(&six(0x08, 0, 50));
    assert_eq!((end.key.0, end.asc, end.information), (8, Asc::END_OF_DATA_DETECTED, Some(50)));
}

#[test]
fn old_content_shows_only_without_strict_security() {
    let mut rig = Rig::new(Kind::Tape, |config| config.strict_security = false);
    rig.send(&six(0x0a, 0, 64), &[7; 64]);
    rig.good(&REWIND);
    assert_eq!(rig.good(&six(0x08, 0, 64)), [OLD; 64]);
}

#[test]
fn the_end_of_the_medium_is_announced() {
    let mut rig = Rig::new(Kind::Tape, |config| {
        (config.size, config.early_warning, config.block_size) = (4096, Some(1024), 512);
    });
    rig.send(&six(0x0a, FIXED, 5), &[7; 2560]);
    let warning = rig.refused(&six(0x0a, FIXED, 1));
    assert_eq!((warning.key.0, warning.asc.0, warning.information), (0, 2, Some(0)));
    let overflow = rig.refused(&six(0x0a, FIXED, 3));
    assert_eq!((overflow.key.0, overflow.asc.0, overflow.information), (0xd, 2, Some(1)));
    assert_eq!(rig.good(&READ_POSITION)[..8], [0x40, 0, 0, 0, 0, 0, 0, 8]);
}

#[test]
fn locate_space_and_erase() {
    let mut rig = tape();
    for _ in 0..3 {
        rig.send(&six(0x0a, 0, 10), &[7; 10]);
        rig.good(&six(0x10, 0, 1));
    }
    rig.good(&[0x2b, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
    assert_eq!(position(&mut rig), 2);
    rig.good(&six(0x11, 1, 1));
    assert_eq!(position(&mut rig), 4);
    rig.good(&[0x19, 0, 0, 0, 0, 0]);
    rig.good(&REWIND);
    rig.good(&six(0x11, 3, 0));
    assert_eq!(position(&mut rig), 4, "the end of data");
    assert_eq!(rig.refused(&[0x2b, 0, 0, 0, 0, 0, 5, 0, 0, 0]).asc, Asc::END_OF_DATA_DETECTED);
}

#[test]
fn an_unloaded_tape_is_not_ready_and_comes_back_rewound() {
    let mut rig = tape();
    rig.send(&six(0x0a, 0, 10), &[7; 10]);
    rig.removal_prevented = true;
    let (unload, load) = ([0x1b, 0, 0, 0, 0, 0], [0x1b, 0, 0, 0, 1, 0]);
    assert_eq!(rig.refused(&unload), SenseData::illegal_request(Asc::MEDIUM_REMOVAL_PREVENTED));
    assert_eq!(position(&mut rig), 1);
    rig.removal_prevented = false;
    rig.good(&unload);
    assert_eq!(rig.refused(&[0; 6]), SenseData::not_ready(Asc::MEDIUM_NOT_PRESENT));
    let (outcome, _) = rig.run_with(&load, &[], None);
    assert_eq!(outcome.effects.attention_for_others, Some(Asc::NOT_READY_TO_READY_CHANGE));
    assert_eq!(position(&mut rig), 0);
    assert_eq!(rig.good(&six(0x08, 0, 10)), [0; 10], "what was recorded is still there");
}

#[test]
fn a_write_that_was_measured_with_another_block_length_has_to_come_again() {
    let device =
        crate::PerfDevice::open(crate::PerfConfig { block_size: 512, ..crate::PerfConfig::new(Kind::Tape, "t") });
    let device = device.unwrap();
    let (mut a, mut b) = (Rig::over(device.open_shard()), Rig::over(device.open_shard()));
    // Parsed here with blocks of 512, carried out after the other shard has changed them.
    let cdb = scst_scsi::Cdb::new(&six(0x0a, FIXED, 2));
    let parsed = a.shard.parse(&cdb).unwrap();
    assert_eq!(parsed.length, 1024);
    block_length(&mut b, 2048);
    let outcome = a.execute_parsed(&cdb, &parsed);
    assert_eq!(outcome, Outcome::status(ScsiStatus::BUSY));
    assert_eq!(position(&mut a), 0);
    assert_eq!(a.shard.parse(&cdb).unwrap().length, 4096);
    a.shard.reset();
    assert_eq!(b.shard.parse(&cdb).unwrap().length, 1024, "a reset brings the default back, for all shards");
}

#[test]
fn data_that_do_not_make_a_block_are_not_written() {
    let mut rig = tape();
    let (outcome, _) = rig.run_with(&six(0x0a, 0, 100), &[7; 50], Some(50));
    assert_eq!(outcome.sense.map(|sense| sense.asc), Some(Asc(0x0e03)));
    assert_eq!(position(&mut rig), 0);
    rig.read_only = true;
    for cdb in [six(0x0a, 0, 100), six(0x10, 0, 1), six(0x19, 0, 0)] {
        assert_eq!(rig.refused(&cdb), SenseData::write_protected());
    }
}

#[test]
fn what_uses_the_position_is_alone_on_the_tape() {
    let mut rig = tape();
    let mut alone =
        |cdb: &[u8]| rig.shard.parse(&scst_scsi::Cdb::new(cdb)).unwrap().flags.contains(CommandFlags::EXCLUSIVE);
    assert!(alone(&six(0x08, 0, 1)) && alone(&six(0x0a, 0, 1)) && alone(&READ_POSITION) && alone(&REWIND));
    assert!(!alone(&[0; 6]) && !alone(&[0x12, 0, 0, 0, 36, 0]) && !alone(&[0x05, 0, 0, 0, 0, 0]));
}
