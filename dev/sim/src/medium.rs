//! What initiators know of one disk, and what a read may therefore return.
//!
//! Each sector is a register. Every write to it has an interval of ticks in which it took effect (or did not); a tick is
//! one event at any initiator. A read returns a write that was current at some moment between its own start and end:
//! that is linearizability per sector, for all that can be observed from outside.
//!
//! A write that failed, was aborted or lost its session may or may not have happened; but it cannot happen later than
//! `done` (its answer, the answer of the function that aborted it, the end of its session), and once seen it stays.

use std::collections::BTreeMap;

use crate::content::{self, Content, SECTOR};

/// Logical time.
pub type Tick = u64;

/// What is wrong, in words.
pub type Complaint = String;

#[derive(Clone, Copy, Debug)]
struct Version {
    /// Which write; numbers are never used twice.
    write: u64,
    /// Sector of the write's data; None when it writes zeros.
    index: Option<u32>,
    start: Tick,
    /// It took effect before this, or never will.
    done: Option<Tick>,
    /// It has certainly taken effect since: acknowledged, or seen.
    visible: Option<Tick>,
    /// Acknowledged.
    acknowledged: Option<Tick>,
    /// It survives a loss of power, or something newer does.
    durable: bool,
    /// Reads that start later cannot return it.
    dead: Option<Tick>,
    /// From before the last loss of power: exactly one of these is on the medium.
    survivor: bool,
    /// A COMPARE AND WRITE has replaced it.
    consumed: bool,
    /// The initiators were told that it may be lost although it can be read: no flush makes it durable.
    doubtful: bool,
}

impl Version {
    /// When it took effect at the latest.
    fn latest(&self) -> Option<Tick> {
        match (self.done, self.visible) {
            (Some(done), Some(visible)) => Some(done.min(visible)),
            (done, visible) => done.or(visible),
        }
    }

    /// Whether it took effect, if it did, before another one began.
    fn is_before(&self, other: &Self) -> bool {
        self.latest().is_some_and(|latest| latest < other.start)
    }
}

/// Sectors that a write is about, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// First sector.
    pub first: u64,
    /// Sectors.
    pub count: u64,
    /// What they get.
    pub fill: Fill,
}

/// See [`Shape`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fill {
    /// Sector after sector of the data.
    Data,
    /// The same so many sectors over and over (WRITE SAME).
    Repeat(u32),
    /// Zeros.
    Zeros,
}

/// The history of one disk.
#[derive(Debug)]
pub struct Medium {
    sectors: Vec<Vec<Version>>,
    /// Starts of reads that have not ended.
    reads: BTreeMap<Tick, u32>,
}

impl Medium {
    /// A disk of zeros.
    pub fn new(sectors: u64) -> Self {
        let zeros = Version {
            write: 0,
            index: None,
            start: 0,
            done: Some(0),
            visible: Some(0),
            acknowledged: Some(0),
            durable: true,
            dead: None,
            survivor: false,
            consumed: false,
            doubtful: false,
        };
        Self { sectors: vec![vec![zeros]; sectors as usize], reads: BTreeMap::new() }
    }

    fn each(&mut self, shape: Shape, mut f: impl FnMut(&mut Version)) {
        // Numbers are unique in all of the run, so only this write's versions are found.
        for sector in &mut self.sectors[shape.first as usize..(shape.first + shape.count) as usize] {
            for version in sector.iter_mut() {
                f(version);
            }
        }
    }

    /// A write is sent.
    pub fn write_begins(&mut self, now: Tick, write: u64, shape: Shape) {
        let sectors = &mut self.sectors[shape.first as usize..(shape.first + shape.count) as usize];
        for (at, sector) in (0_u32..).zip(sectors) {
            let index = match shape.fill {
                Fill::Data => Some(at),
                Fill::Repeat(period) => Some(at % period),
                Fill::Zeros => None,
            };
            sector.push(Version {
                write,
                index,
                start: now,
                done: None,
                visible: None,
                acknowledged: None,
                durable: false,
                dead: None,
                survivor: false,
                consumed: false,
                doubtful: false,
            });
        }
    }

    /// A write was acknowledged; `durable` when that alone is a promise (FUA, no write cache).
    pub fn write_ends(&mut self, now: Tick, write: u64, shape: Shape, durable: bool) {
        self.each(shape, |v| {
            if v.write == write {
                v.done = v.done.or(Some(now));
                v.visible = v.visible.or(Some(now));
                v.acknowledged = Some(now);
                v.durable |= durable;
            }
        });
        let oldest = self.reads.keys().next().copied().unwrap_or(now);
        for sector in &mut self.sectors[shape.first as usize..(shape.first + shape.count) as usize] {
            prune(sector, oldest);
        }
    }

