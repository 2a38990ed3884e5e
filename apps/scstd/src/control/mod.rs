//! The control thread: holds the applied configuration, changes it, stops the daemon.
//!
//! It is the only one that opens files and waits. Reactors get immutable snapshots and answer every request; an answer
//! that does not come within 10 s is logged and the rest goes on, so one stuck device never holds up the others.

mod apply;
mod lookout;
mod reactors;
pub mod reload;
mod snapshot;
mod statistics;
mod stop;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Result;
use scst_config::{Configuration, counted};
use scst_core::ids::{DeviceId, ReactorId};

use crate::disk::Disk;
use crate::notify;
use crate::reactor_loop::{Report, ReportKind, Request};
use crate::reactors::Reactors;
use crate::signals::Signal;
use crate::statistics::Snapshot;

use lookout::Lookout;
use snapshot::Numbers;

/// How long a reactor may take to answer a request of the control plane.
const ANSWER: Duration = Duration::from_secs(10);
/// How often disks are asked whether their file is there, missing files looked for, and the machine asked for its
/// addresses.
const LOOK: Duration = Duration::from_secs(1);

/// How often devices that could not be opened are tried again.
const RETRY: Duration = Duration::from_secs(2);

/// What the control thread waits for.
#[derive(Debug)]
pub enum Event {
    /// A signal.
    Signal(Signal),
    /// A reactor says something.
    Report(Report),
}

impl From<Report> for Event {
    fn from(report: Report) -> Self {
        Self::Report(report)
    }
}

/// Why the daemon ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It was asked to, and everything is on disk.
    Clean,
    /// A reactor broke, or something could not be flushed; the log says what.
    Broken,
}

/// A device that reactors know.
#[derive(Debug)]
struct OpenDevice {
    id: DeviceId,
    disk: Disk,
}

/// The control plane.
#[derive(Debug)]
pub struct Control {
    /// Where the configuration comes from; None for the embedded default.
    config_file: Option<PathBuf>,
    applied: Configuration,
    /// What was asked for last. Devices that could not be opened are here and not in `applied`.
    wanted: Configuration,
    /// Devices that could not be opened, each with the reason, which are tried again.
    unopened: BTreeMap<String, String>,
    /// The service manager has heard that the daemon is up.
    is_ready: bool,
    /// The status that the service manager has heard last.
    told: String,
    devices: BTreeMap<String, OpenDevice>,
    /// Devices on their way out: how many reactors still have something of them.
    leaving: BTreeMap<DeviceId, (Disk, usize)>,
    /// Devices whose storage does not answer, and on which reactor commands wait for it.
    stuck: BTreeSet<(DeviceId, ReactorId)>,
    lookout: Lookout,
    numbers: Numbers,
    reactors: Reactors,
    events: Receiver<Event>,
    /// Events that came while an answer was awaited.
    pending: VecDeque<Event>,
    next_ticket: u64,
    /// Addresses to listen on as soon as the driver is enabled.
    wanted_portals: Vec<SocketAddr>,
    /// Addresses in use.
    portals: Vec<SocketAddr>,
    /// Addresses of the machine, if some portal is on a wildcard address.
    addresses: Vec<SocketAddr>,
    /// Reactors whose loop has ended.
    ended: BTreeSet<ReactorId>,
    /// Where state is kept, if somebody has said so.
    state_dir: Option<PathBuf>,
    /// The identity of the machine, once a device has needed it.
    machine: Option<String>,
    /// Parts of statistics that came while they were asked for.
    counted: Vec<(ReactorId, Snapshot)>,
}

