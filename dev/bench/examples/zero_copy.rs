//! What a READ or a WRITE of page-cached data costs the server's thread, by the way that the data take between socket
//! and page cache. Stand-alone: no iSCSI, fixed headers, one connection over loopback TCP, all data cached.
//!
//! `cargo run --release -p scst-bench --example zero_copy -- FILE [SECONDS]` prints a table; FILE is made when it is
//! not there (256 MiB). Figures and what follows from them: `docs/zero-copy.md`.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const FILE_BYTES: usize = 256 << 20;
const HEADER: usize = 48;

/// The ways of a READ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ReadWay {
    /// preadv2(RWF_NOWAIT) into buffers, one sendmsg.
    Copy,
    /// The same, buffers of their own each time (what a command without memory pressure finds: not in the cache).
    CopyColdBuffers,
    /// One sendmsg out of the mapping, nothing checked.
    Mapped,
    /// The same after a mincore for each.
    MappedMincore,
    /// The same after a preadv2(RWF_NOWAIT) of one byte of the first and the last page.
    MappedProbe,
    /// mincore, then a sendmsg with MSG_ZEROCOPY; its notifications are reaped before the next.
    MappedZeroCopy,
    /// send(MSG_MORE) of the header and sendfile for each.
    Sendfile,
    /// Header and file into a pipe, one splice to the socket for as much as a pipe holds.
    Splice,
}

/// The ways of a WRITE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WriteWay {
    /// One large receive, pwrite from there.
    Copy,
    /// Header, then payload, received into the mapping.
    Mapped,
    /// Header, then splice socket to pipe to file.
    Splice,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().expect("usage: zero_copy FILE [SECONDS]");
    let seconds: f64 = args.next().map_or(1.0, |s| s.parse().expect("seconds"));
    let file = prepare(&path).expect("file");
    let only = args.next();
    println!("{:<10}{:<18}{:>8}{:>5}{:>12}{:>12}", "", "way", "bytes", "QD", "CPU us/IO", "IO/s");
    for (size, depth) in [(4096, 1), (4096, 32), (16384, 16), (65536, 8), (131_072, 8), (1 << 20, 4)] {
        use ReadWay as R;
        for way in [
            R::Copy,
            R::CopyColdBuffers,
            R::Mapped,
            R::MappedMincore,
            R::MappedProbe,
            R::MappedZeroCopy,
            R::Sendfile,
            R::Splice,
        ] {
            if only.as_deref().is_none_or(|o| o == "read") {
                show("READ", &format!("{way:?}"), size, depth, run(&file, size, depth, seconds, Op::Read(way)));
            }
        }
        for way in [WriteWay::Copy, WriteWay::Mapped, WriteWay::Splice] {
            if only.as_deref().is_none_or(|o| o == "write") {
                show("WRITE", &format!("{way:?}"), size, depth, run(&file, size, depth, seconds, Op::Write(way)));
            }
        }
    }
}

fn show(op: &str, way: &str, size: usize, depth: usize, (cpu, ios, elapsed): (f64, u64, f64)) {
    println!(
        "{op:<10}{way:<18}{size:>8}{depth:>5}{:>12.2}{:>12.0}",
        cpu * 1e6 / ios.max(1) as f64,
        ios as f64 / elapsed
    );
}

fn prepare(path: &str) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    if file.metadata()?.len() < FILE_BYTES as u64 {
        let chunk = vec![0x5a; 1 << 20];
        for at in (0..FILE_BYTES).step_by(chunk.len()) {
            file.write_all_at(&chunk, at as u64)?;
        }
        file.sync_all()?;
    }
    let mut chunk = vec![0; 1 << 20];
    for at in (0..FILE_BYTES).step_by(chunk.len()) {
        file.read_exact_at(&mut chunk, at as u64)?;
    }
    Ok(file)
}

#[derive(Clone, Copy)]
enum Op {
    Read(ReadWay),
    Write(WriteWay),
}

/// One run; CPU seconds of the server's thread, I/Os, seconds.
fn run(file: &File, size: usize, depth: usize, seconds: f64, op: Op) -> (f64, u64, f64) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
    let (server, _) = listener.accept().expect("accept");
    for socket in [&client, &server] {
        socket.set_nodelay(true).expect("nodelay");
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| {
            pin(0);
            let mapping = Mapping::of(file);
            let mut server = Server { socket: server, file, mapping, size, pipe: Pipe::new() };
            let mut buffers = Buffers { inbox: vec![1; 8 << 20], data: vec![1; BUFFER_BYTES], next: 0 };
            let (cpu, began, mut ios) = (thread_cpu(), Instant::now(), 0);
            match op {
                Op::Read(way) => while server.reads(way, &mut buffers, &mut ios).is_ok() {},
                Op::Write(way) => while server.writes(way, &mut buffers, &mut ios).is_ok() {},
            }
            (thread_cpu() - cpu, ios, began.elapsed().as_secs_f64())
        });
        let timer = scope.spawn(|| {
            std::thread::sleep(Duration::from_secs_f64(seconds));
            stop.store(true, Ordering::Relaxed);
        });
        pin(1);
        load(client, size, depth, matches!(op, Op::Write(_)), &stop);
        timer.join().expect("timer");
        serving.join().expect("server")
    })
}

