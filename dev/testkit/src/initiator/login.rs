//! Login phase (RFC 7143 clause 6): security negotiation with CHAP, operational negotiation.

use super::config::{LoginConfig, Offer};
use super::core::{Core, Phase};
use super::event::{Event, LoginFailure};
use crate::chap::{ChapAlgorithm, decode_binary};
use crate::pdu::{Pdu, opcode};
use crate::text::{self, Keys};

/// Requests in one login before we believe that the target goes in circles.
const MAX_REQUESTS: u32 = 64;
const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;
/// Longest data segment during login (RFC 7143 13.12).
const LOGIN_SEGMENT: usize = 8192;

/// Login in progress.
#[derive(Debug, Default)]
pub(super) struct LoginState {
    tag: u32,
    stage: u8,
    requests: u32,
    /// Text still to be sent after a request with the C bit.
    unsent: Vec<u8>,
    /// Stage to ask for once all text is sent.
    transit: Option<u8>,
    /// Text of responses with the C bit.
    received: Vec<u8>,
    algorithm: Option<ChapAlgorithm>,
    target_proved: bool,
    keys_sent: bool,
}

impl Core {
    pub(super) fn start_login(&mut self) {
        self.login.tag = self.new_tag();
        let config = &self.config;
        let named = [
            ("InitiatorName", &config.initiator_name),
            ("SessionType", &config.session_type),
            ("TargetName", &config.target_name),
        ];
        let mut keys: Keys =
            named.iter().filter_map(|(key, value)| Some(((*key).to_owned(), (*value).clone()?))).collect();
        keys.extend(config.first_keys.iter().cloned());
        if config.offer == Offer::OperationalOnly {
            self.login.stage = OPERATIONAL;
            self.offer_operational(keys);
            return;
        }
        self.login.stage = SECURITY;
        let transit = if config.chap.is_none() { Some(self.stage_after_security()) } else { None };
        keys.push(("AuthMethod".to_owned(), auth_method(config)));
        self.send_login(&keys, transit);
    }

    fn stage_after_security(&self) -> u8 {
        if self.config.offer == Offer::SecurityOnly { FULL_FEATURE } else { OPERATIONAL }
    }

    fn offer_operational(&mut self, mut keys: Keys) {
        self.login.keys_sent = true;
        keys.extend(self.config.keys.iter().cloned());
        if let Some(length) = text::get(&self.config.keys, "MaxRecvDataSegmentLength").and_then(|v| v.parse().ok()) {
            self.parameters.max_recv_data_segment_length = length;
        }
        self.send_login(&keys, Some(FULL_FEATURE));
    }

    fn send_login(&mut self, keys: &[(String, String)], transit: Option<u8>) {
        self.login.unsent = text::encode(keys);
        self.login.transit = transit;
        self.send_login_part();
    }

    fn send_login_part(&mut self) {
        self.login.requests += 1;
        if self.login.requests > MAX_REQUESTS {
            self.give_up(format!("login needs more than {MAX_REQUESTS} requests"));
            return;
        }
        let limit = self.config.split_text.unwrap_or(usize::MAX).max(1);
        let rest = self.login.unsent.split_off(self.login.unsent.len().min(limit));
        let part = std::mem::replace(&mut self.login.unsent, rest);
        let stage = self.login.stage;
        let flags = match (self.login.unsent.is_empty(), self.login.transit) {
            (false, _) => 0x40 | (stage << 2),
            (true, Some(next)) => 0x80 | (stage << 2) | next,
            (true, None) => stage << 2,
        };
        let mut pdu = Pdu::new(opcode::LOGIN | 0x40).with_flags(flags).with_data(part);
        (pdu.bhs[2], pdu.bhs[3]) = self.config.versions;
        pdu.bhs[8..14].copy_from_slice(&self.config.isid);
        pdu.set_u16(14, self.config.tsih);
        pdu.set_u32(16, self.login.tag);
        pdu.set_u16(20, self.config.cid);
        pdu.set_u16(22, 0);
        pdu.set_u32(24, self.cmd_sn);
        self.send_request(pdu);
    }

