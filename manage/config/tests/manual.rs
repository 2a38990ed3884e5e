//! scst.conf(5) and the examples against the attribute tables and the parser.

use std::fs;
use std::path::{Path, PathBuf};

use scst_config::rules::{self, Support};
use scst_config::{HandlerKind, parse};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The page as plain text lines: roff escapes undone.
fn page() -> Vec<String> {
    let text = fs::read_to_string(root().join("docs/man/scst.conf.5")).unwrap();
    text.lines().map(|l| l.replace("\\-", "-").replace("\\e", "\\")).collect()
}

#[test]
fn every_attribute_is_in_the_manual_page_with_its_default() {
    let page = page();
    let mut missing = Vec::new();
    for (place, table) in rules::ALL {
        for rule in rules::rows(table) {
            let heads = [format!(".BI {} \"", rule.name), format!(".B {}", rule.name)];
            let mut entries = page.iter().enumerate().filter(|(_, l)| {
                l.starts_with(&heads[0]) || **l == heads[1] || l.starts_with(&format!("{} (", heads[1]))
            });
            let explained = entries.any(|(at, head)| match rule.support {
                Support::Works if rule.default.is_empty() => page[at + 1].starts_with(rule.help),
                Support::Works => {
                    page[at + 1].starts_with(rule.help)
                        && page[at + 1].ends_with(&format!("Default: {}.", rule.default))
                }
                Support::NoEffect(why) | Support::Refused(why) => page[at + 1].starts_with(why),
                Support::OnlyDefault(why) => head.contains(rule.default) && page[at + 1].starts_with(why),
            });
            if !explained {
                missing.push(format!("{place}: {}", rule.name));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn handlers_are_in_the_manual_page() {
    let page = page().join("\n");
    for handler in HandlerKind::ALL {
        assert!(page.contains(handler.name()), "{}", handler.name());
    }
}

#[test]
fn the_examples_are_good_and_draw_no_warning() {
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("examples")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 4);
    for file in files {
        let parsed = parse(&file.display().to_string(), &fs::read(&file).unwrap()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(parsed.warnings, [], "{}", file.display());
    }
}

#[test]
fn the_configurations_in_readme_and_manual_are_good() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let block = readme.split("```\n").find(|b| b.starts_with("HANDLER")).unwrap();
    parse("README.md", block.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
    let page = page().join("\n");
    let example = page.split(".SH EXAMPLE\n.EX\n").nth(1).unwrap().split(".EE").next().unwrap();
    let parsed = parse("scst.conf.5", example.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(parsed.configuration.drivers.len(), 1);
}
