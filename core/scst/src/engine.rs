//! The engine: all state of one reactor, one entry point, no I/O.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use scst_scsi::sense::{RawSense, SenseFormat};
use scst_scsi::{CommandFlags, DataDirection, ScsiStatus, SenseData};

use crate::Nanos;
use crate::barrier::{ClosedBarriers, HomeQueue, OwnedBarrier};
use crate::buffer::SgList;
use crate::command::{Command, CommandMarks, CommandState, NONE};
use crate::config::TargetConfig;
use crate::driver::Response;
use crate::event::{BarrierId, BarrierScope, DataError, Effect, Event, Message};
use crate::handler::{ControlSettings, ExecCommand, Outcome, Parsed, Port};
use crate::ids::{CmdId, DeviceId, NexusId, ReactorId, SessionId, TargetId};
use crate::latency::Latency;
use crate::nexus::{Nexus, Session};
use crate::slab::Slab;
use crate::target_reset::TargetResets;
use crate::tmf::Tmf;
use crate::wait::Waits;

/// Bounds of one engine; over a bound there is a status or a refusal, never growth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Commands that have a slot, over all sessions. Over it: BUSY or TASK SET FULL.
    pub commands: usize,
    /// Of these per I_T_L nexus (SCST_MAX_TGT_DEV_COMMANDS of the original, there 48).
    pub commands_per_nexus: u32,
    /// Bytes of command buffers per session, so that one initiator that owes data leaves room for the others. One
    /// command is always let in. Over it: TASK SET FULL.
    pub bytes_per_session: u64,
    /// Sessions.
    pub sessions: usize,
    /// I_T_L nexuses over all sessions. A session makes one with its first command to a LUN and none before, so nothing is
    /// set aside at login. Over it: a login is refused if its LUN map does not fit whole into what is free then. Who has
    /// logged in and finds later that others have taken the rest gets BUSY for its first command to a LUN, and task
    /// management functions fail, until a session goes; LUNs that it has used go on.
    pub nexuses: usize,
    /// Task management functions in progress.
    pub task_management: usize,
    /// How long a command waits until it is alone on its logical unit, or kept out by one that is; then it ends with BUSY.
    pub barrier: Nanos,
    /// How long a task management function waits for commands to end; then it has failed. Longer than a driver waits for
    /// the data of an aborted command, shorter than initiators wait for the answer (Linux: 15 s).
    pub task_management_time: Nanos,
    /// How long the end of a session waits for commands that execute; then they are parked.
    pub grace: Nanos,
    /// Parked commands of one device on one reactor from which on its medium is BUSY.
    pub parked_per_device: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            commands: 16 * 1024,
            commands_per_nexus: 48,
            bytes_per_session: 64 << 20,
            sessions: 16 * 1024,
            nexuses: 4 << 20,
            task_management: 1024,
            barrier: Nanos::from_secs(30),
            task_management_time: Nanos::from_secs(12),
            grace: Nanos::from_secs(1),
            parked_per_device: 128,
        }
    }
}

/// Who and where an engine is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EngineConfig {
    /// Its reactor.
    pub reactor: ReactorId,
    /// How many reactors there are, numbered from 0.
    pub reactors: u16,
    /// Its bounds.
    pub limits: Limits,
}

/// A logical unit as this engine sees it.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) peripheral_type: u8,
    pub(crate) control: ControlSettings,
    /// SPC-2 reservation.
    pub(crate) reservation: Option<NexusId>,
    /// Nexuses, of all engines, that prevent medium removal.
    pub(crate) preventing: Vec<NexusId>,
    /// Nexuses of this engine that see it, by slot.
    pub(crate) nexuses: Vec<u32>,
    /// Barriers that are closed or closing.
    pub(crate) barriers: ClosedBarriers,
    /// It is in the list of devices with commands that are kept out.
    pub(crate) watched: bool,
    /// Commands whose session went on without them.
    pub(crate) parked: u32,
    /// Commands in state `Executing`, or answered with mapped data that have not been sent.
    pub(crate) executing: u32,
    /// Barriers wait in this queue when this engine is the device's home.
    pub(crate) home: HomeQueue,
    /// It goes when its last command has gone.
    pub(crate) removing: bool,
}

