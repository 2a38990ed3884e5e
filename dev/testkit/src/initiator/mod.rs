//! An iSCSI initiator (RFC 7143) for tests: a core without I/O, and a blocking connection around it.
//!
//! The core checks everything that the target sends (sequence numbers, window, offsets, lengths, residuals, answers
//! in negotiation) and reports a [`Violation`] for what the RFC does not allow.

mod command;
mod config;
mod core;
mod event;
mod full_feature;
mod login;
mod negotiate;
mod tcp;
#[cfg(test)]
mod tests;

pub use command::{Amount, Command, DataOutPlan, Outcome, Residual, TaskAttribute};
pub use config::{LoginConfig, NORMAL_SESSION_KEYS, Offer, Parameters};
pub use core::{Core, Phase, Tamper, TamperHook};
pub use event::{AsyncMessage, Event, LoginFailure, R2t, Rejected, Violation};
pub use tcp::{DiscoveredTarget, Error, Initiator, Tag};

/// Task management functions (RFC 7143 11.5.1).
#[expect(missing_docs, reason = "the names are those of the RFC")]
pub mod tmf {
    pub const ABORT_TASK: u8 = 1;
    pub const ABORT_TASK_SET: u8 = 2;
    pub const CLEAR_ACA: u8 = 3;
    pub const CLEAR_TASK_SET: u8 = 4;
    pub const LOGICAL_UNIT_RESET: u8 = 5;
    pub const TARGET_WARM_RESET: u8 = 6;
    pub const TARGET_COLD_RESET: u8 = 7;
    pub const TASK_REASSIGN: u8 = 8;

    /// Responses (RFC 7143 11.6.1).
    pub mod response {
        pub const COMPLETE: u8 = 0;
        pub const TASK_DOES_NOT_EXIST: u8 = 1;
        pub const LUN_DOES_NOT_EXIST: u8 = 2;
        pub const TASK_STILL_ALLEGIANT: u8 = 3;
        pub const REASSIGN_NOT_SUPPORTED: u8 = 4;
        pub const NOT_SUPPORTED: u8 = 5;
        pub const AUTHORIZATION_FAILED: u8 = 6;
        pub const REJECTED: u8 = 255;
    }
}
