//! A configured device as an open virtual disk.

use std::fs;
use std::sync::Arc;

use anyhow::{Context, Result};
use scst_config::rules::{self, Support};
use scst_config::{Attributes, Device, HandlerKind};
use scst_handler_vdisk::{Change, Kind, OpenShard, ShardLink, Vdisk, VdiskConfig};
use scst_reactor::backend::FileRegistry;

use crate::reactor_loop::{DeviceHalf, DeviceLink, DeviceSource};

/// An open disk; reactors hold the other ends of it.
#[derive(Clone, Debug)]
pub struct Disk {
    vdisk: Arc<Vdisk>,
    /// The file, or what stands in for one; for the log.
    behind: String,
}

impl Disk {
    /// Opens a device for so many reactors. A backing file that is missing is no error, see [`Disk::poll`].
    ///
    /// # Errors
    /// Attributes that contradict each other, or do not fit the file.
    pub fn open(name: &str, device: &Device, globals: &Attributes, reactors: u16) -> Result<Self> {
        let vdisk = Vdisk::open(VdiskConfig { reactors, ..vdisk_config(name, device, globals)? })?;
        let behind = device.attributes.text_if_known("filename").map_or_else(|| "no file".to_owned(), str::to_owned);
        Ok(Self { vdisk: Arc::new(vdisk), behind })
    }

    /// Everything that can be said about a device without opening it.
    ///
    /// # Errors
    /// Attributes that contradict each other.
    pub fn check(name: &str, device: &Device, globals: &Attributes) -> Result<()> {
        Ok(vdisk_config(name, device, globals)?.validate()?)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.vdisk.name()
    }

    /// What is behind it and how large it is, for the log.
    pub fn describe(&self) -> String {
        format!("{} ({} bytes)", self.behind, self.vdisk.status().bytes)
    }

    /// Whether its file is there.
    pub fn is_online(&self) -> bool {
        self.vdisk.status().online
    }

    /// Looks whether a file that was away is back. May block for as long as the file system does.
    pub fn poll(&self) -> Option<Change> {
        self.vdisk.poll()
    }

    /// Takes over the size of its file; opens the file anew when written data were lost, since the operator who asks
    /// for this has repaired it.
    ///
    /// # Errors
    /// What the system says.
    pub fn resynchronise(&self) -> Result<Option<Change>> {
        if self.vdisk.status().flush_error.is_some() {
            return Ok(Some(self.vdisk.reopen()?));
        }
        self.vdisk.resync_size().with_context(|| self.behind.clone())
    }

    /// Makes everything written durable.
    ///
    /// # Errors
    /// The error of the storage: written data may be lost.
    pub fn flush(&self) -> Result<()> {
        self.vdisk.sync().with_context(|| format!("device {}: {} cannot be flushed", self.name(), self.behind))
    }

    /// What reactors need.
    pub fn source(&self) -> Arc<dyn DeviceSource> {
        Arc::new(VdiskSource(Arc::clone(&self.vdisk)))
    }
}

struct VdiskSource(Arc<Vdisk>);

impl DeviceSource for VdiskSource {
    fn open_half(&self, files: &mut dyn FileRegistry) -> DeviceHalf {
        let OpenShard { shard, link } = self.0.open_shard(files);
        DeviceHalf { handler: shard, link: Some(Box::new(VdiskLink(link))) }
    }
}

struct VdiskLink(ShardLink);

impl DeviceLink for VdiskLink {
    fn refresh(&mut self, files: &mut dyn FileRegistry) {
        self.0.refresh(files);
    }

    fn close(self: Box<Self>, files: &mut dyn FileRegistry) {
        self.0.close(files);
    }
}

/// Every attribute that works is one of the handler's.
fn vdisk_config(name: &str, device: &Device, globals: &Attributes) -> Result<VdiskConfig> {
    let kind = match device.handler {
        HandlerKind::VdiskFileio => Kind::File,
        HandlerKind::VdiskBlockio => Kind::Block,
        HandlerKind::VdiskNullio => Kind::Null,
    };
    let mut config = VdiskConfig::new(kind, name);
    config.instance = instance(globals);
    for (attribute, values) in device.attributes.given() {
        let works = rules::find(device.attributes.table(), attribute).is_some_and(|r| r.support == Support::Works);
        if let Some(value) = values.first().filter(|_| works) {
            config.set(attribute, value)?;
        }
    }
    Ok(config)
}

/// What goes into default serial numbers and identifiers: `setup_id`, else the identity of the machine. Two machines
/// with a device of the same name must not look like two paths to one disk.
fn instance(globals: &Attributes) -> String {
    match globals.number("setup_id") {
        Some(id) if id != 0 => format!("{id:x}"),
        _ => fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scst_config::parse;
    use scst_scsi::designator::Naa;

    fn configured(text: &str) -> Result<VdiskConfig> {
        let configuration = parse("test", text.as_bytes())?.configuration;
        let (name, device) = configuration.devices.first_key_value().expect("a device");
        vdisk_config(name, device, &configuration.globals)
    }

    #[test]
    fn attributes_reach_the_handler() {
        let text = "setup_id 0x1f\nHANDLER vdisk_fileio {\nDEVICE d {\nfilename /x\nblocksize 0x1000\nnv_cache 1\n\
                    threads_num 3\nusn abc\nnaa_id 0x5002c1ffffffffff\n}\n}";
        let config = configured(text).unwrap();
        let expected = VdiskConfig {
            instance: "1f".to_owned(),
            block_size: 4096,
            nv_cache: true,
            serial: Some("abc".to_owned()),
            naa: Some(Naa::Short(0x5002_c1ff_ffff_ffff)),
            ..VdiskConfig::file("d", "/x")
        };
        assert_eq!(config, expected);
        let config = configured("HANDLER vdisk_nullio {\nDEVICE d {\nsize_mb 3\ndummy 0\n}\n}").unwrap();
        assert_eq!((config.kind, config.size), (Kind::Null, 3 << 20));
    }

    /// Each table has one truth: what the configuration accepts, the handler must too, and the defaults are the same.
    #[test]
    fn the_defaults_of_the_table_are_those_of_the_handler() {
        for handler in HandlerKind::ALL {
            let (text, kind) = match handler {
                HandlerKind::VdiskFileio => ("HANDLER vdisk_fileio {\nDEVICE d {\nfilename /x\n}\n}", Kind::File),
                HandlerKind::VdiskBlockio => ("HANDLER vdisk_blockio {\nDEVICE d {\nfilename /x\n}\n}", Kind::Block),
                HandlerKind::VdiskNullio => ("HANDLER vdisk_nullio {\nDEVICE d\n}", Kind::Null),
            };
            let plain = configured(text).unwrap();
            assert_eq!(plain.kind, kind);
            let mut set = plain.clone();
            for rule in rules::rows(handler.table()).filter(|r| r.support == Support::Works && !r.default.is_empty()) {
                set.set(rule.name, rule.default).unwrap();
            }
            assert_eq!(set, plain);
        }
    }
}
