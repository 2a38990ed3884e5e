//! Deterministic simulation of the whole daemon, with faults and checkers.
//!
//! One thread, virtual time: the real reactor loops, driver, mid-level and virtual disks of `scstd` on the simulated
//! back-end of `runtime/reactor`, and simulated initiators around the core of `dev/testkit`. A seed decides everything:
//! the installation, the load, what goes wrong and when ([`plan`]).
//!
//! * [`run::run`]: plays a seed. The binary `scst-sim` plays many and prints the seeds that fail.
//! * [`client`], [`op`]: initiators, their commands, and the judgement of each answer.
//! * [`medium`]: what a read may return. [`stranger`]: connections that are no initiators.
//! * [`daemon`], [`control`]: the daemon under test and its control plane.
//!
//! What is checked: every command ends once, or its session does; sectors are linearizable registers; nothing changes
//! after the answer to an abort, a logout or a reinstatement; what was flushed survives a loss of power; ORDERED
//! commands stay in order; sequence numbers and windows (by the test kit); no command, session, buffer or operation is
//! left when initiators are gone; everything ends within bounded virtual time.
#![forbid(unsafe_code)]

pub mod client;
pub mod content;
pub mod control;
pub mod daemon;
pub mod medium;
pub mod op;
pub mod plan;
pub mod run;
pub mod scene;
pub mod stranger;
