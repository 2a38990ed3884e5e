//! Scenarios whose target runs on the host: its configuration, and the one that needs no guest.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::scstd::{Scstd, Start};
use crate::shell;

/// The target that the host's daemon exports to the guest and to QEMU.
pub(crate) const TARGET: &str = "iqn.2024-01.test:host";

const SIZE: u64 = 1 << 30;

/// How many LUNs the target has when it has many.
const MANY: usize = 4096;

/// Starts a daemon with one target whose LUN 0 is a sparse file of 1 GiB in `directory`.
pub(crate) fn start(binary: &Path, directory: &Path) -> Result<Scstd> {
    let file = directory.join("disk.img");
    File::create(&file)?.set_len(SIZE)?;
    let device = format!("HANDLER vdisk_fileio {{\nDEVICE disk {{\nfilename {}\n}}\n}}\n", file.display());
    start_target(binary, directory, &device, "LUN 0 disk\n")
}

/// Starts a daemon with one target of many LUNs, each a null device of its own.
pub(crate) fn start_many(binary: &Path, directory: &Path) -> Result<Scstd> {
    let device = |n| format!("DEVICE null{n} {{\nsize 1048576\nread_zero 1\n}}\n");
    let devices: String = (0..MANY).map(device).collect();
    let luns: String = (0..MANY).map(|n| format!("LUN {n} null{n}\n")).collect();
    start_target(binary, directory, &format!("HANDLER vdisk_nullio {{\n{devices}}}\n"), &luns)
}

fn start_target(binary: &Path, directory: &Path, handler: &str, luns: &str) -> Result<Scstd> {
    let config = format!("{handler}TARGET_DRIVER iscsi {{\nenabled 1\nTARGET {TARGET} {{\nenabled 1\n{luns}}}\n}}\n");
    Scstd::start(Start { binary, directory, config: &config, backend: "auto", portals: 1 })
}

/// `qemu-img convert` of random data to a LUN and back.
pub(crate) fn qemu_img(binary: &Path, directory: &Path) -> Result<()> {
    let scstd = start(binary, directory)?;
    let (original, back) = (directory.join("random.img"), directory.join("back.img"));
    let mut random = File::open("/dev/urandom").context("cannot open /dev/urandom")?.take(SIZE);
    io::copy(&mut random, &mut File::create(&original)?)?;
    let url = scstd.url(0, TARGET, 0);

    // -n: the LUN exists already.
    let convert = || {
        let mut command = Command::new("qemu-img");
        command.args(["convert", "-f", "raw", "-O", "raw"]);
        command
    };
    shell::run(convert().arg("-n").arg(&original).arg(&url)).context("copying to the LUN")?;
    shell::run(convert().arg(&url).arg(&back)).context("copying from the LUN")?;
    shell::run(Command::new("cmp").arg(&original).arg(&back)).context("what came back differs")?;
    ensure!(fs::metadata(&back)?.len() == SIZE, "what came back has another size");
    scstd.stop()?;
    shell::run(Command::new("cmp").arg(&original).arg(directory.join("disk.img"))).context("the backing file differs")
}
