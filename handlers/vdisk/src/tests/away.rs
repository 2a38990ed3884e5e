//! A file that is taken away, replaced or cut while its disk serves. Siblings that were looked for: removed, removed and made again,
//! replaced by rename, moved aside and back, its directory moved, a symbolic link that leads elsewhere, each found by itself and
//! asked for by the operator; cut to nothing, to less than a block, to an odd size, grown from nothing, beyond 2^32 blocks.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use scst_core::handler::Outcome;
use scst_scsi::{Asc, SenseData};
use tempfile::TempDir;

use super::control::{Files, make, open};
use super::rig::{Rig, sixteen, ten};
use crate::disk::{OpenError, ShardLink};
use crate::{Vdisk, VdiskConfig};

const TEST_UNIT_READY: [u8; 6] = [0; 6];
const BYTES: u64 = 1 << 20;

/// A disk, and what is in the directory of its file.
struct Stage {
    rig: Rig,
    link: ShardLink,
    files: Files,
    dir: TempDir,
}

impl Stage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("images")).unwrap();
        make(&dir.path().join("images/disk"), BYTES);
        let (rig, link, files) = open(&dir.path().join("images/disk"), |_| {});
        Self { rig, link, files, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Something that is not GOOD, for each command that would tell the initiator that its data are safe.
    fn is_not_ready(&mut self) {
        let away = Outcome::check(SenseData::not_ready(Asc::LUN_NOT_READY_MANUAL_INTERVENTION_REQUIRED));
        let capacity = sixteen(0x9e, 0x10, 0, 32);
        for cdb in [&TEST_UNIT_READY[..], &ten(0x2a, 0, 0, 1), &ten(0x35, 0, 0, 0), &ten(0x28, 0, 0, 1), &capacity] {
            assert_eq!(self.rig.run(cdb, &[0; 512]), away, "{cdb:02x?}");
        }
        assert!(!self.rig.disk.status().online);
    }

    fn is_ready(&mut self) {
        self.link.refresh(&mut self.files);
        assert_eq!(self.rig.run(&TEST_UNIT_READY, &[]), Outcome::good(0));
        self.rig.disk.look();
        assert!(self.rig.disk.status().online);
    }

    /// The daemon finds out by itself that the file is not there any more.
    fn found_out(&mut self) {
        assert_eq!(self.rig.disk.poll(), None);
        self.rig.disk.look();
        self.is_not_ready();
        assert_eq!(self.rig.disk.poll(), None);
        self.is_not_ready();
    }

    /// The file that the disk has is the one with this in its first byte.
    fn serves(&self, mark: u8) {
        let mut byte = [0];
        self.rig.disk.shared().file().unwrap().file.read_exact_at(&mut byte, 0).unwrap();
        assert_eq!(byte, [mark]);
    }
}

/// A file with something in its first byte.
fn make_marked(path: &Path, bytes: u64, mark: u8) {
    make(path, bytes);
    File::options().write(true).open(path).unwrap().write_all_at(&[mark], 0).unwrap();
}

/// Ways to have another file in the place of the first.
const REPLACEMENTS: [fn(&Stage); 4] = [
    |stage| {
        fs::remove_file(stage.path("images/disk")).unwrap();
        make_marked(&stage.path("images/disk"), 2 * BYTES, 7);
    },
    |stage| {
        make_marked(&stage.path("new"), 2 * BYTES, 7);
        fs::rename(stage.path("new"), stage.path("images/disk")).unwrap();
    },
    |stage| {
        fs::rename(stage.path("images"), stage.path("old")).unwrap();
        fs::create_dir(stage.path("images")).unwrap();
        make_marked(&stage.path("images/disk"), 2 * BYTES, 7);
    },
    |stage| {
        make_marked(&stage.path("elsewhere"), 2 * BYTES, 7);
        fs::rename(stage.path("images/disk"), stage.path("aside")).unwrap();
        symlink(stage.path("elsewhere"), stage.path("images/disk")).unwrap();
    },
];

