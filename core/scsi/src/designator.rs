//! Designation descriptors (SPC-6 7.7.6.1): names of logical units, ports and devices, as in VPD page 83h.

use crate::bytes::{Writer, be};

/// The longest designator: DESIGNATOR LENGTH has one byte.
pub const MAX_DESIGNATOR: usize = u8::MAX as usize;
/// The longest vendor specific part of a T10 vendor ID designator.
pub const MAX_T10_SPECIFIC: usize = MAX_DESIGNATOR - 8;
/// The longest SCSI name: terminated and padded to a multiple of four it must still fit.
pub const MAX_SCSI_NAME: usize = (MAX_DESIGNATOR & !3) - 1;

/// What a designator names (SPC-6 table 579).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Association {
    /// The addressed logical unit.
    #[default]
    LogicalUnit,
    /// The target port that the command came through.
    TargetPort,
    /// The SCSI target device.
    TargetDevice,
}

/// PROTOCOL IDENTIFIER (SPC-6 table 519).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ProtocolIdentifier(pub u8);

impl ProtocolIdentifier {
    /// Fibre Channel.
    pub const FCP: Self = Self(0x0);
    /// SCSI RDMA Protocol.
    pub const SRP: Self = Self(0x4);
    /// iSCSI.
    pub const ISCSI: Self = Self(0x5);
    /// Serial Attached SCSI.
    pub const SAS: Self = Self(0x6);
}

/// Portal group tag of every iSCSI target port: all portals are in one portal group, as in the original. The login tells it
/// (RFC 7143 13.9), and the name of the port ends with it (RFC 7143 4.4.2): initiators compare the two.
pub const ISCSI_PORTAL_GROUP_TAG: u16 = 1;

/// An NAA designator (SPC-6 7.7.6.6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Naa {
    /// NAA 2h, 3h or 5h: eight bytes that begin with that digit.
    Short(u64),
    /// NAA 6h: sixteen bytes that begin with that digit.
    Extended(u128),
}

impl Naa {
    /// Reads 8 bytes that begin with 2h, 3h or 5h, or 16 that begin with 6h.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match (bytes.first()? >> 4, bytes.len()) {
            (2 | 3 | 5, 8) => Some(Self::Short(be(bytes))),
            (6, 16) => Some(Self::Extended(u128::from_be_bytes(bytes.try_into().ok()?))),
            _ => None,
        }
    }

    /// NAA 3h, locally assigned: the low 60 bits of a number.
    pub const fn locally_assigned(value: u64) -> Self {
        Self::Short(3 << 60 | value & ((1 << 60) - 1))
    }

    /// NAA 5h, IEEE registered: a 24-bit company identifier and the low 36 bits of a vendor specific number.
    pub const fn ieee_registered(company: u32, vendor: u64) -> Self {
        Self::Short(5 << 60 | (company as u64 & 0xff_ffff) << 36 | vendor & ((1 << 36) - 1))
    }

    /// NAA 6h, IEEE registered extended.
    pub const fn ieee_registered_extended(company: u32, vendor: u64, extension: u64) -> Self {
        let high = 6 << 60 | (company as u64 & 0xff_ffff) << 36 | vendor & ((1 << 36) - 1);
        Self::Extended((high as u128) << 64 | extension as u128)
    }
}

/// The designator proper.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DesignatorId<'a> {
    /// Type 0h, binary; cut to [`MAX_DESIGNATOR`] bytes.
    VendorSpecific(&'a [u8]),
    /// Type 1h: T10 VENDOR IDENTIFICATION (8 characters) and a vendor's own, in ASCII.
    T10VendorId {
        /// Eight characters; shorter ones are padded with spaces.
        vendor: &'a str,
        /// The rest; cut to [`MAX_T10_SPECIFIC`] bytes.
        specific: &'a str,
    },
    /// Type 2h, eight bytes.
    Eui64(u64),
    /// Type 2h, twelve bytes: EUI-64 and a directory identifier.
    Eui64Directory(u64, u32),
    /// Type 2h, sixteen bytes: an identifier extension and the EUI-64.
    Eui64Extended(u64, u64),
    /// Type 3h.
    Naa(Naa),
    /// Type 4h.
    RelativeTargetPort(u16),
    /// Type 5h.
    TargetPortGroup(u16),
    /// Type 6h.
    LogicalUnitGroup(u16),
    /// Type 7h.
    Md5([u8; 16]),
    /// Type 8h, UTF-8; cut to [`MAX_SCSI_NAME`] bytes, zero-terminated and padded to a multiple of four on the wire.
    ScsiName(&'a str),
    /// Type Ah: an RFC 4122 UUID.
    Uuid([u8; 16]),
}

/// CODE SET (SPC-6 table 578).
const BINARY: u8 = 1;
const ASCII: u8 = 2;
const UTF_8: u8 = 3;

/// One designation descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Designator<'a> {
    /// What it names.
    pub association: Association,
    /// Protocol of the port that is named, when valid (PIV).
    pub protocol: Option<ProtocolIdentifier>,
    /// The name.
    pub id: DesignatorId<'a>,
}

