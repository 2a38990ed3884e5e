//! Vital product data (SPC-6 7.7, SBC-4 6.6): pages 00h, 80h, 83h, 86h, B0h, B1h and B2h.

use std::fmt::Write;

use scst_scsi::bytes::Writer;
use scst_scsi::designator::{Designator, DesignatorId, ISCSI_PORTAL_GROUP_TAG, ProtocolIdentifier};
use scst_scsi::vpd::{
    BlockDeviceCharacteristics, BlockLimits, ExtendedInquiry, LogicalBlockProvisioning, ProvisioningType,
    emit_device_identification, emit_supported_pages, emit_unit_serial_number, page as code,
};
use scst_scsi::{DeviceType, SenseData};

use crate::inquiry::peripheral;
use crate::params::{DiskParameters, MAX_UNMAP_DESCRIPTORS, PortIdentity};

/// The pages of a disk, those that devices of all types have first; the last one only when it is thin provisioned.
const PAGES: [u8; 7] = [
    code::SUPPORTED_PAGES,
    code::UNIT_SERIAL_NUMBER,
    code::DEVICE_IDENTIFICATION,
    code::EXTENDED_INQUIRY,
    code::BLOCK_LIMITS,
    code::BLOCK_DEVICE_CHARACTERISTICS,
    code::LOGICAL_BLOCK_PROVISIONING,
];

/// How many of them devices of all types have.
const COMMON_PAGES: usize = 4;

/// Length of a SCSI name string: iSCSI names have at most 223 bytes (RFC 7143 4.2.7.1).
const MAX_NAME: usize = 223;
/// What makes a port name of a target name: `,t,0x` and the four digits of the portal group tag (RFC 7143 4.4.2).
const PORT_SUFFIX: usize = 9;
/// MEDIUM ROTATION RATE of a rotational disk.
const ROTATION_RATE: u16 = 15_000;

/// Writes a VPD page.
///
/// # Errors
/// INVALID FIELD IN CDB at PAGE CODE for a page that the disk does not have.
pub(crate) fn page(
    disk: &DiskParameters,
    port: &PortIdentity<'_>,
    page: u8,
    out: &mut Writer<'_>,
) -> Result<(), SenseData> {
    let device = peripheral(disk);
    match page {
        code::SUPPORTED_PAGES => emit_supported_pages(device, supported(disk), out),
        code::UNIT_SERIAL_NUMBER => emit_unit_serial_number(device, &disk.serial, out),
        code::DEVICE_IDENTIFICATION => device_identification(disk, port, out),
        code::EXTENDED_INQUIRY => extended_inquiry(disk).emit(device, out),
        _ if !supported(disk).contains(&page) => return Err(SenseData::invalid_field_in_cdb(2, None)),
        code::BLOCK_LIMITS => block_limits(disk).emit(device, out),
        code::BLOCK_DEVICE_CHARACTERISTICS => characteristics(disk).emit(device, out),
        code::LOGICAL_BLOCK_PROVISIONING => provisioning(disk).emit(device, out),
        _ => return Err(SenseData::invalid_field_in_cdb(2, None)),
    }
    Ok(())
}

fn supported(disk: &DiskParameters) -> &'static [u8] {
    match disk.provisioning {
        _ if disk.device_type != DeviceType::DISK => &PAGES[..COMMON_PAGES],
        Some(_) => &PAGES,
        None => &PAGES[..PAGES.len() - 1],
    }
}

fn device_identification(disk: &DiskParameters, port: &PortIdentity<'_>, out: &mut Writer<'_>) {
    let t10 = DesignatorId::T10VendorId { vendor: &disk.vendor, specific: &disk.t10_device_id };
    let unit = [t10, DesignatorId::Naa(disk.naa), DesignatorId::Eui64(disk.eui64)].map(Designator::logical_unit);
    let own_id = DesignatorId::VendorSpecific(disk.vendor_specific_id.as_bytes());
    let own_id = (!disk.vendor_specific_id.is_empty()).then(|| Designator::logical_unit(own_id));
    let relative_port = Designator::target_port(None, DesignatorId::RelativeTargetPort(port.relative_port));
    let mut name = PortName::default();
    let named = is_scsi_name(port.target_name).then(|| {
        // It fits: is_scsi_name has checked the length.
        let _ = write!(name, "{},t,0x{ISCSI_PORTAL_GROUP_TAG:04x}", port.target_name);
        [
            Designator::target_port(Some(ProtocolIdentifier::ISCSI), DesignatorId::ScsiName(name.as_str())),
            Designator::target_device(None, DesignatorId::ScsiName(port.target_name)),
        ]
        .into_iter()
        // A name of the device's own takes the place of the target's.
        .take(if disk.scsi_device_name.is_empty() { 2 } else { 1 })
    });
    let own_name = DesignatorId::ScsiName(&disk.scsi_device_name);
    let own_name = (!disk.scsi_device_name.is_empty()).then(|| Designator::target_device(None, own_name));
    let all = unit.into_iter().chain(own_id).chain([relative_port]).chain(named.into_iter().flatten()).chain(own_name);
    emit_device_identification(peripheral(disk), all, out);
}

