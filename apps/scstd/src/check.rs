//! What `--check` finds beyond the text of a configuration: files, block devices, secrets that others can read. It opens
//! no device and changes nothing, so that it can run beside a daemon that serves; what only an attempt can show is named
//! as not checked ([`NOT_CHECKED`]).

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use scst_config::{Attributes, Configuration, Device, HandlerKind, Severity};

use crate::disk::Disk;
use crate::identity;

/// What is left for the start to find out.
pub const NOT_CHECKED: &str = "whether the daemon's user may open the files, whether another program has them open, whether \
                               O_DIRECT works on their file systems, whether the portals are free";

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// An error: the daemon would leave the device out.
    pub severity: Severity,
    /// What is wrong, with object and value.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{word}: {}", self.message)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "\n  = {}", self.remedy) }
    }
}

/// Where the system says what block devices are and what uses them.
#[derive(Clone, Debug)]
pub struct System {
    /// /sys/dev/block.
    pub block: PathBuf,
    /// The text of /proc/self/mountinfo.
    pub mounts: String,
    /// The text of /proc/swaps.
    pub swaps: String,
    /// Where the machine keeps its identity.
    pub machine_id: PathBuf,
    /// Where the daemon may have made one.
    pub state: Vec<PathBuf>,
}

impl System {
    /// This machine; `state` are the directories where the daemon may keep its state.
    pub fn here(state: Vec<PathBuf>) -> Self {
        let text = |file: &str| fs::read_to_string(file).unwrap_or_default();
        Self {
            block: PathBuf::from("/sys/dev/block"),
            mounts: text("/proc/self/mountinfo"),
            swaps: text("/proc/swaps"),
            machine_id: PathBuf::from(identity::MACHINE_ID),
            state,
        }
    }
}

/// Checks everything around a configuration that was read from `file`.
pub fn configuration(file: &Path, configuration: &Configuration, system: &System) -> Vec<Finding> {
    let mut found = Findings::default();
    if let Some(finding) = readable_secrets(file, configuration) {
        found.0.push(finding);
    }
    if needs_identity(configuration) && !identity::is_known(&system.machine_id, &system.state) {
        found.warning(
            format!("this machine has no identity ({})", system.machine_id.display()),
            "the daemon makes one and keeps it in its state directory; keep that directory, or set setup_id",
        );
    }
    let mut files: BTreeMap<(u64, u64), (&str, &str)> = BTreeMap::new();
    for (name, device) in &configuration.devices {
        if let Err(error) = Disk::check(name, device) {
            found.error(format!("{error:#}"), "");
        }
        let Some(path) = device.attributes.text_if_known("filename") else { continue };
        let Some(metadata) = found.behind(name, device, Path::new(path), system) else { continue };
        // A block device is the same one under every node that names it.
        let is_block = metadata.file_type().is_block_device();
        let key = if is_block { (u64::MAX, metadata.rdev()) } else { (metadata.dev(), metadata.ino()) };
        // One path twice is found in the text already.
        if let Some((other, _)) = files.insert(key, (name, path)).filter(|(_, other)| *other != path) {
            found.warning(
                format!("DEVICE {name}: the file {path} is also behind DEVICE {other}"),
                "initiators of two devices see no reservation of each other; map one device twice",
            );
        }
    }
    found.0
}

/// Whether default identifiers of a device are made from the identity of the machine.
fn needs_identity(configuration: &Configuration) -> bool {
    !configuration.devices.is_empty() && identity::chosen(&configuration.globals).is_none()
}

