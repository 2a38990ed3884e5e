//! Arbitrary CDBs and parameter data against a virtual disk over storage that is in memory, slow and faulty.
//!
//! Checked: one completion per execution; only bytes of the command's own buffers and of the disk are touched; CHECK
//! CONDITION always comes with sense data; no scratch buffer and no operation is left behind.
#![no_main]

use std::collections::{BTreeSet, VecDeque};

use libfuzzer_sys::fuzz_target;
use scst_core::Nanos;
use scst_core::buffer::{BufferSource, Extent, Memory, SgList};
use scst_core::handler::{ExecCommand, ExecContext, Execution, HandlerShard, Outcome, Parsed, Port};
use scst_core::ids::{CmdId, NexusId, ReactorId, SessionId};
use scst_core::io::{FileId, IoCompletion, IoOp, IoQueue, IoToken, QueueFull};
use scst_handler_vdisk::{Vdisk, VdiskConfig};
use scst_scsi::{Cdb, DataDirection, ScsiStatus};

/// Bytes of the disk.
const DISK: usize = 256 << 10;
/// Most commands of one input.
const COMMANDS: u32 = 12;
/// Most bytes of all buffers together.
const MEMORY: usize = 16 << 20;
/// Most operations of one command: no command is longer than the disk, in pieces of a block.
const OPERATIONS: u32 = 100_000;

/// The fuzzer's decisions, used from the front.
struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    fn u8(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        head
    }
}

fuzz_target!(|data: &[u8]| {
    let mut source = Source(data);
    let kind = source.u8();
    let config = VdiskConfig {
        block_size: if kind & 1 != 0 { 4096 } else { 512 },
        thin_provisioned: kind & 2 != 0,
        removable: kind & 4 != 0,
        write_through: kind & 8 != 0,
        read_only: kind & 0xf0 == 0xf0,
        ..VdiskConfig::file("fuzz", "/nowhere")
    };
    let disk = Vdisk::simulated(config, DISK as u64).expect("a valid configuration");
    let mut rig =
        Rig { shard: disk.open_shard_on(FileId(7)), io: Io::new(), mem: Arena::default(), faults: source.u8() };
    for number in 0..COMMANDS {
        if source.0.is_empty() {
            break;
        }
        rig.command(number, &mut source);
    }
});

struct Rig {
    shard: Box<dyn HandlerShard>,
    io: Io,
    mem: Arena,
    /// How bad the storage is.
    faults: u8,
}

impl Rig {
    fn command(&mut self, number: u32, source: &mut Source<'_>) {
        let length = [6, 10, 12, 16, 32][usize::from(source.u8() % 5)];
        let mut bytes = source.take(length).to_vec();
        bytes.resize(length, 0);
        let cdb = Cdb::new(&bytes);
        let Ok(parsed) = self.shard.parse(&cdb) else { return };
        assert_eq!(parsed.direction == DataDirection::None, parsed.length == 0, "{bytes:02x?} {parsed:?}");
        let how = source.u8();
        // The initiator may expect, or have sent, fewer bytes than the command is about.
        let size = if how & 7 == 7 { parsed.length.min(u32::from(source.u8())) } else { parsed.length };
        self.mem.reset();
        let Some(sg) = self.mem.allocate(size) else { return };
        self.mem.scratch = 0;
        let list = source.take(usize::from(how >> 3) * 8);
        self.mem.copy_in(&sg, 0, list);
        let id = CmdId { index: number, generation: 1 };
        let outcome = self.run(id, &cdb, &parsed, &sg, how & 8 != 0);
        assert_eq!(outcome.status == ScsiStatus::CHECK_CONDITION, outcome.sense.is_some(), "{bytes:02x?}");
        assert!(outcome.transferred <= size.min(parsed.length), "{bytes:02x?} {outcome:?}");
        if parsed.direction != DataDirection::FromDevice {
            assert_eq!(outcome.transferred, 0, "{bytes:02x?}");
        }
        assert_eq!((self.mem.scratch, self.io.queue.len()), (0, 0), "left behind by {bytes:02x?}");
    }

