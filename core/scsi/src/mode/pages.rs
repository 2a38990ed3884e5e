//! The pages that virtual disks and optical memory devices have.

use crate::bytes::{Reader, Writer};

/// Page and subpage codes.
pub mod page {
    /// Read-Write Error Recovery (SBC-4 6.5.10).
    pub const ERROR_RECOVERY: u8 = 0x01;
    /// Optical Memory (SBC).
    pub const OPTICAL_MEMORY: u8 = 0x06;
    /// Caching (SBC-4 6.5.6).
    pub const CACHING: u8 = 0x08;
    /// Control (SPC-6 7.5.10).
    pub const CONTROL: u8 = 0x0a;
    /// Data Compression (SSC-5).
    pub const DATA_COMPRESSION: u8 = 0x0f;
    /// Device Configuration (SSC-5).
    pub const DEVICE_CONFIGURATION: u8 = 0x10;
    /// SUBPAGE CODE of Control Extension (SPC-6 7.5.11).
    pub const CONTROL_EXTENSION: u8 = 0x01;
    /// Informational Exceptions Control (SPC-6 7.5.18).
    pub const INFORMATIONAL_EXCEPTIONS: u8 = 0x1c;
    /// All pages.
    pub const ALL: u8 = 0x3f;
    /// SUBPAGE CODE of all subpages.
    pub const ALL_SUBPAGES: u8 = 0xff;
}

/// One page in the page_0 or sub_page format (SPC-6 7.5.7), as it stands in a parameter list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawPage<'a> {
    /// PAGE CODE.
    pub code: u8,
    /// SUBPAGE CODE; 0 in the page_0 format.
    pub subpage: u8,
    /// PS: the page can be saved (reserved in MODE SELECT).
    pub savable: bool,
    /// The whole page with its header.
    pub bytes: &'a [u8],
    /// Where it begins in the list, for field pointers.
    pub offset: usize,
}

/// Walks the pages of a mode parameter list. An error is the offset of the page that is cut.
#[derive(Clone, Debug)]
pub struct RawPages<'a> {
    list: &'a [u8],
    at: usize,
}

impl<'a> RawPages<'a> {
    /// The pages from byte `at` of a list.
    pub fn new(list: &'a [u8], at: usize) -> Self {
        Self { list, at: at.min(list.len()) }
    }
}

impl<'a> Iterator for RawPages<'a> {
    type Item = Result<RawPage<'a>, usize>;

    fn next(&mut self) -> Option<Self::Item> {
        const PS: u8 = 0x80;
        const SPF: u8 = 0x40;
        let offset = self.at;
        let mut r = Reader::new(&self.list[offset..]);
        let first = r.u8()?;
        let parsed = (|| {
            let (subpage, length) = match first & SPF {
                0 => (0, usize::from(r.u8()?)),
                _ => (r.u8()?, usize::from(r.u16()?)),
            };
            r.take(length)?;
            let bytes = &self.list[offset..offset + r.position()];
            Some(RawPage { code: first & 0x3f, subpage, savable: first & PS != 0, bytes, offset })
        })();
        // A cut page ends the walk.
        self.at = parsed.map_or(self.list.len(), |page| offset + page.bytes.len());
        Some(parsed.ok_or(offset))
    }
}

/// The first bit in which `new` differs from `current` though `changeable` does not allow it, as byte and bit. All
/// three are whole pages of the same kind; PS is passed over, and a missing byte differs.
pub fn first_unchangeable(current: &[u8], changeable: &[u8], new: &[u8]) -> Option<(usize, u8)> {
    const PS: u8 = 0x80;
    (0..current.len().max(new.len())).find_map(|at| {
        let (Some(old), Some(new)) = (current.get(at), new.get(at)) else { return Some((at, 7)) };
        let header = at < 2 || (current[0] & 0x40 != 0 && at < 4);
        let allowed = match changeable.get(at) {
            Some(mask) if !header => *mask,
            _ if at == 0 => PS,
            _ => 0,
        };
        let wrong = (old ^ new) & !allowed;
        (wrong != 0).then(|| (at, 7 - wrong.leading_zeros() as u8))
    })
}

