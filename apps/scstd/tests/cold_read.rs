//! A command that waits for its storage holds up nobody else. There is one reactor, and a disk on storage that answers
//! when the test says so: what others get meanwhile is no matter of time.
//!
//! These tests need root, loop devices and FUSE.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use scst_testkit::initiator::{Error, Event, tmf};
use scst_testkit::process::ScstdOptions;
use scst_testkit::{Command, HeldFile, Initiator, LockedPages, LoginConfig, LoopDevice, Requests, Scstd, scsi};
use tempfile::TempDir;

const TARGET: &str = "iqn.2026-01.example:target";
const BACK_ENDS: [&str; 2] = ["auto", "posix"];
/// No answer for so long is a failure: the reactor waits, too.
const PATIENCE: Duration = Duration::from_secs(100);

/// The disk on slow storage, one without data, and a file in the page cache.
const SLOW: u32 = 0;
const NULL: u32 = 1;
const FAST: u32 = 2;

const BYTES: u64 = 32 << 20;
/// The first so many bytes are in the page cache, where there is one.
const WARM_BYTES: usize = 1 << 20;
/// Nobody has read from here on, and no read-ahead comes here.
const COLD: u64 = 16 << 20;
const COLD_LBA: u64 = COLD / 512;
/// Commands of a kind that somebody else runs meanwhile.
const COMMANDS: u64 = 200;

/// A way to the slow storage.
#[derive(Clone, Copy, Debug)]
struct Way {
    handler: &'static str,
    attributes: &'static str,
    /// By a loop device over the slow file.
    block_device: bool,
    /// Blocks of a READ.
    blocks: u32,
}

/// FUSE has no RWF_NOWAIT: what is in the page cache goes through a worker of the ring or a thread of the pool, too.
const FILE: Way = Way { handler: "vdisk_fileio", attributes: "", block_device: false, blocks: 8 };
/// What is in the page cache is read at once, and only that.
const BLOCK_DEVICE: Way = Way { block_device: true, ..FILE };
/// What is in the page cache is sent from there.
const ZERO_COPY: Way = Way { attributes: "zero_copy_read 1", blocks: 128, ..BLOCK_DEVICE };
const ZERO_COPY_FILE: Way = Way { block_device: false, ..ZERO_COPY };
/// Past the page cache.
const DIRECT_FILE: Way = Way { attributes: "o_direct 1", ..FILE };
const BLOCKIO: Way = Way { handler: "vdisk_blockio", ..BLOCK_DEVICE };

impl Way {
    fn has_page_cache(self) -> bool {
        self.handler == "vdisk_fileio" && self.attributes != "o_direct 1"
    }

    fn cold_read(self) -> Command {
        Command::read_blocks(SLOW, COLD_LBA, self.blocks, 512)
    }
}

/// The daemon and what it uses. They go in this order, the users first.
struct Stage {
    daemon: Scstd,
    /// What has to be found in the page cache.
    _warm: Vec<LockedPages>,
    device: Option<LoopDevice>,
    _files: TempDir,
    slow: HeldFile,
    way: Way,
}

impl Stage {
    fn new(way: Way, backend: &str) -> Self {
        let slow = HeldFile::new(pattern(SLOW, 0, BYTES as usize)).unwrap_or_else(|e| panic!("{e:#}"));
        let over = || LoopDevice::over(slow.file(), 512).unwrap_or_else(|e| panic!("{e:#}"));
        let device = way.block_device.then(over);
        let path = device.as_ref().map_or_else(|| slow.path(), |device| device.path().to_owned());
        let files = tempfile::tempdir().unwrap();
        let fast = files.path().join("fast");
        fs::write(&fast, pattern(FAST, 0, WARM_BYTES)).unwrap();
        let warm = [Some(&fast), way.has_page_cache().then_some(&path)].into_iter().flatten();
        let lock = |path: &PathBuf| LockedPages::new(path, WARM_BYTES).unwrap_or_else(|e| panic!("{e:#}"));
        let _warm = warm.map(lock).collect();
        let config = format!(
            "HANDLER {} {{\n DEVICE slow {{\n filename {}\n {}\n }}\n}}\n\
             HANDLER vdisk_nullio {{\n DEVICE null\n}}\n\
             HANDLER vdisk_fileio {{\n DEVICE fast {{\n filename {}\n }}\n}}\n\
             TARGET_DRIVER iscsi {{\n enabled 1\n TARGET {TARGET} {{\n enabled 1\n \
             LUN {SLOW} slow\n LUN {NULL} null\n LUN {FAST} fast\n }}\n}}\n",
            way.handler,
            path.display(),
            way.attributes,
            fast.display()
        );
        let mut options = ScstdOptions::new(env!("CARGO_BIN_EXE_scstd"), &config).unwrap();
        options.arguments.extend(["--log", "info", "--reactors", "1", "--backend", backend].map(str::to_owned));
        options.arguments.extend(["--state-dir".to_owned(), files.path().display().to_string()]);
        Self { daemon: Scstd::start_with(options).unwrap(), _warm, device, _files: files, slow, way }
    }

