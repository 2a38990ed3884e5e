//! Disks and optical memory devices.

use super::rig::{OLD, Rig};
use crate::Kind;
use scst_core::handler::SideEffects;
use scst_scsi::{Asc, SenseData};

/// A ten-byte CDB with an LBA and a number of blocks.
fn ten(opcode: u8, lba: u32, blocks: u16) -> [u8; 10] {
    let (l, b) = (lba.to_be_bytes(), blocks.to_be_bytes());
    [opcode, 0, l[0], l[1], l[2], l[3], 0, b[0], b[1], 0]
}

fn twelve(opcode: u8, lba: u32, blocks: u32) -> [u8; 12] {
    let (l, b) = (lba.to_be_bytes(), blocks.to_be_bytes());
    [opcode, 0, l[0], l[1], l[2], l[3], b[0], b[1], b[2], b[3], 0, 0]
}

const TEST_UNIT_READY: [u8; 6] = [0; 6];

fn disk() -> Rig {
    Rig::new(Kind::Disk, |config| config.size = 1000 * 512)
}

fn optical() -> Rig {
    Rig::new(Kind::Optical, |config| config.size = 1000 * 2048)
}

#[test]
fn a_disk_is_a_disk() {
    let mut rig = disk();
    assert_eq!(rig.shard.peripheral_type(), 0);
    let inquiry = rig.good(&[0x12, 0, 0, 0, 96, 0]);
    assert_eq!(inquiry[..8], [0x00, 0x00, 0x06, 0x12, 91, 0, 0x10, 0x02]);
    assert_eq!(&inquiry[8..36], b"SCST_PRFd               3110");
    assert_eq!(rig.good(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]), [0, 0, 0x03, 0xe7, 0, 0, 2, 0]);
    assert_eq!(rig.good(&[0x12, 1, 0xb0, 0, 5, 0]), [0, 0xb0, 0, 0x3c, 0x01]);
}

#[test]
fn reads_and_writes_of_all_lengths_are_answered_at_once() {
    let mut rig = disk();
    assert_eq!(rig.good(&ten(0x28, 998, 2)), [0; 1024]);
    assert_eq!(rig.good(&[0x08, 0, 0, 9, 1, 0]), [0; 512]);
    assert_eq!(rig.good(&twelve(0xa8, 0, 4)), [0; 2048]);
    rig.send(&ten(0x2a, 998, 2), &[1; 1024]);
    rig.send(&ten(0x2e, 0, 1), &[1; 512]);
    rig.send(&[0x0a, 0, 0, 9, 1, 0], &[1; 512]);
    assert_eq!(rig.good(&ten(0x28, 998, 2)), [0; 1024], "nothing is kept");
    let mut loose = Rig::new(Kind::Disk, |config| config.strict_security = false);
    assert_eq!(loose.good(&ten(0x28, 0, 1)), [OLD; 512]);
}

#[test]
fn the_checks_are_those_of_a_device_with_data() {
    let mut rig = disk();
    assert_eq!(rig.refused(&ten(0x28, 999, 2)), SenseData::lba_out_of_range(1000));
    assert_eq!(rig.refused(&ten(0x2a, 1000, 1)), SenseData::lba_out_of_range(1000));
    assert_eq!(rig.refused(&ten(0x2f, 999, 2)), SenseData::lba_out_of_range(1000));
    rig.read_only = true;
    assert_eq!(rig.refused(&ten(0x2a, 0, 1)), SenseData::write_protected());
    rig.read_only = false;
    let (outcome, _) = rig.run_with(&ten(0x2a, 0, 2), &[1; 700], Some(700));
    assert_eq!(outcome.sense.map(|sense| sense.asc), Some(Asc(0x0e03)), "part of a block");
    let (outcome, _) = rig.run_with(&ten(0x2a, 0, 2), &[1; 512], Some(512));
    assert_eq!(outcome.sense, None, "whole blocks, fewer than announced");
    let mut protected = Rig::new(Kind::Disk, |config| config.read_only = true);
    assert_eq!(protected.refused(&ten(0x2a, 0, 1)), SenseData::write_protected());
}

