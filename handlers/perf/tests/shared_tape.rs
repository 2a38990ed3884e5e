//! A tape under the mid-level of several reactors whose messages are slow: one order for all, and no object lost.

use std::collections::VecDeque;
use std::sync::Arc;

use scst_core::Nanos;
use scst_core::buffer::{BufferSource, Extent, Memory, SgList};
use scst_core::config::{LunEntry, LunMap, TargetConfig};
use scst_core::driver::{NewCommand, Response, TargetDriver};
use scst_core::engine::{EngineConfig, Limits, SessionRequest};
use scst_core::event::Message;
use scst_core::ids::{CmdId, DeviceId, ReactorId, SessionId, TargetId, TmfId};
use scst_core::io::{IoOp, IoQueue, IoToken, QueueFull};
use scst_core::shard::{Control, Outbox, RunContext, Shard};
use scst_handler_perf::{Kind, PerfConfig, PerfDevice};
use scst_scsi::lun::LunAddressMethod;
use scst_scsi::{Cdb, Lun, ScsiStatus, SenseData, TaskAttribute, TaskManagementFunction, TaskManagementResponse};

/// What a driver was told of a command: its tag, status, code of the sense data, bytes of data-in.
type Answer = (u64, ScsiStatus, Option<u16>, u32);

/// Fetches data-out when told to, and writes answers down.
#[derive(Default)]
struct Driver {
    answers: Vec<Answer>,
    wants_data: Vec<CmdId>,
    sent: Vec<CmdId>,
    resets: u32,
}

impl TargetDriver for Driver {
    fn request_data(&mut self, _: SessionId, _: u64, cmd: CmdId, _: &SgList, _: u32) {
        self.wants_data.push(cmd);
    }
    fn respond(&mut self, r: Response<'_>) {
        self.answers.push((r.driver_tag, r.status, r.sense.map(|sense| sense.asc.0), r.data_in));
        self.sent.push(r.cmd);
    }
    fn dropped(&mut self, _: SessionId, _: u64, _: CmdId) {}
    fn parked(&mut self, _: SessionId, _: u64, _: CmdId) {}
    fn unparked(&mut self, _: CmdId) {}
    fn abort_data(&mut self, _: SessionId, _: u64, _: CmdId) {}
    fn task_management_done(&mut self, _: SessionId, _: u64, _: TmfId, response: TaskManagementResponse) {
        assert_eq!(response, TaskManagementResponse::Complete);
        self.resets += 1;
    }
    fn async_event(&mut self, _: SessionId, _: Lun, _: &SenseData) -> bool {
        false
    }
    fn close_session(&mut self, _: SessionId) {}
    fn session_closed(&mut self, _: SessionId) {}
}

/// Buffers without bytes, but for the last data-in that was copied.
#[derive(Default)]
struct Pool {
    out: u32,
    last: Vec<u8>,
}

impl Memory for Pool {
    fn copy_in(&mut self, _: &SgList, _: u32, data: &[u8]) -> usize {
        self.last = data.to_vec();
        data.len()
    }
    fn copy_out(&self, _: &SgList, _: u32, _: &mut [u8]) -> usize {
        0
    }
    fn fill(&mut self, _: &SgList, _: u32, _: u32, _: u8) {}
}

impl BufferSource for Pool {
    fn allocate(&mut self, bytes: u32) -> Option<SgList> {
        self.out += 1;
        let mut sg = SgList::default();
        sg.push(Extent { arena: 0, len: bytes, offset: 0 });
        Some(sg)
    }
    fn release(&mut self, _: &SgList) {
        self.out -= 1;
    }
}

/// The medium that must not be touched.
struct NoMedium;

impl IoQueue for NoMedium {
    fn submit(&mut self, _: IoToken, op: IoOp<'_>) -> Result<(), QueueFull> {
        panic!("{op:?}")
    }
    fn cancel(&mut self, _: CmdId) {}
}

struct Node {
    shard: Shard,
    driver: Driver,
    pool: Pool,
    session: SessionId,
}

