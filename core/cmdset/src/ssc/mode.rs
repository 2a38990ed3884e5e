//! Mode parameters of a tape (SSC-5, SPC-6 7.5): the block length and a few pages.

use scst_scsi::bytes::{Reader, Writer};
use scst_scsi::mode::{
    BlockDescriptor, ControlPage, DataCompressionPage, DeviceConfigurationPage, InformationalExceptionsPage,
    ModeHeader, ModePage, RawPage, RawPages, device_specific, first_unchangeable, page,
};
use scst_scsi::{Asc, SenseData};

use super::{DENSITY_CODE, MAX_BLOCK_LENGTH, TapeParameters, TapeState};
use crate::command::{ModeSelect, ModeSense};
use crate::mode::{self, ModeValues};
use crate::params::finish;

/// The longest page here.
const MAX_PAGE: usize = 16;
/// COMPRESSION ALGORITHM of the data compression page: the default one.
const DEFAULT_ALGORITHM: u32 = 1;
/// DENSITY CODE of MODE SELECT: the default one, and the one there is.
const DEFAULT_DENSITY: u8 = 0x00;
const SAME_DENSITY: u8 = 0x7f;

/// What MODE SELECT can change in the control page: all that disks let it, but the order of commands.
const CHANGEABLE_CONTROL: ControlPage = ControlPage { queue_algorithm_modifier: 0, ..mode::CHANGEABLE_CONTROL };

/// The settings that MODE SELECT can change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TapeModes {
    /// BLOCK LENGTH of the block descriptor; 0 for blocks of any length.
    pub block_length: u32,
    /// BUFFERED MODE 1h.
    pub buffered: bool,
    /// DCE of the data compression page, and SELECT DATA COMPRESSION ALGORITHM of the device configuration page.
    pub compression: bool,
    /// The control page.
    pub control: ModeValues,
}

impl TapeModes {
    /// The default values of a tape. Its commands run in the order in which they come.
    pub fn default_of(tape: &TapeParameters) -> Self {
        let control = ModeValues { unrestricted_reordering: false, ..ModeValues::default_of(&tape.identity) };
        Self { block_length: tape.block_length, buffered: true, compression: true, control }
    }

    /// Reads a MODE SELECT parameter list; nothing changes yet.
    ///
    /// # Errors
    /// PARAMETER LIST LENGTH ERROR, or INVALID FIELD IN PARAMETER LIST at what is wrong.
    pub fn select(&self, command: &ModeSelect, list: &[u8]) -> Result<TapeModeChange, SenseData> {
        let mut modes = *self;
        if !list.is_empty() {
            let pages = modes.take_header(command.ten, list)?;
            for raw in RawPages::new(list, pages) {
                let raw = raw.map_err(|_| SenseData::parameter_list_length_error())?;
                modes.take_page(&raw)?;
            }
        }
        Ok(TapeModeChange { modes, changed: modes != *self })
    }

    /// Takes header and block descriptor over; returns where the pages start. WP and MEDIUM TYPE are ignored.
    fn take_header(&mut self, ten: bool, list: &[u8]) -> Result<usize, SenseData> {
        let cut = SenseData::parameter_list_length_error();
        let mut reader = Reader::new(list);
        let header = ModeHeader::parse(ten, &mut reader).ok_or(cut)?;
        let at = if ten { 3 } else { 2 };
        match header.device_specific & 0x7f {
            0 => self.buffered = false,
            device_specific::BUFFERED => self.buffered = true,
            // SPEED knows the default only.
            other => return Err(invalid(at, Some(if other & 0x60 != 0 { 6 } else { 3 }))),
        }
        if header.long_lba {
            return Err(invalid(4, Some(0)));
        }
        if header.descriptor_length != 0 {
            if usize::from(header.descriptor_length) != BlockDescriptor::SHORT_LENGTH {
                return Err(invalid(if ten { 6 } else { 3 }, None));
            }
            let at = reader.position();
            let bytes = reader.take(BlockDescriptor::SHORT_LENGTH).ok_or(cut)?;
            self.take_descriptor(&BlockDescriptor::parse(false, bytes).ok_or(cut)?, at)?;
        }
        Ok(reader.position())
    }

    /// NUMBER OF BLOCKS is 0: the descriptor is about all of the medium.
    fn take_descriptor(&mut self, descriptor: &BlockDescriptor, at: usize) -> Result<(), SenseData> {
        let (density, blocks) = descriptor.density_and_blocks();
        if !matches!(density, DEFAULT_DENSITY | SAME_DENSITY | DENSITY_CODE) {
            return Err(invalid(at, None));
        }
        if blocks != 0 {
            return Err(invalid(at + 1, None));
        }
        if descriptor.block_length > MAX_BLOCK_LENGTH {
            return Err(invalid(at + 5, None));
        }
        self.block_length = descriptor.block_length;
        Ok(())
    }

