//! The whole driver in a simulated world: initiators of the test kit, the real protocol, the real mid-level, a disk.

mod chaos;
mod commands;
mod handler;
mod harness;
mod hostile;
mod lifecycle;
mod login;
mod real;
mod rest;
