//! One run: the plan of a seed, played from its first to its last stretch.

use scst_core::Nanos;
use scst_reactor::sim::{Crash, SimConfig, SimDisk};
use scst_testkit::initiator::Command;

use crate::client::{Client, Mode, PATIENCE};
use crate::content::SECTOR;
use crate::control::Control;
use crate::daemon::Daemon;
use crate::medium::Complaint;
use crate::op::{Kind, Op};
use crate::plan::{ClientPlan, Ending, Plan};
use crate::scene::{Counters, Scene};
use crate::stranger::Stranger;

/// Bytes of a disk beyond what initiators use.
const SPARE: u64 = 64 << 10;
/// Turns without any time passing: more means that a reactor spins.
const MOST_TURNS: u32 = 20_000;
/// Longest load: initiators that stall for a minute now and then are still done by then.
const LOAD_TIME: Nanos = Nanos::from_secs(1200);

/// What the loop waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Until {
    /// The control plane has done all it was asked for.
    ControlIdle,
    /// All commands are sent.
    LoadSent,
    /// All commands have ended.
    Finished,
    /// No initiator is connected, and the daemon holds nothing for one.
    Left,
}

/// A run that goes on.
struct Run {
    scene: Scene,
    seed: u64,
    disks: Vec<SimDisk>,
    daemon: Daemon,
    control: Control,
    clients: Vec<Client>,
    strangers: Vec<Stranger>,
    /// Commands sent when somebody last thought about an intervention.
    considered: u64,
    /// When targets that are off are switched on again.
    restore_at: Option<Nanos>,
}

/// Plays the run of a seed.
///
/// # Errors
/// What went wrong.
pub fn run(seed: u64, trace: bool) -> Result<Counters, Complaint> {
    let plan = Plan::new(seed);
    let mut scene = Scene::new(plan, seed, trace);
    scene.log(|| format!("{:#?}", scene.plan));
    let bytes = |d: &crate::plan::DiskPlan| u64::from(d.blocks) * u64::from(d.block_size) + SPARE;
    let disks: Vec<SimDisk> = scene.plan.disks.iter().map(|d| scene.world.disk(bytes(d))).collect();
    let clients = scene.plan.clients.iter().cloned().map(Client::new).collect();
    let epochs = scene.plan.epochs.clone();
    let daemon = Daemon::start(&scene.world, &scene.plan, seed);
    let control = Control::new(&scene, &disks);
    scene.budget = 0;
    let mut run =
        Run { scene, seed, disks, daemon, control, clients, strangers: Vec::new(), considered: 0, restore_at: None };
    for (number, epoch) in epochs.iter().enumerate() {
        if number > 0 {
            run.restart(number);
        }
        run.wait(Until::ControlIdle, PATIENCE)?;
        run.scene.budget = epoch.commands;
        run.clients.iter_mut().for_each(|c| c.set_mode(Mode::Load));
        run.wait(Until::LoadSent, LOAD_TIME)?;
        match epoch.ending {
            Ending::Killed => run.crash(Crash::Process),
            Ending::PowerLoss => run.crash(Crash::Power),
            Ending::Stopped => run.stop()?,
        }
    }
    run.scene.counters.fingerprint = run.scene.world.fingerprint();
    Ok(run.scene.counters)
}

impl Run {
    fn restart(&mut self, number: usize) {
        self.daemon = Daemon::start(&self.scene.world, &self.scene.plan, self.seed.wrapping_add(number as u64) << 8);
        self.control = Control::new(&self.scene, &self.disks);
        self.scene.resets.clear();
    }

    /// Turns reactors, initiators and the control plane until something is the case.
    fn wait(&mut self, until: Until, patience: Nanos) -> Result<(), Complaint> {
        let deadline = self.scene.now().after(patience);
        loop {
            let mut turns = 0;
            while self.daemon.turn().map_err(|what| self.scene.blame("daemon", what))? {
                turns += 1;
                if turns > MOST_TURNS {
                    return Err(self.scene.blame("daemon", "a reactor turns and turns, but no time passes"));
                }
            }
            self.control.step(&mut self.scene, &self.daemon)?;
            for client in &mut self.clients {
                client.step(&mut self.scene)?;
            }
            self.step_strangers();
            self.intervene();
            if self.is(until) {
                return Ok(());
            }
            if self.scene.now() >= deadline {
                return Err(self.scene.blame("everybody", self.why_not(until)));
            }
            self.pass_time(deadline);
        }
    }

    fn is(&self, until: Until) -> bool {
        match until {
            Until::ControlIdle => self.control.is_idle(),
            Until::LoadSent => self.scene.budget == 0,
            Until::Finished => self.clients.iter().all(Client::is_idle) && self.control.is_idle(),
            Until::Left => {
                self.clients.iter().all(Client::is_gone) && self.strangers.is_empty() && self.daemon.leaks().is_none()
            }
        }
    }

    fn why_not(&self, until: Until) -> String {
        let busy: Vec<String> = self.clients.iter().filter(|c| !c.is_idle()).map(Client::name).collect();
        let (control, leaks) = (self.control.state(), self.daemon.leaks());
        format!("{until:?} never comes: control {control}; not finished {busy:?}; {leaks:?}")
    }

    /// To the next moment at which anything happens.
    fn pass_time(&self, deadline: Nanos) {
        let now = self.scene.now();
        let clients = self.clients.iter().filter_map(|c| c.next_time(now));
        let own = clients
            .chain(self.strangers.iter().map(Stranger::until))
            .chain(self.daemon.next_mail())
            .chain(self.restore_at);
        let own = own.chain([deadline]).min().unwrap_or(deadline).max(Nanos(now.0 + 1));
        match self.scene.world.next_time() {
            Some(next) if next <= own => drop(self.scene.world.step()),
            _ => self.scene.world.advance(Nanos(own.0 - now.0)),
        }
    }

