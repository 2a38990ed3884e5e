//! A shard over a disk in memory that does what it is told, and fails on request.

use std::collections::VecDeque;

use scst_core::Nanos;
use scst_core::buffer::{BufferSource, Extent, Memory, SgList};
use scst_core::handler::{ExecCommand, ExecContext, Execution, HandlerShard, Outcome, Parsed, Port};
use scst_core::ids::{CmdId, NexusId, ReactorId, SessionId};
use scst_core::io::{FileId, IoCompletion, IoOp, IoQueue, IoToken, QueueFull};
use scst_scsi::{Cdb, SenseData};

use crate::{Vdisk, VdiskConfig};

/// Blocks of the disk.
pub(super) const BLOCKS: u64 = 4096;

/// The arena of mapped pages.
pub(super) const PAGES: u32 = 1 << 31;

/// An operation as the log shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Op {
    Read { offset: u64, len: u32 },
    Write { offset: u64, len: u32, dsync: bool },
    Flush,
    Prefetch { offset: u64, len: u64 },
    Discard { offset: u64, len: u64 },
    Trim { offset: u64, len: u64 },
    Zero { offset: u64, len: u64 },
    Allocate { offset: u64, len: u64 },
    Mapped { offset: u64, len: u64 },
}

/// What an operation does instead of what it should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// Ends with this errno.
    Errno(i32),
    /// Moves only so many bytes.
    Short(u32),
}

/// The disk, and the operations under way.
#[derive(Default)]
pub(super) struct FakeIo {
    pub(super) queue: VecDeque<(IoToken, Op, SgList, u32)>,
    /// Operations in the order they were submitted.
    pub(super) log: Vec<Op>,
    /// What happens to the next operations: one entry each, None for nothing special.
    pub(super) faults: VecDeque<Option<Fault>>,
    /// Refuse everything.
    pub(super) full: bool,
    /// Everything is in the page cache.
    pub(super) pages: bool,
    pub(super) cancelled: Vec<CmdId>,
    pub(super) bytes: Vec<u8>,
    /// What O_DIRECT would want of reads and writes: memory, sector.
    pub(super) alignment: Option<(u64, u64)>,
    /// Holes, as byte ranges.
    pub(super) holes: Vec<(u64, u64)>,
}

impl IoQueue for FakeIo {
    fn submit(&mut self, token: IoToken, op: IoOp<'_>) -> Result<(), QueueFull> {
        if self.full {
            return Err(QueueFull);
        }
        let (op, sg, sg_offset) = match op {
            IoOp::Read { offset, sg, sg_offset, len, .. } => (Op::Read { offset, len }, *sg, sg_offset),
            IoOp::Write { offset, sg, sg_offset, len, dsync, .. } => (Op::Write { offset, len, dsync }, *sg, sg_offset),
            IoOp::Flush { .. } => (Op::Flush, SgList::default(), 0),
            IoOp::Prefetch { offset, len, .. } => (Op::Prefetch { offset, len }, SgList::default(), 0),
            IoOp::Discard { offset, len, .. } => (Op::Discard { offset, len }, SgList::default(), 0),
            IoOp::Trim { offset, len, .. } => (Op::Trim { offset, len }, SgList::default(), 0),
            IoOp::Zero { offset, len, .. } => (Op::Zero { offset, len }, SgList::default(), 0),
            IoOp::Allocate { offset, len, .. } => (Op::Allocate { offset, len }, SgList::default(), 0),
            IoOp::Mapped { offset, len, .. } => (Op::Mapped { offset, len }, SgList::default(), 0),
        };
        if let (Some(alignment), Op::Read { offset, len } | Op::Write { offset, len, .. }) = (self.alignment, op) {
            assert!(is_aligned(alignment, &sg, sg_offset, offset, len), "{op:?} into {sg:?} at {sg_offset}");
        }
        self.log.push(op);
        self.queue.push_back((token, op, sg, sg_offset));
        Ok(())
    }

