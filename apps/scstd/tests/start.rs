//! Starting: the embedded default, `--check`, and what is said when it cannot start.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use scst_testkit::{Initiator, LoginConfig, free_portal};

fn scstd() -> Command {
    Command::new(env!("CARGO_BIN_EXE_scstd"))
}

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn without_a_configuration_a_disk_is_exported_and_the_commands_are_printed() {
    let state = tempfile::tempdir().unwrap();
    let portal = free_portal().unwrap();
    let mut command = scstd();
    command.arg("--state-dir").arg(state.path()).args(["--iscsi-portal", &portal.to_string(), "--reactors", "1"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut running = Running(child);
    let mut printed = Vec::new();
    for line in stdout.lines() {
        printed.push(line.unwrap());
        if printed.last().is_some_and(|l| l.contains("Stop with Ctrl-C")) {
            break;
        }
    }
    let target = "iqn.2026-01.local.scst:disk1";
    for wanted in [
        format!("  iscsiadm -m discovery -t sendtargets -p {portal}"),
        format!("  iscsiadm -m node -T {target} -p {portal} --login"),
        format!("  iscsi-ls -s iscsi://{portal}"),
        format!("  qemu-img info iscsi://{portal}/{target}/0"),
    ] {
        assert!(printed.contains(&wanted), "{wanted:?} is not in {printed:#?}");
    }
    let mut host = Initiator::connect(portal, LoginConfig::normal("iqn.2026-01.example:host", target)).unwrap();
    host.clear_unit_attentions(0).unwrap();
    let capacity = host.capacity(0).unwrap();
    assert_eq!(capacity.blocks * u64::from(capacity.block_size), 1 << 30);
    host.logout().unwrap();
    let file = fs::metadata(state.path().join("disk1.img")).unwrap();
    assert_eq!(file.len(), 1 << 30);

    scst_testkit::process::send_signal(running.0.id(), "INT").unwrap();
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_disk_that_cannot_be_opened_is_not_announced() {
    let state = tempfile::tempdir().unwrap();
    // Neither of these is a disk.
    fs::create_dir(state.path().join("disk1.img")).unwrap();
    let portal = free_portal().unwrap().to_string();
    // Were it to serve, this would end it.
    let mut command = Command::new("timeout");
    command.args(["60", env!("CARGO_BIN_EXE_scstd"), "--iscsi-portal", &portal, "--log", "error", "--state-dir"]);
    let (code, stdout, stderr) = output(command.arg(state.path()));
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    let disk = fs::canonicalize(state.path().join("disk1.img")).unwrap();
    let expected = format!(
        "scstd: there is nothing to export: device disk1: filename {disk:?}: neither a file nor a block device; name a \
         regular file or a block device\n"
    );
    assert!(stderr.ends_with(&expected), "{stderr}");
}

#[test]
fn a_request_to_stop_is_obeyed_while_an_address_is_in_use() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let portal = taken.local_addr().unwrap().to_string();
    let state = tempfile::tempdir().unwrap();
    let mut command = scstd();
    command.arg("--state-dir").arg(state.path()).args(["--iscsi-portal", &portal, "--log", "info"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let stdout = child.stdout.take().unwrap();
    let mut running = Running(child);
    let mut lines = stderr.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains(&format!("{portal} is in use; trying again for 5s"))));
    scst_testkit::process::send_signal(running.0.id(), "TERM").unwrap();
    // Without obeying it would end with 1: it cannot listen.
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
    assert!(lines.any(|line| line.contains("stopped; all data are on disk")));
    assert_eq!(BufReader::new(stdout).lines().count(), 0, "there is nothing to connect to");
}

#[test]
fn addresses_in_each_others_way_are_told_at_once() {
    let state = tempfile::tempdir().unwrap();
    for (portals, expected) in [
        (["127.0.0.1:5", "127.0.0.1:5"], "--iscsi-portal 127.0.0.1:5 is given twice; leave one out"),
        (["0.0.0.0:5", "[::]:5"], "--iscsi-portal [::]:5 listens on 0.0.0.0:5, too; leave 0.0.0.0:5 out"),
    ] {
        let mut command = scstd();
        command.arg("--state-dir").arg(state.path());
        for portal in portals {
            command.args(["--iscsi-portal", portal]);
        }
        let (code, _, stderr) = output(&mut command);
        assert_eq!((code, stderr), (Some(1), format!("scstd: {expected}\n")));
    }
    let (code, _, stderr) = output(scstd().args(["--iscsi-portal", "localhost:3260"]));
    assert_eq!(code, Some(2));
    let expected = "expected: an IP address, since names are not looked up, such as 192.0.2.1 or [2001:db8::1]";
    assert!(stderr.contains(expected), "{stderr}");
}

#[test]
fn check_says_what_is_wrong_with_files_and_what_it_does_not_know() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("scst.conf");
    let name = file.display().to_string();
    let image = directory.path().join("image");
    fs::File::create(&image).unwrap().set_len(1 << 20).unwrap();
    let conf = |path: &Path| {
        let text = format!("setup_id 1\nHANDLER vdisk_fileio {{\nDEVICE d {{\nfilename {}\n}}\n}}\n", path.display());
        fs::write(&file, text).unwrap();
        output(scstd().arg("--check").arg(&file))
    };
    let unknown = "not checked: whether the daemon's user may open the files, whether another program has them open, whether \
                   O_DIRECT works on their file systems, whether the portals are free\n";
    assert_eq!(conf(&image), (Some(0), format!("{name}: good: 1 device, 0 targets\n{unknown}"), String::new()));
    let missing = directory.path().join("missing");
    let warning = format!(
        "{name}: warning: DEVICE d: filename {}: there is no such file\n  = make it; until then the disk is there and not \
         ready\n",
        missing.display()
    );
    assert_eq!(conf(&missing), (Some(0), format!("{name}: good: 1 device, 0 targets\n{unknown}"), warning));
    assert!(!missing.exists());
    let error = format!(
        "{name}: error: DEVICE d: filename /dev/null: neither a file nor a block device\n  = name a regular file or a block \
         device\n{name}: 1 error\n"
    );
    assert_eq!(conf(Path::new("/dev/null")), (Some(1), String::new(), error));
}

#[test]
fn check_says_good_or_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("scst.conf");
    let name = file.display().to_string();
    fs::write(&file, "HANDLER vdisk_nullio {\n    DEVICE n\n}\nthreads 4\n").unwrap();
    let (code, stdout, stderr) = output(scstd().arg("--check").arg(&file));
    assert_eq!((code, stdout.as_str()), (Some(0), format!("{name}: good: 1 device, 0 targets\n").as_str()));
    assert!(stderr.starts_with(&format!("{name}:4:1: warning: threads \"4\" has no effect\n")), "{stderr}");

    fs::write(&file, "HANDLER vdisk_nullio {\n    DEVICE n {\n        blocksize 1000\n    }\n}\n").unwrap();
    let (code, stdout, stderr) = output(scstd().arg("--check").arg(&file));
    let expected = format!(
        "{name}:3:19: error: DEVICE n: blocksize: \"1000\" is not valid\n\
         \x20 3 |         blocksize 1000\n\
         \x20   |                   ^^^^\n\
         \x20 = expected: a power of two from 512 to 65536\n\
         {name}: 1 error\n"
    );
    assert_eq!((code, stdout.as_str(), stderr), (Some(1), "", expected));
}

