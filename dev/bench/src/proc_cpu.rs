//! CPU time of a process, all threads, user and system.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::sys;

/// utime + stime of `/proc/PID/stat`; the kernel scales the sum to the exact run time, in ticks.
pub(crate) fn cpu_time(pid: &str) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let ticks = parse(&stat).with_context(|| format!("{path}: {stat:?}"))?;
    Ok(Duration::from_nanos(ticks * 1_000_000_000 / sys::clock_ticks()))
}

/// Fields 14 and 15; the second field may hold blanks and brackets.
fn parse(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_name_of_the_process_may_hold_anything() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 17 25 0 0 20 0 1 0 12345 1000 10";
        assert_eq!(super::parse(stat), Some(42));
    }
}
