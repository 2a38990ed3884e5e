//! The control side of a virtual disk.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use scst_cmdset::{DiskParameters, Provisioning};
use scst_core::handler::HandlerShard;
use scst_core::io::FileId;
use scst_reactor::backend::FileRegistry;
use scst_scsi::Asc;
use thiserror::Error;
use tracing::warn;

use crate::backing::{Backing, Failure};
use crate::config::{ConfigError, Kind, VdiskConfig};
use crate::direct::Alignment;
use crate::errors::{ErrorCount, ErrorKind};
use crate::mapped;
use crate::queue::Facts;
use crate::shard::{DiskShard, LinkedFile};
use crate::shared::{Medium, Shared};
use crate::watch::Watch;

/// A flush of a reactor that takes longer than this does not end; the control thread does not wait for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a disk could not be made or opened again.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file is away (only from [`Vdisk::reopen`]; [`Vdisk::open`] makes a disk that is not ready).
    #[error("device {device}: {path}: {source}; bring the file back, the device then becomes ready by itself")]
    Away {
        /// The device.
        device: String,
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// What a disk has become. The control plane tells every reactor ([`ShardLink::refresh`]) if the file is another one,
/// and every initiator by a unit attention.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// The file has been opened (again): reactors must register it.
    pub reopened: bool,
    /// The capacity is another one.
    pub capacity_changed: bool,
    /// The unit attention to report: DEVICE INTERNAL RESET when cached writes may be lost, else NOT READY TO READY
    /// CHANGE, CAPACITY DATA HAS CHANGED, or MODE PARAMETERS CHANGED for write-protection. When the capacity is another one,
    /// CAPACITY DATA HAS CHANGED is to be reported in any case.
    pub attention: Asc,
}

/// A disk as an operator sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    /// The file is open, and not known to be gone.
    pub online: bool,
    /// Capacity in bytes.
    pub bytes: u64,
    /// Errno of a flush that failed: written data may be lost. Every flush and every durable write fails until [`Vdisk::reopen`].
    pub flush_error: Option<i32>,
    /// The medium has been ejected by an initiator.
    pub ejected: bool,
}

/// A virtual disk: what the control plane holds.
#[derive(Debug)]
pub struct Vdisk {
    pub(crate) config: VdiskConfig,
    pub(crate) shared: Arc<Shared>,
    pub(crate) watch: Watch,
}

/// A disk's half for one reactor, and the reactor's handle to its file.
pub struct OpenShard {
    /// For the mid-level.
    pub shard: Box<dyn HandlerShard>,
    /// For the reactor's loop.
    pub link: ShardLink,
}

/// How one reactor keeps its registration of the disk's file up to date. Lives on the reactor's thread.
pub struct ShardLink {
    shared: Arc<Shared>,
    file: Rc<Cell<LinkedFile>>,
    /// Which of the disk's shards it is for.
    shard: usize,
}

impl ShardLink {
    /// Registers the file that is behind the disk now, if it is another one than before. Until then the shard answers
    /// NOT READY, IN PROCESS OF BECOMING READY.
    pub fn refresh(&self, files: &mut dyn FileRegistry) {
        let generation = self.shared.generation();
        let old = self.file.get();
        if old.generation == generation {
            return;
        }
        let file = self.shared.with_file(|open| {
            let file = files.register_file(open.for_shard(self.shard), open.block_device);
            files.order_syncs(file, &open.gate);
            if let Some(pages) = &open.pages {
                files.share_pages(file, pages);
            }
            file
        });
        self.file.set(LinkedFile { file, generation });
        if let Some(old) = old.file {
            files.unregister_file(old);
        }
    }

    /// Gives the registration up; to be called when the shard is gone.
    pub fn close(self, files: &mut dyn FileRegistry) {
        if let Some(file) = self.file.take().file {
            files.unregister_file(file);
        }
    }
}

