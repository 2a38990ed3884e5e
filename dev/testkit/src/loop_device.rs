//! Block devices for tests: loop devices over files. They need root, and say so.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// A loop device; it is detached when this is dropped.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
}

impl LoopDevice {
    /// Makes a sparse file of so many bytes into a device with sectors of so many bytes.
    ///
    /// # Errors
    /// What is missing: /dev/loop-control, losetup, or the right to use them.
    pub fn new(file: &Path, bytes: u64, sector: u32) -> Result<Self> {
        const CONTROL: &str = "/dev/loop-control";
        let permitted = OpenOptions::new().read(true).write(true).open(CONTROL);
        permitted.with_context(|| {
            format!(
                "{CONTROL}: this test needs loop devices: run it as root, on a machine or in a container that has them"
            )
        })?;
        File::create(file).and_then(|f| f.set_len(bytes)).with_context(|| file.display().to_string())?;
        let mut attach = Command::new("losetup");
        attach.args(["--find", "--show", "--sector-size", &sector.to_string()]).arg(file);
        Ok(Self { path: losetup(&mut attach)?.trim().into() })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes over the size that its file has now.
    ///
    /// # Errors
    /// What losetup says.
    pub fn resize(&self) -> Result<()> {
        losetup(Command::new("losetup").arg("--set-capacity").arg(&self.path)).map(drop)
    }

    /// How many pages of a range of the device are in the page cache.
    ///
    /// # Errors
    /// What the system says.
    pub fn cached_pages(&self, offset: u64, len: usize) -> Result<usize> {
        const PAGE: usize = 4096;
        let file = File::open(&self.path)?;
        let offset = libc::off_t::try_from(offset)?;
        ensure!(len > 0 && len.is_multiple_of(PAGE), "a range of whole pages");
        // SAFETY: a new mapping of a file, which nobody reads.
        let map = unsafe {
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), offset)
        };
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

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // Where it is still open, it goes with the last who closes it.
        if let Err(error) = losetup(Command::new("losetup").arg("--detach").arg(&self.path)) {
            eprintln!("{error:#}");
        }
    }
}

fn losetup(command: &mut Command) -> Result<String> {
    let output = command.output().context("cannot run losetup; install util-linux (Debian: mount)")?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?)
}
