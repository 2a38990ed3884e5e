//! In the steady state a READ or a WRITE allocates nothing: every allocation of the process is counted, but those of the
//! test's own thread, which plays the initiator. So it is while latencies are measured.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use scst_config::{Configuration, parse};
use scst_core::config::{LunEntry, LunMap, TargetConfig};
use scst_core::engine::Limits;
use scst_core::ids::{DeviceId, ReactorId, TargetId};
use scst_mem::{BufferPool, PoolConfig};
use scst_reactor::mailbox::{Sender, mailbox};
use scst_reactor::{BackendChoice, ReactorConfig, backend::Backend};
use scst_target_iscsi::{IscsiConfig, IscsiTarget, Registry};
use scst_testkit::allocations::{Counting, allocations, exempt_this_thread};
use scst_testkit::{Command, Initiator, LoginConfig};
use scstd::disk::Disk;
use scstd::reactor_loop::{Inbound, Place, ReactorLoop, Report, ReportKind, Request};
use scstd::reactors::ThreadPost;
use tempfile::NamedTempFile;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TARGET: &str = "iqn.2026-01.example:target";
/// Commands of a burst before counting, and bursts.
const BURST: usize = 2 * DEPTH;
const BURSTS: usize = 4;
/// Commands of the load that is counted, before it is: the pool has then ready what the load needs.
const WARM_UP: usize = 300;
/// Commands that are counted.
const COUNTED: usize = 1000;
/// How often it is counted.
const ROUNDS: usize = 3;
/// Commands in flight.
const DEPTH: usize = 8;

/// One reactor with one disk as LUN 0, run by the daemon's own loop on a thread.
struct Reactor {
    mail: Sender<Inbound>,
    reports: Receiver<Report>,
    thread: thread::JoinHandle<()>,
    portal: SocketAddr,
}

