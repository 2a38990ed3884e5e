//! A session: identity, negotiated parameters, command window, task table. Shared by its connections.

use crate::connection::RequestData;
use crate::event::TaskHandle;
use crate::login::SessionIdentity;
use crate::negotiate::Negotiated;
use crate::params::MAX_QUEUED_COMMANDS;
use crate::pdu::BasicHeaderSegment;
use crate::task::{Ended, TaskTable};

/// Tasks marked for immediate delivery that a session may have besides its command window (RFC 7143 4.2.2.1: a target
/// may limit them).
pub const MAX_IMMEDIATE_TASKS: usize = 16;
/// Most bytes of payload that requests other than SCSI commands may keep while they wait for an older request.
pub const MAX_HELD_BYTES: usize = 64 * 1024;

/// What login negotiated for the whole session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionParameters {
    /// InitialR2T.
    pub initial_r2t: bool,
    /// ImmediateData.
    pub immediate_data: bool,
    /// MaxBurstLength.
    pub max_burst_length: u32,
    /// FirstBurstLength.
    pub first_burst_length: u32,
    /// MaxOutstandingR2T.
    pub max_outstanding_r2t: u32,
    /// ErrorRecoveryLevel.
    pub error_recovery_level: u8,
    /// MaxConnections.
    pub max_connections: u16,
    /// DefaultTime2Wait, seconds.
    pub default_time2wait: u16,
    /// DefaultTime2Retain, seconds.
    pub default_time2retain: u16,
    /// iSCSIProtocolLevel (RFC 7144): 2 adds the query functions and I_T NEXUS RESET.
    pub protocol_level: u16,
    /// Command window.
    pub queued_commands: u32,
}

impl SessionParameters {
    pub(crate) fn new(negotiated: &Negotiated, queued_commands: u32) -> Self {
        Self {
            initial_r2t: negotiated.initial_r2t,
            immediate_data: negotiated.immediate_data,
            max_burst_length: negotiated.max_burst_length,
            first_burst_length: negotiated.first_burst_length,
            max_outstanding_r2t: negotiated.max_outstanding_r2t,
            // All below are in u8 or u16 range by the rules of negotiation.
            error_recovery_level: negotiated.error_recovery_level as u8,
            max_connections: negotiated.max_connections as u16,
            default_time2wait: negotiated.default_time2wait as u16,
            default_time2retain: negotiated.default_time2retain as u16,
            protocol_level: negotiated.protocol_level as u16,
            queued_commands: queued_commands.clamp(1, MAX_QUEUED_COMMANDS),
        }
    }
}

/// A request that waits for an older one.
#[derive(Debug)]
pub(crate) enum Held {
    /// A SCSI command; the driver knows it already.
    Task(TaskHandle),
    /// A command that was answered or forgotten already: only its number counts.
    Gone,
    /// Another request, with its data segment.
    Pdu(Box<(BasicHeaderSegment, RequestData)>),
}

/// Where a CmdSN stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// It is the next one.
    Next,
    /// In the window, but an older one is missing.
    Early,
    /// A duplicate or outside the window: to be ignored (RFC 7143 4.2.2.1).
    Ignore,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    identity: SessionIdentity,
    parameters: SessionParameters,
    tsih: u16,
    pub(crate) tasks: TaskTable,
    exp_cmd_sn: u32,
    max_cmd_sn: u32,
    /// Requests received early, by CmdSN modulo its length; empty until there is one.
    held: Vec<Option<Held>>,
    /// The length that it has then, a power of two, less one.
    held_mask: usize,
    held_bytes: usize,
    immediate_tasks: usize,
}

impl Session {
    pub(crate) fn new(identity: SessionIdentity, parameters: SessionParameters, tsih: u16, cmd_sn: u32) -> Self {
        let window = parameters.queued_commands.max(1);
        Self {
            identity,
            tsih,
            tasks: TaskTable::new(window as usize + MAX_IMMEDIATE_TASKS),
            exp_cmd_sn: cmd_sn,
            max_cmd_sn: cmd_sn.wrapping_add(window - 1),
            held: Vec::new(),
            held_mask: (window as usize).next_power_of_two() - 1,
            held_bytes: 0,
            immediate_tasks: 0,
            parameters,
        }
    }

