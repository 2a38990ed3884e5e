//! Durable WRITEs on two reactors against simulated storage that fails at random moments: whatever is answered GOOD is durable at
//! that moment. The storage behaves as Linux does: an error of writeback is told once to each open file description, and the
//! pages count as clean; what lies below may tell its own error to one sync alone.

use std::os::fd::AsRawFd;

use scst_core::Nanos;
use scst_core::buffer::{Memory, SgList};
use scst_core::handler::{ExecCommand, ExecContext, Execution, HandlerShard, Outcome, Parsed, Port};
use scst_core::ids::{CmdId, NexusId, ReactorId, SessionId};
use scst_core::io::IoCompletion;
use scst_handler_vdisk::{OpenShard, ShardLink, Vdisk, VdiskConfig};
use scst_mem::{BufferPool, PoolConfig};
use scst_reactor::backend::{Backend, Completion};
use scst_reactor::sim::{SimBackend, SimConfig, SimDisk, SimWorld};
use scst_scsi::{Cdb, ScsiStatus};

const PAGE: u32 = 4096;
const BLOCKS: u8 = 8;
/// Commands of a run, each WRITE to a page of its own.
const COMMANDS: u32 = 200;
const SEEDS: u64 = 600;
const REACTORS: u16 = 2;

struct Reactor {
    number: u16,
    shard: Box<dyn HandlerShard>,
    link: ShardLink,
    backend: SimBackend,
    pool: BufferPool,
    under_way: Vec<Command>,
}

struct Command {
    id: CmdId,
    cdb: Cdb,
    parsed: Parsed,
    sg: SgList,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Write {
        page: u32,
        durable: bool,
    },
    /// For these pages, which were answered before.
    Flush(Vec<u32>),
}

fn content(page: u32) -> Vec<u8> {
    (page + 1).to_be_bytes().repeat(PAGE as usize / 4)
}

fn write(page: u32, opcode: u8, fua: bool) -> [u8; 10] {
    let lba = (page * u32::from(BLOCKS)).to_be_bytes();
    [opcode, u8::from(fua) << 3, lba[0], lba[1], lba[2], lba[3], 0, 0, BLOCKS, 0]
}

impl Reactor {
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
                reactor: ReactorId(self.number),
                session: SessionId { index: 0, generation: 0 },
                lun: 0,
                instance: 0,
            },
            read_only: false,
            takes_mapped: false,
            removal_prevented: false,
            port: Port::Named("iqn.2024-01.test:t", 1),
        };
        let mut cx = ExecContext { io: &mut self.backend, mem: &mut self.pool, raw_sense: &mut None, now: Nanos(0) };
        f(&mut *self.shard, exec, &mut cx)
    }

    /// Starts a command; its end, if it has one already.
    fn start(&mut self, n: u32, cdb: &[u8], what: What) -> Option<(What, Outcome)> {
        let cdb = Cdb::new(cdb);
        let parsed = self.shard.parse(&cdb).unwrap();
        let sg = self.pool.allocate(parsed.length.max(512)).unwrap();
        if let What::Write { page, .. } = what {
            self.pool.copy_in(&sg, 0, &content(page));
        }
        let command = Command { id: CmdId { index: n, generation: 1 }, cdb, parsed, sg, what };
        match self.with(&command, |shard, exec, cx| shard.execute(exec, cx)) {
            Execution::Done(outcome) => Some(self.end(command, outcome)),
            _ => {
                self.under_way.push(command);
                None
            }
        }
    }

    fn completed(&mut self, io: IoCompletion) -> Option<(What, Outcome)> {
        let at = self.under_way.iter().position(|command| command.id == io.token.cmd).expect("a command under way");
        let command = self.under_way.swap_remove(at);
        match self.with(&command, |shard, exec, cx| shard.io_completed(exec, io, cx)) {
            Execution::Done(outcome) => Some(self.end(command, outcome)),
            _ => {
                self.under_way.push(command);
                None
            }
        }
    }

    fn end(&mut self, command: Command, outcome: Outcome) -> (What, Outcome) {
        self.pool.release(&command.sg);
        (command.what, outcome)
    }
}

fn reactor(number: u16, world: &SimWorld, disk: &Vdisk) -> Reactor {
    let mut pool = BufferPool::new(PoolConfig { budget: 8 << 20, ..PoolConfig::default() });
    let first = pool.allocate(PAGE).unwrap();
    pool.release(&first);
    let mut backend = world.backend(pool.arenas().clone());
    let OpenShard { shard, link } = disk.open_shard(&mut backend);
    Reactor { number, shard, link, backend, pool, under_way: Vec::new() }
}

