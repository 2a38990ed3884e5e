//! Storage operations of the simulated world.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use scst_core::Nanos;
use scst_core::buffer::Extent;
use scst_core::ids::CmdId;
use scst_core::io::{FileId, IoCompletion, IoOp, IoToken, QueueFull};

use super::backend::SimWake;
use super::disk::{DiskState, identity};
use super::image::Image;
use super::net::{copy_in, copy_out};
use super::world::{Event, World};
use crate::backend::Completion;
use crate::file::file_of;
use crate::sync::{FileSync, Next};

/// Transfers are never torn within such a unit of the disk.
const UNIT: u64 = 4096;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Read { offset: u64 },
    Write { file: u32, offset: u64, dsync: bool },
    Flush { file: u32 },
    Nothing,
    Discard { offset: u64, len: u64 },
    Zero { offset: u64, len: u64 },
    Allocate { offset: u64, len: u64 },
    Mapped { offset: u64, len: u64 },
}

/// A registered file.
pub(crate) struct SimFile {
    disk: usize,
    /// The errors of writeback that this open file description has been told.
    known: u64,
    pub(crate) sync: FileSync,
    /// Writes up to this one are what the sync under way is for.
    sequence: u64,
}

/// An operation in flight.
pub(crate) struct SimOp {
    token: IoToken,
    disk: usize,
    kind: Kind,
    extents: Vec<Extent>,
    len: u32,
    /// Bytes moved so far.
    moved: u32,
    cancelled: bool,
    /// Cancelling does not help.
    hung: bool,
}

/// How long an operation hangs that hangs.
const HANG: (Nanos, Nanos) = (Nanos::from_secs(2), Nanos::from_secs(60));

impl World {
    pub(crate) fn register(&mut self, n: usize, file: &File) -> FileId {
        let identity = identity(file);
        let disk = match self.disks.iter().position(|d| d.identity == identity) {
            Some(disk) => disk,
            None => {
                self.disks.push(DiskState::new(copy_of(file), identity));
                self.disks.len() - 1
            }
        };
        let sync = FileSync::new(Arc::new(SimWake(Arc::clone(&self.backends[n].granted))));
        let file = SimFile { disk, known: self.disks[disk].errors.sample(), sync, sequence: 0 };
        let Ok(id) = self.backends[n].files.insert(file) else {
            // Only a back-end that has crashed has no room; whatever it does is lost anyway.
            return FileId(u32::MAX);
        };
        FileId(id)
    }

    pub(crate) fn submit_io(&mut self, n: usize, token: IoToken, op: &IoOp<'_>) -> Result<(), QueueFull> {
        if !self.backends[n].alive {
            return Ok(());
        }
        let faults = self.config.disk;
        if self.rng.chance(faults.queue_full) {
            return Err(QueueFull);
        }
        let file = file_of(op);
        let Some(&SimFile { disk, .. }) = self.backends[n].files.get(file) else {
            self.complete_io(n, token, -libc::EBADF, 0);
            return Ok(());
        };
        let (kind, extents) = match *op {
            IoOp::Read { offset, sg, sg_offset, len, .. } => {
                (Kind::Read { offset }, sg.range(sg_offset, len).collect())
            }
            IoOp::Write { offset, sg, sg_offset, len, dsync, .. } => {
                (Kind::Write { file, offset, dsync }, sg.range(sg_offset, len).collect())
            }
            IoOp::Flush { .. } => (Kind::Flush { file }, Vec::new()),
            IoOp::Prefetch { .. } => (Kind::Nothing, Vec::new()),
            IoOp::Discard { offset, len, .. } | IoOp::Trim { offset, len, .. } => {
                (Kind::Discard { offset, len }, Vec::new())
            }
            IoOp::Zero { offset, len, .. } => (Kind::Zero { offset, len }, Vec::new()),
            IoOp::Allocate { offset, len, .. } => (Kind::Allocate { offset, len }, Vec::new()),
            IoOp::Mapped { offset, len, .. } => (Kind::Mapped { offset, len }, Vec::new()),
        };
        if extents.iter().any(|e| self.backends[n].arenas.resolve(*e).is_none()) {
            self.complete_io(n, token, -libc::EFAULT, 0);
            return Ok(());
        }
        let len = extents.iter().map(|e: &Extent| e.len).sum();
        let hung = faults.hang > 0 && self.rng.chance(faults.hang);
        let op = SimOp { token, disk, kind, extents, len, moved: 0, cancelled: false, hung };
        let Ok(key) = self.backends[n].ops.insert(op) else { return Err(QueueFull) };
        if let Kind::Flush { .. } = kind {
            if let Some(entry) = self.file_mut(n, file) {
                entry.sync.join(key);
            }
            self.sync(n, file);
            return Ok(());
        }
        let end = self.now.after(self.time_of_operation(hung));
        self.note("submit", u64::from(key), u64::from(token.cmd.index), u64::from(len));
        if len > 0 && self.rng.chance(faults.split) {
            let middle = self.rng.between(self.now.0, end.0);
            self.schedule(Nanos(middle), Event::IoPart { backend: n, key });
        }
        self.schedule(end, Event::IoEnd { backend: n, key });
        Ok(())
    }