    /// Who it is.
    pub fn identity(&self) -> &SessionIdentity {
        &self.identity
    }

    /// What was negotiated.
    pub fn parameters(&self) -> &SessionParameters {
        &self.parameters
    }

    /// Target session identifying handle.
    pub fn tsih(&self) -> u16 {
        self.tsih
    }

    /// Stores the driver's value with a task; false when the handle is stale.
    pub fn set_user(&mut self, task: TaskHandle, user: u64) -> bool {
        self.tasks.get_mut(task).map(|task| task.user = user).is_some()
    }

    /// The driver's value of a task.
    pub fn user(&self, task: TaskHandle) -> Option<u64> {
        self.tasks.get(task).map(|task| task.user)
    }

    /// Tasks in the table (received and not fully answered).
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// ExpCmdSN: the next command in order.
    pub fn exp_cmd_sn(&self) -> u32 {
        self.exp_cmd_sn
    }

    /// MaxCmdSN: the last command that the initiator may send.
    pub fn max_cmd_sn(&self) -> u32 {
        self.max_cmd_sn
    }

    /// Where a non-immediate request stands.
    pub(crate) fn order(&self, cmd_sn: u32) -> Order {
        // Serial number arithmetic (RFC 1982), and the window is never wider than 2048.
        let ahead = cmd_sn.wrapping_sub(self.exp_cmd_sn);
        let window = self.max_cmd_sn.wrapping_sub(self.exp_cmd_sn).wrapping_add(1);
        if ahead >= window || window > i32::MAX as u32 {
            Order::Ignore
        } else if ahead == 0 {
            Order::Next
        } else if self.held.get(self.held_at(cmd_sn)).is_some_and(Option::is_some) {
            Order::Ignore
        } else {
            Order::Early
        }
    }

    fn held_at(&self, cmd_sn: u32) -> usize {
        cmd_sn as usize & self.held_mask
    }

    fn put_held(&mut self, cmd_sn: u32, request: Held) {
        if self.held.is_empty() {
            self.held.resize_with(self.held_mask + 1, || None);
        }
        let at = self.held_at(cmd_sn);
        self.held[at] = Some(request);
    }

    /// Gives the memory of tables back that hold nothing now. Worth it when the session rests; they grow again.
    pub fn shrink(&mut self) {
        self.tasks.shrink();
        if self.held.iter().all(Option::is_none) {
            self.held = Vec::new();
        }
    }

    /// The request with ExpCmdSN is there.
    pub(crate) fn advance(&mut self) {
        self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
    }

    /// Whether any request has ever come early (since [`Session::shrink`]).
    pub(crate) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Keeps an early request. False: there is no room for its payload.
    #[cold]
    #[inline(never)]
    pub(crate) fn hold(&mut self, cmd_sn: u32, request: Held) -> bool {
        if let Held::Pdu(pdu) = &request {
            if self.held_bytes + pdu.1.bytes.len() > MAX_HELD_BYTES {
                return false;
            }
            self.held_bytes += pdu.1.bytes.len();
        }
        self.put_held(cmd_sn, request);
        true
    }

    /// The next request in order, if it came early; ExpCmdSN moves past it.
    pub(crate) fn take_next(&mut self) -> Option<Held> {
        let at = self.held_at(self.exp_cmd_sn);
        let held = self.held.get_mut(at)?.take()?;
        if let Held::Pdu(pdu) = &held {
            self.held_bytes -= pdu.1.bytes.len();
        }
        self.advance();
        if matches!(held, Held::Gone) {
            self.release(false);
        }
        Some(held)
    }

    /// Whether one more immediate request (task or other) may be open.
    pub(crate) fn take_immediate(&mut self) -> bool {
        let room = self.immediate_tasks < MAX_IMMEDIATE_TASKS;
        self.immediate_tasks += usize::from(room);
        room
    }

