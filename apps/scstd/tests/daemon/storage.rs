//! What is behind a disk is taken away, replaced, cut, write-protected, or somebody else's: initiators and the log are told, and
//! nothing is GOOD that would not be found again. Some of these tests need root.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process;

use scst_testkit::scsi::cdb;
use scst_testkit::{Command, Initiator, LoopDevice, Scstd};

use super::{blocks, login};
use crate::common::{Disks, HOST, config, disk, options, wait_for_end};

const NOT_READY: Option<(u8, u8, u8)> = Some((2, 0x04, 0x03));
const NOT_READY_TO_READY: (u8, u8) = (0x28, 0x00);
const CAPACITY_CHANGED: (u8, u8) = (0x2a, 0x09);
const MODE_PARAMETERS_CHANGED: (u8, u8) = (0x2a, 0x01);

fn serve(disks: &Disks, attributes: &str, arguments: &[&str]) -> Scstd {
    Scstd::start_with(options(&config(&disk(disks, "disk1", attributes), "LUN 0 disk1"), arguments)).unwrap()
}

fn kcq(host: &mut Initiator, command: Command) -> Option<(u8, u8, u8)> {
    host.execute(command).unwrap().kcq()
}

/// What would tell an initiator that its data are safe is not GOOD.
fn nothing_is_good(host: &mut Initiator) {
    for command in [Command::write_blocks(0, 8, 512, blocks(2, 8)), Command::flush(0)] {
        assert_eq!(kcq(host, command), NOT_READY);
    }
}

fn reload(daemon: &mut Scstd, result: &str) {
    daemon.signal("HUP").unwrap();
    daemon.wait_for_log(&format!("reload complete: {result}")).unwrap();
}

#[test]
fn a_replaced_file_is_not_ready_until_the_operator_asks_for_the_new_one() {
    for backend in ["auto", "posix"] {
        let disks = Disks::new(&[("disk1", 1 << 20)]);
        let mut daemon = serve(&disks, "", &["--backend", backend]);
        let mut host = login(&daemon, HOST);
        host.run(Command::write_blocks(0, 8, 512, blocks(1, 8))).unwrap();
        fs::rename(disks.path("disk1"), disks.path("old")).unwrap();
        disks.make("disk1", 2 << 20);
        daemon.wait_for_log("not ready: another file is at ").unwrap();
        nothing_is_good(&mut host);
        assert!(disks.read("disk1", 0, 8192) == vec![0; 8192], "nothing goes to a file that nobody asked for");

        reload(&mut daemon, "0 changes, 0 failures");
        assert_eq!(host.clear_unit_attentions(0).unwrap(), [NOT_READY_TO_READY, CAPACITY_CHANGED]);
        assert_eq!(host.capacity(0).unwrap().blocks, 4096);
        host.run(Command::write_blocks(0, 8, 512, blocks(3, 8))).unwrap();
        host.run(Command::flush(0)).unwrap();
        assert!(disks.read("disk1", 4096, 4096) == blocks(3, 8));
        assert!(disks.read("old", 4096, 4096) == blocks(1, 8));
        drop(host);
        assert_eq!(daemon.stop().unwrap().code(), Some(0));
    }
}

#[test]
fn a_file_that_is_moved_aside_is_ready_again_when_it_is_back() {
    let disks = Disks::new(&[("disk1", 1 << 20)]);
    let mut daemon = serve(&disks, "", &[]);
    let mut host = login(&daemon, HOST);
    host.run(Command::write_blocks(0, 8, 512, blocks(1, 8))).unwrap();
    fs::rename(disks.path("disk1"), disks.path("aside")).unwrap();
    daemon.wait_for_log("not ready: nothing is at ").unwrap();
    nothing_is_good(&mut host);
    reload(&mut daemon, "0 changes, 0 failures");
    nothing_is_good(&mut host);
    fs::rename(disks.path("aside"), disks.path("disk1")).unwrap();
    daemon.wait_for_log("the file is back").unwrap();
    while kcq(&mut host, Command::new(0, cdb::test_unit_ready())) != Some((6, 0x28, 0)) {}
    while !host.execute(Command::new(0, cdb::test_unit_ready())).unwrap().is_good() {}
    assert!(host.run(Command::read_blocks(0, 8, 8, 512)).unwrap().data_in == blocks(1, 8));
    host.run(Command::flush(0)).unwrap();
}

#[test]
fn a_stop_does_not_say_that_data_are_on_disk_which_nobody_finds() {
    let disks = Disks::new(&[("disk1", 1 << 20)]);
    let mut daemon = serve(&disks, "", &[]);
    let mut host = login(&daemon, HOST);
    host.run(Command::write_blocks(0, 0, 512, blocks(1, 8))).unwrap();
    fs::remove_file(disks.path("disk1")).unwrap();
    daemon.signal("TERM").unwrap();
    host.wait_async().unwrap();
    host.logout().unwrap();
    assert_eq!(wait_for_end(&mut daemon).code(), Some(1));
    let log = daemon.log();
    assert!(log.contains("data may be lost: device disk1: ") && log.contains("nothing is at "), "{log}");
    assert!(!log.contains("all data are on disk"), "{log}");
}

