//! Random histories with several reactors, slow messages between them and devices that come and go. Checked: every command
//! ends exactly once, every function is answered, nothing that a function aborted executes after its answer, exclusive
//! commands are alone, the engines' counts are right, nothing is left at the end, no reservation either.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use scst_core::CommandState;
use scst_core::buffer::Extent;
use scst_core::driver::NewCommand;
use scst_core::event::DataError;
use scst_core::ids::{CmdId, DeviceId, SessionId};
use scst_core::latency::Clock;
use scst_core::shard::{Control, Notice};
use scst_core::{Nanos, engine::Limits};
use scst_scsi::{TaskAttribute, TaskManagementFunction as F, TaskManagementResponse as R};

use crate::common::{Medium, Seen, World, handler, new_command, rows, target};

/// Where decisions come from: a seed, or the bytes of a fuzzer.
pub(crate) enum Random {
    /// SplitMix64: the seed reproduces the history.
    Seed(u64),
    /// Bytes, used from the end.
    Bytes(Vec<u8>),
}

impl Random {
    fn next(&mut self) -> u64 {
        match self {
            Self::Seed(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = *state;
                z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ z >> 31
            }
            Self::Bytes(bytes) => u64::from(bytes.pop().unwrap_or(0)),
        }
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
    fn is_empty(&self) -> bool {
        matches!(self, Self::Bytes(bytes) if bytes.is_empty())
    }
}

struct Command {
    node: usize,
    id: CmdId,
    tag: u64,
    session: SessionId,
    lun: u8,
    opcode: u8,
    /// Its data-out have not been reported yet.
    data_due: bool,
    held: bool,
}

/// A function without an answer.
#[derive(Debug)]
struct Function {
    session: SessionId,
    function: F,
    /// Commands that must have ended when the answer comes.
    outlives: Vec<(usize, CmdId)>,
}

/// What the control plane asks of one reactor after the other.
enum Step {
    Add(DeviceId, usize),
    Map(Vec<(u32, u32, bool)>),
    Remove(DeviceId),
}

/// A command whose session went on without it.
struct Parked {
    command: Command,
    device: u32,
    /// Blocks that it may still write, if it writes.
    writes: Option<(u64, u64)>,
    /// What executed when it was parked.
    beside: Vec<(usize, CmdId)>,
}

struct History {
    w: World,
    random: Random,
    sessions: Vec<(usize, SessionId)>,
    live: BTreeMap<(usize, u64), Command>,
    parked: Vec<Parked>,
    functions: BTreeMap<(usize, u64), Function>,
    /// The two devices of the LUN maps.
    devices: [DeviceId; 2],
    /// Where the devices that there are have their media.
    media: BTreeMap<DeviceId, usize>,
    /// Devices that are to go, and the reactors that have not said yet that they are gone.
    leaving: BTreeMap<DeviceId, usize>,
    /// Numbers of devices to come.
    free: Vec<DeviceId>,
    /// What the control plane has in mind, and the reactor that is next to hear of the first of it.
    control: VecDeque<Step>,
    next_node: usize,
    /// Responses that have not been sent yet.
    unsent: Vec<(usize, CmdId)>,
    habits: Habits,
    steps: u64,
}

/// What differs from history to history, in percent.
struct Habits {
    /// Of the steps that let a device finish something, those in which it does not.
    hangs: u64,
    /// Responses that are not sent at once.
    slow_responses: u64,
    /// Events after which the reactor does not run at once.
    batches: u64,
}

impl Habits {
    fn of(random: &mut Random) -> Self {
        let [hangs, slow_responses, batches] =
            [[0, 0, 60, 90], [0, 0, 30, 70], [0, 0, 30, 60]].map(|of| of[random.below(4)]);
        Self { hangs, slow_responses, batches }
    }
}

/// Steps after which latencies are measured, or no longer; without a random number, so that old histories stay.
const SWITCH: u64 = 17;

/// Steps after which the engines' counts are checked, which takes long.
const COUNT: u64 = 64;

/// A clock that says anything.
struct Wild(Cell<u64>);

impl Clock for Wild {
    fn now(&self) -> Nanos {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9));
        Nanos(self.0.get() % 1000)
    }
}

