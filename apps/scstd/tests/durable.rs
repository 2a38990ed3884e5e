//! What is called durable is on the storage: FUA, write_through and SYNCHRONIZE CACHE on storage that fails, by all ways that a
//! disk has to it, on each back-end, from several sessions on two reactors. Whoever looks at the storage itself finds everything
//! that was answered GOOD.
//!
//! These tests need root, loop devices and FUSE.

use std::collections::VecDeque;
use std::thread;

use scst_testkit::process::ScstdOptions;
use scst_testkit::{Command, Failure, HeldFile, Initiator, LoginConfig, LoopDevice, Outcome, Scstd};
use tempfile::TempDir;

const TARGET: &str = "iqn.2026-01.example:target";
const BACK_ENDS: [&str; 2] = ["auto", "posix"];
const SESSIONS: usize = 4;
/// WRITEs of a session, each of its own page.
const WRITES: usize = 120;
const PAGE: usize = 4096;
const BLOCKS: u64 = PAGE as u64 / 512;

/// A way to the storage.
#[derive(Clone, Copy, Debug)]
struct Way {
    handler: &'static str,
    attributes: &'static str,
    /// By a loop device.
    block_device: bool,
}

const FILE: Way = Way { handler: "vdisk_fileio", attributes: "", block_device: false };
const BLOCK_DEVICE: Way = Way { block_device: true, ..FILE };
const DIRECT: Way = Way { attributes: "o_direct 1", ..BLOCK_DEVICE };
const BLOCKIO: Way = Way { handler: "vdisk_blockio", ..BLOCK_DEVICE };

/// What makes a WRITE durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Promise {
    Fua,
    WriteThrough,
    /// SYNCHRONIZE CACHE after each fourth WRITE.
    Flush,
}

/// The daemon and what it uses. They go in this order, the users first.
struct Stage {
    daemon: Scstd,
    _device: Option<LoopDevice>,
    _files: TempDir,
    storage: HeldFile,
}

impl Stage {
    fn new(way: Way, backend: &str, promise: Promise) -> Self {
        let storage = HeldFile::new(vec![0; SESSIONS * WRITES * PAGE]).unwrap_or_else(|e| panic!("{e:#}"));
        let over = || LoopDevice::over(storage.file(), 512).unwrap_or_else(|e| panic!("{e:#}"));
        let device = way.block_device.then(over);
        let path = device.as_ref().map_or_else(|| storage.path(), |device| device.path().to_owned());
        let files = tempfile::tempdir().unwrap();
        let config = format!(
            "HANDLER {} {{\n DEVICE disk {{\n filename {}\n {}\n write_through {}\n }}\n}}\n\
             TARGET_DRIVER iscsi {{\n enabled 1\n TARGET {TARGET} {{\n enabled 1\n LUN 0 disk\n }}\n}}\n",
            way.handler,
            path.display(),
            way.attributes,
            u8::from(promise == Promise::WriteThrough),
        );
        let mut options = ScstdOptions::new(env!("CARGO_BIN_EXE_scstd"), &config).unwrap();
        options.arguments.extend(["--log", "info", "--reactors", "2", "--backend", backend].map(str::to_owned));
        options.arguments.extend(["--state-dir".to_owned(), files.path().display().to_string()]);
        Self { daemon: Scstd::start_with(options).unwrap(), _device: device, _files: files, storage }
    }

    fn login(&self, n: usize) -> Initiator {
        let config = LoginConfig::normal(&format!("iqn.2026-01.example:host{n}"), TARGET);
        let mut host = Initiator::connect(self.daemon.portal(), config).unwrap();
        host.clear_unit_attentions(0).unwrap();
        host
    }

    /// What one session does; the pages that it was promised.
    fn load(&self, session: usize, depth: usize, promise: Promise) -> Vec<usize> {
        let mut host = self.login(session);
        let (mut under_way, mut written, mut promised) = (VecDeque::new(), Vec::new(), Vec::new());
        let pages = session * WRITES..(session + 1) * WRITES;
        for page in pages.clone() {
            under_way.push_back((page, host.submit(write(page, promise == Promise::Fua)).unwrap()));
            while under_way.len() >= depth || (page + 1 == pages.end && !under_way.is_empty()) {
                let (page, tag) = under_way.pop_front().unwrap();
                if host.wait(tag).unwrap().is_good() {
                    written.push(page);
                }
            }
            if promise == Promise::Flush && page % 4 == 3 {
                let before = written.len();
                if host.execute(Command::flush(0)).unwrap().is_good() {
                    promised.extend(written.drain(..before));
                }
            }
        }
        if promise != Promise::Flush {
            promised = written;
        }
        promised
    }

    fn has(&self, page: usize) -> bool {
        self.storage.content((page * PAGE) as u64, PAGE) == content(page)
    }
}

/// What is written to a page; no other is like it.
fn content(page: usize) -> Vec<u8> {
    let mut data = vec![0x5a; PAGE];
    data[..8].copy_from_slice(&(page as u64 + 1).to_be_bytes());
    data
}