/// A page as a value.
pub trait ModePage: Sized {
    /// PAGE CODE.
    const CODE: u8;
    /// SUBPAGE CODE.
    const SUBPAGE: u8 = 0;
    /// Bytes after the header.
    const BODY: usize;
    /// Bytes with the header.
    const LENGTH: usize = Self::BODY + if Self::SUBPAGE == 0 { 2 } else { 4 };

    /// Writes the bytes after the header.
    fn emit_body(&self, w: &mut Writer<'_>);
    /// Reads the bytes after the header; `b` has [`ModePage::BODY`] of them.
    fn parse_body(b: &[u8]) -> Self;

    /// Writes the whole page. `savable` is the PS bit.
    fn emit(&self, savable: bool, w: &mut Writer<'_>) {
        let ps = u8::from(savable) << 7;
        if Self::SUBPAGE == 0 {
            w.u8(ps | Self::CODE).u8(Self::BODY as u8);
        } else {
            w.u8(ps | 0x40 | Self::CODE).u8(Self::SUBPAGE).u16(Self::BODY as u16);
        }
        self.emit_body(w);
    }

    /// Reads a whole page; None when it is another page or has another length.
    fn parse(raw: &RawPage<'_>) -> Option<Self> {
        let same = (raw.code, raw.subpage, raw.bytes.len()) == (Self::CODE, Self::SUBPAGE, Self::LENGTH);
        same.then(|| Self::parse_body(&raw.bytes[Self::LENGTH - Self::BODY..]))
    }
}

pub(super) const fn bit(set: bool, bit: u8) -> u8 {
    (set as u8) << bit
}

pub(super) const fn is(byte: u8, bit: u8) -> bool {
    byte >> bit & 1 == 1
}

/// Read-Write Error Recovery (SBC-4 6.5.10).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the standard's, by name")]
pub struct ErrorRecoveryPage {
    pub awre: bool,
    pub arre: bool,
    pub tb: bool,
    pub rc: bool,
    pub eer: bool,
    pub per: bool,
    pub dte: bool,
    pub dcr: bool,
    pub read_retry_count: u8,
    pub write_retry_count: u8,
    pub recovery_time_limit: u16,
}

impl ModePage for ErrorRecoveryPage {
    const CODE: u8 = page::ERROR_RECOVERY;
    const BODY: usize = 10;

    fn emit_body(&self, w: &mut Writer<'_>) {
        w.u8(bit(self.awre, 7)
            | bit(self.arre, 6)
            | bit(self.tb, 5)
            | bit(self.rc, 4)
            | bit(self.eer, 3)
            | bit(self.per, 2)
            | bit(self.dte, 1)
            | bit(self.dcr, 0));
        w.u8(self.read_retry_count).zeros(4).u8(self.write_retry_count).u8(0).u16(self.recovery_time_limit);
    }

    fn parse_body(b: &[u8]) -> Self {
        Self {
            awre: is(b[0], 7),
            arre: is(b[0], 6),
            tb: is(b[0], 5),
            rc: is(b[0], 4),
            eer: is(b[0], 3),
            per: is(b[0], 2),
            dte: is(b[0], 1),
            dcr: is(b[0], 0),
            read_retry_count: b[1],
            write_retry_count: b[6],
            recovery_time_limit: u16::from_be_bytes([b[8], b[9]]),
        }
    }
}

/// Caching (SBC-4 6.5.6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the standard's, by name")]
pub struct CachingPage {
    pub ic: bool,
    pub abpf: bool,
    pub cap: bool,
    pub disc: bool,
    pub size: bool,
    /// WRITE CACHE ENABLE.
    pub wce: bool,
    pub mf: bool,
    /// READ CACHE DISABLE.
    pub rcd: bool,
    pub disable_prefetch_transfer_length: u16,
    pub minimum_prefetch: u16,
    pub maximum_prefetch: u16,
    pub maximum_prefetch_ceiling: u16,
    pub fsw: bool,
    pub lbcss: bool,
    /// DISABLE READ-AHEAD.
    pub dra: bool,
    /// NV_DIS.
    pub nv_dis: bool,
    pub cache_segments: u8,
    pub cache_segment_size: u16,
}

impl ModePage for CachingPage {
    const CODE: u8 = page::CACHING;
    const BODY: usize = 18;

