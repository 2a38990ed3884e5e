//! The iSCSI target driver: protocol, engine and reactor joined
