//! The end: initiators are asked to leave, commands end, everything is flushed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use scst_core::ids::ReactorId;

use super::{Control, End, Event};
use crate::notify;
use crate::reactor_loop::{ReportKind, Request};
use crate::signals::Signal;

/// How long initiators may take to leave. The driver cuts them off after its own, shorter time; the rest is for
/// commands that sit on a slow disk.
const DRAIN: Duration = Duration::from_secs(15);
/// How long a loop may take to end.
const LEAVE: Duration = Duration::from_secs(5);

impl Control {
    /// Stops everything.
    pub(super) fn stop(mut self) -> End {
        notify::stopping();
        tracing::info!("stopping: initiators are asked to log out");
        let mut clean = self.ended.is_empty();
        self.ask_all("stop", || Request::Shutdown);
        if !self.wait_until(DRAIN, |control, idle| control.running().iter().all(|r| idle.contains(r))) {
            tracing::warn!("initiators or commands are still there after {DRAIN:?}; they are cut off");
        }
        clean &= self.end_loops();
        // No write is under way any more.
        clean &= self.flush_all();
        if clean {
            tracing::info!("stopped; all data are on disk");
            End::Clean
        } else {
            End::Broken
        }
    }

    /// Ends without having served: nothing is to be saved.
    pub fn abandon(mut self) {
        self.end_loops();
    }

    /// Ends all loops. A loop that hangs is left behind; the process ends with it.
    fn end_loops(&mut self) -> bool {
        for reactor in self.running() {
            self.post(reactor, Request::End);
        }
        if self.wait_until(LEAVE, |control, _| control.running().is_empty()) {
            return self.reactors.join();
        }
        for reactor in self.running() {
            tracing::error!(reactor = reactor.0, "a reactor does not end within {LEAVE:?}");
        }
        false
    }

    fn flush_all(&self) -> bool {
        let open = self.devices.values().map(|d| &d.disk);
        let mut flushed = true;
        for disk in open.chain(self.leaving.values().map(|(disk, _)| disk)) {
            if let Err(error) = disk.flush() {
                tracing::error!("data may be lost: {error:#}");
                flushed = false;
            }
        }
        flushed
    }

    /// Takes events until a condition on the reactors that are idle holds. False when that takes too long.
    fn wait_until(&mut self, at_most: Duration, done: impl Fn(&Self, &BTreeSet<ReactorId>) -> bool) -> bool {
        let deadline = Instant::now() + at_most;
        let mut idle = BTreeSet::new();
        while !done(self, &idle) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next_event(Some(left)) {
                None => return false,
                Some(Event::Report(report)) => match report.kind {
                    ReportKind::Idle => drop(idle.insert(report.reactor)),
                    _ => self.report(report),
                },
                // A second request to stop ends the process elsewhere; a reload or a report is too late.
                Some(Event::Signal(Signal::Stop | Signal::Reload | Signal::Statistics)) => {}
            }
        }
        true
    }
}
