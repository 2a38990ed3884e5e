//! The parameter list of UNMAP (SBC-4 5.35), validated as a whole before the first block is touched.

use scst_scsi::SenseData;

use crate::command::BlockRange;
use crate::params::{DiskParameters, Geometry, MAX_UNMAP_DESCRIPTORS};

const HEADER: usize = 8;
const DESCRIPTOR: usize = 16;

/// A valid list of ranges to unmap.
#[derive(Clone, Copy, Debug)]
pub struct UnmapList<'a> {
    descriptors: &'a [[u8; DESCRIPTOR]],
}

impl<'a> UnmapList<'a> {
    /// Reads the parameter list. `total` is the length of the data-out, `list` all of it or its first
    /// [`MAX_UNMAP_LIST_BYTES`](crate::params::MAX_UNMAP_LIST_BYTES).
    ///
    /// # Errors
    /// PARAMETER LIST LENGTH ERROR for a list that is shorter than its header or says more than there is; INVALID FIELD
    /// IN PARAMETER LIST for more descriptors or more blocks than the Block Limits page allows; LOGICAL BLOCK ADDRESS
    /// OUT OF RANGE for a range that does not exist.
    pub fn parse(list: &'a [u8], total: usize, disk: &DiskParameters, geometry: &Geometry) -> Result<Self, SenseData> {
        let limit = disk.provisioning.map_or(0, |thin| u64::from(thin.max_unmap_blocks));
        // A PARAMETER LIST LENGTH of zero is not an error.
        if list.is_empty() {
            return Ok(Self { descriptors: &[] });
        }
        let Some((header, descriptors)) = list.split_first_chunk::<HEADER>() else {
            return Err(SenseData::parameter_list_length_error());
        };
        let data_length = usize::from(u16::from_be_bytes([header[0], header[1]]));
        let descriptor_length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if descriptor_length / DESCRIPTOR > MAX_UNMAP_DESCRIPTORS as usize {
            return Err(SenseData::invalid_field_in_parameter_list(2, None));
        }
        if data_length + 2 > total || descriptor_length > descriptors.len() {
            return Err(SenseData::parameter_list_length_error());
        }
        // A last descriptor that is not whole is ignored.
        let (descriptors, _) = descriptors[..descriptor_length].as_chunks::<DESCRIPTOR>();
        let mut sum = 0;
        for (index, descriptor) in descriptors.iter().enumerate() {
            let range = range_of(descriptor);
            sum += range.blocks;
            if sum > limit {
                let at = HEADER + DESCRIPTOR * index + 8;
                return Err(SenseData::invalid_field_in_parameter_list(at as u16, None));
            }
            crate::validate::check_range(range, geometry)?;
        }
        Ok(Self { descriptors })
    }

    /// The ranges, empty ones left out.
    pub fn ranges(&self) -> impl Iterator<Item = BlockRange> + use<'a> {
        self.descriptors.iter().map(range_of).filter(|range| range.blocks > 0)
    }
}

