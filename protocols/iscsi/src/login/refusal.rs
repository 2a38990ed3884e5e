//! Why a login is refused: words for the log, a status for the initiator.

use core::fmt;

use crate::chap::ChapError;
use crate::negotiate::NegotiationError;
use crate::text::TextError;

use super::LoginStatus;

/// Why a login is refused. It never holds a secret, nor anything else that the initiator chose.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RefusalReason {
    /// A text is not `key=value` pairs, or a part of it is too long.
    Malformed,
    /// A login request is longer than login allows, or there are too many of them.
    TooMuch,
    /// Stages, bits or identifiers of the requests contradict the RFC or each other.
    Sequence,
    /// The initiator speaks no version of the protocol that we speak.
    Version,
    /// InitiatorName is missing, or TargetName in a normal session.
    NameMissing,
    /// A name is no iSCSI name.
    Name,
    /// A session type that does not exist.
    SessionType,
    /// A key came twice, or a name changed.
    Repeated,
    /// A key came in a stage that it does not belong to.
    Stage,
    /// CHAP is asked for and the initiator does not offer it, or goes on without it.
    ChapRequired,
    /// The initiator insists on an authentication that nothing is configured for.
    NoMethod,
    /// CHAP failed.
    Chap(ChapError),
    /// A key could not be agreed on.
    Negotiation(NegotiationError),
    /// There is no target of that name.
    NoTarget,
    /// The target is not enabled.
    Disabled,
    /// The initiator has no LUN in the target.
    NotAllowed,
    /// The target is not shown on the portal.
    PortalNotAllowed,
    /// The target is elsewhere for now.
    MovedTemporarily,
    /// The target is elsewhere for good.
    MovedPermanently,
    /// The target went away during the login.
    TargetRemoved,
    /// MaxSessions of the target is reached.
    MaxSessions,
    /// The session that the login wants to join does not exist.
    NoSuchSession,
    /// The session that the login wants to join has its one connection.
    NoMoreConnections,
    /// There is no memory for the connection.
    NoMemory,
    /// There are as many connections as there is room for.
    TooManyConnections,
    /// There is no room for one more session.
    NoSessionSlot,
    /// The system gives no random bytes.
    NoEntropy,
    /// The daemon stops.
    Stopping,
    /// An answer was asked for in a state that has none. A bug of ours.
    Internal,
}

impl RefusalReason {
    /// What the initiator is told (RFC 7143 11.13.5).
    pub fn status(self) -> LoginStatus {
        match self {
            Self::Malformed
            | Self::TooMuch
            | Self::Sequence
            | Self::Name
            | Self::Repeated
            | Self::Stage
            | Self::Negotiation(_) => LoginStatus::INITIATOR_ERROR,
            Self::Version => LoginStatus::UNSUPPORTED_VERSION,
            Self::NameMissing => LoginStatus::MISSING_PARAMETER,
            Self::SessionType => LoginStatus::SESSION_TYPE_NOT_SUPPORTED,
            Self::ChapRequired | Self::NoMethod | Self::Chap(_) => LoginStatus::AUTHENTICATION_FAILURE,
            // A stranger is not told what there is.
            Self::NoTarget | Self::Disabled | Self::NotAllowed | Self::PortalNotAllowed => LoginStatus::NOT_FOUND,
            Self::MovedTemporarily => LoginStatus::TARGET_MOVED_TEMPORARILY,
            Self::MovedPermanently => LoginStatus::TARGET_MOVED_PERMANENTLY,
            Self::TargetRemoved => LoginStatus::TARGET_REMOVED,
            Self::NoSuchSession => LoginStatus::SESSION_DOES_NOT_EXIST,
            Self::NoMoreConnections => LoginStatus::TOO_MANY_CONNECTIONS,
            Self::MaxSessions | Self::NoMemory | Self::TooManyConnections | Self::NoSessionSlot => {
                LoginStatus::OUT_OF_RESOURCES
            }
            Self::Stopping => LoginStatus::SERVICE_UNAVAILABLE,
            Self::NoEntropy | Self::Internal => LoginStatus::TARGET_ERROR,
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "a malformed login text",
            Self::TooMuch => "too many login requests, or too long ones",
            Self::Sequence => "stages, bits or identifiers of the login requests are wrong or contradict each other",
            Self::Version => "an unknown version of the protocol",
            Self::NameMissing => "InitiatorName or TargetName is missing",
            Self::Name => "a name that is no iSCSI name",
            Self::SessionType => "an unknown SessionType",
            Self::Repeated => "a key came twice or a name changed",
            Self::Stage => "a key in a stage that it does not belong to",
            Self::ChapRequired => "CHAP is required and the initiator does not offer it",
            Self::NoMethod => "the initiator insists on authentication and there is no IncomingUser",
            Self::Chap(error) => return error.fmt(f),
            Self::Negotiation(error) => return error.fmt(f),
            Self::NoTarget => "there is no such target",
            Self::Disabled => "the target is not enabled",
            Self::NotAllowed => "the initiator has no LUN in the target",
            Self::PortalNotAllowed => "allowed_portal does not show the target on this portal",
            Self::MovedTemporarily | Self::MovedPermanently => "the target has moved, the initiator is told where to",
            Self::TargetRemoved => "the target was removed during the login",
            Self::MaxSessions => "MaxSessions of the target is reached",
            Self::NoSuchSession => "the session to join does not exist",
            Self::NoMoreConnections => "the session to join has its one connection",
            Self::NoMemory => "no memory for the connection; raise --max-cmd-mem",
            Self::TooManyConnections => "there are too many connections; raise the limit of open files",
            Self::NoSessionSlot => "there is no room for one more session",
            Self::NoEntropy => "the system gives no random bytes",
            Self::Stopping => "the daemon stops",
            Self::Internal => "an internal error",
        })
    }
}

impl From<TextError> for RefusalReason {
    fn from(_: TextError) -> Self {
        Self::Malformed
    }
}

impl From<ChapError> for RefusalReason {
    fn from(error: ChapError) -> Self {
        Self::Chap(error)
    }
}

impl From<NegotiationError> for RefusalReason {
    fn from(error: NegotiationError) -> Self {
        Self::Negotiation(error)
    }
}

/// A refusal, as the driver or the machine has decided it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// TargetAddress of a moved target (`address[:port][,tag]`).
    pub address: Option<String>,
}

impl From<RefusalReason> for Refusal {
    fn from(reason: RefusalReason) -> Self {
        Self { reason, address: None }
    }
}
