//! The control plane of a run: starts devices, targets and portals, changes them under load, and stops the daemon.
//!
//! Steps run one after the other; each waits for the answers of all reactors, as the daemon's own control thread does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use scst_core::config::{InitiatorGroup, LunEntry, LunMap, TargetConfig};
use scst_core::ids::{DeviceId, TargetId};
use scst_core::latency::Stage;
use scst_reactor::sim::SimDisk;
use scst_scsi::Asc;
use scst_scsi::lun::LunAddressMethod;
use scst_target_iscsi::{IscsiConfig, IscsiTargetConfig};
use scstd::reactor_loop::{Inbound, Report, ReportKind, Request};
use scstd::statistics::Snapshot;

use crate::daemon::{Daemon, SimDevice, portal};
use crate::medium::Complaint;
use crate::op::SECOND_LUNS;
use crate::plan::target_name;
use crate::scene::Scene;

/// One thing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Opens a disk for all reactors.
    AddDevice(usize),
    /// Takes a disk away that no target shows any more, and waits until it is gone.
    RemoveDevice(usize),
    /// Opens the file of a disk anew if it has failed.
    Repair(usize),
    /// Settings of the iSCSI driver.
    Configure,
    /// Tells reactors how a target is now.
    SetTarget(usize),
    /// Opens the portal.
    Listen,
    /// Initiators are asked to leave; done when they have.
    Shutdown,
}

/// How a target should be.
#[derive(Clone, Debug)]
struct Shown {
    enabled: bool,
    /// Disk by disk: seen, and read-only.
    luns: Vec<(bool, bool)>,
}

/// Every measured command was counted whole: its stages make its total.
fn add_up(counted: &Snapshot) -> Result<(), Complaint> {
    for session in &counted.sessions {
        let mut commands = 0;
        for size in session.latency.iter().flatten() {
            let (parts, total) = size.stages.split_at(Stage::Total as usize);
            let spent: u64 = parts.iter().map(|stage| stage.sum).sum();
            if spent != total[0].sum || parts[0].count != total[0].count {
                return Err(format!("{}: stages and total of {} differ: {size:?}", session.initiator, size.row.name()));
            }
            commands += total[0].count;
        }
        if commands > session.commands {
            return Err(format!("{}: {commands} measured of {}", session.initiator, session.commands));
        }
    }
    Ok(())
}

/// See the module.
pub struct Control {
    steps: VecDeque<Step>,
    waiting: BTreeSet<u64>,
    /// Reactors that still have something of a device that goes.
    leaving: BTreeMap<DeviceId, usize>,
    /// Reactors that are not idle yet, when shutting down.
    busy: usize,
    ending: bool,
    next_ticket: u64,
    next_device: u32,
    /// Numbers for places of devices that have gone.
    free_devices: Vec<DeviceId>,
    devices: Vec<Option<(DeviceId, Arc<SimDevice>)>>,
    targets: Vec<Shown>,
    disks: Vec<SimDisk>,
    /// Latencies are measured.
    measuring: bool,
}

impl Control {
    /// A control plane that starts everything.
    pub fn new(scene: &Scene, disks: &[SimDisk]) -> Self {
        let all = Shown { enabled: true, luns: vec![(true, false); disks.len()] };
        let mut steps: VecDeque<Step> = (0..disks.len()).map(Step::AddDevice).collect();
        steps.push_back(Step::Configure);
        steps.extend((0..scene.plan.targets).map(Step::SetTarget));
        steps.push_back(Step::Listen);
        Self {
            steps,
            waiting: BTreeSet::new(),
            leaving: BTreeMap::new(),
            busy: 0,
            ending: false,
            next_ticket: 0,
            next_device: 0,
            free_devices: Vec::new(),
            devices: disks.iter().map(|_| None).collect(),
            targets: vec![all; scene.plan.targets],
            disks: disks.to_vec(),
            measuring: false,
        }
    }

    /// Whether everything asked for is done.
    pub fn is_idle(&self) -> bool {
        self.steps.is_empty() && self.waiting.is_empty() && self.leaving.is_empty() && self.busy == 0
    }

