//! WRITE SAME, UNMAP and GET LBA STATUS.

use scst_core::handler::Outcome;
use scst_scsi::SenseData;

use super::rig::{BLOCKS, Fault, Op, Rig, disk, file_disk, pattern, sixteen, ten};

const UNSUPPORTED: Option<Fault> = Some(Fault::Errno(libc::EOPNOTSUPP));

fn thin() -> Rig {
    let mut rig = file_disk(|c| c.thin_provisioned = true);
    rig.io.bytes.fill(9);
    rig
}

fn unmap(ranges: &[(u64, u32)]) -> ([u8; 10], Vec<u8>) {
    let length = 16 * ranges.len() as u16;
    let mut list = [(length + 6).to_be_bytes(), length.to_be_bytes(), [0; 2], [0; 2]].concat();
    for (lba, blocks) in ranges {
        list.extend(lba.to_be_bytes());
        list.extend(blocks.to_be_bytes());
        list.extend([0; 4]);
    }
    let [high, low] = (length + 8).to_be_bytes();
    ([0x42, 0, 0, 0, 0, 0, 0, high, low, 0], list)
}

#[test]
fn write_same_repeats_its_block() {
    let mut rig = disk();
    let block = pattern(1, 512);
    assert_eq!(rig.run(&sixteen(0x93, 0, 2, 600), &block), Outcome::good(0));
    let write = |offset, len| Op::Write { offset, len, dsync: false };
    assert_eq!(rig.ops(), [write(1024, 262_144), write(1024 + 262_144, 45_056)]);
    assert_eq!(rig.io.bytes[1024..1024 + 600 * 512], block.repeat(600));
    assert_eq!((rig.io.bytes[1023], rig.io.bytes[1024 + 600 * 512]), (0, 0));
}

#[test]
fn a_short_write_goes_on_in_the_middle_of_the_pattern() {
    let mut rig = disk();
    let block = pattern(3, 512);
    rig.faults(&[Some(Fault::Short(700)), Some(Fault::Short(1)), None, None]);
    assert_eq!(rig.run(&ten(0x41, 0, 0, 1000), &block), Outcome::good(0));
    assert_eq!(rig.io.bytes[..512_000], block.repeat(1000));
}

#[test]
fn zeros_need_no_writing_where_the_storage_can_zero() {
    let mut rig = thin();
    assert_eq!(rig.run(&ten(0x41, 0, 1, 4), &[0; 512]), Outcome::good(0));
    assert_eq!(rig.ops(), [Op::Zero { offset: 512, len: 2048 }]);
    rig.faults(&[UNSUPPORTED]);
    assert_eq!(rig.run(&sixteen(0x93, 0x01, 9, 4), &[]), Outcome::good(0));
    let write = Op::Write { offset: 4608, len: 2048, dsync: false };
    assert_eq!(rig.ops(), [Op::Zero { offset: 4608, len: 2048 }, write]);
    assert_eq!(rig.io.bytes[4608..6656], [0; 2048]);
}

#[test]
fn write_same_unmaps_when_asked() {
    let mut rig = thin();
    let (offset, len) = (512, 2048);
    assert_eq!(rig.run(&sixteen(0x93, 0x08, 1, 4), &[0; 512]), Outcome::good(0));
    assert_eq!(rig.ops(), [Op::Discard { offset, len }]);
    assert_eq!(rig.run(&sixteen(0x93, 0x19, 1, 4), &[]), Outcome::good(0));
    assert_eq!(rig.ops(), [Op::Discard { offset, len }, Op::Allocate { offset, len }]);
    let mut thick = disk();
    let refused = Outcome::check(SenseData::invalid_field_in_cdb(1, Some(3)));
    assert_eq!(thick.run(&sixteen(0x93, 0x08, 1, 4), &[0; 512]), refused);
}

#[test]
fn unmap_clears_every_range_of_its_list() {
    let mut rig = thin();
    let (cdb, list) = unmap(&[(1, 2), (5, 0), (10, 1)]);
    assert_eq!(rig.run(&cdb, &list), Outcome::good(0));
    assert_eq!(rig.ops(), [Op::Discard { offset: 512, len: 1024 }, Op::Discard { offset: 5120, len: 512 }]);
    assert_eq!(rig.io.bytes[511..1537], [[9].as_slice(), &[0; 1024], &[9]].concat());
    assert_eq!(rig.run(&unmap(&[]).0, &unmap(&[]).1), Outcome::good(0));
}