    fn login(&self, name: &str) -> Initiator {
        let config = LoginConfig::normal(&format!("iqn.2026-01.example:{name}"), TARGET);
        let mut host = Initiator::open(self.daemon.portal(), config).unwrap();
        host.set_timeout(PATIENCE);
        served("a login", host.login());
        for lun in [NULL, FAST] {
            served("TEST UNIT READY", host.clear_unit_attentions(lun));
        }
        host
    }

    /// A session that will look on, and one for the command that will wait.
    fn hosts(&self) -> (Initiator, Initiator) {
        let (mut witness, mut host) = (self.login("witness"), self.login("host"));
        for host in [&mut witness, &mut host] {
            host.clear_unit_attentions(SLOW).unwrap();
        }
        (witness, host)
    }

    /// All that others do meanwhile: who is there already, and who comes.
    fn others_go_on(&self, witness: &mut Initiator) {
        for host in [witness, &mut self.login("newcomer")] {
            self.elsewhere(host);
            self.with_workers(host);
            self.on_the_slow_disk(host);
        }
    }

    /// Commands on other LUNs that the reactor carries out by itself.
    fn elsewhere(&self, host: &mut Initiator) {
        assert_eq!(served("a ping", host.ping(b"there?")), b"there?");
        for n in 0..COMMANDS {
            served("a WRITE to nothing", host.run(Command::write_blocks(NULL, n, 512, [7; 4096])));
            served("a READ of nothing", host.run(Command::read_blocks(NULL, n, 8, 512)));
            self.read(host, FAST, n);
        }
    }

    /// Commands on other LUNs for which a worker of the ring, or a thread of the pool, has to wait.
    fn with_workers(&self, host: &mut Initiator) {
        let data = pattern(FAST, 0, 65_536);
        served("a WRITE to a file", host.run(Command::write_blocks(FAST, 0, 512, data)));
        served("SYNCHRONIZE CACHE of a file", host.run(Command::flush(FAST)));
    }

    /// Commands on the slow disk that do not need its storage.
    fn on_the_slow_disk(&self, host: &mut Initiator) {
        served("TEST UNIT READY of the slow disk", host.clear_unit_attentions(SLOW));
        served("INQUIRY of the slow disk", host.run(Command::inquiry(SLOW, None)));
        assert_eq!(served("READ CAPACITY of the slow disk", host.capacity(SLOW)).blocks, BYTES / 512);
        if self.way.has_page_cache() {
            (0..COMMANDS).for_each(|n| self.read(host, SLOW, n));
        }
    }

    /// One of the READs of what is in the page cache.
    fn read(&self, host: &mut Initiator, lun: u32, n: u64) {
        let what = if lun == SLOW { "a READ of cached blocks of the slow disk" } else { "a READ of a cached file" };
        let lba = n * 37 % COMMANDS * 8;
        let found = served(what, host.run(Command::read_blocks(lun, lba, self.way.blocks, 512))).data_in;
        assert!(found == pattern(lun, lba as usize * 512, self.way.blocks as usize * 512), "{what}");
    }

    /// What the slow storage has at `COLD`.
    fn stored(&self, len: usize) -> Vec<u8> {
        self.slow.content(COLD, len)
    }
}

/// The result of what somebody else does while storage is held.
fn served<T>(what: &str, result: Result<T, Error>) -> T {
    result.unwrap_or_else(|error| panic!("the reactor waits for the storage of another session? {what}: {error}"))
}

