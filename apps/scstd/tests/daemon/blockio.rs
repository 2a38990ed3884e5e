//! `vdisk_blockio` over loop devices. These tests need root.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use scst_testkit::scsi::cdb::{self, RwFlags, WriteSameFlags};
use scst_testkit::scsi::param;
use scst_testkit::verify::{Workload, WorkloadOptions};
use scst_testkit::{Command, Initiator, LoopDevice, Scstd};
use tempfile::TempDir;

use super::login;
use crate::common::{HOST, TARGET, config, options};

const BYTES: u64 = 48 << 20;
/// Where nobody looks who only wants to know what is on the device.
const MIDDLE: u64 = 20 << 20;

/// A loop device over a file of its own.
struct Below {
    device: LoopDevice,
    dir: TempDir,
}

impl Below {
    fn new(sector: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let device = LoopDevice::new(&dir.path().join("image"), BYTES, sector).unwrap_or_else(|e| panic!("{e:#}"));
        Self { device, dir }
    }

    fn image(&self) -> File {
        OpenOptions::new().read(true).write(true).open(self.dir.path().join("image")).unwrap()
    }

    /// What is on the device, as its file has it.
    fn content(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        self.image().read_exact_at(&mut data, offset).unwrap();
        data
    }

    fn config(&self, handler: &str, attributes: &str) -> String {
        let device = format!("DEVICE disk {{\n filename {}\n {attributes}\n}}\n", self.device.path().display());
        config(&device, "LUN 0 disk").replace("HANDLER vdisk_fileio", &format!("HANDLER {handler}"))
    }

    fn start(&self, handler: &str, attributes: &str, backend: &str) -> Scstd {
        Scstd::start_with(options(&self.config(handler, attributes), &["--backend", backend])).unwrap()
    }
}

fn data(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| seed.wrapping_add((i / 512) as u8).wrapping_mul(31).wrapping_add(i as u8) | 1).collect()
}

