//! Devices that cannot be opened: they are tried again, and neither the log nor the service manager is told otherwise.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use scst_testkit::{Initiator, LoginConfig, Scstd};

use super::login;
use crate::common::{Disks, HOST, TARGET, config, disk, options};

#[test]
fn a_device_that_fails_to_open_is_tried_again_and_ready_comes_then() {
    let disks = Disks::new(&[]);
    // A directory is refused; a file that is away would not be.
    fs::create_dir(disks.path("disk1")).unwrap();
    let path = disks.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut start = options(&config(&disk(&disks, "disk1", ""), "LUN 0 disk1"), &[]);
    start.environment = vec![("NOTIFY_SOCKET".to_owned(), path.display().to_string())];
    let mut daemon = Scstd::start_with(start).unwrap();
    let next = || {
        let mut buffer = [0; 1024];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let file = disks.path("disk1").display().to_string();
    let reason = format!(
        "device disk1: filename {file:?}: neither a file nor a block device; name a regular file or a block device"
    );
    let portal = daemon.portal();
    let status = format!("STATUS=0 devices, 1 target, portals {portal}; 1 device not ready: {reason}\n");
    assert_eq!(next(), status, "nothing can be served: not ready");

    fs::remove_dir(disks.path("disk1")).unwrap();
    disks.make("disk1", 1 << 20);
    daemon.wait_for_log("tried again: new device disk1 (vdisk_fileio)").unwrap();
    assert_eq!(next(), format!("READY=1\nSTATUS=1 device, 1 target, portals {portal}\n"));
    assert_eq!(login(&daemon, HOST).capacity(0).unwrap().blocks, 2048);
}

#[test]
fn no_line_says_that_a_lun_is_there_whose_device_is_not_open() {
    let disks = Disks::new(&[("disk1", 1 << 20)]);
    fs::create_dir(disks.path("disk2")).unwrap();
    let mut daemon = Scstd::start_with(options(&config(&disk(&disks, "disk1", ""), "LUN 0 disk1"), &[])).unwrap();
    let both = [disk(&disks, "disk1", ""), disk(&disks, "disk2", "")].concat();
    daemon.write_config(&config(&both, "LUN 0 disk1\nLUN 3 disk2")).unwrap();
    daemon.signal("HUP").unwrap();
    daemon.wait_for_log("reload complete: 1 change, 2 failures").unwrap();
    let line = format!("target {TARGET}: new LUN 3: disk2; not shown before it is open: disk2");
    assert!(daemon.log().contains(&line), "{}", daemon.log());
    let mut host = Initiator::connect(daemon.portal(), LoginConfig::normal(HOST, TARGET)).unwrap();
    assert_eq!(host.report_luns().unwrap(), [0]);
    host.clear_unit_attentions(0).unwrap();

    fs::remove_dir(disks.path("disk2")).unwrap();
    disks.make("disk2", 2 << 20);
    daemon.wait_for_log("tried again: new device disk2 (vdisk_fileio)").unwrap();
    // The attention comes with the LUN, which comes after the line.
    while host.report_luns().unwrap() != [0, 3] {}
    host.clear_unit_attentions(3).unwrap();
    assert_eq!(host.capacity(3).unwrap().blocks, 4096);
}
