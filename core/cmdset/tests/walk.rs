//! Every page of a device, walked by its length fields as an initiator does, for all names and attribute values.
//!
//! Lengths that are computed, and their limits: VPD pages 00h, 80h and 83h (a byte for each designator: T10 vendor ID,
//! vendor specific, SCSI name string), standard INQUIRY data, MODE SENSE(6) (a byte for all pages of disks, optical memory
//! devices and tapes) and MODE SENSE(10), log pages, REPORT SUPPORTED OPERATION CODES, REPORT DENSITY SUPPORT.

use proptest::prelude::*;
use scst_cmdset::log::LogData;
use scst_cmdset::params::MAX_RESPONSE_BYTES;
use scst_cmdset::ssc::{TapeModes, TapeParameters, TapeState, mode_sense, report_density};
use scst_cmdset::{Answers, DiskParameters, DiskState, Geometry, ModePages, PortIdentity, Provisioning, parse};
use scst_scsi::designator::{Association, Designator, DesignatorId, Naa};
use scst_scsi::opcode::SupportedTmfs;
use scst_scsi::{Cdb, DeviceType};

/// The answer to a CDB; None where the device says that it does not have what is asked for.
fn ask(disk: &DiskParameters, target: &str, cdb: &[u8]) -> Option<Vec<u8>> {
    let cdb = Cdb::new(cdb);
    let command = parse(&cdb, disk).ok()?.command;
    let answers = Answers {
        disk,
        state: &DiskState {
            geometry: Geometry { block_size: disk.block_size, blocks: 1 << 33 },
            medium_present: true,
            read_only: disk.read_only,
            software_write_protect: false,
        },
        pages: &ModePages::new(disk),
        log: &LogData::default(),
        port: PortIdentity { target_name: target, relative_port: 0xffff },
        tmfs: SupportedTmfs::ABORT_TASK,
    };
    let mut buf = vec![0xee; MAX_RESPONSE_BYTES as usize];
    let length = answers.build(&command, &cdb, &mut buf).expect("a command that is answered from values").ok()?;
    Some(buf[..length].to_vec())
}

fn be16(bytes: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
}

fn vpd(disk: &DiskParameters, target: &str, page: u8) -> Vec<u8> {
    let data = ask(disk, target, &[0x12, 1, page, 0xff, 0xff, 0]).expect("a VPD page");
    assert_eq!((data[1], be16(&data[2..]) + 4), (page, data.len()));
    data
}

/// The designators of VPD page 83h, which fill it to its end.
fn designators(page: &[u8]) -> Vec<Designator<'_>> {
    let mut found = Vec::new();
    let mut rest = &page[4..];
    while !rest.is_empty() {
        let length = usize::from(rest[3]);
        let (designator, next) = Designator::parse(rest).expect("a designator");
        if matches!(designator.id, DesignatorId::ScsiName(_)) {
            // SPC-6 7.7.6.11: null-terminated, null-padded to a multiple of four.
            assert!(length.is_multiple_of(4) && rest[4 + length - 1] == 0);
        }
        found.push(designator);
        rest = next;
    }
    found
}

/// Mode pages one after the other; returns their codes and subpage codes.
fn mode_pages(mut rest: &[u8]) -> Vec<(u8, u8)> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (subpage, length) = match rest[0] & 0x40 {
            0 => (0, 2 + usize::from(rest[1])),
            _ => (rest[1], 4 + be16(&rest[2..])),
        };
        found.push((rest[0] & 0x3f, subpage));
        rest = &rest[length..];
    }
    found
}

fn walk_mode(six: &[u8], ten: &[u8]) {
    assert_eq!(usize::from(six[0]) + 1, six.len());
    assert_eq!(be16(ten) + 2, ten.len());
    let pages = mode_pages(&six[4 + usize::from(six[3])..]);
    assert!(pages.is_sorted() && !pages.is_empty());
    assert_eq!(mode_pages(&ten[8 + be16(&ten[6..])..]), pages);
}

fn walk(disk: &DiskParameters, target: &str) {
    let inquiry = ask(disk, target, &[0x12, 0, 0, 0xff, 0xff, 0]).expect("INQUIRY data");
    assert_eq!(usize::from(inquiry[4]) + 5, inquiry.len());
    assert!(inquiry[8..36].iter().all(|b| (0x20..0x7f).contains(b)));
    for page in &vpd(disk, target, 0)[4..] {
        vpd(disk, target, *page);
    }
    let page = vpd(disk, target, 0x83);
    let found = designators(&page);
    let own = found.iter().filter(|d| d.association == Association::LogicalUnit);
    assert_eq!(own.count(), 3 + usize::from(!disk.vendor_specific_id.is_empty()));
    assert!(found.iter().any(|d| d.id == DesignatorId::Naa(disk.naa)));
    let named = target.starts_with("iqn.") && target.len() <= 223;
    assert_eq!(found.iter().any(|d| d.id == DesignatorId::ScsiName(target)), named && disk.scsi_device_name.is_empty());
    for control in [0, 0x40, 0x80] {
        let six = ask(disk, target, &[0x1a, 0, control | 0x3f, 0xff, 0xff, 0]).expect("MODE SENSE(6)");
        let ten =
            ask(disk, target, &[0x5a, 0x10, control | 0x3f, 0xff, 0, 0, 0, 0xff, 0xff, 0]).expect("MODE SENSE(10)");
        walk_mode(&six, &ten);
    }
    let list = ask(disk, target, &[0x4d, 0, 0x40, 0, 0, 0, 0, 0xff, 0xff, 0]).expect("the list of log pages");
    for page in &list[4..] {
        let data = ask(disk, target, &[0x4d, 0, 0x40 | page, 0, 0, 0, 0, 0xff, 0xff, 0]).expect("a log page");
        assert_eq!(be16(&data[2..]) + 4, data.len());
        let mut rest = if *page == 0 { &[] } else { &data[4..] };
        while !rest.is_empty() {
            rest = &rest[4 + usize::from(rest[3])..];
        }
    }
    let list = ask(disk, target, &[0xa3, 0x0c, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0]).expect("operation codes");
    assert_eq!(be16(&list[2..]) + 4, list.len());
}

