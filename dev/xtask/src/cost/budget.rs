//! `dev/cost/budget.toml`: what was recorded, and the judgement of what was measured.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::callgrind::Profile;

/// Growth that fails.
const TOLERANCE: f64 = 0.03;
/// The same with another compiler than that of the record, which may do things another way.
const WIDE_TOLERANCE: f64 = 0.15;
/// What is so much cheaper has a budget that guards nothing.
const SLACK: f64 = 0.05;
/// Calls into libraries are few: a part of one is noise (a buffer that wraps), a whole one is not.
const CALLS: f64 = 0.1;
/// What no record may go over: instructions of the mid-level with a NULLIO disk for a READ.
const LIMITS: &[(&str, f64)] = &[("core-read-32", 1000.0)];

/// What a command costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cost {
    /// Instructions of our own code.
    pub(crate) instructions: f64,
    /// Calls into libraries.
    pub(crate) calls: f64,
}

impl Cost {
    /// That of a scenario, as exactly as it is recorded. Checksums count where none should be made.
    pub(crate) fn of(profile: &Profile, scenario: &str) -> Self {
        let instructions = profile.instructions(!scenario.ends_with("-digests"));
        Self { instructions: (instructions * 10.0).round() / 10.0, calls: (profile.calls() * 100.0).round() / 100.0 }
    }
}

/// Who has compiled.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Compiler {
    pub(crate) release: String,
    pub(crate) host: String,
}

impl Compiler {
    /// Reads what `rustc -vV` prints.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name));
            value.map(|value| value.trim().to_owned()).with_context(|| format!("rustc -vV has no {name}"))
        };
        Ok(Self { release: field("release:")?, host: field("host:")? })
    }
}

/// The record.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Budget {
    pub(crate) compiler: Compiler,
    pub(crate) costs: BTreeMap<String, Cost>,
}

/// How exactly the record can be held against a measurement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Comparison {
    /// Same compiler.
    Exact,
    /// Another version of the compiler.
    Roughly,
    /// Another architecture: only the limits count.
    LimitsOnly,
}

/// What is to be said of a scenario.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    Good,
    /// So much cheaper that the record should follow.
    Slack,
    Bad(String),
}

