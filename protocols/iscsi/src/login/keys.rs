//! What login texts say: who the initiator is, how it authenticates, what it negotiates.

use crate::chap::{ChapError, ChapExchange, ChapKeys};
use crate::negotiate::Negotiation;
use crate::text::{TextWriter, normalize_name, pairs};

use super::{Admission, RefusalReason, SessionIdentity, SessionType};

/// The names in the first text of a login (RFC 7143 6.3: InitiatorName must be in it).
#[derive(Debug)]
pub(super) struct Names {
    pub(super) initiator: String,
    pub(super) alias: Option<String>,
    pub(super) target: Option<String>,
    pub(super) session_type: SessionType,
}

const IDENTITY_KEYS: [&str; 3] = ["InitiatorName", "TargetName", "SessionType"];

impl Names {
    pub(super) fn parse(text: &[u8]) -> Result<Self, RefusalReason> {
        let (mut initiator, mut alias, mut target, mut session_type) = (None, None, None, None);
        for pair in pairs(text) {
            let (key, value) = pair?;
            let slot = match key {
                "InitiatorName" => &mut initiator,
                "InitiatorAlias" => &mut alias,
                "TargetName" => &mut target,
                "SessionType" => &mut session_type,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(RefusalReason::Repeated);
            }
        }
        let session_type = match session_type {
            None | Some("Normal") => SessionType::Normal,
            Some("Discovery") => SessionType::Discovery,
            Some(_) => return Err(RefusalReason::SessionType),
        };
        if session_type == SessionType::Normal && target.is_none() {
            return Err(RefusalReason::NameMissing);
        }
        let name = |name: &str| normalize_name(name).ok_or(RefusalReason::Name);
        Ok(Self {
            initiator: name(initiator.ok_or(RefusalReason::NameMissing)?)?,
            alias: alias.map(str::to_owned),
            target: target.map(name).transpose()?,
            session_type,
        })
    }
}

/// Security and operational negotiation of an admitted login.
#[derive(Debug)]
pub(super) struct KeyExchange {
    /// Authentication that is still required, or done.
    chap: Option<ChapExchange>,
    chap_chosen: bool,
    method_settled: bool,
    method_said_again: bool,
    pub(super) negotiation: Negotiation,
    /// What is declared in the first response.
    greeting: Option<TextWriter>,
    identity: SessionIdentity,
}

impl KeyExchange {
    pub(super) fn new(admission: &Admission, identity: SessionIdentity) -> Self {
        let discovery = identity.session_type == SessionType::Discovery;
        let mut greeting = TextWriter::default();
        if !discovery {
            // RFC 7143 13.9: in the first response of a normal session.
            greeting.pair("TargetPortalGroupTag", &admission.portal_group_tag.to_string());
            if let Some(alias) = &admission.target_alias {
                greeting.pair("TargetAlias", alias);
            }
        }
        let required = admission.chap.clone().filter(|chap| !chap.incoming.is_empty());
        Self {
            chap: required.map(|config| ChapExchange::new(config, admission.entropy)),
            chap_chosen: false,
            method_settled: false,
            method_said_again: false,
            negotiation: Negotiation::new(&admission.parameters, discovery),
            greeting: Some(greeting),
            identity,
        }
    }

    /// A name that comes again after the first text. RFC 7143 6.3.3 forbids it, but a common initiator says its names
    /// in both stages: the same name is harmless, another one is not.
    fn repeated(&self, key: &str, value: &str, first: bool) -> Result<(), RefusalReason> {
        let name = normalize_name(value);
        let same = match key {
            _ if first => true,
            "InitiatorName" => name.as_ref() == Some(&self.identity.initiator_name),
            "TargetName" => name.is_some() && name == self.identity.target_name,
            _ => value == self.identity.session_type.as_str(),
        };
        if same { Ok(()) } else { Err(RefusalReason::Repeated) }
    }

    /// Whether nothing more is asked of the initiator in the security stage.
    pub(super) fn authenticated(&self) -> bool {
        self.chap.as_ref().is_none_or(ChapExchange::is_done)
    }

    /// Whether an exchange of CHAP is under way.
    pub(super) fn authenticating(&self) -> bool {
        self.chap_chosen && !self.authenticated()
    }

    /// A complete text of the security stage; the answer goes to the writer that is returned.
    pub(super) fn security(&mut self, text: &[u8], first: bool) -> Result<TextWriter, RefusalReason> {
        let mut out = self.greeting.take().unwrap_or_default();
        let mut chap = ChapKeys::default();
        for pair in pairs(text) {
            let (key, value) = pair?;
            match key {
                "AuthMethod" => self.method(value, &mut out)?,
                _ if key.starts_with("CHAP_") => {
                    if !chap.take(key, value) {
                        return Err(ChapError::Sequence.into());
                    }
                }
                _ if IDENTITY_KEYS.contains(&key) => self.repeated(key, value, first)?,
                // RFC 7143 13.12, 13.7: may be declared at any stage.
                "MaxRecvDataSegmentLength" | "InitiatorAlias" => self.negotiation.take(key, value, &mut out)?,
                _ if crate::negotiate::is_known(key) => return Err(RefusalReason::Stage),
                _ => out.pair(key, "NotUnderstood"),
            }
        }
        if self.chap_chosen
            && let Some(exchange) = &mut self.chap
        {
            if !exchange.is_done() {
                exchange.advance(&chap, &mut out)?;
            }
        } else if chap.algorithms.is_some() || chap.name.is_some() || chap.response.is_some() {
            return Err(ChapError::Sequence.into());
        }
        Ok(out)
    }

    /// AuthMethod in the operational stage, where it decides nothing: once there, whatever came before.
    fn method_again(&mut self, offer: &str, out: &mut TextWriter) -> Result<(), RefusalReason> {
        self.method_settled = core::mem::replace(&mut self.method_said_again, true);
        self.method(offer, out)
    }

    /// AuthMethod (RFC 7143 12.1): a list of the initiator, in order of preference.
    fn method(&mut self, offer: &str, out: &mut TextWriter) -> Result<(), RefusalReason> {
        if core::mem::replace(&mut self.method_settled, true) {
            return Err(RefusalReason::Repeated);
        }
        let wanted = if self.chap.is_some() { "CHAP" } else { "None" };
        if !offer.split(',').any(|method| method == wanted) {
            return Err(if self.chap.is_some() { RefusalReason::ChapRequired } else { RefusalReason::NoMethod });
        }
        self.chap_chosen = self.chap.is_some();
        out.pair("AuthMethod", wanted);
        Ok(())
    }

    /// A complete text of the operational stage.
    pub(super) fn operational(&mut self, text: &[u8], first: bool) -> Result<TextWriter, RefusalReason> {
        if !self.authenticated() {
            return Err(RefusalReason::ChapRequired);
        }
        let mut out = self.greeting.take().unwrap_or_default();
        for pair in pairs(text) {
            let (key, value) = pair?;
            match key {
                // It belongs to the security stage (RFC 7143 12.1), but initiators say here that they ask for nothing.
                "AuthMethod" if self.chap.is_none() => self.method_again(value, &mut out)?,
                "AuthMethod" => return Err(RefusalReason::Stage),
                _ if key.starts_with("CHAP_") => return Err(RefusalReason::Stage),
                _ if IDENTITY_KEYS.contains(&key) => self.repeated(key, value, first)?,
                _ => self.negotiation.take(key, value, &mut out)?,
            }
        }
        self.negotiation.end_of_text(&mut out);
        Ok(out)
    }
}
