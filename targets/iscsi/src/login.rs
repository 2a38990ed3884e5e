//! From the first byte to the full-feature phase: who may log in to what, and whose name the session gets.

use std::sync::Arc;

use scst_core::Nanos;
use scst_core::config::TargetConfig;
use scst_core::engine::{SessionRefused, SessionRequest};
use scst_core::shard::Shard;
use scst_protocol_iscsi::chap::ChapEntropy;
use scst_protocol_iscsi::error::CloseReason;
use scst_protocol_iscsi::login::{
    Admission, LoginConnection, LoginEvent, Refusal, RefusalReason, SessionIdentity, SessionType,
};
use scst_protocol_iscsi::params::TargetParameters;
use scst_reactor::backend::Backend;

use crate::complaint::Complaint;
use crate::config::{IscsiConfig, IscsiTargetConfig, chap};
use crate::connection::{Connection, Life, Phase, Want, Why};
use crate::ids::{Operation, Slot, token};
use crate::limits::{DRAIN_TIMEOUT, LOGIN_TIMEOUT, SEND_HEADER_BYTES};
use crate::message::DriverMessage;
use crate::portal;
use crate::registry::{Claim, Claimant, SessionKey};
use crate::session::{SessionState, Tasks};
use crate::target::{Env, IscsiTarget, Shared};

/// A connection in the login phase.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) machine: LoginConnection,
    /// Its place in the list of connections that have not proved who they are.
    pub(crate) order: u64,
    /// There is no room for the connection: its login is refused, whoever it is.
    pub(crate) refuse: Option<RefusalReason>,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// Requests and responses go to and fro.
    Negotiating,
    /// The session that this login reinstates has to go first.
    Waiting(SessionKey),
    /// The session is up, the last response is on its way.
    Established,
}

impl Login {
    pub(crate) fn new(now: Nanos, order: u64, refuse: Option<RefusalReason>) -> Self {
        let machine = LoginConnection::new(now.after(LOGIN_TIMEOUT).0);
        Self { machine, order, refuse, step: Step::Negotiating }
    }

    /// The session whose end it waits for.
    pub(crate) fn waits_for(&self) -> Option<&SessionKey> {
        match &self.step {
            Step::Waiting(key) => Some(key),
            _ => None,
        }
    }
}

impl IscsiTarget {
    /// Feeds the login machine and does what it asks for.
    pub(crate) fn advance_login<B: Backend>(&mut self, slot: Slot, env: &mut Env<'_, B>) {
        loop {
            let Some(connection) = self.connections.get_mut(slot) else { return };
            let Phase::Login(login) = &mut connection.phase else { return self.process_input(slot, env) };
            if !matches!(connection.life, Life::Open) || connection.output.close_after.is_some() {
                return;
            }
            let unread = connection.input.unread();
            let taken = if unread.len > 0 { login.machine.input(env.pool.bytes(unread)) } else { 0 };
            connection.input.consume(taken as u32);
            connection.input.want = Want::Bytes(1);
            let event = login.machine.poll_event();
            match event {
                Some(event) => self.login_event(slot, event, env),
                None if taken > 0 && !connection.input.is_empty() => {}
                None => return,
            }
        }
    }

    fn login_event<B: Backend>(&mut self, slot: Slot, event: LoginEvent, env: &mut Env<'_, B>) {
        match event {
            LoginEvent::Authorize(identity) => self.authorize(slot, &identity, env.shard),
            LoginEvent::Establish(identity) => self.establish(slot, &identity, env),
            LoginEvent::FullFeature => self.enter_full_feature(slot, env.now, env.shard),
            LoginEvent::Close(reason) => {
                if let CloseReason::Refused(reason) = reason {
                    self.log_refusal(slot, Complaint::Refused(reason), env.now);
                }
                if let Some(connection) = self.connections.get_mut(slot) {
                    connection.drain(Why::Protocol(reason), env.now.after(DRAIN_TIMEOUT));
                }
            }
        }
    }

    fn authorize(&mut self, slot: Slot, identity: &SessionIdentity, shard: &Shard) {
        let Some((connection, _, shared)) = self.parts(slot) else { return };
        let answer = admit(connection, shared, identity, shard);
        if let Phase::Login(login) = &mut connection.phase {
            login.machine.authorize(answer);
        }
    }

    /// Logs one line for a login that was refused, unless one like it was logged just now.
    pub(crate) fn log_refusal(&mut self, slot: Slot, complaint: Complaint, now: Nanos) {
        let Some((connection, _, shared)) = self.parts(slot) else { return };
        let Phase::Login(login) = &connection.phase else { return };
        if !shared.complain(now, complaint, Some(connection.peer.ip())) {
            return;
        }
        let identity = login.machine.identity();
        let initiator = identity.map_or("-", |identity| &identity.initiator_name);
        let target = match identity {
            Some(SessionIdentity { session_type: SessionType::Discovery, .. }) => "(discovery)",
            Some(SessionIdentity { target_name: Some(name), .. }) => name,
            _ => "-",
        };
        tracing::warn!(peer = %connection.peer, initiator, target, "{complaint}");
    }

