//! A log-linear histogram of durations.

/// Durations are counted in steps of 128 ns below 1024 ns ...
const SHIFT: u32 = 7;
/// ... and in 8 steps for each power of two from there on, so that a step is at most an eighth of its value.
const STEP_BITS: u32 = 3;
const STEPS: u64 = 1 << STEP_BITS;
/// The first power of two with steps of its own.
const FIRST: u32 = SHIFT + STEP_BITS;
/// The last one; what is longer (68 s) is in the last bucket.
const LAST: u32 = 35;

/// How many buckets there are.
pub const BUCKETS: usize = (STEPS + (LAST - FIRST + 1) as u64 * STEPS) as usize;

/// How many durations were how long. 1.7 KiB; adding one is a few instructions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS] }
    }
}

impl Histogram {
    /// Counts a duration in nanoseconds.
    #[inline(always)]
    pub fn add(&mut self, nanos: u64) {
        self.buckets[bucket(nanos)] += 1;
    }

    /// Adds what another one has counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// A duration that so many thousandths of all do not exceed, 1000 for the longest: the end of a bucket, so at most
    /// an eighth too long. 0 when nothing was counted.
    pub fn quantile(&self, thousandths: u64) -> u64 {
        let rank = (self.count() * thousandths).div_ceil(1000).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return end(index);
            }
        }
        0
    }
}

/// Power and step are what a floating-point number begins with, and the sum of squares needs that number anyway; to look
/// for the highest bit of an integer takes longer on some processors.
#[inline(always)]
fn bucket(nanos: u64) -> usize {
    const MANTISSA: u32 = f64::MANTISSA_DIGITS - 1;
    const BEFORE: u64 = ((f64::MAX_EXP - 1) as u64 + FIRST as u64 - 1) << STEP_BITS;
    let power_and_step = (nanos as i64 as f64).to_bits() >> (MANTISSA - STEP_BITS);
    let bucket = if nanos >> FIRST == 0 { nanos >> SHIFT } else { power_and_step - BEFORE };
    (bucket as usize).min(BUCKETS - 1)
}

/// The longest duration of a bucket.
fn end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return ((bucket + 1) << SHIFT) - 1;
    }
    let (power, step) = ((bucket - STEPS) / STEPS + u64::from(FIRST), (bucket - STEPS) % STEPS);
    ((STEPS + step + 1) << (power - u64::from(STEP_BITS))) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_without_gaps_and_at_most_an_eighth_wide() {
        let mut start = 0;
        for index in 0..BUCKETS {
            let end = end(index);
            assert_eq!((bucket(start), bucket(end)), (index, index));
            assert!(end - start < (start / 8).max(128), "{start}..={end}");
            start = end + 1;
        }
        assert_eq!(start, 1 << 36);
        assert_eq!(bucket(start), BUCKETS - 1, "what is longer is in the last one");
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn edges() {
        for (nanos, index) in [(0, 0), (127, 0), (128, 1), (1023, 7), (1024, 8), (1151, 8), (1152, 9), (2048, 16)] {
            assert_eq!(bucket(nanos), index, "{nanos}");
        }
    }

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(500), 0);
        for nanos in 1..=1000_u64 {
            histogram.add(nanos * 1000);
        }
        assert_eq!(histogram.count(), 1000);
        // The ends of the buckets that 500, 900, 990, 999 and 1000 us are in.
        let quantiles = [500, 900, 990, 999, 1000].map(|q| histogram.quantile(q));
        assert_eq!(quantiles, [524_287, 917_503, 1_048_575, 1_048_575, 1_048_575]);
        assert_eq!(histogram.quantile(1), 1023, "the first of a thousand");
    }

    #[test]
    fn one_far_outlier_shows_only_where_it_belongs() {
        let mut histogram = Histogram::default();
        for _ in 0..999 {
            histogram.add(5000);
        }
        histogram.add(100_000_000_000);
        let quantiles = [500, 900, 990, 999, 1000].map(|q| histogram.quantile(q));
        assert_eq!(quantiles, [5119, 5119, 5119, 5119, (1 << 36) - 1], "68 s and more are one bucket");
    }

    #[test]
    fn merged_is_as_if_counted_together() {
        let (mut a, mut b, mut both) = (Histogram::default(), Histogram::default(), Histogram::default());
        for nanos in [3, 999, 70_000, 1 << 40] {
            a.add(nanos);
            b.add(nanos * 3);
            both.add(nanos);
            both.add(nanos * 3);
        }
        a.merge(&b);
        assert_eq!(a, both);
    }
}
