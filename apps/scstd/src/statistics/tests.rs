use super::*;
use scst_core::ids::SessionId;
use scst_core::latency::{Histogram, STAGES, SizeRow, Stage, Summary};
use scst_scsi::DataDirection;

const TARGET: &str = "iqn.2026-01.example:t";

fn session(index: u32, initiator: &str) -> SessionStatistics {
    let id = SessionId { index, generation: 0 };
    SessionStatistics {
        id,
        initiator: initiator.to_owned(),
        target: TARGET.to_owned(),
        active: 1,
        commands: u64::from(index) + 7,
        latency: None,
    }
}

/// Reads of 4 KiB that took so many nanoseconds in one stage.
fn reads(stage: Stage, nanos: &[u64]) -> SizeLatency {
    let mut stages = [Summary::default(); STAGES];
    nanos.iter().for_each(|n| stages[stage as usize].add(*n));
    SizeLatency { row: SizeRow::of(DataDirection::FromDevice, 4096), stages }
}

fn unit(device: Option<u32>, stage: Stage, nanos: u64, times: u32) -> UnitLatency {
    let mut stages: Box<[Histogram; STAGES]> = Box::new(std::array::from_fn(|_| Histogram::default()));
    (0..times).for_each(|_| stages[stage as usize].add(nanos));
    UnitLatency { device: device.map(DeviceId), stages }
}

/// Two buffers of 8 KiB, one of them in use.
fn buffers() -> Box<PoolStatistics> {
    let mut pool = BufferPool::new(scst_mem::PoolConfig { budget: 4 << 20, huge_pages: false, ..Default::default() });
    let one = pool.allocate(8192).unwrap();
    pool.allocate(5000).unwrap();
    pool.release(&one);
    Box::new(pool.statistics())
}

#[test]
fn parts_of_several_reactors_make_one_report() {
    let mut statistics = Statistics::default();
    statistics.devices.insert(DeviceId(3), "disk1".to_owned());
    let measured =
        SessionStatistics { latency: Some(vec![reads(Stage::ExecWait, &[2000, 6000])]), ..session(0, "iqn.a") };
    let first = Snapshot {
        more: true,
        sessions: vec![measured],
        other_sessions: vec![reads(Stage::Total, &[1000])],
        units: vec![unit(None, Stage::Total, 1_000_000, 1), unit(Some(3), Stage::ExecWait, 2000, 90)],
        buffers: Some(buffers()),
    };
    statistics.add(ReactorId(1), first);
    let other = Snapshot {
        sessions: vec![session(4, "iqn.b\ninjected  row")],
        other_sessions: vec![reads(Stage::Total, &[3000])],
        units: vec![unit(Some(3), Stage::ExecWait, 900_000, 10)],
        ..Snapshot::default()
    };
    statistics.add(ReactorId(0), other);
    assert!(statistics.is_incomplete());
    statistics.add(ReactorId(1), Snapshot { sessions: vec![session(1, "iqn.c")], ..Snapshot::default() });
    assert!(!statistics.is_incomplete());
    let errors = |count, errno| ErrorCount { count, errno };
    let counts = [(ErrorKind::Read, errors(2, 0)), (ErrorKind::Write, errors(0, 0)), (ErrorKind::Flush, errors(1, 28))];
    statistics.storage.push(("disk 1".to_owned(), counts));
    let expected = "\
scstd 0.1 time 17 reactors 2

[sessions]
initiator target reactor active_commands commands
iqn.b?injected??row iqn.2026-01.example:t 0 1 11
iqn.a iqn.2026-01.example:t 1 1 7
iqn.c iqn.2026-01.example:t 1 1 8

[latency]
initiator target size state count min max avg stddev unit sum part
iqn.a iqn.2026-01.example:t r4096 EXEC_WAIT 2 2.0 6.0 4.0 2.0 us 8.0 device
other - r4096 total 2 1.0 3.0 2.0 1.0 us 4.0 all

[histograms]
device state count p50 p90 p99 p99.9 max unit part
disk1 EXEC_WAIT 100 2.0 2.0 917.5 917.5 917.5 us device
other total 1 1048.6 1048.6 1048.6 1048.6 1048.6 us all

[sgv]
reactor active_pages inactive_pages peak_pages limit_pages low_watermark_pages high_watermark_pages high_watermark_releases released_pages release_failures big_allocations failed_allocations
1 2 2 4 1024 2048 32768 0 0 0 0 0

[sgv_sizes]
reactor size hit total merged active cached free
1 4K 0 0 0 0 0 0
1 8K 0 2 0 1 1 1
1 16K 0 0 0 0 0 1
1 32K 0 0 0 0 0 1
1 64K 0 0 0 0 0 1
1 128K 0 0 0 0 0 1
1 256K 0 0 0 0 0 1
1 512K 0 0 0 0 0 1
1 1M 0 0 0 0 0 3

[storage_errors]
device reads read_errno writes write_errno flushes flush_errno
disk?1 2 0 0 0 1 28
";
    assert_eq!(report(&statistics, "0.1", 17), expected);
}
