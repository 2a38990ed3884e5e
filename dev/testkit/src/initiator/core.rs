//! The initiator without I/O: received bytes go in, bytes to send and events come out.

use std::collections::{BTreeMap, VecDeque};

use super::config::{LoginConfig, Parameters};
use super::event::{Event, Violation};
use super::full_feature::{OtherTask, ScsiTask};
use super::login::LoginState;
use crate::pdu::{DecodeError, Digests, Pdu, PduDecoder, opcode};

/// Where the connection stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Nothing was sent yet.
    Idle,
    /// Login is going on.
    Login,
    /// Commands may be sent.
    FullFeature,
    /// A logout was answered.
    LoggedOut,
    /// Login failed, or the byte stream is broken.
    Failed,
}

/// What to do with an outgoing PDU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tamper {
    /// Send it (changed or not).
    Send,
    /// Lose it.
    Drop,
    /// Send it twice.
    Twice,
}

/// Sees each PDU before it is sent, and may change it.
pub type TamperHook = Box<dyn FnMut(&mut Pdu) -> Tamper + Send>;

/// An initiator's end of one connection (and its session).
pub struct Core {
    pub(super) config: LoginConfig,
    pub(super) parameters: Parameters,
    pub(super) phase: Phase,
    pub(super) login: LoginState,
    pub(super) events: VecDeque<Event>,
    pub(super) cmd_sn: u32,
    pub(super) exp_stat_sn: Option<u32>,
    pub(super) exp_cmd_sn: u32,
    pub(super) max_cmd_sn: u32,
    pub(super) tasks: BTreeMap<u32, ScsiTask>,
    pub(super) others: BTreeMap<u32, OtherTask>,
    /// Numbered requests that wait for the command window.
    pub(super) waiting: VecDeque<Pdu>,
    next_tag: u32,
    decoder: PduDecoder,
    digests: Digests,
    out: Vec<u8>,
    raw: bool,
    hook: Option<TamperHook>,
    violations: Vec<Violation>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("phase", &self.phase)
            .field("cmd_sn", &self.cmd_sn)
            .field("exp_stat_sn", &self.exp_stat_sn)
            .field("max_cmd_sn", &self.max_cmd_sn)
            .field("tasks", &self.tasks.keys().collect::<Vec<_>>())
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}

impl Core {
    /// A core that has sent nothing; [`Core::start`] begins the login.
    pub fn new(config: LoginConfig) -> Self {
        Self {
            parameters: Parameters::default(),
            phase: Phase::Idle,
            login: LoginState::default(),
            events: VecDeque::new(),
            cmd_sn: config.cmd_sn,
            exp_stat_sn: None,
            exp_cmd_sn: config.cmd_sn,
            max_cmd_sn: config.cmd_sn,
            tasks: BTreeMap::new(),
            others: BTreeMap::new(),
            waiting: VecDeque::new(),
            next_tag: config.first_tag,
            decoder: PduDecoder::default(),
            digests: Digests::default(),
            out: Vec::new(),
            raw: false,
            hook: None,
            violations: Vec::new(),
            config,
        }
    }

    /// Sends the first login request.
    pub fn start(&mut self) {
        self.phase = Phase::Login;
        self.start_login();
    }

    /// Takes received bytes, in any fragments.
    pub fn handle_input(&mut self, bytes: &[u8]) {
        self.decoder.push(bytes);
        while self.phase != Phase::Failed {
            match self.decoder.next_pdu(self.digests) {
                Ok(Some(pdu)) => self.handle_pdu(pdu),
                Ok(None) => break,
                Err(DecodeError::DataDigest(pdu)) => {
                    self.events.push_back(Event::Broken(DecodeError::DataDigest(pdu)));
                }
                Err(DecodeError::Padding(pdu)) => {
                    self.violation(format!("padding not zero in {pdu:?}"));
                    self.handle_pdu(*pdu);
                }
                Err(error) => {
                    self.phase = Phase::Failed;
                    self.events.push_back(Event::Broken(error));
                }
            }
        }
    }

