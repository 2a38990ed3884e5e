//! One loop per core. This crate owns system calls, clocks and threads; everything above hands it operations as data.
//!
//! * [`backend::Backend`]: sockets, files, time, sleep; three implementations: `uring`, `posix`, `sim`.
#![allow(unsafe_code)]

pub mod backend;
