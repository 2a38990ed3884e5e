//! Reactors with the driver in a simulated world, and initiators around the test kit's core.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use scst_core::Nanos;
use scst_core::buffer::SgList;
use scst_core::config::{LunEntry, LunMap, TargetConfig};
use scst_core::engine::{EngineConfig, Limits};
use scst_core::event::Message;
use scst_core::ids::{DeviceId, ReactorId, TargetId};
use scst_core::shard::{Control, Outbox, RunContext, Shard};
use scst_mem::{BufferPool, CacheConfig, PoolConfig};
use scst_protocol_iscsi::params::TargetParameters;
use scst_reactor::backend::{Backend, Completion, FileRegistry};
use scst_reactor::sim::{PeerState, SimBackend, SimConfig, SimDisk, SimPeer, SimWorld};
use scst_scsi::lun::LunAddressMethod;
use scst_target_iscsi::{DriverMessage, Entropy, IscsiConfig, IscsiTarget, IscsiTargetConfig, Registry};
use scst_testkit::initiator::{Command, Core, Event, LoginConfig, Outcome, Phase};

use crate::handler::{BLOCK, Disk};

pub(crate) const TARGET: &str = "iqn.2024-01.net.example:disk";
pub(crate) const INITIATOR: &str = "iqn.2024-01.net.example:host";
pub(crate) const DISK_BYTES: u64 = 16 << 20;

/// One reactor.
pub(crate) struct Reactor {
    pub(crate) backend: SimBackend,
    pub(crate) pool: BufferPool,
    pub(crate) shard: Shard,
    pub(crate) iscsi: IscsiTarget,
    outbox: Outbox,
    mailbox: VecDeque<DriverMessage>,
    core_mailbox: VecDeque<Message>,
    completions: Vec<Completion>,
}

/// Everything of a test.
pub(crate) struct World {
    pub(crate) sim: SimWorld,
    pub(crate) reactors: Vec<Reactor>,
    pub(crate) portal: SocketAddr,
    pub(crate) disk: SimDisk,
    pub(crate) registry: Registry,
}

/// What a test can choose.
pub(crate) struct Setup {
    pub(crate) reactors: u16,
    pub(crate) sim: SimConfig,
    pub(crate) target: IscsiTargetConfig,
    pub(crate) config: IscsiConfig,
    pub(crate) portal: &'static str,
    pub(crate) budget: u64,
    pub(crate) limits: Limits,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            reactors: 1,
            sim: SimConfig::calm(1),
            target: IscsiTargetConfig::default(),
            config: IscsiConfig::default(),
            portal: "192.0.2.1:3260",
            budget: 32 << 20,
            limits: Limits::default(),
        }
    }
}

impl Setup {
    pub(crate) fn parameters(change: impl FnOnce(&mut TargetParameters)) -> Self {
        let mut setup = Self::default();
        change(&mut setup.target.parameters);
        setup
    }

    pub(crate) fn build(self) -> World {
        World::new(self)
    }
}

pub(crate) fn target(enabled: bool) -> TargetConfig {
    TargetConfig {
        id: TargetId(0),
        name: TARGET.into(),
        enabled,
        relative_port: 1,
        addressing: LunAddressMethod::Peripheral,
        luns: Arc::new(LunMap::new([LunEntry { lun: 0, device: DeviceId(0), read_only: false }])),
        groups: Vec::new(),
    }
}

/// Random enough for a challenge, the same in every run.
fn entropy() -> Entropy {
    let mut state = 0x9e37_79b9_u32;
    Box::new(move |out| {
        for byte in out {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        }
        true
    })
}

impl World {
    fn new(setup: Setup) -> Self {
        let sim = SimWorld::new(setup.sim);
        let disk = sim.disk(DISK_BYTES);
        let registry = Registry::new(setup.reactors);
        let mut config = setup.config;
        config.targets = BTreeMap::from([(TargetId(0), Arc::new(setup.target))]);
        let config = Arc::new(config);
        let mut reactors: Vec<Reactor> = (0..setup.reactors)
            .map(|n| {
                let pool = BufferPool::new(PoolConfig {
                    budget: setup.budget,
                    arena_bytes: 4 << 20,
                    huge_pages: false,
                    zero_fill: false,
                    poison: true,
                    cache: CacheConfig::default(),
                });
                let mut backend = sim.backend(Arc::clone(pool.arenas()));
                let file = backend.register_file(disk.file(), false);
                let engine = EngineConfig { reactor: ReactorId(n), reactors: setup.reactors, limits: setup.limits };
                let mut shard = Shard::new(engine);
                let handler = Box::new(Disk { file, blocks: DISK_BYTES / u64::from(BLOCK) });
                shard.control(sim.now(), Control::AddDevice { id: DeviceId(0), handler });
                shard.control(sim.now(), Control::SetTarget(Arc::new(target(true))));
                let iscsi = IscsiTarget::new(ReactorId(n), registry.clone(), Arc::clone(&config), entropy());
                Reactor {
                    backend,
                    pool,
                    shard,
                    iscsi,
                    outbox: Outbox::default(),
                    mailbox: VecDeque::new(),
                    core_mailbox: VecDeque::new(),
                    completions: Vec::new(),
                }
            })
            .collect();
        let first = &mut reactors[0];
        let portal = first.iscsi.listen(&mut first.backend, setup.portal.parse().unwrap()).unwrap();
        Self { sim, reactors, portal, disk, registry }
    }

