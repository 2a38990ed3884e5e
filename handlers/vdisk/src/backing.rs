//! Opening what is behind a FILEIO disk, and what the system says of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use crate::config::{ConfigError, VdiskConfig};

/// An open file or block device.
#[derive(Clone, Debug)]
pub(crate) struct Backing {
    pub(crate) file: Arc<File>,
    pub(crate) block_device: bool,
    pub(crate) bytes: u64,
}

/// Properties of the storage that the disk reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Facts {
    /// Bytes of a physical block, 0 when unknown.
    pub(crate) physical_block: u64,
    /// Bytes that are deallocated together, 0 when unknown.
    pub(crate) discard_granularity: u64,
}

/// Why a file could not be opened.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It is away, and may come back.
    Away(io::Error),
    /// It will not work like this.
    Refused(ConfigError),
}

impl Backing {
    /// Opens the file of a configuration.
    pub(crate) fn open(config: &VdiskConfig) -> Result<Self, Failure> {
        let path = &config.filename;
        let shown = path.to_string_lossy();
        // A look before the open: to open a FIFO would block, and some devices act on being opened.
        let meta = fs::metadata(path).map_err(|error| classify(config, error))?;
        let block_device = meta.file_type().is_block_device();
        if !block_device && !meta.is_file() {
            let remedy = "name a regular file or a block device";
            return Err(Failure::Refused(config.error(
                "filename",
                &shown,
                "neither a file nor a block device",
                remedy,
            )));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(!config.read_only);
        if config.o_direct {
            options.custom_flags(libc::O_DIRECT);
        }
        let file = options.open(path).map_err(|error| classify(config, error))?;
        let backing = Self { bytes: size(&file).map_err(Failure::Away)?, block_device, file: Arc::new(file) };
        backing.check_alignment(config)?;
        if backing.bytes < u64::from(config.block_size) {
            let short = format!("{} bytes are less than one block of {}", backing.bytes, config.block_size);
            return Err(Failure::Away(io::Error::new(io::ErrorKind::UnexpectedEof, short)));
        }
        Ok(backing)
    }

    /// Whether blocks of the configured size can be read: O_DIRECT wants at least the logical block size of the device
    /// below. Trying it is the only test that is right for every file system.
    fn check_alignment(&self, config: &VdiskConfig) -> Result<(), Failure> {
        /// Memory as command buffers have it.
        #[repr(align(4096))]
        struct Page([u8; 4096]);
        if !config.o_direct {
            return Ok(());
        }
        let block = config.block_size;
        let mut page = Page([0; 4096]);
        let piece = &mut page.0[..block.min(4096) as usize];
        // The second block is at an offset that is aligned to no more than a block.
        match self.file.read_at(piece, u64::from(block)) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                let problem = format!("the storage cannot transfer blocks of {block} bytes past the page cache");
                let remedy = "use a larger blocksize (4096), or o_direct 0";
                Err(Failure::Refused(config.error("o_direct", "1", &problem, remedy)))
            }
            _ => Ok(()),
        }
    }

    /// What the system knows of the storage.
    pub(crate) fn facts(&self) -> Facts {
        let Ok(meta) = self.file.metadata() else { return Facts::default() };
        if !self.block_device {
            return Facts { physical_block: 0, discard_granularity: meta.blksize() };
        }
        let (major, minor) = (libc::major(meta.rdev()), libc::minor(meta.rdev()));
        let device = format!("/sys/dev/block/{major}:{minor}");
        // A partition has no queue of its own.
        let read = |name: &str| {
            let here = Path::new(&device).join("queue").join(name);
            let parent = Path::new(&device).join("../queue").join(name);
            let text = fs::read_to_string(here).or_else(|_| fs::read_to_string(parent)).ok()?;
            text.trim().parse().ok()
        };
        Facts {
            physical_block: read("physical_block_size").unwrap_or(0),
            discard_granularity: read("discard_granularity").unwrap_or(0),
        }
    }
}

/// Size in bytes; the end of a block device is where a seek to the end goes. Nothing else uses the file position.
pub(crate) fn size(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

/// Whether an error is that of a file that is away, or of a wrong configuration.
fn classify(config: &VdiskConfig, error: io::Error) -> Failure {
    let refused = |problem: &str, remedy: &str| {
        Failure::Refused(config.error("filename", &config.filename.to_string_lossy(), problem, remedy))
    };
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => refused("permission denied", "let the daemon's user read and write it"),
        Some(libc::EROFS) => refused("is on a read-only file system", "set read_only 1, or mount it for writing"),
        Some(libc::EISDIR | libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG) => {
            refused(&format!("cannot be opened: {error}"), "name a regular file or a block device")
        }
        Some(libc::EBUSY) => refused("is in use", "unmount it, or stop what uses it"),
        Some(libc::EINVAL) if config.o_direct => {
            Failure::Refused(config.error("o_direct", "1", "the file system has no O_DIRECT", "set o_direct 0"))
        }
        _ => Failure::Away(error),
    }
}