fn walk_tape(identity: &DiskParameters) {
    let identity = DiskParameters { device_type: DeviceType::TAPE, ..identity.clone() };
    let tape = TapeParameters { identity, capacity: 1 << 40, early_warning: 1 << 39, block_length: 512 };
    let state = TapeState { loaded: true, write_protected: false };
    let modes = TapeModes::default_of(&tape);
    let sense = |ten| {
        let command = scst_cmdset::command::ModeSense {
            ten,
            no_block_descriptor: false,
            long_lba: false,
            control: 0,
            page: 0x3f,
            subpage: 0xff,
            allocation: 0xffff,
        };
        let mut buf = [0xee; MAX_RESPONSE_BYTES as usize];
        let length = mode_sense(&tape, &state, &modes, &command, &mut buf).expect("mode pages");
        buf[..length].to_vec()
    };
    walk_mode(&sense(false), &sense(true));
    let mut buf = [0xee; 256];
    let length = report_density(&tape, 0xffff, &mut buf);
    assert_eq!(be16(&buf) + 2, length);
}

/// Names as scst.conf takes them: up to 255 bytes, no blanks, slashes, braces or quotes.
fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z0-9._:#-]{1,255}", "[a-zA-Z0-9._:#-]{225,255}", "[äß€😀]{1,63}", "[a-z]{200}[äß€😀]{1,13}"]
}

fn text(longest: usize) -> impl Strategy<Value = Option<String>> {
    proptest::option::of(proptest::string::string_regex(&format!("[ -~]{{1,{longest}}}")).expect("a pattern"))
}

prop_compose! {
    fn device()(
        name in name(),
        instance in "[0-9a-f]{0,32}",
        vendor in text(8),
        product in text(16),
        revision in text(4),
        serial in text(20),
        t10 in text(127),
        own_id in text(32),
        own_name in text(251),
        naa in proptest::option::of(any::<u128>()),
        kind in 0..3u8,
        (exponent, removable, read_only, is_thin) in (0..16u8, any::<bool>(), any::<bool>(), any::<bool>()),
    ) -> DiskParameters {
        let disk = DiskParameters::new(&name, &instance, 512);
        let thin = Provisioning { granularity: 8, alignment: 0, max_unmap_blocks: 1, reads_zeros: true, anchor: true };
        DiskParameters {
            device_type: if kind == 2 { DeviceType::OPTICAL } else { DeviceType::DISK },
            dummy: kind == 1,
            vendor: vendor.unwrap_or(disk.vendor),
            product: product.unwrap_or(disk.product),
            revision: revision.unwrap_or(disk.revision),
            serial: serial.unwrap_or(disk.serial),
            t10_device_id: t10.unwrap_or(disk.t10_device_id),
            vendor_specific_id: own_id.unwrap_or_default(),
            scsi_device_name: own_name.unwrap_or_default(),
            naa: naa.map_or(disk.naa, |id| Naa::Extended(id >> 4 | 6 << 124)),
            physical_exponent: exponent,
            provisioning: (kind == 0 && is_thin).then_some(thin),
            removable,
            read_only,
            ..DiskParameters::new(&name, &instance, 512)
        }
    }
}

/// Names that another program accepts and this one does not are no names in SCSI name string designators.
fn target() -> impl Strategy<Value = String> {
    prop_oneof!["iqn\\.[a-z0-9.:-]{0,219}", "iqn\\.[a-z0-9.:-]{210,230}", "21:00:00:e0:8b:83:11:22"]
}

proptest! {
    #[test]
    fn every_page_is_as_long_as_it_says(disk in device(), target in target()) {
        walk(&disk, &target);
        walk_tape(&disk);
    }

    /// Names that differ anywhere make designators that differ.
    #[test]
    fn devices_of_any_two_names_are_told_apart(a in name(), b in name(), last in "[a-z]") {
        let near = format!("{}{last}", a.strip_suffix(|_: char| true).unwrap_or(""));
        for b in [b, near].iter().filter(|b| **b != a) {
            let (a, b) = (DiskParameters::new(&a, "here", 512), DiskParameters::new(b, "here", 512));
            let (a, b) = (vpd(&a, "t", 0x83), vpd(&b, "t", 0x83));
            for (a, b) in designators(&a).iter().zip(designators(&b)).take(3) {
                prop_assert_ne!(a.id, b.id);
            }
        }
    }
}

#[test]
fn a_long_name_is_cut_and_told_apart_by_its_hash() {
    let specific = |name: &str| {
        let disk = DiskParameters::new(name, "here", 512);
        let page = vpd(&disk, "t", 0x83);
        match designators(&page)[0].id {
            DesignatorId::T10VendorId { specific, .. } => (usize::from(page[7]), specific.to_owned()),
            id => panic!("{id:?}"),
        }
    };
    // What fits is as it always was: initiators know such a disk by it.
    let name = "d".repeat(238);
    let (length, whole) = specific(&name);
    assert_eq!((length, &whole[8..]), (255, format!("-{name}").as_str()));
    let (length, cut) = specific(&"d".repeat(239));
    assert_eq!((length, cut.len()), (255, 247));
    assert_eq!(&cut[8..231], format!("-{}-", "d".repeat(221)).as_str());
    assert_ne!(specific(&"d".repeat(240)).1, cut);
}
