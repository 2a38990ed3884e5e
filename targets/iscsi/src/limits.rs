//! Everything that is bounded, with the reason. Over a limit a peer gets a login status or is closed; nothing grows.

use scst_core::Nanos;

/// Connections of one reactor, of any state. An idle one is about 7 KiB, its session included.
pub const MAX_CONNECTIONS: usize = 8192;
/// Connections of one reactor beyond that, which only stay until their login is refused. When a newcomer finds this many,
/// the oldest of them is closed.
pub const MAX_REFUSING: usize = 16;
/// Buffers of one reactor for refusing logins when there is no memory: a refusal takes two.
pub const RESERVED_BUFFERS: usize = 4;
/// Memory of one reactor for the data of pings and texts, over what is always there for small ones. It is heap, and no part
/// of `--max-cmd-mem`.
pub const REQUEST_MEMORY: u64 = 4 << 20;
/// Connections of one reactor that have not reached the full-feature phase. When a newcomer finds this many, the oldest
/// of them is closed: a flood of silent connections cannot keep an initiator out, it only pushes itself out.
pub const MAX_PENDING_LOGINS: usize = 256;
/// Time from accept to the full-feature phase (the original's LOGIN_TIMEOUT is of this size).
pub const LOGIN_TIMEOUT: Nanos = Nanos::from_secs(15);
/// What the asynchronous logout request at shutdown gives an initiator (RFC 7143 11.9.2, Parameter3), seconds.
pub const SHUTDOWN_LOGOUT_SECONDS: u16 = 3;
/// When a connection whose initiator did not log out is closed.
pub const SHUTDOWN_LOGOUT_TIMEOUT: Nanos = Nanos::from_secs(SHUTDOWN_LOGOUT_SECONDS as u64);
/// Time for the data of an aborted command to come to an end, as in the original; then the connection is closed, so that
/// task management does not wait for a silent initiator.
pub const ABORT_DATA_TIMEOUT: Nanos = Nanos::from_secs(10);
/// Listeners of one reactor.
pub const MAX_LISTENERS: usize = 256;
/// Time that a connection may take to send its last PDU (a login reject, a logout response), and its initiator to close it
/// then, before it is cut.
pub const DRAIN_TIMEOUT: Nanos = Nanos::from_secs(5);
/// Read-ahead before login is complete; login PDUs are at most 8 KiB (RFC 7143 13.12).
pub const LOGIN_READ_AHEAD_BYTES: u32 = 4 << 10;
/// Read-ahead of a connection in the full-feature phase: headers of many PDUs and small payloads in one receive. It grows
/// with a receive that fills it, and shrinks when many in a row would have fitted the size before. The last holds what an
/// initiator sends at once at a depth of 32 and more: 132 KiB for WRITEs of 4 KiB.
pub const READ_AHEAD_SIZES: [u32; 3] = [LOGIN_READ_AHEAD_BYTES, 64 << 10, 256 << 10];
/// Bytes of read-ahead buffers that a connection may leave to commands whose data are in them; over it data are copied.
pub const MAX_LEFT_BYTES: u32 = 512 << 10;
/// Less room than this behind the data of commands is not worth a receive: the connection takes another buffer.
pub const MIN_ROOM: u32 = 8 << 10;
/// Data of fewer bytes are copied rather than lent: they would keep a whole buffer from being used again.
pub const LEND_MIN: u32 = 512;
/// Receives in a row that would have fitted the next smaller read-ahead before a connection goes back to it.
pub const SMALL_RECEIVES: u32 = 64;
/// Headers, sense data and texts of one send: 170 PDUs. Kept as long as the connection has commands, so that a
/// pool that is used up by commands can always be drained by sending; one that rests gets it when it sends.
pub const SEND_HEADER_BYTES: u32 = 8 << 10;
/// A connection without a command for so long, and at most twice that, gives back what it keeps only to be fast.
pub const REST_AFTER: Nanos = Nanos::from_secs(10);
/// Payload bytes that one send takes at most; keeps one connection from owning the link for long.
pub const SEND_PAYLOAD_BYTES: u32 = 4 << 20;
/// A payload with at least this many bytes missing is received straight into the command's buffer; a smaller rest is
/// cheaper to copy out of the read-ahead than to spend a receive of its own on.
pub const DIRECT_RECEIVE_MIN: u32 = 4096;
/// Pause after `accept` failed for want of file descriptors or memory.
pub const ACCEPT_RETRY: Nanos = Nanos::from_millis(100);
