//! MODE SELECT (SPC-6 6.15): all or nothing.

use scst_scsi::SenseData;
use scst_scsi::bytes::Reader;
use scst_scsi::mode::{BlockDescriptor, ModeHeader, RawPage, RawPages, first_unchangeable};

use crate::command::ModeSelect;
use crate::mode::{ModePages, ModeValues, pages_of};
use crate::params::{DiskParameters, Geometry};

/// What a MODE SELECT that is right in all its parts does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModeChange {
    /// The new current values.
    pub values: ModeValues,
    /// They are to be saved as well.
    pub save: bool,
    /// At least one value differs from the one before: unit attention MODE PARAMETERS CHANGED for the other nexuses.
    pub changed: bool,
}

impl ModePages {
    /// Reads a MODE SELECT parameter list; nothing changes yet.
    ///
    /// # Errors
    /// PARAMETER LIST LENGTH ERROR for a list that ends inside of a header or page; INVALID FIELD IN PARAMETER LIST
    /// at a page that is not there, has another length, changes what cannot be changed, or has a reserved value.
    pub fn select(
        &self,
        disk: &DiskParameters,
        geometry: &Geometry,
        command: &ModeSelect,
        list: &[u8],
    ) -> Result<ModeChange, SenseData> {
        let mut values = self.current;
        if !list.is_empty() {
            let pages = skip_header(geometry, command, list)?;
            for page in RawPages::new(list, pages) {
                let page = page.map_err(|_| SenseData::parameter_list_length_error())?;
                select_page(disk, &mut values, &page)?;
            }
        }
        Ok(ModeChange { values, save: command.save, changed: values != self.current })
    }

    /// Makes a change effective.
    pub fn apply(&mut self, change: &ModeChange) {
        self.current = change.values;
        if change.save {
            self.saved = change.values;
        }
    }
}

/// INVALID FIELD IN PARAMETER LIST at a byte, and the leftmost bit of a field in it.
fn invalid(at: usize, bit: Option<u8>) -> SenseData {
    SenseData::invalid_field_in_parameter_list(u16::try_from(at).unwrap_or(u16::MAX), bit)
}

/// Checks the mode parameter header and block descriptor; returns where the pages start. MODE DATA LENGTH, MEDIUM TYPE
/// and DEVICE-SPECIFIC PARAMETER are reserved or ignored in MODE SELECT (SPC-6 7.5.5, SBC-4 6.5.1).
fn skip_header(geometry: &Geometry, command: &ModeSelect, list: &[u8]) -> Result<usize, SenseData> {
    let cut = SenseData::parameter_list_length_error();
    let mut reader = Reader::new(list);
    let header = ModeHeader::parse(command.ten, &mut reader).ok_or(cut)?;
    let descriptor_at = reader.position();
    let wanted = if header.long_lba { BlockDescriptor::LONG_LENGTH } else { BlockDescriptor::SHORT_LENGTH };
    let length = usize::from(header.descriptor_length);
    if length != 0 {
        if length != wanted {
            return Err(invalid(if command.ten { 6 } else { 3 }, None));
        }
        let bytes = reader.take(length).ok_or(cut)?;
        let descriptor = BlockDescriptor::parse(header.long_lba, bytes).ok_or(cut)?;
        check_block_descriptor(geometry, header.long_lba, descriptor, descriptor_at)?;
    }
    Ok(reader.position())
}

/// The capacity and the block size cannot be changed: 0 and all ones keep the number of blocks (SBC-4 6.5.2).
fn check_block_descriptor(
    geometry: &Geometry,
    long: bool,
    descriptor: BlockDescriptor,
    at: usize,
) -> Result<(), SenseData> {
    let (all_ones, length_at) = if long { (u64::MAX, 12) } else { (u64::from(u32::MAX), 5) };
    if descriptor.blocks != 0 && descriptor.blocks != all_ones && descriptor.blocks != geometry.blocks {
        return Err(invalid(at, None));
    }
    if descriptor.block_length != geometry.block_size {
        return Err(invalid(at + length_at, None));
    }
    Ok(())
}

