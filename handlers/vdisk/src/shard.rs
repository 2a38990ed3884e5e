//! A disk's half on one reactor.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use scst_cmdset::command::{StartStop, WriteSame};
use scst_cmdset::validate::check_writable;
use scst_cmdset::write_same::WriteSameMethod;
use scst_cmdset::{DiskCommand, DiskState, ParsedCommand, medium, write_same};
use scst_core::buffer::SgList;
use scst_core::handler::{ControlSettings, ExecCommand, ExecContext, Execution, HandlerShard, Outcome, Parsed};
use scst_core::ids::CmdId;
use scst_core::io::{FileId, IoCompletion, IoOp, IoQueue, IoToken};
use scst_scsi::{Cdb, DataDirection, DeviceType, ScsiStatus, SenseData};

use crate::answer;
use crate::counters::Counters;
use crate::fault::{self, Doing};
use crate::mapped;
use crate::null;
use crate::plan::{self, Bytes, Clear, Plan, ScanWith, Stage, Which};
use crate::shared::{Medium, Shared};
use crate::task::{self, Env, Task};

/// Tag of the one operation of a READ or WRITE, with the last bits of the generation of the file it is on.
const TAG_SIMPLE: u8 = 0xf0;
/// Tag of the flush after it; the tags below name tasks.
const TAG_SYNC: u8 = 0xef;
/// Most commands of several steps under way in one shard; BUSY beyond.
const MAX_TASKS: usize = TAG_SYNC as usize;

/// The file as this reactor knows it, and which opening of it that is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct LinkedFile {
    pub(crate) file: Option<FileId>,
    pub(crate) generation: u32,
}

/// See the module.
pub(crate) struct DiskShard {
    shared: Arc<Shared>,
    link: Rc<Cell<LinkedFile>>,
    counters: Arc<Counters>,
    /// Grows to the most that were ever under way.
    tasks: Vec<Option<Task>>,
}

impl DiskShard {
    pub(crate) fn new(shared: Arc<Shared>, link: Rc<Cell<LinkedFile>>) -> Self {
        let counters = shared.new_counters();
        Self { shared, link, counters, tasks: Vec::new() }
    }

    /// The file to work on.
    fn file(&self) -> Result<FileId, SenseData> {
        let link = self.link.get();
        match link.file {
            _ if !self.shared.is_online() => Err(fault::not_ready()),
            Some(file) if link.generation == self.shared.generation() => Ok(file),
            _ => Err(fault::becoming_ready()),
        }
    }

    /// Which opening of the file this reactor has.
    fn generation(&self) -> u32 {
        self.link.get().generation
    }

    /// The tag of the one operation of a READ or WRITE that is submitted now.
    fn simple_tag(&self) -> u8 {
        TAG_SIMPLE | self.generation() as u8
    }

    /// Decides how a command is carried out; NULLIO and plain answers are done with that.
    fn decide(&self, cmd: &ExecCommand<'_>, cx: &mut ExecContext<'_>) -> Result<Todo, SenseData> {
        let shared = &*self.shared;
        let parsed = scst_cmdset::parse(cmd.cdb, &shared.disk)?;
        let state = shared.state(cmd.read_only);
        admit(shared, &parsed, &state)?;
        if parsed.direction == DataDirection::ToDevice && cmd.sg.bytes() < parsed.length {
            check_short_data(&parsed.command, cmd.sg.bytes(), shared.disk.block_size)?;
        }
        self.count(&parsed.command);
        if parsed.command == DiskCommand::TestUnitReady && !matches!(shared.medium, Medium::Null { .. }) {
            // Ready means that this reactor has the file, too: the next command must not find it missing.
            self.file()?;
        }
        if let Medium::Null { read_zero } = shared.medium {
            return self.decide_null(&parsed, &state, read_zero, cmd, cx);
        }
        Ok(match parsed.command {
            DiskCommand::Read { fua, .. } => match self.plan_read(cmd, &parsed, fua) {
                Some(plan) => Todo::Task(plan, Outcome::good(parsed.length.min(cmd.sg.bytes()))),
                None => Todo::Simple,
            },
            DiskCommand::Write { .. } => match self.plan_misaligned_write(cmd) {
                Some(plan) => Todo::Task(plan, Outcome::good(0)),
                None => Todo::Simple,
            },
            command => match plan_of(shared, &command, cmd, cx)? {
                Some(plan) => Todo::Task(plan, Outcome::good(0)),
                None => Todo::Done(answer::answer(shared, &command, &state, cmd, cx)),
            },
        })
    }