    pub(super) fn on_login_response(&mut self, pdu: &Pdu) {
        if pdu.opcode() == opcode::REJECT {
            self.phase = Phase::Failed;
            self.on_reject(pdu);
            return;
        }
        if pdu.opcode() != opcode::LOGIN_RESPONSE {
            self.violation(format!("not a login response: {pdu:?}"));
            return;
        }
        let (class, detail) = (pdu.bhs[36], pdu.bhs[37]);
        if class != 0 {
            self.login_refused(pdu, class, detail);
            return;
        }
        self.check_login_header(pdu);
        self.login.received.extend_from_slice(&pdu.data);
        if pdu.flags() & 0x40 != 0 {
            if pdu.flags() & 0x80 != 0 {
                self.violation("T and C bits together in a login response".to_owned());
            }
            self.send_login(&[], None);
            return;
        }
        let received = std::mem::take(&mut self.login.received);
        if !self.login.unsent.is_empty() {
            if !received.is_empty() || pdu.flags() & 0x80 != 0 {
                self.violation("an answer before our text was complete".to_owned());
            }
            self.send_login_part();
            return;
        }
        match text::decode(&received) {
            Ok(keys) => {
                if pdu.flags() & 0x83 == 0x80 | FULL_FEATURE {
                    self.take_tsih(pdu);
                }
                self.on_login_keys(keys, pdu.flags());
            }
            Err(error) => self.give_up(format!("login text: {error}")),
        }
    }

    fn login_refused(&mut self, pdu: &Pdu, class: u8, detail: u8) {
        self.phase = Phase::Failed;
        if class == 1 {
            let keys = text::decode(&pdu.data).unwrap_or_default();
            let addresses =
                keys.into_iter().filter(|(key, _)| key == "TargetAddress").map(|(_, value)| value).collect();
            self.events.push_back(Event::Redirected { detail, addresses });
        } else {
            self.events.push_back(Event::LoginFailed(LoginFailure { class, detail }));
        }
    }

    fn check_login_header(&mut self, pdu: &Pdu) {
        if pdu.itt() != self.login.tag {
            self.violation(format!("login response with tag {:#x}, expected {:#x}", pdu.itt(), self.login.tag));
        }
        if pdu.bhs[8..14] != self.config.isid {
            self.violation(format!("login response with ISID {:02x?}", &pdu.bhs[8..14]));
        }
        if pdu.bhs[3] != 0 {
            self.violation(format!("version {} is active", pdu.bhs[3]));
        }
        let stage = (pdu.flags() >> 2) & 3;
        if stage != self.login.stage {
            self.violation(format!("login response in stage {stage}, expected {}", self.login.stage));
        }
        if pdu.data.len() > LOGIN_SEGMENT {
            self.violation(format!("login response with {} bytes", pdu.data.len()));
        }
        let advances = pdu.flags() & 0x80 != 0;
        if advances && self.login.transit.is_none() {
            self.violation("stage transition that was not asked for".to_owned());
        }
        self.take_stat_sn(pdu, true);
        self.take_window(pdu);
    }

    fn on_login_keys(&mut self, keys: Keys, flags: u8) {
        for (index, (key, _)) in keys.iter().enumerate() {
            let may_repeat = matches!(key.as_str(), "TargetAddress" | "CHAP_I" | "CHAP_N");
            if !may_repeat && keys[..index].iter().any(|(earlier, _)| earlier == key) {
                self.violation(format!("key {key} twice in one response"));
            }
        }
        self.parameters.target_keys.extend(keys.iter().cloned());
        let next = (flags & 0x80 != 0).then_some(flags & 3);
        if self.login.stage == SECURITY {
            self.on_security_keys(&keys, next);
        } else {
            self.on_operational_keys(&keys, next);
        }
    }

    fn on_security_keys(&mut self, keys: &Keys, next: Option<u8>) {
        for (key, value) in
            keys.iter().filter(|(key, _)| matches!(key.as_str(), "TargetPortalGroupTag" | "TargetAlias"))
        {
            if let Err(error) = self.parameters.apply(key, value, None) {
                self.violation(error);
            }
        }
        let Some(chap) = self.config.chap.clone() else {
            return self.after_security(next);
        };
        match text::get(keys, "AuthMethod") {
            Some("CHAP") if next.is_none() => {
                let offered: Vec<String> = chap.algorithms.iter().map(|one| one.number().to_string()).collect();
                return self.send_login(&text::keys(&[("CHAP_A", &offered.join(","))]), None);
            }
            Some("None") if chap.offer_none => return self.after_security(next),
            Some(other) => return self.give_up(format!("AuthMethod={other}")),
            None => {}
        }
        if let Some(algorithm) = text::get(keys, "CHAP_A") {
            return self.answer_challenge(keys, algorithm);
        }
        if let Some(mutual) = &chap.mutual
            && !self.login.target_proved
        {
            let response = text::get(keys, "CHAP_R").and_then(decode_binary);
            let expected =
                self.login.algorithm.map(|hash| hash.response(mutual.identifier, &mutual.secret, &mutual.challenge));
            let name = text::get(keys, "CHAP_N");
            if response.is_none() || response != expected {
                return self.give_up("the target's CHAP_R is wrong or missing".to_owned());
            }
            if mutual.name.is_some() && mutual.name.as_deref() != name {
                return self.give_up(format!("the target's CHAP_N is {name:?}"));
            }
            self.login.target_proved = true;
        }
        self.after_security(next);
    }