    /// Authentication has passed: the session gets its name, now or when the old one of the same nexus is gone.
    fn establish<B: Backend>(&mut self, slot: Slot, identity: &SessionIdentity, env: &mut Env<'_, B>) {
        let Some((connection, _, shared)) = self.parts(slot) else { return };
        let Phase::Login(login) = &mut connection.phase else { return };
        shared.pending.remove(&(login.order, slot));
        if identity.session_type == SessionType::Discovery {
            let tsih = shared.registry.discovery_tsih();
            return self.session_ready(slot, None, None, tsih);
        }
        let Some((target, config)) = find_target(shared, identity, env.shard) else {
            return login.machine.establish(Err(RefusalReason::TargetRemoved.into()));
        };
        let key = SessionKey { target: target.id, initiator: identity.initiator_name.clone(), isid: identity.isid.0 };
        let claimant = Claimant { connection: shared.handle(slot), tsih: identity.tsih, cid: identity.cid };
        match shared.registry.claim(&key, claimant, config.parameters.max_sessions) {
            Claim::Granted { tsih } => self.bring_up(slot, key, tsih, env),
            Claim::Wait { close, displaced } => {
                login.step = Step::Waiting(key);
                if let Some(old) = close {
                    shared.tell(old, |connection| DriverMessage::CloseSession { connection });
                }
                if let Some(other) = displaced {
                    shared.tell(other, |connection| DriverMessage::LoginDisplaced { connection });
                }
                // The other one may live here; `flush` has to look at its message.
                shared.mark(connection);
            }
            Claim::TooMany => login.machine.establish(Err(RefusalReason::MaxSessions.into())),
            Claim::NoSuchSession => login.machine.establish(Err(RefusalReason::NoSuchSession.into())),
            Claim::NoMoreConnections => login.machine.establish(Err(RefusalReason::NoMoreConnections.into())),
        }
    }

    /// The registry has given the name of a session to a login that waited for it.
    pub(crate) fn session_granted<B: Backend>(&mut self, slot: Slot, tsih: u16, env: &mut Env<'_, B>) {
        let owner = self.shared.handle(slot);
        let key = match self.connections.get_mut(slot) {
            Some(Connection { phase: Phase::Login(login), life: Life::Open, .. }) => {
                match std::mem::replace(&mut login.step, Step::Negotiating) {
                    Step::Waiting(key) => Some(key),
                    other => {
                        login.step = other;
                        None
                    }
                }
            }
            _ => None,
        };
        match key {
            Some(key) => {
                self.bring_up(slot, key, tsih, env);
                if let Some(connection) = self.connections.get_mut(slot) {
                    self.shared.mark(connection);
                }
            }
            // The login gave up while the grant was on its way: the name goes back.
            None => {
                if let Some(key) = self.shared.registry.key_of(owner) {
                    self.shared.release(Some((key, tsih)));
                }
            }
        }
    }

    /// The name is ours: the session starts in the mid-level.
    fn bring_up<B: Backend>(&mut self, slot: Slot, key: SessionKey, tsih: u16, env: &mut Env<'_, B>) {
        let request = SessionRequest { target: key.target, initiator: &key.initiator };
        match env.shard.session_up(env.now, request) {
            Ok(core) => self.session_ready(slot, Some(core), Some((key, tsih)), tsih),
            Err(refused) => {
                self.shared.release(Some((key, tsih)));
                let reason = match refused {
                    SessionRefused::NoTarget => RefusalReason::NoTarget,
                    SessionRefused::NoResources => RefusalReason::NoSessionSlot,
                };
                if let Some(Connection { phase: Phase::Login(login), .. }) = self.connections.get_mut(slot) {
                    login.machine.establish(Err(reason.into()));
                }
            }
        }
    }

    fn session_ready(
        &mut self,
        slot: Slot,
        core: Option<scst_core::ids::SessionId>,
        claim: Option<(SessionKey, u16)>,
        tsih: u16,
    ) {
        let state =
            SessionState { connection: slot, core, claim, protocol: None, tasks: Tasks::default(), logout: false };
        // There are as many session slots as connection slots, and a connection has at most one session.
        let session = self.sessions.insert_with(|_| state);
        if let Some(core) = core {
            let index = core.index as usize;
            if self.shared.by_core.len() <= index {
                self.shared.by_core.resize(index + 1, None);
            }
            self.shared.by_core[index] = session;
        }
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.session = session;
        if let Phase::Login(login) = &mut connection.phase {
            login.step = Step::Established;
            login.machine.establish(Ok(tsih));
        }
    }