impl History {
    fn new(mut random: Random) -> Self {
        let mut control = crate::common::per_nexus();
        control.task_set_per_nexus = random.chance(70);
        control.task_aborted_status = random.chance(50);
        control.queue_error = [0, 0, 0, 1, 3][random.below(5)];
        let limits = Limits { commands_per_nexus: 6, ..Limits::default() };
        let habits = Habits::of(&mut random);
        let mut w = World::with(1 + random.below(3) as u16, limits, control);
        w.prompt = false;
        w.media[0].borrow_mut().mapped = random.chance(50);
        Self {
            w,
            random,
            sessions: Vec::new(),
            live: BTreeMap::new(),
            parked: Vec::new(),
            functions: BTreeMap::new(),
            devices: [DeviceId(0), DeviceId(1)],
            media: [(DeviceId(0), 0), (DeviceId(1), 1)].into(),
            leaving: BTreeMap::new(),
            free: vec![DeviceId(2)],
            control: VecDeque::new(),
            next_node: 0,
            unsent: Vec::new(),
            habits,
            steps: 0,
        }
    }

    fn step(&mut self) {
        self.steps += 1;
        if self.steps.is_multiple_of(SWITCH) {
            let node = (self.steps / SWITCH) as usize % self.w.nodes.len();
            let shard = &mut self.w.nodes[node].shard;
            let on = !shard.engine().measures_latency();
            shard.measure_latency(on.then(|| Box::new(Wild(Cell::default())) as Box<dyn Clock>));
        }
        match self.random.below(100) {
            0..4 if self.sessions.len() < 6 => self.login(),
            4..6 => self.logout(),
            6..45 => self.send(),
            45..48 => self.send_responses(),
            48..70 if !self.random.chance(self.habits.hangs) => self.finish_one(),
            48..70 => {}
            70..80 => self.data(),
            80..86 => self.function(),
            86..87 if self.random.chance(60) => self.change_map(),
            86..87 => self.replace_device(),
            87..89 => self.deliver_held(),
            89..91 => self.pass_time(),
            91..92 => self.control(),
            _ => self.deliver_message(),
        }
        self.observe();
    }

    fn login(&mut self) {
        let node = self.random.below(self.w.nodes.len());
        let session = self.w.fresh_login(node, "iqn.x");
        self.w.nodes[node].shard.set_takes_mapped(session, self.random.chance(80));
        self.sessions.push((node, session));
    }

    fn logout(&mut self) {
        if self.sessions.is_empty() {
            return;
        }
        let at = self.random.below(self.sessions.len());
        let (node, session) = self.sessions.swap_remove(at);
        self.w.nodes[node].shard.session_down(self.w.now, session);
        self.run(node);
    }

    /// The reactor runs, or takes more events before it does.
    fn run(&mut self, node: usize) {
        if !self.random.chance(self.habits.batches) {
            self.w.run(node);
        }
    }

    /// Responses are sent, some before older ones.
    fn send_responses(&mut self) {
        for _ in 0..self.unsent.len().min(4) {
            let at = self.random.below(self.unsent.len());
            let (node, cmd) = self.unsent.swap_remove(at);
            self.w.nodes[node].shard.response_sent(self.w.now, cmd);
            self.run(node);
        }
    }

