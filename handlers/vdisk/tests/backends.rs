//! The same CDBs over a real file, through the real back-ends.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use scst_core::Nanos;
use scst_core::buffer::Memory;
use scst_core::handler::{ExecCommand, ExecContext, Execution, HandlerShard, Outcome, Port};
use scst_core::ids::{CmdId, NexusId, ReactorId, SessionId};
use scst_handler_vdisk::{OpenShard, Vdisk, VdiskConfig};
use scst_mem::{BufferPool, PoolConfig};
use scst_reactor::backend::{Backend, Completion};
use scst_reactor::{AnyBackend, BackendChoice, ReactorConfig, open};
use scst_scsi::{Cdb, SenseData};

const BYTES: u64 = 8 << 20;

struct Rig {
    shard: Box<dyn HandlerShard>,
    backend: AnyBackend,
    pool: BufferPool,
    commands: u32,
}

impl Rig {
    fn run(&mut self, cdb: &[u8], data_out: &[u8]) -> (Outcome, Vec<u8>) {
        let cdb = Cdb::new(cdb);
        let parsed = self.shard.parse(&cdb).unwrap();
        let sg = self.pool.allocate(parsed.length).unwrap();
        self.pool.copy_in(&sg, 0, data_out);
        self.commands += 1;
        let exec = ExecCommand {
            id: CmdId { index: self.commands, generation: 1 },
            cdb: &cdb,
            parsed: &parsed,
            sg: &sg,
            nexus: NexusId {
                reactor: ReactorId(0),
                session: SessionId { index: 0, generation: 0 },
                lun: 0,
                instance: 0,
            },
            read_only: false,
            takes_mapped: false,
            removal_prevented: false,
            port: Port::Named("iqn.2024-01.test:t", 1),
        };
        let mut cx = ExecContext { io: &mut self.backend, mem: &mut self.pool, raw_sense: &mut None, now: Nanos(0) };
        let mut execution = self.shard.execute(exec, &mut cx);
        let mut completions = Vec::new();
        while execution == Execution::Pending {
            self.backend.wait(None, &mut completions).unwrap();
            for completion in completions.drain(..) {
                if let Completion::Io(io) = completion {
                    let mut cx =
                        ExecContext { io: &mut self.backend, mem: &mut self.pool, raw_sense: &mut None, now: Nanos(0) };
                    execution = self.shard.io_completed(exec, io, &mut cx);
                }
            }
        }
        let Execution::Done(outcome) = execution else { unreachable!("the loop ends with Done") };
        let mut data = vec![0; outcome.transferred as usize];
        self.pool.copy_out(&sg, 0, &mut data);
        self.pool.release(&sg);
        (outcome, data)
    }

    fn good(&mut self, cdb: &[u8], data_out: &[u8]) -> Vec<u8> {
        let (outcome, data) = self.run(cdb, data_out);
        assert_eq!(outcome, Outcome::good(data.len() as u32), "{cdb:02x?}");
        data
    }
}

fn ten(opcode: u8, bits: u8, lba: u32, blocks: u16) -> [u8; 10] {
    let (l, b) = (lba.to_be_bytes(), blocks.to_be_bytes());
    [opcode, bits, l[0], l[1], l[2], l[3], 0, b[0], b[1], 0]
}

