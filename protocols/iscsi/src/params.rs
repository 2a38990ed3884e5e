//! Per-target parameters: names, defaults and ranges as the original has them.
//!
//! [`PARAMETERS`] is the one table from which configuration, the management tree and its help texts are made.

use crate::error::ParameterError;

/// Which digests a target accepts, in order of preference.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DigestPolicy {
    /// `None`
    #[default]
    NoneOnly,
    /// `CRC32C`
    Crc32cOnly,
    /// `CRC32C,None`
    Crc32cOrNone,
    /// `None,CRC32C`
    NoneOrCrc32c,
}

impl DigestPolicy {
    /// The list as it is written in configuration and in login texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoneOnly => "None",
            Self::Crc32cOnly => "CRC32C",
            Self::Crc32cOrNone => "CRC32C,None",
            Self::NoneOrCrc32c => "None,CRC32C",
        }
    }

    /// Parses a list; blanks around the comma and letter case do not matter.
    pub fn parse(text: &str) -> Option<Self> {
        let mut items = text.split(',').map(str::trim);
        let crc = |item: &str| item.eq_ignore_ascii_case("CRC32C");
        let none = |item: &str| item.eq_ignore_ascii_case("None");
        match (items.next()?, items.next(), items.next()) {
            (a, None, None) if none(a) => Some(Self::NoneOnly),
            (a, None, None) if crc(a) => Some(Self::Crc32cOnly),
            (a, Some(b), None) if crc(a) && none(b) => Some(Self::Crc32cOrNone),
            (a, Some(b), None) if none(a) && crc(b) => Some(Self::NoneOrCrc32c),
            _ => None,
        }
    }
}

/// What an operator can set per target. Changes apply to sessions that log in afterwards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetParameters {
    /// Wait for an R2T before any data-out but immediate data.
    pub initial_r2t: bool,
    /// Accept immediate data.
    pub immediate_data: bool,
    /// Longest data segment that we accept, bytes.
    pub max_recv_data_segment_length: u32,
    /// Longest data segment that we send even if the initiator accepts more, bytes.
    pub max_xmit_data_segment_length: u32,
    /// Longest sequence of data, bytes.
    pub max_burst_length: u32,
    /// Most unsolicited data per command, bytes.
    pub first_burst_length: u32,
    /// R2Ts outstanding per command.
    pub max_outstanding_r2t: u32,
    /// Header digests.
    pub header_digest: DigestPolicy,
    /// Data digests.
    pub data_digest: DigestPolicy,
    /// Command window of a session.
    pub queued_commands: u32,
    /// Seconds until a connection with an initiator that owes us something is dropped.
    pub rsp_timeout: u32,
    /// Seconds of silence before we ping the initiator; 0: never.
    pub nop_in_interval: u32,
    /// Seconds until an unanswered ping ends the connection.
    pub nop_in_timeout: u32,
    /// Most sessions of the target; 0: any number.
    pub max_sessions: u32,
}

impl Default for TargetParameters {
    fn default() -> Self {
        Self {
            initial_r2t: false,
            immediate_data: true,
            max_recv_data_segment_length: 1_048_576,
            max_xmit_data_segment_length: 1_048_576,
            max_burst_length: 1_048_576,
            first_burst_length: 65_536,
            max_outstanding_r2t: 32,
            header_digest: DigestPolicy::NoneOnly,
            data_digest: DigestPolicy::NoneOnly,
            queued_commands: 32,
            rsp_timeout: 90,
            nop_in_interval: 30,
            nop_in_timeout: 30,
            max_sessions: 0,
        }
    }
}

