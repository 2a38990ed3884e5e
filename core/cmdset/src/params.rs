//! What a virtual disk is: identity and fixed properties, apart from its capacity.

use scst_scsi::DeviceType;
use scst_scsi::bytes::Writer;
use scst_scsi::designator::{MAX_T10_SPECIFIC, Naa};
use scst_scsi::inquiry::{Tpgs, version_descriptor};

/// The longest data phase of one command; MAXIMUM TRANSFER LENGTH of VPD B0h says the same. The mid-level's buffers are
/// sized for it.
pub const MAX_TRANSFER_BYTES: u32 = 8 << 20;

/// No answer built here is longer: the size of a scratch buffer that always suffices, and the cap on the data-in length
/// of a command whose allocation length is larger.
pub const MAX_RESPONSE_BYTES: u32 = 8192;

/// Largest number of descriptors in one UNMAP parameter list (MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT).
pub const MAX_UNMAP_DESCRIPTORS: u32 = 256;

/// Bytes of an UNMAP parameter list with [`MAX_UNMAP_DESCRIPTORS`] descriptors.
pub const MAX_UNMAP_LIST_BYTES: usize = 8 + 16 * MAX_UNMAP_DESCRIPTORS as usize;

/// Capacity of the disk. Passed per call: it can change while commands are in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Bytes of a logical block; a power of two from 512.
    pub block_size: u32,
    /// Number of logical blocks; 0 when there is no medium.
    pub blocks: u64,
}

impl Geometry {
    /// The geometry of `bytes` bytes; a partial last block is not part of the disk.
    pub fn new(block_size: u32, bytes: u64) -> Self {
        Self { block_size, blocks: bytes / u64::from(block_size) }
    }

    /// Byte offset of a block that is within the capacity.
    pub fn offset(&self, lba: u64) -> u64 {
        lba * u64::from(self.block_size)
    }
}

/// What can change while the disk is in use, as it is when a command starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskState {
    /// The capacity.
    pub geometry: Geometry,
    /// There is a medium.
    pub medium_present: bool,
    /// The LUN is read-only for the nexus (or the device has become so).
    pub read_only: bool,
    /// SWP of the control mode page.
    pub software_write_protect: bool,
}

/// Logical block provisioning (SBC-4 4.7) of a thin provisioned disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Provisioning {
    /// OPTIMAL UNMAP GRANULARITY in blocks (the file system's or device's own), 0 when unknown.
    pub granularity: u32,
    /// UNMAP GRANULARITY ALIGNMENT in blocks.
    pub alignment: u32,
    /// MAXIMUM UNMAP LBA COUNT: blocks per UNMAP command.
    pub max_unmap_blocks: u32,
    /// LBPRZ: unmapped blocks read as zeros.
    pub reads_zeros: bool,
    /// ANC_SUP: blocks can be anchored (allocated without being written).
    pub anchor: bool,
}

