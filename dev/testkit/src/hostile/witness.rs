//! A well-behaved initiator that works while others attack.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use crate::initiator::{Initiator, LoginConfig};
use crate::verify::{Progress, Workload, WorkloadOptions};

/// Commands between two reports of the witness.
const BATCH: u64 = 32;

/// What the witness saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WitnessReport {
    /// What it did, all of it verified.
    pub progress: Progress,
    /// The longest that a batch of 32 commands took.
    pub slowest_batch: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    report: Mutex<(WitnessReport, bool)>,
    changed: Condvar,
    stop: AtomicBool,
}

/// A verifying workload in a thread of its own.
#[derive(Debug)]
pub struct Witness {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Witness {
    /// Logs in and starts. The range of blocks in `options` holds zeros, or is written first if `initialise`.
    ///
    /// # Errors
    /// The login or the initialisation fails.
    pub fn start(portal: SocketAddr, login: LoginConfig, options: WorkloadOptions, initialise: bool) -> Result<Self> {
        let mut initiator = Initiator::connect(portal, login)?;
        initiator.clear_unit_attentions(options.lun)?;
        let mut workload = Workload::new(options);
        if initialise {
            workload.initialise(&mut initiator)?;
        }
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let result = witness(&theirs, &mut workload, &mut initiator);
            theirs.report.lock().map_err(|_| anyhow!("poisoned"))?.1 = true;
            theirs.changed.notify_all();
            result
        });
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What it saw so far.
    pub fn report(&self) -> WitnessReport {
        self.shared.report.lock().map(|report| report.0).unwrap_or_default()
    }

    /// Waits until so many more commands are done and verified.
    ///
    /// # Errors
    /// The witness failed, or does not get on within `patience`.
    pub fn wait_progress(&self, commands: u64, patience: Duration) -> Result<WitnessReport> {
        let done = |report: &WitnessReport| report.progress.reads + report.progress.writes;
        let guard = self.shared.report.lock().map_err(|_| anyhow!("poisoned"))?;
        let goal = done(&guard.0) + commands;
        let (guard, timeout) = self
            .shared
            .changed
            .wait_timeout_while(guard, patience, |(report, ended)| done(report) < goal && !*ended)
            .map_err(|_| anyhow!("poisoned"))?;
        if done(&guard.0) >= goal {
            Ok(guard.0)
        } else if timeout.timed_out() {
            bail!("no {commands} commands in {patience:?}: {:?}", guard.0);
        } else {
            bail!("the witness has ended: {:?}", guard.0);
        }
    }

    /// Ends it: all that was written is read once more.
    ///
    /// # Errors
    /// What it found wrong.
    pub fn stop(mut self) -> Result<WitnessReport> {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| anyhow!("the witness panicked"))??;
        }
        Ok(self.report())
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn witness(shared: &Shared, workload: &mut Workload, initiator: &mut Initiator) -> Result<()> {
    while !shared.stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        workload.run(initiator, BATCH)?;
        let took = start.elapsed();
        let mut guard = shared.report.lock().map_err(|_| anyhow!("poisoned"))?;
        guard.0.progress = workload.progress();
        guard.0.slowest_batch = guard.0.slowest_batch.max(took);
        drop(guard);
        shared.changed.notify_all();
    }
    workload.verify_all(initiator)?;
    Ok(())
}
