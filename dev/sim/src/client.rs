//! A simulated initiator with one session: it sends commands, misbehaves as planned, and judges all it gets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use scst_core::Nanos;
use scst_reactor::sim::{PeerState, SimPeer};
use scst_testkit::initiator::{AsyncMessage, Command, Core, Event, Outcome, R2t, tmf};
use scst_testkit::pdu::{Digests, PduDecoder};
use scst_testkit::scsi;

use crate::content::SECTOR;
use crate::daemon::portal;
use crate::medium::{Complaint, Tick};
use crate::op::{Kind, Maker, Op};
use crate::plan::ClientPlan;
use crate::scene::Scene;

/// How long anything may take when nothing disturbs it: above every time-out of the target.
pub const PATIENCE: Nanos = Nanos::from_secs(120);
/// When a command without an answer is aborted.
const COMMAND_TIMEOUT: Nanos = Nanos::from_secs(40);
/// Blocks that are remembered for COMPARE AND WRITE.
const REMEMBERED: usize = 32;

enum Link {
    Down { until: Nanos },
    Up { peer: SimPeer, core: Box<Core>, logged_in: bool, leaving: bool },
}

/// What a client does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// It sends commands.
    Load,
    /// It sends none and waits for those in flight.
    Finish,
    /// It logs out, or hangs up, and does not come back.
    Leave,
}

struct Function {
    function: u8,
    /// Commands that were in flight, and in its scope.
    scope: Vec<u32>,
    /// What others may lose by it.
    resets: Vec<usize>,
    sent: Nanos,
}

/// See the module.
pub struct Client {
    plan: ClientPlan,
    link: Link,
    mode: Mode,
    ops: BTreeMap<u32, Op>,
    functions: BTreeMap<u32, Function>,
    /// Writes of ended sessions that the target may still carry out.
    loose: Vec<Op>,
    stalled_until: Nanos,
    /// R2Ts that are answered later.
    held: Vec<(Nanos, R2t)>,
    remembered: VecDeque<((usize, u64), Vec<u8>)>,
    /// Reads to be done, each until it succeeds.
    script: VecDeque<(Op, Command)>,
    scripted: BTreeMap<u32, (Op, Command)>,
    /// Ended by a function, but perhaps sent to a LUN that was not there then, and so not in its task set: an answer
    /// may still come.
    stray: BTreeSet<u32>,
    /// Somebody else has ended, or will end, its connection.
    excused: bool,
    /// Cut streams into PDUs, for the trace.
    seen: (PduDecoder, PduDecoder),
}

/// Traces the PDUs in a piece of a stream.
fn show(scene: &Scene, plan: &ClientPlan, decoder: &mut PduDecoder, digests: Digests, arrow: &str, bytes: &[u8]) {
    if !scene.is_traced() {
        return;
    }
    decoder.push(bytes);
    while let Ok(Some(pdu)) = decoder.next_pdu(digests) {
        scene.log(|| format!("{}/{} {arrow} {pdu:?}", plan.name, plan.isid));
    }
}

impl Client {
    /// A client that has not connected.
    pub fn new(plan: ClientPlan) -> Self {
        Self {
            plan,
            link: Link::Down { until: Nanos(0) },
            mode: Mode::Load,
            ops: BTreeMap::new(),
            functions: BTreeMap::new(),
            loose: Vec::new(),
            stalled_until: Nanos(0),
            held: Vec::new(),
            remembered: VecDeque::new(),
            script: VecDeque::new(),
            scripted: BTreeMap::new(),
            stray: BTreeSet::new(),
            excused: false,
            seen: Default::default(),
        }
    }

    /// Its name, with the number of its session.
    pub fn name(&self) -> String {
        format!("{}/{}", self.plan.name, self.plan.isid)
    }