    /// A transfer through a page cache that has its pages at hand, now and then, and now and then only some of them.
    pub(crate) fn try_io(&mut self, n: usize, op: &IoOp<'_>) -> Option<i32> {
        let faults = self.config.disk;
        let (write, offset, sg, sg_offset, len) = match *op {
            IoOp::Read { offset, sg, sg_offset, len, .. } => (false, offset, sg, sg_offset, len),
            IoOp::Write { offset, sg, sg_offset, len, dsync: false, .. } => (true, offset, sg, sg_offset, len),
            _ => return None,
        };
        if !self.backends[n].alive || !self.rng.chance(faults.cached) {
            return None;
        }
        let disk = self.backends[n].files.get(file_of(op))?.disk;
        if self.fault_at(disk, offset, len).is_some() {
            return None;
        }
        let mut to = len;
        if len > 512 && self.rng.chance(faults.short) {
            to = self.rng.between(1, u64::from(len - 1)) as u32 / 512 * 512;
        }
        let extents: Vec<Extent> = sg.range(sg_offset, to).collect();
        let Self { backends, disks, .. } = self;
        let (arenas, image) = (&backends[n].arenas, &mut disks[disk].image);
        if extents.iter().any(|e| arenas.resolve(*e).is_none()) {
            return None;
        }
        if write {
            let mut data = Vec::with_capacity(to as usize);
            copy_out(arenas, &extents, 0, to, &mut data);
            image.write(offset, &data, false);
            self.write_back_by_itself(disk);
        } else {
            let mut data = vec![0; to as usize];
            to = image.read(offset, &mut data) as u32;
            copy_in(arenas, &extents, data[..to as usize].iter().copied());
        }
        self.note("now", offset, u64::from(write), u64::from(to));
        (to > 0).then_some(to as i32)
    }

    fn time_of_operation(&mut self, hung: bool) -> Nanos {
        let time = if hung { self.delay(HANG) } else { self.delay(self.config.disk.latency) };
        time.min(HANG.1)
    }

    pub(crate) fn cancel_io(&mut self, n: usize, cmd: CmdId) {
        let wanted = |op: &SimOp| op.token.cmd == cmd && !op.hung;
        let keys: Vec<u32> = self.backends[n].ops.iter().filter(|(_, op)| wanted(op)).map(|(key, _)| key).collect();
        for key in keys {
            if let Some(&SimOp { token, kind: Kind::Flush { file }, .. }) = self.backends[n].ops.get(key) {
                if self.file_mut(n, file).is_some_and(|entry| entry.sync.cancel(key)) {
                    self.backends[n].ops.remove(key);
                    self.complete_io(n, token, -libc::ECANCELED, 0);
                }
                continue;
            }
            // A request: half of the time it comes too late.
            if self.rng.chance(500_000) {
                if let Some(op) = self.backends[n].ops.get_mut(key) {
                    op.cancelled = true;
                }
                let at = self.now.after(Nanos(self.rng.below(20_000)));
                self.schedule(at, Event::IoEnd { backend: n, key });
            }
        }
    }

