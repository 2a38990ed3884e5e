//! The disk as a whole: read-only, removable, NULLIO, answers, reset.

use scst_core::buffer::Memory;
use scst_core::handler::Outcome;
use scst_scsi::{Asc, SenseData};

use super::rig::{BLOCKS, FakeIo, Op, Rig, disk, file_disk, sixteen, ten};
use crate::{Vdisk, VdiskConfig};

const TEST_UNIT_READY: [u8; 6] = [0; 6];
const EJECT: [u8; 6] = [0x1b, 0, 0, 0, 0x02, 0];
const LOAD: [u8; 6] = [0x1b, 0, 0, 0, 0x03, 0];

fn null(change: impl FnOnce(&mut VdiskConfig)) -> Rig {
    let mut config = VdiskConfig::null("n", BLOCKS * 512);
    change(&mut config);
    let disk = Vdisk::open(config).unwrap();
    let shard = disk.open_shard_on(scst_core::io::FileId(0));
    Rig::new(disk, shard, FakeIo::default())
}

#[test]
fn read_only_disks_and_luns_refuse_to_write() {
    let protected = Outcome::check(SenseData::write_protected());
    let mut rig = file_disk(|c| c.read_only = true);
    assert_eq!(rig.run(&ten(0x2a, 0, 0, 1), &[0; 512]), protected);
    let mut rig = disk();
    rig.read_only = true;
    for cdb in [ten(0x2a, 0, 0, 1), ten(0x41, 0, 0, 1), ten(0x2e, 0, 0, 1)] {
        assert_eq!(rig.run(&cdb, &[0; 512]), protected, "{cdb:02x?}");
    }
    assert_eq!(rig.run(&ten(0x28, 0, 0, 1), &[]), Outcome::good(512));
    assert_eq!(rig.read(&[0x1a, 8, 0x0a, 0, 255, 0])[2] & 0x80, 0x80, "WP");
    assert_eq!(rig.ops().len(), 1);
}

#[test]
fn storage_that_is_write_protected_makes_the_disk_so() {
    let mut rig = disk();
    let wp = |rig: &mut Rig| rig.read(&[0x1a, 8, 0x0a, 0, 255, 0])[2] & 0x80;
    rig.disk.shared().protect_storage(true);
    let protected = Outcome::check(SenseData::write_protected());
    for cdb in [ten(0x2a, 0, 0, 1), ten(0x2a, 8, 0, 1), ten(0x41, 0, 0, 1), ten(0x2e, 0, 0, 1)] {
        assert_eq!(rig.run(&cdb, &[0; 512]), protected, "{cdb:02x?}");
    }
    assert_eq!((rig.run(&ten(0x28, 0, 0, 1), &[]), wp(&mut rig)), (Outcome::good(512), 0x80));
    let change = rig.disk.poll().unwrap();
    assert_eq!((change.attention, change.reopened), (Asc::MODE_PARAMETERS_CHANGED, false));
    assert_eq!(rig.disk.poll(), None);
    rig.disk.shared().protect_storage(false);
    assert_eq!(rig.disk.poll().unwrap().attention, Asc::MODE_PARAMETERS_CHANGED);
    assert_eq!((rig.run(&ten(0x2a, 0, 0, 1), &[0; 512]), wp(&mut rig)), (Outcome::good(0), 0));
}

#[test]
fn a_removable_medium_leaves_and_comes_back() {
    let mut rig = file_disk(|c| c.removable = true);
    rig.removal_prevented = true;
    let prevented = SenseData::illegal_request(Asc::MEDIUM_REMOVAL_PREVENTED);
    assert_eq!(rig.run(&EJECT, &[]), Outcome::check(prevented));
    rig.removal_prevented = false;
    let outcome = rig.run(&[0x1e, 0, 0, 0, 1, 0], &[]);
    assert_eq!((outcome.status.0, outcome.effects.prevent_removal), (0, Some(true)));
    assert_eq!((rig.run(&EJECT, &[]), rig.ops()), (Outcome::good(0), vec![Op::Flush]));
    let no_medium = Outcome::check(SenseData::not_ready(Asc::MEDIUM_NOT_PRESENT));
    assert_eq!(rig.run(&TEST_UNIT_READY, &[]), no_medium);
    assert_eq!(rig.run(&ten(0x28, 0, 0, 1), &[]), no_medium);
    assert!(rig.disk.status().ejected);
    let outcome = rig.run(&LOAD, &[]);
    assert_eq!(outcome.effects.attention_for_others, Some(Asc::NOT_READY_TO_READY_CHANGE));
    assert_eq!(rig.run(&LOAD, &[]), Outcome::good(0), "it is there already");
    assert_eq!(rig.run(&TEST_UNIT_READY, &[]), Outcome::good(0));
    assert_eq!(rig.read(&[0x4d, 0, 0x4e, 0, 0, 0, 4, 0, 255, 0])[4..], [0, 4, 3, 4, 0, 0, 0, 1], "one cycle");
}

