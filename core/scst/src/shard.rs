//! Engine and device handlers of one reactor, joined: effects go where they belong.
//!
//! A reactor's loop feeds events through the methods here and then calls [`Shard::run`], which hands every effect to
//! a device handler, the target driver, or the outbox, until nothing is left to do.

use std::fmt;
use std::sync::Arc;

use scst_scsi::sense::RawSense;
use scst_scsi::{Asc, Lun, SenseData, SenseKey, TaskManagementFunction};

use crate::Nanos;
use crate::buffer::{BufferSource, SgList};
use crate::config::TargetConfig;
use crate::core_commands::{parse_for_device, parse_without_lun};
use crate::driver::{NewCommand, TargetDriver};
use crate::engine::{Effects, Engine, EngineConfig, NoSlot, SessionRefused, SessionRequest};
use crate::event::{DataError, Effect, Event, Message, TaskManagementRequest};
use crate::handler::{ExecContext, Execution, HandlerShard};
use crate::ids::{CmdId, DeviceId, ReactorId, SessionId, TargetId};
use crate::io::{IoCompletion, IoQueue};
use crate::latency::Clock;

/// What the control plane asks of a shard.
pub enum Control {
    /// A device exists from now on. Its number is new.
    AddDevice {
        /// Its number.
        id: DeviceId,
        /// Its handler's half for this reactor.
        handler: Box<dyn HandlerShard>,
    },
    /// A device that no LUN map names any more goes away; [`Notice::DeviceRemoved`] says when.
    RemoveDevice(DeviceId),
    /// A target is new or has changed.
    SetTarget(Arc<TargetConfig>),
    /// A target goes away; its sessions are closed.
    RemoveTarget(TargetId),
    /// Something about a device changed that its initiators must hear of.
    Attention {
        /// The device.
        device: DeviceId,
        /// What has changed.
        asc: Asc,
    },
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddDevice { id, .. } => f.debug_tuple("AddDevice").field(id).finish(),
            Self::RemoveDevice(id) => f.debug_tuple("RemoveDevice").field(id).finish(),
            Self::SetTarget(target) => f.debug_tuple("SetTarget").field(&target.name).finish(),
            Self::RemoveTarget(id) => f.debug_tuple("RemoveTarget").field(id).finish(),
            Self::Attention { device, asc } => f.debug_tuple("Attention").field(device).field(asc).finish(),
        }
    }
}

/// What a shard tells the control plane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// Nothing of the device is left in this shard; its handler half is dropped.
    DeviceRemoved(DeviceId),
    /// The device has commands whose session went on without them, because its storage does not answer; or it has none any
    /// more.
    DeviceStuck {
        /// The device.
        device: DeviceId,
        /// It has some.
        stuck: bool,
    },
}

/// What leaves a shard.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Messages for the engines of other reactors, in order.
    pub messages: Vec<(ReactorId, Box<Message>)>,
    /// For the control plane.
    pub notices: Vec<Notice>,
}

/// What a shard works with while it runs.
pub struct RunContext<'a> {
    /// The time.
    pub now: Nanos,
    /// Storage operations.
    pub io: &'a mut dyn IoQueue,
    /// Command buffers.
    pub mem: &'a mut dyn BufferSource,
    /// Where messages go.
    pub outbox: &'a mut Outbox,
}

/// One reactor's half of the mid-level.
pub struct Shard {
    engine: Engine,
    handlers: Vec<Option<Box<dyn HandlerShard>>>,
    effects: Effects,
    /// The last buffer that a command got.
    buffer: SgList,
    /// Where handlers leave the sense data of real devices.
    raw_sense: Option<RawSense>,
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("engine", &self.engine).field("effects", &self.effects).finish_non_exhaustive()
    }
}

/// The device went away under a command.
const GONE: SenseData = SenseData::new(SenseKey::ILLEGAL_REQUEST, Asc(0x2500));

impl Shard {
    /// A shard without devices and targets.
    pub fn new(config: EngineConfig) -> Self {
        let effects = Effects::with_capacity(256);
        Self { engine: Engine::new(config), handlers: Vec::new(), effects, buffer: SgList::default(), raw_sense: None }
    }

    /// Measures latencies from now on (see [`Engine::measure_latency`]), or (None) no longer.
    pub fn measure_latency(&mut self, clock: Option<Box<dyn Clock>>) {
        self.engine.measure_latency(clock);
    }

