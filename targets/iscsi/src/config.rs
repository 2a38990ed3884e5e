//! The operator's settings, as one immutable snapshot. A new one applies to logins from then on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use scst_core::ids::TargetId;
use scst_protocol_iscsi::chap::{ChapConfig, ChapUser};
use scst_protocol_iscsi::params::TargetParameters;

/// Everything about iSCSI that is not the mid-level's business.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IscsiConfig {
    /// Per target; a target without a row has defaults and asks nobody for a password.
    pub targets: BTreeMap<TargetId, Arc<IscsiTargetConfig>>,
    /// For discovery sessions.
    pub discovery: DiscoveryConfig,
    /// Addresses that SendTargets lists besides the listeners' own: all that listeners on a wildcard address stand for
    /// ([`crate::portals_of`]).
    pub portals: Vec<SocketAddr>,
    /// List link-local IPv6 addresses in SendTargets answers (`link_local` of the original).
    pub link_local: bool,
}

impl Default for IscsiConfig {
    fn default() -> Self {
        Self { targets: BTreeMap::new(), discovery: DiscoveryConfig::default(), portals: Vec::new(), link_local: true }
    }
}

/// Credentials of discovery sessions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DiscoveryConfig {
    /// `IncomingUser` of the driver: who may ask. Empty: everybody.
    pub incoming: Vec<ChapUser>,
    /// `OutgoingUser` of the driver: how we prove who we are.
    pub outgoing: Option<ChapUser>,
}

/// One target.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IscsiTargetConfig {
    /// Negotiated parameters, window, timeouts.
    pub parameters: TargetParameters,
    /// `alias`.
    pub alias: Option<String>,
    /// `IncomingUser`: who may log in. Empty: everybody, without a password.
    pub incoming: Vec<ChapUser>,
    /// `OutgoingUser`: how we prove who we are.
    pub outgoing: Option<ChapUser>,
    /// `allowed_portal`: patterns of local addresses under which the target is seen. Empty: all.
    pub allowed_portals: Vec<String>,
    /// `redirect`: where the target has moved to.
    pub redirect: Option<Redirect>,
}

/// A target that is to be found elsewhere (RFC 7143 11.13.5, status class 1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redirect {
    /// `address[:port]`, IPv6 in brackets.
    pub address: String,
    /// For good, not for now.
    pub permanent: bool,
}

/// Users as the protocol wants them; None when nobody has to be asked.
pub(crate) fn chap(incoming: &[ChapUser], outgoing: Option<&ChapUser>) -> Option<ChapConfig> {
    (!incoming.is_empty()).then(|| ChapConfig { incoming: incoming.to_vec(), outgoing: outgoing.cloned() })
}