    /// Moves bytes of a transfer up to `to`.
    fn move_bytes(&mut self, n: usize, key: u32, to: u32) {
        let Self { backends, disks, .. } = self;
        let Some(backend) = backends.get_mut(n) else { return };
        let Some(op) = backend.ops.get_mut(key) else { return };
        let (from, count) = (op.moved, to.saturating_sub(op.moved));
        if count == 0 {
            return;
        }
        let image = &mut disks[op.disk].image;
        match op.kind {
            Kind::Read { offset } => {
                let mut data = vec![0; count as usize];
                let got = image.read(offset + u64::from(from), &mut data);
                let rest: Vec<Extent> = skip(&op.extents, from);
                copy_in(&backend.arenas, &rest, data[..got].iter().copied());
                op.moved += got as u32;
            }
            Kind::Write { offset, .. } => {
                let mut data = Vec::with_capacity(count as usize);
                copy_out(&backend.arenas, &op.extents, from, count, &mut data);
                image.write(offset + u64::from(from), &data, false);
                op.moved = to;
            }
            _ => {}
        }
    }

    pub(crate) fn io_part(&mut self, n: usize, key: u32) {
        let Some(op) = self.backends[n].ops.get(key) else { return };
        let (Kind::Read { offset } | Kind::Write { offset, .. }) = op.kind else { return };
        let (disk, len) = (op.disk, op.len);
        if self.fault_at(disk, offset, len).is_some() {
            return;
        }
        // Up to a unit of the disk, so that no block is torn.
        let cut = offset + self.rng.below(u64::from(len) + 1);
        let to = (cut / UNIT * UNIT).saturating_sub(offset) as u32;
        self.move_bytes(n, key, to);
    }

    /// The error that a disk's settings demand.
    fn fault_at(&self, disk: usize, offset: u64, len: u32) -> Option<i32> {
        let disk = &self.disks[disk];
        let end = offset + u64::from(len);
        let bad = disk.bad.iter().find(|(range, _)| range.start < end && offset < range.end);
        disk.failing.or_else(|| bad.map(|(_, errno)| *errno)).map(|errno| -errno)
    }

    pub(crate) fn io_end(&mut self, n: usize, key: u32) {
        let Some(op) = self.backends[n].ops.get(key) else { return };
        let (token, disk, kind, len, cancelled) = (op.token, op.disk, op.kind, op.len, op.cancelled);
        if let Kind::Flush { file } = kind {
            self.synced(n, file);
            return;
        }
        let (result, extra) = if cancelled { (-libc::ECANCELED, 0) } else { self.finish_io(n, key, disk, kind, len) };
        self.backends[n].ops.remove(key);
        self.note("io", u64::from(key), u64::from(token.cmd.index), result as u64);
        self.complete_io(n, token, result, extra);
    }

    fn finish_io(&mut self, n: usize, key: u32, disk: usize, kind: Kind, len: u32) -> (i32, u64) {
        let faults = self.config.disk;
        let offset = match kind {
            Kind::Read { offset } | Kind::Write { offset, .. } => offset,
            _ => 0,
        };
        if !matches!(kind, Kind::Nothing) {
            if let Some(errno) = self.fault_at(disk, offset, len) {
                return (errno, 0);
            }
            if self.rng.chance(faults.eio) {
                return (-libc::EIO, 0);
            }
        }
        let image = &mut self.disks[disk].image;
        match kind {
            Kind::Read { .. } | Kind::Write { .. } => (self.finish_transfer(n, key, kind, len), 0),
            Kind::Flush { .. } | Kind::Nothing => (0, 0),
            Kind::Discard { offset, len } => {
                image.zero(offset, len, false);
                (0, 0)
            }
            Kind::Zero { offset, len } => {
                image.zero(offset, len, true);
                (0, 0)
            }
            Kind::Allocate { offset, len } => {
                image.allocate(offset, len);
                (0, 0)
            }
            Kind::Mapped { offset, len } => {
                let (data, run) = image.mapped(offset, len);
                (i32::from(data), run)
            }
        }
    }

