//! What the machine does meanwhile: how far two cores are from each other, and what else runs on them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::sys;

const TURNS: u32 = 2000;

/// Nanoseconds for a cache line to go from one core to the other and back. A virtual machine's cores may share a cache at
/// one moment and not the next; then everything between target and load costs twice as much. Nothing else must run there.
pub(crate) fn core_distance(one: usize, other: usize) -> Result<f64> {
    if one == other {
        return Ok(0.0);
    }
    let ball = AtomicU32::new(0);
    let wait_for = |value: u32| {
        while ball.load(Ordering::Acquire) != value {
            std::hint::spin_loop();
        }
    };
    std::thread::scope(|scope| {
        let answerer = scope.spawn(|| {
            let pinned = sys::pin(other);
            (0..TURNS).for_each(|turn| {
                wait_for(2 * turn + 1);
                ball.store(2 * turn + 2, Ordering::Release);
            });
            pinned
        });
        let asker = scope.spawn(|| {
            let pinned = sys::pin(one);
            let mut best = f64::INFINITY;
            let mut start = Instant::now();
            for turn in 0..TURNS {
                ball.store(2 * turn + 1, Ordering::Release);
                wait_for(2 * turn + 2);
                // Batches, of which the best counts: an interrupt in between is not the distance.
                if turn % 100 == 99 {
                    best = best.min(start.elapsed().as_nanos() as f64 / 100.0);
                    start = Instant::now();
                }
            }
            pinned.map(|()| best)
        });
        let best = asker.join().expect("it does not panic");
        answerer.join().expect("it does not panic").and(best).context("pinning a thread to a core")
    })
}

/// Seconds that a core was busy since the start, in ticks of 10 ms (`/proc/stat`).
pub(crate) fn core_busy(core: usize) -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    busy_of(&stat, core).with_context(|| format!("/proc/stat has no core {core}"))
}

/// All but idle and iowait (proc_stat(5)); guest time is part of user time.
fn busy_of(stat: &str, core: usize) -> Option<f64> {
    let name = format!("cpu{core}");
    let mut fields =
        stat.lines().map(str::split_whitespace).find_map(|mut line| (line.next()? == name).then_some(line))?;
    let ticks: Vec<u64> = fields.by_ref().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, _idle, _iowait, irq, softirq, steal] = ticks[..] else { return None };
    Some((user + nice + system + irq + softirq + steal) as f64 / 100.0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn busy_is_all_but_idle() {
        let stat = "cpu  2 2 2 2 2 2 2 2 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\ncpu1 100 20 3 4000 50 600 70 8 9 9\n";
        assert_eq!(super::busy_of(stat, 1), Some(8.01));
        assert_eq!(super::busy_of(stat, 2), None);
    }
}
