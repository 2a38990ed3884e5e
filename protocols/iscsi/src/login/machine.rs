//! Login requests and responses: stages, bits, order (RFC 7143 6.3, 11.12, 11.13).

use crate::connection::{Connection, ConnectionParameters};
use crate::error::{CloseReason, Garbage, Misbehavior, TimeoutKind};
use crate::negotiate::DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH;
use crate::params::{MAX_QUEUED_COMMANDS, TargetParameters};
use crate::pdu::{BHS_LENGTH, BasicHeaderSegment, LoginRequest, LoginResponse, opcode, padding};
use crate::session::{Session, SessionParameters};
use crate::text::{OutgoingText, TextCollector, TextWriter};

use super::keys::{KeyExchange, Names};
use super::{Admission, Isid, LoginEvent, LoginStatus, Refusal, RefusalReason, SessionIdentity, SessionType};

/// Longest data segment of a login PDU (RFC 7143 13.12: the default until something else is declared).
pub const MAX_LOGIN_SEGMENT: u32 = DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH;
/// Login requests of one login; a correct one needs about ten.
pub const MAX_LOGIN_REQUESTS: u32 = 64;
/// A discovery session has no commands, only a few text requests.
const MAX_DISCOVERY_WINDOW: u32 = 8;
/// The only version of the protocol.
const VERSION: u8 = 0;

const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// A login request is awaited.
    Receiving,
    /// The driver has to answer `Authorize`.
    Authorizing,
    /// The driver has to answer `Establish`.
    Establishing,
    /// The last response is on its way out.
    Finishing,
    /// `FullFeature` was reported.
    Finished,
    /// An answer that says no is on its way out.
    Refusing(CloseReason),
    Closed,
}

/// A connection in the login phase.
#[derive(Debug)]
pub struct LoginConnection {
    deadline: u64,
    state: State,
    events: Option<LoginEvent>,
    /// Bytes of the PDU being received.
    received: Vec<u8>,
    requests: u32,
    /// The first request: every later one has to agree with it. The Initiator Task Tag and CmdSN may differ, although RFC
    /// 7143 (11.12.8 for CmdSN) keeps them: initiators count them up, and nothing depends on them before the full feature
    /// phase.
    leading: Option<LoginRequest>,
    /// The request being answered.
    request: Option<LoginRequest>,
    stage: u8,
    stat_sn: u32,
    text: TextCollector,
    /// Complete text that waits for the driver's answer.
    pending: Vec<u8>,
    identity: Option<SessionIdentity>,
    parameters: TargetParameters,
    keys: Option<KeyExchange>,
    /// Our text, and the stage to go to after the last part of it.
    reply: OutgoingText,
    next_stage: Option<u8>,
    tsih: u16,
    out: Vec<u8>,
    sent: usize,
}

impl LoginConnection {
    /// A fresh connection; login must be over by `deadline` (nanoseconds).
    pub fn new(deadline: u64) -> Self {
        Self {
            deadline,
            state: State::Receiving,
            events: None,
            received: Vec::new(),
            requests: 0,
            leading: None,
            request: None,
            stage: SECURITY,
            stat_sn: 0,
            text: TextCollector::default(),
            pending: Vec::new(),
            identity: None,
            parameters: TargetParameters::default(),
            keys: None,
            reply: OutgoingText::default(),
            next_stage: None,
            tsih: 0,
            out: Vec::new(),
            sent: 0,
        }
    }

    /// Returns what the initiator has said of itself and of the target, as soon as it has.
    pub fn identity(&self) -> Option<&SessionIdentity> {
        self.identity.as_ref()
    }

    /// Takes received bytes and returns how many were consumed. It takes no more than it can handle: call
    /// `poll_event` and `poll_transmit`, then offer the rest again.
    pub fn input(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        while self.state == State::Receiving && self.out.is_empty() {
            let wanted = match self.wanted() {
                Ok(0) => {
                    let pdu = core::mem::take(&mut self.received);
                    self.pdu(&pdu);
                    continue;
                }
                Ok(wanted) => wanted,
                Err(reason) => {
                    self.close(reason);
                    break;
                }
            };
            let take = wanted.min(bytes.len() - used);
            if take == 0 {
                break;
            }
            self.received.extend_from_slice(&bytes[used..used + take]);
            used += take;
        }
        used
    }

