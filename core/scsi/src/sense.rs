//! Sense data (SPC-6 4.4): what, where in the CDB, and which block, in fixed or descriptor format.

use std::fmt;

use bitflags::bitflags;

pub use crate::asc::Asc;
use crate::bytes::be;

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
    /// Vendor specific.
    pub const VENDOR_SPECIFIC: Self = Self(0x9);
    /// COPY ABORTED.
    pub const COPY_ABORTED: Self = Self(0xa);
    /// ABORTED COMMAND.
    pub const ABORTED_COMMAND: Self = Self(0xb);
    /// VOLUME OVERFLOW.
    pub const VOLUME_OVERFLOW: Self = Self(0xd);
    /// MISCOMPARE.
    pub const MISCOMPARE: Self = Self(0xe);
    /// COMPLETED.
    pub const COMPLETED: Self = Self(0xf);
}

impl fmt::Display for SenseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::NO_SENSE => "NO SENSE",
            Self::RECOVERED_ERROR => "RECOVERED ERROR",
            Self::NOT_READY => "NOT READY",
            Self::MEDIUM_ERROR => "MEDIUM ERROR",
            Self::HARDWARE_ERROR => "HARDWARE ERROR",
            Self::ILLEGAL_REQUEST => "ILLEGAL REQUEST",
            Self::UNIT_ATTENTION => "UNIT ATTENTION",
            Self::DATA_PROTECT => "DATA PROTECT",
            Self::BLANK_CHECK => "BLANK CHECK",
            Self::VENDOR_SPECIFIC => "VENDOR SPECIFIC",
            Self::COPY_ABORTED => "COPY ABORTED",
            Self::ABORTED_COMMAND => "ABORTED COMMAND",
            Self::VOLUME_OVERFLOW => "VOLUME OVERFLOW",
            Self::MISCOMPARE => "MISCOMPARE",
            Self::COMPLETED => "COMPLETED",
            Self(other) => return write!(f, "SENSE KEY {other:x}h"),
        })
    }
}

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

/// SKSV of the sense key specific bytes.
const SKSV: u8 = 0x80;
/// C/D: the field is in the CDB.
const SKS_IN_CDB: u8 = 0x40;
/// BPV: the bit pointer is valid.
const SKS_BIT_VALID: u8 = 0x08;

impl SenseKeySpecific {
    fn emit(self) -> [u8; 3] {
        let (first, value) = match self {
            Self::Field(field) => {
                let side = if field.in_cdb { SKS_IN_CDB } else { 0 };
                (side | field.bit.map_or(0, |bit| SKS_BIT_VALID | (bit & 7)), field.byte)
            }
            Self::Progress(value) | Self::Retries(value) => (0, value),
        };
        let [high, low] = value.to_be_bytes();
        [SKSV | first, high, low]
    }

    fn parse(key: SenseKey, bytes: &[u8]) -> Option<Self> {
        let &[first, high, low] = bytes else { return None };
        if first & SKSV == 0 {
            return None;
        }
        let value = u16::from_be_bytes([high, low]);
        match key {
            SenseKey::ILLEGAL_REQUEST => Some(Self::Field(FieldPointer {
                in_cdb: first & SKS_IN_CDB != 0,
                byte: value,
                bit: (first & SKS_BIT_VALID != 0).then_some(first & 7),
            })),
            SenseKey::NO_SENSE | SenseKey::NOT_READY => Some(Self::Progress(value)),
            SenseKey::MEDIUM_ERROR | SenseKey::HARDWARE_ERROR | SenseKey::RECOVERED_ERROR => Some(Self::Retries(value)),
            _ => None,
        }
    }
}

bitflags! {
    /// FILEMARK, EOM and ILI: what a sequential access device met (SSC-5), in byte 2 of the fixed format and byte 3 of the
    /// stream commands descriptor (SPC-6 4.4).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
    pub struct StreamBits: u8 {
        /// FILEMARK: a filemark was read or spaced over.
        const FILEMARK = 1 << 7;
        /// EOM: early warning or an end of the medium.
        const EOM = 1 << 6;
        /// ILI: the block has another length than was asked for.
        const ILI = 1 << 5;
    }
}