    fn run(&mut self, id: CmdId, cdb: &Cdb, parsed: &Parsed, sg: &SgList, read_only: bool) -> Outcome {
        let exec = ExecCommand {
            id,
            cdb,
            parsed,
            sg,
            nexus: NexusId {
                reactor: ReactorId(0),
                session: SessionId { index: 0, generation: 0 },
                lun: 0,
                instance: 0,
            },
            read_only: read_only && self.faults & 1 != 0,
            takes_mapped: false,
            removal_prevented: false,
            port: Port::Named("iqn.2026-01.local.scst:fuzz", 1),
        };
        let mut execution = {
            let mut cx = ExecContext { io: &mut self.io, mem: &mut self.mem, raw_sense: &mut None, now: Nanos(0) };
            self.shard.execute(exec, &mut cx)
        };
        for at in 0..OPERATIONS {
            match execution {
                Execution::Done(outcome) => {
                    assert!(self.io.queue.is_empty(), "done, but an operation is in flight");
                    return outcome;
                }
                Execution::Mapped(pages) => panic!("nobody takes {pages:?}"),
                Execution::Pending => {
                    assert!(!self.io.queue.is_empty(), "pending, but nothing is in flight");
                    if self.faults & 0x80 != 0 && at == 3 {
                        self.shard.cancel(id, &mut self.io);
                    }
                    let completion = self.io.complete(&mut self.mem, self.faults);
                    assert_eq!(completion.token.cmd, id);
                    let mut cx =
                        ExecContext { io: &mut self.io, mem: &mut self.mem, raw_sense: &mut None, now: Nanos(0) };
                    execution = self.shard.io_completed(exec, completion, &mut cx);
                }
            }
        }
        panic!("a command without an end: {cdb:?}");
    }
}

#[derive(Clone, Copy)]
enum Op {
    Read { offset: u64, len: u32 },
    Write { offset: u64, len: u32 },
    Clear { offset: u64, len: u64 },
    Mapped { len: u64 },
    Nothing,
}

struct Io {
    queue: VecDeque<(IoToken, Op, SgList, u32)>,
    bytes: Vec<u8>,
    turn: u32,
}

impl Io {
    fn new() -> Self {
        Self { queue: VecDeque::new(), bytes: vec![0; DISK], turn: 0 }
    }

    fn complete(&mut self, mem: &mut Arena, faults: u8) -> IoCompletion {
        let (token, op, sg, sg_offset) = self.queue.pop_front().expect("an operation in flight");
        self.turn += 1;
        // Every so often something goes wrong, as the fuzzer chose.
        let wrong = faults & 2 != 0 && self.turn % (u32::from(faults >> 4) + 2) == 1;
        if wrong {
            // EIO, ENOSPC, EOPNOTSUPP, EINVAL.
            let errno = [5, 28, 95, 22][(faults >> 2 & 3) as usize];
            return IoCompletion { token, result: -errno, extra: 0 };
        }
        let short = |len: u32| if faults & 1 != 0 && self.turn % 3 == 0 { len / 2 / 512 * 512 } else { len };
        let (result, extra) = match op {
            Op::Read { offset, len } => {
                let len = short(len).max(1).min(len) as usize;
                let data = self.bytes[offset as usize..offset as usize + len].to_vec();
                (mem.copy_in(&sg, sg_offset, &data) as i32, 0)
            }
            Op::Write { offset, len } => {
                let len = short(len).max(1).min(len) as usize;
                (mem.copy_out(&sg, sg_offset, &mut self.bytes[offset as usize..offset as usize + len]) as i32, 0)
            }
            Op::Clear { offset, len } => {
                self.bytes[offset as usize..(offset + len) as usize].fill(0);
                (0, 0)
            }
            Op::Mapped { len } => (i32::from(self.turn % 2 == 0), len.div_ceil(2).max(1)),
            Op::Nothing => (0, 0),
        };
        IoCompletion { token, result, extra }
    }
}