    /// The same for a disk without storage.
    fn decide_null(
        &self,
        parsed: &ParsedCommand,
        state: &DiskState,
        read_zero: bool,
        cmd: &ExecCommand<'_>,
        cx: &mut ExecContext<'_>,
    ) -> Result<Todo, SenseData> {
        let shared = &*self.shared;
        if touches_medium(&parsed.command) {
            return Ok(Todo::Done(null::execute(shared, &parsed.command, state, read_zero, cmd, cx)));
        }
        Ok(match plan_of(shared, &parsed.command, cmd, cx)? {
            Some(plan) => Todo::Task(null::without_storage(&plan), Outcome::good(0)),
            None => Todo::Done(answer::answer(shared, &parsed.command, state, cmd, cx)),
        })
    }

    /// Carries out what is not usual. Apart, because it has kilobytes of answers on its stack.
    #[cold]
    #[inline(never)]
    fn execute_any(&mut self, cmd: &ExecCommand<'_>, cx: &mut ExecContext<'_>) -> Execution {
        match self.decide(cmd, cx) {
            Ok(Todo::Simple) => self.simple(cmd, cx),
            Ok(Todo::Task(plan, outcome)) => self.begin(Task::new(cmd.id, self.generation(), plan, outcome), cmd, cx),
            Ok(Todo::Done(outcome)) => Execution::Done(outcome),
            Err(sense) => Execution::Done(Outcome::check(sense)),
        }
    }

    fn count(&self, command: &DiskCommand) {
        match command {
            DiskCommand::Read { range, .. } => {
                self.counters.read_commands.add(1);
                self.counters.blocks_read.add(range.blocks);
            }
            DiskCommand::Write { range, .. } | DiskCommand::WriteAndVerify { range, .. } => {
                self.counters.write_commands.add(1);
                self.counters.blocks_written.add(range.blocks);
            }
            _ => {}
        }
    }

    /// A READ that is more than one operation.
    fn plan_read(&self, cmd: &ExecCommand<'_>, parsed: &ParsedCommand, fua: bool) -> Option<Plan> {
        let block_size = self.shared.disk.block_size;
        let len = u64::from(parsed.length.min(cmd.sg.bytes()));
        let bytes = Bytes { offset: parsed.lba * u64::from(block_size), len };
        // FUA: what is read must be on the medium (SBC-4 5.15), so what is cached goes there first.
        let flush = (fua && self.shared.has_volatile_cache() && len > 0).then_some(Stage::Flush);
        let needs_steps = flush.is_some() || !self.fits(cmd.sg, len as u32);
        needs_steps.then(|| Plan::of([flush, Some(Stage::Read(bytes))]))
    }

    /// A WRITE whose buffer O_DIRECT cannot take as it is.
    fn plan_misaligned_write(&self, cmd: &ExecCommand<'_>) -> Option<Plan> {
        let Simple { bytes, durable, .. } = Simple::of(&self.shared, cmd);
        let needs_steps = !self.fits(cmd.sg, bytes.len as u32);
        needs_steps.then(|| Plan::of(plan::write(bytes, 0, durable, self.shared.syncs_apart())))
    }

    /// Whether a buffer can be read or written with one operation.
    fn fits(&self, sg: &SgList, len: u32) -> bool {
        !self.shared.is_direct() || self.shared.alignment().fits(sg, len)
    }