    fn step_strangers(&mut self) {
        for stranger in std::mem::take(&mut self.strangers) {
            self.strangers.extend(stranger.step(&mut self.scene));
        }
    }

    /// For each command sent since the last time there is a chance that somebody intervenes.
    fn intervene(&mut self) {
        let chaos = self.scene.plan.chaos;
        while self.considered < self.scene.counters.commands {
            self.considered += 1;
            if self.scene.rng.chance(chaos.strangers) {
                self.strangers.extend(Stranger::new(&mut self.scene));
            }
            if self.scene.rng.chance(chaos.maps) {
                self.control.change_map(&mut self.scene);
                self.restore_later();
            }
            if self.scene.rng.chance(chaos.devices) {
                self.control.replace_device(&mut self.scene);
            }
            if self.scene.rng.chance(chaos.targets) {
                let target = self.control.restart_target(&mut self.scene);
                self.clients.iter_mut().for_each(Client::excuse);
                self.scene.log(|| format!("target {target} is switched"));
                self.restore_later();
            }
        }
        if self.restore_at.is_some_and(|at| at <= self.scene.now()) {
            self.restore_at = None;
            self.control.restore();
        }
    }

    /// Nobody can go on while a target is off or shows nothing.
    fn restore_later(&mut self) {
        let later = self.scene.now().after(Nanos(self.scene.rng.below(3_000_000_000)));
        self.restore_at.get_or_insert(later);
    }

    fn crash(&mut self, how: Crash) {
        self.scene.log(|| format!("{how:?} crash"));
        self.scene.counters.crashes += 1;
        self.scene.world.crash(how);
        for client in &mut self.clients {
            client.hang_up(&mut self.scene, true);
            client.settle(&mut self.scene);
        }
        self.strangers.drain(..).for_each(Stranger::leave);
        let now = self.scene.tick();
        for medium in &mut self.scene.media {
            if how == Crash::Power { medium.power_lost(now) } else { medium.quiet(now) }
        }
    }

    /// Everybody finishes or not; then all is checked, and the daemon is stopped.
    fn stop(&mut self) -> Result<(), Complaint> {
        if self.scene.rng.chance(250_000) {
            // In the middle of it all.
            return self.shut_down();
        }
        self.control.restore();
        self.clients.iter_mut().for_each(|c| c.set_mode(Mode::Finish));
        self.wait(Until::Finished, PATIENCE)?;
        self.leave()?;
        self.verify()?;
        self.leave()?;
        self.shut_down()
    }

    /// All initiators leave, and the daemon must forget them.
    fn leave(&mut self) -> Result<(), Complaint> {
        self.clients.iter_mut().for_each(|c| c.set_mode(Mode::Leave));
        self.strangers.drain(..).for_each(Stranger::leave);
        self.wait(Until::Left, PATIENCE)?;
        self.all_quiet();
        Ok(())
    }

    fn all_quiet(&mut self) {
        for client in &mut self.clients {
            client.settle(&mut self.scene);
        }
        let now = self.scene.tick();
        self.scene.media.iter_mut().for_each(|medium| medium.quiet(now));
    }

    /// A last initiator reads everything, without any fault.
    fn verify(&mut self) -> Result<(), Complaint> {
        let calm = SimConfig::calm(0);
        self.scene.world.set_net_faults(calm.net);
        self.scene.world.set_disk_faults(calm.disk);
        self.scene.log(|| "verification".to_owned());
        let mut keys = self.scene.plan.clients[0].keys.clone();
        keys.retain(|(name, _)| !name.ends_with("Digest"));
        let plan = ClientPlan {
            name: "iqn.2026-01.local.host:0".to_owned(),
            target: 0,
            isid: 999,
            depth: 4,
            keys,
            hesitant: false,
        };
        let mut verifier = Client::new(plan);
        verifier.set_mode(Mode::Finish);
        for (disk, plan) in self.scene.plan.disks.iter().enumerate() {
            let per_block = plan.block_size / SECTOR as u32;
            for lba in (0..plan.blocks).step_by(32) {
                let blocks = (plan.blocks - lba).min(32);
                let kind = Kind::Read { first: u64::from(lba * per_block), count: u64::from(blocks * per_block) };
                let op = Op { disk, lun: disk as u32, kind, ordered: false, start: 0, sent: Nanos(0) };
                let command = Command::read_blocks(disk as u32, u64::from(lba), blocks, plan.block_size);
                verifier.read_for_sure(op, command);
            }
        }
        let others = std::mem::replace(&mut self.clients, vec![verifier]);
        let result = self.wait(Until::Finished, PATIENCE).and_then(|()| self.leave());
        self.clients = others;
        self.scene.world.set_net_faults(self.scene.plan.sim.net);
        self.scene.world.set_disk_faults(self.scene.plan.sim.disk);
        result
    }

    fn shut_down(&mut self) -> Result<(), Complaint> {
        self.scene.log(|| "shutdown".to_owned());
        self.clients.iter_mut().for_each(Client::excuse);
        self.control.shut_down();
        self.wait(Until::ControlIdle, PATIENCE)?;
        if let Some(leak) = self.daemon.leaks() {
            return Err(self.scene.blame("daemon", format!("after shutdown {leak}")));
        }
        // The process ends.
        self.scene.world.crash(Crash::Process);
        for client in &mut self.clients {
            client.hang_up(&mut self.scene, true);
        }
        self.strangers.drain(..).for_each(Stranger::leave);
        self.all_quiet();
        Ok(())
    }
}
