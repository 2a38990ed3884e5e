//! The licences of all dependencies against the list in `deny.toml`.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{self, cargo};

/// Complaints about dependencies whose licence is not on the list.
pub(crate) fn check() -> Result<Vec<String>> {
    let deny = fs::read_to_string(cargo::root().join("deny.toml"))?;
    let allowed = allowed(&deny).context("deny.toml lists no licences in one line `allow = [...]`")?;
    let mut tree = cargo(&["tree", "--workspace", "--prefix", "none", "--edges", "normal,build,dev"]);
    let listing = cargo::output(tree.args(["--all-features", "--format", "{p}|{l}"]))?;
    let packages: BTreeSet<_> =
        listing.lines().filter_map(|line| line.trim_end_matches(" (*)").split_once('|')).collect();
    ensure!(!packages.is_empty(), "cargo tree shows no package");
    let complaints = packages.iter().filter_map(|(package, licence)| match permits(licence, &allowed) {
        Ok(true) => None,
        Ok(false) => Some(format!("{package}: the licence {licence:?} is not on the list in deny.toml")),
        Err(error) => Some(format!("{package}: the licence {licence:?} cannot be read: {error}")),
    });
    Ok(complaints.collect())
}

fn allowed(deny: &str) -> Option<BTreeSet<&str>> {
    let list = deny.lines().find_map(|line| line.strip_prefix("allow = [")?.strip_suffix(']'))?;
    Some(list.split(',').map(|entry| entry.trim().trim_matches('"')).collect())
}

/// Whether an SPDX expression can be satisfied with allowed licences alone. (A slash is an older way to write OR.)
fn permits(expression: &str, allowed: &BTreeSet<&str>) -> Result<bool> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<_> = spaced.split_whitespace().collect();
    let mut parser = Parser { tokens: &tokens, allowed };
    let verdict = parser.alternatives()?;
    ensure!(parser.tokens.is_empty(), "{:?} is left over", parser.tokens);
    Ok(verdict)
}

struct Parser<'a> {
    tokens: &'a [&'a str],
    allowed: &'a BTreeSet<&'a str>,
}

impl Parser<'_> {
    fn take(&mut self, wanted: &str) -> bool {
        let found = self.tokens.first() == Some(&wanted);
        if found {
            self.tokens = &self.tokens[1..];
        }
        found
    }

    fn alternatives(&mut self) -> Result<bool> {
        let mut verdict = self.conjunction()?;
        while self.take("OR") {
            verdict |= self.conjunction()?;
        }
        Ok(verdict)
    }

    fn conjunction(&mut self) -> Result<bool> {
        let mut verdict = self.licence()?;
        while self.take("AND") {
            verdict &= self.licence()?;
        }
        Ok(verdict)
    }

    fn licence(&mut self) -> Result<bool> {
        if self.take("(") {
            let verdict = self.alternatives()?;
            ensure!(self.take(")"), "a parenthesis is not closed");
            return Ok(verdict);
        }
        let Some((name, rest)) = self.tokens.split_first() else { bail!("it ends too early") };
        self.tokens = rest;
        if self.take("WITH") {
            let Some((exception, rest)) = self.tokens.split_first() else { bail!("it ends too early") };
            self.tokens = rest;
            return Ok(self.allowed.contains(format!("{name} WITH {exception}").as_str()));
        }
        Ok(self.allowed.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(expression: &str) -> Option<bool> {
        let allowed = BTreeSet::from(["MIT", "Apache-2.0", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"]);
        permits(expression, &allowed).ok()
    }

    #[test]
    fn one_allowed_alternative_is_enough_but_all_parts_of_it_are_needed() {
        assert_eq!(verdict("MIT"), Some(true));
        assert_eq!(verdict("GPL-2.0-only"), Some(false));
        assert_eq!(verdict("GPL-2.0-only OR MIT"), Some(true));
        assert_eq!(verdict("Zlib/MIT"), Some(true));
        assert_eq!(verdict("MIT AND GPL-2.0-only"), Some(false));
        assert_eq!(verdict("(MIT OR GPL-2.0-only) AND Unicode-3.0"), Some(true));
        assert_eq!(verdict("Apache-2.0 WITH LLVM-exception"), Some(true));
        assert_eq!(verdict("MIT WITH LLVM-exception"), Some(false));
    }

    #[test]
    fn nonsense_is_no_licence() {
        assert_eq!(verdict(""), None);
        assert_eq!(verdict("(MIT"), None);
        assert_eq!(verdict("MIT MIT"), None);
    }

    #[test]
    fn the_list_comes_from_deny_toml() {
        let deny = "[licenses]\nallow = [\"MIT\", \"ISC\"]\n";
        assert_eq!(allowed(deny), Some(BTreeSet::from(["ISC", "MIT"])));
    }
}
