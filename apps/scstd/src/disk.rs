//! A configured device as an open one: a virtual disk, or a device without data.

use std::sync::Arc;

use anyhow::{Context, Result};
use scst_config::rules::{self, Support};
use scst_config::{Device, HandlerKind};
use scst_handler_perf::{PerfConfig, PerfDevice};
use scst_handler_vdisk::{Change, ErrorCount, ErrorKind, Kind, OpenShard, ShardLink, Vdisk, VdiskConfig};
use scst_reactor::backend::FileRegistry;
use scst_scsi::Asc;

use crate::reactor_loop::{DeviceHalf, DeviceLink, DeviceSource};

/// An open device; reactors hold the other ends of it.
#[derive(Clone, Debug)]
pub struct Disk {
    opened: Opened,
    /// The file, or what stands in for one; for the log.
    behind: String,
}

#[derive(Clone, Debug)]
enum Opened {
    Vdisk(Arc<Vdisk>),
    Perf(Arc<PerfDevice>),
}

impl Disk {
    /// Opens a device for so many reactors. A backing file that is missing is no error, see [`Disk::poll`]. `instance`
    /// tells this installation from others, see [`crate::identity`].
    ///
    /// # Errors
    /// Attributes that contradict each other, or do not fit the file.
    pub fn open(name: &str, device: &Device, instance: &str, reactors: u16) -> Result<Self> {
        let opened = match configured(name, device, instance)? {
            Configured::Vdisk(config) => Opened::Vdisk(Arc::new(Vdisk::open(VdiskConfig { reactors, ..config })?)),
            Configured::Perf(config) => Opened::Perf(Arc::new(PerfDevice::open(config)?)),
        };
        let behind = device.attributes.text_if_known("filename").map_or_else(|| "no file".to_owned(), str::to_owned);
        Ok(Self { opened, behind })
    }

    /// Everything that can be said about a device without opening it.
    ///
    /// # Errors
    /// Attributes that contradict each other.
    pub fn check(name: &str, device: &Device) -> Result<()> {
        match configured(name, device, "")? {
            Configured::Vdisk(config) => config.validate()?,
            Configured::Perf(config) => config.validate()?,
        }
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match &self.opened {
            Opened::Vdisk(vdisk) => vdisk.name(),
            Opened::Perf(device) => device.name(),
        }
    }

    /// What is behind it: the path of its file, if it has one.
    pub fn behind(&self) -> &str {
        &self.behind
    }

    /// What is behind it and how large it is, for the log.
    pub fn describe(&self) -> String {
        let bytes = match &self.opened {
            Opened::Vdisk(vdisk) => vdisk.status().bytes,
            Opened::Perf(device) => device.config().size,
        };
        format!("{} ({bytes} bytes)", self.behind)
    }

    /// Whether its file is there.
    pub fn is_online(&self) -> bool {
        self.vdisk().is_none_or(|vdisk| vdisk.status().online)
    }

    /// Looks whether a file that was away is back. May block for as long as the file system does.
    pub fn poll(&self) -> Option<Change> {
        self.vdisk()?.poll()
    }

    /// Looks at its file: see [`Vdisk::look`]. Waits for as long as the file system does.
    pub fn look(&self) {
        if let Some(vdisk) = self.vdisk() {
            vdisk.look();
        }
    }

    /// Takes its file as it is now, since the operator asks for it: see [`Vdisk::reload`].
    ///
    /// # Errors
    /// What the system says.
    pub fn resynchronise(&self) -> Result<Option<Change>> {
        let Some(vdisk) = self.vdisk() else { return Ok(None) };
        Ok(vdisk.reload()?)
    }

    /// Lets other devices use its file, because it is about to go; or takes that back.
    pub fn set_yields(&self, yields: bool) {
        match self.vdisk() {
            Some(vdisk) if yields => vdisk.yield_file(),
            Some(vdisk) => vdisk.keep_file(),
            None => {}
        }
    }

    /// What initiators have to be told that know another disk under the same name: see [`Vdisk::differences_from`].
    pub fn differences_from(&self, old: &Self) -> Vec<Asc> {
        match (self.vdisk(), old.vdisk()) {
            (Some(new), Some(old)) => new.differences_from(old),
            // Disks of different kinds have little in common.
            _ => vec![Asc::CAPACITY_DATA_CHANGED, Asc::INQUIRY_DATA_CHANGED, Asc::MODE_PARAMETERS_CHANGED],
        }
    }

    /// What its storage failed to do, if it has any.
    pub fn storage_errors(&self) -> Option<[(ErrorKind, ErrorCount); 3]> {
        let vdisk = self.vdisk()?;
        Some(ErrorKind::ALL.map(|kind| (kind, vdisk.storage_errors(kind))))
    }

    /// Makes everything written durable.
    ///
    /// # Errors
    /// The error of the storage: written data may be lost.
    pub fn flush(&self) -> Result<()> {
        let Some(vdisk) = self.vdisk() else { return Ok(()) };
        vdisk.sync().with_context(|| format!("device {}: {} cannot be flushed", self.name(), self.behind))
    }

    /// What reactors need.
    pub fn source(&self) -> Arc<dyn DeviceSource> {
        match &self.opened {
            Opened::Vdisk(vdisk) => Arc::new(VdiskSource(Arc::clone(vdisk))),
            Opened::Perf(device) => Arc::new(PerfSource(Arc::clone(device))),
        }
    }