    fn finish_transfer(&mut self, n: usize, key: u32, kind: Kind, len: u32) -> i32 {
        let faults = self.config.disk;
        let write = matches!(kind, Kind::Write { .. });
        if write && self.rng.chance(faults.enospc) {
            return -libc::ENOSPC;
        }
        let mut to = len;
        if len > 512 && self.rng.chance(faults.short) {
            let moved = self.backends[n].ops.get(key).map_or(0, |op| op.moved);
            to = (self.rng.between(1, u64::from(len - 1)) as u32 / 512 * 512).max(512).max(moved);
        }
        self.move_bytes(n, key, to);
        let moved = self.backends[n].ops.get(key).map_or(0, |op| op.moved as i32);
        match kind {
            Kind::Write { file, offset, dsync: true } => {
                let range = offset..offset + moved as u64;
                let disk = self.backends[n].ops.get(key).map_or(0, |op| op.disk);
                let sequence = self.disks[disk].image.sequence();
                let own = self.write_back(disk, range, sequence);
                self.told(n, file).or(own).map_or(moved, |errno| -errno)
            }
            Kind::Write { .. } => {
                let disk = self.backends[n].ops.get(key).map_or(0, |op| op.disk);
                self.write_back_by_itself(disk);
                moved
            }
            _ => moved,
        }
    }

    fn file_mut(&mut self, n: usize, file: u32) -> Option<&mut SimFile> {
        let backend = &mut self.backends[n];
        let retired = backend.retired.iter_mut().find(|(id, _)| *id == file).map(|(_, entry)| entry);
        backend.files.get_mut(file).or(retired)
    }

    /// Files whose turn to be synced may have come.
    pub(crate) fn granted(&mut self, n: usize) {
        if self.backends[n].granted.swap(false, SeqCst) {
            for file in std::mem::take(&mut self.backends[n].queued) {
                self.sync(n, file);
            }
        }
    }

    /// Begins a sync of a file, if one is wanted and it is its turn.
    fn sync(&mut self, n: usize, file: u32) {
        while let Some(entry) = self.file_mut(n, file) {
            let disk = entry.disk;
            match entry.sync.next() {
                Next::Sync(key) => {
                    let sequence = self.disks[disk].image.sequence();
                    if let Some(entry) = self.file_mut(n, file) {
                        entry.sequence = sequence;
                    }
                    let faults = self.config.disk;
                    let hung = faults.hang > 0 && self.rng.chance(faults.hang);
                    let end = self.now.after(self.time_of_operation(hung));
                    self.note("sync", u64::from(key), u64::from(file), sequence);
                    self.schedule(end, Event::IoEnd { backend: n, key });
                    return;
                }
                Next::Fail(key, errno) => self.flushed(n, key, -errno),
                Next::Queued => {
                    let queued = &mut self.backends[n].queued;
                    if !queued.contains(&file) {
                        queued.push(file);
                    }
                    return;
                }
                Next::Nothing => break,
            }
        }
        self.backends[n].retired.retain(|(id, entry)| *id != file || !entry.sync.is_idle());
    }

    /// A sync of a file has ended.
    fn synced(&mut self, n: usize, file: u32) {
        let Some(&mut SimFile { disk, sequence, .. }) = self.file_mut(n, file) else { return };
        let all = 0..self.disks[disk].image.size();
        let own = self.write_back(disk, all, sequence);
        let result = self.told(n, file).or(own).map_or(0, |errno| -errno);
        if let Some(entry) = self.file_mut(n, file) {
            entry.sync.end(result);
        }
        while let Some(key) = self.file_mut(n, file).and_then(|entry| entry.sync.ended()) {
            self.flushed(n, key, result);
        }
        self.sync(n, file);
    }

