//! Mode parameter headers (SPC-6 7.5.5) and block descriptors (SBC-4 6.5.2).

use crate::bytes::{Reader, Writer};

/// Bits of the DEVICE-SPECIFIC PARAMETER of disks (SBC-4 6.5.1).
pub mod device_specific {
    /// WP: the medium is write protected.
    pub const WP: u8 = 0x80;
    /// DPOFUA: the DPO and FUA bits are supported.
    pub const DPOFUA: u8 = 0x10;
    /// BUFFERED MODE of tapes (SSC-5): a write may complete when its data are in the buffer.
    pub const BUFFERED: u8 = 0x10;
}

/// MEDIUM TYPE of optical memory devices (SBC).
pub mod medium_type {
    /// Optical read-only medium.
    pub const OPTICAL_READ_ONLY: u8 = 0x01;
    /// Optical reversible or erasable medium.
    pub const OPTICAL_ERASABLE: u8 = 0x03;
}

/// A block descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct BlockDescriptor {
    /// NUMBER OF LOGICAL BLOCKS. Too large a number is all ones in the short form (SBC-4 6.5.2.2).
    pub blocks: u64,
    /// LOGICAL BLOCK LENGTH in bytes.
    pub block_length: u32,
}

impl BlockDescriptor {
    /// Length of the short form.
    pub const SHORT_LENGTH: usize = 8;
    /// Length of the long LBA form.
    pub const LONG_LENGTH: usize = 16;

    /// The short form of a tape (SSC-5): DENSITY CODE stands where disks have the leftmost byte of the number of blocks,
    /// and no number of blocks means all of them.
    pub const fn sequential(density: u8, block_length: u32) -> Self {
        Self { blocks: (density as u64) << 24, block_length }
    }

    /// DENSITY CODE and NUMBER OF BLOCKS of the short form of a tape.
    pub const fn density_and_blocks(&self) -> (u8, u32) {
        ((self.blocks >> 24) as u8, self.blocks as u32 & 0xff_ffff)
    }

    /// Writes the short (8 bytes) or the long LBA form (16 bytes).
    pub fn emit(&self, long: bool, w: &mut Writer<'_>) {
        if long {
            w.u64(self.blocks).u32(0).u32(self.block_length);
        } else {
            w.u32(u32::try_from(self.blocks).unwrap_or(u32::MAX)).u8(0).u24(self.block_length);
        }
    }

    /// Reads either form.
    pub fn parse(long: bool, bytes: &[u8]) -> Option<Self> {
        let mut r = Reader::new(bytes);
        if long {
            let blocks = r.u64()?;
            r.u32()?;
            return Some(Self { blocks, block_length: r.u32()? });
        }
        let blocks = u64::from(r.u32()?);
        r.u8()?;
        Some(Self { blocks, block_length: r.u24()? })
    }
}

/// A mode parameter header of either length.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct ModeHeader {
    /// MODE DATA LENGTH: bytes that follow this field; reserved (zero) in MODE SELECT.
    pub data_length: u16,
    /// MEDIUM TYPE.
    pub medium_type: u8,
    /// DEVICE-SPECIFIC PARAMETER.
    pub device_specific: u8,
    /// LONGLBA: block descriptors are of the long form (10-byte header only).
    pub long_lba: bool,
    /// BLOCK DESCRIPTOR LENGTH.
    pub descriptor_length: u16,
}

impl ModeHeader {
    /// Length of the header of the 6-byte commands.
    pub const SHORT_LENGTH: usize = 4;
    /// Length of the header of the 10-byte commands.
    pub const LONG_LENGTH: usize = 8;