/// Whether a target name can stand in a SCSI name string designator (SPC-6 7.7.6.11).
fn is_scsi_name(name: &str) -> bool {
    let prefix = |p: &str| name.get(..4).is_some_and(|head| head.eq_ignore_ascii_case(p));
    name.len() <= MAX_NAME && (prefix("iqn.") || prefix("eui.") || prefix("naa."))
}

/// A port name on the stack.
struct PortName {
    bytes: [u8; MAX_NAME + PORT_SUFFIX],
    len: usize,
}

impl Default for PortName {
    fn default() -> Self {
        Self { bytes: [0; MAX_NAME + PORT_SUFFIX], len: 0 }
    }
}

impl PortName {
    fn as_str(&self) -> &str {
        // Only whole strings were written.
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or("")
    }
}

impl Write for PortName {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

fn extended_inquiry(disk: &DiskParameters) -> ExtendedInquiry {
    ExtendedInquiry {
        head_of_queue: true,
        ordered: true,
        simple: true,
        non_volatile_cache: disk.nv_cache,
        // V_SUP is about the cache of a block device.
        volatile_cache: !disk.nv_cache && disk.device_type != DeviceType::TAPE,
        // REPORT LUNS clears REPORTED LUNS DATA HAS CHANGED for all logical units of the nexus.
        logical_unit_nexus_clear: true,
        ..ExtendedInquiry::default()
    }
}

fn block_limits(disk: &DiskParameters) -> BlockLimits {
    let granularity = disk.provisioning.map_or(0, |thin| thin.granularity).max(1 << disk.physical_exponent.min(15));
    let limits = BlockLimits {
        write_same_non_zero: true,
        max_compare_and_write: disk.max_compare_and_write_blocks(),
        optimal_granularity: u16::try_from(granularity).unwrap_or(0),
        max_transfer: disk.max_transfer_blocks(),
        optimal_transfer: disk.optimal_transfer_blocks,
        max_write_same: disk.max_write_same_blocks,
        ..BlockLimits::default()
    };
    match disk.provisioning {
        None => limits,
        Some(thin) => BlockLimits {
            max_unmap_blocks: thin.max_unmap_blocks,
            max_unmap_descriptors: MAX_UNMAP_DESCRIPTORS,
            unmap_granularity: thin.granularity,
            // The alignment means something only relative to a granularity.
            unmap_alignment: (thin.granularity != 0).then_some(thin.alignment & 0x7fff_ffff),
            ..limits
        },
    }
}

fn characteristics(disk: &DiskParameters) -> BlockDeviceCharacteristics {
    let rotation_rate = if disk.rotational { ROTATION_RATE } else { BlockDeviceCharacteristics::NON_ROTATING };
    BlockDeviceCharacteristics { rotation_rate, ..BlockDeviceCharacteristics::default() }
}

fn provisioning(disk: &DiskParameters) -> LogicalBlockProvisioning {
    LogicalBlockProvisioning {
        threshold_exponent: 0,
        unmap: true,
        write_same_16: true,
        write_same_10: true,
        reads_zeros: disk.provisioning.is_some_and(|thin| thin.reads_zeros),
        anchor: disk.provisioning.is_some_and(|thin| thin.anchor),
        provisioning: ProvisioningType::Thin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Provisioning;

    fn get(disk: &DiskParameters, target: &str, code: u8) -> Vec<u8> {
        let mut buf = [0xee; 1024];
        let mut out = Writer::new(&mut buf);
        page(disk, &PortIdentity { target_name: target, relative_port: 0x1a }, code, &mut out).expect("a page");
        let n = out.written();
        buf[..n].to_vec()
    }

    fn thin() -> DiskParameters {
        DiskParameters {
            provisioning: Some(Provisioning {
                granularity: 8,
                alignment: 0,
                max_unmap_blocks: 524_288,
                reads_zeros: true,
                anchor: true,
            }),
            ..DiskParameters::new("disk1", "here", 512)
        }
    }

    #[test]
    fn the_list_of_pages_is_ascending_and_every_page_in_it_exists() {
        for disk in [thin(), DiskParameters::new("d", "", 512)] {
            let list = get(&disk, "t", 0);
            assert_eq!(list[..4], [0, 0, 0, list.len() as u8 - 4]);
            assert!(list[4..].is_sorted());
            for code in &list[4..] {
                let data = get(&disk, "t", *code);
                assert_eq!(data[1], *code);
                assert_eq!(usize::from(u16::from_be_bytes([data[2], data[3]])) + 4, data.len());
            }
        }
        assert_eq!(get(&thin(), "t", 0)[4..], [0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2]);
    }

    #[test]
    fn serial_number_is_ascii() {
        let disk = DiskParameters { serial: "abc123".into(), ..thin() };
        assert_eq!(get(&disk, "t", 0x80), b"\x00\x80\x00\x06abc123");
    }

    #[test]
    fn device_identification_names_unit_port_and_target() {
        let disk = DiskParameters {
            t10_device_id: "id-1".into(),
            naa: scst_scsi::designator::Naa::locally_assigned(0x0102_0304_0506_0708),
            eui64: 0x0202_0304_0506_0709,
            ..thin()
        };
        let mut want = vec![0x02, 0x01, 0, 12];
        want.extend(b"SCST_FIOid-1");
        want.extend([0x01, 0x03, 0, 8, 0x31, 2, 3, 4, 5, 6, 7, 8]);
        want.extend([0x01, 0x02, 0, 8, 0x02, 2, 3, 4, 5, 6, 7, 9]);
        want.extend([0x01, 0x14, 0, 4, 0, 0, 0, 0x1a]);
        let unnamed = get(&disk, "fc-port", 0x83);
        assert_eq!(unnamed[4..], want);

        want.extend([0x53, 0x98, 0, 16]);
        want.extend(b"iqn.x,t,0x0001\0\0");
        want.extend([0x03, 0x28, 0, 8]);
        want.extend(b"iqn.x\0\0\0");
        assert_eq!(get(&disk, "iqn.x", 0x83)[4..], want);
    }

    #[test]
    fn names_of_the_operators_choice_are_there_too() {
        let mut disk = thin();
        let before = get(&disk, "iqn.x", 0x83);
        disk.vendor_specific_id = "own".into();
        disk.scsi_device_name = "iqn.own".into();
        let data = get(&disk, "iqn.x", 0x83);
        assert_eq!(data.len(), before.len() + 7);
        assert!(data.windows(7).any(|w| w == b"\x01\x00\x00\x03own"));
        assert_eq!(data[data.len() - 12..], *b"\x03\x28\x00\x08iqn.own\0");
    }

    #[test]
    fn a_name_that_fills_four_bytes_still_gets_its_null() {
        let data = get(&thin(), "iqn.abcd", 0x83);
        assert_eq!(data[data.len() - 16..], *b"\x03\x28\x00\x0ciqn.abcd\0\0\0\0");
        let longest = format!("iqn.{}", "a".repeat(219));
        let data = get(&thin(), &longest, 0x83);
        assert_eq!(data[data.len() - 224 - 4..][..4], [0x03, 0x28, 0, 224]);
    }

    #[test]
    fn extended_inquiry_tells_the_cache_apart() {
        let data = get(&thin(), "t", 0x86);
        assert_eq!(data[..8], [0x00, 0x86, 0x00, 0x3c, 0x00, 0x07, 0x01, 0x01]);
        assert_eq!(data.len(), 64);
        assert_eq!(get(&DiskParameters { nv_cache: true, ..thin() }, "t", 0x86)[6], 0x02);
    }

    #[test]
    fn block_limits_of_a_thin_disk() {
        let disk = DiskParameters { optimal_transfer_blocks: 1024, max_write_same_blocks: 1 << 20, ..thin() };
        let mut want = vec![0x00, 0xb0, 0x00, 0x3c, 0x01, 0xff, 0x00, 0x08];
        want.extend(16384u32.to_be_bytes());
        want.extend(1024u32.to_be_bytes());
        want.extend(0u32.to_be_bytes());
        want.extend(524_288u32.to_be_bytes());
        want.extend(256u32.to_be_bytes());
        want.extend(8u32.to_be_bytes());
        want.extend(0x8000_0000u32.to_be_bytes());
        want.extend((1u64 << 20).to_be_bytes());
        want.resize(64, 0);
        assert_eq!(get(&disk, "t", 0xb0), want);
    }

    #[test]
    fn block_limits_of_a_thick_disk_have_no_unmap() {
        let disk = DiskParameters { physical_exponent: 3, ..DiskParameters::new("d", "", 512) };
        let data = get(&disk, "t", 0xb0);
        assert_eq!(data[6..8], [0, 8]);
        assert_eq!(data[20..36], [0; 16]);
    }

    #[test]
    fn rotation_rate() {
        assert_eq!(get(&thin(), "t", 0xb1)[..6], [0x00, 0xb1, 0x00, 0x3c, 0x3a, 0x98]);
        let ssd = DiskParameters { rotational: false, ..thin() };
        assert_eq!(get(&ssd, "t", 0xb1)[4..6], [0, 1]);
    }

    #[test]
    fn provisioning_page() {
        assert_eq!(get(&thin(), "t", 0xb2), [0x00, 0xb2, 0x00, 0x04, 0x00, 0xe6, 0x02, 0x00]);
    }
}
