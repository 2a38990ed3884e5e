//! The checked-in list of what may be skipped and what is not covered yet, and the judgement by it.
//!
//! Lines of the list: `uncovered SUITE REASON` (tests of that suite may fail or be skipped) and `skip PASS TEST REASON`
//! (that test, or with `SUITE.*` each of that suite, is skipped on that kind of disk; `*` for any). Every line has to be
//! needed.

use std::fmt;

use anyhow::{Context, Result, ensure};

use super::parse::{Test, Verdict};

#[derive(Debug)]
enum Entry {
    Uncovered { suite: String, reason: String },
    Skip { pass: String, test: String, reason: String },
}

impl Entry {
    fn parse(line: &str) -> Result<Self> {
        let (kind, rest) = line.split_once(' ').context("a line is: uncovered|skip ...")?;
        let word = |text: &str| -> Result<(String, String)> {
            let (word, rest) = text.trim_start().split_once(' ').context("the reason is missing")?;
            ensure!(!rest.trim().is_empty(), "the reason is missing");
            Ok((word.to_owned(), rest.trim().to_owned()))
        };
        match kind {
            "uncovered" => word(rest).map(|(suite, reason)| Self::Uncovered { suite, reason }),
            "skip" => {
                let (pass, rest) = word(rest)?;
                let (test, reason) = word(&rest)?;
                Ok(Self::Skip { pass, test, reason })
            }
            _ => anyhow::bail!("{kind} is neither uncovered nor skip"),
        }
    }

    fn covers(&self, pass: &str, test: &Test) -> bool {
        let suite = test.name.split('.').next().unwrap_or_default();
        match self {
            Self::Uncovered { suite: uncovered, .. } => uncovered == suite && test.verdict != Verdict::Passed,
            Self::Skip { pass: on, test: skipped, .. } => {
                test.verdict == Verdict::Skipped
                    && (on == "*" || on == pass)
                    && (*skipped == test.name || skipped.strip_suffix(".*") == Some(suite))
            }
        }
    }

    fn reason(&self) -> &str {
        match self {
            Self::Uncovered { reason, .. } | Self::Skip { reason, .. } => reason,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uncovered { suite, .. } => write!(f, "uncovered {suite}"),
            Self::Skip { pass, test, .. } => write!(f, "skip {pass} {test}"),
        }
    }
}

/// The parsed list.
#[derive(Debug)]
pub(super) struct Expectations(Vec<Entry>);

/// What a back-end's run is worth.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    pub(super) passed: u64,
    /// Excused tests with what the list says about them.
    excused: Vec<String>,
    /// What is wrong: failures, skips without a reason, lines that are no longer needed.
    pub(super) complaints: Vec<String>,
}

impl Expectations {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
        let entries = lines.map(|(number, line)| Entry::parse(line).with_context(|| format!("line {number}")));
        Ok(Self(entries.collect::<Result<_>>()?))
    }

    /// Holds what the tests did against the list; `complete` when all tests ran, so that every line must be of use.
    pub(super) fn judge(&self, tests: &[(&str, Test)], complete: bool) -> Judgement {
        let mut judgement = Judgement::default();
        for (pass, test) in tests {
            let (name, remark) = (&test.name, &test.remark);
            let excuse = self.0.iter().find(|entry| entry.covers(pass, test));
            match (test.verdict, excuse) {
                (Verdict::Passed, _) => judgement.passed += 1,
                (Verdict::Skipped, Some(entry)) => {
                    judgement.excused.push(format!("skipped    {pass:<10}{name:<44}{}", entry.reason()));
                }
                (Verdict::Failed, Some(entry)) => {
                    judgement.excused.push(format!("uncovered  {pass:<10}{name:<44}{}", entry.reason()));
                }
                (Verdict::Skipped, None) => {
                    judgement.complaints.push(format!("SKIPPED    {pass:<10}{name:<44}{remark}"));
                }
                (Verdict::Failed, None) => {
                    judgement.complaints.push(format!("FAILED     {pass:<10}{name:<44}{remark}"));
                }
            }
        }
        let useless = |entry: &&Entry| complete && !tests.iter().any(|(pass, test)| entry.covers(pass, test));
        let useless =
            self.0.iter().filter(useless).map(|entry| format!("this line of the list is not needed: {entry}"));
        judgement.complaints.extend(useless);
        judgement
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.excused.iter().chain(&self.complaints).try_for_each(|line| writeln!(f, "  {line}"))
    }
}

#[cfg(test)]
mod judging {
    use super::*;

    const LIST: &str = "\
# comment
uncovered ExtendedCopy a later capability
skip disk PreventAllow.* the disk is not removable
";

    fn test(name: &str, verdict: Verdict) -> Test {
        Test { name: name.to_owned(), verdict, remark: "why".to_owned() }
    }

    fn complaints(tests: &[(&str, Test)]) -> Vec<String> {
        let complaints = Expectations::parse(LIST).unwrap().judge(tests, true).complaints;
        complaints.into_iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn listed_failures_and_skips_are_excused_and_printed() {
        let tests = [
            ("disk", test("ExtendedCopy.Simple", Verdict::Failed)),
            ("disk", test("PreventAllow.Eject", Verdict::Skipped)),
            ("removable", test("PreventAllow.Eject", Verdict::Passed)),
        ];
        let judgement = Expectations::parse(LIST).unwrap().judge(&tests, true);
        assert_eq!((judgement.passed, judgement.excused.len()), (1, 2));
        assert_eq!(judgement.complaints, Vec::<String>::new());
    }

    #[test]
    fn everything_else_is_a_complaint() {
        let tests = [
            ("disk", test("ExtendedCopy.Simple", Verdict::Skipped)),
            ("disk", test("PreventAllow.Eject", Verdict::Failed)),
            ("removable", test("PreventAllow.Eject", Verdict::Skipped)),
            ("disk", test("Read10.Simple", Verdict::Failed)),
        ];
        assert_eq!(
            complaints(&tests),
            [
                "FAILED disk PreventAllow.Eject why",
                "SKIPPED removable PreventAllow.Eject why",
                "FAILED disk Read10.Simple why",
                "this line of the list is not needed: skip disk PreventAllow.*",
            ]
        );
    }

    #[test]
    fn a_line_without_a_reason_is_refused() {
        for text in ["uncovered ExtendedCopy", "skip disk Read10.Simple", "excuse Read10 because"] {
            assert!(Expectations::parse(text).is_err(), "{text}");
        }
    }
}
