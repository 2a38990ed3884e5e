//! `zero_copy_read` with the real daemon: right data while others write, digests, a cold file, and a file that is cut under
//! READs that are being answered.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use scst_testkit::initiator::TaskAttribute;
use scst_testkit::process::ScstdOptions;
use scst_testkit::verify::{Workload, WorkloadOptions};
use scst_testkit::{Command, Initiator, LoginConfig, Scstd, free_portal};
use tempfile::TempDir;

const TARGET: &str = "iqn.2026-01.example:target";
const BACK_ENDS: [&str; 2] = ["auto", "posix"];
/// Bytes of each disk.
const BYTES: u64 = 64 << 20;
/// Blocks of a READ that is answered with pages.
const LARGE: u32 = 256;

/// A daemon with a zero-copy disk as LUN 0 and a plain one as LUN 1.
struct Stage {
    daemon: Scstd,
    files: TempDir,
}

impl Stage {
    fn new(backend: &str) -> Self {
        Self::with_files(backend, tempfile::tempdir().unwrap(), "zero_copy_read 1")
    }

    fn with_files(backend: &str, files: TempDir, attributes: &str) -> Self {
        let mut devices = String::new();
        for (name, attributes) in [("mapped", attributes), ("plain", "")] {
            let path = files.path().join(name);
            File::create(&path).unwrap().set_len(BYTES).unwrap();
            devices += &format!("DEVICE {name} {{\n filename \"{}\"\n {attributes}\n}}\n", path.display());
        }
        let config = format!(
            "HANDLER vdisk_fileio {{\n{devices}}}\nTARGET_DRIVER iscsi {{\n enabled 1\n TARGET {TARGET} {{\n enabled 1\n \
             DataDigest CRC32C,None\n LUN 0 mapped\n LUN 1 plain\n }}\n}}\n"
        );
        let arguments = ["--log", "info", "--reactors", "2", "--backend", backend];
        let daemon = Scstd::start_with(ScstdOptions {
            binary: env!("CARGO_BIN_EXE_scstd").into(),
            config,
            portal: free_portal().unwrap(),
            arguments: arguments.map(str::to_owned).to_vec(),
            environment: Vec::new(),
            launcher: Vec::new(),
        });
        Self { daemon: daemon.unwrap(), files }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn file(&self, name: &str) -> File {
        OpenOptions::new().read(true).write(true).open(self.path(name)).unwrap()
    }

    fn login(&self, name: &str, data_digest: &str) -> Initiator {
        let config = LoginConfig::normal(&format!("iqn.2026-01.example:{name}"), TARGET);
        let mut host = Initiator::connect(self.daemon.portal(), config.with_key("DataDigest", data_digest)).unwrap();
        for lun in 0..2 {
            host.clear_unit_attentions(lun).unwrap();
        }
        host
    }

    fn touched(&self, name: &str) -> u64 {
        self.daemon.touched(&fs::canonicalize(self.path(name)).unwrap()).unwrap()
    }
}

fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i >> 9) as u8 ^ (i >> 17) as u8 ^ i as u8 ^ seed).collect()
}

fn each_back_end(story: impl Fn(Stage)) {
    for backend in BACK_ENDS {
        story(Stage::new(backend));
    }
}

/// Files on a file system that lives in memory.
fn each_back_end_in_memory(attributes: &str, story: impl Fn(Stage)) {
    for backend in BACK_ENDS {
        story(Stage::with_files(backend, tempfile::tempdir_in("/dev/shm").unwrap(), attributes));
    }
}

#[test]
fn data_are_right_while_they_are_written() {
    each_back_end(data_are_right);
}

#[test]
fn data_of_a_file_in_memory_are_right_while_they_are_written() {
    each_back_end_in_memory("zero_copy_read 1", |stage| {
        // No holes: what has some is read.
        stage.file("mapped").write_all_at(&vec![0; BYTES as usize], 0).unwrap();
        data_are_right(stage);
    });
}

