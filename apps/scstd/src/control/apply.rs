//! Applying a difference: devices first, then one snapshot for each target, then what goes.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use scst_config::difference::Change;
use scst_config::{Configuration, Device, difference};
use scst_core::Nanos;
use scst_core::ids::{DeviceId, ReactorId};
use scst_reactor::interfaces::interface_addresses;
use scst_scsi::Asc;
use scst_target_iscsi::portals_of;

use super::reactors::Asked;
use super::snapshot::driver_is_enabled;
use super::{Control, OpenDevice};
use crate::disk::Disk;
use crate::reactor_loop::Request;
use crate::{identity, state};

/// How long an address may be in use before that is an error.
const LISTEN_PATIENCE: Duration = Duration::from_secs(5);
/// The time between two tries.
const LISTEN_RETRY: Duration = Duration::from_millis(50);

const ADD_DEVICE: &str = "add a device";
const ANNOUNCE: &str = "announce what is different";
const REMOVE_DEVICE: &str = "remove a device";

/// What became of a difference.
pub(super) struct Outcome {
    /// What was done, for the log.
    pub(super) done: Vec<String>,
    /// What could not be done; the old state of that object stays.
    pub(super) failed: Vec<String>,
    /// Whether all wanted addresses are listened on.
    pub(super) listening: Result<()>,
}

impl Control {
    /// Takes all steps from what is applied to `wanted`. Each object changes wholly or not at all.
    pub(super) fn apply(&mut self, wanted: &Configuration) -> Outcome {
        let mut outcome = Outcome { done: Vec::new(), failed: Vec::new(), listening: Ok(()) };
        let mut touched = BTreeSet::new();
        let mut replaced = Vec::new();
        let mut asked = Asked::default();
        let changes = difference(&self.applied, wanted);
        self.wanted = wanted.clone();
        self.unopened.clear();
        let going: Vec<&String> = changes
            .iter()
            .filter_map(|change| match change {
                Change::RemoveDevice { name } | Change::ReplaceDevice { name, .. } => Some(name),
                _ => None,
            })
            .collect();
        // The new opens before the old goes, perhaps under another name.
        self.yield_files(&going, true);
        let mut kept = Vec::new();
        // A target waits for its devices; so the steps of each object come from the whole list, in phases.
        for change in &changes {
            match self.device_step(change, &mut replaced, &mut asked) {
                Ok(()) => {}
                Err(error) => {
                    if let Change::AddDevice { name, .. } | Change::ReplaceDevice { name, .. } = change {
                        kept.push(name);
                        self.unopened.insert(name.clone(), format!("{error:#}"));
                    }
                    outcome.failed.push(format!("{change}: {error:#}"));
                    continue;
                }
            }
            match change {
                Change::AddDevice { name, .. } | Change::ReplaceDevice { name, .. } => {
                    self.users_of(name, wanted, &mut touched)
                }
                Change::AddTarget { name, .. } | Change::Target { name, .. } => drop(touched.insert(name.clone())),
                Change::SetDriver { driver, name: "enabled", .. } => {
                    let targets = wanted.drivers.get(driver).into_iter().flat_map(|d| d.targets.keys());
                    touched.extend(targets.cloned());
                }
                _ => {}
            }
            self.applied.apply(change);
            if let Change::SetGlobal { name: "measure_latency", .. } = change {
                let on = self.applied.globals.flag("measure_latency");
                self.ask_all("measure latencies", || Request::MeasureLatency(on));
            }
            outcome.done.push(format!("{change}{}", self.left_out(change)));
        }
        self.yield_files(&kept, false);
        self.await_all(asked, ADD_DEVICE);
        touched.extend(self.numbers.displaced(&self.applied));
        self.settings(&mut outcome);
        for name in touched {
            self.send_target(&name, &mut outcome);
        }
        self.announce_replaced(&replaced);
        let gone = changes.iter().filter_map(|c| match c {
            Change::RemoveTarget { name, .. } => Some(name),
            _ => None,
        });
        for name in gone {
            if let Some(id) = self.numbers.forget_target(name) {
                self.ask_all("remove a target", || Request::RemoveTarget(id));
            }
        }
        let mut asked = Asked::default();
        for device in replaced {
            self.retire(device, &mut asked);
        }
        self.await_all(asked, REMOVE_DEVICE);
        outcome.listening = self.listen();
        outcome
    }

    /// Tells the initiators what is different of a device that has taken the place of another, beside the reset that it is for
    /// them: they have nexuses with the new one now.
    fn announce_replaced(&mut self, replaced: &[OpenDevice]) {
        let differences = |old: &OpenDevice| {
            let new = self.devices.get(old.disk.name())?;
            Some((new.id, new.disk.differences_from(&old.disk)))
        };
        let news: Vec<_> = replaced.iter().filter_map(differences).collect();
        let mut asked = Asked::default();
        for (device, differences) in news {
            for asc in differences {
                self.ask_ahead(&mut asked, ANNOUNCE, || Request::Attention { device, asc });
            }
        }
        self.await_all(asked, ANNOUNCE);
    }

