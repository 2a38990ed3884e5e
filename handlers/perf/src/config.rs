//! Attributes of a device, checked.

use scst_cmdset::DiskParameters;
use scst_cmdset::params::{ISCSI_OPTICAL_VERSIONS, ISCSI_TAPE_VERSIONS};
use scst_cmdset::ssc::{MAX_BLOCK_LENGTH, TapeParameters};
use scst_core::attribute::{hex, naa, number, switch, text};
use scst_scsi::DeviceType;
use scst_scsi::designator::Naa;
use thiserror::Error;

/// The largest logical block of a disk.
const MAX_BLOCK_SIZE: u32 = 64 << 10;
/// Default size of a disk or optical medium.
const DISK_BYTES: u64 = 1 << 30;
/// Default size of a tape.
const TAPE_BYTES: u64 = 1 << 40;
/// Without a value of its own the early warning comes when one part in so many is left.
const EARLY_WARNING_PART: u64 = 100;

/// What the device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `dev_disk_perf`: a disk.
    Disk,
    /// `dev_modisk_perf`: an optical memory device.
    Optical,
    /// `dev_tape_perf`: a tape.
    Tape,
}

impl Kind {
    /// Name of the handler.
    pub fn handler(self) -> &'static str {
        match self {
            Self::Disk => "dev_disk_perf",
            Self::Optical => "dev_modisk_perf",
            Self::Tape => "dev_tape_perf",
        }
    }
}

/// Settings of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PerfConfig {
    /// What it is.
    pub kind: Kind,
    /// Name of the device.
    pub name: String,
    /// What tells this installation from others (`setup_id`).
    pub instance: String,
    /// `size` in bytes.
    pub size: u64,
    /// `blocksize`: a power of two from 512 to 64 KiB; on a tape the block length after a reset, 0 for any.
    pub block_size: u32,
    /// `early_warning` (tape): bytes before the end from which on writes warn; None: a hundredth of the size.
    pub early_warning: Option<u64>,
    /// `strict_security`: data-in of READ are zeros.
    pub strict_security: bool,
    /// `read_only`.
    pub read_only: bool,
    /// `rotational` (disk).
    pub rotational: bool,
    /// `t10_vend_id`, at most 8 characters.
    pub vendor: Option<String>,
    /// `prod_id`, at most 16 characters.
    pub product: Option<String>,
    /// `prod_rev_lvl`, at most 4 characters.
    pub revision: Option<String>,
    /// `usn`, at most 20 characters.
    pub serial: Option<String>,
    /// `t10_dev_id`.
    pub t10_device_id: Option<String>,
    /// `naa_id`.
    pub naa: Option<Naa>,
    /// `eui64_id`.
    pub eui64: Option<u64>,
}

/// An attribute that is wrong, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("device {device}: {attribute} {value:?}: {problem}; {remedy}")]
pub struct ConfigError {
    /// The device.
    pub device: String,
    /// The attribute.
    pub attribute: String,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

impl PerfConfig {
    /// Everything at its default.
    pub fn new(kind: Kind, name: &str) -> Self {
        let (size, block_size) = match kind {
            Kind::Disk => (DISK_BYTES, 512),
            Kind::Optical => (DISK_BYTES, 2048),
            Kind::Tape => (TAPE_BYTES, 0),
        };
        Self {
            kind,
            name: name.to_owned(),
            instance: String::new(),
            size,
            block_size,
            early_warning: None,
            strict_security: true,
            read_only: false,
            rotational: true,
            vendor: None,
            product: None,
            revision: None,
            serial: None,
            t10_device_id: None,
            naa: None,
            eui64: None,
        }
    }

