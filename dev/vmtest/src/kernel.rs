//! Debian's kernel package, downloaded once, unpacked so that QEMU can start it without firmware or self-extraction.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::shell;

/// The meta-package that names the current kernel.
const PACKAGE: &str = "linux-image-amd64";

/// An unpacked kernel package.
pub(crate) struct Kernel {
    /// The ELF image that QEMU starts through its PVH entry point.
    pub(crate) image: PathBuf,
    /// A root directory that holds the modules, as `modprobe -d` wants it.
    pub(crate) root: PathBuf,
    /// The release, as `uname -r` says it.
    pub(crate) version: String,
}

impl Kernel {
    /// The kernel from `cache`, downloaded first when it is not there yet.
    pub(crate) fn prepare(cache: &Path) -> Result<Self> {
        let root = cache.join(PACKAGE);
        if !root.join("vmlinux").exists() {
            download(cache, &root).context("cannot prepare the guest's kernel")?;
        }
        let version = only_entry(&root.join("usr/lib/modules"))?;
        Ok(Self { image: root.join("vmlinux"), version, root })
    }

    /// The directory with the modules.
    pub(crate) fn modules(&self) -> PathBuf {
        self.root.join("usr/lib/modules").join(&self.version)
    }
}

/// Downloads and unpacks into a directory of this process's own and renames it: two runs at once do no harm.
fn download(cache: &Path, root: &Path) -> Result<()> {
    let work = cache.join(format!("new.{}", std::process::id()));
    let (debs, tree) = (work.join("deb"), work.join("root"));
    fs::create_dir_all(&debs)?;
    fs::create_dir_all(&tree)?;
    eprintln!("vm: downloading {PACKAGE}");
    let mut deb = fetch_package(PACKAGE, &debs)?;
    if let Some(dependency) = kernel_dependency(&deb)? {
        deb = fetch_package(&dependency, &debs)?;
    }
    shell::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&tree))?;

    // One layout, whether the package thinks /lib or /usr/lib.
    if tree.join("lib/modules").exists() && !tree.join("lib").is_symlink() {
        fs::create_dir_all(tree.join("usr/lib"))?;
        fs::rename(tree.join("lib/modules"), tree.join("usr/lib/modules"))?;
        fs::remove_dir_all(tree.join("lib"))?;
    }
    if !tree.join("lib").exists() {
        std::os::unix::fs::symlink("usr/lib", tree.join("lib"))?;
    }
    let version = only_entry(&tree.join("usr/lib/modules"))?;
    shell::run(Command::new("/sbin/depmod").arg("-b").arg(&tree).arg(&version))?;
    let packed = fs::read(tree.join("boot").join(format!("vmlinuz-{version}")))?;
    fs::write(tree.join("vmlinux"), unpack_image(&packed)?)?;
    match fs::rename(&tree, root) {
        Err(_) if root.join("vmlinux").exists() => {} // another run was first
        done => done?,
    }
    fs::remove_dir_all(&work)?;
    Ok(())
}

/// Downloads one package into `into` (emptied first) and says where it is.
fn fetch_package(name: &str, into: &Path) -> Result<PathBuf> {
    for entry in fs::read_dir(into)? {
        fs::remove_file(entry?.path())?;
    }
    let mut apt = Command::new("apt-get");
    apt.args(["-qq", "-o", "APT::Sandbox::User=root", "download", name]).current_dir(into);
    shell::run(&mut apt).with_context(|| format!("cannot download {name}; `apt-get update` may help"))?;
    Ok(into.join(only_entry(into)?))
}

/// What a meta-package without a kernel in it depends on, as `name=version`.
fn kernel_dependency(deb: &Path) -> Result<Option<String>> {
    let depends = shell::output(Command::new("dpkg-deb").arg("-f").arg(deb).arg("Depends"))?;
    let depends = String::from_utf8(depends)?;
    // linux-image-VERSION (= PACKAGEVERSION)
    Ok(depends.split([',', '|']).find_map(|clause| {
        let (name, version) = clause.trim().split_once(" (= ")?;
        let version = version.strip_suffix(')')?;
        name.starts_with("linux-image-").then(|| format!("{name}={version}"))
    }))
}

/// A bzImage unpacks itself, which under emulation costs as much as the rest of the boot. Its header says where the
/// compressed ELF image lies (Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length).
fn unpack_image(packed: &[u8]) -> Result<Vec<u8>> {
    let word = |at: usize| -> Result<usize> {
        let bytes = packed.get(at..at + 4).context("the kernel image is too short")?;
        Ok(u32::from_le_bytes(bytes.try_into()?) as usize)
    };
    let setup_sectors = usize::from(*packed.get(0x1f1).context("the kernel image is too short")?);
    let start = (setup_sectors + 1) * 512 + word(0x248)?;
    // The last four bytes are the unpacked size.
    let end = start + word(0x24c)?.saturating_sub(4);
    let payload = packed.get(start..end).context("the kernel image has no payload where its header says")?;
    let program = match payload {
        [0xfd, b'7', b'z', ..] => "xz",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        _ => bail!("the kernel image is packed in a way unknown here"),
    };
    let image = filter(Command::new(program).arg("-dc"), payload)?;
    ensure!(image.starts_with(b"\x7fELF"), "the kernel image holds no ELF file");
    Ok(image)
}

/// Feeds `input` to `command` and returns what it prints.
fn filter(command: &mut Command, input: &[u8]) -> Result<Vec<u8>> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let mut stdin = child.stdin.take().context("no pipe to the child")?;
    let out = std::thread::scope(|scope| {
        let writer = scope.spawn(move || stdin.write_all(input));
        let out = child.wait_with_output();
        writer.join().map_err(|_| anyhow::anyhow!("the writing thread panicked"))??;
        anyhow::Ok(out?)
    })?;
    ensure!(out.status.success(), "{command:?}: {}", out.status);
    Ok(out.stdout)
}

/// The name of the only entry of a directory.
fn only_entry(directory: &Path) -> Result<String> {
    let mut names = fs::read_dir(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<Vec<_>>>()?;
    ensure!(names.len() == 1, "{} should hold one entry, not {names:?}", directory.display());
    Ok(names.remove(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image_with_payload(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 3 * 512 + 64];
        image[0x1f1] = 2; // three sectors with the boot sector
        image[0x248..0x24c].copy_from_slice(&64u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&(payload.len() as u32 + 4).to_le_bytes());
        image.extend_from_slice(payload);
        image.extend_from_slice(&[0; 4]);
        image
    }

    #[test]
    fn unpacks_the_payload_the_header_points_at() {
        let packed = filter(Command::new("xz").arg("-c"), b"\x7fELF and more").unwrap();
        assert_eq!(unpack_image(&image_with_payload(&packed)).unwrap(), b"\x7fELF and more");
    }

    #[test]
    fn refuses_what_is_no_kernel() {
        let unknown = unpack_image(&image_with_payload(b"plain")).unwrap_err().to_string();
        assert_eq!(unknown, "the kernel image is packed in a way unknown here");
        let short = unpack_image(&[0; 16]).unwrap_err().to_string();
        assert_eq!(short, "the kernel image is too short");
    }
}
