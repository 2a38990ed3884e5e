//! Commands of a simulated initiator: made at random, and judged when they end.

use scst_core::Nanos;
use scst_testkit::initiator::{Amount, Command, DataOutPlan, Outcome, TaskAttribute};
use scst_testkit::scsi::cdb::{self, RwFlags, WriteSameFlags};
use scst_testkit::scsi::{param, status};

use crate::content::{self, SECTOR};
use crate::medium::{Complaint, Fill, Shape, Tick};
use crate::scene::Scene;

/// LUNs from here on show the disks a second time, to some initiators.
pub const SECOND_LUNS: u32 = 16;
/// Longest usual command, in blocks.
const USUAL_BLOCKS: u64 = 8;

/// What a command does.
#[derive(Clone, Debug)]
pub enum Kind {
    /// READ of sectors.
    Read {
        /// First sector.
        first: u64,
        /// Sectors.
        count: u64,
    },
    /// WRITE, WRITE SAME, UNMAP.
    Write {
        /// Its number.
        write: u64,
        /// What it changes.
        shape: Shape,
        /// Its acknowledgement makes it durable.
        durable: bool,
    },
    /// COMPARE AND WRITE of one block.
    CompareAndWrite {
        /// Its number.
        write: u64,
        /// What it changes.
        shape: Shape,
        /// What has to be there.
        old: Vec<u8>,
    },
    /// SYNCHRONIZE CACHE.
    Flush,
    /// Something whose data nobody looks at.
    Other,
}

/// A command that has been sent.
#[derive(Clone, Debug)]
pub struct Op {
    /// The disk behind its LUN.
    pub disk: usize,
    /// The LUN.
    pub lun: u32,
    /// What it does.
    pub kind: Kind,
    /// It must not be overtaken.
    pub ordered: bool,
    /// When it was sent, logically.
    pub start: Tick,
    /// And in virtual time.
    pub sent: Nanos,
}

/// What an initiator has to know to make a command.
pub struct Maker<'a> {
    /// The scene.
    pub scene: &'a mut Scene,
    /// Blocks as they were last read, for COMPARE AND WRITE.
    pub seen: &'a dyn Fn(usize, u64) -> Option<Vec<u8>>,
    /// Leave data-out waiting now and then.
    pub hesitant: bool,
}

