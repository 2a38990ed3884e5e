//! Stories about page-cached data that are sent from where they lie.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use scst_core::buffer::{Extent, SgList};
use scst_core::io::FileId;
use scst_mem::FilePages;
use scst_reactor::backend::{Backend, Completion, SocketToken};

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
