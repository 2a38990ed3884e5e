use std::io::Write;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;

use scst_core::buffer::SgList;

use super::*;
use crate::{BufferPool, PoolConfig};

const PAGE: u64 = PAGE_BYTES as u64;
const NOW: Nanos = Nanos(0);

fn file(bytes: usize) -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![7; bytes]).unwrap();
    Arc::new(file)
}

fn pool() -> BufferPool {
    BufferPool::new(PoolConfig { budget: 1 << 20, ..PoolConfig::default() })
}

fn list(extent: Extent) -> SgList {
    let mut sg = SgList::default();
    assert!(sg.push(extent));
    sg
}

/// What the kernel reads at an address: bytes, or the errno.
fn kernel_reads(at: NonNull<u8>, len: usize) -> Result<Vec<u8>, i32> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // SAFETY: new descriptors of ours.
    let (mut read, write) = unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) };
    // SAFETY: the kernel checks the address itself.
    let n = unsafe { libc::write(write.as_raw_fd(), at.as_ptr().cast(), len) };
    if n < 0 {
        return Err(io::Error::last_os_error().raw_os_error().unwrap());
    }
    let mut bytes = vec![0; n as usize];
    io::Read::read_exact(&mut read, &mut bytes).unwrap();
    Ok(bytes)
}

#[test]
fn what_is_lent_is_the_file_as_it_is_when_the_kernel_reads_it() {
    let file = file(3 * PAGE as usize);
    let pool = pool();
    let arenas = pool.arenas();
    let arena = arenas.attach(Arc::new(FilePages::new(Arc::clone(&file), 3 * PAGE).unwrap())).unwrap();
    let extent = arenas.lend(arena, PAGE - 2, 4).unwrap();
    assert!(crate::Arenas::is_mapped_file(extent));
    file.write_all_at(&[1, 2], PAGE - 1).unwrap();
    assert_eq!(kernel_reads(arenas.resolve(extent).unwrap(), 4).unwrap(), [7, 1, 2, 7]);
    assert!(arenas.lend(arena, 3 * PAGE - 1, 2).is_none());
    assert!(arenas.lend(arena + 1, 0, 1).is_none());
}

#[test]
fn a_truncated_file_is_an_error_for_the_kernel_and_not_cached_for_us() {
    let file = file(4 * PAGE as usize);
    let pages = Arc::new(FilePages::new(Arc::clone(&file), 4 * PAGE).unwrap());
    assert!(pages.are_there(NOW, 0, 4 * PAGE_BYTES));
    assert!(!pages.are_there(NOW, PAGE, 4 * PAGE_BYTES), "beyond the mapping");
    let pool = pool();
    let arena = pool.arenas().attach(Arc::clone(&pages)).unwrap();
    let extent = pool.arenas().lend(arena, 2 * PAGE, PAGE_BYTES).unwrap();
    file.set_len(PAGE + 512).unwrap();
    assert_eq!(kernel_reads(pool.arenas().resolve(extent).unwrap(), 1), Err(libc::EFAULT));
    assert!(pages.are_there(NOW, 0, PAGE_BYTES + 512));
    // The rest of that page reads as zeros through the mapping, but it is not the file's.
    assert!(!pages.are_there(NOW, PAGE, 1024));
    assert!(!pages.are_there(NOW, 2 * PAGE, 1));
}

#[test]
fn short_reads_are_copied() {
    let pages = FilePages::new(file(64 << 10), 64 << 10).unwrap();
    assert!(pages.are_cached(NOW, 512, 32 << 10));
    assert!(!pages.are_cached(NOW, 0, (32 << 10) - 512));
}

