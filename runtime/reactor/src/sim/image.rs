//! The contents of a disk: what reads see, and what would be left after a loss of power.
//!
//! Sparse in pages of 4 KiB. For every 512-byte sector with writes that were not flushed the last durable content and
//! the later versions are kept: a crash leaves any one of them, sector by sector, which covers lost, reordered and torn
//! writes.
//!
//! What could not be written back counts as clean, as with Linux: reads see it, no flush writes it again, and a loss of
//! power takes it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::rng::SimRng;

const PAGE: u64 = 4096;
const SECTOR: u64 = 512;
/// Unflushed versions of one sector that are told apart; the oldest ones go first.
const VERSIONS: usize = 8;

type Sector = [u8; SECTOR as usize];

struct Pending {
    durable: Sector,
    versions: Vec<(u64, Sector)>,
}

/// One disk's contents.
pub(crate) struct Image {
    size: u64,
    /// `None` is allocated, but all zeros.
    pages: BTreeMap<u64, Option<Box<[u8; PAGE as usize]>>>,
    pending: BTreeMap<u64, Pending>,
    /// Sectors that look written and are not: what the storage has of them.
    lost: BTreeMap<u64, Sector>,
    sequence: u64,
}

impl Image {
    pub(crate) fn new(size: u64) -> Self {
        Self { size, pages: BTreeMap::new(), pending: BTreeMap::new(), lost: BTreeMap::new(), sequence: 0 }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Grows or shrinks; what is cut off is gone for good.
    pub(crate) fn set_size(&mut self, size: u64) {
        if size < self.size {
            self.pages.split_off(&size.div_ceil(PAGE));
            self.pending.split_off(&size.div_ceil(SECTOR));
            self.lost.split_off(&size.div_ceil(SECTOR));
            if let Some(Some(page)) = self.pages.get_mut(&(size / PAGE)) {
                page[(size % PAGE) as usize..].fill(0);
            }
        }
        self.size = size;
    }

    /// Number of the last write; a flush makes those up to the number at its submission durable.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Reads what is there; returns the bytes up to the end of the disk.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> usize {
        let len = self.size.saturating_sub(offset).min(out.len() as u64) as usize;
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let inside = (at % PAGE) as usize;
            let n = (PAGE as usize - inside).min(len - done);
            match self.pages.get(&(at / PAGE)) {
                Some(Some(page)) => out[done..done + n].copy_from_slice(&page[inside..inside + n]),
                _ => out[done..done + n].fill(0),
            }
            done += n;
        }
        len
    }

    fn sector(&self, sector: u64) -> Sector {
        let mut out = [0; SECTOR as usize];
        self.read(sector * SECTOR, &mut out);
        out
    }

    /// Writes; past the end the disk grows, as a file does.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8], durable: bool) {
        if data.is_empty() {
            return;
        }
        self.size = self.size.max(offset + data.len() as u64);
        self.track(offset, data.len() as u64, durable, |image| image.store(offset, data));
    }

    /// Makes a range zeros; allocated or not.
    pub(crate) fn zero(&mut self, offset: u64, len: u64, allocate: bool) {
        let end = (offset + len).min(self.size);
        let mut at = offset;
        while at < end {
            let page = at / PAGE;
            let next = ((page + 1) * PAGE).min(end);
            if !self.pages.contains_key(&page) && !allocate {
                // Nothing there: on to the next page that exists.
                at = self.pages.range(page + 1..).next().map_or(end, |(p, _)| (p * PAGE).min(end));
                continue;
            }
            if let Some(Some(_)) = self.pages.get(&page) {
                let zeros = [0; PAGE as usize];
                self.track(at, next - at, false, |image| image.store(at, &zeros[..(next - at) as usize]));
            }
            if next - at == PAGE || !self.pages.contains_key(&page) {
                if allocate {
                    self.pages.insert(page, None);
                } else {
                    self.pages.remove(&page);
                }
            }
            at = next;
        }
    }

    /// Allocates a range; contents stay.
    pub(crate) fn allocate(&mut self, offset: u64, len: u64) {
        for page in offset / PAGE..(offset + len).min(self.size).div_ceil(PAGE) {
            self.pages.entry(page).or_insert(None);
        }
    }

    /// Whether there is data at `offset`, and for how many bytes (up to `len`) that stays so.
    pub(crate) fn mapped(&self, offset: u64, len: u64) -> (bool, u64) {
        let first = self.pages.contains_key(&(offset / PAGE));
        let end = offset + len;
        let mut next = (offset / PAGE + 1) * PAGE;
        if first {
            while next < end && self.pages.contains_key(&(next / PAGE)) {
                next += PAGE;
            }
        } else {
            next = self.pages.range(next / PAGE..).next().map_or(end, |(p, _)| p * PAGE);
        }
        (first, next.min(end) - offset)
    }

    fn store(&mut self, offset: u64, data: &[u8]) {
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let inside = (at % PAGE) as usize;
            let n = (PAGE as usize - inside).min(data.len() - done);
            let page = self.pages.entry(at / PAGE).or_insert(None).get_or_insert_with(|| Box::new([0; PAGE as usize]));
            page[inside..inside + n].copy_from_slice(&data[done..done + n]);
            done += n;
        }
    }

    /// Makes a change and remembers, per sector, what was durable before it.
    fn track(&mut self, offset: u64, len: u64, durable: bool, change: impl FnOnce(&mut Self)) {
        self.sequence += 1;
        let sectors = offset / SECTOR..(offset + len).div_ceil(SECTOR);
        if durable {
            change(self);
            for sector in sectors {
                self.pending.remove(&sector);
                self.lost.remove(&sector);
            }
            return;
        }
        for sector in sectors.clone() {
            if !self.pending.contains_key(&sector) {
                let durable = self.lost.remove(&sector).unwrap_or_else(|| self.sector(sector));
                self.pending.insert(sector, Pending { durable, versions: Vec::new() });
            }
        }
        change(self);
        for sector in sectors {
            let now = self.sector(sector);
            if let Some(pending) = self.pending.get_mut(&sector) {
                if pending.versions.len() == VERSIONS {
                    // Write-back may make any write durable at any time.
                    pending.durable = pending.versions.remove(0).1;
                }
                pending.versions.push((self.sequence, now));
            }
        }
    }

    /// Writes back what was written to a range up to `sequence`, sector by sector; what `fails` picks does not reach the storage.
    /// Returns whether there was such a sector.
    pub(crate) fn write_back(&mut self, range: Range<u64>, sequence: u64, mut fails: impl FnMut() -> bool) -> bool {
        let sectors = range.start / SECTOR..range.end.div_ceil(SECTOR);
        let mut clean = Vec::new();
        let mut any = false;
        for (&sector, pending) in self.pending.range_mut(sectors) {
            let old = pending.versions.partition_point(|(s, _)| *s <= sequence);
            if old == 0 {
                continue;
            }
            let failed = fails();
            any |= failed;
            if !failed {
                pending.durable = pending.versions[old - 1].1;
            }
            pending.versions.drain(..old);
            if pending.versions.is_empty() {
                clean.push((sector, failed));
            }
        }
        for (sector, failed) in clean {
            if let Some(pending) = self.pending.remove(&sector).filter(|_| failed) {
                self.lost.insert(sector, pending.durable);
            }
        }
        any
    }

    /// Loses power: what was not durable stays, goes, or stays in part.
    pub(crate) fn crash(&mut self, rng: &mut SimRng) {
        for (sector, durable) in std::mem::take(&mut self.lost) {
            self.store(sector * SECTOR, &durable);
        }
        // All kept, all lost, or each sector for itself.
        let mode = rng.below(4);
        for (sector, pending) in std::mem::take(&mut self.pending) {
            let choice = match mode {
                0 => pending.versions.len(),
                1 => 0,
                _ => rng.below(pending.versions.len() as u64 + 1) as usize,
            };
            let content = if choice == 0 { pending.durable } else { pending.versions[choice - 1].1 };
            self.store(sector * SECTOR, &content);
        }
    }

    /// What is durable for sure.
    pub(crate) fn read_durable(&self, offset: u64, out: &mut [u8]) -> usize {
        let len = self.read(offset, out);
        if len == 0 {
            return 0;
        }
        let sectors = offset / SECTOR..(offset + len as u64).div_ceil(SECTOR);
        let pending = self.pending.range(sectors.clone()).map(|(sector, pending)| (sector, &pending.durable));
        for (&sector, durable) in pending.chain(self.lost.range(sectors)) {
            let start = (sector * SECTOR).max(offset);
            let end = ((sector + 1) * SECTOR).min(offset + len as u64);
            let from = (start - sector * SECTOR) as usize;
            let n = (end - start) as usize;
            out[(start - offset) as usize..][..n].copy_from_slice(&durable[from..from + n]);
        }
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(image: &Image, offset: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0xff; len];
        let n = image.read(offset, &mut out);
        out.truncate(n);
        out
    }

    fn durable(image: &Image, offset: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0xff; len];
        image.read_durable(offset, &mut out);
        out
    }

    #[test]
    fn a_flush_covers_the_writes_before_it_and_no_later_one() {
        let mut image = Image::new(1 << 20);
        image.write(0, &[1; 1024], false);
        let before = image.sequence();
        image.write(512, &[2; 512], false);
        assert_eq!(durable(&image, 0, 1024), [0; 1024]);
        image.write_back(0..1 << 20, before, || false);
        assert_eq!(durable(&image, 0, 1024), [1; 1024]);
        assert_eq!(read(&image, 512, 512), [2; 512]);
        image.write(512, &[3; 512], true);
        assert_eq!(durable(&image, 512, 512), [3; 512], "a durable write replaces older pending ones");
        let mut rng = SimRng::new(1);
        image.crash(&mut rng);
        assert_eq!(read(&image, 512, 512), [3; 512]);
    }

    #[test]
    fn a_crash_leaves_each_sector_old_or_new() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut image = Image::new(1 << 20);
            image.write(0, &[1; 1024], true);
            image.write(0, &[2; 1024], false);
            image.write(0, &[3; 1024], false);
            image.crash(&mut SimRng::new(seed));
            let after = read(&image, 0, 1024);
            assert!(after[..512].iter().all(|b| *b == after[0]) && after[512..].iter().all(|b| *b == after[512]));
            seen.insert((after[0], after[512]));
        }
        let all = (1..=3).flat_map(|a| (1..=3).map(move |b| (a, b))).collect();
        assert_eq!(seen, all, "lost, kept, reordered and torn");
    }

    #[test]
    fn what_was_not_written_back_looks_written_until_power_is_lost() {
        let mut image = Image::new(1 << 20);
        image.write(0, &[1; 1024], true);
        image.write(0, &[2; 1024], false);
        let before = image.sequence();
        let mut sector = 0;
        let second = || {
            sector += 1;
            sector == 2
        };
        assert!(image.write_back(0..1 << 20, before, second));
        assert_eq!((read(&image, 0, 1024), durable(&image, 512, 512)), (vec![2; 1024], vec![1; 512]));
        image.write_back(0..1 << 20, before, || false);
        assert_eq!((durable(&image, 0, 512), durable(&image, 512, 512)), (vec![2; 512], vec![1; 512]), "it is clean");
        assert!(!image.write_back(0..1 << 20, before, || true));
        // Written again it is dirty again.
        image.write(512, &[3; 512], false);
        assert_eq!(durable(&image, 512, 512), [1; 512]);
        assert!(image.write_back(512..1024, image.sequence(), || true));
        image.crash(&mut SimRng::new(1));
        assert_eq!(read(&image, 0, 1024), [[2; 512], [1; 512]].concat());
    }

    #[test]
    fn holes_are_told_from_data() {
        let mut image = Image::new(64 << 10);
        image.write(8192, &[1; 4096], false);
        image.allocate(16384, 1);
        assert_eq!(image.mapped(0, 65536), (false, 8192));
        assert_eq!(image.mapped(8192, 65536), (true, 4096));
        assert_eq!(image.mapped(12288, 100), (false, 100));
        assert_eq!(image.mapped(16384, 65536), (true, 4096));
        image.zero(8192, 4096, false);
        assert_eq!(image.mapped(0, 20000), (false, 16384));
        assert_eq!(durable(&image, 8192, 1), [0]);
        image.zero(0, 8192, true);
        assert_eq!(image.mapped(0, 65536), (true, 8192));
        image.write(100, &[7; 10], false);
        image.zero(0, 105, false);
        assert_eq!(read(&image, 99, 12), [0, 0, 0, 0, 0, 0, 7, 7, 7, 7, 7, 0]);
    }

    #[test]
    fn the_end_of_the_disk_cuts_reads_and_moves_with_writes() {
        let mut image = Image::new(1000);
        assert_eq!(read(&image, 900, 512).len(), 100);
        assert_eq!(read(&image, 2000, 512).len(), 0);
        image.write(1000, &[5; 24], false);
        assert_eq!(image.size(), 1024);
        image.set_size(1010);
        image.set_size(2048);
        assert_eq!(read(&image, 1008, 4), [5, 5, 0, 0]);
    }
}
