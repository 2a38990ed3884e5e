//! What the tests of the daemon share: backing files and configurations.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use scst_testkit::process::ScstdOptions;
use scst_testkit::{Scstd, free_portal};
use tempfile::TempDir;

/// The target of every test.
pub(crate) const TARGET: &str = "iqn.2026-01.example:target";
/// An initiator without a group.
pub(crate) const HOST: &str = "iqn.2026-01.example:host";

/// Backing files in a directory of their own.
#[derive(Debug)]
pub(crate) struct Disks(TempDir);

impl Disks {
    /// Sparse files of these sizes.
    pub(crate) fn new(files: &[(&str, u64)]) -> Self {
        let disks = Self(tempfile::tempdir().unwrap());
        for (name, bytes) in files {
            disks.make(name, *bytes);
        }
        disks
    }

    /// Path of one.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes one more, whole from the first moment.
    pub(crate) fn make(&self, name: &str, bytes: u64) {
        let new = self.path(&format!("{name}.new"));
        File::create(&new).unwrap().set_len(bytes).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    /// Changes the size of one.
    pub(crate) fn resize(&self, name: &str, bytes: u64) {
        OpenOptions::new().write(true).open(self.path(name)).unwrap().set_len(bytes).unwrap();
    }

    /// Content of one.
    pub(crate) fn read(&self, name: &str, offset: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        File::open(self.path(name)).unwrap().read_exact_at(&mut data, offset).unwrap();
        data
    }
}

/// A `DEVICE` of `vdisk_fileio`.
pub(crate) fn disk(disks: &Disks, name: &str, attributes: &str) -> String {
    format!("DEVICE {name} {{\n filename \"{}\"\n {attributes}\n}}\n", disks.path(name).display())
}

/// A configuration with file devices and one target.
pub(crate) fn config(devices: &str, target: &str) -> String {
    format!(
        "HANDLER vdisk_fileio {{\n{devices}}}\nTARGET_DRIVER iscsi {{\n  enabled 1\n  TARGET {TARGET} {{\n    enabled 1\n\
         {target}\n  }}\n}}\n"
    )
}

/// How to start the daemon with a configuration.
pub(crate) fn options(config: &str, arguments: &[&str]) -> ScstdOptions {
    let mut all = vec!["--log".to_owned(), "info".to_owned()];
    if !arguments.contains(&"--reactors") {
        all.extend(["--reactors".to_owned(), "2".to_owned()]);
    }
    all.extend(arguments.iter().map(|a| (*a).to_owned()));
    ScstdOptions {
        binary: env!("CARGO_BIN_EXE_scstd").into(),
        config: config.to_owned(),
        portal: free_portal().unwrap(),
        arguments: all,
        environment: Vec::new(),
        launcher: Vec::new(),
    }
}

/// Waits until a daemon that was asked to has ended.
pub(crate) fn wait_for_end(daemon: &mut Scstd) -> ExitStatus {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(status) = daemon.exited().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "it does not end; its log:\n{}", daemon.log());
        thread::sleep(Duration::from_millis(2));
    }
}
