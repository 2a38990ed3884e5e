//! Why a connection ends, as data: what was sent was no iSCSI, broke the rules, came too late, or we refuse.

use core::fmt;

use crate::login::RefusalReason;

/// Bytes that cannot be an iSCSI PDU: nothing after them can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Garbage {
    /// The header digest is wrong (RFC 7143 7.8): at error recovery level 0 the connection ends.
    HeaderDigest,
    /// The data segment is longer than we declared to accept.
    DataSegmentTooLong,
    /// An opcode that no initiator sends, before login is complete.
    Opcode(u8),
    /// A text segment that is not `key=value` pairs.
    Text,
}

/// A PDU that is well formed but not allowed now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misbehavior {
    /// A login request in the full feature phase (RFC 7143 6.3).
    LoginInFullFeature,
    /// A PDU other than login before the full feature phase (RFC 7143 6.3).
    NotLogin(u8),
    /// A login request that contradicts the previous one (stage, ISID, CmdSN, ...).
    LoginSequence,
    /// A PDU after a logout request.
    AfterLogout,
}

/// What took too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeoutKind {
    /// The login phase.
    Login,
    /// The answer to our NOP-In (`NopInTimeout`).
    NopIn,
    /// Data for an R2T, or the peer does not take what we send (`RspTimeout`).
    Response,
    /// A logout that we asked for did not come.
    LogoutRequest,
    /// The data of a ping or a text did not come to their end.
    Request,
}

/// Why a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// The peer sent garbage.
    Garbage(Garbage),
    /// The peer broke a rule.
    Misbehaved(Misbehavior),
    /// The peer was too slow.
    Timeout(TimeoutKind),
    /// We refused the login; its status is on the wire.
    Refused(RefusalReason),
    /// A logout is complete.
    LoggedOut,
    /// The driver asked for it.
    Requested,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Garbage(Garbage::HeaderDigest) => f.write_str("header digest error"),
            Self::Garbage(Garbage::DataSegmentTooLong) => f.write_str("data segment longer than declared"),
            Self::Garbage(Garbage::Opcode(op)) => write!(f, "opcode {op:#04x} is not of an initiator"),
            Self::Garbage(Garbage::Text) => f.write_str("malformed text"),
            Self::Misbehaved(Misbehavior::LoginInFullFeature) => f.write_str("login in full feature phase"),
            Self::Misbehaved(Misbehavior::NotLogin(op)) => write!(f, "opcode {op:#04x} before login"),
            Self::Misbehaved(Misbehavior::LoginSequence) => f.write_str("login requests contradict each other"),
            Self::Misbehaved(Misbehavior::AfterLogout) => f.write_str("PDU after logout"),
            Self::Timeout(TimeoutKind::Login) => f.write_str("login took too long"),
            Self::Timeout(TimeoutKind::NopIn) => f.write_str("no answer to NOP-In"),
            Self::Timeout(TimeoutKind::Response) => f.write_str("no response from the initiator"),
            Self::Timeout(TimeoutKind::LogoutRequest) => f.write_str("requested logout did not come"),
            Self::Timeout(TimeoutKind::Request) => f.write_str("the data of a NOP-Out or text request took too long"),
            Self::Refused(reason) => write!(f, "login refused: {reason}"),
            Self::LoggedOut => f.write_str("logged out"),
            Self::Requested => f.write_str("closed by the target"),
        }
    }
}

/// An operator's value for a target parameter is not usable.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParameterError {
    /// No such parameter.
    #[error("iSCSI target parameter {name} does not exist")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The value does not parse or is outside the range.
    #[error("iSCSI target parameter {name}: value {value:?} must be {expected}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        expected: String,
    },
}
