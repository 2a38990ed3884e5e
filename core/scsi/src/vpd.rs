//! Vital product data pages (SPC-6 7.7, SBC-4 6.6), built from plain values.

use crate::bytes::Writer;
use crate::designator::Designator;
use crate::inquiry::Peripheral;

/// PAGE CODE of a VPD page.
pub mod page {
    /// Supported VPD Pages.
    pub const SUPPORTED_PAGES: u8 = 0x00;
    /// Unit Serial Number.
    pub const UNIT_SERIAL_NUMBER: u8 = 0x80;
    /// Device Identification.
    pub const DEVICE_IDENTIFICATION: u8 = 0x83;
    /// Extended INQUIRY Data.
    pub const EXTENDED_INQUIRY: u8 = 0x86;
    /// Mode Page Policy.
    pub const MODE_PAGE_POLICY: u8 = 0x87;
    /// Third-party Copy.
    pub const THIRD_PARTY_COPY: u8 = 0x8f;
    /// Block Limits.
    pub const BLOCK_LIMITS: u8 = 0xb0;
    /// Block Device Characteristics.
    pub const BLOCK_DEVICE_CHARACTERISTICS: u8 = 0xb1;
    /// Logical Block Provisioning.
    pub const LOGICAL_BLOCK_PROVISIONING: u8 = 0xb2;
}

/// Writes a page: the header, and what `body` appends.
pub fn emit_page(peripheral: Peripheral, code: u8, w: &mut Writer<'_>, body: impl FnOnce(&mut Writer<'_>)) {
    let start = w.position();
    w.u8(peripheral.byte()).u8(code).u16(0);
    body(w);
    w.patch_length_u16(start + 2);
}

/// Supported VPD Pages (SPC-6 7.7.16); the codes must be in ascending order.
pub fn emit_supported_pages(peripheral: Peripheral, codes: &[u8], w: &mut Writer<'_>) {
    emit_page(peripheral, page::SUPPORTED_PAGES, w, |w| {
        w.bytes(codes);
    });
}

/// Unit Serial Number (SPC-6 7.7.19).
pub fn emit_unit_serial_number(peripheral: Peripheral, serial: &str, w: &mut Writer<'_>) {
    emit_page(peripheral, page::UNIT_SERIAL_NUMBER, w, |w| {
        w.ascii(serial, serial.len());
    });
}

/// Device Identification (SPC-6 7.7.6).
pub fn emit_device_identification<'a>(
    peripheral: Peripheral,
    designators: impl IntoIterator<Item = Designator<'a>>,
    w: &mut Writer<'_>,
) {
    emit_page(peripheral, page::DEVICE_IDENTIFICATION, w, |w| {
        for designator in designators {
            designator.emit(w);
        }
    });
}

/// Extended INQUIRY Data (SPC-6 7.7.7).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ExtendedInquiry {
    /// SPT: which protection types can be formatted.
    pub supported_protection_types: u8,
    /// GRD_CHK, APP_CHK and REF_CHK, as bits 2 to 0.
    pub protection_checks: u8,
    /// UASK_SUP: sense data of key UNIT ATTENTION may have sense key specific bytes.
    pub unit_attention_sense_key_specific: bool,
    /// GROUP_SUP: the GROUP NUMBER field.
    pub grouping: bool,
    /// PRIOR_SUP: command priority.
    pub priority: bool,
    /// HEADSUP: HEAD OF QUEUE.
    pub head_of_queue: bool,
    /// ORDSUP: ORDERED.
    pub ordered: bool,
    /// SIMPSUP: SIMPLE.
    pub simple: bool,
    /// NV_SUP: a non-volatile cache.
    pub non_volatile_cache: bool,
    /// V_SUP: a volatile cache.
    pub volatile_cache: bool,
    /// LUICLR: I_T nexus losses clear unit attentions of other logical units ... as SPC-6 table 599 says.
    pub logical_unit_nexus_clear: bool,
    /// MAXIMUM SUPPORTED SENSE DATA LENGTH; 0 is "at most 252".
    pub max_sense_length: u8,
}

