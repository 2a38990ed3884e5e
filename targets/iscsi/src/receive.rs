//! The way in: receives, what they mean, and where the next one goes.

use scst_core::buffer::{Extent, SgList};
use scst_core::driver::{ExpectedTransfer, NewCommand};
use scst_core::event::DataError;
use scst_core::ids::SessionId;
use scst_core::shard::Shard;
use scst_mem::BufferPool;
use scst_protocol_iscsi::connection::{Connection as Protocol, LogoutResponse, TargetListing, TaskResponse};
use scst_protocol_iscsi::digest::crc32c;
use scst_protocol_iscsi::event::{CommandEvent, Input as Step, LogoutReason, RecvEvent, SendTargets, TaskHandle};
use scst_protocol_iscsi::login::SessionType;
use scst_protocol_iscsi::session::Session;
use scst_reactor::backend::Backend;
use scst_scsi::{DataDirection, ScsiStatus, TaskAttribute};

use crate::connection::{ChunkId, Connection, Direct, Input, Phase, Want, Why};
use crate::digest::crc_of;
use crate::driver::tmf_tag;
use crate::ids::{Operation, Slot, token};
use crate::limits::{DIRECT_RECEIVE_MIN, LEND_MIN, MIN_ROOM, READ_AHEAD_SIZES};
use crate::login::settings;
use crate::portal;
use crate::session::{SessionState, TaskState};
use crate::target::{Env, IscsiTarget, Shared};

/// Errnos that only say that the peer is gone.
const PEER_IS_GONE: [i32; 2] = [104, 32];

impl IscsiTarget {
    /// A receive has ended.
    pub(crate) fn received<B: Backend>(&mut self, slot: Slot, result: i32, env: &mut Env<'_, B>) {
        let Some((connection, session, shared)) = self.parts(slot) else { return };
        connection.input.in_flight = false;
        let direct = connection.input.direct.take();
        if !connection.is_open() {
            // `Closed` follows and settles everything.
            return;
        }
        shared.mark(connection);
        let Ok(bytes @ 1..) = u32::try_from(result) else {
            let gone = result == 0 || PEER_IS_GONE.contains(&-result);
            return connection.want_close(if gone { Why::Peer } else { Why::Receive(-result) });
        };
        let mut rest = bytes;
        if let (Some(direct), Some(session), Phase::Full(protocol)) = (direct, session, &mut connection.phase) {
            let taken = bytes.min(direct.length);
            rest -= taken;
            let crc = protocol.payload_crc().map(|crc| {
                let sg = session.tasks.sg(direct.task, env.shard);
                sg.map_or(crc, |sg| crc_of(env.pool, sg, direct.offset, taken, crc))
            });
            protocol.payload_received(taken, crc);
        }
        connection.input.filled = rest > 0 && rest == connection.input.room().len;
        let small = bytes == rest && connection.input.smaller().is_some_and(|size| rest < size / 2);
        connection.input.small = if small { connection.input.small.saturating_add(1) } else { 0 };
        connection.input.arrived(rest);
        self.advance_now(slot, env);
    }

    /// Handles what was received at once, so that all of it is with the shard when it runs.
    fn advance_now<B: Backend>(&mut self, slot: Slot, env: &mut Env<'_, B>) {
        match self.connections.get(slot).map(|c| &c.phase) {
            Some(Phase::Login(_)) => self.advance_login(slot, env),
            Some(Phase::Full(_)) => self.process_input(slot, env),
            _ => {}
        }
    }

    /// Goes through the unread bytes until there are none, or until the mid-level has to say something first.
    pub(crate) fn process_input<B: Backend>(&mut self, slot: Slot, env: &mut Env<'_, B>) {
        while let Some((connection, Some(session), shared)) = self.parts(slot) {
            match next_rare_event(connection, session, shared, env) {
                Some(event) => self.receive_event(slot, event, env),
                None => return,
            }
        }
    }

