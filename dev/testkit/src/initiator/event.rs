//! What the core reports.

use super::command::Outcome;
use crate::pdu::{DecodeError, Pdu};
use crate::text::Keys;

/// Something that the RFC does not allow a target to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation(pub String);

/// The target refused a login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoginFailure {
    /// Status-Class.
    pub class: u8,
    /// Status-Detail.
    pub detail: u8,
}

/// A held-back R2T (RFC 7143 11.8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct R2t {
    /// The command.
    pub itt: u32,
    /// Target Transfer Tag.
    pub ttt: u32,
    /// R2TSN.
    pub sn: u32,
    /// Buffer offset.
    pub offset: u32,
    /// Desired data transfer length.
    pub length: u32,
}

/// A Reject (RFC 7143 11.17).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejected {
    /// Reason.
    pub reason: u8,
    /// The header that was rejected.
    pub header: Vec<u8>,
}

/// An asynchronous message (RFC 7143 11.9).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AsyncMessage {
    /// AsyncEvent.
    pub event: u8,
    /// AsyncVCode.
    pub vendor_code: u8,
    /// The three parameters.
    pub parameters: [u16; 3],
    /// LUN bytes.
    pub lun: [u8; 8],
    /// Data segment (sense data for event 0).
    pub data: Vec<u8>,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the sentence on each variant names its fields")]
pub enum Event {
    /// Full feature phase reached; see `Core::parameters`.
    LoggedIn,
    /// The target refused the login; it closes the connection.
    LoginFailed(LoginFailure),
    /// The target moved (status class 1): its addresses.
    Redirected { detail: u8, addresses: Vec<String> },
    /// The target did not prove itself in mutual CHAP, or took an algorithm that was not offered: we gave up.
    AuthenticationFailed(String),
    /// A command ended.
    Completed(Outcome),
    /// A held command may send data.
    R2t(R2t),
    /// A task management function ended.
    TaskManagement { itt: u32, response: u8 },
    /// Answer to our NOP-Out.
    NopIn { itt: u32, data: Vec<u8> },
    /// The target sent a NOP-In of its own; `ttt` is reserved when it wants no answer.
    Pinged { ttt: u32, data: Vec<u8> },
    /// A whole text response (all parts).
    Text { itt: u32, keys: Keys },
    /// Logout response.
    LoggedOut { itt: u32, response: u8, time2wait: u16, time2retain: u16 },
    /// A Reject.
    Rejected(Rejected),
    /// An asynchronous message.
    Async(AsyncMessage),
    /// The target broke the protocol.
    Violation(Violation),
    /// The byte stream is broken (not after a data digest error).
    Broken(DecodeError),
    /// In raw mode: any PDU, uninterpreted.
    Raw(Pdu),
}