/// Sense data as a value; 32 bytes, `Copy`, emitted in the format that the control mode page asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SenseData {
    /// Sense key.
    pub key: SenseKey,
    /// Additional sense code and qualifier.
    pub asc: Asc,
    /// INFORMATION field, when valid (SBC: the LBA; SSC: the residue, in two's complement).
    pub information: Option<u64>,
    /// Sense key specific field, when valid.
    pub specific: Option<SenseKeySpecific>,
    /// FILEMARK, EOM and ILI.
    pub stream: StreamBits,
    /// They are about an earlier command that has already ended with GOOD (SPC-6 4.4.5): response codes 71h and 73h.
    pub deferred: bool,
}

impl SenseData {
    /// NO SENSE: there is nothing to report.
    pub const NONE: Self = Self::new(SenseKey::NO_SENSE, Asc::NO_ADDITIONAL_SENSE_INFORMATION);

    /// Sense data with a key and an additional sense code.
    pub const fn new(key: SenseKey, asc: Asc) -> Self {
        Self { key, asc, information: None, specific: None, stream: StreamBits::empty(), deferred: false }
    }

    /// The same with the bits of a sequential access device and its valid INFORMATION field: how much of what was asked
    /// for is missing, negative for a block that is too long.
    #[must_use]
    pub const fn with_stream(mut self, stream: StreamBits, residue: i64) -> Self {
        self.stream = stream;
        self.information = Some(residue as u64);
        self
    }

    /// The same with a valid INFORMATION field.
    #[must_use]
    pub const fn with_information(mut self, information: u64) -> Self {
        self.information = Some(information);
        self
    }

    /// Says that the sense data are about an earlier command.
    #[must_use]
    pub const fn deferred(mut self) -> Self {
        self.deferred = true;
        self
    }

    /// The same with a valid sense key specific field.
    #[must_use]
    pub const fn with_specific(mut self, specific: SenseKeySpecific) -> Self {
        self.specific = Some(specific);
        self
    }

    /// The same with a field pointer.
    #[must_use]
    pub const fn with_field(self, field: FieldPointer) -> Self {
        self.with_specific(SenseKeySpecific::Field(field))
    }

    /// The same with a progress indication in 1/65536.
    #[must_use]
    pub const fn with_progress(self, progress: u16) -> Self {
        self.with_specific(SenseKeySpecific::Progress(progress))
    }

    /// ILLEGAL REQUEST with any code.
    pub const fn illegal_request(asc: Asc) -> Self {
        Self::new(SenseKey::ILLEGAL_REQUEST, asc)
    }

    /// UNIT ATTENTION with any code.
    pub const fn unit_attention(asc: Asc) -> Self {
        Self::new(SenseKey::UNIT_ATTENTION, asc)
    }

    /// NOT READY with any code.
    pub const fn not_ready(asc: Asc) -> Self {
        Self::new(SenseKey::NOT_READY, asc)
    }

    /// 5/20/00, pointing at byte 0.
    pub const fn invalid_opcode() -> Self {
        Self::illegal_request(Asc::INVALID_COMMAND_OPERATION_CODE).with_field(FieldPointer {
            in_cdb: true,
            byte: 0,
            bit: None,
        })
    }

    /// 5/24/00 with the byte and, unless the field is whole bytes, its leftmost bit.
    pub const fn invalid_field_in_cdb(byte: u16, bit: Option<u8>) -> Self {
        Self::illegal_request(Asc::INVALID_FIELD_IN_CDB).with_field(FieldPointer { in_cdb: true, byte, bit })
    }

    /// 5/26/00 with the byte of the parameter list and, unless the field is whole bytes, its leftmost bit.
    pub const fn invalid_field_in_parameter_list(byte: u16, bit: Option<u8>) -> Self {
        Self::illegal_request(Asc::INVALID_FIELD_IN_PARAMETER_LIST).with_field(FieldPointer {
            in_cdb: false,
            byte,
            bit,
        })
    }

    /// 5/1A/00: the parameter list is shorter than what it must contain.
    pub const fn parameter_list_length_error() -> Self {
        Self::illegal_request(Asc::PARAMETER_LIST_LENGTH_ERROR)
    }

    /// 5/21/00, with the first LBA that does not exist (SBC-4 4.20.1).
    pub const fn lba_out_of_range(lba: u64) -> Self {
        Self::illegal_request(Asc::LBA_OUT_OF_RANGE).with_information(lba)
    }