    /// One turn of a reactor's loop.
    fn turn(&mut self, n: usize) {
        let reactor = &mut self.reactors[n];
        let Reactor { backend, pool, shard, iscsi, outbox, mailbox, core_mailbox, completions } = reactor;
        let deadline = [iscsi.poll_timeout(), shard.poll_timeout()].into_iter().flatten().min();
        backend.wait(deadline, completions).unwrap();
        let now = backend.now();
        for completion in completions.drain(..) {
            match completion {
                Completion::Io(io) => shard.io_completed(&mut RunContext { now, io: backend, mem: pool, outbox }, io),
                other => iscsi.completion(now, other, backend, pool, shard),
            }
        }
        for message in mailbox.drain(..) {
            iscsi.message(now, message, backend, pool, shard);
        }
        for message in core_mailbox.drain(..) {
            shard.message(now, message);
        }
        if iscsi.poll_timeout().is_some_and(|at| at <= now) {
            iscsi.handle_timeout(now, backend, pool, shard);
        }
        if shard.poll_timeout().is_some_and(|at| at <= now) {
            shard.handle_timeout(now);
        }
        let mut rounds = 0;
        loop {
            shard.run(&mut RunContext { now, io: backend, mem: pool, outbox }, iscsi);
            if !iscsi.flush(now, backend, pool, shard) {
                break;
            }
            rounds += 1;
            assert!(rounds < 10_000, "the driver never comes to rest");
        }
        // What the calls above have changed is for the next `wait`; tell the world when that is due.
        let deadline = [iscsi.poll_timeout(), shard.poll_timeout()].into_iter().flatten().min();
        backend.wait(deadline, completions).unwrap();
        let more = !completions.is_empty();
        let messages: Vec<_> = std::iter::from_fn(|| iscsi.poll_message()).collect();
        let core_messages = std::mem::take(&mut outbox.messages);
        for (to, message) in messages {
            self.reactors[usize::from(to.0)].mailbox.push_back(message);
            self.reactors[usize::from(to.0)].backend.waker().wake();
        }
        for (to, message) in core_messages {
            self.reactors[usize::from(to.0)].core_mailbox.push_back(*message);
            self.reactors[usize::from(to.0)].backend.waker().wake();
        }
        if more {
            self.turn(n);
        }
    }

    /// Lets every reactor do what it has to do now.
    pub(crate) fn settle(&mut self) {
        let mut turns = 0;
        while let Some(n) = self.sim.pick() {
            self.turn(n);
            turns += 1;
            assert!(turns < 100_000, "a reactor never sleeps");
        }
    }

    /// Lets `duration` pass.
    pub(crate) fn pass(&mut self, duration: Nanos) {
        let end = self.sim.now().after(duration);
        self.settle();
        while self.sim.next_time().is_some_and(|at| at <= end) {
            self.sim.step();
            self.settle();
        }
        let rest = end.0.saturating_sub(self.sim.now().0);
        self.sim.advance(Nanos(rest));
        self.settle();
    }

    /// Storage takes so long for everything.
    pub(crate) fn slow_disk(&self, latency: Nanos) {
        let mut faults = SimConfig::calm(0).disk;
        faults.latency = (latency, latency);
        self.sim.set_disk_faults(faults);
    }

    /// Others have all buffers of the first reactor, until they give them back.
    pub(crate) fn take_buffers(&mut self) -> Vec<SgList> {
        let pool = &mut self.reactors[0].pool;
        let sizes = [1 << 20, 64 << 10, 4096];
        sizes.into_iter().flat_map(|bytes| std::iter::from_fn(|| pool.allocate(bytes)).collect::<Vec<_>>()).collect()
    }

    pub(crate) fn give_buffers_back(&mut self, taken: &[SgList]) {
        for sg in taken {
            self.reactors[0].pool.release(sg);
        }
    }

    /// A turn of every reactor, as if woken; for what a test has changed from outside.
    pub(crate) fn kick(&mut self) {
        for n in 0..self.reactors.len() {
            self.turn(n);
        }
    }

    /// Moves bytes both ways and lets time pass until `done` says so.
    ///
    /// # Panics
    /// When that takes longer than ten minutes of virtual time.
    pub(crate) fn run(&mut self, hosts: &mut [&mut Host], mut done: impl FnMut(&mut [&mut Host]) -> bool) {
        let limit = self.sim.now().after(Nanos::from_secs(600));
        loop {
            self.settle();
            for host in hosts.iter_mut() {
                host.exchange();
            }
            if done(hosts) {
                return;
            }
            self.settle();
            assert!(self.sim.step().is_some(), "nothing will ever happen: {hosts:?}");
            assert!(self.sim.now() < limit, "that takes too long: {hosts:?}");
        }
    }

