//! A disk whose storage does not answer costs its own commands only, on each back-end. The storage answers when the test says
//! so, and what is waited for are answers and lines of the log.
//!
//! These tests need root and FUSE.

use std::fs::File;
use std::time::Duration;

use scst_testkit::initiator::{Event, tmf};
use scst_testkit::process::ScstdOptions;
use scst_testkit::{Command, HeldFile, Hold, Initiator, LoginConfig, Requests, Scstd, scsi};
use tempfile::TempDir;

const TARGET: &str = "iqn.2026-01.example:target";
const HOST: &str = "iqn.2026-01.example:host";

/// The disk on storage that does not answer, and an ordinary one.
const DEAD: u32 = 0;
const GOOD: u32 = 1;
const BYTES: u64 = 16 << 20;
const READ_LBA: u64 = 0;
const WRITE_LBA: u64 = 16_384;
const WRITE_AT: u64 = WRITE_LBA * 512;
/// Content of the dead disk at first, and what is written to it.
const BEFORE: u8 = 0xbb;
const OLD: u8 = 1;
const NEW: u8 = 2;
/// No answer for so long is a failure. The daemon itself gives up a function after 12 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// The daemon and its disks. They go in this order.
struct Stage {
    daemon: Scstd,
    _files: TempDir,
    storage: HeldFile,
}

impl Stage {
    fn new(backend: &str) -> Self {
        let storage = HeldFile::new(vec![BEFORE; BYTES as usize]).unwrap_or_else(|e| panic!("{e:#}"));
        let files = tempfile::tempdir().unwrap();
        let good = files.path().join("good");
        File::create(&good).unwrap().set_len(BYTES).unwrap();
        let config = format!(
            "HANDLER vdisk_fileio {{\n DEVICE dead {{\n filename {}\n }}\n DEVICE good {{\n filename {}\n }}\n}}\n\
             TARGET_DRIVER iscsi {{\n enabled 1\n TARGET {TARGET} {{\n enabled 1\n LUN {DEAD} dead\n LUN {GOOD} good\n }}\n}}\n",
            storage.path().display(),
            good.display()
        );
        let mut options = ScstdOptions::new(env!("CARGO_BIN_EXE_scstd"), &config).unwrap();
        options.arguments.extend(["--log", "info", "--reactors", "2", "--backend", backend].map(str::to_owned));
        options.arguments.extend(["--state-dir".to_owned(), files.path().display().to_string()]);
        Self { daemon: Scstd::start_with(options).unwrap(), _files: files, storage }
    }

    /// Logs in. An initiator of this name that is there already is replaced.
    fn login(&self, name: &str) -> Initiator {
        let mut host = Initiator::open(self.daemon.portal(), LoginConfig::normal(name, TARGET)).unwrap();
        host.set_timeout(PATIENCE);
        host.login().unwrap();
        host.clear_unit_attentions(GOOD).unwrap();
        host.clear_unit_attentions(DEAD).unwrap();
        host
    }

    fn content(&self) -> Vec<u8> {
        self.storage.content(WRITE_AT, 4096)
    }
}

fn read_dead() -> Command {
    Command::read_blocks(DEAD, READ_LBA, 8, 512)
}

fn write_dead(value: u8) -> Command {
    Command::write_blocks(DEAD, WRITE_LBA, 512, [value; 4096])
}

/// Sends a READ and a WRITE to the dead disk, and returns their tags when both are at its storage.
fn hang(stage: &Stage, host: &mut Initiator) -> (Hold, u32, u32) {
    let hold = stage.storage.hold(Requests::Transfers(0..BYTES));
    let write = host.submit(write_dead(OLD)).unwrap();
    hold.wait(1).unwrap();
    let read = host.submit(read_dead()).unwrap();
    hold.wait(2).unwrap();
    (hold, read, write)
}

/// Uses the other disk.
fn uses_the_other_disk(host: &mut Initiator) {
    for n in 0..50 {
        host.run(Command::write_blocks(GOOD, n * 8, 512, [n as u8; 4096])).unwrap();
        assert_eq!(host.run(Command::read_blocks(GOOD, n * 8, 8, 512)).unwrap().data_in, [n as u8; 4096]);
    }
    host.run(Command::flush(GOOD)).unwrap();
}

