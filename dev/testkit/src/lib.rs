//! An iSCSI initiator for tests, and helpers that integration tests, the simulator and the benchmark share.
//!
//! Independent of `protocols/iscsi` and `core/scsi` on purpose: what both sides get wrong in the same way, no test
//! finds. Nothing but test and development crates depends on it.
//!
//! * [`initiator::Core`]: sans-IO; [`initiator::Initiator`]: the same around a blocking socket. Both check all that
//!   the target sends.
//! * [`scsi`]: CDB builders, parameter lists, sense. [`pdu`], [`text`], [`chap`]: the wire.
//! * [`allocations`]: counts them. [`loop_device`]: block devices. [`held_file`]: a file on storage that answers when the
//!   test wants. [`locked_pages`]: what stays in the page cache. The only unsafe code here.
//! * [`process`]: starts, stops and kills a target process and waits for its portal.
//! * [`hostile`]: connections that misbehave in every way, and what a target made of them.
//! * [`verify`]: a disk's history; finds lost, stale and torn writes, also across a crash.
//!
//! It never panics on what a target sends: that is an event or an error for the test to judge.
#![deny(unsafe_code)]

pub mod allocations;
pub mod chap;
pub mod held_file;
pub mod hostile;
pub mod initiator;
pub mod locked_pages;
pub mod loop_device;
pub mod pdu;
pub mod process;
pub mod rng;
pub mod scsi;
pub mod text;
pub mod verify;

pub use held_file::{Failure, HeldFile, Hold, Requests};
pub use initiator::{Command, Error, Initiator, LoginConfig, Outcome};
pub use locked_pages::LockedPages;
pub use loop_device::LoopDevice;
pub use process::{Scstd, ScstdOptions, free_portal};
