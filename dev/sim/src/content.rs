//! What simulated initiators write: every 512-byte sector says which write it came from.

/// Bytes of a sector, the unit of all judgement: storage promises nothing across two of them.
pub const SECTOR: usize = 512;

/// What a sector holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// Zeros.
    Zeros,
    /// Sector `index` of a write.
    Written {
        /// The write.
        write: u64,
        /// Which sector of its data.
        index: u32,
    },
    /// A mixture: torn, or of nobody.
    Foreign,
}

fn word(write: u64, index: u32, at: usize) -> u64 {
    let mut z = write.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (u64::from(index) << 40) ^ at as u64;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}

/// Data of a write: so many sectors.
pub fn data(write: u64, sectors: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(sectors as usize * SECTOR);
    for index in 0..sectors {
        out.extend_from_slice(&write.to_le_bytes());
        out.extend_from_slice(&u64::from(index).to_le_bytes());
        for at in 2..SECTOR / 8 {
            out.extend_from_slice(&word(write, index, at).to_le_bytes());
        }
    }
    out
}

/// Recognises a sector.
pub fn read(sector: &[u8]) -> Content {
    let words = || sector.chunks_exact(8).map(|w| w.iter().rev().fold(0_u64, |v, &b| (v << 8) | u64::from(b)));
    let mut head = words();
    let (Some(write), Some(index)) = (head.next(), head.next()) else { return Content::Foreign };
    if write == 0 {
        return if words().all(|w| w == 0) { Content::Zeros } else { Content::Foreign };
    }
    let Ok(index) = u32::try_from(index) else { return Content::Foreign };
    if words().enumerate().skip(2).all(|(at, w)| w == word(write, index, at)) {
        Content::Written { write, index }
    } else {
        Content::Foreign
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sectors_are_recognised_and_mixtures_are_not() {
        let mut bytes = data(7, 3);
        assert_eq!(bytes.len(), 3 * SECTOR);
        assert_eq!(read(&bytes[SECTOR..2 * SECTOR]), Content::Written { write: 7, index: 1 });
        bytes[SECTOR + 300] ^= 1;
        assert_eq!(read(&bytes[SECTOR..2 * SECTOR]), Content::Foreign);
        assert_eq!(read(&[0; SECTOR]), Content::Zeros);
    }
}