    fn emit_body(&self, w: &mut Writer<'_>) {
        w.u8(bit(self.ic, 7)
            | bit(self.abpf, 6)
            | bit(self.cap, 5)
            | bit(self.disc, 4)
            | bit(self.size, 3)
            | bit(self.wce, 2)
            | bit(self.mf, 1)
            | bit(self.rcd, 0));
        w.u8(0).u16(self.disable_prefetch_transfer_length).u16(self.minimum_prefetch);
        w.u16(self.maximum_prefetch).u16(self.maximum_prefetch_ceiling);
        w.u8(bit(self.fsw, 7) | bit(self.lbcss, 6) | bit(self.dra, 5) | bit(self.nv_dis, 0));
        w.u8(self.cache_segments).u16(self.cache_segment_size).zeros(4);
    }

    fn parse_body(b: &[u8]) -> Self {
        let word = |at: usize| u16::from_be_bytes([b[at], b[at + 1]]);
        Self {
            ic: is(b[0], 7),
            abpf: is(b[0], 6),
            cap: is(b[0], 5),
            disc: is(b[0], 4),
            size: is(b[0], 3),
            wce: is(b[0], 2),
            mf: is(b[0], 1),
            rcd: is(b[0], 0),
            disable_prefetch_transfer_length: word(2),
            minimum_prefetch: word(4),
            maximum_prefetch: word(6),
            maximum_prefetch_ceiling: word(8),
            fsw: is(b[10], 7),
            lbcss: is(b[10], 6),
            dra: is(b[10], 5),
            nv_dis: is(b[10], 0),
            cache_segments: b[11],
            cache_segment_size: word(12),
        }
    }
}

/// Optical Memory (SBC).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct OpticalMemoryPage {
    /// RUBR: a read of an updated block is reported.
    pub rubr: bool,
}

impl ModePage for OpticalMemoryPage {
    const CODE: u8 = page::OPTICAL_MEMORY;
    const BODY: usize = 2;

    fn emit_body(&self, w: &mut Writer<'_>) {
        w.u8(bit(self.rubr, 0)).u8(0);
    }

    fn parse_body(b: &[u8]) -> Self {
        Self { rubr: is(b[0], 0) }
    }
}

/// Control (SPC-6 7.5.10).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the standard's, by name")]
pub struct ControlPage {
    /// TASK SET TYPE, 3 bits.
    pub tst: u8,
    pub tmf_only: bool,
    pub dpicz: bool,
    /// Descriptor format sense data.
    pub d_sense: bool,
    pub gltsd: bool,
    pub rlec: bool,
    /// QUEUE ALGORITHM MODIFIER, 4 bits.
    pub queue_algorithm_modifier: u8,
    pub nuar: bool,
    /// QERR, 2 bits.
    pub qerr: u8,
    pub rac: bool,
    /// UA_INTLCK_CTRL, 2 bits.
    pub ua_intlck_ctrl: u8,
    /// Software write protect.
    pub swp: bool,
    pub ato: bool,
    /// Task aborted status.
    pub tas: bool,
    pub atmpe: bool,
    pub rwwp: bool,
    /// AUTOLOAD MODE, 3 bits.
    pub autoload_mode: u8,
    /// BUSY TIMEOUT PERIOD in 100 ms.
    pub busy_timeout_period: u16,
    /// EXTENDED SELF-TEST COMPLETION TIME in seconds.
    pub extended_self_test_completion_time: u16,
}

impl ModePage for ControlPage {
    const CODE: u8 = page::CONTROL;
    const BODY: usize = 10;

    fn emit_body(&self, w: &mut Writer<'_>) {
        w.u8((self.tst & 7) << 5
            | bit(self.tmf_only, 4)
            | bit(self.dpicz, 3)
            | bit(self.d_sense, 2)
            | bit(self.gltsd, 1)
            | bit(self.rlec, 0));
        w.u8(self.queue_algorithm_modifier << 4 | bit(self.nuar, 3) | (self.qerr & 3) << 1);
        w.u8(bit(self.rac, 6) | (self.ua_intlck_ctrl & 3) << 4 | bit(self.swp, 3));
        w.u8(bit(self.ato, 7) | bit(self.tas, 6) | bit(self.atmpe, 5) | bit(self.rwwp, 4) | (self.autoload_mode & 7));
        w.u16(0).u16(self.busy_timeout_period).u16(self.extended_self_test_completion_time);
    }