    fn enter_full_feature(&mut self, slot: Slot, now: Nanos, shard: &mut Shard) {
        let Some((connection, session, shared)) = self.parts(slot) else { return };
        let Some(session) = session else { return };
        let Phase::Login(login) = std::mem::replace(&mut connection.phase, Phase::Over) else { return };
        let Some((mut protocol, state)) = login.machine.into_full_feature(now.0) else {
            debug_assert!(false, "the login machine reported the full-feature phase");
            return connection.want_close(Why::SessionClosed);
        };
        let identity = state.identity();
        tracing::info!(peer = %connection.peer, initiator = %identity.initiator_name,
            target = identity.target_name.as_deref().unwrap_or("(discovery)"), tsih = state.tsih(), "logged in");
        if let Some(core) = session.core {
            // A data digest is computed here, over bytes that only the kernel may look at when they are mapped.
            shard.set_takes_mapped(core, !protocol.parameters().data_digest);
        }
        protocol.share_request_memory(shared.requests.clone());
        session.protocol = Some(state);
        connection.phase = Phase::Full(Box::new(protocol));
    }

    /// Sends what the login machine has to say.
    pub(crate) fn transmit_login<B: Backend>(&mut self, slot: Slot, env: &mut Env<'_, B>) {
        let Some((connection, _, shared)) = self.parts(slot) else { return };
        let Phase::Login(login) = &mut connection.phase else { return };
        if connection.output.in_flight {
            return;
        }
        if connection.output.buffer.is_empty() {
            let buffer = env.pool.allocate(SEND_HEADER_BYTES);
            match buffer.or_else(|| login.refuse.and_then(|_| shared.reserve.take())) {
                Some(buffer) => connection.output.buffer = buffer,
                None => return connection.want_close(Why::NoMemory),
            }
        }
        let Some(&buffer) = connection.output.buffer.extents().first() else { return };
        let length = login.machine.poll_transmit(env.pool.bytes_mut(buffer));
        if length > 0 {
            connection.output.in_flight = true;
            connection.output.length = length as u32;
            let part = buffer.slice(0, length as u32);
            env.backend.send(connection.socket, &[part], env.pool, token(Operation::Send, slot));
            // There may be an event now (the full-feature phase), or room for more input.
            shared.mark(connection);
        } else if let Some(why) = connection.output.close_after {
            connection.want_close(why);
        }
    }
}

/// Whether, and on which terms, a login may go on.
fn admit(
    connection: &Connection,
    shared: &mut Shared,
    identity: &SessionIdentity,
    shard: &Shard,
) -> Result<Admission, Refusal> {
    if shared.stopping {
        return Err(RefusalReason::Stopping.into());
    }
    if let Phase::Login(login) = &connection.phase
        && let Some(reason) = login.refuse
    {
        return Err(reason.into());
    }
    let entropy = draw(shared).ok_or(RefusalReason::NoEntropy)?;
    if identity.session_type == SessionType::Discovery {
        let discovery = &shared.config.discovery;
        return Ok(Admission {
            parameters: TargetParameters::default(),
            chap: chap(&discovery.incoming, discovery.outgoing.as_ref()),
            entropy,
            portal_group_tag: portal::PORTAL_GROUP_TAG,
            target_alias: None,
        });
    }
    let (target, config) = find_target(shared, identity, shard).ok_or(RefusalReason::NoTarget)?;
    check_visible(target, &config, &identity.initiator_name, connection.local)?;
    if let Some(redirect) = &config.redirect {
        let reason = if redirect.permanent { RefusalReason::MovedPermanently } else { RefusalReason::MovedTemporarily };
        return Err(Refusal { reason, address: Some(redirect.address.clone()) });
    }
    Ok(Admission {
        parameters: config.parameters.clone(),
        chap: chap(&config.incoming, config.outgoing.as_ref()),
        entropy,
        portal_group_tag: portal::PORTAL_GROUP_TAG,
        target_alias: config.alias.clone(),
    })
}

fn draw(shared: &mut Shared) -> Option<ChapEntropy> {
    let mut bytes = [0; 33];
    if !(shared.entropy)(&mut bytes) {
        return None;
    }
    let [identifier, challenge @ ..] = bytes;
    Some(ChapEntropy { identifier, challenge })
}

fn find_target<'a>(
    shared: &Shared,
    identity: &SessionIdentity,
    shard: &'a Shard,
) -> Option<(&'a Arc<TargetConfig>, Arc<IscsiTargetConfig>)> {
    let target = shard.target_by_name(identity.target_name.as_deref()?)?;
    Some((target, settings(&shared.config, target)))
}

/// The settings of a target.
pub(crate) fn settings(config: &IscsiConfig, target: &TargetConfig) -> Arc<IscsiTargetConfig> {
    config.targets.get(&target.id).cloned().unwrap_or_default()
}

/// Checks that an initiator that came in at `local` sees the target at all. If it does not, it is told the same as one that
/// asks for a target that does not exist; the reason is for the log.
fn check_visible(
    target: &TargetConfig,
    config: &IscsiTargetConfig,
    initiator: &str,
    local: std::net::SocketAddr,
) -> Result<(), RefusalReason> {
    if !target.enabled {
        Err(RefusalReason::Disabled)
    } else if target.map_for(initiator).entries().is_empty() {
        Err(RefusalReason::NotAllowed)
    } else if !portal::allowed(&config.allowed_portals, local) {
        Err(RefusalReason::PortalNotAllowed)
    } else {
        Ok(())
    }
}
