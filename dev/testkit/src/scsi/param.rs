//! Parameter lists that go with CDBs, and the answers that most tests need.

/// Capacity of a disk, from READ CAPACITY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Number of blocks.
    pub blocks: u64,
    /// Bytes per block.
    pub block_size: u32,
}

impl Capacity {
    /// Reads READ CAPACITY (16) data.
    pub fn decode16(data: &[u8]) -> Option<Self> {
        let last = u64::from_be_bytes(data.get(..8)?.try_into().ok()?);
        let block_size = u32::from_be_bytes(data.get(8..12)?.try_into().ok()?);
        Some(Self { blocks: last.wrapping_add(1), block_size })
    }

    /// Reads READ CAPACITY (10) data.
    pub fn decode10(data: &[u8]) -> Option<Self> {
        let last = u32::from_be_bytes(data.get(..4)?.try_into().ok()?);
        let block_size = u32::from_be_bytes(data.get(4..8)?.try_into().ok()?);
        Some(Self { blocks: u64::from(last) + 1, block_size })
    }
}

/// UNMAP parameter list of (LBA, number of blocks) (SBC-5 5.35.2).
pub fn unmap(ranges: &[(u64, u32)]) -> Vec<u8> {
    let descriptors = ranges.len() * 16;
    let mut list = Vec::with_capacity(8 + descriptors);
    list.extend_from_slice(&(descriptors as u16 + 6).to_be_bytes());
    list.extend_from_slice(&(descriptors as u16).to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    for (lba, blocks) in ranges {
        list.extend_from_slice(&lba.to_be_bytes());
        list.extend_from_slice(&blocks.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
    }
    list
}

/// PERSISTENT RESERVE OUT parameter list of 24 bytes (SPC-6 6.16.3).
pub fn persistent_reserve_out(key: u64, service_action_key: u64, aptpl: bool) -> Vec<u8> {
    let mut list = vec![0; 24];
    list[..8].copy_from_slice(&key.to_be_bytes());
    list[8..16].copy_from_slice(&service_action_key.to_be_bytes());
    list[20] = u8::from(aptpl);
    list
}

/// The LUN numbers of REPORT LUNS data; None when the list is malformed or uses an unknown addressing method.
pub fn report_luns(data: &[u8]) -> Option<Vec<u32>> {
    let length = u32::from_be_bytes(data.get(..4)?.try_into().ok()?) as usize;
    let list = data.get(8..8 + length)?;
    list.chunks(8).map(|entry| super::lun_number(entry.try_into().ok()?)).collect()
}

/// A MODE SELECT (6) parameter list without block descriptors around one page.
pub fn mode_select6(page: &[u8]) -> Vec<u8> {
    let mut list = vec![0; 4];
    list.extend_from_slice(page);
    list
}

/// A MODE SELECT (10) parameter list without block descriptors around one page.
pub fn mode_select10(page: &[u8]) -> Vec<u8> {
    let mut list = vec![0; 8];
    list.extend_from_slice(page);
    list
}

/// The pages of MODE SENSE (6) data, behind the block descriptors.
pub fn mode_pages6(data: &[u8]) -> Option<&[u8]> {
    let end = usize::from(*data.first()?) + 1;
    data.get(4 + usize::from(*data.get(3)?)..end.min(data.len()))
}

/// The pages of MODE SENSE (10) data.
pub fn mode_pages10(data: &[u8]) -> Option<&[u8]> {
    let end = usize::from(u16::from_be_bytes([*data.first()?, *data.get(1)?])) + 2;
    let descriptors = usize::from(u16::from_be_bytes([*data.get(6)?, *data.get(7)?]));
    data.get(8 + descriptors..end.min(data.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmap_list_has_both_lengths() {
        let list = unmap(&[(1, 2), (3, 4)]);
        assert_eq!(list[..8], [0, 38, 0, 32, 0, 0, 0, 0]);
        assert_eq!(list[24..40], [0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0]);
    }

    #[test]
    fn answers_are_read() {
        let mut data = [0; 32];
        data[7] = 0xff;
        data[10] = 2;
        assert_eq!(Capacity::decode16(&data), Some(Capacity { blocks: 256, block_size: 512 }));
        assert_eq!(Capacity::decode10(&[0, 0, 0, 9, 0, 0, 16, 0]), Some(Capacity { blocks: 10, block_size: 4096 }));
        let mut luns = vec![0, 0, 0, 16, 0, 0, 0, 0];
        luns.extend_from_slice(&super::super::lun(1));
        luns.extend_from_slice(&super::super::lun(300));
        assert_eq!(report_luns(&luns), Some(vec![1, 300]));
        assert_eq!(mode_pages6(&[5, 0, 0, 0, 0xaa, 0xbb]), Some(&[0xaa, 0xbb][..]));
    }
}
