//! What all shards of a disk share: immutable identity, atomics for the hot path, locks around what changes slowly.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scst_cmdset::{DiskParameters, DiskState, Geometry, ModePages, ModeValues};
use scst_core::handler::ControlSettings;
use scst_mem::FilePages;
use scst_reactor::SyncGate;

use crate::claim::Claim;
use crate::counters::Counters;
use crate::direct::Alignment;
use crate::errors::StorageErrors;
use crate::identity::Identity;

/// What is behind the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Medium {
    /// A file or block device.
    File {
        /// Past the page cache (O_DIRECT): transfers have to be aligned.
        direct: bool,
        /// Large READs are answered with the page cache itself.
        mapped: bool,
    },
    /// Nothing.
    Null {
        /// Reads give zeros.
        read_zero: bool,
    },
}

/// The open file, as shards register it.
#[derive(Clone, Debug)]
pub(crate) struct OpenFile {
    /// The control plane's own.
    pub(crate) file: Arc<File>,
    /// The same file opened again for each reactor. An error of writeback is told once to every open file description,
    /// to whoever asks first: with a shared one, a flush on another reactor would hear that all is well.
    pub(crate) reactors: Vec<Arc<File>>,
    pub(crate) block_device: bool,
    /// A durable write of one operation (RWF_DSYNC) cannot be trusted: see [`Shared::syncs_apart`].
    pub(crate) volatile_cache: bool,
    /// What the syncs of this opening pass, one at a time, on all reactors.
    pub(crate) gate: Arc<SyncGate>,
    /// Its page-cached data, for READs that are answered with them.
    pub(crate) pages: Option<Arc<FilePages>>,
    /// What O_DIRECT asks for.
    pub(crate) alignment: Alignment,
    /// Which file it is.
    pub(crate) identity: Identity,
    /// Keeps others from writing it.
    pub(crate) claim: Arc<Claim>,
}

impl OpenFile {
    /// The one for the shard that was opened as number `shard`.
    pub(crate) fn for_shard(&self, shard: usize) -> Arc<File> {
        let own = self.reactors.get(shard % self.reactors.len().max(1));
        Arc::clone(own.unwrap_or(&self.file))
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) disk: DiskParameters,
    pub(crate) medium: Medium,
    /// The backing file is open and not known to be gone.
    online: AtomicBool,
    /// The medium has been ejected by START STOP UNIT.
    ejected: AtomicBool,
    blocks: AtomicU64,
    /// The [`Alignment`] of the open file, both numbers in one word.
    alignment: AtomicU64,
    /// Shards opened so far.
    shards: AtomicUsize,
    /// Changes with every reopening.
    generation: AtomicU32,
    write_cache: AtomicBool,
    software_write_protect: AtomicBool,
    /// The storage cannot be written.
    storage_protected: AtomicBool,
    syncs_apart: AtomicBool,
    /// Errno of a flush that failed, 0 if none did. The kernel reports a lost write to one flush only and counts the
    /// pages as clean after that, so it is kept here until the file is reopened.
    flush_error: AtomicI32,
    /// Writes have been answered before they were durable.
    cached_writes: AtomicBool,
    start_stop_cycles: AtomicU32,
    pages: Mutex<ModePages>,
    file: Mutex<Option<OpenFile>>,
    counters: Mutex<Vec<Arc<Counters>>>,
    /// What the storage failed to do.
    pub(crate) errors: StorageErrors,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section here leaves the value whole at each step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(disk: DiskParameters, medium: Medium) -> Self {
        let pages = ModePages::new(&disk);
        Self {
            write_cache: AtomicBool::new(pages.current.write_cache),
            software_write_protect: AtomicBool::new(pages.current.software_write_protect),
            syncs_apart: AtomicBool::new(!matches!(medium, Medium::File { direct: true, .. })),
            disk,
            medium,
            storage_protected: AtomicBool::new(false),
            errors: StorageErrors::default(),
            online: AtomicBool::new(false),
            ejected: AtomicBool::new(false),
            blocks: AtomicU64::new(0),
            alignment: AtomicU64::new(1 << 32 | 1),
            shards: AtomicUsize::new(0),
            generation: AtomicU32::new(0),
            flush_error: AtomicI32::new(0),
            cached_writes: AtomicBool::new(false),
            start_stop_cycles: AtomicU32::new(0),
            pages: Mutex::new(pages),
            file: Mutex::new(None),
            counters: Mutex::new(Vec::new()),
        }
    }

