//! The mid-level alone: a command comes in, a NULLIO disk answers it, the response goes out.

use scst_core::Nanos;
use scst_core::buffer::{BufferSource, Extent, Memory, SgList};
use scst_core::config::{LunEntry, LunMap, TargetConfig};
use scst_core::driver::{ExpectedTransfer, NewCommand, Response, TargetDriver};
use scst_core::engine::{EngineConfig, Limits, SessionRequest};
use scst_core::ids::{CmdId, DeviceId, ReactorId, SessionId, TargetId, TmfId};
use scst_core::io::{IoOp, IoQueue, IoToken, QueueFull};
use scst_core::shard::{Control, Outbox, RunContext, Shard};
use scst_handler_vdisk::{Vdisk, VdiskConfig};
use scst_reactor::backend::FileRegistry;
use scst_scsi::lun::LunAddressMethod;
use scst_scsi::{Cdb, DataDirection, Lun, ScsiStatus, SenseData, TaskAttribute, TaskManagementResponse};
use std::sync::Arc;

use crate::backend::Ticking;
use crate::meter::Meter;
use crate::scenario::Batch;
use crate::{BLOCK, BYTES, DISK_BYTES, Direction};

const TARGET: TargetId = TargetId(0);
const DEVICE: DeviceId = DeviceId(0);
const NOW: Nanos = Nanos(1);

/// The NULLIO disk of the scenarios.
pub fn disk() -> Vdisk {
    let config = VdiskConfig { block_size: BLOCK, ..VdiskConfig::null("disk", DISK_BYTES) };
    Vdisk::open(config).unwrap_or_else(|error| panic!("a plain disk opens: {error}"))
}

/// The target of the scenarios, with the disk as LUN 0.
pub fn target(name: &str) -> Arc<TargetConfig> {
    Arc::new(TargetConfig {
        id: TARGET,
        name: name.to_owned(),
        enabled: true,
        relative_port: 1,
        addressing: LunAddressMethod::Peripheral,
        luns: Arc::new(LunMap::new([LunEntry { lun: 0, device: DEVICE, read_only: false }])),
        groups: Vec::new(),
    })
}

fn engine_config() -> EngineConfig {
    EngineConfig { reactor: ReactorId(0), reactors: 1, limits: Limits::default() }
}

fn command(session: SessionId, direction: Direction, number: u32) -> NewCommand {
    let data = match direction {
        Direction::Read => DataDirection::FromDevice,
        Direction::Write => DataDirection::ToDevice,
    };
    NewCommand {
        session,
        driver_tag: u64::from(number),
        lun: Lun::default(),
        cdb: Cdb::new(&direction.cdb(number)),
        attribute: TaskAttribute::Simple,
        expected: Some(ExpectedTransfer { direction: data, length: BYTES, read_length: 0 }),
        data: None,
        held: false,
    }
}

/// Takes nothing, has nothing.
struct NoFiles;

impl FileRegistry for NoFiles {
    fn register_file(&mut self, _: Arc<std::fs::File>, _: bool) -> scst_core::io::FileId {
        scst_core::io::FileId(0)
    }

    fn unregister_file(&mut self, _: scst_core::io::FileId) {}
}

impl IoQueue for NoFiles {
    fn submit(&mut self, _: IoToken, _: IoOp<'_>) -> Result<(), QueueFull> {
        Err(QueueFull)
    }

    fn cancel(&mut self, _: CmdId) {}
}

/// Buffers that are only names.
struct Names;

fn buffer(bytes: u32) -> SgList {
    let mut sg = SgList::default();
    sg.push(Extent { arena: 0, len: bytes, offset: 0 });
    sg
}

impl Memory for Names {
    fn copy_in(&mut self, _: &SgList, _: u32, data: &[u8]) -> usize {
        data.len()
    }

    fn copy_out(&self, _: &SgList, _: u32, out: &mut [u8]) -> usize {
        out.len()
    }

    fn fill(&mut self, _: &SgList, _: u32, _: u32, _: u8) {}
}

impl BufferSource for Names {
    fn allocate(&mut self, bytes: u32) -> Option<SgList> {
        Some(buffer(bytes))
    }

    fn release(&mut self, _: &SgList) {}
}

/// Remembers what it is told.
#[derive(Default)]
struct Driver {
    wanted: Vec<CmdId>,
    answered: Vec<(CmdId, ScsiStatus)>,
}

