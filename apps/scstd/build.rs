//! Puts the commit into the version, if this is a checkout and git is there; a source archive has no commit.

use std::path::Path;
use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// The commit that is checked out. An archive that was unpacked inside the checkout of something else has none.
fn commit() -> Option<String> {
    git(&["ls-files", "--error-unmatch", "Cargo.toml"])?;
    // The files that change when another commit is checked out, or a new one made.
    for name in ["HEAD".to_owned(), "packed-refs".to_owned()].into_iter().chain(git(&["symbolic-ref", "-q", "HEAD"])) {
        let file = git(&["rev-parse", "--git-path", &name])?;
        if Path::new(&file).exists() {
            println!("cargo::rerun-if-changed={file}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let commit = commit().map_or_else(String::new, |commit| format!(" ({commit})"));
    println!("cargo::rustc-env=SCSTD_VERSION={}{commit}", env!("CARGO_PKG_VERSION"));
}
