//! What the drivers of different reactors tell each other, through the mailboxes of the loop.

use std::sync::Arc;

use scst_reactor::backend::DetachedSocket;

use crate::config::IscsiConfig;

/// A message for the driver of one reactor. Messages between two reactors keep their order.
#[derive(Debug)]
pub enum DriverMessage {
    /// A connection for this reactor.
    Connection(DetachedSocket),
    /// The session led by this connection is being reinstated: end it.
    CloseSession {
        /// [`crate::ConnectionHandle::id`].
        connection: u64,
    },
    /// The session that this login waited for is gone, its name is yours.
    SessionGranted {
        /// [`crate::ConnectionHandle::id`].
        connection: u64,
        /// The new session's handle.
        tsih: u16,
    },
    /// A later login has taken this login's place.
    LoginDisplaced {
        /// [`crate::ConnectionHandle::id`].
        connection: u64,
    },
    /// New settings.
    Configure(Arc<IscsiConfig>),
}
