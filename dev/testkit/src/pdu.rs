//! iSCSI PDUs as an initiator sees them (RFC 7143 clause 11): a header, additional header segments, data.
//!
//! Written independently of `protocols/iscsi`, so that a mistake there does not hide behind the same mistake here.

/// Length of the basic header segment.
pub const BHS_LENGTH: usize = 48;
/// The reserved tag: no task, no transfer.
pub const RESERVED_TAG: u32 = 0xffff_ffff;
/// A PDU longer than this is taken as nonsense by the decoder: no test negotiates as much.
const MAX_DATA_SEGMENT: usize = 16 << 20;

/// Operation codes (RFC 7143 11.2.1.2).
#[expect(missing_docs, reason = "the names are those of the RFC")]
pub mod opcode {
    pub const NOP_OUT: u8 = 0x00;
    pub const SCSI_COMMAND: u8 = 0x01;
    pub const TASK_MANAGEMENT: u8 = 0x02;
    pub const LOGIN: u8 = 0x03;
    pub const TEXT: u8 = 0x04;
    pub const DATA_OUT: u8 = 0x05;
    pub const LOGOUT: u8 = 0x06;
    pub const SNACK: u8 = 0x10;
    pub const NOP_IN: u8 = 0x20;
    pub const SCSI_RESPONSE: u8 = 0x21;
    pub const TASK_MANAGEMENT_RESPONSE: u8 = 0x22;
    pub const LOGIN_RESPONSE: u8 = 0x23;
    pub const TEXT_RESPONSE: u8 = 0x24;
    pub const DATA_IN: u8 = 0x25;
    pub const LOGOUT_RESPONSE: u8 = 0x26;
    pub const R2T: u8 = 0x31;
    pub const ASYNC_MESSAGE: u8 = 0x32;
    pub const REJECT: u8 = 0x3f;
}

/// Which digests are on (RFC 7143 13.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Digests {
    /// CRC32C over the header segments.
    pub header: bool,
    /// CRC32C over the data segment and its padding.
    pub data: bool,
}

/// Digests to be made wrong on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Corrupt {
    /// Send a wrong header digest.
    pub header: bool,
    /// Send a wrong data digest.
    pub data: bool,
}

/// One PDU. The two length fields of the header are filled in by [`Pdu::encode`].
#[derive(Clone, PartialEq, Eq)]
pub struct Pdu {
    /// The basic header segment.
    pub bhs: [u8; BHS_LENGTH],
    /// Additional header segments, a multiple of four bytes.
    pub ahs: Vec<u8>,
    /// The data segment without padding.
    pub data: Vec<u8>,
    /// Digests that `encode` makes wrong.
    pub corrupt: Corrupt,
}

impl Pdu {
    /// An empty PDU of an operation code (with the I bit, 40h, if wanted); F set, both tags reserved.
    pub fn new(opcode: u8) -> Self {
        let mut bhs = [0; BHS_LENGTH];
        bhs[0] = opcode;
        bhs[1] = 0x80;
        bhs[16..24].fill(0xff);
        Self { bhs, ahs: Vec::new(), data: Vec::new(), corrupt: Corrupt::default() }
    }

    /// The operation code without the I bit.
    pub fn opcode(&self) -> u8 {
        self.bhs[0] & 0x3f
    }

    /// Byte 1: the F bit and what the operation code makes of the rest.
    pub fn flags(&self) -> u8 {
        self.bhs[1]
    }

    /// The F bit.
    pub fn is_final(&self) -> bool {
        self.bhs[1] & 0x80 != 0
    }

    /// Four bytes of the header.
    pub fn u32_at(&self, offset: usize) -> u32 {
        let mut field = [0; 4];
        field.copy_from_slice(&self.bhs[offset..offset + 4]);
        u32::from_be_bytes(field)
    }

    /// Two bytes of the header.
    pub fn u16_at(&self, offset: usize) -> u16 {
        u16::from_be_bytes([self.bhs[offset], self.bhs[offset + 1]])
    }

