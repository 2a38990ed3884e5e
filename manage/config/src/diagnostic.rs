//! What is wrong in a file: position, object, value, remedy, and the line itself with a caret.

use std::fmt;

use thiserror::Error;

use crate::{MAX_FINDINGS, counted};

/// A place in the file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub from: usize,
    /// Offset after the last byte.
    pub to: usize,
    /// Line of the first byte, from 1.
    pub line: u32,
    /// Column of the first byte in characters, from 1.
    pub column: u32,
}

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// The file can be applied, perhaps not as its author thinks.
    Warning,
    /// The file is not applied.
    Error,
}

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Name of the file.
    pub file: String,
    /// Where.
    pub span: Span,
    /// The object concerned, as `TARGET iqn.2026-01.example:a, LUN 3`; empty outside all objects.
    pub object: String,
    /// What is wrong, with the value.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// The line, for the excerpt.
    pub excerpt: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{}:{}:{}: {word}: ", self.file, self.span.line, self.span.column)?;
        if !self.object.is_empty() {
            write!(f, "{}: ", self.object)?;
        }
        write!(f, "{}", self.message)?;
        if !self.excerpt.is_empty() {
            let number = self.span.line.to_string();
            let before: String =
                self.excerpt.chars().take((self.span.column as usize).saturating_sub(1)).map(blank).collect();
            let rest = self.excerpt.chars().count().saturating_sub(before.chars().count()).max(1);
            let carets = "^".repeat((self.span.to - self.span.from).clamp(1, rest));
            write!(f, "\n  {number} | {}\n  {} | {before}{carets}", self.excerpt, " ".repeat(number.len()))?;
        }
        if !self.remedy.is_empty() {
            write!(f, "\n  = {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Keeps tabs, so that the caret stands under its word.
fn blank(c: char) -> char {
    if c == '\t' { '\t' } else { ' ' }
}

/// A file that cannot be applied.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub struct Invalid {
    /// Name of the file.
    pub file: String,
    /// How many errors there are.
    pub errors: usize,
    /// The findings, errors and warnings, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.diagnostics {
            writeln!(f, "{diagnostic}")?;
        }
        write!(f, "{}: {}", self.file, counted(self.errors, "error"))
    }
}

/// Collects findings while a file is read.
#[derive(Debug)]
pub(crate) struct Collector<'a> {
    file: &'a str,
    text: &'a [u8],
    found: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
    /// The last finding is among `found`, not only counted.
    kept: bool,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(file: &'a str, text: &'a [u8]) -> Self {
        Self { file, text, found: Vec::new(), errors: 0, warnings: 0, kept: false }
    }

    pub(crate) fn text(&self) -> &'a [u8] {
        self.text
    }

    pub(crate) fn error(&mut self, span: Span, object: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Error, span, object, message.into(), remedy.into());
    }

    pub(crate) fn warning(&mut self, span: Span, object: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warning, span, object, message.into(), remedy.into());
    }

    /// The last finding is about a line with a secret: do not repeat the line.
    pub(crate) fn hide_line(&mut self) {
        if let Some(last) = self.found.last_mut().filter(|_| self.kept) {
            last.excerpt.clear();
        }
    }

    fn add(&mut self, severity: Severity, span: Span, object: &str, message: String, remedy: String) {
        let count = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        *count += 1;
        // A hostile file has as many errors as bytes; past the limit only the count is of interest.
        self.kept = *count <= MAX_FINDINGS;
        if !self.kept {
            return;
        }
        let excerpt = self.line_at(span.from);
        let (file, object) = (self.file.to_owned(), object.to_owned());
        self.found.push(Diagnostic { severity, file, span, object, message, remedy, excerpt });
    }

    /// The line that holds the byte at `offset`, unless it is unreasonably long.
    fn line_at(&self, offset: usize) -> String {
        let offset = offset.min(self.text.len());
        let from = self.text[..offset].iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1);
        let to = self.text[offset..].iter().position(|b| *b == b'\n').map_or(self.text.len(), |p| offset + p);
        if to - from > 400 {
            return String::new();
        }
        let line = String::from_utf8_lossy(&self.text[from..to]).trim_end().to_owned();
        line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
    }

    /// Whether one more error would only be counted.
    pub(crate) fn is_full(&self) -> bool {
        self.errors >= MAX_FINDINGS
    }

    /// The findings in the order of the file, and how many errors there are in all.
    pub(crate) fn finish(mut self) -> (Vec<Diagnostic>, usize) {
        self.found.sort_by_key(|d| d.span.from);
        (self.found, self.errors)
    }
}
