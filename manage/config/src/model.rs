//! The model: what a configuration says, as plain values. Made by the parser, written by the writer, compared by
//! [`difference`](crate::difference()). It keeps what was said and knows the default of what was not.

use std::collections::BTreeMap;
use std::fmt;

use crate::rules::{self, Table};
use crate::value;

/// Largest LUN number (14 bits of flat space addressing, SAM-5 4.7.7.3), as in the original.
pub const MAX_LUN: u32 = 16383;

/// Everything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Configuration {
    /// Attributes at the top of the file ([`rules::GLOBAL`]).
    pub globals: Attributes,
    /// Devices by name; names are unique across handlers.
    pub devices: BTreeMap<String, Device>,
    /// Target drivers.
    pub drivers: BTreeMap<DriverKind, Driver>,
    /// Device groups (ALUA). The parser refuses them for now, so an applied configuration has none.
    pub device_groups: BTreeMap<String, DeviceGroup>,
}

impl Default for Configuration {
    fn default() -> Self {
        let globals = Attributes::new(rules::GLOBAL);
        Self { globals, devices: BTreeMap::new(), drivers: BTreeMap::new(), device_groups: BTreeMap::new() }
    }
}

/// A device handler of this version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum HandlerKind {
    /// `vdisk_fileio`.
    VdiskFileio,
    /// `vdisk_blockio`.
    VdiskBlockio,
    /// `vdisk_nullio`.
    VdiskNullio,
    /// `dev_disk_perf`.
    DevDiskPerf,
    /// `dev_modisk_perf`.
    DevModiskPerf,
    /// `dev_tape_perf`.
    DevTapePerf,
}

impl HandlerKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::VdiskFileio,
        Self::VdiskBlockio,
        Self::VdiskNullio,
        Self::DevDiskPerf,
        Self::DevModiskPerf,
        Self::DevTapePerf,
    ];

    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::VdiskFileio => "vdisk_fileio",
            Self::VdiskBlockio => "vdisk_blockio",
            Self::VdiskNullio => "vdisk_nullio",
            Self::DevDiskPerf => "dev_disk_perf",
            Self::DevModiskPerf => "dev_modisk_perf",
            Self::DevTapePerf => "dev_tape_perf",
        }
    }

    /// The attributes of its devices.
    pub fn table(self) -> Table {
        match self {
            Self::VdiskFileio => rules::VDISK_FILEIO,
            Self::VdiskBlockio => rules::VDISK_BLOCKIO,
            Self::VdiskNullio => rules::VDISK_NULLIO,
            Self::DevDiskPerf => rules::DEV_DISK_PERF,
            Self::DevModiskPerf => rules::DEV_MODISK_PERF,
            Self::DevTapePerf => rules::DEV_TAPE_PERF,
        }
    }
}

/// A target driver of this version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DriverKind {
    /// `iscsi`.
    Iscsi,
}

impl DriverKind {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::Iscsi];

    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iscsi => "iscsi",
        }
    }

    /// The attributes of the driver.
    pub fn table(self) -> Table {
        match self {
            Self::Iscsi => rules::ISCSI_DRIVER,
        }
    }

    /// The attributes of its targets.
    pub fn target_table(self) -> Table {
        match self {
            Self::Iscsi => rules::ISCSI_TARGET,
        }
    }
}

/// A `DEVICE`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    /// The handler that opens it.
    pub handler: HandlerKind,
    /// How.
    pub attributes: Attributes,
}

impl Device {
    /// A device with all defaults.
    pub fn new(handler: HandlerKind) -> Self {
        Self { handler, attributes: Attributes::new(handler.table()) }
    }
}

/// A `TARGET_DRIVER`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Driver {
    /// Its attributes, among them `enabled`.
    pub attributes: Attributes,
    /// Targets by name (iSCSI: in normal form).
    pub targets: BTreeMap<String, Target>,
}

impl Driver {
    /// A driver with all defaults and no target.
    pub fn new(kind: DriverKind) -> Self {
        Self { attributes: Attributes::new(kind.table()), targets: BTreeMap::new() }
    }
}

/// A `TARGET`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Its attributes, among them `enabled`.
    pub attributes: Attributes,
    /// LUNs for initiators that are in no group.
    pub luns: Luns,
    /// Groups; the first that matches an initiator counts, so their order matters.
    pub groups: Vec<Group>,
}

impl Target {
    /// A target with all defaults and nothing to see.
    pub fn new(kind: DriverKind) -> Self {
        Self { attributes: Attributes::new(kind.target_table()), luns: Luns::new(), groups: Vec::new() }
    }

    /// Every LUN list: the target's own and those of the groups.
    pub fn all_luns(&self) -> impl Iterator<Item = &Lun> {
        self.luns.values().chain(self.groups.iter().flat_map(|g| g.luns.values()))
    }
}

/// LUNs by number.
pub type Luns = BTreeMap<u32, Lun>;

/// A `LUN`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lun {
    /// Name of the device.
    pub device: String,
    /// `read_only`.
    pub read_only: bool,
}

/// A `GROUP` of initiators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Patterns of initiator names, in the order of the file.
    pub initiators: Vec<String>,
    /// What they see.
    pub luns: Luns,
    /// Its attributes ([`rules::GROUP`]).
    pub attributes: Attributes,
}

