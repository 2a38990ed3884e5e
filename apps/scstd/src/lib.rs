//! The SCST daemon: reads `scst.conf`, opens devices, runs reactors, and changes all of it while it serves.
//!
//! * [`reactor_loop`]: the loop of one reactor, generic over the back-end; the simulator runs it too.
//! * [`reactors`]: one thread for each loop.
//! * [`control`]: the control thread, owner of the applied configuration: start, reload, stop.
//! * [`disk`]: a configured device as an open virtual disk.
//! * [`check`]: what `--check` finds around a configuration.
//! * [`statistics`]: the report that SIGUSR1 asks for.
//! * [`log_queue`]: log lines on their way to standard error.
//! * [`cli`], [`logging`], [`state`], [`identity`], [`signals`], [`notify`]: what a daemon needs around that.
//!
//! The control plane and the data plane share no lock: reactors get immutable snapshots by mail and answer by mail.
#![forbid(unsafe_code)]

pub mod check;
pub mod cli;
pub mod control;
pub mod disk;
pub mod identity;
pub mod log_queue;
pub mod logging;
pub mod notify;
pub mod reactor_loop;
pub mod reactors;
pub mod signals;
pub mod state;
pub mod statistics;
