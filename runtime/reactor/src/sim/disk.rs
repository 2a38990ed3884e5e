//! A simulated disk, as the simulation sees it from outside.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::FromRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use super::image::Image;
use super::world::SimWorld;

/// A disk in the world.
pub(crate) struct DiskState {
    pub(crate) image: Image,
    /// Device and inode of the file that stands for it.
    pub(crate) identity: (u64, u64),
    /// Every operation fails with this.
    pub(crate) failing: Option<i32>,
    /// Reads and writes that touch these bytes fail.
    pub(crate) bad: Vec<(Range<u64>, i32)>,
    pub(crate) errors: WritebackErrors,
}

impl DiskState {
    pub(crate) fn new(image: Image, identity: (u64, u64)) -> Self {
        Self { image, identity, failing: None, bad: Vec::new(), errors: WritebackErrors::default() }
    }
}

/// Errors of writeback as Linux keeps them (`errseq_t`): each is reported once to every open file description.
#[derive(Default)]
pub(crate) struct WritebackErrors {
    count: u64,
    errno: i32,
    /// The last one has been reported to somebody; otherwise another one is not told from it.
    reported: bool,
}

impl WritebackErrors {
    pub(crate) fn record(&mut self, errno: i32) {
        if self.reported || self.count == 0 {
            self.count += 1;
            self.reported = false;
        }
        self.errno = errno;
    }

    /// What a description that is opened now knows: not yet an error that nobody has been told.
    pub(crate) fn sample(&self) -> u64 {
        if self.reported { self.count } else { 0 }
    }

    /// The errno that a description has not been told, which is told by this.
    pub(crate) fn check(&mut self, known: &mut u64) -> Option<i32> {
        if *known == self.count {
            return None;
        }
        *known = self.count;
        self.reported = true;
        Some(self.errno)
    }
}

/// A handle on a simulated disk. Shared by all back-ends; survives every crash, in the state the crash left it in.
#[derive(Clone, Debug)]
pub struct SimDisk {
    world: SimWorld,
    number: usize,
    file: Arc<File>,
}

impl SimDisk {
    pub(crate) fn new(world: SimWorld, size: u64) -> Self {
        let file = marker(size).unwrap_or_else(|error| panic!("no memfd for a simulated disk: {error}"));
        let identity = identity(&file);
        let mut inner = world.lock();
        let number = inner.disks.len();
        inner.disks.push(DiskState::new(Image::new(size), identity));
        drop(inner);
        Self { world, number, file: Arc::new(file) }
    }

    /// A file that stands for the disk wherever a [`File`] is asked for: it has the disk's size, but none of its
    /// contents. A simulated back-end's `register_file` recognises it.
    pub fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.world.lock().disks[self.number].image.size()
    }

    /// Makes it larger or smaller.
    pub fn set_size(&self, size: u64) {
        self.world.lock().disks[self.number].image.set_size(size);
        // The marker follows as well as it can; its length is what `fstat` says.
        let _ = self.file.set_len(size);
    }

    /// Reads what any reader would see now. Returns the bytes up to the end.
    pub fn peek(&self, offset: u64, out: &mut [u8]) -> usize {
        self.world.lock().disks[self.number].image.read(offset, out)
    }

    /// Reads what is durable for sure.
    pub fn peek_durable(&self, offset: u64, out: &mut [u8]) -> usize {
        self.world.lock().disks[self.number].image.read_durable(offset, out)
    }

    /// Writes durably, outside of any operation.
    pub fn poke(&self, offset: u64, data: &[u8]) {
        self.world.lock().disks[self.number].image.write(offset, data, true);
    }

    /// Lets every operation fail with an errno (positive), or work again.
    pub fn fail(&self, errno: Option<i32>) {
        self.world.lock().disks[self.number].failing = errno;
    }

    /// Lets reads and writes that touch a range fail with an errno (positive).
    pub fn fail_range(&self, range: Range<u64>, errno: i32) {
        self.world.lock().disks[self.number].bad.push((range, errno));
    }

    /// Makes all ranges good again.
    pub fn repair(&self) {
        self.world.lock().disks[self.number].bad.clear();
    }
}

pub(crate) fn identity(file: &File) -> (u64, u64) {
    file.metadata().map_or((0, 0), |m| (m.dev(), m.ino()))
}

fn marker(size: u64) -> io::Result<File> {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"scst-sim-disk".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and ours.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(size)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_writeback_is_told_once_to_each_description() {
        let mut errors = WritebackErrors::default();
        let (mut a, mut b) = (errors.sample(), errors.sample());
        assert_eq!(errors.check(&mut a), None);
        errors.record(libc::EIO);
        let mut late = errors.sample();
        assert_eq!((errors.check(&mut a), errors.check(&mut a)), (Some(libc::EIO), None));
        assert_eq!((errors.check(&mut b), errors.check(&mut late)), (Some(libc::EIO), Some(libc::EIO)));
        let mut later = errors.sample();
        assert_eq!(errors.check(&mut later), None, "somebody has been told");
        // Two that nobody has asked about between are one.
        errors.record(libc::EIO);
        errors.record(libc::ENOSPC);
        assert_eq!((errors.check(&mut a), errors.check(&mut a)), (Some(libc::ENOSPC), None));
        assert_eq!(errors.check(&mut later), Some(libc::ENOSPC));
    }
}