    /// A READ or WRITE as it nearly always is: nothing in the way of it, one operation. Everything in its CDB was looked
    /// at when it was parsed; what can have changed since then is looked at here. None: `decide` knows what to do.
    #[inline]
    fn usual(&self, cmd: &ExecCommand<'_>, cx: &mut ExecContext<'_>) -> Option<Usual> {
        let (shared, parsed) = (&*self.shared, cmd.parsed);
        let write = is_usual(cmd.cdb.opcode())?;
        let end = parsed.lba.checked_add(parsed.blocks)?;
        if shared.disk.dummy || !shared.is_ready() || end > shared.geometry().blocks {
            return None;
        }
        if let Medium::File { .. } = shared.medium
            && (!self.fits(cmd.sg, parsed.length.min(cmd.sg.bytes()))
                || (!write && has_fua(cmd) && shared.has_volatile_cache()))
        {
            return None;
        }
        if write {
            let read_only = shared.disk.read_only || cmd.read_only || shared.is_storage_protected();
            if check_writable(read_only, shared.is_write_protected()).is_err() || cmd.sg.bytes() < parsed.length {
                return None;
            }
            self.counters.write_commands.add(1);
            self.counters.blocks_written.add(parsed.blocks);
        } else {
            self.counters.read_commands.add(1);
            self.counters.blocks_read.add(parsed.blocks);
        }
        Some(match shared.medium {
            Medium::File { .. } => Usual::Simple,
            Medium::Null { .. } if write => Usual::Done(0),
            Medium::Null { read_zero } => Usual::Done(null::read(read_zero, cmd, cx)),
        })
    }

    /// Starts a READ or WRITE of one operation.
    #[inline(always)]
    fn simple(&self, cmd: &ExecCommand<'_>, cx: &mut ExecContext<'_>) -> Execution {
        let Simple { bytes, write, durable } = Simple::of(&self.shared, cmd);
        if bytes.len == 0 {
            return Execution::Done(Outcome::good(0));
        }
        let file = match self.file() {
            Ok(file) => file,
            Err(sense) => return Execution::Done(Outcome::check(sense)),
        };
        if !write && let Some(pages) = mapped::pages(&self.shared, cmd, bytes, file, cx.io) {
            return Execution::Mapped(pages);
        }
        let (offset, len, sg) = (bytes.offset, bytes.len as u32, cmd.sg);
        if durable && let Some(errno) = self.shared.flush_error() {
            return Execution::Done(fault::outcome(Doing::Flush, errno));
        }
        let apart = durable && self.shared.syncs_apart();
        if write && !durable {
            self.shared.write_cached();
        }
        let op = if write {
            IoOp::Write { file, offset, sg, sg_offset: 0, len, dsync: durable && !apart }
        } else {
            IoOp::Read { file, offset, sg, sg_offset: 0, len }
        };
        if cx.io.try_now(&op).is_some_and(|result| result as i64 >= i64::from(len)) {
            if apart {
                return self.sync(file, cmd, cx);
            }
            return Execution::Done(Outcome::good(if write { 0 } else { len }));
        }
        submit(IoToken { cmd: cmd.id, tag: self.simple_tag() }, op, cx)
    }

    /// Makes durable what a WRITE has just written.
    fn sync(&self, file: FileId, cmd: &ExecCommand<'_>, cx: &mut ExecContext<'_>) -> Execution {
        submit(IoToken { cmd: cmd.id, tag: TAG_SYNC }, IoOp::Flush { file }, cx)
    }

    /// The flush after a durable WRITE has ended, and with it the WRITE.
    fn synced(&self, result: i32) -> Execution {
        let failed = (result < 0).then(|| task::fail(&self.shared, Doing::Flush, -result, true));
        Execution::Done(failed.unwrap_or_else(|| self.durable()))
    }

    /// The end of a WRITE whose own data are durable. It is not GOOD when data may have been lost meanwhile: which, nobody knows.
    fn durable(&self) -> Outcome {
        let lost = self.shared.flush_error().map(|errno| fault::outcome(Doing::Flush, errno));
        lost.unwrap_or_else(|| Outcome::good(0))
    }

