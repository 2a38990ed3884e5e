//! Tables by device type, with a 256-entry index on the operation code.

use super::descriptor::CommandDescriptor;
use super::{optical, sbc, spc, ssc};
use crate::cdb::{Cdb, VARIABLE_LENGTH_OPCODE};
use crate::inquiry::DeviceType;
use crate::sense::{FieldPointer, SenseData};

/// The commands of a device type.
#[derive(Debug)]
pub struct OpcodeTable {
    rows: &'static [CommandDescriptor],
    index: &'static Index,
}

/// Rows of the same operation code are chained in table order.
#[derive(Debug)]
struct Index {
    first: [u8; 256],
    next: [u8; 255],
}

/// End of a chain: a table has fewer rows than this.
const END: u8 = 0xff;

impl Index {
    const fn build(rows: &[CommandDescriptor]) -> Self {
        assert!(rows.len() < END as usize);
        let mut index = Self { first: [END; 256], next: [END; 255] };
        let mut at = rows.len();
        while at > 0 {
            at -= 1;
            let opcode = rows[at].opcode as usize;
            index.next[at] = index.first[opcode];
            index.first[opcode] = at as u8;
        }
        index
    }
}

/// One table after the other.
const fn join<const N: usize>(a: &[CommandDescriptor], b: &[CommandDescriptor]) -> [CommandDescriptor; N] {
    let mut rows = [a[0]; N];
    let mut at = 0;
    while at < N {
        rows[at] = if at < a.len() { a[at] } else { b[at - a.len()] };
        at += 1;
    }
    rows
}

/// How many rows of SBC optical memory devices share with disks.
const SHARED_ROWS: usize = {
    let (mut count, mut at) = (0, 0);
    while at < sbc::ROWS.len() {
        count += optical::shares(&sbc::ROWS[at]) as usize;
        at += 1;
    }
    count
};

/// Those rows.
const SHARED: [CommandDescriptor; SHARED_ROWS] = {
    let mut rows = [sbc::ROWS[0]; SHARED_ROWS];
    let (mut count, mut at) = (0, 0);
    while at < sbc::ROWS.len() {
        if optical::shares(&sbc::ROWS[at]) {
            rows[count] = sbc::ROWS[at];
            count += 1;
        }
        at += 1;
    }
    rows
};

const SPC_AND_SHARED: [CommandDescriptor; spc::ROWS.len() + SHARED_ROWS] = join(spc::ROWS, &SHARED);

static PRIMARY_INDEX: Index = Index::build(spc::ROWS);
static DISK_ROWS: [CommandDescriptor; spc::ROWS.len() + sbc::ROWS.len()] = join(spc::ROWS, sbc::ROWS);
static DISK_INDEX: Index = Index::build(&DISK_ROWS);

static TAPE_ROWS: [CommandDescriptor; spc::ROWS.len() + ssc::ROWS.len()] = join(spc::ROWS, ssc::ROWS);
static TAPE_INDEX: Index = Index::build(&TAPE_ROWS);
static OPTICAL_ROWS: [CommandDescriptor; SPC_AND_SHARED.len() + optical::ROWS.len()] =
    join(&SPC_AND_SHARED, optical::ROWS);
static OPTICAL_INDEX: Index = Index::build(&OPTICAL_ROWS);

/// SPC commands alone: what is known of a device of any type.
pub static PRIMARY: OpcodeTable = OpcodeTable { rows: spc::ROWS, index: &PRIMARY_INDEX };
/// Direct access block devices: SPC and SBC.
pub static DISK: OpcodeTable = OpcodeTable { rows: &DISK_ROWS, index: &DISK_INDEX };
/// Sequential access devices: SPC and SSC.
pub static TAPE: OpcodeTable = OpcodeTable { rows: &TAPE_ROWS, index: &TAPE_INDEX };
/// Optical memory devices: SPC, what they share of SBC, and their own.
pub static OPTICAL: OpcodeTable = OpcodeTable { rows: &OPTICAL_ROWS, index: &OPTICAL_INDEX };

/// Why a CDB is not in a table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LookupError {
    /// No row has the operation code.
    UnknownOpcode,
    /// The operation code has service actions, but not this one. The pointer names its field.
    UnknownServiceAction(FieldPointer),
    /// The CDB has fewer bytes than the command, or (variable-length) says so. The pointer names the first byte that
    /// is missing, or the ADDITIONAL CDB LENGTH.
    WrongLength(FieldPointer),
}