impl Maker<'_> {
    /// A random command.
    pub fn make(&mut self) -> (Op, Command) {
        let disk = self.scene.rng.below(self.scene.plan.disks.len() as u64) as usize;
        let lun = disk as u32 + if self.scene.rng.chance(150_000) { SECOND_LUNS } else { 0 };
        let (kind, command) = if self.scene.rng.chance(self.scene.plan.chaos.exclusive) {
            (Kind::Other, self.exclusive(lun))
        } else {
            self.usual(disk, lun)
        };
        let mut command = command.with_attribute(self.attribute());
        if !command.data_out.is_empty() {
            command.plan = self.data_plan();
        }
        let ordered = command.attribute == TaskAttribute::Ordered;
        let op = Op { disk, lun, kind, ordered, start: 0, sent: self.scene.now() };
        (op, command)
    }

    fn attribute(&mut self) -> TaskAttribute {
        match self.scene.rng.below(20) {
            0 => TaskAttribute::Ordered,
            1 => TaskAttribute::HeadOfQueue,
            2 => TaskAttribute::Untagged,
            _ => TaskAttribute::Simple,
        }
    }

    fn data_plan(&mut self) -> DataOutPlan {
        let mut plan = DataOutPlan { hold: self.hesitant && self.scene.rng.chance(300_000), ..DataOutPlan::default() };
        if self.scene.rng.chance(200_000) {
            plan.segment = Some(512);
        }
        if self.scene.rng.chance(100_000) {
            plan.immediate = Amount::Bytes(0);
        }
        plan
    }

    fn range(&mut self, disk: usize) -> (u64, u64) {
        let blocks = u64::from(self.scene.plan.disks[disk].blocks);
        if self.scene.rng.chance(30_000) {
            return (0, blocks);
        }
        let count = 1 + self.scene.rng.below(USUAL_BLOCKS.min(blocks));
        (self.scene.rng.below(blocks - count + 1), count)
    }

    fn usual(&mut self, disk: usize, lun: u32) -> (Kind, Command) {
        let plan = self.scene.plan.disks[disk];
        let per_block = u64::from(plan.block_size) / SECTOR as u64;
        let (lba, count) = self.range(disk);
        let (first, sectors) = (lba * per_block, count * per_block);
        match self.scene.rng.below(100) {
            0..38 => {
                let command = Command::read_blocks(lun, lba, count as u32, plan.block_size);
                (Kind::Read { first, count: sectors }, command)
            }
            38..78 => self.write(disk, lun, lba, count),
            78..83 => (Kind::Flush, Command::flush(lun)),
            83..88 => self.compare_and_write(disk, lun, lba),
            88..91 => self.write_same(disk, lun, lba, count),
            91..94 if plan.thin => {
                let shape = Shape { first, count: sectors, fill: Fill::Zeros };
                let list = param::unmap(&[(lba, count as u32)]);
                let kind = Kind::Write { write: self.scene.write_number(), shape, durable: false };
                (kind, Command::write(lun, cdb::unmap(false, list.len() as u16), list))
            }
            _ => (Kind::Other, self.other(lun)),
        }
    }

    fn write(&mut self, disk: usize, lun: u32, lba: u64, count: u64) -> (Kind, Command) {
        let plan = self.scene.plan.disks[disk];
        let per_block = u64::from(plan.block_size) / SECTOR as u64;
        let shape = Shape { first: lba * per_block, count: count * per_block, fill: Fill::Data };
        let write = self.scene.write_number();
        let data = content::data(write, shape.count as u32);
        let fua = self.scene.rng.chance(120_000);
        let flags = if fua { RwFlags::FUA } else { RwFlags::NONE };
        let (lba32, n) = (lba as u32, count as u32);
        let cdb = match self.scene.rng.below(8) {
            0 => cdb::write10(lba32, n as u16, flags),
            1 => cdb::write12(lba32, n, flags),
            2 if !fua => cdb::write_and_verify16(lba, n, 0),
            3 if !fua => cdb::write6(lba32, n as u8),
            _ => cdb::write16(lba, n, flags),
        };
        (Kind::Write { write, shape, durable: fua || plan.write_through }, Command::write(lun, cdb, data))
    }

    fn write_same(&mut self, disk: usize, lun: u32, lba: u64, count: u64) -> (Kind, Command) {
        let plan = self.scene.plan.disks[disk];
        let per_block = u64::from(plan.block_size) / SECTOR as u64;
        let write = self.scene.write_number();
        let mut shape = Shape { first: lba * per_block, count: count * per_block, fill: Fill::Zeros };
        let command = if self.scene.rng.chance(400_000) {
            let flags =
                WriteSameFlags { ndob: true, unmap: plan.thin && self.scene.rng.chance(500_000), anchor: false };
            Command::new(lun, cdb::write_same16(lba, count as u32, flags))
        } else {
            shape.fill = Fill::Repeat(per_block as u32);
            let data = content::data(write, per_block as u32);
            Command::write(lun, cdb::write_same16(lba, count as u32, WriteSameFlags::default()), data)
        };
        (Kind::Write { write, shape, durable: false }, command)
    }

    fn compare_and_write(&mut self, disk: usize, lun: u32, lba: u64) -> (Kind, Command) {
        let plan = self.scene.plan.disks[disk];
        let per_block = u64::from(plan.block_size) / SECTOR as u64;
        let first = lba * per_block;
        let Some(old) = (self.seen)(disk, first) else {
            let command = Command::read_blocks(lun, lba, 1, plan.block_size);
            return (Kind::Read { first, count: per_block }, command);
        };
        let write = self.scene.write_number();
        let shape = Shape { first, count: per_block, fill: Fill::Data };
        let mut data = old.clone();
        data.extend_from_slice(&content::data(write, per_block as u32));
        let command = Command::write(lun, cdb::compare_and_write(lba, 1, RwFlags::NONE), data);
        (Kind::CompareAndWrite { write, shape, old }, command)
    }

    fn other(&mut self, lun: u32) -> Command {
        match self.scene.rng.below(9) {
            0 => Command::new(lun, cdb::test_unit_ready()),
            1 => Command::inquiry(lun, self.scene.rng.chance(500_000).then_some(0x83)),
            2 => Command::read(lun, cdb::report_luns(0, 4096), 4096),
            3 => Command::read(lun, cdb::mode_sense10(false, 0, 0x3f, 0, 1024), 1024),
            4 => Command::read(lun, cdb::read_capacity16(32), 32),
            5 => Command::read(lun, cdb::request_sense(false, 252), 252),
            6 => Command::read(lun, cdb::log_sense(0x19, 0, 0, 512), 512),
            7 => Command::new(lun, cdb::prefetch10(0, 1, true)),
            _ => Command::new(lun, cdb::verify16(0, 1, 0)),
        }
    }

    /// Commands that want to be alone, or that make others wait.
    fn exclusive(&mut self, lun: u32) -> Command {
        match self.scene.rng.below(6) {
            0 => Command::new(lun, cdb::reserve6()),
            1 | 2 => Command::new(lun, cdb::release6()),
            3 => Command::new(lun, cdb::prevent_allow(self.scene.rng.chance(500_000))),
            4 => Command::new(lun, cdb::start_stop_unit(false, 0, false, true)),
            _ => {
                // Control mode page (SPC-6 7.5.10): TST, D_SENSE and TAS at random.
                let random = self.scene.rng.next_u64();
                let mut page = [0; 12];
                page[0] = 0x0a;
                page[1] = 10;
                page[2] = ((random & 1) as u8) << 5 | ((random >> 1 & 1) as u8) << 2;
                page[3] = 0x10;
                page[5] = ((random >> 2 & 1) as u8) << 6;
                let list = param::mode_select6(&page);
                Command::write(lun, cdb::mode_select6(true, false, list.len() as u8), list)
            }
        }
    }
}