    /// The one operation of a READ or WRITE has ended.
    fn simple_completed(
        &mut self,
        cmd: &ExecCommand<'_>,
        completion: IoCompletion,
        cx: &mut ExecContext<'_>,
    ) -> Execution {
        let (result, tag) = (completion.result, completion.token.tag);
        let Simple { bytes, write, durable } = Simple::of(&self.shared, cmd);
        let apart = durable && self.shared.syncs_apart();
        if durable && result > 0 && tag != self.simple_tag() {
            // What was written is in another opening of the file, whose errors are not told to this one.
            return Execution::Done(Outcome::check(fault::becoming_ready()));
        }
        if result >= 0 && result as u64 >= bytes.len {
            if durable {
                return match self.file() {
                    Ok(file) if apart => self.sync(file, cmd, cx),
                    Ok(_) => Execution::Done(self.durable()),
                    Err(sense) => Execution::Done(Outcome::check(sense)),
                };
            }
            return Execution::Done(Outcome::good(if write { 0 } else { bytes.len as u32 }));
        }
        if result <= 0 {
            let lba = cmd.parsed.lba;
            let doing = if write { Doing::Write(lba) } else { Doing::Read(lba) };
            let durable = durable && !apart;
            return Execution::Done(match -result {
                // Nothing moved, without an error: the file ends before the capacity.
                0 => task::cut(&self.shared, doing, durable),
                errno => task::fail(&self.shared, doing, errno, durable),
            });
        }
        let (plan, outcome) = if write {
            (Plan::of(plan::write(bytes, 0, durable, apart)), Outcome::good(0))
        } else {
            (Plan::one(Stage::Read(bytes)), Outcome::good(bytes.len as u32))
        };
        let done = self.shared.alignment().whole(result as u64);
        self.begin(Task::new(cmd.id, self.generation(), plan, outcome).after(done), cmd, cx)
    }

    /// Starts a task.
    fn begin(&mut self, mut task: Task, cmd: &ExecCommand<'_>, cx: &mut ExecContext<'_>) -> Execution {
        let free = self.tasks.iter().position(Option::is_none).unwrap_or(self.tasks.len());
        if free >= MAX_TASKS {
            return Execution::Done(Outcome::status(ScsiStatus::BUSY));
        }
        let (file, generation) = (self.file(), self.generation());
        let env = Env { shared: &self.shared, file, generation, tag: free as u8 };
        if let Some(outcome) = task.run(&env, cmd, cx) {
            return Execution::Done(outcome);
        }
        match self.tasks.get_mut(free) {
            Some(slot) => *slot = Some(task),
            None => self.tasks.push(Some(task)),
        }
        Execution::Pending
    }
}

/// Submits the next operation of a READ or WRITE; BUSY when the back-end has no room.
#[inline(always)]
fn submit(token: IoToken, op: IoOp<'_>, cx: &mut ExecContext<'_>) -> Execution {
    match cx.io.submit(token, op) {
        Ok(()) => Execution::Pending,
        Err(_) => Execution::Done(Outcome::status(ScsiStatus::BUSY)),
    }
}

/// How a usual command is carried out.
enum Usual {
    /// One operation into or from the buffer.
    Simple,
    /// It is done, with so many bytes of data-in.
    Done(u32),
}

/// How a command is carried out.
enum Todo {
    /// One operation into or from the buffer.
    Simple,
    /// The stages of a plan, and the outcome if they all succeed.
    Task(Plan, Outcome),
    /// It is done.
    Done(Outcome),
}

/// What a READ or WRITE of one operation moves; the same at its start and at its end.
struct Simple {
    bytes: Bytes,
    write: bool,
    durable: bool,
}

impl Simple {
    fn of(shared: &Shared, cmd: &ExecCommand<'_>) -> Self {
        let write = cmd.parsed.direction == DataDirection::ToDevice;
        let len = u64::from(cmd.parsed.length.min(cmd.sg.bytes()));
        let offset = cmd.parsed.lba * u64::from(shared.disk.block_size);
        Self { bytes: Bytes { offset, len }, write, durable: write && shared.is_durable(has_fua(cmd)) }
    }
}

/// FUA is in byte 1 of all CDBs of READ and WRITE but the six-byte ones.
fn has_fua(cmd: &ExecCommand<'_>) -> bool {
    const FUA: u8 = 3;
    cmd.cdb.bytes().len() > 6 && cmd.cdb.opcode() >= 0x20 && cmd.cdb.bit(1, FUA)
}

/// READ (false) or WRITE (true) of 6, 10, 12 or 16 bytes.
fn is_usual(opcode: u8) -> Option<bool> {
    // Bit 1 is what tells them apart, the group code in bits 5 and 7 tells the lengths.
    (opcode & 0x5d == 0x08).then_some(opcode & 0x02 != 0)
}

/// Whether the command may run now.
fn admit(shared: &Shared, parsed: &ParsedCommand, state: &DiskState) -> Result<(), SenseData> {
    if shared.disk.dummy && !matches!(parsed.command, DiskCommand::Inquiry { .. }) {
        // A place holder has no logical unit behind it (SPC-6 6.7.1, peripheral qualifier 001b).
        return Err(SenseData::logical_unit_not_supported());
    }
    parsed.admit(&shared.disk, state).map_err(|sense| {
        let no_medium = scst_cmdset::validate::no_medium();
        if sense == no_medium && !shared.is_online() { fault::not_ready() } else { sense }
    })
}

