//! One value per reactor: what the loop calls.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use scst_core::Nanos;
use scst_core::event::DataError;
use scst_core::ids::{CmdId, ReactorId, SessionId};
use scst_core::shard::Shard;
use scst_mem::BufferPool;
use scst_protocol_iscsi::connection::{AsyncMessage, RequestMemory};
use scst_protocol_iscsi::login::RefusalReason;
use scst_reactor::backend::{Backend, Completion, SocketId};

use crate::complaint::{Complaint, LeftOut, PERIOD, Verdict};
use crate::config::IscsiConfig;
use crate::connection::{Connection, Input, Life, Output, Phase, Why};
use crate::ids::{Operation, Slot, split_token, token};
use crate::limits::{
    LOGIN_READ_AHEAD_BYTES, MAX_CONNECTIONS, MAX_PENDING_LOGINS, MAX_REFUSING, REQUEST_MEMORY, SHUTDOWN_LOGOUT_SECONDS,
    SHUTDOWN_LOGOUT_TIMEOUT,
};
use crate::listener::Listener;
use crate::login::Login;
use crate::message::DriverMessage;
use crate::parked::Parked;
use crate::registry::{ConnectionHandle, Registry, SessionKey};
use crate::reserve::Reserve;
use crate::rest::Rest;
use crate::session::{SessionInfo, SessionState, TaskState};
use crate::slab::Slab;
use crate::starved::Starved;
use crate::timers::{Timer, Timers, coarse};

/// Fills a buffer with random bytes for one login; false when there are none (the login is refused then).
pub type Entropy = Box<dyn FnMut(&mut [u8]) -> bool + Send>;

/// What a call of the loop brings along.
pub(crate) struct Env<'a, B> {
    pub(crate) now: Nanos,
    pub(crate) backend: &'a mut B,
    pub(crate) pool: &'a mut BufferPool,
    pub(crate) shard: &'a mut Shard,
}

/// What a call-back of the mid-level wants to tell the mid-level, which it may not do at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ShardCall {
    /// No byte arrives in the command's buffer any more.
    Stopped(CmdId),
    /// Nothing of the command is needed any more.
    ResponseSent(CmdId),
    /// The session ends.
    SessionDown(SessionId),
}

/// What connections of one reactor share.
pub(crate) struct Shared {
    pub(crate) reactor: ReactorId,
    pub(crate) registry: Registry,
    pub(crate) config: Arc<IscsiConfig>,
    pub(crate) entropy: Entropy,
    /// The time of the current call of the loop, for call-backs that are not told.
    pub(crate) now: Nanos,
    /// For other reactors.
    pub(crate) outbox: VecDeque<(ReactorId, DriverMessage)>,
    /// From this reactor to itself.
    pub(crate) inbox: VecDeque<DriverMessage>,
    pub(crate) calls: VecDeque<ShardCall>,
    /// Connections that `flush` looks at.
    pub(crate) dirty: Vec<Slot>,
    /// The other list: empty, and with room.
    settled: Vec<Slot>,
    pub(crate) timers: Timers,
    pub(crate) rest: Rest,
    /// Connections that cannot receive: their read-ahead is full of commands' data, and there was no other buffer.
    pub(crate) receivers: Starved,
    /// What parked commands keep.
    pub(crate) parked: Parked,
    /// Our session by the mid-level's slot.
    pub(crate) by_core: Vec<Option<Slot>>,
    /// Connections that have not proved who they are, oldest first.
    pub(crate) pending: BTreeSet<(u64, Slot)>,
    /// Connections whose login is refused because there is no room for them, oldest first.
    refusing: BTreeSet<(u64, Slot)>,
    /// Memory for that.
    pub(crate) reserve: Reserve,
    /// Connections that there is room for.
    max_connections: usize,
    /// What connections may keep of pings and texts.
    pub(crate) requests: RequestMemory,
    pub(crate) next_order: u64,
    pub(crate) stopping: bool,
    /// Scratch for the extents of one operation.
    pub(crate) segments: Vec<scst_core::buffer::Extent>,
}