/// What was promised and kept, and what was refused.
#[derive(Default, Debug)]
struct Counted {
    durable: u32,
    refused: u32,
    failed_runs: u32,
}

struct Run<'a> {
    seed: u64,
    storage: &'a SimDisk,
    answered: Vec<u32>,
    counted: &'a mut Counted,
}

impl Run<'_> {
    /// A command has ended.
    fn judge(&mut self, what: What, outcome: &Outcome) {
        let good = outcome.status == ScsiStatus::GOOD;
        let promised = match what {
            What::Write { page, durable: false } => {
                self.answered.extend(good.then_some(page));
                return;
            }
            What::Write { page, .. } => vec![page],
            What::Flush(pages) => pages,
        };
        if !good {
            self.counted.refused += 1;
            return;
        }
        for page in promised {
            let mut found = vec![0; PAGE as usize];
            self.storage.peek_durable(u64::from(page * PAGE), &mut found);
            assert!(found == content(page), "seed {}: page {page} was promised and is not durable", self.seed);
            self.counted.durable += 1;
        }
    }
}

fn play(seed: u64, counted: &mut Counted) {
    let mut config = SimConfig::calm(seed);
    (config.disk.eio, config.disk.short, config.disk.queue_full) = (5_000, 5_000, 2_000);
    let world = SimWorld::new(config);
    let storage = world.disk(u64::from(COMMANDS * PAGE));
    let file = storage.file();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let write_through = world.chance(300_000);
    let disk = Vdisk::open(VdiskConfig { write_through, reactors: REACTORS, ..VdiskConfig::file("d", path) }).unwrap();
    let mut reactors: Vec<_> = (0..REACTORS).map(|number| reactor(number, &world, &disk)).collect();
    let depth = 1 + world.random(12) as usize;
    let mut run = Run { seed, storage: &storage, answered: Vec::new(), counted };
    let (mut next, mut out) = (0, Vec::new());
    loop {
        for reactor in &mut reactors {
            // Another may be told of an error long before this one comes to look.
            if world.chance(700_000) {
                continue;
            }
            while next < COMMANDS && reactor.under_way.len() < depth {
                next += 1;
                let page = next - 1;
                let ended = match world.random(8) {
                    0 => reactor.start(next, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], What::Flush(run.answered.clone())),
                    // WRITE AND VERIFY, which is always durable.
                    1 => reactor.start(next, &write(page, 0x2e, false), What::Write { page, durable: true }),
                    2 => reactor.start(next, &write(page, 0x2a, false), What::Write { page, durable: write_through }),
                    _ => reactor.start(next, &write(page, 0x2a, true), What::Write { page, durable: true }),
                };
                if let Some((what, outcome)) = ended {
                    run.judge(what, &outcome);
                }
                if let Some(command) = reactor.under_way.last()
                    && world.chance(20_000)
                {
                    reactor.shard.cancel(command.id, &mut reactor.backend);
                }
            }
            let now = reactor.backend.now();
            reactor.backend.wait(Some(now), &mut out).unwrap();
            for completion in out.drain(..) {
                if let Completion::Io(io) = completion
                    && let Some((what, outcome)) = reactor.completed(io)
                {
                    run.judge(what, &outcome);
                }
            }
        }
        let idle = reactors.iter().all(|reactor| reactor.under_way.is_empty());
        if idle && next == COMMANDS {
            break;
        }
        world.step();
    }
    if disk.status().flush_error.is_some() {
        run.counted.failed_runs += 1;
        for reactor in &mut reactors {
            let (_, outcome) = reactor.start(COMMANDS + 1, &write(0, 0x2a, true), What::Flush(Vec::new())).unwrap();
            assert_ne!(outcome.status, ScsiStatus::GOOD, "seed {seed}: nothing is durable behind a failure");
        }
    }
    for reactor in reactors {
        assert_eq!(reactor.pool.statistics().in_use, 0, "seed {seed}");
        let Reactor { link, mut backend, .. } = reactor;
        link.close(&mut backend);
    }
}

#[test]
fn what_is_promised_while_storage_dies_is_durable() {
    let mut counted = Counted::default();
    for seed in 0..SEEDS {
        play(seed, &mut counted);
    }
    let Counted { durable, refused, failed_runs } = counted;
    assert!(durable > 20_000 && refused > 20_000, "{durable} kept, {refused} refused");
    assert!(u64::from(failed_runs) > SEEDS / 3, "{failed_runs} runs with a failure");
}