impl Op {
    /// It goes out now.
    pub fn begins(&mut self, scene: &mut Scene) {
        self.start = scene.tick();
        let medium = &mut scene.media[self.disk];
        match &self.kind {
            Kind::Read { .. } => medium.read_begins(self.start),
            Kind::Write { write, shape, .. } => medium.write_begins(self.start, *write, *shape),
            Kind::CompareAndWrite { write, shape, .. } => {
                medium.read_begins(self.start);
                medium.write_begins(self.start, *write, *shape);
            }
            Kind::Flush | Kind::Other => {}
        }
    }

    /// It was answered.
    ///
    /// # Errors
    /// The answer is wrong.
    pub fn ends(&self, scene: &mut Scene, outcome: &Outcome) -> Result<(), Complaint> {
        let now = scene.tick();
        if outcome.response != 0 {
            return Err(format!("iSCSI response {} for {self:?}", outcome.response));
        }
        if outcome.is_good() {
            scene.counters.good += 1;
            return self.ends_well(scene, now, outcome);
        }
        let kcq = outcome.kcq();
        if outcome.status == status::CHECK_CONDITION && kcq.is_none() {
            return Err(format!("CHECK CONDITION without sense data for {self:?}"));
        }
        self.check_failure(scene, outcome.status, kcq)?;
        let refused = matches!(outcome.status, status::RESERVATION_CONFLICT | status::TASK_SET_FULL)
            || matches!(kcq, Some((5 | 6 | 0xe, ..) | (7, 0x27, 0)));
        self.over(scene, now, refused)
    }

    fn ends_well(&self, scene: &mut Scene, now: Tick, outcome: &Outcome) -> Result<(), Complaint> {
        let medium = &mut scene.media[self.disk];
        match &self.kind {
            Kind::Read { first, count } => {
                medium.read_over(self.start);
                if outcome.data_in.len() as u64 != count * SECTOR as u64 {
                    return Err(format!("{} bytes for {self:?}", outcome.data_in.len()));
                }
                medium.observed(self.start, now, *first, &outcome.data_in)
            }
            Kind::Write { write, shape, durable } => {
                medium.write_ends(now, *write, *shape, *durable);
                Ok(())
            }
            Kind::CompareAndWrite { write, shape, old } => {
                medium.read_over(self.start);
                medium.replaced(self.start, now, shape.first, old)?;
                medium.write_ends(now, *write, *shape, false);
                Ok(())
            }
            Kind::Flush => {
                medium.flushed(self.start);
                Ok(())
            }
            Kind::Other => Ok(()),
        }
    }

    /// It can have no effect any more that it does not have yet; `refused`: it never had one.
    ///
    /// # Errors
    /// It was refused, but had an effect.
    pub fn over(&self, scene: &mut Scene, now: Tick, refused: bool) -> Result<(), Complaint> {
        let medium = &mut scene.media[self.disk];
        match &self.kind {
            Kind::Read { .. } => medium.read_over(self.start),
            Kind::CompareAndWrite { .. } => medium.read_over(self.start),
            _ => {}
        }
        match &self.kind {
            Kind::Write { write, shape, .. } | Kind::CompareAndWrite { write, shape, .. } if refused => {
                medium.write_refused(*write, *shape)
            }
            Kind::Write { write, shape, .. } | Kind::CompareAndWrite { write, shape, .. } => {
                medium.write_over(now, *write, *shape);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Its session is gone: what it does until the target knows that too is not known.
    pub fn unknown(&self, scene: &mut Scene) {
        if matches!(self.kind, Kind::Read { .. } | Kind::CompareAndWrite { .. }) {
            scene.media[self.disk].read_over(self.start);
        }
    }

    /// Whether a failure can be explained by what goes wrong in this run.
    fn check_failure(&self, scene: &Scene, status: u8, kcq: Option<(u8, u8, u8)>) -> Result<(), Complaint> {
        let (disk, chaos) = (scene.plan.sim.disk, scene.plan.chaos);
        let functions = chaos.functions > 0;
        let explained = match (status, kcq) {
            (status::BUSY | status::TASK_SET_FULL, _) => true,
            (status::RESERVATION_CONFLICT, _) => chaos.exclusive > 0,
            (status::TASK_ABORTED, _) => functions,
            (status::CONDITION_MET, _) => matches!(self.kind, Kind::Other),
            (_, Some((6, ..))) => true,
            // Not ready while a device comes or goes.
            (_, Some((2, ..))) => chaos.devices > 0 || disk.eio > 0,
            (_, Some((3, ..))) => disk.eio > 0 || disk.short > 0,
            (_, Some((5, 0x25, 0))) => true,
            (_, Some((5, ..))) => matches!(self.kind, Kind::Other),
            (_, Some((7, 0x27, 7))) => disk.enospc > 0,
            (_, Some((7, 0x27, 0))) => chaos.maps > 0,
            (_, Some((0xb, ..))) => functions || chaos.resets > 0 || disk.hang > 0,
            (_, Some((0xe, ..))) => matches!(self.kind, Kind::CompareAndWrite { .. }),
            _ => false,
        };
        if explained { Ok(()) } else { Err(format!("status {status:#04x} {kcq:x?} for {self:?}")) }
    }
}