fn data_are_right(stage: Stage) {
    thread::scope(|scope| {
        for n in 0..4_u64 {
            let stage = &stage;
            scope.spawn(move || {
                // One of them computes digests, and reads what the others read in another way.
                let mut host = stage.login(&format!("host{n}"), if n == 3 { "CRC32C" } else { "None" });
                let blocks = BYTES / 512 / 4;
                let mut options = WorkloadOptions::mixed(0, 512, blocks, 0x5eed + n);
                (options.first_lba, options.max_blocks) = (n * blocks, LARGE);
                let mut workload = Workload::new(options);
                workload.run(&mut host, 800).unwrap();
                workload.verify_all(&mut host).unwrap();
                workload.verify_all(&mut host).unwrap();
            });
        }
    });
    assert!(stage.touched("mapped") > BYTES / 2, "{}", stage.touched("mapped"));
    assert_eq!(stage.touched("plain"), 0);
}

#[test]
fn what_is_ordered_behind_a_read_does_not_show_in_it() {
    each_back_end(|stage| {
        let (old, new) = (pattern(1, 1 << 20), pattern(2, 4096));
        let mut host = stage.login("host", "None");
        for _ in 0..20 {
            host.run(Command::write_blocks(0, 0, 512, old.clone())).unwrap();
            // More than the sockets hold: most of it is still in the file when the WRITE arrives.
            let reads: Vec<_> = (0..24).map(|_| host.submit(Command::read_blocks(0, 0, 2048, 512)).unwrap()).collect();
            let write = Command::write_blocks(0, 1024, 512, new.clone()).with_attribute(TaskAttribute::Ordered);
            let write = host.submit(write).unwrap();
            host.flush().unwrap();
            for read in reads {
                assert!(host.wait(read).unwrap().data_in == old);
            }
            assert!(host.wait(write).unwrap().is_good());
            assert!(host.run(Command::read_blocks(0, 1024, 8, 512)).unwrap().data_in == new);
        }
        assert!(stage.touched("mapped") > 0);
    });
}

#[test]
fn a_connection_with_data_digests_reads_as_ever() {
    each_back_end(|stage| {
        let data = pattern(3, 1 << 20);
        stage.file("mapped").write_all_at(&data, 0).unwrap();
        let mut host = stage.login("digests", "CRC32C");
        for _ in 0..4 {
            assert!(host.run(Command::read_blocks(0, 0, 2048, 512)).unwrap().data_in == data);
        }
        assert_eq!(stage.touched("mapped"), 0);
        let mut host = stage.login("plain", "None");
        assert!(host.run(Command::read_blocks(0, 0, 2048, 512)).unwrap().data_in == data);
        assert!(stage.touched("mapped") >= 1 << 20);
    });
}

#[test]
fn holes_and_what_is_not_cached_are_read() {
    each_back_end(|stage| {
        let data = pattern(4, 1 << 20);
        let file = stage.file("mapped");
        file.write_all_at(&data, 0).unwrap();
        file.sync_all().unwrap();
        let dropped = std::process::Command::new("dd")
            .arg(format!("if={}", stage.path("mapped").display()))
            .args(["iflag=nocache", "count=0", "status=none"])
            .status()
            .unwrap();
        assert!(dropped.success());
        let mut host = stage.login("host", "None");
        assert!(host.run(Command::read_blocks(0, 0, 2048, 512)).unwrap().data_in == data);
        assert!(host.run(Command::read_blocks(0, 0, 2048, 512)).unwrap().data_in == data);
        for _ in 0..2 {
            assert!(host.run(Command::read_blocks(0, 65_536, 2048, 512)).unwrap().data_in == vec![0; 1 << 20]);
        }
        assert!(stage.touched("mapped") >= 1 << 20);
    });
}