    /// The engine, to look at.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Brings a session up.
    ///
    /// # Errors
    /// See [`SessionRefused`].
    pub fn session_up(&mut self, now: Nanos, request: SessionRequest<'_>) -> Result<SessionId, SessionRefused> {
        self.engine.session_up(now, request)
    }

    /// Says whether the driver takes [`Execution::Mapped`] in a session; see [`Engine::set_takes_mapped`].
    pub fn set_takes_mapped(&mut self, session: SessionId, takes: bool) {
        self.engine.set_takes_mapped(session, takes);
    }

    /// A session ends: its commands are aborted silently. [`TargetDriver::session_closed`] follows; until then the
    /// driver still reports data and responses of its commands.
    pub fn session_down(&mut self, now: Nanos, session: SessionId) {
        self.engine.handle(now, Event::SessionDown { session }, &mut self.effects);
    }

    /// Whether a SIMPLE command for this LUN may come with its data ([`NewCommand::data`]): its device takes them from
    /// anywhere, and there is no older command that it would have to wait for.
    pub fn takes_data_in_place(&self, session: SessionId, lun: Lun) -> bool {
        let device = self.engine.resolve(session, lun);
        let handler = device.and_then(|d| self.handlers.get(d.index())).and_then(Option::as_ref);
        handler.is_some_and(|handler| handler.takes_data_in_place()) && self.engine.is_unordered(session, lun)
    }

    /// A command has arrived.
    ///
    /// # Errors
    /// [`NoSlot`]: the driver answers BUSY itself.
    pub fn command(&mut self, now: Nanos, new: &NewCommand) -> Result<CmdId, NoSlot> {
        let handlers = &mut self.handlers;
        let parse = |device: Option<DeviceId>| {
            let Some(device) = device else { return parse_without_lun(&new.cdb) };
            if let Some(parsed) = parse_for_device(&new.cdb) {
                return parsed;
            }
            let handler = handlers.get_mut(device.index()).and_then(Option::as_mut);
            handler.map_or(Err(GONE), |h| h.parse(&new.cdb))
        };
        let id = self.engine.arrive(now, new, parse, &mut self.effects)?;
        self.engine.settle(&mut self.effects);
        Ok(id)
    }

    /// All older commands of a held command have arrived.
    pub fn deliver(&mut self, now: Nanos, cmd: CmdId) {
        self.engine.handle(now, Event::Deliver { cmd }, &mut self.effects);
    }

    /// The data-out of a command are in its buffer, or will not come.
    pub fn data_received(&mut self, now: Nanos, cmd: CmdId, result: Result<(), DataError>) {
        self.engine.data_received_at(now, cmd, result, &mut self.effects);
    }

    /// The response has left, or can no longer leave; the buffer is not used any more.
    pub fn response_sent(&mut self, now: Nanos, cmd: CmdId) {
        self.engine.response_sent_at(now, cmd, &mut self.effects);
    }

    /// A task management function has arrived; [`TargetDriver::task_management_done`] follows.
    pub fn task_management(
        &mut self,
        now: Nanos,
        session: SessionId,
        lun: Lun,
        function: TaskManagementFunction,
        referenced: Option<CmdId>,
        driver_tag: u64,
    ) {
        let request = TaskManagementRequest { session, lun, function, referenced, driver_tag };
        self.engine.handle(now, Event::TaskManagement(request), &mut self.effects);
    }

    /// A message from another reactor's engine.
    pub fn message(&mut self, now: Nanos, message: Message) {
        self.engine.handle(now, Event::Message(message), &mut self.effects);
    }

    /// The control plane asks for something.
    pub fn control(&mut self, now: Nanos, control: Control) {
        let event = match control {
            Control::AddDevice { id, handler } => {
                let index = id.index();
                if self.handlers.len() <= index {
                    self.handlers.resize_with(index + 1, || None);
                }
                let (handler_type, control) = (handler.peripheral_type(), handler.control());
                self.handlers[index] = Some(handler);
                Event::AddDevice { device: id, peripheral_type: handler_type, control }
            }
            Control::RemoveDevice(device) => Event::RemoveDevice { device },
            Control::SetTarget(target) => Event::SetTarget(target),
            Control::RemoveTarget(target) => Event::RemoveTarget { target },
            Control::Attention { device, asc } => Event::Attention { device, asc },
        };
        self.engine.handle(now, event, &mut self.effects);
    }

    /// The buffer of a command: where its data-out go and its data-in come from.
    pub fn sg(&self, cmd: CmdId) -> Option<&SgList> {
        self.engine.sg(cmd)
    }

