//! SIGUSR1: the report of the running daemon.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

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

/// Starts a daemon of two reactors that measures (or does not) and keeps its state in a directory.
fn measuring(disks: &Disks, state: &str, on: bool) -> (Scstd, String) {
    let configuration = config(&disk(disks, "disk1", ""), "LUN 0 disk1");
    let switched = |on: bool| format!("measure_latency {}\n{configuration}", u8::from(on));
    (Scstd::start_with(options(&switched(on), &["--state-dir", state])).unwrap(), switched(!on))
}

/// Makes the daemon write a report and reads it.
fn report(daemon: &Scstd, state: &Path) -> String {
    let file = state.join("statistics");
    drop(fs::remove_file(&file));
    daemon.signal("USR1").unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match fs::read_to_string(&file) {
            Ok(text) => return text,
            Err(error) if Instant::now() < deadline => {
                assert_eq!(error.kind(), ErrorKind::NotFound);
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => panic!("no report: {error}; its log:\n{}", daemon.log()),
        }
    }
}

/// Column `value` of all rows that begin with these fields.
fn column<'a>(rows: &[&'a str], fields: &[&str], value: usize) -> Vec<&'a str> {
    let found = rows.iter().map(|row| row.split(' ').collect::<Vec<_>>()).filter(|row| row.starts_with(fields));
    found.map(|row| row[value]).collect()
}

#[test]
fn latencies_are_counted_for_every_command() {
    let disks = Disks::new(&[("disk1", 1 << 20)]);
    let state = tempfile::tempdir().unwrap();
    let (mut daemon, off) = measuring(&disks, state.path().to_str().unwrap(), true);
    let mut host = Initiator::connect(daemon.portal(), LoginConfig::normal(HOST, TARGET)).unwrap();
    let mut other =
        Initiator::connect(daemon.portal(), LoginConfig::normal("iqn.2026-01.example:two", TARGET)).unwrap();
    host.clear_unit_attentions(0).unwrap();
    other.clear_unit_attentions(0).unwrap();
    for lba in 0..10 {
        host.run(Command::read_blocks(0, lba, 8, 512)).unwrap();
        host.run(Command::write_blocks(0, lba, 512, vec![7; 4097_usize.next_multiple_of(512)])).unwrap();
        other.run(Command::read_blocks(0, lba, 1, 512)).unwrap();
    }
    // When its answer is here, those of all before it have left.
    host.run(Command::flush(0)).unwrap();
    other.run(Command::flush(0)).unwrap();
    let text = report(&daemon, state.path());
    let (latency, histograms) = (section(&text, "latency"), section(&text, "histograms"));
    for (size, with_data) in [("r4096", false), ("w8192", true)] {
        let count = |stage| column(&latency, &[HOST, TARGET, size, stage], 4);
        for stage in ["PREPARE_SPACE", "EXEC_CHECK_SN", "EXEC_WAIT", "XMIT_WAIT", "total"] {
            assert_eq!(count(stage), ["10"], "{size} {stage}\n{text}");
        }
        // Data that came whole with their command are not waited for, as soon as the read-ahead has room for them.
        let waited = count("DATA_WAIT").iter().map(|count| number(count)).sum::<u64>();
        assert!(waited <= if with_data { 10 } else { 0 }, "{waited}");
        // The parts make the whole, up to rounding of each to a tenth.
        let sums = column(&latency, &[HOST, TARGET, size], 10);
        let sums: Vec<f64> = sums.iter().map(|sum| sum.parse().unwrap()).collect();
        let (total, parts) = sums.split_last().unwrap();
        assert!((parts.iter().sum::<f64>() - total).abs() < 1.0 && *total > 1.0, "{text}");
    }
    assert_eq!(column(&latency, &["iqn.2026-01.example:two", TARGET, "r512", "total"], 4), ["10"]);
    // What has ended is what is counted, of both sessions in both sections.
    let ended: u64 =
        section(&text, "sessions")[1..].iter().map(|row| row.rsplit(' ').next().unwrap()).map(number).sum();
    let counted = |rows: &[&str], state: usize| -> u64 {
        let totals = rows.iter().map(|row| row.split(' ').collect::<Vec<_>>()).filter(|row| row[state] == "total");
        totals.map(|row| number(row[state + 1])).sum()
    };
    assert!(ended >= 2 * 2 + 30, "{text}");
    assert_eq!((counted(&latency, 3), counted(&histograms, 1)), (ended, ended), "{text}");
    assert_eq!(column(&histograms, &["disk1", "total"], 0), ["disk1"], "one row for both reactors");

    daemon.write_config(&off).unwrap();
    daemon.signal("HUP").unwrap();
    daemon.wait_for_log("reload complete: 1 change, 0 failures").unwrap();
    host.run(Command::read_blocks(0, 0, 8, 512)).unwrap();
    let text = report(&daemon, state.path());
    assert_eq!((section(&text, "latency").len(), section(&text, "histograms").len()), (1, 1), "{text}");
}

#[test]
fn a_reload_switches_measuring_on_under_load() {
    let disks = Disks::new(&[("disk1", 1 << 20)]);
    let state = tempfile::tempdir().unwrap();
    let (mut daemon, on) = measuring(&disks, state.path().to_str().unwrap(), false);
    let mut host = Initiator::connect(daemon.portal(), LoginConfig::normal(HOST, TARGET)).unwrap();
    host.clear_unit_attentions(0).unwrap();
    let text = report(&daemon, state.path());
    assert_eq!(section(&text, "latency").len(), 1, "{text}");
    daemon.write_config(&on).unwrap();
    daemon.signal("HUP").unwrap();
    // Some of these are under way when it is switched on, some come before and some after.
    let began = Instant::now();
    let mut sent = 0;
    loop {
        for _ in 0..8 {
            host.submit(Command::read_blocks(0, sent % 64, 8, 512)).unwrap();
            sent += 1;
        }
        for _ in 0..8 {
            assert!(host.wait_any().unwrap().is_good());
        }
        if daemon.log().contains("reload complete: 1 change, 0 failures") {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{}", daemon.log());
    }
    for _ in 0..20 {
        host.run(Command::read_blocks(0, 0, 8, 512)).unwrap();
        sent += 1;
    }
    host.run(Command::flush(0)).unwrap();
    let elapsed = began.elapsed().as_micros() as f64;
    let text = report(&daemon, state.path());
    let rows = section(&text, "latency");
    let field = |value| column(&rows, &[HOST, TARGET, "r4096", "total"], value)[0];
    assert!((20..=sent).contains(&number(field(4))), "{text}");
    // Nothing took longer than the whole load.
    assert!(field(6).parse::<f64>().unwrap() <= elapsed, "{text}");
    daemon.stop().unwrap();
}

fn number(text: &str) -> u64 {
    text.parse().unwrap()
}
