//! From the first byte to the full feature phase (RFC 7143 6.3).
//!
//! `machine`: PDUs, stages, responses; `keys`: what the texts say; `refusal`: why a login is refused.

mod keys;
mod machine;
mod refusal;

use crate::chap::{ChapConfig, ChapEntropy};
use crate::error::CloseReason;
use crate::params::TargetParameters;

pub use machine::{LoginConnection, MAX_LOGIN_REQUESTS, MAX_LOGIN_SEGMENT};
pub use refusal::{Refusal, RefusalReason};

/// Initiator part of a session identifier (RFC 7143 11.12.5), six bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Isid(pub [u8; 6]);

/// `SessionType` key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SessionType {
    /// Only SendTargets.
    Discovery,
    /// SCSI.
    #[default]
    Normal,
}

impl SessionType {
    /// The value of the key.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discovery => "Discovery",
            Self::Normal => "Normal",
        }
    }
}

/// Status class and detail of a login response (RFC 7143 11.13.5), as `class << 8 | detail`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LoginStatus(pub u16);

impl LoginStatus {
    /// Success.
    pub const SUCCESS: Self = Self(0x0000);
    /// Target moved temporarily.
    pub const TARGET_MOVED_TEMPORARILY: Self = Self(0x0101);
    /// Target moved permanently.
    pub const TARGET_MOVED_PERMANENTLY: Self = Self(0x0102);
    /// Initiator error.
    pub const INITIATOR_ERROR: Self = Self(0x0200);
    /// Authentication failure.
    pub const AUTHENTICATION_FAILURE: Self = Self(0x0201);
    /// Authorization failure: the initiator may not use this target.
    pub const AUTHORIZATION_FAILURE: Self = Self(0x0202);
    /// Not found.
    pub const NOT_FOUND: Self = Self(0x0203);
    /// Target removed.
    pub const TARGET_REMOVED: Self = Self(0x0204);
    /// Unsupported version.
    pub const UNSUPPORTED_VERSION: Self = Self(0x0205);
    /// Too many connections.
    pub const TOO_MANY_CONNECTIONS: Self = Self(0x0206);
    /// Missing parameter.
    pub const MISSING_PARAMETER: Self = Self(0x0207);
    /// Can't include in session.
    pub const CANNOT_INCLUDE_IN_SESSION: Self = Self(0x0208);
    /// Session type not supported.
    pub const SESSION_TYPE_NOT_SUPPORTED: Self = Self(0x0209);
    /// Session does not exist.
    pub const SESSION_DOES_NOT_EXIST: Self = Self(0x020a);
    /// Invalid request type during login.
    pub const INVALID_DURING_LOGIN: Self = Self(0x020b);
    /// Target error.
    pub const TARGET_ERROR: Self = Self(0x0300);
    /// Service unavailable.
    pub const SERVICE_UNAVAILABLE: Self = Self(0x0301);
    /// Out of resources.
    pub const OUT_OF_RESOURCES: Self = Self(0x0302);
}

/// Who logs in to what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionIdentity {
    /// InitiatorName, normalised to lower case.
    pub initiator_name: String,
    /// InitiatorAlias, if given.
    pub initiator_alias: Option<String>,
    /// TargetName, normalised to lower case; always there in normal sessions.
    pub target_name: Option<String>,
    /// SessionType.
    pub session_type: SessionType,
    /// ISID.
    pub isid: Isid,
    /// TSIH of the request: 0 asks for a new session, another value for a new connection in that session.
    pub tsih: u16,
    /// Connection identifier.
    pub cid: u16,
}

/// What the login machine asks or reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LoginEvent {
    /// Who wants what; answer with `authorize`. With one connection per session, a request whose `tsih` is not 0 is
    /// refused: TOO_MANY_CONNECTIONS when the session is there, else SESSION_DOES_NOT_EXIST.
    Authorize(SessionIdentity),
    /// Authentication (if any) passed and the initiator wants the full feature phase. End an older session of the
    /// same initiator name, ISID and portal group first (session reinstatement, RFC 7143 6.3.5), choose a TSIH, then
    /// answer with `establish`.
    Establish(SessionIdentity),
    /// The last response has been handed over; call `into_full_feature`, bytes not consumed so far belong to it.
    FullFeature,
    /// Send what `poll_transmit` still has, then close.
    Close(CloseReason),
}

/// A driver's yes to `Authorize`.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Parameters of the target (for discovery: those of the discovery service).
    pub parameters: TargetParameters,
    /// Whom to authenticate; None: nobody.
    pub chap: Option<ChapConfig>,
    /// Fresh random bytes.
    pub entropy: ChapEntropy,
    /// TargetPortalGroupTag of the portal.
    pub portal_group_tag: u16,
    /// TargetAlias to declare.
    pub target_alias: Option<String>,
}
