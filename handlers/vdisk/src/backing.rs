//! Opening what is behind a disk, and what the system says of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use scst_reactor::storage::{self, DirectAlignment, DirectSupport};
use tracing::warn;

use crate::claim::Claim;
use crate::config::{ConfigError, Kind, MAX_BLOCK_SIZE, VdiskConfig};
use crate::direct::Alignment;
use crate::identity::Identity;
use crate::queue::{self, Facts};
use crate::shared::OpenFile;

/// The alignment of arenas of buffers: no more can be promised of memory.
const PAGE: u32 = 4096;

/// An open file or block device.
#[derive(Clone, Debug)]
pub(crate) struct Backing {
    pub(crate) open: OpenFile,
    pub(crate) bytes: u64,
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
        // A look before the open: to open a FIFO would block, and some devices act on being opened.
        let meta = fs::metadata(path).map_err(|error| classify(config, error))?;
        let block_device = meta.file_type().is_block_device();
        let refused = |problem: &str, remedy: &str| {
            Failure::Refused(config.error("filename", &path.to_string_lossy(), problem, remedy))
        };
        if !block_device && !meta.is_file() {
            return Err(refused("neither a file nor a block device", "name a regular file or a block device"));
        }
        if !block_device && config.kind == Kind::Block {
            let remedy = "name a block device, or use the handler vdisk_fileio with o_direct 1";
            return Err(refused("not a block device", remedy));
        }
        let file = open(config, if config.is_direct() { libc::O_DIRECT } else { 0 })?;
        let bytes = size(&file, block_device).map_err(Failure::Away)?;
        let alignment = alignment(&file, block_device, config)?;
        if bytes < u64::from(config.block_size) {
            let short = format!("{bytes} bytes are less than one block of {}", config.block_size);
            return Err(Failure::Away(io::Error::new(io::ErrorKind::UnexpectedEof, short)));
        }
        // What was opened counts, not what the path leads to now.
        let identity = Identity::of(&file.metadata().map_err(Failure::Away)?);
        let claim = Claim::new(config, &file, identity).map_err(Failure::Refused)?;
        let reactors = open_for_reactors(&file, config);
        let file = Arc::new(file);
        let (gate, pages, volatile_cache) = (Arc::default(), None, false);
        let open = OpenFile { file, reactors, block_device, volatile_cache, gate, pages, alignment, identity, claim };
        let mut backing = Self { open, bytes };
        backing.open.volatile_cache = backing.facts().volatile_cache;
        Ok(backing)
    }

    /// What the system knows of the storage.
    pub(crate) fn facts(&self) -> Facts {
        let Ok(meta) = self.open.file.metadata() else { return Facts::default() };
        if !self.open.block_device {
            return Facts { discard_granularity: meta.blksize(), ..Facts::default() };
        }
        let (major, minor) = (libc::major(meta.rdev()), libc::minor(meta.rdev()));
        queue::facts(Path::new(&format!("/sys/dev/block/{major}:{minor}")))
    }
}

fn open(config: &VdiskConfig, flags: i32) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    options.read(true).write(!config.read_only).custom_flags(flags);
    options.open(&config.filename).map_err(|error| classify(config, error))
}

/// Opens it once more for each reactor. Where that fails, for want of descriptors for instance, the disk works all the
/// same; only an error of writeback may then be told to one reactor alone.
fn open_for_reactors(file: &File, config: &VdiskConfig) -> Vec<Arc<File>> {
    let flags = if config.is_direct() { libc::O_DIRECT } else { 0 };
    let again = || storage::open_again(file, &config.filename, !config.read_only, flags);
    let opened: io::Result<Vec<_>> = (0..config.reactors).map(|_| again().map(Arc::new)).collect();
    opened.unwrap_or_else(|error| {
        let (device, file) = (&config.name, config.filename.display());
        warn!(device, %file, %error, "the file cannot be opened for each reactor; they share it");
        Vec::new()
    })
}

/// What transfers have to be aligned to, and whether the configured blocks are.
///
/// Blocks smaller than a sector are refused: to write one would be to read and write the others of its sector, and no
/// lock would keep the commands of other reactors from falling in between.
fn alignment(file: &File, block_device: bool, config: &VdiskConfig) -> Result<Alignment, Failure> {
    let block = config.block_size;
    if !config.is_direct() {
        return Ok(Alignment::NONE);
    }
    let attribute = |problem: &str, remedy: &str| match config.kind {
        Kind::Block => Failure::Refused(config.error("blocksize", &block.to_string(), problem, remedy)),
        _ => Failure::Refused(config.error("o_direct", "1", problem, &format!("{remedy}, or o_direct 0"))),
    };
    let support = storage::direct_support(file, block_device).map_err(|error| classify(config, error))?;
    let alignment = match support {
        DirectSupport::Impossible => return Err(no_direct(config)),
        DirectSupport::Aligned(DirectAlignment { memory, offset }) => Alignment { memory, sector: offset },
        // As much as a block of the pool has.
        DirectSupport::Unknown => Alignment { memory: block.min(PAGE), sector: block },
    };
    let Alignment { memory, sector } = alignment;
    if !sector.is_power_of_two() || !memory.is_power_of_two() || memory > PAGE {
        let problem = format!("the storage wants memory aligned to {memory} and sectors of {sector} bytes");
        return Err(attribute(&problem, "use other storage"));
    }
    if sector > block {
        let problem = format!("the sectors of the storage have {sector} bytes, blocks of {block} are smaller");
        return Err(attribute(&problem, &format!("use blocksize {sector}")));
    }
    if !reads_a_block(file, block) {
        let problem = format!("the storage cannot transfer blocks of {block} bytes past the page cache");
        return Err(attribute(&problem, "use a larger blocksize (4096)"));
    }
    Ok(alignment)
}

/// Whether a block of the configured size can be read. Trying it is the only test that is right for every file system.
fn reads_a_block(file: &File, block: u32) -> bool {
    /// Memory as command buffers have it.
    #[repr(align(4096))]
    struct Memory([u8; MAX_BLOCK_SIZE as usize]);
    let mut memory = Box::new(Memory([0; MAX_BLOCK_SIZE as usize]));
    // The second block is at an offset that is aligned to no more than a block.
    let read = file.read_at(&mut memory.0[..block as usize], u64::from(block));
    !read.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
}

/// Size in bytes. The end of a file is where a seek to the end goes; nothing else uses the file position.
pub(crate) fn size(mut file: &File, block_device: bool) -> io::Result<u64> {
    if block_device { storage::block_device_bytes(file) } else { file.seek(SeekFrom::End(0)) }
}

fn no_direct(config: &VdiskConfig) -> Failure {
    let (file, problem) = (config.filename.to_string_lossy(), "it cannot be read past the page cache (O_DIRECT)");
    Failure::Refused(match config.kind {
        Kind::Block => config.error("filename", &file, problem, "use the handler vdisk_fileio"),
        _ => config.error("o_direct", "1", "the file system has no O_DIRECT", "set o_direct 0"),
    })
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
        Some(libc::EINVAL) if config.is_direct() => no_direct(config),
        _ => Failure::Away(error),
    }
}
