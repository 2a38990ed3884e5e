//! The state directory, and what is exported when nobody says what: one sparse file.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use scst_protocol_iscsi::address::PortalAddress;

/// Where a system installation keeps its state.
const SYSTEM: &str = "/var/lib/scst";
/// Size of the file that is exported by default.
pub const DEFAULT_DISK_BYTES: u64 = 1 << 30;
/// Name of the target that is exported by default.
pub const DEFAULT_TARGET: &str = "iqn.2026-01.local.scst:disk1";
/// Where the default export listens.
pub const DEFAULT_EXPORT_PORTAL: &str = "127.0.0.1:3260";

/// Finds the state directory and makes it.
///
/// # Errors
/// It cannot be made, or nothing says where it should be.
pub fn directory(chosen: Option<&Path>) -> Result<PathBuf> {
    if let Some(directory) = chosen {
        fs::create_dir_all(directory).with_context(|| {
            format!("cannot make the state directory {}; choose another with --state-dir", directory.display())
        })?;
        return Ok(directory.to_owned());
    }
    if fs::create_dir_all(SYSTEM).is_ok() && is_writable(Path::new(SYSTEM)) {
        return Ok(PathBuf::from(SYSTEM));
    }
    let Some(directory) = of_user() else {
        bail!("{SYSTEM} is not writable and neither XDG_STATE_HOME nor HOME is set; name a directory with --state-dir");
    };
    fs::create_dir_all(&directory).with_context(|| {
        format!("cannot make the state directory {}; choose one with --state-dir", directory.display())
    })?;
    Ok(directory)
}

/// The directories that [`directory`] chooses from, without making one.
pub fn candidates(chosen: Option<&Path>) -> Vec<PathBuf> {
    match chosen {
        Some(directory) => vec![directory.to_owned()],
        None => [PathBuf::from(SYSTEM)].into_iter().chain(of_user()).collect(),
    }
}

/// Where a user without rights over the system keeps state.
fn of_user() -> Option<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|h| h.join(".local/state")))?;
    Some(base.join("scst"))
}

/// Whether a file can be made there. Asking is the only answer that counts for every kind of permission.
fn is_writable(directory: &Path) -> bool {
    let probe = directory.join(format!(".probe.{}", std::process::id()));
    let made = OpenOptions::new().write(true).create_new(true).open(&probe).is_ok();
    made && fs::remove_file(&probe).is_ok()
}

/// Makes a file that is whole from the first moment: it gets its name when `fill` is done and everything is on disk. A
/// file that is there already stays as it is.
///
/// # Errors
/// What the system says.
pub fn make(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let new = path.with_file_name(name);
    // What an earlier process of this number has left.
    drop(fs::remove_file(&new));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&new)?;
        fill(&mut file)?;
        file.sync_all()?;
        match fs::hard_link(&new, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // Not every file system has hard links.
            Err(_) if !path.exists() => fs::rename(&new, path),
            result => result,
        }
    };
    let made = write();
    drop(fs::remove_file(&new));
    made
}

/// Makes the default disk, if it is not there yet, and gives the configuration that exports it.
///
/// # Errors
/// The file cannot be made.
pub fn default_export(directory: &Path) -> Result<String> {
    let disk = directory.join("disk1.img");
    let context = || format!("cannot make {}; choose another directory with --state-dir", disk.display());
    match fs::metadata(&disk) {
        // An empty file has no data to lose: whoever made it has not come to the end.
        Ok(metadata) if metadata.is_file() && metadata.len() == 0 => {
            let file = OpenOptions::new().write(true).open(&disk).with_context(context)?;
            file.set_len(DEFAULT_DISK_BYTES).with_context(context)?;
        }
        Ok(_) => {}
        Err(_) => make(&disk, |file| file.set_len(DEFAULT_DISK_BYTES)).with_context(context)?,
    }
    let disk = fs::canonicalize(&disk)?;
    let Some(disk) = disk.to_str() else {
        bail!("the path {} is not UTF-8; choose another directory with --state-dir", disk.display());
    };
    let mut configuration = scst_config::Configuration::default();
    let mut device = scst_config::Device::new(scst_config::HandlerKind::VdiskFileio);
    for (name, value) in [("filename", disk), ("thin_provisioned", "1"), ("rotational", "0")] {
        device
            .attributes
            .set(name, value)
            .map_err(|expected| anyhow::anyhow!("{name} {value:?}: expected {expected}"))?;
    }
    configuration.devices.insert("disk1".to_owned(), device);
    let kind = scst_config::DriverKind::Iscsi;
    let mut target = scst_config::Target::new(kind);
    target.luns.insert(0, scst_config::Lun { device: "disk1".to_owned(), read_only: false });
    let mut driver = scst_config::Driver::new(kind);
    for attributes in [&mut target.attributes, &mut driver.attributes] {
        attributes.set("enabled", "1").map_err(|expected| anyhow::anyhow!("enabled: expected {expected}"))?;
    }
    driver.targets.insert(DEFAULT_TARGET.to_owned(), target);
    configuration.drivers.insert(kind, driver);
    Ok(configuration.to_string())
}

