//! Medians, spread, and ratios of what was measured side by side.

use super::cases::Case;
use super::contenders::{Contender, Role};
use crate::load::LoadReport;

/// All measurements of one contender in one case; the index is the round.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) case: usize,
    pub(super) contender: usize,
    pub(super) reports: Vec<LoadReport>,
}

/// Median, least and greatest of several measurements.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) greatest: f64,
}

impl Spread {
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (least, greatest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { median, least, greatest })
    }
}

/// Something else used a core: for more than this share of the time. Ticks of 10 ms are no finer.
pub(super) const DISTURBED: f64 = 0.05;

/// Whether the cores were as far from each other at both times; a cache in common makes a factor of three.
pub(super) fn same_distance(one: f64, other: f64) -> bool {
    one.max(other) <= 1.5 * one.min(other)
}

/// Everything that was measured.
pub(super) struct Results {
    pub(super) rounds: usize,
    pub(super) seconds: f64,
    pub(super) cases: Vec<Case>,
    pub(super) contenders: Vec<Contender>,
    pub(super) series: Vec<Series>,
    /// What could not be measured, and why.
    pub(super) skipped: Vec<String>,
}

impl Results {
    pub(super) fn series(&self, case: &Case, role: Role) -> Option<&Series> {
        self.series.iter().find(|one| {
            !one.reports.is_empty() && self.contenders[one.contender].role == role && self.cases[one.case] == *case
        })
    }

    /// Of a measured value.
    pub(super) fn spread(&self, case: &Case, role: Role, field: impl Fn(&LoadReport) -> f64) -> Option<Spread> {
        Spread::of(self.series(case, role)?.reports.iter().map(field))
    }

    /// Of a combination of two values that were measured in the same round: drifts of the machine hit both. Where the
    /// cores were near each other once and far the other time, or something else used them, the round says nothing, unless
    /// all rounds are like that.
    pub(super) fn paired(
        &self,
        one: (&Case, Role),
        other: (&Case, Role),
        combine: impl Fn(&LoadReport, &LoadReport) -> f64,
    ) -> Option<Spread> {
        let (one, other) = (self.series(one.0, one.1)?, self.series(other.0, other.1)?);
        let pairs = || one.reports.iter().zip(&other.reports);
        let alike = pairs().filter(|(one, other)| {
            same_distance(one.distance, other.distance) && one.others.max(other.others) <= DISTURBED
        });
        let combine = |(one, other): (&LoadReport, &LoadReport)| combine(one, other);
        Spread::of(alike.map(combine)).or_else(|| Spread::of(pairs().map(combine)))
    }

    /// The role with the least CPU per I/O.
    pub(super) fn cheapest(&self, case: &Case, roles: &[Role]) -> Option<Role> {
        let cost = |role: &Role| self.spread(case, *role, |report| report.target_cpu).map(|found| found.median);
        roles
            .iter()
            .copied()
            .filter(|role| cost(role).is_some())
            .min_by(|one, other| cost(one).unwrap_or(f64::INFINITY).total_cmp(&cost(other).unwrap_or(f64::INFINITY)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::load::Operation;

    /// Results of one case from pairs of a role and its CPU times.
    pub(in super::super) fn results(case: Case, costs: &[(Role, &[f64])]) -> Results {
        let contenders = costs.iter().map(|(role, _)| Contender::for_test(*role)).collect();
        let report =
            |cost: &f64| LoadReport { target_cpu: *cost, iops: 1e6 / cost, distance: 50.0, ..LoadReport::default() };
        let series = costs.iter().enumerate().map(|(contender, (_, costs))| Series {
            case: 0,
            contender,
            reports: costs.iter().map(report).collect(),
        });
        Results {
            rounds: costs[0].1.len(),
            seconds: 1.0,
            cases: vec![case],
            series: series.collect(),
            contenders,
            skipped: vec![],
        }
    }

    pub(in super::super) const READ: Case = Case::new(Operation::Read, 4096, 32, 1, false);

    #[test]
    fn medians_are_in_the_middle() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.least, spread.greatest), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of([1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn what_was_measured_in_one_round_is_compared() {
        // In the second round everything took twice as long; the ratio does not mind.
        let mut results = results(READ, &[(Role::ScstdNull, &[2.0, 4.0]), (Role::Limit, &[1.0, 2.0])]);
        let ratio = |one: &LoadReport, other: &LoadReport| one.target_cpu / other.target_cpu;
        let found = results.paired((&READ, Role::ScstdNull), (&READ, Role::Limit), ratio).unwrap();
        assert_eq!((found.least, found.median, found.greatest), (2.0, 2.0, 2.0));
        results.series[0].reports[0].distance = 200.0;
        results.series[0].reports[0].target_cpu = 10.0;
        let found = results.paired((&READ, Role::ScstdNull), (&READ, Role::Limit), ratio).unwrap();
        assert_eq!((found.least, found.greatest), (2.0, 2.0), "the first round does not count");
        results.series[0].reports[0].distance = 50.0;
        results.series[0].reports[0].others = 0.25;
        let found = results.paired((&READ, Role::ScstdNull), (&READ, Role::Limit), ratio).unwrap();
        assert_eq!((found.least, found.greatest), (2.0, 2.0), "nor when it was disturbed");
        results.series[0].reports[1].distance = 200.0;
        let found = results.paired((&READ, Role::ScstdNull), (&READ, Role::Limit), ratio).unwrap();
        assert_eq!((found.least, found.greatest), (2.0, 10.0), "there is nothing better");
        assert_eq!(results.cheapest(&READ, &[Role::ScstdNull, Role::Limit, Role::TgtNull]), Some(Role::Limit));
        assert_eq!(results.cheapest(&READ, &[Role::TgtNull]), None);
    }
}
