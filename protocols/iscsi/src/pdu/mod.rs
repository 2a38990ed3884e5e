//! The 48 bytes of every PDU (RFC 7143 chapter 11), as values: parse and emit are inverse.
//!
//! Each PDU is a struct whose declaration is the layout table of its clause: a field, its type, and where it sits.
//! Nothing is validated here; a value that no rule allows stays representable.

mod ahs;
mod codec;
mod codes;
mod initiator;
mod target;

pub use ahs::{Ahs, AhsError, AhsIter, MAX_AHS_LENGTH, emit_bidirectional_read_length, emit_extended_cdb};
pub use codes::{
    AsyncEvent, LogoutReasonCode, LogoutResponseCode, RejectReason, SnackType, TaskAttributeCode, TmfFunction,
    TmfResponseCode, opcode,
};
pub use initiator::{
    DataOut, LoginRequest, LogoutRequest, NopOut, ScsiCommand, SnackRequest, TaskManagementRequest, TextRequest,
};
pub use target::{
    AsyncMessagePdu, DataIn, LoginResponse, LogoutResponsePdu, NopIn, R2t, Reject, ScsiResponse, TaskManagementPdu,
    TextResponse,
};

/// Length of a basic header segment.
pub const BHS_LENGTH: usize = 48;
/// Length of a CRC32C digest.
pub const DIGEST_LENGTH: usize = 4;
/// The reserved tag: "no task", "no transfer".
pub const RESERVED_TAG: u32 = 0xffff_ffff;

/// A basic header segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BasicHeaderSegment(pub [u8; BHS_LENGTH]);

impl Default for BasicHeaderSegment {
    fn default() -> Self {
        Self([0; BHS_LENGTH])
    }
}

impl BasicHeaderSegment {
    /// The first 48 of the bytes, if there are as many.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk::<BHS_LENGTH>().map(|b| Self(*b))
    }

    /// Opcode (RFC 7143 11.2.1.2), without the I bit.
    pub fn opcode(&self) -> u8 {
        self.0[0] & 0x3f
    }

    /// I bit (RFC 7143 11.2.1.1).
    pub fn immediate(&self) -> bool {
        self.0[0] & 0x40 != 0
    }

    /// TotalAHSLength in bytes (the field counts words, RFC 7143 11.2.1.5).
    pub fn ahs_length(&self) -> usize {
        usize::from(self.0[4]) * 4
    }

    /// DataSegmentLength (RFC 7143 11.2.1.6).
    pub fn data_length(&self) -> u32 {
        u32::from_be_bytes([0, self.0[5], self.0[6], self.0[7]])
    }

    /// Initiator task tag (RFC 7143 11.2.1.8).
    pub fn itt(&self) -> u32 {
        u32::from_be_bytes([self.0[16], self.0[17], self.0[18], self.0[19]])
    }

    /// CmdSN of a request that has one.
    pub fn cmd_sn(&self) -> u32 {
        u32::from_be_bytes([self.0[24], self.0[25], self.0[26], self.0[27]])
    }
}

/// Padding after a data segment or AHS of this length (RFC 7143 11.1).
pub const fn padding(length: u32) -> u32 {
    length.wrapping_neg() & 3
}

#[cfg(test)]
mod tests;