impl Control {
    /// A control plane over running reactors, with nothing configured.
    pub fn new(
        reactors: Reactors,
        events: Receiver<Event>,
        config_file: Option<PathBuf>,
        portals: Vec<SocketAddr>,
        state_dir: Option<PathBuf>,
    ) -> Self {
        Self {
            config_file,
            applied: Configuration::default(),
            wanted: Configuration::default(),
            unopened: BTreeMap::new(),
            is_ready: false,
            told: String::new(),
            devices: BTreeMap::new(),
            leaving: BTreeMap::new(),
            stuck: BTreeSet::new(),
            lookout: Lookout::default(),
            numbers: Numbers::default(),
            reactors,
            events,
            pending: VecDeque::new(),
            next_ticket: 0,
            wanted_portals: portals,
            portals: Vec::new(),
            addresses: Vec::new(),
            ended: BTreeSet::new(),
            state_dir,
            machine: None,
            counted: Vec::new(),
        }
    }

    /// Addresses in use.
    pub fn portals(&self) -> &[SocketAddr] {
        &self.portals
    }

    /// What is applied.
    pub fn applied(&self) -> &Configuration {
        &self.applied
    }

    /// Applies the first configuration. Devices that cannot be opened are left out, with an error in the log, and tried
    /// again. A request to stop that comes meanwhile is obeyed: [`Control::run`] ends at once then.
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub fn start(&mut self, configuration: &Configuration) -> Result<()> {
        let outcome = self.apply(configuration);
        for message in outcome.failed {
            tracing::error!("{message}");
        }
        outcome.listening?;
        self.announce();
        Ok(())
    }

    /// Tells the service manager that the daemon is up. While devices are configured and none of them is open there is
    /// nothing to serve, and only the status says what is missing.
    fn announce(&mut self) {
        self.is_ready |= !self.devices.is_empty() || self.unopened.is_empty();
        self.told = self.status();
        if self.is_ready && !self.is_stopping() {
            notify::ready(&self.told);
        } else {
            notify::status(&self.told);
        }
    }

    /// Tells the service manager what has changed since it heard of it last: files that went away or came back.
    fn tell_changes(&mut self) {
        let status = self.status();
        if status != self.told {
            notify::status(&status);
            self.told = status;
        }
    }

    /// Tells whether a request to stop is waiting to be obeyed.
    fn is_stopping(&self) -> bool {
        self.pending.iter().any(|event| matches!(event, Event::Signal(Signal::Stop)))
    }

    /// The devices that are configured and cannot serve: not open, or their file is not there. Each with the reason.
    pub fn unusable(&self) -> Vec<String> {
        let away = self.devices.iter().filter(|(_, open)| !open.disk.is_online());
        let away = away.map(|(name, open)| format!("device {name}: {} is away", open.disk.behind()));
        away.chain(self.unopened.values().cloned()).collect()
    }

    /// Serves until it is asked to stop.
    pub fn run(mut self) -> End {
        let watchdog = notify::watchdog_interval();
        let mut alive = Instant::now();
        let mut looked = Instant::now();
        let mut tried = Instant::now();
        loop {
            let until_watchdog = watchdog.map(|w| w.saturating_sub(alive.elapsed()));
            let looks = !self.devices.is_empty() || self.listens_on_a_wildcard();
            let until_look = looks.then(|| LOOK.saturating_sub(looked.elapsed()));
            let until_retry = (!self.unopened.is_empty()).then(|| RETRY.saturating_sub(tried.elapsed()));
            match self.next_event([until_watchdog, until_look, until_retry].into_iter().flatten().min()) {
                Some(Event::Signal(Signal::Stop)) => return self.stop(),
                Some(Event::Signal(Signal::Reload)) => self.reload(),
                Some(Event::Signal(Signal::Statistics)) => self.write_statistics(),
                Some(Event::Signal(Signal::Purge)) => self.purge_buffers(),
                Some(Event::Report(report)) => self.report(report),
                None => {}
            }
            if !self.ended.is_empty() {
                return self.stop();
            }
            if looked.elapsed() >= LOOK {
                self.look_for_files();
                self.look_for_addresses();
                self.tell_changes();
                looked = Instant::now();
            }
            if tried.elapsed() >= RETRY {
                self.retry_devices();
                tried = Instant::now();
            }
            if watchdog.is_some_and(|w| alive.elapsed() >= w) {
                alive = Instant::now();
                // A reactor that hangs must look like a daemon that hangs.
                if self.all_answer() {
                    notify::watchdog();
                }
            }
        }
    }