#[test]
fn unmap_falls_back_on_zeroing_and_then_on_writing() {
    let mut rig = thin();
    let (mut cdb, list) = unmap(&[(1, 2), (10, 600)]);
    cdb[1] = 1;
    rig.faults(&[UNSUPPORTED, UNSUPPORTED]);
    assert_eq!(rig.run(&cdb, &list), Outcome::good(0));
    let write = |offset, len| Op::Write { offset, len, dsync: false };
    let (offset, len) = (512, 1024);
    assert_eq!(
        rig.ops(),
        [
            Op::Discard { offset, len },
            Op::Zero { offset, len },
            write(512, 1024),
            write(5120, 262_144),
            write(5120 + 262_144, 45_056),
        ]
    );
    assert_eq!(rig.io.bytes[5120..5120 + 600 * 512], [0; 600 * 512]);
}

#[test]
fn an_anchor_that_the_storage_cannot_set_is_no_error() {
    let mut rig = thin();
    let (mut cdb, list) = unmap(&[(1, 2), (10, 1)]);
    cdb[1] = 1;
    rig.faults(&[None, UNSUPPORTED, None, Some(Fault::Errno(libc::ENOSPC))]);
    assert_eq!(rig.run(&cdb, &list), Outcome::check(SenseData::space_allocation_failed()));
    assert_eq!(rig.ops().len(), 4);
}

#[test]
fn unmap_checks_its_list_before_it_touches_a_block() {
    let mut rig = thin();
    let (cdb, list) = unmap(&[(1, 2), (BLOCKS, 1)]);
    assert_eq!(rig.run(&cdb, &list), Outcome::check(SenseData::lba_out_of_range(BLOCKS)));
    rig.read_only = true;
    assert_eq!(rig.run(&cdb, &list), Outcome::check(SenseData::write_protected()));
    assert_eq!(rig.ops(), []);
    let (cdb, list) = unmap(&[(3, 1)]);
    rig.read_only = false;
    rig.faults(&[Some(Fault::Errno(libc::EIO))]);
    assert_eq!(rig.run(&cdb, &list), Outcome::check(SenseData::write_error(3)));
}

#[test]
fn what_is_cleared_is_durable_without_a_write_cache() {
    let mut rig = file_disk(|c| (c.thin_provisioned, c.write_through) = (true, true));
    let (cdb, list) = unmap(&[(1, 2)]);
    assert_eq!(rig.run(&cdb, &list), Outcome::good(0));
    assert_eq!(rig.run(&ten(0x41, 0, 1, 4), &[1; 512]), Outcome::good(0));
    let write = Op::Write { offset: 512, len: 2048, dsync: false };
    assert_eq!(rig.ops(), [Op::Discard { offset: 512, len: 1024 }, Op::Flush, write, Op::Flush]);
}

#[test]
fn lba_status_lists_runs() {
    let mut rig = thin();
    // A hole of four blocks, and one that covers no whole block.
    rig.io.holes = vec![(1024, 3072), (3072 + 512 + 100, 3072 + 512 + 300)];
    let mut cdb = sixteen(0x9e, 0x12, 1, 4096);
    let data = rig.read(&cdb);
    let run = |lba: u64, blocks: u32, status: u8| {
        [&lba.to_be_bytes()[..], &blocks.to_be_bytes(), &[status, 0, 0, 0]].concat()
    };
    let runs = [run(1, 1, 0), run(2, 4, 1), run(6, BLOCKS as u32 - 6, 0)].concat();
    assert_eq!((&data[8..], &data[..8]), (&runs[..], &[0, 0, 0, 52, 0, 0, 0, 0][..]));
    // Room for one.
    cdb[10..14].copy_from_slice(&24u32.to_be_bytes());
    assert_eq!(rig.read(&cdb)[8..], run(1, 1, 0));
    assert_eq!(rig.run(&sixteen(0x9e, 0x12, BLOCKS, 24), &[]), Outcome::check(SenseData::lba_out_of_range(BLOCKS)));
}