/// How to connect to the default export.
pub fn how_to_connect(disk: &Path, portal: SocketAddr) -> String {
    // Tools want an address to go to, not "all addresses".
    let ip = if portal.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { portal.ip() };
    let portal = PortalAddress { ip, scope: 0, port: Some(portal.port()) };
    let target = DEFAULT_TARGET;
    format!(
        "\
scstd exports {} as an iSCSI disk.

  portal  {portal}
  target  {target}, LUN 0

From Linux, as root, with open-iscsi (the disk appears in lsblk):
  iscsiadm -m discovery -t sendtargets -p {portal}
  iscsiadm -m node -T {target} -p {portal} --login
  iscsiadm -m node -T {target} -p {portal} --logout

Without root:
  iscsi-ls -s iscsi://{portal}
  qemu-img info iscsi://{portal}/{target}/0
  qemu-img convert -n -O raw some-image.qcow2 iscsi://{portal}/{target}/0

For disks of your own: scstd --config FILE; see scst.conf(5) and examples/. Stop with Ctrl-C.
",
        disk.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_export_is_a_valid_configuration_and_keeps_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let text = default_export(directory.path()).unwrap();
        let parsed = scst_config::parse("default", text.as_bytes()).unwrap();
        assert_eq!(parsed.warnings, []);
        let disk = directory.path().join("disk1.img");
        assert_eq!(fs::metadata(&disk).unwrap().len(), 1 << 30);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
        // As an interrupted start of an earlier version has left it.
        fs::write(&disk, b"").unwrap();
        assert_eq!(default_export(directory.path()).unwrap(), text);
        assert_eq!(fs::metadata(&disk).unwrap().len(), 1 << 30);
        fs::write(&disk, b"mine").unwrap();
        assert_eq!(default_export(directory.path()).unwrap(), text);
        assert_eq!(fs::read(&disk).unwrap(), b"mine");
    }

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        let interrupted = make(&path, |file| {
            file.set_len(5)?;
            assert!(!path.exists());
            Err(io::Error::other("no space"))
        });
        assert_eq!(interrupted.unwrap_err().to_string(), "no space");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        make(&path, |file| file.set_len(7)).unwrap();
        make(&path, |file| file.set_len(8)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 7, "what is there stays");
    }

    #[test]
    fn the_printed_commands_name_portal_and_target() {
        let text = how_to_connect(Path::new("/d"), "127.0.0.1:3260".parse().unwrap());
        assert!(text.contains("\n  iscsiadm -m discovery -t sendtargets -p 127.0.0.1:3260\n"), "{text}");
        assert!(text.contains("\n  iscsi-ls -s iscsi://127.0.0.1:3260\n"), "{text}");
        let text = how_to_connect(Path::new("/d"), "[::1]:3260".parse().unwrap());
        assert!(text.contains("qemu-img info iscsi://[::1]:3260/iqn.2026-01.local.scst:disk1/0"), "{text}");
        assert!(how_to_connect(Path::new("/d"), "[::]:1".parse().unwrap()).contains("-p 127.0.0.1:1"));
    }
}
