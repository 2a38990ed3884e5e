//! The tables, in Markdown, and the same as comma-separated values.

use std::fmt::Write as _;

use super::cases::Case;
use super::contenders::Role;
use super::stats::{Results, Series, Spread};
use crate::load::LoadReport;

/// All tables.
pub(super) fn render(results: &Results) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = writeln!(
        text,
        "Medians of {} interleaved rounds of {} s; CPU is the target's, user and system. Ratios are those of \
         measurements of the same round.\n",
        results.rounds, results.seconds
    );
    let distances = results.series.iter().flat_map(|one| &one.reports).map(|report| report.distance);
    if let Some(distance) = Spread::of(distances.filter(|distance| *distance > 0.0)) {
        let _ = writeln!(
            text,
            "A cache line went from core to core and back in {:.0} ns ({:.0} to {:.0}).\n",
            distance.median, distance.least, distance.greatest
        );
    }
    for line in &results.skipped {
        let _ = writeln!(text, "- skipped: {line}");
    }
    if !results.skipped.is_empty() {
        text.push('\n');
    }
    ratios(&mut text, "Nothing behind the LUN (nullio, null)", &[Role::ScstdNull], &[Role::TgtNull], results);
    let (ours, theirs) = ([Role::ScstdFile, Role::ScstdZeroCopy], [Role::TgtRdwr, Role::TgtAio]);
    ratios(&mut text, "A page-cached file (the better way of each)", &ours, &theirs, results);
    details(&mut text, results);
    text
}

fn ratios(text: &mut String, title: &str, ours: &[Role], theirs: &[Role], results: &Results) {
    let mut rows = String::new();
    for case in &results.cases {
        let (Some(ours), Some(theirs)) = (results.cheapest(case, ours), results.cheapest(case, theirs)) else {
            continue;
        };
        let median =
            |role, field: fn(&LoadReport) -> f64| results.spread(case, role, field).map_or(0.0, |found| found.median);
        let paired = |one, other, combine: fn(&LoadReport, &LoadReport) -> f64| {
            let found = results.paired((case, one), (case, other), combine);
            found.map_or_else(|| "-".to_owned(), |found| format!("{:.2}", found.median))
        };
        let _ = writeln!(
            rows,
            "| {} | {} / {} | {:.0} | {:.0} | **{}** | {:.2} | {:.2} | **{}** | {} |",
            case.name(),
            ours.name(),
            theirs.name(),
            median(ours, |report| report.iops),
            median(theirs, |report| report.iops),
            paired(ours, theirs, |one, other| one.iops / other.iops),
            median(ours, |report| report.target_cpu),
            median(theirs, |report| report.target_cpu),
            paired(theirs, ours, |one, other| one.target_cpu / other.target_cpu),
            paired(ours, Role::Limit, |one, other| one.target_cpu / other.target_cpu),
        );
    }
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(text, "### {title}\n");
    let _ = writeln!(
        text,
        "| case | ours / theirs | IOPS | IOPS | IOPS ratio | us CPU per I/O | us CPU per I/O | I/O per CPU second, ratio \
         | CPU against the limit |"
    );
    let _ = writeln!(text, "|---|---|--:|--:|--:|--:|--:|--:|--:|");
    let _ = writeln!(text, "{rows}");
}

fn details(text: &mut String, results: &Results) {
    let _ = writeln!(text, "### All measurements (median, least to greatest)\n");
    let _ = writeln!(
        text,
        "| case | target | IOPS | MB/s | p50 us | p99 us | p99.9 us | us CPU per I/O | target busy | load at work \
         | least share | others |"
    );
    let _ = writeln!(text, "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for one in &results.series {
        let all = |field: fn(&LoadReport) -> f64| Spread::of(one.reports.iter().map(field));
        let (Some(iops), Some(cpu)) = (all(|report| report.iops), all(|report| report.target_cpu)) else { continue };
        let median = |field: fn(&LoadReport) -> f64| all(field).map_or(0.0, |found| found.median);
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} ({:.0} to {:.0}) | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} ({:.2} to {:.2}) \
             | {:.0} % | {:.0} % | {:.2} | {:.0} % |",
            results.cases[one.case].name(),
            results.contenders[one.contender].role.name(),
            iops.median,
            iops.least,
            iops.greatest,
            median(|report| report.megabytes),
            median(|report| report.latency[0]),
            median(|report| report.latency[2]),
            median(|report| report.latency[3]),
            cpu.median,
            cpu.least,
            cpu.greatest,
            100.0 * median(|report| report.target_busy),
            100.0 * median(|report| report.own_work),
            median(|report| report.least_share),
            100.0 * median(|report| report.others),
        );
    }
    text.push('\n');
}

/// Every single measurement, one line each.
pub(super) fn csv(results: &Results) -> String {
    let names: Vec<&str> = LoadReport::default().pairs().into_iter().map(|(name, _)| name).collect();
    let mut text = format!("case,target,operation,size,depth,connections,digests,round,{}\n", names.join(","));
    for Series { case, contender, reports } in &results.series {
        let case: &Case = &results.cases[*case];
        for (round, report) in reports.iter().enumerate() {
            let values: Vec<String> = report.pairs().into_iter().map(|(_, value)| format!("{value:.4}")).collect();
            let _ = writeln!(
                text,
                "{},\"{}\",{:?},{},{},{},{},{},{}",
                case.name(),
                results.contenders[*contender].role.name(),
                case.operation,
                case.size,
                case.depth,
                case.connections,
                u8::from(case.digests),
                round + 1,
                values.join(",")
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::stats::tests::{READ, results};
    use super::*;

    #[test]
    fn medians_and_ratios_are_those_of_the_measurements() {
        let found = results(
            READ,
            &[(Role::ScstdNull, &[4.0, 1.0, 2.0]), (Role::TgtNull, &[8.0, 8.0, 10.0]), (Role::Limit, &[2.0, 1.0, 1.6])],
        );
        let text = render(&found);
        let row = "| 4 KiB READ QD 32 | scstd nullio / tgt null | 500000 | 125000 | **5.00** | 2.00 | 8.00 | **5.00** \
                   | 1.25 |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains(
            "| 4 KiB READ QD 32 | tgt null | 125000 (100000 to 125000) | 0 | 0 | 0 | 0 | 8.00 (8.00 to 10.00) |"
        ));
        assert!(text.contains("from core to core and back in 50 ns"), "{text}");
    }

    #[test]
    fn every_measurement_is_a_line() {
        let found = results(READ, &[(Role::ScstdPrivate, &[2.0, 4.0])]);
        let text = csv(&found);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        let start = "4 KiB READ QD 32,\"scstd nullio, private LUNs\",Read,4096,32,1,0,2,250000.0000,0.0000,4.0000,";
        assert!(lines[2].starts_with(start), "{text}");
        assert_eq!(lines[0].split(',').count() + 1, lines[1].split(',').count(), "one comma is in the name");
    }
}
