//! RFC 7143 iSCSI, sans-IO
