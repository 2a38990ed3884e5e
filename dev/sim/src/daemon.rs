//! The daemon under test: the real loops of all reactors on simulated back-ends, and mail between them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;

use scst_core::Nanos;
use scst_core::engine::Limits;
use scst_core::ids::ReactorId;
use scst_handler_vdisk::{OpenShard, ShardLink, Vdisk, VdiskConfig};
use scst_mem::{BufferPool, CacheConfig, PoolConfig};
use scst_reactor::backend::{Backend, FileRegistry, Waker};
use scst_reactor::mailbox::Undelivered;
use scst_reactor::sim::{SimBackend, SimDisk, SimRng, SimWorld};
use scst_target_iscsi::{IscsiConfig, IscsiTarget, Registry};
use scstd::reactor_loop::{DeviceHalf, DeviceLink, DeviceSource, Inbound, Place, Post, ReactorLoop, Report, Turn};

use crate::plan::{DiskPlan, Plan};

/// Command buffers of a reactor.
const POOL_BYTES: u64 = 8 << 20;
/// Messages that fit into a mailbox.
const MAILBOX: usize = 64;

/// A device as the control plane holds it, and as reactors get it.
pub struct SimDevice {
    vdisk: Vdisk,
    /// Keeps the file that stands for the disk open: it is opened again by its number.
    _file: Arc<File>,
}

impl SimDevice {
    /// A virtual disk over a simulated one.
    pub fn new(name: &str, plan: DiskPlan, disk: &SimDisk) -> Self {
        let file = disk.file();
        let config = VdiskConfig {
            block_size: plan.block_size,
            write_through: plan.write_through,
            thin_provisioned: plan.thin,
            ..VdiskConfig::file(name, format!("/proc/self/fd/{}", file.as_raw_fd()))
        };
        let vdisk = Vdisk::open(config).unwrap_or_else(|error| panic!("a plan makes only valid devices: {error}"));
        Self { vdisk, _file: file }
    }

    /// Opens the file anew when written data may be lost or the storage was away, as an operator does who has repaired
    /// it. True when reactors have to be told.
    pub fn repair(&self) -> bool {
        let status = self.vdisk.status();
        (status.flush_error.is_some() || !status.online) && self.vdisk.reopen().is_ok()
    }
}

impl DeviceSource for SimDevice {
    fn open_half(&self, files: &mut dyn FileRegistry) -> DeviceHalf {
        let OpenShard { shard, link } = self.vdisk.open_shard(files);
        DeviceHalf { handler: shard, link: Some(Box::new(Link(link))) }
    }
}

struct Link(ShardLink);

impl DeviceLink for Link {
    fn refresh(&mut self, files: &mut dyn FileRegistry) {
        self.0.refresh(files);
    }

    fn close(self: Box<Self>, files: &mut dyn FileRegistry) {
        self.0.close(files);
    }
}

/// Mail on its way.
struct Letter {
    due: Nanos,
    message: Inbound,
}

struct Mailbox {
    letters: VecDeque<Letter>,
    waker: Waker,
}

/// All mail of a daemon.
struct Mail {
    world: SimWorld,
    rng: SimRng,
    delay: Nanos,
    boxes: Vec<Mailbox>,
    reports: VecDeque<Report>,
}

impl Mail {
    fn put(&mut self, to: usize, message: Inbound) {
        let now = self.world.now();
        let delay = Nanos(self.rng.below(self.delay.0 + 1));
        let Some(mailbox) = self.boxes.get_mut(to) else { return };
        // Nothing overtakes: the channel is one queue.
        let due = mailbox.letters.back().map_or(now, |last| last.due).max(now.after(delay));
        mailbox.letters.push_back(Letter { due, message });
        if due <= now {
            mailbox.waker.wake();
        }
    }
}

/// One reactor's post.
pub struct SimPost {
    number: usize,
    mail: Rc<RefCell<Mail>>,
}

impl Post for SimPost {
    fn take(&mut self) -> Option<Inbound> {
        let mut mail = self.mail.borrow_mut();
        let now = mail.world.now();
        let letters = &mut mail.boxes[self.number].letters;
        if letters.front().is_some_and(|letter| letter.due <= now) {
            return letters.pop_front().map(|letter| letter.message);
        }
        None
    }

    fn send(&mut self, to: ReactorId, message: Inbound) -> Result<(), Undelivered<Inbound>> {
        let mut mail = self.mail.borrow_mut();
        let to = usize::from(to.0);
        let Some(mailbox) = mail.boxes.get(to) else { return Err(Undelivered::Closed(message)) };
        if mailbox.letters.len() >= MAILBOX || mail.rng.chance(5_000) {
            return Err(Undelivered::Full(message));
        }
        mail.put(to, message);
        Ok(())
    }

    fn report(&mut self, report: Report) {
        self.mail.borrow_mut().reports.push_back(report);
    }
}

struct Reactor {
    run: ReactorLoop<SimBackend, SimPost>,
    backend: usize,
    /// It has worked since it last told the world how long it will wait.
    worked: bool,
}

