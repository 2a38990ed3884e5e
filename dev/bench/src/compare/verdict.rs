//! The bars that the project has set itself, each with what was measured.

use std::fmt::Write as _;

use super::cases::Case;
use super::contenders::Role;
use super::idle::Idle;
use super::stats::{Results, Spread};
use crate::load::LoadReport;
use crate::load::Operation::{self, Read, Write};

const K: u32 = 1024;
const TGT_FILES: [Role; 2] = [Role::TgtRdwr, Role::TgtAio];

/// What a measured value is held against.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// One line of the verdict.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Bar {
    name: String,
    measured: Option<Spread>,
    bound: Bound,
    unit: &'static str,
}

impl Bar {
    /// Passed or missed; nothing when it was not measured.
    pub(super) fn passed(&self) -> Option<bool> {
        let value = self.measured?.median;
        Some(match self.bound {
            Bound::AtMost(bound) => value <= bound,
            Bound::AtLeast(bound) => value >= bound,
        })
    }
}

fn four(operation: Operation, depth: usize, connections: u16) -> Case {
    Case::new(operation, 4 * K, depth, connections, false)
}

fn long(operation: Operation) -> Case {
    Case::new(operation, 128 * K, 8, 1, false)
}

/// All bars.
pub(super) fn bars(results: &Results, idle: &[Idle]) -> Vec<Bar> {
    let mut bars = Vec::new();
    for operation in [Read, Write] {
        against_limit(&mut bars, results, operation);
        against_tgt(&mut bars, results, operation);
        latency(&mut bars, results, operation);
        digests(&mut bars, results, operation);
        scaling(&mut bars, results, operation);
    }
    page_cache(&mut bars, results);
    // Without a ping from each it is not what the bar asks for.
    let thousand = idle.iter().map(|one| one.report).find(|one| one.sessions == 1000.0 && one.pings >= one.sessions);
    let busy = thousand.and_then(|report| Spread::of([report.busy * 100.0]));
    let name = "1,000 idle sessions, pings included: share of a core".to_owned();
    bars.push(Bar { name, measured: busy, bound: Bound::AtMost(0.1), unit: " %" });
    bars
}

fn cpu_ratio(one: &LoadReport, other: &LoadReport) -> f64 {
    one.target_cpu / other.target_cpu
}

fn against_limit(bars: &mut Vec<Bar>, results: &Results, operation: Operation) {
    for (case, bound) in [
        (four(operation, 32, 1), 1.25),
        (four(operation, 32, 4), 1.25),
        (four(operation, 8, 64), 1.25),
        (four(operation, 1, 1), 1.1),
        (long(operation), 1.1),
    ] {
        let measured = results.paired((&case, Role::ScstdNull), (&case, Role::Limit), cpu_ratio);
        let name = format!("{}: nullio, CPU per I/O against the limit", case.name());
        bars.push(Bar { name, measured, bound: Bound::AtMost(bound), unit: "x" });
    }
}

fn against_tgt(bars: &mut Vec<Bar>, results: &Results, operation: Operation) {
    for (case, null, file) in
        [(four(operation, 32, 1), 10.0, 8.0), (four(operation, 1, 1), 1.3, 1.5), (long(operation), 2.5, 2.5)]
    {
        let better = |one: &LoadReport, other: &LoadReport| cpu_ratio(other, one);
        let measured = results.paired((&case, Role::ScstdNull), (&case, Role::TgtNull), better);
        let name = format!("{}: nullio, I/O per CPU second against tgt null", case.name());
        bars.push(Bar { name, measured, bound: Bound::AtLeast(null), unit: "x" });
        let ours = results.cheapest(&case, &[Role::ScstdFile, Role::ScstdZeroCopy]).unwrap_or(Role::ScstdFile);
        let theirs = results.cheapest(&case, &TGT_FILES).unwrap_or(Role::TgtRdwr);
        let measured = results.paired((&case, ours), (&case, theirs), better);
        let name = format!("{}: page-cached file, I/O per CPU second against {}", case.name(), theirs.name());
        bars.push(Bar { name, measured, bound: Bound::AtLeast(file), unit: "x" });
    }
}

fn latency(bars: &mut Vec<Bar>, results: &Results, operation: Operation) {
    let case = four(operation, 1, 1);
    let iops = |one: &LoadReport, other: &LoadReport| one.iops / other.iops;
    let measured = results.paired((&case, Role::ScstdPoll), (&case, Role::Limit), iops);
    let name = format!("{}: adaptive spin on, IOPS against the limit without", case.name());
    bars.push(Bar { name, measured, bound: Bound::AtLeast(1.25), unit: "x" });
    let slower = |one: &LoadReport, other: &LoadReport| other.latency[0] / one.latency[0];
    let measured = results.paired((&case, Role::Limit), (&case, Role::ScstdNull), slower);
    let name = format!("{}: spin off, median latency against the limit", case.name());
    bars.push(Bar { name, measured, bound: Bound::AtMost(1.1), unit: "x" });
}

/// What digests add to our CPU per I/O, against one pass by itself. (What they add to the limit is the difference of two large
/// numbers, as noisy as ours.)
fn digests(bars: &mut Vec<Bar>, results: &Results, operation: Operation) {
    for plain in [four(operation, 32, 1), long(operation)] {
        let with = Case { digests: true, ..plain };
        let added = |one: &LoadReport, other: &LoadReport| one.target_cpu - other.target_cpu;
        let ours = results.paired((&with, Role::ScstdNull), (&plain, Role::ScstdNull), added);
        let Some(pass) = results.spread(&with, Role::Pass, |report| report.target_cpu) else { continue };
        let name = format!("{}: CPU that digests add, against one CRC32C pass", plain.name());
        bars.push(Bar { name, measured: ours, bound: Bound::AtMost(pass.median), unit: " us" });
    }
}

