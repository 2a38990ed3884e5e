//! Stories about block devices past the page cache. They need root and loop devices.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use scst_core::buffer::{Memory, SgList};
use scst_core::ids::CmdId;
use scst_core::io::{FileId, IoCompletion, IoOp, IoToken};
use scst_reactor::backend::{Backend, Completion, FileRegistry};
use scst_reactor::storage::{self, DirectAlignment, DirectSupport};
use scst_testkit::LoopDevice;
use tempfile::TempDir;

use crate::stage::Stage;

const BYTES: u64 = 8 << 20;

struct Device {
    device: LoopDevice,
    dir: TempDir,
}

impl Device {
    fn new(sector: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let device = LoopDevice::new(&dir.path().join("image"), BYTES, sector).unwrap_or_else(|e| panic!("{e:#}"));
        Self { device, dir }
    }

    fn open(&self) -> Arc<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_DIRECT);
        Arc::new(options.open(self.device.path()).unwrap())
    }
}

fn run<B: Backend>(stage: &mut Stage<B>, op: IoOp<'_>) -> (i32, u64) {
    let token = IoToken { cmd: CmdId { index: 1, generation: 1 }, tag: 0 };
    stage.backend.submit(token, op).unwrap();
    match stage.next() {
        Completion::Io(IoCompletion { result, extra, .. }) => (result, extra),
        other => panic!("{other:?}"),
    }
}

fn read<B: Backend>(stage: &mut Stage<B>, file: FileId, offset: u64, len: u32) -> Vec<u8> {
    let sg = stage.pool.allocate(len).unwrap();
    let (n, _) = run(stage, IoOp::Read { file, offset, sg: &sg, sg_offset: 0, len });
    assert_eq!(n, len as i32);
    let data = stage.contents(&sg);
    stage.pool.release(&sg);
    data
}

pub(crate) fn a_block_device_past_the_page_cache<B: Backend>(mut stage: Stage<B>) {
    let device = Device::new(4096);
    let file = stage.backend.register_file(device.open(), true);
    // Several extents, and a part of them.
    let sg = stage.pool.allocate((2 << 20) + 8192).unwrap();
    let data: Vec<u8> = (0..sg.bytes()).map(|i| (i / 512) as u8 ^ i as u8 | 1).collect();
    stage.pool.copy_in(&sg, 0, &data);
    for dsync in [false, true] {
        let (sg_offset, len) = (4096, 2 << 20);
        let op = IoOp::Write { file, offset: 4096, sg: &sg, sg_offset, len, dsync };
        assert_eq!(run(&mut stage, op), (len as i32, 0));
        assert!(read(&mut stage, file, 4096, len) == data[4096..][..len as usize]);
    }
    assert_eq!(run(&mut stage, IoOp::Flush { file }), (0, 0));

    // What the kernel promises to read as zeros, and what it does not (a loop device has zeros all the same).
    let part = |op: fn(FileId, u64, u64) -> IoOp<'static>, at: u64| op(file, at, 8192);
    let ops: [fn(FileId, u64, u64) -> IoOp<'static>; 3] = [
        |file, offset, len| IoOp::Discard { file, offset, len },
        |file, offset, len| IoOp::Zero { file, offset, len },
        |file, offset, len| IoOp::Trim { file, offset, len },
    ];
    for (op, at) in ops.into_iter().zip([65_536, 131_072, 196_608]) {
        assert_eq!(run(&mut stage, part(op, at)), (0, 0), "at {at}");
        let around = read(&mut stage, file, at - 4096, 16_384);
        assert!(around[..4096] == data[at as usize - 4096..][..4096], "before {at}");
        assert!(around[4096..12_288].iter().all(|byte| *byte == 0), "at {at}");
        assert!(around[12_288..] == data[at as usize + 8192..][..4096], "after {at}");
    }
    assert_eq!(run(&mut stage, IoOp::Mapped { file, offset: 0, len: BYTES }), (1, BYTES), "it cannot tell");
    assert_eq!(device.device.cached_pages(0, BYTES as usize / 2).unwrap(), 0, "nothing is in the page cache");
    stage.pool.release(&sg);
}

