//! A command of several operations under way: one operation at a time, stage after stage.

use scst_cmdset::lba_status::{LbaStatusList, ProvisioningStatus};
use scst_cmdset::params::{MAX_RESPONSE_BYTES, MAX_UNMAP_LIST_BYTES};
use scst_cmdset::unmap::UnmapList;
use scst_core::buffer::SgList;
use scst_core::handler::{ExecCommand, ExecContext, Outcome};
use scst_core::ids::CmdId;
use scst_core::io::{FileId, IoCompletion, IoOp, IoToken};
use scst_scsi::{Asc, ScsiStatus, SenseData, SenseKey};

use crate::answer;
use crate::direct::{Alignment, Piece};
use crate::fault::{self, Doing};
use crate::plan::{Bytes, Clear, Plan, ScanWith, Stage, Which};
use crate::scan;
use crate::shared::Shared;

/// Bytes of a scratch buffer: a multiple of every block size.
pub(crate) const SCRATCH_BYTES: u32 = 256 << 10;
/// Bytes of a run of blocks in the scratch buffer of GET LBA STATUS: blocks times two, plus one if they are mapped.
const RUN_BYTES: u32 = 8;

/// What a task works with.
pub(crate) struct Env<'a> {
    pub(crate) shared: &'a Shared,
    /// The backing file, or why there is none to work on.
    pub(crate) file: Result<FileId, SenseData>,
    /// Which opening of the file that is.
    pub(crate) generation: u32,
    /// Tag of the task's operations.
    pub(crate) tag: u8,
}

/// See the module.
pub(crate) struct Task {
    pub(crate) cmd: CmdId,
    /// The opening of the file that it began on.
    pub(crate) generation: u32,
    /// The mid-level wants it to end.
    pub(crate) cancelled: bool,
    plan: Plan,
    /// Bytes done of the stage (of the range, when it clears).
    done: u64,
    /// Which range is being cleared; how many runs have been found.
    index: u32,
    /// The range has been cleared and is being anchored.
    anchoring: bool,
    scratch: Option<SgList>,
    /// The scratch buffer holds what [`Clear::WriteZeros`] or [`Clear::WritePattern`] writes.
    filled: bool,
    outcome: Outcome,
}

/// How a step of a stage went; an error is the end of the command.
enum Step {
    /// An operation is in flight.
    Submitted,
    /// The stage is complete.
    Done,
}

impl Task {
    pub(crate) fn new(cmd: CmdId, generation: u32, plan: Plan, outcome: Outcome) -> Self {
        Self {
            cmd,
            generation,
            cancelled: false,
            plan,
            done: 0,
            index: 0,
            anchoring: false,
            scratch: None,
            filled: false,
            outcome,
        }
    }

    /// The same with `bytes` of the first stage done already.
    pub(crate) fn after(mut self, bytes: u64) -> Self {
        self.done = bytes;
        self
    }

    /// Goes on until an operation is in flight (None) or the command is at its end.
    pub(crate) fn run(&mut self, env: &Env<'_>, cmd: &ExecCommand<'_>, cx: &mut ExecContext<'_>) -> Option<Outcome> {
        let outcome = loop {
            if self.cancelled {
                let aborted = SenseData::new(SenseKey::ABORTED_COMMAND, Asc::NO_ADDITIONAL_SENSE_INFORMATION);
                break Outcome::check(aborted);
            }
            let Some(stage) = self.plan.current() else { break self.outcome };
            match self.step(stage, env, cmd, cx) {
                Ok(Step::Submitted) => return None,
                Ok(Step::Done) => self.advance(),
                Err(outcome) => break outcome,
            }
        };
        if let Some(scratch) = self.scratch.take() {
            cx.mem.release(&scratch);
        }
        Some(outcome)
    }

    /// An operation has ended; goes on as [`Task::run`].
    pub(crate) fn completed(
        &mut self,
        env: &Env<'_>,
        cmd: &ExecCommand<'_>,
        completion: IoCompletion,
        cx: &mut ExecContext<'_>,
    ) -> Option<Outcome> {
        let progress = match self.plan.current() {
            Some(stage) if completion.result < 0 => self.failed(stage, env, cmd, -completion.result, cx),
            Some(stage) => self.progress(stage, env, cmd, completion, cx),
            None => Ok(()),
        };
        if let Err(outcome) = progress {
            self.plan = Plan::default();
            self.outcome = outcome;
        }
        self.run(env, cmd, cx)
    }

    fn advance(&mut self) {
        self.plan.advance();
        self.done = 0;
        self.index = 0;
        self.filled = false;
    }

