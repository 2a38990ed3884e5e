//! Performance handlers: READ and WRITE are answered without touching a medium, everything else is as on a real device.
//! What they measure is everything but the device.
//!
//! The control plane makes a [`PerfDevice`] from a [`PerfConfig`] and asks it for one shard per reactor. A shard is a
//! [`Perf`] around a device; [`Perf`] takes any [`HandlerShard`](scst_core::handler::HandlerShard), so it goes around a
//! passed-through device as well, once there are some. The devices here are emulated, by `core/cmdset`: a disk, an
//! optical memory device and a tape. They have no data, but they have all the rest: the capacity with its checks, mode
//! pages, a medium that can be ejected, and on the tape the length of every block, the filemarks and the position.
//!
//! * [`Perf`], [`Accounting`]: the wrapper, and what it asks the device before it answers in its place.
//! * [`PerfConfig`], [`Kind`], [`ConfigError`]: attributes of a device, checked.
//! * [`PerfDevice`]: the control side.
//!
//! It never does I/O, and never shows an initiator what was in a buffer before it unless `strict_security` is off.
#![forbid(unsafe_code)]

mod block;
mod config;
mod control;
mod counters;
mod device;
mod tape;

mod wrapper;

pub use config::{ConfigError, Kind, PerfConfig};
pub use device::PerfDevice;
pub use wrapper::{Accounting, Perf, answer_blindly};

#[cfg(test)]
mod tests;
