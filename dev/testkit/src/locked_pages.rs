//! Pages that stay in the page cache, whatever the system thinks of them. A page that was read a moment ago may be gone
//! now: memory can be short, and there are systems that take pages back while it is not (DAMON).
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::{self, NonNull};

use anyhow::{Context, Result, ensure};

/// A range of a file or block device that is read into the page cache, and stays there until this is dropped.
#[derive(Debug)]
pub struct LockedPages {
    base: NonNull<libc::c_void>,
    len: usize,
}

impl LockedPages {
    /// Locks the first so many bytes. It keeps the file open.
    ///
    /// # Errors
    /// The file cannot be read, or so much may not be locked.
    pub fn new(path: &Path, len: usize) -> Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        // SAFETY: a new mapping of a file, which nobody reads.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        ensure!(base != libc::MAP_FAILED, "mmap {}: {}", path.display(), io::Error::last_os_error());
        let this = Self { base: NonNull::new(base).context("mmap gave no address")?, len };
        // SAFETY: the range is mapped.
        let result = unsafe { libc::mlock(base, len) };
        ensure!(result == 0, "mlock {}: {}", path.display(), io::Error::last_os_error());
        Ok(this)
    }
}

impl Drop for LockedPages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and not used after this.
        unsafe { libc::munmap(self.base.as_ptr(), self.len) };
    }
}
