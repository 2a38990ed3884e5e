//! Attributes of a virtual disk, checked.

use std::path::PathBuf;

use scst_cmdset::DiskParameters;
use scst_core::attribute::{hex, naa, number, switch, text};
use scst_scsi::designator::Naa;
use thiserror::Error;

/// The largest logical block.
pub const MAX_BLOCK_SIZE: u32 = 64 << 10;
/// The longest SCSI device name: a designator has room for 255 bytes, of which this is padded to 252.
const MAX_DEVICE_NAME: usize = 251;
/// Default size of a NULLIO disk.
const NULL_BYTES: u64 = 1 << 30;
/// Default optimal transfer length in bytes.
const OPTIMAL_TRANSFER: u32 = 512 << 10;

/// What is behind a virtual disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `vdisk_fileio`: a file or block device.
    File,
    /// `vdisk_blockio`: a block device, past the page cache.
    Block,
    /// `vdisk_nullio`: nothing.
    Null,
}

impl Kind {
    /// Name of the handler in `scst.conf`.
    pub fn handler(self) -> &'static str {
        match self {
            Self::File => "vdisk_fileio",
            Self::Block => "vdisk_blockio",
            Self::Null => "vdisk_nullio",
        }
    }
}

/// Settings of a virtual disk; names and defaults are those of the original's attributes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VdiskConfig {
    /// FILEIO, BLOCKIO or NULLIO.
    pub kind: Kind,
    /// Name of the device.
    pub name: String,
    /// What tells this installation from others (`setup_id`). With the name it makes the default identifiers, so both
    /// must stay the same for the initiators to know the disk again.
    pub instance: String,
    /// How many reactors serve it: each has an open file description of its own, so that each hears of an error of
    /// writeback itself.
    pub reactors: u16,
    /// `filename` (FILEIO, BLOCKIO).
    pub filename: PathBuf,
    /// `blocksize`: a power of two from 512 to [`MAX_BLOCK_SIZE`].
    pub block_size: u32,
    /// `size` in bytes (NULLIO).
    pub size: u64,
    /// `write_through`: no write cache by default.
    pub write_through: bool,
    /// `nv_cache`: the cache survives a power loss, nothing has to be flushed.
    pub nv_cache: bool,
    /// `read_only`.
    pub read_only: bool,
    /// `share_rw` (FILEIO, BLOCKIO): others may write the file, too; without it nobody else may have it.
    pub share_rw: bool,
    /// `removable`.
    pub removable: bool,
    /// `rotational`; None: what the block device says of itself, else yes.
    pub rotational: Option<bool>,
    /// `thin_provisioned`.
    pub thin_provisioned: bool,
    /// `o_direct` (FILEIO).
    pub o_direct: bool,
    /// `zero_copy_read` (FILEIO): large READs are answered from the page cache without a copy in between.
    pub zero_copy_read: bool,
    /// `read_zero` (NULLIO).
    pub read_zero: bool,
    /// `dummy` (NULLIO): a place holder for LUN 0.
    pub dummy: bool,
    /// `opt_trans_len` in bytes.
    pub optimal_transfer: u32,
    /// `lb_per_pb_exp`: report how many logical blocks make a physical one.
    pub report_physical_blocks: bool,
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
    /// `vend_specific_id`, at most 32 characters.
    pub vendor_specific_id: Option<String>,
    /// `scsi_device_name`.
    pub scsi_device_name: Option<String>,
    /// `inq_vend_specific`, at most 20 characters.
    pub inquiry_vendor_specific: Option<String>,
    /// `tst`: one task set per I_T nexus (1), or one for all (0).
    pub task_set_per_nexus: bool,
}

/// An attribute that is wrong, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("device {device}: {attribute} {value}: {problem}; {remedy}")]
pub struct ConfigError {
    /// The device.
    pub device: String,
    /// The attribute.
    pub attribute: String,
    /// Its value, in quotes; empty when there is none.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

impl VdiskConfig {
    /// A disk over a file or block device.
    pub fn file(name: &str, filename: impl Into<PathBuf>) -> Self {
        Self { filename: filename.into(), ..Self::new(Kind::File, name) }
    }

    /// A disk over a block device, past the page cache.
    pub fn block(name: &str, filename: impl Into<PathBuf>) -> Self {
        Self { filename: filename.into(), ..Self::new(Kind::Block, name) }
    }

