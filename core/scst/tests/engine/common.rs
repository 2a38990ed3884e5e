//! A world for stories about the engine: N shards, a handler that completes when told to, a driver that records.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use scst_core::Nanos;
use scst_core::buffer::{BufferSource, Extent, Memory, SgList};
use scst_core::config::{LunEntry, LunMap, TargetConfig};
use scst_core::driver::{NewCommand, Response, TargetDriver};
use scst_core::engine::{EngineConfig, Limits, SessionRequest};
use scst_core::event::DataError;
use scst_core::handler::{ControlSettings, ExecCommand, ExecContext, Execution, HandlerShard, Outcome, Parsed};
use scst_core::ids::{CmdId, DeviceId, ReactorId, SessionId, TargetId, TmfId};
use scst_core::io::{IoCompletion, IoOp, IoQueue, IoToken, QueueFull};
use scst_core::shard::{Control, Notice, Outbox, RunContext, Shard};
use scst_scsi::lun::LunAddressMethod;
use scst_scsi::{
    Cdb, CommandFlags, DataDirection, Lun, ScsiStatus, SenseData, TaskAttribute, TaskManagementFunction,
    TaskManagementResponse,
};

/// What a driver saw, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    RequestData(u64, u32),
    AbortData(u64),
    Response(u64, ScsiStatus, Option<(u8, u16)>),
    Dropped(u64),
    Parked(u64),
    Unparked(CmdId),
    Tmf(u64, TaskManagementResponse),
    Async(u16),
    CloseSession(SessionId),
    Closed(SessionId),
}

#[derive(Default)]
pub(crate) struct Driver {
    pub(crate) seen: Vec<Seen>,
    pub(crate) responding: Vec<CmdId>,
}

impl TargetDriver for Driver {
    fn request_data(&mut self, _: SessionId, tag: u64, _: CmdId, _: &SgList, length: u32) {
        self.seen.push(Seen::RequestData(tag, length));
    }
    fn respond(&mut self, r: Response<'_>) {
        self.seen.push(Seen::Response(r.driver_tag, r.status, r.sense.map(|s| (s.key.0, s.asc.0))));
        self.responding.push(r.cmd);
    }
    fn dropped(&mut self, _: SessionId, tag: u64, _: CmdId) {
        self.seen.push(Seen::Dropped(tag));
    }
    fn parked(&mut self, _: SessionId, tag: u64, _: CmdId) {
        self.seen.push(Seen::Parked(tag));
    }
    fn unparked(&mut self, cmd: CmdId) {
        self.seen.push(Seen::Unparked(cmd));
    }
    fn abort_data(&mut self, _: SessionId, tag: u64, _: CmdId) {
        self.seen.push(Seen::AbortData(tag));
    }
    fn task_management_done(&mut self, _: SessionId, tag: u64, _: TmfId, response: TaskManagementResponse) {
        self.seen.push(Seen::Tmf(tag, response));
    }
    fn async_event(&mut self, _: SessionId, _: Lun, sense: &SenseData) -> bool {
        self.seen.push(Seen::Async(sense.asc.0));
        true
    }
    fn close_session(&mut self, session: SessionId) {
        self.seen.push(Seen::CloseSession(session));
    }
    fn session_closed(&mut self, session: SessionId) {
        self.seen.push(Seen::Closed(session));
    }
}

/// Memory that counts what is out.
#[derive(Default)]
pub(crate) struct Pool {
    pub(crate) out: u32,
    pub(crate) refuse: bool,
    pub(crate) last: Vec<u8>,
}

impl Memory for Pool {
    fn copy_in(&mut self, _: &SgList, offset: u32, data: &[u8]) -> usize {
        let end = offset as usize + data.len();
        if self.last.len() < end {
            self.last.resize(end, 0);
        }
        self.last[offset as usize..end].copy_from_slice(data);
        data.len()
    }
    fn copy_out(&self, _: &SgList, _: u32, _: &mut [u8]) -> usize {
        0
    }
    fn fill(&mut self, _: &SgList, _: u32, _: u32, _: u8) {}
}

impl BufferSource for Pool {
    fn allocate(&mut self, bytes: u32) -> Option<SgList> {
        if self.refuse {
            return None;
        }
        self.out += 1;
        self.last.clear();
        let mut sg = SgList::default();
        sg.push(Extent { arena: 0, len: bytes, offset: 0 });
        Some(sg)
    }
    fn release(&mut self, _: &SgList) {
        self.out -= 1;
    }
}

#[derive(Default)]
pub(crate) struct NoIo;