/// Keeps `depth` requests under way until it is told to stop, then waits for the rest.
fn load(mut socket: TcpStream, size: usize, depth: usize, write: bool, stop: &AtomicBool) {
    let (out_len, in_len) = if write { (HEADER + size, HEADER) } else { (HEADER, HEADER + size) };
    let mut request = vec![0x77; out_len * depth];
    let mut inbox = vec![0; 1 << 20];
    let (mut seed, mut pending, mut want) = (0x9e37_79b9_7f4a_7c15u64, 0usize, depth);
    let mut have = 0;
    loop {
        if stop.load(Ordering::Relaxed) {
            want = 0;
            if pending == 0 {
                return;
            }
        }
        for i in 0..want {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let offset = (seed % (FILE_BYTES / size) as u64) * size as u64;
            request[i * out_len..i * out_len + 8].copy_from_slice(&offset.to_le_bytes());
        }
        if want > 0 {
            socket.write_all(&request[..want * out_len]).expect("send");
            pending += want;
        }
        have += socket.read(&mut inbox).expect("receive");
        want = have / in_len;
        have %= in_len;
        pending -= want;
    }
}

const BUFFER_BYTES: usize = 64 << 20;

/// Memory of the server, touched before the measurement.
struct Buffers {
    inbox: Vec<u8>,
    data: Vec<u8>,
    next: usize,
}

struct Server<'a> {
    socket: TcpStream,
    file: &'a File,
    mapping: Mapping,
    size: usize,
    pipe: Pipe,
}

/// End of the connection, or an error.
struct Ended;

