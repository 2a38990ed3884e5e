//! The tables, in Markdown.

use std::fmt::Write as _;

use super::contenders::{Contender, Kind, Store};
use super::{Case, Series};
use crate::load::LoadReport;

/// Median, least and greatest of several measurements.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Spread {
    median: f64,
    least: f64,
    greatest: f64,
}

fn spread(reports: &[LoadReport], field: impl Fn(&LoadReport) -> f64) -> Option<Spread> {
    let mut values: Vec<f64> = reports.iter().map(field).collect();
    values.sort_by(f64::total_cmp);
    let (least, greatest) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
    Some(Spread { median, least, greatest })
}

/// All tables.
pub(super) fn render(
    rounds: usize,
    seconds: f64,
    cases: &[Case],
    contenders: &[Contender],
    series: &[Series],
) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = writeln!(
        text,
        "Medians of {rounds} interleaved rounds of {seconds} s; CPU is the target's, user and system.\n"
    );
    ratios(&mut text, "Nothing behind the LUN (nullio, null)", Store::Null, cases, contenders, series);
    ratios(
        &mut text,
        "A page-cached file (fileio; the better of tgt's stores)",
        Store::File,
        cases,
        contenders,
        series,
    );
    details(&mut text, cases, contenders, series);
    text
}

/// The best of a kind with a store: the one with the most I/O per CPU second.
fn best<'a>(
    case: usize,
    kind: Kind,
    store: Store,
    contenders: &[Contender],
    series: &'a [Series],
) -> Option<(&'a Series, Spread)> {
    let of_kind = |one: &&Series| {
        let contender = &contenders[one.contender];
        one.case == case && contender.kind == kind && contender.store == store
    };
    series
        .iter()
        .filter(of_kind)
        .filter_map(|one| Some((one, spread(&one.reports, |report| report.target_cpu)?)))
        .min_by(|a, b| a.1.median.total_cmp(&b.1.median))
}

fn ratios(text: &mut String, title: &str, store: Store, cases: &[Case], contenders: &[Contender], series: &[Series]) {
    let mut rows = String::new();
    for (number, case) in cases.iter().enumerate() {
        let Some((tgt, tgt_cpu)) = best(number, Kind::Tgt, store, contenders, series) else { continue };
        let subject = best(number, Kind::Scstd, store, contenders, series);
        let limit = best(number, Kind::Limit, store, contenders, series);
        let Some((ours, ours_cpu)) = subject.or(limit) else { continue };
        let iops = |one: &Series| spread(&one.reports, |report| report.iops).map_or(0.0, |found| found.median);
        let against_limit = match (subject, limit) {
            (Some((_, ours)), Some((_, limit))) => format!("{:.2}", ours.median / limit.median),
            _ => "-".to_owned(),
        };
        let _ = writeln!(
            rows,
            "| {} | {} / {} | {:.0} | {:.0} | **{:.2}** | {:.2} | {:.2} | **{:.2}** | {} |",
            case.name,
            contenders[ours.contender].name,
            contenders[tgt.contender].name,
            iops(ours),
            iops(tgt),
            iops(ours) / iops(tgt),
            ours_cpu.median,
            tgt_cpu.median,
            tgt_cpu.median / ours_cpu.median,
            against_limit,
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

fn details(text: &mut String, cases: &[Case], contenders: &[Contender], series: &[Series]) {
    let _ = writeln!(text, "### All measurements (median, least to greatest)\n");
    let _ = writeln!(
        text,
        "| case | target | IOPS | MB/s | p50 us | p99 us | p99.9 us | us CPU per I/O | target busy | load busy |"
    );
    let _ = writeln!(text, "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    for one in series {
        let all = |field: fn(&LoadReport) -> f64| spread(&one.reports, field);
        let (Some(iops), Some(cpu)) = (all(|report| report.iops), all(|report| report.target_cpu)) else { continue };
        let median = |field: fn(&LoadReport) -> f64| all(field).map_or(0.0, |found| found.median);
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} ({:.0} to {:.0}) | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} ({:.2} to {:.2}) \
             | {:.0} % | {:.0} % |",
            cases[one.case].name,
            contenders[one.contender].name,
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
            100.0 * median(|report| report.own_busy),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(iops: f64, target_cpu: f64) -> LoadReport {
        LoadReport { iops, target_cpu, ..LoadReport::default() }
    }

    fn contender(name: &'static str, kind: Kind, store: Store) -> Contender {
        let portal = "127.0.0.1:1".parse().unwrap();
        Contender { name, kind, store, portal, target: "t", lun: 0, pid: 1, digests: true }
    }

    #[test]
    fn medians_and_ratios_are_those_of_the_measurements() {
        let contenders = [
            contender("scstd nullio", Kind::Scstd, Store::Null),
            contender("tgt null", Kind::Tgt, Store::Null),
            contender("limit", Kind::Limit, Store::Null),
        ];
        let reports = [
            vec![report(300.0, 3.0), report(100.0, 1.0), report(200.0, 2.0)],
            vec![report(50.0, 9.0), report(50.0, 11.0)],
            vec![report(400.0, 1.6)],
        ];
        let series: Vec<Series> = reports
            .into_iter()
            .enumerate()
            .map(|(contender, reports)| Series { case: 0, contender, reports })
            .collect();
        let cases = [Case { name: "4 KiB READ QD 1".to_owned(), arguments: vec![] }];
        let text = render(3, 1.0, &cases, &contenders, &series);
        let row =
            "| 4 KiB READ QD 1 | scstd nullio / tgt null | 200 | 50 | **4.00** | 2.00 | 10.00 | **5.00** | 1.25 |";
        assert!(text.contains(row), "{text}");
        assert!(
            text.contains("| 4 KiB READ QD 1 | tgt null | 50 (50 to 50) | 0 | 0 | 0 | 0 | 10.00 (9.00 to 11.00) |")
        );
    }
}