    /// 5/25/00: nothing there at this LUN.
    pub const fn logical_unit_not_supported() -> Self {
        Self::illegal_request(Asc::LOGICAL_UNIT_NOT_SUPPORTED)
    }

    /// 7/27/00: the logical unit, or its mapping for this nexus, is read-only.
    pub const fn write_protected() -> Self {
        Self::new(SenseKey::DATA_PROTECT, Asc::WRITE_PROTECTED)
    }

    /// 7/27/07: the storage behind the logical unit is full.
    pub const fn space_allocation_failed() -> Self {
        Self::new(SenseKey::DATA_PROTECT, Asc::SPACE_ALLOCATION_FAILED)
    }

    /// E/1D/00, with the offset of the first byte that differs in the data-out buffer (SBC-4 5.3, 5.36).
    pub const fn miscompare(offset: u64) -> Self {
        Self::new(SenseKey::MISCOMPARE, Asc::MISCOMPARE_DURING_VERIFY).with_information(offset)
    }

    /// 3/11/00, with the LBA that could not be read.
    pub const fn unrecovered_read_error(lba: u64) -> Self {
        Self::new(SenseKey::MEDIUM_ERROR, Asc::UNRECOVERED_READ_ERROR).with_information(lba)
    }

    /// 3/0C/00, with the LBA that could not be written.
    pub const fn write_error(lba: u64) -> Self {
        Self::new(SenseKey::MEDIUM_ERROR, Asc::WRITE_ERROR).with_information(lba)
    }

    /// 4/44/00: a fault of this target that no other code describes.
    pub const fn internal_target_failure() -> Self {
        Self::new(SenseKey::HARDWARE_ERROR, Asc::INTERNAL_TARGET_FAILURE)
    }
}

impl fmt::Display for SenseData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.asc)?;
        if let Some(information) = self.information {
            write!(f, ", information {information:#x}")?;
        }
        if !self.stream.is_empty() {
            write!(f, ", {}", self.stream.0)?;
        }
        match self.specific {
            Some(SenseKeySpecific::Field(FieldPointer { in_cdb, byte, bit })) => {
                write!(f, ", {} byte {byte}", if in_cdb { "CDB" } else { "parameter" })?;
                bit.map_or(Ok(()), |bit| write!(f, " bit {bit}"))
            }
            Some(SenseKeySpecific::Progress(part)) => write!(f, ", {}% done", u32::from(part) * 100 / 65536),
            Some(SenseKeySpecific::Retries(count)) => write!(f, ", {count} retries"),
            None => Ok(()),
        }
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

/// Length of fixed format sense data as emitted here (SPC-6 4.4.3).
pub const FIXED_SENSE_LENGTH: usize = 18;
/// The longest sense data that [`SenseData::emit`] writes: header, information, sense key specific and stream commands
/// descriptors.
pub const MAX_SENSE_LENGTH: usize =
    8 + INFORMATION_DESCRIPTOR_LENGTH + SPECIFIC_DESCRIPTOR_LENGTH + STREAM_DESCRIPTOR_LENGTH;

const INFORMATION_DESCRIPTOR_LENGTH: usize = 12;
const SPECIFIC_DESCRIPTOR_LENGTH: usize = 8;
const STREAM_DESCRIPTOR_LENGTH: usize = 4;
/// VALID bit of fixed format and of the information descriptor.
const VALID: u8 = 0x80;

/// Sense data read off the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ParsedSense {
    /// What they say.
    pub data: SenseData,
    /// The format they came in.
    pub format: SenseFormat,
}

impl SenseData {
    /// Writes the sense data to `out` (cut if it is too short; [`MAX_SENSE_LENGTH`] always is enough). Returns the
    /// number of bytes written.
    ///
    /// The fixed format has 32 bits for INFORMATION: a larger value is left out with VALID zero (SPC-6 4.4.3).
    pub fn emit(&self, format: SenseFormat, out: &mut [u8]) -> usize {
        let mut bytes = [0; MAX_SENSE_LENGTH];
        let length = match format {
            SenseFormat::Fixed => self.emit_fixed(&mut bytes),
            SenseFormat::Descriptor => self.emit_descriptor(&mut bytes),
        };
        let length = length.min(out.len());
        out[..length].copy_from_slice(&bytes[..length]);
        length
    }

