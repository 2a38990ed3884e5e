//! Sense data, both formats, as an initiator reads them (SPC-6 4.4).

/// Decoded sense data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sense {
    /// Response code: 70h, 71h fixed; 72h, 73h descriptor.
    pub response_code: u8,
    /// Sense key.
    pub key: u8,
    /// Additional sense code.
    pub asc: u8,
    /// Additional sense code qualifier.
    pub ascq: u8,
    /// INFORMATION, when valid.
    pub information: Option<u64>,
    /// The three sense-key specific bytes, when SKSV is set.
    pub specific: Option<[u8; 3]>,
}

impl Sense {
    /// Decodes sense data; None when they are too short or of an unknown format.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let response_code = bytes.first()? & 0x7f;
        match response_code {
            0x70 | 0x71 => Self::decode_fixed(response_code, bytes),
            0x72 | 0x73 => Self::decode_descriptors(response_code, bytes),
            _ => None,
        }
    }

    fn decode_fixed(response_code: u8, bytes: &[u8]) -> Option<Self> {
        let key = bytes.get(2)? & 0x0f;
        let at = |offset: usize| bytes.get(offset).copied().unwrap_or(0);
        let information = (bytes[0] & 0x80 != 0 && bytes.len() >= 7)
            .then(|| u64::from(u32::from_be_bytes([at(3), at(4), at(5), at(6)])));
        let specific = (at(15) & 0x80 != 0 && bytes.len() >= 18).then(|| [at(15), at(16), at(17)]);
        Some(Self { response_code, key, asc: at(12), ascq: at(13), information, specific })
    }

    fn decode_descriptors(response_code: u8, bytes: &[u8]) -> Option<Self> {
        let head = bytes.get(..8)?;
        let mut sense = Self { response_code, key: head[1] & 0x0f, asc: head[2], ascq: head[3], ..Self::default() };
        let mut rest = bytes[8..].get(..usize::from(head[7])).unwrap_or_else(|| &bytes[8..]);
        while let [kind, length, tail @ ..] = rest {
            let body = tail.get(..usize::from(*length))?;
            match (kind, body) {
                (0, [flags, _, value @ ..]) if flags & 0x80 != 0 => {
                    sense.information = value.try_into().ok().map(u64::from_be_bytes);
                }
                (2, [_, _, a, b, c, ..]) if a & 0x80 != 0 => sense.specific = Some([*a, *b, *c]),
                _ => {}
            }
            rest = &tail[body.len()..];
        }
        Some(sense)
    }

    /// `(asc << 8) | ascq`.
    pub fn asc_ascq(&self) -> u16 {
        u16::from_be_bytes([self.asc, self.ascq])
    }

    /// Key, ASC and ASCQ: what most tests compare.
    pub fn kcq(&self) -> (u8, u8, u8) {
        (self.key, self.asc, self.ascq)
    }

    /// ILLEGAL REQUEST's field pointer: in the CDB?, byte, bit.
    pub fn field(&self) -> Option<(bool, u16, Option<u8>)> {
        let [flags, high, low] = self.specific?;
        (self.key == 5)
            .then(|| (flags & 0x40 != 0, u16::from_be_bytes([high, low]), (flags & 0x08 != 0).then_some(flags & 0x07)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_format() {
        let bytes = [0xf0, 0, 5, 0, 0, 1, 2, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcb, 0, 2];
        let sense = Sense::decode(&bytes).unwrap();
        assert_eq!(sense.kcq(), (5, 0x24, 0));
        assert_eq!(sense.information, Some(0x102));
        assert_eq!(sense.field(), Some((true, 2, Some(3))));
    }

    #[test]
    fn descriptor_format() {
        let bytes = [0x72, 0xe, 0x1d, 0, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        let sense = Sense::decode(&bytes).unwrap();
        assert_eq!(sense.kcq(), (0xe, 0x1d, 0));
        assert_eq!(sense.information, Some(256));
        assert_eq!(sense.specific, None);
    }

    #[test]
    fn nonsense_is_none() {
        assert_eq!(Sense::decode(&[]), None);
        assert_eq!(Sense::decode(&[0x70, 0]), None);
        assert_eq!(Sense::decode(&[0x7f; 20]), None);
        assert_eq!(Sense::decode(&[0x72, 0, 0, 0, 0, 0, 0, 4, 0, 10, 0, 0]), None);
    }
}
