//! The first stage of the guest: static busybox, the modules for the root, and `guest/init`.
//!
//! All busybox, because a dynamically linked program costs 50-100 ms over 9p.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::kernel::Kernel;
use crate::shell;

/// What the guest needs before it can see the host's modules.
const MODULES: &[&str] = &["virtio_pci", "virtio_blk", "9pnet_virtio", "9p", "overlay", "configfs", "ext4"];

/// Builds the archive in `work` and returns its path.
pub(crate) fn build(kernel: &Kernel, init: &Path, work: &Path) -> Result<PathBuf> {
    let tree = work.join("initramfs");
    for directory in ["bin", "dev", "proc", "sys", "modules", "host", "ov"] {
        fs::create_dir_all(tree.join(directory))?;
    }
    fs::copy("/bin/busybox", tree.join("bin/busybox")).context("cannot copy /bin/busybox")?;
    fs::copy(init, tree.join("init"))?;
    fs::set_permissions(tree.join("init"), fs::Permissions::from_mode(0o755))?;

    let mut order = String::new();
    for (number, module) in module_files(kernel)?.iter().enumerate() {
        let name = format!("{number:02}.ko");
        fs::write(tree.join("modules").join(&name), plain_module(module)?)?;
        order.push_str(&name);
        order.push('\n');
    }
    fs::write(tree.join("modules/order"), order)?;

    let archive = work.join("initramfs.cpio");
    let mut find = Command::new("find").arg(".").current_dir(&tree).stdout(Stdio::piped()).spawn()?;
    let names = find.stdout.take().context("no pipe from find")?;
    let status = Command::new("cpio")
        .args(["--quiet", "-o", "-H", "newc", "-R", "0:0"])
        .current_dir(&tree)
        .stdin(names)
        .stdout(fs::File::create(&archive)?)
        .status()
        .context("cannot start cpio")?;
    ensure!(status.success() && find.wait()?.success(), "cannot pack the initramfs: cpio {status}");
    Ok(archive)
}

/// The files of [`MODULES`] and all they depend on, in loading order.
fn module_files(kernel: &Kernel) -> Result<Vec<PathBuf>> {
    let mut modprobe = Command::new("/sbin/modprobe");
    modprobe.arg("-d").arg(&kernel.root).args(["-S", &kernel.version, "--show-depends", "-a"]).args(MODULES);
    let listing = String::from_utf8(shell::output(&mut modprobe)?)?;
    let mut seen = BTreeSet::new();
    let files = listing.lines().filter_map(|line| line.strip_prefix("insmod ")).map(str::trim);
    Ok(files.filter(|file| seen.insert(file.to_string())).map(PathBuf::from).collect())
}

/// The contents of a module file, unpacked when the distribution packs them.
fn plain_module(file: &Path) -> Result<Vec<u8>> {
    let program = match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return fs::read(file).with_context(|| format!("cannot read {}", file.display())),
    };
    shell::output(Command::new(program).arg("-dc").arg(file))
}
