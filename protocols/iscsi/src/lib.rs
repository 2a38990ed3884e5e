//! RFC 7143 iSCSI, target side, as a sans-IO state machine.
//!
//! Called by `targets/iscsi` (and by the simulator and the fuzzers): it is given the bytes that a connection received
//! and says what they mean; it is told what to answer and says which bytes to send. Payload of SCSI commands never
//! passes through it: [`event::RecvEvent::Payload`] says where the next bytes of the stream belong, and
//! [`transmit::TransmitSink::payload`] which part of a command's buffer to send next.
//!
//! Life of a connection:
//!
//! 1. [`login::LoginConnection`]: from the first byte to the full feature phase. It pauses and asks the driver twice:
//!    [`login::LoginEvent::Authorize`] (who wants what; the answer brings parameters and CHAP credentials) and, after
//!    authentication, [`login::LoginEvent::Establish`] (the moment for session reinstatement and a new TSIH).
//! 2. [`connection::Connection`] with its [`session::Session`]: full feature phase.
//!    Receive: [`connection::Connection::poll_input`]; answer: `request_data`, `queue_response`, ...; send:
//!    [`connection::Connection::poll_transmit`]; time: `poll_timeout`, `handle_timeout`.
//!
//! It never opens a socket, reads a clock or draws a random number: time is a `u64` of nanoseconds, randomness and the
//! TSIH come from the driver. In the full feature phase a command costs no allocation.
#![forbid(unsafe_code)]

pub mod address;
pub mod chap;
pub mod connection;
pub mod digest;
pub mod error;
pub mod event;
pub mod login;
pub mod negotiate;
pub mod params;
pub mod pdu;
pub mod session;
mod task;
pub mod text;
pub mod transmit;
