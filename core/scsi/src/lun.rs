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