/// Takes one page over into `values`.
fn select_page(disk: &DiskParameters, values: &mut ModeValues, raw: &RawPage<'_>) -> Result<(), SenseData> {
    let Some(page) = pages_of(disk).find(|page| (page.code, page.subpage) == (raw.code, raw.subpage)) else {
        let code_known = pages_of(disk).any(|page| page.code == raw.code);
        let pointer = if code_known { (1, None) } else { (0, Some(5)) };
        return Err(invalid(raw.offset + pointer.0, pointer.1));
    };
    let current = page.image(values, disk);
    let has_subpage = |bytes: &[u8]| bytes[0] & 0x40 != 0;
    if has_subpage(raw.bytes) != has_subpage(&current) {
        // SPF: page 00h in the sub_page format.
        return Err(invalid(raw.offset, Some(6)));
    }
    if raw.bytes.len() != page.length {
        return Err(invalid(raw.offset + if page.subpage == 0 { 1 } else { 2 }, None));
    }
    // Bits that cannot be changed must have their current value (SPC-6 6.15.1).
    let changeable = page.changeable(disk);
    if let Some((at, bit)) = first_unchangeable(&current[..page.length], &changeable[..page.length], raw.bytes) {
        return Err(invalid(raw.offset + at, Some(bit)));
    }
    (page.take)(values, raw).map_err(|(at, bit)| invalid(raw.offset + at, Some(bit)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::ModeSense;
    use crate::mode;
    use crate::params::DiskState;
    use proptest::prelude::*;

    const GEOMETRY: Geometry = Geometry { block_size: 512, blocks: 1000 };
    const SIX: ModeSelect = ModeSelect { ten: false, save: false, length: 0 };
    const TEN: ModeSelect = ModeSelect { ten: true, save: false, length: 0 };
    const CONTROL: [u8; 12] = [0x0a, 0x0a, 0x20, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0];

    fn disk() -> DiskParameters {
        DiskParameters { saves_mode_pages: true, ..DiskParameters::new("d", "", 512) }
    }

    fn select(command: &ModeSelect, parts: &[&[u8]]) -> Result<ModeChange, SenseData> {
        ModePages::new(&disk()).select(&disk(), &GEOMETRY, command, &parts.concat())
    }

    fn caching(wce: bool) -> [u8; 20] {
        let mut page = [0; 20];
        (page[0], page[1], page[2]) = (0x08, 0x12, u8::from(wce) << 2);
        page
    }

    fn pointer(result: Result<ModeChange, SenseData>) -> SenseData {
        result.expect_err("refused")
    }

    #[test]
    fn several_pages_change_several_values() {
        let mut control = CONTROL;
        control[2] |= 0x04;
        control[3] = 0x06;
        control[4] = 0x08;
        control[5] = 0x40;
        let change = select(&SIX, &[&[0; 4], &caching(false), &control]).unwrap();
        let want = ModeValues {
            write_cache: false,
            task_set_per_nexus: true,
            descriptor_sense: true,
            unrestricted_reordering: false,
            queue_error: 3,
            software_write_protect: true,
            task_aborted_status: true,
        };
        assert_eq!(change, ModeChange { values: want, save: false, changed: true });
        let mut pages = ModePages::new(&disk());
        let before = pages.saved;
        pages.apply(&change);
        assert_eq!((pages.current, pages.saved), (want, before));
        pages.reset();
        assert_eq!(pages.current, before);
        pages.apply(&ModeChange { save: true, ..change });
        pages.reset();
        assert_eq!(pages.current, want);
    }

    #[test]
    fn the_same_values_are_no_change() {
        let change = select(&SIX, &[&[0; 4], &caching(true), &CONTROL]).unwrap();
        assert!(!change.changed);
        assert!(!select(&SIX, &[]).unwrap().changed, "an empty list is no error");
        assert!(!select(&TEN, &[&[0; 8]]).unwrap().changed);
    }

    #[test]
    fn a_list_that_ends_too_early_is_a_length_error() {
        let error = SenseData::parameter_list_length_error();
        assert_eq!(pointer(select(&SIX, &[&[0; 3]])), error);
        assert_eq!(pointer(select(&TEN, &[&[0; 7]])), error);
        assert_eq!(pointer(select(&SIX, &[&[0, 0, 0, 8, 0, 0]])), error);
        assert_eq!(pointer(select(&SIX, &[&[0; 4], &[0x08]])), error);
        assert_eq!(pointer(select(&SIX, &[&[0; 4], &caching(true)[..19]])), error);
        assert_eq!(pointer(select(&SIX, &[&[0; 4], &[0x4a, 1, 0]])), error);
    }

    #[test]
    fn wrong_pages_point_at_what_is_wrong() {
        let at = |byte, bit| SenseData::invalid_field_in_parameter_list(byte, bit);
        assert_eq!(pointer(select(&SIX, &[&[0; 4], &[0x02, 0x02, 0, 0]])), at(4, Some(5)));
        assert_eq!(pointer(select(&SIX, &[&[0; 4], &[0x48, 0x00, 0, 0x12], &[0; 18]])), at(4, Some(6)));
        assert_eq!(pointer(select(&SIX, &[&[0; 4], &[0x4a, 0x07, 0, 0]])), at(5, None));
        assert_eq!(pointer(select(&SIX, &[&[0; 4], &caching(true), &[0x0a, 0x01, 0x20]])), at(25, None));
        assert_eq!(pointer(select(&SIX, &[&[0; 4], &[0x4a, 0x01, 0, 1, 0]])), at(6, None));
        let mut page = caching(true);
        page[12] = 0x20;
        assert_eq!(pointer(select(&SIX, &[&[0; 4], &page])), at(16, Some(5)), "DRA");
        let mut page = CONTROL;
        page[2] = 0x40;
        assert_eq!(pointer(select(&SIX, &[&[0; 4], &page])), at(6, Some(6)), "TST");
    }

    #[test]
    fn reserved_values_of_changeable_fields_are_refused() {
        let at = |byte, bit| SenseData::invalid_field_in_parameter_list(byte, Some(bit));
        let mut page = CONTROL;
        page[3] = 0x14;
        assert_eq!(pointer(select(&SIX, &[&[0; 4], &page])), at(7, 2), "QERR 10b");
        page[3] = 0x20;
        assert_eq!(pointer(select(&SIX, &[&[0; 4], &page])), at(7, 7), "QUEUE ALGORITHM MODIFIER 2h");
    }

    #[test]
    fn a_bad_second_page_leaves_nothing_of_the_first() {
        let pages = ModePages::new(&disk());
        let list = [&[0; 4][..], &caching(false), &[0x02, 0x00]].concat();
        assert!(pages.select(&disk(), &GEOMETRY, &SIX, &list).is_err());
        assert_eq!(pages, ModePages::new(&disk()));
    }

    #[test]
    fn block_descriptors_may_only_confirm_what_is() {
        let at = |byte| SenseData::invalid_field_in_parameter_list(byte, None);
        let short = |blocks: u32, length: u32| {
            let descriptor = u64::from(blocks) << 32 | u64::from(length);
            select(&SIX, &[&[0, 0, 0, 8], &descriptor.to_be_bytes()])
        };
        for blocks in [0, 1000, u32::MAX] {
            assert!(!short(blocks, 512).unwrap().changed);
        }
        assert_eq!(pointer(short(999, 512)), at(4));
        assert_eq!(pointer(short(0, 4096)), at(9));
        let long = |blocks: u64, length: u32| {
            let header = [0, 0, 0, 0, 1, 0, 0, 16];
            select(&TEN, &[&header, &blocks.to_be_bytes(), &[0; 4], &length.to_be_bytes()])
        };
        assert!(long(1000, 512).is_ok());
        assert_eq!(pointer(long(1001, 512)), at(8));
        assert_eq!(pointer(long(1000, 513)), at(20));
        assert_eq!(pointer(select(&SIX, &[&[0, 0, 0, 7], &[0; 7]])), at(3));
        assert_eq!(pointer(select(&TEN, &[&[0, 0, 0, 0, 1, 0, 0, 8], &[0; 8]])), at(6));
    }

    fn values() -> impl Strategy<Value = ModeValues> {
        (any::<[bool; 5]>(), prop_oneof![Just(0u8), Just(1), Just(3)]).prop_map(|(b, queue_error)| ModeValues {
            write_cache: b[0],
            task_set_per_nexus: true,
            descriptor_sense: b[1],
            unrestricted_reordering: b[2],
            queue_error,
            software_write_protect: b[3],
            task_aborted_status: b[4],
        })
    }

    proptest! {
        /// What MODE SENSE says of one set of values, MODE SELECT makes of any other.
        #[test]
        fn mode_sense_then_mode_select_is_the_identity(
            from in values(), to in values(), ten: bool, dbd: bool, llbaa: bool, subpages: bool,
        ) {
            let disk = disk();
            let command = ModeSense {
                ten,
                no_block_descriptor: dbd,
                long_lba: ten && llbaa,
                control: 0,
                page: 0x3f,
                subpage: if subpages { 0xff } else { 0 },
                allocation: 512,
            };
            let state = DiskState {
                geometry: GEOMETRY,
                medium_present: true,
                read_only: false,
                software_write_protect: to.software_write_protect,
            };
            let mut buf = [0; 512];
            let n = mode::sense(&disk, &state, &ModePages::with_saved(to), &command, &mut buf).unwrap();
            let select = ModeSelect { ten, save: false, length: n as u16 };
            let change = ModePages::with_saved(from).select(&disk, &GEOMETRY, &select, &buf[..n]).unwrap();
            prop_assert_eq!(change, ModeChange { values: to, save: false, changed: from != to });
        }

        #[test]
        fn no_parameter_list_panics(list in proptest::collection::vec(any::<u8>(), 0..80), ten: bool) {
            let _ = ModePages::new(&disk()).select(&disk(), &GEOMETRY, &ModeSelect { ten, ..SIX }, &list);
        }
    }
}
