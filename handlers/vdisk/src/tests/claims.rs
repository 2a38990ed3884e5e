//! One file has one device that writes it. Siblings that were looked for: the same path, a symbolic link, a hard link, `..`; another
//! device and another process; opened anew, handed over, given back; read only and shared on purpose.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use scst_reactor::lock::{LockKind, lock};
use tempfile::TempDir;

use super::control::make;
use crate::{ConfigError, Vdisk, VdiskConfig};

fn image() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    make(&path, 1 << 20);
    (dir, path)
}

fn open(name: &str, path: &Path) -> Result<Vdisk, ConfigError> {
    Vdisk::open(VdiskConfig::file(name, path))
}

fn shared(name: &str, path: &Path) -> Result<Vdisk, ConfigError> {
    Vdisk::open(VdiskConfig { share_rw: true, ..VdiskConfig::file(name, path) })
}

fn reader(name: &str, path: &Path) -> Result<Vdisk, ConfigError> {
    Vdisk::open(VdiskConfig { read_only: true, ..VdiskConfig::file(name, path) })
}

/// What another process finds: the strongest lock that it could have.
fn left_for_others(path: &Path) -> Option<LockKind> {
    let other = File::options().read(true).write(true).open(path).unwrap();
    [LockKind::Exclusive, LockKind::Shared].into_iter().find(|kind| lock(&other, *kind).is_ok())
}

#[test]
fn two_devices_over_one_file_are_refused_by_whatever_path() {
    let (dir, path) = image();
    fs::create_dir(dir.path().join("d")).unwrap();
    symlink(&path, dir.path().join("link")).unwrap();
    fs::hard_link(&path, dir.path().join("hard")).unwrap();
    let first = open("first", &path).unwrap();
    for same in ["disk", "link", "hard", "d/../disk"] {
        let same = dir.path().join(same);
        let refused = [open("second", &same), shared("second", &same), reader("second", &same)];
        for error in refused.map(|second| second.unwrap_err().to_string()) {
            assert_eq!(
                error,
                format!(
                    "device second: filename {same:?}: device first uses the same file; remove one of them, or set share_rw 1 on \
                     both if both may write"
                )
            );
        }
    }
    drop(first);
    open("second", &path).unwrap();
}

#[test]
fn a_file_can_be_shared_and_only_read_by_several() {
    let (_dir, path) = image();
    {
        let _two = [shared("a", &path).unwrap(), shared("b", &path).unwrap(), reader("c", &path).unwrap()];
        assert!(open("d", &path).is_err());
        assert_eq!(left_for_others(&path), Some(LockKind::Shared));
    }
    assert_eq!(left_for_others(&path), Some(LockKind::Exclusive));
    let alone = open("d", &path).unwrap();
    assert_eq!(left_for_others(&path), None);
    drop(alone);
    assert_eq!(left_for_others(&path), Some(LockKind::Exclusive));
}

#[test]
fn what_another_program_has_locked_is_refused_and_the_error_says_which_it_is() {
    let (_dir, path) = image();
    let other = File::options().read(true).write(true).open(&path).unwrap();
    let process = std::process::id();
    let name = fs::read_to_string("/proc/self/comm").unwrap();
    for kind in [LockKind::Exclusive, LockKind::Shared] {
        lock(&other, kind).unwrap();
        let error = open("disk", &path).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "device disk: filename {path:?}: it is locked by {} (process {process}); end that, or set share_rw 1 (in a cluster, \
                 on every DEVICE over the file) if all of them may write",
                name.trim()
            )
        );
    }
    reader("disk", &path).unwrap();
    shared("disk", &path).unwrap();
    drop(other);
    open("disk", &path).unwrap();
}

#[test]
fn a_device_that_is_opened_anew_does_not_stand_in_its_own_way() {
    let (_dir, path) = image();
    let old = open("disk", &path).unwrap();
    old.reopen().unwrap();
    // Tried, given up, and tried again.
    drop(open("disk", &path).unwrap());
    assert_eq!(left_for_others(&path), None, "the first still has it");
    // From writing to reading and back.
    let reading = reader("disk", &path).unwrap();
    assert_eq!(left_for_others(&path), None);
    drop(old);
    assert_eq!(left_for_others(&path), Some(LockKind::Shared));
    let new = open("disk", &path).unwrap();
    drop(reading);
    assert_eq!(left_for_others(&path), None);
    drop(new);
    assert_eq!(left_for_others(&path), Some(LockKind::Exclusive));
}

#[test]
fn a_lock_that_cannot_be_made_stronger_stays_as_it_was() {
    let (_dir, path) = image();
    let _reading = reader("disk", &path).unwrap();
    let other = File::open(&path).unwrap();
    lock(&other, LockKind::Shared).unwrap();
    let error = open("disk", &path).unwrap_err().to_string();
    assert!(error.contains("it is locked by "), "{error}");
    drop(other);
    assert_eq!(left_for_others(&path), Some(LockKind::Shared));
}

#[test]
fn a_device_that_is_about_to_go_hands_its_file_over() {
    let (dir, path) = image();
    let other_path = dir.path().join("other");
    make(&other_path, 1 << 20);
    let [a, b] = [open("a", &path).unwrap(), open("b", &other_path).unwrap()];
    a.yield_file();
    b.yield_file();
    // Two that swap their files, and a third.
    let [new_a, new_b] = [open("a", &other_path).unwrap(), open("b", &path).unwrap()];
    assert!(open("c", &path).is_err(), "it is the new one's");
    drop((a, b));
    assert_eq!([&path, &other_path].map(|path| left_for_others(path)), [None, None]);
    // The second cannot be replaced after all, and its file is gone.
    new_a.yield_file();
    let _c = open("c", &other_path).unwrap();
    new_a.keep_file();
    assert!(!new_a.status().online);
    assert_eq!(new_a.poll(), None, "the file is the other's");
    assert!(new_b.status().online);
}