    /// A request counted by `take_immediate` (or a place in the window) is free again.
    pub(crate) fn release(&mut self, immediate: bool) {
        if immediate {
            self.immediate_tasks = self.immediate_tasks.saturating_sub(1);
        } else {
            self.max_cmd_sn = self.max_cmd_sn.wrapping_add(1);
        }
    }

    /// Ends a task and gives its place in the window back: at once, or, when older requests are still missing, as soon
    /// as its number is passed.
    pub(crate) fn end_task(&mut self, handle: TaskHandle) -> Option<Ended> {
        let task = self.tasks.remove(handle)?;
        let at = self.held_at(task.cmd_sn);
        if !task.immediate && matches!(self.held.get(at), Some(Some(Held::Task(held))) if *held == handle) {
            self.held[at] = Some(Held::Gone);
        } else {
            self.release(task.immediate);
        }
        Some(task)
    }

    /// The number of a request that will not be served counts as received; true when it was the next one.
    pub(crate) fn skip(&mut self, cmd_sn: u32) -> bool {
        match self.order(cmd_sn) {
            Order::Next => {
                self.advance();
                self.release(false);
                true
            }
            Order::Early => {
                self.put_held(cmd_sn, Held::Gone);
                false
            }
            Order::Ignore => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::{Isid, SessionType};
    use crate::negotiate::Negotiated;

    fn session(window: u32, cmd_sn: u32) -> Session {
        let identity = SessionIdentity {
            initiator_name: "iqn.a:i".into(),
            initiator_alias: None,
            target_name: Some("iqn.a:t".into()),
            session_type: SessionType::Normal,
            isid: Isid::default(),
            tsih: 0,
            cid: 0,
        };
        Session::new(identity, SessionParameters::new(&Negotiated::default(), window), 1, cmd_sn)
    }

    #[test]
    fn the_window_wraps_and_closes() {
        let mut session = session(4, u32::MAX - 1);
        assert_eq!(session.max_cmd_sn(), 1);
        assert_eq!(session.order(u32::MAX - 2), Order::Ignore);
        assert_eq!(session.order(u32::MAX - 1), Order::Next);
        assert_eq!(session.order(1), Order::Early);
        assert_eq!(session.order(2), Order::Ignore);
        for _ in 0..4 {
            session.advance();
        }
        assert_eq!((session.exp_cmd_sn(), session.order(2)), (2, Order::Ignore));
        session.release(false);
        assert_eq!(session.order(2), Order::Next);
    }

    #[test]
    fn a_skipped_early_number_widens_the_window_only_when_it_is_passed() {
        let mut session = session(4, 10);
        assert!(!session.skip(11));
        assert_eq!((session.max_cmd_sn(), session.order(11)), (13, Order::Ignore));
        assert!(session.skip(10));
        assert_eq!((session.exp_cmd_sn(), session.max_cmd_sn()), (11, 14));
        assert!(matches!(session.take_next(), Some(Held::Gone)));
        assert_eq!((session.exp_cmd_sn(), session.max_cmd_sn()), (12, 15));
        assert!(session.take_next().is_none());
    }

    #[test]
    fn early_requests_keep_a_bounded_number_of_bytes() {
        let mut session = session(8, 0);
        let pdu = |n: usize| Held::Pdu(Box::new((BasicHeaderSegment::default(), vec![0; n].into())));
        assert!(session.hold(1, pdu(MAX_HELD_BYTES - 1)));
        assert!(!session.hold(2, pdu(2)));
        assert!(session.hold(2, pdu(1)));
        session.advance();
        assert!(matches!(session.take_next(), Some(Held::Pdu(_))));
        assert!(session.hold(3, pdu(2)));
    }

    #[test]
    fn immediate_tasks_are_limited() {
        let mut session = session(1, 0);
        for _ in 0..MAX_IMMEDIATE_TASKS {
            assert!(session.take_immediate());
        }
        assert!(!session.take_immediate());
        session.release(true);
        assert!(session.take_immediate());
    }
}
