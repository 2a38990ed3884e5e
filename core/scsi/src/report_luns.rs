//! REPORT LUNS parameter data (SPC-6 6.37).

use crate::bytes::Writer;
use crate::lun::Lun;

/// SELECT REPORT (SPC-6 table 198).
pub mod select_report {
    /// All logical units but well known ones.
    pub const ORDINARY: u8 = 0x00;
    /// Well known logical units only.
    pub const WELL_KNOWN: u8 = 0x01;
    /// All of them.
    pub const ALL: u8 = 0x02;
    /// Administrative logical units.
    pub const ADMINISTRATIVE: u8 = 0x10;
}

/// Writes the list; LUN LIST LENGTH counts also what did not fit.
pub fn emit_report_luns(luns: impl IntoIterator<Item = Lun>, w: &mut Writer<'_>) {
    let start = w.position();
    w.u32(0).u32(0);
    for lun in luns {
        w.bytes(&lun.0);
    }
    let length = (w.position() - start - 8) as u32;
    w.patch(start, &length.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lun::LunAddressMethod;

    #[test]
    fn the_length_counts_what_was_cut() {
        let luns = [0, 300].map(|n| Lun::encode(n, LunAddressMethod::Peripheral).unwrap());
        let mut out = [0xee; 18];
        emit_report_luns(luns, &mut Writer::new(&mut out));
        assert_eq!(out, [0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x41, 0x2c]);
    }
}