    /// A write can take effect no more, if it has not.
    pub fn write_over(&mut self, now: Tick, write: u64, shape: Shape) {
        self.each(shape, |v| {
            if v.write == write {
                v.done = v.done.or(Some(now));
            }
        });
    }

    /// A write was refused: it never happened.
    ///
    /// # Errors
    /// It was seen.
    pub fn write_refused(&mut self, write: u64, shape: Shape) -> Result<(), Complaint> {
        let mut seen = false;
        for sector in &mut self.sectors[shape.first as usize..(shape.first + shape.count) as usize] {
            seen |= sector.iter().any(|v| v.write == write && v.visible.is_some());
            sector.retain(|v| v.write != write);
        }
        if seen { Err(format!("write {write} was seen, and then refused")) } else { Ok(()) }
    }

    /// A read is sent.
    pub fn read_begins(&mut self, now: Tick) {
        *self.reads.entry(now).or_insert(0) += 1;
    }

    /// A read that began then has ended, somehow.
    pub fn read_over(&mut self, start: Tick) {
        if let Some(count) = self.reads.get_mut(&start) {
            *count -= 1;
            if *count == 0 {
                self.reads.remove(&start);
            }
        }
    }

    /// Judges the data of a read that began at `start`.
    ///
    /// # Errors
    /// Data that were not there at any moment of the read.
    pub fn observed(&mut self, start: Tick, now: Tick, first: u64, data: &[u8]) -> Result<(), Complaint> {
        for (sector, bytes) in (first..).zip(data.chunks_exact(SECTOR)) {
            self.observed_sector(start, now, sector, content::read(bytes))?;
        }
        Ok(())
    }

    fn observed_sector(&mut self, start: Tick, now: Tick, number: u64, content: Content) -> Result<(), Complaint> {
        let Some(sector) = self.sectors.get_mut(number as usize) else { return Err("beyond the end".to_owned()) };
        let fits = |v: &Version| match content {
            Content::Zeros => v.index.is_none(),
            Content::Written { write, index } => v.write == write && v.index == Some(index),
            Content::Foreign => false,
        };
        let allowed: Vec<usize> =
            (0..sector.len()).filter(|&at| fits(&sector[at]) && is_allowed(sector, &sector[at], start)).collect();
        let &[found] = allowed.as_slice() else {
            if allowed.is_empty() {
                return Err(format!("sector {number} holds {content:?} in a read of {start}..{now}; {sector:?}"));
            }
            // Zeros of several writes: which of them is not known.
            if allowed.iter().all(|&at| sector[at].survivor) {
                sector.retain(|v| !v.survivor || v.index.is_none());
            }
            return Ok(());
        };
        let write = sector[found].write;
        if sector[found].survivor {
            // What is on the medium after a loss of power, no other can undo.
            sector.retain(|v| !v.survivor || v.write == write);
        }
        for v in sector.iter_mut() {
            if v.write == write {
                v.visible = v.visible.or(Some(now));
                v.durable |= v.survivor;
            } else if v.latest().is_some_and(|latest| latest < start) {
                v.dead = v.dead.or(Some(now));
            }
        }
        Ok(())
    }

    /// A COMPARE AND WRITE has found `old` and replaced it. Call before its [`Medium::write_ends`].
    ///
    /// # Errors
    /// That was not there, or another one has replaced it.
    pub fn replaced(&mut self, start: Tick, now: Tick, first: u64, old: &[u8]) -> Result<(), Complaint> {
        self.observed(start, now, first, old)?;
        for (number, bytes) in (first..).zip(old.chunks_exact(SECTOR)) {
            let Content::Written { write, .. } = content::read(bytes) else { continue };
            for v in self.sectors[number as usize].iter_mut().filter(|v| v.write == write) {
                if std::mem::replace(&mut v.consumed, true) {
                    return Err(format!("two COMPARE AND WRITE replaced write {write} in sector {number}"));
                }
                v.dead = v.dead.or(Some(now));
            }
        }
        Ok(())
    }

    /// A flush that began at `start` has ended well.
    pub fn flushed(&mut self, start: Tick) {
        for v in self.sectors.iter_mut().flatten() {
            v.durable |= !v.doubtful && v.acknowledged.is_some_and(|at| at < start);
        }
    }

    /// The file was opened anew after an error, and the initiators were told: what was not durable may not have reached the
    /// storage, and whatever the page cache says, it never will by itself.
    pub fn reopened(&mut self) {
        for v in self.sectors.iter_mut().flatten() {
            v.doubtful |= !v.durable;
        }
    }

    /// Every session has ended, and everything that was in flight.
    pub fn quiet(&mut self, now: Tick) {
        self.reads.clear();
        for v in self.sectors.iter_mut().flatten() {
            v.done = v.done.or(Some(now));
        }
    }

