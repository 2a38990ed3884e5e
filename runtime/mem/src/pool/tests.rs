use proptest::prelude::*;

use super::*;

fn small(budget: u64) -> BufferPool {
    BufferPool::new(PoolConfig {
        budget,
        arena_bytes: 2 << 20,
        huge_pages: false,
        zero_fill: false,
        poison: true,
        cache: CacheConfig::default(),
    })
}

#[test]
fn lengths_are_exact_and_extents_as_promised() {
    let mut pool = small(32 << 20);
    let lens = |sg: &SgList| sg.extents().iter().map(|e| e.len).collect::<Vec<_>>();
    assert_eq!(lens(&pool.allocate(0).unwrap()), [0u32; 0]);
    assert_eq!(lens(&pool.allocate(1).unwrap()), [1]);
    assert_eq!(lens(&pool.allocate(4097).unwrap()), [4097]);
    assert_eq!(lens(&pool.allocate(1 << 20).unwrap()), [1 << 20]);
    assert_eq!(lens(&pool.allocate((2 << 20) + 512).unwrap()), [1 << 20, 1 << 20, 512]);
    assert_eq!(lens(&pool.allocate(MAX_TRANSFER_BYTES).unwrap()), [1 << 20; 8]);
    assert_eq!(pool.allocate(MAX_TRANSFER_BYTES + 1), None);
    assert_eq!(pool.statistics().in_use, (4 << 10) + (8 << 10) + (1 << 20) + (2 << 20) + (4 << 10) + (8 << 20));
}

#[test]
fn the_budget_is_a_limit_and_what_comes_back_is_usable_again() {
    let mut pool = small(3 << 20);
    let all: Vec<_> = (0..3).map(|_| pool.allocate(1 << 20).unwrap()).collect();
    assert_eq!(pool.allocate(512), None);
    let stats = pool.statistics();
    assert_eq!((stats.mapped, stats.in_use, stats.peak, stats.refused), (3 << 20, 3 << 20, 3 << 20, 1));
    pool.release(&all[1]);
    assert_eq!(pool.allocate(2 << 20), None, "a part of a buffer is never kept");
    let small: Vec<_> = (0..256).map(|_| pool.allocate(4096).unwrap()).collect();
    assert_eq!(pool.allocate(1), None);
    for sg in &small {
        pool.release(sg);
    }
    assert!(pool.allocate(1 << 20).is_some(), "small buffers merge when a large one is needed");
}

#[test]
fn a_second_request_of_the_same_size_is_a_hit() {
    let mut pool = small(4 << 20);
    let first = pool.allocate(8192).unwrap();
    pool.release(&first);
    assert_eq!(pool.allocate(5000).unwrap().extents()[0].offset, first.extents()[0].offset);
    let stats = pool.statistics();
    assert_eq!((stats.total, stats.hits), (2, 1));
    assert_eq!(
        stats.classes[1],
        ClassStatistics { bytes: 8192, total: 2, hits: 1, in_use: 1, free: 1, cached: 0, merged: 0 }
    );
}

#[test]
fn bytes_go_in_and_come_out_across_extents() {
    let mut pool = small(8 << 20);
    let sg = pool.allocate((1 << 20) + 4096).unwrap();
    let data: Vec<u8> = (0..5000u32).map(|i| i as u8).collect();
    assert_eq!(pool.copy_in(&sg, (1 << 20) - 904, &data), 5000);
    let mut back = vec![0; 5000];
    assert_eq!(pool.copy_out(&sg, (1 << 20) - 904, &mut back), 5000);
    assert_eq!(back, data);
    assert_eq!(pool.copy_in(&sg, (1 << 20) + 4000, &data), 96, "cut at the end of the list");
    pool.fill(&sg, (1 << 20) - 1, 2, 7);
    assert_eq!(pool.copy_out(&sg, (1 << 20) - 2, &mut back[..4]), 4);
    assert_eq!(back[..4], [data[902], 7, 7, data[905]]);
}

#[test]
fn strict_security_hands_out_zeros_up_to_the_class_size() {
    let mut pool =
        BufferPool::new(PoolConfig { budget: 1 << 20, zero_fill: true, poison: true, ..PoolConfig::default() });
    let sg = pool.allocate(8192).unwrap();
    pool.fill(&sg, 0, 8192, 0xee);
    pool.release(&sg);
    let again = pool.allocate(5000).unwrap();
    assert_eq!(again.extents()[0].offset, sg.extents()[0].offset);
    assert!(pool.bytes(sg.extents()[0]).iter().all(|&b| b == 0));
}