    /// What it waits for.
    pub fn state(&self) -> String {
        let (steps, answers, leaving) = (&self.steps, self.waiting.len(), &self.leaving);
        format!("{steps:?}, {answers} answers, leaving {leaving:?}, {} reactors busy", self.busy)
    }

    /// The end: nothing that was asked for before matters any more.
    pub fn shut_down(&mut self) {
        self.steps.clear();
        self.leaving.clear();
        self.ending = true;
        self.steps.push_back(Step::Shutdown);
    }

    /// Everything as it was at the start.
    pub fn restore(&mut self) {
        for target in &mut self.targets {
            target.enabled = true;
            target.luns.fill((true, false));
        }
        self.steps.extend((0..self.disks.len()).map(Step::Repair));
        self.steps.extend((0..self.targets.len()).map(Step::SetTarget));
    }

    /// LUNs of a target come, go or change access.
    pub fn change_map(&mut self, scene: &mut Scene) {
        let target = scene.rng.below(self.targets.len() as u64) as usize;
        for lun in &mut self.targets[target].luns {
            *lun = (!scene.rng.chance(200_000), scene.rng.chance(200_000));
        }
        self.steps.push_back(Step::SetTarget(target));
    }

    /// A target is switched off, and on again.
    pub fn restart_target(&mut self, scene: &mut Scene) -> usize {
        let target = scene.rng.below(self.targets.len() as u64) as usize;
        self.targets[target].enabled = !self.targets[target].enabled;
        self.steps.push_back(Step::SetTarget(target));
        target
    }

    /// A device is taken away, and brought back.
    pub fn replace_device(&mut self, scene: &mut Scene) {
        let disk = scene.rng.below(self.disks.len() as u64) as usize;
        let repaired = scene.rng.chance(300_000);
        if repaired {
            return self.steps.push_back(Step::Repair(disk));
        }
        // Targets stop showing it first: `SetTarget` leaves out disks that are on their way out.
        self.steps.push_back(Step::RemoveDevice(disk));
        self.steps.push_back(Step::AddDevice(disk));
        self.steps.extend((0..self.targets.len()).map(Step::SetTarget));
    }

    /// Takes reports and goes on.
    ///
    /// # Errors
    /// A reactor says something that it should not.
    pub fn step(&mut self, scene: &mut Scene, daemon: &Daemon) -> Result<(), Complaint> {
        for report in daemon.reports() {
            self.report(report).map_err(|complaint| scene.blame("control", complaint))?;
        }
        while self.waiting.is_empty()
            && self.leaving.is_empty()
            && self.busy == 0
            && let Some(step) = self.steps.pop_front()
        {
            scene.log(|| format!("control: {step:?}"));
            scene.counters.changes += 1;
            self.begin(step, scene, daemon);
        }
        Ok(())
    }

    fn report(&mut self, report: Report) -> Result<(), Complaint> {
        match report.kind {
            ReportKind::Done { ticket, result } => {
                self.waiting.remove(&ticket);
                result.map(drop).map_err(|error| format!("request {ticket}: {error}"))
            }
            ReportKind::DeviceRemoved(device) => {
                let Some(left) = self.leaving.get_mut(&device) else {
                    if self.ending {
                        return Ok(());
                    }
                    return Err(format!("{device:?} was removed, but nobody asked"));
                };
                *left -= 1;
                if *left == 0 {
                    self.leaving.remove(&device);
                    self.free_devices.push(device.successor());
                }
                Ok(())
            }
            ReportKind::DeviceStuck { .. } => Ok(()),
            ReportKind::Statistics(counted) => add_up(&counted),
            ReportKind::Idle => {
                self.busy = self.busy.saturating_sub(1);
                Ok(())
            }
            ReportKind::Ended(result) => Err(format!("a reactor ended: {result:?}")),
        }
    }

    fn ask_all(&mut self, daemon: &Daemon, request: impl Fn() -> Request) {
        for reactor in 0..daemon.reactors() {
            self.ask(daemon, reactor, request());
        }
    }

