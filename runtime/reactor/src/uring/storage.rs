//! Storage operations: by the ring where it has an opcode that does not block, else by the offload pool.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring::{opcode, squeue, types};
use scst_core::buffer::Extent;
use scst_core::ids::CmdId;
use scst_core::io::{IoCompletion, IoOp, IoToken, QueueFull};

use super::Uring;
use super::discard;
use super::ops::{Owner, StorageKind};
use crate::backend::Completion;
use crate::file::{self, FileEntry, PUNCH, Work, ZERO};
use crate::iovec::IoVecs;
use crate::offload::Job;
use crate::sync::Next;

impl Uring {
    pub(crate) fn submit_storage(&mut self, token: IoToken, op: &IoOp<'_>) -> Result<(), QueueFull> {
        if self.io_in_flight >= self.io_depth {
            return Err(QueueFull);
        }
        let file = file::file_of(op);
        let Some((entry, in_flight)) = self.files.get_mut(file) else {
            self.refuse(token, -libc::EBADF);
            return Ok(());
        };
        let kind = kind_of(op, entry.block_device, entry.ring_discards);
        let Some(slot) = self.ops.take(Owner::Storage { file, token, kind }) else { return Err(QueueFull) };
        let Some(work) = Work::of(op, &self.arenas, self.ops.iov(slot)) else {
            self.ops.put(slot);
            self.refuse(token, -libc::EFAULT);
            return Ok(());
        };
        *in_flight += 1;
        self.io_in_flight += 1;
        self.by_command.insert(slot, token.cmd);
        let fd = types::Fd(entry.file.as_raw_fd());
        if kind == StorageKind::Flush {
            if entry.in_memory {
                let result = entry.sync.failed().map_or(0, |errno| -errno);
                let owner = self.ops.owner_at(slot);
                self.storage_completed(slot, owner, result, 0);
            } else {
                entry.sync.join(slot);
                self.sync(file);
            }
        } else if kind == StorageKind::Offload {
            let (file, block_device) = (Arc::clone(&entry.file), entry.block_device);
            let iov = std::mem::take(self.ops.iov(slot));
            let place = self.pool.push(&entry.lane, Job { key: slot, file, block_device, work, iov });
            self.ops.set_place(slot, place);
        } else {
            let data = self.ops.data(slot);
            let buffer = one_extent(op).filter(|_| entry.is_direct());
            let buffer = buffer.and_then(|extent| self.registered.number(&self.ring, &self.arenas, extent));
            let has_nowait = entry.has_nowait;
            let entry = sqe(fd, work, self.ops.iov(slot), entry.block_device, buffer);
            self.push(entry.user_data(data).flags(flags_of(work, has_nowait)));
        }
        Ok(())
    }

    fn refuse(&mut self, token: IoToken, result: i32) {
        self.ready.push_back(Completion::Io(IoCompletion { token, result, extra: 0 }));
    }

    pub(crate) fn cancel_storage(&mut self, cmd: CmdId) {
        let mut at = self.by_command.first(cmd);
        while let Some(slot) = at {
            // The operation may end here.
            at = self.by_command.next(slot);
            match self.ops.owner_at(slot) {
                Owner::Storage { token, kind, .. } if token.cmd == cmd => match kind {
                    StorageKind::Offload => self.pool.cancel(self.ops.place(slot), slot),
                    // The sync under way is for others, too, and only its own result says what has become of the data.
                    StorageKind::Flush => drop(self.cancel_flush(slot)),
                    StorageKind::Ring | StorageKind::Advice => self.cancel_op(slot),
                },
                _ => {}
            }
        }
    }

    /// Ends a flush for which no sync has begun. False for everything else.
    pub(crate) fn cancel_flush(&mut self, slot: u32) -> bool {
        let owner = self.ops.owner_at(slot);
        let Owner::Storage { file, kind: StorageKind::Flush, .. } = owner else { return false };
        if !self.file_mut(file).is_some_and(|entry| entry.sync.cancel(slot)) {
            return false;
        }
        self.storage_completed(slot, owner, -libc::ECANCELED, 0);
        true
    }

    fn file_mut(&mut self, file: u32) -> Option<&mut FileEntry> {
        let retired = self.retired.iter_mut().find(|(id, ..)| *id == file).map(|(_, entry, _)| entry);
        self.files.get_mut(file).map(|(entry, _)| entry).or(retired)
    }

    /// A sync of a file has ended.
    pub(crate) fn synced(&mut self, file: u32, result: i32) {
        if let Some(entry) = self.file_mut(file) {
            entry.sync.end(result);
        }
        while let Some(slot) = self.file_mut(file).and_then(|entry| entry.sync.ended()) {
            let owner = self.ops.owner_at(slot);
            self.storage_completed(slot, owner, result, 0);
        }
        self.sync(file);
    }

    /// Goes on with the files whose turn has come.
    pub(crate) fn look_at_queued(&mut self) {
        for _ in 0..self.queued.len() {
            if let Some(file) = self.queued.pop_front() {
                self.sync(file);
            }
        }
    }

