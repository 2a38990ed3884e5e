//! An iSCSI initiator for tests, and helpers shared by test crates