impl<'a> Designator<'a> {
    /// A name of the logical unit.
    pub const fn logical_unit(id: DesignatorId<'a>) -> Self {
        Self { association: Association::LogicalUnit, protocol: None, id }
    }

    /// A name of the target port.
    pub const fn target_port(protocol: Option<ProtocolIdentifier>, id: DesignatorId<'a>) -> Self {
        Self { association: Association::TargetPort, protocol, id }
    }

    /// A name of the target device.
    pub const fn target_device(protocol: Option<ProtocolIdentifier>, id: DesignatorId<'a>) -> Self {
        Self { association: Association::TargetDevice, protocol, id }
    }

    /// Appends the descriptor.
    pub fn emit(&self, w: &mut Writer<'_>) {
        const PIV: u8 = 0x80;
        let (kind, code_set) = match self.id {
            DesignatorId::VendorSpecific(_) => (0x0, BINARY),
            DesignatorId::T10VendorId { .. } => (0x1, ASCII),
            DesignatorId::Eui64(_) | DesignatorId::Eui64Directory(..) | DesignatorId::Eui64Extended(..) => {
                (0x2, BINARY)
            }
            DesignatorId::Naa(_) => (0x3, BINARY),
            DesignatorId::RelativeTargetPort(_) => (0x4, BINARY),
            DesignatorId::TargetPortGroup(_) => (0x5, BINARY),
            DesignatorId::LogicalUnitGroup(_) => (0x6, BINARY),
            DesignatorId::Md5(_) => (0x7, BINARY),
            DesignatorId::ScsiName(_) => (0x8, UTF_8),
            DesignatorId::Uuid(_) => (0xa, BINARY),
        };
        let start = w.position();
        let piv = if self.protocol.is_some() { PIV } else { 0 };
        w.u8(self.protocol.map_or(0, |p| p.0 << 4) | code_set).u8(piv | (self.association as u8) << 4 | kind);
        w.u8(0).u8(0);
        self.id.emit(w);
        w.patch_length_u8(start + 3);
    }

    /// Reads the first descriptor; returns it and what follows. None when it is cut, or of a kind that does not exist.
    pub fn parse(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let &[first, second, _, length, ref rest @ ..] = bytes else { return None };
        let (body, rest) = rest.split_at_checked(usize::from(length))?;
        let association = match second >> 4 & 3 {
            0 => Association::LogicalUnit,
            1 => Association::TargetPort,
            2 => Association::TargetDevice,
            _ => return None,
        };
        let protocol = (second & 0x80 != 0).then_some(ProtocolIdentifier(first >> 4));
        Some((Self { association, protocol, id: DesignatorId::parse(second & 0x0f, body)? }, rest))
    }
}

impl<'a> DesignatorId<'a> {
    fn emit(&self, w: &mut Writer<'_>) {
        match *self {
            Self::VendorSpecific(bytes) => w.bytes(&bytes[..bytes.len().min(MAX_DESIGNATOR)]),
            Self::T10VendorId { vendor, specific } => {
                w.ascii(vendor, 8).ascii(specific, specific.len().min(MAX_T10_SPECIFIC))
            }
            Self::Eui64(id) => w.u64(id),
            Self::Eui64Directory(id, directory) => w.u64(id).u32(directory),
            Self::Eui64Extended(extension, id) => w.u64(extension).u64(id),
            Self::Naa(Naa::Short(id)) => w.u64(id),
            Self::Naa(Naa::Extended(id)) => w.bytes(&id.to_be_bytes()),
            Self::RelativeTargetPort(id) | Self::TargetPortGroup(id) | Self::LogicalUnitGroup(id) => w.u16(0).u16(id),
            Self::Md5(id) => w.bytes(&id),
            Self::ScsiName(name) => {
                let name = &name[..name.floor_char_boundary(MAX_SCSI_NAME)];
                let padded = (name.len() + 1).next_multiple_of(4);
                w.bytes(name.as_bytes()).zeros(padded - name.len())
            }
            Self::Uuid(id) => w.u8(0x10).u8(0).bytes(&id),
        };
    }