#[test]
fn of_a_file_in_memory_holes_and_what_is_cut_off_are_not_lent() {
    const STRETCH: u64 = 2 << 20;
    let file = Arc::new(tempfile::tempfile_in("/dev/shm").unwrap());
    file.write_all_at(&vec![7; STRETCH as usize], 0).unwrap();
    file.set_len(2 * STRETCH).unwrap();
    let pages = FilePages::new(Arc::clone(&file), 2 * STRETCH).unwrap();
    // The first few READs of a stretch are copied, whatever is there.
    let wanted = |now, offset| (0..100).filter(|_| pages.are_cached(now, offset, PAGE_BYTES)).count();
    assert_eq!((wanted(NOW, 0), wanted(NOW, STRETCH)), (84, 0));
    assert!(!pages.are_cached(NOW, 0, PAGE_BYTES - 512), "less than a page");
    assert_eq!(file.metadata().unwrap().blocks() * 512, STRETCH, "nobody has filled the hole");
    file.write_all_at(&vec![7; STRETCH as usize], STRETCH).unwrap();
    assert_eq!(wanted(NOW, STRETCH), 99, "it is asked about again and again");
    file.set_len(2 * STRETCH - 512).unwrap();
    let later = NOW.after(Nanos::from_secs(1));
    assert_eq!((wanted(later, 0), wanted(later, STRETCH)), (84, 0));
}

#[test]
fn what_is_not_in_the_page_cache_is_not_lent() {
    let file = file(8 * PAGE as usize);
    let pages = FilePages::new(Arc::clone(&file), 8 * PAGE).unwrap();
    assert!(pages.are_there(NOW, 0, 8 * PAGE_BYTES));
    file.sync_all().unwrap();
    // SAFETY: no memory is passed.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 3 * PAGE as i64, PAGE as i64, libc::POSIX_FADV_DONTNEED) };
    if pages.are_there(NOW, 3 * PAGE, PAGE_BYTES) {
        return; // A file system without a backing store keeps its pages.
    }
    assert!(!pages.are_there(NOW, 0, 8 * PAGE_BYTES), "one page in the middle is missing");
    assert!(pages.are_there(NOW, 4 * PAGE, 4 * PAGE_BYTES));
    file.read_exact_at(&mut [0; 8], 3 * PAGE).unwrap();
    assert!(pages.are_there(NOW, 0, 8 * PAGE_BYTES));
}

#[test]
fn a_file_stays_mapped_until_the_last_extent_is_back() {
    let mut pool = pool();
    let pages = Arc::new(FilePages::new(file(PAGE as usize), PAGE).unwrap());
    let arena = pool.arenas().attach(Arc::clone(&pages)).unwrap();
    let (a, b) = (pool.arenas().lend(arena, 0, 512).unwrap(), pool.arenas().lend(arena, 512, 512).unwrap());
    pool.release(&list(a));
    pool.arenas().detach(arena);
    assert_eq!(Arc::strong_count(&pages), 2);
    assert!(pool.arenas().lend(arena, 0, 1).is_none());
    assert!(pool.arenas().resolve(b).is_some());
    pool.release(&list(b));
    assert_eq!(Arc::strong_count(&pages), 1);
    assert!(pool.arenas().resolve(b).is_none());
    assert_eq!(pool.arenas().attach(pages), Some(arena), "the number is free again");
    assert_eq!(pool.statistics().in_use, 0);
}

#[test]
#[should_panic(expected = "released extent is lent")]
fn an_extent_that_is_given_back_twice_is_caught() {
    let mut pool = pool();
    let arena = pool.arenas().attach(Arc::new(FilePages::new(file(512), 512).unwrap())).unwrap();
    let extent = pool.arenas().lend(arena, 0, 512).unwrap();
    pool.release(&list(extent));
    pool.release(&list(extent));
}

#[test]
#[should_panic(expected = "extent lies within its arena")]
fn the_bytes_of_a_file_are_not_for_us() {
    let pool = pool();
    let arena = pool.arenas().attach(Arc::new(FilePages::new(file(512), 512).unwrap())).unwrap();
    pool.bytes(pool.arenas().lend(arena, 0, 512).unwrap());
}
