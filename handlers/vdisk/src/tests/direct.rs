//! Past the page cache: what the storage takes as it is, and what goes through a bounce buffer.

use scst_core::buffer::Memory;
use scst_core::handler::{Execution, Outcome};
use scst_core::io::FileId;
use scst_scsi::{ScsiStatus, SenseData};

use super::rig::{BLOCKS, FakeIo, Fault, Op, Rig, file_disk, pattern, sixteen, ten};
use crate::direct::Alignment;
use crate::queue::Facts;
use crate::{Vdisk, VdiskConfig};

/// A disk over a device with sectors of so many bytes, which wants memory aligned to 512 bytes.
fn direct(sector: u32, block_size: u32) -> Rig {
    let config = VdiskConfig { block_size, ..VdiskConfig::block("d", "/dev/nowhere") };
    let bytes = BLOCKS * u64::from(block_size);
    let disk = Vdisk::simulated(config, bytes).unwrap();
    disk.shared().align(Alignment { memory: 512, sector });
    let shard = disk.open_shard_on(FileId(7));
    let alignment = Some((512, u64::from(sector)));
    Rig::new(disk, shard, FakeIo { bytes: vec![0; bytes as usize], alignment, ..FakeIo::default() })
}

fn write(offset: u64, len: u32) -> Op {
    Op::Write { offset, len, dsync: false }
}

fn read(offset: u64, len: u32) -> Op {
    Op::Read { offset, len }
}

#[test]
fn aligned_buffers_go_as_they_are() {
    let mut rig = direct(512, 512);
    let data = pattern(1, 6 * 512);
    assert_eq!(rig.run(&ten(0x2a, 0, 5, 6), &data), Outcome::good(0));
    assert_eq!(rig.read(&ten(0x28, 0, 5, 6)), data);
    assert_eq!(rig.ops(), [write(2560, 3072), read(2560, 3072)]);
    assert!(!rig.shard.takes_data_in_place(), "the mid-level gives it aligned buffers");
    assert!(file_disk(|_| {}).shard.takes_data_in_place());
}

/// Data that came behind a header, then pages, then two pieces that share a sector.
const SCATTERED: [(u64, u32); 4] = [(48, 1024), (0, 8192), (512, 700), (0, 324)];

#[test]
fn of_a_misaligned_buffer_only_the_misaligned_parts_are_bounced() {
    let mut rig = direct(512, 512);
    let data = pattern(1, 10_240);
    for lba in [3, 900] {
        let mut command = rig.command(&ten(0x2a, 0, lba, 20), &[], None).unwrap();
        command.sg = rig.mem.scattered(&SCATTERED);
        rig.mem.copy_in(&command.sg, 0, &data);
        assert_eq!(rig.finish(&command), Outcome::good(0));
        let at = u64::from(lba) * 512;
        assert_eq!(rig.ops(), [write(at, 1024), write(at + 1024, 8192 + 512), write(at + 9728, 512)]);
        assert_eq!(rig.io.bytes[at as usize..][..10_240], data);

        let mut command = rig.command(&ten(0x28, 0, lba, 20), &[], None).unwrap();
        command.sg = rig.mem.scattered(&SCATTERED);
        let outcome = rig.finish(&command);
        assert_eq!((outcome, rig.data_in(&command, &outcome)), (Outcome::good(10_240), data.clone()));
        assert_eq!(rig.ops(), [read(at, 1024), read(at + 1024, 8192 + 512), read(at + 9728, 512)]);
        assert_eq!(rig.mem.out, 0);
    }
}

#[test]
fn of_a_read_that_wants_less_than_whole_blocks_only_the_last_is_bounced() {
    for (sector, tail) in [(512, 512), (4096, 4096)] {
        let mut rig = direct(sector, 4096);
        rig.io.bytes[8192..24_576].copy_from_slice(&pattern(5, 16_384));
        let command = rig.command(&ten(0x28, 0, 2, 4), &[], Some(12_288 + 100)).unwrap();
        let outcome = rig.finish(&command);
        assert_eq!(outcome, Outcome::good(12_388));
        assert_eq!(rig.data_in(&command, &outcome), pattern(5, 16_384)[..12_388]);
        assert_eq!(rig.ops(), [read(8192, 12_288), read(8192 + 12_288, tail)]);
        assert_eq!(rig.mem.out, 0);
    }
}