/// What values a parameter takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParameterKind {
    /// `Yes` or `No`.
    Boolean,
    /// A decimal number.
    Number {
        /// Smallest value.
        min: u32,
        /// Largest value.
        max: u32,
        /// 0 is allowed too and means "off" or "unlimited".
        zero: bool,
    },
    /// A list of digests.
    Digest,
    /// Cannot be changed; this is its value.
    Fixed(&'static str),
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct ParameterInfo {
    /// Name, as in `scst.conf` and in login texts.
    pub name: &'static str,
    /// Values.
    pub kind: ParameterKind,
    /// One sentence for the operator.
    pub help: &'static str,
    field: Field,
}

#[derive(Clone, Copy, Debug)]
enum Field {
    Bool(fn(&mut TargetParameters) -> &mut bool),
    Number(fn(&mut TargetParameters) -> &mut u32),
    Digest(fn(&mut TargetParameters) -> &mut DigestPolicy),
    Fixed,
}

const fn number(
    name: &'static str,
    min: u32,
    max: u32,
    zero: bool,
    field: fn(&mut TargetParameters) -> &mut u32,
    help: &'static str,
) -> ParameterInfo {
    ParameterInfo { name, kind: ParameterKind::Number { min, max, zero }, help, field: Field::Number(field) }
}

const fn boolean(
    name: &'static str,
    field: fn(&mut TargetParameters) -> &mut bool,
    help: &'static str,
) -> ParameterInfo {
    ParameterInfo { name, kind: ParameterKind::Boolean, help, field: Field::Bool(field) }
}

const fn digest(
    name: &'static str,
    field: fn(&mut TargetParameters) -> &mut DigestPolicy,
    help: &'static str,
) -> ParameterInfo {
    ParameterInfo { name, kind: ParameterKind::Digest, help, field: Field::Digest(field) }
}

const fn fixed(name: &'static str, value: &'static str, help: &'static str) -> ParameterInfo {
    ParameterInfo { name, kind: ParameterKind::Fixed(value), help, field: Field::Fixed }
}

/// Longest segment or burst that may be configured.
pub const MAX_SEGMENT_LENGTH: u32 = 1_048_576;
/// Widest command window that may be configured.
pub const MAX_QUEUED_COMMANDS: u32 = 2048;

/// Every parameter of a target.
pub static PARAMETERS: &[ParameterInfo] = &[
    boolean("InitialR2T", |p| &mut p.initial_r2t, "Yes: no unsolicited data besides immediate data."),
    boolean("ImmediateData", |p| &mut p.immediate_data, "Yes: data may follow in the command's own PDU."),
    fixed("MaxConnections", "1", "Connections per session."),
    number(
        "MaxRecvDataSegmentLength",
        512,
        MAX_SEGMENT_LENGTH,
        false,
        |p| &mut p.max_recv_data_segment_length,
        "Longest data segment that the target accepts, in bytes.",
    ),
    number(
        "MaxXmitDataSegmentLength",
        512,
        MAX_SEGMENT_LENGTH,
        false,
        |p| &mut p.max_xmit_data_segment_length,
        "Longest data segment that the target sends, in bytes.",
    ),
    number(
        "MaxBurstLength",
        512,
        MAX_SEGMENT_LENGTH,
        false,
        |p| &mut p.max_burst_length,
        "Longest Data-In sequence or solicited Data-Out sequence, in bytes.",
    ),
    number(
        "FirstBurstLength",
        512,
        MAX_SEGMENT_LENGTH,
        false,
        |p| &mut p.first_burst_length,
        "Most unsolicited data per command, in bytes; at most MaxBurstLength counts.",
    ),
    fixed("DefaultTime2Wait", "0", "Seconds to wait before reconnecting."),
    fixed("DefaultTime2Retain", "0", "Seconds that tasks survive a lost connection."),
    number("MaxOutstandingR2T", 1, 65_535, false, |p| &mut p.max_outstanding_r2t, "Most R2Ts outstanding per command."),
    fixed("DataPDUInOrder", "Yes", "Data PDUs come in order of their offsets."),
    fixed("DataSequenceInOrder", "Yes", "Data sequences come in order of their offsets."),
    fixed("ErrorRecoveryLevel", "0", "Error recovery level."),
    digest(
        "HeaderDigest",
        |p| &mut p.header_digest,
        "Digests of headers: None, CRC32C, or both in order of preference.",
    ),
    digest("DataDigest", |p| &mut p.data_digest, "Digests of data: None, CRC32C, or both in order of preference."),
    fixed("OFMarker", "No", "Markers to the target."),
    fixed("IFMarker", "No", "Markers to the initiator."),
    number(
        "QueuedCommands",
        1,
        MAX_QUEUED_COMMANDS,
        false,
        |p| &mut p.queued_commands,
        "Commands that one session may have outstanding.",
    ),
    number(
        "RspTimeout",
        2,
        65_535,
        false,
        |p| &mut p.rsp_timeout,
        "Seconds until the connection of an initiator that owes data is dropped.",
    ),
    number(
        "NopInInterval",
        1,
        65_535,
        true,
        |p| &mut p.nop_in_interval,
        "Seconds of silence before the initiator is pinged; 0: never.",
    ),
    number(
        "NopInTimeout",
        2,
        65_535,
        false,
        |p| &mut p.nop_in_timeout,
        "Seconds until an unanswered ping ends the connection.",
    ),
    number("MaxSessions", 1, 65_535, true, |p| &mut p.max_sessions, "Most sessions of the target; 0: unlimited."),
];

/// Finds a row of [`PARAMETERS`]; the name's letter case counts.
pub fn parameter(name: &str) -> Option<&'static ParameterInfo> {
    PARAMETERS.iter().find(|row| row.name == name)
}

impl ParameterInfo {
    /// What a right value is, in words.
    pub fn expected(&self) -> String {
        match self.kind {
            ParameterKind::Boolean => "Yes or No".into(),
            ParameterKind::Number { min, max, zero: false } => format!("a number from {min} to {max}"),
            ParameterKind::Number { min, max, zero: true } => format!("0 or a number from {min} to {max}"),
            ParameterKind::Digest => "None, CRC32C or a list of both".into(),
            ParameterKind::Fixed(value) => format!("{value} (it cannot be changed)"),
        }
    }