    /// Writes four bytes of the header.
    pub fn set_u32(&mut self, offset: usize, value: u32) {
        self.bhs[offset..offset + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// Writes two bytes of the header.
    pub fn set_u16(&mut self, offset: usize, value: u16) {
        self.bhs[offset..offset + 2].copy_from_slice(&value.to_be_bytes());
    }

    /// The same with four bytes of the header changed.
    #[must_use]
    pub fn with_u32(mut self, offset: usize, value: u32) -> Self {
        self.set_u32(offset, value);
        self
    }

    /// The same with another byte 1.
    #[must_use]
    pub fn with_flags(mut self, flags: u8) -> Self {
        self.bhs[1] = flags;
        self
    }

    /// The same with the eight LUN bytes.
    #[must_use]
    pub fn with_lun(mut self, lun: [u8; 8]) -> Self {
        self.bhs[8..16].copy_from_slice(&lun);
        self
    }

    /// The same with a data segment.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.data = data.into();
        self
    }

    /// The LUN field.
    pub fn lun(&self) -> [u8; 8] {
        let mut lun = [0; 8];
        lun.copy_from_slice(&self.bhs[8..16]);
        lun
    }

    /// Initiator Task Tag.
    pub fn itt(&self) -> u32 {
        self.u32_at(16)
    }

    /// Target Transfer Tag.
    pub fn ttt(&self) -> u32 {
        self.u32_at(20)
    }

    /// CmdSN of a request, StatSN of a response.
    pub fn sn(&self) -> u32 {
        self.u32_at(24)
    }

    /// Appends the wire form: lengths filled in, padding, digests as negotiated.
    pub fn encode(&self, digests: Digests, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bhs);
        out[start + 4] = (self.ahs.len() / 4) as u8;
        out[start + 5..start + 8].copy_from_slice(&(self.data.len() as u32).to_be_bytes()[1..]);
        out.extend_from_slice(&self.ahs);
        if digests.header {
            let crc = digest(&out[start..], self.corrupt.header);
            out.extend_from_slice(&crc);
        }
        if self.data.is_empty() {
            return;
        }
        let start = out.len();
        out.extend_from_slice(&self.data);
        out.resize(start + padded(self.data.len()), 0);
        if digests.data {
            let crc = digest(&out[start..], self.corrupt.data);
            out.extend_from_slice(&crc);
        }
    }

    /// The wire form alone.
    pub fn to_bytes(&self, digests: Digests) -> Vec<u8> {
        let mut out = Vec::with_capacity(BHS_LENGTH + self.ahs.len() + self.data.len() + 12);
        self.encode(digests, &mut out);
        out
    }
}

impl std::fmt::Debug for Pdu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pdu {{ opcode {:#04x} flags {:#04x} header ", self.opcode(), self.flags())?;
        for word in self.bhs.chunks(4) {
            for byte in word {
                write!(f, "{byte:02x}")?;
            }
            write!(f, " ")?;
        }
        write!(f, "ahs {} data {} }}", self.ahs.len(), self.data.len())
    }
}

/// Length with padding to four bytes (RFC 7143 11.1).
pub fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn digest(bytes: &[u8], corrupt: bool) -> [u8; 4] {
    let crc = crc32c::crc32c(bytes);
    (if corrupt { !crc } else { crc }).to_le_bytes()
}

/// Why the decoder cannot go on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// The header digest is wrong.
    #[error("wrong header digest")]
    HeaderDigest,
    /// The data digest of this PDU is wrong.
    #[error("wrong data digest in {0:?}")]
    DataDigest(Box<Pdu>),
    /// The data segment is longer than anything sensible.
    #[error("data segment of {0} bytes")]
    TooLong(usize),
    /// Padding bytes are not zero ("SHOULD be sent as 0": a target of ours does).
    #[error("padding is not zero in {0:?}")]
    Padding(Box<Pdu>),
}

/// Cuts a byte stream into PDUs.
#[derive(Debug, Default)]
pub struct PduDecoder {
    buffer: Vec<u8>,
    start: usize,
}