/// Identity and fixed properties of a virtual disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskParameters {
    /// PERIPHERAL DEVICE TYPE: a disk, or an optical memory device, which has other pages and fewer commands. (For
    /// devices of other types only the identity here counts.)
    pub device_type: DeviceType,
    /// T10 VENDOR IDENTIFICATION, at most 8 characters.
    pub vendor: String,
    /// PRODUCT IDENTIFICATION, at most 16 characters: the device's name.
    pub product: String,
    /// PRODUCT REVISION LEVEL, at most 4 characters.
    pub revision: String,
    /// PRODUCT SERIAL NUMBER of VPD 80h.
    pub serial: String,
    /// Vendor specific part of the T10 vendor ID designator of VPD 83h.
    pub t10_device_id: String,
    /// NAA designator of VPD 83h. [`DiskParameters::new`] makes a locally assigned one (NAA 3h).
    pub naa: Naa,
    /// EUI-64 designator of VPD 83h.
    pub eui64: u64,
    /// Vendor specific designator of VPD 83h; none when empty.
    pub vendor_specific_id: String,
    /// SCSI name string of the target device in VPD 83h, instead of the target's name; none when empty.
    pub scsi_device_name: String,
    /// Vendor specific bytes 36 to 55 of the standard INQUIRY data.
    pub inquiry_vendor_specific: String,
    /// VERSION DESCRIPTORs of the standard INQUIRY data; at most eight.
    pub version_descriptors: Vec<u16>,
    /// TPGS field of the standard INQUIRY data: 0 without ALUA.
    pub tpgs: Tpgs,
    /// NORMACA: NACA in a CDB's CONTROL byte is obeyed. Otherwise it is an invalid field.
    pub normal_aca: bool,
    /// Bytes of a logical block; a power of two from 512.
    pub block_size: u32,
    /// LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT.
    pub physical_exponent: u8,
    /// OPTIMAL TRANSFER LENGTH in blocks, 0 when there is none.
    pub optimal_transfer_blocks: u32,
    /// MAXIMUM WRITE SAME LENGTH in blocks, 0 for no limit. The default bounds what one command can make the disk do.
    pub max_write_same_blocks: u64,
    /// Rotating medium: MEDIUM ROTATION RATE is a number, not 1.
    pub rotational: bool,
    /// RMB: the medium can be ejected.
    pub removable: bool,
    /// The device is read-only for everybody.
    pub read_only: bool,
    /// The cache needs no flush: WCE reads 0 and cannot be changed.
    pub nv_cache: bool,
    /// WCE is 0 by default.
    pub write_through: bool,
    /// TST 001b: one task set per I_T nexus; 000b, one for all, otherwise.
    pub task_set_per_nexus: bool,
    /// Peripheral qualifier 001b, device type 1Fh: a placeholder for LUN 0 that has no medium.
    pub dummy: bool,
    /// The handler can keep saved mode pages (SP, PC = 11b).
    pub saves_mode_pages: bool,
    /// Operation codes that the mid-level answers itself; REPORT SUPPORTED OPERATION CODES lists them too.
    pub mid_level_opcodes: &'static [u8],
    /// Thin provisioning, when the disk has it.
    pub provisioning: Option<Provisioning>,
}

/// REQUEST SENSE, RESERVE and RELEASE (6 and 10), REPORT LUNS.
pub const MID_LEVEL_OPCODES: [u8; 6] = [0x03, 0x16, 0x17, 0x56, 0x57, 0xa0];

/// The standards that an iSCSI disk claims.
pub const ISCSI_DISK_VERSIONS: [u16; 4] =
    [version_descriptor::SAM_5, version_descriptor::ISCSI, version_descriptor::SPC_4, version_descriptor::SBC_3];

/// The standards that an iSCSI optical memory device claims.
pub const ISCSI_OPTICAL_VERSIONS: [u16; 4] =
    [version_descriptor::SAM_5, version_descriptor::ISCSI, version_descriptor::SPC_4, version_descriptor::SBC];

/// The standards that an iSCSI tape claims.
pub const ISCSI_TAPE_VERSIONS: [u16; 4] =
    [version_descriptor::SAM_5, version_descriptor::ISCSI, version_descriptor::SPC_4, version_descriptor::SSC_3];

impl DiskParameters {
    /// A disk called `name` with everything at its default. Serial number and designators follow from `name` and from
    /// `instance` (something stable that tells this installation from others), so they survive a restart.
    pub fn new(name: &str, instance: &str, block_size: u32) -> Self {
        let id = stable_id(instance, name);
        let serial = format!("{:08x}", (id >> 32) as u32 ^ id as u32);
        Self {
            device_type: DeviceType::DISK,
            vendor: "SCST_FIO".to_owned(),
            product: name.to_owned(),
            revision: "3110".to_owned(),
            t10_device_id: t10_device_id(&serial, name, id),
            serial,
            naa: Naa::locally_assigned(id >> 4),
            eui64: locally_administered(id),
            vendor_specific_id: String::new(),
            scsi_device_name: String::new(),
            inquiry_vendor_specific: String::new(),
            version_descriptors: ISCSI_DISK_VERSIONS.to_vec(),
            tpgs: Tpgs::None,
            normal_aca: false,
            block_size,
            physical_exponent: 0,
            optimal_transfer_blocks: 0,
            max_write_same_blocks: 65_535,
            rotational: true,
            removable: false,
            read_only: false,
            nv_cache: false,
            write_through: false,
            task_set_per_nexus: true,
            dummy: false,
            saves_mode_pages: false,
            mid_level_opcodes: &MID_LEVEL_OPCODES,
            provisioning: None,
        }
    }

