//! What is recorded on a tape, and where it stands: runs of equal objects instead of the objects, and no data.

use scst_scsi::bytes::Writer;

/// Bytes of the medium that a filemark takes; without it there could be more of them than any position can tell.
pub const FILEMARK_BYTES: u64 = 4096;
/// Most runs of objects of one kind and length. A medium with more of them is as full as one without room.
pub const MAX_RUNS: usize = 8192;
/// Length of READ POSITION data in the short form.
pub(super) const POSITION_BYTES: u32 = 20;

/// Objects of one kind, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    /// Number of the first one.
    first: u64,
    /// Bytes of the medium before it.
    bytes: u64,
    /// Length of each block; 0 for filemarks.
    block: u32,
}

impl Run {
    /// Bytes of the medium that each object takes.
    fn size(&self) -> u64 {
        if self.block == 0 { FILEMARK_BYTES } else { u64::from(self.block) }
    }
}

/// Objects on one side of the position, up to where their kind or length changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// So many blocks of this length.
    Blocks { length: u32, count: u64 },
    /// So many filemarks.
    Filemarks(u64),
    /// The end of data, or, backwards, the beginning of the partition.
    End,
}

/// A partition of a tape. Its memory is taken when it is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    runs: Vec<Run>,
    capacity: u64,
    early_warning: u64,
    /// Objects, and the bytes that they take.
    end: u64,
    end_bytes: u64,
    /// Number of the next object.
    position: u64,
}

impl Partition {
    /// A blank partition of so many bytes, with the early warning after so many, that stands at its beginning.
    pub fn new(capacity: u64, early_warning: u64) -> Self {
        Self { runs: Vec::with_capacity(MAX_RUNS), capacity, early_warning, end: 0, end_bytes: 0, position: 0 }
    }

    /// Number of the next object: how many blocks and filemarks lie before the position.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Number of objects that are recorded.
    pub fn end_of_data(&self) -> u64 {
        self.end
    }

    /// The position is the beginning.
    pub fn is_at_beginning(&self) -> bool {
        self.position == 0
    }

    /// The position is at the early warning or after it.
    pub fn is_past_early_warning(&self) -> bool {
        self.position_bytes() >= self.early_warning
    }

    /// Bytes of the medium before the position.
    fn position_bytes(&self) -> u64 {
        match self.run_of(self.position) {
            Some(at) => {
                let run = &self.runs[at];
                run.bytes + (self.position - run.first) * run.size()
            }
            None => self.end_bytes,
        }
    }

    /// The run that an object is in; None when there is no such object.
    fn run_of(&self, object: u64) -> Option<usize> {
        (object < self.end).then(|| self.runs.partition_point(|run| run.first <= object) - 1)
    }

    /// Number of the object after a run.
    fn end_of(&self, run: usize) -> u64 {
        self.runs.get(run + 1).map_or(self.end, |next| next.first)
    }

    fn kind(run: &Run, count: u64) -> Next {
        if run.block == 0 { Next::Filemarks(count) } else { Next::Blocks { length: run.block, count } }
    }

    /// What lies after the position.
    pub(super) fn ahead(&self) -> Next {
        let Some(at) = self.run_of(self.position) else { return Next::End };
        Self::kind(&self.runs[at], self.end_of(at) - self.position)
    }

    /// What lies before the position, the nearest first.
    pub(super) fn behind(&self) -> Next {
        let before = self.position.checked_sub(1).and_then(|object| self.run_of(object));
        let Some(at) = before else { return Next::End };
        Self::kind(&self.runs[at], self.position - self.runs[at].first)
    }

    /// Moves over objects that [`Self::ahead`] has told of.
    pub(super) fn forward(&mut self, objects: u64) {
        debug_assert!(self.position + objects <= self.end);
        self.position += objects;
    }

    /// Moves back over objects that [`Self::behind`] has told of.
    pub(super) fn backward(&mut self, objects: u64) {
        debug_assert!(objects <= self.position);
        self.position -= objects;
    }

    /// Goes to an object, or to the end of data when there is no such. False then.
    pub(super) fn go_to(&mut self, object: u64) -> bool {
        self.position = object.min(self.end);
        object <= self.end
    }

    /// Goes to the end of data.
    pub(super) fn go_to_end(&mut self) {
        self.position = self.end;
    }

    /// The position becomes the end of data: what was recorded after it is gone.
    pub(super) fn cut(&mut self) {
        self.end_bytes = self.position_bytes();
        self.end = self.position;
        self.runs.truncate(self.runs.partition_point(|run| run.first < self.position));
    }

    /// Records objects at the position (`block` 0: filemarks) as far as the medium has room. Returns how many.
    pub(super) fn record(&mut self, block: u32, count: u64) -> u64 {
        self.cut();
        let run = Run { first: self.end, bytes: self.end_bytes, block };
        let continues = self.runs.last().is_some_and(|last| last.block == block);
        let count = count.min(self.capacity.saturating_sub(self.end_bytes) / run.size());
        if count == 0 || (!continues && self.runs.len() == MAX_RUNS) {
            return 0;
        }
        if !continues {
            self.runs.push(run);
        }
        self.end += count;
        self.end_bytes += count * run.size();
        self.position = self.end;
        count
    }

    /// Writes READ POSITION data in the short form (SSC-5). Nothing waits in a buffer, so the first and the last
    /// location are the same.
    pub fn emit_position(&self, w: &mut Writer<'_>) {
        const BOP: u8 = 0x80;
        const EOP: u8 = 0x40;
        const PERR: u8 = 0x02;
        // PERR: the number does not fit.
        let (overflow, location) = u32::try_from(self.position).map_or((PERR, 0), |location| (0, location));
        let beginning = if self.is_at_beginning() { BOP } else { 0 };
        let end = if self.is_past_early_warning() { EOP } else { 0 };
        w.u8(beginning | end | overflow).zeros(3).u32(location).u32(location).zeros(8);
    }
}