impl Shared {
    /// Has `flush` look at a connection.
    pub(crate) fn mark(&mut self, connection: &mut Connection) {
        if !std::mem::replace(&mut connection.dirty, true) {
            self.dirty.push(connection.slot);
        }
    }

    /// Counts something that would fill the log. Returns true when it is the first of its kind and is to be logged.
    pub(crate) fn complain(&mut self, now: Nanos, complaint: Complaint, peer: Option<IpAddr>) -> bool {
        match self.registry.complain(now, complaint, peer) {
            Verdict::Log(until) => {
                self.timers.set(until, Timer::Complaints);
                true
            }
            Verdict::LeaveOut => false,
        }
    }

    /// Whether a connection that found no memory may try again now.
    fn has_starved(&self, pool: &BufferPool) -> bool {
        self.rest.has_starved(pool) || self.receivers.may_look(pool)
    }

    pub(crate) fn handle(&self, connection: Slot) -> ConnectionHandle {
        ConnectionHandle { reactor: self.reactor, id: connection.to_bits() }
    }

    pub(crate) fn tell(&mut self, to: ConnectionHandle, make: impl FnOnce(u64) -> DriverMessage) {
        let message = make(to.id);
        if to.reactor == self.reactor {
            self.inbox.push_back(message);
        } else {
            self.outbox.push_back((to.reactor, message));
        }
    }

    /// Gives a session's name up, or hands it on to the login that waits for it.
    pub(crate) fn release(&mut self, claim: Option<(SessionKey, u16)>) {
        let Some((key, tsih)) = claim else { return };
        if let Some((next, tsih)) = self.registry.release(&key, tsih) {
            self.tell(next, |connection| DriverMessage::SessionGranted { connection, tsih });
        }
    }

    pub(crate) fn session_of(&self, core: SessionId) -> Option<Slot> {
        self.by_core.get(core.index as usize).copied().flatten()
    }

    /// Sets the timer of a connection, if none that is set comes up in time.
    pub(crate) fn arm(&mut self, connection: &mut Connection) {
        if let Some(at) = connection.deadline()
            && connection.armed.is_none_or(|armed| at < armed)
        {
            let at = coarse(self.now, at);
            if connection.armed.is_some_and(|armed| armed <= at) {
                return;
            }
            connection.armed = Some(at);
            self.timers.set(at, Timer::Connection(connection.slot));
        }
    }
}

/// The iSCSI driver of one reactor. See the crate's documentation for the order of calls.
pub struct IscsiTarget {
    pub(crate) connections: Slab<Connection>,
    pub(crate) sessions: Slab<SessionState>,
    pub(crate) listeners: Slab<Listener>,
    pub(crate) shared: Shared,
}

impl fmt::Debug for IscsiTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IscsiTarget")
            .field("reactor", &self.shared.reactor)
            .field("connections", &self.connections.len())
            .field("sessions", &self.sessions.len())
            .finish_non_exhaustive()
    }
}

impl IscsiTarget {
    /// A driver without listeners. `entropy` must be a good random source (see [`IscsiTarget::os_entropy`]); a
    /// simulator passes a seeded one.
    pub fn new(reactor: ReactorId, registry: Registry, config: Arc<IscsiConfig>, entropy: Entropy) -> Self {
        Self {
            // Those that are refused are not closed at once.
            connections: Slab::new(MAX_CONNECTIONS + 2 * MAX_REFUSING),
            sessions: Slab::new(MAX_CONNECTIONS),
            listeners: Slab::new(crate::limits::MAX_LISTENERS),
            shared: Shared {
                reactor,
                registry,
                config,
                entropy,
                now: Nanos::default(),
                outbox: VecDeque::new(),
                inbox: VecDeque::new(),
                calls: VecDeque::with_capacity(64),
                dirty: Vec::with_capacity(64),
                settled: Vec::with_capacity(64),
                timers: Timers::default(),
                rest: Rest::default(),
                receivers: Starved::default(),
                parked: Parked::default(),
                by_core: Vec::new(),
                pending: BTreeSet::new(),
                refusing: BTreeSet::new(),
                reserve: Reserve::default(),
                max_connections: MAX_CONNECTIONS,
                requests: RequestMemory::new(REQUEST_MEMORY),
                next_order: 0,
                stopping: false,
                segments: Vec::with_capacity(scst_reactor::backend::MAX_SEGMENTS),
            },
        }
    }