/// Runs a story over every back-end that the system has.
fn with_backends(change: impl Fn(&mut VdiskConfig), story: impl Fn(&mut Rig, &Vdisk, &Path)) {
    for choice in [BackendChoice::Posix, BackendChoice::Uring] {
        let mut pool = BufferPool::new(PoolConfig { budget: 32 << 20, ..PoolConfig::default() });
        // The first arena exists before the back-end looks at it.
        let first = pool.allocate(4096).unwrap();
        pool.release(&first);
        let Ok(mut backend) = open(choice, &ReactorConfig::new(pool.arenas().clone())) else {
            assert_eq!(choice, BackendChoice::Uring, "posix is everywhere");
            continue;
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        File::create(&path).unwrap().set_len(BYTES).unwrap();
        let mut config = VdiskConfig::file("d", &path);
        change(&mut config);
        let disk = Vdisk::open(config).unwrap();
        let OpenShard { shard, link } = disk.open_shard(&mut backend);
        let mut rig = Rig { shard, backend, pool, commands: 0 };
        story(&mut rig, &disk, &path);
        assert_eq!(rig.pool.statistics().in_use, 0, "{}", rig.backend.name());
        link.close(&mut rig.backend);
    }
}

#[test]
fn what_is_written_is_in_the_file() {
    with_backends(
        |_| {},
        |rig, disk, path| {
            let data: Vec<u8> = (0..1 << 20).map(|i: u32| (i / 3) as u8 ^ (i >> 9) as u8).collect();
            rig.good(&ten(0x2a, 0, 100, 2048), &data);
            rig.good(&ten(0x2a, 0x08, 1, 1), &[7; 512]);
            rig.good(&ten(0x35, 0, 0, 0), &[]);
            assert_eq!(fs::read(path).unwrap()[51_200..][..1 << 20], data);
            assert_eq!(rig.good(&ten(0x28, 0x08, 100, 2048), &[]), data);
            rig.good(&ten(0x2f, 0x02, 100, 2048), &data);
            rig.good(&ten(0x34, 0, 0, 0), &[]);
            let (outcome, _) = rig.run(&ten(0x2f, 0x02, 101, 1), &[1; 512]);
            assert_eq!(outcome.sense.unwrap(), SenseData::miscompare(0));
            disk.sync().unwrap();
        },
    );
}

#[test]
fn unmapped_blocks_are_holes_that_read_as_zeros() {
    with_backends(
        |c| c.thin_provisioned = true,
        |rig, _, path| {
            rig.good(&ten(0x41, 0, 0, 8192), &[0x5a; 512]);
            rig.good(&ten(0x35, 0, 0, 0), &[]);
            let full = fs::metadata(path).unwrap().blocks();
            let mut list = [0; 24];
            (list[1], list[3]) = (22, 16);
            list[8..16].copy_from_slice(&1024u64.to_be_bytes());
            list[16..20].copy_from_slice(&2048u32.to_be_bytes());
            rig.good(&ten(0x42, 0, 0, 24), &list);
            assert_eq!(rig.good(&ten(0x28, 0, 1023, 3), &[]), [[0x5a; 512].as_slice(), &[0; 1024]].concat());
            assert_eq!(fs::metadata(path).unwrap().len(), BYTES);
            let status = {
                let mut cdb = [0; 16];
                (cdb[0], cdb[1], cdb[8], cdb[9], cdb[13]) = (0x9e, 0x12, 4, 0, 24);
                rig.good(&cdb, &[])
            };
            // Not every file system punches holes; where it does, the run is deallocated and the space is free.
            if status[20] == 1 {
                assert_eq!(status[8..20], [0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 8, 0]);
                assert!(fs::metadata(path).unwrap().blocks() < full);
            }
        },
    );
}

#[test]
fn a_file_that_is_cut_and_grown_again() {
    with_backends(
        |_| {},
        |rig, disk, path| {
            let file = File::options().write(true).open(path).unwrap();
            file.set_len(BYTES / 2).unwrap();
            let (outcome, _) = rig.run(&ten(0x28, 0, 8190, 4), &[]);
            assert_eq!(outcome.sense, Some(SenseData::unrecovered_read_error(8192)));
            file.set_len(2 * BYTES).unwrap();
            rig.good(&ten(0x28, 0, 8190, 4), &[]);
            assert!(disk.resync_size().unwrap().is_some());
            rig.good(&ten(0x28, 0, 30_000, 4), &[]);
        },
    );
}

#[test]
fn past_the_page_cache() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("probe");
    File::create(&path).unwrap().set_len(BYTES).unwrap();
    let mut config = VdiskConfig::file("d", &path);
    (config.o_direct, config.block_size) = (true, 4096);
    // Not every file system has O_DIRECT; then the error says what to do.
    if let Err(error) = Vdisk::open(config) {
        assert!(error.to_string().contains("o_direct 0"), "{error}");
        return;
    }
    with_backends(
        |c| (c.o_direct, c.block_size) = (true, 4096),
        |rig, _, path| {
            rig.good(&ten(0x2a, 0, 3, 2), &[9; 8192]);
            assert_eq!(rig.good(&ten(0x28, 0, 3, 2), &[]), [9; 8192]);
            rig.good(&ten(0x41, 0, 100, 200), &[4; 4096]);
            assert_eq!(fs::read(path).unwrap()[4096 * 299..][..4096], [4; 4096]);
        },
    );
}
