//! What sessions and LUNs that nobody uses cost in resident memory, and that free buffers go back to the system.
//!
//! Bounds are bytes, with room; `cargo run --release -p scstd --example idle` prints what is really used, for as many
//! sessions as you like.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use scst_testkit::pdu::{Digests, Pdu, opcode};
use scst_testkit::process::{ScstdOptions, raise_file_limit};
use scst_testkit::{Command, Initiator, LoginConfig, Scstd, free_portal};

const TARGET: &str = "iqn.2026-01.example:target";
/// How long memory may take to come back: twice the time after which a connection rests, and more for a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// A daemon with so many LUNs of disks without data.
fn daemon(luns: usize, arguments: &[&str]) -> Scstd {
    let devices: String = (0..luns).map(|n| format!("DEVICE d{n}\n")).collect();
    let map: String = (0..luns).map(|n| format!("LUN {n} d{n}\n")).collect();
    let config = format!(
        "HANDLER vdisk_nullio {{\n{devices}}}\n\
         TARGET_DRIVER iscsi {{\nenabled 1\nTARGET {TARGET} {{\nenabled 1\nMaxSessions 0\n{map}}}\n}}\n"
    );
    let mut all: Vec<String> = ["--log", "warn,scstd=info"].map(str::to_owned).to_vec();
    if !arguments.contains(&"--reactors") {
        all.extend(["--reactors".to_owned(), "2".to_owned()]);
    }
    all.extend(arguments.iter().map(|a| (*a).to_owned()));
    let daemon = Scstd::start_with(ScstdOptions {
        binary: env!("CARGO_BIN_EXE_scstd").into(),
        config,
        portal: free_portal().unwrap(),
        arguments: all,
        environment: Vec::new(),
        launcher: Vec::new(),
    });
    daemon.unwrap()
}

fn host(daemon: &Scstd, number: usize) -> Initiator {
    let name = format!("iqn.2026-01.example:host{number}");
    Initiator::connect(daemon.portal(), LoginConfig::normal(&name, TARGET)).unwrap()
}

/// Sessions that have worked: every table and buffer of theirs was in use.
fn sessions(daemon: &Scstd, count: usize) -> Vec<Initiator> {
    let one = |number| {
        let mut host = host(daemon, number);
        host.clear_unit_attentions(0).unwrap();
        let tags: Vec<_> = (0..8).map(|lba| host.submit(Command::read_blocks(0, lba, 8, 512)).unwrap()).collect();
        for tag in tags {
            assert!(host.wait(tag).unwrap().is_good());
        }
        host
    };
    (0..count).map(one).collect()
}

/// What the daemon holds before the sessions that count: what is there once, however many there are, was in use already
/// (threads, pools, the first tables, the heap of a login).
fn warm(daemon: &Scstd) -> u64 {
    drop(sessions(daemon, 20));
    daemon.resident_memory().unwrap()
}