impl Group {
    /// A group with nobody and nothing in it.
    pub fn new(name: impl Into<String>) -> Self {
        let attributes = Attributes::new(rules::GROUP);
        Self { name: name.into(), initiators: Vec::new(), luns: Luns::new(), attributes }
    }
}

/// A `DEVICE_GROUP`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeviceGroup {
    /// Names of the devices.
    pub devices: Vec<String>,
    /// Target groups by name.
    pub target_groups: BTreeMap<String, TargetGroup>,
}

/// A `TARGET_GROUP`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetGroup {
    /// `group_id`, `preferred`, `state`.
    pub attributes: Attributes,
    /// Members by target name.
    pub targets: BTreeMap<String, Attributes>,
}

/// Attribute values of one object: those that were given, over the defaults of its table.
#[derive(Clone)]
pub struct Attributes {
    table: Table,
    given: BTreeMap<&'static str, Vec<String>>,
}

impl Attributes {
    /// All defaults.
    pub fn new(table: Table) -> Self {
        Self { table, given: BTreeMap::new() }
    }

    /// The table.
    pub fn table(&self) -> Table {
        self.table
    }

    fn rule(&self, name: &str) -> &'static rules::Rule {
        let Some(rule) = rules::find(self.table, name) else { panic!("no attribute {name} in this table") };
        rule
    }

    /// Sets a value (adds one to an attribute of many).
    ///
    /// # Errors
    /// What would be right, when the value is not.
    ///
    /// # Panics
    /// When the table has no such attribute: names in the program come from the table.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let rule = self.rule(name);
        let value = value::check(rule.kind, value)?;
        let values = self.given.entry(rule.name).or_default();
        if !rule.many {
            values.clear();
        }
        if !values.contains(&value) {
            values.push(value);
        }
        Ok(())
    }

    /// Back to the default.
    pub fn unset(&mut self, name: &str) {
        self.given.remove(name);
    }

    /// Puts all values of an attribute in place, as they are in another object of the same table.
    pub(crate) fn copy_from(&mut self, other: &Self, name: &str) {
        match other.given.get_key_value(name) {
            Some((name, values)) => drop(self.given.insert(name, values.clone())),
            None => self.unset(name),
        }
    }

    /// Whether a value was given.
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// What was given, by name; the values in normal form.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, &[String])> {
        self.given.iter().map(|(name, values)| (*name, values.as_slice()))
    }

    /// All values; the default, if there is one, when none was given.
    ///
    /// # Panics
    /// When the table has no such attribute.
    pub fn values(&self, name: &str) -> Vec<&str> {
        match self.given.get(name) {
            Some(values) => values.iter().map(String::as_str).collect(),
            None => Some(self.rule(name).default).into_iter().filter(|d| !d.is_empty()).collect(),
        }
    }

    /// The value or its default; None when it has neither, or the value is empty.
    ///
    /// # Panics
    /// When the table has no such attribute.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values(name).first().copied().filter(|v| !v.is_empty())
    }

    /// The same for a table that may not have the attribute.
    pub fn text_if_known(&self, name: &str) -> Option<&str> {
        rules::find(self.table, name).and_then(|_| self.text(name))
    }

    /// A flag (`0`/`1`, `No`/`Yes`).
    ///
    /// # Panics
    /// When the table has no such attribute.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.text(name), Some("1" | "Yes"))
    }

    /// A number or its default.
    ///
    /// # Panics
    /// When the table has no such attribute.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}

impl PartialEq for Attributes {
    /// What was given counts; the table follows from the kind of object.
    fn eq(&self, other: &Self) -> bool {
        self.given == other.given
    }
}

impl Eq for Attributes {}

impl fmt::Debug for Attributes {
    /// Secrets stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (name, values) in &self.given {
            let kind = self.rule(name).kind;
            let shown: Vec<String> = values.iter().map(|v| value::shown(kind, v)).collect();
            map.entry(name, &shown.join(", "));
        }
        map.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_show_through() {
        let mut disk = Device::new(HandlerKind::VdiskFileio).attributes;
        assert_eq!(disk.number("blocksize"), Some(512));
        assert!(disk.flag("rotational"));
        assert_eq!(disk.text("filename"), None);
        disk.set("blocksize", "0x1000").unwrap();
        assert_eq!(disk.number("blocksize"), Some(4096));
        assert_eq!(disk.set("blocksize", "100").unwrap_err(), "a power of two from 512 to 65536");
        disk.unset("blocksize");
        assert_eq!(disk, Attributes::new(rules::VDISK_FILEIO));
    }

    #[test]
    fn attributes_of_many_add_up() {
        let mut target = Target::new(DriverKind::Iscsi).attributes;
        target.set("IncomingUser", "a 123456789012").unwrap();
        target.set("IncomingUser", "b 123456789012").unwrap();
        target.set("IncomingUser", "a  123456789012").unwrap();
        assert_eq!(target.values("IncomingUser"), ["a 123456789012", "b 123456789012"]);
        assert!(!format!("{target:?}").contains("123456789012"));
    }
}
