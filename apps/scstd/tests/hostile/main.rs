//! The real daemon against peers that mean no good: crowds, bad logins, broken PDUs, peers that never read or never
//! send, and a `kill -9` in the middle of it. What must hold: the right answer to each, others notice nothing, and
//! nothing is left behind.

mod abandoned;
mod broken_pdus;
mod chap;
mod crash;
mod crowds;
mod login_stages;
mod luns;
mod stage;
