//! Signals become events of the control thread.

use std::io;
use std::process;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: write the statistics.
    Statistics,
    /// SIGTERM or SIGINT: end cleanly.
    Stop,
}

/// Exit status after a second SIGTERM or SIGINT, as a shell shows a process that SIGINT has ended.
const INTERRUPTED: i32 = 130;

/// Passes signals on from a thread of their own. A second request to stop ends the process at once, whatever the rest
/// of it is doing.
///
/// # Errors
/// The handlers cannot be installed, or the thread not be started.
pub fn forward(mut pass_on: impl FnMut(Signal) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGUSR1, SIGTERM, SIGINT])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut stopping = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP => pass_on(Signal::Reload),
                SIGUSR1 => pass_on(Signal::Statistics),
                _ if stopping => process::exit(INTERRUPTED),
                _ => {
                    stopping = true;
                    pass_on(Signal::Stop);
                }
            }
        }
    })?;
    Ok(())
}