    /// Sets one attribute from its text, as it stands in `scst.conf`.
    ///
    /// # Errors
    /// An attribute that this kind of device does not have, or a value that it cannot have.
    pub fn set(&mut self, attribute: &str, value: &str) -> Result<(), ConfigError> {
        let parsed = match (attribute, self.kind) {
            ("size", _) => number(value).map(|n| self.size = n),
            ("size_mb", _) => number(value).map(|n| self.size = n.saturating_mul(1 << 20)),
            ("blocksize", _) => number(value).map(|n| self.block_size = u32::try_from(n).unwrap_or(u32::MAX)),
            ("early_warning", Kind::Tape) => number(value).map(|n| self.early_warning = Some(n)),
            ("rotational", Kind::Disk) => switch(value, &mut self.rotational),
            ("strict_security", _) => switch(value, &mut self.strict_security),
            ("read_only", _) => switch(value, &mut self.read_only),
            ("t10_vend_id", _) => text(value, 8, &mut self.vendor),
            ("prod_id", _) => text(value, 16, &mut self.product),
            ("prod_rev_lvl", _) => text(value, 4, &mut self.revision),
            ("usn", _) => text(value, 20, &mut self.serial),
            ("t10_dev_id", _) => text(value, 127, &mut self.t10_device_id),
            ("naa_id", _) => naa(value).map(|id| self.naa = Some(id)),
            ("eui64_id", _) => hex(value, 16).map(|id| self.eui64 = Some(id as u64)),
            _ => {
                let problem = format!("{} devices have no such attribute", self.kind.handler());
                return Err(self.error(attribute, value, &problem, "remove the attribute"));
            }
        };
        parsed.ok_or_else(|| self.error(attribute, value, "not a valid value", self.remedy_for(attribute)))
    }

    /// Checks that the attributes fit each other.
    ///
    /// # Errors
    /// The first one that does not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let block = self.block_size;
        let valid = match self.kind {
            Kind::Tape => block <= MAX_BLOCK_LENGTH,
            Kind::Disk | Kind::Optical => block.is_power_of_two() && (512..=MAX_BLOCK_SIZE).contains(&block),
        };
        if !valid {
            let remedy = self.remedy_for("blocksize");
            return Err(self.error("blocksize", &block.to_string(), "not a valid block size", remedy));
        }
        if self.kind == Kind::Tape {
            if self.size == 0 {
                return Err(self.error("size", "0", "a tape without any room", "make it larger"));
            }
            if let Some(bytes) = self.early_warning.filter(|bytes| *bytes >= self.size) {
                let remedy = format!("make it smaller than the size, {}", self.size);
                return Err(self.error("early_warning", &bytes.to_string(), "before the beginning", &remedy));
            }
        } else if self.size == 0 || !self.size.is_multiple_of(u64::from(block)) {
            let remedy = format!("make it a multiple of the block size, {block}");
            return Err(self.error("size", &self.size.to_string(), "not a whole number of blocks", &remedy));
        }
        Ok(())
    }

    /// What INQUIRY tells, and what a disk is.
    pub(crate) fn identity(&self) -> DiskParameters {
        // On a tape nothing looks at the block size of a disk.
        let block_size = if self.kind == Kind::Tape { MAX_BLOCK_LENGTH } else { self.block_size };
        let mut unit = DiskParameters::new(&self.name, &self.instance, block_size);
        unit.vendor = "SCST_PRF".to_owned();
        match self.kind {
            Kind::Disk => {}
            Kind::Optical => {
                unit.device_type = DeviceType::OPTICAL;
                unit.version_descriptors = ISCSI_OPTICAL_VERSIONS.to_vec();
            }
            Kind::Tape => {
                unit.device_type = DeviceType::TAPE;
                unit.version_descriptors = ISCSI_TAPE_VERSIONS.to_vec();
            }
        }
        unit.removable = self.kind != Kind::Disk;
        unit.read_only = self.read_only;
        unit.rotational = self.rotational;
        let replace = |field: &mut String, with: &Option<String>| {
            if let Some(with) = with {
                field.clone_from(with);
            }
        };
        replace(&mut unit.vendor, &self.vendor);
        replace(&mut unit.product, &self.product);
        replace(&mut unit.revision, &self.revision);
        replace(&mut unit.serial, &self.serial);
        replace(&mut unit.t10_device_id, &self.t10_device_id);
        unit.naa = self.naa.unwrap_or(unit.naa);
        unit.eui64 = self.eui64.unwrap_or(unit.eui64);
        unit
    }

