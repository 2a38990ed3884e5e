//! Real Linux initiators against the real daemon, in a throw-away virtual machine.
//!
//! `cargo xtask vm` calls [`run()`]. It boots Debian's kernel under QEMU (software emulation is enough) with this
//! machine's own root file system below an overlay, so that open-iscsi, fio and the file system tools are those installed
//! here, and runs the [scenarios](scenario::all) one after another. A boot takes a few seconds.
//!
//! Key types: [`scenario::Scenario`] (what to run and where the target is), [`guest::Guest`] (one boot),
//! [`scstd::Scstd`] (the daemon on the host, also used by the conformance runner).
//!
//! It never installs anything (`cargo xtask setup` does) and never touches the host's own devices, network or sessions.

pub mod guest;
mod host;
mod initramfs;
mod kernel;
mod run;
pub mod scenario;
pub mod scstd;
mod shell;

pub use run::{Options, Outcome, Verdict, run};