    fn answer_challenge(&mut self, keys: &Keys, algorithm: &str) {
        let Some(chap) = self.config.chap.clone() else { return };
        let algorithm = ChapAlgorithm::from_number(algorithm).filter(|one| chap.algorithms.contains(one));
        let identifier = text::get(keys, "CHAP_I").and_then(|value| value.parse::<u8>().ok());
        let challenge = text::get(keys, "CHAP_C").and_then(decode_binary);
        let (Some(algorithm), Some(identifier), Some(challenge)) = (algorithm, identifier, challenge) else {
            return self.give_up(format!("bad challenge {keys:?}"));
        };
        self.login.algorithm = Some(algorithm);
        let response = algorithm.response(identifier, &chap.secret, &challenge);
        let mut answer = text::keys(&[("CHAP_N", &chap.name), ("CHAP_R", &chap.notation.encode(&response))]);
        if let Some(mutual) = &chap.mutual {
            answer.push(("CHAP_I".to_owned(), mutual.identifier.to_string()));
            answer.push(("CHAP_C".to_owned(), chap.notation.encode(&mutual.challenge)));
        }
        self.send_login(&answer, Some(self.stage_after_security()));
    }

    fn after_security(&mut self, next: Option<u8>) {
        match next {
            Some(OPERATIONAL) => {
                self.login.stage = OPERATIONAL;
                self.offer_operational(Vec::new());
            }
            Some(FULL_FEATURE) => self.enter_full_feature(),
            Some(other) => self.give_up(format!("next stage {other}")),
            None => self.send_login(&[], Some(self.stage_after_security())),
        }
    }

    fn on_operational_keys(&mut self, keys: &Keys, next: Option<u8>) {
        let mut answers = Keys::new();
        for (key, value) in keys {
            let offered = text::get(&self.config.keys, key).or_else(|| text::get(&self.config.first_keys, key));
            let offered = offered.map(str::to_owned);
            if let Err(error) = self.parameters.apply(key, value, offered.as_deref()) {
                self.violation(error);
            } else if offered.is_none()
                && let Some(answer) = self.parameters.answer(key, value)
            {
                answers.push((key.clone(), answer));
            }
        }
        match next {
            Some(FULL_FEATURE) if answers.is_empty() => self.enter_full_feature(),
            Some(other) => self.give_up(format!("next stage {other} with our answers {answers:?} missing")),
            None => self.send_login(&answers, Some(FULL_FEATURE)),
        }
    }

    fn enter_full_feature(&mut self) {
        if !self.config.is_discovery() && self.parameters.target_portal_group_tag.is_none() {
            // RFC 7143 13.9.
            self.violation("no TargetPortalGroupTag in the login of a normal session".to_owned());
        }
        if self.login.keys_sent {
            let declared = ["MaxRecvDataSegmentLength", "InitiatorAlias"];
            for (key, _) in self.config.keys.clone() {
                if !declared.contains(&key.as_str()) && self.parameters.target_key(&key).is_none() {
                    self.violation(format!("key {key} was not answered"));
                }
            }
        }
        self.phase = Phase::FullFeature;
        self.set_digests(self.parameters.digests);
        self.events.push_back(Event::LoggedIn);
    }

    fn take_tsih(&mut self, pdu: &Pdu) {
        let tsih = pdu.u16_at(14);
        if tsih == 0 {
            self.violation("TSIH is zero in the final login response".to_owned());
        }
        self.parameters.tsih = tsih;
    }

    fn give_up(&mut self, why: String) {
        self.phase = Phase::Failed;
        self.events.push_back(Event::AuthenticationFailed(why));
    }
}

fn auth_method(config: &LoginConfig) -> String {
    match (&config.auth_method, &config.chap) {
        (Some(method), _) => method.clone(),
        (None, Some(chap)) if chap.offer_none => "CHAP,None".to_owned(),
        (None, Some(_)) => "CHAP".to_owned(),
        (None, None) => "None".to_owned(),
    }
}
