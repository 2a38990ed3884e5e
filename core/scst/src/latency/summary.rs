//! Stages, sizes, and the five figures kept for each.

use scst_scsi::DataDirection;

/// Where a command spends its time. Names are the original's states of that meaning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// From its arrival until it has a buffer; so also behind what arrived with it.
    PrepareSpace,
    /// The target driver fetches its data-out.
    DataWait,
    /// The target driver holds it back: an older command has not arrived.
    TargetPreExec,
    /// Until its turn in the task set comes and the reactor hands it to its device.
    CheckOrder,
    /// Another command or a task management function keeps it from the logical unit, or it waits to be alone there.
    CheckBlocking,
    /// The device works on it.
    ExecWait,
    /// From its outcome until its answer has left.
    TransmitWait,
    /// All of these.
    Total,
}

/// How many stages there are.
pub const STAGES: usize = Stage::ALL.len();

impl Stage {
    /// In the order in which a command goes through them.
    pub const ALL: [Self; 8] = [
        Self::PrepareSpace,
        Self::DataWait,
        Self::TargetPreExec,
        Self::CheckOrder,
        Self::CheckBlocking,
        Self::ExecWait,
        Self::TransmitWait,
        Self::Total,
    ];

    /// As the original writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PrepareSpace => "PREPARE_SPACE",
            Self::DataWait => "DATA_WAIT",
            Self::TargetPreExec => "TGT_PRE_EXEC",
            Self::CheckOrder => "EXEC_CHECK_SN",
            Self::CheckBlocking => "EXEC_CHECK_BLOCKING",
            Self::ExecWait => "EXEC_WAIT",
            Self::TransmitWait => "XMIT_WAIT",
            Self::Total => "total",
        }
    }

    /// Whose time it is: the mid-level's, the target driver's (with the network and the initiator) or the device's.
    pub const fn part(self) -> &'static str {
        match self {
            Self::PrepareSpace | Self::CheckOrder | Self::CheckBlocking => "scst",
            Self::DataWait | Self::TargetPreExec | Self::TransmitWait => "target",
            Self::ExecWait => "device",
            Self::Total => "all",
        }
    }
}

/// Durations in nanoseconds: how many, the shortest, the longest, their sum and the sum of their squares.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// Shortest; `u64::MAX` when there is none.
    pub min: u64,
    /// Longest.
    pub max: u64,
    /// Sum.
    pub sum: u64,
    /// Sum of the squares, for the deviation.
    pub squares: f64,
}

impl Default for Summary {
    fn default() -> Self {
        Self { count: 0, min: u64::MAX, max: 0, sum: 0, squares: 0.0 }
    }
}

impl Summary {
    /// Counts one.
    #[inline(always)]
    pub fn add(&mut self, nanos: u64) {
        self.count += 1;
        // New extremes are rare.
        if nanos < self.min {
            self.min = nanos;
        }
        if nanos > self.max {
            self.max = nanos;
        }
        self.sum = self.sum.saturating_add(nanos);
        // Signed numbers are what processors convert.
        let nanos = nanos as i64 as f64;
        self.squares += nanos * nanos;
    }

    /// Adds what another one has counted.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum = self.sum.saturating_add(other.sum);
        self.squares += other.squares;
    }

    /// The mean; 0 when there is none.
    pub fn average(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }

    /// The standard deviation of all that were counted.
    pub fn deviation(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        let average = self.average();
        (self.squares / self.count as f64 - average * average).max(0.0).sqrt()
    }
}

/// Size classes: up to 512 bytes, up to 1024, ... up to 524288 and all that is longer.
pub const SIZES: usize = 11;

/// Rows of a session's table: commands without data, reads and writes of each size.
pub(crate) const ROWS: usize = 1 + 2 * SIZES;

/// Direction and size class of a command, in the original's file names a letter and a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SizeRow(u8);

impl SizeRow {
    /// The row of a command. No command here moves data in both directions; one that did would count as a write.
    pub fn of(direction: DataDirection, bytes: u32) -> Self {
        let class = (u32::BITS - (bytes.saturating_sub(1) >> 9).leading_zeros()).min(SIZES as u32 - 1) as u8;
        match direction {
            DataDirection::None => Self(0),
            DataDirection::FromDevice => Self(1 + class),
            DataDirection::ToDevice | DataDirection::Bidirectional => Self(1 + SIZES as u8 + class),
        }
    }

    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..ROWS as u8).map(Self)
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Letter and size, such as `r4096`; `n512` for all commands without data.
    pub fn name(self) -> String {
        let (letter, class) = match self.index() {
            0 => ('n', 0),
            row if row <= SIZES => ('r', row - 1),
            row => ('w', row - 1 - SIZES),
        };
        format!("{letter}{}", 512_u32 << class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        use DataDirection::{FromDevice, None, ToDevice};
        for (direction, bytes, name) in [
            (None, 0, "n512"),
            (None, 1 << 20, "n512"),
            (FromDevice, 1, "r512"),
            (FromDevice, 512, "r512"),
            (FromDevice, 513, "r1024"),
            (FromDevice, 4096, "r4096"),
            (FromDevice, 4097, "r8192"),
            (FromDevice, 524_288, "r524288"),
            (FromDevice, u32::MAX, "r524288"),
            (ToDevice, 512, "w512"),
            (ToDevice, 262_145, "w524288"),
            (ToDevice, 524_289, "w524288"),
        ] {
            assert_eq!(SizeRow::of(direction, bytes).name(), name, "{direction:?} {bytes}");
        }
        let names: std::collections::BTreeSet<String> = SizeRow::all().map(SizeRow::name).collect();
        assert_eq!(names.len(), ROWS);
    }

    #[test]
    fn figures() {
        let mut summary = Summary::default();
        assert_eq!((summary.average(), summary.deviation()), (0.0, 0.0));
        for nanos in [2, 4, 4, 4, 5, 5, 7, 9] {
            summary.add(nanos);
        }
        assert_eq!((summary.count, summary.min, summary.max, summary.sum), (8, 2, 9, 40));
        assert_eq!((summary.average(), summary.deviation()), (5.0, 2.0));
        let mut twice = summary;
        twice.merge(&summary);
        twice.merge(&Summary::default());
        assert_eq!((twice.count, twice.min, twice.max, twice.deviation()), (16, 2, 9, 2.0));
    }
}