fn write(page: usize, fua: bool) -> Command {
    let lba = (page as u64 * BLOCKS) as u32;
    let mut cdb = vec![0x2a, u8::from(fua) << 3, 0, 0, 0, 0, 0, 0, BLOCKS as u8, 0];
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    Command::write(0, cdb, content(page))
}

/// MEDIUM ERROR, WRITE ERROR, or DATA PROTECT, SPACE ALLOCATION FAILED WRITE PROTECT.
fn is_lost(outcome: &Outcome) -> bool {
    matches!(outcome.kcq(), Some((3, 0x0c, 0) | (7, 0x27, 7)))
}

/// All that was promised is there, and after a failure that may have lost data there are no more promises.
fn story(way: Way, failure: Failure, promise: Promise, depth: usize) {
    for backend in BACK_ENDS {
        let stage = Stage::new(way, backend, promise);
        stage.storage.fail(Some(failure));
        let promised: Vec<usize> = thread::scope(|scope| {
            let load = |session| {
                let stage = &stage;
                scope.spawn(move || stage.load(session, depth, promise))
            };
            let sessions: Vec<_> = (0..SESSIONS).map(load).collect();
            sessions.into_iter().flat_map(|session| session.join().unwrap()).collect()
        });
        let name = format!("{way:?}, {failure:?}, {promise:?} at depth {depth}, {backend}");
        let missing: Vec<_> = promised.iter().filter(|page| !stage.has(**page)).collect();
        assert!(missing.is_empty(), "{name}: {} of {} are not there: {missing:?}", missing.len(), promised.len());
        assert!(promised.len() < SESSIONS * WRITES, "{name}: nothing has failed");
        if matches!(failure, Failure::CacheOnce(_)) {
            let mut host = stage.login(SESSIONS);
            for command in [Command::flush(0), write(0, true)] {
                let outcome = host.execute(command).unwrap();
                assert!(is_lost(&outcome), "{name}: {:?}", outcome.kcq());
            }
        }
    }
}

const CACHE: Failure = Failure::CacheOnce(9);

#[test]
fn what_fua_promises_is_there_when_writeback_fails() {
    for depth in [1, 2, 8] {
        story(BLOCK_DEVICE, Failure::Writes(31, libc::EIO), Promise::Fua, depth);
    }
    story(BLOCK_DEVICE, Failure::Writes(31, libc::ENOSPC), Promise::Fua, 8);
    story(FILE, Failure::Writes(31, libc::EIO), Promise::Fua, 8);
}

#[test]
fn what_fua_promises_is_there_when_a_cache_below_loses_it() {
    for depth in [1, 2, 8] {
        for way in [FILE, BLOCK_DEVICE, BLOCKIO, DIRECT] {
            story(way, CACHE, Promise::Fua, depth);
        }
    }
}

#[test]
fn what_write_through_promises_is_there() {
    for (way, failure) in
        [(BLOCK_DEVICE, Failure::Writes(31, libc::EIO)), (FILE, CACHE), (BLOCK_DEVICE, CACHE), (BLOCKIO, CACHE)]
    {
        story(way, failure, Promise::WriteThrough, 8);
    }
}

#[test]
fn what_synchronize_cache_promises_is_there() {
    for (way, failure) in
        [(BLOCK_DEVICE, Failure::Writes(31, libc::EIO)), (FILE, CACHE), (BLOCK_DEVICE, CACHE), (BLOCKIO, CACHE)]
    {
        for depth in [1, 4] {
            story(way, failure, Promise::Flush, depth);
        }
    }
}

#[test]
fn after_repair_and_reload_the_initiators_are_told_and_writes_are_durable_again() {
    for backend in BACK_ENDS {
        let mut stage = Stage::new(BLOCK_DEVICE, backend, Promise::Fua);
        let mut host = stage.login(0);
        host.run(write(1, true)).unwrap();
        stage.storage.fail(Some(Failure::Writes(0, libc::EIO)));
        for page in [2, 3, 4] {
            assert!(is_lost(&host.execute(write(page, true)).unwrap()));
        }
        stage.daemon.wait_for_log("written data may be lost").unwrap();
        stage.storage.fail(None);
        assert!(is_lost(&host.execute(Command::flush(0)).unwrap()), "repaired is not enough");
        stage.daemon.signal("HUP").unwrap();
        stage.daemon.wait_for_log("reload complete").unwrap();
        assert_eq!(host.clear_unit_attentions(0).unwrap(), [(0x29, 0x04)]);
        // What did not reach the storage is not read as if it had.
        let read = host.run(Command::read_blocks(0, 2 * BLOCKS, BLOCKS as u32, 512)).unwrap();
        assert!(read.data_in == stage.storage.content(2 * PAGE as u64, PAGE));
        host.run(write(5, true)).unwrap();
        host.run(write(6, false)).unwrap();
        host.run(Command::flush(0)).unwrap();
        assert_eq!((1..=6).map(|page| stage.has(page)).collect::<Vec<_>>(), [true, false, false, false, true, true]);
    }
}