/// Finds out whether others than the owner and the group of a file can read the secrets in it.
pub fn readable_secrets(file: &Path, configuration: &Configuration) -> Option<Finding> {
    let has = |attributes: &Attributes| ["IncomingUser", "OutgoingUser"].iter().any(|name| attributes.is_given(name));
    let mut objects = configuration.drivers.values().flat_map(|driver| {
        std::iter::once(&driver.attributes).chain(driver.targets.values().map(|target| &target.attributes))
    });
    let mode = fs::metadata(file).ok()?.mode();
    (mode & 0o004 != 0 && objects.any(has)).then(|| Finding {
        severity: Severity::Warning,
        message: format!("every user of this machine can read the secrets in {}", file.display()),
        remedy: format!("chmod o= {}", file.display()),
    })
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, severity: Severity, message: String, remedy: impl Into<String>) {
        self.0.push(Finding { severity, message, remedy: remedy.into() });
    }

    fn error(&mut self, message: String, remedy: impl Into<String>) {
        self.add(Severity::Error, message, remedy);
    }

    fn warning(&mut self, message: String, remedy: impl Into<String>) {
        self.add(Severity::Warning, message, remedy);
    }

    /// Looks at what is behind a device; returns it when it is there and can be used.
    fn behind(&mut self, name: &str, device: &Device, path: &Path, system: &System) -> Option<Metadata> {
        let is_blockio = device.handler == HandlerKind::VdiskBlockio;
        let object = format!("DEVICE {name}: filename {}", path.display());
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let remedy = "make it; until then the disk is there and not ready";
                self.warning(format!("{object}: there is no such file"), remedy);
                return None;
            }
            Err(error) => {
                self.error(format!("{object}: {error}"), "name a regular file or a block device");
                return None;
            }
        };
        let kind = metadata.file_type();
        if kind.is_block_device() {
            self.block_device(&object, device, path, &metadata, system);
        } else if !kind.is_file() {
            let is = if kind.is_dir() { "a directory" } else { "neither a file nor a block device" };
            self.error(format!("{object}: {is}"), "name a regular file or a block device");
            return None;
        } else if is_blockio {
            let remedy = "name a block device, or use the handler vdisk_fileio with o_direct 1";
            self.error(format!("{object}: not a block device"), remedy);
            return None;
        } else {
            self.size(&object, device, metadata.len());
            if device.attributes.flag("thin_provisioned") {
                self.optimal_length(&object, &device.attributes, metadata.blksize());
            }
        }
        Some(metadata)
    }

    /// OPTIMAL TRANSFER LENGTH against OPTIMAL TRANSFER LENGTH GRANULARITY (SBC-4 6.6.4), both in bytes here.
    fn optimal_length(&mut self, object: &str, attributes: &Attributes, granularity: u64) {
        let length = attributes.number("opt_trans_len").unwrap_or(0);
        let block = attributes.number("blocksize").unwrap_or(512);
        if granularity > block && !length.is_multiple_of(granularity) {
            let message =
                format!("{object}: opt_trans_len {length} is not a multiple of the granularity {granularity}");
            self.warning(message, "transfers of that length are not optimal; make it a multiple");
        }
    }

    fn size(&mut self, object: &str, device: &Device, bytes: u64) {
        let block = device.attributes.number("blocksize").unwrap_or(512);
        if bytes < block {
            let message = format!("{object}: its {bytes} bytes are less than one block of {block}");
            self.warning(message, "make it longer; until then the disk is there and not ready");
        } else if !bytes.is_multiple_of(block) {
            let rest = bytes % block;
            let message = format!("{object}: its size {bytes} is not a multiple of the block size {block}");
            self.warning(message, format!("the last {rest} bytes are not part of the disk"));
        }
    }

    fn block_device(&mut self, object: &str, device: &Device, path: &Path, metadata: &Metadata, system: &System) {
        let attributes = &device.attributes;
        let number = format!("{}:{}", libc::major(metadata.rdev()), libc::minor(metadata.rdev()));
        let place = system.block.join(&number);
        if let Some(user) = user_of(path, &number, &place, system) {
            // BLOCKIO opens it exclusively, which the kernel refuses then.
            let message = format!("{object}: {user}");
            let remedy = "two users of one device destroy each other's data: end that use, or name another device";
            match device.handler {
                HandlerKind::VdiskBlockio => self.error(message, remedy),
                _ => self.warning(message, remedy),
            }
        }
        // A partition has no queue of its own.
        let queue = |name: &str| {
            number_in(&place.join("queue").join(name)).or_else(|| number_in(&place.join("../queue").join(name)))
        };
        let block = attributes.number("blocksize").unwrap_or(512);
        let is_direct =
            device.handler == HandlerKind::VdiskBlockio || attributes.text_if_known("o_direct") == Some("1");
        if let Some(sector) = queue("logical_block_size").filter(|sector| is_direct && *sector > block) {
            let message = format!("{object}: its sectors have {sector} bytes, blocks of {block} are smaller");
            self.error(message, format!("use blocksize {sector}"));
        }
        if number_in(&place.join("ro")) == Some(1) && !attributes.flag("read_only") {
            self.warning(format!("{object}: the device is read-only"), "add the line: read_only 1");
        }
        let discard = queue("discard_granularity").filter(|_| attributes.flag("thin_provisioned"));
        let granularity = queue("physical_block_size").into_iter().chain(discard).max();
        self.optimal_length(object, attributes, granularity.unwrap_or(0));
        if let Some(sectors) = number_in(&place.join("size")) {
            // The kernel counts in units of 512 bytes whatever the sectors are.
            self.size(object, device, sectors * 512);
        }
    }
}

