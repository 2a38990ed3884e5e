//! Standard INQUIRY data (SPC-6 6.7.2).

use crate::bytes::Writer;

/// PERIPHERAL DEVICE TYPE (SPC-6 table 151).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DeviceType(pub u8);

impl DeviceType {
    /// Direct access block device (SBC).
    pub const DISK: Self = Self(0x00);
    /// Sequential access device (SSC).
    pub const TAPE: Self = Self(0x01);
    /// Processor device.
    pub const PROCESSOR: Self = Self(0x03);
    /// CD/DVD device (MMC).
    pub const CD: Self = Self(0x05);
    /// Optical memory device.
    pub const OPTICAL: Self = Self(0x07);
    /// Media changer (SMC).
    pub const CHANGER: Self = Self(0x08);
    /// Storage array controller (SCC-2).
    pub const STORAGE_ARRAY: Self = Self(0x0c);
    /// Enclosure services device (SES).
    pub const ENCLOSURE: Self = Self(0x0d);
    /// Well known logical unit.
    pub const WELL_KNOWN: Self = Self(0x1e);
    /// Unknown or no device type.
    pub const UNKNOWN: Self = Self(0x1f);
}

/// PERIPHERAL QUALIFIER (SPC-6 table 150).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PeripheralQualifier {
    /// 000b: the device is there, as far as the target can tell.
    #[default]
    Connected,
    /// 001b: it could be there, and is not.
    NotConnected,
    /// 011b: there can be no device at this LUN.
    Incapable,
}

/// Byte 0 of INQUIRY data and of every VPD page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Peripheral {
    /// PERIPHERAL QUALIFIER.
    pub qualifier: PeripheralQualifier,
    /// PERIPHERAL DEVICE TYPE.
    pub device_type: DeviceType,
}

impl Peripheral {
    /// What answers at a LUN where nothing is: 7Fh (SPC-6 6.7.1).
    pub const NONE: Self = Self { qualifier: PeripheralQualifier::Incapable, device_type: DeviceType::UNKNOWN };

    /// A device that is there.
    pub const fn connected(device_type: DeviceType) -> Self {
        Self { qualifier: PeripheralQualifier::Connected, device_type }
    }

    /// The byte.
    pub const fn byte(self) -> u8 {
        let qualifier = match self.qualifier {
            PeripheralQualifier::Connected => 0b000,
            PeripheralQualifier::NotConnected => 0b001,
            PeripheralQualifier::Incapable => 0b011,
        };
        qualifier << 5 | (self.device_type.0 & 0x1f)
    }
}

/// TPGS (SPC-6 table 154): how asymmetric logical unit access is managed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Tpgs {
    /// Not at all.
    #[default]
    None,
    /// By the target.
    Implicit,
    /// By SET TARGET PORT GROUPS.
    Explicit,
    /// Both.
    Both,
}

/// VERSION (SPC-6 table 152).
pub mod version {
    /// SPC-3.
    pub const SPC_3: u8 = 0x05;
    /// SPC-4.
    pub const SPC_4: u8 = 0x06;
    /// SPC-5.
    pub const SPC_5: u8 = 0x07;
}

/// VERSION DESCRIPTORs (SPC-6 annex C), all of the "no version claimed" kind.
pub mod version_descriptor {
    /// SAM-4.
    pub const SAM_4: u16 = 0x0080;
    /// SAM-5.
    pub const SAM_5: u16 = 0x00a0;
    /// SPC-3.
    pub const SPC_3: u16 = 0x0300;
    /// SPC-4.
    pub const SPC_4: u16 = 0x0460;
    /// SPC-5.
    pub const SPC_5: u16 = 0x05c0;
    /// SBC, the last one with optical memory devices.
    pub const SBC: u16 = 0x0180;
    /// SBC-2.
    pub const SBC_2: u16 = 0x0320;
    /// SBC-3.
    pub const SBC_3: u16 = 0x04c0;
    /// SBC-4.
    pub const SBC_4: u16 = 0x0600;
    /// SSC-3.
    pub const SSC_3: u16 = 0x0400;
    /// SRP.
    pub const SRP: u16 = 0x0940;
    /// iSCSI.
    pub const ISCSI: u16 = 0x0960;
}

/// Length of standard INQUIRY data as emitted here: up to and including the version descriptors.
pub const STANDARD_INQUIRY_LENGTH: usize = 96;