    /// Takes at most so many connections, and no more than [`MAX_CONNECTIONS`]: what is beyond is refused with a login status
    /// (RFC 7143 11.13.5, out of resources) while there are descriptors left to say so.
    pub fn limit_connections(&mut self, most: usize) {
        self.shared.max_connections = most.min(MAX_CONNECTIONS);
    }

    /// The system's random source.
    pub fn os_entropy() -> Entropy {
        Box::new(|out| getrandom::fill(out).is_ok())
    }

    /// A socket operation has ended. Storage completions and wake-ups are not for this driver.
    pub fn completion<B: Backend>(
        &mut self,
        now: Nanos,
        completion: Completion,
        backend: &mut B,
        pool: &mut BufferPool,
        shard: &mut Shard,
    ) {
        self.shared.now = now;
        let mut env = Env { now, backend, pool, shard };
        let (Completion::Accepted { token, .. }
        | Completion::Received { token, .. }
        | Completion::Sent { token, .. }
        | Completion::Closed { token }) = completion
        else {
            return;
        };
        let Some((operation, slot)) = split_token(token) else { return };
        match (completion, operation) {
            (Completion::Accepted { result, .. }, Operation::Accept) => self.accepted(slot, result, &mut env),
            (Completion::Received { result, .. }, Operation::Receive) => self.received(slot, result, &mut env),
            (Completion::Sent { result, .. }, Operation::Send) => self.sent(slot, result, &mut env),
            (Completion::Closed { .. }, Operation::Close) => self.closed(slot, &mut env),
            (Completion::Closed { .. }, Operation::CloseListener) => {
                self.listeners.remove(slot);
            }
            _ => debug_assert!(false, "completion and token disagree: {completion:?}"),
        }
    }

    /// Goes on with everything that was queued. True: the shard has something to do; call `Shard::run` and then this
    /// again. False: everything is under way, the loop may wait.
    pub fn flush<B: Backend>(&mut self, now: Nanos, backend: &mut B, pool: &mut BufferPool, shard: &mut Shard) -> bool {
        self.shared.now = now;
        let mut env = Env { now, backend, pool, shard };
        self.make_calls(&mut env);
        self.shared.parked.sweep(env.pool);
        while let Some(message) = self.shared.inbox.pop_front() {
            self.handle_message(message, &mut env);
        }
        if self.shared.has_starved(env.pool) {
            self.mark_starved(env.pool);
        }
        let mut at = 0;
        while let Some(&slot) = self.shared.dirty.get(at) {
            self.advance(slot, &mut env);
            at += 1;
        }
        if env.shard.has_work() {
            return true;
        }
        // What becomes dirty meanwhile (a login that is complete, room to answer) goes next, into the other list.
        let settled = std::mem::take(&mut self.shared.settled);
        let mut dirty = std::mem::replace(&mut self.shared.dirty, settled);
        for &slot in &dirty {
            if let Some(connection) = self.connections.get_mut(slot) {
                connection.dirty = false;
                self.settle(slot, &mut env);
            }
        }
        dirty.clear();
        self.shared.settled = dirty;
        let shared = &self.shared;
        let nothing = shared.dirty.is_empty() && shared.calls.is_empty() && shared.inbox.is_empty();
        !nothing || shared.has_starved(env.pool) || env.shard.has_work()
    }