    /// How many bytes the PDU still lacks.
    fn wanted(&self) -> Result<usize, CloseReason> {
        let Some(header) = BasicHeaderSegment::from_slice(&self.received) else {
            return Ok(BHS_LENGTH - self.received.len());
        };
        match header.opcode() {
            opcode::LOGIN_REQUEST => {}
            opcode::NOP_OUT..=opcode::LOGOUT_REQUEST | opcode::SNACK_REQUEST => {
                return Err(CloseReason::Misbehaved(Misbehavior::NotLogin(header.opcode())));
            }
            other => return Err(CloseReason::Garbage(Garbage::Opcode(other))),
        }
        let length = header.data_length();
        if length > MAX_LOGIN_SEGMENT {
            // Answered from the header alone; the rest is never read.
            return Ok(0);
        }
        let total = BHS_LENGTH + header.ahs_length() + (length + padding(length)) as usize;
        Ok(total - self.received.len())
    }

    fn pdu(&mut self, bytes: &[u8]) {
        let Some(header) = BasicHeaderSegment::from_slice(bytes) else { return };
        let request = LoginRequest::parse(&header);
        self.request = Some(request);
        self.requests += 1;
        let start = BHS_LENGTH + header.ahs_length();
        let outcome = match bytes.get(start..start + request.data_length as usize) {
            _ if request.data_length > MAX_LOGIN_SEGMENT => Err(RefusalReason::TooMuch),
            Some(data) => self.check(&request).and_then(|()| self.take(&request, data)),
            None => Err(RefusalReason::Internal),
        };
        if let Err(reason) = outcome {
            self.refuse(reason.into());
        }
    }

    /// What can be wrong with a header.
    fn check(&mut self, request: &LoginRequest) -> Result<(), RefusalReason> {
        match &self.leading {
            None => {
                self.stage = request.csg;
                self.stat_sn = request.exp_stat_sn;
                self.leading = Some(*request);
            }
            Some(first) => {
                if (request.isid, request.tsih, request.cid) != (first.isid, first.tsih, first.cid) {
                    return Err(RefusalReason::Sequence);
                }
            }
        }
        if request.version_min > VERSION {
            return Err(RefusalReason::Version);
        }
        let stages = matches!(request.csg, SECURITY | OPERATIONAL) && request.csg == self.stage;
        let transit = !request.transit
            || (matches!(request.nsg, OPERATIONAL | FULL_FEATURE) && request.nsg > request.csg && !request.continues);
        if !stages || !transit {
            return Err(RefusalReason::Sequence);
        }
        if self.requests > MAX_LOGIN_REQUESTS {
            return Err(RefusalReason::TooMuch);
        }
        Ok(())
    }

    fn take(&mut self, request: &LoginRequest, data: &[u8]) -> Result<(), RefusalReason> {
        if !self.reply.is_done() {
            // RFC 7143 6.2: while our text goes on, the initiator sends empty requests.
            if !data.is_empty() {
                return Err(RefusalReason::Sequence);
            }
            self.respond_part();
            return Ok(());
        }
        self.text.push(data).map_err(|_| RefusalReason::TooMuch)?;
        if request.continues {
            self.respond(TextWriter::default(), None);
            return Ok(());
        }
        let text = self.text.take();
        if self.identity.is_some() {
            return self.exchange(request, &text, false);
        }
        let names = Names::parse(&text)?;
        let identity = SessionIdentity {
            initiator_name: names.initiator,
            initiator_alias: names.alias,
            target_name: names.target,
            session_type: names.session_type,
            isid: Isid(request.isid),
            tsih: request.tsih,
            cid: request.cid,
        };
        self.identity = Some(identity.clone());
        self.pending = text;
        self.state = State::Authorizing;
        self.events = Some(LoginEvent::Authorize(identity));
        Ok(())
    }

