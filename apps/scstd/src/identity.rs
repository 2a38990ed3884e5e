//! What goes into default serial numbers and identifiers to tell this installation from others.
//!
//! Two machines with a device of the same name must not look like two paths to one disk. So the identity is `setup_id`
//! where the operator chose one, else that of the machine; a machine without one (a container) gets one of its own, kept
//! in the state directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use scst_config::Attributes;

use crate::state;

/// Where the machine keeps its identity (machine-id(5)).
pub const MACHINE_ID: &str = "/etc/machine-id";
/// Name of the file in the state directory.
pub const FILE: &str = "machine-id";

/// The identity that the operator chose with `setup_id`.
pub fn chosen(globals: &Attributes) -> Option<String> {
    globals.number("setup_id").filter(|id| *id != 0).map(|id| format!("{id:x}"))
}

/// The identity in a file. machine-id(5): a system that boots for the first time has "uninitialized" there.
fn read(file: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|id| !id.is_empty() && id != "uninitialized")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The identity of the machine: what was made earlier and kept in `state`, else what `machine_id` says, else a new one.
///
/// # Errors
/// A file is there but cannot be read, or a new identity cannot be kept.
pub fn of_machine(machine_id: &Path, state: &Path) -> Result<String> {
    let kept = state.join(FILE);
    if let Some(id) = known(machine_id, &kept)? {
        return Ok(id);
    }
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random bytes: {error}"))?;
    let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    state::make(&kept, |file| io::Write::write_all(file, format!("{id}\n").as_bytes()))
        .with_context(|| format!("cannot make {}", kept.display()))?;
    tracing::info!("this machine has no identity; one is kept in {} from now on", kept.display());
    // Another daemon may have been first.
    let kept_id = read(&kept).with_context(|| format!("cannot read {}", kept.display()))?;
    kept_id.ok_or_else(|| anyhow!("{} is empty; remove it", kept.display()))
}

fn known(machine_id: &Path, kept: &Path) -> Result<Option<String>> {
    for file in [kept, machine_id] {
        if let Some(id) = read(file).with_context(|| format!("cannot read {}", file.display()))? {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Whether the machine has an identity, or one was made for it in one of the directories.
pub fn is_known(machine_id: &Path, directories: &[PathBuf]) -> bool {
    let files = directories.iter().map(|directory| directory.join(FILE)).chain([machine_id.to_owned()]);
    files.into_iter().any(|file| matches!(read(&file), Ok(Some(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_an_identity_gets_one_and_keeps_it() {
        let directory = tempfile::tempdir().unwrap();
        let machine_id = directory.path().join("etc");
        let state = |name: &str| {
            let state = directory.path().join(name);
            fs::create_dir_all(&state).unwrap();
            state
        };
        let a = of_machine(&machine_id, &state("a")).unwrap();
        assert_eq!((a.len(), a.bytes().all(|b| b.is_ascii_hexdigit())), (32, true), "{a}");
        assert_ne!(of_machine(&machine_id, &state("b")).unwrap(), a, "another container is another machine");
        for text in ["", "uninitialized\n", "0123456789abcdef0123456789abcdef\n"] {
            fs::write(&machine_id, text).unwrap();
            assert_eq!(of_machine(&machine_id, &state("a")).unwrap(), a, "initiators know the disks by it: {text:?}");
        }
        assert_eq!(of_machine(&machine_id, &state("c")).unwrap(), "0123456789abcdef0123456789abcdef");
        assert!(!state("c").join(FILE).exists());
        fs::write(&machine_id, "uninitialized\n").unwrap();
        assert_ne!(of_machine(&machine_id, &state("d")).unwrap(), "uninitialized");
    }

    #[test]
    fn an_identity_that_cannot_be_kept_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        let error = of_machine(&missing, &missing).unwrap_err().to_string();
        assert_eq!(error, format!("cannot make {}", missing.join(FILE).display()));
    }
}
