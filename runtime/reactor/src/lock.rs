//! Advisory locks of open file descriptions (fcntl(2), F_OFD_SETLK) over a whole file.
//!
//! Such a lock belongs to the description, not to the process: two descriptions of one process conflict as those of two processes
//! do, closing another descriptor of the file does not release it, and the kernel releases it when the process has ended in
//! whatever way. For the control plane: a lock on a network file system can wait for its server.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// How much a lock keeps out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LockKind {
    /// Goes along with other shared locks. The file must be open for reading.
    Shared,
    /// Goes along with none. The file must be open for writing.
    Exclusive,
}

/// Locks a file, or changes the kind of the lock that its description has, in one step. Does not wait for other locks.
///
/// # Errors
/// EAGAIN (or EACCES) when another description has a lock in the way; ENOLCK, EOPNOTSUPP, ENOSYS or EINVAL where there are no
/// such locks.
pub fn lock(file: &File, kind: LockKind) -> io::Result<()> {
    let kind = match kind {
        LockKind::Shared => libc::F_RDLCK,
        LockKind::Exclusive => libc::F_WRLCK,
    };
    let range = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        // To the end, however far that moves.
        l_len: 0,
        // It must be 0 for this kind of lock.
        l_pid: 0,
    };
    // SAFETY: the kernel reads a flock from `range`.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const range) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::path::Path;

    fn description(path: &Path) -> File {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
    }

    #[test]
    fn a_lock_is_that_of_a_description_and_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let [a, b] = [(); 2].map(|()| description(&path));
        let refused = |result: io::Result<()>| assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EAGAIN));
        lock(&a, LockKind::Exclusive).unwrap();
        refused(lock(&b, LockKind::Exclusive));
        refused(lock(&b, LockKind::Shared));
        drop(description(&path));
        refused(lock(&b, LockKind::Shared));
        lock(&a, LockKind::Shared).unwrap();
        lock(&b, LockKind::Shared).unwrap();
        refused(lock(&b, LockKind::Exclusive));
        drop(a);
        lock(&b, LockKind::Exclusive).unwrap();
    }
}
