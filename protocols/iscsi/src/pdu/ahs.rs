//! Additional header segments (RFC 7143 11.2.2).

use super::padding;

/// Most bytes of additional header segments: TotalAHSLength is one byte that counts words.
pub const MAX_AHS_LENGTH: usize = 255 * 4;

const EXTENDED_CDB: u8 = 1;
const BIDIRECTIONAL_READ_LENGTH: u8 = 2;

/// An additional header segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ahs<'a> {
    /// What follows the first 16 bytes of a CDB.
    ExtendedCdb(&'a [u8]),
    /// Expected bidirectional read data length.
    BidirectionalReadLength(u32),
    /// Another type.
    Unknown(u8),
}

/// A segment that does not fit in TotalAHSLength or is too short for its type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AhsError;

/// Walks over the segments.
#[derive(Clone, Debug)]
pub struct AhsIter<'a>(&'a [u8]);

impl<'a> AhsIter<'a> {
    /// Over the bytes between the basic header segment and the header digest.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for AhsIter<'a> {
    type Item = Result<Ahs<'a>, AhsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let result = split(self.0);
        self.0 = result.as_ref().map_or(&[], |(_, rest)| *rest);
        Some(result.map(|(ahs, _)| ahs))
    }
}

fn split(bytes: &[u8]) -> Result<(Ahs<'_>, &[u8]), AhsError> {
    let &[hi, lo, kind, ..] = bytes else { return Err(AhsError) };
    // AHSLength does not count itself and AHSType.
    let end = 3 + usize::from(u16::from_be_bytes([hi, lo]));
    let body = bytes.get(3..end).ok_or(AhsError)?;
    let rest = bytes.get(end + padding(end as u32) as usize..).ok_or(AhsError)?;
    let ahs = match kind {
        EXTENDED_CDB => Ahs::ExtendedCdb(body.get(1..).ok_or(AhsError)?),
        BIDIRECTIONAL_READ_LENGTH => match *body {
            [_, a, b, c, d] => Ahs::BidirectionalReadLength(u32::from_be_bytes([a, b, c, d])),
            _ => return Err(AhsError),
        },
        other => Ahs::Unknown(other),
    };
    Ok((ahs, rest))
}

/// Appends an extended CDB segment: `tail` is the CDB from byte 16 on.
pub fn emit_extended_cdb(out: &mut Vec<u8>, tail: &[u8]) {
    out.extend_from_slice(&((tail.len() + 1) as u16).to_be_bytes());
    out.extend_from_slice(&[EXTENDED_CDB, 0]);
    out.extend_from_slice(tail);
    out.resize(out.len() + padding(tail.len() as u32) as usize, 0);
}

/// Appends an expected bidirectional read data length segment.
pub fn emit_bidirectional_read_length(out: &mut Vec<u8>, length: u32) {
    out.extend_from_slice(&[0, 5, BIDIRECTIONAL_READ_LENGTH, 0]);
    out.extend_from_slice(&length.to_be_bytes());
}
