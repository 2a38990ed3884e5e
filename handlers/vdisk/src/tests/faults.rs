//! Storage that fails, is short, full, busy or gone.

use scst_core::handler::{Execution, Outcome};
use scst_scsi::{Asc, ScsiStatus, SenseData, SenseKey};

use crate::ErrorKind;

use super::rig::{BLOCKS, Fault, Op, disk, pattern, sixteen, ten};

#[test]
fn short_transfers_go_on_where_they_stopped() {
    let mut rig = disk();
    let data = pattern(1, 4096);
    rig.faults(&[Some(Fault::Short(1000)), Some(Fault::Short(96)), None]);
    assert_eq!(rig.run(&ten(0x2a, 0x08, 1, 8), &data), Outcome::good(0));
    let write = |offset, len| Op::Write { offset, len, dsync: false };
    assert_eq!(rig.ops(), [write(512, 4096), write(1512, 3096), write(1608, 3000), Op::Flush]);
    assert_eq!(rig.io.bytes[512..4608], data);
    rig.faults(&[Some(Fault::Short(1)), Some(Fault::Short(4094)), None]);
    assert_eq!(rig.read(&ten(0x28, 0, 1, 8)), data);
    assert_eq!(rig.ops().len(), 3);
}

#[test]
fn a_file_that_was_cut_has_unreadable_blocks_until_it_is_whole() {
    let mut rig = disk();
    rig.io.bytes.truncate(10 * 512 + 100);
    assert_eq!(rig.run(&ten(0x28, 0, 8, 4), &[]), Outcome::check(SenseData::unrecovered_read_error(10)));
    assert_eq!(rig.run(&ten(0x28, 0, 20, 4), &[]), Outcome::check(SenseData::unrecovered_read_error(20)));
    assert_eq!(rig.run(&ten(0x2f, 0, 8, 4), &[]), Outcome::check(SenseData::unrecovered_read_error(10)));
    rig.io.bytes.resize(BLOCKS as usize * 512, 0);
    assert_eq!(rig.run(&ten(0x28, 0, 8, 4), &[]), Outcome::good(2048));
}

#[test]
fn errors_name_the_block() {
    let mut rig = disk();
    rig.faults(&[Some(Fault::Errno(libc::EIO))]);
    assert_eq!(rig.run(&ten(0x28, 0, 77, 2), &[]), Outcome::check(SenseData::unrecovered_read_error(77)));
    rig.faults(&[Some(Fault::Short(1024)), Some(Fault::Errno(libc::EIO))]);
    assert_eq!(rig.run(&ten(0x2a, 0, 77, 4), &[0; 2048]), Outcome::check(SenseData::write_error(79)));
    rig.faults(&[None, Some(Fault::Errno(libc::EIO))]);
    assert_eq!(rig.run(&sixteen(0x8f, 0, 0, 1024), &[]), Outcome::check(SenseData::unrecovered_read_error(512)));
    for errno in [libc::ENOSPC, libc::EDQUOT] {
        rig.faults(&[Some(Fault::Errno(errno))]);
        assert_eq!(rig.run(&ten(0x2a, 0, 0, 1), &[0; 512]), Outcome::check(SenseData::space_allocation_failed()));
    }
    rig.faults(&[Some(Fault::Short(0))]);
    assert_eq!(rig.run(&ten(0x2a, 0, 5, 1), &[0; 512]), Outcome::check(SenseData::write_error(5)));
}

#[test]
fn errors_are_counted_by_kind_with_the_last_errno() {
    let mut rig = disk();
    let counts =
        |rig: &super::rig::Rig| ErrorKind::ALL.map(|kind| rig.disk.storage_errors(kind)).map(|e| (e.count, e.errno));
    for errno in [libc::EIO, libc::ENOSPC] {
        rig.faults(&[Some(Fault::Errno(errno))]);
        rig.run(&ten(0x2a, 0, 0, 1), &[0; 512]);
    }
    rig.faults(&[Some(Fault::Errno(libc::EIO)), Some(Fault::Errno(libc::EAGAIN)), Some(Fault::Errno(libc::EDQUOT))]);
    rig.run(&ten(0x28, 0, 0, 1), &[]);
    rig.run(&ten(0x28, 0, 0, 1), &[]);
    rig.run(&ten(0x35, 0, 0, 0), &[]);
    assert_eq!(counts(&rig), [(1, libc::EIO), (2, libc::ENOSPC), (1, libc::EDQUOT)]);
    // What the file does not have any more: by the one operation of a READ, and by a step of VERIFY.
    rig.io.bytes.truncate(512);
    rig.run(&ten(0x28, 0, 8, 1), &[]);
    rig.run(&ten(0x2f, 0, 8, 4), &[]);
    assert_eq!(counts(&rig)[0], (3, 0));
}