#[test]
fn a_file_that_is_cut_while_it_is_read_harms_nobody_else() {
    each_back_end(|mut stage| {
        let data = pattern(5, BYTES as usize);
        stage.file("mapped").write_all_at(&data, 0).unwrap();
        thread::scope(|scope| {
            let witness = scope.spawn(|| {
                let mut host = stage.login("witness", "None");
                let mut workload = Workload::new(WorkloadOptions::mixed(1, 512, BYTES / 512, 7));
                workload.run(&mut host, 500).unwrap();
            });
            // More than the sockets hold: some of it is in the kernel's hands, most still in the file.
            let mut host = stage.login("host", "None");
            for n in 0..32 {
                host.submit(Command::read_blocks(0, n * 2048, 2048, 512)).unwrap();
            }
            host.flush().unwrap();
            let deadline = Instant::now() + Duration::from_secs(30);
            while stage.touched("mapped") == 0 {
                assert!(Instant::now() < deadline, "the READs do not begin");
            }
            stage.file("mapped").set_len(5 << 20).unwrap();
            let mut good = 0;
            for _ in 0..32 {
                match host.wait_any() {
                    Ok(outcome) if outcome.is_good() => {
                        good += 1;
                        assert!(data.chunks(1 << 20).any(|piece| piece == outcome.data_in));
                    }
                    Ok(outcome) => assert_eq!(outcome.kcq().map(|kcq| kcq.0), Some(3), "MEDIUM ERROR"),
                    // Its data were being sent.
                    Err(_) => break,
                }
            }
            assert!(good < 32);
            let mut host = stage.login("host", "None");
            let gone = host.execute(Command::read_blocks(0, 20_480, LARGE, 512)).unwrap();
            assert_eq!(gone.kcq().map(|kcq| kcq.0), Some(3), "MEDIUM ERROR");
            let there = host.run(Command::read_blocks(0, 2048, LARGE, 512)).unwrap();
            assert!(there.data_in == data[1 << 20..][..LARGE as usize * 512]);
            witness.join().unwrap();
        });
        assert_eq!(stage.daemon.exited().unwrap(), None);
    });
}

#[test]
fn a_file_that_ends_within_a_page_is_an_error_not_zeros() {
    each_back_end(|stage| {
        stage.file("mapped").write_all_at(&pattern(6, 1 << 20), 0).unwrap();
        let mut host = stage.login("host", "None");
        host.run(Command::read_blocks(0, 0, 2048, 512)).unwrap();
        assert!(stage.touched("mapped") > 0);
        stage.file("mapped").set_len((128 << 10) + 512).unwrap();
        let whole = host.run(Command::read_blocks(0, 0, LARGE + 1, 512)).unwrap();
        assert!(whole.data_in == pattern(6, (128 << 10) + 512));
        let beyond = host.execute(Command::read_blocks(0, 0, LARGE + 2, 512)).unwrap();
        assert_eq!(beyond.kcq().map(|kcq| kcq.0), Some(3), "MEDIUM ERROR");
    });
}

#[test]
fn short_reads_of_a_file_in_memory_are_sent_and_its_holes_stay() {
    each_back_end_in_memory("zero_copy_read 1", |stage| {
        let half = BYTES / 2;
        let (data, file) = (pattern(7, half as usize), stage.file("mapped"));
        file.write_all_at(&data, 0).unwrap();
        let mut host = stage.login("host", "None");
        for at in 0..half / 4096 {
            let read = host.run(Command::read_blocks(0, at * 8, 8, 512)).unwrap();
            assert!(read.data_in == data[at as usize * 4096..][..4096]);
        }
        // The first READs of each 2 MiB are copied.
        assert!(stage.touched("mapped") > half * 9 / 10, "{}", stage.touched("mapped"));
        for at in half / 512..half / 512 + 200 {
            assert!(host.run(Command::read_blocks(0, at, 8, 512)).unwrap().data_in == [0; 4096]);
        }
        assert_eq!(file.metadata().unwrap().blocks() * 512, half, "nobody has filled the hole");
    });
}

#[test]
fn a_file_in_memory_that_was_cut_is_an_error_soon() {
    each_back_end_in_memory("zero_copy_read 1", |mut stage| {
        stage.file("mapped").write_all_at(&pattern(8, BYTES as usize), 0).unwrap();
        let mut host = stage.login("host", "None");
        let read = Command::read_blocks(0, 65_536, 8, 512);
        for _ in 0..100 {
            assert!(host.run(read.clone()).unwrap().is_good());
        }
        stage.file("mapped").set_len(1 << 20).unwrap();
        // What is believed to be there ends the connection; that is soon over.
        let deadline = Instant::now() + Duration::from_secs(30);
        let outcome = loop {
            assert!(Instant::now() < deadline, "it is believed for ever");
            match host.execute(read.clone()) {
                Ok(outcome) => break outcome,
                Err(_) => host = stage.login("host", "None"),
            }
        };
        assert_eq!(outcome.kcq().map(|kcq| kcq.0), Some(3), "MEDIUM ERROR");
        assert!(host.run(Command::read_blocks(0, 0, 8, 512)).unwrap().data_in == pattern(8, 4096));
        assert_eq!(stage.daemon.exited().unwrap(), None);
    });
}
