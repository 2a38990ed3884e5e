use super::*;
use scst_core::ids::SessionId;

fn session(index: u32, initiator: &str) -> SessionStatistics {
    let target = "iqn.2026-01.example:t".to_owned();
    let id = SessionId { index, generation: 0 };
    SessionStatistics { id, initiator: initiator.to_owned(), target, active: 1, commands: u64::from(index) + 7 }
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
    statistics
        .add(ReactorId(1), Snapshot { more: true, sessions: vec![session(0, "iqn.a")], buffers: Some(buffers()) });
    statistics.add(ReactorId(0), Snapshot { more: false, sessions: vec![session(4, "iqn.b")], buffers: None });
    assert!(statistics.is_incomplete());
    statistics.add(ReactorId(1), Snapshot { more: false, sessions: vec![session(1, "iqn.c")], buffers: None });
    assert!(!statistics.is_incomplete());
    let text = report(&statistics, "0.1", 17);
    let expected = "\
scstd 0.1 time 17 reactors 2

[sessions]
initiator target reactor active_commands commands
iqn.b iqn.2026-01.example:t 0 1 11
iqn.a iqn.2026-01.example:t 1 1 7
iqn.c iqn.2026-01.example:t 1 1 8

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
";
    assert_eq!(text, expected);
}