    fn cancel(&mut self, cmd: CmdId) {
        self.cancelled.push(cmd);
    }

    fn cached_pages(&mut self, _: FileId, offset: u64, len: u32) -> Option<Extent> {
        self.pages.then_some(Extent { arena: PAGES, len, offset })
    }
}

impl FakeIo {
    /// Carries the oldest operation out.
    fn complete(&mut self, mem: &mut Arena) -> IoCompletion {
        let (token, op, sg, sg_offset) = self.queue.pop_front().expect("an operation in flight");
        let fault = self.faults.pop_front().flatten();
        if let Some(Fault::Errno(errno)) = fault {
            return IoCompletion { token, result: -errno, extra: 0 };
        }
        let cut = |len: u32| match fault {
            Some(Fault::Short(most)) => len.min(most),
            _ => len,
        };
        let (result, extra) = match op {
            Op::Read { offset, len } => {
                let end = (offset + u64::from(cut(len))).min(self.bytes.len() as u64);
                let data = &self.bytes[offset.min(end) as usize..end as usize];
                (mem.copy_in(&sg, sg_offset, data) as i32, 0)
            }
            Op::Write { offset, len, .. } => {
                let len = cut(len);
                let to = &mut self.bytes[offset as usize..(offset + u64::from(len)) as usize];
                (mem.copy_out(&sg, sg_offset, to) as i32, 0)
            }
            // Whoever needs zeros must not trust in a trim.
            Op::Trim { offset, len } => {
                self.bytes[offset as usize..(offset + len) as usize].fill(0xdd);
                (0, 0)
            }
            Op::Discard { offset, len } | Op::Zero { offset, len } => {
                self.bytes[offset as usize..(offset + len) as usize].fill(0);
                (0, 0)
            }
            Op::Mapped { offset, len } => self.mapped(offset, len),
            Op::Flush | Op::Prefetch { .. } | Op::Allocate { .. } => (0, 0),
        };
        IoCompletion { token, result, extra }
    }

    fn mapped(&self, offset: u64, len: u64) -> (i32, u64) {
        for &(start, end) in &self.holes {
            if (start..end).contains(&offset) {
                return (0, len.min(end - offset));
            }
            if start > offset {
                return (1, len.min(start - offset));
            }
        }
        (1, len)
    }
}

/// Each run of memory begins where it must and holds whole sectors.
fn is_aligned((memory, sector): (u64, u64), sg: &SgList, sg_offset: u32, offset: u64, len: u32) -> bool {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for e in sg.range(sg_offset, len) {
        match runs.last_mut() {
            Some((start, len)) if *start + *len == e.offset => *len += u64::from(e.len),
            _ => runs.push((e.offset, u64::from(e.len))),
        }
    }
    let runs = runs.iter().all(|(start, len)| start % memory == 0 && len % sector == 0);
    runs && offset.is_multiple_of(sector)
}

/// Memory of buffers; never reuses any, and knows what is out.
#[derive(Default)]
pub(super) struct Arena {
    bytes: Vec<u8>,
    pub(super) out: u32,
    pub(super) refuse: bool,
}

impl Memory for Arena {
    fn copy_in(&mut self, sg: &SgList, offset: u32, data: &[u8]) -> usize {
        let mut done = 0;
        for e in sg.range(offset, data.len() as u32) {
            let (at, len) = (e.offset as usize, e.len as usize);
            self.bytes[at..at + len].copy_from_slice(&data[done..done + len]);
            done += len;
        }
        done
    }

    fn copy_out(&self, sg: &SgList, offset: u32, out: &mut [u8]) -> usize {
        let mut done = 0;
        for e in sg.range(offset, out.len() as u32) {
            let (at, len) = (e.offset as usize, e.len as usize);
            out[done..done + len].copy_from_slice(&self.bytes[at..at + len]);
            done += len;
        }
        done
    }