impl ExtendedInquiry {
    /// Writes the page, 64 bytes.
    pub fn emit(&self, peripheral: Peripheral, w: &mut Writer<'_>) {
        let bit = |set: bool, bit: u8| u8::from(set) << bit;
        emit_page(peripheral, page::EXTENDED_INQUIRY, w, |w| {
            w.u8((self.supported_protection_types & 7) << 3 | (self.protection_checks & 7));
            w.u8(bit(self.unit_attention_sense_key_specific, 5)
                | bit(self.grouping, 4)
                | bit(self.priority, 3)
                | bit(self.head_of_queue, 2)
                | bit(self.ordered, 1)
                | bit(self.simple, 0));
            w.u8(bit(self.non_volatile_cache, 1) | bit(self.volatile_cache, 0));
            w.u8(bit(self.logical_unit_nexus_clear, 0));
            w.zeros(5).u8(self.max_sense_length).zeros(50);
        });
    }
}

/// Block Limits (SBC-4 6.6.4). Lengths are in logical blocks; zero is "no limit reported".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BlockLimits {
    /// WSNZ: WRITE SAME with zero blocks is refused.
    pub write_same_non_zero: bool,
    /// MAXIMUM COMPARE AND WRITE LENGTH.
    pub max_compare_and_write: u8,
    /// OPTIMAL TRANSFER LENGTH GRANULARITY.
    pub optimal_granularity: u16,
    /// MAXIMUM TRANSFER LENGTH.
    pub max_transfer: u32,
    /// OPTIMAL TRANSFER LENGTH.
    pub optimal_transfer: u32,
    /// MAXIMUM PREFETCH LENGTH.
    pub max_prefetch: u32,
    /// MAXIMUM UNMAP LBA COUNT; zero: UNMAP is not implemented.
    pub max_unmap_blocks: u32,
    /// MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT.
    pub max_unmap_descriptors: u32,
    /// OPTIMAL UNMAP GRANULARITY.
    pub unmap_granularity: u32,
    /// UNMAP GRANULARITY ALIGNMENT, when valid.
    pub unmap_alignment: Option<u32>,
    /// MAXIMUM WRITE SAME LENGTH.
    pub max_write_same: u64,
    /// MAXIMUM ATOMIC TRANSFER LENGTH; zero: WRITE ATOMIC is not implemented.
    pub max_atomic_transfer: u32,
    /// ATOMIC ALIGNMENT.
    pub atomic_alignment: u32,
    /// ATOMIC TRANSFER LENGTH GRANULARITY.
    pub atomic_granularity: u32,
}

impl BlockLimits {
    /// Writes the page, 64 bytes.
    pub fn emit(&self, peripheral: Peripheral, w: &mut Writer<'_>) {
        const UGAVALID: u32 = 1 << 31;
        emit_page(peripheral, page::BLOCK_LIMITS, w, |w| {
            w.u8(u8::from(self.write_same_non_zero)).u8(self.max_compare_and_write).u16(self.optimal_granularity);
            w.u32(self.max_transfer).u32(self.optimal_transfer).u32(self.max_prefetch);
            w.u32(self.max_unmap_blocks).u32(self.max_unmap_descriptors).u32(self.unmap_granularity);
            w.u32(self.unmap_alignment.map_or(0, |blocks| UGAVALID | blocks));
            w.u64(self.max_write_same);
            w.u32(self.max_atomic_transfer).u32(self.atomic_alignment).u32(self.atomic_granularity);
            w.zeros(8);
        });
    }
}

/// Block Device Characteristics (SBC-4 6.6.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BlockDeviceCharacteristics {
    /// MEDIUM ROTATION RATE: 0 not reported, 1 non-rotating, else revolutions per minute.
    pub rotation_rate: u16,
    /// PRODUCT TYPE.
    pub product_type: u8,
    /// NOMINAL FORM FACTOR.
    pub form_factor: u8,
    /// FUAB: SYNCHRONIZE CACHE also covers what FUA writes do (SBC-4 4.15.3).
    pub fua_behaviour: bool,
    /// VBULS: VERIFY with BYTCHK 00b of unmapped blocks works.
    pub verify_unmapped: bool,
}

impl BlockDeviceCharacteristics {
    /// Rotation rate of a medium that does not rotate.
    pub const NON_ROTATING: u16 = 1;

    /// Writes the page, 64 bytes.
    pub fn emit(&self, peripheral: Peripheral, w: &mut Writer<'_>) {
        emit_page(peripheral, page::BLOCK_DEVICE_CHARACTERISTICS, w, |w| {
            w.u16(self.rotation_rate).u8(self.product_type).u8(self.form_factor & 0x0f);
            w.u8(u8::from(self.fua_behaviour) << 1 | u8::from(self.verify_unmapped)).zeros(55);
        });
    }
}

/// PROVISIONING TYPE (SBC-4 table 273).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ProvisioningType {
    /// Fully provisioned, or not reported.
    #[default]
    Full,
    /// Resource provisioned: space is set aside for every block.
    Resource,
    /// Thin provisioned.
    Thin,
}

