//! Errors of the storage, counted for the operator.

use std::io;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::fault::Doing;

/// The shortest time between two lines of the log on the same kind of error.
const PAUSE: Duration = Duration::from_secs(60);

/// What the storage failed to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// To read.
    Read,
    /// To write, or to deallocate.
    Write,
    /// To make data durable.
    Flush,
}

impl ErrorKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Flush];

    /// Names the commands that fail like this.
    fn operations(self, count: u64) -> String {
        let one = match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
        };
        match (self, count) {
            (_, 1) => format!("1 {one}"),
            (Self::Flush, _) => format!("{count} flushes"),
            _ => format!("{count} {one}s"),
        }
    }
}

/// Errors of one kind since the disk was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ErrorCount {
    /// How many there were.
    pub count: u64,
    /// Errno of the last one; 0: the file ended before it.
    pub errno: i32,
}

#[derive(Debug, Default)]
struct Counter {
    count: AtomicU64,
    errno: AtomicI32,
    /// The block of the last error, where it is known.
    lba: AtomicU64,
}

/// Counters that every shard adds to. Only what fails is counted, so nobody waits for their cache lines.
#[derive(Debug, Default)]
pub(crate) struct StorageErrors([Counter; 3]);

impl StorageErrors {
    /// Counts an error; `errno` is 0 where the file ended before the block. What is no fault of the storage is not counted.
    pub(crate) fn note(&self, doing: Doing, errno: i32) {
        if matches!(errno, libc::EAGAIN | libc::ECANCELED | libc::EINTR | libc::ENOMEM | libc::ENOBUFS | libc::EBADE) {
            return;
        }
        let (kind, lba) = match doing {
            Doing::Read(lba) => (ErrorKind::Read, lba),
            Doing::Write(lba) => (ErrorKind::Write, lba),
            Doing::Flush => (ErrorKind::Flush, 0),
        };
        let counter = &self.0[kind as usize];
        counter.errno.store(errno, Ordering::Relaxed);
        counter.lba.store(lba, Ordering::Relaxed);
        counter.count.fetch_add(1, Ordering::Release);
    }

    /// Gives the errors of a kind.
    pub(crate) fn count(&self, kind: ErrorKind) -> ErrorCount {
        let counter = &self.0[kind as usize];
        let count = counter.count.load(Ordering::Acquire);
        ErrorCount { count, errno: counter.errno.load(Ordering::Relaxed) }
    }
}

/// What the log has said of errors.
#[derive(Debug, Default)]
pub(crate) struct Told([(u64, Option<Instant>); 3]);

impl Told {
    /// Gives the lines that are to be logged now: one for each kind of error that is new, and not more often than once a minute.
    pub(crate) fn lines(&mut self, errors: &StorageErrors, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        for kind in ErrorKind::ALL {
            let ErrorCount { count, errno } = errors.count(kind);
            let (told, last) = &mut self.0[kind as usize];
            if count == *told || last.is_some_and(|last| now.duration_since(last) < PAUSE) {
                continue;
            }
            let failed = kind.operations(count - *told);
            let lba = errors.0[kind as usize].lba.load(Ordering::Relaxed);
            let place = if kind == ErrorKind::Flush { String::new() } else { format!(", the last at block {lba}") };
            let (why, remedy) = explain(errno);
            lines.push(format!("{failed} of the storage failed{place}: {why}; {remedy}"));
            (*told, *last) = (count, Some(now));
        }
        lines
    }
}

fn explain(errno: i32) -> (String, &'static str) {
    let remedy = match errno {
        0 => {
            let remedy = "make it as large as it was, or send SIGHUP to tell the initiators its size";
            return ("the file ends before that, it was cut".to_owned(), remedy);
        }
        libc::ENOSPC | libc::EDQUOT | libc::EFBIG => "make room where the file is",
        libc::EROFS | libc::EPERM | libc::EACCES => "let it be written again, or set read_only 1",
        _ => "look at the kernel's log and at the storage below",
    };
    (io::Error::from_raw_os_error(errno).to_string(), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_line_and_the_next_one_after_a_minute_with_what_came_meanwhile() {
        let (errors, mut told, start) = (StorageErrors::default(), Told::default(), Instant::now());
        assert_eq!(told.lines(&errors, start), [""; 0]);
        errors.note(Doing::Read(7), libc::EIO);
        errors.note(Doing::Flush, libc::ENOSPC);
        errors.note(Doing::Flush, libc::ENOSPC);
        errors.note(Doing::Write(1), libc::EAGAIN);
        let full =
            "2 flushes of the storage failed: No space left on device (os error 28); make room where the file is";
        let broken = "1 read of the storage failed, the last at block 7: Input/output error (os error 5); \
                      look at the kernel's log and at the storage below";
        assert_eq!(told.lines(&errors, start), [broken, full]);
        errors.note(Doing::Read(8), libc::EIO);
        errors.note(Doing::Read(9), 0);
        assert_eq!(told.lines(&errors, start + PAUSE - Duration::from_nanos(1)), [""; 0]);
        let cut = "2 reads of the storage failed, the last at block 9: the file ends before that, it was cut; \
                   make it as large as it was, or send SIGHUP to tell the initiators its size";
        assert_eq!(told.lines(&errors, start + PAUSE), [cut]);
        assert_eq!(errors.count(ErrorKind::Read), ErrorCount { count: 3, errno: 0 });
        assert_eq!(errors.count(ErrorKind::Write), ErrorCount::default());
    }
}
