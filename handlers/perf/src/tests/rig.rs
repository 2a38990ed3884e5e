//! A shard, memory that is full of a pattern, and an I/O queue that takes nothing.

use scst_core::Nanos;
use scst_core::buffer::{BufferSource, Extent, Memory, SgList};
use scst_core::handler::{ExecCommand, ExecContext, Execution, HandlerShard, Outcome, Parsed, Port};
use scst_core::ids::{CmdId, NexusId, ReactorId, SessionId};
use scst_core::io::{IoOp, IoQueue, IoToken, QueueFull};
use scst_scsi::{Cdb, DataDirection, SenseData};

use crate::{Kind, PerfConfig, PerfDevice};

/// What is in every buffer that nobody has written.
pub(super) const OLD: u8 = 0xa5;

/// An I/O queue that counts what it refuses.
#[derive(Default)]
pub(super) struct NoIo(pub(super) u32);

impl IoQueue for NoIo {
    fn submit(&mut self, _: IoToken, _: IoOp<'_>) -> Result<(), QueueFull> {
        self.0 += 1;
        Err(QueueFull)
    }

    fn cancel(&mut self, _: CmdId) {}
}

/// Memory of one buffer in two pieces.
#[derive(Default)]
pub(super) struct Arena(Vec<u8>);

impl Memory for Arena {
    fn copy_in(&mut self, sg: &SgList, offset: u32, data: &[u8]) -> usize {
        let mut done = 0;
        for e in sg.range(offset, data.len() as u32) {
            let (at, len) = (e.offset as usize, e.len as usize);
            self.0[at..at + len].copy_from_slice(&data[done..done + len]);
            done += len;
        }
        done
    }

    fn copy_out(&self, sg: &SgList, offset: u32, out: &mut [u8]) -> usize {
        let mut done = 0;
        for e in sg.range(offset, out.len() as u32) {
            let (at, len) = (e.offset as usize, e.len as usize);
            out[done..done + len].copy_from_slice(&self.0[at..at + len]);
            done += len;
        }
        done
    }

    fn fill(&mut self, sg: &SgList, offset: u32, len: u32, value: u8) {
        for e in sg.range(offset, len) {
            self.0[e.offset as usize..(e.offset + u64::from(e.len)) as usize].fill(value);
        }
    }
}

impl BufferSource for Arena {
    fn allocate(&mut self, bytes: u32) -> Option<SgList> {
        self.0.clear();
        self.0.resize(bytes as usize, OLD);
        let (first, mut sg) = (bytes / 2, SgList::default());
        sg.push(Extent { arena: 0, len: first, offset: 0 });
        sg.push(Extent { arena: 0, len: bytes - first, offset: u64::from(first) });
        Some(sg)
    }

    fn release(&mut self, _: &SgList) {}
}

/// See the module.
pub(super) struct Rig {
    pub(super) shard: Box<dyn HandlerShard>,
    pub(super) io: NoIo,
    pub(super) removal_prevented: bool,
    pub(super) read_only: bool,
    mem: Arena,
}

impl Rig {
    pub(super) fn over(shard: Box<dyn HandlerShard>) -> Self {
        Self { shard, io: NoIo::default(), removal_prevented: false, read_only: false, mem: Arena::default() }
    }

    pub(super) fn new(kind: Kind, change: impl FnOnce(&mut PerfConfig)) -> Self {
        let mut config = PerfConfig::new(kind, "d");
        change(&mut config);
        Self::over(PerfDevice::open(config).unwrap().open_shard())
    }

    /// Runs a CDB with data-out, in a buffer of at most `room` bytes; gives the outcome and the data-in.
    pub(super) fn run_with(&mut self, cdb: &[u8], data_out: &[u8], room: Option<u32>) -> (Outcome, Vec<u8>) {
        let cdb = Cdb::new(cdb);
        let parsed = match self.shard.parse(&cdb) {
            Ok(parsed) => parsed,
            Err(sense) => return (Outcome::check(sense), Vec::new()),
        };
        assert_eq!(parsed.direction == DataDirection::None, parsed.length == 0);
        let sg = self.mem.allocate(room.unwrap_or(parsed.length).min(parsed.length)).unwrap();
        self.mem.copy_in(&sg, 0, data_out);
        let outcome = self.execute(&cdb, &parsed, &sg);
        let mut data = vec![0xee; outcome.transferred as usize];
        assert_eq!(self.mem.copy_out(&sg, 0, &mut data), data.len());
        (outcome, data)
    }

    /// Runs a CDB that has been parsed before.
    pub(super) fn execute_parsed(&mut self, cdb: &Cdb, parsed: &Parsed) -> Outcome {
        let sg = self.mem.allocate(parsed.length).unwrap();
        self.execute(cdb, parsed, &sg)
    }

    fn execute(&mut self, cdb: &Cdb, parsed: &Parsed, sg: &SgList) -> Outcome {
        let cmd = ExecCommand {
            id: CmdId { index: 1, generation: 1 },
            cdb,
            parsed,
            sg,
            nexus: NexusId {
                reactor: ReactorId(0),
                session: SessionId { index: 0, generation: 0 },
                lun: 0,
                instance: 0,
            },
            read_only: self.read_only,
            takes_mapped: false,
            removal_prevented: self.removal_prevented,
            port: Port::Named("iqn.2024-01.test:t", 1),
        };
        let mut cx = ExecContext { io: &mut self.io, mem: &mut self.mem, raw_sense: &mut None, now: Nanos(0) };
        let Execution::Done(outcome) = self.shard.execute(cmd, &mut cx) else { panic!("nothing is ever pending") };
        assert_eq!(self.io.0, 0, "no operation on any medium");
        outcome
    }

    /// Runs a CDB without data-out; gives data-in and sense data.
    pub(super) fn run(&mut self, cdb: &[u8]) -> (Vec<u8>, Option<SenseData>) {
        let (outcome, data) = self.run_with(cdb, &[], None);
        (data, outcome.sense)
    }

    /// Runs a CDB that must end with GOOD; gives its data-in.
    pub(super) fn good(&mut self, cdb: &[u8]) -> Vec<u8> {
        let (outcome, data) = self.run_with(cdb, &[], None);
        assert_eq!(outcome, Outcome { effects: outcome.effects, ..Outcome::good(data.len() as u32) }, "{cdb:02x?}");
        data
    }

    /// Runs a CDB with data-out that must end with GOOD.
    pub(super) fn send(&mut self, cdb: &[u8], data_out: &[u8]) {
        let (outcome, _) = self.run_with(cdb, data_out, None);
        assert_eq!(outcome, Outcome { effects: outcome.effects, ..Outcome::good(0) }, "{cdb:02x?}");
    }

    /// Runs a CDB that must fail; gives the sense data.
    pub(super) fn refused(&mut self, cdb: &[u8]) -> SenseData {
        self.run(cdb).1.unwrap_or_else(|| panic!("{cdb:02x?} is good"))
    }
}
