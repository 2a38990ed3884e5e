//! The opcode table: one row per operation code and service action, one table per device type.
//!
//! The same rows parse CDBs (direction, length, range, flags) and answer REPORT SUPPORTED OPERATION CODES. A table
//! describes what the standards define; which part of it works is the device handler's to say, by a predicate.

mod descriptor;
mod optical;
mod report;
mod sbc;
mod spc;
mod ssc;
mod table;

pub use descriptor::{CommandDescriptor, DataLength, Field, Timeout};
pub use report::{SupportedTmfs, TmfTimeouts, encode_supported_opcodes, encode_supported_tmfs};
pub use table::{DISK, LookupError, OPTICAL, OpcodeTable, PRIMARY, TAPE, lookup};