#[test]
fn commands_are_counted() {
    let mut rig = disk();
    rig.run(&ten(0x28, 0, 0, 3), &[]);
    rig.run(&ten(0x2a, 0, 0, 2), &[0; 1024]);
    rig.run(&ten(0x28, 0, BLOCKS as u32, 3), &[]);
    let page = rig.read(&[0x4d, 0, 0x59, 0, 0, 0, 0, 0, 255, 0]);
    let number = |at: usize| u64::from_be_bytes(page[at..at + 8].try_into().unwrap());
    assert_eq!((number(8), number(16), number(24), number(32)), (1, 1, 2, 3));
}

#[test]
fn answers_are_cut_at_the_buffer() {
    let mut rig = disk();
    assert_eq!(rig.read(&ten(0x25, 0, 0, 0)), [0, 0, 0x0f, 0xff, 0, 0, 2, 0]);
    let command = rig.command(&[0x12, 0, 0, 0, 96, 0], &[], Some(5)).unwrap();
    let outcome = rig.finish(&command);
    assert_eq!((outcome, rig.data_in(&command, &outcome)), (Outcome::good(5), vec![0, 0, 6, 0x12, 91]));
    assert_eq!(rig.read(&sixteen(0x9e, 0x10, 0, 12)), [0, 0, 0, 0, 0, 0, 0x0f, 0xff, 0, 0, 2, 0]);
    assert_eq!(rig.run(&[0xff; 6], &[]), Outcome::check(SenseData::invalid_opcode()));
}

#[test]
fn a_reset_takes_mode_pages_back() {
    let mut rig = disk();
    let mut list = vec![0; 16];
    (list[4], list[5], list[6], list[7], list[8], list[12], list[13]) = (0x0a, 0x0a, 0x24, 0x10, 0x08, 0xff, 0xff);
    let outcome = rig.run(&[0x15, 0x10, 0, 0, 16, 0], &list);
    assert_eq!(outcome.sense, None);
    let control = outcome.effects.control.unwrap();
    assert!(control.descriptor_sense && control.write_protect && control.task_set_per_nexus);
    assert_eq!(rig.shard.control(), control);
    let sense = rig.run(&ten(0x2a, 0, 0, 1), &[0; 512]).sense.unwrap();
    assert_eq!(sense.asc, Asc::SOFTWARE_WRITE_PROTECTED);
    let control = rig.shard.reset();
    assert!(!control.descriptor_sense && !control.write_protect);
    assert_eq!(rig.run(&ten(0x2a, 0, 0, 1), &[0; 512]), Outcome::good(0));
}

#[test]
fn nothing_behind_takes_everything() {
    let mut rig = null(|c| (c.read_zero, c.thin_provisioned) = (true, true));
    assert_eq!(rig.run(&ten(0x2a, 0x08, 0, 2), &[7; 1024]), Outcome::good(0));
    assert_eq!(rig.read(&ten(0x28, 0x08, 0, 2)), [0; 1024]);
    for (cdb, data) in [(ten(0x2f, 0x02, 0, 1), 512), (ten(0x35, 0, 0, 0), 0), (ten(0x41, 0, 0, 9), 512)] {
        assert_eq!(rig.run(&cdb, &vec![1; data]), Outcome::good(0));
    }
    let data = rig.read(&sixteen(0x9e, 0x12, 6, 100));
    assert_eq!(data[8..], [0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0x0f, 0xfa, 0, 0, 0, 0]);
    let out_of_range = Outcome::check(SenseData::lba_out_of_range(BLOCKS));
    assert_eq!(rig.run(&ten(0x28, 0, BLOCKS as u32, 1), &[]), out_of_range);
    let mut list = vec![0; 24];
    (list[4], list[5]) = (0x08, 0x12);
    let outcome = rig.run(&[0x15, 0x10, 0, 0, 24, 0], &list);
    assert_eq!((outcome.sense, outcome.effects.attention_for_others), (None, Some(Asc::MODE_PARAMETERS_CHANGED)));
    assert_eq!(rig.ops(), []);
}

#[test]
fn without_read_zero_the_buffer_is_left_alone() {
    let mut rig = null(|_| {});
    let command = rig.command(&ten(0x28, 0, 0, 1), &[0x5c; 512], None).unwrap();
    assert_eq!(rig.finish(&command), Outcome::good(512));
    let mut data = [0; 512];
    rig.mem.copy_out(&command.sg, 0, &mut data);
    assert_eq!(data, [0x5c; 512]);
}

#[test]
fn a_dummy_is_a_place_holder() {
    let mut rig = null(|c| c.dummy = true);
    assert_eq!(rig.read(&[0x12, 0, 0, 0, 36, 0])[0], 0x3f);
    assert_eq!(rig.run(&TEST_UNIT_READY, &[]), Outcome::check(SenseData::logical_unit_not_supported()));
    assert_eq!(rig.shard.peripheral_type(), 0x1f);
}
