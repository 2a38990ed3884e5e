//! Reads the output of `iscsi-test-cu`.

/// What a test did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Passed,
    Failed,
    /// At least a part of it was left out, although the tool says "passed".
    Skipped,
}

/// One test of the tool.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Test {
    /// `Suite.Test`.
    pub(super) name: String,
    pub(super) verdict: Verdict,
    /// What the tool says about a failure or a skip, first line of it.
    pub(super) remark: String,
}

/// All tests in the order they ran.
///
/// The shape is `Suite: S`, then per test `  Test: T ...`, lines of chatter among which `[SKIPPED]` and `[FAILED]` count,
/// and a line that begins with `passed` or `FAILED`. A test without such a line broke off, and so failed.
pub(super) fn tests(text: &str) -> Vec<Test> {
    let mut tests = Vec::new();
    let mut suite = "";
    let mut open: Option<Test> = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("Suite: ") {
            tests.extend(open.take());
            suite = name.trim();
            continue;
        }
        let mut rest = line;
        if let Some((name, first)) = line.strip_prefix("  Test: ").and_then(|line| line.split_once(" ...")) {
            tests.extend(open.take());
            open = Some(Test {
                name: format!("{suite}.{name}"),
                verdict: Verdict::Failed,
                remark: "the tool broke off".to_owned(),
            });
            rest = first;
        }
        let Some(test) = &mut open else {
            explain(tests.last_mut(), line);
            continue;
        };
        if test.take(rest) {
            tests.extend(open.take());
        }
    }
    tests.extend(open);
    tests
}

/// After the end of a failed test come its assertions; the first is better than no remark.
fn explain(last: Option<&mut Test>, line: &str) {
    let silent = last.filter(|test| test.verdict == Verdict::Failed && test.remark.is_empty());
    if let (Some(test), Some(assertion)) = (silent, line.trim_start().strip_prefix("1. ")) {
        test.remark = assertion.to_owned();
    }
}

impl Test {
    /// Takes up one piece of output; true when it ends the test.
    fn take(&mut self, line: &str) -> bool {
        let remarked = self.verdict == Verdict::Skipped || self.remark.starts_with("[FAILED]");
        if let Some(at) = line.find("[SKIPPED]") {
            self.verdict = Verdict::Skipped;
            self.remark = line[at + "[SKIPPED]".len()..].trim().to_owned();
        } else if let Some(at) = line.find("[FAILED]").filter(|_| !remarked) {
            self.remark = line[at..].trim().to_owned();
        } else if line.starts_with("FAILED") {
            self.verdict = Verdict::Failed;
            if !remarked {
                self.remark.clear();
            }
            return true;
        } else if line.starts_with("passed") {
            if self.verdict != Verdict::Skipped {
                self.verdict = Verdict::Passed;
                self.remark.clear();
            }
            return true;
        }
        false
    }
}

#[cfg(test)]
mod parsing {
    use super::*;

    fn of(text: &str) -> Vec<(String, Verdict, String)> {
        tests(text).into_iter().map(|test| (test.name, test.verdict, test.remark)).collect()
    }

    #[test]
    fn a_skip_is_no_pass_whatever_the_tool_says() {
        let text = "\
Suite: CompareAndWrite
  Test: Simple ...
    Send COMPAREANDWRITE (Expecting SUCCESS) LBA:0 LEN:1024 WRPROTECT:0
    [SKIPPED] COMPAREANDWRITE is not implemented.
    [SKIPPED] COMPAREANDWRITE is not implemented.
passed
  Test: InvalidDataOutSize ...    [SKIPPED] Logical unit is fully provisioned. Skipping test
passed    Send PRIN/READ_KEYS
";
        assert_eq!(
            of(text),
            [
                (
                    "CompareAndWrite.Simple".to_owned(),
                    Verdict::Skipped,
                    "COMPAREANDWRITE is not implemented.".to_owned()
                ),
                (
                    "CompareAndWrite.InvalidDataOutSize".to_owned(),
                    Verdict::Skipped,
                    "Logical unit is fully provisioned. Skipping test".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn passes_and_failures_are_found_on_either_kind_of_line() {
        let text = "\
Suite: Read16
  Test: Simple ...passed
  Test: BeyondEol ...    [FAILED] READ16 failed with wrong sense.
    [FAILED] again

FAILED
    1. test_read16_beyond_eol.c:51  - CU_ASSERT_EQUAL(_r,0)

Suite: Write10
  Test: DpoFua ...passed
";
        assert_eq!(
            of(text),
            [
                ("Read16.Simple".to_owned(), Verdict::Passed, String::new()),
                ("Read16.BeyondEol".to_owned(), Verdict::Failed, "[FAILED] READ16 failed with wrong sense.".to_owned()),
                ("Write10.DpoFua".to_owned(), Verdict::Passed, String::new()),
            ]
        );
    }

    #[test]
    fn a_failure_without_a_word_is_explained_by_its_first_assertion() {
        let text = "\
Suite: iSCSIdatasn
  Test: iSCSIDataSnInvalid ...
    Send WRITE10

FAILED
    1. test_iscsi_datasn_invalid.c:97  - CU_ASSERT_EQUAL(ret,0)
    2. test_iscsi_datasn_invalid.c:99  - CU_ASSERT_EQUAL(ret,0)
";
        let assertion = "test_iscsi_datasn_invalid.c:97  - CU_ASSERT_EQUAL(ret,0)".to_owned();
        assert_eq!(of(text), [("iSCSIdatasn.iSCSIDataSnInvalid".to_owned(), Verdict::Failed, assertion)]);
    }

    #[test]
    fn a_test_without_an_end_has_failed() {
        let text = "Suite: Read16\n  Test: Simple ...\n    Send READ16\n";
        assert_eq!(of(text), [("Read16.Simple".to_owned(), Verdict::Failed, "the tool broke off".to_owned())]);
    }
}