impl Server<'_> {
    /// Takes what has arrived and answers it.
    fn reads(&mut self, way: ReadWay, buffers: &mut Buffers, ios: &mut u64) -> Result<(), Ended> {
        let mut got = receive(&self.socket, &mut buffers.inbox[..64 * HEADER])?;
        while !got.is_multiple_of(HEADER) {
            got += receive(&self.socket, &mut buffers.inbox[got..64 * HEADER])?;
        }
        let header = [0u8; HEADER];
        let count = got / HEADER;
        let mut iov = Vec::with_capacity(2 * count);
        for i in 0..count {
            let offset = u64::from_le_bytes(buffers.inbox[i * HEADER..][..8].try_into().expect("8 bytes")) as usize;
            iov.push(libc::iovec { iov_base: header.as_ptr() as *mut _, iov_len: HEADER });
            let from = match way {
                ReadWay::Copy | ReadWay::CopyColdBuffers => {
                    let at = if way == ReadWay::Copy { i * self.size } else { buffers.next % BUFFER_BYTES };
                    buffers.next += self.size;
                    let buffer = &mut buffers.data[at..at + self.size];
                    self.read_now(buffer, offset);
                    buffer.as_mut_ptr()
                }
                ReadWay::Sendfile => {
                    self.sendfile(&header, offset)?;
                    continue;
                }
                ReadWay::Splice => {
                    self.splice_out(&header, offset)?;
                    continue;
                }
                ReadWay::MappedMincore | ReadWay::MappedZeroCopy => {
                    assert!(self.mapping.resident(offset, self.size), "all is cached");
                    self.mapping.at(offset)
                }
                ReadWay::MappedProbe => {
                    let mut byte = [0];
                    self.read_now(&mut byte, offset);
                    if self.size > 4096 {
                        self.read_now(&mut byte, offset + self.size - 1);
                    }
                    self.mapping.at(offset)
                }
                ReadWay::Mapped => self.mapping.at(offset),
            };
            iov.push(libc::iovec { iov_base: from.cast(), iov_len: self.size });
        }
        *ios += count as u64;
        match way {
            ReadWay::Sendfile => Ok(()),
            ReadWay::Splice => self.splice_flush(),
            ReadWay::MappedZeroCopy => self.send(&mut iov, libc::MSG_ZEROCOPY),
            _ => self.send(&mut iov, 0),
        }
    }

    fn read_now(&self, buffer: &mut [u8], offset: usize) {
        let iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: the range is `buffer`.
        let n = unsafe { libc::preadv2(self.file.as_raw_fd(), &iov, 1, offset as i64, libc::RWF_NOWAIT) };
        assert_eq!(n, buffer.len() as isize, "all is cached");
    }

    fn send(&self, iov: &mut [libc::iovec], flags: i32) -> Result<(), Ended> {
        let fd = self.socket.as_raw_fd();
        if flags & libc::MSG_ZEROCOPY != 0 {
            let one = 1i32;
            // SAFETY: an int option.
            unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ZEROCOPY, (&raw const one).cast(), 4) };
        }
        let mut start = 0;
        while start < iov.len() {
            // SAFETY: all zeros is a valid msghdr.
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            message.msg_iov = iov[start..].as_mut_ptr();
            message.msg_iovlen = iov.len() - start;
            // SAFETY: the ranges are buffers of ours or the mapping.
            let sent = unsafe { libc::sendmsg(fd, &message, flags | libc::MSG_NOSIGNAL) };
            let mut sent = usize::try_from(sent).map_err(|_| Ended)?;
            if flags & libc::MSG_ZEROCOPY != 0 {
                reap(fd);
            }
            while sent > 0 {
                let first = &mut iov[start];
                let n = sent.min(first.iov_len);
                first.iov_base = first.iov_base.wrapping_byte_add(n);
                first.iov_len -= n;
                sent -= n;
                if first.iov_len == 0 {
                    start += 1;
                }
            }
        }
        Ok(())
    }

    fn sendfile(&mut self, header: &[u8], offset: usize) -> Result<(), Ended> {
        let (fd, mut offset) = (self.socket.as_raw_fd(), offset as i64);
        let end = offset + self.size as i64;
        // SAFETY: `header` is valid.
        unsafe { libc::send(fd, header.as_ptr().cast(), header.len(), libc::MSG_MORE) };
        while offset < end {
            // SAFETY: `offset` is valid.
            let n = unsafe { libc::sendfile(fd, self.file.as_raw_fd(), &mut offset, (end - offset) as usize) };
            if n <= 0 {
                return Err(Ended);
            }
        }
        Ok(())
    }

    fn splice_out(&mut self, header: &[u8], offset: usize) -> Result<(), Ended> {
        if self.pipe.held + HEADER + self.size.min(128 << 10) > PIPE_BYTES / 2 {
            self.splice_flush()?;
        }
        // SAFETY: `header` is valid.
        unsafe { libc::write(self.pipe.write, header.as_ptr().cast(), header.len()) };
        self.pipe.held += header.len();
        let (mut offset, end) = (offset as i64, (offset + self.size) as i64);
        while offset < end {
            let left = (end - offset) as usize;
            let n = splice(self.file.as_raw_fd(), Some(&mut offset), self.pipe.write, None, left)?;
            self.pipe.held += n;
            if offset < end {
                self.splice_flush()?;
            }
        }
        Ok(())
    }

    fn splice_flush(&mut self) -> Result<(), Ended> {
        while self.pipe.held > 0 {
            self.pipe.held -= splice(self.pipe.read, None, self.socket.as_raw_fd(), None, self.pipe.held)?;
        }
        Ok(())
    }

    /// Takes what has arrived (or one WRITE) and answers it.
    fn writes(&mut self, way: WriteWay, buffers: &mut Buffers, ios: &mut u64) -> Result<(), Ended> {
        let reply = [0u8; HEADER * 64];
        if way == WriteWay::Copy {
            let (one, buffer) = (HEADER + self.size, &mut buffers.inbox);
            let mut got = receive(&self.socket, buffer)?;
            while !got.is_multiple_of(one) {
                got += receive(&self.socket, &mut buffer[got..])?;
            }
            for io in buffer[..got].chunks(one) {
                let offset = u64::from_le_bytes(io[..8].try_into().expect("8 bytes"));
                self.file.write_all_at(&io[HEADER..], offset).expect("write");
            }
            *ios += (got / one) as u64;
            return self.socket.write_all(&reply[..got / one * HEADER]).map_err(|_| Ended);
        }
        // As much as there is, then one answer for all.
        let mut header = [0u8; HEADER];
        let mut count = 0;
        receive(&self.socket, &mut header)?;
        loop {
            let offset = u64::from_le_bytes(header[..8].try_into().expect("8 bytes")) as usize;
            count += 1;
            let next = match way {
                WriteWay::Mapped => self.write_mapped(offset, &mut header)?,
                _ => self.write_spliced(offset, &mut header)?,
            };
            if !next {
                break;
            }
        }
        *ios += count;
        self.socket.write_all(&reply[..count as usize * HEADER]).map_err(|_| Ended)
    }

    /// Payload into the mapping, and the next header if it is there.
    fn write_mapped(&mut self, offset: usize, header: &mut [u8; HEADER]) -> Result<bool, Ended> {
        let mut done = 0;
        let total = self.size + HEADER;
        while done < self.size {
            let mut iov = [
                libc::iovec { iov_base: self.mapping.at(offset + done).cast(), iov_len: self.size - done },
                libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: HEADER },
            ];
            // SAFETY: all zeros is a valid msghdr.
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            message.msg_iov = iov.as_mut_ptr();
            message.msg_iovlen = 2;
            // SAFETY: the ranges are in the mapping and `header`.
            let n = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &mut message, 0) };
            done += usize::try_from(n).ok().filter(|n| *n > 0).ok_or(Ended)?;
        }
        if done > self.size && done < total {
            receive_all(&self.socket, &mut header[done - self.size..])?;
            done = total;
        }
        Ok(done == total)
    }

    fn write_spliced(&self, offset: usize, header: &mut [u8; HEADER]) -> Result<bool, Ended> {
        let mut done = 0;
        let mut to = offset as i64;
        while done < self.size {
            let n = splice(self.socket.as_raw_fd(), None, self.pipe.write, None, self.size - done)?;
            done += n;
            let mut held = n;
            while held > 0 {
                held -= splice(self.pipe.read, None, self.file.as_raw_fd(), Some(&mut to), held)?;
            }
        }
        let fd = self.socket.as_raw_fd();
        // SAFETY: `header` is valid.
        let n = unsafe { libc::recv(fd, header.as_mut_ptr().cast(), HEADER, libc::MSG_DONTWAIT) };
        if n > 0 && (n as usize) < HEADER {
            receive_all(&self.socket, &mut header[n as usize..])?;
        }
        Ok(n > 0)
    }
}

