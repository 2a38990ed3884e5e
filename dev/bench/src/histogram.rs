//! Latencies in buckets of about 1.6 % width: constant memory, constant time, no allocation.

/// Buckets per power of two.
const FINE: u32 = 64;
const FINE_BITS: u32 = FINE.trailing_zeros();

/// Counts of nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Histogram {
    /// How many quantiles a report has: p50, p90, p99, p99.9, max.
    pub(crate) const QUANTILES: usize = 5;

    pub(crate) fn new() -> Self {
        Self { buckets: vec![0; ((64 - FINE_BITS + 1) * FINE) as usize], count: 0, max: 0 }
    }

    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.buckets[index(nanoseconds)] += 1;
        self.count += 1;
        self.max = self.max.max(nanoseconds);
    }

    pub(crate) fn reset(&mut self) {
        self.buckets.fill(0);
        self.count = 0;
        self.max = 0;
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// The value that `fraction` of all do not exceed (upper end of its bucket).
    pub(crate) fn quantile(&self, fraction: f64) -> u64 {
        let rank = ((self.count as f64 * fraction).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_end(index).min(self.max);
            }
        }
        self.max
    }
}

fn index(value: u64) -> usize {
    if value < u64::from(FINE) {
        return value as usize;
    }
    let exponent = value.ilog2() - FINE_BITS;
    ((exponent * FINE) as u64 + (value >> exponent)) as usize
}

fn upper_end(index: usize) -> u64 {
    let (index, fine) = (index as u64, u64::from(FINE));
    if index < fine {
        return index;
    }
    let exponent = index / fine - 1;
    ((index % fine + fine + 1) << exponent) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_a_bucket_of_its_size() {
        for value in [0, 1, 63, 64, 65, 127, 128, 129, 1000, 123_456, 10_000_000_000, u64::MAX / 2] {
            let upper = upper_end(index(value));
            assert!(upper >= value && upper - value <= value / 64, "{value}: {upper}");
        }
    }

    #[test]
    fn quantiles_are_exact_for_small_values() {
        let mut histogram = Histogram::new();
        (1..=60).for_each(|value| histogram.record(value));
        histogram.record(1_000_000);
        assert_eq!(histogram.quantile(0.5), 31);
        assert_eq!(histogram.quantile(0.9), 55);
        assert_eq!(histogram.quantile(1.0), 1_000_000);
        histogram.reset();
        assert_eq!(histogram.quantile(0.5), 0);
    }
}