#[test]
fn no_room_is_busy_and_leaves_nothing_behind() {
    let busy = Outcome::status(ScsiStatus::BUSY);
    let mut rig = disk();
    rig.io.full = true;
    for cdb in [ten(0x28, 0, 0, 1), ten(0x2a, 0, 0, 1), ten(0x2f, 0, 0, 1), ten(0x35, 0, 0, 0)] {
        assert_eq!(rig.run(&cdb, &[0; 512]), busy, "{cdb:02x?}");
    }
    rig.io.full = false;
    rig.mem.refuse = true;
    assert_eq!(rig.run(&ten(0x2f, 0, 0, 1), &[]), busy);
    assert_eq!(rig.run(&ten(0x28, 0, 0, 1), &[]), Outcome::good(512), "READ needs no scratch buffer");
    rig.faults(&[Some(Fault::Errno(libc::EAGAIN))]);
    assert_eq!(rig.run(&ten(0x28, 0, 0, 1), &[]), busy);
}

#[test]
fn a_device_that_is_gone_makes_the_disk_not_ready() {
    let not_ready = SenseData::not_ready(Asc::LUN_NOT_READY_MANUAL_INTERVENTION_REQUIRED);
    let mut rig = disk();
    rig.faults(&[Some(Fault::Errno(libc::ENXIO))]);
    assert_eq!(rig.run(&ten(0x28, 0, 0, 1), &[]), Outcome::check(not_ready));
    assert!(!rig.disk.status().online);
    for cdb in [&[0; 6][..], &ten(0x2a, 0, 0, 1), &ten(0x25, 0, 0, 0)] {
        assert_eq!(rig.run(cdb, &[0; 512]), Outcome::check(not_ready), "{cdb:02x?}");
    }
    assert_eq!(rig.read(&[0x12, 0, 0, 0, 36, 0])[0], 0, "INQUIRY goes on");
    assert_eq!(rig.ops().len(), 1);
}

#[test]
fn a_cancelled_command_ends_at_its_next_step() {
    let mut rig = disk();
    let command = rig.command(&sixteen(0x8f, 0, 0, 4096), &[], None).unwrap();
    assert_eq!(rig.execute(&command), Execution::Pending);
    assert_eq!(rig.complete(&command), Execution::Pending);
    rig.shard.cancel(command.id, &mut rig.io);
    assert_eq!(rig.io.cancelled, [command.id]);
    let Execution::Done(outcome) = rig.complete(&command) else { panic!("still under way") };
    assert_eq!(outcome.sense.unwrap().key, SenseKey::ABORTED_COMMAND);
    assert_eq!((rig.ops().len(), rig.mem.out), (2, 0));
}

#[test]
fn two_commands_of_several_steps_do_not_meet() {
    let mut rig = disk();
    rig.io.bytes[..1024].copy_from_slice(&pattern(1, 1024));
    let a = rig.command(&ten(0x2f, 0x02, 0, 1), &pattern(1, 1024)[..512], None).unwrap();
    let b = rig.command(&ten(0x2f, 0x02, 1, 1), &[0xff; 512], None).unwrap();
    assert_eq!((rig.execute(&a), rig.execute(&b)), (Execution::Pending, Execution::Pending));
    assert_eq!(rig.complete(&a), Execution::Done(Outcome::good(0)));
    let Execution::Done(outcome) = rig.complete(&b) else { panic!("still under way") };
    assert_eq!(outcome.sense.unwrap().key, SenseKey::MISCOMPARE);
    assert_eq!(rig.mem.out, 0);
}
