//! Threads: one for each reactor, with its mailbox, and what the control plane holds of them.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use scst_core::Nanos;
use scst_core::engine::Limits;
use scst_core::ids::ReactorId;
use scst_mem::{BufferPool, CacheConfig, PoolConfig};
use scst_reactor::backend::Backend;
use scst_reactor::mailbox::{Mailbox, Sender, Undelivered, mailbox};
use scst_reactor::{AnyBackend, BackendChoice, ReactorConfig, process};
use scst_target_iscsi::limits::{MAX_CONNECTIONS, MAX_LISTENERS, MAX_REFUSING};
use scst_target_iscsi::{IscsiConfig, IscsiTarget, Registry};

use crate::reactor_loop::{Inbound, Place, Post, ReactorLoop, Report, ReportKind};

/// Messages that fit into one reactor's mailbox.
const MAILBOX: usize = 4096;

/// How to start reactors.
#[derive(Clone, Copy, Debug)]
pub struct ReactorOptions {
    /// How many.
    pub reactors: u16,
    /// With which back-end.
    pub backend: BackendChoice,
    /// Command buffers of all of them together; None: 256 MiB each.
    pub max_cmd_mem: Option<u64>,
    /// Bounds of each engine.
    pub limits: Limits,
    /// What command buffers keep.
    pub cache: CacheOptions,
    /// Registered with io_uring.
    pub register_buffers: bool,
}

/// How much free memory command buffers keep, all reactors together; None: the default of each.
#[derive(Clone, Copy, Debug)]
pub struct CacheOptions {
    /// Kept for ever.
    pub low: Option<u64>,
    /// Given back soon above this.
    pub high: Option<u64>,
    /// Given back down to the low watermark when it was not needed for so long; 0: never.
    pub purge_interval: Nanos,
}

impl CacheOptions {
    /// The share of one reactor. A watermark that was not chosen gives way to the one that was.
    fn share(&self, reactors: u16) -> CacheConfig {
        let default = CacheConfig::default();
        let share = |total: Option<u64>| total.map(|total| total / u64::from(reactors.max(1)));
        let low = share(self.low).unwrap_or(default.low_watermark);
        let high = share(self.high).unwrap_or_else(|| default.high_watermark.max(low));
        CacheConfig { low_watermark: low.min(high), high_watermark: high, purge_interval: self.purge_interval }
    }
}

/// All reactors.
#[derive(Debug)]
pub struct Reactors {
    /// Mail for each.
    pub mail: Vec<Sender<Inbound>>,
    threads: Vec<JoinHandle<()>>,
    /// Name of the back-end in use.
    pub backend: &'static str,
}

/// Post between threads.
pub struct ThreadPost<R> {
    inbox: Mailbox<Inbound>,
    peers: Vec<Sender<Inbound>>,
    reports: R,
}

impl<R: FnMut(Report)> Post for ThreadPost<R> {
    fn take(&mut self) -> Option<Inbound> {
        self.inbox.take()
    }

    fn send(&mut self, to: ReactorId, message: Inbound) -> Result<(), Undelivered<Inbound>> {
        match self.peers.get(usize::from(to.0)) {
            Some(peer) => peer.send(message),
            None => Err(Undelivered::Closed(message)),
        }
    }

    fn report(&mut self, report: Report) {
        (self.reports)(report);
    }
}

impl<R> ThreadPost<R> {
    /// A post for one of several reactors.
    pub fn new(inbox: Mailbox<Inbound>, peers: Vec<Sender<Inbound>>, reports: R) -> Self {
        Self { inbox, peers, reports }
    }
}

/// One session may have this part of a reactor's command buffers.
const SESSION_SHARE: u64 = 4;

/// Connections of the whole daemon that there is room for, as far as one reactor takes them. A back-end sets about 280
/// bytes aside for each.
const CONNECTIONS: u32 = 16 * 1024;
/// Connections of one reactor that there is always room for.
const MIN_CONNECTIONS: u32 = 1024;

/// Connections of one reactor that its back-end has room for.
fn connections(reactors: u16) -> u32 {
    let share = CONNECTIONS / u32::from(reactors.max(1));
    share.clamp(MIN_CONNECTIONS, MAX_CONNECTIONS as u32)
}

/// Sockets of one reactor: those that are served, those that are being refused, and listeners.
fn sockets(reactors: u16) -> u32 {
    connections(reactors) + 2 * MAX_REFUSING as u32 + MAX_LISTENERS as u32
}

/// Connections that one reactor takes: fewer than there are descriptors for, so that one more can still be accepted and told
/// that there is no room. A quarter of the descriptors, and 64, are for devices, rings, listeners and the rest.
fn max_connections(reactors: u16, file_limit: Option<u64>) -> usize {
    let share = |limit: u64| (limit - limit / 4).saturating_sub(64) / u64::from(reactors.max(1));
    let descriptors = file_limit.map_or(usize::MAX, |limit| usize::try_from(share(limit)).unwrap_or(usize::MAX));
    (connections(reactors) as usize).min(descriptors.max(MIN_SERVED))
}

