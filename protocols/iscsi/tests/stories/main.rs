//! Stories between a small initiator and the target side of the protocol, in virtual time.

mod common;
mod data;
mod fragments;
mod login;
mod requests;
mod stages;