    fn fill(&mut self, sg: &SgList, offset: u32, len: u32, value: u8) {
        for e in sg.range(offset, len) {
            self.bytes[e.offset as usize..(e.offset + u64::from(e.len)) as usize].fill(value);
        }
    }
}

impl BufferSource for Arena {
    fn allocate(&mut self, bytes: u32) -> Option<SgList> {
        if self.refuse {
            return None;
        }
        let offset = self.bytes.len().next_multiple_of(4096) as u64;
        self.bytes.resize(offset as usize + bytes as usize, 0xa5);
        let mut sg = SgList::default();
        // Two pieces, so that everything meets a boundary.
        let first = bytes / 2;
        sg.push(Extent { arena: 0, len: first, offset });
        sg.push(Extent { arena: 0, len: bytes - first, offset: offset + u64::from(first) });
        self.out += 1;
        Some(sg)
    }

    fn release(&mut self, _: &SgList) {
        self.out -= 1;
    }
}

impl Arena {
    /// A buffer of pieces of these lengths, each so many bytes behind the start of a page.
    pub(super) fn scattered(&mut self, pieces: &[(u64, u32)]) -> SgList {
        let mut sg = SgList::default();
        for &(behind, len) in pieces {
            let offset = self.bytes.len().next_multiple_of(4096) as u64 + behind;
            self.bytes.resize((offset + u64::from(len)) as usize, 0xa5);
            assert!(sg.push(Extent { arena: 0, len, offset }));
        }
        sg
    }
}

/// One command, from its CDB on.
pub(super) struct Command {
    pub(super) id: CmdId,
    pub(super) cdb: Cdb,
    pub(super) parsed: Parsed,
    pub(super) sg: SgList,
}

/// See the module.
pub(super) struct Rig {
    pub(super) disk: Vdisk,
    pub(super) shard: Box<dyn HandlerShard>,
    pub(super) io: FakeIo,
    pub(super) mem: Arena,
    pub(super) read_only: bool,
    pub(super) takes_mapped: bool,
    pub(super) removal_prevented: bool,
    commands: u32,
}

/// A FILEIO disk, changed by the test.
pub(super) fn file_disk(change: impl FnOnce(&mut VdiskConfig)) -> Rig {
    let mut config = VdiskConfig::file("d", "/nowhere");
    change(&mut config);
    let bytes = BLOCKS * u64::from(config.block_size);
    let disk = Vdisk::simulated(config, bytes).unwrap();
    let shard = disk.open_shard_on(FileId(7));
    let io = FakeIo { bytes: vec![0; bytes as usize], ..FakeIo::default() };
    Rig::new(disk, shard, io)
}

/// A FILEIO disk with defaults.
pub(super) fn disk() -> Rig {
    file_disk(|_| {})
}

impl Rig {
    pub(super) fn new(disk: Vdisk, shard: Box<dyn HandlerShard>, io: FakeIo) -> Self {
        Self {
            disk,
            shard,
            io,
            mem: Arena::default(),
            read_only: false,
            takes_mapped: false,
            removal_prevented: false,
            commands: 0,
        }
    }

    /// Parses a CDB and gives it a buffer of `bytes` (None: as many as it says).
    pub(super) fn command(&mut self, cdb: &[u8], data_out: &[u8], bytes: Option<u32>) -> Result<Command, SenseData> {
        let cdb = Cdb::new(cdb);
        let parsed = self.shard.parse(&cdb)?;
        let refuse = std::mem::take(&mut self.mem.refuse);
        let sg = self.mem.allocate(bytes.unwrap_or(parsed.length)).unwrap();
        self.mem.refuse = refuse;
        self.mem.out -= 1;
        self.mem.copy_in(&sg, 0, data_out);
        self.commands += 1;
        Ok(Command { id: CmdId { index: self.commands, generation: 1 }, cdb, parsed, sg })
    }

