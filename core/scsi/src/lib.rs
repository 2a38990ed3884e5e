//! T10 formats: the words and byte layouts of SAM, SPC, SBC and SSC.
//!
//! Called by every other crate. It parses and emits; it never does I/O, never reads a clock and never allocates on
//! behalf of a command. Unknown values stay representable: a code is a newtype over its byte, with named constants.
//!
//! * [`status`], [`task`]: SAM status codes, task attributes, task management functions.
//! * [`sense`]: sense keys, additional sense codes, [`SenseData`] in fixed and descriptor format.
//! * [`lun`]: logical unit numbers and their addressing methods. [`report_luns`]: lists of them.
//! * [`cdb`]: command descriptor blocks. [`flags`]: what the mid-level must know of a command.
//! * [`opcode`]: the table of commands, which parses CDBs and answers REPORT SUPPORTED OPERATION CODES.
//! * [`inquiry`], [`vpd`]: INQUIRY data. [`designator`], [`transport_id`]: names of units and ports.
//! * [`mode`], [`log`]: mode and log parameters.
//! * [`bytes`]: the big-endian writer and reader that all of these share.
//!
//! What has a parser and an emitter is a pair: one is the inverse of the other.
#![forbid(unsafe_code)]

mod asc;
pub mod bytes;
pub mod cdb;
pub mod designator;
pub mod flags;
pub mod inquiry;
pub mod log;
pub mod lun;
pub mod mode;
pub mod opcode;
pub mod report_luns;
pub mod sense;
pub mod status;
pub mod task;
pub mod transport_id;
pub mod vpd;

pub use cdb::Cdb;
pub use flags::{CommandFlags, DataDirection};
pub use inquiry::DeviceType;
pub use lun::Lun;
pub use sense::{Asc, SenseData, SenseKey};
pub use status::ScsiStatus;
pub use task::{TaskAttribute, TaskManagementFunction, TaskManagementResponse};
