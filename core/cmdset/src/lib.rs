//! SPC, SBC and SSC command sets for virtual disks, optical memory devices and tapes, without I/O.
//!
//! Called by the device handlers that emulate a device (`handlers/vdisk`, `handlers/perf`). A handler parses a CDB with [`parse()`] into a [`DiskCommand`], admits it with [`ParsedCommand::admit`] when it starts, and either
//! moves data itself (READ, WRITE, ...) or lets this crate build the answer into a scratch buffer (everything else).
//!
//! It never does I/O, keeps no state of its own besides values the handler holds ([`ModePages`]), never allocates, and
//! knows neither nexus nor task set: reservations, unit attentions and task management are the mid-level's.
//!
//! * [`DiskParameters`], [`DiskState`]: what the disk is; identity is immutable, what can change is passed per call.
//! * [`parse()`], [`command`], [`validate`]: CDB to typed command, with the exact sense data for a bad one.
//! * [`inquiry`], [`mode`], [`log`], [`capacity`], [`opcodes`], [`lba_status`]: answers; [`Answers`] picks
//!   the right one.
//! * [`unmap`], [`write_same`], [`medium`], [`ModePages::select`]: what is to be done with a parameter list or medium.
//! * [`ssc`]: the same for tapes.
#![forbid(unsafe_code)]

mod answer;
pub mod capacity;
pub mod command;
pub mod inquiry;
pub mod lba_status;
pub mod log;
pub mod medium;
pub mod mode;
mod mode_select;
pub mod opcodes;
pub mod params;
mod parse;
pub mod ssc;
pub mod unmap;
pub mod validate;
mod vpd;
pub mod write_same;

pub use answer::Answers;
pub use command::{BlockRange, DiskCommand, ParsedCommand};
pub use mode::{ModePages, ModeValues};
pub use mode_select::ModeChange;
pub use params::{DiskParameters, DiskState, Geometry, PortIdentity, Provisioning};
pub use parse::{parse, plain_transfer};