    fn receive_event<B: Backend>(&mut self, slot: Slot, event: RecvEvent, env: &mut Env<'_, B>) {
        match event {
            RecvEvent::TaskManagement(event) => {
                let referenced = event.referenced.and_then(|task| self.cmd_of(slot, task));
                if let Some((_, Some(session), _)) = self.parts(slot)
                    && let Some(core) = session.core
                {
                    let tag = tmf_tag(event.tag, event.cold_reset);
                    env.shard.task_management(env.now, core, event.lun, event.function, referenced, tag);
                }
            }
            RecvEvent::SendTargets(which) => self.send_targets(slot, &which, env.shard),
            RecvEvent::Logout { reason } => self.logout(slot, reason, env),
            RecvEvent::Close(reason) => {
                if let Some(connection) = self.connections.get_mut(slot) {
                    connection.want_close(Why::Protocol(reason));
                }
            }
            RecvEvent::Command(_)
            | RecvEvent::Payload { .. }
            | RecvEvent::Deliver { .. }
            | RecvEvent::DataComplete { .. }
            | RecvEvent::DataError { .. }
            | RecvEvent::DataAborted { .. } => debug_assert!(false, "not a rare event"),
        }
    }

    fn cmd_of(&mut self, slot: Slot, task: TaskHandle) -> Option<scst_core::ids::CmdId> {
        let (_, session, _) = self.parts(slot)?;
        session?.tasks.get(task)?.cmd
    }

    /// The shard has done all it had to do, and has not asked for the data that the stream brings next: the command
    /// does without them (its CDB is bad or moves no data, or it waits for its turn). They are thrown away, because
    /// behind them may be what an older command waits for.
    pub(crate) fn skip_unwanted(&mut self, slot: Slot, now: u64) {
        let Some((connection, Some(session), shared)) = self.parts(slot) else { return };
        let Want::Driver(task) = connection.input.want else { return };
        if session.tasks.get(task).is_some_and(|t| t.state == TaskState::Given)
            && let (Phase::Full(protocol), Some(state)) = (&mut connection.phase, session.protocol.as_mut())
        {
            protocol.request_data(state, now, task, 0);
            shared.mark(connection);
        }
    }

    /// RFC 7143 11.14: the commands end first, then the logout is answered.
    fn logout<B: Backend>(&mut self, slot: Slot, reason: LogoutReason, env: &mut Env<'_, B>) {
        let Some((connection, Some(session), shared)) = self.parts(slot) else { return };
        let (Phase::Full(protocol), Some(state)) = (&mut connection.phase, session.protocol.as_mut()) else { return };
        match (reason, session.core) {
            (LogoutReason::RemoveForRecovery, _) => {
                protocol.logout_response(state, LogoutResponse::RecoveryNotSupported);
            }
            (_, Some(core)) => {
                session.logout = true;
                env.shard.session_down(env.now, core);
            }
            (_, None) => protocol.logout_response(state, LogoutResponse::Closed),
        }
        shared.mark(connection);
    }

    fn send_targets(&mut self, slot: Slot, which: &SendTargets, shard: &Shard) {
        let Some((connection, Some(session), shared)) = self.parts(slot) else { return };
        let (Phase::Full(protocol), Some(state)) = (&mut connection.phase, session.protocol.as_mut()) else { return };
        let identity = state.identity();
        let own = identity.target_name.as_deref();
        let discovery = identity.session_type == SessionType::Discovery;
        let portals = shared.registry.portals();
        let mut listings = Vec::new();
        for target in shard.targets() {
            // In a normal session only the session's own target is told (RFC 7143 appendix C).
            let asked = match which {
                SendTargets::All => discovery,
                SendTargets::Name(name) => {
                    target.name.eq_ignore_ascii_case(name)
                        && (discovery || own.is_some_and(|own| own.eq_ignore_ascii_case(name)))
                }
                SendTargets::This => own.is_some_and(|own| own.eq_ignore_ascii_case(&target.name)),
            };
            let config = settings(&shared.config, target);
            if !asked || !target.enabled || target.map_for(&identity.initiator_name).entries().is_empty() {
                continue;
            }
            let others = portals.iter().chain(&shared.config.portals).copied();
            let addresses =
                portal::listing(connection.local, others, &config.allowed_portals, shared.config.link_local);
            if !addresses.is_empty() {
                listings.push(TargetListing { name: target.name.clone(), addresses });
            }
        }
        protocol.send_targets_response(state, &listings);
        shared.mark(connection);
    }