#[test]
fn late_use_of_a_released_buffer_shows() {
    let mut pool = small(1 << 20);
    let sg = pool.allocate(512).unwrap();
    pool.fill(&sg, 0, 512, 1);
    pool.release(&sg);
    assert!(pool.bytes(sg.extents()[0]).iter().all(|&b| b == POISON));
}

#[test]
#[should_panic(expected = "released buffer is in use")]
fn releasing_twice_panics() {
    let mut pool = small(1 << 20);
    let sg = pool.allocate(512).unwrap();
    pool.release(&sg);
    pool.release(&sg);
}

#[test]
#[should_panic(expected = "extent lies within its arena")]
fn a_wild_extent_is_refused() {
    let pool = small(1 << 20);
    let _ = pool.bytes(Extent { arena: 0, len: 1, offset: 0 });
}

#[test]
fn a_pool_moves_between_threads() {
    let mut pool = small(1 << 20);
    let sg = pool.allocate(16).unwrap();
    pool.copy_in(&sg, 0, b"moved to another");
    let bytes = std::thread::spawn(move || pool.bytes(sg.extents()[0]).to_vec()).join().unwrap();
    assert_eq!(bytes, b"moved to another");
}

#[derive(Clone, Debug)]
enum Step {
    Allocate(u32),
    Release(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1u32..70_000).prop_map(Step::Allocate),
        1 => (1u32..3_500_000).prop_map(Step::Allocate),
        4 => any::<usize>().prop_map(Step::Release),
    ]
}

proptest! {
    /// Buffers in use never overlap, keep their bytes, and when all have come back the pool is whole again.
    #[test]
    fn buffers_never_overlap_and_everything_returns(steps in prop::collection::vec(step(), 1..300)) {
        let mut pool = small(10 << 20);
        let mut live: Vec<(SgList, u8)> = Vec::new();
        for (i, step) in steps.into_iter().enumerate() {
            match step {
                Step::Allocate(len) => {
                    if let Some(sg) = pool.allocate(len) {
                        prop_assert_eq!(sg.bytes(), len);
                        let mark = i as u8;
                        for &e in sg.extents() {
                            prop_assert_eq!(e.offset % 4096, 0);
                            pool.bytes_mut(e.slice(0, 1))[0] = mark;
                            pool.bytes_mut(e.slice(e.len - 1, 1))[0] = mark;
                        }
                        for (other, _) in &live {
                            for (a, b) in other.extents().iter().flat_map(|a| sg.extents().iter().map(move |b| (a, b))) {
                                let apart = a.arena != b.arena
                                    || a.offset + u64::from(a.len) <= b.offset
                                    || b.offset + u64::from(b.len) <= a.offset;
                                prop_assert!(apart, "{:?} overlaps {:?}", a, b);
                            }
                        }
                        live.push((sg, mark));
                    }
                }
                Step::Release(at) if !live.is_empty() => {
                    let (sg, mark) = live.swap_remove(at % live.len());
                    for &e in sg.extents() {
                        prop_assert_eq!(pool.bytes(e.slice(0, 1))[0], mark);
                        prop_assert_eq!(pool.bytes(e.slice(e.len - 1, 1))[0], mark);
                    }
                    pool.release(&sg);
                }
                Step::Release(_) => {}
            }
            let used: u64 = pool.statistics().classes.iter().map(|c| u64::from(c.in_use) * u64::from(c.bytes)).sum();
            prop_assert_eq!(pool.statistics().in_use, used);
        }
        for (sg, _) in live {
            pool.release(&sg);
        }
        prop_assert_eq!(pool.statistics().in_use, 0);
        let whole: Vec<_> = (0..10).map(|_| pool.allocate(1 << 20)).collect();
        prop_assert!(whole.iter().all(Option::is_some), "the pool did not merge back");
    }
}

#[test]
fn commands_leave_an_eighth_of_the_budget_to_others() {
    let mut pool = BufferPool::new(PoolConfig { budget: 8 << 20, arena_bytes: 1 << 20, ..PoolConfig::default() });
    let held: Vec<SgList> = std::iter::from_fn(|| BufferSource::allocate(&mut pool, 64 << 10)).collect();
    assert_eq!(held.len(), 7 * 16);
    assert_eq!(pool.statistics().refused, 1);
    let others: Vec<SgList> = std::iter::from_fn(|| pool.allocate(4096)).collect();
    assert_eq!(others.len(), 256);
    for sg in held.iter().chain(&others) {
        BufferSource::release(&mut pool, sg);
    }
    assert_eq!(pool.statistics().in_use, 0);
}
