//! The iSCSI target driver: one [`IscsiTarget`] per reactor joins three things that do not know each other.
//!
//! * [`scst_protocol_iscsi`]: what bytes mean and which bytes to send; it never sees a socket or a payload byte.
//! * [`scst_core::shard::Shard`]: commands, sessions, task management; it never sees a connection.
//! * [`scst_reactor::backend::Backend`] and [`scst_mem::BufferPool`]: sockets, time, memory.
//!
//! Who calls it: the loop of a reactor (and the simulator). A turn of that loop is
//!
//! 1. `completion` for every socket completion, `message` for the mailbox, `handle_timeout` when `poll_timeout` is due;
//! 2. `Shard::run`, which calls back through [`scst_core::driver::TargetDriver`]; a call-back only queues;
//! 3. `flush`: goes on with everything that was queued, sends once per connection, receives again. While it says
//!    true, the shard has something to do: `run` and `flush` once more;
//! 4. `poll_message` for what other reactors must hear.
//!
//! Key types:
//!
//! * [`IscsiTarget`]: listeners, connections, sessions of one reactor; each with one owner and named by slot and
//!   generation, so a late completion or message finds nothing instead of somebody else.
//! * [`Registry`]: the only thing that reactors share: which nexus exists where (session reinstatement, MaxSessions,
//!   TSIH), and whose turn it is to take a connection. Touched at login and logout, never for a command.
//! * [`IscsiConfig`]: the operator's settings as an immutable snapshot.
//!
//! Data path: a connection receives into a read-ahead buffer; as soon as the payload of a command is known to be longer
//! than what is there, the rest of it is received straight into the command's buffer, with the read-ahead behind it in
//! the same operation. Headers of many PDUs are gathered in one small buffer, payload is sent from where it lies; one
//! receive and one send are in flight per connection. A command is reported as sent when the send that carried its
//! last byte is complete.
//!
//! What it never does: block, wait, take a lock or allocate for a command, keep a buffer of a command that has ended,
//! hand a buffer back while the kernel may still write to it, or let a peer make it grow (see [`limits`]).
#![forbid(unsafe_code)]

mod complaint;
pub mod config;
mod connection;
mod digest;
mod driver;
mod ids;
pub mod limits;
mod listener;
mod login;
mod message;
mod parked;
mod portal;
mod receive;
mod registry;
mod reserve;
mod rest;
mod session;
mod slab;
mod starved;
mod target;
mod timers;
mod transmit;

pub use config::{DiscoveryConfig, IscsiConfig, IscsiTargetConfig, Redirect};
pub use message::DriverMessage;
pub use portal::portals_of;
pub use registry::{Claim, Claimant, ConnectionHandle, Registry, SessionKey};
pub use session::SessionInfo;
pub use target::{Entropy, IscsiTarget};