impl LookupError {
    /// The sense data that report it.
    pub const fn sense(self) -> SenseData {
        match self {
            Self::UnknownOpcode => SenseData::invalid_opcode(),
            Self::UnknownServiceAction(field) | Self::WrongLength(field) => {
                SenseData::invalid_field_in_cdb(field.byte, field.bit)
            }
        }
    }
}

impl OpcodeTable {
    /// The table of a device type; SPC alone for types that have no table of their own.
    pub fn for_device(device_type: DeviceType) -> &'static Self {
        match device_type {
            DeviceType::DISK => &DISK,
            DeviceType::TAPE => &TAPE,
            DeviceType::OPTICAL => &OPTICAL,
            _ => &PRIMARY,
        }
    }

    /// All rows.
    pub fn rows(&self) -> &'static [CommandDescriptor] {
        self.rows
    }

    /// The rows of one operation code.
    pub fn with_opcode(&self, opcode: u8) -> impl Iterator<Item = &'static CommandDescriptor> + use<> {
        let (rows, index) = (self.rows, self.index);
        let chain = move |at: u8| (at != END).then_some(at);
        std::iter::successors(chain(index.first[usize::from(opcode)]), move |at| chain(index.next[usize::from(*at)]))
            .map(move |at| &rows[usize::from(at)])
    }

    /// The row of a CDB.
    ///
    /// # Errors
    /// [`LookupError`], with the sense data to report.
    pub fn lookup(&self, cdb: &Cdb) -> Result<&'static CommandDescriptor, LookupError> {
        let variable = cdb.opcode() == VARIABLE_LENGTH_OPCODE;
        let (action, pointer) = if variable {
            (cdb.u16(8), FieldPointer { in_cdb: true, byte: 8, bit: None })
        } else {
            (u16::from(cdb.bits(1, 4, 0)), FieldPointer { in_cdb: true, byte: 1, bit: Some(4) })
        };
        let mut known = false;
        let row = self
            .with_opcode(cdb.opcode())
            .inspect(|_| known = true)
            .find(|row| row.service_action.is_none_or(|wanted| wanted == action));
        let row = match row {
            Some(row) => row,
            None if known => return Err(LookupError::UnknownServiceAction(pointer)),
            None => return Err(LookupError::UnknownOpcode),
        };
        let length = usize::from(row.cdb_length);
        let pointer = |byte: usize| FieldPointer { in_cdb: true, byte: byte as u16, bit: None };
        if variable && usize::from(cdb.u8(7)) + 8 != length {
            return Err(LookupError::WrongLength(pointer(7)));
        }
        if cdb.bytes().len() < length {
            return Err(LookupError::WrongLength(pointer(cdb.bytes().len())));
        }
        Ok(row)
    }
}

