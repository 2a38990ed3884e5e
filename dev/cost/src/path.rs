//! The whole path in user space: the daemon's own loop, driver, mid-level and NULLIO disk, from received bytes to bytes
//! to send. Only the kernel is missing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use scst_core::Nanos;
use scst_core::engine::Limits;
use scst_core::ids::{DeviceId, ReactorId, TargetId};
use scst_handler_vdisk::Vdisk;
use scst_reactor::backend::FileRegistry;
use scst_reactor::mailbox::Undelivered;
use scst_target_iscsi::{IscsiConfig, IscsiTarget, IscsiTargetConfig, Registry};
use scst_testkit::initiator::Phase;
use scst_testkit::pdu::Digests;
use scstd::reactor_loop::{DeviceHalf, DeviceSource, Inbound, Place, Post, ReactorLoop, Report, Request};

use crate::Direction;
use crate::backend::NullBackend;
use crate::meter::Meter;
use crate::mid_level;
use crate::pool::pool;
use crate::protocol::{Initiator, TARGET};
use crate::scenario::Batch;

/// Between two turns.
const TURN: Nanos = Nanos(20_000);

/// What the control plane has to say at the start.
struct Requests(VecDeque<Inbound>);

impl Post for Requests {
    fn take(&mut self) -> Option<Inbound> {
        self.0.pop_front()
    }

    fn send(&mut self, _: ReactorId, message: Inbound) -> Result<(), Undelivered<Inbound>> {
        Err(Undelivered::Closed(message))
    }

    fn report(&mut self, _: Report) {}
}

struct Disk(Vdisk);

impl DeviceSource for Disk {
    fn open_half(&self, files: &mut dyn FileRegistry) -> DeviceHalf {
        DeviceHalf { handler: self.0.open_shard(files).shard, link: None }
    }
}

/// See the module.
pub struct Path {
    reactor: ReactorLoop<NullBackend, Requests>,
    initiator: Initiator,
    to_target: Vec<u8>,
    to_initiator: Vec<u8>,
    batch: u32,
}

impl Path {
    /// Logged in, and the power-on attention told.
    pub fn new(direction: Direction, batch: u32, measured: bool) -> Self {
        let targets = BTreeMap::from([(TargetId(0), Arc::new(IscsiTargetConfig::default()))]);
        let config = Arc::new(IscsiConfig { targets, ..IscsiConfig::default() });
        let requests = [
            Request::AddDevice { id: DeviceId(0), device: Arc::new(Disk(mid_level::disk())) },
            Request::SetTarget(mid_level::target(TARGET)),
            Request::Configure(Arc::clone(&config)),
            Request::MeasureLatency(measured),
            Request::Listen(([127, 0, 0, 1], 3260).into()),
        ];
        let post = Requests(requests.into_iter().map(|request| Inbound::Control { ticket: 0, request }).collect());
        let pool = pool();
        let backend = NullBackend::new(&pool);
        let driver = IscsiTarget::new(ReactorId(0), Registry::new(1), config, IscsiTarget::os_entropy());
        let place = Place { reactor: ReactorId(0), reactors: 1 };
        let reactor = ReactorLoop::new(place, Limits::default(), backend, pool, driver, post);
        let initiator = Initiator::new(direction, Digests { header: false, data: false });
        let mut path = Self { reactor, initiator, to_target: Vec::new(), to_initiator: Vec::new(), batch };
        path.turn(Meter::OFF);
        path.reactor.backend_mut().connect();
        while path.initiator.core.phase() != Phase::FullFeature {
            path.exchange(Meter::OFF);
            path.initiator.core.handle_input(&path.to_initiator);
            path.to_initiator.clear();
        }
        path.initiator.submit();
        path.exchange(Meter::OFF);
        path.initiator.core.handle_input(&path.to_initiator);
        path.to_initiator.clear();
        path.initiator.drain_events();
        path
    }

    fn turn(&mut self, meter: Meter) {
        let reactor = &mut self.reactor;
        reactor.backend_mut().pass(TURN);
        meter.run(|| {
            let turn = reactor.turn(None);
            debug_assert!(turn.is_ok());
        });
    }

    /// Turns until all that the initiator has sent is taken and all answers are there.
    fn exchange(&mut self, meter: Meter) {
        self.to_target = self.initiator.core.take_output();
        let mut at = 0;
        loop {
            let backend = self.reactor.backend_mut();
            let taken = backend.deliver(&self.to_target[at..]);
            at += taken;
            let sent = backend.collect(&mut self.to_initiator);
            if taken == 0 && !sent && at == self.to_target.len() {
                return;
            }
            self.turn(meter);
        }
    }
}

impl Batch for Path {
    fn run(&mut self, meter: Meter) {
        for _ in 0..self.batch {
            self.initiator.submit();
        }
        self.exchange(meter);
        self.initiator.check(&self.to_initiator, self.batch);
        self.to_initiator.clear();
        assert_eq!(self.reactor.shard().engine().commands_in_use(), 0);
    }
}
