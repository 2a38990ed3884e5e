//! In the steady state a back-end allocates nothing, whatever it does for a command.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use scst_core::ids::CmdId;
use scst_core::io::{IoOp, IoQueue, IoToken};
use scst_mem::{BufferPool, PoolConfig};
use scst_reactor::backend::{Backend, Completion, FileRegistry, SocketToken};
use scst_reactor::mailbox::mailbox;
use scst_reactor::{BackendChoice, ReactorConfig, open};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if COUNTED.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

const MESSAGE: usize = 5000;

/// Per round: a message in, buffers, a write, a read, a flush, a letter in the mailbox, the message out.
fn steady_state(choice: BackendChoice) -> u64 {
    let mut pool = BufferPool::new(PoolConfig { budget: 8 << 20, ..PoolConfig::default() });
    let mut backend = open(choice, &ReactorConfig::new(pool.arenas().clone())).unwrap();
    let listener = backend.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = backend.local_addr(listener).unwrap();
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    let file = backend.register_file(Arc::new(file), false);
    let (tx, rx) = mailbox(4, backend.waker());
    let peer = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        let mut message = [7u8; MESSAGE];
        for _ in 0..300 {
            stream.write_all(&message).unwrap();
            stream.read_exact(&mut message).unwrap();
        }
    });
    backend.accept(listener, SocketToken(0));
    let mut out = Vec::with_capacity(64);
    let mut wait = |backend: &mut scst_reactor::AnyBackend| {
        out.clear();
        while out.iter().all(|c| *c == Completion::Woken) {
            backend.wait(None, &mut out).unwrap();
        }
        *out.iter().find(|c| **c != Completion::Woken).unwrap()
    };
    let Completion::Accepted { result: Ok(socket), .. } = wait(&mut backend) else { panic!() };
    let token = IoToken { cmd: CmdId { index: 0, generation: 0 }, tag: 0 };
    for round in 0..300 {
        // Tables and lists have found their size.
        COUNTED.set(round >= 100);
        let sg = pool.allocate(MESSAGE as u32).unwrap();
        let mut got = 0;
        while got < MESSAGE as u32 {
            let rest = [sg.extents()[0].slice(got, MESSAGE as u32)];
            backend.recv(socket, &rest, &mut pool, SocketToken(1));
            let Completion::Received { result, .. } = wait(&mut backend) else { panic!() };
            got += result as u32;
        }
        let (offset, sg_offset, len) = (4096, 0, MESSAGE as u32);
        let ops = [
            IoOp::Write { file, offset, sg: &sg, sg_offset, len, dsync: false },
            IoOp::Read { file, offset, sg: &sg, sg_offset, len },
            IoOp::Mapped { file, offset, len: 4096 },
            IoOp::Flush { file },
        ];
        for op in ops {
            backend.submit(token, op).unwrap();
            let Completion::Io(io) = wait(&mut backend) else { panic!() };
            assert!(io.result >= 0);
        }
        tx.send(round).unwrap();
        backend.send(socket, sg.extents(), &pool, SocketToken(2));
        assert_eq!(wait(&mut backend), Completion::Sent { token: SocketToken(2), result: MESSAGE as i32 });
        assert_eq!(rx.take(), Some(round));
        pool.release(&sg);
    }
    COUNTED.set(false);
    peer.join().unwrap();
    ALLOCATIONS.swap(0, Ordering::Relaxed)
}

#[test]
fn the_steady_state_allocates_nothing() {
    assert_eq!(steady_state(BackendChoice::Uring), 0);
    assert_eq!(steady_state(BackendChoice::Posix), 0);
}