/// Reactors with one session each, all of them on LUN 0, the tape.
struct World {
    nodes: Vec<Node>,
    /// Messages under way between two reactors, in order.
    wires: Vec<(usize, usize, VecDeque<Message>)>,
    seed: u64,
    next_tag: u64,
}

const NOW: Nanos = Nanos(0);

impl World {
    fn new(reactors: u16, seed: u64) -> Self {
        let device = PerfDevice::open(PerfConfig::new(Kind::Tape, "t")).unwrap();
        let map = LunMap::new([LunEntry { lun: 0, device: DeviceId(0), read_only: false }]);
        let target = Arc::new(TargetConfig {
            id: TargetId(0),
            name: "iqn.2024-01.test:t".into(),
            enabled: true,
            relative_port: 1,
            addressing: LunAddressMethod::Peripheral,
            luns: Arc::new(map),
            groups: Vec::new(),
        });
        let node = |r| {
            let limits = Limits { commands_per_nexus: 1000, ..Limits::default() };
            let mut shard = Shard::new(EngineConfig { reactor: ReactorId(r), reactors, limits });
            shard.control(NOW, Control::AddDevice { id: DeviceId(0), handler: device.open_shard() });
            shard.control(NOW, Control::SetTarget(Arc::clone(&target)));
            let initiator = format!("iqn.host{r}");
            let request = SessionRequest { target: TargetId(0), initiator: &initiator };
            let session = shard.session_up(NOW, request).unwrap();
            Node { shard, driver: Driver::default(), pool: Pool::default(), session }
        };
        let mut world = Self { nodes: (0..reactors).map(node).collect(), wires: Vec::new(), seed, next_tag: 0 };
        for at in 0..world.nodes.len() {
            world.send(at, &[0; 6]);
            world.settle();
            assert_eq!(world.answers(at)[0].2, Some(0x2900), "power on");
        }
        world
    }