    fn handle_pdu(&mut self, pdu: Pdu) {
        if self.raw {
            self.events.push_back(Event::Raw(pdu));
        } else if self.phase == Phase::Login {
            self.on_login_response(&pdu);
        } else {
            self.on_full_feature_pdu(&pdu);
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes all bytes that are to be sent.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// True when there are bytes to send.
    pub fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Where the connection stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Parameters in force.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &LoginConfig {
        &self.config
    }

    /// Everything the target did wrong so far.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// CmdSN of the next numbered request.
    pub fn cmd_sn(&self) -> u32 {
        self.cmd_sn
    }

    /// Changes the CmdSN of the next numbered request.
    pub fn set_cmd_sn(&mut self, cmd_sn: u32) {
        self.cmd_sn = cmd_sn;
    }

    /// StatSN expected next, once known.
    pub fn exp_stat_sn(&self) -> Option<u32> {
        self.exp_stat_sn
    }

    /// The window as the target last stated it: ExpCmdSN, MaxCmdSN.
    pub fn window(&self) -> (u32, u32) {
        (self.exp_cmd_sn, self.max_cmd_sn)
    }

    /// Commands that have not ended, and requests that wait for the window.
    pub fn outstanding(&self) -> usize {
        self.tasks.len()
    }

    /// In raw mode every received PDU becomes an [`Event::Raw`] and is not interpreted.
    pub fn set_raw(&mut self, raw: bool) {
        self.raw = raw;
    }

    /// Digests of the byte stream, for raw mode; a login sets them by itself.
    pub fn set_digests(&mut self, digests: Digests) {
        self.digests = digests;
    }

    /// Digests in force.
    pub fn digests(&self) -> Digests {
        self.digests
    }

    /// Installs or removes a hook that sees each outgoing PDU.
    pub fn set_hook(&mut self, hook: Option<TamperHook>) {
        self.hook = hook;
    }

    /// A fresh Initiator Task Tag.
    pub fn new_tag(&mut self) -> u32 {
        let tag = self.next_tag;
        self.next_tag = self.next_tag.wrapping_add(1);
        if self.next_tag == crate::pdu::RESERVED_TAG {
            self.next_tag = 0;
        }
        tag
    }

    /// Sends a PDU just as it is (through the hook, with the digests in force).
    pub fn send_pdu(&mut self, mut pdu: Pdu) {
        let what = self.hook.as_mut().map_or(Tamper::Send, |hook| hook(&mut pdu));
        let times = match what {
            Tamper::Send => 1,
            Tamper::Drop => 0,
            Tamper::Twice => 2,
        };
        for _ in 0..times {
            pdu.encode(self.digests, &mut self.out);
        }
    }

    /// Sends bytes.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Sends a request with ExpStatSN filled in.
    pub(super) fn send_request(&mut self, mut pdu: Pdu) {
        pdu.set_u32(28, self.exp_stat_sn.unwrap_or(0));
        self.send_pdu(pdu);
    }

    /// Sends a request that does not count: the I bit, CmdSN not advanced (RFC 7143 4.2.2.1).
    pub(super) fn send_immediate(&mut self, mut pdu: Pdu) {
        pdu.bhs[0] |= 0x40;
        pdu.set_u32(24, self.cmd_sn);
        self.send_request(pdu);
    }

    /// Sends a request that takes a CmdSN, when the window is open.
    pub(super) fn send_numbered(&mut self, pdu: Pdu) {
        self.waiting.push_back(pdu);
        self.drain_waiting();
    }

    pub(super) fn drain_waiting(&mut self) {
        while self.config.ignore_window || serial_le(self.cmd_sn, self.max_cmd_sn) {
            let Some(mut pdu) = self.waiting.pop_front() else { break };
            let (itt, cmd_sn) = (pdu.itt(), self.cmd_sn);
            pdu.set_u32(24, cmd_sn);
            self.cmd_sn = cmd_sn.wrapping_add(1);
            let is_command = pdu.opcode() == opcode::SCSI_COMMAND;
            self.send_request(pdu);
            if is_command {
                self.command_was_sent(itt, cmd_sn);
            }
        }
    }

    pub(super) fn violation(&mut self, what: String) {
        let violation = Violation(what);
        self.violations.push(violation.clone());
        self.events.push_back(Event::Violation(violation));
    }

    /// ExpCmdSN and MaxCmdSN of a response (RFC 7143 4.2.2.1).
    pub(super) fn take_window(&mut self, pdu: &Pdu) {
        let (exp, max) = (pdu.u32_at(28), pdu.u32_at(32));
        if !serial_le(exp.wrapping_sub(1), max) {
            self.violation(format!("MaxCmdSN {max} below ExpCmdSN {exp} - 1"));
            return;
        }
        if !serial_le(exp, self.cmd_sn) {
            self.violation(format!("ExpCmdSN {exp} beyond our CmdSN {}", self.cmd_sn));
            return;
        }
        if serial_le(self.exp_cmd_sn, exp) {
            self.exp_cmd_sn = exp;
        }
        if serial_le(self.max_cmd_sn, max) {
            self.max_cmd_sn = max;
        }
        self.drain_waiting();
    }

    /// StatSN of a response; `advances` says whether this PDU consumes it (RFC 7143 4.2.2.2).
    pub(super) fn take_stat_sn(&mut self, pdu: &Pdu, advances: bool) {
        let stat_sn = pdu.u32_at(24);
        if let Some(expected) = self.exp_stat_sn
            && expected != stat_sn
        {
            self.violation(format!("StatSN {stat_sn}, expected {expected}, in {pdu:?}"));
        }
        if advances || self.exp_stat_sn.is_none() {
            self.exp_stat_sn = Some(stat_sn.wrapping_add(u32::from(advances)));
        }
    }
}

/// `a <= b` in serial number arithmetic (RFC 1982).
pub(super) fn serial_le(a: u32, b: u32) -> bool {
    b.wrapping_sub(a) < 1 << 31
}
