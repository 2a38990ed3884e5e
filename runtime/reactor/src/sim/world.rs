//! The world of a run: time, chance, and what will happen when.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scst_core::Nanos;
use scst_core::latency::Clock;
use scst_mem::Arenas;

use super::backend::{BackendState, SimBackend};
use super::config::{DiskFaults, NetFaults, SimConfig};
use super::disk::{DiskState, SimDisk};
use super::net::{Conn, Side};
use super::peer::SimPeer;
use super::rng::SimRng;
use crate::config::ReactorConfig;

/// What crashes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// The process (kill -9): connections are reset, operations in flight may or may not be carried out, what was
    /// written stays.
    Process,
    /// The machine: and writes that were not flushed are lost, in part or as a whole.
    Power,
}

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A connection request reaches its listener.
    Connect { conn: u64 },
    /// A segment reaches a side.
    Arrive { conn: u64, to: Side, data: Vec<u8> },
    /// The end of the stream reaches a side.
    Finish { conn: u64, to: Side },
    /// A reset reaches a side.
    Reset { conn: u64, to: Side },
    /// A side may send its next segment.
    Pump { conn: u64, from: Side },
    /// A send is told to be complete.
    Sent { conn: u64, serial: u64 },
    /// A socket's close is complete.
    Close { backend: usize, socket: u32 },
    /// A storage operation moves its first part.
    IoPart { backend: usize, key: u32 },
    /// A storage operation ends.
    IoEnd { backend: usize, key: u32 },
}

struct Scheduled {
    at: Nanos,
    serial: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}

/// Everything there is.
pub(crate) struct World {
    pub(crate) now: Nanos,
    pub(crate) rng: SimRng,
    pub(crate) config: SimConfig,
    serial: u64,
    events: BinaryHeap<Reverse<Scheduled>>,
    pub(crate) backends: Vec<BackendState>,
    pub(crate) conns: BTreeMap<u64, Conn>,
    pub(crate) next_port: u16,
    pub(crate) disks: Vec<DiskState>,
    trace: VecDeque<String>,
    fingerprint: u64,
}

impl World {
    pub(crate) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(crate) fn schedule(&mut self, at: Nanos, event: Event) {
        let serial = self.serial();
        self.events.push(Reverse(Scheduled { at: at.max(self.now), serial, event }));
    }

    /// A delay within a range, rarely ten times the most.
    pub(crate) fn delay(&mut self, range: (Nanos, Nanos)) -> Nanos {
        if self.rng.chance(10_000) {
            return Nanos(range.1.0 * 10);
        }
        Nanos(self.rng.between(range.0.0, range.1.0))
    }