    fn emit_fixed(&self, out: &mut [u8; MAX_SENSE_LENGTH]) -> usize {
        out[0] = 0x70 | u8::from(self.deferred);
        out[2] = self.key.0 & 0x0f | self.stream.bits();
        if let Some(information) = self.fixed_information() {
            out[0] |= VALID;
            out[3..7].copy_from_slice(&information.to_be_bytes());
        }
        out[7] = (FIXED_SENSE_LENGTH - 8) as u8;
        out[12] = self.asc.code();
        out[13] = self.asc.qualifier();
        if let Some(specific) = self.specific {
            out[15..18].copy_from_slice(&specific.emit());
        }
        FIXED_SENSE_LENGTH
    }

    /// INFORMATION in 32 bits, if it fits: a residue is a signed number, an LBA is not.
    fn fixed_information(&self) -> Option<u32> {
        let information = self.information?;
        if self.stream.is_empty() {
            u32::try_from(information).ok()
        } else {
            i32::try_from(information as i64).ok().map(|residue| residue as u32)
        }
    }

    fn emit_descriptor(&self, out: &mut [u8; MAX_SENSE_LENGTH]) -> usize {
        out[..4].copy_from_slice(&[
            0x72 | u8::from(self.deferred),
            self.key.0 & 0x0f,
            self.asc.code(),
            self.asc.qualifier(),
        ]);
        let mut at = 8;
        if let Some(information) = self.information {
            out[at..at + 3].copy_from_slice(&[0x00, 0x0a, VALID]);
            out[at + 4..at + 12].copy_from_slice(&information.to_be_bytes());
            at += INFORMATION_DESCRIPTOR_LENGTH;
        }
        if let Some(specific) = self.specific {
            out[at..at + 2].copy_from_slice(&[0x02, 0x06]);
            out[at + 4..at + 7].copy_from_slice(&specific.emit());
            at += SPECIFIC_DESCRIPTOR_LENGTH;
        }
        if !self.stream.is_empty() {
            out[at..at + STREAM_DESCRIPTOR_LENGTH].copy_from_slice(&[0x04, 0x02, 0, self.stream.bits()]);
            at += STREAM_DESCRIPTOR_LENGTH;
        }
        out[7] = (at - 8) as u8;
        at
    }

    /// Reads sense data of either format; bytes past the additional length are ignored, missing ones read as zero.
    /// None when the response code is not one of the two formats or not even the header is there.
    pub fn parse(bytes: &[u8]) -> Option<ParsedSense> {
        let (format, deferred) = match bytes.first()? & 0x7f {
            0x70 => (SenseFormat::Fixed, false),
            0x71 => (SenseFormat::Fixed, true),
            0x72 => (SenseFormat::Descriptor, false),
            0x73 => (SenseFormat::Descriptor, true),
            _ => return None,
        };
        if bytes.len() < 8 {
            return None;
        }
        let bytes = &bytes[..bytes.len().min(8 + usize::from(bytes[7]))];
        let data = match format {
            SenseFormat::Fixed => Self::parse_fixed(bytes),
            SenseFormat::Descriptor => Self::parse_descriptor(bytes),
        };
        Some(ParsedSense { data: Self { deferred, ..data }, format })
    }

    fn parse_fixed(bytes: &[u8]) -> Self {
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let key = SenseKey(byte(2) & 0x0f);
        let stream = StreamBits::from_bits_truncate(byte(2));
        let information = (byte(0) & VALID != 0).then(|| be(&bytes[3..7]));
        Self {
            key,
            asc: Asc::new(byte(12), byte(13)),
            information: if stream.is_empty() { information } else { information.map(sign_extended) },
            specific: bytes.get(15..18).and_then(|b| SenseKeySpecific::parse(key, b)),
            stream,
            deferred: false,
        }
    }

    fn parse_descriptor(bytes: &[u8]) -> Self {
        let mut sense = Self::new(SenseKey(bytes[1] & 0x0f), Asc::new(bytes[2], bytes[3]));
        let mut rest = &bytes[8..];
        while let [kind, length, ..] = *rest {
            let length = 2 + usize::from(length);
            let Some(descriptor) = rest.get(..length) else { break };
            match (kind, length) {
                (0x00, INFORMATION_DESCRIPTOR_LENGTH) if descriptor[2] & VALID != 0 => {
                    sense.information = Some(be(&descriptor[4..12]));
                }
                (0x02, SPECIFIC_DESCRIPTOR_LENGTH) => {
                    sense.specific = SenseKeySpecific::parse(sense.key, &descriptor[4..7]);
                }
                (0x04, STREAM_DESCRIPTOR_LENGTH) => sense.stream = StreamBits::from_bits_truncate(descriptor[3]),
                _ => {}
            }
            rest = &rest[length..];
        }
        sense
    }
}