fn page(host: &mut Initiator, code: Option<u8>) -> Vec<u8> {
    host.run(Command::inquiry(0, code)).unwrap().data_in
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn on_both(story: impl Fn(&str)) {
    ["auto", "posix"].into_iter().for_each(story);
}

#[test]
fn what_is_written_is_on_the_device_and_not_in_the_page_cache() {
    let cached = |handler: &str, attributes: &str, backend: &str| {
        let below = Below::new(512);
        let daemon = below.start(handler, attributes, backend);
        let mut host = login(&daemon, HOST);
        let (lba, written) = (MIDDLE / 512, data(1, 2 << 20));
        host.run(Command::write_blocks(0, lba, 512, written.clone())).unwrap();
        assert!(host.run(Command::read_blocks(0, lba, 4096, 512)).unwrap().data_in == written);
        let pages = below.device.cached_pages(MIDDLE, written.len()).unwrap();
        host.run(Command::flush(0)).unwrap();
        assert!(below.content(MIDDLE, written.len()) == written, "{handler}, {backend}");
        pages
    };
    on_both(|backend| {
        assert_eq!(cached("vdisk_blockio", "", backend), 0, "{backend}");
        assert_eq!(cached("vdisk_fileio", "o_direct 1", backend), 0, "{backend}");
        assert_eq!(cached("vdisk_fileio", "", backend), 512, "the test can tell ({backend})");
    });
}

#[test]
fn two_hosts_on_two_reactors_find_what_they_wrote() {
    on_both(|backend| {
        let below = Below::new(512);
        let daemon = below.start("vdisk_blockio", "", backend);
        let half = BYTES / 512 / 2;
        std::thread::scope(|scope| {
            for n in 0..2 {
                let daemon = &daemon;
                scope.spawn(move || {
                    let mut host = login(daemon, &format!("iqn.2026-01.example:host{n}"));
                    // Every block of either is a neighbour of one of the other's in a page: none may get lost.
                    let options = WorkloadOptions { first_lba: half - 128 + n * 131, blocks: 131, ..mixed(n) };
                    let mut load = Workload::new(options);
                    load.initialise(&mut host).unwrap();
                    load.run(&mut host, 2000).unwrap_or_else(|e| panic!("{e}"));
                    load.verify_all(&mut host).unwrap_or_else(|e| panic!("{e}"));
                });
            }
        });
    });
}

fn mixed(seed: u64) -> WorkloadOptions {
    WorkloadOptions { max_blocks: 16, ..WorkloadOptions::mixed(0, 512, 131, seed) }
}

#[test]
fn a_crash_of_the_daemon_loses_nothing() {
    let below = Below::new(4096);
    let mut daemon = below.start("vdisk_blockio", "blocksize 4096", "auto");
    let mut load = Workload::new(WorkloadOptions::mixed(0, 4096, 512, 7));
    let mut host = login(&daemon, HOST);
    load.initialise(&mut host).unwrap();
    load.run(&mut host, 1000).unwrap_or_else(|e| panic!("{e}"));
    daemon.kill().unwrap();
    load.connection_lost();
    daemon.spawn().unwrap();
    load.verify_all(&mut login(&daemon, HOST)).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn what_is_unmapped_is_given_back_and_what_is_zeroed_reads_as_zeros() {
    on_both(|backend| {
        let below = Below::new(512);
        let daemon = below.start("vdisk_blockio", "thin_provisioned 1\nwrite_through 1", backend);
        let mut host = login(&daemon, HOST);
        let lba = MIDDLE / 512;
        let written = data(3, 1 << 20);
        let blocks = |host: &mut Initiator, at: u64, count: u32| {
            host.run(Command::read_blocks(0, at, count, 512)).unwrap().data_in
        };
        let used = || std::os::unix::fs::MetadataExt::blocks(&below.image().metadata().unwrap());
        host.run(Command::write_blocks(0, lba, 512, written.clone())).unwrap();
        let full = used();

        // The device's file has holes of 4096 bytes: a loop device reads as zeros there, whatever it promises.
        let list = param::unmap(&[(lba + 8, 16), (lba + 1024, 512)]);
        host.run(Command::write(0, cdb::unmap(false, list.len() as u16), list)).unwrap();
        assert_eq!(
            blocks(&mut host, lba + 7, 18),
            [&written[3584..4096], &[0; 8192], &written[12_288..12_800]].concat()
        );
        assert_eq!(blocks(&mut host, lba + 1024, 512), vec![0; 512 * 512]);
        assert_eq!(used(), full - 16 - 512, "{backend}");

        let zeroed = cdb::write_same16(lba + 1, 3, WriteSameFlags { ndob: true, ..WriteSameFlags::default() });
        host.run(Command::new(0, zeroed)).unwrap();
        let repeated = cdb::write_same10(lba as u32 + 40, 1000, WriteSameFlags::default());
        host.run(Command::write(0, repeated, data(9, 512))).unwrap();
        assert_eq!(blocks(&mut host, lba, 5), [&written[..512], &[0; 1536], &written[2048..2560]].concat());
        assert!(blocks(&mut host, lba + 40, 1000) == data(9, 512).repeat(1000));

        let compare = [data(9, 512), data(4, 512)].concat();
        host.run(Command::write(0, cdb::compare_and_write(lba + 40, 1, RwFlags::FUA), compare.clone())).unwrap();
        let differs = Command::write(0, cdb::compare_and_write(lba + 40, 1, RwFlags::NONE), compare);
        assert_eq!(host.execute(differs).unwrap().kcq(), Some((0x0e, 0x1d, 0)), "MISCOMPARE");
        assert_eq!(blocks(&mut host, lba + 40, 1), data(4, 512));
        assert_eq!(below.device.cached_pages(MIDDLE, 1 << 20).unwrap(), 0, "{backend}");
    });
}

#[test]
fn lengths_that_are_no_whole_blocks() {
    on_both(|backend| {
        let below = Below::new(4096);
        let daemon = below.start("vdisk_blockio", "blocksize 4096", backend);
        let mut host = login(&daemon, HOST);
        let written = data(5, 64 << 10);
        host.run(Command::write_blocks(0, 3, 4096, written.clone())).unwrap();
        for length in [1, 511, 4095, 4097, 12_300, 65_535] {
            let read = Command::read_blocks(0, 3, 16, 4096).with_expected_length(length);
            assert_eq!(host.execute(read).unwrap().data_in, written[..length as usize], "{length}, {backend}");
        }
    });
}

#[test]
fn the_disk_is_what_the_device_is() {
    let below = Below::new(4096);
    let mut daemon = below.start("vdisk_blockio", "blocksize 4096\nthin_provisioned 1", "auto");
    let queue = |name: &str| {
        let device = below.device.path().file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(format!("/sys/block/{device}/queue/{name}")).unwrap_or_default();
        text.trim().parse::<u64>().unwrap_or(0)
    };
    let mut host = login(&daemon, HOST);
    let capacity = host.capacity(0).unwrap();
    assert_eq!((capacity.blocks, capacity.block_size), (BYTES / 4096, 4096));
    assert_eq!(page(&mut host, None)[8..16], *b"SCST_BIO");
    let limits = page(&mut host, Some(0xb0));
    let to_zeros = queue("write_zeroes_unmap_max_bytes");
    let most = if to_zeros > 0 { to_zeros } else { queue("discard_max_bytes") }.min(256 << 20);
    let found = (u64::from(be32(&limits, 20)), u64::from(be32(&limits, 28)), be32(&limits, 32));
    assert_eq!(found, (most / 4096, (queue("discard_granularity") / 4096).max(1), 0x8000_0000));
    let rotation = if queue("rotational") == 1 { [0x3a, 0x98] } else { [0, 1] };
    assert_eq!(page(&mut host, Some(0xb1))[4..6], rotation);
    let zeros = if to_zeros > 0 { 0x04 } else { 0 };
    assert_eq!(page(&mut host, Some(0xb2))[5] & 0x1c, zeros, "LBPRZ");

    // It grows, and a reload finds out.
    below.image().set_len(2 * BYTES).unwrap();
    below.device.resize().unwrap();
    daemon.signal("HUP").unwrap();
    daemon.wait_for_log("reload complete: 0 changes, 0 failures").unwrap();
    let changed = host.execute(Command::new(0, cdb::test_unit_ready())).unwrap();
    assert_eq!(changed.kcq(), Some((6, 0x2a, 0x09)), "CAPACITY DATA HAS CHANGED");
    assert_eq!(host.capacity(0).unwrap().blocks, 2 * BYTES / 4096);
    host.run(Command::write_blocks(0, 2 * BYTES / 4096 - 1, 4096, data(1, 4096))).unwrap();
}

#[test]
fn what_cannot_be_a_disk_is_refused_with_a_remedy() {
    let below = Below::new(4096);
    let image = below.dir.path().join("image");
    let on_file =
        below.config("vdisk_blockio", "").replace(&below.device.path().display().to_string(), image.to_str().unwrap());
    let refused = |config: &str, says: &str| {
        let mut daemon = Scstd::start_with(options(config, &[])).unwrap();
        daemon.wait_for_log(says).unwrap();
        assert_eq!(daemon.stop().unwrap().code(), Some(0));
    };
    refused(&below.config("vdisk_blockio", ""), "blocks of 512 are smaller; use blocksize 4096");
    refused(&below.config("vdisk_fileio", "o_direct 1"), "use blocksize 4096, or o_direct 0");
    refused(&on_file, "not a block device; name a block device, or use the handler vdisk_fileio with o_direct 1");
    let mut exclusive = OpenOptions::new();
    let mounted = exclusive.read(true).custom_flags(libc::O_EXCL).open(below.device.path()).unwrap();
    refused(&below.config("vdisk_blockio", "blocksize 4096"), "it is in use: another program has it open for itself");
    drop(mounted);
    let daemon = below.start("vdisk_blockio", "blocksize 4096", "auto");
    assert_eq!(login(&daemon, HOST).capacity(0).unwrap().blocks, BYTES / 4096, "{TARGET}");
}

#[test]
fn other_attributes_open_the_device_anew_under_its_lun() {
    let below = Below::new(512);
    let mut daemon = below.start("vdisk_blockio", "", "auto");
    let mut host = login(&daemon, HOST);
    host.run(Command::write_blocks(0, 0, 512, data(5, 4096))).unwrap();
    daemon.write_config(&below.config("vdisk_blockio", "blocksize 4096")).unwrap();
    daemon.signal("HUP").unwrap();
    daemon.wait_for_log("reload complete: 1 change, 0 failures").unwrap();
    assert_ne!(host.clear_unit_attentions(0).unwrap(), []);
    assert_eq!(host.run(Command::read_blocks(0, 0, 1, 4096)).unwrap().data_in, data(5, 4096));
}

#[test]
fn check_finds_larger_sectors_without_opening_the_device() {
    let below = Below::new(4096);
    let check = |handler: &str, attributes: &str| {
        let file = below.dir.path().join("scst.conf");
        std::fs::write(&file, format!("setup_id 1\n{}", below.config(handler, attributes))).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_scstd"));
        let output = command.arg("--check").arg(&file).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let name = format!(
        "{}: error: DEVICE disk: filename {}",
        below.dir.path().join("scst.conf").display(),
        below.device.path().display()
    );
    let expected = format!("{name}: its sectors have 4096 bytes, blocks of 512 are smaller\n  = use blocksize 4096\n");
    for (handler, attributes) in [("vdisk_blockio", ""), ("vdisk_fileio", "o_direct 1")] {
        let (code, stderr) = check(handler, attributes);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.starts_with(&expected), "{stderr}");
    }
    assert_eq!(check("vdisk_blockio", "blocksize 4096"), (Some(0), String::new()));
    // Through the page cache blocks may be smaller.
    assert_eq!(check("vdisk_fileio", "").0, Some(0));
    // A daemon that serves the device is in nobody's way.
    let _daemon = below.start("vdisk_blockio", "blocksize 4096", "auto");
    assert_eq!(check("vdisk_blockio", "blocksize 4096"), (Some(0), String::new()));
}
