//! Which file a path leads to.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// What makes a file the same file, whatever its path. While it is open, no other can have the same identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Identity {
    /// A regular file.
    File {
        /// Number of its file system.
        device: u64,
        /// Its number there.
        inode: u64,
    },
    /// A block device, whatever node leads to it.
    Device {
        /// Its number.
        number: u64,
        /// How many disks the kernel had known when this one came (Linux 5.15; else 0). Another medium under the same number, such as
        /// a loop device that was set up again, has another.
        sequence: u64,
    },
}

impl Identity {
    /// Says which file it is that the metadata are of.
    pub(crate) fn of(meta: &Metadata) -> Self {
        if !meta.file_type().is_block_device() {
            return Self::File { device: meta.dev(), inode: meta.ino() };
        }
        let (major, minor) = (libc::major(meta.rdev()), libc::minor(meta.rdev()));
        // A partition has the sequence of its disk.
        let read = |path: &str| fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/{path}")).ok();
        let sequence = read("diskseq").or_else(|| read("../diskseq"));
        let sequence = sequence.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Self::Device { number: meta.rdev(), sequence }
    }

    /// Says which file a path leads to.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::of(&fs::metadata(path)?))
    }

    /// Tells whether it is a block device.
    pub(crate) fn is_block_device(self) -> bool {
        matches!(self, Self::Device { .. })
    }
}
