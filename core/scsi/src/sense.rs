//! Sense data (SPC-6 4.4): what, where in the CDB, and which block, in fixed or descriptor format.

/// Sense key (SPC-6 table 53).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SenseKey(pub u8);

impl SenseKey {
    /// NO SENSE.
    pub const NO_SENSE: Self = Self(0x0);
    /// RECOVERED ERROR.
    pub const RECOVERED_ERROR: Self = Self(0x1);
    /// NOT READY.
    pub const NOT_READY: Self = Self(0x2);
    /// MEDIUM ERROR.
    pub const MEDIUM_ERROR: Self = Self(0x3);
    /// HARDWARE ERROR.
    pub const HARDWARE_ERROR: Self = Self(0x4);
    /// ILLEGAL REQUEST.
    pub const ILLEGAL_REQUEST: Self = Self(0x5);
    /// UNIT ATTENTION.
    pub const UNIT_ATTENTION: Self = Self(0x6);
    /// DATA PROTECT.
    pub const DATA_PROTECT: Self = Self(0x7);
    /// BLANK CHECK.
    pub const BLANK_CHECK: Self = Self(0x8);
    /// ABORTED COMMAND.
    pub const ABORTED_COMMAND: Self = Self(0xb);
    /// MISCOMPARE.
    pub const MISCOMPARE: Self = Self(0xe);
    /// COMPLETED.
    pub const COMPLETED: Self = Self(0xf);
}

/// Additional sense code and qualifier, as `(asc << 8) | ascq`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Asc(pub u16);

/// Which byte (and bit) of the CDB or parameter list is wrong (SPC-6 4.4.2.4.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FieldPointer {
    /// C/D: true when the field is in the CDB, false in the parameter data.
    pub in_cdb: bool,
    /// Offset of the byte.
    pub byte: u16,
    /// Leftmost bit of the field, if the field is not whole bytes.
    pub bit: Option<u8>,
}

/// Sense key specific bytes (SPC-6 4.4.2.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SenseKeySpecific {
    /// ILLEGAL REQUEST: the field in error.
    Field(FieldPointer),
    /// NOT READY and NO SENSE: progress in 1/65536.
    Progress(u16),
    /// MEDIUM, HARDWARE and RECOVERED ERROR: retries.
    Retries(u16),
}

/// Sense data as a value; 32 bytes, `Copy`, emitted in the format that the control mode page asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SenseData {
    /// Sense key.
    pub key: SenseKey,
    /// Additional sense code and qualifier.
    pub asc: Asc,
    /// INFORMATION field, when valid (SBC: the LBA; SSC: the residue).
    pub information: Option<u64>,
    /// Sense key specific field, when valid.
    pub specific: Option<SenseKeySpecific>,
}

impl SenseData {
    /// Sense data with a key and an additional sense code.
    pub const fn new(key: SenseKey, asc: Asc) -> Self {
        Self { key, asc, information: None, specific: None }
    }

    /// The same with a valid INFORMATION field.
    #[must_use]
    pub const fn with_information(mut self, information: u64) -> Self {
        self.information = Some(information);
        self
    }
}

/// Sense data format (SPC-6 4.4.1), chosen by D_SENSE of the control mode page.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum SenseFormat {
    /// Response code 70h.
    #[default]
    Fixed,
    /// Response code 72h.
    Descriptor,
}