    /// Starts the next receive of a connection that is over for us, so that the end of the initiator's half is noticed.
    pub(crate) fn receive_to_throw_away<B: Backend>(&mut self, slot: Slot, env: &mut Env<'_, B>) {
        let Some(Connection { input, socket, .. }) = self.connections.get_mut(slot).filter(|c| !c.input.in_flight)
        else {
            return;
        };
        input.consume(input.unread().len);
        input.in_flight = true;
        env.backend.recv(*socket, &[input.room()], env.pool, token(Operation::Receive, slot));
    }

    /// Starts the next receive.
    pub(crate) fn arm_receive<B: Backend>(&mut self, slot: Slot, env: &mut Env<'_, B>) {
        let Some((connection, session, shared)) = self.parts(slot) else { return };
        connection.input.sweep(env.pool);
        if !connection.is_open() || connection.input.in_flight || connection.output.close_after.is_some() {
            return;
        }
        let direct = match connection.input.want {
            Want::Driver(_) | Want::Transmit | Want::Nothing => return,
            Want::Payload { task, offset, length } if length >= DIRECT_RECEIVE_MIN => {
                Some(Direct { task, offset, length })
            }
            Want::Payload { .. } | Want::Bytes(_) => None,
        };
        if !fit_read_ahead(connection, env.pool) {
            if connection.input.is_used() {
                // The commands whose data are in it make room when they are done, or others when they give memory back.
                return shared.receivers.wait(slot, env.pool);
            }
            return connection.want_close_and_mark(Why::NoMemory, shared);
        }
        let room = connection.input.room();
        if room.len == 0 {
            // A login that waits for its session, with an initiator that goes on sending: it has to wait too.
            return;
        }
        let mut segments = std::mem::take(&mut shared.segments);
        segments.clear();
        if let Some(direct) = direct {
            let sg = session.and_then(|s| s.tasks.sg(direct.task, env.shard));
            push_payload(sg, &direct, &mut segments);
        }
        segments.push(room);
        connection.input.direct = direct;
        connection.input.in_flight = true;
        env.backend.recv(connection.socket, &segments, env.pool, token(Operation::Receive, slot));
        shared.segments = segments;
    }
}

/// Handles everything that belongs to commands, until there is nothing to do (None) or something that is not about a
/// command.
fn next_rare_event<B: Backend>(
    connection: &mut Connection,
    session: &mut SessionState,
    shared: &mut Shared,
    env: &mut Env<'_, B>,
) -> Option<RecvEvent> {
    let mut command = CommandEvent::default();
    loop {
        if !connection.is_open() || connection.output.close_after.is_some() {
            connection.input.want = Want::Nothing;
            return None;
        }
        let (Phase::Full(protocol), Some(state)) = (&mut connection.phase, session.protocol.as_mut()) else {
            return None;
        };
        if connection.input.in_flight && connection.input.direct.is_some() && !protocol.is_closed() {
            // The rest of a payload is on its way to its buffer; the protocol has to wait for what becomes of it.
            return None;
        }
        let unread = connection.input.unread();
        let bytes = if unread.len > 0 { env.pool.bytes(unread) } else { &[] };
        let (used, step) = protocol.poll_input_into(state, env.now.0, bytes, &mut command);
        connection.input.consume(used as u32);
        let Some(step) = step else {
            take_command(connection, session, shared, &command, env);
            continue;
        };
        connection.input.want = match step {
            Step::Event(event) => {
                match event {
                    RecvEvent::Payload { task, offset, length, .. } => {
                        if !take_payload(connection, session, task, offset, length, env) {
                            return None;
                        }
                    }
                    RecvEvent::Deliver { task, .. } => {
                        if let Some(cmd) = session.tasks.get(task).and_then(|t| t.cmd) {
                            env.shard.deliver(env.now, cmd);
                        }
                    }
                    RecvEvent::DataComplete { task, .. } => data_end(connection, session, task, Ok(()), env),
                    RecvEvent::DataError { task, sense, .. } => {
                        data_end(connection, session, task, Err(DataError::Rejected(sense)), env);
                    }
                    RecvEvent::DataAborted { task, .. } => {
                        data_end(connection, session, task, Err(DataError::Stopped), env);
                    }
                    rare => return Some(rare),
                }
                continue;
            }
            Step::NeedBytes(bytes) => Want::Bytes(u32::try_from(bytes).unwrap_or(u32::MAX)),
            Step::WaitForDriver { task, .. } => Want::Driver(task),
            Step::WaitForTransmit => Want::Transmit,
            Step::Closed => Want::Nothing,
        };
        return None;
    }
}

