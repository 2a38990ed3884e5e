//! Stories about page-cached data that are sent from where they lie, and written to where they belong.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use scst_core::buffer::{Extent, SgList};
use scst_core::ids::CmdId;
use scst_core::io::{FileId, IoOp, IoToken};
use scst_mem::FilePages;
use scst_reactor::backend::{Backend, Completion, SocketToken};

use tempfile::NamedTempFile;

use crate::block::Mounted;
use crate::stage::Stage;

const BYTES: u32 = 1 << 20;

fn list(extent: Extent) -> SgList {
    let mut sg = SgList::default();
    assert!(sg.push(extent));
    sg
}

/// A registered file that lends its pages, with something in them. None where there is no such thing.
fn lending<B: Backend>(stage: &mut Stage<B>) -> Option<(std::fs::File, FileId)> {
    let file = tempfile::tempfile().unwrap();
    let data: Vec<u8> = (0..BYTES).map(|i| (i >> 9) as u8 ^ i as u8).collect();
    file.write_all_at(&data, 0).unwrap();
    let ours = file.try_clone().unwrap();
    if stage.backend.name() == "sim" {
        let file = stage.file(u64::from(BYTES));
        let id = stage.backend.register_file(Arc::clone(&file), false);
        stage.backend.share_pages(id, &Arc::new(FilePages::new(file, u64::from(BYTES)).unwrap()));
        assert_eq!(stage.backend.cached_pages(id, 0, BYTES), None, "simulated disks are read");
        return None;
    }
    let file = Arc::new(file);
    let id = stage.backend.register_file(Arc::clone(&file), false);
    assert_eq!(stage.backend.cached_pages(id, 0, BYTES), None, "it has not been shared");
    stage.backend.share_pages(id, &Arc::new(FilePages::new(file, u64::from(BYTES)).unwrap()));
    Some((ours, id))
}

pub(crate) fn pages_are_sent_as_they_are_at_that_moment<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let Some((file, id)) = lending(&mut stage) else { return };
    let (socket, mut peer) = stage.connected();
    let header = stage.buffer(&[1; 48]);
    let pages = stage.backend.cached_pages(id, 512, BYTES - 512).unwrap();
    file.write_all_at(b"later", 600).unwrap();
    let mut expected = vec![0; BYTES as usize - 512];
    file.read_exact_at(&mut expected, 512).unwrap();
    stage.backend.send(socket, &[header.extents()[0], pages], &stage.pool, SocketToken(5));
    let (sent, got) = stage.next_while_receiving(&mut peer, 48 + expected.len());
    assert_eq!(sent, Completion::Sent { token: SocketToken(5), result: 48 + expected.len() as i32 });
    assert!(got[..48] == [1; 48] && got[48..] == expected);
    stage.backend.unregister_file(id);
    assert_eq!(stage.backend.cached_pages(id, 0, BYTES), None);
    stage.pool.release(&list(pages));
    stage.pool.release(&header);
}

pub(crate) fn a_file_that_is_cut_under_a_send_breaks_only_that<B: Backend>(open: impl Fn() -> Stage<B>) {
    let mut stage = open();
    let Some((file, id)) = lending(&mut stage) else { return };
    let (listener, addr) = stage.listen();
    let (socket, _peer) = stage.connected_at(listener, addr);
    let (other, mut other_peer) = stage.connected_at(listener, addr);
    let pages = stage.backend.cached_pages(id, 0, BYTES).unwrap();
    file.set_len(0).unwrap();
    stage.send(socket, &list(pages), 5);
    match stage.next() {
        Completion::Sent { token: SocketToken(5), result } => assert_eq!(result, -libc::EFAULT),
        other => panic!("{other:?}"),
    }
    assert_eq!(stage.backend.cached_pages(id, 0, BYTES), None);
    let hello = stage.buffer(b"hello");
    stage.send(other, &hello, 6);
    let (sent, got) = stage.next_while_receiving(&mut other_peer, 5);
    assert_eq!((sent, &got[..]), (Completion::Sent { token: SocketToken(6), result: 5 }, &b"hello"[..]));
    stage.pool.release(&list(pages));
    stage.pool.release(&hello);
}