    /// The virtual disk, if there can be a file.
    fn vdisk(&self) -> Option<&Vdisk> {
        match &self.opened {
            Opened::Vdisk(vdisk) => Some(vdisk),
            Opened::Perf(_) => None,
        }
    }
}

struct VdiskSource(Arc<Vdisk>);

impl DeviceSource for VdiskSource {
    fn open_half(&self, files: &mut dyn FileRegistry) -> DeviceHalf {
        let OpenShard { shard, link } = self.0.open_shard(files);
        DeviceHalf { handler: shard, link: Some(Box::new(VdiskLink(link))) }
    }
}

struct PerfSource(Arc<PerfDevice>);

impl DeviceSource for PerfSource {
    fn open_half(&self, _: &mut dyn FileRegistry) -> DeviceHalf {
        DeviceHalf { handler: self.0.open_shard(), link: None }
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

/// The settings of a device, as its handler takes them.
#[derive(Clone, PartialEq, Debug)]
enum Configured {
    Vdisk(VdiskConfig),
    Perf(PerfConfig),
}

impl Configured {
    fn new(handler: HandlerKind, name: &str) -> Self {
        let perf = |kind| Self::Perf(PerfConfig::new(kind, name));
        match handler {
            HandlerKind::VdiskFileio => Self::Vdisk(VdiskConfig::new(Kind::File, name)),
            HandlerKind::VdiskBlockio => Self::Vdisk(VdiskConfig::new(Kind::Block, name)),
            HandlerKind::VdiskNullio => Self::Vdisk(VdiskConfig::new(Kind::Null, name)),
            HandlerKind::DevDiskPerf => perf(scst_handler_perf::Kind::Disk),
            HandlerKind::DevModiskPerf => perf(scst_handler_perf::Kind::Optical),
            HandlerKind::DevTapePerf => perf(scst_handler_perf::Kind::Tape),
        }
    }

    fn set(&mut self, attribute: &str, value: &str) -> Result<()> {
        match self {
            Self::Vdisk(config) => config.set(attribute, value)?,
            Self::Perf(config) => config.set(attribute, value)?,
        }
        Ok(())
    }
}

/// Every attribute that works is one of the handler's.
fn configured(name: &str, device: &Device, instance: &str) -> Result<Configured> {
    let mut config = Configured::new(device.handler, name);
    match &mut config {
        Configured::Vdisk(config) => instance.clone_into(&mut config.instance),
        Configured::Perf(config) => instance.clone_into(&mut config.instance),
    }
    for (attribute, values) in device.attributes.given() {
        let works = rules::find(device.attributes.table(), attribute).is_some_and(|r| r.support == Support::Works);
        if let Some(value) = values.first().filter(|_| works) {
            config.set(attribute, value)?;
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use scst_config::parse;
    use scst_scsi::designator::Naa;

    fn device(text: &str) -> Result<Configured> {
        let configuration = parse("test", text.as_bytes())?.configuration;
        let (name, device) = configuration.devices.first_key_value().expect("a device");
        configured(name, device, &crate::identity::chosen(&configuration.globals).unwrap_or_default())
    }

    #[test]
    fn attributes_reach_the_handler() {
        let text = "setup_id 0x1f\nHANDLER vdisk_fileio {\nDEVICE d {\nfilename /x\nblocksize 0x1000\nnv_cache 1\n\
                    threads_num 3\nusn abc\nnaa_id 0x5002c1ffffffffff\n}\n}";
        let config = device(text).unwrap();
        let expected = VdiskConfig {
            instance: "1f".to_owned(),
            block_size: 4096,
            nv_cache: true,
            serial: Some("abc".to_owned()),
            naa: Some(Naa::Short(0x5002_c1ff_ffff_ffff)),
            ..VdiskConfig::file("d", "/x")
        };
        assert_eq!(config, Configured::Vdisk(expected));
        let config = device("HANDLER vdisk_nullio {\nDEVICE d {\nsize_mb 3\ndummy 0\n}\n}").unwrap();
        assert_eq!(config, Configured::Vdisk(VdiskConfig::null("d", 3 << 20)));
        let config =
            device("setup_id 1\nHANDLER dev_tape_perf {\nDEVICE t {\nsize 8G\nstrict_security 0\n}\n}").unwrap();
        let expected = PerfConfig {
            instance: "1".to_owned(),
            size: 8 << 30,
            strict_security: false,
            ..PerfConfig::new(scst_handler_perf::Kind::Tape, "t")
        };
        assert_eq!(config, Configured::Perf(expected));
    }

    /// Each table has one truth: what the configuration accepts, the handler must too, and the defaults are the same.
    #[test]
    fn the_defaults_of_the_table_are_those_of_the_handler() {
        for handler in HandlerKind::ALL {
            let has_file = matches!(handler, HandlerKind::VdiskFileio | HandlerKind::VdiskBlockio);
            let filename = if has_file { "filename /x" } else { "" };
            let text = format!("HANDLER {} {{\nDEVICE d {{\n{filename}\n}}\n}}", handler.name());
            let plain = device(&text).unwrap();
            if let Configured::Perf(config) = &plain {
                assert_eq!(config.kind.handler(), handler.name());
            }
            let mut set = plain.clone();
            for rule in rules::rows(handler.table()).filter(|r| r.support == Support::Works && !r.default.is_empty()) {
                set.set(rule.name, rule.default).unwrap();
            }
            assert_eq!(set, plain);
        }
    }
}
