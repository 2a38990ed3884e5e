//! Sections `latency` (by session, size and stage, in the original's rows) and `histograms` (by logical unit and stage).

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use scst_core::ids::DeviceId;
use scst_core::latency::{Histogram, STAGES, SizeLatency, SizeRow, Stage, Summary};

use super::{Statistics, word};

/// Names what has no table of its own.
const OTHER: &str = "other";

/// Nanoseconds as microseconds.
fn micros(nanos: f64) -> f64 {
    nanos / 1000.0
}

pub(super) fn print_sessions(statistics: &Statistics, out: &mut String) -> fmt::Result {
    writeln!(out, "initiator target size state count min max avg stddev unit sum part")?;
    for session in statistics.reactors.values().flat_map(|snapshot| &snapshot.sessions) {
        for size in session.latency.iter().flatten() {
            print_size(&word(&session.initiator), &word(&session.target), size, out)?;
        }
    }
    let mut others = BTreeMap::<SizeRow, [Summary; STAGES]>::new();
    for size in statistics.reactors.values().flat_map(|snapshot| &snapshot.other_sessions) {
        let sum = others.entry(size.row).or_default();
        sum.iter_mut().zip(&size.stages).for_each(|(sum, stage)| sum.merge(stage));
    }
    for (row, stages) in others {
        print_size(OTHER, "-", &SizeLatency { row, stages }, out)?;
    }
    Ok(())
}

fn print_size(initiator: &str, target: &str, size: &SizeLatency, out: &mut String) -> fmt::Result {
    let name = size.row.name();
    for (stage, s) in Stage::ALL.iter().zip(&size.stages).filter(|(_, s)| s.count > 0) {
        let [min, max, average, deviation, sum] =
            [s.min as f64, s.max as f64, s.average(), s.deviation(), s.sum as f64].map(micros);
        writeln!(
            out,
            "{initiator} {target} {name} {} {} {min:.1} {max:.1} {average:.1} {deviation:.1} us {sum:.1} {}",
            stage.name(),
            s.count,
            stage.part()
        )?;
    }
    Ok(())
}

pub(super) fn print_units(statistics: &Statistics, out: &mut String) -> fmt::Result {
    writeln!(out, "device state count p50 p90 p99 p99.9 max unit part")?;
    // A device has a number in each reactor, the same one.
    let mut units = BTreeMap::<(bool, Option<DeviceId>), Box<[Histogram; STAGES]>>::new();
    for unit in statistics.reactors.values().flat_map(|snapshot| &snapshot.units) {
        // The rest comes last.
        match units.entry((unit.device.is_none(), unit.device)) {
            std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert(unit.stages.clone())),
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                entry.get_mut().iter_mut().zip(&*unit.stages).for_each(|(sum, stage)| sum.merge(stage));
            }
        }
    }
    for ((_, device), stages) in units {
        let name = device.map_or(OTHER, |id| statistics.devices.get(&id).map_or("-", String::as_str));
        for (stage, histogram) in Stage::ALL.iter().zip(&*stages).filter(|(_, h)| h.count() > 0) {
            let [p50, p90, p99, p999, max] = [500, 900, 990, 999, 1000].map(|q| micros(histogram.quantile(q) as f64));
            writeln!(
                out,
                "{} {} {} {p50:.1} {p90:.1} {p99:.1} {p999:.1} {max:.1} us {}",
                word(name),
                stage.name(),
                histogram.count(),
                stage.part()
            )?;
        }
    }
    Ok(())
}