#[test]
fn commands_are_counted() {
    let mut rig = disk();
    rig.good(&ten(0x28, 0, 3));
    rig.send(&ten(0x2a, 0, 5), &[]);
    rig.refused(&ten(0x28, 5000, 3));
    let page = rig.good(&[0x4d, 0, 0x59, 0, 0, 0, 0, 0, 40, 0]);
    let field = |at: usize| u64::from_be_bytes(page[at..at + 8].try_into().unwrap());
    assert_eq!([field(8), field(16), field(24), field(32)], [1, 1, 5, 3]);
}

#[test]
fn mode_select_changes_what_mode_sense_says_until_a_reset() {
    let mut rig = disk();
    let page = |rig: &mut Rig| rig.good(&[0x1a, 8, 8, 0, 24, 0])[4..].to_vec();
    let mut list = [vec![0; 4], page(&mut rig)].concat();
    list[6] &= !0x04;
    let (outcome, _) = rig.run_with(&[0x15, 0x10, 0, 0, 24, 0], &list, None);
    assert_eq!(outcome.effects.attention_for_others, Some(Asc::MODE_PARAMETERS_CHANGED));
    assert_eq!(page(&mut rig)[2] & 0x04, 0, "WCE");
    rig.shard.reset();
    assert_eq!(page(&mut rig)[2] & 0x04, 0x04);
}

#[test]
fn an_optical_memory_device_has_its_type_medium_and_commands() {
    let mut rig = optical();
    assert_eq!(rig.shard.peripheral_type(), 7);
    let inquiry = rig.good(&[0x12, 0, 0, 0, 96, 0]);
    assert_eq!((inquiry[0], inquiry[1], &inquiry[64..66]), (0x07, 0x80, &[0x01, 0x80][..]));
    assert_eq!(rig.good(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]), [0, 0, 0x03, 0xe7, 0, 0, 8, 0]);
    let mode = rig.good(&[0x1a, 0, 0x06, 0, 255, 0]);
    assert_eq!(mode, [15, 0x03, 0x10, 8, 0, 0, 0x03, 0xe8, 0, 0, 0x08, 0, 0x06, 0x02, 0, 0]);
    assert_eq!(rig.good(&twelve(0xa8, 999, 1)), [0; 2048]);
    rig.send(&twelve(0xaa, 999, 1), &[9; 2048]);
    assert_eq!(rig.run(&ten(0x2c, 999, 1)), (vec![], None), "ERASE(10)");
    assert_eq!(rig.refused(&twelve(0xac, 999, 2)), SenseData::lba_out_of_range(1000));
    assert_eq!(rig.refused(&ten(0x41, 0, 1)), SenseData::invalid_opcode(), "no WRITE SAME");
}

#[test]
fn an_optical_medium_can_be_ejected() {
    let mut rig = optical();
    let (load, eject) = ([0x1b, 0, 0, 0, 3, 0], [0x1b, 0, 0, 0, 2, 0]);
    rig.removal_prevented = true;
    assert_eq!(rig.refused(&eject), SenseData::illegal_request(Asc::MEDIUM_REMOVAL_PREVENTED));
    rig.removal_prevented = false;
    rig.good(&eject);
    let absent = SenseData::not_ready(Asc::MEDIUM_NOT_PRESENT);
    for cdb in [&TEST_UNIT_READY[..], &ten(0x28, 0, 1), &ten(0x2a, 0, 1), &ten(0x25, 0, 0), &ten(0x2c, 0, 1)] {
        assert_eq!(rig.refused(cdb), absent);
    }
    rig.good(&[0x12, 0, 0, 0, 36, 0]);
    let (outcome, _) = rig.run_with(&load, &[], None);
    let told = SideEffects { attention_for_others: Some(Asc::NOT_READY_TO_READY_CHANGE), ..SideEffects::default() };
    assert_eq!(outcome.effects, told);
    rig.good(&TEST_UNIT_READY);
    let (outcome, _) = rig.run_with(&load, &[], None);
    assert_eq!(outcome.effects, SideEffects::default(), "it was there");
    let (outcome, _) = rig.run_with(&[0x1e, 0, 0, 0, 1, 0], &[], None);
    assert_eq!(outcome.effects.prevent_removal, Some(true));
}