    /// A disk over nothing.
    pub fn null(name: &str, size: u64) -> Self {
        Self { size, ..Self::new(Kind::Null, name) }
    }

    /// Everything at its default; a FILEIO or BLOCKIO disk still needs a file name.
    pub fn new(kind: Kind, name: &str) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            instance: String::new(),
            reactors: 1,
            filename: PathBuf::new(),
            block_size: 512,
            size: NULL_BYTES,
            write_through: false,
            nv_cache: false,
            read_only: false,
            share_rw: false,
            removable: false,
            rotational: (kind != Kind::Block).then_some(true),
            thin_provisioned: false,
            o_direct: false,
            zero_copy_read: false,
            read_zero: false,
            dummy: false,
            optimal_transfer: OPTIMAL_TRANSFER,
            report_physical_blocks: true,
            vendor: None,
            product: None,
            revision: None,
            serial: None,
            t10_device_id: None,
            naa: None,
            eui64: None,
            vendor_specific_id: None,
            scsi_device_name: None,
            inquiry_vendor_specific: None,
            task_set_per_nexus: true,
        }
    }

    /// Sets one attribute from its text, as it stands in `scst.conf`.
    ///
    /// # Errors
    /// An attribute that this kind of disk does not have, or a value that it cannot have.
    pub fn set(&mut self, attribute: &str, value: &str) -> Result<(), ConfigError> {
        let parsed = match (attribute, self.kind) {
            ("filename", Kind::File | Kind::Block) => return self.set_filename(value),
            ("blocksize", _) => number(value).map(|n| self.block_size = u32::try_from(n).unwrap_or(u32::MAX)),
            ("size", Kind::Null) => number(value).map(|n| self.size = n),
            ("size_mb", Kind::Null) => number(value).map(|n| self.size = n.saturating_mul(1 << 20)),
            ("opt_trans_len", _) => number(value).map(|n| self.optimal_transfer = u32::try_from(n).unwrap_or(u32::MAX)),
            ("write_through", _) => switch(value, &mut self.write_through),
            ("nv_cache", _) => switch(value, &mut self.nv_cache),
            ("read_only", _) => switch(value, &mut self.read_only),
            ("share_rw", Kind::File | Kind::Block) => switch(value, &mut self.share_rw),
            ("removable", _) => switch(value, &mut self.removable),
            ("rotational", _) => {
                let mut rotational = false;
                switch(value, &mut rotational).map(|()| self.rotational = Some(rotational))
            }
            ("thin_provisioned", _) => switch(value, &mut self.thin_provisioned),
            ("o_direct", Kind::File) => switch(value, &mut self.o_direct),
            ("zero_copy_read", Kind::File) => switch(value, &mut self.zero_copy_read),
            ("read_zero", Kind::Null) => switch(value, &mut self.read_zero),
            ("dummy", Kind::Null) => switch(value, &mut self.dummy),
            ("lb_per_pb_exp", _) => switch(value, &mut self.report_physical_blocks),
            ("t10_vend_id", _) => text(value, 8, &mut self.vendor),
            ("prod_id", _) => text(value, 16, &mut self.product),
            ("prod_rev_lvl", _) => text(value, 4, &mut self.revision),
            ("usn", _) => text(value, 20, &mut self.serial),
            ("t10_dev_id", _) => text(value, 127, &mut self.t10_device_id),
            ("vend_specific_id", _) => text(value, 32, &mut self.vendor_specific_id),
            ("scsi_device_name", _) => text(value, MAX_DEVICE_NAME, &mut self.scsi_device_name),
            ("inq_vend_specific", _) => text(value, 20, &mut self.inquiry_vendor_specific),
            ("tst", _) => switch(value, &mut self.task_set_per_nexus),
            ("naa_id", _) => naa(value).map(|id| self.naa = Some(id)),
            ("eui64_id", _) => hex(value, 16).map(|id| self.eui64 = Some(id as u64)),
            _ => {
                let kind = self.kind.handler();
                let remedy = "remove the attribute".to_owned();
                return Err(self.error(attribute, value, &format!("{kind} devices have no such attribute"), &remedy));
            }
        };
        parsed.ok_or_else(|| self.error(attribute, value, "not a valid value", remedy_for(attribute)))
    }

    fn set_filename(&mut self, value: &str) -> Result<(), ConfigError> {
        if !value.starts_with('/') {
            return Err(self.error("filename", value, "not an absolute path", "write the path from / on"));
        }
        self.filename = value.into();
        Ok(())
    }

    /// Checks everything that can be checked without opening a file.
    ///
    /// # Errors
    /// The first attribute that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let error = |attribute: &str, value: String, problem: &str, remedy: &str| {
            Err(self.error(attribute, &value, problem, remedy))
        };
        let block_size = self.block_size;
        if !block_size.is_power_of_two() || !(512..=MAX_BLOCK_SIZE).contains(&block_size) {
            return error("blocksize", block_size.to_string(), "not a valid block size", remedy_for("blocksize"));
        }
        if self.kind != Kind::Null && self.filename.as_os_str().is_empty() {
            return error("filename", String::new(), "missing", "name the file or block device behind the disk");
        }
        let whole = self.size >= u64::from(block_size) && self.size.is_multiple_of(u64::from(block_size));
        if self.kind == Kind::Null && !self.dummy && !whole {
            let remedy = format!("make it a multiple of the block size, {block_size}");
            return error("size", self.size.to_string(), "not a whole number of blocks", &remedy);
        }
        if self.zero_copy_read && self.o_direct {
            let remedy = "remove one of them: o_direct leaves the page cache out, zero_copy_read sends what is in it";
            return error("zero_copy_read", "1".to_owned(), "contradicts o_direct", remedy);
        }
        if self.write_through && self.nv_cache {
            let remedy = "remove one of them: write_through has no cache, nv_cache has one that need not be flushed";
            return error("nv_cache", "1".to_owned(), "contradicts write_through", remedy);
        }
        Ok(())
    }

    /// Identity of the disk; what depends on the file is filled in when it is open.
    pub(crate) fn parameters(&self) -> DiskParameters {
        let mut disk = DiskParameters::new(&self.name, &self.instance, self.block_size);
        match self.kind {
            Kind::File => {}
            Kind::Block => disk.vendor = "SCST_BIO".to_owned(),
            Kind::Null => disk.vendor = "SCST_NIO".to_owned(),
        }
        let replace = |field: &mut String, with: &Option<String>| {
            if let Some(with) = with {
                field.clone_from(with);
            }
        };
        replace(&mut disk.vendor, &self.vendor);
        replace(&mut disk.product, &self.product);
        replace(&mut disk.revision, &self.revision);
        replace(&mut disk.serial, &self.serial);
        replace(&mut disk.t10_device_id, &self.t10_device_id);
        replace(&mut disk.vendor_specific_id, &self.vendor_specific_id);
        replace(&mut disk.scsi_device_name, &self.scsi_device_name);
        replace(&mut disk.inquiry_vendor_specific, &self.inquiry_vendor_specific);
        disk.task_set_per_nexus = self.task_set_per_nexus;
        disk.naa = self.naa.unwrap_or(disk.naa);
        disk.eui64 = self.eui64.unwrap_or(disk.eui64);
        disk.optimal_transfer_blocks = self.optimal_transfer / self.block_size;
        disk.rotational = self.rotational.unwrap_or(true);
        disk.removable = self.removable;
        disk.read_only = self.read_only;
        disk.nv_cache = self.nv_cache;
        disk.write_through = self.write_through;
        disk.dummy = self.dummy;
        disk
    }

    /// Whether its transfers go past the page cache.
    pub(crate) fn is_direct(&self) -> bool {
        self.o_direct || self.kind == Kind::Block
    }

    pub(crate) fn error(&self, attribute: &str, value: &str, problem: &str, remedy: &str) -> ConfigError {
        ConfigError {
            device: self.name.clone(),
            attribute: attribute.to_owned(),
            value: if value.is_empty() { String::new() } else { format!("{value:?}") },
            problem: problem.to_owned(),
            remedy: remedy.to_owned(),
        }
    }
}

