//! The loop of one reactor: back-end, buffers, mid-level and target driver joined.
//!
//! The daemon runs one on a thread for each reactor; the simulator runs the same code in virtual time. What differs is
//! the [`Backend`] and the [`Post`], through which reactors and the control plane talk.
//!
//! One [`ReactorLoop::turn`]: wait; hand out completions (storage to the shard, sockets to the driver, at once carrying out
//! what wants buffers); open the mail; time-outs; run the shard and flush the driver until both have nothing to do, unless that
//! has just been done; send mail. A turn never blocks outside of `wait`, and in the steady state it allocates nothing.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use scst_core::Nanos;
use scst_core::config::TargetConfig;
use scst_core::engine::{EngineConfig, Limits};
use scst_core::event::Message;
use scst_core::handler::HandlerShard;
use scst_core::ids::{DeviceId, ReactorId, TargetId};
use scst_core::shard::{Control, Notice, Outbox, RunContext, Shard};
use scst_mem::BufferPool;
use scst_reactor::backend::{Backend, Completion, FileRegistry};
use scst_reactor::mailbox::Undelivered;
use scst_scsi::Asc;
use scst_target_iscsi::{DriverMessage, IscsiConfig, IscsiTarget};

use crate::statistics::Snapshot;

/// A device as the control plane hands it to reactors.
pub trait DeviceSource: Send + Sync {
    /// The handler's half for one reactor, its files registered there. Called on the reactor's thread.
    fn open_half(&self, files: &mut dyn FileRegistry) -> DeviceHalf;
}

/// A device's half for one reactor.
pub struct DeviceHalf {
    /// For the mid-level.
    pub handler: Box<dyn HandlerShard>,
    /// For the loop, if the device has files that can change.
    pub link: Option<Box<dyn DeviceLink>>,
}

/// How a loop keeps the registration of a device's files up to date.
pub trait DeviceLink {
    /// The files may be others than before: register those there are now.
    fn refresh(&mut self, files: &mut dyn FileRegistry);
    /// The device is gone: give the registration up.
    fn close(self: Box<Self>, files: &mut dyn FileRegistry);
}

/// What comes into a reactor, besides completions.
pub enum Inbound {
    /// From the engine of another reactor.
    Engine(Box<Message>),
    /// From the driver of another reactor.
    Driver(DriverMessage),
    /// From the control plane; answered by [`ReportKind::Done`] with the same ticket.
    Control {
        /// Names the request.
        ticket: u64,
        /// What is asked for.
        request: Request,
    },
}

/// What the control plane asks of a reactor.
pub enum Request {
    /// A new device.
    AddDevice {
        /// Its number.
        id: DeviceId,
        /// Where its handler comes from.
        device: Arc<dyn DeviceSource>,
    },
    /// The files behind a device may be others than before.
    RefreshDevice(DeviceId),
    /// A device goes away; [`ReportKind::DeviceRemoved`] follows when its last command has ended.
    RemoveDevice(DeviceId),
    /// A target is new or has changed.
    SetTarget(Arc<TargetConfig>),
    /// A target goes away.
    RemoveTarget(TargetId),
    /// New settings of the iSCSI driver.
    Configure(Arc<IscsiConfig>),
    /// Poll at most so long before sleeping.
    Poll(Nanos),
    /// Initiators must hear that something about a device has changed.
    Attention {
        /// The device.
        device: DeviceId,
        /// What.
        asc: Asc,
    },
    /// Measure the latencies of commands from now on, or no longer.
    MeasureLatency(bool),
    /// Listen on an address; the answer has the address in use.
    Listen(SocketAddr),
    /// Stop listening, ask every initiator to log out; [`ReportKind::Idle`] follows.
    Shutdown,
    /// Leave the loop.
    End,
    /// Answer: still alive.
    Ping,
    /// Give free command buffers back to the system, a little in each turn from now on.
    PurgeBuffers,
    /// Say a part of what there is to count, numbered from 0; [`ReportKind::Statistics`] comes before the answer.
    Statistics {
        /// Which part.
        part: u32,
    },
}

