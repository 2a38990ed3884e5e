//! What to say at login, and what came of it.

use crate::chap::Chap;
use crate::pdu::Digests;
use crate::text::{self, Keys};

/// Operational keys that a normal session offers unless told otherwise: what common initiators ask for.
pub const NORMAL_SESSION_KEYS: [(&str, &str); 14] = [
    ("HeaderDigest", "None"),
    ("DataDigest", "None"),
    ("MaxConnections", "1"),
    ("InitialR2T", "No"),
    ("ImmediateData", "Yes"),
    ("MaxRecvDataSegmentLength", "262144"),
    ("MaxBurstLength", "1048576"),
    ("FirstBurstLength", "65536"),
    ("DefaultTime2Wait", "2"),
    ("DefaultTime2Retain", "0"),
    ("MaxOutstandingR2T", "8"),
    ("DataPDUInOrder", "Yes"),
    ("DataSequenceInOrder", "Yes"),
    ("ErrorRecoveryLevel", "0"),
];

/// Which stages to go through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Offer {
    /// Security negotiation, then operational negotiation.
    #[default]
    SecurityThenOperational,
    /// Operational negotiation alone (RFC 7143 6.3: allowed, the target may refuse).
    OperationalOnly,
    /// Security negotiation, then straight to full feature: all keys keep their defaults.
    SecurityOnly,
}

/// Everything that a login says. Fields are public: a test changes what it wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoginConfig {
    /// InitiatorName; None leaves the key out.
    pub initiator_name: Option<String>,
    /// TargetName; None leaves the key out (discovery).
    pub target_name: Option<String>,
    /// SessionType; None leaves the key out (Normal is then meant).
    pub session_type: Option<String>,
    /// ISID.
    pub isid: [u8; 6],
    /// TSIH: zero for a new session.
    pub tsih: u16,
    /// Connection id.
    pub cid: u16,
    /// First CmdSN.
    pub cmd_sn: u32,
    /// First Initiator Task Tag.
    pub first_tag: u32,
    /// Version-max and Version-min.
    pub versions: (u8, u8),
    /// Credentials; None offers `AuthMethod=None`.
    pub chap: Option<Chap>,
    /// Replaces the value of AuthMethod.
    pub auth_method: Option<String>,
    /// More keys for the first request (security stage, or the first of the operational one).
    pub first_keys: Keys,
    /// Operational keys, in order.
    pub keys: Keys,
    /// Which stages.
    pub offer: Offer,
    /// Split longer login text over several requests with the C bit, at most so many bytes each.
    pub split_text: Option<usize>,
    /// Answer NOP-In pings of the target.
    pub answer_nop_in: bool,
    /// Send commands beyond MaxCmdSN instead of holding them back.
    pub ignore_window: bool,
}

impl LoginConfig {
    /// A normal session with the keys of [`NORMAL_SESSION_KEYS`].
    pub fn normal(initiator_name: &str, target_name: &str) -> Self {
        Self {
            initiator_name: Some(initiator_name.to_owned()),
            target_name: Some(target_name.to_owned()),
            session_type: Some("Normal".to_owned()),
            isid: [0x80, 0x12, 0x34, 0x56, 0, 1],
            tsih: 0,
            cid: 0,
            cmd_sn: 1,
            first_tag: 1,
            versions: (0, 0),
            chap: None,
            auth_method: None,
            first_keys: Vec::new(),
            keys: text::keys(&NORMAL_SESSION_KEYS),
            offer: Offer::default(),
            split_text: None,
            answer_nop_in: true,
            ignore_window: false,
        }
    }

    /// A discovery session.
    pub fn discovery(initiator_name: &str) -> Self {
        let keys = text::keys(&[
            ("HeaderDigest", "None"),
            ("DataDigest", "None"),
            ("MaxRecvDataSegmentLength", "32768"),
            ("DefaultTime2Wait", "0"),
            ("DefaultTime2Retain", "0"),
            ("ErrorRecoveryLevel", "0"),
        ]);
        let session_type = Some("Discovery".to_owned());
        Self { target_name: None, session_type, keys, ..Self::normal(initiator_name, "") }
    }

    /// Offers another value of an operational key (added at the end if it was not there).
    #[must_use]
    pub fn with_key(mut self, key: &str, value: &str) -> Self {
        match self.keys.iter_mut().find(|(name, _)| name == key) {
            Some(pair) => pair.1 = value.to_owned(),
            None => self.keys.push((key.to_owned(), value.to_owned())),
        }
        self
    }

    /// Does not offer an operational key.
    #[must_use]
    pub fn without_key(mut self, key: &str) -> Self {
        self.keys.retain(|(name, _)| name != key);
        self
    }

    /// Adds a key even if it is there already.
    #[must_use]
    pub fn with_extra_key(mut self, key: &str, value: &str) -> Self {
        self.keys.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Uses CHAP.
    #[must_use]
    pub fn with_chap(mut self, chap: Chap) -> Self {
        self.chap = Some(chap);
        self
    }

    /// Wants both digests, or the ones given.
    #[must_use]
    pub fn with_digests(self, digests: Digests) -> Self {
        let value = |on: bool| if on { "CRC32C" } else { "None" };
        self.with_key("HeaderDigest", value(digests.header)).with_key("DataDigest", value(digests.data))
    }

    /// Another ISID: its last two bytes.
    #[must_use]
    pub fn with_isid(mut self, qualifier: u16) -> Self {
        self.isid[4..].copy_from_slice(&qualifier.to_be_bytes());
        self
    }

    /// True for `SessionType=Discovery`.
    pub fn is_discovery(&self) -> bool {
        self.session_type.as_deref() == Some("Discovery")
    }
}

/// Operational parameters in force, defaults of RFC 7143 clause 13 until negotiated.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are those of the RFC")]
pub struct Parameters {
    pub digests: Digests,
    pub initial_r2t: bool,
    pub immediate_data: bool,
    /// Longest data segment that we take.
    pub max_recv_data_segment_length: u32,
    /// Longest data segment that the target takes.
    pub max_xmit_data_segment_length: u32,
    pub max_burst_length: u32,
    pub first_burst_length: u32,
    pub max_outstanding_r2t: u32,
    pub max_connections: u32,
    pub default_time2wait: u32,
    pub default_time2retain: u32,
    pub data_pdu_in_order: bool,
    pub data_sequence_in_order: bool,
    pub error_recovery_level: u32,
    pub target_portal_group_tag: Option<u16>,
    pub target_alias: Option<String>,
    /// TSIH that the target gave.
    pub tsih: u16,
    /// All keys of the target, both stages, in order.
    pub target_keys: Keys,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            digests: Digests::default(),
            initial_r2t: true,
            immediate_data: true,
            max_recv_data_segment_length: 8192,
            max_xmit_data_segment_length: 8192,
            max_burst_length: 262_144,
            first_burst_length: 65_536,
            max_outstanding_r2t: 1,
            max_connections: 1,
            default_time2wait: 2,
            default_time2retain: 20,
            data_pdu_in_order: true,
            data_sequence_in_order: true,
            error_recovery_level: 0,
            target_portal_group_tag: None,
            target_alias: None,
            tsih: 0,
            target_keys: Vec::new(),
        }
    }
}

impl Parameters {
    /// The value that the target gave for a key.
    pub fn target_key(&self, key: &str) -> Option<&str> {
        text::get(&self.target_keys, key)
    }
}