/// Waits until the daemon holds no more than this, with all free buffers given back; what it holds.
fn settle(daemon: &Scstd, bound: u64, idle: &mut [Initiator]) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        daemon.signal("USR2").unwrap();
        for host in &mut *idle {
            host.serve().unwrap();
        }
        let resident = daemon.resident_memory().unwrap();
        if resident <= bound || Instant::now() > deadline {
            return resident;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_thousand_idle_sessions_cost_less_than_10_kib_each() {
    const SESSIONS: usize = 1000;
    raise_file_limit(0).unwrap();
    let daemon = daemon(1, &[]);
    let before = warm(&daemon);
    let mut idle = sessions(&daemon, SESSIONS);
    let bound = before + SESSIONS as u64 * 10 * KIB;
    let resident = settle(&daemon, bound, &mut idle);
    assert!(resident <= bound, "{} bytes for each session", (resident - before) / SESSIONS as u64);
    // They are awake at once when they are needed.
    for host in &mut idle {
        assert!(host.run(Command::read_blocks(0, 0, 8, 512)).unwrap().is_good());
    }
}

#[test]
fn thousands_of_luns_cost_a_bounded_amount_and_sessions_that_do_not_use_them_nothing() {
    const LUNS: usize = 4096;
    const SESSIONS: usize = 100;
    let before = daemon(1, &[]).resident_memory().unwrap();
    let daemon = daemon(LUNS, &[]);
    let with_luns = daemon.resident_memory().unwrap();
    assert!(with_luns <= before + LUNS as u64 * 8 * KIB, "{} bytes for each", (with_luns - before) / LUNS as u64);
    let before = warm(&daemon);
    let mut idle = sessions(&daemon, SESSIONS);
    assert_eq!(idle[0].report_luns().unwrap(), (0..LUNS as u32).collect::<Vec<_>>());
    // REPORT LUNS takes a buffer of 128 KiB; the rest is what a session costs with one LUN as well.
    let bound = before + MIB + SESSIONS as u64 * 10 * KIB;
    let resident = settle(&daemon, bound, &mut idle);
    assert!(resident <= bound, "{} bytes for each session", (resident - before) / SESSIONS as u64);
    // Any of them works when it is asked.
    assert_eq!(idle[7].clear_unit_attentions(LUNS as u32 - 1).unwrap(), [(0x29, 0)]);
}

#[test]
fn unfinished_pings_of_many_sessions_hold_a_bounded_amount_and_others_are_served() {
    const SESSIONS: usize = 200;
    // Read-ahead, which may grow to 256 KiB for each session, is part of this.
    let daemon = daemon(1, &["--reactors", "1", "--max-cmd-mem", "64M"]);
    let before = warm(&daemon);
    let mut hogs: Vec<Initiator> = (0..SESSIONS).map(|number| host(&daemon, number)).collect();
    let ping = Pdu::new(opcode::NOP_OUT | 0x40).with_flags(0x80).with_u32(16, 1).with_u32(20, u32::MAX);
    let bytes = ping.with_data(vec![0x5a; MIB as usize]).to_bytes(Digests::default());
    for hog in &mut hogs {
        // It is read, so that nothing behind it waits, but for the last byte, which never comes.
        hog.send_bytes(&bytes[..bytes.len() - 1]).unwrap();
    }
    let mut innocent = host(&daemon, SESSIONS);
    innocent.clear_unit_attentions(0).unwrap();
    assert_eq!(innocent.ping(b"there?").unwrap(), b"there?");
    assert!(innocent.run(Command::read_blocks(0, 0, 8, 512)).unwrap().is_good());
    // Besides, 4 MiB are shared by all, and each has 4 KiB and what every session costs.
    let bound = before + 64 * MIB + 4 * MIB + SESSIONS as u64 * (4 + 10) * KIB;
    let resident = daemon.resident_memory().unwrap();
    assert!(resident <= bound, "{} bytes for each session", (resident - before) / SESSIONS as u64);
}

/// The value under a heading of the first reactor in section `sgv`.
fn sgv(report: &str, heading: &str) -> u64 {
    let mut lines = report.lines().skip_while(|line| *line != "[sgv]").skip(1);
    let at = lines.next().unwrap().split(' ').position(|h| h == heading).unwrap();
    lines.next().unwrap().split(' ').nth(at).unwrap().parse().unwrap()
}

#[test]
fn free_buffers_go_back_on_request_and_the_statistics_say_so() {
    let state = tempfile::tempdir().unwrap();
    let mut daemon = daemon(1, &["--reactors", "1", "--state-dir", state.path().to_str().unwrap()]);
    let mut host = host(&daemon, 0);
    host.clear_unit_attentions(0).unwrap();
    let before = daemon.resident_memory().unwrap();
    let tags: Vec<_> =
        (0..16).map(|_| host.submit(Command::write_blocks(0, 0, 512, vec![0x5a; 1 << 20])).unwrap()).collect();
    for tag in tags {
        assert!(host.wait(tag).unwrap().is_good());
    }
    let after = settle(&daemon, before + MIB, &mut []);
    assert!(after <= before + MIB, "{before} before, {after} after a purge");
    daemon.signal("USR1").unwrap();
    daemon.wait_for_log("statistics are in").unwrap();
    let report = fs::read_to_string(state.path().join("statistics")).unwrap();
    assert!(sgv(&report, "released_pages") >= 256, "{report}");
    assert_eq!(sgv(&report, "release_failures"), 0);
    assert!(sgv(&report, "inactive_pages") < 256, "{report}");
    assert_eq!(host.run(Command::read_blocks(0, 0, 8, 512)).unwrap().data_in.len(), 4096);
}
