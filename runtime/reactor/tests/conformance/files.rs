//! Stories about storage.

use std::collections::BTreeMap;
use std::sync::Arc;

use scst_core::buffer::{Memory, SgList};
use scst_core::ids::CmdId;
use scst_core::io::{FileId, IoCompletion, IoOp, IoToken, QueueFull};
use scst_reactor::SyncGate;
use scst_reactor::backend::{Backend, Completion};
use scst_testkit::{HeldFile, Requests};

use crate::DEPTH;
use crate::stage::Stage;

fn token(index: u32, tag: u8) -> IoToken {
    IoToken { cmd: CmdId { index, generation: 1 }, tag }
}

fn next_io<B: Backend>(stage: &mut Stage<B>) -> IoCompletion {
    match stage.next() {
        Completion::Io(io) => io,
        other => panic!("{other:?}"),
    }
}

/// Does one operation and returns result and second result.
fn run<B: Backend>(stage: &mut Stage<B>, op: IoOp<'_>) -> (i32, u64) {
    stage.backend.submit(token(7, 3), op).unwrap();
    let io = next_io(stage);
    assert_eq!(io.token, token(7, 3));
    (io.result, io.extra)
}

fn write<B: Backend>(stage: &mut Stage<B>, file: FileId, offset: u64, data: &[u8], dsync: bool) {
    let sg = stage.buffer(data);
    let len = sg.bytes();
    assert_eq!(run(stage, IoOp::Write { file, offset, sg: &sg, sg_offset: 0, len, dsync }), (len as i32, 0));
    stage.pool.release(&sg);
}

fn read<B: Backend>(stage: &mut Stage<B>, file: FileId, offset: u64, len: u32) -> Vec<u8> {
    let sg = stage.pool.allocate(len).unwrap();
    let (n, _) = run(stage, IoOp::Read { file, offset, sg: &sg, sg_offset: 0, len });
    let mut data = stage.contents(&sg);
    data.truncate(usize::try_from(n).unwrap());
    stage.pool.release(&sg);
    data
}

pub(crate) fn what_was_written_is_read_back<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let file = stage.file(16 << 20);
    let file = stage.backend.register_file(file, false);
    // A list of several extents, of which a part in the middle is moved.
    let sg = stage.pool.allocate((2 << 20) + 8192).unwrap();
    let data: Vec<u8> = (0..sg.bytes()).map(|i| (i / 512) as u8 ^ i as u8).collect();
    stage.pool.copy_in(&sg, 0, &data);
    let (sg_offset, len) = (512, (2 << 20) + 1024);
    for dsync in [false, true] {
        let op = IoOp::Write { file, offset: 4096, sg: &sg, sg_offset, len, dsync };
        assert_eq!(run(&mut stage, op), (len as i32, 0));
        assert_eq!(run(&mut stage, IoOp::Flush { file }), (0, 0));
        let back = read(&mut stage, file, 4096, len);
        assert!(back == data[512..512 + len as usize]);
        assert_eq!(read(&mut stage, file, 0, 4096), vec![0; 4096]);
    }
    assert_eq!(run(&mut stage, IoOp::Prefetch { file, offset: 0, len: 1 << 20 }), (0, 0));
    // A read into the middle of a list leaves the rest alone.
    stage.pool.fill(&sg, 0, sg.bytes(), 9);
    assert_eq!(run(&mut stage, IoOp::Read { file, offset: 4096, sg: &sg, sg_offset: 4096, len: 512 }), (512, 0));
    let all = stage.contents(&sg);
    assert!(all[..4096].iter().all(|b| *b == 9) && all[4608..].iter().all(|b| *b == 9));
    assert_eq!(all[4096..4608], data[512..1024]);
}

pub(crate) fn the_end_of_the_file_gives_a_short_read<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let file = stage.file(6144);
    let file = stage.backend.register_file(file, false);
    write(&mut stage, file, 5632, &[1; 512], false);
    assert_eq!(read(&mut stage, file, 5632, 4096), vec![1; 512]);
    assert_eq!(read(&mut stage, file, 6144, 4096), Vec::<u8>::new());
}