impl PduDecoder {
    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start > 1 << 20 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that do not make a whole PDU yet.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// The next whole PDU, if there is one.
    ///
    /// # Errors
    /// The stream is not to be trusted any further, except after [`DecodeError::DataDigest`].
    pub fn next_pdu(&mut self, digests: Digests) -> Result<Option<Pdu>, DecodeError> {
        let bytes = &self.buffer[self.start..];
        if bytes.len() < BHS_LENGTH {
            return Ok(None);
        }
        let mut bhs = [0; BHS_LENGTH];
        bhs.copy_from_slice(&bytes[..BHS_LENGTH]);
        let header = BHS_LENGTH + 4 * usize::from(bhs[4]);
        let data = u32::from_be_bytes([0, bhs[5], bhs[6], bhs[7]]) as usize;
        if data > MAX_DATA_SEGMENT {
            return Err(DecodeError::TooLong(data));
        }
        let data_start = header + if digests.header { 4 } else { 0 };
        if bytes.len() < data_start {
            return Ok(None);
        }
        if digests.header && digest(&bytes[..header], false) != bytes[header..data_start] {
            return Err(DecodeError::HeaderDigest);
        }
        let data_end = data_start + padded(data);
        let end = data_end + if digests.data && data > 0 { 4 } else { 0 };
        if bytes.len() < end {
            return Ok(None);
        }
        let pdu = Pdu {
            bhs,
            ahs: bytes[BHS_LENGTH..header].to_vec(),
            data: bytes[data_start..data_start + data].to_vec(),
            corrupt: Corrupt::default(),
        };
        let digest_ok = end == data_end || digest(&bytes[data_start..data_end], false) == bytes[data_end..end];
        let padding_ok = bytes[data_start + data..data_end].iter().all(|&byte| byte == 0);
        self.start += end;
        if !digest_ok {
            return Err(DecodeError::DataDigest(Box::new(pdu)));
        }
        if !padding_ok {
            return Err(DecodeError::Padding(Box::new(pdu)));
        }
        Ok(Some(pdu))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 7143 appendix A.4: 32 bytes of zeros have the CRC aa 36 91 8a.
    #[test]
    fn digest_matches_the_example_of_the_rfc() {
        assert_eq!(digest(&[0; 32], false), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(digest(&[0xff; 32], false), [0x43, 0xab, 0xa8, 0x62]);
    }

    #[test]
    fn a_wrong_data_digest_names_the_pdu_and_the_next_one_is_read() {
        let digests = Digests { header: true, data: true };
        let mut bad = Pdu::new(opcode::NOP_IN).with_data(*b"hello");
        bad.corrupt.data = true;
        let good = Pdu::new(opcode::NOP_IN).with_data(*b"again");
        let mut decoder = PduDecoder::default();
        decoder.push(&bad.to_bytes(digests));
        decoder.push(&good.to_bytes(digests));
        let Err(DecodeError::DataDigest(pdu)) = decoder.next_pdu(digests) else { panic!("digest accepted") };
        assert_eq!(pdu.data, b"hello");
        assert_eq!(decoder.next_pdu(digests).unwrap().unwrap().data, b"again");
        let mut bad = Pdu::new(opcode::NOP_IN);
        bad.corrupt.header = true;
        decoder.push(&bad.to_bytes(digests));
        assert_eq!(decoder.next_pdu(digests), Err(DecodeError::HeaderDigest));
    }

    proptest! {
        #[test]
        fn encode_and_decode_are_inverse_in_any_fragments(
            op in 0u8..0x40, flags: u8, words in 0usize..5, data in prop::collection::vec(any::<u8>(), 0..300),
            header: bool, data_digest: bool, cut in 1usize..60,
        ) {
            let digests = Digests { header, data: data_digest };
            let mut pdu = Pdu::new(op).with_flags(flags).with_data(data);
            pdu.ahs = vec![7; words * 4];
            let bytes = pdu.to_bytes(digests);
            let mut decoder = PduDecoder::default();
            let mut found = None;
            for chunk in bytes.chunks(cut) {
                prop_assert!(found.is_none());
                decoder.push(chunk);
                found = decoder.next_pdu(digests).unwrap();
            }
            let found = found.unwrap();
            prop_assert_eq!(&found.data, &pdu.data);
            prop_assert_eq!(&found.ahs, &pdu.ahs);
            prop_assert_eq!(found.bhs[..4].to_vec(), pdu.bhs[..4].to_vec());
            prop_assert_eq!(found.bhs[8..].to_vec(), pdu.bhs[8..].to_vec());
            prop_assert_eq!(decoder.pending(), 0);
        }
    }
}