    fn take_page(&mut self, raw: &RawPage<'_>) -> Result<(), SenseData> {
        let Some(page) = PAGES.iter().find(|page| page.code == raw.code) else {
            return Err(invalid(raw.offset, Some(5)));
        };
        if raw.bytes[0] & 0x40 != 0 {
            // SPF: there are no subpages.
            return Err(invalid(raw.offset, Some(6)));
        }
        if raw.bytes.len() != page.length {
            return Err(invalid(raw.offset + 1, None));
        }
        let (current, changeable) = (page.image(Some(self)), page.image(None));
        if let Some((at, bit)) = first_unchangeable(&current[..page.length], &changeable[..page.length], raw.bytes) {
            return Err(invalid(raw.offset + at, Some(bit)));
        }
        (page.take)(self, raw).map_err(|(at, bit)| invalid(raw.offset + at, Some(bit)))
    }
}

/// What a MODE SELECT that is right in all its parts does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TapeModeChange {
    /// The new values.
    pub modes: TapeModes,
    /// At least one of them is another one: unit attention MODE PARAMETERS CHANGED for the other nexuses.
    pub changed: bool,
}

fn invalid(at: usize, bit: Option<u8>) -> SenseData {
    SenseData::invalid_field_in_parameter_list(u16::try_from(at).unwrap_or(u16::MAX), bit)
}