/// Content of a LUN that tells every block from every other.
fn pattern(lun: u32, at: usize, len: usize) -> Vec<u8> {
    (at..at + len).map(|i| (i >> 9) as u8 ^ (i >> 17) as u8 ^ i as u8 ^ lun as u8).collect()
}

/// Each story on each back-end.
fn on_both(ways: &[Way], story: impl Fn(Stage)) {
    for way in ways {
        BACK_ENDS.into_iter().for_each(|backend| story(Stage::new(*way, backend)));
    }
}

/// A command that needs requests of the storage does not end before they are answered, and others do.
fn waits_alone(stage: &mut Stage, (witness, host): &mut (Initiator, Initiator), command: Command, needs: Requests) {
    let hold = stage.slow.hold(needs);
    let tag = host.submit(command.clone()).unwrap();
    hold.wait(1).unwrap();
    stage.others_go_on(witness);
    stage.daemon.signal("USR1").unwrap();
    stage.daemon.wait_for_log("statistics are in").unwrap();
    host.serve().unwrap();
    assert_eq!(host.try_outcome(tag), None, "the storage has not answered");
    assert!(hold.count() > 0);
    drop(hold);
    let outcome = host.wait(tag).unwrap();
    assert!(outcome.is_good(), "{:?}", outcome.kcq());
    assert!(outcome.data_in == stage.stored(command.read_length as usize));
}

fn a_cold_read_waits_alone(way: Way) {
    on_both(&[way], |mut stage| {
        let mut hosts = stage.hosts();
        waits_alone(&mut stage, &mut hosts, way.cold_read(), Requests::Reads(COLD..BYTES));
    });
}

#[test]
fn a_cold_read_of_a_file_holds_up_nobody() {
    a_cold_read_waits_alone(FILE);
}

#[test]
fn a_cold_read_of_a_block_device_holds_up_nobody() {
    a_cold_read_waits_alone(BLOCK_DEVICE);
}

#[test]
fn a_cold_read_past_the_page_cache_holds_up_nobody() {
    a_cold_read_waits_alone(DIRECT_FILE);
    a_cold_read_waits_alone(BLOCKIO);
}

#[test]
fn a_cold_zero_copy_read_holds_up_nobody() {
    a_cold_read_waits_alone(ZERO_COPY_FILE);
    on_both(&[ZERO_COPY], |mut stage| {
        let mut hosts = stage.hosts();
        waits_alone(&mut stage, &mut hosts, ZERO_COPY.cold_read(), Requests::Reads(COLD..BYTES));
        // What others read meanwhile was sent without a copy: so that way was tried for the cold blocks as well.
        let device = stage.device.as_ref().unwrap().path();
        assert!(stage.daemon.touched(device).unwrap() > 0);
    });
}

/// More than there are workers and threads, so that who needs one has to wait for the storage. Of a block device with a
/// page cache fewer than its queue takes (128): the kernel makes whoever reads ahead wait for a place, RWF_NOWAIT or not.
#[test]
fn many_cold_reads_hold_up_nobody_who_needs_no_worker() {
    for (way, sessions) in [(FILE, 6), (DIRECT_FILE, 6), (BLOCK_DEVICE, 2), (BLOCKIO, 6)] {
        on_both(&[way], |stage| {
            let mut witness = stage.hosts().0;
            let mut hosts: Vec<_> = (0..sessions).map(|n| stage.login(&format!("host{n}"))).collect();
            let hold = stage.slow.hold(Requests::Reads(COLD..BYTES));
            let mut reads = Vec::new();
            for (n, host) in hosts.iter_mut().enumerate() {
                host.clear_unit_attentions(SLOW).unwrap();
                for _ in 0..32 {
                    let lba = COLD_LBA + reads.len() as u64 * 128;
                    reads.push((n, lba, host.submit(Command::read_blocks(SLOW, lba, 8, 512)).unwrap()));
                }
                // Its answer says that the reactor has begun with them.
                served("a ping", host.ping(b"all there?"));
            }
            hold.wait(1).unwrap();
            stage.elsewhere(&mut witness);
            stage.elsewhere(&mut stage.login("newcomer"));
            for (n, host) in hosts.iter_mut().enumerate() {
                host.serve().unwrap();
                assert!(reads.iter().all(|(of, _, tag)| *of != n || host.try_outcome(*tag).is_none()));
            }
            drop(hold);
            for (n, lba, tag) in reads {
                let read = hosts[n].wait(tag).unwrap();
                assert!(read.is_good() && read.data_in == stage.slow.content(lba * 512, 4096), "{lba}");
            }
        });
    }
}

