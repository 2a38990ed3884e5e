//! Standard INQUIRY data (SPC-6 6.7.2) and the choice between it and the VPD pages.

use scst_scsi::bytes::Writer;
use scst_scsi::inquiry::{Peripheral, PeripheralQualifier, StandardInquiry};
use scst_scsi::{DeviceType, SenseData};

use crate::params::{DiskParameters, PortIdentity, finish};
use crate::vpd;

/// PERIPHERAL QUALIFIER and PERIPHERAL DEVICE TYPE: a device that is there, or the placeholder of a dummy device.
pub fn peripheral(disk: &DiskParameters) -> Peripheral {
    if disk.dummy {
        Peripheral { qualifier: PeripheralQualifier::NotConnected, device_type: DeviceType::UNKNOWN }
    } else {
        Peripheral::connected(disk.device_type)
    }
}

/// Answers INQUIRY: standard data, or the VPD page. Returns the bytes to send.
///
/// # Errors
/// INVALID FIELD IN CDB at PAGE CODE for a page that is not supported.
pub fn answer(
    disk: &DiskParameters,
    port: &PortIdentity<'_>,
    page: Option<u8>,
    allocation: u16,
    buf: &mut [u8],
) -> Result<usize, SenseData> {
    let mut out = Writer::new(buf);
    match page {
        None => standard(disk).emit(&mut out),
        Some(page) => vpd::page(disk, port, page, &mut out)?,
    }
    Ok(finish(&out, u32::from(allocation)))
}

/// Standard INQUIRY data.
fn standard(disk: &DiskParameters) -> StandardInquiry<'_> {
    StandardInquiry {
        peripheral: peripheral(disk),
        removable: disk.removable,
        norm_aca: disk.normal_aca,
        tpgs: disk.tpgs,
        vendor: &disk.vendor,
        product: &disk.product,
        revision: &disk.revision,
        vendor_specific: disk.inquiry_vendor_specific.as_bytes(),
        version_descriptors: &disk.version_descriptors,
        ..StandardInquiry::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: PortIdentity<'static> = PortIdentity { target_name: "iqn.2024-01.test:t", relative_port: 1 };

    fn inquiry(disk: &DiskParameters, page: Option<u8>, allocation: u16) -> Result<Vec<u8>, SenseData> {
        let mut buf = [0xee; 512];
        answer(disk, &PORT, page, allocation, &mut buf).map(|n| buf[..n].to_vec())
    }

    #[test]
    fn standard_data_byte_by_byte() {
        let mut disk = DiskParameters::new("disk1", "here", 512);
        let data = inquiry(&disk, None, 255).unwrap();
        let mut want = vec![0x00, 0x00, 0x06, 0x12, 91, 0x00, 0x10, 0x02];
        want.extend(b"SCST_FIOdisk1           3110");
        want.resize(58, 0);
        want.extend([0x00, 0xa0, 0x09, 0x60, 0x04, 0x60, 0x04, 0xc0]);
        want.resize(96, 0);
        assert_eq!(data, want);

        disk.removable = true;
        disk.normal_aca = true;
        disk.tpgs = scst_scsi::inquiry::Tpgs::Explicit;
        let data = inquiry(&disk, None, 8).unwrap();
        assert_eq!(data, [0x00, 0x80, 0x06, 0x32, 91, 0x20, 0x10, 0x02]);
    }

    #[test]
    fn a_dummy_device_has_qualifier_1_and_no_type() {
        let mut disk = DiskParameters::new("none", "", 512);
        disk.dummy = true;
        assert_eq!(inquiry(&disk, None, 1).unwrap(), [0x3f]);
        assert_eq!(inquiry(&disk, Some(0x80), 1).unwrap(), [0x3f]);
    }

    #[test]
    fn other_device_types_have_no_pages_of_disks() {
        let mut disk = DiskParameters::new("mo", "", 2048);
        disk.device_type = DeviceType::OPTICAL;
        disk.removable = true;
        assert_eq!(inquiry(&disk, None, 2).unwrap(), [0x07, 0x80]);
        assert_eq!(inquiry(&disk, Some(0), 255).unwrap(), [0x07, 0, 0, 4, 0x00, 0x80, 0x83, 0x86]);
        assert_eq!(inquiry(&disk, Some(0xb0), 255), Err(SenseData::invalid_field_in_cdb(2, None)));
        disk.device_type = DeviceType::TAPE;
        assert_eq!(inquiry(&disk, Some(0x80), 4).unwrap(), [0x01, 0x80, 0, 8]);
        assert_eq!(inquiry(&disk, Some(0x86), 255).unwrap()[6] & 1, 0, "V_SUP is for disks");
    }

    #[test]
    fn an_allocation_length_of_zero_is_no_error() {
        let disk = DiskParameters::new("d", "", 512);
        assert_eq!(inquiry(&disk, None, 0).unwrap(), []);
    }

    #[test]
    fn an_unknown_page_is_an_invalid_page_code() {
        let disk = DiskParameters::new("d", "", 512);
        let sense = inquiry(&disk, Some(0xb2), 255).unwrap_err();
        assert_eq!(sense, SenseData::invalid_field_in_cdb(2, None), "B2h only when thin provisioned");
        assert_eq!(inquiry(&disk, Some(0x84), 255).unwrap_err(), SenseData::invalid_field_in_cdb(2, None));
    }
}
