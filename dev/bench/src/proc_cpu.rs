//! CPU time of a process, all threads, user and system.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::sys;

/// proc_pid_pid_max(5). The clock of a process has a number that is made of its id: a greater one names another clock.
const PID_LIMIT: u32 = 1 << 22;

/// Exact to the nanosecond, also for a thread that runs at this moment (`/proc/PID/stat` and `schedstat` are only as new
/// as the last tick).
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    ensure!(pid <= PID_LIMIT, "there is no process {pid}");
    sys::process_cpu_time(pid as i32).with_context(|| format!("the CPU time of process {pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_time_and_a_process_that_is_not_there_has_none() {
        let before = cpu_time(std::process::id()).unwrap();
        let mut rng = scst_testkit::rng::Rng::new(1);
        let sum = (0..100_000).fold(0, |sum: u64, _| sum.wrapping_add(rng.below(100)));
        assert!(sum > 0 && cpu_time(std::process::id()).unwrap() > before);
        assert!(cpu_time(PID_LIMIT + 1).is_err());
    }
}