    /// Answers [`LoginEvent::Authorize`].
    pub fn authorize(&mut self, answer: Result<Admission, Refusal>) {
        if self.state != State::Authorizing {
            return;
        }
        let (Some(identity), Some(request)) = (&self.identity, self.request) else { return };
        let admission = match answer {
            Ok(admission) => admission,
            Err(refusal) => return self.refuse(refusal),
        };
        self.keys = Some(KeyExchange::new(&admission, identity.clone()));
        self.parameters = admission.parameters;
        self.state = State::Receiving;
        let text = core::mem::take(&mut self.pending);
        if let Err(reason) = self.exchange(&request, &text, true) {
            self.refuse(reason.into());
        }
    }

    /// Keys of a complete text, and whether the stage ends.
    fn exchange(&mut self, request: &LoginRequest, text: &[u8], first: bool) -> Result<(), RefusalReason> {
        let Some(keys) = &mut self.keys else { return Err(RefusalReason::Internal) };
        let security = self.stage == SECURITY;
        let mut out = if security { keys.security(text, first)? } else { keys.operational(text, first)? };
        let mut transit = request.transit;
        if security && transit && !keys.authenticated() {
            if !keys.authenticating() {
                // The initiator wants to leave without having offered a method.
                return Err(RefusalReason::ChapRequired);
            }
            transit = false;
        }
        if !security && transit && keys.negotiation.originate(&mut out) {
            transit = false;
        }
        let mut next = request.nsg;
        if security && transit && next == FULL_FEATURE && keys.negotiation.is_needed() {
            // What the target insists on is negotiated in the operational stage only (RFC 7143 6.3.3), so that is where
            // the initiator goes first.
            next = OPERATIONAL;
        }
        if transit && next == FULL_FEATURE {
            let Some(identity) = self.identity.clone() else { return Err(RefusalReason::Internal) };
            self.reply = OutgoingText::new(out.finish());
            self.state = State::Establishing;
            self.events = Some(LoginEvent::Establish(identity));
        } else {
            self.respond(out, transit.then_some(next));
        }
        Ok(())
    }