impl Vdisk {
    /// Opens a disk. A backing file that is missing, or too short for one block, is not an error: the disk answers NOT
    /// READY until [`Vdisk::poll`] finds it.
    ///
    /// # Errors
    /// A configuration that is wrong in itself, or for the file that is there.
    pub fn open(config: VdiskConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let mut disk = config.parameters();
        if config.kind == Kind::Null {
            describe(&mut disk, &config, Facts::default(), Below::Nothing);
            let shared = Shared::new(disk, Medium::Null { read_zero: config.read_zero });
            shared.set_bytes(if config.dummy { 0 } else { config.size });
            shared.install(None);
            return Ok(Self { config, shared: Arc::new(shared), watch: Watch::default() });
        }
        let backing = match Backing::open(&config) {
            Ok(backing) => Some(backing),
            Err(Failure::Refused(error)) => return Err(error),
            Err(Failure::Away(error)) => {
                warn!(device = config.name, file = %config.filename.display(), %error, "not ready: the file is away");
                None
            }
        };
        let block_device = backing.as_ref().map_or(config.kind == Kind::Block, |b| b.open.block_device);
        let below = match &backing {
            None if block_device => Below::Unknown,
            _ if block_device => Below::BlockDevice,
            _ => Below::File,
        };
        describe(&mut disk, &config, backing.as_ref().map(Backing::facts).unwrap_or_default(), below);
        let shared = Shared::new(disk, medium(&config));
        if let Some(backing) = backing {
            shared.set_bytes(backing.bytes);
            shared.install(Some(mapped::open_file(backing, &config)));
        }
        let disk = Self { config, shared: Arc::new(shared), watch: Watch::default() };
        disk.look_at_protection();
        Ok(disk)
    }

    /// A FILEIO disk of so many bytes over files that only back-ends know (the simulator's); its shards come from
    /// [`Vdisk::open_shard_on`].
    ///
    /// # Errors
    /// A wrong configuration.
    pub fn simulated(config: VdiskConfig, bytes: u64) -> Result<Self, ConfigError> {
        Self::over(config, bytes, Facts { discard_granularity: 4096, ..Facts::default() }, Below::File)
    }

    /// The same over a block device that is like this.
    #[cfg(test)]
    pub(crate) fn described(config: VdiskConfig, bytes: u64, facts: Facts) -> Result<Self, ConfigError> {
        Self::over(config, bytes, facts, Below::BlockDevice)
    }

    fn over(config: VdiskConfig, bytes: u64, facts: Facts, below: Below) -> Result<Self, ConfigError> {
        config.validate()?;
        let mut disk = config.parameters();
        describe(&mut disk, &config, facts, below);
        let shared = Shared::new(disk, medium(&config));
        shared.set_bytes(bytes);
        shared.install(None);
        shared.set_volatile_cache(facts.volatile_cache);
        shared.align(Alignment { memory: 512, sector: config.block_size });
        Ok(Self { config, shared: Arc::new(shared), watch: Watch::default() })
    }

    /// The disk's half for one reactor. To be called on the reactor's thread, with its back-end.
    pub fn open_shard(&self, files: &mut dyn FileRegistry) -> OpenShard {
        let file = Rc::new(Cell::new(LinkedFile::default()));
        let shard = self.shared.next_shard();
        let link = ShardLink { shared: Arc::clone(&self.shared), file: Rc::clone(&file), shard };
        link.refresh(files);
        OpenShard { shard: Box::new(DiskShard::new(Arc::clone(&self.shared), file)), link }
    }

    /// The same over a file that the back-end knows already.
    pub fn open_shard_on(&self, file: FileId) -> Box<dyn HandlerShard> {
        let file = Rc::new(Cell::new(LinkedFile { file: Some(file), generation: self.shared.generation() }));
        Box::new(DiskShard::new(Arc::clone(&self.shared), file))
    }

    /// What its shards share, for tests.
    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Name of the device.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The settings it was opened with.
    pub fn config(&self) -> &VdiskConfig {
        &self.config
    }

    /// Identity and properties as initiators see them.
    pub fn parameters(&self) -> &DiskParameters {
        &self.shared.disk
    }