pub(crate) fn what_is_misaligned_is_an_error_of_its_own_operation<B: Backend>(mut stage: Stage<B>) {
    let device = Device::new(4096);
    let file = stage.backend.register_file(device.open(), true);
    let sg: SgList = stage.buffer(&[7; 8192]);
    let write = |offset, sg_offset, len| IoOp::Write { file, offset, sg: &sg, sg_offset, len, dsync: false };
    for op in [write(512, 0, 4096), write(0, 0, 512), write(0, 1, 4096), IoOp::Trim { file, offset: 512, len: 4096 }] {
        assert_eq!(run(&mut stage, op), (-libc::EINVAL, 0), "{op:?}");
    }
    assert_eq!(run(&mut stage, write(4096, 4096, 4096)), (4096, 0));
    assert_eq!(run(&mut stage, write(BYTES, 0, 4096)), (-libc::ENOSPC, 0), "behind the end");
    let end = IoOp::Read { file, offset: BYTES, sg: &sg, sg_offset: 0, len: 4096 };
    assert_eq!(run(&mut stage, end), (0, 0));
}

/// Of one back-end only: buffers that the kernel knows.
#[test]
fn buffers_are_registered_when_the_first_direct_transfer_wants_one_and_arenas_as_they_come() {
    let mut stage = crate::registered();
    let device = Device::new(512);
    let (cached, direct) = (File::open(device.device.path()).unwrap(), device.open());
    let cached = stage.backend.register_file(Arc::new(cached), true);
    let direct = stage.backend.register_file(direct, true);
    read(&mut stage, cached, 0, 4096);
    assert!(!stage.pool.arenas().is_pinned(), "the page cache has no use for it");
    let mut taken = Vec::new();
    for round in 0..10 {
        let sg = stage.buffer(&vec![round as u8 | 1; 1 << 20]);
        let offset = (round % 8) << 20;
        let op = IoOp::Write { file: direct, offset, sg: &sg, sg_offset: 4096, len: 8192, dsync: round % 2 == 0 };
        assert_eq!(run(&mut stage, op), (8192, 0));
        assert!(read(&mut stage, direct, offset, 8192) == [round as u8 | 1; 8192]);
        assert!(stage.pool.arenas().is_pinned());
        taken.push(sg);
    }
    assert!(stage.pool.arenas().count() > 2, "the pool has grown");
    taken.iter().for_each(|sg| stage.pool.release(sg));
}

/// Not a story of a back-end: what is asked before a device is registered.
#[test]
fn a_device_says_its_size_and_what_it_wants() {
    for sector in [512, 4096] {
        let device = Device::new(sector);
        let file = device.open();
        assert_eq!(storage::block_device_bytes(&file).unwrap(), BYTES);
        assert_eq!(storage::logical_block_size(&file).unwrap(), sector);
        match storage::direct_support(&file, true).unwrap() {
            DirectSupport::Aligned(DirectAlignment { memory, offset }) => {
                assert_eq!((offset, memory <= sector), (sector, true));
            }
            other => panic!("{other:?}"),
        }
        let image = OpenOptions::new().write(true).open(device.dir.path().join("image")).unwrap();
        image.set_len(2 * BYTES).unwrap();
        device.device.resize().unwrap();
        assert_eq!(storage::block_device_bytes(&file).unwrap(), 2 * BYTES);
    }
}

/// The kernel tells an error of writeback once to every open file description. Needs a device that loses what was
/// written: its file is on a file system that is full.
#[test]
fn each_open_file_hears_of_lost_data_itself() {
    let dir = tempfile::tempdir().unwrap();
    let small = Mounted::tmpfs(dir.path(), "1m");
    let image = dir.path().join("image");
    let device = LoopDevice::new(&image, BYTES, 4096).unwrap_or_else(|e| panic!("{e:#}"));
    let open = || OpenOptions::new().read(true).write(true).open(device.path()).unwrap();
    let (first, shared) = (open(), open());
    let again = storage::open_again(&shared, device.path(), true, 0).unwrap();
    let same = shared.try_clone().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&first, &vec![1; 4 << 20], 0).unwrap();
    let failed = |result: io::Result<()>| result.is_err();
    assert!(failed(first.sync_data()), "the file system was full");
    assert!(failed(shared.sync_data()));
    assert!(!failed(same.sync_data()), "a description is told once");
    assert!(failed(again.sync_data()), "the same file opened again is one of its own");
    drop((first, shared, same, again, device, small));
}

struct Mounted<'a>(&'a std::path::Path);

impl<'a> Mounted<'a> {
    fn tmpfs(at: &'a std::path::Path, size: &str) -> Self {
        let mut mount = std::process::Command::new("mount");
        let status = mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at).status().unwrap();
        assert!(status.success(), "{mount:?}: this test needs to mount: run it as root");
        Self(at)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}