/// The row of a CDB in the table of a device type.
///
/// # Errors
/// [`LookupError`], with the sense data to report.
pub fn lookup(device_type: DeviceType, cdb: &Cdb) -> Result<&'static CommandDescriptor, LookupError> {
    OpcodeTable::for_device(device_type).lookup(cdb)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{CommandFlags, DataDirection};
    use proptest::prelude::*;

    fn find(bytes: &[u8]) -> &'static CommandDescriptor {
        DISK.lookup(&Cdb::new(bytes)).unwrap()
    }

    const TABLES: [&OpcodeTable; 3] = [&DISK, &TAPE, &OPTICAL];

    #[test]
    fn every_row_is_found_by_its_own_usage_data_and_agrees_with_itself() {
        for (table, row) in TABLES.into_iter().flat_map(|table| table.rows().iter().map(move |row| (table, row))) {
            let mut cdb = [0; 32];
            cdb[..row.usage.len()].copy_from_slice(row.usage);
            let cdb = Cdb::new(&cdb[..row.usage.len()]);
            assert_eq!(table.lookup(&cdb), Ok(row), "{}", row.name);
            assert_eq!(cdb.required_length(), Some(usize::from(row.cdb_length)), "{}", row.name);
            assert_eq!(row.usage[0], row.opcode, "{}", row.name);
            assert_eq!(row.reserved_bit_set(&cdb), None, "{}", row.name);
            let fields = [row.lba, row.blocks].into_iter().flatten();
            for field in fields {
                for at in field.at..field.at + field.width {
                    assert_ne!(row.usage[usize::from(at)], 0, "{} byte {at}", row.name);
                }
            }
            let reads_without_data =
                row.flags.contains(CommandFlags::WRITES_MEDIUM) && row.direction == DataDirection::FromDevice;
            assert!(!reads_without_data, "{}", row.name);
        }
    }

    #[test]
    fn rows_are_unique() {
        for (rows, at, row) in TABLES.iter().flat_map(|t| t.rows().iter().enumerate().map(|(at, r)| (t.rows(), at, r)))
        {
            let same = |other: &&CommandDescriptor| {
                other.opcode == row.opcode
                    && (other.service_action.is_none()
                        || row.service_action.is_none()
                        || other.service_action == row.service_action)
            };
            assert_eq!(rows[at + 1..].iter().find(same), None, "{}", row.name);
        }
    }

    #[test]
    fn each_device_type_has_its_commands() {
        let name = |device_type, bytes: &[u8]| lookup(device_type, &Cdb::new(bytes)).map(|row| row.name);
        let unknown = Err(LookupError::UnknownOpcode);
        assert_eq!(name(DeviceType::TAPE, &[0x1b; 6]), Ok("LOAD UNLOAD"));
        assert_eq!(name(DeviceType::OPTICAL, &[0x1b; 6]), Ok("START STOP UNIT"));
        assert_eq!(name(DeviceType::TAPE, &[0x34; 10]), Ok("READ POSITION"));
        assert_eq!(name(DeviceType::DISK, &[0x34; 10]), Ok("PRE-FETCH(10)"));
        assert_eq!(name(DeviceType::TAPE, &[0x28; 10]), unknown);
        assert_eq!(name(DeviceType::OPTICAL, &[0xac; 12]), Ok("ERASE(12)"));
        assert_eq!(name(DeviceType::DISK, &[0xac; 12]), unknown);
        assert_eq!(name(DeviceType::OPTICAL, &[0x42; 10]), unknown, "no UNMAP");
        assert!(name(DeviceType::OPTICAL, &[0x9e, 0x12]).is_err(), "no GET LBA STATUS");
        assert_eq!(name(DeviceType::CHANGER, &[0x12; 6]), Ok("INQUIRY"));
        assert_eq!(name(DeviceType::CHANGER, &[0x08; 6]), unknown);
    }

    #[test]
    fn tape_lengths_are_in_blocks_or_in_bytes() {
        let length = |bytes: &[u8], block: u32| {
            let cdb = Cdb::new(bytes);
            let row = TAPE.lookup(&cdb).unwrap();
            (row.data_length(&cdb, block), row.data_direction(&cdb))
        };
        assert_eq!(length(&[0x08, 1, 0, 0, 3, 0], 1024), (3072, DataDirection::FromDevice));
        assert_eq!(length(&[0x08, 0, 1, 0, 3, 0], 1024), (0x01_0003, DataDirection::FromDevice));
        assert_eq!(length(&[0x0a, 1, 0, 0, 0, 0], 1024), (0, DataDirection::None));
        assert_eq!(length(&[0x13, 1, 0, 0, 3, 0], 512), (0, DataDirection::None));
        assert_eq!(length(&[0x13, 3, 0, 0, 3, 0], 512), (1536, DataDirection::ToDevice));
    }

    #[test]
    fn ranges_and_lengths() {
        let cdb = Cdb::new(&[0x08, 0xff, 0x02, 0x03, 0, 0]);
        let row = find(cdb.bytes());
        assert_eq!((row.lba(&cdb), row.blocks(&cdb)), (Some(0x1f_0203), Some(256)));
        assert_eq!((row.data_length(&cdb, 512), row.data_direction(&cdb)), (131_072, DataDirection::FromDevice));

        let cdb = Cdb::new(&[0x28, 0, 0, 0, 0, 9, 0, 0, 0, 0]);
        let row = find(cdb.bytes());
        assert_eq!((row.blocks(&cdb), row.data_direction(&cdb)), (Some(0), DataDirection::None));

        let mut bytes = [0; 16];
        bytes[0] = 0x89;
        bytes[9] = 7;
        bytes[13] = 2;
        let cdb = Cdb::new(&bytes);
        let row = find(&bytes);
        assert_eq!((row.lba(&cdb), row.blocks(&cdb), row.data_length(&cdb, 4096)), (Some(7), Some(2), 16384));
    }

    #[test]
    fn verify_takes_data_by_bytchk_and_write_same_by_ndob() {
        for (bits, expected) in [(0, 0), (0x02, 3 * 512), (0x04, 0), (0x06, 512)] {
            let cdb = Cdb::new(&[0x2f, bits, 0, 0, 0, 0, 0, 0, 3, 0]);
            assert_eq!(find(cdb.bytes()).data_length(&cdb, 512), expected);
        }
        let mut bytes = [0; 16];
        (bytes[0], bytes[13]) = (0x93, 9);
        assert_eq!(find(&bytes).data_length(&Cdb::new(&bytes), 512), 512);
        bytes[1] = 0x09;
        let cdb = Cdb::new(&bytes);
        assert_eq!((find(&bytes).data_length(&cdb, 512), find(&bytes).data_direction(&cdb)), (0, DataDirection::None));
    }

    #[test]
    fn unknown_commands_point_at_what_is_unknown() {
        let error = |bytes: &[u8]| DISK.lookup(&Cdb::new(bytes)).unwrap_err().sense();
        assert_eq!(error(&[0xff, 0, 0, 0, 0, 0]), SenseData::invalid_opcode());
        assert_eq!(error(&[0x9e, 0x1f]), SenseData::invalid_field_in_cdb(1, Some(4)));
        assert_eq!(error(&[0x7f, 0, 0, 0, 0, 0, 0, 0x18, 0xff, 0xff]), SenseData::invalid_field_in_cdb(8, None));
        assert_eq!(error(&[0x28, 0, 0, 0]), SenseData::invalid_field_in_cdb(4, None));
        let mut read_32 = [0; 32];
        (read_32[0], read_32[7], read_32[9]) = (0x7f, 0x17, 0x09);
        assert_eq!(error(&read_32), SenseData::invalid_field_in_cdb(7, None));
        assert_eq!(PRIMARY.lookup(&Cdb::new(&[0x28; 10])), Err(LookupError::UnknownOpcode));
    }

    #[test]
    fn reserved_bits_are_found_but_group_numbers_are_free() {
        let check = |bytes: &[u8]| find(bytes).reserved_bit_set(&Cdb::new(bytes)).map(|p| (p.byte, p.bit));
        assert_eq!(check(&[0x28, 0x18, 0, 0, 0, 0, 0x1f, 0, 1, 0xc0]), None);
        assert_eq!(check(&[0x28, 0x20, 0, 0, 0, 0, 0, 0, 1, 0]), Some((1, Some(5))));
        assert_eq!(check(&[0x12, 0x03, 0, 0, 0xff, 0]), Some((1, Some(1))));
        assert_eq!(check(&[0x5a, 0, 0x3f, 0, 0, 0, 1, 0, 0xff, 0]), Some((6, Some(0))));
        assert_eq!(check(&[0xa3, 0x2c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Some((1, Some(5))));
    }

    #[test]
    fn reservation_classes_follow_the_tables() {
        use CommandFlags as F;
        let classes =
            |bytes: &[u8]| find(bytes).flags & (F::RESERVED_OK | F::WRITE_EXCLUSIVE_OK | F::EXCLUSIVE_ACCESS_OK);
        assert_eq!(classes(&[0x12, 0, 0, 0, 0, 0]), F::RESERVED_OK | F::WRITE_EXCLUSIVE_OK | F::EXCLUSIVE_ACCESS_OK);
        assert_eq!(classes(&[0x28; 10]), F::WRITE_EXCLUSIVE_OK);
        assert_eq!(classes(&[0x2a; 10]), F::empty());
        assert_eq!(classes(&[0x1a; 6]), F::WRITE_EXCLUSIVE_OK);
        assert_eq!(classes(&[0x17; 6]), F::RESERVED_OK | F::WRITE_EXCLUSIVE_OK | F::EXCLUSIVE_ACCESS_OK);
        assert_eq!(classes(&[0x16; 6]), F::WRITE_EXCLUSIVE_OK | F::EXCLUSIVE_ACCESS_OK);
        assert!(find(&[0x35; 10]).flags.contains(F::FLUSH) && !find(&[0x35; 10]).flags.contains(F::WRITES_MEDIUM));
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_up_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let cdb = Cdb::new(&bytes);
            for row in TABLES.iter().filter_map(|table| table.lookup(&cdb).ok()) {
                let _ = (row.lba(&cdb), row.blocks(&cdb), row.data_length(&cdb, 1 << 20), row.reserved_bit_set(&cdb));
            }
        }
    }
}