/// Data-out that are fewer than the CDB says: a WRITE (AND VERIFY) writes what there is, in whole blocks; anything else
/// fails.
fn check_short_data(command: &DiskCommand, bytes: u32, block_size: u32) -> Result<(), SenseData> {
    match command {
        DiskCommand::Write { .. } | DiskCommand::WriteAndVerify { .. } if bytes.is_multiple_of(block_size) => Ok(()),
        _ => Err(fault::incomplete_data()),
    }
}

fn touches_medium(command: &DiskCommand) -> bool {
    command.range().is_some() || matches!(command, DiskCommand::Unmap { .. })
}

/// The stages of a command other than READ and WRITE; None when it needs none.
fn plan_of(
    shared: &Shared,
    command: &DiskCommand,
    cmd: &ExecCommand<'_>,
    cx: &ExecContext<'_>,
) -> Result<Option<Plan>, SenseData> {
    let block_size = shared.disk.block_size;
    let bytes = |range| Bytes::of(range, block_size);
    let flush = (!shared.disk.nv_cache).then_some(Stage::Flush);
    let apart = shared.syncs_apart();
    Ok(Some(match *command {
        DiskCommand::WriteAndVerify { range, check, .. } => {
            let mut bytes = bytes(range);
            bytes.len = bytes.len.min(u64::from(cmd.sg.bytes()));
            let [write, sync] = plan::write(bytes, 0, !shared.disk.nv_cache, apart);
            Plan::of([write, sync, Some(plan::verify(bytes, check))])
        }
        DiskCommand::Verify { range, check, .. } => Plan::one(plan::verify(bytes(range), check)),
        // IMMED changes nothing: GOOD comes when the data are durable, so that an error is told with this command.
        DiskCommand::SynchronizeCache { .. } => Plan::one(Stage::Flush),
        // There is no cache to read ahead into.
        DiskCommand::PreFetch { .. } if shared.is_direct() => Plan::default(),
        DiskCommand::PreFetch { range, .. } => {
            let mut bytes = bytes(range);
            if range.blocks == 0 {
                let geometry = shared.geometry();
                // The capacity may have shrunk since the range was checked.
                bytes.len = geometry.offset(geometry.blocks).saturating_sub(bytes.offset);
            }
            Plan::one(Stage::Prefetch(bytes))
        }
        DiskCommand::CompareAndWrite { range, fua, .. } => {
            let (bytes, durable) = (bytes(range), shared.is_durable(fua));
            let compare = Stage::Scan { bytes, with: ScanWith::Data };
            let [write, sync] = plan::write(bytes, bytes.len as u32, durable, apart);
            Plan::of([Some(compare), write, sync])
        }
        DiskCommand::OrWrite { range, fua, .. } => {
            let (bytes, durable) = (bytes(range), shared.is_durable(fua));
            let or = Stage::Scan { bytes, with: ScanWith::OrIntoData };
            let [write, sync] = plan::write(bytes, 0, durable, apart);
            Plan::of([Some(or), write, sync])
        }
        DiskCommand::WriteSame(same) => {
            let clear = plan_write_same(shared, &same, cmd, cx);
            Plan::of([Some(clear), flush.filter(|_| shared.is_durable(false))])
        }
        DiskCommand::Unmap { anchor, .. } => {
            let zeros = shared.disk.provisioning.is_none_or(|thin| thin.reads_zeros);
            let how = if zeros { Clear::Discard } else { Clear::Trim };
            let clear = Stage::Clear { which: Which::UnmapList, how, anchor };
            Plan::of([Some(clear), flush.filter(|_| shared.is_durable(false))])
        }
        DiskCommand::GetLbaStatus { lba, allocation } => Plan::one(Stage::LbaStatus { lba, allocation }),
        DiskCommand::StartStop(ref start_stop) => plan_start_stop(shared, start_stop, cmd.removal_prevented)?,
        DiskCommand::ModeSelect(_) => {
            let change = answer::parse_mode_select(shared, cmd, cx)?;
            // SBC-4 6.5.6: when WCE goes off, what is cached is written before the command ends.
            let cache_off = shared.pages().current.write_cache && !change.values.write_cache;
            Plan::of([flush.filter(|_| cache_off), Some(Stage::ModeSelect)])
        }
        _ => return Ok(None),
    }))
}