impl TargetDriver for Driver {
    fn request_data(&mut self, _: SessionId, _: u64, cmd: CmdId, _: &SgList, _: u32) {
        self.wanted.push(cmd);
    }

    fn respond(&mut self, response: Response<'_>) {
        self.answered.push((response.cmd, response.status));
    }

    fn dropped(&mut self, _: SessionId, _: u64, _: CmdId) {}
    fn parked(&mut self, _: SessionId, _: u64, _: CmdId) {}
    fn unparked(&mut self, _: CmdId) {}
    fn abort_data(&mut self, _: SessionId, _: u64, _: CmdId) {}
    fn task_management_done(&mut self, _: SessionId, _: u64, _: TmfId, _: TaskManagementResponse) {}
    fn async_event(&mut self, _: SessionId, _: Lun, _: &SenseData) -> bool {
        true
    }
    fn close_session(&mut self, _: SessionId) {}
    fn session_closed(&mut self, _: SessionId) {}
}

/// The shard with a NULLIO disk; the driver and the buffers are the least that there can be.
pub struct ShardAlone {
    shard: Shard,
    session: SessionId,
    driver: Driver,
    outbox: Outbox,
    commands: Vec<NewCommand>,
    direction: Direction,
    batch: u32,
    number: u32,
}

impl ShardAlone {
    /// A session that has heard of its power-on attention, and that has reserved the disk if that is wanted.
    pub fn new(direction: Direction, batch: u32, measured: bool, reserved: bool) -> Self {
        let mut shard = Shard::new(engine_config());
        shard.measure_latency(measured.then(Ticking::clock));
        let handler = disk().open_shard(&mut NoFiles).shard;
        shard.control(NOW, Control::AddDevice { id: DEVICE, handler });
        shard.control(NOW, Control::SetTarget(target("iqn.2024-01.net.example:disk")));
        let request = SessionRequest { target: TARGET, initiator: "iqn.2024-01.net.example:host" };
        let session = shard.session_up(NOW, request).unwrap_or_else(|refused| panic!("{refused:?}"));
        let mut alone = Self {
            shard,
            session,
            driver: Driver::default(),
            outbox: Outbox::default(),
            commands: Vec::new(),
            direction,
            batch: 1,
            number: 0,
        };
        alone.turn(Meter::OFF);
        assert_eq!(alone.driver.answered[0].1, ScsiStatus::CHECK_CONDITION, "the power-on attention");
        if reserved {
            const RESERVE_6: [u8; 6] = [0x16, 0, 0, 0, 0, 0];
            let read = command(session, direction, 0);
            alone.commands.push(NewCommand { cdb: Cdb::new(&RESERVE_6), expected: None, ..read });
            alone.carry_out(Meter::OFF);
            assert_eq!(alone.driver.answered[0].1, ScsiStatus::GOOD, "the reservation");
        }
        alone.batch = batch;
        alone
    }

    fn turn(&mut self, meter: Meter) {
        for _ in 0..self.batch {
            self.commands.push(command(self.session, self.direction, self.number));
            self.number = self.number.wrapping_add(1);
        }
        self.carry_out(meter);
    }

    fn carry_out(&mut self, meter: Meter) {
        self.driver.answered.clear();
        let Self { shard, driver, outbox, commands, .. } = self;
        meter.run(|| {
            let mut cx = RunContext { now: NOW, io: &mut NoFiles, mem: &mut Names, outbox: &mut *outbox };
            for command in commands.iter() {
                let taken = shard.command(NOW, command);
                debug_assert!(taken.is_ok());
            }
            shard.run(&mut cx, driver);
            if !driver.wanted.is_empty() {
                for at in 0..driver.wanted.len() {
                    shard.data_received(NOW, driver.wanted[at], Ok(()));
                }
                driver.wanted.clear();
                shard.run(&mut cx, driver);
            }
            for &(cmd, _) in &driver.answered {
                shard.response_sent(NOW, cmd);
            }
            shard.run(&mut cx, driver);
        });
        assert_eq!(driver.answered.len(), commands.len());
        assert_eq!(shard.engine().commands_in_use(), 0);
        commands.clear();
    }
}

impl Batch for ShardAlone {
    fn run(&mut self, meter: Meter) {
        self.turn(meter);
        assert!(self.driver.answered.iter().all(|(_, status)| *status == ScsiStatus::GOOD));
    }
}
