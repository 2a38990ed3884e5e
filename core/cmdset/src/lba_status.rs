//! GET LBA STATUS parameter data (SBC-4 5.8).

use scst_scsi::bytes::Writer;

use crate::params::finish;

const HEADER: usize = 8;
const DESCRIPTOR: usize = 16;

/// PROVISIONING STATUS (SBC-4 table 61).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProvisioningStatus {
    /// Mapped, or not known.
    Mapped = 0,
    /// Deallocated.
    Deallocated = 1,
    /// Anchored.
    Anchored = 2,
}

/// Builds the list of runs: the handler pushes what its storage says, run by run, until [`LbaStatusList::wants_more`]
/// is false or the disk ends. Neighbours of the same status become one.
#[derive(Debug)]
pub struct LbaStatusList<'a> {
    out: Writer<'a>,
    allocation: u32,
    next_lba: u64,
    run: Option<(u64, u64, ProvisioningStatus)>,
    capacity: usize,
}

impl<'a> LbaStatusList<'a> {
    /// A list that starts at `lba`. It gets as many descriptors as the buffer and the allocation length have room for,
    /// but at least one.
    pub fn new(lba: u64, allocation: u32, buf: &'a mut [u8]) -> Self {
        let room = buf.len().min(usize::try_from(allocation).unwrap_or(usize::MAX));
        let capacity = (room.saturating_sub(HEADER) / DESCRIPTOR).max(1);
        let mut out = Writer::new(buf);
        out.zeros(HEADER);
        Self { out, allocation, next_lba: lba, run: None, capacity }
    }

    /// Where the next run starts.
    pub fn next_lba(&self) -> u64 {
        self.next_lba
    }

    /// Whether there is room for another run.
    pub fn wants_more(&self) -> bool {
        self.capacity > 0
    }

    /// Appends a run of blocks.
    pub fn push(&mut self, blocks: u64, status: ProvisioningStatus) {
        if blocks == 0 || !self.wants_more() {
            return;
        }
        match &mut self.run {
            Some((_, length, same)) if *same == status => *length += blocks,
            _ => {
                self.flush();
                self.run = Some((self.next_lba, blocks, status));
            }
        }
        self.next_lba += blocks;
    }

    /// Writes the run that is complete; one of more than 2^32 - 1 blocks as several.
    fn flush(&mut self) {
        let Some((mut lba, mut blocks, status)) = self.run.take() else { return };
        while blocks > 0 && self.capacity > 0 {
            let part = blocks.min(u64::from(u32::MAX));
            self.out.u64(lba).u32(part as u32).u8(status as u8).zeros(3);
            self.capacity -= 1;
            lba += part;
            blocks -= part;
        }
    }

    /// Ends the list. Returns the bytes to send.
    pub fn finish(mut self) -> usize {
        self.flush();
        // PARAMETER DATA LENGTH counts what follows it.
        self.out.patch_length_u32(0);
        finish(&self.out, self.allocation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProvisioningStatus::{Anchored, Deallocated, Mapped};

    fn build(lba: u64, allocation: u32, runs: &[(u64, ProvisioningStatus)]) -> Vec<u8> {
        let mut buf = [0xee; 256];
        let mut list = LbaStatusList::new(lba, allocation, &mut buf);
        for (blocks, status) in runs {
            list.push(*blocks, *status);
        }
        let n = list.finish();
        buf[..n].to_vec()
    }

    #[test]
    fn one_descriptor_fills_24_bytes() {
        let data = build(0x0102_0304_0506_0708, 24, &[(9, Mapped), (1, Deallocated)]);
        let want = [0, 0, 0, 20, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9, 0, 0, 0, 0];
        assert_eq!(data, want);
    }

    #[test]
    fn neighbours_of_one_status_are_one_run() {
        let data = build(10, 1000, &[(5, Mapped), (5, Mapped), (1, Deallocated), (2, Anchored)]);
        assert_eq!(data[..4], [0, 0, 0, 52]);
        let runs: Vec<_> = data[8..].chunks(16).map(|d| (d[7], d[11], d[12])).collect();
        assert_eq!(runs, [(10, 10, 0), (20, 1, 1), (21, 2, 2)]);
    }

    #[test]
    fn a_long_run_is_split() {
        let data = build(0, 1000, &[((1 << 32) + 5, Deallocated)]);
        let runs: Vec<_> = data[8..].chunks(16).map(|d| (d[..12].to_vec(), d[12])).collect();
        assert_eq!(runs[0], (vec![0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], 1));
        assert_eq!(runs[1], (vec![0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 6], 1));
        assert_eq!(runs.len(), 2);
    }

    #[test]
    fn a_short_allocation_still_gets_the_length_of_one_descriptor() {
        assert_eq!(build(0, 4, &[(8, Mapped)]), [0, 0, 0, 20]);
        assert_eq!(build(0, 0, &[(8, Mapped)]), []);
    }

    #[test]
    fn it_stops_when_full() {
        let mut buf = [0; 40];
        let mut list = LbaStatusList::new(0, 1000, &mut buf);
        for status in [Mapped, Deallocated, Mapped] {
            assert!(list.wants_more());
            list.push(1, status);
        }
        assert!(!list.wants_more());
        assert_eq!(list.finish(), 40);
    }
}
