//! What is given back, and when. Residency is what the kernel says, not what the pool counts.
#![allow(unsafe_code)]

use super::*;

const MIB: u64 = 1 << 20;

/// 16 MiB in arenas of 4 MiB; poison touches every page of a released buffer.
fn pool(low: u64, high: u64) -> BufferPool {
    BufferPool::new(PoolConfig {
        budget: 16 * MIB,
        arena_bytes: 4 << 20,
        huge_pages: false,
        poison: true,
        zero_fill: false,
        cache: CacheConfig { low_watermark: low, high_watermark: high, purge_interval: Nanos::from_secs(60) },
    })
}

/// Resident bytes of all arenas.
fn resident(pool: &BufferPool) -> u64 {
    let mut bytes = 0;
    for arena in pool.arenas().iter() {
        let mut pages = vec![0u8; arena.len / PAGE_BYTES as usize];
        // SAFETY: the range is a mapping of the pool, and there is a byte for each of its pages.
        assert_eq!(unsafe { libc::mincore(arena.base.cast(), arena.len, pages.as_mut_ptr()) }, 0);
        bytes += pages.iter().map(|p| u64::from(p & 1)).sum::<u64>() * u64::from(PAGE_BYTES);
    }
    bytes
}

/// Buffers of `count` times `bytes`, every page touched.
fn take(pool: &mut BufferPool, count: usize, bytes: u32) -> Vec<SgList> {
    let taken: Vec<SgList> = (0..count).map(|_| pool.allocate(bytes).unwrap()).collect();
    for (n, sg) in taken.iter().enumerate() {
        pool.fill(sg, 0, bytes, n as u8);
    }
    taken
}

fn give(pool: &mut BufferPool, sgs: &[SgList]) {
    for sg in sgs {
        pool.release(sg);
    }
}

/// Turns without work, whenever the pool asks for one, up to and at `until`.
fn idle_until(pool: &mut BufferPool, until: Nanos) {
    while let Some(at) = pool.poll_timeout().filter(|at| *at <= until) {
        pool.maintain(at, true);
    }
    pool.maintain(until, true);
}

#[test]
fn a_purge_on_request_gives_back_all_that_is_free_and_nothing_else() {
    let mut pool = pool(2 * MIB, 16 * MIB);
    let mut used = take(&mut pool, 50, 4096);
    used.extend(take(&mut pool, 20, 20_000));
    used.extend(take(&mut pool, 3, 1 << 20));
    let odd: Vec<SgList> = used.iter().skip(1).step_by(2).copied().collect();
    used = used.into_iter().step_by(2).collect();
    let expected: Vec<Vec<u8>> = used.iter().map(|sg| pool.bytes(sg.extents()[0]).to_vec()).collect();
    give(&mut pool, &odd);
    pool.purge();
    idle_until(&mut pool, Nanos::from_secs(1));
    let statistics = pool.statistics();
    assert_eq!(statistics.resident, statistics.in_use);
    // The unused end of a class was never touched.
    assert_eq!(resident(&pool), 25 * 4096 + 10 * 20480 + 2 * MIB);
    assert_eq!(statistics.classes.map(|c| c.cached), [0; CLASSES]);
    for (sg, bytes) in used.iter().zip(&expected) {
        assert_eq!(pool.bytes(sg.extents()[0]), &bytes[..]);
    }
    give(&mut pool, &used);
    let all = take(&mut pool, 16, 1 << 20);
    assert_eq!(pool.statistics().resident, 16 * MIB, "what was given back is used again");
    give(&mut pool, &all);
}

#[test]
fn a_step_is_bounded_and_waits_for_a_quiet_turn_only_for_a_while() {
    let mut pool = pool(0, 16 * MIB);
    let all = take(&mut pool, 8, 1 << 20);
    give(&mut pool, &all);
    pool.purge();
    let at = |ms: u64| Nanos::from_millis(1000 + ms);
    pool.maintain(at(0), false);
    assert_eq!(resident(&pool), 6 * MIB, "nothing was done for long: a step, also with work around");
    pool.maintain(at(1), true);
    assert_eq!(resident(&pool), 4 * MIB);
    for ms in 2..21 {
        assert_eq!(pool.poll_timeout(), Some(at(ms)));
        pool.maintain(at(ms), false);
    }
    assert_eq!(resident(&pool), 4 * MIB, "commands go first");
    pool.maintain(at(21), false);
    assert_eq!(resident(&pool), 2 * MIB);
    pool.maintain(at(22), true);
    assert_eq!((resident(&pool), pool.statistics().purged), (0, 8 * MIB));
    assert_eq!(pool.poll_timeout(), None, "nothing is left to look after");
}

#[test]
fn what_an_interval_did_not_need_goes_down_to_the_low_watermark() {
    let mut pool = pool(MIB, 16 * MIB);
    assert_eq!(pool.poll_timeout(), None);
    let all = take(&mut pool, 10, 1 << 20);
    pool.maintain(Nanos(1), true);
    give(&mut pool, &all);
    idle_until(&mut pool, Nanos::from_secs(61));
    assert_eq!(resident(&pool), 10 * MIB, "all was needed once in the first interval");
    idle_until(&mut pool, Nanos::from_secs(70));
    let three = take(&mut pool, 3, 1 << 20);
    give(&mut pool, &three);
    idle_until(&mut pool, Nanos::from_secs(130));
    assert_eq!(resident(&pool), 4 * MIB, "three were needed, one is the low watermark");
    idle_until(&mut pool, Nanos::from_secs(200));
    assert_eq!((resident(&pool), pool.poll_timeout()), (MIB, None));
    assert_eq!(pool.statistics().peak, 10 * MIB);
}

#[test]
fn above_the_high_watermark_memory_goes_soon() {
    let mut pool = pool(MIB, 4 * MIB);
    let all = take(&mut pool, 10, 1 << 20);
    pool.maintain(Nanos(1), true);
    give(&mut pool, &all);
    idle_until(&mut pool, Nanos::from_secs(9));
    assert_eq!((resident(&pool), pool.statistics().over_high_watermark), (4 * MIB, 1));
}

#[test]
fn pinned_memory_and_an_interval_of_zero_keep_everything() {
    for pinned in [false, true] {
        let mut pool = pool(0, 0);
        if pinned {
            pool.arenas().pin();
        } else {
            pool.config.cache.purge_interval = Nanos(0);
        }
        let all = take(&mut pool, 4, 1 << 20);
        give(&mut pool, &all);
        idle_until(&mut pool, Nanos::from_secs(1000));
        assert_eq!((resident(&pool), pool.poll_timeout()), (4 * MIB, None));
        pool.purge();
        idle_until(&mut pool, Nanos::from_secs(1001));
        assert_eq!(resident(&pool), if pinned { 4 * MIB } else { 0 }, "on request unless that is impossible");
        assert_eq!(pool.poll_timeout(), None);
    }
}
