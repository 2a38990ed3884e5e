//! A daemon with one disk, and what the tests ask of it.

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use scst_testkit::hostile::Witness;
use scst_testkit::initiator::Tamper;
use scst_testkit::pdu::Pdu;
use scst_testkit::process::{ScstdOptions, open_files};
use scst_testkit::verify::WorkloadOptions;
use scst_testkit::{Command, Initiator, LoginConfig, Scstd, free_portal};
use tempfile::TempDir;

/// The target of every test.
pub(crate) const TARGET: &str = "iqn.2026-01.example:target";
/// The initiator that behaves.
pub(crate) const HOST: &str = "iqn.2026-01.example:host";
/// The initiator that does not.
pub(crate) const ROGUE: &str = "iqn.2026-01.example:rogue";
/// No answer for so long is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Blocks of 512 bytes of the disk: 16 MiB.
pub(crate) const BLOCKS: u64 = 32_768;

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) daemon: Scstd,
    _files: TempDir,
}

impl Stage {
    /// A daemon with one file as LUN 0, and more lines in its `TARGET`.
    pub(crate) fn new(backend: &str, target: &str, arguments: &[&str]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let disk = files.path().join("disk");
        File::create(&disk).unwrap().set_len(BLOCKS * 512).unwrap();
        let device = format!("HANDLER vdisk_fileio {{\nDEVICE disk {{\nfilename \"{}\"\n}}\n}}\n", disk.display());
        let config = device + &target_config(&format!("LUN 0 disk\n{target}"));
        Self { daemon: start(&config, backend, arguments), _files: files }
    }

    /// A well-behaved initiator, its unit attentions read.
    pub(crate) fn host(&self) -> Initiator {
        self.login(LoginConfig::normal(HOST, TARGET))
    }

    /// The other one, on another LUN's nexus.
    pub(crate) fn rogue(&self) -> Initiator {
        self.login(rogue())
    }

    pub(crate) fn login(&self, config: LoginConfig) -> Initiator {
        let mut initiator = Initiator::connect(self.daemon.portal(), config).unwrap();
        initiator.clear_unit_attentions(0).unwrap();
        initiator
    }

    /// A verifying initiator that works on the first half of the disk in the background.
    pub(crate) fn witness(&self, seed: u64) -> Witness {
        let options = WorkloadOptions { max_blocks: 32, ..WorkloadOptions::mixed(0, 512, BLOCKS / 2, seed) };
        let login = LoginConfig::normal("iqn.2026-01.example:witness", TARGET);
        Witness::start(self.daemon.portal(), login, options, false).unwrap()
    }

    /// A new session can be made, and does what it should.
    pub(crate) fn assert_healthy(&self) {
        let mut host = self.login(LoginConfig::normal("iqn.2026-01.example:probe", TARGET));
        let data: Vec<u8> = (0..128 * 512_u32).map(|i| (i / 7) as u8).collect();
        host.run(Command::write_blocks(0, BLOCKS - 128, 512, data.clone())).unwrap();
        assert!(host.run(Command::read_blocks(0, BLOCKS - 128, 128, 512)).unwrap().data_in == data);
        host.logout_and_wait().unwrap();
    }

    pub(crate) fn open_files(&self) -> usize {
        open_files(self.daemon.pid()).unwrap()
    }

    /// Waits until the daemon has no more open files than this.
    pub(crate) fn wait_open_files(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.open_files() > count {
            assert!(Instant::now() < deadline, "{} open files, {count} expected", self.open_files());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM has to end it cleanly, whatever hangs around.
    pub(crate) fn stop(mut self) {
        assert_eq!(self.daemon.stop().unwrap().code(), Some(0));
        // The log of this start is read after its end.
        let log = self.daemon.log();
        assert!(log.contains("stopped; all data are on disk") && !log.contains("panicked"), "{log}");
    }
}

/// Login of the rogue.
pub(crate) fn rogue() -> LoginConfig {
    LoginConfig::normal(ROGUE, TARGET)
}

/// A configuration's target.
pub(crate) fn target_config(lines: &str) -> String {
    format!("TARGET_DRIVER iscsi {{\nenabled 1\nTARGET {TARGET} {{\nenabled 1\n{lines}\n}}\n}}\n")
}

/// Starts a daemon of two reactors.
pub(crate) fn start(config: &str, backend: &str, arguments: &[&str]) -> Scstd {
    let standard = ["--log", "info", "--backend", backend];
    let reactors: &[&str] = if arguments.contains(&"--reactors") { &[] } else { &["--reactors", "2"] };
    let arguments = standard.iter().chain(reactors).chain(arguments).map(|a| (*a).to_owned()).collect();
    Scstd::start_with(ScstdOptions {
        binary: env!("CARGO_BIN_EXE_scstd").into(),
        config: config.to_owned(),
        portal: free_portal().unwrap(),
        arguments,
        environment: Vec::new(),
        launcher: Vec::new(),
    })
    .unwrap()
}

/// Changes the next PDU of an opcode that the initiator sends.
pub(crate) fn tamper_once(initiator: &mut Initiator, opcode: u8, mut change: impl FnMut(&mut Pdu) + Send + 'static) {
    let mut done = false;
    initiator.core().set_hook(Some(Box::new(move |pdu| {
        if pdu.opcode() == opcode && !std::mem::replace(&mut done, true) {
            change(pdu);
        }
        Tamper::Send
    })));
}
