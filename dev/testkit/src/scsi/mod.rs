//! SCSI from the initiator's side: CDBs to send, parameter lists to send, answers to read.

pub mod cdb;
pub mod param;
mod sense;

pub use sense::Sense;

/// SCSI status codes (SAM-5 table 39).
#[expect(missing_docs, reason = "the names are those of the standard")]
pub mod status {
    pub const GOOD: u8 = 0x00;
    pub const CHECK_CONDITION: u8 = 0x02;
    pub const CONDITION_MET: u8 = 0x04;
    pub const BUSY: u8 = 0x08;
    pub const RESERVATION_CONFLICT: u8 = 0x18;
    pub const TASK_SET_FULL: u8 = 0x28;
    pub const ACA_ACTIVE: u8 = 0x30;
    pub const TASK_ABORTED: u8 = 0x40;
}

/// The eight LUN bytes: peripheral addressing below 256, flat below 16384, extended flat above (SAM-5 4.7.7).
pub fn lun(number: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    match number {
        0..=0xff => bytes[1] = number as u8,
        0x100..=0x3fff => bytes[..2].copy_from_slice(&(0x4000 | number as u16).to_be_bytes()),
        _ => bytes[..4].copy_from_slice(&(0xd200_0000 | number).to_be_bytes()),
    }
    bytes
}

/// The number in eight LUN bytes, in any of the methods above.
pub fn lun_number(bytes: [u8; 8]) -> Option<u32> {
    let word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    match bytes[0] >> 6 {
        0 if bytes[0] == 0 => Some(u32::from(bytes[1])),
        1 => Some((word >> 16) & 0x3fff),
        3 if bytes[0] == 0xd2 => Some(word & 0x00ff_ffff),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn luns_use_the_shortest_method() {
        assert_eq!(lun(0), [0; 8]);
        assert_eq!(lun(255)[..4], [0, 255, 0, 0]);
        assert_eq!(lun(256)[..4], [0x41, 0, 0, 0]);
        assert_eq!(lun(4095)[..4], [0x4f, 0xff, 0, 0]);
        assert_eq!(lun(16384)[..4], [0xd2, 0, 0x40, 0]);
        for number in [0, 1, 255, 256, 16383, 16384, 0xff_ffff] {
            assert_eq!(lun_number(lun(number)), Some(number));
        }
        assert_eq!(lun_number([0x01, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