    fn step(
        &mut self,
        stage: Stage,
        env: &Env<'_>,
        cmd: &ExecCommand<'_>,
        cx: &mut ExecContext<'_>,
    ) -> Result<Step, Outcome> {
        match stage {
            Stage::ModeSelect => {
                self.outcome.effects = answer::mode_select(env.shared, cmd, cx)?;
                return Ok(Step::Done);
            }
            Stage::Medium(change) => {
                self.outcome.effects = answer::change_medium(env.shared, change);
                return Ok(Step::Done);
            }
            Stage::Flush => {
                if let Some(errno) = env.shared.flush_error() {
                    return Err(fault::outcome(Doing::Flush, errno));
                }
                // Where the file is gone there is nothing to flush to; the disk may still be ejected or set up. A file
                // that is only not known here yet is another matter.
                let gone = env.file.is_err() && !env.shared.is_online() && self.plan.changes_the_disk();
                if env.shared.disk.nv_cache || self.done > 0 || gone {
                    return Ok(Step::Done);
                }
            }
            _ => {}
        }
        let file = env.file.map_err(Outcome::check)?;
        if env.generation != self.generation {
            // What it has written or compared is in another opening of the file, whose errors are not told here.
            return Err(Outcome::check(fault::becoming_ready()));
        }
        match stage {
            Stage::Flush if self.done == 0 => submit(env, cmd, cx, IoOp::Flush { file }),
            Stage::Prefetch(Bytes { offset, len }) if self.done == 0 => {
                submit(env, cmd, cx, IoOp::Prefetch { file, offset, len })
            }
            Stage::Read(bytes) if self.done < bytes.len => {
                let (offset, sg_offset) = (bytes.offset + self.done, self.done as u32);
                let alignment = env.shared.alignment();
                let Piece { len, bounced } = next_piece(alignment, cmd.sg, sg_offset, bytes.len - self.done);
                if bounced {
                    let sg = self.scratch(SCRATCH_BYTES, cx)?;
                    let len = len.next_multiple_of(alignment.sector);
                    return submit(env, cmd, cx, IoOp::Read { file, offset, sg: &sg, sg_offset: 0, len });
                }
                submit(env, cmd, cx, IoOp::Read { file, offset, sg: cmd.sg, sg_offset, len })
            }
            Stage::Write { bytes, sg_offset, durable } if self.done < bytes.len => {
                let (offset, sg_offset) = (bytes.offset + self.done, sg_offset + self.done as u32);
                let Piece { len, bounced } =
                    next_piece(env.shared.alignment(), cmd.sg, sg_offset, bytes.len - self.done);
                if !durable {
                    env.shared.write_cached();
                }
                if bounced {
                    let sg = self.scratch(SCRATCH_BYTES, cx)?;
                    scan::copy_from(cx.mem, cmd.sg, sg_offset, len, &sg, 0);
                    return submit(
                        env,
                        cmd,
                        cx,
                        IoOp::Write { file, offset, sg: &sg, sg_offset: 0, len, dsync: durable },
                    );
                }
                submit(env, cmd, cx, IoOp::Write { file, offset, sg: cmd.sg, sg_offset, len, dsync: durable })
            }
            Stage::Scan { bytes, .. } if self.done < bytes.len => {
                let sg = self.scratch(SCRATCH_BYTES, cx)?;
                let len = (bytes.len - self.done).min(u64::from(SCRATCH_BYTES)) as u32;
                let offset = bytes.offset + self.done;
                submit(env, cmd, cx, IoOp::Read { file, offset, sg: &sg, sg_offset: 0, len })
            }
            Stage::Clear { which, how, .. } => self.clear(which, how, file, env, cmd, cx),
            Stage::LbaStatus { lba, allocation } => self.lba_status(lba, allocation, file, env, cmd, cx),
            _ => Ok(Step::Done),
        }
    }

    /// The scratch buffer; BUSY when there is no memory for it now.
    fn scratch(&mut self, bytes: u32, cx: &mut ExecContext<'_>) -> Result<SgList, Outcome> {
        if self.scratch.is_none() {
            self.scratch = cx.mem.allocate(bytes);
        }
        self.scratch.ok_or_else(|| Outcome::status(ScsiStatus::BUSY))
    }

