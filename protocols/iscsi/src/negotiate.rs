//! Negotiation of operational keys (RFC 7143 chapter 13): one table of keys, one rule per key.

use core::fmt;

use crate::params::{DigestPolicy, TargetParameters};
use crate::text::{TextWriter, bool_str, parse_bool, parse_number};

/// The values in force: those of the RFC until something else is agreed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Negotiated {
    /// HeaderDigest=CRC32C.
    pub header_digest: bool,
    /// DataDigest=CRC32C.
    pub data_digest: bool,
    /// MaxConnections.
    pub max_connections: u32,
    /// InitialR2T.
    pub initial_r2t: bool,
    /// ImmediateData.
    pub immediate_data: bool,
    /// MaxRecvDataSegmentLength that the initiator declared.
    pub initiator_max_recv_data_segment_length: u32,
    /// MaxBurstLength.
    pub max_burst_length: u32,
    /// FirstBurstLength.
    pub first_burst_length: u32,
    /// DefaultTime2Wait.
    pub default_time2wait: u32,
    /// DefaultTime2Retain.
    pub default_time2retain: u32,
    /// MaxOutstandingR2T.
    pub max_outstanding_r2t: u32,
    /// DataPDUInOrder.
    pub data_pdu_in_order: bool,
    /// DataSequenceInOrder.
    pub data_sequence_in_order: bool,
    /// ErrorRecoveryLevel.
    pub error_recovery_level: u32,
    /// iSCSIProtocolLevel.
    pub protocol_level: u32,
}

/// MaxRecvDataSegmentLength until it is declared; also the limit for login texts.
pub const DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH: u32 = 8192;
/// Highest iSCSIProtocolLevel that we speak (RFC 7144: new task management functions).
pub const PROTOCOL_LEVEL: u32 = 2;

impl Default for Negotiated {
    fn default() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            max_connections: 1,
            initial_r2t: true,
            immediate_data: true,
            initiator_max_recv_data_segment_length: DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH,
            max_burst_length: 262_144,
            first_burst_length: 65_536,
            default_time2wait: 2,
            default_time2retain: 20,
            max_outstanding_r2t: 1,
            data_pdu_in_order: true,
            data_sequence_in_order: true,
            error_recovery_level: 0,
            protocol_level: 1,
        }
    }
}

/// What an initiator did wrong; the login ends with "initiator error".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NegotiationError {
    /// A key came twice (RFC 7143 6.3.3).
    Repeated(&'static str),
    /// A key that only a target sends, or that does not belong to login.
    WrongSender(&'static str),
    /// A declared value that is out of range.
    Declaration(&'static str),
    /// What we insist on was not accepted.
    Unacceptable(&'static str),
}

impl fmt::Display for NegotiationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repeated(key) => write!(f, "{key} came twice"),
            Self::WrongSender(key) => write!(f, "{key} is not for initiators, or not for login"),
            Self::Declaration(key) => write!(f, "the value of {key} is out of range"),
            Self::Unacceptable(key) => write!(f, "no value of {key} suits both initiator and target"),
        }
    }
}

type BoolField = fn(&mut Negotiated) -> &mut bool;
type NumberField = fn(&mut Negotiated) -> &mut u32;

