//! A file whose storage answers when the test says so: what a slow disk is to the system, without a clock.
//!
//! It lies on a FUSE file system that this process serves. [`HeldFile::hold`] keeps requests of one kind unanswered;
//! [`Hold::wait`] returns when there is one, and dropping the [`Hold`] answers them. For all that the kernel can tell, a
//! disk is at work meanwhile: pages stay locked, threads that want them sleep. A loop device over it
//! ([`LoopDevice::over`](crate::LoopDevice::over)) is a slow block device.
//!
//! It can also fail ([`HeldFile::fail`]), as a disk does that dies, or one whose cache has lost what it had taken.
//!
//! It needs root and /dev/fuse, and says so. The file system is mounted nowhere: whoever is to use the file opens
//! [`HeldFile::path`], and it is gone when the last has closed it. When this process dies, in whatever way, the kernel
//! fails all requests, held ones too: nothing hangs, and nothing is left.
//!
//! A process that is killed while it waits for a request does not end before the answer. So drop the [`Hold`] first, then
//! what uses the file.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use fuser::{
    FileAttr, FileType, Filesystem, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyWrite,
    Request, Session, SessionACL,
};

const DEVICE: &str = "/dev/fuse";
const NAME: &str = "disk";
const ROOT: u64 = 1;
const DISK: u64 = 2;
/// The kernel need not ask again: nobody but itself changes anything.
const FOR_EVER: Duration = Duration::from_secs(1 << 30);
/// A request that does not come within this time is a failure; nobody waits by the clock for success.
const PATIENCE: Duration = Duration::from_secs(60);

/// Requests to keep unanswered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Requests {
    /// Reads that touch a range of bytes. Read-ahead can make them larger than what somebody asked for.
    Reads(Range<u64>),
    /// Writes that touch a range of bytes.
    Writes(Range<u64>),
    /// Reads and writes that touch a range of bytes.
    Transfers(Range<u64>),
    /// Searches for data and holes (lseek). The kernel lets only one of them through at a time.
    Seeks,
    /// Flushes (fsync, fdatasync).
    Flushes,
}

/// How storage fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// After so many more writes every write ends with this errno.
    Writes(u32, i32),
    /// What is written waits in a cache for the next flush. After so many more flushes one finds that all of it is lost: it ends
    /// with EIO. Nobody is told that again, and everything works from then on.
    CacheOnce(u32),
}

/// See the module.
#[derive(Debug)]
pub struct HeldFile {
    open: File,
    storage: Arc<Storage>,
}

/// Keeps requests unanswered until it is dropped.
#[derive(Debug)]
#[must_use = "what is not held is answered"]
pub struct Hold {
    storage: Arc<Storage>,
}

#[derive(Debug)]
struct Storage {
    state: Mutex<State>,
    /// A request is held.
    arrived: Condvar,
}

#[derive(Debug)]
struct State {
    /// What the storage has.
    content: Vec<u8>,
    /// What its cache has besides.
    cached: Vec<(usize, Vec<u8>)>,
    failure: Option<Failure>,
    hold: Option<Requests>,
    held: Vec<Held>,
}

/// A request that is not answered yet.
#[derive(Debug)]
enum Held {
    Read(Range<usize>, ReplyData),
    Write(usize, Vec<u8>, ReplyWrite),
    Flush(ReplyEmpty),
    Seek(i64, i32, ReplyLseek),
}