    /// Answers [`LoginEvent::Establish`] with the TSIH (not 0) of the session.
    pub fn establish(&mut self, answer: Result<u16, Refusal>) {
        if self.state != State::Establishing {
            return;
        }
        match answer {
            Ok(tsih) => {
                self.tsih = tsih;
                self.next_stage = Some(FULL_FEATURE);
                self.state = State::Receiving;
                self.respond_part();
            }
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn respond(&mut self, text: TextWriter, next_stage: Option<u8>) {
        self.reply = OutgoingText::new(text.finish());
        self.next_stage = next_stage;
        self.respond_part();
    }

    /// Sends the next part of our text; the last part ends the stage if it is to end.
    fn respond_part(&mut self) {
        let data = self.reply.next_segment(MAX_LOGIN_SEGMENT as usize).to_vec();
        let continues = !self.reply.is_done();
        let next_stage = self.next_stage.filter(|_| !continues);
        self.emit(LoginStatus::SUCCESS, continues, next_stage, &data);
        if let Some(stage) = next_stage {
            self.next_stage = None;
            self.stage = stage;
            if stage == FULL_FEATURE {
                self.state = State::Finishing;
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        let mut text = TextWriter::default();
        if let Some(address) = &refusal.address {
            text.pair("TargetAddress", address);
        }
        self.emit(refusal.reason.status(), false, None, &text.finish());
        self.state = State::Refusing(CloseReason::Refused(refusal.reason));
    }

    fn emit(&mut self, status: LoginStatus, continues: bool, next_stage: Option<u8>, data: &[u8]) {
        let Some(request) = self.request else { return };
        let last = next_stage == Some(FULL_FEATURE);
        let window = if last { self.window() } else { 1 };
        let header = LoginResponse {
            transit: next_stage.is_some(),
            continues,
            csg: request.csg,
            nsg: next_stage.unwrap_or(0),
            version_max: VERSION,
            version_active: VERSION,
            data_length: data.len() as u32,
            isid: request.isid,
            // RFC 7143 11.13.3: a new session's handle comes with the last response.
            tsih: if last { self.tsih } else { request.tsih },
            itt: request.itt,
            stat_sn: self.stat_sn,
            exp_cmd_sn: request.cmd_sn,
            max_cmd_sn: request.cmd_sn.wrapping_add(window - 1),
            status: status.0,
        }
        .emit();
        self.stat_sn = self.stat_sn.wrapping_add(1);
        self.out.extend_from_slice(&header.0);
        self.out.extend_from_slice(data);
        self.out.resize(self.out.len() + padding(data.len() as u32) as usize, 0);
    }

    /// Command window of the session.
    fn window(&self) -> u32 {
        let discovery = self.identity.as_ref().is_some_and(|i| i.session_type == SessionType::Discovery);
        let most = if discovery { MAX_DISCOVERY_WINDOW } else { MAX_QUEUED_COMMANDS };
        self.parameters.queued_commands.clamp(1, most)
    }

    fn close(&mut self, reason: CloseReason) {
        self.state = State::Closed;
        self.events = Some(LoginEvent::Close(reason));
    }

    /// What the driver has to know or do.
    pub fn poll_event(&mut self) -> Option<LoginEvent> {
        if self.out.is_empty() {
            match self.state {
                State::Finishing => {
                    self.state = State::Finished;
                    self.events = Some(LoginEvent::FullFeature);
                }
                State::Refusing(reason) => self.close(reason),
                _ => {}
            }
        }
        self.events.take()
    }

    /// Writes bytes to send into `out` and returns how many. A PDU may be split over calls.
    pub fn poll_transmit(&mut self, out: &mut [u8]) -> usize {
        let rest = &self.out[self.sent..];
        let take = rest.len().min(out.len());
        out[..take].copy_from_slice(&rest[..take]);
        self.sent += take;
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
        take
    }

    /// When to call `handle_timeout`.
    pub fn poll_timeout(&self) -> Option<u64> {
        (!matches!(self.state, State::Finished | State::Closed)).then_some(self.deadline)
    }

    /// Time has passed: after the deadline, `poll_event` reports `Close`.
    pub fn handle_timeout(&mut self, now: u64) {
        if self.poll_timeout().is_some_and(|deadline| deadline <= now) {
            self.out.clear();
            self.sent = 0;
            self.close(CloseReason::Timeout(TimeoutKind::Login));
        }
    }

    /// Goes on to the full feature phase; only after [`LoginEvent::FullFeature`] (None otherwise).
    pub fn into_full_feature(self, now: u64) -> Option<(Connection, Session)> {
        if self.state != State::Finished {
            return None;
        }
        let window = self.window();
        // The last request has the CmdSN that the last response has confirmed as the first to come.
        let (identity, request, keys) = (self.identity?, self.request?, self.keys?);
        let values = keys.negotiation.values();
        let max_xmit = self.parameters.max_xmit_data_segment_length;
        let seconds = |seconds: u32| u64::from(seconds) * 1_000_000_000;
        let connection = ConnectionParameters {
            header_digest: values.header_digest,
            data_digest: values.data_digest,
            max_recv_data_segment_length: self.parameters.max_recv_data_segment_length,
            max_send_data_segment_length: values.initiator_max_recv_data_segment_length.min(max_xmit),
            max_xmit_data_segment_length: max_xmit,
            rsp_timeout: seconds(self.parameters.rsp_timeout),
            nop_in_interval: seconds(self.parameters.nop_in_interval),
            nop_in_timeout: seconds(self.parameters.nop_in_timeout),
        };
        let cid = identity.cid;
        let session = Session::new(identity, SessionParameters::new(&values, window), self.tsih, request.cmd_sn);
        let connection = Connection::new(connection, cid, self.stat_sn, now);
        Some((connection, session))
    }
}