pub(crate) fn discard_and_zero_read_as_zeros<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let file = stage.file(1 << 20);
    let file = stage.backend.register_file(file, false);
    write(&mut stage, file, 0, &[0xee; 65536], false);
    assert_eq!(run(&mut stage, IoOp::Discard { file, offset: 4096, len: 8192 }), (0, 0));
    assert_eq!(read(&mut stage, file, 4096, 8192), vec![0; 8192]);
    assert_eq!(run(&mut stage, IoOp::Zero { file, offset: 16384, len: 512 }), (0, 0));
    let data = read(&mut stage, file, 0, 65536);
    for (range, value) in [(0..4096, 0xee), (4096..12288, 0), (12288..16384, 0xee), (16384..16896, 0)] {
        assert!(data[range.clone()].iter().all(|b| *b == value), "{range:?}");
    }
    assert!(data[16896..].iter().all(|b| *b == 0xee));
    assert_eq!(run(&mut stage, IoOp::Allocate { file, offset: 65536, len: 65536 }), (0, 0));
    assert_eq!(read(&mut stage, file, 65536, 512), vec![0; 512]);
    assert_eq!(read(&mut stage, file, (1 << 20) - 512, 1024).len(), 512, "the size stays");
}

pub(crate) fn holes_are_told_from_data<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let file = stage.file(1 << 20);
    let file = stage.backend.register_file(file, false);
    assert_eq!(run(&mut stage, IoOp::Mapped { file, offset: 0, len: 1 << 20 }), (0, 1 << 20));
    write(&mut stage, file, 65536, &[1; 65536], false);
    assert_eq!(run(&mut stage, IoOp::Flush { file }), (0, 0));
    assert_eq!(run(&mut stage, IoOp::Mapped { file, offset: 0, len: 1 << 20 }), (0, 65536));
    assert_eq!(run(&mut stage, IoOp::Mapped { file, offset: 512, len: 1024 }), (0, 1024));
    assert_eq!(run(&mut stage, IoOp::Mapped { file, offset: 65536, len: 1 << 20 }), (1, 65536));
    assert_eq!(run(&mut stage, IoOp::Mapped { file, offset: 69632, len: 4096 }), (1, 4096));
    assert_eq!(run(&mut stage, IoOp::Discard { file, offset: 65536, len: 4096 }), (0, 0));
    assert_eq!(run(&mut stage, IoOp::Mapped { file, offset: 0, len: 1 << 20 }), (0, 69632));
}

pub(crate) fn every_operation_completes_once_even_when_cancelled<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let file = stage.file(64 << 20);
    let file = stage.backend.register_file(file, false);
    let sg = stage.pool.allocate(1 << 20).unwrap();
    stage.pool.fill(&sg, 0, 1 << 20, 1);
    let mut expected = BTreeMap::new();
    for n in 0..DEPTH {
        let (offset, len) = (u64::from(n) << 20, 1 << 20);
        let op = match n % 3 {
            0 => IoOp::Write { file, offset, sg: &sg, sg_offset: 0, len, dsync: true },
            1 => IoOp::Mapped { file, offset, len: 4096 },
            _ => IoOp::Flush { file },
        };
        stage.backend.submit(token(n % 2, n as u8), op).unwrap();
        expected.insert(n as u8, n % 2);
    }
    for cmd in [0, 0, 5] {
        stage.backend.cancel(CmdId { index: cmd, generation: 1 });
    }
    for _ in 0..DEPTH {
        let io = next_io(&mut stage);
        let cmd = expected.remove(&io.token.tag).expect("each once");
        assert_eq!(io.token.cmd.index, cmd);
        assert!(io.result >= 0 || (cmd == 0 && [-libc::ECANCELED, -libc::EINTR].contains(&io.result)), "{io:?}");
    }
    stage.assert_quiet();
}

pub(crate) fn above_the_depth_the_queue_is_full<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let file = stage.file(1 << 20);
    let file = stage.backend.register_file(file, false);
    for n in 0..DEPTH {
        assert_eq!(stage.backend.submit(token(n, 0), IoOp::Flush { file }), Ok(()));
    }
    assert_eq!(stage.backend.submit(token(99, 0), IoOp::Flush { file }), Err(QueueFull));
    let mut done: Vec<u32> = (0..DEPTH).map(|_| next_io(&mut stage).token.cmd.index).collect();
    done.sort_unstable();
    assert_eq!(done, (0..DEPTH).collect::<Vec<_>>());
    assert_eq!(run(&mut stage, IoOp::Flush { file }), (0, 0));
}