    fn clear(
        &mut self,
        which: Which,
        how: Clear,
        file: FileId,
        env: &Env<'_>,
        cmd: &ExecCommand<'_>,
        cx: &mut ExecContext<'_>,
    ) -> Result<Step, Outcome> {
        let Some(Bytes { offset, len }) = self.range(which, env, cmd, cx)? else { return Ok(Step::Done) };
        env.shared.write_cached();
        if self.anchoring {
            return submit(env, cmd, cx, IoOp::Allocate { file, offset, len });
        }
        match how {
            Clear::Trim => submit(env, cmd, cx, IoOp::Trim { file, offset, len }),
            Clear::Discard => submit(env, cmd, cx, IoOp::Discard { file, offset, len }),
            Clear::Zero => submit(env, cmd, cx, IoOp::Zero { file, offset, len }),
            Clear::WriteZeros | Clear::WritePattern => {
                let sg = self.scratch(SCRATCH_BYTES, cx)?;
                if !self.filled {
                    match how {
                        Clear::WritePattern => scan::repeat(cx.mem, cmd.sg, env.shared.disk.block_size, &sg),
                        _ => cx.mem.fill(&sg, 0, sg.bytes(), 0),
                    }
                    self.filled = true;
                }
                // A short write may end within a block; the next one goes on there in the pattern.
                let sg_offset = (self.done % u64::from(env.shared.disk.block_size)) as u32;
                let room = u64::from(SCRATCH_BYTES - sg_offset);
                let op = IoOp::Write {
                    file,
                    offset: offset + self.done,
                    sg: &sg,
                    sg_offset,
                    len: (len - self.done).min(room) as u32,
                    dsync: false,
                };
                submit(env, cmd, cx, op)
            }
        }
    }

    /// The range that is being cleared; None after the last.
    fn range(
        &self,
        which: Which,
        env: &Env<'_>,
        cmd: &ExecCommand<'_>,
        cx: &ExecContext<'_>,
    ) -> Result<Option<Bytes>, Outcome> {
        match which {
            Which::One(bytes) => Ok((self.index == 0).then_some(bytes)),
            Which::UnmapList => {
                let mut list = [0; MAX_UNMAP_LIST_BYTES];
                // The capacity may have shrunk since the list was last read: it is checked each time.
                let list = unmap_list(env.shared, cmd, cx, &mut list).map_err(Outcome::check)?;
                let block_size = env.shared.disk.block_size;
                Ok(list.ranges().nth(self.index as usize).map(|range| Bytes::of(range, block_size)))
            }
        }
    }

    fn lba_status(
        &mut self,
        lba: u64,
        allocation: u32,
        file: FileId,
        env: &Env<'_>,
        cmd: &ExecCommand<'_>,
        cx: &mut ExecContext<'_>,
    ) -> Result<Step, Outcome> {
        let geometry = env.shared.geometry();
        let (start, end) = (geometry.offset(lba), geometry.offset(geometry.blocks));
        let offset = start + self.done;
        let room = (allocation.min(MAX_RESPONSE_BYTES).saturating_sub(8) / 16).max(1);
        if self.index < room && offset < end {
            self.scratch(room * RUN_BYTES, cx)?;
            return submit(env, cmd, cx, IoOp::Mapped { file, offset, len: end - offset });
        }
        let mut buf = [0; MAX_RESPONSE_BYTES as usize];
        let mut list = LbaStatusList::new(lba, allocation, &mut buf);
        for index in 0..self.index {
            let mut run = [0; RUN_BYTES as usize];
            if let Some(scratch) = &self.scratch {
                cx.mem.copy_out(scratch, index * RUN_BYTES, &mut run);
            }
            let run = u64::from_be_bytes(run);
            let status = if run & 1 == 1 { ProvisioningStatus::Mapped } else { ProvisioningStatus::Deallocated };
            list.push(run >> 1, status);
        }
        let length = list.finish();
        self.outcome = answer::data_in(cmd, cx, &buf[..length]);
        Ok(Step::Done)
    }