    fn flushed(&mut self, n: usize, key: u32, result: i32) {
        if let Some(SimOp { token, .. }) = self.backends[n].ops.remove(key) {
            self.note("io", u64::from(key), u64::from(token.cmd.index), result as u64);
            self.complete_io(n, token, result, 0);
        }
    }

    /// The kernel writes back what is dirty, up to a write; it may fail for all of it or a part. Some errors are those of what lies
    /// below, of the drive's cache for example: only the caller is told.
    fn write_back(&mut self, disk: usize, range: Range<u64>, sequence: u64) -> Option<i32> {
        let fails = self.rng.chance(self.config.disk.eio);
        let Self { disks, rng, .. } = self;
        let DiskState { image, errors, failing, bad, .. } = &mut disks[disk];
        let (mut lost, mut errno) = (false, failing.unwrap_or(libc::EIO));
        for (bad, bad_errno) in bad {
            if image.write_back(range.start.max(bad.start)..range.end.min(bad.end), sequence, || true) {
                (lost, errno) = (true, *bad_errno);
            }
        }
        lost |= image.write_back(range, sequence, || failing.is_some() || (fails && rng.chance(500_000)));
        if fails && errno == libc::EIO && rng.chance(500_000) {
            return Some(errno);
        }
        if lost || fails || failing.is_some() {
            errors.record(errno);
        }
        None
    }

    /// The kernel writes back without being asked, now and then when that fails.
    fn write_back_by_itself(&mut self, disk: usize) {
        if self.rng.chance(self.config.disk.eio) {
            let Self { disks, rng, .. } = self;
            let DiskState { image, errors, .. } = &mut disks[disk];
            if image.write_back(0..image.size(), image.sequence(), || rng.chance(500_000)) {
                errors.record(libc::EIO);
            }
        }
    }

    /// The error that an open file description is told now, once.
    fn told(&mut self, n: usize, file: u32) -> Option<i32> {
        let mut known = self.file_mut(n, file)?.known;
        let disk = self.file_mut(n, file)?.disk;
        let errno = self.disks[disk].errors.check(&mut known);
        self.file_mut(n, file)?.known = known;
        errno
    }

    fn complete_io(&mut self, n: usize, token: IoToken, result: i32, extra: u64) {
        self.backends[n].ready.push_back(Completion::Io(IoCompletion { token, result, extra }));
    }

    /// What is in flight when the process dies is carried out, or not, or in part.
    pub(crate) fn crash_storage(&mut self) {
        for n in 0..self.backends.len() {
            let keys: Vec<(u32, u32)> = self.backends[n].ops.iter().map(|(key, op)| (key, op.len)).collect();
            for (key, len) in keys {
                let is_write = self.backends[n].ops.get(key).is_some_and(|op| matches!(op.kind, Kind::Write { .. }));
                if is_write && self.rng.chance(500_000) {
                    let part = self.rng.below(u64::from(len) + 1) as u32 / 512 * 512;
                    let to = if self.rng.chance(500_000) { len } else { part };
                    self.move_bytes(n, key, to);
                }
            }
        }
    }
}

/// The extents after the first `from` bytes.
fn skip(extents: &[Extent], mut from: u32) -> Vec<Extent> {
    extents
        .iter()
        .filter_map(|e| {
            let part = e.slice(from, u32::MAX);
            from = from.saturating_sub(e.len);
            (part.len > 0).then_some(part)
        })
        .collect()
}

/// A real file's contents, without its holes.
fn copy_of(file: &File) -> Image {
    let size = file.metadata().map_or(0, |m| m.len());
    let mut image = Image::new(size);
    let mut block = vec![0; 64 << 10];
    let mut at = 0;
    while at < size {
        let Ok(n @ 1..) = file.read_at(&mut block, at) else { break };
        if block[..n].iter().any(|&b| b != 0) {
            image.write(at, &block[..n], true);
        }
        at += n as u64;
    }
    image
}