/// Connections that a reactor takes however few descriptors there are.
const MIN_SERVED: usize = 4;

/// Opens one back-end with its buffers for each reactor.
///
/// # Errors
/// No back-end can be opened.
pub fn open_backends(options: &ReactorOptions) -> Result<Vec<(AnyBackend, BufferPool)>> {
    let mut pool = PoolConfig { cache: options.cache.share(options.reactors), ..PoolConfig::default() };
    if let Some(total) = options.max_cmd_mem {
        pool.budget = total / u64::from(options.reactors.max(1));
        pool.arena_bytes = pool.arena_bytes.min(u32::try_from(pool.budget).unwrap_or(u32::MAX));
    }
    (0..options.reactors)
        .map(|_| {
            let pool = BufferPool::new(pool);
            let config = ReactorConfig {
                sockets: sockets(options.reactors),
                register_buffers: options.register_buffers,
                ..ReactorConfig::new(Arc::clone(pool.arenas()))
            };
            let backend = scst_reactor::open(options.backend, &config)?;
            Ok((backend, pool))
        })
        .collect()
}

/// The processors to pin reactors to: with one reactor for each, a thread that moves only loses its caches. With fewer
/// or more, the scheduler knows better.
fn one_for_each(reactors: u16) -> Vec<usize> {
    match process::processors() {
        Ok(all) if all.len() == usize::from(reactors) => all,
        _ => Vec::new(),
    }
}

fn pin(processor: usize) {
    if let Err(error) = process::pin_thread(processor) {
        tracing::debug!("a reactor is not pinned to processor {processor}: {error}");
    }
}

/// Tells the control plane when a reactor's thread panics: the daemon must not go on half dead.
struct PanicReport<E: From<Report>> {
    reactor: ReactorId,
    reports: mpsc::Sender<E>,
}

impl<E: From<Report>> Drop for PanicReport<E> {
    fn drop(&mut self) {
        if thread::panicking() {
            let kind = ReportKind::Ended(Err(io::Error::other("it has panicked")));
            drop(self.reports.send(E::from(Report { reactor: self.reactor, kind })));
        }
    }
}

impl Reactors {
    /// Starts all threads. Reports go to `reports` of the event type `E`.
    ///
    /// # Errors
    /// A back-end cannot be opened or a thread not be started.
    pub fn start<E>(options: &ReactorOptions, reports: &mpsc::Sender<E>) -> Result<Self>
    where
        E: From<Report> + Send + 'static,
    {
        let backends = open_backends(options)?;
        let name = backends.first().map_or("none", |(backend, _)| backend.name());
        let boxes: Vec<_> = backends.iter().map(|(backend, _)| mailbox(MAILBOX, backend.waker())).collect();
        let (mail, inboxes): (Vec<_>, Vec<_>) = boxes.into_iter().unzip();
        let registry = Registry::new(options.reactors);
        let processors = one_for_each(options.reactors);
        let connections = max_connections(options.reactors, process::raise_file_limit().ok());
        let mut threads = Vec::new();
        for (number, ((backend, pool), inbox)) in (0_u16..).zip(backends.into_iter().zip(inboxes)) {
            let place = Place { reactor: ReactorId(number), reactors: options.reactors };
            let reports = reports.clone();
            let config = Arc::new(IscsiConfig::default());
            let mut driver = IscsiTarget::new(place.reactor, registry.clone(), config, IscsiTarget::os_entropy());
            driver.limit_connections(connections);
            let share = pool.statistics().budget / SESSION_SHARE;
            let limits = Limits { bytes_per_session: share, ..options.limits };
            let processor = processors.get(usize::from(number)).copied();
            let guard = PanicReport { reactor: place.reactor, reports: reports.clone() };
            let post = ThreadPost::new(inbox, mail.clone(), move |report: Report| {
                // Nobody listens only when the daemon is ending.
                drop(reports.send(E::from(report)));
            });
            let thread = thread::Builder::new().name(format!("reactor-{number}"));
            let thread = thread
                .spawn(move || {
                    let _guard = guard;
                    if let Some(processor) = processor {
                        pin(processor);
                    }
                    ReactorLoop::new(place, limits, backend, pool, driver, post).run();
                })
                .context("cannot start a reactor thread")?;
            threads.push(thread);
        }
        Ok(Self { mail, threads, backend: name })
    }

    /// How many there are.
    pub fn count(&self) -> u16 {
        self.mail.len() as u16
    }

    /// Waits for the threads, whose loops have ended. False when one of them panicked.
    pub fn join(&mut self) -> bool {
        let ends: Vec<_> = self.threads.drain(..).map(JoinHandle::join).collect();
        ends.iter().all(Result::is_ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_always_descriptors_left_for_refusing() {
        assert_eq!(max_connections(1, None), MAX_CONNECTIONS);
        assert_eq!(max_connections(4, Some(1 << 20)), 4096);
        assert_eq!(max_connections(1, Some(1024)), 704);
        assert_eq!(max_connections(2, Some(1024)), 352);
        assert_eq!(max_connections(64, Some(64)), MIN_SERVED);
    }
}
