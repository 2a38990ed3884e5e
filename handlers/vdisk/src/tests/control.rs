//! The control side: files that are missing, come back, change their size.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use scst_core::handler::{Execution, Outcome};
use scst_core::io::FileId;
use scst_reactor::backend::FileRegistry;
use scst_scsi::{Asc, SenseData};

use super::rig::{FakeIo, Fault, Op, Rig, ten};
use crate::{ShardLink, Vdisk, VdiskConfig};

const TEST_UNIT_READY: [u8; 6] = [0; 6];

/// Registrations of a back-end.
#[derive(Default)]
pub(super) struct Files {
    registered: Vec<(FileId, Arc<File>, bool)>,
    next: u32,
}

impl FileRegistry for Files {
    fn register_file(&mut self, file: Arc<File>, block_device: bool) -> FileId {
        self.next += 1;
        self.registered.push((FileId(self.next), file, block_device));
        FileId(self.next)
    }

    fn unregister_file(&mut self, file: FileId) {
        let at = self.registered.iter().position(|entry| entry.0 == file).expect("registered");
        self.registered.swap_remove(at);
    }
}

pub(super) fn open(path: &Path, change: impl FnOnce(&mut VdiskConfig)) -> (Rig, ShardLink, Files) {
    let mut config = VdiskConfig::file("d", path);
    change(&mut config);
    let disk = Vdisk::open(config).unwrap();
    let mut files = Files::default();
    let shard = disk.open_shard(&mut files);
    let io = FakeIo { bytes: vec![0; 1 << 20], ..FakeIo::default() };
    (Rig::new(disk, shard.shard, io), shard.link, files)
}

pub(super) fn make(path: &Path, bytes: u64) {
    File::create(path).unwrap().set_len(bytes).unwrap();
}

#[test]
fn a_missing_file_becomes_a_disk_when_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    let (mut rig, link, mut files) = open(&path, |_| {});
    let away = SenseData::not_ready(Asc::LUN_NOT_READY_MANUAL_INTERVENTION_REQUIRED);
    assert_eq!(rig.run(&TEST_UNIT_READY, &[]), Outcome::check(away));
    assert_eq!(rig.run(&ten(0x28, 0, 0, 1), &[]), Outcome::check(away));
    assert_eq!(rig.read(&[0x12, 0, 0, 0, 36, 0]).len(), 36);
    assert_eq!((rig.disk.poll(), files.registered.len()), (None, 0));

    // Shorter than a block is as good as missing.
    make(&path, 100);
    assert_eq!(rig.disk.poll(), None);
    make(&path, 1 << 20);
    let change = rig.disk.poll().unwrap();
    assert_eq!((change.reopened, change.capacity_changed), (true, true));
    assert_eq!(change.attention, Asc::NOT_READY_TO_READY_CHANGE);
    assert_eq!(rig.disk.poll(), None);

    let becoming = SenseData::not_ready(Asc::LUN_BECOMING_READY);
    assert_eq!(rig.run(&ten(0x28, 0, 0, 1), &[]), Outcome::check(becoming), "this reactor does not know it yet");
    assert_eq!(rig.run(&[0; 6], &[]), Outcome::check(becoming));
    link.refresh(&mut files);
    assert_eq!(rig.run(&ten(0x28, 0, 0, 1), &[]), Outcome::good(512));
    assert_eq!(rig.read(&ten(0x25, 0, 0, 0))[..4], [0, 0, 7, 0xff]);
    link.refresh(&mut files);
    assert_eq!((files.registered.len(), files.next), (1, 1));
    link.close(&mut files);
    assert!(files.registered.is_empty());
}