    /// Runs one host until an event.
    pub(crate) fn until(&mut self, host: &mut Host, wanted: impl Fn(&Event) -> bool) -> Event {
        self.run(&mut [&mut *host], |hosts| hosts[0].events.iter().any(&wanted));
        let at = host.events.iter().position(&wanted).unwrap();
        host.events.remove(at).unwrap()
    }

    /// A connection that has not sent anything.
    pub(crate) fn connect(&self, config: LoginConfig) -> Host {
        Host {
            core: Core::new(config),
            peer: self.sim.connect(self.portal).unwrap(),
            state: PeerState::Open,
            events: VecDeque::new(),
            sent: 0,
        }
    }

    /// A login; the first event that ends it.
    pub(crate) fn try_login(&mut self, config: LoginConfig) -> (Host, Event) {
        let mut host = self.connect(config);
        host.core.start();
        let event = self.until(&mut host, |e| {
            matches!(
                e,
                Event::LoggedIn
                    | Event::LoginFailed(_)
                    | Event::Redirected { .. }
                    | Event::AuthenticationFailed(_)
                    | Event::Broken(_)
            )
        });
        (host, event)
    }

    /// A session without pending unit attentions.
    pub(crate) fn login(&mut self, config: LoginConfig) -> Host {
        let (mut host, event) = self.try_login(config);
        assert_eq!(event, Event::LoggedIn);
        while !self.execute(&mut host, Command::new(0, vec![0; 6])).is_good() {}
        host
    }

    /// Waits for the end of a command.
    pub(crate) fn finish(&mut self, host: &mut Host, itt: u32) -> Outcome {
        let wanted = |e: &Event| matches!(e, Event::Completed(outcome) if outcome.itt == itt);
        match self.until(host, wanted) {
            Event::Completed(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn execute(&mut self, host: &mut Host, command: Command) -> Outcome {
        let itt = host.core.submit(command);
        self.finish(host, itt)
    }

    /// Runs until the target has closed the connection of a host.
    pub(crate) fn closed(&mut self, host: &mut Host) {
        self.run(&mut [&mut *host], |hosts| hosts[0].state != PeerState::Open);
    }

    pub(crate) fn connections(&self) -> usize {
        self.reactors.iter().map(|r| r.iscsi.connection_count()).sum()
    }

    /// Nothing is left of any connection: no slot, no command, no buffer.
    pub(crate) fn assert_clean(&mut self) {
        self.pass(Nanos::from_secs(120));
        for (n, reactor) in self.reactors.iter().enumerate() {
            assert_eq!(reactor.iscsi.connection_count(), 0, "connections of reactor {n}");
            assert_eq!(reactor.shard.engine().session_count(), 0, "sessions of reactor {n}");
            assert_eq!(reactor.shard.engine().commands_in_use(), 0, "commands of reactor {n}");
            assert_eq!(reactor.pool.statistics().in_use, 0, "buffers of reactor {n}");
        }
    }
}

/// An initiator.
pub(crate) struct Host {
    pub(crate) core: Core,
    pub(crate) peer: SimPeer,
    pub(crate) state: PeerState,
    pub(crate) events: VecDeque<Event>,
    sent: usize,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("core", &self.core)
            .field("state", &self.state)
            .field("events", &self.events)
            .field("sent", &self.sent)
            .finish()
    }
}

impl Host {
    /// Sends what there is to send, takes what there is to take.
    pub(crate) fn exchange(&mut self) {
        let mut bytes = Vec::new();
        self.state = self.peer.recv(&mut bytes);
        self.core.handle_input(&bytes);
        while let Some(event) = self.core.poll_event() {
            assert!(!matches!(event, Event::Violation(_)), "{event:?}");
            self.events.push_back(event);
        }
        self.flush();
    }

    /// Sends what there is to send.
    pub(crate) fn flush(&mut self) {
        let out = self.core.take_output();
        self.sent += out.len();
        if !out.is_empty() {
            self.peer.send(&out);
        }
    }

    pub(crate) fn is_logged_in(&self) -> bool {
        self.core.phase() == Phase::FullFeature
    }

    /// Logs out and waits for the end of the connection.
    pub(crate) fn logout(mut self, world: &mut World) {
        self.core.logout(0);
        let event = world.until(&mut self, |e| matches!(e, Event::LoggedOut { .. }));
        assert!(matches!(event, Event::LoggedOut { response: 0, .. }), "{event:?}");
        world.closed(&mut self);
        self.peer.close();
    }
}

/// A normal login.
pub(crate) fn normal() -> LoginConfig {
    LoginConfig::normal(INITIATOR, TARGET)
}

/// Bytes that say where they belong.
pub(crate) fn pattern(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8).wrapping_add(seed)).collect()
}
