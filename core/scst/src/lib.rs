//! The SCSI target mid-level: everything that makes a shared logical unit correct.
//!
//! One [`engine`](crate) per reactor takes events and yields effects; it never calls a target driver or a device
//! handler, reads no clock and does no I/O. The plug-in seams are plain traits and values:
//!
//! * [`handler::HandlerShard`]: a device handler's half of one logical unit on one reactor.
//! * [`driver::TargetDriver`]: what the mid-level asks of a target driver (iSCSI, ...).
//! * [`io`]: storage operations as data; [`buffer`]: command buffers as data.
//! * [`ids`]: generation-checked names of commands, sessions, devices.
#![forbid(unsafe_code)]

pub mod buffer;
pub mod driver;
pub mod handler;
pub mod ids;
pub mod io;

/// Time in nanoseconds since an arbitrary start; a parameter everywhere, read from a clock only in `runtime/`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Nanos(pub u64);

impl Nanos {
    /// So many seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1_000_000_000)
    }

    /// So many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }

    /// This point in time plus a duration.
    #[must_use]
    pub const fn after(self, duration: Self) -> Self {
        Self(self.0.saturating_add(duration.0))
    }
}