/// A new session.
#[derive(Clone, Copy, Debug)]
pub struct SessionRequest<'a> {
    /// The target it logs in to.
    pub target: TargetId,
    /// Initiator name, as the transport writes it.
    pub initiator: &'a str,
}

/// Why a session was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionRefused {
    /// No such target, or it is disabled.
    NoTarget,
    /// A limit is reached.
    NoResources,
}

/// No slot for a command: the driver answers BUSY itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoSlot;

pub use crate::effects::Effects;

/// The mid-level of one reactor.
#[derive(Debug)]
pub struct Engine {
    pub(crate) config: EngineConfig,
    pub(crate) commands: Slab<Command>,
    pub(crate) sessions: Slab<Session>,
    pub(crate) nexuses: Slab<Nexus>,
    /// How many there have been.
    pub(crate) nexuses_made: u32,
    pub(crate) tmfs: Slab<Tmf>,
    pub(crate) devices: Vec<Option<Device>>,
    pub(crate) targets: Vec<Option<Arc<TargetConfig>>>,
    /// What waits for commands to end.
    pub(crate) waits: Waits,
    /// Barriers that commands and functions of this engine have asked for.
    pub(crate) owned: Slab<OwnedBarrier>,
    /// Empty, with room for the barriers that a step closes.
    pub(crate) to_close: Vec<(BarrierId, BarrierScope)>,
    /// Of these, barriers of functions.
    pub(crate) unit_resets: u32,
    /// TARGET RESETs that have units left.
    pub(crate) target_resets: TargetResets,
    /// Devices with commands that are kept out.
    pub(crate) watched: Vec<DeviceId>,
    /// Sessions that wait for their commands to end, and when those are parked.
    pub(crate) closing: Vec<(SessionId, Nanos)>,
    /// Sense data of real devices, by the slot of the command that has them.
    pub(crate) raw_senses: BTreeMap<u32, RawSense>,
    /// When to look after what waits.
    pub(crate) next_look: Option<Nanos>,
    /// Messages to itself.
    pub(crate) loopback: VecDeque<Message>,
    pub(crate) now: Nanos,
    /// There while latencies are measured.
    pub(crate) latency: Option<Box<Latency>>,
    /// What every new command is marked with.
    pub(crate) new_marks: CommandMarks,
    /// The marks of a command in its task set that nothing is the matter with.
    pub(crate) plain_marks: CommandMarks,
}

impl Engine {
    /// An engine without targets, devices and sessions.
    pub fn new(config: EngineConfig) -> Self {
        let limits = config.limits;
        Self {
            config,
            commands: Slab::new(limits.commands, limits.commands.min(1024)),
            sessions: Slab::new(limits.sessions, 16),
            nexuses: Slab::new(limits.nexuses, 16),
            nexuses_made: 0,
            tmfs: Slab::new(limits.task_management, 16),
            devices: Vec::new(),
            targets: Vec::new(),
            waits: Waits::default(),
            owned: Slab::new(1 << 24, 16),
            to_close: Vec::new(),
            unit_resets: 0,
            target_resets: TargetResets::new(),
            watched: Vec::new(),
            closing: Vec::new(),
            raw_senses: BTreeMap::new(),
            next_look: None,
            loopback: VecDeque::with_capacity(64),
            now: Nanos(0),
            latency: None,
            new_marks: CommandMarks::empty(),
            plain_marks: CommandMarks::IN_TASK_SET,
        }
    }

    /// Takes one event; what follows from it is added to `fx`.
    pub fn handle(&mut self, now: Nanos, event: Event, fx: &mut Effects) {
        self.now = now;
        match event {
            Event::Deliver { cmd } => self.deliver(cmd, fx),
            Event::TaskManagement(request) => self.task_management(request, fx),
            Event::DeviceReset { barrier, control } => self.device_reset(barrier, control, fx),
            Event::SessionDown { session } => self.session_down(session, fx),
            Event::Message(message) => self.message(message, fx),
            Event::AddDevice { device, peripheral_type, control } => self.add_device(device, peripheral_type, control),
            Event::RemoveDevice { device } => self.remove_device(device, fx),
            Event::SetTarget(target) => self.set_target(target, fx),
            Event::RemoveTarget { target } => self.remove_target(target, fx),
            Event::Attention { device, asc } => self.attention(device, asc, None),
        }
        self.settle(fx);
    }

