//! What becomes of the file behind a disk while it serves: taken away, replaced, cut, write-protected, or back again.
//!
//! What initiators wrote is in the file that is open. A disk whose path does not lead there any more is NOT READY, because nobody
//! would find their data: until the same file is back, or until the operator asks for the other one (SIGHUP).

use std::io::{self, ErrorKind as IoErrorKind};
use std::os::fd::AsRawFd;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use scst_reactor::storage;
use scst_scsi::Asc;
use tracing::{error, info, warn};

use crate::backing::{self, Backing, Failure};
use crate::config::Kind;
use crate::disk::{Change, OpenError, Vdisk};
use crate::errors::Told;
use crate::fault;
use crate::identity::Identity;
use crate::mapped;
use crate::shared::OpenFile;

/// What the operator and the initiators have been told.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// The operator has been told of the flush that failed.
    flush_error: AtomicBool,
    /// Initiators have been told that the storage is write-protected.
    protected: AtomicBool,
    /// The disk is not ready because of its path or its size, not because storage has failed: nothing is lost.
    displaced: AtomicBool,
    /// Why it is not ready, as the log has it.
    trouble: Mutex<Option<String>>,
    errors: Mutex<Told>,
}

impl Vdisk {
    /// Looks whether the path still leads to the open file, and whether that can be written. A disk whose file is not there any
    /// more is NOT READY from now on, and the log says why, once. Waits for as long as the file system does: not for a thread that
    /// anything waits for. [`Vdisk::poll`] tells what has to be done about it.
    pub fn look(&self) {
        let generation = self.shared.generation();
        let Some(open) = self.shared.file() else { return };
        if !self.shared.is_online() {
            return;
        }
        let trouble = self.misplaced(&open).or_else(|| self.too_short(&open));
        if let Some(trouble) = trouble {
            self.displace(generation, &trouble);
        }
        self.look_at_protection();
    }

    /// Says what a disk is not ready for whose file is not found under its path. What cannot be found out is no trouble.
    pub(crate) fn misplaced(&self, open: &OpenFile) -> Option<String> {
        let path = self.config.filename.display();
        let copy = format!("/proc/{}/fd/{}", process::id(), open.file.as_raw_fd());
        match Identity::at(&self.config.filename) {
            Ok(found) if found == open.identity => None,
            Ok(_) => Some(format!(
                "another file is at {path} now, what initiators wrote is in the one before; move that back, or copy it from {copy} \
                 while the daemon runs, or send SIGHUP to export the new one"
            )),
            Err(error) if is_absence(&error) => Some(format!(
                "nothing is at {path} any more ({error}), what initiators wrote is in the file that was there; move it back, or copy \
                 it from {copy} while the daemon runs, or put another file there and send SIGHUP"
            )),
            Err(_) => None,
        }
    }

    /// Says what a disk is not ready for whose file has no whole block.
    fn too_short(&self, open: &OpenFile) -> Option<String> {
        let block = self.config.block_size;
        let bytes = backing::size(&open.file, open.block_device).ok().filter(|bytes| *bytes < u64::from(block))?;
        let path = self.config.filename.display();
        Some(format!(
            "{path} has {bytes} bytes, less than one block of {block}; make it larger, it is then ready by itself"
        ))
    }

    /// Makes the disk NOT READY, unless its file has been opened anew since it was looked at.
    fn displace(&self, generation: u32, trouble: &str) {
        self.watch.displaced.store(true, Ordering::Release);
        self.shared.lose_opening(generation);
        self.tell(trouble);
    }

    /// Logs why the disk is not ready, once.
    fn tell(&self, trouble: &str) {
        let mut told = self.watch.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_deref() != Some(trouble) {
            error!(device = self.config.name, "not ready: {trouble}");
            *told = Some(trouble.to_owned());
        }
    }

    /// Finds out whether the storage can be written; nothing changes when it does not say.
    pub(crate) fn look_at_protection(&self) {
        let Some(open) = self.shared.file().filter(|_| !self.config.read_only) else { return };
        if let Ok(protected) = storage::is_write_protected(&open.file, open.block_device) {
            self.shared.protect_storage(protected);
        }
    }

    /// Tells what has become of the disk since the last time, and tries to open a file that was away; the log gets a line for each
    /// kind of error. To be called every second from the control thread. Waits for the file system only while the disk is not ready.
    pub fn poll(&self) -> Option<Change> {
        self.log_errors();
        if !self.shared.is_online() {
            return self.find();
        }
        let protected = self.shared.is_storage_protected();
        if self.watch.protected.swap(protected, Ordering::Relaxed) == protected {
            return None;
        }
        let (device, file) = (&self.config.name, self.config.filename.display());
        if protected {
            warn!(
                device, %file,
                "the storage is write-protected, initiators are told so (WP); make it writable (blockdev --setrw, mount -o \
                 remount,rw, chattr -i), or set read_only 1"
            );
        } else {
            info!(device, %file, "the storage can be written again");
        }
        // WP is in the header of all mode pages (SBC-4 6.5.1).
        Some(Change { reopened: false, capacity_changed: false, attention: Asc::MODE_PARAMETERS_CHANGED })
    }