/// A daemon that runs.
pub struct Daemon {
    reactors: Vec<Reactor>,
    mail: Rc<RefCell<Mail>>,
    world: SimWorld,
}

impl Daemon {
    /// Starts reactors without devices, targets and listeners.
    pub fn start(world: &SimWorld, plan: &Plan, seed: u64) -> Self {
        let mail = Rc::new(RefCell::new(Mail {
            world: world.clone(),
            rng: SimRng::new(seed ^ 0x3a11),
            delay: plan.mail_delay,
            boxes: Vec::new(),
            reports: VecDeque::new(),
        }));
        let registry = Registry::new(plan.reactors);
        let limits = Limits {
            commands: 128,
            commands_per_nexus: plan.commands_per_nexus,
            sessions: 64,
            nexuses: 256,
            task_management: 8,
            ..Limits::default()
        };
        let reactors = (0..plan.reactors).map(|number| {
            let pool = BufferPool::new(PoolConfig {
                budget: POOL_BYTES,
                arena_bytes: 1 << 20,
                huge_pages: false,
                zero_fill: false,
                poison: true,
                // Hardly anything is kept: what is given back too early shows.
                cache: CacheConfig {
                    low_watermark: 0,
                    high_watermark: 1 << 20,
                    purge_interval: Nanos::from_millis(100),
                },
            });
            let backend = world.backend(Arc::clone(pool.arenas()));
            let (at, waker) = (backend.number(), backend.waker());
            mail.borrow_mut().boxes.push(Mailbox { letters: VecDeque::new(), waker });
            let mut random = SimRng::new(seed ^ u64::from(number));
            let entropy = Box::new(move |out: &mut [u8]| {
                out.iter_mut().for_each(|b| *b = random.next_u64() as u8);
                true
            });
            let place = Place { reactor: ReactorId(number), reactors: plan.reactors };
            let config = Arc::new(IscsiConfig::default());
            let driver = IscsiTarget::new(place.reactor, registry.clone(), config, entropy);
            let post = SimPost { number: usize::from(number), mail: Rc::clone(&mail) };
            Reactor { run: ReactorLoop::new(place, limits, backend, pool, driver, post), backend: at, worked: true }
        });
        let reactors = reactors.collect();
        Self { reactors, mail, world: world.clone() }
    }

    /// How many reactors.
    pub fn reactors(&self) -> usize {
        self.reactors.len()
    }

    /// Mail from the control plane.
    pub fn post(&self, to: usize, message: Inbound) {
        self.mail.borrow_mut().put(to, message);
    }

    /// What reactors say.
    pub fn reports(&self) -> VecDeque<Report> {
        std::mem::take(&mut self.mail.borrow_mut().reports)
    }

    /// One turn of somebody who has something to do; false when nobody has.
    ///
    /// # Errors
    /// A loop that ended by itself.
    pub fn turn(&mut self) -> Result<bool, String> {
        self.wake_due();
        let chosen = match self.world.pick() {
            Some(backend) => self.reactors.iter().position(|r| r.backend == backend),
            // All sleep, but some have not said until when.
            None => self.reactors.iter().position(|r| r.worked),
        };
        let Some(reactor) = chosen.and_then(|n| self.reactors.get_mut(n)) else { return Ok(false) };
        reactor.worked = self.world.runnable(reactor.backend);
        match reactor.run.turn(None) {
            Ok(Turn::Continue) => Ok(true),
            Ok(Turn::End) => Err("a reactor ended unasked".to_owned()),
            Err(error) => Err(format!("a reactor broke: {error}")),
        }
    }

    fn wake_due(&self) {
        let mail = self.mail.borrow();
        let now = mail.world.now();
        for mailbox in &mail.boxes {
            if mailbox.letters.front().is_some_and(|letter| letter.due <= now) {
                mailbox.waker.wake();
            }
        }
    }

    /// When the next mail is due.
    pub fn next_mail(&self) -> Option<Nanos> {
        self.mail.borrow().boxes.iter().filter_map(|b| b.letters.front()).map(|letter| letter.due).min()
    }

    /// What the daemon holds although no initiator is there.
    pub fn leaks(&self) -> Option<String> {
        self.reactors.iter().enumerate().find_map(|(n, reactor)| {
            let (engine, driver) = (reactor.run.shard().engine(), reactor.run.driver());
            let held = [
                ("commands", engine.commands_in_use() as u64),
                ("sessions", engine.session_count() as u64),
                ("connections", driver.connection_count() as u64),
                ("bytes of buffers", reactor.run.pool().statistics().in_use),
                ("storage operations", reactor.run.backend().io_in_flight() as u64),
            ];
            held.iter().find(|(_, count)| *count > 0).map(|(what, count)| format!("reactor {n} holds {count} {what}"))
        })
    }

    /// Commands that have a slot.
    pub fn commands(&self) -> usize {
        self.reactors.iter().map(|r| r.run.shard().engine().commands_in_use()).sum()
    }
}

/// Where to connect.
pub fn portal() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 3260))
}