impl IoQueue for NoIo {
    fn submit(&mut self, _: IoToken, _: IoOp<'_>) -> Result<(), QueueFull> {
        Err(QueueFull)
    }
    fn cancel(&mut self, _: CmdId) {}
}

/// What the handlers of all shards of a device share with the test.
#[derive(Default)]
pub(crate) struct Medium {
    pub(crate) executing: Vec<(ReactorId, CmdId)>,
    pub(crate) cancelled: Vec<CmdId>,
    pub(crate) resets: u32,
    pub(crate) outcome: Option<Outcome>,
    /// Sense data with which the next command ends.
    pub(crate) raw_sense: Option<Vec<u8>>,
    /// Commands are done at once.
    pub(crate) inline: bool,
    pub(crate) control: ControlSettings,
    /// READs are answered with mapped data where that may be.
    pub(crate) mapped: bool,
}

/// Opcodes of the fake device: 00 no data, 12 what no barrier keeps waiting, 28 read, 2A write, 55 exclusive (MODE SELECT),
/// 89 compare and write. Block FFh stands for the last that a CDB can name.
struct Handler(Rc<RefCell<Medium>>);

impl HandlerShard for Handler {
    fn peripheral_type(&self) -> u8 {
        0
    }
    fn parse(&mut self, cdb: &Cdb) -> Result<Parsed, SenseData> {
        let b = cdb.bytes();
        let access = |direction, flags| Parsed {
            direction,
            length: u32::from(b[8]) * 512,
            flags: CommandFlags::MEDIUM_ACCESS | flags,
            lba: if b[5] == 0xff { u64::MAX } else { u64::from(b[5]) },
            blocks: u64::from(b[8]),
        };
        match cdb.opcode() {
            0x00 => Ok(Parsed::default()),
            0x12 => Ok(Parsed {
                flags: CommandFlags::SKIPS_UNIT_ATTENTION | CommandFlags::RESERVED_OK | CommandFlags::UNBLOCKED,
                ..Parsed::default()
            }),
            0x28 => Ok(access(DataDirection::FromDevice, CommandFlags::empty())),
            0x2a => Ok(access(DataDirection::ToDevice, CommandFlags::WRITES_MEDIUM)),
            0x55 => Ok(Parsed { flags: CommandFlags::EXCLUSIVE, ..Parsed::default() }),
            0x89 => Ok(access(DataDirection::None, CommandFlags::WRITES_MEDIUM | CommandFlags::RANGE_LOCK)),
            _ => Err(SenseData::invalid_opcode()),
        }
    }
    fn execute(&mut self, cmd: ExecCommand<'_>, cx: &mut ExecContext<'_>) -> Execution {
        let mut medium = self.0.borrow_mut();
        if medium.inline {
            return Execution::Done(Outcome::good(cmd.sg.bytes()));
        }
        let mapped = medium.mapped && cmd.takes_mapped && cmd.cdb.opcode() == 0x28;
        if mapped && let Some(lent) = cx.mem.allocate(cmd.sg.bytes()) {
            return Execution::Mapped(lent.extents()[0]);
        }
        medium.executing.push((cmd.nexus.reactor, cmd.id));
        Execution::Pending
    }
    fn io_completed(&mut self, cmd: ExecCommand<'_>, _: IoCompletion, cx: &mut ExecContext<'_>) -> Execution {
        let mut medium = self.0.borrow_mut();
        medium.executing.retain(|c| *c != (cmd.nexus.reactor, cmd.id));
        if let Some(raw) = medium.raw_sense.take() {
            return Execution::Done(cx.check_raw(&raw));
        }
        Execution::Done(medium.outcome.take().unwrap_or_else(|| Outcome::good(cmd.sg.bytes())))
    }
    fn cancel(&mut self, cmd: CmdId, _: &mut dyn IoQueue) {
        self.0.borrow_mut().cancelled.push(cmd);
    }
    fn reset(&mut self) -> ControlSettings {
        let mut medium = self.0.borrow_mut();
        medium.resets += 1;
        medium.control
    }
    fn control(&self) -> ControlSettings {
        self.0.borrow().control
    }
}

/// A device handler's half over a medium.
pub(crate) fn handler(medium: &Rc<RefCell<Medium>>) -> Box<dyn HandlerShard> {
    Box::new(Handler(Rc::clone(medium)))
}

/// One reactor of the world.
pub(crate) struct Node {
    pub(crate) shard: Shard,
    pub(crate) driver: Driver,
    pub(crate) pool: Pool,
    pub(crate) notices: Vec<Notice>,
}