pub(crate) fn a_file_stays_until_its_operations_end<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let handle = stage.file(1 << 20);
    let file = stage.backend.register_file(Arc::clone(&handle), false);
    let sg: SgList = stage.buffer(&[5; 4096]);
    let op = IoOp::Write { file, offset: 0, sg: &sg, sg_offset: 0, len: 4096, dsync: false };
    stage.backend.submit(token(1, 1), op).unwrap();
    stage.backend.unregister_file(file);
    let again = stage.backend.register_file(handle, false);
    assert_ne!(again, file);
    assert_eq!(next_io(&mut stage), IoCompletion { token: token(1, 1), result: 4096, extra: 0 });
    assert_eq!(read(&mut stage, again, 0, 4096), vec![5; 4096]);
}

pub(crate) fn an_unknown_file_and_a_wild_buffer_are_errors<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let file = stage.file(1 << 20);
    let file = stage.backend.register_file(file, false);
    let mut wild = SgList::default();
    wild.push(scst_core::buffer::Extent { arena: 77, len: 512, offset: 0 });
    let op = IoOp::Read { file, offset: 0, sg: &wild, sg_offset: 0, len: 512 };
    assert_eq!(run(&mut stage, op), (-libc::EFAULT, 0));
    stage.backend.unregister_file(file);
    assert_eq!(run(&mut stage, IoOp::Flush { file }), (-libc::EBADF, 0));
}

pub(crate) fn flushes_of_an_opening_all_end_and_none_well_after_a_failure<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let (handle, gate): (_, Arc<SyncGate>) = (stage.file(1 << 20), Arc::default());
    // Two descriptions behind one gate, as two reactors have them.
    let files = [0, 1].map(|_| stage.backend.register_file(Arc::clone(&handle), false));
    files.iter().for_each(|file| stage.backend.order_syncs(*file, &gate));
    for n in 0..8 {
        stage.backend.submit(token(n, 0), IoOp::Flush { file: files[n as usize % 2] }).unwrap();
    }
    // What is under way and what waits ends all the same.
    stage.backend.unregister_file(files[1]);
    let mut ends: Vec<_> = (0..8).map(|_| next_io(&mut stage)).map(|io| (io.token.cmd.index, io.result)).collect();
    ends.sort_unstable();
    assert_eq!(ends, (0..8).map(|n| (n, 0)).collect::<Vec<_>>());
    stage.assert_quiet();
    gate.fail(libc::ENOSPC);
    let files = [files[0], stage.backend.register_file(handle, false)];
    stage.backend.order_syncs(files[1], &gate);
    for file in files {
        assert_eq!(run(&mut stage, IoOp::Flush { file }), (-libc::ENOSPC, 0));
    }
}

pub(crate) fn a_flush_under_way_is_not_cancelled_and_one_that_waits_is<B: Backend>(mut stage: Stage<B>) {
    let held = HeldFile::new(vec![0; 1 << 20]).unwrap_or_else(|e| panic!("{e:#}"));
    let file = Arc::new(std::fs::File::options().read(true).write(true).open(held.path()).unwrap());
    let file = stage.backend.register_file(file, false);
    let hold = held.hold(Requests::Flushes);
    stage.backend.submit(token(1, 0), IoOp::Flush { file }).unwrap();
    let now = stage.backend.now();
    assert_eq!(stage.wait_until(now), []);
    hold.wait(1).unwrap();
    for n in [2, 3] {
        stage.backend.submit(token(n, 0), IoOp::Flush { file }).unwrap();
    }
    for n in [1, 2] {
        stage.backend.cancel(CmdId { index: n, generation: 1 });
    }
    assert_eq!(next_io(&mut stage), IoCompletion { token: token(2, 0), result: -libc::ECANCELED, extra: 0 });
    stage.assert_quiet();
    assert_eq!(hold.count(), 1, "one at a time");
    drop(hold);
    let ends = [next_io(&mut stage), next_io(&mut stage)].map(|io| (io.token.cmd.index, io.result));
    assert_eq!(ends, [(1, 0), (3, 0)]);
    drop(stage);
}
