//! The pages that sequential access devices have (SSC-5).

use super::pages::{ModePage, bit, is, page};
use crate::bytes::Writer;

/// Data Compression.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the standard's, by name")]
pub struct DataCompressionPage {
    /// DATA COMPRESSION ENABLE.
    pub dce: bool,
    /// DATA COMPRESSION CAPABLE.
    pub dcc: bool,
    /// DATA DECOMPRESSION ENABLE.
    pub dde: bool,
    /// REPORT EXCEPTION ON DECOMPRESSION, 2 bits.
    pub red: u8,
    pub compression_algorithm: u32,
    pub decompression_algorithm: u32,
}

impl ModePage for DataCompressionPage {
    const CODE: u8 = page::DATA_COMPRESSION;
    const BODY: usize = 14;

    fn emit_body(&self, w: &mut Writer<'_>) {
        w.u8(bit(self.dce, 7) | bit(self.dcc, 6)).u8(bit(self.dde, 7) | (self.red & 3) << 5);
        w.u32(self.compression_algorithm).u32(self.decompression_algorithm).zeros(4);
    }

    fn parse_body(b: &[u8]) -> Self {
        let word = |at: usize| u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        Self {
            dce: is(b[0], 7),
            dcc: is(b[0], 6),
            dde: is(b[1], 7),
            red: b[1] >> 5 & 3,
            compression_algorithm: word(2),
            decompression_algorithm: word(6),
        }
    }
}

/// Device Configuration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the standard's, by name")]
pub struct DeviceConfigurationPage {
    /// CHANGE ACTIVE FORMAT.
    pub caf: bool,
    /// ACTIVE FORMAT, 5 bits.
    pub active_format: u8,
    pub active_partition: u8,
    /// WRITE OBJECT BUFFER FULL RATIO.
    pub write_full_ratio: u8,
    /// READ OBJECT BUFFER EMPTY RATIO.
    pub read_empty_ratio: u8,
    /// WRITE DELAY TIME in 100 ms.
    pub write_delay_time: u16,
    /// OBJECT BUFFER RECOVERY.
    pub obr: bool,
    /// LOGICAL OBJECT IDENTIFIERS SUPPORTED.
    pub lois: bool,
    pub avc: bool,
    /// STOP ON CONSECUTIVE FILEMARKS, 2 bits.
    pub socf: u8,
    /// RECOVER OBJECT BUFFER ORDER.
    pub robo: bool,
    /// REPORT EARLY-WARNING on reads.
    pub rew: bool,
    pub gap_size: u8,
    /// EOD DEFINED, 3 bits.
    pub eod_defined: u8,
    /// ENABLE EOD GENERATION.
    pub eeg: bool,
    /// SYNCHRONIZE AT EARLY-WARNING.
    pub sew: bool,
    /// SOFTWARE WRITE PROTECTION.
    pub swp: bool,
    pub buffer_size_at_early_warning: u32,
    /// SELECT DATA COMPRESSION ALGORITHM: 0 for none, 1 for the default one.
    pub select_compression: u8,
    /// WTRE (2 bits), OIR, REWIND ON RESET (2 bits), ASOCWP, PERSWP and PRMWP, as they stand in byte 15.
    pub protection: u8,
}

impl ModePage for DeviceConfigurationPage {
    const CODE: u8 = page::DEVICE_CONFIGURATION;
    const BODY: usize = 14;

    fn emit_body(&self, w: &mut Writer<'_>) {
        w.u8(bit(self.caf, 5) | self.active_format & 0x1f).u8(self.active_partition);
        w.u8(self.write_full_ratio).u8(self.read_empty_ratio).u16(self.write_delay_time);
        w.u8(bit(self.obr, 7)
            | bit(self.lois, 6)
            | bit(self.avc, 4)
            | (self.socf & 3) << 2
            | bit(self.robo, 1)
            | bit(self.rew, 0));
        w.u8(self.gap_size);
        w.u8((self.eod_defined & 7) << 5 | bit(self.eeg, 4) | bit(self.sew, 3) | bit(self.swp, 2));
        w.u24(self.buffer_size_at_early_warning).u8(self.select_compression).u8(self.protection);
    }

    fn parse_body(b: &[u8]) -> Self {
        Self {
            caf: is(b[0], 5),
            active_format: b[0] & 0x1f,
            active_partition: b[1],
            write_full_ratio: b[2],
            read_empty_ratio: b[3],
            write_delay_time: u16::from_be_bytes([b[4], b[5]]),
            obr: is(b[6], 7),
            lois: is(b[6], 6),
            avc: is(b[6], 4),
            socf: b[6] >> 2 & 3,
            robo: is(b[6], 1),
            rew: is(b[6], 0),
            gap_size: b[7],
            eod_defined: b[8] >> 5,
            eeg: is(b[8], 4),
            sew: is(b[8], 3),
            swp: is(b[8], 2),
            buffer_size_at_early_warning: u32::from_be_bytes([0, b[9], b[10], b[11]]),
            select_compression: b[12],
            protection: b[13],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::RawPage;
    use super::*;
    use proptest::prelude::*;

    fn emit<P: ModePage>(page: &P) -> Vec<u8> {
        let mut out = [0xee; 32];
        let mut w = Writer::new(&mut out);
        page.emit(false, &mut w);
        let length = w.written();
        out[..length].to_vec()
    }

    #[test]
    fn page_bytes() {
        let page = DataCompressionPage {
            dce: true,
            dcc: true,
            dde: true,
            compression_algorithm: 1,
            ..DataCompressionPage::default()
        };
        assert_eq!(emit(&page), [0x0f, 0x0e, 0xc0, 0x80, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        let page = DeviceConfigurationPage {
            write_delay_time: 0x0102,
            lois: true,
            eeg: true,
            sew: true,
            select_compression: 1,
            ..DeviceConfigurationPage::default()
        };
        assert_eq!(emit(&page), [0x10, 0x0e, 0, 0, 0, 0, 1, 2, 0x40, 0, 0x18, 0, 0, 0, 1, 0]);
    }

    proptest! {
        /// Emitting what was parsed gives the same bytes, but for the reserved ones.
        #[test]
        fn pages_round_trip(body in any::<[u8; 14]>()) {
            fn again<P: ModePage>(body: &[u8; 14]) -> Vec<u8> {
                let bytes = [&[P::CODE, 14][..], body].concat();
                let raw = RawPage { code: P::CODE, subpage: 0, savable: false, bytes: &bytes, offset: 0 };
                emit(&P::parse(&raw).expect("a page"))
            }
            let (mut compression, mut configuration) = (body, body);
            compression[0] &= 0xc0;
            compression[1] &= 0xe0;
            compression[10..].fill(0);
            prop_assert_eq!(&again::<DataCompressionPage>(&body)[2..], &compression[..]);
            configuration[0] &= 0x3f;
            configuration[6] &= 0xdf;
            configuration[8] &= 0xfc;
            prop_assert_eq!(&again::<DeviceConfigurationPage>(&body)[2..], &configuration[..]);
        }
    }
}