    /// What a tape is.
    pub(crate) fn tape(&self) -> TapeParameters {
        let warning = self.early_warning.unwrap_or(self.size / EARLY_WARNING_PART);
        TapeParameters {
            identity: self.identity(),
            capacity: self.size,
            early_warning: self.size.saturating_sub(warning),
            block_length: self.block_size,
        }
    }

    fn error(&self, attribute: &str, value: &str, problem: &str, remedy: &str) -> ConfigError {
        ConfigError {
            device: self.name.clone(),
            attribute: attribute.to_owned(),
            value: value.to_owned(),
            problem: problem.to_owned(),
            remedy: remedy.to_owned(),
        }
    }

    fn remedy_for(&self, attribute: &str) -> &'static str {
        match attribute {
            "blocksize" if self.kind == Kind::Tape => {
                "use a number of bytes up to 8388608, or 0 for blocks of any length"
            }
            "blocksize" => "use a power of two from 512 to 65536",
            "size" | "size_mb" | "early_warning" => "use a decimal number, or a hexadecimal one after 0x",
            "naa_id" => "use 0x and 16 hexadecimal digits that begin with 2, 3 or 5, or 32 that begin with 6",
            "eui64_id" => "use 0x and 16 hexadecimal digits",
            "t10_vend_id" => "use at most 8 printable ASCII characters",
            "prod_id" => "use at most 16 printable ASCII characters",
            "prod_rev_lvl" => "use at most 4 printable ASCII characters",
            "usn" => "use at most 20 printable ASCII characters",
            "t10_dev_id" => "use at most 127 printable ASCII characters",
            _ => "use 0 or 1",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_a_device_of_its_type() {
        let identity = |kind| {
            let unit = PerfConfig::new(kind, "d").identity();
            (unit.device_type, unit.removable, unit.version_descriptors[3])
        };
        assert_eq!(identity(Kind::Disk), (DeviceType::DISK, false, 0x04c0));
        assert_eq!(identity(Kind::Optical), (DeviceType::OPTICAL, true, 0x0180));
        assert_eq!(identity(Kind::Tape), (DeviceType::TAPE, true, 0x0400));
        for kind in [Kind::Disk, Kind::Optical, Kind::Tape] {
            PerfConfig::new(kind, "d").validate().unwrap();
        }
    }

    #[test]
    fn attributes_are_taken_from_text() {
        let mut config = PerfConfig::new(Kind::Tape, "t");
        for (attribute, value) in
            [("size_mb", "100"), ("blocksize", "0x100"), ("early_warning", "1048576"), ("strict_security", "0")]
        {
            config.set(attribute, value).unwrap();
        }
        config.validate().unwrap();
        let tape = config.tape();
        assert_eq!((tape.capacity, tape.early_warning, tape.block_length), (100 << 20, 99 << 20, 256));
        assert!(!config.strict_security);
        assert_eq!(PerfConfig { early_warning: None, ..config }.tape().early_warning, 99 << 20);
    }

    #[test]
    fn errors_name_the_attribute_and_the_remedy() {
        let mut config = PerfConfig::new(Kind::Disk, "d");
        let error = config.set("early_warning", "1").unwrap_err().to_string();
        let expected =
            "device d: early_warning \"1\": dev_disk_perf devices have no such attribute; remove the attribute";
        assert_eq!(error, expected);
        assert_eq!(config.set("read_only", "yes").unwrap_err().remedy, "use 0 or 1");
        config.block_size = 3000;
        assert_eq!(config.validate().unwrap_err().remedy, "use a power of two from 512 to 65536");
        config = PerfConfig { size: 1000, ..PerfConfig::new(Kind::Optical, "m") };
        assert_eq!(config.validate().unwrap_err().remedy, "make it a multiple of the block size, 2048");
        config = PerfConfig { size: 1000, early_warning: Some(1000), ..PerfConfig::new(Kind::Tape, "t") };
        assert_eq!(config.validate().unwrap_err().remedy, "make it smaller than the size, 1000");
        config = PerfConfig { block_size: MAX_BLOCK_LENGTH + 1, ..PerfConfig::new(Kind::Tape, "t") };
        assert_eq!(config.validate().unwrap_err().attribute, "blocksize");
    }
}