/// Standard INQUIRY data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StandardInquiry<'a> {
    /// Qualifier and device type.
    pub peripheral: Peripheral,
    /// RMB: removable medium.
    pub removable: bool,
    /// VERSION, see [`version`].
    pub version: u8,
    /// NORMACA: the NACA bit of CONTROL is supported.
    pub norm_aca: bool,
    /// HISUP: LUNs are addressed as SAM-5 4.7 says, with REPORT LUNS.
    pub hierarchical_luns: bool,
    /// TPGS.
    pub tpgs: Tpgs,
    /// 3PC: third-party copy commands.
    pub third_party_copy: bool,
    /// PROTECT: protection information.
    pub protect: bool,
    /// MULTIP: several target ports.
    pub multi_port: bool,
    /// CMDQUE: command management of SAM-5.
    pub command_queuing: bool,
    /// T10 VENDOR IDENTIFICATION, 8 characters.
    pub vendor: &'a str,
    /// PRODUCT IDENTIFICATION, 16 characters.
    pub product: &'a str,
    /// PRODUCT REVISION LEVEL, 4 characters.
    pub revision: &'a str,
    /// Bytes 36 to 55, vendor specific; cut or zero-padded.
    pub vendor_specific: &'a [u8],
    /// Up to eight VERSION DESCRIPTORs, see [`version_descriptor`].
    pub version_descriptors: &'a [u16],
}

impl Default for StandardInquiry<'_> {
    fn default() -> Self {
        Self {
            peripheral: Peripheral::connected(DeviceType::DISK),
            removable: false,
            version: version::SPC_4,
            norm_aca: false,
            hierarchical_luns: true,
            tpgs: Tpgs::None,
            third_party_copy: false,
            protect: false,
            multi_port: true,
            command_queuing: true,
            vendor: "",
            product: "",
            revision: "",
            vendor_specific: &[],
            version_descriptors: &[],
        }
    }
}

impl StandardInquiry<'_> {
    /// Writes [`STANDARD_INQUIRY_LENGTH`] bytes.
    pub fn emit(&self, w: &mut Writer<'_>) {
        /// RESPONSE DATA FORMAT.
        const FORMAT: u8 = 2;
        let start = w.position();
        let bit = |set: bool, bit: u8| u8::from(set) << bit;
        w.u8(self.peripheral.byte()).u8(bit(self.removable, 7)).u8(self.version);
        w.u8(bit(self.norm_aca, 5) | bit(self.hierarchical_luns, 4) | FORMAT);
        w.u8((STANDARD_INQUIRY_LENGTH - 5) as u8);
        w.u8((self.tpgs as u8) << 4 | bit(self.third_party_copy, 3) | bit(self.protect, 0));
        w.u8(bit(self.multi_port, 4)).u8(bit(self.command_queuing, 1));
        w.ascii(self.vendor, 8).ascii(self.product, 16).ascii(self.revision, 4);
        let own = &self.vendor_specific[..self.vendor_specific.len().min(20)];
        w.bytes(own).zeros(20 - own.len()).zeros(2);
        for descriptor in self.version_descriptors.iter().take(8) {
            w.u16(*descriptor);
        }
        w.zeros(start + STANDARD_INQUIRY_LENGTH - w.position());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_data_bytes() {
        let inquiry = StandardInquiry {
            removable: true,
            tpgs: Tpgs::Both,
            third_party_copy: true,
            vendor: "SCST_FIO",
            product: "disk1",
            revision: "100",
            vendor_specific: b"abc",
            version_descriptors: &[version_descriptor::SAM_5, version_descriptor::ISCSI],
            ..StandardInquiry::default()
        };
        let mut out = [0xee; 100];
        let mut w = Writer::new(&mut out);
        inquiry.emit(&mut w);
        assert_eq!(w.position(), 96);
        assert_eq!(&out[..8], [0x00, 0x80, 0x06, 0x12, 91, 0x38, 0x10, 0x02]);
        assert_eq!(&out[8..36], b"SCST_FIOdisk1           100 ");
        assert_eq!((&out[36..40], &out[56..63]), (&b"abc\0"[..], &[0, 0, 0x00, 0xa0, 0x09, 0x60, 0][..]));
        assert_eq!(out[96..], [0xee; 4]);
    }

    #[test]
    fn nothing_at_a_lun_is_7f() {
        assert_eq!(Peripheral::NONE.byte(), 0x7f);
        let off = Peripheral { qualifier: PeripheralQualifier::NotConnected, device_type: DeviceType::CD };
        assert_eq!(off.byte(), 0x25);
    }
}