impl Reactor {
    fn start(choice: BackendChoice, handler: &str, attributes: &str) -> Option<Self> {
        let pool = BufferPool::new(PoolConfig { budget: 64 << 20, ..PoolConfig::default() });
        let backend = scst_reactor::open(choice, &ReactorConfig::new(Arc::clone(pool.arenas()))).ok()?;
        let (mail, inbox) = mailbox(64, backend.waker());
        let (reports_to, reports) = mpsc::channel();
        let post = ThreadPost::new(inbox, vec![mail.clone()], move |report: Report| drop(reports_to.send(report)));
        let place = Place { reactor: ReactorId(0), reactors: 1 };
        let driver = IscsiTarget::new(
            place.reactor,
            Registry::new(1),
            Arc::new(IscsiConfig::default()),
            IscsiTarget::os_entropy(),
        );
        let thread = thread::spawn(move || {
            ReactorLoop::new(place, Limits::default(), backend, pool, driver, post).run();
        });
        let mut reactor = Self { mail, reports, thread, portal: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let text = format!("HANDLER {handler} {{\n DEVICE disk1 {{\n {attributes}\n }}\n}}\n");
        let configuration: Configuration = parse("test", text.as_bytes()).unwrap().configuration;
        let disk = Disk::open("disk1", &configuration.devices["disk1"], "", 1).unwrap();
        let device = DeviceId(0);
        reactor.ask(Request::AddDevice { id: device, device: disk.source() });
        let luns = Arc::new(LunMap::new([LunEntry { lun: 0, device, read_only: false }]));
        reactor.ask(Request::SetTarget(Arc::new(TargetConfig {
            id: TargetId(0),
            name: TARGET.to_owned(),
            enabled: true,
            relative_port: 1,
            addressing: Default::default(),
            luns,
            groups: Vec::new(),
        })));
        reactor.portal = reactor.ask(Request::Listen(reactor.portal)).unwrap();
        Some(reactor)
    }

    fn ask(&self, request: Request) -> Option<SocketAddr> {
        assert!(self.mail.send(Inbound::Control { ticket: 1, request }).is_ok());
        match self.reports.recv().unwrap().kind {
            ReportKind::Done { result, .. } => result.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn end(self) {
        self.ask(Request::End);
        self.thread.join().unwrap();
    }
}

/// `count` commands, `DEPTH` in flight, made by `make` from their number.
fn load(host: &mut Initiator, count: usize, make: impl Fn(u64) -> Command) {
    let mut sent = 0;
    let mut done = 0;
    while done < count {
        while sent < count && sent - done < DEPTH {
            host.submit(make(sent as u64)).unwrap();
            sent += 1;
        }
        assert!(host.wait_any().unwrap().is_good());
        done += 1;
    }
}

/// Bursts that are more than what is counted ever has at once, so that every queue and table has the size that it needs;
/// then the same load again and again.
fn measure(name: &str, host: &mut Initiator, make: impl Fn(u64) -> Command) {
    for _ in 0..BURSTS {
        let burst: Vec<u32> = (0..BURST as u64).map(|n| host.core().submit(make(n))).collect();
        host.flush().unwrap();
        for tag in burst {
            assert!(host.wait(tag).unwrap().is_good());
        }
    }
    load(host, WARM_UP, &make);
    let rounds = [(); ROUNDS].map(|()| {
        let before = allocations();
        load(host, COUNTED, &make);
        allocations() - before
    });
    assert_eq!(rounds, [0; ROUNDS], "{name}: allocations in {COUNTED} commands, by round");
}

#[test]
fn read_and_write_allocate_nothing() {
    exempt_this_thread();
    let disk = NamedTempFile::new().unwrap();
    disk.as_file().set_len(64 << 20).unwrap();
    let mut measured = 0;
    for (choice, attribute) in [
        (BackendChoice::Posix, ""),
        (BackendChoice::Uring, ""),
        (BackendChoice::Uring, "zero_copy_read 1"),
        (BackendChoice::Posix, "write_through 1"),
        (BackendChoice::Uring, "write_through 1"),
    ] {
        let attributes = format!("filename \"{}\"\n {attribute}", disk.path().display());
        let Some(reactor) = Reactor::start(choice, "vdisk_fileio", &attributes) else { continue };
        let mut host =
            Initiator::connect(reactor.portal, LoginConfig::normal("iqn.2026-01.example:host", TARGET)).unwrap();
        host.clear_unit_attentions(0).unwrap();
        let loads = [(false, 8_u32), (false, 128), (false, 1024), (true, 8), (true, 1024)];
        // The file system's own work takes long enough for one load.
        let loads = if attribute == "write_through 1" { &loads[..1] } else { &loads };
        for &(measured, blocks) in loads {
            reactor.ask(Request::MeasureLatency(measured));
            let lba = |n: u64| (n * 7919 * u64::from(blocks)) % (64 << 11) / u64::from(blocks) * u64::from(blocks);
            let data = vec![0x5a; blocks as usize * 512];
            let name = |what| format!("{choice:?} {what} of {blocks} blocks, measured: {measured}, {attribute}");
            measure(&name("WRITE"), &mut host, |n| Command::write_blocks(0, lba(n), 512, data.clone()));
            measure(&name("READ"), &mut host, |n| Command::read_blocks(0, lba(n), blocks, 512));
        }
        drop(host);
        reactor.end();
        without_data(choice);
        measured += 1;
    }
    assert!(measured >= 1, "no back-end could be opened");
}

/// The same for devices without data; on a tape every command is alone, which must not cost memory either.
fn without_data(choice: BackendChoice) {
    let login = |reactor: &Reactor| {
        let config = LoginConfig::normal("iqn.2026-01.example:host", TARGET);
        let mut host = Initiator::connect(reactor.portal, config).unwrap();
        host.clear_unit_attentions(0).unwrap();
        host
    };
    let name = |what| format!("{choice:?} {what}");
    let data = vec![0x5a; 4096];
    let Some(reactor) = Reactor::start(choice, "dev_disk_perf", "") else { return };
    let mut host = login(&reactor);
    measure(&name("WRITE of a disk"), &mut host, |n| Command::write_blocks(0, n, 512, data.clone()));
    measure(&name("READ of a disk"), &mut host, |n| Command::read_blocks(0, n, 8, 512));
    drop(host);
    reactor.end();
    let Some(reactor) = Reactor::start(choice, "dev_tape_perf", "") else { return };
    let mut host = login(&reactor);
    let block = |opcode| vec![opcode, 0, 0, 0x10, 0, 0];
    measure(&name("WRITE of a tape"), &mut host, |_| Command::write(0, block(0x0a), data.clone()));
    measure(&name("READ of a tape"), &mut host, |n| match n % 100 {
        0 => Command::new(0, vec![0x01, 0, 0, 0, 0, 0]),
        _ => Command::read(0, block(0x08), 4096),
    });
    drop(host);
    reactor.end();
}