/// N reactors, one target, devices 0 and 1 as LUN 0 and 1.
pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) media: Vec<Rc<RefCell<Medium>>>,
    pub(crate) now: Nanos,
    /// Messages on their way, with sender and receiver, oldest first; `deliver_messages` moves them.
    pub(crate) wire: VecDeque<(usize, usize, scst_core::event::Message)>,
    /// Whether messages between reactors are delivered at once.
    pub(crate) prompt: bool,
    next_tag: u64,
}

pub(crate) fn per_nexus() -> ControlSettings {
    ControlSettings { task_set_per_nexus: true, ..ControlSettings::default() }
}

pub(crate) fn target(map: LunMap) -> TargetConfig {
    TargetConfig {
        id: TargetId(0),
        name: "iqn.2024-01.test:t".into(),
        enabled: true,
        relative_port: 1,
        addressing: LunAddressMethod::Peripheral,
        luns: Arc::new(map),
        groups: Vec::new(),
    }
}

pub(crate) fn rows(rows: &[(u32, u32, bool)]) -> LunMap {
    LunMap::new(rows.iter().map(|&(lun, device, read_only)| LunEntry { lun, device: DeviceId(device), read_only }))
}

impl World {
    pub(crate) fn new(reactors: u16) -> Self {
        Self::with(reactors, Limits::default(), per_nexus())
    }

    pub(crate) fn with(reactors: u16, limits: Limits, control: ControlSettings) -> Self {
        let media: Vec<_> = (0..2).map(|_| Rc::new(RefCell::new(Medium { control, ..Medium::default() }))).collect();
        let nodes = (0..reactors)
            .map(|r| Node {
                shard: Shard::new(EngineConfig { reactor: ReactorId(r), reactors, limits }),
                driver: Driver::default(),
                pool: Pool::default(),
                notices: Vec::new(),
            })
            .collect();
        let mut world = Self { nodes, media, now: Nanos(0), wire: VecDeque::new(), prompt: true, next_tag: 1 };
        for node in 0..world.nodes.len() {
            for (i, medium) in world.media.iter().enumerate() {
                let handler = handler(medium);
                world.nodes[node].shard.control(Nanos(0), Control::AddDevice { id: DeviceId(i as u32), handler });
            }
        }
        world.set_target(target(rows(&[(0, 0, false), (1, 1, false)])));
        world
    }

    pub(crate) fn set_target(&mut self, target: TargetConfig) {
        let target = Arc::new(target);
        for node in 0..self.nodes.len() {
            self.nodes[node].shard.control(self.now, Control::SetTarget(Arc::clone(&target)));
            self.run(node);
        }
    }

    pub(crate) fn control(&mut self, node: usize, control: Control) {
        self.nodes[node].shard.control(self.now, control);
        self.run(node);
    }

    /// A session whose power-on attentions have been told already.
    pub(crate) fn login(&mut self, node: usize, initiator: &str) -> SessionId {
        let session = self.fresh_login(node, initiator);
        for lun in 0..2 {
            let tag = self.send(node, session, lun, &[0; 6], TaskAttribute::Simple);
            self.expect(node, &[Seen::Response(tag, ScsiStatus::CHECK_CONDITION, Some((6, 0x2900)))]);
        }
        session
    }

    pub(crate) fn fresh_login(&mut self, node: usize, initiator: &str) -> SessionId {
        let request = SessionRequest { target: TargetId(0), initiator };
        self.nodes[node].shard.session_up(self.now, request).unwrap()
    }

    pub(crate) fn send(
        &mut self,
        node: usize,
        session: SessionId,
        lun: u8,
        cdb: &[u8],
        attribute: TaskAttribute,
    ) -> u64 {
        self.send_with(node, session, lun, cdb, attribute, false).0
    }

    pub(crate) fn simple(&mut self, node: usize, session: SessionId, cdb: &[u8]) -> (u64, CmdId) {
        self.send_with(node, session, 0, cdb, TaskAttribute::Simple, false)
    }

    pub(crate) fn send_with(
        &mut self,
        node: usize,
        session: SessionId,
        lun: u8,
        cdb: &[u8],
        attribute: TaskAttribute,
        held: bool,
    ) -> (u64, CmdId) {
        let new = new_command(session, lun, cdb, attribute);
        let arrived = self.arrive(node, NewCommand { held, ..new });
        self.run(node);
        arrived
    }

    /// A command arrives, and the shard has not run yet.
    pub(crate) fn arrive(&mut self, node: usize, new: NewCommand) -> (u64, CmdId) {
        let tag = self.next_tag;
        self.next_tag += 1;
        let new = NewCommand { driver_tag: tag, ..new };
        (tag, self.nodes[node].shard.command(self.now, &new).unwrap())
    }