/// Takes a page over. The error is the byte and leftmost bit of a field with a value that it must not have.
type Take = fn(&mut TapeModes, &RawPage<'_>) -> Result<(), (usize, u8)>;

/// One mode page.
struct Page {
    code: u8,
    /// Length with header.
    length: usize,
    /// Writes the page with the given values, or with a one in each bit that can be changed.
    emit: fn(Option<&TapeModes>, &mut Writer<'_>),
    /// Takes a page over that differs only where it may.
    take: Take,
}

impl Page {
    const fn of<P: ModePage>(emit: fn(Option<&TapeModes>, &mut Writer<'_>)) -> Self {
        Self { code: P::CODE, length: P::LENGTH, emit, take: |_, _| Ok(()) }
    }

    /// The page; its first `length` bytes count.
    fn image(&self, modes: Option<&TapeModes>) -> [u8; MAX_PAGE] {
        let mut image = [0; MAX_PAGE];
        (self.emit)(modes, &mut Writer::new(&mut image));
        image
    }
}

/// All pages, ascending.
const PAGES: [Page; 4] = [
    Page {
        take: |modes, raw| mode::take_control(&mut modes.control, raw),
        ..Page::of::<ControlPage>(|modes, out| match modes {
            Some(modes) => mode::control(&modes.control).emit(false, out),
            None => CHANGEABLE_CONTROL.emit(false, out),
        })
    },
    Page {
        take: |modes, raw| {
            modes.compression = DataCompressionPage::parse(raw).map_or(modes.compression, |page| page.dce);
            Ok(())
        },
        ..Page::of::<DataCompressionPage>(|modes, out| match modes {
            Some(modes) => compression(modes).emit(false, out),
            None => DataCompressionPage { dce: true, ..DataCompressionPage::default() }.emit(false, out),
        })
    },
    Page {
        take: take_configuration,
        ..Page::of::<DeviceConfigurationPage>(|modes, out| match modes {
            Some(modes) => configuration(modes).emit(false, out),
            None => {
                DeviceConfigurationPage { select_compression: 0xff, ..DeviceConfigurationPage::default() }
                    .emit(false, out);
            }
        })
    },
    Page::of::<InformationalExceptionsPage>(|modes, out| {
        InformationalExceptionsPage { dexcpt: modes.is_some(), ..Default::default() }.emit(false, out);
    }),
];

fn compression(modes: &TapeModes) -> DataCompressionPage {
    DataCompressionPage {
        dce: modes.compression,
        dcc: true,
        dde: true,
        compression_algorithm: DEFAULT_ALGORITHM,
        decompression_algorithm: DEFAULT_ALGORITHM,
        ..DataCompressionPage::default()
    }
}

/// LOIS: blocks have numbers. EEG and SEW: the end of data is written, and everything before the early warning is told.
fn configuration(modes: &TapeModes) -> DeviceConfigurationPage {
    DeviceConfigurationPage {
        lois: true,
        eeg: true,
        sew: true,
        select_compression: u8::from(modes.compression),
        ..DeviceConfigurationPage::default()
    }
}

fn take_configuration(modes: &mut TapeModes, raw: &RawPage<'_>) -> Result<(), (usize, u8)> {
    let Some(page) = DeviceConfigurationPage::parse(raw) else { return Ok(()) };
    modes.compression = match page.select_compression {
        0 => false,
        1 => true,
        _ => return Err((14, 7)),
    };
    Ok(())
}

/// Answers MODE SENSE. Returns the bytes to send.
///
/// # Errors
/// SAVING PARAMETERS NOT SUPPORTED for PC = 11b; INVALID FIELD IN CDB at PAGE CODE or SUBPAGE CODE for a page that is
/// not there. Page 00h is the header and the block descriptor alone.
pub fn mode_sense(
    tape: &TapeParameters,
    state: &TapeState,
    modes: &TapeModes,
    command: &ModeSense,
    buf: &mut [u8],
) -> Result<usize, SenseData> {
    let default = TapeModes::default_of(tape);
    let values = match command.control {
        0b00 => Some(modes),
        0b01 => None,
        0b10 => Some(&default),
        _ => return Err(SenseData::illegal_request(Asc::SAVING_PARAMETERS_NOT_SUPPORTED)),
    };
    let wanted = |page: &&Page| command.page == page::ALL || command.page == page.code;
    if command.page != 0 && !PAGES.iter().any(|page| wanted(&page)) {
        return Err(SenseData::invalid_field_in_cdb(2, Some(5)));
    }
    if !matches!(command.subpage, 0 | page::ALL_SUBPAGES) {
        return Err(SenseData::invalid_field_in_cdb(3, None));
    }
    let protected = state.write_protected || tape.identity.read_only;
    let shown = values.unwrap_or(modes);
    let head = ModeHeader {
        device_specific: if protected { device_specific::WP } else { 0 }
            | if shown.buffered { device_specific::BUFFERED } else { 0 },
        ..ModeHeader::default()
    };
    let descriptor = BlockDescriptor::sequential(DENSITY_CODE, shown.block_length);
    let mut out = Writer::new(buf);
    head.emit_with(command.ten, (!command.no_block_descriptor).then_some(descriptor), &mut out, |out| {
        for page in PAGES.iter().filter(wanted) {
            out.bytes(&page.image(values)[..page.length]);
        }
    });
    Ok(finish(&out, command.allocation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssc::tests::tape;
    use proptest::prelude::*;

    const STATE: TapeState = TapeState { loaded: true, write_protected: false };
    const SIX: ModeSelect = ModeSelect { ten: false, save: false, length: 0 };

    fn sense(control: u8, page: u8, ten: bool) -> Result<Vec<u8>, SenseData> {
        let command =
            ModeSense { ten, no_block_descriptor: false, long_lba: false, control, page, subpage: 0, allocation: 255 };
        let mut buf = [0xee; 256];
        let modes = TapeModes { block_length: 0x01_0200, ..TapeModes::default_of(&tape()) };
        mode_sense(&tape(), &STATE, &modes, &command, &mut buf).map(|n| buf[..n].to_vec())
    }

    #[test]
    fn header_and_block_descriptor_alone() {
        assert_eq!(sense(0, 0, false).unwrap(), [11, 0, 0x10, 8, 0x80, 0, 0, 0, 0, 1, 2, 0]);
        assert_eq!(sense(0, 0, true).unwrap(), [0, 14, 0, 0x10, 0, 0, 0, 8, 0x80, 0, 0, 0, 0, 1, 2, 0]);
        assert_eq!(sense(2, 0, false).unwrap()[8..], [0, 0, 0, 0], "blocks of any length by default");
    }

    #[test]
    fn pages_byte_by_byte() {
        let page = |control, code| sense(control, code, false).unwrap()[12..].to_vec();
        assert_eq!(page(0, 0x0f), [0x0f, 0x0e, 0xc0, 0x80, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(page(1, 0x0f), [0x0f, 0x0e, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(page(0, 0x10), [0x10, 0x0e, 0, 0, 0, 0, 0, 0, 0x40, 0, 0x18, 0, 0, 0, 1, 0]);
        assert_eq!(page(1, 0x10), [0x10, 0x0e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0]);
        // Restricted reordering, one task set for each nexus.
        assert_eq!(page(0, 0x0a), [0x0a, 0x0a, 0x20, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0]);
        assert_eq!(page(1, 0x0a), [0x0a, 0x0a, 0x04, 0x06, 0x08, 0x40, 0, 0, 0, 0, 0, 0]);
        let all = page(0, 0x3f);
        assert_eq!((all[0], all[12], all[28], all[44], all.len()), (0x0a, 0x0f, 0x10, 0x1c, 56));
    }

    #[test]
    fn what_is_not_there_is_pointed_at() {
        assert_eq!(sense(0, 0x08, false), Err(SenseData::invalid_field_in_cdb(2, Some(5))));
        assert_eq!(sense(3, 0x0f, false), Err(SenseData::illegal_request(Asc(0x3900))));
    }

    fn select(list: &[u8]) -> Result<TapeModes, SenseData> {
        TapeModes::default_of(&tape()).select(&SIX, list).map(|change| change.modes)
    }

    #[test]
    fn the_block_length_and_the_buffer_are_set() {
        let before = TapeModes::default_of(&tape());
        assert_eq!(select(&[0, 0, 0x10, 8, 0, 0, 0, 0, 0, 0, 4, 0]), Ok(TapeModes { block_length: 1024, ..before }));
        assert_eq!(select(&[0, 0, 0, 0]), Ok(TapeModes { buffered: false, ..before }));
        assert_eq!(select(&[]), Ok(before));
        let ten = ModeSelect { ten: true, ..SIX };
        let list = [0, 0, 0, 0x10, 0, 0, 0, 8, 0x7f, 0, 0, 0, 0, 0x80, 0, 0];
        let change = before.select(&ten, &list).unwrap();
        assert_eq!(change, TapeModeChange { modes: TapeModes { block_length: 8 << 20, ..before }, changed: true });
    }

    #[test]
    fn compression_is_one_switch_in_two_pages() {
        let before = TapeModes::default_of(&tape());
        let off = Ok(TapeModes { compression: false, ..before });
        let head = [0, 0, 0x10, 0];
        let data = [0x0f, 0x0e, 0x40, 0x80, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0];
        let mut device = [0x10, 0x0e, 0, 0, 0, 0, 0, 0, 0x40, 0, 0x18, 0, 0, 0, 0, 0];
        assert_eq!(select(&[&head[..], &data].concat()), off);
        assert_eq!(select(&[&head[..], &device].concat()), off);
        device[14] = 2;
        let at = |byte, bit| Err(SenseData::invalid_field_in_parameter_list(byte, bit));
        assert_eq!(select(&[&head[..], &device].concat()), at(18, Some(7)));
    }

    #[test]
    fn wrong_lists_point_at_what_is_wrong() {
        let at = |byte, bit| Err(SenseData::invalid_field_in_parameter_list(byte, bit));
        let length_error = Err(SenseData::parameter_list_length_error());
        assert_eq!(select(&[0, 0, 0x10]), length_error);
        assert_eq!(select(&[0, 0, 0x10, 8, 0, 0]), length_error);
        assert_eq!(select(&[0, 0, 0x10, 0, 0x0f, 0x0e, 0]), length_error);
        assert_eq!(select(&[0, 0, 0x20, 0]), at(2, Some(6)), "buffered mode 2");
        assert_eq!(select(&[0, 0, 0x11, 0]), at(2, Some(3)), "speed 1");
        assert_eq!(select(&[0, 0, 0x10, 7, 0, 0, 0, 0, 0, 0, 0]), at(3, None));
        assert_eq!(select(&[0, 0, 0x10, 8, 0x44, 0, 0, 0, 0, 0, 2, 0]), at(4, None), "density");
        assert_eq!(select(&[0, 0, 0x10, 8, 0, 0, 0, 1, 0, 0, 2, 0]), at(5, None), "number of blocks");
        assert_eq!(select(&[0, 0, 0x10, 8, 0, 0, 0, 0, 0, 0x80, 0, 1]), at(9, None), "block length");
        assert_eq!(select(&[0, 0, 0x10, 0, 0x08, 0]), at(4, Some(5)));
        assert_eq!(select(&[0, 0, 0x10, 0, 0x0f, 0x01, 0]), at(5, None));
        assert_eq!(select(&[0, 0, 0x10, 0, 0x4a, 0x01, 0, 0]), at(4, Some(6)));
    }

    proptest! {
        /// What MODE SENSE says of one set of values, MODE SELECT makes of the default ones.
        #[test]
        fn mode_sense_then_mode_select_is_the_identity(
            block_length in 0..=MAX_BLOCK_LENGTH, flags: [bool; 4], ten: bool,
        ) {
            let default = TapeModes::default_of(&tape());
            let control = ModeValues { descriptor_sense: flags[2], task_aborted_status: flags[3], ..default.control };
            let modes = TapeModes { block_length, buffered: flags[0], compression: flags[1], control };
            let command = ModeSense {
                ten, no_block_descriptor: false, long_lba: false, control: 0, page: 0x3f, subpage: 0, allocation: 255,
            };
            let mut buf = [0; 128];
            let n = mode_sense(&tape(), &STATE, &modes, &command, &mut buf).unwrap();
            let change = default.select(&ModeSelect { ten, ..SIX }, &buf[..n]);
            // Two pages have the compression; the later one wins, and both say the same.
            prop_assert_eq!(change, Ok(TapeModeChange { modes, changed: modes != default }));
        }

        #[test]
        fn no_parameter_list_panics(list in proptest::collection::vec(any::<u8>(), 0..64), ten: bool) {
            let _ = TapeModes::default_of(&tape()).select(&ModeSelect { ten, ..SIX }, &list);
        }
    }
}