#[test]
fn a_transfer_that_ends_within_a_sector_goes_on_at_its_start() {
    let mut rig = direct(512, 512);
    let data = pattern(3, 4096);
    rig.faults(&[Some(Fault::Short(1000)), Some(Fault::Short(1024)), None]);
    assert_eq!(rig.run(&ten(0x2a, 0, 1, 8), &data), Outcome::good(0));
    assert_eq!(rig.ops(), [write(512, 4096), write(1024, 3584), write(2048, 2560)]);
    rig.faults(&[Some(Fault::Short(3000)), None]);
    assert_eq!(rig.read(&ten(0x28, 0, 1, 8)), data);
    assert_eq!(rig.ops(), [read(512, 4096), read(3072, 1536)]);
    // Less than a sector is nothing.
    rig.faults(&[Some(Fault::Short(100)), Some(Fault::Short(100))]);
    assert_eq!(rig.run(&ten(0x2a, 0, 7, 1), &data), Outcome::check(SenseData::write_error(7)));
    rig.faults(&[Some(Fault::Short(100)), Some(Fault::Short(100))]);
    assert_eq!(rig.run(&ten(0x28, 0, 7, 1), &[]), Outcome::check(SenseData::unrecovered_read_error(7)));
}

#[test]
fn the_commands_of_several_steps_are_aligned_too() {
    let mut rig = direct(512, 512);
    let block = pattern(1, 512);
    assert_eq!(rig.run(&sixteen(0x93, 0, 2, 600), &block), Outcome::good(0));
    assert_eq!(rig.io.bytes[1024..][..600 * 512], block.repeat(600));
    assert_eq!(rig.run(&ten(0x2f, 0x06, 2, 600), &block), Outcome::good(0), "VERIFY with one block");
    // COMPARE AND WRITE takes what it writes from the middle of its buffer.
    let mut cdb = sixteen(0x89, 0, 2, 0);
    cdb[13] = 1;
    assert_eq!(rig.run(&cdb, &[block.clone(), pattern(9, 512)].concat()), Outcome::good(0));
    assert_eq!(rig.io.bytes[1024..1536], pattern(9, 512));
    let mut command = rig.command(&ten(0x2e, 0x02, 4, 2), &[], None).unwrap();
    command.sg = rig.mem.scattered(&[(16, 1024)]);
    rig.mem.copy_in(&command.sg, 0, &pattern(4, 1024));
    assert_eq!(rig.finish(&command), Outcome::good(0), "WRITE AND VERIFY");
    assert_eq!((rig.io.bytes[2048..3072] == pattern(4, 1024), rig.mem.out), (true, 0));
}

#[test]
fn without_memory_to_bounce_it_is_busy() {
    let mut rig = direct(512, 512);
    let mut command = rig.command(&ten(0x2a, 0, 0, 2), &[], None).unwrap();
    command.sg = rig.mem.scattered(&[(48, 1024)]);
    rig.mem.refuse = true;
    assert_eq!(rig.finish(&command), Outcome::status(ScsiStatus::BUSY));
    assert_eq!((rig.ops(), rig.mem.out), (vec![], 0));
    assert_eq!(rig.run(&ten(0x2a, 0, 0, 2), &[1; 1024]), Outcome::good(0));
}

#[test]
fn there_is_no_cache_to_read_ahead_into() {
    let mut rig = direct(512, 512);
    assert_eq!(rig.run(&ten(0x34, 0, 0, 8), &[]), Outcome::good(0));
    assert_eq!(rig.ops(), []);
    let mut cached = file_disk(|_| {});
    assert_eq!(cached.run(&ten(0x34, 0, 0, 8), &[]), Outcome::good(0));
    assert_eq!(cached.ops(), [Op::Prefetch { offset: 0, len: 4096 }]);
}

#[test]
fn a_flush_is_not_good_when_another_has_failed_meanwhile() {
    let mut rig = direct(512, 512);
    let sync = ten(0x35, 0, 0, 0);
    let (a, b) = (rig.command(&sync, &[], None).unwrap(), rig.command(&sync, &[], None).unwrap());
    assert_eq!((rig.execute(&a), rig.execute(&b)), (Execution::Pending, Execution::Pending));
    // The kernel tells the first alone.
    rig.faults(&[Some(Fault::Errno(libc::EIO)), None]);
    let failed =
        Execution::Done(Outcome::check(SenseData::new(scst_scsi::SenseKey::MEDIUM_ERROR, scst_scsi::Asc::WRITE_ERROR)));
    assert_eq!((rig.complete(&a), rig.complete(&b)), (failed, failed));
}