    /// What a successful operation has brought.
    fn progress(
        &mut self,
        stage: Stage,
        env: &Env<'_>,
        cmd: &ExecCommand<'_>,
        completion: IoCompletion,
        cx: &mut ExecContext<'_>,
    ) -> Result<(), Outcome> {
        let n = completion.result as u64;
        let block_size = env.shared.disk.block_size;
        // Of a transfer: the bytes that count.
        let moved = env.shared.alignment().whole(n);
        match stage {
            Stage::Prefetch(_) => self.done = 1,
            Stage::Flush => {
                // Another reactor may have heard of an error meanwhile.
                if let Some(errno) = env.shared.flush_error() {
                    return Err(fault::outcome(Doing::Flush, errno));
                }
                self.done = 1;
            }
            Stage::Read(bytes) | Stage::Scan { bytes, .. } if moved == 0 => {
                return Err(end_of_file(bytes, self.done, env));
            }
            Stage::Write { bytes, .. } if moved == 0 => return Err(not_written(bytes, self.done, env)),
            Stage::Read(bytes) => self.done += self.arrived(bytes, moved, env, cmd, cx),
            Stage::Write { bytes, durable, .. } => {
                self.done += moved;
                if let Some(errno) = env.shared.flush_error().filter(|_| durable && self.done >= bytes.len) {
                    return Err(fault::outcome(Doing::Flush, errno));
                }
            }
            Stage::Scan { with, .. } => {
                self.scanned(with, moved as u32, block_size, cmd, cx)?;
                self.done += moved;
            }
            Stage::Clear { which, how, anchor } => {
                let Some(bytes) = self.range(which, env, cmd, cx)? else { return Ok(()) };
                let writes = matches!(how, Clear::WriteZeros | Clear::WritePattern);
                if writes && !self.anchoring {
                    if moved == 0 {
                        return Err(not_written(bytes, self.done, env));
                    }
                    self.done += moved;
                    if self.done < bytes.len {
                        return Ok(());
                    }
                }
                // What has been written needs no anchor.
                self.anchoring = anchor && !self.anchoring && !writes;
                if !self.anchoring {
                    self.index += 1;
                    self.done = 0;
                }
            }
            Stage::LbaStatus { .. } => {
                let (mapped, bytes) = (n > 0, completion.extra);
                // A block of which any part is data counts as mapped; so does one that a hole does not fill.
                let hole_blocks = bytes / u64::from(block_size);
                let (mapped, blocks) = match mapped {
                    false if hole_blocks > 0 => (false, hole_blocks),
                    _ => (true, bytes.div_ceil(u64::from(block_size)).max(1)),
                };
                let run = (blocks << 1 | u64::from(mapped)).to_be_bytes();
                if let Some(scratch) = &self.scratch {
                    cx.mem.copy_in(scratch, self.index * RUN_BYTES, &run);
                }
                self.index += 1;
                self.done += blocks * u64::from(block_size);
            }
            Stage::ModeSelect | Stage::Medium(_) => {}
        }
        Ok(())
    }

    /// Takes what a read has brought out of the bounce buffer, if it went there. Returns how much of it is the
    /// initiator's: the last sector may be more than it wants.
    fn arrived(&self, bytes: Bytes, moved: u64, env: &Env<'_>, cmd: &ExecCommand<'_>, cx: &mut ExecContext<'_>) -> u64 {
        let at = self.done as u32;
        let Piece { len, bounced } = next_piece(env.shared.alignment(), cmd.sg, at, bytes.len - self.done);
        let n = moved.min(u64::from(len));
        if let Some(scratch) = self.scratch.as_ref().filter(|_| bounced) {
            scan::copy(cx.mem, scratch, n as u32, cmd.sg, at);
        }
        n
    }

    /// Looks at `n` bytes that a scan has read.
    fn scanned(
        &self,
        with: ScanWith,
        n: u32,
        block_size: u32,
        cmd: &ExecCommand<'_>,
        cx: &mut ExecContext<'_>,
    ) -> Result<(), Outcome> {
        let Some(scratch) = &self.scratch else { return Ok(()) };
        let period = match with {
            ScanWith::Nothing => return Ok(()),
            ScanWith::OrIntoData => {
                scan::or_into(cx.mem, scratch, n, cmd.sg, self.done as u32);
                return Ok(());
            }
            ScanWith::Data => u64::from(cmd.sg.bytes()),
            ScanWith::OneBlock => u64::from(block_size),
        };
        match scan::first_difference(cx.mem, scratch, n, cmd.sg, self.done, period) {
            Some(at) => Err(Outcome::check(SenseData::miscompare(at))),
            None => Ok(()),
        }
    }