    fn parse_body(b: &[u8]) -> Self {
        Self {
            tst: b[0] >> 5,
            tmf_only: is(b[0], 4),
            dpicz: is(b[0], 3),
            d_sense: is(b[0], 2),
            gltsd: is(b[0], 1),
            rlec: is(b[0], 0),
            queue_algorithm_modifier: b[1] >> 4,
            nuar: is(b[1], 3),
            qerr: b[1] >> 1 & 3,
            rac: is(b[2], 6),
            ua_intlck_ctrl: b[2] >> 4 & 3,
            swp: is(b[2], 3),
            ato: is(b[3], 7),
            tas: is(b[3], 6),
            atmpe: is(b[3], 5),
            rwwp: is(b[3], 4),
            autoload_mode: b[3] & 7,
            busy_timeout_period: u16::from_be_bytes([b[6], b[7]]),
            extended_self_test_completion_time: u16::from_be_bytes([b[8], b[9]]),
        }
    }
}

/// Control Extension (SPC-6 7.5.11).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the standard's, by name")]
pub struct ControlExtensionPage {
    pub dlc: bool,
    pub tcmos: bool,
    pub scsip: bool,
    pub ialuae: bool,
    /// INITIAL COMMAND PRIORITY, 4 bits.
    pub initial_command_priority: u8,
    /// MAXIMUM SENSE DATA LENGTH; 0 is no limit.
    pub maximum_sense_data_length: u8,
}

impl ModePage for ControlExtensionPage {
    const CODE: u8 = page::CONTROL;
    const SUBPAGE: u8 = page::CONTROL_EXTENSION;
    const BODY: usize = 28;

    fn emit_body(&self, w: &mut Writer<'_>) {
        w.u8(bit(self.dlc, 3) | bit(self.tcmos, 2) | bit(self.scsip, 1) | bit(self.ialuae, 0));
        w.u8(self.initial_command_priority & 0x0f).u8(self.maximum_sense_data_length).zeros(25);
    }

    fn parse_body(b: &[u8]) -> Self {
        Self {
            dlc: is(b[0], 3),
            tcmos: is(b[0], 2),
            scsip: is(b[0], 1),
            ialuae: is(b[0], 0),
            initial_command_priority: b[1] & 0x0f,
            maximum_sense_data_length: b[2],
        }
    }
}

/// Informational Exceptions Control (SPC-6 7.5.18).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[expect(missing_docs, reason = "the fields are the standard's, by name")]
pub struct InformationalExceptionsPage {
    pub perf: bool,
    pub ebf: bool,
    pub ewasc: bool,
    pub dexcpt: bool,
    pub test: bool,
    pub ebackerr: bool,
    pub logerr: bool,
    /// METHOD OF REPORTING INFORMATIONAL EXCEPTIONS, 4 bits.
    pub mrie: u8,
    /// INTERVAL TIMER in 100 ms.
    pub interval_timer: u32,
    pub report_count: u32,
}

impl ModePage for InformationalExceptionsPage {
    const CODE: u8 = page::INFORMATIONAL_EXCEPTIONS;
    const BODY: usize = 10;

    fn emit_body(&self, w: &mut Writer<'_>) {
        w.u8(bit(self.perf, 7)
            | bit(self.ebf, 5)
            | bit(self.ewasc, 4)
            | bit(self.dexcpt, 3)
            | bit(self.test, 2)
            | bit(self.ebackerr, 1)
            | bit(self.logerr, 0));
        w.u8(self.mrie & 0x0f).u32(self.interval_timer).u32(self.report_count);
    }

