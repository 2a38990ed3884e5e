//! Logical unit numbers (SAM-5 4.7): the eight bytes on the wire and the number they mean.

/// The eight bytes of a LUN field, as the wire has them (SAM-5 4.7.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord, Debug)]
pub struct Lun(pub [u8; 8]);

/// How a LUN number is written into the eight bytes (SAM-5 4.7.7).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum LunAddressMethod {
    /// Peripheral device addressing up to 255, flat space above.
    #[default]
    Peripheral,
    /// Flat space addressing, up to 16383.
    Flat,
    /// Extended flat space addressing, two-byte and four-byte forms (up to 16,777,215).
    ExtendedFlat,
}

/// The largest LUN number that any addressing method here can write.
pub const MAX_LUN: u32 = 0xff_ffff;
/// The largest LUN number of flat space addressing: 14 bits.
pub const MAX_FLAT_LUN: u32 = 0x3fff;

/// What a LUN field names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LunAddress {
    /// A logical unit, by its number.
    Number(u32),
    /// A well known logical unit, by its W-LUN (SAM-5 4.7.7.5.1).
    WellKnown(u8),
}

/// A LUN field that names nothing a single-level target can have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LunError {
    /// Bytes of a second, third or fourth level are set (SAM-5 4.7.6.1).
    MultiLevel,
    /// Peripheral device addressing with a BUS IDENTIFIER, or logical unit addressing: devices behind this one.
    BehindThisDevice,
    /// An extended addressing method that is not implemented, or reserved.
    UnknownMethod,
}

impl Lun {
    /// The REPORT LUNS well known logical unit (SAM-5 4.7.7.5.1).
    pub const REPORT_LUNS: Self = Self([0xc1, 0x01, 0, 0, 0, 0, 0, 0]);

    /// Writes a number. A method that is too narrow for the number gives way to the next wider one; None past
    /// [`MAX_LUN`].
    pub fn encode(number: u32, method: LunAddressMethod) -> Option<Self> {
        let [top, high, middle, low] = number.to_be_bytes();
        if top != 0 {
            return None;
        }
        let mut bytes = [0; 8];
        match method {
            LunAddressMethod::Peripheral if number <= 0xff => bytes[1] = low,
            LunAddressMethod::Peripheral | LunAddressMethod::Flat if number <= MAX_FLAT_LUN => {
                bytes[..2].copy_from_slice(&[0x40 | middle, low]);
            }
            LunAddressMethod::ExtendedFlat if number <= 0xff => bytes[..2].copy_from_slice(&[0xc2, low]),
            _ => bytes[..4].copy_from_slice(&[0xd2, high, middle, low]),
        }
        Some(Self(bytes))
    }

    /// Reads the field.
    ///
    /// # Errors
    /// [`LunError`] when it names nothing that this target can have; the answer is INCORRECT LOGICAL UNIT NUMBER or,
    /// to a command, LOGICAL UNIT NOT SUPPORTED.
    pub fn decode(self) -> Result<LunAddress, LunError> {
        let [first, second, ..] = self.0;
        let (address, used) = match first >> 6 {
            0b00 if first != 0 => return Err(LunError::BehindThisDevice),
            0b00 => (LunAddress::Number(u32::from(second)), 2),
            0b01 => (LunAddress::Number(u32::from(first & 0x3f) << 8 | u32::from(second)), 2),
            0b10 => return Err(LunError::BehindThisDevice),
            _ => match first {
                0xc1 => (LunAddress::WellKnown(second), 2),
                0xc2 => (LunAddress::Number(u32::from(second)), 2),
                0xd2 => (LunAddress::Number(u32::from_be_bytes([0, second, self.0[2], self.0[3]])), 4),
                _ => return Err(LunError::UnknownMethod),
            },
        };
        if self.0[used..].iter().any(|b| *b != 0) { Err(LunError::MultiLevel) } else { Ok(address) }
    }

    /// The number of an ordinary logical unit.
    #[inline]
    pub fn number(self) -> Option<u32> {
        // Peripheral device addressing up to 255, which is what nearly every field has.
        let field = u64::from_be_bytes(self.0);
        if field & !(0xff << 48) == 0 {
            return Some((field >> 48) as u32);
        }
        match self.decode() {
            Ok(LunAddress::Number(number)) => Some(number),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(number: u32, method: LunAddressMethod) -> [u8; 4] {
        let lun = Lun::encode(number, method).unwrap().0;
        [lun[0], lun[1], lun[2], lun[3]]
    }

    #[test]
    fn each_method_has_its_form_and_gives_way_when_too_narrow() {
        use LunAddressMethod::*;
        assert_eq!(bytes(5, Peripheral), [0, 5, 0, 0]);
        assert_eq!(bytes(256, Peripheral), [0x41, 0, 0, 0]);
        assert_eq!(bytes(5, Flat), [0x40, 5, 0, 0]);
        assert_eq!(bytes(0x3fff, Flat), [0x7f, 0xff, 0, 0]);
        assert_eq!(bytes(0x4000, Flat), [0xd2, 0, 0x40, 0]);
        assert_eq!(bytes(5, ExtendedFlat), [0xc2, 5, 0, 0]);
        assert_eq!(bytes(256, ExtendedFlat), [0xd2, 0, 1, 0]);
        assert_eq!(Lun::encode(MAX_LUN + 1, ExtendedFlat), None);
    }

    #[test]
    fn what_is_behind_or_below_is_rejected() {
        assert_eq!(Lun::REPORT_LUNS.decode(), Ok(LunAddress::WellKnown(1)));
        assert_eq!(Lun([0, 1, 0, 1, 0, 0, 0, 0]).decode(), Err(LunError::MultiLevel));
        assert_eq!(Lun([0xd2, 0, 0, 1, 1, 0, 0, 0]).decode(), Err(LunError::MultiLevel));
        assert_eq!(Lun([0x01, 1, 0, 0, 0, 0, 0, 0]).decode(), Err(LunError::BehindThisDevice));
        assert_eq!(Lun([0x80, 1, 0, 0, 0, 0, 0, 0]).decode(), Err(LunError::BehindThisDevice));
        assert_eq!(Lun([0xff; 8]).decode(), Err(LunError::UnknownMethod));
        assert_eq!(Lun([0xe2, 0, 0, 0, 0, 1, 0, 0]).decode(), Err(LunError::UnknownMethod));
    }

    proptest! {
        #[test]
        fn every_number_round_trips(number in 0..=MAX_LUN, method in 0..3u8) {
            use LunAddressMethod::*;
            let method = [Peripheral, Flat, ExtendedFlat][usize::from(method)];
            prop_assert_eq!(Lun::encode(number, method).unwrap().number(), Some(number));
        }

        #[test]
        fn decoding_never_panics(bytes in any::<[u8; 8]>()) {
            let _ = Lun(bytes).decode();
        }
    }
}
