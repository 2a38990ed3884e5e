//! Mode pages (SPC-6 7.5, SBC-4 6.5) as values, and MODE SENSE.

use scst_scsi::bytes::Writer;
use scst_scsi::mode::{
    BlockDescriptor, CachingPage, ControlExtensionPage, ControlPage, ErrorRecoveryPage, InformationalExceptionsPage,
    ModeHeader, ModePage, OpticalMemoryPage, RawPage, device_specific, medium_type, page,
};
use scst_scsi::{Asc, DeviceType, SenseData};

use crate::command::ModeSense;
use crate::params::{DiskParameters, DiskState, Geometry, finish};

/// The longest page here: control extension.
pub(crate) const MAX_PAGE: usize = 32;
/// BUSY TIMEOUT PERIOD: unlimited.
const BUSY_TIMEOUT: u16 = 0xffff;

/// What MODE SELECT can change in the control page.
pub(crate) const CHANGEABLE_CONTROL: ControlPage = ControlPage {
    d_sense: true,
    queue_algorithm_modifier: 0xf,
    qerr: 0x3,
    swp: true,
    tas: true,
    tst: 0,
    tmf_only: false,
    dpicz: false,
    gltsd: false,
    rlec: false,
    nuar: false,
    rac: false,
    ua_intlck_ctrl: 0,
    ato: false,
    atmpe: false,
    rwwp: false,
    autoload_mode: 0,
    busy_timeout_period: 0,
    extended_self_test_completion_time: 0,
};

/// The settings that MODE SELECT can change, and TST.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModeValues {
    /// WCE of the caching page: a write may complete before its data are durable.
    pub write_cache: bool,
    /// TST 001b: one task set per I_T nexus. Not changeable by MODE SELECT.
    pub task_set_per_nexus: bool,
    /// D_SENSE: sense data in descriptor format.
    pub descriptor_sense: bool,
    /// QUEUE ALGORITHM MODIFIER 1h: SIMPLE commands may be reordered freely.
    pub unrestricted_reordering: bool,
    /// QERR: 0, 1 or 3.
    pub queue_error: u8,
    /// SWP: software write protect.
    pub software_write_protect: bool,
    /// TAS: commands aborted by another nexus end with TASK ABORTED.
    pub task_aborted_status: bool,
}

impl ModeValues {
    /// The default values of a disk.
    pub fn default_of(disk: &DiskParameters) -> Self {
        Self {
            write_cache: !disk.write_through && !disk.nv_cache,
            task_set_per_nexus: disk.task_set_per_nexus,
            descriptor_sense: false,
            unrestricted_reordering: true,
            queue_error: 0,
            software_write_protect: false,
            task_aborted_status: false,
        }
    }
}

/// The mode pages of a logical unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModePages {
    /// In force now.
    pub current: ModeValues,
    /// What a reset goes back to.
    pub saved: ModeValues,
}

impl ModePages {
    /// The pages of a disk that has nothing saved.
    pub fn new(disk: &DiskParameters) -> Self {
        let values = ModeValues::default_of(disk);
        Self { current: values, saved: values }
    }

    /// The pages of a disk that finds values it has saved before.
    pub fn with_saved(saved: ModeValues) -> Self {
        Self { current: saved, saved }
    }

    /// A logical unit reset: current values go back to the saved ones (SPC-6 5.10).
    pub fn reset(&mut self) {
        self.current = self.saved;
    }
}