fn plan_write_same(shared: &Shared, same: &WriteSame, cmd: &ExecCommand<'_>, cx: &ExecContext<'_>) -> Stage {
    let mut block = vec![0; if same.no_data { 0 } else { shared.disk.block_size as usize }];
    cx.mem.copy_out(cmd.sg, 0, &mut block);
    let (how, anchor) = match write_same::method(same, shared.disk.provisioning.as_ref(), &block) {
        WriteSameMethod::Deallocate => (Clear::Discard, false),
        WriteSameMethod::Anchor => (Clear::Discard, true),
        WriteSameMethod::Zero => (Clear::Zero, false),
        WriteSameMethod::Pattern => (Clear::WritePattern, false),
    };
    Stage::Clear { which: Which::One(Bytes::of(same.range, shared.disk.block_size)), how, anchor }
}

fn plan_start_stop(shared: &Shared, start_stop: &StartStop, prevented: bool) -> Result<Plan, SenseData> {
    let plan = medium::start_stop(start_stop, &shared.disk, prevented)?;
    Ok(Plan::of([plan.flush.then_some(Stage::Flush), plan.medium.map(Stage::Medium)]))
}

impl HandlerShard for DiskShard {
    fn peripheral_type(&self) -> u8 {
        if self.shared.disk.dummy { DeviceType::UNKNOWN.0 } else { DeviceType::DISK.0 }
    }

    fn parse(&mut self, cdb: &Cdb) -> Result<Parsed, SenseData> {
        let disk = &self.shared.disk;
        // The usual command without the detour over a typed one.
        let parsed = match scst_cmdset::plain_transfer(cdb, disk) {
            Some(parsed) => parsed,
            None => scst_cmdset::parse(cdb, disk)?,
        };
        Ok(Parsed {
            direction: parsed.direction,
            length: parsed.length,
            flags: parsed.flags,
            lba: parsed.lba,
            blocks: parsed.blocks,
        })
    }

    fn execute(&mut self, cmd: ExecCommand<'_>, cx: &mut ExecContext<'_>) -> Execution {
        match self.usual(&cmd, cx) {
            Some(Usual::Simple) => self.simple(&cmd, cx),
            Some(Usual::Done(bytes)) => Execution::Done(Outcome::good(bytes)),
            None => self.execute_any(&cmd, cx),
        }
    }

    fn io_completed(&mut self, cmd: ExecCommand<'_>, completion: IoCompletion, cx: &mut ExecContext<'_>) -> Execution {
        let tag = completion.token.tag;
        if tag >= TAG_SIMPLE {
            return self.simple_completed(&cmd, completion, cx);
        }
        if tag == TAG_SYNC {
            return self.synced(completion.result);
        }
        let (file, generation) = (self.file(), self.generation());
        let Some(slot) = self.tasks.get_mut(usize::from(tag)) else { return lost_task() };
        let Some(task) = slot.as_mut().filter(|task| task.cmd == cmd.id) else { return lost_task() };
        let env = Env { shared: &self.shared, file, generation, tag };
        match task.completed(&env, &cmd, completion, cx) {
            Some(outcome) => {
                *slot = None;
                Execution::Done(outcome)
            }
            None => Execution::Pending,
        }
    }

    fn cancel(&mut self, cmd: CmdId, io: &mut dyn IoQueue) {
        if let Some(task) = self.tasks.iter_mut().flatten().find(|task| task.cmd == cmd) {
            task.cancelled = true;
        }
        io.cancel(cmd);
    }

    fn takes_data_in_place(&self) -> bool {
        !self.shared.is_direct()
    }

    fn reset(&mut self) -> ControlSettings {
        self.shared.change_pages(|pages| pages.reset())
    }

    fn control(&self) -> ControlSettings {
        self.shared.control()
    }
}

/// A completion for a task that is not there: a fault of ours that must not take the command with it.
fn lost_task() -> Execution {
    debug_assert!(false, "completion of an operation without a task");
    Execution::Done(Outcome::check(SenseData::internal_target_failure()))
}
