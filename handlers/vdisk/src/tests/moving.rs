//! READ, WRITE, and the commands that compare.

use scst_core::handler::Outcome;
use scst_scsi::SenseData;

use super::rig::{BLOCKS, Op, disk, file_disk, pattern, sixteen, ten};

fn write(offset: u64, len: u32, dsync: bool) -> Op {
    Op::Write { offset, len, dsync }
}

#[test]
fn what_is_written_is_read_with_one_operation_each() {
    let mut rig = disk();
    let data = pattern(1, 3 * 512);
    assert_eq!(rig.run(&ten(0x2a, 0, 5, 3), &data), Outcome::good(0));
    assert_eq!(rig.read(&ten(0x28, 0, 5, 3)), data);
    assert_eq!(rig.ops(), [write(2560, 1536, false), Op::Read { offset: 2560, len: 1536 }]);
    assert_eq!(rig.read(&sixteen(0x88, 0, 6, 1)), data[512..1024]);
    assert_eq!(rig.read(&[0x08, 0, 0, 6, 1, 0]), data[512..1024]);
    rig.ops();
    assert_eq!(rig.read(&[0x08, 0, 0, 0, 0, 0]).len(), 256 * 512);
    assert_eq!(rig.ops(), [Op::Read { offset: 0, len: 131_072 }]);
}

#[test]
fn no_blocks_are_no_operation() {
    let mut rig = disk();
    assert_eq!(rig.run(&ten(0x28, 0, 0, 0), &[]), Outcome::good(0));
    assert_eq!(rig.run(&ten(0x2a, 0, BLOCKS as u32, 0), &[]), Outcome::good(0));
    assert_eq!(rig.ops(), []);
}

#[test]
fn a_range_past_the_end_moves_nothing() {
    let mut rig = disk();
    let last = BLOCKS as u32 - 1;
    let out_of_range = |lba| Outcome::check(SenseData::lba_out_of_range(lba));
    assert_eq!(rig.run(&ten(0x28, 0, last, 2), &[]), out_of_range(BLOCKS));
    assert_eq!(rig.run(&ten(0x2a, 0, last + 5, 1), &[0; 512]), out_of_range(BLOCKS + 4));
    assert_eq!(rig.run(&sixteen(0x8a, 0, u64::MAX, 1), &[0; 512]), out_of_range(u64::MAX));
    assert_eq!(rig.ops(), []);
}

#[test]
fn fewer_bytes_than_the_cdb_says() {
    let mut rig = disk();
    rig.io.bytes.fill(9);
    let command = rig.command(&ten(0x28, 0, 0, 2), &[], Some(600)).unwrap();
    let outcome = rig.finish(&command);
    assert_eq!((outcome, rig.data_in(&command, &outcome)), (Outcome::good(600), vec![9; 600]));
    let command = rig.command(&ten(0x2a, 0, 0, 2), &[1; 512], Some(512)).unwrap();
    assert_eq!(rig.finish(&command), Outcome::good(0));
    assert_eq!(rig.io.bytes[..513], [[1; 512].as_slice(), &[9]].concat());
    let command = rig.command(&ten(0x2a, 0, 0, 2), &[2; 600], Some(600)).unwrap();
    assert_eq!(rig.finish(&command).sense.unwrap().asc.0, 0x0e03);
    assert_eq!(rig.io.bytes[0], 1);
}

#[test]
fn verify_reads_in_pieces_and_compares() {
    let mut rig = disk();
    let blocks = 1025;
    let mut data = pattern(5, 1025 * 512);
    rig.io.bytes[512..512 + data.len()].copy_from_slice(&data);
    assert_eq!(rig.run(&sixteen(0x8f, 0, 1, blocks), &[]), Outcome::good(0));
    let piece = |at: u64, len: u32| Op::Read { offset: 512 + at, len };
    assert_eq!(rig.ops(), [piece(0, 262_144), piece(262_144, 262_144), piece(524_288, 512)]);
    assert_eq!(rig.run(&sixteen(0x8f, 0x02, 1, blocks), &data), Outcome::good(0));
    data[300_001] ^= 1;
    assert_eq!(rig.run(&sixteen(0x8f, 0x02, 1, blocks), &data), Outcome::check(SenseData::miscompare(300_001)));
}

