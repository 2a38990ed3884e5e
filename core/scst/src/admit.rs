//! From arrival to the task set: slot, buffer, data-out.

use scst_scsi::{Asc, CommandFlags, DataDirection, ScsiStatus, SenseData, SenseKey, TaskAttribute};

use crate::Nanos;
use crate::buffer::{Extent, MAX_TRANSFER_BYTES, SgList};
use crate::command::{Command, CommandMarks, CommandState, NONE};
use crate::driver::{ExpectedTransfer, NewCommand};
use crate::engine::{Effects, Engine, NoSlot};
use crate::event::{DataError, Effect};
use crate::handler::Parsed;
use crate::ids::{CmdId, DeviceId};
use crate::latency::Stage;

/// Why a command did not arrive.
enum Refused {
    NoSlot,
    /// Its LUN has no nexus, as far as was looked.
    NoNexus,
}

/// Neither is the usual way once the data are there; one test for both.
const ABORTED_OR_MEASURED: CommandMarks = CommandMarks::ABORTED.union(CommandMarks::MEASURED);

/// INVALID MESSAGE ERROR: the transport's direction contradicts the CDB.
const WRONG_DIRECTION: SenseData = SenseData::new(SenseKey::ILLEGAL_REQUEST, Asc(0x4900));

impl Engine {
    /// A command has arrived. `parse` reads its CDB, once it is known for which device it is.
    ///
    /// # Errors
    /// [`NoSlot`] when the session is going away or there is no slot left; the driver then answers BUSY itself.
    #[inline(always)]
    pub(crate) fn arrive(
        &mut self,
        now: Nanos,
        new: &NewCommand,
        mut parse: impl FnMut(Option<DeviceId>) -> Result<Parsed, SenseData>,
        fx: &mut Effects,
    ) -> Result<CmdId, NoSlot> {
        match self.arrive_at(now, new, &mut parse, false, fx) {
            Ok(id) => Ok(id),
            Err(Refused::NoSlot) => Err(NoSlot),
            Err(Refused::NoNexus) => self.arrive_first(now, new, &mut parse, fx),
        }
    }

    /// The first command to a LUN, or one to a LUN that is not there: it has no nexus yet, or never.
    #[cold]
    #[inline(never)]
    fn arrive_first(
        &mut self,
        now: Nanos,
        new: &NewCommand,
        parse: &mut dyn FnMut(Option<DeviceId>) -> Result<Parsed, SenseData>,
        fx: &mut Effects,
    ) -> Result<CmdId, NoSlot> {
        let entry = new.lun.number().and_then(|lun| self.unmet(new.session, lun));
        if entry.is_some_and(|entry| !self.meet(new.session, &entry)) {
            return Err(NoSlot);
        }
        self.arrive_at(now, new, parse, true, fx).map_err(|_| NoSlot)
    }