/// How the result of a key comes about (RFC 7143 6.2).
#[derive(Clone, Copy)]
enum Rule {
    And(BoolField),
    Or(BoolField),
    Min(NumberField, u32, u32),
    Max(NumberField, u32, u32),
    Digest(BoolField),
    /// A list from which we always take this item.
    Choice(&'static str),
    /// The answer is always this.
    Constant(&'static str),
    /// Declared, number in range.
    Declared(NumberField, u32, u32),
    /// Declared, any text, no interest.
    Ignored,
    /// An initiator never sends it here.
    NotYours,
}

struct Key {
    name: &'static str,
    rule: Rule,
    /// Means something in discovery sessions. Offers of an initiator are answered there all the same: an answer of
    /// `Irrelevant` (RFC 7143 6.2) makes initiators give up, and the value costs nothing.
    discovery: bool,
}

const fn key(name: &'static str, rule: Rule, discovery: bool) -> Key {
    Key { name, rule, discovery }
}

static KEYS: &[Key] = &[
    key("HeaderDigest", Rule::Digest(|n| &mut n.header_digest), true),
    key("DataDigest", Rule::Digest(|n| &mut n.data_digest), true),
    key("MaxConnections", Rule::Min(|n| &mut n.max_connections, 1, 65_535), false),
    key("InitialR2T", Rule::Or(|n| &mut n.initial_r2t), false),
    key("ImmediateData", Rule::And(|n| &mut n.immediate_data), false),
    key(
        "MaxRecvDataSegmentLength",
        Rule::Declared(|n| &mut n.initiator_max_recv_data_segment_length, 512, 0x00ff_ffff),
        true,
    ),
    key("MaxBurstLength", Rule::Min(|n| &mut n.max_burst_length, 512, 0x00ff_ffff), false),
    key("FirstBurstLength", Rule::Min(|n| &mut n.first_burst_length, 512, 0x00ff_ffff), false),
    key("DefaultTime2Wait", Rule::Max(|n| &mut n.default_time2wait, 0, 3600), true),
    key("DefaultTime2Retain", Rule::Min(|n| &mut n.default_time2retain, 0, 3600), true),
    key("MaxOutstandingR2T", Rule::Min(|n| &mut n.max_outstanding_r2t, 1, 65_535), false),
    key("DataPDUInOrder", Rule::Or(|n| &mut n.data_pdu_in_order), false),
    key("DataSequenceInOrder", Rule::Or(|n| &mut n.data_sequence_in_order), false),
    key("ErrorRecoveryLevel", Rule::Min(|n| &mut n.error_recovery_level, 0, 2), true),
    key("iSCSIProtocolLevel", Rule::Min(|n| &mut n.protocol_level, 0, 31), false),
    // RFC 7143 13.23: what the RFC of 2004 says is always among the items that a correct initiator offers.
    key("TaskReporting", Rule::Choice("RFC3720"), false),
    // RFC 7143 13.25: obsolete, but never "NotUnderstood".
    key("OFMarker", Rule::Constant("No"), true),
    key("IFMarker", Rule::Constant("No"), true),
    key("OFMarkInt", Rule::Constant("Reject"), true),
    key("IFMarkInt", Rule::Constant("Reject"), true),
    // RFC 7145: this is not iSER, so its other keys do not matter.
    key("RDMAExtensions", Rule::Constant("No"), true),
    key("TargetRecvDataSegmentLength", Rule::Constant("Irrelevant"), true),
    key("InitiatorRecvDataSegmentLength", Rule::Constant("Irrelevant"), true),
    key("MaxAHSLength", Rule::Constant("Irrelevant"), true),
    key("TaggedBufferForSolicitedDataOnly", Rule::Constant("Irrelevant"), true),
    key("iSERHelloRequired", Rule::Constant("Irrelevant"), true),
    key("MaxOutstandingUnexpectedPDUs", Rule::Constant("Irrelevant"), true),
    key("InitiatorAlias", Rule::Ignored, true),
    key("X#NodeArchitecture", Rule::Ignored, true),
    key("TargetAlias", Rule::NotYours, true),
    key("TargetAddress", Rule::NotYours, true),
    key("TargetPortalGroupTag", Rule::NotYours, true),
    key("SendTargets", Rule::NotYours, true),
];

const MAX_RECV: &str = "MaxRecvDataSegmentLength";
const FIRST_BURST: &str = "FirstBurstLength";

/// Whether a key is in the table.
pub(crate) fn is_known(name: &str) -> bool {
    KEYS.iter().any(|key| key.name == name)
}

/// A MaxRecvDataSegmentLength that an initiator declares in the full feature phase.
pub(crate) fn declared_segment_length(value: &str) -> Option<u32> {
    number_in(value, 512, 0x00ff_ffff)
}

/// Negotiation of one login.
#[derive(Debug)]
pub struct Negotiation {
    local: Negotiated,
    header_policy: DigestPolicy,
    data_policy: DigestPolicy,
    max_recv: u32,
    discovery: bool,
    values: Negotiated,
    /// Bit per key that is settled.
    settled: u64,
    /// Bit per key that we offered and that is not answered yet.
    offered: u64,
    /// Whether our own offers are out.
    originated: bool,
    declared: bool,
    first_burst_reply: bool,
}

impl Negotiation {
    /// For a target with these parameters.
    pub fn new(parameters: &TargetParameters, discovery: bool) -> Self {
        Self {
            local: local_values(parameters),
            header_policy: parameters.header_digest,
            data_policy: parameters.data_digest,
            max_recv: parameters.max_recv_data_segment_length,
            discovery,
            values: Negotiated::default(),
            settled: 0,
            offered: 0,
            originated: false,
            declared: false,
            first_burst_reply: false,
        }
    }

    /// The values in force. FirstBurstLength never exceeds MaxBurstLength (RFC 7143 13.14).
    pub fn values(&self) -> Negotiated {
        let mut values = self.values;
        values.first_burst_length = values.first_burst_length.min(values.max_burst_length);
        values
    }

    /// Takes a key that the initiator sent; the answer, if it needs one, goes to `out`.
    ///
    /// # Errors
    /// What the initiator did wrong; the login is over then.
    pub fn take(&mut self, name: &str, value: &str, out: &mut TextWriter) -> Result<(), NegotiationError> {
        let Some((index, key)) = KEYS.iter().enumerate().find(|(_, key)| key.name == name) else {
            out.pair(name, "NotUnderstood");
            return Ok(());
        };
        let bit = 1 << index;
        if self.offered & bit != 0 {
            self.offered &= !bit;
            return self.answer(key, value);
        }
        let repeatable = matches!(key.rule, Rule::Declared(..) | Rule::Ignored);
        if self.settled & bit != 0 && !repeatable {
            return Err(NegotiationError::Repeated(key.name));
        }
        self.settled |= bit;
        self.offer(key, value, out)
    }

    /// An offer of the initiator.
    fn offer(&mut self, key: &Key, value: &str, out: &mut TextWriter) -> Result<(), NegotiationError> {
        let reply = match key.rule {
            Rule::And(_) | Rule::Or(_) | Rule::Min(..) | Rule::Max(..) => {
                let agreed = self.agree(key, value);
                if agreed.is_some() && key.name == FIRST_BURST {
                    // The answer waits for MaxBurstLength, which may come later in the same text.
                    self.first_burst_reply = true;
                    return Ok(());
                }
                agreed
            }
            Rule::Digest(field) => {
                let policy = self.digest_policy(key);
                let chosen = value.split(',').find_map(|item| digest_item(item, policy));
                let crc = chosen.ok_or(NegotiationError::Unacceptable(key.name))?;
                *field(&mut self.values) = crc;
                Some(if crc { "CRC32C".into() } else { "None".into() })
            }
            Rule::Choice(item) => value.split(',').any(|i| i == item).then(|| item.to_owned()),
            Rule::Constant(reply) => Some(reply.to_owned()),
            Rule::Declared(field, min, max) => {
                let number = number_in(value, min, max).ok_or(NegotiationError::Declaration(key.name))?;
                *field(&mut self.values) = number;
                return Ok(());
            }
            Rule::Ignored => return Ok(()),
            Rule::NotYours => return Err(NegotiationError::WrongSender(key.name)),
        };
        out.pair(key.name, reply.as_deref().unwrap_or("Reject"));
        Ok(())
    }

    /// Applies the result function of a boolean or numeric key; None when the value is not admissible.
    fn agree(&mut self, key: &Key, value: &str) -> Option<String> {
        match key.rule {
            Rule::And(field) => {
                let result = parse_bool(value)? && *field(&mut self.local);
                *field(&mut self.values) = result;
                Some(bool_str(result).into())
            }
            Rule::Or(field) => {
                let result = parse_bool(value)? || *field(&mut self.local);
                *field(&mut self.values) = result;
                Some(bool_str(result).into())
            }
            Rule::Min(field, min, max) => {
                let result = number_in(value, min, max)?.min(*field(&mut self.local));
                *field(&mut self.values) = result;
                Some(result.to_string())
            }
            Rule::Max(field, min, max) => {
                let result = number_in(value, min, max)?.max(*field(&mut self.local));
                *field(&mut self.values) = result;
                Some(result.to_string())
            }
            _ => None,
        }
    }

    /// The initiator's answer to an offer of ours.
    fn answer(&mut self, key: &Key, value: &str) -> Result<(), NegotiationError> {
        let unacceptable = Err(NegotiationError::Unacceptable(key.name));
        if let Rule::Digest(field) = key.rule {
            let policy = self.digest_policy(key);
            let Some(crc) = digest_item(value, policy) else { return unacceptable };
            *field(&mut self.values) = crc;
            return Ok(());
        }
        // We only offer what we insist on, so "Reject" and the like end the login.
        if self.agree(key, value).is_none() { unacceptable } else { Ok(()) }
    }

    /// What has to be said at the end of a text of the operational stage: the reply that waited, and our declaration.
    pub fn end_of_text(&mut self, out: &mut TextWriter) {
        if core::mem::take(&mut self.first_burst_reply) {
            self.values.first_burst_length = self.values.first_burst_length.min(self.values.max_burst_length);
            out.pair(FIRST_BURST, &self.values.first_burst_length.to_string());
        }
        if !core::mem::replace(&mut self.declared, true) {
            out.pair(MAX_RECV, &self.max_recv.to_string());
        }
    }

    /// Tells whether the operational stage cannot be left out: the RFC's default of a key that has not been settled goes
    /// beyond what the target takes.
    pub fn is_needed(&mut self) -> bool {
        self.offered != 0
            || (!self.declared && self.max_recv < DEFAULT_MAX_RECV_DATA_SEGMENT_LENGTH)
            || self.missing().next().is_some()
    }

    /// Keys that the initiator did not bring up but whose default we do not accept, with our values.
    fn missing(&self) -> impl Iterator<Item = (usize, &'static Key, String)> + '_ {
        KEYS.iter().enumerate().filter_map(|(index, key)| {
            let relevant = key.discovery || !self.discovery;
            let open = relevant && self.settled & 1 << index == 0;
            self.insisted(key).filter(|_| open).map(|value| (index, key, value))
        })
    }

    /// Offers what the initiator did not bring up but whose default we do not accept. True when answers are awaited:
    /// the stage cannot end yet.
    pub fn originate(&mut self, out: &mut TextWriter) -> bool {
        if !core::mem::replace(&mut self.originated, true) {
            let missing: Vec<_> = self.missing().collect();
            for (index, key, value) in missing {
                out.pair(key.name, &value);
                self.offered |= 1 << index;
                self.settled |= 1 << index;
            }
        }
        self.offered != 0
    }

    /// Our value, when the default of the RFC would go beyond it.
    fn insisted(&self, key: &Key) -> Option<String> {
        let (mut local, mut values) = (self.local, self.values);
        match key.rule {
            Rule::And(field) => {
                let (local, default) = (*field(&mut local), *field(&mut values));
                (default && !local).then(|| bool_str(local).into())
            }
            Rule::Min(field, ..) if key.name.ends_with("BurstLength") => {
                let (local, default) = (*field(&mut local), *field(&mut values));
                (local < default).then(|| local.to_string())
            }
            Rule::Digest(_) => (self.digest_policy(key) == DigestPolicy::Crc32cOnly).then(|| "CRC32C".into()),
            _ => None,
        }
    }

    fn digest_policy(&self, key: &Key) -> DigestPolicy {
        if key.name == "HeaderDigest" { self.header_policy } else { self.data_policy }
    }
}

fn local_values(parameters: &TargetParameters) -> Negotiated {
    Negotiated {
        initial_r2t: parameters.initial_r2t,
        immediate_data: parameters.immediate_data,
        max_burst_length: parameters.max_burst_length,
        first_burst_length: parameters.first_burst_length.min(parameters.max_burst_length),
        max_outstanding_r2t: parameters.max_outstanding_r2t,
        default_time2wait: 0,
        default_time2retain: 0,
        protocol_level: PROTOCOL_LEVEL,
        ..Negotiated::default()
    }
}

fn number_in(value: &str, min: u32, max: u32) -> Option<u32> {
    parse_number(value).and_then(|n| u32::try_from(n).ok()).filter(|n| (min..=max).contains(n))
}

/// Whether an item of a digest list means CRC32C (true) or none (false); None when we do not accept it.
fn digest_item(item: &str, policy: DigestPolicy) -> Option<bool> {
    match item {
        "CRC32C" => (policy != DigestPolicy::NoneOnly).then_some(true),
        "None" => (policy != DigestPolicy::Crc32cOnly).then_some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(parameters: TargetParameters, offers: &[(&str, &str)]) -> Result<(String, Negotiated), NegotiationError> {
        let mut negotiation = Negotiation::new(&parameters, false);
        negotiation.declared = true;
        let mut out = TextWriter::default();
        for (key, value) in offers {
            negotiation.take(key, value, &mut out)?;
        }
        negotiation.end_of_text(&mut out);
        let text = String::from_utf8(out.finish()).unwrap().replace('\0', " ");
        Ok((text, negotiation.values()))
    }

    fn replies(offers: &[(&str, &str)]) -> String {
        with(TargetParameters::default(), offers).unwrap().0
    }

    #[test]
    fn every_key_has_its_answer() {
        for (key, offer, reply) in [
            ("HeaderDigest", "CRC32C,None", "None"),
            ("DataDigest", "None,CRC32C", "None"),
            ("MaxConnections", "8", "1"),
            ("InitialR2T", "Yes", "Yes"),
            ("InitialR2T", "No", "No"),
            ("InitialR2T", "maybe", "Reject"),
            ("ImmediateData", "Yes", "Yes"),
            ("ImmediateData", "No", "No"),
            ("MaxBurstLength", "16776192", "1048576"),
            ("MaxBurstLength", "511", "Reject"),
            ("FirstBurstLength", "262144", "65536"),
            ("DefaultTime2Wait", "2", "2"),
            ("DefaultTime2Retain", "20", "0"),
            ("MaxOutstandingR2T", "1", "1"),
            ("MaxOutstandingR2T", "0", "Reject"),
            ("DataPDUInOrder", "No", "Yes"),
            ("DataSequenceInOrder", "Yes", "Yes"),
            ("ErrorRecoveryLevel", "2", "0"),
            ("ErrorRecoveryLevel", "3", "Reject"),
            ("iSCSIProtocolLevel", "1", "1"),
            ("iSCSIProtocolLevel", "5", "2"),
            ("TaskReporting", "FastAbort,ResponseFence,RFC3720", "RFC3720"),
            ("TaskReporting", "FastAbort", "Reject"),
            ("OFMarker", "Yes", "No"),
            ("IFMarkInt", "2048~4096", "Reject"),
            ("RDMAExtensions", "Yes", "No"),
            ("MaxAHSLength", "256", "Irrelevant"),
            ("X-com.example.fast", "1", "NotUnderstood"),
            ("Bogus", "1", "NotUnderstood"),
        ] {
            assert_eq!(replies(&[(key, offer)]), format!("{key}={reply} "), "{key}={offer}");
        }
        assert_eq!(replies(&[("MaxRecvDataSegmentLength", "262144"), ("InitiatorAlias", "me")]), "");
    }

    #[test]
    fn mistakes_end_the_login() {
        let fails = |offers: &[(&str, &str)]| with(TargetParameters::default(), offers).map(|_| ());
        assert_eq!(
            fails(&[("MaxBurstLength", "1024"), ("MaxBurstLength", "1024")]),
            Err(NegotiationError::Repeated("MaxBurstLength"))
        );
        assert_eq!(fails(&[("TargetAlias", "x")]), Err(NegotiationError::WrongSender("TargetAlias")));
        assert_eq!(
            fails(&[("MaxRecvDataSegmentLength", "511")]),
            Err(NegotiationError::Declaration("MaxRecvDataSegmentLength"))
        );
        assert_eq!(fails(&[("HeaderDigest", "CRC32C")]), Err(NegotiationError::Unacceptable("HeaderDigest")));
    }

    #[test]
    fn the_first_burst_waits_for_the_burst_that_limits_it() {
        let reply = replies(&[("FirstBurstLength", "65536"), ("MaxBurstLength", "4096")]);
        assert_eq!(reply, "MaxBurstLength=4096 FirstBurstLength=4096 ");
    }

    #[test]
    fn the_initiators_order_of_digests_counts() {
        let parameters = TargetParameters { data_digest: DigestPolicy::NoneOrCrc32c, ..Default::default() };
        let (text, values) = with(parameters, &[("DataDigest", "x,CRC32C,None")]).unwrap();
        assert_eq!((text.as_str(), values.data_digest), ("DataDigest=CRC32C ", true));
    }

    #[test]
    fn in_discovery_every_key_has_the_answer_of_a_normal_session_but_nothing_of_scsi_is_offered() {
        let strict = TargetParameters { immediate_data: false, max_burst_length: 65_536, ..Default::default() };
        for key in KEYS.iter().filter(|key| !matches!(key.rule, Rule::NotYours)) {
            let answer = |discovery| {
                let mut negotiation = Negotiation::new(&strict, discovery);
                let mut out = TextWriter::default();
                let result = negotiation.take(key.name, "512", &mut out);
                negotiation.end_of_text(&mut out);
                (result, out.finish())
            };
            assert_eq!(answer(true), answer(false), "{}", key.name);
        }
        let mut negotiation = Negotiation::new(&strict, true);
        let mut out = TextWriter::default();
        assert!(!negotiation.originate(&mut out) && !negotiation.is_needed());
        negotiation.take("MaxBurstLength", "1024", &mut out).unwrap();
        negotiation.take("InitialR2T", "Yes", &mut out).unwrap();
        negotiation.end_of_text(&mut out);
        assert_eq!(out.finish(), b"MaxBurstLength=1024\0InitialR2T=Yes\0MaxRecvDataSegmentLength=1048576\0");
    }

    #[test]
    fn what_the_target_insists_on_is_offered_and_must_be_accepted() {
        let strict = TargetParameters {
            immediate_data: false,
            max_burst_length: 65_536,
            first_burst_length: 4096,
            header_digest: DigestPolicy::Crc32cOnly,
            ..Default::default()
        };
        let mut negotiation = Negotiation::new(&strict, false);
        let mut out = TextWriter::default();
        assert!(negotiation.originate(&mut out));
        assert_eq!(
            out.finish(),
            b"HeaderDigest=CRC32C\0ImmediateData=No\0MaxBurstLength=65536\0FirstBurstLength=4096\0"
        );
        let mut out = TextWriter::default();
        for (key, value) in [
            ("HeaderDigest", "CRC32C"),
            ("ImmediateData", "No"),
            ("MaxBurstLength", "8192"),
            ("FirstBurstLength", "4096"),
        ] {
            assert!(negotiation.originate(&mut out));
            negotiation.take(key, value, &mut out).unwrap();
        }
        assert!(!negotiation.originate(&mut out));
        assert!(out.is_empty());
        let values = negotiation.values();
        assert!(values.header_digest && !values.immediate_data);
        assert_eq!((values.max_burst_length, values.first_burst_length), (8192, 4096));

        let mut negotiation = Negotiation::new(&strict, false);
        negotiation.originate(&mut out);
        let refused = negotiation.take("HeaderDigest", "Reject", &mut out);
        assert_eq!(refused, Err(NegotiationError::Unacceptable("HeaderDigest")));
    }

    proptest! {
        /// Numbers: the result is the smaller one and never outside the range, whatever is offered.
        #[test]
        fn minima(local in 512u32..=1_048_576, offer in any::<u32>()) {
            let parameters = TargetParameters { max_burst_length: local, ..Default::default() };
            let (text, values) = with(parameters, &[("MaxBurstLength", &offer.to_string())]).unwrap();
            if (512..=0x00ff_ffff).contains(&offer) {
                prop_assert_eq!(values.max_burst_length, local.min(offer));
                prop_assert_eq!(text, format!("MaxBurstLength={} ", local.min(offer)));
            } else {
                prop_assert_eq!(text, "MaxBurstLength=Reject ");
                prop_assert_eq!(values.max_burst_length, 262_144);
            }
        }

        /// Booleans: both result functions, and the order of the keys does not matter.
        #[test]
        fn booleans(local in any::<(bool, bool)>(), offer in any::<(bool, bool)>(), swap in any::<bool>()) {
            let parameters =
                TargetParameters { initial_r2t: local.0, immediate_data: local.1, ..Default::default() };
            let mut offers = [("InitialR2T", bool_str(offer.0)), ("ImmediateData", bool_str(offer.1))];
            if swap {
                offers.reverse();
            }
            let (_, values) = with(parameters, &offers).unwrap();
            prop_assert_eq!(values.initial_r2t, local.0 || offer.0);
            prop_assert_eq!(values.immediate_data, local.1 && offer.1);
            prop_assert_eq!(values.max_outstanding_r2t, 1);
        }

        /// Any value of any key: no panic, at most one answer, values stay in range.
        #[test]
        fn any_value(index in 0..KEYS.len(), value in "[ -~]{0,30}") {
            let mut negotiation = Negotiation::new(&TargetParameters::default(), false);
            let mut out = TextWriter::default();
            let _ = negotiation.take(KEYS[index].name, &value, &mut out);
            let values = negotiation.values();
            prop_assert!(values.first_burst_length <= values.max_burst_length);
            prop_assert!(values.max_connections == 1 && values.error_recovery_level == 0);
        }
    }
}
