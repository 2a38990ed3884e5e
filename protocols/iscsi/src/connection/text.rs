//! Text requests: SendTargets and the few keys that may be declared in the full feature phase (RFC 7143 11.10).

use scst_scsi::Lun;

use crate::event::{RecvEvent, SendTargets};
use crate::login::SessionType;
use crate::negotiate;
use crate::pdu::{BasicHeaderSegment, RESERVED_TAG, RejectReason, TextRequest, TextResponse};
use crate::session::Session;
use crate::text::{OutgoingText, TextCollector, TextWriter, normalize_name, pairs};

use super::memory::{RequestData, Share};
use super::{Connection, TargetListing};

/// Longest answer to SendTargets; it holds several thousand targets. The rest of a longer list is left out.
pub const MAX_SEND_TARGETS_LENGTH: usize = 1 << 20;

/// The text negotiation in progress; an initiator has one at a time (RFC 7143 11.10).
#[derive(Debug, Default)]
pub(super) struct TextExchange {
    itt: u32,
    lun: Lun,
    ttt: u32,
    active: bool,
    /// The driver owes a list of targets.
    waiting: bool,
    /// F bit of the last request.
    last: bool,
    incoming: TextCollector,
    /// The share of what is in it.
    share: Share,
    reply: TextWriter,
    outgoing: OutgoingText,
}

impl TextExchange {
    /// Tells whether a negotiation is in progress.
    pub(super) fn is_active(&self) -> bool {
        self.active
    }

    /// Tells whether the initiator has to go on: it has not said everything, or has not taken everything.
    pub(super) fn is_unfinished(&self) -> bool {
        self.active && !self.waiting
    }

    /// Ends it without an answer. What comes for it later is rejected.
    pub(super) fn abandon(&mut self) {
        *self = Self { ttt: self.ttt, ..Self::default() };
    }
}

impl Connection {
    pub(super) fn text_request(
        &mut self,
        session: &Session,
        header: &BasicHeaderSegment,
        pdu: &TextRequest,
        data: &RequestData,
    ) {
        let data = &data.bytes[..];
        let fits = self.text.active && pdu.ttt == self.text.ttt && pdu.itt == self.text.itt;
        if self.text.waiting || (pdu.ttt != RESERVED_TAG && !fits) || (pdu.last && pdu.continues) {
            return self.reject(RejectReason::PROTOCOL_ERROR, header);
        }
        if pdu.ttt == RESERVED_TAG {
            // A new negotiation ends an older one (RFC 7143 11.10.4).
            let ttt = self.text.ttt.wrapping_add(1) & 0x7fff_ffff;
            self.text = TextExchange { itt: pdu.itt, lun: pdu.lun, ttt, active: true, ..TextExchange::default() };
        } else if !self.text.outgoing.is_done() {
            // The initiator asks for the rest of our text with an empty request.
            if !data.is_empty() {
                self.text.active = false;
                return self.reject(RejectReason::PROTOCOL_ERROR, header);
            }
            return self.send_text();
        }
        self.text.last = pdu.last;
        if !self.text.share.cover(self.text.incoming.len() + data.len(), &self.requests) {
            self.text.active = false;
            return self.reject(RejectReason::LONG_OPERATION, header);
        }
        if self.text.incoming.push(data).is_err() {
            self.text.active = false;
            return self.reject(RejectReason::PROTOCOL_ERROR, header);
        }
        if pdu.continues {
            return self.send_text();
        }
        let text = self.text.incoming.take();
        self.text.share = Share::default();
        if !self.take_text(session, &text) {
            self.text.active = false;
            self.text.waiting = false;
            return self.reject(RejectReason::PROTOCOL_ERROR, header);
        }
        if !self.text.waiting {
            self.answer_text();
        }
    }

    /// Looks at a complete text; false when it is malformed.
    fn take_text(&mut self, session: &Session, text: &[u8]) -> bool {
        let discovery = session.identity().session_type == SessionType::Discovery;
        let mut wanted = None;
        for pair in pairs(text) {
            let Ok((key, value)) = pair else { return false };
            match key {
                "SendTargets" => match (value, discovery) {
                    // RFC 7143 appendix C: "All" only in discovery sessions, "" only in others.
                    ("All", true) => wanted = Some(SendTargets::All),
                    ("", false) => wanted = Some(SendTargets::This),
                    ("All", false) | ("", true) => self.text.reply.pair(key, "Reject"),
                    (name, _) => {
                        let name = normalize_name(name).unwrap_or_else(|| name.to_owned());
                        wanted = Some(SendTargets::Name(name));
                    }
                },
                "MaxRecvDataSegmentLength" => match negotiate::declared_segment_length(value) {
                    Some(length) => {
                        self.parameters.max_send_data_segment_length =
                            length.min(self.parameters.max_xmit_data_segment_length);
                    }
                    None => return false,
                },
                "InitiatorAlias" => {}
                _ => self.text.reply.pair(key, if negotiate::is_known(key) { "Reject" } else { "NotUnderstood" }),
            }
        }
        if let Some(wanted) = wanted {
            self.text.waiting = true;
            self.events.push_back(RecvEvent::SendTargets(wanted));
        }
        true
    }

    /// Answers SendTargets. Does nothing when none is waiting. A normal session learns of its own target only (RFC 7143
    /// appendix C), whatever the list says.
    pub fn send_targets_response(&mut self, session: &Session, targets: &[TargetListing]) {
        if !core::mem::take(&mut self.text.waiting) {
            return;
        }
        let own = session.identity().target_name.as_deref();
        let normal = session.identity().session_type == SessionType::Normal;
        for target in targets.iter().filter(|target| !normal || own == Some(target.name.as_str())) {
            let length: usize = target.addresses.iter().map(|a| a.len() + 16).sum();
            if self.text.reply.len() + target.name.len() + length + 16 > MAX_SEND_TARGETS_LENGTH {
                break;
            }
            self.text.reply.pair("TargetName", &target.name);
            for address in &target.addresses {
                self.text.reply.pair("TargetAddress", address);
            }
        }
        self.answer_text();
    }

    fn answer_text(&mut self) {
        self.text.outgoing = OutgoingText::new(core::mem::take(&mut self.text.reply).finish());
        self.send_text();
    }

    /// The next (or an empty) part of our text.
    fn send_text(&mut self) {
        let max = self.parameters.max_send_data_segment_length as usize;
        let data = self.text.outgoing.next_segment(max).to_vec();
        let continues = !self.text.outgoing.is_done();
        let last = self.text.last && !continues;
        let pdu = TextResponse {
            last,
            continues,
            data_length: data.len() as u32,
            lun: self.text.lun,
            itt: self.text.itt,
            ttt: if last { RESERVED_TAG } else { self.text.ttt },
            stat_sn: 0,
            exp_cmd_sn: 0,
            max_cmd_sn: 0,
        };
        if last {
            self.text.active = false;
        }
        self.queue_small(pdu.emit(), data, true);
    }
}