    fn send(&mut self) {
        if self.sessions.is_empty() {
            return;
        }
        let (node, session) = self.sessions[self.random.below(self.sessions.len())];
        let opcode = [0x00, 0x12, 0x28, 0x28, 0x2a, 0x2a, 0x55, 0x89, 0x16, 0x17, 0xee][self.random.below(11)];
        let lun = self.random.below(3) as u8;
        let attribute = match self.random.below(8) {
            0 => TaskAttribute::Ordered,
            1 => TaskAttribute::HeadOfQueue,
            _ => TaskAttribute::Simple,
        };
        let mut cdb = [opcode, 0, 0, 0, 0, self.random.below(4) as u8, 0, 0, 1 + self.random.below(2) as u8, 0];
        if matches!(opcode, 0x16 | 0x17) {
            cdb = [opcode, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        }
        let held = self.random.chance(5);
        self.w.nodes[node].pool.refuse = self.random.chance(3);
        // Some drivers have the data of a write already, in memory of their own.
        let data = (opcode == 0x2a && self.random.chance(50)).then_some(Extent { arena: 7, len: 1024, offset: 0 });
        let new = NewCommand { held, data, ..new_command(session, lun, &cdb, attribute) };
        let (tag, id) = self.w.arrive(node, new);
        self.w.run(node);
        let command = Command { node, id, tag, session, lun, opcode, data_due: false, held };
        self.live.insert((node, tag), command);
    }

    fn finish_one(&mut self) {
        let mut executing: Vec<_> = self.w.media.iter().flat_map(|m| m.borrow().executing.clone()).collect();
        executing.sort_unstable();
        if !executing.is_empty() {
            let (node, id) = executing[self.random.below(executing.len())];
            self.w.finish(usize::from(node.0), id);
        }
    }

    fn data(&mut self) {
        let mut due: Vec<_> = self.live.values().filter(|c| c.data_due).map(|c| (c.node, c.tag)).collect();
        due.sort_unstable();
        if due.is_empty() {
            return;
        }
        let key = due[self.random.below(due.len())];
        let stopped = self.random.chance(10);
        let command = self.live.get_mut(&key).unwrap();
        command.data_due = false;
        let (node, id) = (command.node, command.id);
        self.w.data(node, id, if stopped { Err(DataError::Stopped) } else { Ok(()) });
    }

    fn deliver_held(&mut self) {
        let mut held: Vec<_> = self.live.values().filter(|c| c.held).map(|c| (c.node, c.tag)).collect();
        held.sort_unstable();
        for key in held {
            let command = self.live.get_mut(&key).unwrap();
            command.held = false;
            let (node, id) = (command.node, command.id);
            self.w.nodes[node].shard.deliver(self.w.now, id);
            self.w.run(node);
        }
    }

    fn function(&mut self) {
        if self.sessions.is_empty() {
            return;
        }
        let (node, session) = self.sessions[self.random.below(self.sessions.len())];
        // What was sent to a LUN that was not there reaches no device; functions leave it alone.
        let engine = self.w.nodes[node].shard.engine();
        let own = self.live.values().filter(|c| c.session == session && c.node == node);
        let own = own.filter(|c| engine.device_of(c.id).is_some());
        let mut own: Vec<_> = own.map(|c| (c.tag, c.id, c.lun)).collect();
        own.sort_unstable();
        let referenced = (!own.is_empty()).then(|| own[self.random.below(own.len())]);
        // That command is on the LUN that the function is sent to, mostly.
        let lun = referenced.map(|(.., lun)| lun).filter(|_| self.random.chance(80)).unwrap_or(0);
        // Initiators try again, with the same function or with a stronger one.
        for _ in 0..1 + self.random.below(6) / 3 {
            self.send_function(node, session, lun, referenced.map(|(_, id, _)| id), &own);
        }
    }

    fn send_function(
        &mut self,
        node: usize,
        session: SessionId,
        lun: u8,
        referenced: Option<CmdId>,
        own: &[(u64, CmdId, u8)],
    ) {
        let functions = [
            F::AbortTask,
            F::AbortTask,
            F::AbortTaskSet,
            F::ClearTaskSet,
            F::LogicalUnitReset,
            F::TargetReset,
            F::ITNexusReset,
            F::QueryTask,
            F::QueryTaskSet,
            F::QueryAsynchronousEvent,
        ];
        let function = functions[self.random.below(functions.len())];
        let on_lun = own.iter().filter(|(.., on)| *on == lun).map(|(_, id, _)| (node, *id));
        let outlives = match function {
            F::QueryTask | F::QueryTaskSet | F::QueryAsynchronousEvent => Vec::new(),
            F::AbortTask => on_lun.filter(|(_, id)| Some(*id) == referenced).collect(),
            F::TargetReset | F::ITNexusReset => own.iter().map(|(_, id, _)| (node, *id)).collect(),
            _ => on_lun.collect(),
        };
        let tag = self.w.tmf_to(node, session, lun, function, referenced);
        self.functions.insert((node, tag), Function { session, function, outlives });
    }

    fn change_map(&mut self) {
        let [first, second] = self.devices.map(|device| device.0);
        let map = match self.random.below(3) {
            0 => vec![(0, first, false), (1, second, false)],
            1 => vec![(0, first, true), (1, first, false)],
            _ => vec![(0, first, false), (2, second, false)],
        };
        self.control.push_back(Step::Map(map));
    }

    /// Another device takes the place of one in the LUN maps, and the number of one that has gone.
    fn replace_device(&mut self) {
        let Some(new) = self.free.pop() else { return };
        let first = self.w.media[0].borrow();
        let (mapped, control) = (first.mapped, first.control);
        drop(first);
        self.media.insert(new, self.w.media.len());
        self.control.push_back(Step::Add(new, self.w.media.len()));
        self.w.media.push(Rc::new(RefCell::new(Medium { mapped, control, ..Medium::default() })));
        let at = self.random.below(2);
        let old = std::mem::replace(&mut self.devices[at], new);
        self.change_map();
        self.control.push_back(Step::Remove(old));
        self.leaving.insert(old, self.w.nodes.len());
    }

    /// One more reactor hears of what the control plane wants; a step begins when the one before it has been taken everywhere.
    fn control(&mut self) {
        let Some(step) = self.control.front() else { return };
        let control = match step {
            Step::Add(id, medium) => Control::AddDevice { id: *id, handler: handler(&self.w.media[*medium]) },
            Step::Map(map) => Control::SetTarget(std::sync::Arc::new(target(rows(map)))),
            Step::Remove(id) => Control::RemoveDevice(*id),
        };
        self.w.control(self.next_node, control);
        self.next_node += 1;
        if self.next_node == self.w.nodes.len() {
            self.next_node = 0;
            self.control.pop_front();
        }
    }

    fn notices(&mut self) {
        for node in &mut self.w.nodes {
            for notice in node.notices.drain(..) {
                let Notice::DeviceRemoved(id) = notice else { continue };
                let left = self.leaving.get_mut(&id).expect("it was to go");
                *left -= 1;
                if *left == 0 {
                    self.leaving.remove(&id);
                    self.media.remove(&id);
                    self.free.push(id.successor());
                }
            }
        }
    }

    /// Messages from one reactor to another keep their order, and no others.
    fn deliver_message(&mut self) {
        let mut ways: Vec<(usize, usize)> = self.w.wire.iter().map(|(from, to, _)| (*from, *to)).collect();
        ways.sort_unstable();
        ways.dedup();
        if ways.is_empty() {
            return;
        }
        let way = ways[self.random.below(ways.len())];
        let first = self.w.wire.iter().position(|(from, to, _)| (*from, *to) == way);
        if let Some((_, to, message)) = first.and_then(|at| self.w.wire.remove(at)) {
            self.w.nodes[to].shard.message(self.w.now, message);
            self.run(to);
        }
    }

    /// Mostly as long as a session waits before it parks commands, now and then as long as anything waits.
    fn pass_time(&mut self) {
        let time = [600, 600, 600, 600, 600, 13_000, 31_000][self.random.below(7)];
        self.w.now = self.w.now.after(Nanos::from_millis(time));
        for node in 0..self.w.nodes.len() {
            self.w.nodes[node].shard.handle_timeout(self.w.now);
            self.run(node);
        }
    }

    fn observe(&mut self) {
        if !self.random.chance(self.habits.batches) {
            self.run_all();
            self.check();
        }
    }

    /// Every reactor runs until nothing is left to do.
    fn run_all(&mut self) {
        for node in 0..self.w.nodes.len() {
            for seen in std::mem::take(&mut self.w.nodes[node].driver.seen) {
                self.saw(node, seen);
            }
            for cmd in std::mem::take(&mut self.w.nodes[node].driver.responding) {
                if self.random.chance(self.habits.slow_responses) {
                    self.unsent.push((node, cmd));
                } else {
                    self.w.nodes[node].shard.response_sent(self.w.now, cmd);
                }
            }
            self.w.run(node);
        }
        if !self.w.nodes.iter().all(|n| n.driver.seen.is_empty()) {
            self.run_all();
        }
    }

    fn check(&mut self) {
        self.notices();
        if self.steps.is_multiple_of(COUNT) {
            self.w.nodes.iter().for_each(|node| node.shard.engine().assert_consistent());
        }
        self.check_exclusive();
        self.check_fences();
    }

    fn saw(&mut self, node: usize, seen: Seen) {
        match seen {
            Seen::RequestData(tag, _) => self.live.get_mut(&(node, tag)).unwrap().data_due = true,
            Seen::AbortData(tag) => {
                let command = self.live.get_mut(&(node, tag)).unwrap();
                if std::mem::replace(&mut command.data_due, false) {
                    let id = command.id;
                    self.w.nodes[node].shard.data_received(self.w.now, id, Err(DataError::Stopped));
                }
            }
            Seen::Response(tag, ..) | Seen::Dropped(tag) => {
                let ended = self.live.remove(&(node, tag));
                assert!(ended.is_some(), "one end per command");
            }
            Seen::Tmf(tag, response) => {
                let function = self.functions.remove(&(node, tag)).expect("one answer per function");
                let asks = matches!(function.function, F::QueryTask | F::QueryTaskSet | F::QueryAsynchronousEvent);
                assert!(asks || response != R::Succeeded, "{function:?}");
                if response == R::Complete {
                    for (node, id) in function.outlives {
                        let state = self.w.nodes[node].shard.engine().state(id);
                        assert!(
                            matches!(state, None | Some(CommandState::Responding)),
                            "{state:?} after the answer to {:?}",
                            function.function
                        );
                    }
                }
            }
            Seen::Parked(tag) => self.saw_parked(node, tag),
            Seen::Unparked(cmd) => {
                let at = self.parked.iter().position(|p| (p.command.node, p.command.id) == (node, cmd));
                self.parked.remove(at.expect("it was parked"));
            }
            Seen::Closed(session) => {
                assert!(!self.live.values().any(|c| c.node == node && c.session == session));
                // Nobody is there to hear the answers.
                self.functions.retain(|(at, _), f| *at != node || f.session != session);
            }
            Seen::Async(_) | Seen::CloseSession(_) => {}
        }
    }

    fn saw_parked(&mut self, node: usize, tag: u64) {
        let command = self.live.remove(&(node, tag)).expect("one end per command");
        let engine = self.w.nodes[node].shard.engine();
        let (Some(exec), Some(device)) = (engine.exec_command(command.id), engine.device_of(command.id)) else {
            // It has ended meanwhile; that comes next.
            self.parked.push(Parked { command, device: 0, writes: None, beside: Vec::new() });
            return;
        };
        assert_eq!(engine.state(command.id), Some(CommandState::Executing));
        let writes = matches!(command.opcode, 0x2a | 0x89).then_some((exec.parsed.lba, exec.parsed.blocks));
        let beside = self.executing(device.0).map(|c| (c.node, c.id)).collect();
        self.parked.push(Parked { command, device: device.0, writes, beside });
    }

    fn executing(&self, device: u32) -> impl Iterator<Item = &Command> {
        self.live.values().filter(move |c| {
            let engine = self.w.nodes[c.node].shard.engine();
            engine.state(c.id) == Some(CommandState::Executing) && engine.device_of(c.id).is_some_and(|d| d.0 == device)
        })
    }

    /// Nothing that comes after a parked write meets it on the medium.
    fn check_fences(&self) {
        for parked in &self.parked {
            let Some((lba, blocks)) = parked.writes else { continue };
            for c in self.executing(parked.device).filter(|c| matches!(c.opcode, 0x28 | 0x2a | 0x89)) {
                let parsed = self.w.nodes[c.node].shard.engine().exec_command(c.id).unwrap().parsed;
                let apart = parsed.lba >= lba + blocks || lba >= parsed.lba + parsed.blocks;
                assert!(apart || parked.beside.contains(&(c.node, c.id)), "beside a parked write");
            }
        }
    }

    /// MODE SELECT is alone on its device, COMPARE AND WRITE on its blocks.
    fn check_exclusive(&self) {
        for device in self.media.keys().map(|device| device.0) {
            let executing: Vec<_> = self.executing(device).filter(|c| c.opcode != 0x12).collect();
            if executing.iter().any(|c| c.opcode == 0x55) {
                assert_eq!(executing.len(), 1, "an exclusive command is alone, but for INQUIRY");
            }
            let range = |c: &Command| {
                let parsed = self.w.nodes[c.node].shard.engine().exec_command(c.id).unwrap().parsed;
                (parsed.lba, parsed.lba + parsed.blocks)
            };
            for a in executing.iter().filter(|c| c.opcode == 0x89) {
                for b in executing.iter().filter(|b| (b.node, b.tag) != (a.node, a.tag)) {
                    let ((f, t), (g, u)) = (range(a), range(b));
                    assert!(t <= g || u <= f || !matches!(b.opcode, 0x28 | 0x2a | 0x89), "overlap with a range lock");
                }
            }
        }
    }

    /// Everything that can finish does; then nothing may be left.
    fn drain(&mut self) {
        self.habits = Habits { hangs: 0, slow_responses: 0, batches: 0 };
        for round in 0.. {
            assert!(round < 10_000, "it never ends: {} commands, {} functions", self.live.len(), self.functions.len());
            while !self.w.wire.is_empty() {
                self.deliver_message();
                self.observe();
            }
            while !self.control.is_empty() {
                self.control();
                self.observe();
            }
            self.send_responses();
            self.deliver_held();
            self.observe();
            while self.live.values().any(|c| c.data_due) {
                self.data();
                self.observe();
            }
            let before = self.live.len();
            for _ in 0..16 {
                self.finish_one();
                self.observe();
            }
            if self.live.is_empty() && self.parked.is_empty() && self.unsent.is_empty() && self.w.wire.is_empty() {
                break;
            }
            if self.live.len() == before && self.w.wire.is_empty() {
                self.pass_time();
                self.observe();
            }
        }
        while let Some((node, session)) = self.sessions.pop() {
            self.w.nodes[node].shard.session_down(self.w.now, session);
            self.w.run(node);
            self.observe();
        }
        while !self.w.wire.is_empty() {
            self.deliver_message();
            self.observe();
        }
        assert!(self.functions.is_empty(), "every function is answered: {:?}", self.functions);
        assert!(self.leaving.is_empty(), "every device goes: {:?}", self.leaving);
        self.w.assert_clean();
        for node in &self.w.nodes {
            assert_eq!(node.shard.engine().parked_commands(), 0);
            assert_eq!(node.shard.engine().session_count(), 0);
        }
        self.w.assert_nothing_waits();
        self.nobody_holds_anything();
    }

    /// All sessions are gone, and with them their reservations: on every reactor a new one hears that it is new and not
    /// of a conflict.
    fn nobody_holds_anything(&mut self) {
        self.w.prompt = true;
        let [first, second] = self.devices.map(|device| device.0);
        self.w.set_target(target(rows(&[(0, first, false), (1, second, false)])));
        for node in 0..self.w.nodes.len() {
            self.w.login(node, "iqn.x");
        }
    }
}

/// Plays one history to its end.
pub(crate) fn play(random: Random, steps: usize) {
    let mut history = History::new(random);
    for _ in 0..steps {
        if history.random.is_empty() {
            break;
        }
        history.step();
    }
    history.random = Random::Seed(0);
    history.drain();
}

/// Seeds of the histories that a run plays: SCST_HISTORIES of them from SCST_FIRST_HISTORY.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a long run is asked for from outside")]
fn histories() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let first = number("SCST_FIRST_HISTORY").unwrap_or(0);
    first..first + number("SCST_HISTORIES").unwrap_or(3000)
}

#[test]
fn random_histories_hold_every_promise() {
    for seed in histories() {
        let outcome = std::panic::catch_unwind(|| play(Random::Seed(seed), 400));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

#[test]
fn a_history_from_bytes_ends_with_them() {
    play(Random::Bytes((0..=255).rev().cycle().take(4096).collect()), usize::MAX);
}