    #[inline(always)]
    fn arrive_at(
        &mut self,
        now: Nanos,
        new: &NewCommand,
        parse: &mut (impl FnMut(Option<DeviceId>) -> Result<Parsed, SenseData> + ?Sized),
        again: bool,
        fx: &mut Effects,
    ) -> Result<CmdId, Refused> {
        self.now = now;
        let limits = &self.config.limits;
        let session = self.sessions.get_mut(new.session.index, new.session.generation).ok_or(Refused::NoSlot)?;
        if session.closing {
            return Err(Refused::NoSlot);
        }
        let slot = new.lun.number().map_or(NONE, |n| session.nexus(n));
        if slot == NONE && !again {
            return Err(Refused::NoNexus);
        }
        let mut nexus = self.nexuses.at_mut(slot);
        let device = nexus.as_ref().map(|n| n.device);
        let (index, generation, command) = self.commands.claim().ok_or(Refused::NoSlot)?;
        let id = CmdId { index, generation };
        let bytes = command.renew(new, parse(device));
        command.marks |= self.new_marks;
        command.arrived = now;
        let alone = session.commands == 0;
        session.commands += 1;
        let mut before = NONE;
        let mut loose = slot == NONE;
        if let Some(nexus) = &mut nexus {
            (command.nexus, command.device) = (slot, device);
            nexus.commands += 1;
            if nexus.commands > limits.commands_per_nexus {
                self.respond_status(id, overload_status(alone), fx);
                return Ok(id);
            }
            // Its place in the order is where it arrived, not where its buffer or its data are there.
            if new.held {
                loose = true;
            } else {
                let device = self.devices.get(nexus.device.index()).and_then(Option::as_ref);
                before = nexus.take_in(command, index, device.is_some_and(|d| d.control.restricted_reordering));
            }
        }
        if loose {
            command.marks |= CommandMarks::LOOSE;
            session.loose.push(index);
        }
        if before != NONE
            && let Some(before) = self.commands.at_mut(before)
        {
            before.next = index;
        }
        let room = session.bytes == 0 || session.bytes + u64::from(bytes) <= limits.bytes_per_session;
        if room && bytes > 0 && bytes <= MAX_TRANSFER_BYTES && new.data.is_none() {
            session.bytes += u64::from(bytes);
            if let Some(command) = self.commands.get_mut(index, generation) {
                command.reserved = bytes;
            }
            fx.allocate(id, bytes);
        } else {
            self.arrive_specially(id, bytes, new.data, fx);
        }
        Ok(id)
    }

    /// The rest of the way for a command that takes no buffer, or gets none.
    #[inline(never)]
    fn arrive_specially(&mut self, id: CmdId, bytes: u32, data: Option<Extent>, fx: &mut Effects) {
        let Some(command) = self.command_mut(id) else { return };
        if bytes > MAX_TRANSFER_BYTES {
            // A handler has let more pass than the core can hold: never grow, refuse.
            self.reject(id, SenseData::new(SenseKey::ILLEGAL_REQUEST, Asc(0x2400)));
            self.enter_task_set(id, fx);
        } else if bytes == 0 {
            self.enter_task_set(id, fx);
        } else if let Some(data) = data.filter(|_| command.parsed.direction == DataDirection::ToDevice) {
            debug_assert!(bytes <= data.len, "the driver has all that the initiator said it would send");
            command.sg.push(data.slice(0, bytes));
            command.marks |= CommandMarks::BORROWED;
            self.enter_task_set(id, fx);
        } else if self.take_share(id, bytes) {
            fx.allocate(id, bytes);
        } else {
            self.respond_status(id, ScsiStatus::TASK_SET_FULL, fx);
        }
    }

    /// Takes bytes from the session's share; false when others of its commands have used it up.
    fn take_share(&mut self, id: CmdId, bytes: u32) -> bool {
        let limit = self.config.limits.bytes_per_session;
        let Some(command) = self.commands.get_mut(id.index, id.generation) else { return false };
        let session = command.session;
        let Some(session) = self.sessions.get_mut(session.index, session.generation) else { return false };
        if session.bytes != 0 && session.bytes + u64::from(bytes) > limit {
            return false;
        }
        session.bytes += u64::from(bytes);
        command.reserved = bytes;
        true
    }

    /// The pool has answered.
    ///
    /// True: the device handler executes the command now ([`Effect::Execute`] without the detour).
    #[inline(always)]
    pub(crate) fn buffer<const MEASURED: bool>(&mut self, id: CmdId, sg: Option<&SgList>, fx: &mut Effects) -> bool {
        let Some(command) = self.command_mut(id) else {
            if let Some(sg) = sg {
                fx.release(sg);
            }
            return false;
        };
        debug_assert_eq!(command.state, CommandState::AwaitingBuffer);
        if let Some(sg) = sg {
            command.sg.assign(sg);
        }
        if command.is_aborted() {
            self.finish_aborted(id, fx);
        } else if sg.is_none() {
            let alone = self.is_alone(id);
            self.respond_status(id, overload_status(alone), fx);
        } else if command.parsed.direction == DataDirection::ToDevice {
            command.state = CommandState::AwaitingData;
            if MEASURED && command.marks.contains(CommandMarks::MEASURED) {
                self.enter_stage(id, Stage::DataWait);
            }
            fx.push_back(Effect::RequestData { cmd: id });
        } else {
            // While the answer of a command that it may have waited for is among the effects, it has to go through them, too.
            if !fx.is_in_order() && self.start_plain(id) {
                return true;
            }
            self.enter_task_set(id, fx);
        }
        false
    }