    /// Most blocks of one data transfer (MAXIMUM TRANSFER LENGTH).
    pub fn max_transfer_blocks(&self) -> u32 {
        MAX_TRANSFER_BYTES / self.block_size
    }

    /// MAXIMUM COMPARE AND WRITE LENGTH: the data-out are twice that, and the field has one byte.
    pub fn max_compare_and_write_blocks(&self) -> u8 {
        u8::try_from(self.max_transfer_blocks() / 2).unwrap_or(u8::MAX)
    }

    /// Default of MAXIMUM UNMAP LBA COUNT: 256 MiB a command keep a hole-punching file system responsive.
    pub fn default_max_unmap_blocks(&self) -> u32 {
        (256 << 20) / self.block_size
    }
}

/// The port that a command came through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortIdentity<'a> {
    /// Name of the target device.
    pub target_name: &'a str,
    /// RELATIVE TARGET PORT IDENTIFIER.
    pub relative_port: u16,
}

/// The vendor specific part of the T10 vendor ID designator: serial number and name. A name that does not fit into the
/// designator is cut, and the whole hash tells it from others that begin alike.
fn t10_device_id(serial: &str, name: &str, id: u64) -> String {
    let whole = format!("{serial}-{name}");
    if whole.len() <= MAX_T10_SPECIFIC {
        return whole;
    }
    let hash = format!("-{id:016x}");
    format!("{}{hash}", &whole[..whole.floor_char_boundary(MAX_T10_SPECIFIC - hash.len())])
}

/// FNV-1a over both names: not a secret, only stable and well spread.
fn stable_id(instance: &str, name: &str) -> u64 {
    let bytes = instance.bytes().chain([0]).chain(name.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    // One more round of mixing: the upper bits of FNV-1a depend little on the last characters.
    let mixed = (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

/// Marks an EUI-64 as locally administered and unicast: there is no company identifier in it.
fn locally_administered(id: u64) -> u64 {
    id & !(0x03 << 56) | 0x02 << 56
}

/// How many bytes of an answer are to be sent, given the allocation length of the CDB (SPC-6 4.2.5.6).
pub(crate) fn finish(out: &Writer<'_>, allocation_length: u32) -> usize {
    out.written().min(usize::try_from(allocation_length).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_is_stable_and_differs_by_name_and_instance() {
        let a = DiskParameters::new("disk1", "host-a", 512);
        assert_eq!(a, DiskParameters::new("disk1", "host-a", 512));
        let b = DiskParameters::new("disk2", "host-a", 512);
        let c = DiskParameters::new("disk1", "host-b", 512);
        assert_ne!((a.naa, a.eui64, &a.serial), (b.naa, b.eui64, &b.serial));
        assert_ne!((a.naa, a.eui64, &a.serial), (c.naa, c.eui64, &c.serial));
        assert_eq!(a.eui64 >> 56 & 3, 2, "locally administered, unicast");
        assert_eq!(a.serial.len(), 8);
    }

    #[test]
    fn transfer_limits_follow_the_block_size() {
        let limits = |bs| {
            let p = DiskParameters::new("d", "", bs);
            (p.max_transfer_blocks(), p.max_compare_and_write_blocks(), p.default_max_unmap_blocks())
        };
        assert_eq!(limits(512), (16384, 255, 524_288));
        assert_eq!(limits(4096), (2048, 255, 65536));
        assert_eq!(limits(65536), (128, 64, 4096));
    }

    #[test]
    fn a_partial_last_block_does_not_count() {
        assert_eq!(Geometry::new(512, 1023), Geometry { block_size: 512, blocks: 1 });
        assert_eq!(Geometry::new(4096, 1 << 40).offset(3), 12288);
    }
}