    fn parse_body(b: &[u8]) -> Self {
        Self {
            perf: is(b[0], 7),
            ebf: is(b[0], 5),
            ewasc: is(b[0], 4),
            dexcpt: is(b[0], 3),
            test: is(b[0], 2),
            ebackerr: is(b[0], 1),
            logerr: is(b[0], 0),
            mrie: b[1] & 0x0f,
            interval_timer: u32::from_be_bytes([b[2], b[3], b[4], b[5]]),
            report_count: u32::from_be_bytes([b[6], b[7], b[8], b[9]]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn emit<P: ModePage>(page: &P) -> Vec<u8> {
        let mut out = [0xee; 64];
        let mut w = Writer::new(&mut out);
        page.emit(false, &mut w);
        let length = w.written();
        out[..length].to_vec()
    }

    #[test]
    fn page_bytes() {
        let page = CachingPage { wce: true, dra: true, maximum_prefetch: 0x1234, ..CachingPage::default() };
        let expected = [0x08, 0x12, 0x04, 0, 0, 0, 0, 0, 0x12, 0x34, 0, 0, 0x20, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(emit(&page), expected);
        let page = ControlPage {
            tst: 1,
            d_sense: true,
            queue_algorithm_modifier: 1,
            swp: true,
            tas: true,
            ..Default::default()
        };
        assert_eq!(emit(&page), [0x0a, 0x0a, 0x24, 0x10, 0x08, 0x40, 0, 0, 0, 0, 0, 0]);
        let page = ErrorRecoveryPage { awre: true, dcr: true, write_retry_count: 3, ..Default::default() };
        assert_eq!(emit(&page), [0x01, 0x0a, 0x81, 0, 0, 0, 0, 0, 3, 0, 0, 0]);
        let page = InformationalExceptionsPage { dexcpt: true, mrie: 6, report_count: 1, ..Default::default() };
        assert_eq!(emit(&page), [0x1c, 0x0a, 0x08, 6, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(emit(&OpticalMemoryPage { rubr: true }), [0x06, 0x02, 0x01, 0]);
        let page = emit(&ControlExtensionPage { tcmos: true, maximum_sense_data_length: 28, ..Default::default() });
        assert_eq!((page.len(), &page[..8]), (32, &[0x4a, 0x01, 0, 28, 0x04, 0, 28, 0][..]));
    }

    #[test]
    fn a_list_is_walked_and_a_cut_page_ends_it() {
        let mut list = vec![0, 0, 0, 0];
        list.extend(emit(&ControlPage::default()));
        list.extend(emit(&ControlExtensionPage::default()));
        list.extend([0x88, 0x12, 0x04]);
        let found: Vec<_> = RawPages::new(&list, 4).map(|p| p.map(|p| (p.code, p.subpage, p.offset))).collect();
        assert_eq!(found, [Ok((0x0a, 0, 4)), Ok((0x0a, 1, 16)), Err(48)]);
    }

    #[test]
    fn only_changeable_bits_may_differ() {
        let current = emit(&CachingPage { wce: true, ..Default::default() });
        let changeable = emit(&CachingPage { wce: true, ..Default::default() });
        let check = |new: &[u8]| first_unchangeable(&current, &changeable, new);
        assert_eq!(check(&emit(&CachingPage::default())), None);
        assert_eq!(check(&emit(&CachingPage { rcd: true, ..Default::default() })), Some((2, 0)));
        let mut saved = emit(&CachingPage::default());
        saved[0] |= 0x80;
        assert_eq!(check(&saved), None);
        assert_eq!(check(&saved[..19]), Some((19, 7)));
        saved[1] = 0x0a;
        assert_eq!(check(&saved), Some((1, 4)));
    }

    fn round_trips<P: ModePage + PartialEq + std::fmt::Debug>(body: &[u8]) -> Result<(), TestCaseError> {
        let page = P::parse_body(&body[..P::BODY]);
        let wire = emit(&page);
        prop_assert_eq!(wire.len(), P::LENGTH);
        let raw = RawPages::new(&wire, 0).next().unwrap().unwrap();
        prop_assert_eq!(P::parse(&raw), Some(page));
        Ok(())
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_emit(body in proptest::collection::vec(any::<u8>(), 32)) {
            round_trips::<ErrorRecoveryPage>(&body)?;
            round_trips::<CachingPage>(&body)?;
            round_trips::<ControlPage>(&body)?;
            round_trips::<ControlExtensionPage>(&body)?;
            round_trips::<InformationalExceptionsPage>(&body)?;
        }

        #[test]
        fn walking_never_panics(list in proptest::collection::vec(any::<u8>(), 0..64), at in 0..80usize) {
            for page in RawPages::new(&list, at) {
                let _ = page;
            }
        }
    }
}