    /// The pool has answered [`Effect::Allocate`]. Returns true when the command is to be executed now.
    ///
    /// MEASURED, here and below: latencies are measured. What does not measure tests nothing.
    pub(crate) fn buffer_at<const MEASURED: bool>(
        &mut self,
        now: Nanos,
        cmd: CmdId,
        sg: Option<&SgList>,
        fx: &mut Effects,
    ) -> bool {
        self.now = now;
        if self.buffer::<MEASURED>(cmd, sg, fx) {
            return true;
        }
        self.settle(fx);
        false
    }

    /// The driver has answered [`Effect::RequestData`].
    pub(crate) fn data_received_at(&mut self, now: Nanos, cmd: CmdId, result: Result<(), DataError>, fx: &mut Effects) {
        self.now = now;
        self.data_received(cmd, result, fx);
        self.settle(fx);
    }

    /// A handler has executed a command. Returns true when it is to be answered now.
    #[inline(always)]
    pub(crate) fn executed_at<const MEASURED: bool>(
        &mut self,
        now: Nanos,
        cmd: CmdId,
        outcome: &Outcome,
        fx: &mut Effects,
    ) -> bool {
        self.now = now;
        let respond = self.executed::<MEASURED>(cmd, outcome, fx);
        self.settle(fx);
        respond
    }

    /// The driver has answered [`Effect::Respond`]: nothing of the command is needed any more.
    pub(crate) fn response_sent_at(&mut self, now: Nanos, cmd: CmdId, fx: &mut Effects) {
        self.now = now;
        self.response_sent(cmd, fx);
        self.settle(fx);
    }

    /// Handles what the engine has told itself.
    #[inline]
    pub(crate) fn settle(&mut self, fx: &mut Effects) {
        while let Some(message) = self.loopback.pop_front() {
            self.message(message, fx);
        }
    }

    /// Brings a session up.
    ///
    /// # Errors
    /// The target is missing or disabled, or a limit is reached.
    pub fn session_up(&mut self, now: Nanos, request: SessionRequest<'_>) -> Result<SessionId, SessionRefused> {
        self.now = now;
        let target = self.target(request.target).ok_or(SessionRefused::NoTarget)?;
        if !target.enabled {
            return Err(SessionRefused::NoTarget);
        }
        let map = Arc::clone(target.map_for(request.initiator));
        if self.nexuses.len() + map.entries().len() > self.config.limits.nexuses {
            return Err(SessionRefused::NoResources);
        }
        let session = Session {
            target: request.target,
            initiator: request.initiator.to_string(),
            map,
            by_lun: Vec::new(),
            removed: Vec::new(),
            loose: Vec::new(),
            commands: 0,
            ended: 0,
            bytes: 0,
            closing: false,
            takes_mapped: false,
        };
        let (index, generation) = self.sessions.insert(session).ok_or(SessionRefused::NoResources)?;
        if let Some(latency) = &mut self.latency {
            latency.sessions.add(index);
        }
        Ok(SessionId { index, generation })
    }

    /// Says whether the driver takes page-cached data of a file for data-in in this session: it must not look at them,
    /// only have the kernel send them. At first it does not.
    pub fn set_takes_mapped(&mut self, session: SessionId, takes: bool) {
        if let Some(found) = self.sessions.get_mut(session.index, session.generation) {
            found.takes_mapped = takes;
            for &slot in &found.by_lun {
                if let Some(nexus) = self.nexuses.at_mut(slot) {
                    nexus.takes_mapped = takes;
                }
            }
        }
    }

    /// A target's snapshot.
    pub fn target(&self, id: TargetId) -> Option<&Arc<TargetConfig>> {
        self.targets.get(id.index())?.as_ref().filter(|target| target.id == id)
    }