/// Asks the dead disk what it answers without its storage.
fn asks_the_dead_disk(host: &mut Initiator) {
    assert_eq!(host.clear_unit_attentions(DEAD).unwrap(), [], "TEST UNIT READY");
    host.run(Command::inquiry(DEAD, None)).unwrap();
    assert_eq!(host.capacity(DEAD).unwrap().blocks, BYTES / 512);
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

/// Lines of the log about the dead disk with this text.
fn lines(stage: &Stage, text: &str) -> usize {
    stage.daemon.log().lines().filter(|line| line.contains(text) && line.contains("dead")).count()
}

fn stops_cleanly(mut stage: Stage) {
    assert_eq!(stage.daemon.stop().unwrap().code(), Some(0), "{}", stage.daemon.log());
    assert!(stage.daemon.log().contains("stopped; all data are on disk"), "{}", stage.daemon.log());
}

fn functions_are_answered_and_commands_too_in_the_end(backend: &str) {
    let stage = Stage::new(backend);
    let (mut host, mut witness) = (stage.login(HOST), stage.login("iqn.2026-01.example:witness"));
    let (hold, read, write) = hang(&stage, &mut host);
    for host in [&mut host, &mut witness] {
        asks_the_dead_disk(host);
        uses_the_other_disk(host);
    }
    let number = host.core().cmd_sn_of(read).unwrap();
    let abort = host.core().task_management(tmf::ABORT_TASK, scsi::lun(DEAD), Some((read, number)));
    let reset = witness.core().task_management(tmf::LOGICAL_UNIT_RESET, scsi::lun(DEAD), None);
    for host in [&mut host, &mut witness] {
        host.flush().unwrap();
        uses_the_other_disk(host);
    }
    assert_eq!(response(&mut host, abort), tmf::response::REJECTED);
    assert_eq!(response(&mut witness, reset), tmf::response::REJECTED);
    // Nothing has been aborted or reset.
    for host in [&mut host, &mut witness] {
        asks_the_dead_disk(host);
    }
    assert_eq!((host.try_outcome(read), host.try_outcome(write)), (None, None));
    assert_eq!(stage.content(), [BEFORE; 4096]);
    drop(hold);
    assert_eq!(host.wait(read).unwrap().data_in, [BEFORE; 4096]);
    assert!(host.wait(write).unwrap().is_good());
    assert_eq!(stage.content(), [OLD; 4096]);
    assert_eq!(witness.task_management(tmf::LOGICAL_UNIT_RESET, DEAD, None).unwrap(), tmf::response::COMPLETE);
    assert_eq!(lines(&stage, "the storage does not answer"), 0, "no session went on without its commands");
    host.logout().unwrap();
    witness.logout().unwrap();
    stops_cleanly(stage);
}

fn an_initiator_comes_again_and_goes(backend: &str) {
    let mut stage = Stage::new(backend);
    let mut first = stage.login(HOST);
    let (hold, ..) = hang(&stage, &mut first);
    // The same name and ISID: the session is reinstated.
    let mut host = stage.login(HOST);
    first.wait_closed().unwrap();
    stage.daemon.wait_for_log("the storage does not answer").unwrap();
    asks_the_dead_disk(&mut host);
    uses_the_other_disk(&mut host);
    // What overlaps the lost WRITE waits for it outside of the storage, so it can be aborted.
    let held = hold.count();
    let newer = host.submit(write_dead(NEW)).unwrap();
    uses_the_other_disk(&mut host);
    assert_eq!(host.task_management(tmf::ABORT_TASK, DEAD, Some(newer)).unwrap(), tmf::response::COMPLETE);
    assert_eq!(hold.count(), held);
    // A session with a command that hangs logs out.
    host.submit(Command::read_blocks(DEAD, READ_LBA + 8192, 8, 512)).unwrap();
    hold.wait(held + 1).unwrap();
    assert_eq!(host.logout_and_wait().unwrap(), 0);
    let mut host = stage.login(HOST);
    let newer = host.submit(write_dead(NEW)).unwrap();
    uses_the_other_disk(&mut host);
    assert_eq!(host.try_outcome(newer), None);
    assert_eq!(stage.content(), [BEFORE; 4096]);
    assert_eq!(lines(&stage, "the storage answers again"), 0);
    drop(hold);
    assert!(host.wait(newer).unwrap().is_good());
    stage.daemon.wait_for_log("the storage answers again").unwrap();
    assert_eq!(stage.content(), [NEW; 4096], "nothing old is written over it");
    assert_eq!(host.run(Command::read_blocks(DEAD, WRITE_LBA, 8, 512)).unwrap().data_in, [NEW; 4096]);
    let once = ["the storage does not answer", "the storage answers again"].map(|text| lines(&stage, text));
    assert_eq!(once, [1, 1], "{}", stage.daemon.log());
    host.logout().unwrap();
    stops_cleanly(stage);
}

#[test]
fn functions_are_answered_and_commands_too_in_the_end_uring() {
    functions_are_answered_and_commands_too_in_the_end("uring");
}

#[test]
fn functions_are_answered_and_commands_too_in_the_end_posix() {
    functions_are_answered_and_commands_too_in_the_end("posix");
}

#[test]
fn an_initiator_comes_again_and_goes_uring() {
    an_initiator_comes_again_and_goes("uring");
}

#[test]
fn an_initiator_comes_again_and_goes_posix() {
    an_initiator_comes_again_and_goes("posix");
}