/// Copies the part of a payload that is in the read-ahead. False when nothing of it is there (any more): the rest has to
/// be received.
fn take_payload<B: Backend>(
    connection: &mut Connection,
    session: &SessionState,
    task: TaskHandle,
    offset: u32,
    length: u32,
    env: &mut Env<'_, B>,
) -> bool {
    let Phase::Full(protocol) = &mut connection.phase else { return false };
    let unread = connection.input.unread();
    if unread.len == 0 {
        connection.input.want = Want::Payload { task, offset, length };
        return false;
    }
    let from = unread.slice(0, length);
    if let Some(sg) = session.tasks.sg(task, env.shard) {
        debug_assert!(u64::from(offset) + u64::from(from.len) <= u64::from(sg.bytes()), "payload outside the buffer");
        let mut done = 0;
        for to in sg.range(offset, from.len) {
            done += env.pool.copy(from.slice(done, u32::MAX), to);
        }
    }
    let crc = protocol.payload_crc().map(|crc| crc32c(crc, env.pool.bytes(from)));
    protocol.payload_received(from.len, crc);
    connection.input.consume(from.len);
    true
}

fn take_command<B: Backend>(
    connection: &mut Connection,
    session: &mut SessionState,
    shared: &mut Shared,
    event: &CommandEvent,
    env: &mut Env<'_, B>,
) {
    let (Phase::Full(protocol), Some(state)) = (&mut connection.phase, session.protocol.as_mut()) else { return };
    let lent = lend_data(&mut connection.input, protocol, state, session.core, event, env);
    let cmd = session.core.and_then(|core| {
        let new = NewCommand {
            session: core,
            driver_tag: event.task.to_bits(),
            lun: event.lun,
            cdb: event.cdb.clone(),
            attribute: event.attribute,
            expected: Some(expected(event)),
            held: event.held,
            data: lent.map(|(data, _)| data),
        };
        env.shard.command(env.now, &new).ok()
    });
    session.tasks.insert(event.task, cmd);
    if let Some((_, chunk)) = lent {
        match session.tasks.get_mut(event.task).filter(|_| cmd.is_some()) {
            Some(task) => task.lent = Some(chunk),
            None => connection.input.give_back(chunk),
        }
    }
    if cmd.is_none() {
        let response = TaskResponse { status: ScsiStatus::BUSY, sense: &[], data_in: 0, wanted: 0, read_wanted: 0 };
        protocol.queue_response(state, event.task, response);
        shared.mark(connection);
    }
}

