//! What a daemon asks of the system for itself, once, at its start.
#![allow(unsafe_code)]

use std::io;
use std::mem;

/// Raises the limit of open files to what the system lets this process have; a disk and a connection are a descriptor
/// each, and the usual soft limit is 1024. Returns the limit that holds now.
///
/// # Errors
/// What getrlimit or setrlimit say; nothing is changed then.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the kernel to write to.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is a valid rlimit for the kernel to read.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// Processors that this process may use, by number.
///
/// # Errors
/// What sched_getaffinity says, for instance EINVAL on a machine with more processors than the set has room for.
pub fn processors() -> io::Result<Vec<usize>> {
    // SAFETY: all zeros is an empty processor set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the size given is that of `set`, which the kernel writes to.
    if unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &raw mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let all = 0..libc::CPU_SETSIZE as usize;
    // SAFETY: every number is below CPU_SETSIZE, within the set.
    Ok(all.filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

/// Keeps the calling thread on one processor.
///
/// # Errors
/// The processor does not exist or is not allowed.
pub fn pin_thread(processor: usize) -> io::Result<()> {
    if processor >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: all zeros is an empty processor set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the number was checked to be within the set.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: the size given is that of `set`, which the kernel reads.
    if unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_limit_goes_up_to_the_hard_limit_and_stays() {
        let first = raise_file_limit().unwrap();
        assert!(first >= 3);
        assert_eq!(raise_file_limit().unwrap(), first);
    }

    #[test]
    fn a_thread_is_pinned_to_an_allowed_processor_only() {
        let allowed = processors().unwrap();
        let last = *allowed.last().unwrap();
        std::thread::spawn(move || {
            pin_thread(last).unwrap();
            assert_eq!(processors().unwrap(), [last]);
            assert!(pin_thread(usize::MAX).is_err());
        })
        .join()
        .unwrap();
        assert_eq!(processors().unwrap(), allowed, "other threads are not touched");
    }
}