#[test]
fn every_reactor_has_an_open_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    make(&path, 1 << 20);
    let disk = Vdisk::open(VdiskConfig { reactors: 2, ..VdiskConfig::file("d", &path) }).unwrap();
    // Each with a file position of its own, which tells open file descriptions apart.
    let position = |file: &Arc<File>| (&**file).stream_position().unwrap();
    let mut files = Files::default();
    let links = [disk.open_shard(&mut files).link, disk.open_shard(&mut files).link];
    let own = |files: &Files, n: usize| Arc::clone(&files.registered[n].1);
    (&*own(&files, 0)).seek(SeekFrom::Start(7)).unwrap();
    assert_eq!((position(&own(&files, 0)), position(&own(&files, 1))), (7, 0));
    let inode = |file: &Arc<File>| file.metadata().unwrap().ino();
    assert_eq!(inode(&own(&files, 0)), inode(&own(&files, 1)));
    // Also after the file was opened anew.
    disk.reopen().unwrap();
    links.iter().for_each(|link| link.refresh(&mut files));
    (&*own(&files, 1)).seek(SeekFrom::Start(9)).unwrap();
    assert_eq!((position(&own(&files, 0)), position(&own(&files, 1))), (0, 9));
    // Whoever comes besides shares one.
    disk.open_shard(&mut files);
    assert_eq!(position(&own(&files, 2)) + position(&own(&files, 0)), 0);
    disk.sync().unwrap();
}

#[test]
fn a_file_that_went_away_may_have_lost_data() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    make(&path, 1 << 20);
    let (mut rig, link, mut files) = open(&path, |_| {});
    rig.faults(&[Some(Fault::Errno(libc::ESTALE))]);
    assert_eq!(rig.run(&ten(0x2a, 0, 0, 1), &[0; 512]).sense.unwrap().asc.code(), 0x04);
    let change = rig.disk.poll().unwrap();
    assert_eq!((change.attention, change.capacity_changed), (Asc::DEVICE_INTERNAL_RESET, false));
    link.refresh(&mut files);
    assert_eq!((files.registered.len(), files.registered[0].0), (1, FileId(2)));
    assert_eq!(rig.run(&ten(0x2a, 0, 0, 1), &[0; 512]), Outcome::good(0));
}

#[test]
fn reopening_takes_a_failed_flush_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    make(&path, 1 << 20);
    let (mut rig, link, mut files) = open(&path, |_| {});
    rig.faults(&[Some(Fault::Errno(libc::EIO))]);
    let sync = ten(0x35, 0, 0, 0);
    assert_eq!(rig.run(&sync, &[]).sense.unwrap().asc, Asc::WRITE_ERROR);
    assert_eq!(rig.disk.poll(), None, "polling hides nothing");
    assert_eq!(rig.run(&sync, &[]).sense.unwrap().asc, Asc::WRITE_ERROR);
    assert_eq!(rig.disk.reopen().unwrap().attention, Asc::DEVICE_INTERNAL_RESET);
    // Until the reactor knows the new file there is nothing to flush to, and that is not GOOD.
    let becoming = Outcome::check(SenseData::not_ready(Asc::LUN_BECOMING_READY));
    rig.ops();
    assert_eq!((rig.run(&sync, &[]), rig.run(&[0x1b, 0, 0, 0, 0, 0], &[])), (becoming, becoming));
    assert_eq!(rig.ops(), []);
    link.refresh(&mut files);
    assert_eq!(rig.run(&sync, &[]), Outcome::good(0));
    rig.disk.sync().unwrap();
    fs::remove_file(&path).unwrap();
    let error = rig.disk.reopen().unwrap_err().to_string();
    assert!(error.contains("bring the file back"), "{error}");
    assert!(rig.disk.status().online, "nothing has changed");
}

#[test]
fn what_was_written_to_the_file_before_is_not_durable_in_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    make(&path, 1 << 20);
    let (mut rig, link, mut files) = open(&path, |_| {});
    let becoming = Execution::Done(Outcome::check(SenseData::not_ready(Asc::LUN_BECOMING_READY)));
    // WRITE with FUA, and WRITE AND VERIFY, of several steps.
    for cdb in [ten(0x2a, 0x08, 1, 1), ten(0x2e, 0, 1, 1)] {
        for refreshed in [false, true] {
            let command = rig.command(&cdb, &[1; 512], None).unwrap();
            assert_eq!(rig.execute(&command), Execution::Pending);
            rig.disk.reopen().unwrap();
            if refreshed {
                link.refresh(&mut files);
            }
            rig.ops();
            assert_eq!(
                (rig.complete(&command), rig.ops()),
                (becoming, vec![]),
                "no flush of the new one says anything"
            );
            link.refresh(&mut files);
            assert_eq!(rig.run(&cdb, &[1; 512]), Outcome::good(0));
        }
    }
}

