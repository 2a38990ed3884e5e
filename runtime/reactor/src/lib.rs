//! One loop per core. This crate owns system calls, clocks and threads; everything above hands it operations as data.
//!
//! * [`backend::Backend`]: sockets, files, time, sleep. Three implementations: [`uring::Uring`], [`posix::Posix`] and
//!   [`sim::SimBackend`]; all pass the same conformance tests (`tests/conformance.rs`).
//! * [`open`] picks one of the real ones by probing and logs why.
//! * [`storage`]: what the system says of a file or block device, for the control plane.
//! * [`lock`]: locks of open file descriptions, for the control plane.
//! * [`process`]: limits and processors of the process itself.
//! * [`mailbox`]: bounded channels into a reactor, from other reactors and from the control thread.
//!
//! Who calls it: a reactor's loop (`targets/*`, `apps/scstd`) owns one back-end and one
//! [`BufferPool`](scst_mem::BufferPool); device handlers see the [`IoQueue`](scst_core::io::IoQueue) half of it.
//!
//! What it never does: look into payload, allocate per operation in the steady state, or block anywhere but in
//! [`wait`](backend::Backend::wait).
#![deny(unsafe_op_in_unsafe_fn)]

pub mod backend;
mod by_command;
mod clock;
mod config;
mod doorbell;
mod file;
pub mod interfaces;
mod iovec;
pub mod lock;
pub mod mailbox;
mod net;
mod offload;
pub mod posix;
mod probe;
pub mod process;
pub mod sim;
mod slab;
mod spin;
pub mod storage;
mod sync;
pub mod uring;

pub use config::{BackendChoice, ReactorConfig};
pub use probe::{AnyBackend, OpenError, open};
pub use sync::SyncGate;