    fn parse(kind: u8, body: &'a [u8]) -> Option<Self> {
        let number = || match *body {
            [_, _, high, low] => Some(u16::from_be_bytes([high, low])),
            _ => None,
        };
        match (kind, body.len()) {
            (0x0, _) => Some(Self::VendorSpecific(body)),
            (0x1, 8..) => {
                let text = std::str::from_utf8(body).ok().filter(|text| text.is_ascii())?;
                Some(Self::T10VendorId { vendor: text[..8].trim_end_matches(' '), specific: &text[8..] })
            }
            (0x2, 8) => Some(Self::Eui64(be(body))),
            (0x2, 12) => Some(Self::Eui64Directory(be(&body[..8]), be(&body[8..]) as u32)),
            (0x2, 16) => Some(Self::Eui64Extended(be(&body[..8]), be(&body[8..]))),
            (0x3, _) => Naa::from_bytes(body).map(Self::Naa),
            (0x4, _) => number().map(Self::RelativeTargetPort),
            (0x5, _) => number().map(Self::TargetPortGroup),
            (0x6, _) => number().map(Self::LogicalUnitGroup),
            (0x7, 16) => Some(Self::Md5(body.try_into().ok()?)),
            (0x8, _) => Some(Self::ScsiName(std::str::from_utf8(body).ok()?.trim_end_matches('\0'))),
            (0xa, 18) if body[0] == 0x10 => Some(Self::Uuid(body[2..].try_into().ok()?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn emit(designator: Designator<'_>) -> Vec<u8> {
        let mut out = [0xee; 300];
        let mut w = Writer::new(&mut out);
        designator.emit(&mut w);
        let length = w.written();
        out[..length].to_vec()
    }

    #[test]
    fn bytes_of_what_a_disk_reports() {
        let id = DesignatorId::T10VendorId { vendor: "SCST", specific: "a-d1" };
        let mut expected = vec![0x02, 0x01, 0, 12];
        expected.extend_from_slice(b"SCST    a-d1");
        assert_eq!(emit(Designator::logical_unit(id)), expected);

        let id = DesignatorId::Naa(Naa::ieee_registered(0x12_3456, 0x7_89ab_cdef));
        assert_eq!(
            emit(Designator::logical_unit(id)),
            [0x01, 0x03, 0, 8, 0x51, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]
        );

        let port = Designator::target_port(Some(ProtocolIdentifier::ISCSI), DesignatorId::RelativeTargetPort(3));
        assert_eq!(emit(port), [0x51, 0x94, 0, 4, 0, 0, 0, 3]);

        let name = DesignatorId::ScsiName("iqn.x:abc");
        let mut expected = vec![0x53, 0xa8, 0, 12];
        expected.extend_from_slice(b"iqn.x:abc\0\0\0");
        assert_eq!(emit(Designator::target_device(Some(ProtocolIdentifier::ISCSI), name)), expected);
    }

    #[test]
    fn what_is_too_long_for_the_length_byte_is_cut() {
        let long = "x".repeat(300);
        let (vendor, specific) = ("SCST", long.as_str());
        for (id, length) in [
            (DesignatorId::VendorSpecific(long.as_bytes()), 255),
            (DesignatorId::T10VendorId { vendor, specific }, 255),
            (DesignatorId::ScsiName(&long), 252),
            (DesignatorId::ScsiName(&"ä".repeat(126)), 252),
        ] {
            let wire = emit(Designator::logical_unit(id));
            assert_eq!((usize::from(wire[3]), wire.len()), (length, 4 + length));
            assert_eq!(Designator::parse(&wire).map(|(_, rest)| rest), Some(&[][..]));
        }
    }

    #[test]
    fn naa_digits_decide_the_length() {
        assert_eq!(Naa::from_bytes(&[0x51, 0, 0, 0, 0, 0, 0, 1]), Some(Naa::ieee_registered(0x10_0000, 1)));
        assert_eq!(Naa::from_bytes(&[0x61, 0, 0, 0, 0, 0, 0, 1]), None);
        assert_eq!(Naa::locally_assigned(u64::MAX), Naa::Short(0x3fff_ffff_ffff_ffff));
        let extended = Naa::ieee_registered_extended(1, 2, 3);
        assert_eq!(extended, Naa::Extended(0x6000_0010_0000_0002_0000_0000_0000_0003));
    }

    fn any_id() -> impl Strategy<Value = (u8, Vec<u8>, String)> {
        (0..12u8, proptest::collection::vec(any::<u8>(), 16), "[!-~]{1,40}")
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_emit((kind, bytes, text) in any_id(), association in 0..3u8, protocol in any::<Option<u8>>()) {
            let array: [u8; 16] = bytes.clone().try_into().unwrap();
            let short = be(&bytes[..8]);
            let number = short as u16;
            let id = match kind {
                0 => DesignatorId::VendorSpecific(&bytes),
                1 => DesignatorId::T10VendorId { vendor: "SCST_FIO", specific: &text },
                2 => DesignatorId::Eui64(short),
                3 => DesignatorId::Eui64Directory(short, 7),
                4 => DesignatorId::Eui64Extended(short, 9),
                5 => DesignatorId::Naa(Naa::locally_assigned(short)),
                6 => DesignatorId::Naa(Naa::ieee_registered_extended(short as u32, short, 5)),
                7 => DesignatorId::RelativeTargetPort(number),
                8 => DesignatorId::TargetPortGroup(number),
                9 => DesignatorId::Md5(array),
                10 => DesignatorId::ScsiName(&text),
                _ => DesignatorId::Uuid(array),
            };
            let association = [Association::LogicalUnit, Association::TargetPort, Association::TargetDevice][usize::from(association)];
            let protocol = protocol.map(|p| ProtocolIdentifier(p & 0x0f));
            let designator = Designator { association, protocol, id };
            let mut wire = emit(designator);
            wire.push(0x99);
            prop_assert_eq!(Designator::parse(&wire), Some((designator, &[0x99][..])));
        }

        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Designator::parse(&bytes);
        }
    }
}