    fn with<R>(
        &mut self,
        command: &Command,
        f: impl FnOnce(&mut dyn HandlerShard, ExecCommand<'_>, &mut ExecContext<'_>) -> R,
    ) -> R {
        let exec = ExecCommand {
            id: command.id,
            cdb: &command.cdb,
            parsed: &command.parsed,
            sg: &command.sg,
            nexus: NexusId {
                reactor: ReactorId(0),
                session: SessionId { index: 0, generation: 0 },
                lun: 0,
                instance: 0,
            },
            read_only: self.read_only,
            takes_mapped: self.takes_mapped,
            removal_prevented: self.removal_prevented,
            port: Port::Named("iqn.2024-01.test:t", 1),
        };
        let mut cx = ExecContext { io: &mut self.io, mem: &mut self.mem, raw_sense: &mut None, now: Nanos(0) };
        f(&mut *self.shard, exec, &mut cx)
    }

    pub(super) fn execute(&mut self, command: &Command) -> Execution {
        self.with(command, |shard, exec, cx| shard.execute(exec, cx))
    }

    /// Ends the oldest operation.
    pub(super) fn complete(&mut self, command: &Command) -> Execution {
        let completion = self.io.complete(&mut self.mem);
        assert_eq!(completion.token.cmd, command.id);
        self.with(command, |shard, exec, cx| shard.io_completed(exec, completion, cx))
    }

    /// Runs a command to its end.
    pub(super) fn finish(&mut self, command: &Command) -> Outcome {
        let mut execution = self.execute(command);
        loop {
            match execution {
                Execution::Done(outcome) => break outcome,
                Execution::Mapped(pages) => panic!("nobody takes {pages:?}"),
                Execution::Pending => execution = self.complete(command),
            }
        }
    }

    /// Runs a CDB with data-out; asserts that no scratch buffer is left behind.
    pub(super) fn run(&mut self, cdb: &[u8], data_out: &[u8]) -> Outcome {
        let command = match self.command(cdb, data_out, None) {
            Ok(command) => command,
            Err(sense) => return Outcome::check(sense),
        };
        let outcome = self.finish(&command);
        assert_eq!((self.mem.out, self.io.queue.len()), (0, 0));
        outcome
    }

    /// Runs a CDB that must end with GOOD and gives its data-in.
    pub(super) fn read(&mut self, cdb: &[u8]) -> Vec<u8> {
        let command = self.command(cdb, &[], None).unwrap();
        let outcome = self.finish(&command);
        assert_eq!(outcome, Outcome::good(outcome.transferred), "{cdb:02x?}");
        self.data_in(&command, &outcome)
    }

    /// The data-in of a command.
    pub(super) fn data_in(&self, command: &Command, outcome: &Outcome) -> Vec<u8> {
        let mut data = vec![0; outcome.transferred as usize];
        assert_eq!(self.mem.copy_out(&command.sg, 0, &mut data), data.len());
        data
    }

    /// The operations since the last look.
    pub(super) fn ops(&mut self) -> Vec<Op> {
        std::mem::take(&mut self.io.log)
    }

    /// The next operations go wrong like this.
    pub(super) fn faults(&mut self, faults: &[Option<Fault>]) {
        self.io.faults.extend(faults);
    }
}

/// A ten-byte CDB with an LBA and a number of blocks.
pub(super) fn ten(opcode: u8, bits: u8, lba: u32, blocks: u16) -> [u8; 10] {
    let (l, b) = (lba.to_be_bytes(), blocks.to_be_bytes());
    [opcode, bits, l[0], l[1], l[2], l[3], 0, b[0], b[1], 0]
}

/// A sixteen-byte CDB with an LBA and a number of blocks.
pub(super) fn sixteen(opcode: u8, bits: u8, lba: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (opcode, bits);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// Bytes that differ from place to place.
pub(super) fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 7) as u8 ^ i as u8 ^ seed).collect()
}