fn scaling(bars: &mut Vec<Bar>, results: &Results, operation: Operation) {
    for case in [four(operation, 32, 4), four(operation, 8, 64)] {
        let measured = results.paired((&case, Role::ScstdTwo), (&case, Role::ScstdNull), cpu_ratio);
        let name = format!("{}: CPU per I/O of two reactors against one", case.name());
        // 1.7 times the IOPS of one on two cores is 2 / 1.7 of its CPU per I/O.
        bars.push(Bar { name, measured, bound: Bound::AtMost(2.0 / 1.7), unit: "x" });
        let measured = results.paired((&case, Role::ScstdNull), (&case, Role::ScstdPrivate), cpu_ratio);
        let name = format!("{}: CPU per I/O of one shared LUN against private LUNs", case.name());
        bars.push(Bar { name, measured, bound: Bound::AtMost(1.05), unit: "x" });
    }
    let case = four(operation, 8, 64);
    let least = results.spread(&case, Role::ScstdNull, |report| report.least_share);
    let name = format!("{}: least share of a connection against the median", case.name());
    bars.push(Bar { name, measured: least, bound: Bound::AtLeast(0.5), unit: "x" });
}

fn page_cache(bars: &mut Vec<Bar>, results: &Results) {
    let case = four(Read, 32, 1);
    let more = |one: &LoadReport, other: &LoadReport| one.target_cpu - other.target_cpu;
    let measured = results.paired((&case, Role::ScstdFile), (&case, Role::ScstdNull), more);
    let pread = results.spread(&case, Role::Inline, |report| report.target_cpu);
    // The greater of both bars: either will do.
    let bound = pread.map_or(1.6, |pread| (1.1 * pread.median).max(1.6));
    let name = format!("{}: page-cached file, CPU on top of nullio", case.name());
    bars.push(Bar { name, measured, bound: Bound::AtMost(bound), unit: " us" });
}

/// The section of the report.
pub(super) fn render(bars: &[Bar]) -> String {
    let count = |wanted| bars.iter().filter(|bar| bar.passed() == wanted).count();
    let (passed, missed, open) = (count(Some(true)), count(Some(false)), count(None));
    let mut text = format!("### Verdict\n\n{passed} passed, {missed} missed, {open} not measured.\n\n");
    text.push_str("| bar | measured (least to greatest) | bound | |\n|---|--:|--:|---|\n");
    for bar in bars {
        let unit = bar.unit;
        let measured = bar.measured.map_or_else(
            || "-".to_owned(),
            |found| format!("{:.3}{unit} ({:.3} to {:.3})", found.median, found.least, found.greatest),
        );
        let bound = match bar.bound {
            Bound::AtMost(bound) => format!("at most {bound:.2}{unit}"),
            Bound::AtLeast(bound) => format!("at least {bound:.2}{unit}"),
        };
        let result = match bar.passed() {
            Some(true) => "pass",
            Some(false) => "**miss**",
            None => "not measured",
        };
        // Writing into a String cannot fail.
        let _ = writeln!(text, "| {} | {measured} | {bound} | {result} |", bar.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::stats::tests::{READ, results};
    use super::*;
    use crate::idle::IdleReport;

    fn bar(bars: &[Bar], name: &str) -> (f64, Option<bool>) {
        let bar = bars.iter().find(|bar| bar.name == name).unwrap_or_else(|| panic!("no {name:?}"));
        (bar.measured.map_or(f64::NAN, |found| found.median), bar.passed())
    }

    #[test]
    fn bars_are_held_against_what_was_measured() {
        let found = results(
            READ,
            &[
                (Role::ScstdNull, &[1.5, 1.5, 1.5]),
                (Role::Limit, &[1.0, 1.25, 1.5]),
                (Role::TgtNull, &[16.5, 15.0, 14.0]),
                (Role::ScstdFile, &[3.0, 3.0, 3.2]),
                (Role::TgtRdwr, &[30.0, 30.0, 30.0]),
                (Role::TgtAio, &[18.0, 18.0, 18.0]),
            ],
        );
        let bars = bars(&found, &[]);
        assert_eq!(bar(&bars, "4 KiB READ QD 32: nullio, CPU per I/O against the limit"), (1.2, Some(true)));
        assert_eq!(bar(&bars, "4 KiB READ QD 32: nullio, I/O per CPU second against tgt null"), (10.0, Some(true)));
        let file = "4 KiB READ QD 32: page-cached file, I/O per CPU second against tgt aio";
        assert_eq!(bar(&bars, file), (6.0, Some(false)));
        assert_eq!(bar(&bars, "4 KiB READ QD 32: page-cached file, CPU on top of nullio"), (1.5, Some(true)));
        assert_eq!(bar(&bars, "4 KiB READ QD 1: nullio, CPU per I/O against the limit").1, None);
        let idle = |pings| {
            let report = IdleReport { sessions: 1000.0, busy: 0.002, pings, ..IdleReport::default() };
            let bars = super::bars(&found, &[Idle { luns: 1, report }]);
            bar(&bars, "1,000 idle sessions, pings included: share of a core").1
        };
        assert_eq!((idle(999.0), idle(1000.0)), (None, Some(false)));
        let text = render(&bars);
        assert!(text.contains("3 passed, 1 missed,"), "{text}");
        let line = format!("| {file} | 6.000x (5.625 to 6.000) | at least 8.00x | **miss** |");
        assert!(text.contains(&line), "{text}");
    }
}