#[test]
fn every_example_passes_the_check() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut count = 0;
    for entry in fs::read_dir(examples).unwrap() {
        let file = entry.unwrap().path();
        let name = file.display().to_string();
        let (code, _, stderr) = output(scstd().arg("--check").arg(&file));
        // Their disks are on another machine, and this one may be a container. Secrets in a checkout are none.
        let elsewhere = ["there is no such file", "this machine has no identity", "can read the secrets"];
        let findings = stderr.lines().filter(|line| line.starts_with(&name));
        let other: Vec<&str> = findings.filter(|line| !elsewhere.iter().any(|text| line.contains(text))).collect();
        assert_eq!((code, other), (Some(0), Vec::new()), "{name}");
        count += 1;
    }
    assert!(count >= 4);
}

#[test]
fn a_wrong_file_does_not_start() {
    let (code, _, stderr) = output(scstd().args(["--config", "/nonexistent/scst.conf"]));
    assert_eq!(code, Some(1));
    assert_eq!(stderr, "scstd: cannot open /nonexistent/scst.conf: No such file or directory (os error 2)\n");

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("scst.conf");
    fs::write(&file, "TARGET_DRIVER iscsi {\n").unwrap();
    let (code, _, stderr) = output(scstd().arg("--config").arg(&file));
    assert_eq!(code, Some(1));
    assert!(stderr.contains(":1:21: error: this brace is not closed before the end of the file"), "{stderr}");
}