    /// A number below `n`.
    fn random(&mut self, n: usize) -> usize {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) as usize % n
    }

    fn send(&mut self, at: usize, cdb: &[u8]) -> u64 {
        self.next_tag += 1;
        let new = NewCommand {
            session: self.nodes[at].session,
            driver_tag: self.next_tag,
            lun: Lun::default(),
            cdb: Cdb::new(cdb),
            attribute: TaskAttribute::Simple,
            expected: None,
            held: false,
            data: None,
        };
        self.nodes[at].shard.command(NOW, &new).unwrap();
        self.run(at);
        self.next_tag
    }

    fn run(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let mut outbox = Outbox::default();
        let mut cx = RunContext { now: NOW, io: &mut NoMedium, mem: &mut node.pool, outbox: &mut outbox };
        node.shard.run(&mut cx, &mut node.driver);
        for (to, message) in outbox.messages {
            let to = usize::from(to.0);
            let wire = self.wires.iter().position(|(a, b, _)| (*a, *b) == (at, to));
            let wire = wire.unwrap_or_else(|| {
                self.wires.push((at, to, VecDeque::new()));
                self.wires.len() - 1
            });
            self.wires[wire].2.push_back(*message);
        }
    }

    /// Something happens somewhere: a message arrives, data arrive, an answer has left. False when nothing can.
    fn step(&mut self) -> bool {
        let mut possible: Vec<(u8, usize)> = Vec::new();
        possible.extend((0..self.wires.len()).filter(|w| !self.wires[*w].2.is_empty()).map(|w| (0, w)));
        possible.extend((0..self.nodes.len()).filter(|n| !self.nodes[*n].driver.wants_data.is_empty()).map(|n| (1, n)));
        possible.extend((0..self.nodes.len()).filter(|n| !self.nodes[*n].driver.sent.is_empty()).map(|n| (2, n)));
        if possible.is_empty() {
            return false;
        }
        let chosen = self.random(possible.len());
        let at = match possible[chosen] {
            (0, wire) => {
                let (_, to, queue) = &mut self.wires[wire];
                let (to, message) = (*to, queue.pop_front().unwrap());
                self.nodes[to].shard.message(NOW, message);
                to
            }
            (1, at) => {
                // Data of later commands may be there first.
                let choice = self.random(self.nodes[at].driver.wants_data.len());
                let cmd = self.nodes[at].driver.wants_data.swap_remove(choice);
                self.nodes[at].shard.data_received(NOW, cmd, Ok(()));
                at
            }
            (_, at) => {
                let cmd = self.nodes[at].driver.sent.remove(0);
                self.nodes[at].shard.response_sent(NOW, cmd);
                at
            }
        };
        self.run(at);
        true
    }

    fn settle(&mut self) {
        while self.step() {}
    }

    fn answers(&mut self, at: usize) -> Vec<Answer> {
        std::mem::take(&mut self.nodes[at].driver.answers)
    }

    /// Where the tape stands, asked from one reactor.
    fn position(&mut self, at: usize) -> u32 {
        self.send(at, &[0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        self.settle();
        assert_eq!(self.answers(at).pop().map(|a| (a.1, a.3)), Some((ScsiStatus::GOOD, 20)));
        u32::from_be_bytes(self.nodes[at].pool.last[4..8].try_into().unwrap())
    }

    fn assert_clean(&self) {
        for node in &self.nodes {
            assert_eq!((node.shard.engine().commands_in_use(), node.pool.out), (0, 0));
        }
    }
}

/// A six-byte CDB with a length of three bytes, below 64 KiB.
fn six(opcode: u8, bits: u8, length: u16) -> [u8; 6] {
    let [a, b] = length.to_be_bytes();
    [opcode, bits, 0, a, b, 0]
}

#[test]
fn writes_from_all_reactors_are_all_there_and_in_the_order_of_each_initiator() {
    for seed in 0..40 {
        let mut world = World::new(3, seed);
        let mut sent: Vec<Vec<u16>> = vec![Vec::new(); 3];
        for n in 0..90_u16 {
            let at = world.random(3);
            // The length says whose block it is, and which one.
            let length = at as u16 * 1000 + n + 1;
            world.send(at, &six(0x0a, 0, length));
            sent[at].push(length);
            for _ in 0..world.random(6) {
                world.step();
            }
        }
        world.settle();
        for at in 0..3 {
            assert!(world.answers(at).iter().all(|a| (a.1, a.2) == (ScsiStatus::GOOD, None)), "seed {seed}");
        }
        assert_eq!(world.position(seed as usize % 3), 90);
        world.send(1, &[0x01, 0, 0, 0, 0, 0]);
        world.settle();
        assert_eq!(world.answers(1)[0].1, ScsiStatus::GOOD);
        // Read back from one reactor after the other: the data-in tell the lengths.
        let mut found: Vec<Vec<u16>> = vec![Vec::new(); 3];
        for n in 0..90 {
            world.send(n % 3, &six(0x08, 2, 4000));
            world.settle();
            let (_, status, sense, length) = world.answers(n % 3)[0];
            assert_eq!((status, sense), (ScsiStatus::GOOD, None));
            found[length as usize / 1000].push(length as u16);
        }
        assert_eq!(found, sent, "seed {seed}: the data came in another order, the blocks did not");
        world.assert_clean();
    }
}

#[test]
fn a_reset_keeps_the_position_and_brings_the_block_length_back() {
    let mut world = World::new(2, 1);
    world.send(0, &six(0x0a, 0, 100));
    world.settle();
    let session = world.nodes[1].session;
    let function = TaskManagementFunction::LogicalUnitReset;
    world.nodes[1].shard.task_management(NOW, session, Lun::default(), function, None, 9);
    world.run(1);
    world.settle();
    assert_eq!(world.nodes[1].driver.resets, 1);
    for at in 0..2 {
        world.answers(at);
        world.send(at, &[0; 6]);
        world.settle();
        assert_eq!(world.answers(at)[0].2.map(|asc| asc >> 8), Some(0x29), "everybody hears of it");
    }
    assert_eq!(world.position(0), 1);
    world.assert_clean();
}