fn range_of(descriptor: &[u8; DESCRIPTOR]) -> BlockRange {
    let (lba, rest) = descriptor.split_at(8);
    let be = |bytes: &[u8]| bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    BlockRange { lba: be(lba), blocks: be(&rest[..4]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{MAX_UNMAP_LIST_BYTES, Provisioning};
    use proptest::prelude::*;

    const GEOMETRY: Geometry = Geometry { block_size: 512, blocks: 1 << 20 };

    fn disk() -> DiskParameters {
        DiskParameters {
            provisioning: Some(Provisioning {
                granularity: 8,
                alignment: 0,
                max_unmap_blocks: 1000,
                reads_zeros: true,
                anchor: false,
            }),
            ..DiskParameters::new("d", "", 512)
        }
    }

    fn list(ranges: &[(u64, u32)]) -> Vec<u8> {
        let length = 16 * ranges.len() as u16;
        let mut list = [(length + 6).to_be_bytes(), length.to_be_bytes(), [0; 2], [0; 2]].concat();
        for (lba, blocks) in ranges {
            list.extend(lba.to_be_bytes());
            list.extend(blocks.to_be_bytes());
            list.extend([0; 4]);
        }
        list
    }

    fn parse(list: &[u8]) -> Result<Vec<(u64, u64)>, SenseData> {
        let parsed = UnmapList::parse(list, list.len(), &disk(), &GEOMETRY)?;
        Ok(parsed.ranges().map(|range| (range.lba, range.blocks)).collect())
    }

    #[test]
    fn ranges_come_in_order_and_empty_ones_not_at_all() {
        assert_eq!(parse(&list(&[(5, 3), (9, 0), (0, 1)])), Ok(vec![(5, 3), (0, 1)]));
        assert_eq!(parse(&[]), Ok(vec![]));
        assert_eq!(parse(&list(&[])), Ok(vec![]));
        assert_eq!(parse(&list(&[(1 << 20, 0)])), Ok(vec![]), "empty, right behind the last block");
    }

    #[test]
    fn a_partial_last_descriptor_is_ignored() {
        let mut bytes = list(&[(5, 3), (9, 1)]);
        bytes[3] = 31;
        assert_eq!(parse(&bytes), Ok(vec![(5, 3)]));
    }

    #[test]
    fn bytes_behind_the_descriptors_need_not_be_looked_at() {
        let mut bytes = list(&[(0, 1); 256]);
        let data_length = bytes.len() as u16 + 98;
        bytes[..2].copy_from_slice(&data_length.to_be_bytes());
        let parsed = UnmapList::parse(&bytes, bytes.len() + 100, &disk(), &GEOMETRY);
        assert_eq!(parsed.unwrap().ranges().count(), 256);
        assert!(UnmapList::parse(&bytes, bytes.len() + 99, &disk(), &GEOMETRY).is_err());
    }

    #[test]
    fn wrong_lengths_are_length_errors() {
        let error = Err(SenseData::parameter_list_length_error());
        assert_eq!(parse(&[0; 7]), error);
        let bytes = list(&[(5, 3)]);
        assert_eq!(parse(&bytes[..23]), error);
        let mut lying = bytes.clone();
        lying[1] = 23;
        assert_eq!(parse(&lying), error);
        lying[1] = 22;
        lying[3] = 17;
        assert_eq!(parse(&lying), error);
    }

    #[test]
    fn limits_of_the_block_limits_page() {
        assert_eq!(parse(&list(&[(0, 1000)])), Ok(vec![(0, 1000)]));
        assert_eq!(parse(&list(&[(0, 1001)])), Err(SenseData::invalid_field_in_parameter_list(16, None)));
        assert_eq!(
            parse(&list(&[(0, 999), (2000, 2)])),
            Err(SenseData::invalid_field_in_parameter_list(32, None)),
            "the limit is on the sum"
        );
        let most = list(&[(0, 1); 256]);
        assert_eq!(most.len(), MAX_UNMAP_LIST_BYTES);
        assert_eq!(parse(&most).unwrap().len(), 256);
        assert_eq!(parse(&list(&[(0, 1); 257])), Err(SenseData::invalid_field_in_parameter_list(2, None)));
    }

    #[test]
    fn a_range_that_does_not_exist_spoils_the_list() {
        assert_eq!(parse(&list(&[(0, 1), ((1 << 20) - 1, 2)])), Err(SenseData::lba_out_of_range(1 << 20)));
        assert_eq!(parse(&list(&[(u64::MAX, 1)])), Err(SenseData::lba_out_of_range(u64::MAX)));
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_within_capacity_and_limits(
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
            ranges in proptest::collection::vec((0u64..(1 << 20) + 100, 0u32..400), 0..6),
        ) {
            for list in [bytes, list(&ranges)] {
                if let Ok(ranges) = parse(&list) {
                    let total: u64 = ranges.iter().map(|r| r.1).sum();
                    prop_assert!(total <= 1000);
                    prop_assert!(ranges.iter().all(|(lba, n)| *n > 0 && lba + n <= GEOMETRY.blocks));
                }
            }
        }
    }
}