#[test]
fn a_write_and_a_flush_hold_up_nobody() {
    on_both(&[FILE, DIRECT_FILE, BLOCK_DEVICE, BLOCKIO], |mut stage| {
        let mut hosts = stage.hosts();
        let data = pattern(7, 0, 4096);
        let write = Command::write_blocks(SLOW, COLD_LBA, 512, data.clone());
        if stage.way.block_device && stage.way.has_page_cache() {
            // It is cached, and a later flush writes it.
            hosts.1.run(write).unwrap();
            waits_alone(&mut stage, &mut hosts, Command::flush(SLOW), Requests::Writes(COLD..BYTES));
        } else {
            waits_alone(&mut stage, &mut hosts, write, Requests::Writes(COLD..BYTES));
        }
        assert!(stage.stored(data.len()) == data);
        waits_alone(&mut stage, &mut hosts, Command::flush(SLOW), Requests::Flushes);
    });
}

/// Sends a task management function and a ping behind it, whose answer says that the function is being carried out.
fn begin(host: &mut Initiator, function: u8, referenced: Option<(u32, u32)>) -> u32 {
    let tag = host.core().task_management(function, scsi::lun(SLOW), referenced);
    host.flush().unwrap();
    served("a ping", host.ping(b"behind it"));
    tag
}

fn is_answer(event: &Event, tag: u32) -> bool {
    matches!(event, Event::TaskManagement { itt, .. } if *itt == tag)
}

fn response(host: &mut Initiator, tag: u32) -> u8 {
    match host.wait_for("task management", |event| is_answer(event, tag)).unwrap() {
        Event::TaskManagement { response, .. } => response,
        other => unreachable!("{other:?}"),
    }
}

/// What is held belongs to the command itself. With a block device and its page cache it could be the read-ahead of the
/// first attempt, and the command could still be called back.
const OWN_REQUESTS: [Way; 3] = [FILE, DIRECT_FILE, BLOCKIO];

#[test]
fn an_aborted_read_is_over_when_the_abort_is_answered_and_not_before() {
    on_both(&OWN_REQUESTS, |stage| {
        let (mut witness, mut host) = stage.hosts();
        let hold = stage.slow.hold(Requests::Reads(COLD..BYTES));
        let read = host.submit(stage.way.cold_read()).unwrap();
        hold.wait(1).unwrap();
        let number = host.core().cmd_sn_of(read).unwrap();
        let abort = begin(&mut host, tmf::ABORT_TASK, Some((read, number)));
        stage.others_go_on(&mut witness);
        host.serve().unwrap();
        assert!(!host.take_events().iter().any(|event| is_answer(event, abort)), "the storage may still write");
        assert!(hold.count() > 0);
        drop(hold);
        assert_eq!(response(&mut host, abort), tmf::response::COMPLETE);
        assert_eq!(host.try_outcome(read), None);
        assert!(host.run(stage.way.cold_read()).unwrap().data_in == stage.stored(4096));
    });
}

#[test]
fn a_reset_waits_for_the_reads_of_others_and_holds_up_no_other_lun() {
    on_both(&OWN_REQUESTS, |stage| {
        let (mut witness, mut host) = stage.hosts();
        let hold = stage.slow.hold(Requests::Reads(COLD..BYTES));
        let read = host.submit(stage.way.cold_read()).unwrap();
        hold.wait(1).unwrap();
        let reset = begin(&mut witness, tmf::LOGICAL_UNIT_RESET, None);
        for host in [&mut witness, &mut stage.login("newcomer")] {
            stage.elsewhere(host);
            stage.with_workers(host);
        }
        assert!(!witness.take_events().iter().any(|event| is_answer(event, reset)), "the storage may still write");
        assert!(hold.count() > 0);
        drop(hold);
        assert_eq!(response(&mut witness, reset), tmf::response::COMPLETE);
        assert_eq!(
            host.clear_unit_attentions(SLOW).unwrap(),
            [(0x29, 0)],
            "POWER ON, RESET, OR BUS DEVICE RESET OCCURRED"
        );
        assert_eq!(host.try_outcome(read), None);
        assert!(host.run(stage.way.cold_read()).unwrap().data_in == stage.stored(4096));
    });
}