/// Reads all notifications that are there.
fn reap(fd: RawFd) {
    loop {
        let mut control = [0u8; 128];
        // SAFETY: all zeros is a valid msghdr.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = control.len();
        // SAFETY: the control buffer is valid.
        if unsafe { libc::recvmsg(fd, &mut message, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) } < 0 {
            return;
        }
    }
}

fn receive(mut socket: &TcpStream, buffer: &mut [u8]) -> Result<usize, Ended> {
    socket.read(buffer).ok().filter(|n| *n > 0).ok_or(Ended)
}

fn receive_all(mut socket: &TcpStream, buffer: &mut [u8]) -> Result<(), Ended> {
    socket.read_exact(buffer).map_err(|_| Ended)
}

fn splice(from: RawFd, at: Option<&mut i64>, to: RawFd, to_at: Option<&mut i64>, len: usize) -> Result<usize, Ended> {
    let at = at.map_or(ptr::null_mut(), ptr::from_mut);
    let to_at = to_at.map_or(ptr::null_mut(), ptr::from_mut);
    // SAFETY: the offsets are null or valid.
    let n = unsafe { libc::splice(from, at, to, to_at, len, libc::SPLICE_F_MOVE) };
    usize::try_from(n).ok().filter(|n| *n > 0).ok_or(Ended)
}

const PIPE_BYTES: usize = 1 << 20;

struct Pipe {
    read: RawFd,
    write: RawFd,
    held: usize,
}

impl Pipe {
    fn new() -> Self {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors.
        unsafe { libc::pipe(ends.as_mut_ptr()) };
        // SAFETY: a pipe of ours.
        unsafe { libc::fcntl(ends[1], libc::F_SETPIPE_SZ, PIPE_BYTES as i32) };
        Self { read: ends[0], write: ends[1], held: 0 }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        for fd in [self.read, self.write] {
            // SAFETY: ours.
            unsafe { libc::close(fd) };
        }
    }
}

struct Mapping(*mut u8);

impl Mapping {
    /// The whole file, every page of it touched once.
    fn of(file: &File) -> Self {
        let (prot, fd) = (libc::PROT_READ | libc::PROT_WRITE, file.as_raw_fd());
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base =
            unsafe { libc::mmap(ptr::null_mut(), FILE_BYTES, prot, libc::MAP_SHARED | libc::MAP_POPULATE, fd, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        Self(base.cast())
    }

    fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < FILE_BYTES);
        self.0.wrapping_add(offset)
    }

    fn resident(&self, offset: usize, len: usize) -> bool {
        let mut pages = [0u8; 256];
        // SAFETY: the range is in the mapping, and there is a byte for each of its pages.
        let result = unsafe { libc::mincore(self.at(offset).cast(), len, pages.as_mut_ptr()) };
        result == 0 && pages[..len.div_ceil(4096)].iter().all(|p| p & 1 == 1)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: what `of` mapped.
        unsafe { libc::munmap(self.0.cast(), FILE_BYTES) };
    }
}

fn pin(cpu: usize) {
    // SAFETY: all zeros is a valid set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is valid; so is its size.
    unsafe {
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
}

fn thread_cpu() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