    fn ask(&mut self, daemon: &Daemon, reactor: usize, request: Request) {
        self.next_ticket += 1;
        self.waiting.insert(self.next_ticket);
        daemon.post(reactor, Inbound::Control { ticket: self.next_ticket, request });
    }

    fn begin(&mut self, step: Step, scene: &mut Scene, daemon: &Daemon) {
        match step {
            Step::AddDevice(disk) => {
                let id = self.free_devices.pop().unwrap_or_else(|| {
                    self.next_device += 1;
                    DeviceId(self.next_device - 1)
                });
                let device =
                    Arc::new(SimDevice::new(&format!("disk{disk}"), scene.plan.disks[disk], &self.disks[disk]));
                self.devices[disk] = Some((id, Arc::clone(&device)));
                // An error that was told to the opening before is not told to this one.
                scene.media[disk].reopened();
                self.ask_all(daemon, || Request::AddDevice { id, device: Arc::clone(&device) as Arc<_> });
            }
            Step::RemoveDevice(disk) => {
                let Some((id, _)) = self.devices[disk].take() else { return };
                self.leaving.insert(id, daemon.reactors());
                for target in 0..self.targets.len() {
                    let config = Arc::new(self.target_config(target));
                    self.ask_all(daemon, || Request::SetTarget(Arc::clone(&config)));
                }
                self.ask_all(daemon, || Request::RemoveDevice(id));
            }
            Step::Repair(disk) => {
                let Some((id, device)) = &self.devices[disk] else { return };
                let id = *id;
                if device.repair() {
                    scene.media[disk].reopened();
                    self.ask_all(daemon, || Request::RefreshDevice(id));
                    let asc = Asc::DEVICE_INTERNAL_RESET;
                    self.ask_all(daemon, || Request::Attention { device: id, asc });
                }
            }
            Step::Configure => {
                let settings = IscsiTargetConfig { parameters: scene.plan.parameters.clone(), ..Default::default() };
                let settings = Arc::new(settings);
                let targets = (0..self.targets.len()).map(|t| (TargetId(t as u32), Arc::clone(&settings))).collect();
                let config = Arc::new(IscsiConfig { targets, ..IscsiConfig::default() });
                self.ask_all(daemon, || Request::Configure(Arc::clone(&config)));
            }
            Step::SetTarget(target) => {
                let config = Arc::new(self.target_config(target));
                self.ask_all(daemon, || Request::SetTarget(Arc::clone(&config)));
                // Whoever looks, and whether latencies are measured, makes no difference to anybody.
                self.ask_all(daemon, || Request::Statistics { part: 0 });
                self.measuring = !self.measuring;
                let on = self.measuring;
                self.ask_all(daemon, || Request::MeasureLatency(on));
            }
            Step::Listen => {
                let reactor = scene.rng.below(daemon.reactors() as u64) as usize;
                self.ask(daemon, reactor, Request::Listen(portal()));
            }
            Step::Shutdown => {
                self.busy = daemon.reactors();
                self.ask_all(daemon, || Request::Shutdown);
            }
        }
    }

    /// A LUN number always means the same disk. Initiators whose names end in an odd digit see every disk twice.
    fn target_config(&self, target: usize) -> TargetConfig {
        let shown = &self.targets[target];
        let rows = |offset: u32| {
            let rows = shown.luns.iter().zip(&self.devices).enumerate();
            rows.filter_map(move |(disk, (&(seen, read_only), device))| {
                let (device, _) = device.as_ref().filter(|_| seen)?;
                Some(LunEntry { lun: disk as u32 + offset, device: *device, read_only })
            })
        };
        let twice = Arc::new(LunMap::new(rows(0).chain(rows(SECOND_LUNS))));
        TargetConfig {
            id: TargetId(target as u32),
            name: target_name(target),
            enabled: shown.enabled,
            relative_port: target as u16 + 1,
            addressing: LunAddressMethod::Peripheral,
            luns: Arc::new(LunMap::new(rows(0))),
            groups: vec![InitiatorGroup {
                name: "twice".to_owned(),
                initiators: vec!["*:1".to_owned(), "*:3".to_owned()],
                luns: twice,
            }],
        }
    }
}
