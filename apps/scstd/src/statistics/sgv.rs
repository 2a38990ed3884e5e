//! Sections `sgv` and `sgv_sizes`: the command buffers (SGV cache) of each reactor.

use std::fmt::{self, Write};

use scst_core::ids::ReactorId;
use scst_mem::{MAX_CLASS_BYTES, PAGE_BYTES, PoolStatistics};

use super::Statistics;

fn pools(statistics: &Statistics) -> impl Iterator<Item = (&ReactorId, &PoolStatistics)> {
    statistics.reactors.iter().filter_map(|(reactor, snapshot)| Some((reactor, snapshot.buffers.as_deref()?)))
}

fn pages(bytes: u64) -> u64 {
    bytes / u64::from(PAGE_BYTES)
}

/// Pages of each pool: in use, kept for reuse, given back.
pub(super) fn print(statistics: &Statistics, out: &mut String) -> fmt::Result {
    writeln!(
        out,
        "reactor active_pages inactive_pages peak_pages limit_pages low_watermark_pages high_watermark_pages \
         high_watermark_releases released_pages release_failures big_allocations failed_allocations"
    )?;
    for (reactor, s) in pools(statistics) {
        writeln!(
            out,
            "{} {} {} {} {} {} {} {} {} {} {} {}",
            reactor.0,
            pages(s.in_use),
            pages(s.resident - s.in_use),
            pages(s.peak),
            pages(s.budget),
            pages(s.cache.low_watermark),
            pages(s.cache.high_watermark),
            s.over_high_watermark,
            pages(s.purged),
            s.purge_failures,
            s.big,
            s.refused,
        )?;
    }
    Ok(())
}

/// Buffers of each size class.
pub(super) fn print_sizes(statistics: &Statistics, out: &mut String) -> fmt::Result {
    writeln!(out, "reactor size hit total merged active cached free")?;
    for (reactor, s) in pools(statistics) {
        for c in &s.classes {
            let size = if c.bytes < MAX_CLASS_BYTES { format!("{}K", c.bytes >> 10) } else { "1M".to_owned() };
            let (hit, total, merged) = (c.hits, c.total, c.merged);
            writeln!(out, "{} {size} {hit} {total} {merged} {} {} {}", reactor.0, c.in_use, c.cached, c.free)?;
        }
    }
    Ok(())
}