    /// The driver has fetched the data-out, or given up.
    pub(crate) fn data_received(&mut self, id: CmdId, result: Result<(), DataError>, fx: &mut Effects) {
        let Some(command) = self.command_mut(id) else { return };
        if command.state != CommandState::AwaitingData {
            return;
        }
        if let Err(DataError::Rejected(sense)) = result {
            command.reject.get_or_insert(sense);
        }
        if result == Err(DataError::Stopped) || command.marks.intersects(ABORTED_OR_MEASURED) {
            self.data_received_specially(id, result, fx);
        } else {
            self.enter_task_set(id, fx);
        }
    }

    #[cold]
    fn data_received_specially(&mut self, id: CmdId, result: Result<(), DataError>, fx: &mut Effects) {
        let Some(command) = self.command_mut(id) else { return };
        if command.is_aborted() {
            self.finish_aborted(id, fx);
        } else if result == Err(DataError::Stopped) {
            // The connection broke before anybody aborted the command: nobody is there to answer.
            command.marks |= CommandMarks::ABORTED | CommandMarks::SESSION_GONE;
            self.finish_aborted(id, fx);
        } else {
            if !command.marks.contains(CommandMarks::UNDELIVERED) {
                self.enter_stage(id, Stage::CheckOrder);
            }
            self.enter_task_set(id, fx);
        }
    }

    /// All older commands have arrived.
    pub(crate) fn deliver(&mut self, id: CmdId, fx: &mut Effects) {
        let Some(command) = self.command_mut(id) else { return };
        command.marks.remove(CommandMarks::UNDELIVERED);
        if command.nexus != NONE && command.marks.contains(CommandMarks::LOOSE) {
            command.marks.remove(CommandMarks::LOOSE);
            let session = command.session;
            self.no_longer_loose(session, id.index);
        }
        let Some(command) = self.command(id) else { return };
        match command.state {
            CommandState::Held => self.enter_task_set(id, fx),
            CommandState::AwaitingBuffer | CommandState::AwaitingData => self.join_task_set(id),
            _ => {}
        }
    }

    /// Marks a command as bad; it ends with this sense data when its turn comes.
    pub(crate) fn reject(&mut self, id: CmdId, sense: SenseData) {
        if let Some(command) = self.command_mut(id) {
            command.reject.get_or_insert(sense);
        }
    }

    fn is_alone(&self, id: CmdId) -> bool {
        self.command(id)
            .and_then(|c| self.sessions.get(c.session.index, c.session.generation))
            .is_none_or(|s| s.commands <= 1)
    }
}

/// The original's rule: an initiator with nothing else outstanding would never retry after TASK SET FULL.
fn overload_status(alone: bool) -> ScsiStatus {
    if alone { ScsiStatus::BUSY } else { ScsiStatus::TASK_SET_FULL }
}