    /// Changes what it does.
    pub fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
        if mode == Mode::Load {
            self.excused = false;
        } else {
            self.held.iter_mut().for_each(|held| held.0 = Nanos(0));
            self.stalled_until = Nanos(0);
        }
    }

    /// Whether nothing of it is in flight.
    pub fn is_idle(&self) -> bool {
        self.ops.is_empty() && self.functions.is_empty() && self.script.is_empty() && self.scripted.is_empty()
    }

    /// Whether it has no connection.
    pub fn is_gone(&self) -> bool {
        matches!(self.link, Link::Down { .. })
    }

    /// Its connection may end at any time from now on: it is not the target's fault.
    pub fn excuse(&mut self) {
        self.excused = true;
    }

    /// Reads sectors, and tries until it succeeds.
    pub fn read_for_sure(&mut self, op: Op, command: Command) {
        self.script.push_back((op, command));
    }

    /// When it wants to do something by itself.
    pub fn next_time(&self, now: Nanos) -> Option<Nanos> {
        let link = match &self.link {
            Link::Down { until } => (self.mode != Mode::Leave).then_some(*until),
            Link::Up { .. } if self.stalled_until > now => Some(self.stalled_until),
            Link::Up { .. } => self.held.iter().map(|held| held.0).min(),
        };
        let patience = self.ops.values().map(|op| op.sent.after(COMMAND_TIMEOUT)).min();
        [link, patience.filter(|at| *at > now)].into_iter().flatten().min()
    }

    /// Does what there is to do now.
    ///
    /// # Errors
    /// The target did something wrong.
    pub fn step(&mut self, scene: &mut Scene) -> Result<(), Complaint> {
        let name = self.name();
        self.try_step(scene).map_err(|complaint| scene.blame(&name, complaint))
    }

    fn try_step(&mut self, scene: &mut Scene) -> Result<(), Complaint> {
        let now = scene.now();
        if let Link::Down { until } = self.link {
            if self.mode != Mode::Leave && until <= now {
                self.connect(scene);
            }
            return Ok(());
        }
        if self.stalled_until > now {
            return Ok(());
        }
        let state = self.receive(scene)?;
        if state != PeerState::Open {
            scene.log(|| format!("{} connection ended: {state:?}", self.name()));
            if scene.plan.quiet_links && !self.excused && self.mode != Mode::Leave {
                return Err(format!("the target ended the connection: {state:?}"));
            }
            self.hang_up(scene, true);
            return Ok(());
        }
        self.answer_held(now);
        self.give_up_waiting(scene)?;
        self.act(scene);
        if let Link::Up { peer, core, .. } = &mut self.link
            && core.has_output()
        {
            let bytes = core.take_output();
            show(scene, &self.plan, &mut self.seen.1, core.digests(), ">", &bytes);
            peer.send(&bytes);
        }
        Ok(())
    }

    fn connect(&mut self, scene: &mut Scene) {
        let later = scene.now().after(Nanos(50_000_000 + scene.rng.below(500_000_000)));
        match scene.world.connect(portal()) {
            Err(_) => self.link = Link::Down { until: later },
            Ok(peer) => {
                scene.log(|| format!("{} connects as {}", self.name(), peer.id()));
                let mut core = Box::new(Core::new(scene.plan.login(&self.plan)));
                core.start();
                self.seen = Default::default();
                peer.send(&core.take_output());
                self.link = Link::Up { peer, core, logged_in: false, leaving: false };
            }
        }
    }

    /// Ends the connection; what was in flight is not known any more.
    pub fn hang_up(&mut self, scene: &mut Scene, reset: bool) {
        let until = scene.now().after(Nanos(1_000_000 + scene.rng.below(400_000_000)));
        if let Link::Up { peer, .. } = std::mem::replace(&mut self.link, Link::Down { until }) {
            if reset { peer.reset() } else { peer.close() }
        }
        for op in std::mem::take(&mut self.ops).into_values() {
            op.unknown(scene);
            scene.counters.lost += 1;
            self.loose.push(op);
        }
        for (_, again) in std::mem::take(&mut self.scripted) {
            self.script.push_back(again);
        }
        self.functions.clear();
        self.stray.clear();
        self.held.clear();
    }

    /// Everything of it has ended, whatever became of it.
    pub fn settle(&mut self, scene: &mut Scene) {
        for op in std::mem::take(&mut self.loose) {
            let now = scene.tick();
            if let Kind::Write { write, shape, .. } | Kind::CompareAndWrite { write, shape, .. } = op.kind {
                scene.media[op.disk].write_over(now, write, shape);
            }
        }
    }

    fn receive(&mut self, scene: &mut Scene) -> Result<PeerState, Complaint> {
        let Link::Up { peer, core, .. } = &mut self.link else { return Ok(PeerState::Open) };
        let mut bytes = Vec::new();
        let state = peer.recv(&mut bytes);
        if !bytes.is_empty() {
            let digests = core.digests();
            show(scene, &self.plan, &mut self.seen.0, digests, "<", &bytes);
            core.handle_input(&bytes);
        }
        while let Link::Up { core, .. } = &mut self.link
            && let Some(event) = core.poll_event()
        {
            self.event(scene, event)?;
        }
        if matches!(self.link, Link::Down { .. }) { Ok(PeerState::Open) } else { Ok(state) }
    }

    fn event(&mut self, scene: &mut Scene, event: Event) -> Result<(), Complaint> {
        match event {
            Event::LoggedIn => {
                if let Link::Up { logged_in, .. } = &mut self.link {
                    *logged_in = true;
                }
                scene.counters.logins += 1;
                scene.log(|| format!("{} logged in", self.name()));
                // RFC 7143 6.3.5: a session of the same name has ended, with all its tasks.
                self.settle(scene);
                Ok(())
            }
            Event::LoginFailed(failure) => {
                scene.log(|| format!("{} login failed: {failure:?}", self.name()));
                // Not found and not available are no faults while targets come and go.
                let explained = matches!((failure.class, failure.detail), (2, 3) | (3, 1 | 2));
                if !explained || (scene.plan.quiet_links && !self.excused) {
                    return Err(format!("login refused: {failure:?}"));
                }
                self.hang_up(scene, false);
                Ok(())
            }
            Event::Completed(outcome) => self.completed(scene, &outcome),
            Event::R2t(r2t) => {
                let long = if scene.rng.chance(50_000) { 25_000_000_000 } else { 300_000_000 };
                let delay = scene.pick(&[100_000, 5_000_000, long]);
                let due = if self.mode == Mode::Load { scene.now().after(Nanos(delay)) } else { Nanos(0) };
                // RFC 7143 13.19: the R2Ts of a command are answered in order.
                let after = self.held.iter().filter(|(_, other)| other.itt == r2t.itt).map(|held| held.0).max();
                scene.log(|| format!("{} holds {r2t:?}", self.name()));
                self.held.push((after.map_or(due, |after| after.max(due)), r2t));
                Ok(())
            }
            Event::TaskManagement { itt, response } => self.function_ends(scene, itt, response),
            Event::LoggedOut { response, .. } => self.logged_out(scene, response),
            Event::Async(message) => {
                self.asynchronous(scene, &message);
                Ok(())
            }
            Event::NopIn { .. } | Event::Pinged { .. } => Ok(()),
            wrong => Err(format!("{wrong:?}")),
        }
    }

    fn completed(&mut self, scene: &mut Scene, outcome: &Outcome) -> Result<(), Complaint> {
        if let Some((op, command)) = self.scripted.remove(&outcome.itt) {
            scene.log(|| format!("{} verified {op:?}: {:#x}", self.name(), outcome.status));
            op.ends(scene, outcome)?;
            if !outcome.is_good() {
                self.script.push_back((op, command));
            }
            return Ok(());
        }
        if self.stray.remove(&outcome.itt) {
            return Ok(());
        }
        let Some(op) = self.ops.remove(&outcome.itt) else { return Err(format!("an answer to nothing: {outcome:?}")) };
        scene.log(|| format!("{} [{}] ends {:#x} {:x?}", self.name(), outcome.itt, outcome.status, outcome.kcq()));
        op.ends(scene, outcome)?;
        if let Kind::Read { first, count } = op.kind
            && outcome.is_good()
            && count == u64::from(scene.plan.disks[op.disk].block_size) / SECTOR as u64
        {
            self.remember((op.disk, first), &outcome.data_in);
        }
        self.check_order(scene, &op, outcome)
    }

    fn remember(&mut self, at: (usize, u64), data: &[u8]) {
        self.remembered.retain(|(known, _)| *known != at);
        if self.remembered.len() == REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back((at, data.to_vec()));
    }

    /// SAM-5 8.6: an ORDERED command that was carried out comes after all older ones of its nexus.
    fn check_order(&self, scene: &Scene, op: &Op, outcome: &Outcome) -> Result<(), Complaint> {
        let moves = |kind: &Kind| matches!(kind, Kind::Read { .. } | Kind::Write { .. });
        // A LUN that went and came back is a new nexus, with an order of its own.
        let same_nexus = scene.plan.chaos.maps == 0 && scene.plan.chaos.devices == 0;
        if !op.ordered || !outcome.is_good() || !moves(&op.kind) || !same_nexus {
            return Ok(());
        }
        // Whoever was dropped, by us or by somebody else, does not count.
        let older = self.ops.values().find(|other| {
            let same = other.lun == op.lun && other.start < op.start && moves(&other.kind);
            same && !scene.may_be_dropped(other.disk, other.start)
        });
        match older {
            Some(older) if self.functions.is_empty() => Err(format!("{op:?} is ORDERED but came before {older:?}")),
            _ => Ok(()),
        }
    }

    fn logged_out(&mut self, scene: &mut Scene, response: u8) -> Result<(), Complaint> {
        if response != 0 {
            return Err(format!("logout response {response}"));
        }
        scene.log(|| format!("{} logged out", self.name()));
        self.hang_up(scene, false);
        // RFC 7143 11.14: the commands ended before the answer.
        self.settle(scene);
        Ok(())
    }

    fn asynchronous(&mut self, scene: &mut Scene, message: &AsyncMessage) {
        scene.log(|| format!("{} asynchronous event {}", self.name(), message.event));
        // 1: please log out; 2, 3: the connection or the session will be dropped.
        self.excused |= (1..=3).contains(&message.event);
        let obeys = message.event == 1 && scene.rng.chance(500_000);
        if obeys
            && let Link::Up { core, leaving, .. } = &mut self.link
            && !std::mem::replace(leaving, true)
        {
            core.logout(0);
        }
    }

    fn answer_held(&mut self, now: Nanos) {
        let Link::Up { core, .. } = &mut self.link else { return };
        let (due, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.held).into_iter().partition(|held| held.0 <= now);
        self.held = rest;
        for (_, r2t) in due {
            core.send_data_out(r2t.itt, r2t.ttt, r2t.offset, r2t.length);
        }
    }

    /// Aborts what takes too long, as initiators do. Too long is a fault, unless somebody else may have aborted it.
    fn give_up_waiting(&mut self, scene: &Scene) -> Result<(), Complaint> {
        let now = scene.now();
        if let Some(function) = self.functions.values().find(|f| f.sent.after(PATIENCE) <= now) {
            return Err(format!("function {} is not answered", function.function));
        }
        let late: Vec<u32> =
            self.ops.iter().filter(|(_, op)| op.sent.after(COMMAND_TIMEOUT) <= now).map(|(itt, _)| *itt).collect();
        for itt in late {
            let asked = self.functions.values().any(|f| f.function == tmf::ABORT_TASK && f.scope == [itt]);
            let held = self.held.iter().any(|(_, r2t)| r2t.itt == itt);
            if !asked && !held {
                self.abort(scene, itt);
            }
        }
        Ok(())
    }

    fn is_overdue(&self, scene: &Scene, scope: &[u32]) -> bool {
        let now = scene.now();
        scope.iter().filter_map(|itt| self.ops.get(itt)).any(|op| op.sent.after(COMMAND_TIMEOUT) <= now)
    }

    fn act(&mut self, scene: &mut Scene) {
        let Link::Up { logged_in: true, leaving: false, .. } = self.link else {
            if self.mode == Mode::Leave && !matches!(self.link, Link::Up { leaving: true, .. }) {
                self.hang_up(scene, true);
            }
            return;
        };
        match self.mode {
            Mode::Load => self.load(scene),
            Mode::Finish => self.go_on_with_script(scene),
            Mode::Leave => {
                if scene.rng.chance(700_000) {
                    self.log_out(scene);
                } else {
                    let reset = scene.rng.chance(500_000);
                    self.hang_up(scene, reset);
                }
            }
        }
    }

    fn log_out(&mut self, scene: &Scene) {
        if let Link::Up { core, leaving, .. } = &mut self.link {
            scene.log(|| format!("{}/{} logs out", self.plan.name, self.plan.isid));
            *leaving = true;
            core.logout(0);
        }
    }

    fn go_on_with_script(&mut self, scene: &mut Scene) {
        while self.scripted.len() < 4
            && let Some((mut op, command)) = self.script.pop_front()
            && let Link::Up { core, .. } = &mut self.link
        {
            op.sent = scene.now();
            op.begins(scene);
            let itt = core.submit(command.clone());
            self.scripted.insert(itt, (op, command));
        }
    }

    fn load(&mut self, scene: &mut Scene) {
        while scene.budget > 0 && self.ops.len() < self.plan.depth {
            if !self.ops.is_empty() && scene.rng.chance(200_000) {
                return;
            }
            self.send_command(scene);
            let chaos = scene.plan.chaos;
            if scene.rng.chance(chaos.functions) {
                self.send_function(scene);
            }
            if scene.rng.chance(chaos.stalls) {
                let time = scene.pick(&[1_000_000, 300_000_000, 20_000_000_000, 80_000_000_000]);
                self.stalled_until = scene.now().after(Nanos(time));
                scene.log(|| format!("{} stalls", self.name()));
                return;
            }
            if scene.rng.chance(chaos.resets) {
                let reset = scene.rng.chance(700_000);
                scene.log(|| format!("{} hangs up", self.name()));
                return self.hang_up(scene, reset);
            }
            if scene.rng.chance(chaos.logouts) {
                return self.log_out(scene);
            }
        }
    }

    fn send_command(&mut self, scene: &mut Scene) {
        let remembered = &self.remembered;
        let seen = |disk: usize, first: u64| {
            remembered.iter().find(|(at, _)| *at == (disk, first)).map(|(_, data)| data.clone())
        };
        let (mut op, command) = Maker { scene, seen: &seen, hesitant: self.plan.hesitant }.make();
        let Link::Up { core, .. } = &mut self.link else { return };
        scene.budget -= 1;
        scene.counters.commands += 1;
        op.begins(scene);
        let itt = core.submit(command);
        scene.log(|| format!("{}/{} [{itt}] {op:?}", self.plan.name, self.plan.isid));
        self.ops.insert(itt, op);
    }

    fn abort(&mut self, scene: &Scene, itt: u32) {
        let (Link::Up { core, .. }, Some(op)) = (&mut self.link, self.ops.get(&itt)) else { return };
        // What waits for the command window has never left: the target does not know it.
        let Some(cmd_sn) = core.cmd_sn_of(itt).filter(|sn| *sn != 0) else { return };
        let tag = core.task_management(tmf::ABORT_TASK, scsi::lun(op.lun), Some((itt, cmd_sn)));
        scene.log(|| format!("{}/{} [{tag}] aborts [{itt}]", self.plan.name, self.plan.isid));
        let function = Function { function: tmf::ABORT_TASK, scope: vec![itt], resets: Vec::new(), sent: scene.now() };
        self.functions.insert(tag, function);
    }

    fn send_function(&mut self, scene: &mut Scene) {
        let some = scene.rng.below(self.ops.len() as u64) as usize;
        let Some((&itt, op)) = self.ops.iter().nth(some) else { return };
        let (lun, disk) = (op.lun, op.disk);
        let function = match scene.rng.below(100) {
            0..55 => return self.abort(scene, itt),
            55..70 => tmf::ABORT_TASK_SET,
            70..80 => tmf::CLEAR_TASK_SET,
            80..95 => tmf::LOGICAL_UNIT_RESET,
            95..99 => tmf::TARGET_WARM_RESET,
            _ => tmf::TARGET_COLD_RESET,
        };
        let Link::Up { core, .. } = &mut self.link else { return };
        let about_all = matches!(function, tmf::TARGET_WARM_RESET | tmf::TARGET_COLD_RESET);
        let known = |itt: &u32| core.cmd_sn_of(*itt).is_some_and(|sn| sn != 0);
        let scope: Vec<u32> = self
            .ops
            .iter()
            .filter(|(itt, op)| (about_all || op.lun == lun) && known(itt))
            .map(|(itt, _)| *itt)
            .collect();
        let resets = match function {
            tmf::ABORT_TASK_SET => Vec::new(),
            _ if about_all => (0..scene.media.len()).map(|disk| scene.reset_begins(disk)).collect(),
            _ => vec![scene.reset_begins(disk)],
        };
        if function == tmf::TARGET_COLD_RESET {
            self.excused = true;
        }
        let tag = core.task_management(function, scsi::lun(lun), None);
        scene.log(|| format!("{}/{} [{tag}] function {function} lun {lun}", self.plan.name, self.plan.isid));
        self.functions.insert(tag, Function { function, scope, resets, sent: scene.now() });
    }

    fn function_ends(&mut self, scene: &mut Scene, itt: u32, response: u8) -> Result<(), Complaint> {
        let now = scene.tick();
        let Some(function) = self.functions.remove(&itt) else { return Err("an answer to no function".to_owned()) };
        scene.log(|| format!("{} [{itt}] function answered: {response}", self.name()));
        scene.counters.functions += 1;
        for reset in &function.resets {
            scene.resets[*reset].end = Some(now);
        }
        match response {
            tmf::response::COMPLETE => {
                for itt in function.scope {
                    self.ended_by_function(scene, now, itt)?;
                }
                Ok(())
            }
            tmf::response::TASK_DOES_NOT_EXIST if function.function == tmf::ABORT_TASK => {
                let Some(&itt) = function.scope.first() else { return Ok(()) };
                if self.functions.values().any(|other| other.scope.contains(&itt)) {
                    // Another function has taken it already, and will be answered for it.
                    return Ok(());
                }
                match self.ops.get(&itt) {
                    Some(op) if !scene.may_be_dropped(op.disk, op.start) => {
                        Err(format!("[{itt}] was never answered, and does not exist: {op:?}"))
                    }
                    _ => self.ended_by_function(scene, now, itt),
                }
            }
            tmf::response::LUN_DOES_NOT_EXIST | tmf::response::REJECTED => {
                if function.function == tmf::ABORT_TASK && self.is_overdue(scene, &function.scope) {
                    // The next thing that an initiator tries is a new session.
                    self.hang_up(scene, true);
                }
                Ok(())
            }
            other => Err(format!("response {other} to function {}", function.function)),
        }
    }

    /// From here on it is not answered, and changes nothing.
    fn ended_by_function(&mut self, scene: &mut Scene, now: Tick, itt: u32) -> Result<(), Complaint> {
        let Some(op) = self.ops.remove(&itt) else { return Ok(()) };
        scene.counters.lost += 1;
        self.held.retain(|(_, r2t)| r2t.itt != itt);
        let comes_and_goes = scene.plan.chaos.maps > 0 || scene.plan.chaos.devices > 0;
        if comes_and_goes && matches!(op.kind, Kind::Other) {
            self.stray.insert(itt);
        } else if let Link::Up { core, .. } = &mut self.link {
            core.forget(itt);
        }
        op.over(scene, now, false)
    }
}