impl HeldFile {
    /// A file with this content. Its size stays.
    ///
    /// # Errors
    /// What is missing: /dev/fuse, or the right to mount.
    pub fn new(content: Vec<u8>) -> Result<Self> {
        let device = OpenOptions::new().read(true).write(true).open(DEVICE).with_context(|| {
            format!("{DEVICE}: this test needs FUSE: run it as root, on a machine or in a container that has it")
        })?;
        let device = closed_first(&device).context("a high descriptor for /dev/fuse")?;
        let mount = mount(&device).context("mounting a FUSE file system (this test needs root)")?;
        let state = State { content, cached: Vec::new(), failure: None, hold: None, held: Vec::new() };
        let storage = Arc::new(Storage { state: Mutex::new(state), arrived: Condvar::new() });
        let mut session = Session::from_fd(Server(Arc::clone(&storage)), device, SessionACL::All);
        // It ends when the kernel has destroyed the file system, or with the process.
        thread::Builder::new().name("held-file".to_owned()).spawn(move || session.run())?;
        let path = format!("/proc/self/fd/{}/{NAME}", mount.as_raw_fd());
        let open = OpenOptions::new().read(true).write(true).open(path).context("opening the file of a FUSE mount")?;
        Ok(Self { open, storage })
    }

    /// Where other processes, too, open it, for as long as this here exists. The file has no other name.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.open.as_raw_fd()).into()
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.open
    }

    /// From now on it fails like this; None: it works again.
    pub fn fail(&self, failure: Option<Failure>) {
        self.storage.lock().failure = failure;
    }

    /// A copy of what the storage has, whatever a cache says.
    ///
    /// # Panics
    /// When the range is not within the file.
    pub fn content(&self, offset: u64, len: usize) -> Vec<u8> {
        self.storage.lock().content[offset as usize..][..len].to_vec()
    }

    /// From now on these requests are kept.
    ///
    /// # Panics
    /// When others are kept already.
    pub fn hold(&self, requests: Requests) -> Hold {
        let before = self.storage.lock().hold.replace(requests);
        assert_eq!(before, None, "one hold at a time");
        Hold { storage: Arc::clone(&self.storage) }
    }
}

impl Hold {
    /// Waits until so many requests are held.
    ///
    /// # Errors
    /// They do not come.
    pub fn wait(&self, count: usize) -> Result<()> {
        let waiting = |state: &mut State| state.held.len() < count;
        let result = self.storage.arrived.wait_timeout_while(self.storage.lock(), PATIENCE, waiting);
        let (state, timeout) = result.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            bail!("waited {PATIENCE:?} for {count} of {:?}, {} came", state.hold, state.held.len());
        }
        Ok(())
    }

    /// How many requests are held now.
    pub fn count(&self) -> usize {
        self.storage.lock().held.len()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.storage.lock();
        state.hold = None;
        for request in std::mem::take(&mut state.held) {
            state.answer(request);
        }
    }
}

impl Requests {
    fn include(&self, request: &Held) -> bool {
        let touch = |range: &Range<u64>, at: usize, end: usize| range.start < end as u64 && range.end > at as u64;
        match (self, request) {
            (Self::Reads(range) | Self::Transfers(range), Held::Read(bytes, _)) => touch(range, bytes.start, bytes.end),
            (Self::Writes(range) | Self::Transfers(range), Held::Write(at, data, _)) => {
                touch(range, *at, at + data.len())
            }
            (Self::Flushes, Held::Flush(_)) | (Self::Seeks, Held::Seek(..)) => true,
            _ => false,
        }
    }
}

impl Storage {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a request, or keeps it.
    fn take(&self, request: Held) {
        let mut state = self.lock();
        if state.hold.as_ref().is_some_and(|hold| hold.include(&request)) {
            state.held.push(request);
            self.arrived.notify_all();
        } else {
            state.answer(request);
        }
    }
}

impl State {
    fn answer(&mut self, request: Held) {
        match request {
            Held::Read(bytes, reply) => {
                let end = bytes.end.min(self.content.len());
                let mut data = self.content[bytes.start.min(end)..end].to_vec();
                for (at, written) in &self.cached {
                    let (from, to) = (bytes.start.max(*at), end.min(at + written.len()));
                    if from < to {
                        data[from - bytes.start..to - bytes.start].copy_from_slice(&written[from - at..to - at]);
                    }
                }
                reply.data(&data);
            }
            Held::Write(at, data, reply) => match self.write(at, &data) {
                Ok(()) => reply.written(data.len() as u32),
                Err(errno) => reply.error(errno),
            },
            Held::Flush(reply) => match self.flush() {
                Ok(()) => reply.ok(),
                Err(errno) => reply.error(errno),
            },
            // All of it is data.
            Held::Seek(offset, _, reply) if offset >= self.content.len() as i64 => reply.error(libc::ENXIO),
            Held::Seek(offset, libc::SEEK_DATA, reply) => reply.offset(offset),
            Held::Seek(_, _, reply) => reply.offset(self.content.len() as i64),
        }
    }

