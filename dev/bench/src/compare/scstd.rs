//! Configurations of scstd, and its instances. What a build does not know yet is left out and said.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use scst_testkit::{Scstd, ScstdOptions};

use super::CompareOptions;
use super::contenders::{Contender, DISK_SIZE, Role, Way};

pub(super) const TARGET: &str = "iqn.2026-01.bench:scstd";
/// The first of the LUNs that belong to one connection each.
const PRIVATE: u32 = 100;
const PRIVATE_LUNS: u32 = 64;

/// A device and its LUN.
struct Device {
    role: Role,
    lun: u32,
    handler: &'static str,
    lines: String,
}

/// A configuration: global lines, devices.
pub(super) fn config(globals: &str, devices: &[(u32, &str, &str)]) -> String {
    let mut text = String::from(globals);
    let mut luns = String::new();
    // Writing into a String cannot fail.
    for (lun, handler, lines) in devices {
        let _ = writeln!(text, "HANDLER {handler} {{\n    DEVICE bench_{lun} {{\n{lines}    }}\n}}");
        let _ = writeln!(luns, "        LUN {lun} bench_{lun}");
    }
    let _ = writeln!(
        text,
        "TARGET_DRIVER iscsi {{\n    enabled 1\n    TARGET {TARGET} {{\n        enabled 1\n        \
         QueuedCommands 128\n        HeaderDigest CRC32C,None\n        DataDigest CRC32C,None\n{luns}    }}\n}}"
    );
    text
}

fn null() -> String {
    format!("        size {DISK_SIZE}\n")
}

/// The binary, and how it is started.
pub(super) struct Launcher<'a> {
    options: &'a CompareOptions,
    binary: PathBuf,
    pin: Vec<String>,
    directory: &'a Path,
}

impl<'a> Launcher<'a> {
    pub(super) fn new(options: &'a CompareOptions, pin: &[String], directory: &'a Path) -> Result<Self> {
        let binary = match &options.scstd {
            Some(path) => path.canonicalize().with_context(|| format!("--scstd {}", path.display()))?,
            None => built_scstd()?,
        };
        Ok(Self { options, binary, pin: pin.to_vec(), directory })
    }

    /// Whether this build takes a configuration; else the first line of what it says.
    fn check(&self, config: &str) -> Result<Result<(), String>> {
        let path = self.directory.join("check.conf");
        fs::write(&path, config)?;
        let output = Command::new(&self.binary).arg("--check").arg(&path).output().context("starting scstd")?;
        if output.status.success() {
            return Ok(Ok(()));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Ok(Err(said.lines().next().unwrap_or("it says nothing").to_owned()))
    }

    pub(super) fn start(&self, config: &str, reactors: usize) -> Result<Scstd> {
        let mut arguments = vec!["--reactors".to_owned(), reactors.to_string()];
        arguments.extend(self.options.scstd_arguments.iter().cloned());
        let launcher = self.pin.clone();
        Scstd::start_with(ScstdOptions { launcher, arguments, ..ScstdOptions::new(&self.binary, config)? })
    }

    /// The instances for the comparison and what they offer. `block` is a block device to use.
    pub(super) fn field(
        &self,
        file: &Path,
        block: Option<&Path>,
        skipped: &mut Vec<String>,
    ) -> Result<(Vec<Scstd>, Vec<Contender>)> {
        let mut devices = vec![
            Device { role: Role::ScstdNull, lun: 0, handler: "vdisk_nullio", lines: null() },
            file_device(Role::ScstdFile, 1, file, ""),
        ];
        let mut optional = vec![vec![file_device(Role::ScstdZeroCopy, 2, file, "        zero_copy_read 1\n")]];
        if let Some(block) = block {
            let lines = format!("        filename {}\n", block.display());
            let blockio = Device { role: Role::ScstdDirect, lun: 3, handler: "vdisk_blockio", lines };
            optional.push(vec![blockio, file_device(Role::ScstdDirect, 3, block, "        o_direct 1\n")]);
        }
        for ways in optional {
            let mut reasons = Vec::new();
            for device in ways {
                match self.check(&config("", &[(device.lun, device.handler, &device.lines)]))? {
                    Ok(()) => {
                        devices.push(device);
                        reasons.clear();
                        break;
                    }
                    Err(reason) => reasons.push(format!("{} ({}): {reason}", device.role.name(), device.handler)),
                }
            }
            skipped.append(&mut reasons);
        }
        devices.extend((PRIVATE..PRIVATE + PRIVATE_LUNS).map(|lun| Device {
            role: Role::ScstdPrivate,
            lun,
            handler: "vdisk_nullio",
            lines: null(),
        }));
        let list: Vec<_> = devices.iter().map(|one| (one.lun, one.handler, one.lines.as_str())).collect();
        let mut instances = vec![self.start(&config("poll_us 0\n", &list), 1)?];
        let mut contenders: Vec<Contender> = devices
            .iter()
            .filter(|one| one.lun <= PRIVATE)
            .map(|one| contender(one.role, one.lun, &instances[0]))
            .collect();
        let lines = null();
        let alone = [(0, "vdisk_nullio", lines.as_str())];
        let others = [
            (Role::ScstdTwo, "poll_us 0\n".to_owned(), 2),
            (Role::ScstdPoll, format!("poll_us {}\n", self.options.poll_us), 1),
        ];
        for (role, globals, reactors) in others {
            let instance = self.start(&config(&globals, &alone), reactors)?;
            contenders.push(contender(role, 0, &instance));
            instances.push(instance);
        }
        Ok((instances, contenders))
    }

    /// An instance with so many null LUNs.
    pub(super) fn with_luns(&self, luns: u32, reactors: usize) -> Result<Scstd> {
        let lines = null();
        let devices: Vec<_> = (0..luns).map(|lun| (lun, "vdisk_nullio", lines.as_str())).collect();
        self.start(&config("", &devices), reactors)
    }
}

fn contender(role: Role, lun: u32, scstd: &Scstd) -> Contender {
    Contender { role, way: Way::Iscsi { portal: scstd.portal(), target: TARGET, lun, pid: scstd.pid() } }
}

fn file_device(role: Role, lun: u32, file: &Path, more: &str) -> Device {
    let lines = format!("        filename {}\n{more}", file.display());
    Device { role, lun, handler: "vdisk_fileio", lines }
}

/// The scstd beside this program; cargo brings it up to date where there is a cargo.
fn built_scstd() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let directory = own.parent().context("no directory")?;
    let path = directory.join("scstd");
    if !path.exists() {
        eprintln!("building scstd");
        let status = Command::new("cargo").args(["build", "--release", "--package", "scstd"]).status()?;
        if !status.success() || !path.exists() {
            bail!("no {}: build it with `cargo build --release -p scstd`, or give --scstd PATH", path.display());
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_names_each_device_and_its_lun() {
        let text = config("poll_us 0\n", &[(7, "vdisk_nullio", "        size 512\n")]);
        let expected = "poll_us 0\nHANDLER vdisk_nullio {\n    DEVICE bench_7 {\n        size 512\n    }\n}\n\
                        TARGET_DRIVER iscsi {\n    enabled 1\n    TARGET iqn.2026-01.bench:scstd {\n        \
                        enabled 1\n        QueuedCommands 128\n        HeaderDigest CRC32C,None\n        \
                        DataDigest CRC32C,None\n        LUN 7 bench_7\n    }\n}\n";
        assert_eq!(text, expected);
    }
}