/// What a reactor tells the control plane.
#[derive(Debug)]
pub struct Report {
    /// The reactor.
    pub reactor: ReactorId,
    /// What.
    pub kind: ReportKind,
}

/// See [`Report`].
#[derive(Debug)]
pub enum ReportKind {
    /// A request is carried out.
    Done {
        /// Its ticket.
        ticket: u64,
        /// For [`Request::Listen`] the address in use.
        result: io::Result<Option<SocketAddr>>,
    },
    /// See [`Request::Statistics`].
    Statistics(Box<Snapshot>),
    /// Nothing of a device is left on this reactor.
    DeviceRemoved(DeviceId),
    /// Commands of a device go on without their session because its storage does not answer, or none does any more.
    DeviceStuck {
        /// The device.
        device: DeviceId,
        /// Some do.
        stuck: bool,
    },
    /// After [`Request::Shutdown`]: no connection is left.
    Idle,
    /// The loop has ended: asked to, or because the back-end is broken.
    Ended(io::Result<()>),
}

/// How a reactor talks to the others and to the control plane.
pub trait Post {
    /// The next message for this reactor, if there is one. Never blocks.
    fn take(&mut self) -> Option<Inbound>;
    /// Sends to another reactor. Never blocks.
    ///
    /// # Errors
    /// The message, when there is no room now or the reactor is gone.
    fn send(&mut self, to: ReactorId, message: Inbound) -> Result<(), Undelivered<Inbound>>;
    /// Tells the control plane. Never blocks.
    fn report(&mut self, report: Report);
}

/// Messages taken from the mail in one turn: commands must not wait behind a flood of them.
const MAIL_PER_TURN: usize = 256;
/// When a mailbox was full, it is tried again after this time.
const MAIL_RETRY: Nanos = Nanos::from_millis(1);

/// Who and where a reactor is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Its number.
    pub reactor: ReactorId,
    /// How many there are.
    pub reactors: u16,
}

/// Whether the loop goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// It does.
    Continue,
    /// It was asked to end.
    End,
}

/// One reactor.
pub struct ReactorLoop<B: Backend, P: Post> {
    place: Place,
    backend: B,
    pool: BufferPool,
    shard: Shard,
    driver: IscsiTarget,
    post: P,
    completions: Vec<Completion>,
    outbox: Outbox,
    /// Files of devices.
    links: BTreeMap<DeviceId, Box<dyn DeviceLink>>,
    /// Mail that found no room, by receiver; nothing overtakes it.
    unsent: Vec<VecDeque<Inbound>>,
    /// There is more to do at once: the next wait only polls.
    busy: bool,
    shutting_down: bool,
    ending: bool,
}

impl<B: Backend, P: Post> std::fmt::Debug for ReactorLoop<B, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReactorLoop")
            .field("place", &self.place)
            .field("shard", &self.shard)
            .field("driver", &self.driver)
            .finish_non_exhaustive()
    }
}

impl<B: Backend, P: Post> ReactorLoop<B, P> {
    /// A reactor without devices, targets and listeners.
    pub fn new(place: Place, limits: Limits, backend: B, pool: BufferPool, driver: IscsiTarget, post: P) -> Self {
        let config = EngineConfig { reactor: place.reactor, reactors: place.reactors, limits };
        Self {
            place,
            backend,
            pool,
            shard: Shard::new(config),
            driver,
            post,
            completions: Vec::with_capacity(1024),
            outbox: Outbox::default(),
            links: BTreeMap::new(),
            unsent: (0..place.reactors).map(|_| VecDeque::new()).collect(),
            busy: false,
            shutting_down: false,
            ending: false,
        }
    }

    /// The back-end, for tests and the simulator.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The same, to change it.
    pub fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// The mid-level, to look at.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// The driver, to look at.
    pub fn driver(&self) -> &IscsiTarget {
        &self.driver
    }