fn remedy_for(attribute: &str) -> &'static str {
    match attribute {
        "blocksize" => "use a power of two from 512 to 65536",
        "size" | "size_mb" | "opt_trans_len" => "use a decimal number, or a hexadecimal one after 0x",
        "naa_id" => "use 0x and 16 hexadecimal digits that begin with 2, 3 or 5, or 32 that begin with 6",
        "eui64_id" => "use 0x and 16 hexadecimal digits",
        "t10_vend_id" => "use at most 8 printable ASCII characters",
        "prod_id" => "use at most 16 printable ASCII characters",
        "prod_rev_lvl" => "use at most 4 printable ASCII characters",
        "usn" => "use at most 20 printable ASCII characters",
        "vend_specific_id" => "use at most 32 printable ASCII characters",
        "scsi_device_name" => "use at most 251 printable ASCII characters",
        "inq_vend_specific" => "use at most 20 printable ASCII characters",
        "t10_dev_id" => "use at most 127 printable ASCII characters",
        _ => "use 0 or 1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_taken_from_text() {
        let mut config = VdiskConfig::new(Kind::File, "d1");
        for (attribute, value) in [
            ("filename", "/d/1"),
            ("blocksize", "4096"),
            ("write_through", "1"),
            ("rotational", "0"),
            ("naa_id", "0x5000c50012345678"),
            ("usn", "abc"),
        ] {
            config.set(attribute, value).unwrap();
        }
        config.validate().unwrap();
        assert_eq!((config.block_size, config.write_through, config.rotational), (4096, true, Some(false)));
        let disk = config.parameters();
        assert_eq!((disk.naa, disk.serial.as_str()), (Naa::Short(0x5000_c500_1234_5678), "abc"));
        assert_eq!((disk.optimal_transfer_blocks, disk.vendor.as_str()), (128, "SCST_FIO"));
    }

    #[test]
    fn errors_name_the_attribute_and_the_remedy() {
        let mut config = VdiskConfig::new(Kind::File, "d1");
        assert_eq!(
            config.set("read_only", "yes").unwrap_err().to_string(),
            "device d1: read_only \"yes\": not a valid value; use 0 or 1"
        );
        assert_eq!(
            config.set("dummy", "1").unwrap_err().to_string(),
            "device d1: dummy \"1\": vdisk_fileio devices have no such attribute; remove the attribute"
        );
        assert_eq!(
            config.set("filename", "disk.img").unwrap_err().to_string(),
            "device d1: filename \"disk.img\": not an absolute path; write the path from / on"
        );
        assert_eq!(config.validate().unwrap_err().attribute, "filename");
        config.block_size = 3000;
        assert_eq!(config.validate().unwrap_err().remedy, "use a power of two from 512 to 65536");
    }

    #[test]
    fn a_block_device_is_always_past_the_page_cache_and_says_itself_whether_it_rotates() {
        let mut config = VdiskConfig::new(Kind::Block, "d1");
        assert_eq!(config.validate().unwrap_err().attribute, "filename");
        config.set("filename", "/dev/vg0/d1").unwrap();
        config.validate().unwrap();
        assert_eq!(config, VdiskConfig::block("d1", "/dev/vg0/d1"));
        assert!(config.is_direct() && !VdiskConfig::file("d1", "/d").is_direct());
        assert_eq!((config.rotational, config.parameters().vendor.as_str()), (None, "SCST_BIO"));
        let refused = config.set("o_direct", "1").unwrap_err().to_string();
        assert_eq!(
            refused,
            "device d1: o_direct \"1\": vdisk_blockio devices have no such attribute; remove the attribute"
        );
    }

    #[test]
    fn contradictions_are_found() {
        let mut config = VdiskConfig::null("n", 1000);
        assert_eq!(config.validate().unwrap_err().attribute, "size");
        config.size = 1024;
        (config.write_through, config.nv_cache) = (true, true);
        assert_eq!(config.validate().unwrap_err().attribute, "nv_cache");
        assert_eq!(config.set("naa_id", "0x6000000000000000").unwrap_err().attribute, "naa_id");
        config.set("naa_id", "60000000000000000000000000000001").unwrap();
        assert_eq!(config.naa, Some(Naa::Extended(0x6000_0000_0000_0000_0000_0000_0000_0001)));
    }

    #[test]
    fn identifiers_follow_from_name_and_instance() {
        let identity = |name: &str, instance: &str| {
            let disk = VdiskConfig { instance: instance.to_owned(), ..VdiskConfig::null(name, 512) }.parameters();
            (disk.serial, disk.t10_device_id, disk.naa, disk.eui64)
        };
        assert_eq!(identity("a", "1"), identity("a", "1"));
        assert_ne!(identity("a", "1"), identity("a", "2"));
        assert_ne!(identity("a", "1"), identity("b", "1"));
    }
}