    /// Power is lost: each sector holds any write that no durable one came after.
    pub fn power_lost(&mut self, now: Tick) {
        self.quiet(now);
        for sector in &mut self.sectors {
            let before = sector.clone();
            sector.retain(|v| !before.iter().any(|o| o.durable && v.is_before(o)));
            for v in sector.iter_mut() {
                *v = Version {
                    done: Some(now),
                    visible: None,
                    dead: None,
                    durable: false,
                    survivor: true,
                    consumed: false,
                    acknowledged: None,
                    ..*v
                };
            }
        }
    }
}

/// A read that starts at `start` may return it.
fn is_allowed(sector: &[Version], v: &Version, start: Tick) -> bool {
    v.dead.is_none_or(|dead| dead >= start)
        && !sector.iter().any(|o| v.is_before(o) && o.visible.is_some_and(|visible| visible < start))
}

/// Forgets what neither a read in flight nor a loss of power brings back.
fn prune(sector: &mut Vec<Version>, oldest_read: Tick) {
    if sector.len() > 3 {
        let before = sector.clone();
        sector.retain(|v| is_allowed(&before, v, oldest_read) || !before.iter().any(|o| o.durable && v.is_before(o)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Shape = Shape { first: 3, count: 1, fill: Fill::Data };

    fn sees(medium: &mut Medium, start: Tick, now: Tick, write: u64) -> bool {
        let data = if write == 0 { vec![0; SECTOR] } else { content::data(write, 1) };
        medium.observed(start, now, 3, &data).is_ok()
    }

    #[test]
    fn a_read_sees_what_was_current_during_it() {
        let mut m = Medium::new(8);
        m.write_begins(1, 10, ONE);
        assert!(sees(&mut m, 2, 3, 0), "not there yet");
        assert!(sees(&mut m, 2, 4, 10), "there now");
        assert!(sees(&mut m, 2, 5, 0), "a read that began before");
        assert!(!sees(&mut m, 5, 6, 0), "once seen it stays");
        m.write_ends(7, 10, ONE, false);
        assert!(!sees(&mut m, 8, 9, 0));
        assert!(sees(&mut m, 8, 9, 10));
        assert!(!sees(&mut m, 8, 9, 11), "nobody wrote that");
    }

    #[test]
    fn an_aborted_write_happens_before_the_answer_or_never() {
        let mut m = Medium::new(8);
        m.write_begins(1, 10, ONE);
        m.write_over(2, 10, ONE);
        assert!(sees(&mut m, 3, 4, 0), "it did not happen");
        assert!(!sees(&mut m, 5, 6, 10), "and cannot any more");
        m.write_begins(7, 11, ONE);
        m.write_over(8, 11, ONE);
        assert!(sees(&mut m, 9, 10, 11), "this one did");
        assert!(!sees(&mut m, 11, 12, 0));
    }

    #[test]
    fn power_loss_keeps_what_was_flushed() {
        let mut m = Medium::new(8);
        m.write_begins(1, 10, ONE);
        m.write_ends(2, 10, ONE, false);
        m.flushed(3);
        m.write_begins(4, 11, ONE);
        m.write_ends(5, 11, ONE, false);
        m.write_begins(6, 12, ONE);
        m.power_lost(7);
        assert!(!sees(&mut m, 8, 9, 0), "older than a durable one");
        assert!(sees(&mut m, 8, 9, 11));
        assert!(!sees(&mut m, 8, 9, 12) && !sees(&mut m, 8, 9, 10), "only one is on the medium");
    }

    #[test]
    fn power_loss_may_take_what_was_not_flushed() {
        let mut m = Medium::new(8);
        m.write_begins(1, 10, ONE);
        m.write_ends(2, 10, ONE, false);
        m.flushed(2);
        m.power_lost(3);
        assert!(sees(&mut m, 4, 5, 0), "the flush began before the answer");
        m.write_begins(6, 11, ONE);
        m.write_ends(7, 11, ONE, true);
        m.power_lost(8);
        assert!(!sees(&mut m, 9, 10, 0) && sees(&mut m, 9, 10, 11), "FUA");
    }

    #[test]
    fn a_refused_write_must_not_be_seen_and_one_compare_and_write_wins() {
        let mut m = Medium::new(8);
        m.write_begins(1, 10, ONE);
        assert!(m.write_refused(10, ONE).is_ok());
        assert!(!sees(&mut m, 2, 3, 10));
        m.write_begins(4, 11, ONE);
        assert!(sees(&mut m, 5, 6, 11));
        assert!(m.write_refused(11, ONE).is_err());
        m.write_begins(7, 12, ONE);
        m.write_ends(8, 12, ONE, false);
        assert!(m.replaced(9, 12, 3, &content::data(12, 1)).is_ok());
        assert!(m.replaced(10, 13, 3, &content::data(12, 1)).is_err());
    }
}