    /// Adds a line to the trace and to the fingerprint.
    pub(crate) fn note(&mut self, what: &'static str, a: u64, b: u64, c: u64) {
        for word in [self.now.0, what.as_bytes()[0].into(), what.len() as u64, a, b, c] {
            // FNV-1a over words instead of bytes: enough to tell two runs apart.
            self.fingerprint = (self.fingerprint ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if self.config.trace > 0 {
            if self.trace.len() == self.config.trace {
                self.trace.pop_front();
            }
            self.trace.push_back(format!("{:>12} {what} {a} {b} {c}", self.now.0));
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Connect { conn } => self.connect_arrives(conn),
            Event::Arrive { conn, to, data } => self.segment_arrives(conn, to, &data),
            Event::Finish { conn, to } => self.finish_arrives(conn, to),
            Event::Reset { conn, to } => self.reset_arrives(conn, to),
            Event::Pump { conn, from } => self.pump_event(conn, from),
            Event::Sent { conn, serial } => self.sent(conn, serial),
            Event::Close { backend, socket } => self.close_done(backend, socket),
            Event::IoPart { backend, key } => self.io_part(backend, key),
            Event::IoEnd { backend, key } => self.io_end(backend, key),
        }
    }

    fn next_event(&self) -> Option<Nanos> {
        self.events.peek().map(|Reverse(s)| s.at)
    }

    fn next_deadline(&self) -> Option<Nanos> {
        self.backends.iter().filter(|b| b.alive).filter_map(|b| b.deadline).filter(|at| *at > self.now).min()
    }

    fn runs_now(&self, backend: &BackendState) -> bool {
        backend.alive
            && (!backend.waited
                || !backend.ready.is_empty()
                || backend.woken.load(SeqCst)
                || backend.granted.load(SeqCst)
                || backend.deadline.is_some_and(|at| at <= self.now))
    }

    /// Handles all events up to `at`, then it is `at`.
    fn advance(&mut self, at: Nanos) {
        while self.next_event().is_some_and(|next| next <= at) {
            let Some(Reverse(next)) = self.events.pop() else { break };
            self.now = self.now.max(next.at);
            self.handle(next.event);
        }
        self.now = self.now.max(at);
    }
}

/// The world, as everybody in a run holds it. Cheap to clone.
#[derive(Clone)]
pub struct SimWorld {
    world: Arc<Mutex<World>>,
}

impl std::fmt::Debug for SimWorld {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let world = self.lock();
        f.debug_struct("SimWorld").field("now", &world.now).field("seed", &world.config.seed).finish_non_exhaustive()
    }
}

impl Clock for SimWorld {
    fn now(&self) -> Nanos {
        self.lock().now
    }
}

impl SimWorld {
    /// A world at time 1 s, with nothing in it.
    pub fn new(config: SimConfig) -> Self {
        let world = World {
            now: Nanos::from_secs(1),
            rng: SimRng::new(config.seed),
            config,
            serial: 0,
            events: BinaryHeap::new(),
            backends: Vec::new(),
            conns: BTreeMap::new(),
            next_port: 32_768,
            disks: Vec::new(),
            trace: VecDeque::new(),
            fingerprint: 0xcbf2_9ce4_8422_2325,
        };
        Self { world: Arc::new(Mutex::new(world)) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A back-end for one more reactor, whose buffers are in these arenas. Reactors are numbered from 0.
    pub fn backend(&self, arenas: Arc<Arenas>) -> SimBackend {
        self.backend_with(&ReactorConfig::new(arenas))
    }

    /// A back-end with limits of its own.
    pub fn backend_with(&self, config: &ReactorConfig) -> SimBackend {
        SimBackend::new(self.clone(), config)
    }

    /// A disk of `size` zeros.
    pub fn disk(&self, size: u64) -> SimDisk {
        SimDisk::new(self.clone(), size)
    }

    /// Connects a simulated initiator.
    ///
    /// # Errors
    /// ECONNREFUSED as a negative errno, when nobody listens there.
    pub fn connect(&self, addr: SocketAddr) -> Result<SimPeer, i32> {
        let conn = self.lock().connect(addr)?;
        Ok(SimPeer::new(self.clone(), conn))
    }

    /// The time.
    pub fn now(&self) -> Nanos {
        self.lock().now
    }

    /// A number below `bound`, from the run's seed.
    pub fn random(&self, bound: u64) -> u64 {
        self.lock().rng.below(bound)
    }

    /// True `ppm` times in a million, from the run's seed.
    pub fn chance(&self, ppm: u32) -> bool {
        self.lock().rng.chance(ppm)
    }

    /// Whether a back-end has something to report: it should get a turn.
    pub fn runnable(&self, backend: usize) -> bool {
        let world = self.lock();
        world.backends.get(backend).is_some_and(|b| world.runs_now(b))
    }

    /// A back-end that has something to report, any of them; None when all sleep.
    pub fn pick(&self) -> Option<usize> {
        let mut world = self.lock();
        let count = world.backends.iter().filter(|b| world.runs_now(b)).count() as u64;
        if count == 0 {
            return None;
        }
        let choice = world.rng.below(count) as usize;
        let mut all = world.backends.iter().enumerate().filter(|(_, b)| world.runs_now(b));
        let chosen = all.nth(choice).map(|(n, _)| n);
        drop(all);
        chosen
    }

    /// Time of the next event or deadline; None when nothing will ever happen by itself.
    pub fn next_time(&self) -> Option<Nanos> {
        let world = self.lock();
        world.next_event().into_iter().chain(world.next_deadline()).min()
    }

    /// Goes on to the next event or deadline and handles what is due then. Returns the time; None when nothing will
    /// ever happen by itself.
    pub fn step(&self) -> Option<Nanos> {
        let at = self.next_time()?;
        let mut world = self.lock();
        world.advance(at);
        Some(world.now)
    }

    /// Lets time pass, handling all events on the way.
    pub fn advance(&self, duration: Nanos) {
        let mut world = self.lock();
        let at = world.now.after(duration);
        world.advance(at);
    }

    /// Changes the network's faults from now on.
    pub fn set_net_faults(&self, faults: NetFaults) {
        self.lock().config.net = faults;
    }

    /// Changes the disks' faults from now on.
    pub fn set_disk_faults(&self, faults: DiskFaults) {
        self.lock().config.disk = faults;
    }

    /// Changes how often a `wait` reports only a part.
    pub fn set_partial_wait(&self, ppm: u32) {
        self.lock().config.partial_wait = ppm;
    }

    /// All back-ends end here and now. They never report anything again; make new ones for a restart.
    pub fn crash(&self, crash: Crash) {
        let mut world = self.lock();
        world.note("crash", u64::from(crash == Crash::Power), 0, 0);
        world.crash_storage();
        world.crash_sockets();
        for backend in &mut world.backends {
            backend.end();
        }
        if crash == Crash::Power {
            let World { disks, rng, .. } = &mut *world;
            for disk in disks {
                disk.image.crash(rng);
            }
        }
    }

    /// Connections that exist: neither side has let go, or something is on its way.
    pub fn connections(&self) -> usize {
        self.lock().conns.len()
    }

    /// A number that two runs share only if everything happened alike.
    pub fn fingerprint(&self) -> u64 {
        self.lock().fingerprint
    }

    /// Adds a line of the driver's own to trace and fingerprint.
    pub fn note(&self, what: &'static str, a: u64, b: u64, c: u64) {
        self.lock().note(what, a, b, c);
    }

    /// The last lines of the trace.
    pub fn trace(&self) -> Vec<String> {
        self.lock().trace.iter().cloned().collect()
    }
}
