//! Being alone on a logical unit, or on a range of it, across all reactors.
//!
//! The home engine of a device (device number modulo reactors) puts barriers that conflict in an order ([`home`]).
//! Closing one keeps new commands out in every engine ([`closed`]) and waits for those that execute; then the owner
//! ([`owner`]) is alone, does its work and releases the barrier with what has changed; every engine applies that before it
//! lets commands in again ([`message`]).
//!
//! * A barrier is of one device, and what it costs does not depend on other devices or on commands outside its scope.
//! * Commands that do not depend on what it protects ([`CommandFlags::UNBLOCKED`](scst_scsi::CommandFlags)) pass it.
//! * A reset goes past the owner and ends it: `BarrierScope::Abort` waits for nothing but another one.
//! * Each stage has a deadline. An owner that has waited too long to be alone gives up (BUSY), and so does a command that
//!   was kept out too long. The operations of an owner that has worked too long are cancelled; the barrier stays closed
//!   until they have ended, because until then they may still reach the medium. Task management functions have a
//!   deadline of their own.
//! * A fence (`BarrierScope::Fence`) is the barrier of a command that is parked: it waits for nobody and keeps out what
//!   would meet the late write.

mod closed;
mod home;
mod message;
mod owner;

pub(crate) use closed::ClosedBarriers;
pub(crate) use home::HomeQueue;
pub(crate) use owner::{BarrierOwner, OwnedBarrier};
