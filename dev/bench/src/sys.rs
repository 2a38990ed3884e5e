//! The few system calls that std does not have: epoll, receive and send with flags, sending without a copy, CPU clocks.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// An epoll instance.
#[derive(Debug)]
pub(crate) struct Epoll(OwnedFd);

/// What to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interest {
    /// Bytes to read.
    Read,
    /// Bytes to read, or room to write.
    ReadWrite,
}

impl Interest {
    fn bits(self) -> u32 {
        match self {
            Self::Read => libc::EPOLLIN as u32,
            Self::ReadWrite => (libc::EPOLLIN | libc::EPOLLOUT) as u32,
        }
    }
}

/// Room for the events of one wait.
pub(crate) struct Events(Vec<libc::epoll_event>);

impl Events {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(256))
    }

    /// A placeholder without room.
    pub(crate) fn empty() -> Self {
        Self(Vec::new())
    }

    /// Tokens of the descriptors that are ready.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = usize> {
        self.0.iter().map(|event| event.u64 as usize)
    }
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } as isize)? as i32;
        // SAFETY: the descriptor is fresh and owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(crate) fn add(&self, socket: &impl AsRawFd, token: usize, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket.as_raw_fd(), token, interest)
    }

    pub(crate) fn modify(&self, socket: &impl AsRawFd, token: usize, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, socket.as_raw_fd(), token, interest)
    }

    fn control(&self, operation: i32, fd: i32, token: usize, interest: Interest) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest.bits(), u64: token as u64 };
        // SAFETY: `event` lives over the call; the kernel only reads it.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &mut event) } as isize).map(drop)
    }

    /// Waits at most so long; a signal ends the wait with no events.
    pub(crate) fn wait(&self, events: &mut Events, timeout_ms: i32) -> io::Result<()> {
        events.0.clear();
        let room = events.0.capacity() as i32;
        // SAFETY: the vector has room for `room` events, and the kernel writes at most as many.
        let result = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.0.as_mut_ptr(), room, timeout_ms) };
        match check(result as isize) {
            // SAFETY: the kernel has initialised so many.
            Ok(count) => unsafe { events.0.set_len(count) },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Receives without blocking; "nothing there" is `WouldBlock`.
pub(crate) fn recv(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT;
    // SAFETY: pointer and length are those of a live slice that is ours alone.
    check(unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags) })
}

/// Drops up to `length` received bytes without copying them (tcp(7): MSG_TRUNC on a stream).
pub(crate) fn recv_discard(socket: &impl AsRawFd, length: usize) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: with MSG_TRUNC a TCP socket writes nothing, so that a null pointer is fine.
    check(unsafe { libc::recv(socket.as_raw_fd(), std::ptr::null_mut(), length, flags) })
}

/// Sends without blocking; `more` says that another call follows at once.
pub(crate) fn send(socket: &impl AsRawFd, parts: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 };
    let message = libc::msghdr {
        msg_name: std::ptr::null_mut(),
        msg_namelen: 0,
        // IoSlice is guaranteed to have the layout of iovec; the kernel does not write through it.
        msg_iov: parts.as_ptr().cast_mut().cast(),
        msg_iovlen: parts.len(),
        msg_control: std::ptr::null_mut(),
        msg_controllen: 0,
        msg_flags: 0,
    };
    // SAFETY: the header and all slices live over the call.
    check(unsafe { libc::sendmsg(socket.as_raw_fd(), &message, flags) })
}

/// Memory that a socket can send from without a copy: the pages themselves travel, so what was sent must stay as it is
/// until the peer has shown that it has read it.
#[derive(Debug)]
pub(crate) struct Memory {
    file: OwnedFd,
    start: std::ptr::NonNull<u8>,
    length: usize,
}

impl Memory {
    /// `length` bytes, zero.
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        // SAFETY: the name is a string with a final zero; the result is checked.
        let fd = check(unsafe { libc::memfd_create(c"scst-bench".as_ptr(), libc::MFD_CLOEXEC) } as isize)? as i32;
        // SAFETY: the descriptor is fresh and owned by nobody else.
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        let length = length.max(1);
        // SAFETY: no pointers.
        check(unsafe { libc::ftruncate(fd, length as i64) } as isize)?;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: a new mapping at a place that the kernel chooses; the result is checked.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = std::ptr::NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { file, start, length })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has `length` bytes and lives as long as `self`; nobody else maps the file.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively. The kernel only reads.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }

    /// Sends a range; it does not block if the socket is non-blocking.
    pub(crate) fn send(&self, socket: &impl AsRawFd, start: usize, length: usize) -> io::Result<usize> {
        let mut offset = start as i64;
        // SAFETY: `offset` lives over the call.
        check(unsafe { libc::sendfile(socket.as_raw_fd(), self.file.as_raw_fd(), &mut offset, length) })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and no reference into it outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// CPU time of a process in nanoseconds, all its threads, user and system, those that have ended too. The kernel
/// brings the clock up to date when it is read (clock_getcpuclockid(3)).
pub(crate) fn process_cpu_time(pid: i32) -> io::Result<std::time::Duration> {
    let mut clock = 0;
    // SAFETY: `clock` lives over the call.
    match unsafe { libc::clock_getcpuclockid(pid, &mut clock) } {
        0 => {}
        error => return Err(io::Error::from_raw_os_error(error)),
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` lives over the call.
    check(unsafe { libc::clock_gettime(clock, &mut time) } as isize)?;
    Ok(std::time::Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// CPU time of all children that have ended and been waited for, with all their threads, those of the kernel's own
/// workers that belong to them included (getrusage(2)).
pub(crate) fn children_cpu_time() -> io::Result<std::time::Duration> {
    // SAFETY: a structure of numbers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` lives over the call.
    check(unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage) } as isize)?;
    let time = |one: libc::timeval| std::time::Duration::new(one.tv_sec as u64, one.tv_usec as u32 * 1000);
    Ok(time(usage.ru_utime) + time(usage.ru_stime))
}

/// Lets the calling thread run on one core only.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    // SAFETY: a set of all zeroes is a valid, empty one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the core's number lies in the set, as was checked.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set lives over the call, and its size is given.
    check(unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) } as isize).map(drop)
}

/// Raises the limit of open files as far as allowed, for this process and those that it starts.
pub(crate) fn many_files(wanted: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit lives over the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } as isize)?;
    if limit.rlim_cur >= wanted {
        return Ok(());
    }
    limit.rlim_cur = wanted;
    limit.rlim_max = limit.rlim_max.max(wanted);
    // SAFETY: as above; the kernel only reads.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } as isize).map(drop)
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