    /// What a failed operation means: another way of doing it, or the end of the command.
    fn failed(
        &mut self,
        stage: Stage,
        env: &Env<'_>,
        cmd: &ExecCommand<'_>,
        errno: i32,
        cx: &ExecContext<'_>,
    ) -> Result<(), Outcome> {
        let lba = |bytes: Bytes, done: u64| (bytes.offset + done) / u64::from(env.shared.disk.block_size);
        match stage {
            Stage::Clear { .. } if self.anchoring && fault::is_unsupported(errno) => {
                // Space cannot be set aside here; the blocks are cleared, which is what matters.
                self.anchoring = false;
                self.index += 1;
                Ok(())
            }
            Stage::Clear { how: Clear::Trim, .. } if fault::is_unsupported(errno) => {
                // Not needing the blocks was a hint; they stay as they are.
                self.index += 1;
                Ok(())
            }
            Stage::Clear { which, how: how @ (Clear::Discard | Clear::Zero), anchor }
                if fault::is_unsupported(errno) =>
            {
                let how = if how == Clear::Discard { Clear::Zero } else { Clear::WriteZeros };
                self.plan.replace(Stage::Clear { which, how, anchor });
                Ok(())
            }
            Stage::Read(bytes) | Stage::Scan { bytes, .. } => {
                Err(fail(env.shared, Doing::Read(lba(bytes, self.done)), errno, false))
            }
            Stage::Write { bytes, durable, .. } => {
                Err(fail(env.shared, Doing::Write(lba(bytes, self.done)), errno, durable))
            }
            Stage::Clear { which, .. } => {
                let at = self.range(which, env, cmd, cx)?.map_or(0, |bytes| lba(bytes, self.done));
                Err(fail(env.shared, Doing::Write(at), errno, false))
            }
            Stage::LbaStatus { lba, .. } => Err(fail(env.shared, Doing::Read(lba), errno, false)),
            // Advice never fails visibly.
            Stage::Prefetch(_) => {
                self.done = 1;
                Ok(())
            }
            Stage::Flush | Stage::ModeSelect | Stage::Medium(_) => Err(fail(env.shared, Doing::Flush, errno, false)),
        }
    }
}

/// The next piece of a transfer of which `left` bytes are left.
fn next_piece(alignment: Alignment, sg: &SgList, from: u32, left: u64) -> Piece {
    alignment.piece(sg, from, left as u32, SCRATCH_BYTES)
}

/// Submits the task's next operation; BUSY when the back-end has no room.
fn submit(env: &Env<'_>, cmd: &ExecCommand<'_>, cx: &mut ExecContext<'_>, op: IoOp<'_>) -> Result<Step, Outcome> {
    match cx.io.submit(IoToken { cmd: cmd.id, tag: env.tag }, op) {
        Ok(()) => Ok(Step::Submitted),
        Err(_) => Err(Outcome::status(ScsiStatus::BUSY)),
    }
}

/// The outcome of a failed operation, and what has to be remembered of it: `durable` for a write that was to be durable.
pub(crate) fn fail(shared: &Shared, doing: Doing, errno: i32, durable: bool) -> Outcome {
    shared.errors.note(doing, errno);
    failed(shared, doing, errno, durable)
}

/// The outcome of an operation that moved nothing, without an error: the file ends before the capacity.
pub(crate) fn cut(shared: &Shared, doing: Doing, durable: bool) -> Outcome {
    shared.errors.note(doing, 0);
    failed(shared, doing, libc::EIO, durable)
}

fn failed(shared: &Shared, doing: Doing, errno: i32, durable: bool) -> Outcome {
    if fault::is_gone(errno) {
        shared.lose();
    }
    // An I/O error of a durable write can be that of an earlier cached one, which no later flush would report.
    let lost = doing == Doing::Flush || (durable && errno == libc::EIO && shared.has_cached_writes());
    // A flush that was cancelled has not begun.
    if lost && errno != libc::ECANCELED {
        shared.flush_failed(errno);
    }
    fault::outcome(doing, errno)
}

/// The file ends before the capacity: it was cut behind our back. The blocks are unreadable until it is whole again.
fn end_of_file(bytes: Bytes, done: u64, env: &Env<'_>) -> Outcome {
    cut(env.shared, Doing::Read((bytes.offset + done) / u64::from(env.shared.disk.block_size)), false)
}

/// A write of nothing, without an error: there is no sense in trying again.
fn not_written(bytes: Bytes, done: u64, env: &Env<'_>) -> Outcome {
    cut(env.shared, Doing::Write((bytes.offset + done) / u64::from(env.shared.disk.block_size)), false)
}

/// Reads the UNMAP parameter list out of the data-out.
pub(crate) fn unmap_list<'b>(
    shared: &Shared,
    cmd: &ExecCommand<'_>,
    cx: &ExecContext<'_>,
    buf: &'b mut [u8; MAX_UNMAP_LIST_BYTES],
) -> Result<UnmapList<'b>, SenseData> {
    let length = (cmd.sg.bytes() as usize).min(buf.len());
    cx.mem.copy_out(cmd.sg, 0, &mut buf[..length]);
    UnmapList::parse(&buf[..length], cmd.sg.bytes() as usize, &shared.disk, &shared.geometry())
}