    /// Writes MODE SENSE data: the header (of the 10-byte commands if `ten`), the block descriptor if any, and what
    /// `pages` appends; the lengths are filled in.
    pub fn emit_with(
        mut self,
        ten: bool,
        descriptor: Option<BlockDescriptor>,
        w: &mut Writer<'_>,
        pages: impl FnOnce(&mut Writer<'_>),
    ) {
        let start = w.position();
        let length = if self.long_lba { BlockDescriptor::LONG_LENGTH } else { BlockDescriptor::SHORT_LENGTH };
        self.descriptor_length = if descriptor.is_some() { length as u16 } else { 0 };
        self.emit(ten, w);
        if let Some(descriptor) = descriptor {
            descriptor.emit(self.long_lba, w);
        }
        pages(w);
        if ten {
            w.patch_length_u16(start);
        } else {
            w.patch_length_u8(start);
        }
    }

    /// Writes the header alone.
    pub fn emit(&self, ten: bool, w: &mut Writer<'_>) {
        if ten {
            w.u16(self.data_length).u8(self.medium_type).u8(self.device_specific);
            w.u8(u8::from(self.long_lba)).u8(0).u16(self.descriptor_length);
        } else {
            w.u8(self.data_length as u8).u8(self.medium_type).u8(self.device_specific).u8(self.descriptor_length as u8);
        }
    }

    /// Reads the header; what follows it is the caller's.
    pub fn parse(ten: bool, r: &mut Reader<'_>) -> Option<Self> {
        if !ten {
            return Some(Self {
                data_length: u16::from(r.u8()?),
                medium_type: r.u8()?,
                device_specific: r.u8()?,
                long_lba: false,
                descriptor_length: u16::from(r.u8()?),
            });
        }
        let (data_length, medium_type, device_specific) = (r.u16()?, r.u8()?, r.u8()?);
        let long_lba = r.u16()? & 0x0100 != 0;
        Some(Self { data_length, medium_type, device_specific, long_lba, descriptor_length: r.u16()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sense(ten: bool, long: bool) -> Vec<u8> {
        let head = ModeHeader { device_specific: device_specific::WP, long_lba: long, ..ModeHeader::default() };
        let descriptor = BlockDescriptor { blocks: 1 << 33, block_length: 512 };
        let mut out = [0; 64];
        let mut w = Writer::new(&mut out);
        head.emit_with(ten, Some(descriptor), &mut w, |w| {
            w.bytes(&[0x3f, 1, 9]);
        });
        let length = w.written();
        out[..length].to_vec()
    }

    #[test]
    fn lengths_are_filled_in() {
        assert_eq!(sense(false, false), [14, 0, 0x80, 8, 0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0, 0x3f, 1, 9]);
        let long = [0, 25, 0, 0x80, 1, 0, 0, 16, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0x3f, 1, 9];
        assert_eq!(sense(true, true), long);
    }

    #[test]
    fn the_block_descriptor_of_a_tape_begins_with_its_density() {
        let mut out = [0xee; 8];
        BlockDescriptor::sequential(0x80, 0x01_0203).emit(false, &mut Writer::new(&mut out));
        assert_eq!(out, [0x80, 0, 0, 0, 0, 1, 2, 3]);
        out[1..4].copy_from_slice(&[7, 8, 9]);
        let parsed = BlockDescriptor::parse(false, &out).unwrap();
        assert_eq!((parsed.density_and_blocks(), parsed.block_length), ((0x80, 0x07_0809), 0x01_0203));
    }

    proptest! {
        #[test]
        fn headers_and_descriptors_round_trip(ten in any::<bool>(), long in any::<bool>(), v in any::<[u8; 4]>(),
                                              blocks in any::<u64>(), block_length in any::<u32>()) {
            let wide = |low: u8, high: u8| if ten { u16::from_be_bytes([high, low]) } else { u16::from(low) };
            let header = ModeHeader {
                data_length: wide(v[0], v[1]), medium_type: v[1], device_specific: v[2], long_lba: long && ten,
                descriptor_length: wide(v[3], v[0]),
            };
            let descriptor = if long {
                BlockDescriptor { blocks, block_length }
            } else {
                BlockDescriptor { blocks: blocks & 0xffff_ffff, block_length: block_length & 0xff_ffff }
            };
            let mut out = [0; 24];
            header.emit(ten, &mut Writer::new(&mut out));
            prop_assert_eq!(ModeHeader::parse(ten, &mut Reader::new(&out)), Some(header));
            descriptor.emit(long, &mut Writer::new(&mut out));
            prop_assert_eq!(BlockDescriptor::parse(long, &out), Some(descriptor));
        }
    }
}
