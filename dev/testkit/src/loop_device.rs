//! Block devices for tests: loop devices over files. They need root, and say so.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

const CONTROL: &str = "/dev/loop-control";

// linux/loop.h
const LOOP_SET_CAPACITY: libc::Ioctl = 0x4c07;
const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_config` of LOOP_CONFIGURE, which includes a `struct loop_info64`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    device_to_flags: [u64; 6],
    encrypt_key_size: u32,
    flags: u32,
    names_and_key: [u64; 20],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// A loop device. Its file is detached when the last has closed the device: this here when it is dropped or its process
/// dies in whatever way, and whoever else has it open.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    open: File,
}

impl LoopDevice {
    /// Makes a sparse file of so many bytes into a device with sectors of so many bytes.
    ///
    /// # Errors
    /// What is missing: /dev/loop-control, or the right to use it.
    pub fn new(file: &Path, bytes: u64, sector: u32) -> Result<Self> {
        let mut create = OpenOptions::new();
        let made = create.read(true).write(true).create(true).truncate(true).open(file);
        let made = made.and_then(|f| f.set_len(bytes).map(|()| f)).with_context(|| file.display().to_string())?;
        Self::over(&made, sector)
    }

    /// Makes an open file into a device with sectors of so many bytes.
    ///
    /// # Errors
    /// As for [`LoopDevice::new`].
    pub fn over(file: &File, sector: u32) -> Result<Self> {
        let control = OpenOptions::new().read(true).write(true).open(CONTROL).with_context(|| {
            format!(
                "{CONTROL}: this test needs loop devices: run it as root, on a machine or in a container that has them"
            )
        })?;
        let config = LoopConfig {
            fd: file.as_raw_fd().try_into()?,
            block_size: sector,
            device_to_flags: [0; 6],
            encrypt_key_size: 0,
            flags: LO_FLAGS_AUTOCLEAR,
            names_and_key: [0; 20],
            init: [0; 2],
            reserved: [0; 8],
        };
        loop {
            // SAFETY: no memory is passed.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
            ensure!(number >= 0, "{CONTROL}: no free loop device: {}", io::Error::last_os_error());
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let open = OpenOptions::new().read(true).write(true).open(&path);
            let open = open.with_context(|| path.display().to_string())?;
            // SAFETY: the kernel reads a `struct loop_config`.
            if unsafe { libc::ioctl(open.as_raw_fd(), LOOP_CONFIGURE, &raw const config) } == 0 {
                return Ok(Self { path, open });
            }
            let error = io::Error::last_os_error();
            // Somebody else was faster: the next.
            ensure!(error.raw_os_error() == Some(libc::EBUSY), "{}: {error}", path.display());
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes over the size that its file has now.
    ///
    /// # Errors
    /// What the system says.
    pub fn resize(&self) -> Result<()> {
        // SAFETY: no memory is passed.
        let result = unsafe { libc::ioctl(self.open.as_raw_fd(), LOOP_SET_CAPACITY) };
        ensure!(result == 0, "{}: {}", self.path.display(), io::Error::last_os_error());
        Ok(())
    }

    /// How many pages of a range of the device are in the page cache.
    ///
    /// # Errors
    /// What the system says.
    pub fn cached_pages(&self, offset: u64, len: usize) -> Result<usize> {
        const PAGE: usize = 4096;
        let offset = libc::off_t::try_from(offset)?;
        ensure!(len > 0 && len.is_multiple_of(PAGE), "a range of whole pages");
        let fd = self.open.as_raw_fd();
        // SAFETY: a new mapping of a file, which nobody reads.
        let map = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, fd, offset) };
        if map == libc::MAP_FAILED {
            bail!("mmap {}: {}", self.path.display(), io::Error::last_os_error());
        }
        let mut resident = vec![0_u8; len / PAGE];
        // SAFETY: the range is mapped, and the vector has a byte for each of its pages.
        let result = unsafe { libc::mincore(map, len, resident.as_mut_ptr()) };
        let error = io::Error::last_os_error();
        // SAFETY: the mapping is ours, and not used after this.
        unsafe { libc::munmap(map, len) };
        ensure!(result == 0, "mincore {}: {error}", self.path.display());
        Ok(resident.iter().filter(|page| **page & 1 == 1).count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_free_again_when_the_last_has_closed_it() {
        assert_eq!(size_of::<LoopConfig>(), 304, "as the kernel has it");
        let dir = tempfile::tempdir().unwrap();
        let device = LoopDevice::new(&dir.path().join("image"), 1 << 20, 512).unwrap_or_else(|e| panic!("{e:#}"));
        let (path, other) = (device.path().to_owned(), File::open(device.path()).unwrap());
        let attached = || Path::new("/sys/block").join(path.file_name().unwrap()).join("loop/backing_file").exists();
        drop(device);
        assert!(attached(), "another has it open");
        drop(other);
        // Another test may have it by now, with another file.
        let file = dir.path().join("image").display().to_string();
        let backing = Path::new("/sys/block").join(path.file_name().unwrap()).join("loop/backing_file");
        assert!(std::fs::read_to_string(backing).map_or(true, |now| now.trim() != file));
    }
}