/// The longest sense data there are: the ADDITIONAL SENSE LENGTH is at most 244 (SPC-6 4.4.1).
pub const MAX_RAW_SENSE_LENGTH: usize = 252;

/// Sense data as a device has written them, vendor specific bytes, FRU code and foreign descriptors included.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawSense {
    bytes: [u8; MAX_RAW_SENSE_LENGTH],
    length: u8,
}

impl RawSense {
    /// Copies sense data. What comes after the longest there are is left out.
    pub fn new(bytes: &[u8]) -> Self {
        let length = bytes.len().min(MAX_RAW_SENSE_LENGTH);
        let mut raw = Self { bytes: [0; MAX_RAW_SENSE_LENGTH], length: length as u8 };
        raw.bytes[..length].copy_from_slice(&bytes[..length]);
        raw
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Debug for RawSense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawSense({:02x?})", self.bytes())
    }
}

/// A signed number of 32 bits in 64.
fn sign_extended(information: u64) -> u64 {
    i64::from(information as u32 as i32) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn emit(sense: SenseData, format: SenseFormat) -> Vec<u8> {
        let mut out = [0xee; MAX_SENSE_LENGTH];
        let length = sense.emit(format, &mut out);
        out[..length].to_vec()
    }

    #[test]
    fn fixed_format_bytes() {
        let sense = SenseData::invalid_field_in_cdb(2, Some(6));
        assert_eq!(
            emit(sense, SenseFormat::Fixed),
            [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0x00, 0, 0xce, 0, 2]
        );
        let sense = SenseData::unrecovered_read_error(0x1234);
        assert_eq!(
            emit(sense, SenseFormat::Fixed),
            [0xf0, 0, 3, 0, 0, 0x12, 0x34, 10, 0, 0, 0, 0, 0x11, 0x00, 0, 0, 0, 0]
        );
    }

    #[test]
    fn fixed_format_has_no_room_for_a_large_lba() {
        let sense = SenseData::write_error(1 << 32);
        assert_eq!(emit(sense, SenseFormat::Fixed)[..8], [0x70, 0, 3, 0, 0, 0, 0, 10]);
    }

    #[test]
    fn descriptor_format_bytes() {
        let sense = SenseData::lba_out_of_range(1 << 32);
        assert_eq!(
            emit(sense, SenseFormat::Descriptor),
            [0x72, 5, 0x21, 0, 0, 0, 0, 12, 0, 0x0a, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0]
        );
        let sense = SenseData::invalid_field_in_parameter_list(300, None);
        assert_eq!(emit(sense, SenseFormat::Descriptor), [0x72, 5, 0x26, 0, 0, 0, 0, 8, 2, 6, 0, 0, 0x80, 1, 0x2c, 0]);
        assert_eq!(
            emit(SenseData::unit_attention(Asc::POWER_ON), SenseFormat::Descriptor),
            [0x72, 6, 0x29, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn what_a_tape_met_is_in_both_formats() {
        let sense = SenseData::new(SenseKey::NO_SENSE, Asc::FILEMARK_DETECTED).with_stream(StreamBits::FILEMARK, 3);
        assert_eq!(emit(sense, SenseFormat::Fixed), [0xf0, 0, 0x80, 0, 0, 0, 3, 10, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(
            emit(sense, SenseFormat::Descriptor),
            [0x72, 0, 0, 1, 0, 0, 0, 16, 0, 0x0a, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, 2, 0, 0x80]
        );
        let eom = SenseData::new(SenseKey::VOLUME_OVERFLOW, Asc::END_OF_PARTITION_MEDIUM_DETECTED);
        assert_eq!(emit(eom.with_stream(StreamBits::EOM, 1), SenseFormat::Fixed)[..3], [0xf0, 0, 0x4d]);
    }

    #[test]
    fn a_block_that_is_too_long_has_a_negative_residue() {
        let sense =
            SenseData::new(SenseKey::NO_SENSE, Asc::NO_ADDITIONAL_SENSE_INFORMATION).with_stream(StreamBits::ILI, -2);
        let fixed = emit(sense, SenseFormat::Fixed);
        assert_eq!(fixed[..8], [0xf0, 0, 0x20, 0xff, 0xff, 0xff, 0xfe, 10]);
        assert_eq!(SenseData::parse(&fixed).unwrap().data, sense);
        let descriptor = emit(sense, SenseFormat::Descriptor);
        assert_eq!(descriptor[12..], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 4, 2, 0, 0x20]);
        assert_eq!(sense.to_string(), "NO SENSE: NO ADDITIONAL SENSE INFORMATION, information 0xfffffffffffffffe, ILI");
    }

    #[test]
    fn emitting_is_cut_at_the_buffer() {
        let mut out = [0; 4];
        assert_eq!(SenseData::invalid_opcode().emit(SenseFormat::Fixed, &mut out), 4);
        assert_eq!(out, [0x70, 0, 5, 0]);
    }

    #[test]
    fn foreign_descriptors_are_skipped_and_deferred_errors_told_apart() {
        let bytes = [0x73, 3, 0x0c, 0, 0, 0, 0, 16, 5, 2, 0, 0x20, 0, 0x0a, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        let parsed = SenseData::parse(&bytes).unwrap();
        assert_eq!(parsed.data, SenseData::write_error(9).deferred());
        assert_eq!(SenseData::parse(&[0x7f, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(SenseData::parse(&[0x70, 0, 5]), None);
    }

    #[test]
    fn humans_can_read_it() {
        assert_eq!(
            SenseData::invalid_field_in_cdb(1, Some(7)).to_string(),
            "ILLEGAL REQUEST: INVALID FIELD IN CDB, CDB byte 1 bit 7"
        );
        assert_eq!(
            SenseData::unrecovered_read_error(16).to_string(),
            "MEDIUM ERROR: UNRECOVERED READ ERROR, information 0x10"
        );
        let sense = SenseData::not_ready(Asc::LUN_NOT_READY_FORMAT_IN_PROGRESS).with_progress(0x8000);
        assert_eq!(sense.to_string(), "NOT READY: LOGICAL UNIT NOT READY, FORMAT IN PROGRESS, 50% done");
    }

    fn any_sense() -> impl Strategy<Value = SenseData> {
        let field = (any::<bool>(), any::<u16>(), proptest::option::of(0..8u8));
        let stream = prop_oneof![Just(0), any::<u8>()].prop_map(StreamBits::from_bits_truncate);
        (0..16u8, any::<u16>(), any::<Option<u64>>(), proptest::option::of(field), stream, any::<bool>()).prop_map(
            |(key, asc, info, field, stream, deferred)| {
                let key = SenseKey(key);
                let specific = field.and_then(|(in_cdb, byte, bit)| match key {
                    SenseKey::ILLEGAL_REQUEST => Some(SenseKeySpecific::Field(FieldPointer { in_cdb, byte, bit })),
                    SenseKey::NO_SENSE | SenseKey::NOT_READY => Some(SenseKeySpecific::Progress(byte)),
                    SenseKey::MEDIUM_ERROR | SenseKey::HARDWARE_ERROR | SenseKey::RECOVERED_ERROR => {
                        Some(SenseKeySpecific::Retries(byte))
                    }
                    _ => None,
                });
                SenseData { key, asc: Asc(asc), information: info, specific, stream, deferred }
            },
        )
    }

    proptest! {
        #[test]
        fn descriptor_format_round_trips(sense in any_sense()) {
            let parsed = SenseData::parse(&emit(sense, SenseFormat::Descriptor)).unwrap();
            prop_assert_eq!(parsed, ParsedSense { data: sense, format: SenseFormat::Descriptor });
        }

        #[test]
        fn fixed_format_round_trips_but_for_large_information(sense in any_sense()) {
            let mut expected = sense;
            expected.information = sense.information.filter(|i| match sense.stream.is_empty() {
                true => u32::try_from(*i).is_ok(),
                false => i32::try_from(*i as i64).is_ok(),
            });
            prop_assert_eq!(SenseData::parse(&emit(sense, SenseFormat::Fixed)).unwrap().data, expected);
        }

        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = SenseData::parse(&bytes);
        }
    }
}