    /// The value in `params`, as text.
    pub fn format(&self, params: &TargetParameters) -> String {
        // The accessors are written once, for `&mut`; the table is no data path.
        let mut params = params.clone();
        match self.field {
            Field::Bool(get) => if *get(&mut params) { "Yes" } else { "No" }.into(),
            Field::Number(get) => get(&mut params).to_string(),
            Field::Digest(get) => get(&mut params).as_str().into(),
            Field::Fixed => match self.kind {
                ParameterKind::Fixed(value) => value.into(),
                _ => String::new(),
            },
        }
    }

    /// Sets the value in `params`.
    ///
    /// # Errors
    /// [`ParameterError::Value`] when it does not parse or is out of range; `params` is unchanged then.
    pub fn parse_into(&self, params: &mut TargetParameters, value: &str) -> Result<(), ParameterError> {
        let trimmed = value.trim();
        let done = match (self.field, self.kind) {
            (Field::Bool(get), _) => parse_bool(trimmed).map(|v| *get(params) = v),
            (Field::Number(get), ParameterKind::Number { min, max, zero }) => trimmed
                .parse::<u32>()
                .ok()
                .filter(|v| (min..=max).contains(v) || (zero && *v == 0))
                .map(|v| *get(params) = v),
            (Field::Digest(get), _) => DigestPolicy::parse(trimmed).map(|v| *get(params) = v),
            (_, ParameterKind::Fixed(fixed)) => (trimmed == fixed).then_some(()),
            _ => None,
        };
        done.ok_or_else(|| ParameterError::Value { name: self.name, value: value.into(), expected: self.expected() })
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("yes") {
        Some(true)
    } else if text.eq_ignore_ascii_case("no") {
        Some(false)
    } else {
        None
    }
}

impl TargetParameters {
    /// Sets a parameter by name.
    ///
    /// # Errors
    /// When there is none of that name or the value is not usable.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ParameterError> {
        let row = parameter(name).ok_or_else(|| ParameterError::Unknown { name: name.into() })?;
        row.parse_into(self, value)
    }

    /// The value of a parameter as text.
    pub fn get(&self, name: &str) -> Option<String> {
        parameter(name).map(|row| row.format(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_original() {
        let params = TargetParameters::default();
        let shown: Vec<_> = PARAMETERS.iter().map(|row| (row.name, row.format(&params))).collect();
        let expected = [
            ("InitialR2T", "No"),
            ("ImmediateData", "Yes"),
            ("MaxConnections", "1"),
            ("MaxRecvDataSegmentLength", "1048576"),
            ("MaxXmitDataSegmentLength", "1048576"),
            ("MaxBurstLength", "1048576"),
            ("FirstBurstLength", "65536"),
            ("DefaultTime2Wait", "0"),
            ("DefaultTime2Retain", "0"),
            ("MaxOutstandingR2T", "32"),
            ("DataPDUInOrder", "Yes"),
            ("DataSequenceInOrder", "Yes"),
            ("ErrorRecoveryLevel", "0"),
            ("HeaderDigest", "None"),
            ("DataDigest", "None"),
            ("OFMarker", "No"),
            ("IFMarker", "No"),
            ("QueuedCommands", "32"),
            ("RspTimeout", "90"),
            ("NopInInterval", "30"),
            ("NopInTimeout", "30"),
            ("MaxSessions", "0"),
        ];
        assert_eq!(shown.len(), expected.len());
        for ((name, value), (want_name, want)) in shown.iter().zip(expected) {
            assert_eq!((*name, value.as_str()), (want_name, want));
        }
    }

    #[test]
    fn what_is_shown_can_be_set_again() {
        let mut params = TargetParameters::default();
        for row in PARAMETERS {
            let text = row.format(&params);
            row.parse_into(&mut params, &text).unwrap_or_else(|e| panic!("{}: {e}", row.name));
        }
        assert_eq!(params, TargetParameters::default());
    }

    #[test]
    fn ranges_are_enforced_and_named() {
        let mut params = TargetParameters::default();
        assert_eq!(
            params.set("QueuedCommands", "2049").map_err(|e| e.to_string()),
            Err("iSCSI target parameter QueuedCommands: value \"2049\" must be a number from 1 to 2048".into())
        );
        assert_eq!(
            params.set("MaxConnections", "2").map_err(|e| e.to_string()),
            Err("iSCSI target parameter MaxConnections: value \"2\" must be 1 (it cannot be changed)".into())
        );
        assert!(matches!(params.set("Queued", "1"), Err(ParameterError::Unknown { .. })));
        assert!(params.set("RspTimeout", "0").is_err());
        assert_eq!(params, TargetParameters::default());
        params.set("NopInInterval", "0").unwrap();
        params.set("HeaderDigest", "crc32c, none").unwrap();
        assert_eq!(params.nop_in_interval, 0);
        assert_eq!(params.get("HeaderDigest").as_deref(), Some("CRC32C,None"));
    }
}