    /// Begins a sync of a file, if one is wanted and it is its turn.
    pub(crate) fn sync(&mut self, file: u32) {
        while let Some(entry) = self.file_mut(file) {
            match entry.sync.next() {
                Next::Sync(slot) => {
                    let (fd, data) = (types::Fd(entry.file.as_raw_fd()), self.ops.data(slot));
                    self.push(opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build().user_data(data));
                    return;
                }
                Next::Fail(slot, errno) => {
                    let owner = self.ops.owner_at(slot);
                    self.storage_completed(slot, owner, -errno, 0);
                }
                Next::Queued => {
                    if !self.queued.contains(&file) {
                        self.queued.push_back(file);
                    }
                    return;
                }
                Next::Nothing => return,
            }
        }
    }

    pub(crate) fn storage_completed(&mut self, slot: u32, owner: Owner, result: i32, extra: u64) {
        let Owner::Storage { file, token, kind } = owner else {
            unreachable!("only storage operations end here");
        };
        self.ops.put(slot);
        self.by_command.remove(slot, token.cmd);
        self.io_in_flight -= 1;
        if let Some((_, in_flight)) = self.files.get_mut(file) {
            *in_flight -= 1;
        } else if let Some(at) = self.retired.iter().position(|r| r.0 == file) {
            self.retired[at].2 -= 1;
            if self.retired[at].2 == 0 {
                self.retired.swap_remove(at);
            }
        }
        let result = if kind == StorageKind::Advice { 0 } else { result };
        self.ready.push_back(Completion::Io(IoCompletion { token, result, extra }));
    }
}

/// What the ring cannot do without blocking its submitter, or not at all, goes to the pool: ioctls of block devices
/// and the search for holes.
fn kind_of(op: &IoOp<'_>, block_device: bool, ring_discards: bool) -> StorageKind {
    match op {
        IoOp::Trim { .. } if ring_discards => StorageKind::Ring,
        IoOp::Mapped { .. } => StorageKind::Offload,
        IoOp::Discard { .. } | IoOp::Trim { .. } | IoOp::Zero { .. } | IoOp::Allocate { .. } if block_device => {
            StorageKind::Offload
        }
        IoOp::Prefetch { .. } => StorageKind::Advice,
        IoOp::Flush { .. } => StorageKind::Flush,
        _ => StorageKind::Ring,
    }
}

/// The ring tries a transfer first as part of the submission. It takes a file that can be polled for one that never keeps
/// it waiting; FUSE is such a file system, and does. So a worker does what the file cannot promise.
fn flags_of(work: Work, has_nowait: bool) -> squeue::Flags {
    match work {
        Work::Read { .. } | Work::Write { .. } if !has_nowait => squeue::Flags::ASYNC,
        _ => squeue::Flags::empty(),
    }
}

/// Where the bytes of a READ or WRITE are, when they are in one place.
fn one_extent(op: &IoOp<'_>) -> Option<Extent> {
    let (IoOp::Read { sg, sg_offset, len, .. } | IoOp::Write { sg, sg_offset, len, .. }) = op else { return None };
    sg.range(*sg_offset, *len).next().filter(|extent| extent.len == *len)
}

/// `buffer` is the kernel's number of what all of the ranges are in.
fn sqe(fd: types::Fd, work: Work, iov: &IoVecs, block_device: bool, buffer: Option<u16>) -> squeue::Entry {
    match work {
        Work::Trim { offset, len } if block_device => discard::entry(fd, offset, len),
        Work::Read { offset } => match iov.single() {
            Some((base, len)) if let Some(buffer) = buffer => {
                opcode::ReadFixed::new(fd, base, len, buffer).offset(offset).build()
            }
            Some((base, len)) => opcode::Read::new(fd, base, len).offset(offset).build(),
            None => opcode::Readv::new(fd, iov.as_ptr(), iov.len() as u32).offset(offset).build(),
        },
        Work::Write { offset, dsync } => {
            let flags = if dsync { libc::RWF_DSYNC } else { 0 };
            match iov.single() {
                Some((base, len)) if let Some(buffer) = buffer => {
                    opcode::WriteFixed::new(fd, base, len, buffer).offset(offset).rw_flags(flags).build()
                }
                Some((base, len)) => opcode::Write::new(fd, base, len).offset(offset).rw_flags(flags).build(),
                None => opcode::Writev::new(fd, iov.as_ptr(), iov.len() as u32).offset(offset).rw_flags(flags).build(),
            }
        }
        Work::Prefetch { offset, len } => {
            // The field is 32 bits wide before Linux 6.9, and 0 would mean "to the end".
            let len = len.min(u64::from(!4095u32)) as libc::off_t;
            opcode::Fadvise::new(fd, len, libc::POSIX_FADV_WILLNEED).offset(offset).build()
        }
        Work::Discard { offset, len } | Work::Trim { offset, len } => {
            opcode::Fallocate::new(fd, len).offset(offset).mode(PUNCH).build()
        }
        Work::Zero { offset, len } => opcode::Fallocate::new(fd, len).offset(offset).mode(ZERO).build(),
        Work::Allocate { offset, len } => {
            opcode::Fallocate::new(fd, len).offset(offset).mode(libc::FALLOC_FL_KEEP_SIZE).build()
        }
        Work::Flush => unreachable!("a flush shares a sync of its file"),
        Work::Mapped { .. } => unreachable!("`kind_of` sends it to the pool"),
    }
}
