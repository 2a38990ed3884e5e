//! The control side of a device.

use std::sync::Arc;

use scst_core::handler::HandlerShard;

use crate::block::{BlockDevice, BlockShard};
use crate::config::{ConfigError, Kind, PerfConfig};
use crate::tape::{TapeDevice, TapeShard};
use crate::wrapper::Perf;

/// An emulated device without data: what the control plane holds. What is on a tape lives as long as this.
#[derive(Debug)]
pub struct PerfDevice {
    config: PerfConfig,
    device: Device,
}

#[derive(Debug)]
enum Device {
    Block(Arc<BlockDevice>),
    Tape(Arc<TapeDevice>),
}

impl PerfDevice {
    /// Makes a device.
    ///
    /// # Errors
    /// Attributes that contradict each other.
    pub fn open(config: PerfConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let device = match config.kind {
            Kind::Disk | Kind::Optical => Device::Block(Arc::new(BlockDevice::new(config.identity(), config.size))),
            Kind::Tape => Device::Tape(Arc::new(TapeDevice::new(config.tape()))),
        };
        Ok(Self { config, device })
    }

    /// Its half for one reactor.
    pub fn open_shard(&self) -> Box<dyn HandlerShard> {
        let strict = self.config.strict_security;
        match &self.device {
            Device::Block(device) => Box::new(Perf::new(BlockShard::new(device), BlockShard::account, strict)),
            Device::Tape(device) => Box::new(Perf::new(TapeShard::new(device), TapeShard::account, strict)),
        }
    }

    /// Name of the device.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The settings it was made with.
    pub fn config(&self) -> &PerfConfig {
        &self.config
    }
}
