//! The arrows of the architecture: which crate may depend on which.
//!
//! apps > manage > targets, handlers > runtime > protocols > core; nothing but dev/ depends on dev/, except that tests
//! may use dev/testkit.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{self, cargo};
use crate::stage::Tally;
use crate::{licences, style};

/// All rules of the project's own that need no compiler.
pub(crate) fn stage() -> Result<Tally> {
    let mut tally = Tally::default();
    for (name, complaints) in
        [("dependencies", check()?), ("licences", licences::check()?), ("source files", style::check()?)]
    {
        for complaint in &complaints {
            println!("{complaint}");
        }
        println!("{name}: {} complaints", complaints.len());
        tally.count(complaints.is_empty());
    }
    Ok(tally)
}

/// A dependency between two crates of the workspace, by folder (`core/scsi`).
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Edge {
    from: String,
    to: String,
    /// Only tests need it.
    test: bool,
}

fn check() -> Result<Vec<String>> {
    let mut edges = edges("normal,build", false)?;
    edges.extend(self::edges("dev", true)?);
    ensure!(!edges.is_empty(), "cargo tree shows no dependency between crates of the workspace");
    Ok(edges.iter().filter_map(|edge| complaint(edge).err()).map(|error| error.to_string()).collect())
}

fn edges(kinds: &str, test: bool) -> Result<BTreeSet<Edge>> {
    let mut tree = cargo(&["tree", "--workspace", "--depth", "1", "--prefix", "depth", "--format", "{p}"]);
    let listing = cargo::output(tree.args(["--all-features", "--edges", kinds]))?;
    parse_tree(&listing, cargo::root(), test)
}

/// Reads lines like `0scst-core v0.1.0 (/root/of/workspace/core/scst)`, each followed by its dependencies with a 1.
fn parse_tree(listing: &str, root: &Path, test: bool) -> Result<BTreeSet<Edge>> {
    let mut edges = BTreeSet::new();
    let mut from = None;
    for line in listing.lines() {
        let Some(folder) = line.split_once(" (").and_then(|(_, rest)| rest.split_once(')')).map(|(path, _)| path)
        else {
            continue; // from the registry
        };
        let Ok(folder) = Path::new(folder).strip_prefix(root) else { continue };
        let folder = folder.to_string_lossy().into_owned();
        if line.starts_with('0') {
            from = Some(folder);
        } else {
            let from = from.clone().context("cargo tree begins with a dependency")?;
            edges.insert(Edge { from, to: folder, test });
        }
    }
    Ok(edges)
}

/// The height of a layer; `None` for dev, which stands beside them.
fn height(layer: &str) -> Result<Option<u32>> {
    Ok(match layer {
        "core" => Some(0),
        "protocols" => Some(1),
        "runtime" => Some(2),
        "handlers" | "targets" => Some(3),
        "manage" => Some(4),
        "apps" => Some(5),
        "dev" => None,
        _ => bail!("{layer}/ is no layer of the architecture"),
    })
}

fn complaint(edge: &Edge) -> Result<()> {
    let Edge { from, to, test } = edge;
    let (upper, lower) = (from.split('/').next().unwrap_or(from), to.split('/').next().unwrap_or(to));
    let (above, below) = match (height(upper)?, height(lower)?) {
        (None, _) => return Ok(()),
        (Some(_), None) => {
            ensure!(
                *test && to == "dev/testkit",
                "{from} depends on {to}: dev/ is for dev/, and dev/testkit for tests"
            );
            return Ok(());
        }
        (Some(above), Some(below)) => (above, below),
    };
    ensure!(above >= below, "{from} depends on {to}: {lower}/ lies above {upper}/");
    let strangers = ["targets", "handlers"].contains(&upper) && above == below;
    ensure!(!strangers || *test, "{from} depends on {to}: target drivers and handlers do not know each other");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(from: &str, to: &str, test: bool) -> bool {
        complaint(&Edge { from: from.to_owned(), to: to.to_owned(), test }).is_ok()
    }

    #[test]
    fn arrows_point_down() {
        assert!(allowed("apps/scstd", "manage/config", false));
        assert!(allowed("targets/iscsi", "runtime/reactor", false));
        assert!(allowed("core/cmdset", "core/scsi", false));
        assert!(!allowed("core/scst", "runtime/mem", false));
        assert!(!allowed("protocols/iscsi", "targets/iscsi", false));
        assert!(!allowed("runtime/mem", "handlers/vdisk", true));
    }

    #[test]
    fn drivers_and_handlers_are_strangers() {
        assert!(!allowed("targets/iscsi", "handlers/vdisk", false));
        assert!(!allowed("handlers/vdisk", "targets/iscsi", false));
        assert!(!allowed("targets/iser", "targets/iscsi", false));
    }

    #[test]
    fn only_tests_use_the_testkit_and_nothing_else_of_dev() {
        assert!(allowed("targets/iscsi", "dev/testkit", true));
        assert!(!allowed("targets/iscsi", "dev/testkit", false));
        assert!(!allowed("targets/iscsi", "dev/sim", true));
        assert!(allowed("dev/sim", "apps/scstd", false));
    }

    #[test]
    fn a_folder_outside_the_layers_is_refused() {
        assert!(!allowed("utils/misc", "core/scsi", false));
    }

    #[test]
    fn reads_what_cargo_tree_prints() {
        let listing = "0scst-core v0.1.0 (/w/core/scst)\n1bitflags v2.13.2\n1scst-scsi v0.1.0 (/w/core/scsi) (*)\n\n";
        let edges = parse_tree(listing, Path::new("/w"), false).unwrap();
        let edge = Edge { from: "core/scst".to_owned(), to: "core/scsi".to_owned(), test: false };
        assert_eq!(edges.into_iter().collect::<Vec<_>>(), [edge]);
    }
}