    /// Lets other devices use the files of these, or takes that back.
    fn yield_files(&self, names: &[&String], yields: bool) {
        for open in names.iter().filter_map(|name| self.devices.get(*name)) {
            open.disk.set_yields(yields);
        }
    }

    /// What a step of a target does not bring yet, for the log.
    fn left_out(&self, change: &Change) -> String {
        let closed: Vec<&str> =
            change.devices().into_iter().filter(|device| !self.devices.contains_key(*device)).collect();
        if closed.is_empty() { String::new() } else { format!("; not shown before it is open: {}", closed.join(", ")) }
    }

    /// Tries devices again that could not be opened, and applies what was wanted as soon as one can.
    pub(super) fn retry_devices(&mut self) {
        if self.unopened.is_empty() {
            return;
        }
        let instance = self.instance();
        let opens = |name: &String| {
            let device = self.wanted.devices.get(name)?;
            Disk::open(name, device, &instance, self.reactors.count()).ok()
        };
        if !self.unopened.keys().any(|name| opens(name).is_some()) {
            return;
        }
        let outcome = self.apply(&self.wanted.clone());
        for done in &outcome.done {
            tracing::info!("tried again: {done}");
        }
        for failed in &outcome.failed {
            tracing::error!("tried again: {failed}");
        }
        if let Err(error) = outcome.listening {
            tracing::error!("{error:#}");
        }
        self.announce();
    }

    /// Opens what must be opened. What a replaced or removed device leaves behind goes to `replaced`: its LUNs are
    /// still mapped until the targets have their new snapshots.
    fn device_step(&mut self, change: &Change, replaced: &mut Vec<OpenDevice>, asked: &mut Asked) -> Result<()> {
        match change {
            Change::AddDevice { name, device } | Change::ReplaceDevice { name, device, .. } => {
                let opened = self.open(name, device, asked)?;
                replaced.extend(self.devices.insert(name.clone(), opened));
            }
            Change::SetGlobal { name: "poll_us", values } => {
                let limit = Nanos::from_micros(values.number("poll_us").unwrap_or(0));
                self.ask_all("set how long to poll", || Request::Poll(limit));
            }
            Change::RemoveDevice { name } => replaced.extend(self.devices.remove(name)),
            _ => {}
        }
        Ok(())
    }

    /// Opens a device and makes it known to every reactor.
    fn open(&mut self, name: &str, device: &Device, asked: &mut Asked) -> Result<OpenDevice> {
        let disk = Disk::open(name, device, &self.instance(), self.reactors.count())?;
        let id = self.numbers.device().context("there are as many devices as there can be")?;
        let source = disk.source();
        self.ask_ahead(asked, ADD_DEVICE, || Request::AddDevice { id, device: Arc::clone(&source) });
        Ok(OpenDevice { id, disk })
    }

    /// What tells this installation from others in default identifiers.
    fn instance(&mut self) -> String {
        if let Some(id) = identity::chosen(&self.applied.globals) {
            return id;
        }
        let state = self.state_dir.as_deref();
        let find = || identity::of_machine(Path::new(identity::MACHINE_ID), &state::directory(state)?);
        let found = || {
            find().unwrap_or_else(|error| {
                tracing::warn!(
                    "this machine has no identity, and none can be made: {error:#}; default identifiers follow from the \
                     names of devices alone, and another machine can have the same: set setup_id"
                );
                String::new()
            })
        };
        self.machine.get_or_insert_with(found).clone()
    }

    /// A device that no target maps any more: it goes when its last command has ended.
    fn retire(&mut self, device: OpenDevice, asked: &mut Asked) {
        let id = device.id;
        self.leaving.insert(id, (device.disk, usize::from(self.reactors.count())));
        self.ask_ahead(asked, REMOVE_DEVICE, || Request::RemoveDevice(id));
    }

    /// Targets that map a device.
    fn users_of(&self, device: &str, wanted: &Configuration, out: &mut BTreeSet<String>) {
        for (name, target) in wanted.drivers.values().flat_map(|d| &d.targets) {
            if target.all_luns().any(|lun| lun.device == device) {
                out.insert(name.clone());
            }
        }
    }

    /// Settings of the iSCSI driver come before the targets they are for.
    fn settings(&mut self, outcome: &mut Outcome) {
        match self.numbers.iscsi_config(&self.applied) {
            Ok(mut config) => {
                config.portals = self.portals.iter().flat_map(|one| portals_of(*one, &self.addresses)).collect();
                let config = Arc::new(config);
                self.ask_all("configure iSCSI", || Request::Configure(Arc::clone(&config)));
            }
            Err(error) => outcome.failed.push(format!("iSCSI settings: {error:#}")),
        }
    }

    fn send_target(&mut self, name: &str, outcome: &mut Outcome) {
        let Some(target) = self.applied.drivers.values().find_map(|d| d.targets.get(name)) else { return };
        let missing: BTreeSet<&String> =
            target.all_luns().map(|l| &l.device).filter(|d| !self.devices.contains_key(*d)).collect();
        for device in missing {
            outcome.failed.push(format!("target {name}: its LUNs of device {device} are left out, it is not open"));
        }
        let devices = &self.devices;
        let config = self.numbers.target_config(name, target, &self.applied, |d| devices.get(d).map(|open| open.id));
        let config = Arc::new(config);
        self.ask_all("set a target", || Request::SetTarget(Arc::clone(&config)));
    }