    /// All targets.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<TargetConfig>> {
        self.engine.targets()
    }

    /// A target by its name; iSCSI names compare without regard to case after normalisation.
    pub fn target_by_name(&self, name: &str) -> Option<&Arc<TargetConfig>> {
        self.engine.targets().find(|t| t.name.eq_ignore_ascii_case(name))
    }

    /// When `handle_timeout` must be called, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        self.engine.poll_timeout()
    }

    /// Gives up what has waited too long.
    pub fn handle_timeout(&mut self, now: Nanos) {
        self.engine.handle_timeout(now, &mut self.effects);
    }

    /// Whether `run` has something to do.
    pub fn has_work(&self) -> bool {
        !self.effects.is_empty()
    }

    /// Whether commands wait for buffers. The fewer of them hold one at the same time, the nearer to the processor it stays.
    pub fn wants_buffers(&self) -> bool {
        self.effects.wants_buffers()
    }

    /// A storage operation ended.
    pub fn io_completed(&mut self, cx: &mut RunContext<'_>, completion: IoCompletion) {
        let id = completion.token.cmd;
        let Some(exec) = self.engine.exec_command(id) else { return };
        let Some(device) = self.engine.device_of(id) else { return };
        let Some(handler) = self.handlers.get_mut(device.index()).and_then(Option::as_mut) else { return };
        let raw_sense = &mut self.raw_sense;
        let mut context = ExecContext { io: &mut *cx.io, mem: &mut *cx.mem, raw_sense, now: cx.now };
        let execution = handler.io_completed(exec, completion, &mut context);
        self.take_raw_sense(id);
        let place = self.effects.place();
        if self.executed::<false>(cx.now, id, &execution) {
            // Before what its end has set going: a command that was ordered behind it must not be answered first.
            self.effects.insert(place, Effect::Respond { cmd: id });
        }
    }

    /// The driver has spent time within the turn: who measures latencies should know.
    pub fn time_has_passed(&mut self) {
        if self.engine.measures_latency() {
            self.engine.read_clock();
        }
    }

    /// Carries out all effects, and those that follow from them.
    pub fn run(&mut self, cx: &mut RunContext<'_>, driver: &mut dyn TargetDriver) {
        if self.engine.measures_latency() {
            self.run_measured(cx, driver);
        } else {
            self.carry_out_all::<false>(cx, driver);
        }
    }

    /// The same while latencies are measured: there are two of everything that each command passes through, so that who
    /// does not measure tests nothing.
    #[inline(never)]
    fn run_measured(&mut self, cx: &mut RunContext<'_>, driver: &mut dyn TargetDriver) {
        self.engine.begin_run(cx.now);
        self.carry_out_all::<true>(cx, driver);
    }

    #[inline(always)]
    fn carry_out_all<const MEASURED: bool>(&mut self, cx: &mut RunContext<'_>, driver: &mut dyn TargetDriver) {
        while let Some(effect) = self.next_effect(cx) {
            match effect {
                // What every command has comes first.
                Effect::Allocate { cmd, bytes } => self.allocate::<MEASURED>(cmd, bytes, cx, driver),
                effect => self.carry_out::<MEASURED>(effect, cx, driver),
            }
        }
    }

    #[inline(always)]
    fn allocate<const MEASURED: bool>(
        &mut self,
        cmd: CmdId,
        bytes: u32,
        cx: &mut RunContext<'_>,
        driver: &mut dyn TargetDriver,
    ) {
        let sg = cx.mem.allocate_into(bytes, &mut self.buffer).then_some(&self.buffer);
        if self.engine.buffer_at::<MEASURED>(cx.now, cmd, sg, &mut self.effects) {
            self.execute::<MEASURED>(cmd, cx, driver);
        }
    }

    /// The next effect; buffers that nobody needs any more go back first.
    #[inline(always)]
    fn next_effect(&mut self, cx: &mut RunContext<'_>) -> Option<Effect> {
        while let Some(sg) = self.effects.pop_released() {
            cx.mem.release(sg);
        }
        self.effects.pop_front()
    }

    fn carry_out<const MEASURED: bool>(
        &mut self,
        effect: Effect,
        cx: &mut RunContext<'_>,
        driver: &mut dyn TargetDriver,
    ) {
        match effect {
            Effect::Nothing | Effect::Allocate { .. } => debug_assert!(false, "carried out by the caller"),
            Effect::Execute { cmd } => self.execute::<MEASURED>(cmd, cx, driver),
            Effect::ExecuteCore { cmd } => self.engine.execute_core(cx.now, cmd, &mut *cx.mem, &mut self.effects),
            Effect::CancelIo { cmd } => {
                let device = self.engine.device_of(cmd);
                if let Some(handler) = device.and_then(|d| self.handler(d)) {
                    handler.cancel(cmd, cx.io);
                }
            }
            Effect::ResetDevice { device, barrier } => {
                let control = self.handler(device).map(|h| h.reset()).unwrap_or_default();
                self.engine.handle(cx.now, Event::DeviceReset { barrier, control }, &mut self.effects);
            }
            Effect::Send { to, message } => cx.outbox.messages.push((to, message)),
            Effect::DeviceStuck { device, stuck } => cx.outbox.notices.push(Notice::DeviceStuck { device, stuck }),
            Effect::DeviceRemoved { device } => {
                if let Some(slot) = self.handlers.get_mut(device.index()) {
                    *slot = None;
                }
                cx.outbox.notices.push(Notice::DeviceRemoved(device));
            }
            effect => self.tell_driver(effect, driver),
        }
    }

    fn tell_driver(&self, effect: Effect, driver: &mut dyn TargetDriver) {
        match effect {
            Effect::RequestData { cmd } => {
                if let (Some((session, tag)), Some(sg)) = (self.engine.owner(cmd), self.engine.sg(cmd)) {
                    driver.request_data(session, tag, cmd, sg, sg.bytes());
                }
            }
            Effect::AbortData { cmd } => {
                if let Some((session, tag)) = self.engine.owner(cmd) {
                    driver.abort_data(session, tag, cmd);
                }
            }
            Effect::Respond { cmd } => self.respond(cmd, driver),
            Effect::Dropped { session, driver_tag, cmd } => driver.dropped(session, driver_tag, cmd),
            Effect::Parked { session, driver_tag, cmd } => driver.parked(session, driver_tag, cmd),
            Effect::Unparked { cmd } => driver.unparked(cmd),
            Effect::TaskManagementDone { session, driver_tag, tmf, response } => {
                driver.task_management_done(session, driver_tag, tmf, response);
            }
            Effect::AsyncEvent { session, sense } => {
                driver.async_event(session, Lun::default(), &sense);
            }
            Effect::CloseSession { session } => driver.close_session(session),
            Effect::SessionClosed { session } => driver.session_closed(session),
            other => debug_assert!(false, "not the driver's business: {other:?}"),
        }
    }

    #[inline(always)]
    fn respond(&self, cmd: CmdId, driver: &mut dyn TargetDriver) {
        if let Some(response) = self.engine.response(cmd) {
            driver.respond(response);
        }
    }

    fn execute<const MEASURED: bool>(&mut self, cmd: CmdId, cx: &mut RunContext<'_>, driver: &mut dyn TargetDriver) {
        let device = self.engine.device_of(cmd);
        let Some(exec) = self.engine.exec_command(cmd) else { return };
        let handler = device.and_then(|d| self.handlers.get_mut(d.index())).and_then(Option::as_mut);
        let Some(handler) = handler else {
            self.engine.fail(cx.now, cmd, GONE, &mut self.effects);
            return;
        };
        let raw_sense = &mut self.raw_sense;
        let mut context = ExecContext { io: &mut *cx.io, mem: &mut *cx.mem, raw_sense, now: cx.now };
        let execution = handler.execute(exec, &mut context);
        self.take_raw_sense(cmd);
        if MEASURED && matches!(execution, Execution::Pending) {
            self.engine.handed_over(cmd);
        }
        if self.executed::<MEASURED>(cx.now, cmd, &execution) {
            self.respond(cmd, driver);
        }
    }

    #[inline(always)]
    fn take_raw_sense(&mut self, cmd: CmdId) {
        if let Some(raw) = &self.raw_sense {
            self.engine.set_raw_sense(cmd, *raw);
            self.raw_sense = None;
        }
    }

    /// True: the command is to be answered now.
    #[inline(always)]
    fn executed<const MEASURED: bool>(&mut self, now: Nanos, cmd: CmdId, execution: &Execution) -> bool {
        match execution {
            Execution::Done(outcome) => self.engine.executed_at::<MEASURED>(now, cmd, outcome, &mut self.effects),
            Execution::Mapped(pages) => {
                self.engine.executed_mapped(now, cmd, *pages, &mut self.effects);
                false
            }
            Execution::Pending => false,
        }
    }

    fn handler(&mut self, device: DeviceId) -> Option<&mut Box<dyn HandlerShard>> {
        self.handlers.get_mut(device.index())?.as_mut()
    }
}