    /// A message from the driver of another reactor, or from the control plane.
    pub fn message<B: Backend>(
        &mut self,
        now: Nanos,
        message: DriverMessage,
        backend: &mut B,
        pool: &mut BufferPool,
        shard: &mut Shard,
    ) {
        self.shared.now = now;
        self.handle_message(message, &mut Env { now, backend, pool, shard });
    }

    /// A message for the driver of another reactor.
    pub fn poll_message(&mut self) -> Option<(ReactorId, DriverMessage)> {
        self.shared.outbox.pop_front()
    }

    /// New settings, for logins from now on.
    pub fn configure(&mut self, config: Arc<IscsiConfig>) {
        self.shared.config = config;
    }

    /// When `handle_timeout` must be called, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        self.shared.timers.next()
    }

    /// Time has passed.
    pub fn handle_timeout<B: Backend>(
        &mut self,
        now: Nanos,
        backend: &mut B,
        pool: &mut BufferPool,
        shard: &mut Shard,
    ) {
        self.shared.now = now;
        let mut env = Env { now, backend, pool, shard };
        while let Some((at, timer)) = self.shared.timers.pop_due(now) {
            match timer {
                Timer::Connection(slot) => self.connection_timeout(slot, at, now),
                Timer::Listener(slot) => self.accept_again(slot, &mut env),
                Timer::Rest => self.look_for_rest(&mut env),
                Timer::Complaints => self.log_what_was_left_out(now),
            }
        }
    }

    /// Stops: no new connections, logins in progress end, every initiator is asked to log out (RFC 7143 11.9.1, event
    /// 1) and cut when it does not. Call `flush` afterwards, and go on with the loop until [`IscsiTarget::idle`].
    pub fn begin_shutdown<B: Backend>(&mut self, now: Nanos, backend: &mut B) {
        self.shared.now = now;
        self.shared.stopping = true;
        self.close_listeners(backend);
        for slot in self.connections.slots() {
            let Some((connection, session, shared)) = self.parts(slot) else { continue };
            match (&mut connection.phase, session.and_then(|s| s.protocol.as_mut())) {
                (Phase::Full(protocol), Some(state)) => {
                    let request = AsyncMessage::LogoutRequest { seconds: SHUTDOWN_LOGOUT_SECONDS };
                    protocol.async_message(state, now.0, request);
                    connection.drain_deadline.get_or_insert_with(|| now.after(SHUTDOWN_LOGOUT_TIMEOUT));
                }
                _ => connection.want_close(Why::Shutdown),
            }
            shared.mark(connection);
        }
    }

    /// Nothing is left: no listener, no connection, no session.
    pub fn idle(&self) -> bool {
        self.connections.len() == 0 && self.sessions.len() == 0 && self.listeners.len() == 0
    }

    /// Connections, whatever their state.
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Sessions in the full-feature phase, for management.
    pub fn sessions(&self) -> impl Iterator<Item = SessionInfo> + '_ {
        self.connections.iter().filter_map(|(_, connection)| {
            let Phase::Full(protocol) = &connection.phase else { return None };
            let session = self.sessions.get(connection.session?)?;
            let state = session.protocol.as_ref()?;
            let identity = state.identity();
            Some(SessionInfo {
                initiator: identity.initiator_name.clone(),
                target: identity.target_name.clone(),
                isid: identity.isid.0,
                tsih: state.tsih(),
                cid: protocol.cid(),
                peer: connection.peer,
                local: connection.local,
                parameters: *protocol.parameters(),
                tasks: session.tasks.len(),
            })
        })
    }

    /// A connection with its session, and what all share.
    pub(crate) fn parts(&mut self, slot: Slot) -> Option<(&mut Connection, Option<&mut SessionState>, &mut Shared)> {
        let connection = self.connections.get_mut(slot)?;
        let session = connection.session.and_then(|s| self.sessions.get_mut(s));
        Some((connection, session, &mut self.shared))
    }

    /// Takes over a connection that was accepted here or by another reactor.
    pub(crate) fn add_connection<B: Backend>(&mut self, socket: SocketId, env: &mut Env<'_, B>) {
        // The peer may be gone already, then there are no addresses any more.
        let addresses = (env.backend.local_addr(socket), env.backend.peer_addr(socket));
        let (Ok(local), Ok(peer)) = addresses else {
            return self.drop_socket(socket, env);
        };
        if self.shared.stopping {
            return self.drop_socket(socket, env);
        }
        self.shared.reserve.fill(env.pool);
        let full = self.connections.len() - self.shared.refusing.len() >= self.shared.max_connections;
        let buffer = env.pool.allocate(LOGIN_READ_AHEAD_BYTES);
        let refuse = match &buffer {
            _ if full => Some(RefusalReason::TooManyConnections),
            None => Some(RefusalReason::NoMemory),
            Some(_) => None,
        };
        self.make_way(refuse.is_some());
        let Some(buffer) = buffer.or_else(|| self.shared.reserve.take()) else {
            return self.close_without_answer(socket, peer, RefusalReason::NoMemory, env);
        };
        if !self.connections.has_room() {
            env.pool.release(&buffer);
            return self.close_without_answer(socket, peer, RefusalReason::TooManyConnections, env);
        }
        let order = self.shared.next_order;
        self.shared.next_order += 1;
        let slot = self.connections.insert_with(|slot| Connection {
            slot,
            socket,
            local,
            peer,
            phase: Phase::Login(Box::new(Login::new(env.now, order, refuse))),
            life: Life::Open,
            session: None,
            input: Input::new(buffer),
            output: Output::default(),
            dirty: false,
            resting: false,
            seen: None,
            armed: None,
            abort_deadline: None,
            drain_deadline: None,
        });
        if let Some(connection) = slot.and_then(|s| self.connections.get_mut(s)) {
            let list = if refuse.is_some() { &mut self.shared.refusing } else { &mut self.shared.pending };
            list.insert((order, connection.slot));
            self.shared.mark(connection);
        }
        self.start_looking(env.now);
    }

    /// Closes a socket that there is not even room to refuse.
    fn close_without_answer<B: Backend>(
        &mut self,
        socket: SocketId,
        peer: SocketAddr,
        reason: RefusalReason,
        env: &mut Env<'_, B>,
    ) {
        let complaint = Complaint::Closed(reason);
        if self.shared.complain(env.now, complaint, Some(peer.ip())) {
            tracing::warn!(%peer, "{complaint}");
        }
        self.drop_socket(socket, env);
    }

    /// Closes a socket that never becomes a connection. Nothing waits for the completion: the slot does not exist.
    fn drop_socket<B: Backend>(&self, socket: SocketId, env: &mut Env<'_, B>) {
        let nobody = Slot { index: u32::MAX, generation: 0 };
        env.backend.close(socket, token(Operation::Close, nobody));
    }

    /// Closes the oldest connection that has not logged in (or, with `refused`, that is being refused), if there are as many
    /// of them as there may be.
    fn make_way(&mut self, refused: bool) {
        let shared = &mut self.shared;
        let (list, most) =
            if refused { (&mut shared.refusing, MAX_REFUSING) } else { (&mut shared.pending, MAX_PENDING_LOGINS) };
        let oldest = if list.len() >= most { list.pop_first() } else { None };
        if let Some(connection) = oldest.and_then(|(_, slot)| self.connections.get_mut(slot)) {
            connection.want_close(Why::Evicted);
            self.shared.mark(connection);
        }
    }

    /// Logs that a connection was lost between two reactors.
    pub(crate) fn not_moved(&mut self, error: &io::Error, now: Nanos) {
        let complaint = Complaint::Moved(error.raw_os_error());
        if self.shared.complain(now, complaint, None) {
            tracing::warn!("{complaint}");
        }
    }

    fn log_what_was_left_out(&self, now: Nanos) {
        for LeftOut { complaint, peer, count } in self.shared.registry.complaints_over(now) {
            let peer = peer.map_or_else(|| "any".to_owned(), |ip| ip.to_string());
            let seconds = PERIOD.0 / Nanos::from_secs(1).0;
            tracing::warn!(peer, "{complaint}: {count} more in the last {seconds} s");
        }
    }

    fn make_calls<B: Backend>(&mut self, env: &mut Env<'_, B>) {
        while let Some(call) = self.shared.calls.pop_front() {
            match call {
                ShardCall::Stopped(cmd) => env.shard.data_received(env.now, cmd, Err(DataError::Stopped)),
                ShardCall::ResponseSent(cmd) => env.shard.response_sent(env.now, cmd),
                ShardCall::SessionDown(session) => env.shard.session_down(env.now, session),
            }
        }
    }

    fn handle_message<B: Backend>(&mut self, message: DriverMessage, env: &mut Env<'_, B>) {
        match message {
            DriverMessage::Connection(socket) => match env.backend.adopt(socket) {
                Ok(socket) => self.add_connection(socket, env),
                Err(error) => self.not_moved(&error, env.now),
            },
            DriverMessage::CloseSession { connection } => self.close_by_name(connection, Why::Reinstated),
            DriverMessage::LoginDisplaced { connection } => self.close_by_name(connection, Why::Displaced),
            DriverMessage::SessionGranted { connection, tsih } => {
                self.session_granted(Slot::from_bits(connection), tsih, env);
            }
            DriverMessage::Configure(config) => self.configure(config),
        }
    }

    fn close_by_name(&mut self, connection: u64, why: Why) {
        if let Some(connection) = self.connections.get_mut(Slot::from_bits(connection)) {
            connection.want_close(why);
            self.shared.mark(connection);
        }
    }

    fn connection_timeout(&mut self, slot: Slot, at: Nanos, now: Nanos) {
        let Some((connection, session, shared)) = self.parts(slot) else { return };
        if connection.armed != Some(at) {
            // An earlier timer has come up since this one was set, and has set another.
            return;
        }
        connection.armed = None;
        if connection.deadline().is_none_or(|at| at > now) {
            return shared.arm(connection);
        }
        if connection.abort_deadline.is_some_and(|at| at <= now) {
            connection.want_close(Why::AbortTimeout);
        }
        if connection.drain_deadline.is_some_and(|at| at <= now) {
            let why = if shared.stopping { Why::Shutdown } else { Why::DrainTimeout };
            connection.want_close(why);
        }
        match (&mut connection.phase, session.and_then(|s| s.protocol.as_mut())) {
            (Phase::Login(login), _) => login.machine.handle_timeout(now.0),
            (Phase::Full(protocol), Some(state)) => protocol.handle_timeout(state, now.0),
            _ => {}
        }
        shared.mark(connection);
    }

    /// Has `flush` look at those who have waited longest for memory.
    #[cold]
    fn mark_starved(&mut self, pool: &BufferPool) {
        let receiver = if self.shared.receivers.may_look(pool) { self.shared.receivers.pop() } else { None };
        for slot in [self.shared.rest.next_starved(pool), receiver].into_iter().flatten() {
            if let Some(connection) = self.connections.get_mut(slot) {
                self.shared.mark(connection);
            }
        }
    }

    /// First half of `flush` for one connection: everything that feeds the shard.
    fn advance<B: Backend>(&mut self, slot: Slot, env: &mut Env<'_, B>) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        match (connection.life, &connection.phase) {
            (Life::Open, Phase::Login(_)) => self.advance_login(slot, env),
            (Life::Open, Phase::Full(_)) => self.process_input(slot, env),
            _ => {}
        }
        self.close_if_wanted(slot, env);
    }

    /// Second half: everything that goes to the back-end.
    fn settle<B: Backend>(&mut self, slot: Slot, env: &mut Env<'_, B>) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        match (connection.life, &connection.phase) {
            (Life::Open, Phase::Login(_)) => self.transmit_login(slot, env),
            (Life::Open, Phase::Full(_)) => {
                self.skip_unwanted(slot, env.now.0);
                self.transmit(slot, env);
            }
            (Life::Open, Phase::Over) => self.receive_to_throw_away(slot, env),
            _ => {}
        }
        self.close_if_wanted(slot, env);
        self.arm_receive(slot, env);
        if let Some(connection) = self.connections.get_mut(slot) {
            self.shared.arm(connection);
        }
        self.reap(slot, env);
    }

    fn close_if_wanted<B: Backend>(&mut self, slot: Slot, env: &mut Env<'_, B>) {
        let Some(connection) = self.connections.get(slot) else { return };
        let Life::CloseWanted(why) = connection.life else { return };
        if why == Why::NoMemory {
            self.log_refusal(slot, Complaint::Closed(RefusalReason::NoMemory), env.now);
        }
        let Some((connection, session, shared)) = self.parts(slot) else { return };
        match &connection.phase {
            Phase::Login(_) => tracing::debug!(peer = %connection.peer, %why, "connection closed during login"),
            _ => tracing::info!(peer = %connection.peer, %why, "connection closed"),
        }
        connection.life = Life::Closing;
        if let Phase::Login(login) = std::mem::replace(&mut connection.phase, Phase::Over) {
            shared.pending.remove(&(login.order, slot));
            shared.refusing.remove(&(login.order, slot));
            if let Some(key) = login.waits_for() {
                shared.registry.withdraw(key, shared.handle(slot));
            }
        }
        env.backend.close(connection.socket, token(Operation::Close, slot));
        if let Some(core) = session.and_then(|s| s.core) {
            env.shard.session_down(env.now, core);
        }
    }

    /// No operation of the connection is in flight any more: what waited for that goes on.
    fn closed<B: Backend>(&mut self, slot: Slot, env: &mut Env<'_, B>) {
        let Some((connection, session, shared)) = self.parts(slot) else { return };
        connection.life = Life::Closed;
        connection.input.in_flight = false;
        connection.input.direct = None;
        connection.output.in_flight = false;
        connection.input.release(env.pool);
        shared.rest.closed(connection, env.pool);
        for cmd in connection.output.commands.drain(..) {
            env.shard.response_sent(env.now, cmd);
        }
        if let Some(session) = session {
            for task in session.tasks.take_waiting() {
                match (task.state, task.cmd) {
                    (TaskState::Responding, Some(cmd)) => env.shard.response_sent(env.now, cmd),
                    (_, Some(cmd)) => env.shard.data_received(env.now, cmd, Err(DataError::Stopped)),
                    (_, None) => {}
                }
            }
        }
        shared.mark(connection);
    }

    /// Forgets a connection of which nothing is left, here or in the mid-level.
    fn reap<B: Backend>(&mut self, slot: Slot, env: &mut Env<'_, B>) {
        let Some((connection, session, _)) = self.parts(slot) else { return };
        if !matches!(connection.life, Life::Closed) || session.is_some_and(|s| s.core.is_some()) {
            return;
        }
        connection.input.release(env.pool);
        let (session, left) = (connection.session, connection.input.take_used());
        self.shared.parked.adopt(slot, left);
        if let Some(session) = session
            && let Some(session) = self.sessions.remove(session)
        {
            self.shared.release(session.claim);
        }
        self.connections.remove(slot);
        if self.connections.len() == 0 {
            self.shared.reserve.release(env.pool);
        } else {
            self.shared.reserve.fill(env.pool);
        }
    }
}