    /// Listens on the wanted addresses once the driver is enabled. Listening goes on until the daemon stops: a target
    /// that is not enabled is not shown.
    fn listen(&mut self) -> Result<()> {
        if !driver_is_enabled(&self.applied) || self.wanted_portals.is_empty() {
            return Ok(());
        }
        while let Some(address) = self.wanted_portals.first().copied() {
            let next = ReactorId((self.portals.len() % usize::from(self.reactors.count())) as u16);
            let bound = self
                .listen_patiently(next, address)
                .with_context(|| format!("cannot listen on {address}; choose another address with --iscsi-portal"))?;
            // Without an address: the daemon was asked to stop.
            let Some(bound) = bound else { return Ok(()) };
            tracing::info!("listening on {bound}");
            self.portals.push(bound);
            self.wanted_portals.remove(0);
        }
        match self.machine_addresses() {
            Ok(addresses) => self.addresses = addresses,
            Err(error) => {
                tracing::warn!("the addresses of this machine cannot be read, discovery does not list them: {error}");
            }
        }
        let mut ignored = Outcome { done: Vec::new(), failed: Vec::new(), listening: Ok(()) };
        self.settings(&mut ignored);
        Ok(())
    }

    /// Tells whether the addresses of the machine are portals, as they come and go.
    pub(super) fn listens_on_a_wildcard(&self) -> bool {
        self.portals.iter().any(|portal| portal.ip().is_unspecified())
    }

    /// Reads the addresses of the machine, as far as discovery wants them.
    fn machine_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        if self.listens_on_a_wildcard() { interface_addresses() } else { Ok(Vec::new()) }
    }

    /// Tells the reactors when the machine has other addresses than before.
    pub(super) fn look_for_addresses(&mut self) {
        // What the system does not say now it may say at the next look.
        let Ok(addresses) = self.machine_addresses() else { return };
        if addresses == self.addresses {
            return;
        }
        self.addresses = addresses;
        let mut outcome = Outcome { done: Vec::new(), failed: Vec::new(), listening: Ok(()) };
        self.settings(&mut outcome);
        for message in outcome.failed {
            tracing::error!("{message}");
        }
    }

    /// Listens on one address. The kernel takes down the io_uring of a process that was killed after the process has
    /// gone, and its listener with it: right after a crash the address may be in use for a moment. Returns no address
    /// when the daemon is asked to stop meanwhile.
    fn listen_patiently(&mut self, reactor: ReactorId, address: SocketAddr) -> io::Result<Option<SocketAddr>> {
        let deadline = Instant::now() + LISTEN_PATIENCE;
        let mut told = false;
        loop {
            match self.ask_to_listen(reactor, address) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::info!("{address} is in use; trying again for {LISTEN_PATIENCE:?}");
                    }
                    if self.is_stopped_within(LISTEN_RETRY) {
                        return Ok(None);
                    }
                }
                result => return result.map(Some),
            }
        }
    }

    /// Waits, but not when the daemon is asked to stop. Other events are kept for later.
    fn is_stopped_within(&mut self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        while !self.is_stopping() {
            match self.receive(Some(deadline.saturating_duration_since(Instant::now()))) {
                Some(event) => self.pending.push_back(event),
                None => return false,
            }
        }
        true
    }

    /// Takes every backing file as it is now.
    pub(super) fn resynchronise(&mut self) {
        let mut changed = Vec::new();
        for open in self.devices.values() {
            match open.disk.resynchronise() {
                Ok(change) => changed.extend(change.map(|c| (open.id, c))),
                Err(error) => tracing::error!("{error:#}"),
            }
        }
        for (device, change) in changed {
            self.spread(device, change);
        }
    }

    /// Learns what has become of the files of devices: away, back, write-protected; and whether storage has failed.
    pub(super) fn look_for_files(&mut self) {
        let look = |open: &OpenDevice| {
            let disk = open.disk.clone();
            (open.id, move || disk.look())
        };
        self.lookout.look(self.devices.values().map(look));
        let back: Vec<_> = self.devices.values().filter_map(|open| Some((open.id, open.disk.poll()?))).collect();
        for (device, change) in back {
            self.spread(device, change);
        }
    }

    /// Every initiator hears of a change, and every reactor takes the file as it is now. In this order: a disk that is
    /// ready again must not serve anybody who has not been told.
    fn spread(&mut self, device: DeviceId, change: scst_handler_vdisk::Change) {
        self.ask_all("report a change", || Request::Attention { device, asc: change.attention });
        if change.capacity_changed && change.attention != Asc::CAPACITY_DATA_CHANGED {
            self.ask_all("report a size", || Request::Attention { device, asc: Asc::CAPACITY_DATA_CHANGED });
        }
        if change.reopened {
            self.ask_all("open a file again", || Request::RefreshDevice(device));
        }
    }
}