    /// All targets.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<TargetConfig>> {
        self.targets.iter().flatten()
    }

    /// The device behind a LUN field of a session.
    #[inline]
    pub(crate) fn resolve(&self, session: SessionId, lun: scst_scsi::Lun) -> Option<DeviceId> {
        let number = lun.number()?;
        let slot = self.sessions.get(session.index, session.generation)?.nexus(number);
        match self.nexuses.at(slot) {
            Some(nexus) => Some(nexus.device),
            None => self.unmet(session, number).map(|entry| entry.device),
        }
    }

    /// Whether nothing orders the commands of a LUN of a session at the moment.
    #[inline]
    pub(crate) fn is_unordered(&self, session: SessionId, lun: scst_scsi::Lun) -> bool {
        let slot = lun.number().zip(self.sessions.get(session.index, session.generation));
        let Some(nexus) = slot.and_then(|(number, session)| self.nexuses.at(session.nexus(number))) else {
            return false;
        };
        let restricted = self.device(nexus.device).is_none_or(|d| d.control.restricted_reordering);
        nexus.ordered | nexus.head_of_queue == 0 && !restricted
    }

    /// State of a command, if it is still there.
    pub fn state(&self, cmd: CmdId) -> Option<CommandState> {
        self.command(cmd).map(|c| c.state)
    }

    /// Number of commands that have a slot.
    pub fn commands_in_use(&self) -> usize {
        self.commands.len()
    }

    /// Number of sessions.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// The buffer of a command.
    pub fn sg(&self, cmd: CmdId) -> Option<&SgList> {
        self.command(cmd).map(|c| &c.sg)
    }

    /// The device a command is for.
    #[inline]
    pub fn device_of(&self, cmd: CmdId) -> Option<DeviceId> {
        self.command(cmd)?.device
    }

    /// A command as its device handler sees it.
    #[inline]
    pub fn exec_command(&self, id: CmdId) -> Option<ExecCommand<'_>> {
        let command = self.command(id)?;
        let nexus = self.nexuses.at(command.nexus)?;
        Some(ExecCommand {
            id,
            cdb: &command.cdb,
            parsed: &command.parsed,
            sg: &command.sg,
            nexus: nexus.id(self.config.reactor),
            read_only: nexus.read_only,
            // Who owns a barrier keeps others waiting, and must not itself wait for a socket.
            takes_mapped: nexus.takes_mapped && !command.marks.contains(CommandMarks::OWNS_BARRIER),
            removal_prevented: self.device(nexus.device).is_some_and(|d| !d.preventing.is_empty()),
            port: Port::Target(self.target(nexus.target)),
        })
    }

    /// The response of a command in state `Responding`.
    #[inline]
    pub fn response(&self, id: CmdId) -> Option<Response<'_>> {
        let command = self.command(id)?;
        let outcome = &command.outcome;
        let descriptor = outcome.sense.is_some()
            && command.device.and_then(|d| self.device(d)).is_some_and(|d| d.control.descriptor_sense);
        let data_in = outcome.transferred.min(command.sg.bytes());
        Some(Response {
            cmd: id,
            driver_tag: command.driver_tag,
            session: command.session,
            status: outcome.status,
            sense: outcome.sense.as_ref(),
            raw_sense: self.raw_sense(id, command),
            sense_format: if descriptor { SenseFormat::Descriptor } else { SenseFormat::Fixed },
            sg: &command.sg,
            data_in,
            wanted: wanted(&command.parsed, outcome),
        })
    }

    fn raw_sense(&self, id: CmdId, command: &Command) -> Option<&RawSense> {
        if command.marks.contains(CommandMarks::RAW_SENSE) { self.raw_senses.get(&id.index) } else { None }
    }

    /// Gives a command that is about to end the sense data of a real device.
    #[cold]
    pub(crate) fn set_raw_sense(&mut self, id: CmdId, raw: RawSense) {
        if let Some(command) = self.command_mut(id) {
            command.marks |= CommandMarks::RAW_SENSE;
            self.raw_senses.insert(id.index, raw);
        }
    }

    /// Session and driver handle of a command.
    pub fn owner(&self, cmd: CmdId) -> Option<(SessionId, u64)> {
        self.command(cmd).map(|c| (c.session, c.driver_tag))
    }

    pub(crate) fn command(&self, id: CmdId) -> Option<&Command> {
        self.commands.get(id.index, id.generation)
    }

    pub(crate) fn command_mut(&mut self, id: CmdId) -> Option<&mut Command> {
        self.commands.get_mut(id.index, id.generation)
    }

    pub(crate) fn device(&self, id: DeviceId) -> Option<&Device> {
        self.devices.get(id.index())?.as_ref().filter(|device| device.id == id)
    }

    pub(crate) fn device_mut(&mut self, id: DeviceId) -> Option<&mut Device> {
        self.devices.get_mut(id.index())?.as_mut().filter(|device| device.id == id)
    }

    /// The cross-engine name of an I_T_L nexus.
    pub(crate) fn nexus_id(&self, slot: u32) -> Option<NexusId> {
        let nexus = self.nexuses.at(slot)?;
        Some(nexus.id(self.config.reactor))
    }

    /// Whether the nexus slot is the one with this name.
    pub(crate) fn is_nexus(&self, slot: u32, name: NexusId) -> bool {
        slot != NONE && self.nexus_id(slot) == Some(name)
    }

    /// Queues a unit attention for every nexus of the device but one.
    pub(crate) fn attention(&mut self, device: DeviceId, asc: scst_scsi::Asc, except: Option<NexusId>) {
        let found = self.devices.get(device.index()).and_then(Option::as_ref).filter(|found| found.id == device);
        let Some(found) = found else { return };
        for &slot in &found.nexuses {
            let Some(nexus) = self.nexuses.at_mut(slot) else { continue };
            let name = nexus.id(self.config.reactor);
            if Some(name) != except {
                nexus.establish(asc);
            }
        }
    }

    fn add_device(&mut self, device: DeviceId, peripheral_type: u8, control: ControlSettings) {
        let index = device.index();
        if self.devices.len() <= index {
            self.devices.resize_with(index + 1, || None);
        }
        self.devices[index] = Some(Device {
            id: device,
            peripheral_type,
            control,
            reservation: None,
            preventing: Vec::new(),
            nexuses: Vec::new(),
            barriers: ClosedBarriers::default(),
            watched: false,
            parked: 0,
            executing: 0,
            home: HomeQueue::default(),
            removing: false,
        });
        if let Some(latency) = &mut self.latency {
            latency.units.add(device.index() as u32);
        }
    }

    fn remove_device(&mut self, device: DeviceId, fx: &mut Effects) {
        if let Some(found) = self.device_mut(device) {
            found.removing = true;
            self.try_remove_device(device, fx);
        } else {
            fx.push_back(Effect::DeviceRemoved { device });
        }
    }

    /// Lets a device go that nobody uses any more. Its home goes on while others wait to be alone on it.
    pub(crate) fn try_remove_device(&mut self, device: DeviceId, fx: &mut Effects) {
        let unused = |d: &Device| d.nexuses.is_empty() && d.barriers.is_empty() && d.home.is_empty();
        if self.device(device).is_some_and(|d| d.removing && unused(d)) {
            self.devices[device.index()] = None;
            if let Some(latency) = &mut self.latency {
                latency.units.remove(device.index() as u32);
            }
            fx.push_back(Effect::DeviceRemoved { device });
        }
    }
}

/// Bytes that a command would have moved, had there been room: for data-in of emulated commands what they had to say,
/// for medium accesses what the CDB asks for. The transport computes its residual from it.
fn wanted(parsed: &Parsed, outcome: &Outcome) -> u32 {
    let moves_blocks = parsed.flags.contains(CommandFlags::MEDIUM_ACCESS) && outcome.status == ScsiStatus::GOOD;
    match parsed.direction {
        DataDirection::FromDevice if !moves_blocks => outcome.transferred,
        _ => parsed.length,
    }
}

/// Sense data of a LUN that is not there (SPC-6 6.6.1).
pub(crate) const fn no_lun() -> SenseData {
    SenseData::new(scst_scsi::SenseKey::ILLEGAL_REQUEST, scst_scsi::Asc(0x2500))
}
