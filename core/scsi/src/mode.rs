//! Mode parameters (SPC-6 7.5, SBC-4 6.5, SSC-5): headers, block descriptors and pages.
//!
//! A page is a struct. The same struct stands for current, default and saved values, and, with a one in every bit that
//! may change, for the changeable values: MODE SENSE emits whichever is asked for, and [`first_unchangeable`] compares.

mod header;
mod pages;
mod tape;

pub use header::{BlockDescriptor, ModeHeader, device_specific, medium_type};
pub use pages::{
    CachingPage, ControlExtensionPage, ControlPage, ErrorRecoveryPage, InformationalExceptionsPage, ModePage,
    OpticalMemoryPage, RawPage, RawPages, first_unchangeable, page,
};
pub use tape::{DataCompressionPage, DeviceConfigurationPage};
