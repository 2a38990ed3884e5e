//! `scst.conf`: a parser that says where and what is wrong, a plain model, a writer, and the difference of two models.
//!
//! Called by `apps/scstd` (start, `--check`, reload) and, later, by the management tree's "write configuration". The
//! way of a file is [`syntax`] (words and blocks with positions) -> [`model::Configuration`] (checked against the
//! attribute tables of [`rules`]) -> [`difference::difference`] against what is applied -> one [`Change`] at a time.
//!
//! * [`parse`]: text to [`Configuration`], or every [`Diagnostic`] with line, column, excerpt and remedy.
//! * [`Configuration`]: devices, target drivers, targets, groups, LUNs; its `Display` writes the canonical file.
//! * [`rules`]: name, values, default and meaning of every attribute; the manual page is checked against it.
//!
//! It opens no file, knows no handler and no target driver, and never changes anything by itself. How patterns match and
//! addresses are written it has from where they are used: `scst_core::config::pattern`, `scst_protocol_iscsi::address`.
#![forbid(unsafe_code)]

pub mod diagnostic;
pub mod difference;
mod doubts;
mod lower;
pub mod model;
pub mod names;
pub mod rules;
pub mod syntax;
pub mod value;
mod writer;

pub use diagnostic::{Diagnostic, Invalid, Severity};
pub use difference::{Change, difference};
pub use model::{Attributes, Configuration, Device, Driver, DriverKind, Group, HandlerKind, Lun, Target};

/// The longest file that is read: some 100,000 LUNs.
pub const MAX_FILE_BYTES: usize = 16 << 20;
/// Blocks in blocks; the grammar needs four.
pub const MAX_DEPTH: usize = 8;
/// The longest word (a path, a secret, a name).
pub const MAX_WORD_BYTES: usize = 4096;
/// More errors (and warnings) than this are only counted: the first ones say enough.
pub const MAX_FINDINGS: usize = 50;

/// Writes a number of things: "1 device", "2 devices".
pub fn counted(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// A file that is fit to be applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parsed {
    /// What it says.
    pub configuration: Configuration,
    /// What its author should look at.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a configuration. `file` is only a name for messages.
///
/// # Errors
/// All that is wrong with it, in the order of the file.
pub fn parse(file: &str, text: &[u8]) -> Result<Parsed, Invalid> {
    let (configuration, diagnostics, errors) = read(file, text);
    if errors > 0 {
        return Err(Invalid { file: file.to_owned(), errors, diagnostics });
    }
    Ok(Parsed { configuration, warnings: diagnostics })
}

/// Reads a configuration as far as it can be read, together with the findings and the number of errors.
pub fn read(file: &str, text: &[u8]) -> (Configuration, Vec<Diagnostic>, usize) {
    let mut found = diagnostic::Collector::new(file, text);
    let mut configuration = Configuration::default();
    if let Some(items) = syntax::parse(&mut found) {
        configuration = lower::lower(&items, &mut found);
    }
    let (diagnostics, errors) = found.finish();
    (configuration, diagnostics, errors)
}
