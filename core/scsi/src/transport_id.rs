//! TransportIDs (SPC-6 7.6.4): names of initiator ports, as persistent reservations keep them.

use crate::bytes::{Writer, be};

/// The longest iSCSI name (RFC 7143 4.2.7.1).
pub const MAX_ISCSI_NAME: usize = 223;
/// The longest TransportID: an iSCSI initiator port with the longest name, terminated and padded.
pub const MAX_TRANSPORT_ID: usize = 4 + (MAX_ISCSI_NAME + ISID_SUFFIX + 1).next_multiple_of(4);

/// `,i,0x` and twelve hexadecimal digits.
const ISID_SUFFIX: usize = 5 + 12;
/// Length of the fixed-size TransportIDs, and the least of any (SPC-6 7.6.4.6).
const FIXED_LENGTH: usize = 24;

/// A TransportID.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TransportId<'a> {
    /// Fibre Channel: N_Port_Name.
    Fcp(u64),
    /// SRP: initiator port identifier.
    Srp([u8; 16]),
    /// SAS: SAS address.
    Sas(u64),
    /// iSCSI. Format 00b (the initiator device, all its ports) without, 01b (one port) with an ISID.
    Iscsi {
        /// iSCSI name.
        name: &'a str,
        /// Initiator session identifier.
        isid: Option<[u8; 6]>,
    },
}

impl<'a> TransportId<'a> {
    /// Appends it. Its length is a multiple of four and at least 24.
    pub fn emit(&self, w: &mut Writer<'_>) {
        let start = w.position();
        match *self {
            Self::Fcp(name) => w.u8(0x00).zeros(7).u64(name).zeros(8),
            Self::Srp(port) => w.u8(0x04).zeros(7).bytes(&port),
            Self::Sas(address) => w.u8(0x06).zeros(3).u64(address).zeros(12),
            Self::Iscsi { name, isid } => {
                w.u8(if isid.is_some() { 0x45 } else { 0x05 }).u8(0).u16(0).bytes(name.as_bytes());
                if let Some(isid) = isid {
                    w.bytes(b",i,0x");
                    for byte in isid {
                        w.u8(HEX[usize::from(byte >> 4)]).u8(HEX[usize::from(byte & 15)]);
                    }
                }
                let used = w.position() - start;
                w.zeros((used + 1).next_multiple_of(4).max(FIXED_LENGTH) - used);
                w.patch_length_u16(start + 2);
                w
            }
        };
    }

    /// Reads the first TransportID; returns it and what follows. None when it is cut, of a protocol or format that does
    /// not exist, or malformed.
    pub fn parse(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let &[first, _, high, low, ..] = bytes else { return None };
        let length = match first & 0x0f {
            0x05 => 4 + usize::from(u16::from_be_bytes([high, low])),
            _ => FIXED_LENGTH,
        };
        let (id, rest) = bytes.split_at_checked(length)?;
        let id = match first {
            0x00 => Self::Fcp(be(&id[8..16])),
            0x04 => Self::Srp(id[8..24].try_into().ok()?),
            0x06 => Self::Sas(be(&id[4..12])),
            0x05 | 0x45 if length >= FIXED_LENGTH && length.is_multiple_of(4) => {
                Self::parse_iscsi(first == 0x45, &id[4..])?
            }
            _ => return None,
        };
        Some((id, rest))
    }

    fn parse_iscsi(port: bool, body: &'a [u8]) -> Option<Self> {
        let end = body.iter().position(|b| *b == 0)?;
        let text = std::str::from_utf8(&body[..end]).ok()?;
        let (name, isid) = if port {
            let (name, digits) = text.split_once(",i,0x")?;
            (name, Some(parse_isid(digits)?))
        } else {
            (text, None)
        };
        (!name.is_empty() && name.len() <= MAX_ISCSI_NAME).then_some(Self::Iscsi { name, isid })
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Up to twelve hexadecimal digits; leading zeros may be missing (RFC 7143 9.2.1 of the iSCSI port name).
fn parse_isid(digits: &str) -> Option<[u8; 6]> {
    let plausible = (1..=12).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let value = u64::from_str_radix(digits, 16).ok().filter(|_| plausible)?;
    value.to_be_bytes()[2..].try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn emit(id: TransportId<'_>) -> Vec<u8> {
        let mut out = [0xee; MAX_TRANSPORT_ID];
        let mut w = Writer::new(&mut out);
        id.emit(&mut w);
        assert!(w.complete());
        let length = w.written();
        out[..length].to_vec()
    }

    #[test]
    fn iscsi_bytes() {
        let id = TransportId::Iscsi { name: "iqn.a:b", isid: None };
        let mut expected = vec![0x05, 0, 0, 20];
        expected.extend_from_slice(b"iqn.a:b");
        expected.resize(24, 0);
        assert_eq!(emit(id), expected);

        let id = TransportId::Iscsi { name: "iqn.2024-01.x:host", isid: Some([0x40, 0, 1, 0x37, 0, 0xab]) };
        let mut expected = vec![0x45, 0, 0, 36];
        expected.extend_from_slice(b"iqn.2024-01.x:host,i,0x4000013700ab\0");
        assert_eq!(emit(id), expected);
    }

    #[test]
    fn the_longest_name_fits() {
        let name = "n".repeat(MAX_ISCSI_NAME);
        let id = TransportId::Iscsi { name: &name, isid: Some([0xff; 6]) };
        assert_eq!(emit(id).len(), MAX_TRANSPORT_ID);
    }

    #[test]
    fn malformed_ones_are_refused() {
        assert_eq!(TransportId::parse(&[0x05, 0, 0, 20, b'a']), None);
        let mut no_end = [b'a'; 24];
        no_end[..4].copy_from_slice(&[0x05, 0, 0, 20]);
        assert_eq!(TransportId::parse(&no_end), None);
        let mut sign = vec![0x45, 0, 0, 20];
        sign.extend_from_slice(b"iqn.a,i,0x+1");
        sign.resize(24, 0);
        assert_eq!(TransportId::parse(&sign), None);
        assert_eq!(TransportId::parse(&[0x0f; 24]), None);
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_emit(kind in 0..5u8, number in any::<u64>(), port in any::<[u8; 16]>(),
                                        isid in any::<[u8; 6]>(), name in "iqn\\.[a-z0-9:.-]{1,200}") {
            let id = match kind {
                0 => TransportId::Fcp(number),
                1 => TransportId::Srp(port),
                2 => TransportId::Sas(number),
                3 => TransportId::Iscsi { name: &name, isid: None },
                _ => TransportId::Iscsi { name: &name, isid: Some(isid) },
            };
            let mut wire = emit(id);
            prop_assert!(wire.len() >= 24 && wire.len().is_multiple_of(4));
            wire.push(0x77);
            prop_assert_eq!(TransportId::parse(&wire), Some((id, &[0x77][..])));
        }

        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = TransportId::parse(&bytes);
        }
    }
}