    /// The disk as it is now, for a nexus whose LUN may be read-only.
    pub(crate) fn state(&self, read_only: bool) -> DiskState {
        DiskState {
            geometry: self.geometry(),
            medium_present: self.is_ready(),
            read_only: read_only || self.is_storage_protected(),
            software_write_protect: self.is_write_protected(),
        }
    }

    /// There is a medium.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_online() && !self.is_ejected()
    }

    /// SWP of the control mode page.
    pub(crate) fn is_write_protected(&self) -> bool {
        self.software_write_protect.load(Ordering::Relaxed)
    }

    /// The storage cannot be written, whatever it was opened for: WP is one.
    pub(crate) fn is_storage_protected(&self) -> bool {
        self.storage_protected.load(Ordering::Relaxed)
    }

    /// Sets whether the storage can be written.
    pub(crate) fn protect_storage(&self, protected: bool) {
        self.storage_protected.store(protected, Ordering::Relaxed);
    }

    pub(crate) fn geometry(&self) -> Geometry {
        Geometry { block_size: self.disk.block_size, blocks: self.blocks.load(Ordering::Acquire) }
    }

    /// Sets the capacity; returns whether it is another one.
    pub(crate) fn set_bytes(&self, bytes: u64) -> bool {
        let blocks = Geometry::new(self.disk.block_size, bytes).blocks;
        self.blocks.swap(blocks, Ordering::AcqRel) != blocks
    }

    pub(crate) fn is_online(&self) -> bool {
        self.online.load(Ordering::Acquire)
    }

    /// The storage says that it is gone; the control plane tries to open it again.
    pub(crate) fn lose(&self) {
        self.online.store(false, Ordering::Release);
    }

    /// Takes the disk away, if its file is still that of this generation.
    pub(crate) fn lose_opening(&self, generation: u32) {
        // `install` puts the file in its place under this lock before it says that the disk is online.
        let _file = locked(&self.file);
        if self.generation() == generation {
            self.lose();
        }
    }

    /// Makes a file the one behind the disk, or (None) a disk without a file ready. What flushes failed on the file
    /// before is no longer to be told.
    pub(crate) fn install(&self, file: Option<OpenFile>) {
        self.set_volatile_cache(file.as_ref().is_some_and(|open| open.volatile_cache));
        self.align(file.as_ref().map_or(Alignment::NONE, |open| open.alignment));
        *locked(&self.file) = file;
        self.flush_error.store(0, Ordering::Release);
        self.cached_writes.store(false, Ordering::Release);
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.online.store(true, Ordering::Release);
    }

    /// Sets what [`Shared::alignment`] says of a file that was opened with O_DIRECT.
    pub(crate) fn align(&self, Alignment { memory, sector }: Alignment) {
        self.alignment.store(u64::from(memory) << 32 | u64::from(sector), Ordering::Release);
    }

    /// What transfers must be aligned to.
    pub(crate) fn alignment(&self) -> Alignment {
        if !self.is_direct() {
            return Alignment::NONE;
        }
        let word = self.alignment.load(Ordering::Acquire);
        Alignment { memory: (word >> 32) as u32, sector: word as u32 }
    }

    /// Whether transfers go past the page cache.
    pub(crate) fn is_direct(&self) -> bool {
        matches!(self.medium, Medium::File { direct: true, .. })
    }

    /// Sets what is known of the cache of the storage.
    pub(crate) fn set_volatile_cache(&self, volatile: bool) {
        self.syncs_apart.store(volatile || !self.is_direct(), Ordering::Release);
    }

    /// Whether a durable write is a write and a flush after it. With RWF_DSYNC each write syncs by itself, and an error is told to
    /// one of those that sync at the same time, whosever data are lost; flushes share their result. Past the page cache, with no
    /// cache below that is known of, a write hears of its own error, and one operation will do.
    pub(crate) fn syncs_apart(&self) -> bool {
        self.syncs_apart.load(Ordering::Acquire)
    }

    /// The number of a new shard.
    pub(crate) fn next_shard(&self) -> usize {
        self.shards.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn file(&self) -> Option<OpenFile> {
        locked(&self.file).clone()
    }

    /// Calls `f` with the open file. Nothing of it is kept, so that its claim is given up on the control thread.
    pub(crate) fn with_file<R>(&self, f: impl FnOnce(&OpenFile) -> R) -> Option<R> {
        locked(&self.file).as_ref().map(f)
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    /// Errno of the first flush that failed since the file was opened.
    pub(crate) fn flush_error(&self) -> Option<i32> {
        Some(self.flush_error.load(Ordering::Acquire)).filter(|errno| *errno != 0)
    }

    /// Errno of the first sync that failed since the file was opened, whether its command has been told or not. Locks.
    pub(crate) fn sync_error(&self) -> Option<i32> {
        locked(&self.file).as_ref()?.gate.error()
    }

    /// Notes that a flush has failed.
    pub(crate) fn flush_failed(&self, errno: i32) {
        let _ = self.flush_error.compare_exchange(0, errno, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Notes that data have been written that only a flush makes durable.
    pub(crate) fn write_cached(&self) {
        // Nearly always set already: reading it leaves the line shared between the reactors.
        if !self.cached_writes.load(Ordering::Relaxed) {
            self.cached_writes.store(true, Ordering::Relaxed);
        }
    }

    /// Whether an I/O error can be that of earlier, cached writes.
    pub(crate) fn has_cached_writes(&self) -> bool {
        self.cached_writes.load(Ordering::Relaxed)
    }

    /// Whether a write must be durable before it is answered. With a non-volatile cache it is as good as durable.
    pub(crate) fn is_durable(&self, fua: bool) -> bool {
        !self.disk.nv_cache && (fua || !self.write_cache.load(Ordering::Relaxed))
    }

    /// Whether there can be data that only a flush makes durable.
    pub(crate) fn has_volatile_cache(&self) -> bool {
        !self.disk.nv_cache && self.write_cache.load(Ordering::Relaxed)
    }

    pub(crate) fn pages(&self) -> ModePages {
        *locked(&self.pages)
    }

    /// Changes the mode pages and what the hot path knows of them; returns the new control settings.
    pub(crate) fn change_pages(&self, change: impl FnOnce(&mut ModePages)) -> ControlSettings {
        let mut pages = locked(&self.pages);
        change(&mut pages);
        self.write_cache.store(pages.current.write_cache, Ordering::Relaxed);
        self.software_write_protect.store(pages.current.software_write_protect, Ordering::Relaxed);
        control_settings(&pages.current)
    }

    pub(crate) fn control(&self) -> ControlSettings {
        control_settings(&locked(&self.pages).current)
    }

    pub(crate) fn set_ejected(&self, ejected: bool) {
        if self.ejected.swap(ejected, Ordering::AcqRel) != ejected {
            self.start_stop_cycles.fetch_add(u32::from(!ejected), Ordering::Relaxed);
        }
    }

    pub(crate) fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Acquire)
    }

    pub(crate) fn start_stop_cycles(&self) -> u32 {
        self.start_stop_cycles.load(Ordering::Relaxed)
    }

    /// Counters for a new shard.
    pub(crate) fn new_counters(&self) -> Arc<Counters> {
        let counters = Arc::new(Counters::default());
        locked(&self.counters).push(Arc::clone(&counters));
        counters
    }

    /// Calls `f` with the counters of every shard there ever was.
    pub(crate) fn each_counters(&self, f: impl FnMut(&Arc<Counters>)) {
        locked(&self.counters).iter().for_each(f);
    }
}

/// What the mid-level obeys of the control mode page.
fn control_settings(values: &ModeValues) -> ControlSettings {
    ControlSettings {
        task_set_per_nexus: values.task_set_per_nexus,
        descriptor_sense: values.descriptor_sense,
        task_aborted_status: values.task_aborted_status,
        write_protect: values.software_write_protect,
        restricted_reordering: !values.unrestricted_reordering,
        queue_error: values.queue_error,
    }
}
