//! Rules for source files that neither rustfmt nor clippy knows.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::cargo;

/// A file is one idea; one that is longer than this holds several.
const LONGEST_FILE: usize = 900;

/// Where `unsafe` may stand: where memory is shared with the kernel, devices or other processes.
const UNSAFE_FOLDERS: &[&str] = &["runtime/", "targets/vhost-user/", "targets/local/", "handlers/user/", "dev/"];

/// What promises work instead of doing it, or hides it.
const PROMISES: &[&str] = &["todo!(", "unimplemented!(", "#[ignore", "allow(dead_code)", "FIXME", "XXX"];

/// Complaints about the workspace's own source files.
pub(crate) fn check() -> Result<Vec<String>> {
    let mut files = Vec::new();
    for layer in ["apps", "core", "dev", "handlers", "manage", "protocols", "runtime", "targets"] {
        collect(&cargo::root().join(layer), &mut files)?;
    }
    ensure!(!files.is_empty(), "there are no source files");
    let mut complaints = Vec::new();
    for file in &files {
        let name = file.strip_prefix(cargo::root())?.to_string_lossy();
        complaints.extend(complaints_about(&name, &fs::read_to_string(file)?));
    }
    Ok(complaints)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

fn complaints_about(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let lines = text.lines().count();
    if lines > LONGEST_FILE {
        complaints.push(format!("{name}: {lines} lines, more than {LONGEST_FILE}"));
    }
    // The list of promises is none.
    let own = name == "dev/xtask/src/style.rs";
    let may_be_unsafe = UNSAFE_FOLDERS.iter().any(|folder| name.starts_with(folder));
    for (number, line) in (1..).zip(text.lines()) {
        for promise in PROMISES.iter().filter(|promise| !own && line.contains(**promise)) {
            complaints.push(format!("{name}:{number}: {promise}"));
        }
        let code = line.split("//").next().unwrap_or(line);
        if !may_be_unsafe && is_unsafe(code) {
            complaints.push(format!("{name}:{number}: unsafe code outside {}", UNSAFE_FOLDERS.join(", ")));
        }
    }
    complaints
}

/// Whether a line holds unsafe code or allows it; to forbid it is welcome anywhere.
fn is_unsafe(code: &str) -> bool {
    let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.any(|word| word == "unsafe") || code.contains("allow(unsafe_code") || code.contains("expect(unsafe_code")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complains_about_promises_and_misplaced_unsafe_code() {
        let text = "fn f() {\n    todo!()\n}\nunsafe fn g() {} // unsafe\n#![allow(unsafe_code)]\n// unsafe to say\n#![forbid(unsafe_code)]\n";
        let place = UNSAFE_FOLDERS.join(", ");
        assert_eq!(
            complaints_about("core/scsi/src/lib.rs", text),
            [
                "core/scsi/src/lib.rs:2: todo!(".to_owned(),
                format!("core/scsi/src/lib.rs:4: unsafe code outside {place}"),
                format!("core/scsi/src/lib.rs:5: unsafe code outside {place}"),
            ]
        );
        assert_eq!(complaints_about("runtime/mem/src/lib.rs", "unsafe fn g() {}"), Vec::<String>::new());
    }

    #[test]
    fn complains_about_long_files() {
        let text = "\n".repeat(LONGEST_FILE + 1);
        assert_eq!(complaints_about("core/a.rs", &text), ["core/a.rs: 901 lines, more than 900"]);
        assert_eq!(complaints_about("core/a.rs", &text[1..]), Vec::<String>::new());
    }
}