fn number_in(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Says who else uses a block device or a part of it.
fn user_of(path: &Path, number: &str, place: &Path, system: &System) -> Option<String> {
    // proc_pid_mountinfo(5): the third field is the device, the fifth where it is mounted. A file system of several
    // devices has a number of its own there; then the source behind the dash tells one of them.
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let is_this = |source: &str| source.starts_with('/') && fs::canonicalize(source).is_ok_and(|source| source == real);
    let parts: Vec<PathBuf> = fs::read_dir(place).into_iter().flatten().flatten().map(|e| e.path()).collect();
    let parts = || parts.iter().filter(|part| part.join("partition").exists());
    let numbers: Vec<String> =
        parts().filter_map(|p| Some(fs::read_to_string(p.join("dev")).ok()?.trim().to_owned())).collect();
    for line in system.mounts.lines() {
        let mut fields = line.split(' ');
        let (device, at) = (fields.nth(2).unwrap_or(""), fields.nth(1).unwrap_or(""));
        let source = line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').nth(1)).unwrap_or("");
        if device == number || is_this(source) {
            return Some(format!("it is mounted on {at}"));
        }
        if numbers.iter().any(|part| part == device) {
            return Some(format!("a partition of it is mounted on {at}"));
        }
    }
    if system.swaps.lines().skip(1).any(|line| line.split_whitespace().next().is_some_and(is_this)) {
        return Some("it is swap space".to_owned());
    }
    let holders = |place: &Path| {
        let names = fs::read_dir(place.join("holders")).into_iter().flatten().flatten();
        let mut names: Vec<String> = names.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let held: Vec<String> = holders(place).into_iter().chain(parts().flat_map(|part| holders(part))).collect();
    (!held.is_empty()).then(|| format!("it is part of {} (an array or a volume group)", held.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A directory with files, and a system that knows no block device.
    fn scene() -> (tempfile::TempDir, System) {
        let directory = tempfile::tempdir().unwrap();
        let machine_id = directory.path().join("machine-id");
        fs::write(&machine_id, "0123\n").unwrap();
        let (mounts, swaps) = (String::new(), String::new());
        (directory, System { block: "/nonexistent".into(), mounts, swaps, machine_id, state: Vec::new() })
    }

    fn findings(text: &str, file: &Path, system: &System) -> Vec<String> {
        let parsed = scst_config::parse("f", text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        let found = configuration(file, &parsed.configuration, system);
        found.iter().map(|finding| finding.to_string().lines().next().unwrap_or("").to_owned()).collect()
    }

    fn device(handler: &str, path: &Path, attributes: &str) -> String {
        format!("HANDLER {handler} {{\nDEVICE d {{\nfilename {}\n{attributes}\n}}\n}}\n", path.display())
    }

    #[test]
    fn files_that_cannot_be_a_disk() {
        let (directory, system) = scene();
        let file = |name: &str, bytes: u64| {
            let path = directory.path().join(name);
            fs::File::create(&path).unwrap().set_len(bytes).unwrap();
            path
        };
        let (good, short, odd) = (file("good", 4096), file("short", 511), file("odd", 5000));
        let missing = directory.path().join("missing");
        for (handler, path, attributes, expected) in [
            ("vdisk_fileio", good.as_path(), "", None),
            ("vdisk_fileio", &missing, "", Some("warning: DEVICE d: filename {}: there is no such file")),
            ("vdisk_fileio", directory.path(), "", Some("error: DEVICE d: filename {}: a directory")),
            (
                "vdisk_fileio",
                Path::new("/dev/null"),
                "",
                Some("error: DEVICE d: filename {}: neither a file nor a block device"),
            ),
            ("vdisk_blockio", &good, "", Some("error: DEVICE d: filename {}: not a block device")),
            (
                "vdisk_fileio",
                &short,
                "",
                Some("warning: DEVICE d: filename {}: its 511 bytes are less than one block of 512"),
            ),
            (
                "vdisk_fileio",
                &odd,
                "blocksize 4096",
                Some("warning: DEVICE d: filename {}: its size 5000 is not a multiple of the block size 4096"),
            ),
            ("vdisk_fileio", &good, "opt_trans_len 512", None),
            (
                "vdisk_fileio",
                &good,
                "opt_trans_len 512\nthin_provisioned 1",
                Some("warning: DEVICE d: filename {}: opt_trans_len 512 is not a multiple of the granularity 4096"),
            ),
        ] {
            let expected: Vec<String> =
                expected.into_iter().map(|text| text.replace("{}", &path.display().to_string())).collect();
            assert_eq!(findings(&device(handler, path, attributes), &good, &system), expected);
        }
    }

    #[test]
    fn one_file_under_two_names() {
        let (directory, system) = scene();
        let (file, link) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&file, [0; 512]).unwrap();
        fs::hard_link(&file, &link).unwrap();
        let text =
            device("vdisk_fileio", &file, "") + &device("vdisk_fileio", &link, "").replace("DEVICE d", "DEVICE e");
        let expected = format!("warning: DEVICE e: the file {} is also behind DEVICE d", link.display());
        assert_eq!(findings(&text, &file, &system), [expected]);
    }

    #[test]
    fn secrets_that_others_can_read() {
        let (directory, system) = scene();
        let file = directory.path().join("scst.conf");
        fs::write(&file, "").unwrap();
        let secret = "TARGET_DRIVER iscsi {\nenabled 1\nIncomingUser joe 123456789012\n}\n";
        for (mode, text, expected) in [(0o644, secret, 1), (0o640, secret, 0), (0o600, secret, 0), (0o644, "", 0)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let found = findings(text, &file, &system);
            assert_eq!(found.len(), expected, "{mode:o} {found:?}");
            let message = format!("warning: every user of this machine can read the secrets in {}", file.display());
            assert!(found.iter().all(|finding| *finding == message), "{found:?}");
        }
    }

    #[test]
    fn a_machine_without_an_identity() {
        let (directory, mut system) = scene();
        system.machine_id = directory.path().join("missing");
        let text = "HANDLER vdisk_nullio {\nDEVICE n\n}\n";
        let expected = format!("warning: this machine has no identity ({})", system.machine_id.display());
        assert_eq!(findings(text, Path::new("f"), &system), [expected]);
        assert_eq!(findings(&format!("setup_id 1\n{text}"), Path::new("f"), &system), [""; 0]);
        system.state = vec![directory.path().to_owned()];
        fs::write(directory.path().join(identity::FILE), "abc\n").unwrap();
        assert_eq!(findings(text, Path::new("f"), &system), [""; 0]);
    }

    #[test]
    fn what_else_uses_a_block_device() {
        let (directory, mut system) = scene();
        let place = directory.path().join("7:0");
        for folder in ["holders", "loop0p1/holders"] {
            fs::create_dir_all(place.join(folder)).unwrap();
        }
        fs::write(place.join("loop0p1/partition"), "1\n").unwrap();
        fs::write(place.join("loop0p1/dev"), "259:3\n").unwrap();
        let path = directory.path().join("node");
        fs::write(&path, "").unwrap();
        let user = |system: &System| user_of(&path, "7:0", &place, system);
        assert_eq!(user(&system), None);
        system.swaps = format!("Filename Type Size Used Priority\n{} partition 1 0 -2\n", path.display());
        assert_eq!(user(&system).as_deref(), Some("it is swap space"));
        let mount =
            |device: &str, source: &str| format!("36 35 {device} / /mnt rw,noatime master:1 - ext3 {source} rw\n");
        system.mounts = mount("7:1", "/dev/other");
        assert_eq!(user(&system).as_deref(), Some("it is swap space"));
        for (device, source, expected) in [
            ("7:0", "/dev/root", "it is mounted on /mnt"),
            ("0:31", path.to_str().unwrap(), "it is mounted on /mnt"),
            ("259:3", "/dev/x", "a partition of it is mounted on /mnt"),
        ] {
            system.mounts = mount(device, source);
            assert_eq!(user(&system).as_deref(), Some(expected), "{device}");
        }
        (system.mounts, system.swaps) = (String::new(), String::new());
        fs::write(place.join("loop0p1/holders/dm-0"), "").unwrap();
        assert_eq!(user(&system).as_deref(), Some("it is part of dm-0 (an array or a volume group)"));
    }
}