#[test]
fn a_sync_that_failed_counts_before_its_command_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    make(&path, 1 << 20);
    let (rig, ..) = open(&path, |_| {});
    let gate = rig.disk.shared().file().unwrap().gate;
    gate.fail(libc::ENOSPC);
    assert_eq!(rig.disk.status().flush_error, Some(libc::ENOSPC));
    assert_eq!(rig.disk.sync().unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(rig.disk.reopen().unwrap().attention, Asc::DEVICE_INTERNAL_RESET);
    assert_eq!(rig.disk.status().flush_error, None);
    rig.disk.sync().unwrap();
}

#[test]
fn a_new_size_counts_when_it_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    make(&path, 1 << 20);
    let (mut rig, _link, _files) = open(&path, |_| {});
    assert_eq!(rig.disk.resync_size().unwrap(), None);
    File::options().write(true).open(&path).unwrap().set_len(2 << 20).unwrap();
    assert_eq!(rig.read(&ten(0x25, 0, 0, 0))[..4], [0, 0, 7, 0xff]);
    let change = rig.disk.resync_size().unwrap().unwrap();
    assert_eq!((change.reopened, change.attention), (false, Asc::CAPACITY_DATA_CHANGED));
    assert_eq!(rig.read(&ten(0x25, 0, 0, 0))[..4], [0, 0, 15, 0xff]);
    assert_eq!(rig.disk.status().bytes, 2 << 20);
    assert_eq!(rig.disk.set_size(512).unwrap_err().attribute, "size");
}

#[test]
fn files_that_cannot_work_are_refused_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let refuse = |path: &Path| Vdisk::open(VdiskConfig::file("d", path)).unwrap_err().to_string();
    let error = refuse(dir.path());
    assert!(error.ends_with("neither a file nor a block device; name a regular file or a block device"), "{error}");
    let error = refuse(Path::new("/dev/null"));
    assert!(error.contains("neither a file nor a block device"), "{error}");
    make(&dir.path().join("file"), 512);
    let error = refuse(&dir.path().join("file").join("below"));
    assert!(error.contains("cannot be opened"), "{error}");
}

#[test]
fn a_nullio_disk_changes_its_size() {
    let disk = Vdisk::open(VdiskConfig::null("n", 4096)).unwrap();
    assert_eq!(disk.set_size(4096).unwrap(), None);
    assert_eq!(disk.set_size(8192).unwrap().unwrap().attention, Asc::CAPACITY_DATA_CHANGED);
    assert_eq!(disk.status().bytes, 8192);
    assert_eq!(disk.set_size(1000).unwrap_err().attribute, "size");
}

#[test]
fn a_thin_disk_reports_the_granularity_of_its_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    make(&path, 1 << 20);
    let (mut rig, ..) = open(&path, |c| c.thin_provisioned = true);
    let provisioning = rig.disk.parameters().provisioning.unwrap();
    assert!(provisioning.granularity >= 1 && provisioning.anchor && provisioning.reads_zeros);
    assert_eq!(rig.read(&[0x12, 1, 0xb2, 0, 255, 0])[5] & 0xe4, 0xe4);
    let (mut rig, ..) = open(&path, |_| {});
    assert_eq!(rig.run(&[0x12, 1, 0xb2, 0, 255, 0], &[]).sense.unwrap().asc, Asc::INVALID_FIELD_IN_CDB);
    assert_eq!(rig.run(&ten(0x42, 0, 0, 0), &[]), Outcome::check(SenseData::invalid_opcode()));
    assert_eq!(rig.ops(), Vec::<Op>::new());
}
