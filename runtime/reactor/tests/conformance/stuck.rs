//! Stories about a file whose storage does not answer. They need root and FUSE.

use std::fs::File;
use std::sync::Arc;

use scst_core::ids::CmdId;
use scst_core::io::{FileId, IoCompletion, IoOp, IoToken};
use scst_reactor::backend::{Backend, Completion};
use scst_testkit::{HeldFile, Requests};

use crate::DEPTH;
use crate::stage::Stage;

const BYTES: u64 = 16 << 20;
/// Between two READs, so that they have no page in common.
const STEP: u64 = BYTES / DEPTH as u64;
/// Operations on each of two files that hang: more than a file may have threads. One more operation is within the depth.
const STUCK: u32 = DEPTH / 2 - 1;

fn command(index: u32) -> CmdId {
    CmdId { index, generation: 1 }
}

fn token(index: u32) -> IoToken {
    IoToken { cmd: command(index), tag: 0 }
}

/// A file on storage of its own. FUSE cannot tell what would wait, so every transfer needs a thread.
fn held_file<B: Backend>(stage: &mut Stage<B>) -> (HeldFile, FileId) {
    let held = HeldFile::new(vec![5; BYTES as usize]).unwrap_or_else(|e| panic!("{e:#}"));
    let file = File::options().read(true).write(true).open(held.path()).unwrap();
    let file = stage.backend.register_file(Arc::new(file), false);
    (held, file)
}

/// Sends what has been submitted on its way, and takes what has ended.
fn turn<B: Backend>(stage: &mut Stage<B>) -> Vec<Completion> {
    let now = stage.backend.now();
    stage.wait_until(now)
}

fn end<B: Backend>(stage: &mut Stage<B>) -> (u32, i32) {
    match stage.next() {
        Completion::Io(IoCompletion { token, result, .. }) => (token.cmd.index, result),
        other => panic!("{other:?}"),
    }
}

/// A WRITE, a READ, a search for data and a flush of a file, one after the other.
fn goes_on<B: Backend>(stage: &mut Stage<B>, file: FileId) {
    let sg = stage.buffer(&[7; 4096]);
    let (offset, sg_offset, len) = (0, 0, 4096);
    let ops = [
        (IoOp::Write { file, offset, sg: &sg, sg_offset, len, dsync: false }, 4096),
        (IoOp::Read { file, offset, sg: &sg, sg_offset, len }, 4096),
        (IoOp::Mapped { file, offset, len: 4096 }, 1),
        (IoOp::Flush { file }, 0),
    ];
    for (op, result) in ops {
        stage.backend.submit(token(1000), op).unwrap();
        assert_eq!(end(stage), (1000, result), "{op:?}");
    }
    assert_eq!(stage.contents(&sg), [7; 4096]);
    stage.pool.release(&sg);
}

pub(crate) fn files_that_hang_hold_up_no_other<B: Backend>(mut stage: Stage<B>) {
    // READs of one and searches for data in the other do not end.
    let (first, second) = (held_file(&mut stage), held_file(&mut stage));
    let (_, other) = held_file(&mut stage);
    let holds = [first.0.hold(Requests::Reads(0..BYTES)), second.0.hold(Requests::Seeks)];
    let sg = stage.buffer(&[0; 4096]);
    for n in 0..STUCK {
        let offset = u64::from(n) * STEP;
        let op = IoOp::Read { file: first.1, offset, sg: &sg, sg_offset: 0, len: 4096 };
        stage.backend.submit(token(n), op).unwrap();
        stage.backend.submit(token(STUCK + n), IoOp::Mapped { file: second.1, offset, len: STEP }).unwrap();
    }
    assert_eq!(turn(&mut stage), []);
    for hold in &holds {
        hold.wait(1).unwrap();
    }
    goes_on(&mut stage, other);
    // A file that comes now, too, and one that goes while its operations hang.
    stage.backend.unregister_file(second.1);
    let newcomer = held_file(&mut stage);
    goes_on(&mut stage, newcomer.1);
    stage.assert_quiet();
    drop(holds);
    let mut ends: Vec<_> = (0..2 * STUCK).map(|_| end(&mut stage)).collect();
    ends.sort_unstable();
    let reads = (0..STUCK).map(|n| (n, 4096));
    assert_eq!(ends, reads.chain((STUCK..2 * STUCK).map(|n| (n, 1))).collect::<Vec<_>>());
    drop(stage);
}

pub(crate) fn what_waits_for_a_thread_of_a_file_that_hangs_is_cancelled<B: Backend>(mut stage: Stage<B>) {
    let (held, file) = held_file(&mut stage);
    let hold = held.hold(Requests::Seeks);
    // More than a file may have threads.
    let count = DEPTH - 2;
    for n in 0..count {
        stage.backend.submit(token(n), IoOp::Mapped { file, offset: u64::from(n) * STEP, len: STEP }).unwrap();
    }
    assert_eq!(turn(&mut stage), []);
    hold.wait(1).unwrap();
    for n in [count - 1, count - 3] {
        stage.backend.cancel(command(n));
        assert_eq!(end(&mut stage), (n, -libc::ECANCELED));
    }
    stage.assert_quiet();
    drop(hold);
    let mut ends: Vec<_> = (0..count - 2).map(|_| end(&mut stage)).collect();
    ends.sort_unstable();
    let expected = (0..count).filter(|n| ![count - 1, count - 3].contains(n)).map(|n| (n, 1));
    assert_eq!(ends, expected.collect::<Vec<_>>());
    drop(stage);
}