/// Takes a page over into values. The error is the byte and leftmost bit of a field with a value that it must not have.
type Take = fn(&mut ModeValues, &RawPage<'_>) -> Result<(), (usize, u8)>;

/// One mode page: how it is made of values and back.
pub(crate) struct Page {
    pub(crate) code: u8,
    pub(crate) subpage: u8,
    /// Length with header.
    pub(crate) length: usize,
    /// Writes the page with the given values.
    emit: fn(&ModeValues, bool, &mut Writer<'_>),
    /// Writes the page with a one in each bit that can be changed.
    emit_changeable: fn(&DiskParameters, bool, &mut Writer<'_>),
    /// Takes a page over that differs only where it may.
    pub(crate) take: Take,
}

/// The pages of a device, ascending.
pub(crate) fn pages_of(disk: &DiskParameters) -> impl Iterator<Item = &'static Page> + use<> {
    let optical = disk.device_type == DeviceType::OPTICAL;
    PAGES.iter().filter(move |page| optical || page.code != page::OPTICAL_MEMORY)
}

/// All pages, ascending.
const PAGES: [Page; 6] = [
    Page {
        emit: |_, ps, out| recovery().emit(ps, out),
        emit_changeable: |_, ps, out| ErrorRecoveryPage::default().emit(ps, out),
        take: |_, _| Ok(()),
        ..Page::of::<ErrorRecoveryPage>()
    },
    Page::of::<OpticalMemoryPage>(),
    Page {
        emit: |values, ps, out| caching(values.write_cache).emit(ps, out),
        emit_changeable: |disk, ps, out| caching(!disk.nv_cache).emit(ps, out),
        take: take_caching,
        ..Page::of::<CachingPage>()
    },
    Page {
        emit: |values, ps, out| control(values).emit(ps, out),
        emit_changeable: |_, ps, out| CHANGEABLE_CONTROL.emit(ps, out),
        take: take_control,
        ..Page::of::<ControlPage>()
    },
    Page::of::<ControlExtensionPage>(),
    Page {
        emit: |_, ps, out| InformationalExceptionsPage { dexcpt: true, ..Default::default() }.emit(ps, out),
        ..Page::of::<InformationalExceptionsPage>()
    },
];

impl Page {
    /// A page that is all zeros and cannot be changed.
    const fn of<P: ModePage + Default>() -> Self {
        Self {
            code: P::CODE,
            subpage: P::SUBPAGE,
            length: P::LENGTH,
            emit: |_, ps, out| P::default().emit(ps, out),
            emit_changeable: |_, ps, out| P::default().emit(ps, out),
            take: |_, _| Ok(()),
        }
    }

    /// PS: whether there is anything to save, and a place for it.
    fn is_savable(&self, disk: &DiskParameters) -> bool {
        disk.saves_mode_pages && matches!((self.code, self.subpage), (page::CACHING | page::CONTROL, 0))
    }

    fn matches(&self, page: u8, subpage: u8) -> bool {
        let code = page == page::ALL || page == self.code;
        code && (subpage == page::ALL_SUBPAGES || subpage == self.subpage)
    }

    /// The page with the given values; its first `length` bytes count.
    pub(crate) fn image(&self, values: &ModeValues, disk: &DiskParameters) -> [u8; MAX_PAGE] {
        let mut image = [0; MAX_PAGE];
        (self.emit)(values, self.is_savable(disk), &mut Writer::new(&mut image));
        image
    }

    /// The page with a one for each changeable bit.
    pub(crate) fn changeable(&self, disk: &DiskParameters) -> [u8; MAX_PAGE] {
        let mut image = [0; MAX_PAGE];
        (self.emit_changeable)(disk, self.is_savable(disk), &mut Writer::new(&mut image));
        image
    }
}

/// AWRE and ARRE: the storage below reallocates by itself.
fn recovery() -> ErrorRecoveryPage {
    ErrorRecoveryPage { awre: true, arre: true, ..ErrorRecoveryPage::default() }
}

fn caching(wce: bool) -> CachingPage {
    CachingPage { wce, ..CachingPage::default() }
}

fn take_caching(values: &mut ModeValues, raw: &RawPage<'_>) -> Result<(), (usize, u8)> {
    if let Some(page) = CachingPage::parse(raw) {
        values.write_cache = page.wce;
    }
    Ok(())
}

pub(crate) fn control(values: &ModeValues) -> ControlPage {
    ControlPage {
        tst: u8::from(values.task_set_per_nexus),
        d_sense: values.descriptor_sense,
        queue_algorithm_modifier: u8::from(values.unrestricted_reordering),
        qerr: values.queue_error,
        swp: values.software_write_protect,
        tas: values.task_aborted_status,
        busy_timeout_period: BUSY_TIMEOUT,
        ..ControlPage::default()
    }
}

pub(crate) fn take_control(values: &mut ModeValues, raw: &RawPage<'_>) -> Result<(), (usize, u8)> {
    let Some(page) = ControlPage::parse(raw) else { return Ok(()) };
    values.unrestricted_reordering = match page.queue_algorithm_modifier {
        0 => false,
        1 => true,
        _ => return Err((3, 7)),
    };
    if page.qerr == 0b10 {
        return Err((3, 2));
    }
    values.queue_error = page.qerr;
    values.descriptor_sense = page.d_sense;
    values.software_write_protect = page.swp;
    values.task_aborted_status = page.tas;
    Ok(())
}

/// Answers MODE SENSE. Returns the bytes to send.
///
/// # Errors
/// SAVING PARAMETERS NOT SUPPORTED for PC = 11b without saved pages; INVALID FIELD IN CDB at PAGE CODE or SUBPAGE CODE
/// for a page that is not there.
pub fn sense(
    disk: &DiskParameters,
    state: &DiskState,
    pages: &ModePages,
    command: &ModeSense,
    buf: &mut [u8],
) -> Result<usize, SenseData> {
    let default = ModeValues::default_of(disk);
    let values = match command.control {
        0b00 => Some(&pages.current),
        0b01 => None,
        0b10 => Some(&default),
        _ if disk.saves_mode_pages => Some(&pages.saved),
        _ => return Err(SenseData::illegal_request(Asc::SAVING_PARAMETERS_NOT_SUPPORTED)),
    };
    check_page(disk, command)?;
    let mut out = Writer::new(buf);
    let (head, descriptor) = header(disk, state, command);
    head.emit_with(command.ten, descriptor, &mut out, |out| {
        for page in pages_of(disk).filter(|page| page.matches(command.page, command.subpage)) {
            let image = values.map_or_else(|| page.changeable(disk), |values| page.image(values, disk));
            out.bytes(&image[..page.length]);
        }
    });
    Ok(finish(&out, command.allocation))
}

/// Subpage 00h or FFh of a page that exists, or exactly a page that exists (SPC-6 table 226).
fn check_page(disk: &DiskParameters, command: &ModeSense) -> Result<(), SenseData> {
    if !pages_of(disk).any(|page| page.matches(command.page, page::ALL_SUBPAGES)) {
        return Err(SenseData::invalid_field_in_cdb(2, Some(5)));
    }
    let all_subpages_only = command.page == page::ALL && !matches!(command.subpage, 0 | page::ALL_SUBPAGES);
    if all_subpages_only || !pages_of(disk).any(|page| page.matches(command.page, command.subpage)) {
        return Err(SenseData::invalid_field_in_cdb(3, None));
    }
    Ok(())
}

/// Mode parameter header and block descriptor (SPC-6 7.5.5, SBC-4 6.5.1, 6.5.2).
fn header(disk: &DiskParameters, state: &DiskState, command: &ModeSense) -> (ModeHeader, Option<BlockDescriptor>) {
    let protected = disk.read_only || state.read_only || state.software_write_protect;
    let wp = if protected { device_specific::WP } else { 0 };
    let head = ModeHeader {
        medium_type: medium_type_of(disk),
        device_specific: wp | device_specific::DPOFUA,
        long_lba: command.long_lba && !command.no_block_descriptor,
        ..ModeHeader::default()
    };
    let Geometry { blocks, block_size } = state.geometry;
    let descriptor = BlockDescriptor { blocks, block_length: block_size };
    (head, (!command.no_block_descriptor).then_some(descriptor))
}

/// MEDIUM TYPE: what an optical medium is; disks have but one (SBC-4 6.5.1).
fn medium_type_of(disk: &DiskParameters) -> u8 {
    match disk.device_type {
        DeviceType::OPTICAL if disk.read_only => medium_type::OPTICAL_READ_ONLY,
        DeviceType::OPTICAL => medium_type::OPTICAL_ERASABLE,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: DiskState = DiskState {
        geometry: Geometry { block_size: 512, blocks: 0x0001_0203 },
        medium_present: true,
        read_only: false,
        software_write_protect: false,
    };

    fn request(ten: bool, control: u8, page: u8, subpage: u8) -> ModeSense {
        ModeSense { ten, no_block_descriptor: true, long_lba: false, control, page, subpage, allocation: 4096 }
    }

    fn run(disk: &DiskParameters, state: &DiskState, command: &ModeSense) -> Result<Vec<u8>, SenseData> {
        let mut buf = [0xee; 512];
        sense(disk, state, &ModePages::new(disk), command, &mut buf).map(|n| buf[..n].to_vec())
    }

    fn disk() -> DiskParameters {
        DiskParameters::new("d", "", 512)
    }

    #[test]
    fn caching_page_current_changeable_default() {
        let page = |disk: &DiskParameters, control| run(disk, &STATE, &request(false, control, 8, 0)).unwrap();
        let mut want = vec![23, 0, 0x10, 0, 0x08, 0x12, 0x04];
        want.resize(24, 0);
        for control in 0..3 {
            assert_eq!(page(&disk(), control), want, "WCE current, changeable, default");
        }
        want[6] = 0;
        let through = DiskParameters { write_through: true, ..disk() };
        assert_eq!(page(&through, 0), want);
        assert_eq!(page(&through, 1)[6], 0x04);
        let nv = DiskParameters { nv_cache: true, ..disk() };
        assert_eq!((page(&nv, 0)[6], page(&nv, 1)[6]), (0, 0));
    }

    #[test]
    fn an_optical_memory_device_tells_its_medium_and_has_a_page_of_its_own() {
        let optical = DiskParameters { device_type: DeviceType::OPTICAL, removable: true, ..disk() };
        let data = run(&optical, &STATE, &request(false, 0, 0x3f, 0)).unwrap();
        assert_eq!(data[..4], [63, 0x03, 0x10, 0]);
        assert_eq!((data[4], data[16], data[20], data[40], data[52]), (0x01, 0x06, 0x08, 0x0a, 0x1c));
        assert_eq!(data[16..20], [0x06, 0x02, 0, 0]);
        let read_only = DiskParameters { read_only: true, ..optical };
        assert_eq!(run(&read_only, &STATE, &request(true, 0, 6, 0)).unwrap()[..4], [0, 10, 0x01, 0x90]);
        assert_eq!(run(&disk(), &STATE, &request(false, 0, 6, 0)), Err(SenseData::invalid_field_in_cdb(2, Some(5))));
    }

    #[test]
    fn control_page_byte_by_byte() {
        let data = run(&disk(), &STATE, &request(true, 0, 0x0a, 0)).unwrap();
        let header = [0, 18, 0, 0x10, 0, 0, 0, 0];
        assert_eq!(data, [&header[..], &[0x0a, 0x0a, 0x20, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0]].concat());
        let mask = run(&disk(), &STATE, &request(false, 1, 0x0a, 0)).unwrap();
        assert_eq!(mask[4..], [0x0a, 0x0a, 0x04, 0xf6, 0x08, 0x40, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn control_extension_has_the_subpage_format() {
        let data = run(&disk(), &STATE, &request(false, 0, 0x0a, 1)).unwrap();
        assert_eq!(data[4..8], [0x4a, 0x01, 0x00, 0x1c]);
        assert_eq!(data.len(), 36);
    }

    #[test]
    fn all_pages_with_and_without_subpages() {
        let codes = |subpage| {
            let data = run(&disk(), &STATE, &request(false, 0, 0x3f, subpage)).unwrap();
            assert_eq!(usize::from(data[0]) + 1, data.len());
            let (mut at, mut codes) = (4, vec![]);
            while at < data.len() {
                codes.push(data[at]);
                at += if data[at] & 0x40 != 0 { 4 + usize::from(data[at + 3]) } else { 2 + usize::from(data[at + 1]) };
            }
            codes
        };
        assert_eq!(codes(0x00), [0x01, 0x08, 0x0a, 0x1c]);
        assert_eq!(codes(0xff), [0x01, 0x08, 0x0a, 0x4a, 0x1c]);
        let control = run(&disk(), &STATE, &request(false, 0, 0x0a, 0xff)).unwrap();
        assert_eq!((control[4], control[16], control.len()), (0x0a, 0x4a, 48));
    }

    #[test]
    fn block_descriptors_short_long_and_none() {
        let mut command = ModeSense { no_block_descriptor: false, ..request(false, 0, 0x1c, 0) };
        let data = run(&disk(), &STATE, &command).unwrap();
        assert_eq!(data[..12], [23, 0, 0x10, 8, 0, 1, 2, 3, 0, 0, 2, 0]);
        let huge = DiskState { geometry: Geometry { block_size: 4096, blocks: 1 << 33 }, ..STATE };
        let data = run(&disk(), &huge, &command).unwrap();
        assert_eq!(data[4..12], [0xff, 0xff, 0xff, 0xff, 0, 0, 0x10, 0]);
        command.ten = true;
        command.long_lba = true;
        let data = run(&disk(), &huge, &command).unwrap();
        assert_eq!(data[..8], [0, 34, 0, 0x10, 0x01, 0, 0, 16]);
        assert_eq!(data[8..24], [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0]);
    }

    #[test]
    fn wp_has_three_reasons() {
        let wp = |disk: &DiskParameters, state: &DiskState| run(disk, state, &request(false, 0, 8, 0)).unwrap()[2];
        assert_eq!(wp(&disk(), &STATE), 0x10);
        assert_eq!(wp(&DiskParameters { read_only: true, ..disk() }, &STATE), 0x90);
        assert_eq!(wp(&disk(), &DiskState { read_only: true, ..STATE }), 0x90);
        assert_eq!(wp(&disk(), &DiskState { software_write_protect: true, ..STATE }), 0x90);
    }

    #[test]
    fn saved_values_only_when_they_can_be_saved() {
        let refused = SenseData::illegal_request(Asc(0x3900));
        assert_eq!(run(&disk(), &STATE, &request(false, 3, 8, 0)), Err(refused));
        let saving = DiskParameters { saves_mode_pages: true, ..disk() };
        let data = run(&saving, &STATE, &request(false, 3, 0x3f, 0)).unwrap();
        assert_eq!((data[4], data[16], data[36], data[48]), (0x01, 0x88, 0x8a, 0x1c), "PS where savable");
    }

    #[test]
    fn unknown_pages_point_at_page_or_subpage() {
        let error = |page, subpage| run(&disk(), &STATE, &request(false, 0, page, subpage)).unwrap_err();
        assert_eq!(error(0x02, 0), SenseData::invalid_field_in_cdb(2, Some(5)));
        assert_eq!(error(0x08, 1), SenseData::invalid_field_in_cdb(3, None));
        assert_eq!(error(0x0a, 2), SenseData::invalid_field_in_cdb(3, None));
        assert_eq!(error(0x3f, 1), SenseData::invalid_field_in_cdb(3, None));
    }

    #[test]
    fn allocation_length_cuts_but_does_not_change_mode_data_length() {
        let command = ModeSense { allocation: 4, ..request(false, 0, 0x3f, 0) };
        assert_eq!(run(&disk(), &STATE, &command).unwrap(), [59, 0, 0x10, 0]);
    }
}