#[test]
fn an_address_in_use_is_named_with_the_remedy() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let portal = taken.local_addr().unwrap().to_string();
    let state = tempfile::tempdir().unwrap();
    let (code, _, stderr) =
        output(scstd().arg("--state-dir").arg(state.path()).args(["--iscsi-portal", &portal, "--log", "error"]));
    assert_eq!(code, Some(1));
    let expected = format!("scstd: cannot listen on {portal}; choose another address with --iscsi-portal: ");
    assert!(stderr.contains(&expected), "{stderr}");
}

/// One file takes standard error; JOURNAL_STREAM names it as systemd does, or something else.
fn log_of(stream: impl Fn(u64, u64) -> String) -> String {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let file = fs::File::create(&log).unwrap();
    let metadata = file.metadata().unwrap();
    let stream = stream(metadata.dev(), metadata.ino());
    let mut command = scstd();
    command.args(["--config", "/nonexistent"]).env("RUST_LOG", "loud").env("JOURNAL_STREAM", stream);
    command.stdin(Stdio::null()).stderr(file).status().unwrap();
    fs::read_to_string(log).unwrap()
}

#[test]
fn lines_have_a_priority_when_they_go_to_the_journal() {
    let warning = "RUST_LOG=loud: \"loud\" is not a level; use error, warn, info, debug, trace, off; info is used";
    let journal = log_of(|device, inode| format!("{device}:{inode}"));
    assert_eq!(journal.lines().next(), Some(format!("<4> WARN {warning}").as_str()));
    // The variable is inherited, the stream is not.
    let file = log_of(|device, inode| format!("{device}:{}", inode + 1));
    assert!(file.lines().next().unwrap().ends_with(&format!(" WARN {warning}")), "{file}");
    assert!(!file.contains("<4>"), "{file}");
}

#[test]
fn the_version_has_the_commit_of_a_checkout() {
    let (code, stdout, _) = output(scstd().arg("--version"));
    let git =
        Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let commit =
        git.ok().filter(|output| output.status.success()).map(|output| String::from_utf8(output.stdout).unwrap());
    let commit = commit.map_or_else(String::new, |commit| format!(" ({})", commit.trim()));
    assert_eq!((code, stdout), (Some(0), format!("scstd {}{commit}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn wrong_options_end_with_two() {
    assert_eq!(output(scstd().args(["--reactors", "0"])).0, Some(2));
    let (code, _, stderr) = output(scstd().args(["--log", "a=b=c"]));
    assert_eq!(code, Some(2));
    assert_eq!(stderr, "scstd: --log a=b=c: \"b=c\" is not a level; use error, warn, info, debug, trace, off\n");
    // A word that is no level would switch the log off.
    assert_eq!(output(scstd().args(["--log", "loud"])).0, Some(2));
}
