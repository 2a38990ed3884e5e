//! The log when nothing reads it: standard error is a pipe, and a full one makes write(2) wait.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use scst_testkit::hostile::{LoginResult, try_login};
use scst_testkit::process::send_signal;
use scst_testkit::{Command as Scsi, Initiator, LoginConfig, free_portal};

const TARGET: &str = "iqn.2026-01.example:target";
const HOST: &str = "iqn.2026-01.example:host";
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