impl Budget {
    /// Reads the file; it is only ever written by [`Budget::render`].
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut budget = Self::default();
        let mut section = None;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = Some(name.to_owned());
                budget.costs.insert(name.to_owned(), Cost { instructions: 0.0, calls: 0.0 });
                continue;
            }
            let (key, value) = line.split_once(" = ").with_context(|| format!("{line}: no key and value"))?;
            let text = value.trim_matches('"').to_owned();
            let number = || value.parse::<f64>().with_context(|| format!("{line}: no number"));
            let cost = section.as_ref().and_then(|name| budget.costs.get_mut(name));
            match (key, cost) {
                ("rustc", None) => budget.compiler.release = text,
                ("host", None) => budget.compiler.host = text,
                ("instructions", Some(cost)) => cost.instructions = number()?,
                ("calls", Some(cost)) => cost.calls = number()?,
                _ => anyhow::bail!("{line}: an unknown key"),
            }
        }
        Ok(budget)
    }

    /// The file.
    pub(crate) fn render(&self) -> String {
        let mut text = String::from(
            "# What a command costs, per scenario of dev/cost: instructions of our own code, and calls into libraries.\n\
             # Written by `cargo xtask cost --record`; `cargo xtask cost` fails when something has grown.\n\n",
        );
        let Compiler { release, host } = &self.compiler;
        let _ = writeln!(text, "rustc = \"{release}\"\nhost = \"{host}\"");
        for (name, cost) in &self.costs {
            let Cost { instructions, calls } = cost;
            let _ = writeln!(text, "\n[{name}]\ninstructions = {instructions:.1}\ncalls = {calls:.2}");
        }
        text
    }

    /// What the record is worth for what this compiler made.
    pub(crate) fn comparison(&self, compiler: &Compiler) -> Comparison {
        if self.compiler == *compiler {
            Comparison::Exact
        } else if self.compiler.host == compiler.host {
            Comparison::Roughly
        } else {
            Comparison::LimitsOnly
        }
    }

    /// Judges one scenario.
    pub(crate) fn judge(&self, name: &str, cost: Cost, comparison: Comparison) -> Verdict {
        if let Some((_, limit)) = LIMITS.iter().find(|(limited, limit)| *limited == name && cost.instructions >= *limit)
        {
            return Verdict::Bad(format!("must stay below {limit} instructions, whatever the budget says"));
        }
        let tolerance = match comparison {
            Comparison::Exact => TOLERANCE,
            Comparison::Roughly => WIDE_TOLERANCE,
            Comparison::LimitsOnly => return Verdict::Good,
        };
        let Some(budget) = self.costs.get(name) else {
            return Verdict::Bad("has no budget; cargo xtask cost --record".to_owned());
        };
        if cost.instructions > budget.instructions * (1.0 + tolerance) {
            let percent = tolerance * 100.0;
            return Verdict::Bad(format!("has grown by more than {percent:.0} %"));
        }
        if cost.calls > budget.calls + CALLS + budget.calls * tolerance {
            return Verdict::Bad(format!("calls libraries {:.2} times, not {:.2}", cost.calls, budget.calls));
        }
        let cheaper =
            cost.instructions < budget.instructions * (1.0 - SLACK) || cost.calls < budget.calls - 1.0 + CALLS;
        if comparison == Comparison::Exact && cheaper { Verdict::Slack } else { Verdict::Good }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> Budget {
        let compiler = Compiler { release: "1.95.0".into(), host: "x86_64-unknown-linux-gnu".into() };
        let cost = |instructions| Cost { instructions, calls: 4.0 };
        let costs = [("core-read-32", 900.0), ("path-read-32", 2000.0)].map(|(name, n)| (name.to_owned(), cost(n)));
        Budget { compiler, costs: costs.into() }
    }

    fn judge(name: &str, instructions: f64, calls: f64, comparison: Comparison) -> Verdict {
        budget().judge(name, Cost { instructions, calls }, comparison)
    }

    #[test]
    fn what_is_written_is_read_again() {
        assert_eq!(Budget::parse(&budget().render()).unwrap(), budget());
        assert!(Budget::parse("rustc = \"1\"\nother = 1\n").is_err());
        assert!(Budget::parse("[a]\ninstructions = many\n").is_err());
    }

    #[test]
    fn growth_fails_and_a_loose_budget_is_told() {
        use Comparison::Exact;
        assert_eq!(judge("path-read-32", 2059.0, 4.0, Exact), Verdict::Good);
        assert_eq!(judge("path-read-32", 2061.0, 4.0, Exact), Verdict::Bad("has grown by more than 3 %".into()));
        assert_eq!(judge("path-read-32", 1899.0, 4.0, Exact), Verdict::Slack);
        assert_eq!(judge("path-read-32", 2000.0, 3.0, Exact), Verdict::Slack);
        assert!(matches!(judge("path-read-32", 2000.0, 5.0, Exact), Verdict::Bad(_)));
        assert!(matches!(judge("path-read-1", 1.0, 0.0, Exact), Verdict::Bad(_)));
    }

    #[test]
    fn another_compiler_is_compared_with_care() {
        let newer = Compiler { release: "1.99.0".into(), ..budget().compiler };
        let elsewhere = Compiler { host: "aarch64-unknown-linux-gnu".into(), ..budget().compiler };
        assert_eq!(budget().comparison(&budget().compiler), Comparison::Exact);
        assert_eq!(budget().comparison(&newer), Comparison::Roughly);
        assert_eq!(budget().comparison(&elsewhere), Comparison::LimitsOnly);
        assert_eq!(judge("path-read-32", 2290.0, 4.0, Comparison::Roughly), Verdict::Good);
        assert!(matches!(judge("path-read-32", 2310.0, 4.0, Comparison::Roughly), Verdict::Bad(_)));
        assert_eq!(judge("path-read-32", 9999.0, 9.0, Comparison::LimitsOnly), Verdict::Good);
        assert!(matches!(judge("core-read-32", 1000.0, 4.0, Comparison::LimitsOnly), Verdict::Bad(_)));
    }

    #[test]
    fn reads_what_rustc_says_of_itself() {
        let text = "rustc 1.95.0 (abc 2026-04-14)\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\n";
        assert_eq!(Compiler::parse(text).unwrap(), budget().compiler);
        assert!(Compiler::parse("rustc 1.95.0").is_err());
    }
}