impl Command {
    /// Makes a slot the place of a new command, without a nexus yet. A former command may be there and is written over in
    /// place; its outcome and its place in the order stay until there are new ones, and nobody looks at them before.
    #[inline(always)]
    fn renew(&mut self, new: &NewCommand, parsed: Result<Parsed, SenseData>) -> u32 {
        let command = self;
        command.state = CommandState::AwaitingBuffer;
        command.marks = if new.held { CommandMarks::UNDELIVERED } else { CommandMarks::empty() };
        command.session = new.session;
        (command.nexus, command.device) = (NONE, None);
        command.driver_tag = new.driver_tag;
        command.sg.clear();
        command.reserved = 0;
        command.cdb.assign(&new.cdb);
        let bytes = match parsed {
            Ok(parsed) => {
                // By fields, as it was made: a copy in wide moves would wait for the narrow ones.
                let Parsed { direction, length, flags, lba, blocks } = parsed;
                command.parsed.direction = direction;
                command.parsed.length = length;
                command.parsed.flags = flags;
                command.parsed.lba = lba;
                command.parsed.blocks = blocks;
                command.reject = None;
                if is_as_expected(&parsed, new.expected.as_ref()) {
                    parsed.length
                } else {
                    command.compare(new.expected.as_ref())
                }
            }
            Err(sense) => {
                (command.parsed, command.reject) = (Parsed::default(), Some(sense));
                0
            }
        };
        let urgent = command.parsed.flags.contains(CommandFlags::IMPLICIT_HEAD_OF_QUEUE);
        command.attribute = if urgent { TaskAttribute::HeadOfQueue } else { new.attribute };
        bytes
    }

    #[inline(never)]
    fn compare(&mut self, expected: Option<&ExpectedTransfer>) -> u32 {
        self.reject = check_expected(&mut self.parsed, expected);
        buffer_bytes(self, expected)
    }
}

/// How much buffer a command needs: what the CDB asks for, but no more than the initiator sends or has room for.
fn buffer_bytes(command: &Command, expected: Option<&ExpectedTransfer>) -> u32 {
    if command.reject.is_some() || command.parsed.direction == DataDirection::None {
        return 0;
    }
    let length = command.parsed.length;
    match expected {
        Some(e) if e.length != 0 && e.direction != command.parsed.direction => 0,
        Some(e) => length.min(e.length),
        None => length,
    }
}

/// Whether CDB and transport say the same, which leaves nothing to compare in detail.
#[inline(always)]
fn is_as_expected(parsed: &Parsed, expected: Option<&ExpectedTransfer>) -> bool {
    let Some(e) = expected else { return false };
    if e.direction != parsed.direction || e.length != parsed.length || e.length == 0 {
        return false;
    }
    matches!(e.direction, DataDirection::FromDevice | DataDirection::ToDevice)
}

/// Compares the CDB with what the transport says. A command without data may come with a direction (some initiators
/// do that), lengths that differ become residuals, and data-in without room for them are all residual. Refused is what
/// would lose data: a write that brings none, one that must have all its data to make sense, and anything announced for
/// both directions, which no command here has.
fn check_expected(parsed: &mut Parsed, expected: Option<&ExpectedTransfer>) -> Option<SenseData> {
    let Some(expected) = expected else {
        if parsed.length == 0 {
            parsed.direction = DataDirection::None;
        }
        return None;
    };
    if parsed.flags.contains(CommandFlags::UNKNOWN_LENGTH) {
        parsed.length = expected.length;
        parsed.direction = expected.direction;
    }
    if parsed.flags.contains(CommandFlags::RANGE_LOCK) && parsed.length != expected.length {
        return Some(SenseData::illegal_request(Asc::INVALID_FIELD_IN_CDB));
    }
    if parsed.length == 0 {
        parsed.direction = DataDirection::None;
    }
    let contradicts = match expected.direction {
        DataDirection::FromDevice => parsed.direction == DataDirection::ToDevice,
        DataDirection::Bidirectional => {
            matches!(parsed.direction, DataDirection::ToDevice | DataDirection::FromDevice)
        }
        DataDirection::ToDevice | DataDirection::None => false,
    };
    let refused = contradicts && (expected.length != 0 || expected.read_length != 0);
    refused.then_some(WRONG_DIRECTION)
}