    pub(crate) fn tmf(
        &mut self,
        node: usize,
        session: SessionId,
        function: TaskManagementFunction,
        referenced: Option<CmdId>,
    ) -> u64 {
        self.tmf_to(node, session, 0, function, referenced)
    }

    pub(crate) fn tmf_to(
        &mut self,
        node: usize,
        session: SessionId,
        lun: u8,
        function: TaskManagementFunction,
        referenced: Option<CmdId>,
    ) -> u64 {
        let tag = self.next_tag;
        self.next_tag += 1;
        let lun = Lun([0, lun, 0, 0, 0, 0, 0, 0]);
        self.nodes[node].shard.task_management(self.now, session, lun, function, referenced, tag);
        self.run(node);
        tag
    }

    pub(crate) fn data(&mut self, node: usize, cmd: CmdId, result: Result<(), DataError>) {
        self.nodes[node].shard.data_received(self.now, cmd, result);
        self.run(node);
    }

    /// The device has finished a command.
    pub(crate) fn finish(&mut self, node: usize, cmd: CmdId) {
        let completion = IoCompletion { token: IoToken { cmd, tag: 0 }, result: 0, extra: 0 };
        let n = &mut self.nodes[node];
        let mut outbox = Outbox::default();
        let mut cx = RunContext { now: self.now, io: &mut NoIo, mem: &mut n.pool, outbox: &mut outbox };
        n.shard.io_completed(&mut cx, completion);
        self.run(node);
    }

    pub(crate) fn run(&mut self, node: usize) {
        let n = &mut self.nodes[node];
        let mut outbox = Outbox::default();
        let mut cx = RunContext { now: self.now, io: &mut NoIo, mem: &mut n.pool, outbox: &mut outbox };
        n.shard.run(&mut cx, &mut n.driver);
        n.notices.extend(outbox.notices);
        self.wire.extend(outbox.messages.into_iter().map(|(to, m)| (node, usize::from(to.0), *m)));
        if self.prompt {
            self.deliver_messages();
        }
    }

    pub(crate) fn deliver_messages(&mut self) {
        while let Some((_, to, message)) = self.wire.pop_front() {
            self.nodes[to].shard.message(self.now, message);
            self.run(to);
        }
    }

    /// Time passes on all reactors, and what has become overdue is done.
    pub(crate) fn pass(&mut self, time: Nanos) {
        self.now = self.now.after(time);
        for node in 0..self.nodes.len() {
            while self.nodes[node].shard.poll_timeout().is_some_and(|at| at <= self.now) {
                self.nodes[node].shard.handle_timeout(self.now);
                self.run(node);
            }
        }
    }

    /// Nothing has a deadline any more.
    pub(crate) fn assert_nothing_waits(&mut self) {
        self.pass(Nanos::from_secs(1));
        for node in &self.nodes {
            assert_eq!(node.shard.poll_timeout(), None);
        }
    }

    /// All that the driver has seen since the last look.
    pub(crate) fn expect(&mut self, node: usize, expected: &[Seen]) {
        assert_eq!(std::mem::take(&mut self.nodes[node].driver.seen), expected);
        for cmd in std::mem::take(&mut self.nodes[node].driver.responding) {
            self.nodes[node].shard.response_sent(self.now, cmd);
        }
        self.run(node);
    }

    pub(crate) fn executing(&self, device: usize) -> Vec<CmdId> {
        self.media[device].borrow().executing.iter().map(|(_, id)| *id).collect()
    }

    /// Nothing may be left: no command, no buffer.
    pub(crate) fn assert_clean(&self) {
        for node in &self.nodes {
            assert_eq!(node.shard.engine().commands_in_use(), 0);
            assert_eq!(node.pool.out, 0);
        }
    }
}

pub(crate) fn new_command(session: SessionId, lun: u8, cdb: &[u8], attribute: TaskAttribute) -> NewCommand {
    let (lun, cdb) = (Lun([0, lun, 0, 0, 0, 0, 0, 0]), Cdb::new(cdb));
    NewCommand { session, driver_tag: 0, lun, cdb, attribute, expected: None, held: false, data: None }
}

pub(crate) fn good(tag: u64) -> Seen {
    Seen::Response(tag, ScsiStatus::GOOD, None)
}

pub(crate) const READ_1: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
pub(crate) const EXCLUSIVE: [u8; 10] = [0x55, 0, 0, 0, 0, 0, 0, 0, 0, 0];
pub(crate) const INQUIRY: [u8; 6] = [0x12, 0, 0, 0, 36, 0];
/// COMPARE AND WRITE of the fake device.
pub(crate) const CAW: [u8; 10] = [0x89, 0, 0, 0, 0, 0, 0, 0, 1, 0];
pub(crate) const WRITE_1: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