    /// The next event, at most after a time.
    fn next_event(&mut self, within: Option<Duration>) -> Option<Event> {
        if let Some(event) = self.pending.pop_front() {
            return Some(event);
        }
        self.receive(within)
    }

    fn receive(&self, within: Option<Duration>) -> Option<Event> {
        let received = match within {
            Some(within) => self.events.recv_timeout(within),
            None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            // Every sender is gone: the signal thread and all reactors. There is nothing left to serve.
            Err(RecvTimeoutError::Disconnected) => Some(Event::Signal(Signal::Stop)),
        }
    }

    /// SIGUSR2.
    fn purge_buffers(&mut self) {
        if self.ask_all("purge", || Request::PurgeBuffers) {
            tracing::info!("free command buffers go back to the system");
        }
    }

    /// A report that nobody is waiting for.
    fn report(&mut self, report: Report) {
        match report.kind {
            ReportKind::DeviceRemoved(device) => self.device_left(device),
            ReportKind::DeviceStuck { device, stuck } => self.device_stuck(report.reactor, device, stuck),
            ReportKind::Ended(result) => {
                if let Err(error) = result {
                    tracing::error!(reactor = report.reactor.0, "a reactor has failed: {error}; the daemon stops");
                }
                self.ended.insert(report.reactor);
            }
            // An answer that came too late, or the last initiator that left while stopping.
            ReportKind::Done { .. } | ReportKind::Statistics(_) | ReportKind::Idle => {}
        }
    }

    /// Tells once that the storage of a device does not answer, and once that it does again.
    fn device_stuck(&mut self, reactor: ReactorId, id: DeviceId, stuck: bool) {
        let was_stuck = self.stuck.iter().any(|(device, _)| *device == id);
        if stuck {
            self.stuck.insert((id, reactor));
        } else {
            self.stuck.remove(&(id, reactor));
        }
        let is_stuck = self.stuck.iter().any(|(device, _)| *device == id);
        let open = self.devices.values().find(|open| open.id == id).map(|open| &open.disk);
        let name = open.or_else(|| self.leaving.get(&id).map(|(disk, _)| disk)).map_or("?", Disk::name);
        match (was_stuck, is_stuck) {
            (false, true) => tracing::warn!(
                device = name,
                "the storage does not answer: commands whose session has ended are still under way; \
                 look at the file system and the device below"
            ),
            (true, false) => tracing::info!(device = name, "the storage answers again"),
            _ => {}
        }
    }

    fn device_left(&mut self, device: DeviceId) {
        let Some((_, reactors)) = self.leaving.get_mut(&device) else { return };
        *reactors -= 1;
        if *reactors > 0 {
            return;
        }
        self.numbers.forget_device(device);
        if let Some((disk, _)) = self.leaving.remove(&device)
            && let Err(error) = disk.flush()
        {
            tracing::error!("data may be lost: {error:#}");
        }
    }

    /// One line for the service manager.
    fn status(&self) -> String {
        let targets: usize = self.applied.drivers.values().map(|d| d.targets.len()).sum();
        let portals: Vec<String> = self.portals.iter().map(ToString::to_string).collect();
        let (devices, targets) = (counted(self.devices.len(), "device"), counted(targets, "target"));
        let mut status = format!("{devices}, {targets}, portals {}", portals.join(" "));
        let unusable = self.unusable();
        if !unusable.is_empty() {
            // The service manager shows one line.
            let reasons = unusable[..unusable.len().min(3)].join("; ");
            status += &format!("; {} not ready: {reasons}", counted(unusable.len(), "device"));
        }
        status
    }
}