    fn write(&mut self, at: usize, data: &[u8]) -> Result<(), i32> {
        let place = self.content.get_mut(at..at + data.len()).ok_or(libc::EFBIG)?;
        match &mut self.failure {
            Some(Failure::Writes(0, errno)) => return Err(*errno),
            Some(Failure::CacheOnce(_)) => {
                self.cached.push((at, data.to_vec()));
                return Ok(());
            }
            Some(Failure::Writes(left, _)) => *left -= 1,
            None => {}
        }
        place.copy_from_slice(data);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), i32> {
        let cached = std::mem::take(&mut self.cached);
        match &mut self.failure {
            Some(Failure::CacheOnce(0)) => {
                self.failure = None;
                return Err(libc::EIO);
            }
            Some(Failure::CacheOnce(left)) => *left -= 1,
            _ => {}
        }
        for (at, data) in cached {
            self.content[at..at + data.len()].copy_from_slice(&data);
        }
        Ok(())
    }
}

/// The file system: a directory with one file. It never waits, since what it does not answer it puts aside.
struct Server(Arc<Storage>);

impl Server {
    fn attributes(&self, inode: u64) -> FileAttr {
        let (kind, perm, size) = match inode {
            ROOT => (FileType::Directory, 0o700, 0),
            _ => (FileType::RegularFile, 0o600, self.0.lock().content.len() as u64),
        };
        let time = SystemTime::UNIX_EPOCH;
        FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Server {
    fn lookup(&mut self, _: &Request<'_>, _: u64, name: &OsStr, reply: ReplyEntry) {
        if name == NAME { reply.entry(&FOR_EVER, &self.attributes(DISK), 0) } else { reply.error(libc::ENOENT) }
    }

    fn getattr(&mut self, _: &Request<'_>, inode: u64, _: Option<u64>, reply: ReplyAttr) {
        reply.attr(&FOR_EVER, &self.attributes(inode));
    }

    fn open(&mut self, _: &Request<'_>, _: u64, _: i32, reply: ReplyOpen) {
        // Nobody waits for an answer in close(2): a process that is killed closes the file when its threads are gone.
        const FOPEN_NOFLUSH: u32 = 1 << 5;
        // One page cache for all who open it, as with a disk.
        reply.opened(0, fuser::consts::FOPEN_KEEP_CACHE | FOPEN_NOFLUSH);
    }

    fn read(
        &mut self,
        _: &Request<'_>,
        _: u64,
        _: u64,
        offset: i64,
        size: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyData,
    ) {
        let at = offset as usize;
        self.0.take(Held::Read(at..at + size as usize, reply));
    }

    fn write(
        &mut self,
        _: &Request<'_>,
        _: u64,
        _: u64,
        offset: i64,
        data: &[u8],
        _: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyWrite,
    ) {
        self.0.take(Held::Write(offset as usize, data.to_vec(), reply));
    }

    fn fsync(&mut self, _: &Request<'_>, _: u64, _: u64, _: bool, reply: ReplyEmpty) {
        self.0.take(Held::Flush(reply));
    }

    fn lseek(&mut self, _: &Request<'_>, _: u64, _: u64, offset: i64, whence: i32, reply: ReplyLseek) {
        self.0.take(Held::Seek(offset, whence, reply));
    }
}

/// The connection under a high number. The kernel lets go of what a dying process has open from the highest number down,
/// so requests have failed before it waits for those of a loop device.
fn closed_first(device: &File) -> io::Result<OwnedFd> {
    const HIGH: libc::c_int = 900;
    // SAFETY: no memory is passed.
    descriptor(unsafe { libc::fcntl(device.as_raw_fd(), libc::F_DUPFD_CLOEXEC, HIGH) }.into())
}

/// A new FUSE file system, attached to no path: it goes with the last descriptor.
fn mount(device: &OwnedFd) -> io::Result<OwnedFd> {
    // linux/mount.h
    const FSOPEN_CLOEXEC: u32 = 1;
    const FSMOUNT_CLOEXEC: u32 = 1;
    const FSCONFIG_SET_STRING: u32 = 1;
    const FSCONFIG_CMD_CREATE: u32 = 6;
    // SAFETY: the name is a C string.
    let context = descriptor(unsafe { libc::syscall(libc::SYS_fsopen, c"fuse".as_ptr(), FSOPEN_CLOEXEC) })?;
    let configure = |command: u32, key: Option<&CStr>, value: Option<&CStr>| {
        let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
        let (fd, key, value) = (context.as_raw_fd(), pointer(key), pointer(value));
        // SAFETY: key and value are C strings, or null where the command takes none.
        let result = unsafe { libc::syscall(libc::SYS_fsconfig, fd, command, key, value, 0) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    let fd = std::ffi::CString::new(device.as_raw_fd().to_string())?;
    for (key, value) in [(c"fd", fd.as_c_str()), (c"rootmode", c"40700"), (c"user_id", c"0"), (c"group_id", c"0")] {
        configure(FSCONFIG_SET_STRING, Some(key), Some(value))?;
    }
    configure(FSCONFIG_CMD_CREATE, None, None)?;
    // SAFETY: no memory is passed.
    descriptor(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0) })
}

fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system call returned a new descriptor, which is ours.
    Ok(unsafe { OwnedFd::from_raw_fd(result as _) })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::fs::FileExt;
    use std::process::{Command, Stdio};
    use std::sync::mpsc;

    use super::*;
    use crate::LoopDevice;

    const MIB: u64 = 1 << 20;

    fn content() -> Vec<u8> {
        (0..4 * MIB).map(|i| (i >> 12) as u8 ^ i as u8).collect()
    }

    fn file() -> HeldFile {
        HeldFile::new(content()).unwrap_or_else(|e| panic!("{e:#}"))
    }

    fn read(file: &File, offset: u64) -> Vec<u8> {
        let mut data = vec![0; 4096];
        file.read_exact_at(&mut data, offset).unwrap();
        data
    }

    #[test]
    fn a_read_waits_until_it_is_let_go_and_others_do_not() {
        let held = file();
        let other = File::open(held.path()).unwrap();
        let hold = held.hold(Requests::Reads(2 * MIB..3 * MIB));
        thread::scope(|scope| {
            let reader = scope.spawn(|| read(&other, 2 * MIB + 4096));
            hold.wait(1).unwrap();
            assert!(read(held.file(), 0) == content()[..4096]);
            assert!(!reader.is_finished() && hold.count() > 0);
            drop(hold);
            assert!(reader.join().unwrap() == content()[2 * MIB as usize + 4096..][..4096]);
        });
    }

    #[test]
    fn a_write_and_a_flush_wait_and_reach_the_storage() {
        let held = file();
        let hold = held.hold(Requests::Writes(0..4096));
        thread::scope(|scope| {
            let writer = scope.spawn(|| held.file().write_all_at(&[7; 512], 1024));
            hold.wait(1).unwrap();
            assert!(held.content(0, 4096) == content()[..4096]);
            drop(hold);
            writer.join().unwrap().unwrap();
            assert!(held.content(1024, 512) == [7; 512]);
            let hold = held.hold(Requests::Flushes);
            let flusher = scope.spawn(|| held.file().sync_data());
            hold.wait(1).unwrap();
            assert!(!flusher.is_finished());
            drop(hold);
            flusher.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_search_for_data_waits_and_transfers_together_do() {
        let held = file();
        let hold = held.hold(Requests::Seeks);
        let other = File::options().read(true).write(true).open(held.path()).unwrap();
        thread::scope(|scope| {
            // SAFETY: no memory is passed.
            let data = scope.spawn(|| unsafe { libc::lseek(other.as_raw_fd(), 4096, libc::SEEK_DATA) });
            hold.wait(1).unwrap();
            assert!(!data.is_finished());
            drop(hold);
            assert_eq!(data.join().unwrap(), 4096);
        });
        let hold = held.hold(Requests::Transfers(MIB..2 * MIB));
        thread::scope(|scope| {
            let writer = scope.spawn(|| other.write_all_at(&[7; 4096], MIB + 8192));
            hold.wait(1).unwrap();
            let reader = scope.spawn(|| read(held.file(), MIB));
            hold.wait(2).unwrap();
            assert!(!writer.is_finished() && !reader.is_finished());
            drop(hold);
            writer.join().unwrap().unwrap();
            reader.join().unwrap();
        });
    }

    #[test]
    fn it_fails_as_it_is_told() {
        let held = file();
        let errno = |result: io::Result<()>| result.map_err(|error| error.raw_os_error().unwrap());
        held.fail(Some(Failure::Writes(1, libc::ENOSPC)));
        assert_eq!(errno(held.file().write_all_at(&[7; 512], 0)), Ok(()));
        assert_eq!(errno(held.file().write_all_at(&[8; 512], 0)), Err(libc::ENOSPC));
        held.fail(Some(Failure::CacheOnce(1)));
        assert_eq!(errno(held.file().write_all_at(&[9; 512], 512)), Ok(()));
        assert!(held.content(0, 1024) == [&[7; 512][..], &content()[512..1024]].concat());
        assert_eq!(errno(held.file().sync_data()), Ok(()));
        assert!(held.content(0, 1024) == [[7; 512], [9; 512]].concat());
        assert_eq!(errno(held.file().write_all_at(&[1; 512], 512)), Ok(()));
        assert_eq!(errno(held.file().sync_data()), Err(libc::EIO));
        assert_eq!(errno(held.file().sync_data()), Ok(()));
        assert!(held.content(512, 512) == [9; 512]);
    }

    #[test]
    fn a_loop_device_over_it_is_as_slow() {
        let held = file();
        let device = LoopDevice::over(held.file(), 512).unwrap_or_else(|e| panic!("{e:#}"));
        let hold = held.hold(Requests::Reads(2 * MIB..3 * MIB));
        thread::scope(|scope| {
            let reader = scope.spawn(|| read(&File::open(device.path()).unwrap(), 2 * MIB));
            hold.wait(1).unwrap();
            assert!(!reader.is_finished());
            drop(hold);
            assert!(reader.join().unwrap() == content()[2 * MIB as usize..][..4096]);
        });
    }
    const CHILD: &str = "SCST_HELD_FILE_CHILD";

    /// The test starts itself once more, and kills that while a third process reads what it holds.
    #[test]
    fn nobody_hangs_when_the_process_that_holds_is_killed() {
        if std::env::var_os(CHILD).is_some() {
            let held = file();
            let device = LoopDevice::over(held.file(), 512).unwrap();
            let hold = held.hold(Requests::Reads(2 * MIB..3 * MIB));
            let mut reader = Command::new("dd");
            reader.arg(format!("if={}", device.path().display())).args([
                "of=/dev/null",
                "bs=4096",
                "skip=512",
                "count=1",
            ]);
            let mut reader = reader.stderr(Stdio::null()).spawn().unwrap();
            hold.wait(1).unwrap();
            println!("\nheld");
            reader.wait().unwrap();
            unreachable!("the reader has an answer");
        }
        let name = "held_file::tests::nobody_hangs_when_the_process_that_holds_is_killed";
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").stdout(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "held"));
        child.kill().unwrap();
        // Both have it as their output: it ends when both have.
        let (ended, end) = mpsc::channel();
        thread::spawn(move || ended.send(lines.count()));
        end.recv_timeout(PATIENCE).expect("the killed process and its reader end");
        assert!(!child.wait().unwrap().success());
    }
}
