//! T10 formats: the words and byte layouts of SAM, SPC and SBC.
//!
//! Called by every other crate. It parses and emits; it never does I/O, never reads a clock and never allocates on
//! behalf of a command. Unknown values stay representable: a code is a newtype over its byte, with named constants.
//!
//! * [`status`], [`task`]: SAM status codes, task attributes, task management functions.
//! * [`sense`]: sense keys, additional sense codes, [`SenseData`] in fixed and descriptor format.
//! * [`lun`]: logical unit numbers and their addressing methods.
//! * [`cdb`]: command descriptor blocks. [`flags`]: what the mid-level must know of a command.
#![forbid(unsafe_code)]

mod asc;
pub mod bytes;
pub mod cdb;
pub mod flags;
pub mod lun;
pub mod sense;
pub mod status;
pub mod task;

pub use cdb::Cdb;
pub use flags::{CommandFlags, DataDirection};
pub use lun::Lun;
pub use sense::{Asc, SenseData, SenseKey};
pub use status::ScsiStatus;
pub use task::{TaskAttribute, TaskManagementFunction, TaskManagementResponse};