#[test]
fn verify_against_one_block() {
    let mut rig = file_disk(|c| c.block_size = 8192);
    let block = pattern(7, 8192);
    for at in 0..40 {
        rig.io.bytes[8192 * at..8192 * (at + 1)].copy_from_slice(&block);
    }
    assert_eq!(rig.run(&ten(0x2f, 0x06, 0, 40), &block), Outcome::good(0));
    rig.io.bytes[8192 * 39 + 77] ^= 0x80;
    assert_eq!(rig.run(&ten(0x2f, 0x06, 0, 40), &block), Outcome::check(SenseData::miscompare(77)));
}

#[test]
fn compare_and_write_writes_only_what_matches() {
    let mut rig = disk();
    let (old, new) = (pattern(1, 1024), pattern(2, 1024));
    rig.io.bytes[..1024].copy_from_slice(&old);
    let mut cdb = sixteen(0x89, 0, 0, 0);
    cdb[13] = 2;
    assert_eq!(rig.run(&cdb, &[old.clone(), new.clone()].concat()), Outcome::good(0));
    assert_eq!(rig.io.bytes[..1024], new);
    assert_eq!(rig.ops(), [Op::Read { offset: 0, len: 1024 }, write(0, 1024, false)]);
    cdb[1] = 0x08;
    let mut almost = new.clone();
    almost[513] ^= 4;
    assert_eq!(rig.run(&cdb, &[almost, old.clone()].concat()), Outcome::check(SenseData::miscompare(513)));
    assert_eq!((rig.ops().len(), &rig.io.bytes[..1024]), (1, &new[..]));
    assert_eq!(rig.run(&cdb, &[new, old].concat()), Outcome::good(0));
    assert_eq!(rig.ops()[1..], [write(0, 1024, false), Op::Flush]);
}

#[test]
fn orwrite_ors() {
    let mut rig = disk();
    rig.io.bytes[..1024].fill(0x05);
    assert_eq!(rig.run(&sixteen(0x8b, 0, 0, 2), &[0x30; 1024]), Outcome::good(0));
    assert_eq!(rig.io.bytes[..1025], [[0x35; 1024].as_slice(), &[0]].concat());
    assert_eq!(rig.ops(), [Op::Read { offset: 0, len: 1024 }, write(0, 1024, false)]);
}

#[test]
fn write_and_verify_is_durable_and_reads_back() {
    let mut rig = disk();
    assert_eq!(rig.run(&ten(0x2e, 0x02, 3, 1), &[7; 512]), Outcome::good(0));
    assert_eq!(rig.ops(), [write(1536, 512, false), Op::Flush, Op::Read { offset: 1536, len: 512 }]);
}

#[test]
fn write_and_verify_with_fewer_bytes_checks_what_it_wrote() {
    let mut rig = disk();
    let command = rig.command(&ten(0x2e, 0x02, 3, 2), &[7; 512], Some(512)).unwrap();
    assert_eq!(rig.finish(&command), Outcome::good(0));
    assert_eq!(rig.ops(), [write(1536, 512, false), Op::Flush, Op::Read { offset: 1536, len: 512 }]);
    let command = rig.command(&ten(0x2e, 0x02, 3, 1), &[], Some(0)).unwrap();
    assert_eq!(rig.finish(&command), Outcome::good(0));
    assert_eq!(rig.ops(), []);
}

#[test]
fn prefetch_only_advises() {
    let mut rig = disk();
    assert_eq!(rig.run(&ten(0x34, 0, 2, 3), &[]), Outcome::good(0));
    assert_eq!(rig.run(&ten(0x34, 0x02, 4000, 0), &[]), Outcome::good(0));
    let ops = [Op::Prefetch { offset: 1024, len: 1536 }, Op::Prefetch { offset: 4000 * 512, len: 96 * 512 }];
    assert_eq!(rig.ops(), ops);
}
