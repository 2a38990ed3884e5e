//! READ BLOCK LIMITS and REPORT DENSITY SUPPORT (SSC-5).

use scst_scsi::bytes::Writer;

use super::{MAX_BLOCK_LENGTH, MIN_BLOCK_LENGTH, TapeParameters};
use crate::params::finish;

/// PRIMARY DENSITY CODE: the first of the vendor specific ones, since nothing is recorded as on any real medium.
pub const DENSITY_CODE: u8 = 0x80;
/// Length of a density support data block descriptor.
const DESCRIPTOR: u16 = 52;

/// Answers READ BLOCK LIMITS: any length is good, GRANULARITY 0. Returns the bytes to send.
pub fn read_block_limits(buf: &mut [u8]) -> usize {
    let mut out = Writer::new(buf);
    out.u8(0).u24(MAX_BLOCK_LENGTH).u16(MIN_BLOCK_LENGTH);
    out.written()
}

/// Answers REPORT DENSITY SUPPORT: one density, of the drive and of every medium. Returns the bytes to send.
pub fn report_density(tape: &TapeParameters, allocation: u16, buf: &mut [u8]) -> usize {
    const WRTOK: u8 = 0x80;
    const DEFLT: u8 = 0x20;
    let writable = if tape.identity.read_only { 0 } else { WRTOK };
    let megabytes = u32::try_from(tape.capacity / 1_000_000).unwrap_or(u32::MAX);
    let mut out = Writer::new(buf);
    out.u16(2 + DESCRIPTOR).u16(0);
    out.u8(DENSITY_CODE).u8(DENSITY_CODE).u8(writable | DEFLT).u16(0);
    // BITS PER MM, MEDIA WIDTH and TRACKS of a medium that is not there.
    out.u24(0).u16(0).u16(1).u32(megabytes);
    out.ascii("SCST", 8).ascii("VIRTUAL", 8).ascii("Tape without data", 20);
    finish(&out, u32::from(allocation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::DiskParameters;

    #[test]
    fn block_limits_are_six_bytes() {
        let mut buf = [0xee; 8];
        assert_eq!(read_block_limits(&mut buf), 6);
        assert_eq!(buf, [0, 0x80, 0, 0, 0, 1, 0xee, 0xee]);
    }

    #[test]
    fn one_density_byte_by_byte() {
        let identity = DiskParameters::new("t", "", 512);
        let mut tape = TapeParameters { identity, capacity: 20_000_000_000, early_warning: 0, block_length: 0 };
        let mut buf = [0xee; 64];
        assert_eq!(report_density(&tape, 64, &mut buf), 56);
        assert_eq!(buf[..20], [0, 54, 0, 0, 0x80, 0x80, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x4e, 0x20]);
        assert_eq!(&buf[20..56], b"SCST    VIRTUAL Tape without data   ");
        assert_eq!(report_density(&tape, 4, &mut buf), 4);
        tape.identity.read_only = true;
        report_density(&tape, 64, &mut buf);
        assert_eq!(buf[6], 0x20, "not writable");
    }
}