    fn log_errors(&self) {
        let (device, file) = (&self.config.name, self.config.filename.display());
        if let Some(errno) = self.flush_error()
            && !self.watch.flush_error.swap(true, Ordering::Relaxed)
        {
            let error = io::Error::from_raw_os_error(errno);
            error!(
                device, %file,
                "written data may be lost: {error}; no flush and no durable write succeeds until the storage is repaired \
                 and the configuration is loaded again (SIGHUP)"
            );
        }
        let lines =
            self.watch.errors.lock().unwrap_or_else(PoisonError::into_inner).lines(&self.shared.errors, Instant::now());
        for line in lines {
            error!(device, %file, "{line}");
        }
    }

    /// Opens a file again that was away, if it is the same one.
    fn find(&self) -> Option<Change> {
        if let Some(open) = self.shared.file()
            && let Some(trouble) = self.misplaced(&open)
        {
            self.watch.displaced.store(true, Ordering::Release);
            self.tell(&trouble);
            return None;
        }
        match self.reopen() {
            Ok(change) => {
                info!(device = self.config.name, "the file is back");
                Some(change)
            }
            Err(OpenError::Away { .. }) => None,
            Err(error @ OpenError::Config(_)) => {
                self.tell(&error.to_string());
                None
            }
        }
    }

    /// Takes the file as it is now, as the operator who asks for it wants it (SIGHUP): another file under the path, a file that is
    /// back or has been repaired, another size. Blocks.
    ///
    /// # Errors
    /// The file is away or does not fit the configuration. The disk is NOT READY then, unless its old file is still in its place.
    pub fn reload(&self) -> Result<Option<Change>, OpenError> {
        if self.config.kind == Kind::Null {
            return Ok(None);
        }
        let generation = self.shared.generation();
        let misplaced = self.shared.file().and_then(|open| self.misplaced(&open));
        if let Some(trouble) = misplaced {
            return self.reopen().map(Some).inspect_err(|_| self.displace(generation, &trouble));
        }
        if !self.shared.is_online() || self.flush_error().is_some() {
            return self.reopen().map(Some);
        }
        self.resync_size().map_err(|source| self.away(source))
    }

    /// Opens the file anew, whatever is under the path: after a flush that failed, when the storage has been repaired, or when the
    /// file has been replaced by another. Blocks.
    ///
    /// # Errors
    /// The file is away or does not fit the configuration; nothing changes then.
    pub fn reopen(&self) -> Result<Change, OpenError> {
        if self.config.kind == Kind::Null {
            let attention = Asc::NOT_READY_TO_READY_CHANGE;
            return Ok(Change { reopened: false, capacity_changed: false, attention });
        }
        let backing = Backing::open(&self.config).map_err(|failure| match failure {
            Failure::Refused(error) => OpenError::Config(error),
            Failure::Away(source) => self.away(source),
        })?;
        let before = self.shared.file();
        let lost = self.flush_error().is_some();
        if lost {
            // What could not be written back is still read from the page cache, as if it were there.
            storage::drop_clean_pages(&backing.open.file);
        }
        let is_other = before.as_ref().is_some_and(|before| before.identity != backing.open.identity);
        let displaced = self.watch.displaced.swap(false, Ordering::AcqRel) || is_other;
        let capacity_changed = self.shared.set_bytes(backing.bytes);
        self.watch.flush_error.store(false, Ordering::Relaxed);
        *self.watch.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.shared.install(Some(mapped::open_file(backing, &self.config)));
        self.look_at_protection();
        let attention = match before.is_some() && (lost || !displaced) {
            // What was cached and not flushed may have gone with the old opening, as in a power loss.
            true => Asc::DEVICE_INTERNAL_RESET,
            // MEDIUM MAY HAVE CHANGED.
            false => Asc::NOT_READY_TO_READY_CHANGE,
        };
        Ok(Change { reopened: true, capacity_changed, attention })
    }

    fn away(&self, source: io::Error) -> OpenError {
        let path = self.config.filename.display().to_string();
        OpenError::Away { device: self.config.name.clone(), path, source }
    }

    /// Takes over the size that the file has now. A file without a whole block makes the disk NOT READY until it is larger. Blocks.
    ///
    /// # Errors
    /// What the system says when asked for the size.
    pub fn resync_size(&self) -> io::Result<Option<Change>> {
        let generation = self.shared.generation();
        let Some(open) = self.shared.file() else { return Ok(None) };
        if let Some(trouble) = self.too_short(&open) {
            self.displace(generation, &trouble);
            return Ok(None);
        }
        let bytes = backing::size(&open.file, open.block_device)?;
        let changed = self.shared.set_bytes(bytes);
        if changed {
            info!(device = self.config.name, bytes, "new size");
        }
        let change = Change { reopened: false, capacity_changed: true, attention: Asc::CAPACITY_DATA_CHANGED };
        Ok(changed.then_some(change))
    }

    /// Lets other devices of this process use the file already now, because this disk is about to be removed or replaced.
    pub fn yield_file(&self) {
        if let Some(open) = self.shared.file() {
            open.claim.set_yields(true);
        }
    }

    /// Takes [`Vdisk::yield_file`] back. When another device has taken the file meanwhile, the disk is NOT READY.
    pub fn keep_file(&self) {
        let generation = self.shared.generation();
        if let Some(open) = self.shared.file()
            && let Some(other) = open.claim.set_yields(false)
        {
            let path = self.config.filename.display();
            self.displace(generation, &format!("device {other} uses {path} now; remove one of them"));
        }
    }
}

/// Whether an error says that there is nothing under a path.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), IoErrorKind::NotFound | IoErrorKind::NotADirectory)
        || error.raw_os_error().is_some_and(|errno| errno == libc::ELOOP || fault::is_gone(errno))
}
