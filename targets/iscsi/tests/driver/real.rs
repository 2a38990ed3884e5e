//! The same driver over real sockets and a real file, on both back-ends.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use scst_core::engine::{EngineConfig, Limits};
use scst_core::ids::{DeviceId, ReactorId};
use scst_core::shard::{Control, Outbox, RunContext, Shard};
use scst_mem::{BufferPool, PoolConfig};
use scst_protocol_iscsi::params::DigestPolicy;
use scst_reactor::ReactorConfig;
use scst_reactor::backend::{Backend, Completion, Waker};
use scst_reactor::posix::Posix;
use scst_reactor::uring::Uring;
use scst_target_iscsi::{IscsiConfig, IscsiTarget, IscsiTargetConfig, Registry};
use scst_testkit::initiator::{Command, Initiator};
use scst_testkit::pdu::Digests;

use crate::handler::{BLOCK, Disk};
use crate::harness::{DISK_BYTES, normal, pattern, target};

/// A daemon with one reactor in a thread of its own.
struct Daemon {
    portal: SocketAddr,
    waker: Waker,
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<(usize, u64)>,
}

impl Daemon {
    fn start<B: Backend + 'static>(open: fn(&ReactorConfig) -> Option<B>) -> Option<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            let pool = BufferPool::new(PoolConfig { budget: 64 << 20, huge_pages: false, ..PoolConfig::default() });
            let Some(backend) = open(&ReactorConfig::new(Arc::clone(pool.arenas()))) else { return (0, 0) };
            serve(backend, pool, &stopped, &tell)
        });
        let Ok((portal, waker)) = told.recv() else {
            assert_eq!(thread.join().unwrap(), (0, 0));
            return None;
        };
        Some(Self { portal, waker, stop, thread })
    }

    /// Stops it; commands and buffers that are left.
    fn stop(self) -> (usize, u64) {
        self.stop.store(true, Ordering::SeqCst);
        self.waker.wake();
        self.thread.join().unwrap()
    }
}

fn serve<B: Backend>(
    mut backend: B,
    mut pool: BufferPool,
    stop: &AtomicBool,
    tell: &mpsc::Sender<(SocketAddr, Waker)>,
) -> (usize, u64) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(DISK_BYTES).unwrap();
    let file = backend.register_file(Arc::new(file), false);
    let engine = EngineConfig { reactor: ReactorId(0), reactors: 1, limits: Limits::default() };
    let mut shard = Shard::new(engine);
    let handler = Box::new(Disk { file, blocks: DISK_BYTES / u64::from(BLOCK) });
    shard.control(backend.now(), Control::AddDevice { id: DeviceId(0), handler });
    shard.control(backend.now(), Control::SetTarget(Arc::new(target(true))));
    let mut settings = IscsiTargetConfig::default();
    settings.parameters.header_digest = DigestPolicy::NoneOrCrc32c;
    settings.parameters.data_digest = DigestPolicy::NoneOrCrc32c;
    let mut config = IscsiConfig::default();
    config.targets.insert(scst_core::ids::TargetId(0), Arc::new(settings));
    let mut iscsi = IscsiTarget::new(ReactorId(0), Registry::new(1), Arc::new(config), IscsiTarget::os_entropy());
    let portal = iscsi.listen(&mut backend, "127.0.0.1:0".parse().unwrap()).unwrap();
    tell.send((portal, backend.waker())).unwrap();
    let mut outbox = Outbox::default();
    let mut completions: Vec<Completion> = Vec::new();
    while !iscsi.idle() {
        let deadline = [iscsi.poll_timeout(), shard.poll_timeout()].into_iter().flatten().min();
        backend.wait(deadline, &mut completions).unwrap();
        let now = backend.now();
        for completion in completions.drain(..) {
            match completion {
                Completion::Io(io) => {
                    let (mem, outbox) = (&mut pool, &mut outbox);
                    shard.io_completed(&mut RunContext { now, io: &mut backend, mem, outbox }, io);
                }
                Completion::Woken if stop.swap(false, Ordering::SeqCst) => iscsi.begin_shutdown(now, &mut backend),
                other => iscsi.completion(now, other, &mut backend, &mut pool, &mut shard),
            }
        }
        iscsi.handle_timeout(now, &mut backend, &mut pool, &mut shard);
        loop {
            let (mem, outbox) = (&mut pool, &mut outbox);
            shard.run(&mut RunContext { now, io: &mut backend, mem, outbox }, &mut iscsi);
            if !iscsi.flush(now, &mut backend, &mut pool, &mut shard) {
                break;
            }
        }
    }
    (shard.engine().commands_in_use(), pool.statistics().in_use)
}

fn work(portal: SocketAddr, digests: Digests, isid: u16) {
    let mut host = Initiator::connect(portal, normal().with_isid(isid).with_digests(digests)).unwrap();
    host.clear_unit_attentions(0).unwrap();
    let base = u64::from(isid) * 4096;
    for blocks in [1, 7, 128, 129, 1024, 3000] {
        let data = pattern(isid as u8, blocks * BLOCK as usize);
        assert!(host.run(Command::write_blocks(0, base, BLOCK, data.clone())).unwrap().is_good());
        let back = host.run(Command::read_blocks(0, base, blocks as u32, BLOCK)).unwrap();
        assert!(back.data_in == data, "{blocks} blocks came back changed");
    }
    let tags: Vec<_> = (0..64u64)
        .map(|i| host.submit(Command::write_blocks(0, base + i * 8, BLOCK, pattern(i as u8, 4096))).unwrap())
        .collect();
    for tag in tags {
        assert!(host.wait(tag).unwrap().is_good());
    }
    let tags: Vec<_> =
        (0..64u64).map(|i| host.submit(Command::read_blocks(0, base + i * 8, 8, BLOCK)).unwrap()).collect();
    for (i, tag) in tags.into_iter().enumerate() {
        assert!(host.wait(tag).unwrap().data_in == pattern(i as u8, 4096), "read {i}");
    }
    assert_eq!(host.logout_and_wait().unwrap(), 0);
}

fn serves_several_initiators(daemon: Daemon) {
    let portal = daemon.portal;
    let plain = Digests::default();
    let both = Digests { header: true, data: true };
    thread::scope(|scope| {
        for (isid, digests) in [(1, plain), (2, both), (3, plain), (4, both)] {
            scope.spawn(move || work(portal, digests, isid));
        }
    });
    let stays = Initiator::connect(portal, normal()).unwrap();
    assert_eq!(daemon.stop(), (0, 0), "commands and buffers that are left");
    drop(stays);
}

#[test]
fn over_epoll() {
    let daemon = Daemon::start(|config| Posix::new(config).ok()).expect("epoll works everywhere");
    serves_several_initiators(daemon);
}

#[test]
fn over_io_uring_where_there_is_one() {
    match Daemon::start(|config| Uring::new(config).ok()) {
        Some(daemon) => serves_several_initiators(daemon),
        None => eprintln!("this system has no io_uring: not tested"),
    }
}
