//! When data are durable, and what a failed flush means.

use scst_core::handler::{Execution, Outcome};
use scst_scsi::{Asc, SenseData, SenseKey};

use super::rig::{Fault, Op, Rig, disk, file_disk, ten};

const SYNC: [u8; 10] = [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const SYNC_IMMED: [u8; 10] = [0x35, 2, 0, 0, 0, 0, 0, 0, 0, 0];

fn is_durable(rig: &mut Rig, bits: u8) -> bool {
    assert_eq!(rig.run(&ten(0x2a, bits, 0, 1), &[1; 512]), Outcome::good(0));
    match rig.ops()[..] {
        [Op::Write { dsync: false, .. }] => false,
        [Op::Write { dsync: false, .. }, Op::Flush] => true,
        ref ops => panic!("{ops:?}"),
    }
}

/// MODE SELECT(6) of a caching page.
fn set_write_cache(rig: &mut Rig, on: bool) -> Outcome {
    let mut list = vec![0; 24];
    (list[4], list[5], list[6]) = (0x08, 0x12, u8::from(on) << 2);
    rig.run(&[0x15, 0x10, 0, 0, 24, 0], &list)
}

#[test]
fn a_write_is_durable_by_fua_write_through_or_mode_page() {
    let mut rig = disk();
    assert!(!is_durable(&mut rig, 0) && is_durable(&mut rig, 0x08));
    let mut rig = file_disk(|c| c.write_through = true);
    assert!(is_durable(&mut rig, 0));
    let mut rig = file_disk(|c| c.nv_cache = true);
    assert!(!is_durable(&mut rig, 0) && !is_durable(&mut rig, 0x08));
}

#[test]
fn switching_the_cache_off_flushes_it_first() {
    let mut rig = disk();
    let outcome = set_write_cache(&mut rig, false);
    assert_eq!((outcome.status.0, outcome.effects.attention_for_others), (0, Some(Asc::MODE_PARAMETERS_CHANGED)));
    assert!(outcome.effects.control.is_some());
    assert_eq!(rig.ops(), [Op::Flush]);
    assert!(is_durable(&mut rig, 0));
    let outcome = set_write_cache(&mut rig, true);
    assert_eq!((outcome.status.0, rig.ops()), (0, vec![]));
    assert!(!is_durable(&mut rig, 0));
    rig.faults(&[Some(Fault::Errno(libc::EIO))]);
    assert_eq!(set_write_cache(&mut rig, false).sense.unwrap().asc, Asc::WRITE_ERROR);
    rig.ops();
    assert!(!is_durable(&mut rig, 0), "nothing has changed");
}

#[test]
fn synchronize_cache_flushes_unless_the_cache_is_non_volatile() {
    let mut rig = disk();
    assert_eq!((rig.run(&SYNC, &[]), rig.ops()), (Outcome::good(0), vec![Op::Flush]));
    assert_eq!((rig.run(&SYNC_IMMED, &[]), rig.ops()), (Outcome::good(0), vec![Op::Flush]));
    let mut rig = file_disk(|c| c.nv_cache = true);
    assert_eq!((rig.run(&SYNC, &[]), rig.ops()), (Outcome::good(0), vec![]));
}

#[test]
fn reading_with_fua_flushes_first() {
    let mut rig = disk();
    rig.io.bytes[..512].fill(3);
    assert_eq!(rig.read(&ten(0x28, 0x08, 0, 1)), [3; 512]);
    assert_eq!(rig.ops(), [Op::Flush, Op::Read { offset: 0, len: 512 }]);
    let mut rig = file_disk(|c| c.write_through = true);
    rig.read(&ten(0x28, 0x08, 0, 1));
    assert_eq!(rig.ops(), [Op::Read { offset: 0, len: 512 }]);
}

#[test]
fn a_failed_flush_fails_every_flush_after_it() {
    let mut rig = disk();
    let lost = Outcome::check(SenseData::new(SenseKey::MEDIUM_ERROR, Asc::WRITE_ERROR));
    rig.faults(&[Some(Fault::Errno(libc::EIO))]);
    assert_eq!(rig.run(&SYNC, &[]), lost);
    // The kernel would call the next one good: it has told the error once.
    assert_eq!(rig.run(&SYNC, &[]), lost);
    assert_eq!(rig.run(&[0x1b, 0, 0, 0, 0, 0], &[]), lost, "START STOP UNIT, stop");
    assert_eq!(rig.ops(), [Op::Flush]);
    assert_eq!(rig.disk.status().flush_error, Some(libc::EIO));
    assert_eq!(rig.disk.sync().unwrap_err().raw_os_error(), Some(libc::EIO));
    // Reading goes on, and writing of what nobody calls durable.
    assert!(!is_durable(&mut rig, 0));
    rig.read(&ten(0x28, 0, 0, 1));
    rig.ops();
    assert_eq!(rig.run(&ten(0x2a, 0x08, 0, 1), &[1; 512]), lost);
    assert_eq!((rig.run(&ten(0x28, 0x08, 0, 1), &[]), rig.ops()), (lost, vec![]), "READ with FUA");
}

/// Which blocks are lost is not known.
fn lost() -> Outcome {
    Outcome::check(SenseData::new(SenseKey::MEDIUM_ERROR, Asc::WRITE_ERROR))
}

#[test]
fn a_write_that_fails_has_lost_nothing_else() {
    let mut rig = disk();
    rig.run(&ten(0x2a, 0, 1, 1), &[0; 512]);
    for (errno, sense) in [(libc::EIO, SenseData::write_error(9)), (libc::ENOSPC, SenseData::space_allocation_failed())]
    {
        rig.faults(&[Some(Fault::Errno(errno))]);
        assert_eq!(rig.run(&ten(0x2a, 0x08, 9, 1), &[0; 512]), Outcome::check(sense));
    }
    assert_eq!((rig.run(&SYNC, &[]), rig.disk.status().flush_error), (Outcome::good(0), None));
}

#[test]
fn a_durable_write_whose_flush_fails_has_lost_data_of_anybody() {
    // Whether something was cached before or not, and whatever the errno.
    for errno in [libc::EIO, libc::ENOSPC, libc::EAGAIN, libc::ENOMEM, libc::ETIMEDOUT] {
        let mut rig = disk();
        let lost = if errno == libc::ENOSPC { Outcome::check(SenseData::space_allocation_failed()) } else { lost() };
        rig.faults(&[None, Some(Fault::Errno(errno))]);
        assert_eq!(rig.run(&ten(0x2a, 0x08, 9, 1), &[0; 512]), lost);
        assert_eq!(rig.disk.status().flush_error, Some(errno));
        rig.ops();
        let mut compare_and_write = super::rig::sixteen(0x89, 0x08, 9, 0);
        compare_and_write[13] = 1;
        for cdb in [&SYNC[..], &SYNC_IMMED, &ten(0x2a, 0x08, 9, 1), &ten(0x2e, 0, 9, 1), &compare_and_write] {
            assert_eq!(rig.run(cdb, &[0; 1024]), lost, "{cdb:02x?}");
        }
        assert!(!rig.ops().contains(&Op::Flush), "there is nothing to ask");
    }
}

#[test]
fn of_durable_writes_that_overlap_none_is_good_behind_a_failure() {
    let write = |lba| ten(0x2a, 0x08, lba, 1);
    let mut rig = disk();
    let commands = [1, 2, 3].map(|lba| rig.command(&write(lba), &[1; 512], None).unwrap());
    for command in &commands {
        assert_eq!(rig.execute(command), Execution::Pending);
    }
    // The writes end, and the flushes begin.
    for command in &commands {
        assert_eq!(rig.complete(command), Execution::Pending);
    }
    rig.faults(&[None, Some(Fault::Errno(libc::EIO)), None]);
    let ends = commands.each_ref().map(|command| rig.complete(command));
    assert_eq!(ends, [Outcome::good(0), lost(), lost()].map(Execution::Done));
}

#[test]
fn a_durable_write_past_the_page_cache_is_not_good_behind_a_failure() {
    let mut rig = file_disk(|c| (c.o_direct, c.write_through) = (true, true));
    let [a, b] = [1, 2].map(|lba| rig.command(&ten(0x2a, 0, lba, 1), &[1; 512], None).unwrap());
    assert_eq!((rig.execute(&a), rig.execute(&b)), (Execution::Pending, Execution::Pending));
    let flush = rig.command(&SYNC, &[], None).unwrap();
    assert_eq!(rig.complete(&a), Execution::Done(Outcome::good(0)));
    rig.io.queue.rotate_left(1);
    assert_eq!(rig.execute(&flush), Execution::Pending);
    rig.io.queue.rotate_left(1);
    rig.faults(&[Some(Fault::Errno(libc::EIO)), None]);
    assert_eq!((rig.complete(&flush), rig.complete(&b)), (Execution::Done(lost()), Execution::Done(lost())));
}

#[test]
fn a_full_storage_found_by_a_flush_has_lost_data() {
    let mut rig = disk();
    rig.faults(&[Some(Fault::Errno(libc::EDQUOT))]);
    let full = Outcome::check(SenseData::space_allocation_failed());
    assert_eq!((rig.run(&SYNC, &[]), rig.run(&SYNC, &[])), (full, full));
}

#[test]
fn a_flush_that_was_cancelled_has_lost_nothing() {
    let mut rig = disk();
    rig.faults(&[Some(Fault::Errno(libc::ECANCELED))]);
    assert_eq!(rig.run(&SYNC, &[]).sense.unwrap().key, SenseKey::ABORTED_COMMAND);
    assert_eq!(rig.run(&SYNC, &[]), Outcome::good(0));
}

#[test]
fn of_two_flushes_side_by_side_none_is_good_when_one_has_failed() {
    let mut rig = disk();
    let lost = Execution::Done(Outcome::check(SenseData::new(SenseKey::MEDIUM_ERROR, Asc::WRITE_ERROR)));
    let (a, b) = (rig.command(&SYNC, &[], None).unwrap(), rig.command(&SYNC, &[], None).unwrap());
    assert_eq!((rig.execute(&a), rig.execute(&b)), (Execution::Pending, Execution::Pending));
    // The kernel tells the error to the first of them only; what the second was for may be lost as well.
    rig.faults(&[Some(Fault::Errno(libc::EIO)), None]);
    assert_eq!((rig.complete(&a), rig.complete(&b)), (lost, lost));
}