#[test]
fn a_file_that_is_cut_to_nothing_is_not_ready_until_it_has_blocks() {
    let disks = Disks::new(&[("disk1", 1 << 20)]);
    let mut daemon = serve(&disks, "", &[]);
    let mut host = login(&daemon, HOST);
    disks.resize("disk1", 100);
    reload(&mut daemon, "0 changes, 0 failures");
    daemon.wait_for_log("has 100 bytes, less than one block of 512").unwrap();
    nothing_is_good(&mut host);
    assert_eq!(kcq(&mut host, Command::new(0, cdb::test_unit_ready())), NOT_READY);
    disks.resize("disk1", 4096);
    daemon.wait_for_log("the file is back").unwrap();
    while kcq(&mut host, Command::new(0, cdb::test_unit_ready())) != Some((6, 0x28, 0)) {}
    while !host.execute(Command::new(0, cdb::test_unit_ready())).unwrap().is_good() {}
    assert_eq!(host.capacity(0).unwrap().blocks, 8);
}

#[test]
fn two_daemons_do_not_write_one_file_and_a_kill_frees_it() {
    let disks = Disks::new(&[("disk1", 1 << 20)]);
    let mut first = serve(&disks, "", &[]);
    let mut second = serve(&disks, "", &[]);
    second
        .wait_for_log(&format!("it is locked by scstd (process {}); end that, or set share_rw 1", first.pid()))
        .unwrap();
    let mut host = login(&first, HOST);
    host.run(Command::write_blocks(0, 0, 512, blocks(1, 8))).unwrap();
    first.kill().unwrap();
    second.wait_for_log("tried again: new device disk1 (vdisk_fileio)").unwrap();
    let mut host = login(&second, HOST);
    assert!(host.run(Command::read_blocks(0, 0, 8, 512)).unwrap().data_in == blocks(1, 8));
    drop(host);
    second.stop().unwrap();

    let [a, b] = [(); 2].map(|()| serve(&disks, "share_rw 1", &[]));
    login(&a, HOST).run(Command::write_blocks(0, 0, 512, blocks(2, 8))).unwrap();
    assert!(login(&b, HOST).run(Command::read_blocks(0, 0, 8, 512)).unwrap().data_in == blocks(2, 8));
}

#[test]
fn a_reload_hands_files_over() {
    let disks = Disks::new(&[("disk1", 1 << 20), ("disk2", 2 << 20)]);
    let device = |name: &str, file: &str, attributes: &str| disk(&disks, file, attributes).replacen(file, name, 1);
    let luns = "LUN 0 a\nLUN 1 b";
    let both = |a: &str, b: &str| config(&[device("a", a, ""), device("b", b, "")].concat(), luns);
    let mut daemon = Scstd::start_with(options(&both("disk1", "disk2"), &[])).unwrap();
    // They swap their files.
    daemon.write_config(&both("disk2", "disk1")).unwrap();
    reload(&mut daemon, "2 changes, 0 failures");
    let mut host = login(&daemon, HOST);
    assert_eq!([0, 1].map(|lun| host.capacity(lun).unwrap().blocks), [4096, 2048]);
    // One is named anew, the other is opened anew.
    let renamed = [device("c", "disk2", ""), device("b", "disk1", "read_only 1")].concat();
    daemon.write_config(&config(&renamed, "LUN 0 c\nLUN 1 b")).unwrap();
    reload(&mut daemon, "4 changes, 0 failures");
    let mut host = login(&daemon, HOST);
    assert_eq!([0, 1].map(|lun| host.capacity(lun).unwrap().blocks), [4096, 2048]);
    host.run(Command::write_blocks(0, 0, 512, blocks(1, 8))).unwrap();
    // Two over one file are refused, by whatever path.
    fs::hard_link(disks.path("disk2"), disks.path("hard")).unwrap();
    let same = [device("c", "disk2", ""), device("d", "hard", "")].concat();
    daemon.write_config(&config(&same, "LUN 0 c\nLUN 1 d")).unwrap();
    daemon.signal("HUP").unwrap();
    daemon.wait_for_log("device c uses the same file").unwrap();
}

/// A disk over storage that becomes write-protected while it serves, and writable again.
fn write_protection(configuration: &str, storage: &Path, protect: [&str; 2], allow: [&str; 2]) {
    let mut daemon = Scstd::start_with(options(configuration, &[])).unwrap();
    let mut host = login(&daemon, HOST);
    assert_eq!(write_protect(&mut host), 0);

    run(protect, storage);
    daemon.wait_for_log("the storage is write-protected").unwrap();
    attention(&mut host, MODE_PARAMETERS_CHANGED);
    assert_eq!(write_protect(&mut host), 0x80);
    assert_eq!(kcq(&mut host, Command::write_blocks(0, 0, 512, blocks(1, 1))), Some((7, 0x27, 0)));
    host.run(Command::read_blocks(0, 0, 1, 512)).unwrap();

    run(allow, storage);
    daemon.wait_for_log("the storage can be written again").unwrap();
    attention(&mut host, MODE_PARAMETERS_CHANGED);
    assert_eq!(write_protect(&mut host), 0);
    host.run(Command::write_blocks(0, 0, 512, blocks(1, 1))).unwrap();
}

