//! SIGUSR1: the report of the running daemon.

use std::fs;

use scst_testkit::{Command, Initiator, LoginConfig, Scstd};

use crate::common::{Disks, HOST, TARGET, config, disk, options};

/// Lines of one section.
fn section<'a>(report: &'a str, name: &str) -> Vec<&'a str> {
    let heading = format!("[{name}]");
    report.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.is_empty()).collect()
}

#[test]
fn the_report_names_sessions_and_their_commands() {
    let disks = Disks::new(&[("disk1", 1 << 20)]);
    let state = tempfile::tempdir().unwrap();
    let directory = state.path().to_str().unwrap();
    let configuration = config(&disk(&disks, "disk1", ""), "LUN 0 disk1");
    let mut daemon =
        Scstd::start_with(options(&configuration, &["--reactors", "1", "--state-dir", directory])).unwrap();
    let mut host = Initiator::connect(daemon.portal(), LoginConfig::normal(HOST, TARGET)).unwrap();
    host.clear_unit_attentions(0).unwrap();
    let before = 1 + 1;
    for lba in 0..10 {
        host.run(Command::read_blocks(0, lba, 8, 512)).unwrap();
    }
    daemon.signal("USR1").unwrap();
    daemon.wait_for_log(&format!("statistics are in {directory}/statistics")).unwrap();
    let report = fs::read_to_string(state.path().join("statistics")).unwrap();
    let rows = section(&report, "sessions");
    assert_eq!(rows[0], "initiator target reactor active_commands commands");
    assert_eq!(rows.len(), 2, "{report}");
    let fields: Vec<&str> = rows[1].split(' ').collect();
    assert_eq!(fields[..3], [HOST, TARGET, "0"]);
    // The last answer is on the wire before the target knows that it is.
    let seen = fields[3].parse::<u64>().unwrap() + fields[4].parse::<u64>().unwrap();
    assert_eq!(seen, before + 10);
    let files: Vec<_> = fs::read_dir(state.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(files, ["statistics"], "nothing else is left behind");
    daemon.stop().unwrap();
}