    /// The buffers, to look at.
    pub fn pool(&self) -> &BufferPool {
        &self.pool
    }

    /// The post.
    pub fn post_mut(&mut self) -> &mut P {
        &mut self.post
    }

    /// Turns until it is asked to end, then reports the end.
    pub fn run(mut self) {
        let result = loop {
            match self.turn(None) {
                Ok(Turn::Continue) => {}
                Ok(Turn::End) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.report(ReportKind::Ended(result));
    }

    /// One turn; waits at most until `limit`.
    ///
    /// # Errors
    /// The back-end is broken.
    pub fn turn(&mut self, limit: Option<Nanos>) -> io::Result<Turn> {
        let deadline = self.deadline(limit);
        self.completions.clear();
        self.backend.wait(deadline, &mut self.completions)?;
        let now = self.backend.now();
        self.busy = false;
        let idle = self.completions.is_empty();
        let done = self.hand_out(now);
        let came = self.open_mail(now) | self.time_outs(now);
        if came || !done {
            self.work(now);
        }
        self.send_mail();
        self.pool.maintain(now, idle);
        if self.shutting_down && self.driver.idle() && self.shard.engine().parked_commands() == 0 {
            self.shutting_down = false;
            self.report(ReportKind::Idle);
        }
        Ok(if self.ending { Turn::End } else { Turn::Continue })
    }

    /// Until when to wait.
    fn deadline(&self, limit: Option<Nanos>) -> Option<Nanos> {
        let now = self.backend.now();
        if self.busy {
            return Some(now);
        }
        let retry = self.unsent.iter().any(|q| !q.is_empty()).then(|| now.after(MAIL_RETRY));
        let purge = self.pool.poll_timeout();
        [limit, self.shard.poll_timeout(), self.driver.poll_timeout(), retry, purge].into_iter().flatten().min()
    }

    /// True: the last of it has been worked on already.
    fn hand_out(&mut self, now: Nanos) -> bool {
        let mut completions = std::mem::take(&mut self.completions);
        let mut done = false;
        for completion in completions.drain(..) {
            done = false;
            match completion {
                Completion::Io(io) => {
                    let mut cx =
                        RunContext { now, io: &mut self.backend, mem: &mut self.pool, outbox: &mut self.outbox };
                    self.shard.io_completed(&mut cx, io);
                }
                Completion::Woken => {}
                socket => {
                    self.driver.completion(now, socket, &mut self.backend, &mut self.pool, &mut self.shard);
                    // READs of one connection from arrival to answer, then the next one's: the commands and buffers of
                    // many connections are more than the near caches hold.
                    if self.shard.wants_buffers() {
                        self.work(now);
                        done = true;
                    }
                }
            }
        }
        self.completions = completions;
        done
    }

    /// Whether there was some.
    fn open_mail(&mut self, now: Nanos) -> bool {
        for n in 0..MAIL_PER_TURN {
            match self.post.take() {
                None => return n > 0,
                Some(Inbound::Engine(message)) => self.shard.message(now, *message),
                Some(Inbound::Driver(message)) => {
                    self.driver.message(now, message, &mut self.backend, &mut self.pool, &mut self.shard);
                }
                Some(Inbound::Control { ticket, request }) => {
                    let result = self.carry_out(now, request);
                    self.report(ReportKind::Done { ticket, result });
                }
            }
        }
        self.busy = true;
        true
    }

    fn carry_out(&mut self, now: Nanos, request: Request) -> io::Result<Option<SocketAddr>> {
        match request {
            Request::AddDevice { id, device } => {
                let half = device.open_half(&mut self.backend);
                self.links.extend(half.link.map(|link| (id, link)));
                self.shard.control(now, Control::AddDevice { id, handler: half.handler });
            }
            Request::RefreshDevice(id) => {
                if let Some(link) = self.links.get_mut(&id) {
                    link.refresh(&mut self.backend);
                }
            }
            Request::RemoveDevice(id) => self.shard.control(now, Control::RemoveDevice(id)),
            Request::SetTarget(target) => self.shard.control(now, Control::SetTarget(target)),
            Request::RemoveTarget(target) => self.shard.control(now, Control::RemoveTarget(target)),
            Request::Attention { device, asc } => self.shard.control(now, Control::Attention { device, asc }),
            Request::Configure(config) => self.driver.configure(config),
            Request::Poll(limit) => self.backend.set_spin(limit),
            Request::MeasureLatency(on) => self.shard.measure_latency(on.then(|| self.backend.clock())),
            Request::Listen(address) => return self.driver.listen(&mut self.backend, address).map(Some),
            Request::Shutdown => {
                self.driver.begin_shutdown(now, &mut self.backend);
                self.shutting_down = true;
            }
            Request::End => self.ending = true,
            Request::Ping => {}
            Request::PurgeBuffers => self.pool.purge(),
            Request::Statistics { part } => {
                let snapshot = Snapshot::take(part, &self.shard, &self.pool);
                self.report(ReportKind::Statistics(Box::new(snapshot)));
            }
        }
        Ok(None)
    }

    /// Whether there was one.
    fn time_outs(&mut self, now: Nanos) -> bool {
        let shard = self.shard.poll_timeout().is_some_and(|at| at <= now);
        if shard {
            self.shard.handle_timeout(now);
        }
        let driver = self.driver.poll_timeout().is_some_and(|at| at <= now);
        if driver {
            self.driver.handle_timeout(now, &mut self.backend, &mut self.pool, &mut self.shard);
        }
        shard || driver
    }

    /// Shard and driver give each other work until neither has any.
    fn work(&mut self, now: Nanos) {
        loop {
            let mut cx = RunContext { now, io: &mut self.backend, mem: &mut self.pool, outbox: &mut self.outbox };
            self.shard.run(&mut cx, &mut self.driver);
            if !self.driver.flush(now, &mut self.backend, &mut self.pool, &mut self.shard) {
                return;
            }
        }
    }

    fn send_mail(&mut self) {
        for to in 0..self.unsent.len() {
            while let Some(message) = self.unsent[to].pop_front() {
                match self.post.send(ReactorId(to as u16), message) {
                    Ok(()) => {}
                    Err(Undelivered::Full(message)) => {
                        self.unsent[to].push_front(message);
                        break;
                    }
                    // The daemon is ending; the message has nobody to matter to.
                    Err(Undelivered::Closed(_)) => {}
                }
            }
        }
        let mut messages = std::mem::take(&mut self.outbox.messages);
        for (to, message) in messages.drain(..) {
            self.send(to, Inbound::Engine(message));
        }
        self.outbox.messages = messages;
        while let Some((to, message)) = self.driver.poll_message() {
            self.send(to, Inbound::Driver(message));
        }
        let mut notices = std::mem::take(&mut self.outbox.notices);
        for notice in notices.drain(..) {
            match notice {
                Notice::DeviceRemoved(device) => {
                    if let Some(link) = self.links.remove(&device) {
                        link.close(&mut self.backend);
                    }
                    self.report(ReportKind::DeviceRemoved(device));
                }
                Notice::DeviceStuck { device, stuck } => self.report(ReportKind::DeviceStuck { device, stuck }),
            }
        }
        self.outbox.notices = notices;
    }

    fn send(&mut self, to: ReactorId, message: Inbound) {
        let Some(waiting) = self.unsent.get_mut(usize::from(to.0)) else { return };
        if !waiting.is_empty() {
            return waiting.push_back(message);
        }
        if let Err(Undelivered::Full(message)) = self.post.send(to, message) {
            waiting.push_back(message);
        }
    }

    fn report(&mut self, kind: ReportKind) {
        self.post.report(Report { reactor: self.place.reactor, kind });
    }
}