#[test]
fn an_immutable_file_is_write_protected() {
    let disks = Disks::new(&[("disk1", 1 << 20)]);
    let configuration = config(&disk(&disks, "disk1", ""), "LUN 0 disk1");
    write_protection(&configuration, &disks.path("disk1"), ["chattr", "+i"], ["chattr", "-i"]);
}

#[test]
fn a_block_device_that_was_set_read_only_is_write_protected() {
    for handler in ["vdisk_fileio", "vdisk_blockio"] {
        let dir = tempfile::tempdir().unwrap();
        let device = LoopDevice::new(&dir.path().join("image"), 1 << 20, 512).unwrap_or_else(|e| panic!("{e:#}"));
        let text = format!("DEVICE disk {{\n filename {}\n}}\n", device.path().display());
        let text = config(&text, "LUN 0 disk").replace("HANDLER vdisk_fileio", &format!("HANDLER {handler}"));
        write_protection(&text, device.path(), ["blockdev", "--setro"], ["blockdev", "--setrw"]);
    }
}

#[test]
fn a_block_device_that_is_read_only_from_the_start_is_write_protected() {
    let dir = tempfile::tempdir().unwrap();
    let device = LoopDevice::new(&dir.path().join("image"), 1 << 20, 512).unwrap_or_else(|e| panic!("{e:#}"));
    run(["blockdev", "--setro"], device.path());
    let text = format!("DEVICE disk {{\n filename {}\n}}\n", device.path().display());
    let mut daemon = Scstd::start_with(options(&config(&text, "LUN 0 disk"), &[])).unwrap();
    let mut host = login(&daemon, HOST);
    assert_eq!(write_protect(&mut host), 0x80);
    daemon.wait_for_log("the storage is write-protected").unwrap();
    // A loop device keeps this for what it is set up for next.
    run(["blockdev", "--setrw"], device.path());
}

/// Waits for a unit attention.
fn attention(host: &mut Initiator, (asc, ascq): (u8, u8)) {
    while kcq(host, Command::new(0, cdb::test_unit_ready())) != Some((6, asc, ascq)) {}
}

/// WP of MODE SENSE (6), all pages.
fn write_protect(host: &mut Initiator) -> u8 {
    host.run(Command::read(0, vec![0x1a, 8, 0x3f, 0, 255, 0], 255)).unwrap().data_in[2] & 0x80
}

/// Runs a command on a file or block device.
fn run([program, how]: [&str; 2], storage: &Path) {
    assert!(process::Command::new(program).arg(how).arg(storage).status().unwrap().success());
}

#[test]
fn a_block_device_that_serves_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let device = LoopDevice::new(&dir.path().join("image"), 1 << 20, 512).unwrap_or_else(|e| panic!("{e:#}"));
    let text = |attributes: &str| {
        config(&format!("DEVICE disk {{\n filename {}\n {attributes}\n}}\n", device.path().display()), "LUN 0 disk")
    };
    // What mount(8), LVM and another daemon do.
    let hold = || OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(device.path());
    let mounted = hold().unwrap();
    let mut daemon = Scstd::start_with(options(&text(""), &[])).unwrap();
    daemon.wait_for_log("it is in use: another program has it open for itself").unwrap();
    drop(mounted);
    daemon.wait_for_log("tried again: new device disk").unwrap();
    assert_eq!(hold().unwrap_err().raw_os_error(), Some(libc::EBUSY));
    daemon.write_config(&text("share_rw 1")).unwrap();
    reload(&mut daemon, "1 change, 0 failures");
    while hold().is_err() {}
}

#[test]
fn errors_of_the_storage_are_logged_once_and_counted() {
    let disks = Disks::new(&[("disk1", 1 << 20)]);
    let state = tempfile::tempdir().unwrap();
    let mut daemon = serve(&disks, "", &["--state-dir", state.path().to_str().unwrap()]);
    let mut host = login(&daemon, HOST);
    disks.resize("disk1", 512 << 10);
    for lba in [1024, 1025, 1026] {
        assert_eq!(kcq(&mut host, Command::read_blocks(0, lba, 1, 512)), Some((3, 0x11, 0)));
    }
    daemon.wait_for_log("the file ends before that, it was cut; make it as large as it was").unwrap();
    daemon.signal("USR1").unwrap();
    daemon.wait_for_log("statistics are in ").unwrap();
    let report = fs::read_to_string(state.path().join("statistics")).unwrap();
    let table = "[storage_errors]\ndevice reads read_errno writes write_errno flushes flush_errno\ndisk1 3 0 0 0 0 0\n";
    assert!(report.ends_with(table), "{report}");
}
