//! The log: when nothing reads it (standard error is a pipe, and a full one makes write(2) wait), and what it says of logins
//! that are refused.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Disks, HOST, TARGET, config, disk, options};
use scst_testkit::chap::Chap;
use scst_testkit::hostile::{LoginResult, try_login};
use scst_testkit::process::{ScstdOptions, send_signal};
use scst_testkit::{Command as Scsi, Initiator, LoginConfig, Scstd, free_portal};

/// No answer for so long is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Running {
    fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the daemon does not end");
            std::thread::yield_now();
        }
    }
}

/// Logins by strangers with long names, half of them refused: more than a pipe holds (64 KiB), and in eight rounds more
/// than the daemon keeps for it (4,096 lines).
fn strangers(portal: std::net::SocketAddr) {
    let refused = LoginResult::Refused { class: 2, detail: 3 };
    for number in 0..300 {
        let name = format!("iqn.2026-01.example:{number:0>200}");
        assert_eq!(try_login(portal, LoginConfig::normal(&name, "iqn.2026-01.example:no-such")), refused);
        assert_eq!(try_login(portal, LoginConfig::normal(&name, TARGET)), LoginResult::LoggedIn);
    }
}

fn a_log_that_nobody_reads_stops_nobody(backend: &str) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("scst.conf");
    let config = format!(
        "HANDLER vdisk_nullio {{\nDEVICE null\n}}\nTARGET_DRIVER iscsi {{\nenabled 1\nTARGET {TARGET} {{\nenabled 1\n\
         LUN 0 null\n}}\n}}\n"
    );
    fs::write(&file, config).unwrap();
    let portal = free_portal().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_scstd"));
    command.arg("--config").arg(&file).args(["--iscsi-portal", &portal.to_string(), "--backend", backend]);
    // One reactor: what stops it stops everybody.
    command.args(["--reactors", "1", "--log", "info"]).arg("--state-dir").arg(directory.path());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut running = Running(child);
    let mut line = String::new();
    while !line.contains("listening on") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "the daemon has ended");
    }

    let mut host = Initiator::connect(portal, LoginConfig::normal(HOST, TARGET)).unwrap();
    host.set_timeout(PATIENCE);
    host.clear_unit_attentions(0).unwrap();
    for _ in 0..8 {
        strangers(portal);
        host.run(Scsi::read_blocks(0, 0, 1, 512)).unwrap();
    }
    // SIGUSR1 has the control thread log; it must not wait either.
    let statistics = directory.path().join("statistics");
    send_signal(running.0.id(), "USR1").unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !statistics.exists() {
        assert!(Instant::now() < deadline, "the control thread waits");
        std::thread::yield_now();
    }
    host.run(Scsi::read_blocks(0, 0, 1, 512)).unwrap();

    // It is read again: what was lost is told, and the next lines come.
    let lost = loop {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "the daemon has ended");
        if let Some((before, _)) = line.split_once(" log lines are lost") {
            break before.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        }
    };
    assert!(lost > 0, "{line}");

    // Nobody reads again, and it ends all the same.
    host.logout().unwrap();
    strangers(portal);
    send_signal(running.0.id(), "TERM").unwrap();
    assert_eq!(running.exit_code(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_stops_nobody_with_uring() {
    a_log_that_nobody_reads_stops_nobody("uring");
}

#[test]
fn a_log_that_nobody_reads_stops_nobody_with_posix() {
    a_log_that_nobody_reads_stops_nobody("posix");
}

/// The lines of the log about refusals, without time and port of the peer.
fn refusals(daemon: &Scstd) -> Vec<String> {
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains("refused: ") || line.contains("cannot be accepted"));
    let text = |line: &str| line.split_once("WARN ").map(|(_, text)| text.to_owned());
    lines.map(|line| text(line).unwrap_or_else(|| panic!("no warning: {line}"))).collect()
}

/// One line as [`refusals`] gives it.
fn line(reason: &str, peer: &str, initiator: &str, target: &str) -> String {
    format!("login refused: {reason} peer={peer} initiator=\"{initiator}\" target=\"{target}\"")
}

/// Leaves the port of the peer away.
fn without_port(line: &str) -> String {
    let (before, after) = line.split_once("peer=127.0.0.1:").unwrap_or_else(|| panic!("{line}"));
    format!("{before}peer=127.0.0.1{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
}

#[test]
fn each_refused_login_leaves_one_line_with_its_reason_and_no_secret() {
    let (closed, full, strict, off) = (
        "iqn.2026-01.example:closed",
        "iqn.2026-01.example:full",
        "iqn.2026-01.example:strict",
        "iqn.2026-01.example:off",
    );
    let disks = Disks::new(&[("disk1", 1 << 20)]);
    let target = format!(
        "IncomingUser \"joe 12charsecret\"\nLUN 0 disk1\n}}\n\
         TARGET {closed} {{\nenabled 1\nGROUP g {{\nINITIATOR iqn.2026-01.example:friend\nLUN 0 disk1\n}}\n}}\n\
         TARGET {full} {{\nenabled 1\nMaxSessions 1\nLUN 0 disk1\n}}\n\
         TARGET {off} {{\nenabled 0\nLUN 0 disk1\n}}\n\
         TARGET {strict} {{\nenabled 1\nHeaderDigest CRC32C\nLUN 0 disk1"
    );
    let daemon = Scstd::start_with(options(&config(&disk(&disks, "disk1", ""), &target), &[])).unwrap();
    let to = |target: &str| LoginConfig::normal(HOST, target);
    let _session = Initiator::connect(daemon.portal(), to(full)).unwrap();
    let mut expected = Vec::new();
    let cases = [
        (to(TARGET).with_chap(Chap::new("joe", "wrong-secret-1")), "wrong CHAP secret", TARGET, (2, 1)),
        (to(TARGET).with_chap(Chap::new("ann", "12charsecret")), "unknown CHAP user", TARGET, (2, 1)),
        (to(TARGET), "CHAP is required and the initiator does not offer it", TARGET, (2, 1)),
        (
            to(strict).with_key("HeaderDigest", "None"),
            "no value of HeaderDigest suits both initiator and target",
            strict,
            (2, 0),
        ),
        (to(full).with_isid(7), "MaxSessions of the target is reached", full, (3, 2)),
        (to(closed), "the initiator has no LUN in the target", closed, (2, 3)),
        (to(off), "the target is not enabled", off, (2, 3)),
        (to("iqn.2026-01.example:none"), "there is no such target", "iqn.2026-01.example:none", (2, 3)),
        (LoginConfig::normal("me", TARGET), "a name that is no iSCSI name", "-", (2, 0)),
    ];
    for (config, reason, target, (class, detail)) in cases {
        let initiator = if target == "-" { "-" } else { HOST };
        expected.push(line(reason, "127.0.0.1", initiator, target));
        // However often it comes again: the next line comes after a minute, with a count.
        for _ in 0..20 {
            let result = try_login(daemon.portal(), config.clone());
            assert_eq!(result, LoginResult::Refused { class, detail }, "{reason}");
        }
        // The line is written by another thread than the answer.
        let deadline = Instant::now() + PATIENCE;
        while refusals(&daemon).len() < expected.len() {
            assert!(Instant::now() < deadline, "{reason}: {}", daemon.log());
            std::thread::yield_now();
        }
        let lines: Vec<String> = refusals(&daemon).iter().map(|line| without_port(line)).collect();
        assert_eq!(lines, expected);
    }
    for secret in ["12charsecret", "wrong-secret-1"] {
        assert!(!daemon.log().contains(secret));
    }
}

fn without_descriptors_a_login_is_told_so(backend: &str) {
    let disks = Disks::new(&[("disk1", 1 << 20)]);
    let launcher = ["sh", "-c", "ulimit -n 200; exec \"$0\" \"$@\""].map(str::to_owned).to_vec();
    let options =
        options(&config(&disk(&disks, "disk1", ""), "LUN 0 disk1"), &["--backend", backend, "--reactors", "1"]);
    let daemon = Scstd::start_with(ScstdOptions { launcher, ..options }).unwrap();
    let login = |n: u16| LoginConfig::normal(HOST, TARGET).with_isid(n);
    // 200 less a quarter, less 64.
    let mut sessions: Vec<Initiator> =
        (0..86).map(|n| Initiator::connect(daemon.portal(), login(n)).unwrap()).collect();
    for n in 86..300 {
        let result = try_login(daemon.portal(), login(n));
        assert_eq!(result, LoginResult::Refused { class: 3, detail: 2 }, "{n}");
    }
    for session in &mut sessions {
        session.clear_unit_attentions(0).unwrap();
    }
    let reason = "there are too many connections; raise the limit of open files";
    let lines: Vec<String> = refusals(&daemon).iter().map(|line| without_port(line)).collect();
    assert_eq!(lines, [line(reason, "127.0.0.1", HOST, TARGET)]);
    // One that leaves makes room.
    sessions.pop().unwrap().logout_and_wait().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while try_login(daemon.portal(), login(301)) != LoginResult::LoggedIn {
        assert!(Instant::now() < deadline, "there is no room again");
    }
}

#[test]
fn without_descriptors_a_login_is_told_so_with_uring() {
    without_descriptors_a_login_is_told_so("uring");
}

#[test]
fn without_descriptors_a_login_is_told_so_with_posix() {
    without_descriptors_a_login_is_told_so("posix");
}