    /// What an operator wants to know.
    pub fn status(&self) -> Status {
        let geometry = self.shared.geometry();
        Status {
            online: self.shared.is_online(),
            bytes: geometry.offset(geometry.blocks),
            flush_error: self.flush_error(),
            ejected: self.shared.is_ejected(),
        }
    }

    /// Errno of the first flush that failed since the file was opened, on whatever reactor.
    pub(crate) fn flush_error(&self) -> Option<i32> {
        self.shared.flush_error().or_else(|| self.shared.sync_error())
    }

    /// Counts what the storage failed to do since the disk was made.
    pub fn storage_errors(&self, kind: ErrorKind) -> ErrorCount {
        self.shared.errors.count(kind)
    }

    /// Sets the size of a NULLIO disk.
    ///
    /// # Errors
    /// A size that is no whole number of blocks, or a disk whose size is that of its file.
    pub fn set_size(&self, bytes: u64) -> Result<Option<Change>, ConfigError> {
        let config = VdiskConfig { size: bytes, ..self.config.clone() };
        if self.config.kind != Kind::Null {
            let remedy = "change the size of the file, then resync_size";
            return Err(config.error("size", &bytes.to_string(), "the size is that of the file", remedy));
        }
        config.validate()?;
        let change = Change { reopened: false, capacity_changed: true, attention: Asc::CAPACITY_DATA_CHANGED };
        Ok(self.shared.set_bytes(bytes).then_some(change))
    }

    /// Makes everything written durable (a graceful stop, the attribute `sync`). Blocks.
    ///
    /// # Errors
    /// The error of the storage, also that of an earlier flush: written data may be lost.
    pub fn sync(&self) -> io::Result<()> {
        if let Some(errno) = self.shared.flush_error() {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let Some(open) = self.shared.file() else { return Ok(()) };
        open.gate.sync(PATIENCE, || open.file.sync_data())?;
        match self.misplaced(&open) {
            Some(trouble) if !self.config.read_only => Err(io::Error::new(io::ErrorKind::NotFound, trouble)),
            _ => Ok(()),
        }
    }
}

fn medium(config: &VdiskConfig) -> Medium {
    Medium::File { direct: config.is_direct(), mapped: config.zero_copy_read }
}

/// What kind of storage a disk is described for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Below {
    /// None.
    Nothing,
    /// A regular file: holes read as zeros, and space can be set aside without being written.
    File,
    /// A block device; its queue says what it can do.
    BlockDevice,
    /// A block device that is away.
    Unknown,
}

/// Fills in what follows from the storage.
fn describe(disk: &mut DiskParameters, config: &VdiskConfig, facts: Facts, below: Below) {
    let block_size = u64::from(config.block_size);
    if config.report_physical_blocks && facts.physical_block > block_size {
        disk.physical_exponent = (facts.physical_block / block_size).ilog2() as u8;
    }
    disk.rotational = config.rotational.or(facts.rotational).unwrap_or(true);
    if !config.thin_provisioned {
        return;
    }
    if below == Below::BlockDevice && facts.max_discard == 0 {
        let file = config.filename.display();
        warn!(device = config.name, %file, "the block device cannot discard: thin_provisioned has no effect");
        return;
    }
    let blocks = |bytes: u64| u32::try_from(bytes / block_size).unwrap_or(u32::MAX);
    disk.provisioning = Some(Provisioning {
        granularity: blocks(facts.discard_granularity).max(1),
        alignment: blocks(facts.discard_alignment),
        // Some queues take terabytes at once; the other commands would wait for that.
        max_unmap_blocks: match (facts.max_discard_to_zeroes, facts.max_discard) {
            (0, 0) => disk.default_max_unmap_blocks(),
            (0, most) | (most, _) => blocks(most).clamp(1, disk.default_max_unmap_blocks()),
        },
        // What a mere discard leaves behind is undefined.
        reads_zeros: matches!(below, Below::Nothing | Below::File) || facts.max_discard_to_zeroes > 0,
        anchor: below == Below::File,
    });
}