/// A file in memory that is written through its mapping.
fn written<B: Backend>(stage: &mut Stage<B>, directory: &Path) -> (NamedTempFile, FileId) {
    let file = NamedTempFile::new_in(directory).unwrap();
    file.as_file().set_len(u64::from(BYTES)).unwrap();
    let theirs = Arc::new(file.reopen().unwrap());
    let id = stage.backend.register_file(Arc::clone(&theirs), false);
    stage.backend.share_pages(id, &Arc::new(FilePages::writable(theirs, u64::from(BYTES)).unwrap()));
    (file, id)
}

fn content(file: &NamedTempFile, offset: u64, len: usize) -> Vec<u8> {
    let mut found = vec![0xee; len];
    file.as_file().read_exact_at(&mut found, offset).unwrap();
    found
}

/// Whether we have touched a file through a mapping.
fn is_touched(file: &NamedTempFile) -> bool {
    let (name, smaps) = (file.path().display().to_string(), std::fs::read_to_string("/proc/self/smaps").unwrap());
    let resident = smaps.lines().skip_while(|line| !line.ends_with(&name)).find(|line| line.starts_with("Rss:"));
    !resident.expect("it is mapped").ends_with(" 0 kB")
}

pub(crate) fn a_file_in_memory_is_written_through_its_mapping<B: Backend>(mut stage: Stage<B>) {
    let (file, id) = written(&mut stage, "/dev/shm".as_ref());
    // Of several extents, neither end at the end of one.
    let data: Vec<u8> = (0..(512 << 10) + 8192).map(|i: u32| (i >> 9) as u8 ^ i as u8).collect();
    let sg = stage.buffer(&data);
    let len = sg.bytes() - 1024;
    let mut write = |dsync| {
        file.as_file().write_all_at(&vec![0; len as usize], 4096).unwrap();
        let op = IoOp::Write { file: id, offset: 4096, sg: &sg, sg_offset: 512, len, dsync };
        assert_eq!(stage.backend.try_now(&op), Some(len as i32));
        assert!(content(&file, 4096, len as usize) == data[512..][..len as usize]);
        is_touched(&file)
    };
    let times = (1..100).find(|_| write(false));
    assert!(times > Some(1), "{times:?}: what is written once is written by the system");
    assert!(write(true));
    // What is cut off is written by the system, which makes the file long again.
    file.as_file().set_len(0).unwrap();
    let op = IoOp::Write { file: id, offset: 8192, sg: &sg, sg_offset: 0, len: 4096, dsync: false };
    assert_eq!(stage.backend.try_now(&op), Some(4096));
    assert_eq!(file.as_file().metadata().unwrap().len(), 8192 + 4096);
    assert!(content(&file, 8192, 4096) == data[..4096]);
    stage.pool.release(&sg);
}

pub(crate) fn a_full_file_system_is_an_error_of_the_write<B: Backend>(mut stage: Stage<B>) {
    let directory = tempfile::tempdir().unwrap();
    let small = Mounted::tmpfs(directory.path(), "256k");
    let (file, id) = written(&mut stage, directory.path());
    let sg = stage.buffer(&[7; 66 << 10]);
    // First by the system, then through the mapping as far as there is something.
    for _ in 0..3 {
        let results: Vec<_> = (0..16)
            .map(|n| {
                let op = IoOp::Write { file: id, offset: n << 16, sg: &sg, sg_offset: 0, len: 64 << 10, dsync: false };
                stage.backend.try_now(&op).unwrap_or_else(|| {
                    stage.backend.submit(IoToken { cmd: CmdId { index: 1, generation: 1 }, tag: 0 }, op).unwrap();
                    match stage.next() {
                        Completion::Io(io) => io.result,
                        other => panic!("{other:?}"),
                    }
                })
            })
            .collect();
        let good = results.iter().take_while(|result| **result == 64 << 10).count();
        assert!((3..=4).contains(&good), "{results:?}");
        assert!(results[good + 1..].iter().all(|result| *result == -libc::ENOSPC), "{results:?}");
        assert!(content(&file, 0, good << 16).iter().all(|byte| *byte == 7));
    }
    assert!(is_touched(&file));
    stage.pool.release(&sg);
    drop((file, stage, small));
}