#[test]
fn what_is_unmapped_is_trimmed_where_the_device_does_not_promise_zeros() {
    let rig = direct(512, 512);
    assert_eq!(rig.disk.parameters().provisioning, None);
    let config = VdiskConfig { thin_provisioned: true, ..VdiskConfig::block("d", "/dev/nowhere") };
    let promise = |zeros| {
        let facts = Facts { max_discard: 1 << 20, max_discard_to_zeroes: zeros, ..Facts::default() };
        let disk = Vdisk::described(config.clone(), BLOCKS * 512, facts).unwrap();
        let thin = disk.parameters().provisioning.unwrap();
        let shard = disk.open_shard_on(FileId(7));
        let io = FakeIo { bytes: vec![9; BLOCKS as usize * 512], ..FakeIo::default() };
        (Rig::new(disk, shard, io), (thin.reads_zeros, thin.anchor, thin.max_unmap_blocks))
    };
    let unmap = [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0];
    let list = [0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0];
    let range = |op: fn(u64, u64) -> Op| vec![op(512, 1024)];

    let (mut rig, thin) = promise(0);
    assert_eq!(thin, (false, false, 2048));
    assert_eq!(rig.run(&unmap, &list), Outcome::good(0));
    assert_eq!(rig.ops(), range(|offset, len| Op::Trim { offset, len }));
    // WRITE SAME has to leave zeros, whatever the device does.
    assert_eq!(rig.run(&sixteen(0x93, 0x08, 1, 2), &[0; 512]), Outcome::good(0));
    assert_eq!(rig.ops(), range(|offset, len| Op::Zero { offset, len }));
    // That the blocks are not needed is a hint.
    rig.faults(&[Some(Fault::Errno(libc::EOPNOTSUPP))]);
    assert_eq!(rig.run(&unmap, &list), Outcome::good(0));
    assert_eq!(rig.ops().len(), 1);
    rig.faults(&[Some(Fault::Errno(libc::EREMOTEIO))]);
    assert_eq!(rig.run(&unmap, &list), Outcome::check(SenseData::write_error(1)));

    let (mut rig, thin) = promise(512 << 10);
    assert_eq!(thin, (true, false, 1024));
    assert_eq!(rig.run(&unmap, &list), Outcome::good(0));
    rig.ops().clear();
    assert_eq!(rig.run(&sixteen(0x93, 0x08, 1, 2), &[0; 512]), Outcome::good(0));
    assert_eq!(rig.ops(), range(|offset, len| Op::Discard { offset, len }));
}

#[test]
fn a_device_says_itself_how_it_is_made() {
    let facts = Facts { physical_block: 4096, rotational: Some(false), ..Facts::default() };
    let described = |change: fn(&mut VdiskConfig)| {
        let mut config = VdiskConfig::block("d", "/dev/nowhere");
        change(&mut config);
        let disk = Vdisk::described(config, BLOCKS * 512, facts).unwrap();
        let disk = disk.parameters();
        (disk.rotational, disk.physical_exponent, disk.provisioning.is_some())
    };
    assert_eq!(described(|_| {}), (false, 3, false));
    assert_eq!(described(|c| (c.rotational, c.report_physical_blocks) = (Some(true), false)), (true, 0, false));
    assert_eq!(described(|c| c.thin_provisioned = true), (false, 3, false), "it cannot discard");
}

#[test]
fn a_device_with_a_volatile_cache_is_flushed_for_durable_writes_and_the_flush_is_shared() {
    let durable = |volatile_cache| {
        let facts = Facts { volatile_cache, ..Facts::default() };
        let disk = Vdisk::described(VdiskConfig::block("d", "/dev/nowhere"), BLOCKS * 512, facts).unwrap();
        let shard = disk.open_shard_on(FileId(7));
        let io = FakeIo { bytes: vec![0; BLOCKS as usize * 512], ..FakeIo::default() };
        let mut rig = Rig::new(disk, shard, io);
        assert_eq!(rig.run(&ten(0x2a, 0x08, 1, 2), &[1; 1024]), Outcome::good(0));
        rig.ops()
    };
    let write = |dsync| Op::Write { offset: 512, len: 1024, dsync };
    assert_eq!(durable(true), [write(false), Op::Flush]);
    assert_eq!(durable(false), [write(true)], "it reports its own error");
}
