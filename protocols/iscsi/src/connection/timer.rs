//! What must not take too long: answers to pings, data for R2Ts, sends, requested logouts.

use crate::error::{CloseReason, TimeoutKind};
use crate::session::Session;

use super::{Connection, ConnectionParameters, REQUEST_TIMEOUT, State};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

#[derive(Debug)]
pub(super) struct Timers {
    rsp_timeout: u64,
    nop_in_interval: u64,
    nop_in_timeout: u64,
    last_input: u64,
    /// Payload came in since the last look at the clock.
    pub(super) progress: bool,
    /// Our ping that is not answered: when it was queued.
    pinged: Option<u64>,
    ping_tag: u32,
    /// Since when a send is in flight.
    sending: Option<u64>,
    /// When to look for tasks whose data are late. One look per `RspTimeout`, not a timer per task.
    owed_check: Option<u64>,
    logout_by: Option<u64>,
    /// When the data of a ping or a text have to be there.
    gathered_by: Option<u64>,
    /// When an unfinished text is given up.
    text_by: Option<u64>,
}

impl Timers {
    pub(super) fn new(parameters: &ConnectionParameters, now: u64) -> Self {
        Self {
            rsp_timeout: parameters.rsp_timeout,
            nop_in_interval: parameters.nop_in_interval,
            nop_in_timeout: parameters.nop_in_timeout,
            last_input: now,
            progress: false,
            pinged: None,
            ping_tag: 0,
            sending: None,
            owed_check: None,
            logout_by: None,
            gathered_by: None,
            text_by: None,
        }
    }

    pub(super) fn received(&mut self, now: u64) {
        self.last_input = now;
        self.progress = false;
    }

    /// The initiator owes data from now on.
    pub(super) fn owed(&mut self, now: u64) {
        if self.owed_check.is_none() {
            self.owed_check = Some(now.saturating_add(self.rsp_timeout));
        }
    }

    pub(super) fn logout_due(&mut self, now: u64, seconds: u16) {
        self.logout_by = Some(now.saturating_add(u64::from(seconds) * NANOS_PER_SECOND));
    }

    /// Starts the wait for the data of a ping or a text.
    pub(super) fn gathering(&mut self, now: u64) {
        self.gathered_by = Some(now.saturating_add(REQUEST_TIMEOUT));
    }

    /// Ends the wait for the data of a ping or a text.
    pub(super) fn gathered(&mut self) {
        self.gathered_by = None;
    }

    /// Starts or stops the wait for the next part of a text, of which one was served now.
    pub(super) fn text_served(&mut self, now: u64, unfinished: bool) {
        self.text_by = unfinished.then(|| now.saturating_add(REQUEST_TIMEOUT));
    }

    /// Starts a ping; its tag, or None when one is out.
    pub(super) fn ping(&mut self, now: u64) -> Option<u32> {
        if self.pinged.is_some() {
            return None;
        }
        self.pinged = Some(now);
        self.ping_tag = self.ping_tag.wrapping_add(1) & 0x7fff_ffff;
        Some(self.ping_tag)
    }

    /// A ping is answered.
    pub(super) fn pong(&mut self, tag: u32) {
        if tag == self.ping_tag {
            self.pinged = None;
        }
    }

    fn ping_due(&self) -> Option<u64> {
        (self.pinged.is_none() && self.nop_in_interval > 0)
            .then(|| self.last_input.saturating_add(self.nop_in_interval))
    }

    /// Anything that comes in shows that the initiator lives, even if its answer is behind much data.
    fn pong_due(&self) -> Option<u64> {
        self.pinged.map(|at| at.max(self.last_input).saturating_add(self.nop_in_timeout))
    }

    fn sent_due(&self) -> Option<u64> {
        self.sending.map(|at| at.saturating_add(self.rsp_timeout))
    }
}

impl Connection {
    /// Tells whether a send is in flight on the socket, for `RspTimeout`: call with true when one starts (or has moved
    /// on) and with false when it completes.
    pub fn sending(&mut self, now: u64, in_flight: bool) {
        self.timers.sending = in_flight.then_some(now);
    }

    /// When to call `handle_timeout`; may move with every other call.
    pub fn poll_timeout(&self) -> Option<u64> {
        let timers = &self.timers;
        match self.state {
            State::Open => {}
            // Nothing is expected of the initiator any more but to take what is sent.
            State::LoggingOut { .. } | State::Ending => return timers.sent_due(),
            State::Closed => return None,
        }
        let never = u64::MAX;
        let rare = timers.logout_by.unwrap_or(never).min(timers.gathered_by.unwrap_or(never));
        let rare = rare.min(timers.text_by.unwrap_or(never));
        let usual = timers.ping_due().unwrap_or(never).min(timers.pong_due().unwrap_or(never));
        let usual = usual.min(timers.sent_due().unwrap_or(never)).min(timers.owed_check.unwrap_or(never));
        Some(rare.min(usual)).filter(|at| *at != never)
    }

    /// Time has passed: may queue a NOP-In, or make `poll_input` (with or without bytes) report `Close`.
    pub fn handle_timeout(&mut self, session: &Session, now: u64) {
        if self.timers.progress {
            self.timers.received(now);
        }
        let over = |due: Option<u64>| due.is_some_and(|due| due <= now);
        let timers = &self.timers;
        if self.state != State::Open {
            if over(timers.sent_due()) {
                self.close(CloseReason::Timeout(TimeoutKind::Response));
            }
            return;
        }
        let mut expired = if over(timers.pong_due()) {
            Some(TimeoutKind::NopIn)
        } else if over(timers.sent_due()) {
            Some(TimeoutKind::Response)
        } else if over(timers.logout_by) {
            Some(TimeoutKind::LogoutRequest)
        } else if over(timers.gathered_by) {
            Some(TimeoutKind::Request)
        } else {
            None
        };
        if over(timers.text_by) {
            self.timers.text_by = None;
            if self.text.is_unfinished() {
                self.text.abandon();
            }
        }
        if over(self.timers.owed_check) && self.data_are_late(session, now) {
            expired = Some(TimeoutKind::Response);
        }
        if let Some(kind) = expired {
            self.close(CloseReason::Timeout(kind));
        } else if over(self.timers.ping_due()) {
            self.nop_in(now);
        }
    }

    /// Whether some task has waited for data too long; sets the time of the next look.
    fn data_are_late(&mut self, session: &Session, now: u64) -> bool {
        let cid = self.cid;
        let oldest = session.tasks.iter().filter(|t| t.cid == cid).filter_map(|t| t.out.waiting_since).min();
        self.timers.owed_check = oldest.map(|since| since.saturating_add(self.timers.rsp_timeout));
        self.timers.owed_check.is_some_and(|due| due <= now)
    }
}