/// Logical Block Provisioning (SBC-4 6.6.9).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogicalBlockProvisioning {
    /// THRESHOLD EXPONENT; zero: no thresholds.
    pub threshold_exponent: u8,
    /// LBPU: the UNMAP command.
    pub unmap: bool,
    /// LBPWS: the UNMAP bit of WRITE SAME(16).
    pub write_same_16: bool,
    /// LBPWS10: the UNMAP bit of WRITE SAME(10).
    pub write_same_10: bool,
    /// LBPRZ is 001b: unmapped blocks read as zeros.
    pub reads_zeros: bool,
    /// ANC_SUP: anchored blocks.
    pub anchor: bool,
    /// PROVISIONING TYPE.
    pub provisioning: ProvisioningType,
}

impl LogicalBlockProvisioning {
    /// Writes the page, 8 bytes.
    pub fn emit(&self, peripheral: Peripheral, w: &mut Writer<'_>) {
        let bit = |set: bool, bit: u8| u8::from(set) << bit;
        emit_page(peripheral, page::LOGICAL_BLOCK_PROVISIONING, w, |w| {
            w.u8(self.threshold_exponent);
            w.u8(bit(self.unmap, 7)
                | bit(self.write_same_16, 6)
                | bit(self.write_same_10, 5)
                | bit(self.reads_zeros, 2)
                | bit(self.anchor, 1));
            w.u8(self.provisioning as u8).u8(0);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inquiry::DeviceType;

    const DISK: Peripheral = Peripheral::connected(DeviceType::DISK);

    fn emit(build: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut out = [0xee; 128];
        let mut w = Writer::new(&mut out);
        build(&mut w);
        let length = w.written();
        out[..length].to_vec()
    }

    #[test]
    fn simple_pages() {
        assert_eq!(emit(|w| emit_supported_pages(DISK, &[0, 0x80], w)), [0, 0, 0, 2, 0, 0x80]);
        assert_eq!(emit(|w| emit_unit_serial_number(DISK, "ab1", w)), [0, 0x80, 0, 3, b'a', b'b', b'1']);
    }

    #[test]
    fn extended_inquiry_bytes() {
        let page = ExtendedInquiry {
            head_of_queue: true,
            ordered: true,
            simple: true,
            volatile_cache: true,
            max_sense_length: 28,
            ..ExtendedInquiry::default()
        };
        let data = emit(|w| page.emit(DISK, w));
        assert_eq!(data.len(), 64);
        assert_eq!(data[..14], [0, 0x86, 0, 0x3c, 0, 0x07, 0x01, 0, 0, 0, 0, 0, 0, 28]);
    }

    #[test]
    fn block_limits_bytes() {
        let page = BlockLimits {
            write_same_non_zero: true,
            max_compare_and_write: 0xff,
            optimal_granularity: 8,
            max_transfer: 0x4000,
            optimal_transfer: 0x400,
            max_prefetch: 0x11,
            max_unmap_blocks: 0x0008_0000,
            max_unmap_descriptors: 0x100,
            unmap_granularity: 8,
            unmap_alignment: Some(1),
            max_write_same: 0x1_0000_0000,
            ..BlockLimits::default()
        };
        let data = emit(|w| page.emit(DISK, w));
        assert_eq!(data.len(), 64);
        assert_eq!(data[..16], [0, 0xb0, 0, 0x3c, 1, 0xff, 0, 8, 0, 0, 0x40, 0, 0, 0, 4, 0]);
        assert_eq!(data[16..36], [0, 0, 0, 0x11, 0, 8, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0x80, 0, 0, 1]);
        assert_eq!(data[36..44], [0, 0, 0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn characteristics_and_provisioning_bytes() {
        let page = BlockDeviceCharacteristics { rotation_rate: 15_000, ..BlockDeviceCharacteristics::default() };
        let data = emit(|w| page.emit(DISK, w));
        assert_eq!((data.len(), &data[..6]), (64, &[0, 0xb1, 0, 0x3c, 0x3a, 0x98][..]));
        let page = LogicalBlockProvisioning {
            unmap: true,
            write_same_16: true,
            write_same_10: true,
            reads_zeros: true,
            anchor: true,
            provisioning: ProvisioningType::Thin,
            ..LogicalBlockProvisioning::default()
        };
        assert_eq!(emit(|w| page.emit(DISK, w)), [0, 0xb2, 0, 4, 0, 0xe6, 2, 0]);
    }
}