impl IoQueue for Io {
    fn submit(&mut self, token: IoToken, op: IoOp<'_>) -> Result<(), QueueFull> {
        let within = |offset: u64, len: u64| {
            assert!(offset.checked_add(len).is_some_and(|end| end <= DISK as u64), "{op:?} goes past the disk");
        };
        let fits = |sg: &SgList, sg_offset: u32, len: u32| {
            assert!(u64::from(sg_offset) + u64::from(len) <= u64::from(sg.bytes()), "{op:?} goes past its buffer");
            assert!(len > 0, "{op:?} moves nothing");
        };
        let (kind, sg, sg_offset) = match op {
            IoOp::Read { offset, sg, sg_offset, len, .. } => {
                within(offset, len.into());
                fits(sg, sg_offset, len);
                (Op::Read { offset, len }, *sg, sg_offset)
            }
            IoOp::Write { offset, sg, sg_offset, len, .. } => {
                within(offset, len.into());
                fits(sg, sg_offset, len);
                (Op::Write { offset, len }, *sg, sg_offset)
            }
            IoOp::Discard { offset, len, .. } | IoOp::Trim { offset, len, .. } | IoOp::Zero { offset, len, .. } => {
                within(offset, len);
                (Op::Clear { offset, len }, SgList::default(), 0)
            }
            IoOp::Allocate { offset, len, .. } | IoOp::Prefetch { offset, len, .. } => {
                within(offset, len);
                (Op::Nothing, SgList::default(), 0)
            }
            IoOp::Mapped { offset, len, .. } => {
                within(offset, len);
                (Op::Mapped { len }, SgList::default(), 0)
            }
            IoOp::Flush { .. } => (Op::Nothing, SgList::default(), 0),
        };
        self.queue.push_back((token, kind, sg, sg_offset));
        Ok(())
    }

    fn cancel(&mut self, _: CmdId) {}
}

/// Memory of buffers: never reused within a command, and every access is checked against what is out.
#[derive(Default)]
struct Arena {
    bytes: Vec<u8>,
    out: BTreeSet<u64>,
    scratch: u32,
}

impl Arena {
    fn reset(&mut self) {
        self.bytes.clear();
        self.out.clear();
    }

    fn check(&self, e: Extent) {
        let owner = self.out.range(..=e.offset).next_back();
        assert!(owner.is_some(), "{e:?} belongs to no buffer that is out");
    }
}

impl Memory for Arena {
    fn copy_in(&mut self, sg: &SgList, offset: u32, data: &[u8]) -> usize {
        let mut done = 0;
        for e in sg.range(offset, data.len() as u32) {
            self.check(e);
            let (at, len) = (e.offset as usize, e.len as usize);
            self.bytes[at..at + len].copy_from_slice(&data[done..done + len]);
            done += len;
        }
        done
    }

    fn copy_out(&self, sg: &SgList, offset: u32, out: &mut [u8]) -> usize {
        let mut done = 0;
        for e in sg.range(offset, out.len() as u32) {
            self.check(e);
            let (at, len) = (e.offset as usize, e.len as usize);
            out[done..done + len].copy_from_slice(&self.bytes[at..at + len]);
            done += len;
        }
        done
    }

    fn fill(&mut self, sg: &SgList, offset: u32, len: u32, value: u8) {
        for e in sg.range(offset, len) {
            self.check(e);
            self.bytes[e.offset as usize..(e.offset + u64::from(e.len)) as usize].fill(value);
        }
    }
}

impl BufferSource for Arena {
    fn allocate(&mut self, bytes: u32) -> Option<SgList> {
        if self.bytes.len() + bytes as usize > MEMORY {
            return None;
        }
        let offset = self.bytes.len() as u64;
        self.bytes.resize(self.bytes.len() + bytes as usize, 0xa5);
        let mut sg = SgList::default();
        // Two pieces, so that everything meets a boundary.
        let first = bytes / 2;
        sg.push(Extent { arena: 0, len: first, offset });
        sg.push(Extent { arena: 0, len: bytes - first, offset: offset + u64::from(first) });
        self.out.insert(offset);
        self.scratch += 1;
        Some(sg)
    }

    fn release(&mut self, sg: &SgList) {
        if let Some(first) = sg.extents().first() {
            self.out.remove(&first.offset);
        }
        self.scratch -= 1;
    }
}