/// Leaves the data of a WRITE where they have been received, if all of them came with the command and are there, and
/// its device takes them from anywhere. A command that waits for older ones may wait for what comes behind it in the
/// stream, so it must not keep the buffer: only what can run at once is left there.
fn lend_data<B: Backend>(
    input: &mut Input,
    protocol: &mut Protocol,
    state: &mut Session,
    core: Option<SessionId>,
    event: &CommandEvent,
    env: &Env<'_, B>,
) -> Option<(Extent, ChunkId)> {
    let simple = event.attribute == TaskAttribute::Simple && !event.held;
    let whole = event.immediate_length == event.write_length && !event.read && simple;
    let unread = input.unread();
    if !whole || event.write_length < LEND_MIN || unread.len < event.write_length || !input.may_lend() {
        return None;
    }
    if !env.shard.takes_data_in_place(core?, event.lun) {
        return None;
    }
    let used = protocol.take_immediate(state, event, env.pool.bytes(unread))?;
    let chunk = input.lend();
    input.consume(used as u32);
    Some((unread.slice(0, event.write_length), chunk))
}

fn data_end<B: Backend>(
    connection: &mut Connection,
    session: &mut SessionState,
    task: TaskHandle,
    result: Result<(), DataError>,
    env: &mut Env<'_, B>,
) {
    let Some(found) = session.tasks.get_mut(task) else { return };
    let stopping = std::mem::replace(&mut found.state, TaskState::Given) == TaskState::Stopping;
    let cmd = found.cmd;
    if stopping && !session.tasks.any_stopping() {
        connection.abort_deadline = None;
    }
    if let Some(cmd) = cmd {
        env.shard.data_received(env.now, cmd, if stopping { Err(DataError::Stopped) } else { result });
    }
}

fn push_payload(sg: Option<&SgList>, direct: &Direct, segments: &mut Vec<Extent>) {
    segments.extend(sg.into_iter().flat_map(|sg| sg.range(direct.offset, direct.length)));
    debug_assert_eq!(segments.iter().map(|e| e.len).sum::<u32>(), direct.length, "payload outside the buffer");
}

/// Makes room for the next receive: unread bytes (part of a header) go to the front, and the buffer has the size that
/// the traffic asks for. False when the protocol wants more in one piece than there can be.
fn fit_read_ahead(connection: &mut Connection, pool: &mut BufferPool) -> bool {
    let input = &mut connection.input;
    if !matches!(connection.phase, Phase::Full(_)) {
        // The login machine takes bytes in any pieces; what it does not take yet has to wait, here and at the sender.
        input.compact(pool);
        return true;
    }
    // Only what is there in part has to be in one piece: anything else the protocol takes as it comes.
    let needed = match (input.want, input.unread().len) {
        (Want::Bytes(bytes), there @ 1..) => there.saturating_add(bytes),
        _ => 1,
    };
    let size = if needed > input.capacity() || input.filled {
        input.larger(needed)
    } else {
        input.shrunk().filter(|&size| needed <= size)
    };
    if size.is_some_and(|size| input.resize(size, pool)) {
        input.small = 0;
        input.filled = false;
    }
    input.compact(pool);
    let missing = needed.saturating_sub(input.unread().len).max(1);
    if input.is_used() && input.room().len < missing.max(MIN_ROOM.min(input.capacity() / 2)) {
        let capacity = input.capacity();
        let _ = READ_AHEAD_SIZES.into_iter().rev().any(|size| size <= capacity && input.resize(size, pool));
    }
    missing <= input.room().len
}

/// What the header says of the data phase.
fn expected(event: &CommandEvent) -> ExpectedTransfer {
    match (event.read, event.write) {
        (true, true) => ExpectedTransfer {
            direction: DataDirection::Bidirectional,
            length: event.write_length,
            read_length: event.read_length,
        },
        (false, true) => {
            ExpectedTransfer { direction: DataDirection::ToDevice, length: event.write_length, read_length: 0 }
        }
        (true, false) => {
            ExpectedTransfer { direction: DataDirection::FromDevice, length: event.read_length, read_length: 0 }
        }
        (false, false) => ExpectedTransfer { direction: DataDirection::None, length: 0, read_length: 0 },
    }
}
