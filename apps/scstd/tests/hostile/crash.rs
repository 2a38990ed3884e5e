//! `kill -9` under a verified load.

use std::fs::File;

use scst_testkit::verify::{RunError, Workload, WorkloadOptions};
use scst_testkit::{Error, Initiator, LoginConfig};

use crate::stage::{BLOCKS, HOST, TARGET, start, target_config};

/// Every write that was acknowledged before a completed flush (or with FUA) is there after a crash of the daemon, and
/// nothing is torn or stale.
fn flushed_writes_survive(backend: &str, seed: u64, rounds: u64) {
    let files = tempfile::tempdir().unwrap();
    let disk = files.path().join("disk");
    File::create(&disk).unwrap().set_len(BLOCKS * 512).unwrap();
    let device = format!("HANDLER vdisk_fileio {{\nDEVICE disk {{\nfilename \"{}\"\n}}\n}}\n", disk.display());
    let mut daemon = start(&(device + &target_config("LUN 0 disk")), backend, &[]);
    let mut workload = Workload::new(WorkloadOptions { depth: 16, ..WorkloadOptions::mixed(0, 512, BLOCKS, seed) });
    let login = LoginConfig::normal(HOST, TARGET);
    for round in 0..rounds {
        let mut host = Initiator::connect(daemon.portal(), login.clone()).unwrap();
        host.clear_unit_attentions(0).unwrap();
        workload.verify_all(&mut host).unwrap();
        let (mut commands, fatal) = (0, 400 + 131 * round + seed % 97);
        let result = workload.run_while(&mut host, || {
            commands += 1;
            if commands == fatal {
                daemon.kill().unwrap();
            }
            true
        });
        assert!(
            matches!(result, Err(RunError::Connection(Error::Closed | Error::Io(_)))),
            "the load did not end with the connection: {result:?}"
        );
        workload.crashed();
        daemon.spawn().unwrap();
    }
    let mut host = Initiator::connect(daemon.portal(), login).unwrap();
    host.clear_unit_attentions(0).unwrap();
    workload.verify_all(&mut host).unwrap();
    let progress = workload.progress();
    eprintln!("{backend} seed {seed}: {progress:?}");
    assert!(progress.writes >= 150 * rounds && progress.flushes > 0, "{progress:?}");
    assert_eq!(daemon.stop().unwrap().code(), Some(0));
}

#[test]
fn flushed_writes_survive_kill_9_with_io_uring_or_what_there_is() {
    for seed in [11, 1234, 987_654] {
        flushed_writes_survive("auto", seed, 3);
    }
}

#[test]
fn flushed_writes_survive_kill_9_with_posix() {
    for seed in [12, 4321] {
        flushed_writes_survive("posix", seed, 3);
    }
}