#[test]
fn a_file_that_is_replaced_is_not_ready_and_the_new_one_is_taken_only_when_the_operator_asks() {
    for replace in REPLACEMENTS {
        for found_out in [true, false] {
            let mut stage = Stage::new();
            replace(&stage);
            if found_out {
                stage.found_out();
                stage.serves(0);
            }
            let change = stage.rig.disk.reload().unwrap().unwrap();
            assert_eq!((change.reopened, change.capacity_changed), (true, true));
            assert_eq!(change.attention, Asc::NOT_READY_TO_READY_CHANGE);
            stage.serves(7);
            stage.is_ready();
            assert_eq!((stage.rig.disk.reload().unwrap(), stage.rig.disk.poll()), (None, None));
        }
    }
}

#[test]
fn a_file_that_is_gone_is_not_ready_until_the_same_is_back() {
    for (from, to) in [("images/disk", "aside"), ("images", "aside")] {
        for asked in [true, false] {
            let mut stage = Stage::new();
            fs::rename(stage.path(from), stage.path(to)).unwrap();
            if asked {
                assert!(matches!(stage.rig.disk.reload(), Err(OpenError::Away { .. })));
                stage.is_not_ready();
            } else {
                stage.found_out();
            }
            let error = stage.rig.disk.sync().unwrap_err().to_string();
            assert!(error.contains("move it back, or copy it from /proc/"), "{error}");
            fs::rename(stage.path(to), stage.path(from)).unwrap();
            let change = stage.rig.disk.poll().unwrap();
            assert_eq!((change.reopened, change.capacity_changed), (true, false));
            assert_eq!(change.attention, Asc::NOT_READY_TO_READY_CHANGE, "nothing is lost");
            stage.is_ready();
            stage.rig.disk.sync().unwrap();
        }
    }
}

#[test]
fn what_cannot_be_flushed_to_its_place_is_lost_for_the_operator() {
    let stage = Stage::new();
    fs::remove_file(stage.path("images/disk")).unwrap();
    let error = stage.rig.disk.sync().unwrap_err().to_string();
    assert!(error.starts_with("nothing is at "), "{error}");
    make(&stage.path("images/disk"), BYTES);
    let error = stage.rig.disk.sync().unwrap_err().to_string();
    assert!(error.starts_with("another file is at "), "{error}");
}

#[test]
fn a_file_without_a_whole_block_is_not_ready_whenever_that_is_seen() {
    for bytes in [0, 1, 511] {
        for asked in [true, false] {
            let mut stage = Stage::new();
            let file = File::options().write(true).open(stage.path("images/disk")).unwrap();
            file.set_len(bytes).unwrap();
            if asked {
                assert_eq!(stage.rig.disk.reload().unwrap(), None);
                stage.is_not_ready();
                assert!(matches!(stage.rig.disk.reload(), Err(OpenError::Away { .. })));
            } else {
                stage.found_out();
            }
            stage.is_not_ready();
            // At start it is the same.
            assert!(!Vdisk::open(VdiskConfig::file("d", stage.path("images/disk"))).unwrap().status().online);
            // An odd size has whole blocks only.
            file.set_len(1535).unwrap();
            let change = stage.rig.disk.poll().unwrap();
            assert_eq!((change.attention, change.capacity_changed), (Asc::NOT_READY_TO_READY_CHANGE, true));
            stage.is_ready();
            assert_eq!(stage.rig.read(&ten(0x25, 0, 0, 0)), [0, 0, 0, 1, 0, 0, 2, 0]);
        }
    }
}

#[test]
fn one_block_and_more_than_32_bits_of_them_have_a_capacity() {
    let mut stage = Stage::new();
    let file = File::options().write(true).open(stage.path("images/disk")).unwrap();
    for (bytes, ten_bytes, sixteen_bytes) in [
        (512, 0, 0),
        ((1 << 41) - 512, 0xffff_fffe, 0xffff_fffe),
        (1 << 41, 0xffff_ffff, 0xffff_ffff),
        ((1 << 41) + 512, 0xffff_ffff, 0x1_0000_0000_u64),
    ] {
        file.set_len(bytes).unwrap();
        assert_eq!(stage.rig.disk.reload().unwrap().unwrap().attention, Asc::CAPACITY_DATA_CHANGED);
        assert_eq!(stage.rig.read(&ten(0x25, 0, 0, 0))[..4], u32::to_be_bytes(ten_bytes), "{bytes}");
        assert_eq!(stage.rig.read(&sixteen(0x9e, 0x10, 0, 32))[..8], sixteen_bytes.to_be_bytes(), "{bytes}");
    }
}
