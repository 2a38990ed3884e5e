//! One row of an opcode table, and how to read a CDB by it.

use crate::cdb::{Cdb, VARIABLE_LENGTH_OPCODE};
use crate::flags::{CommandFlags, DataDirection};
use crate::sense::FieldPointer;

/// A big-endian number in a CDB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Offset of the first byte.
    pub at: u8,
    /// Number of bytes.
    pub width: u8,
    /// Which bits of the first byte belong to it.
    pub first_mask: u8,
}

impl Field {
    /// A field of whole bytes.
    pub const fn new(at: u8, width: u8) -> Self {
        Self { at, width, first_mask: 0xff }
    }

    /// Its value in a CDB.
    pub fn get(self, cdb: &Cdb) -> u64 {
        let mask = u64::from(self.first_mask) << (8 * (self.width - 1));
        let rest = (1u64 << (8 * (self.width - 1))) - 1;
        cdb.uint(usize::from(self.at), usize::from(self.width)) & (mask | rest)
    }

    /// A pointer to it, for sense data.
    pub fn pointer(self) -> FieldPointer {
        let bit = (self.first_mask != 0xff).then(|| 7 - self.first_mask.leading_zeros() as u8);
        FieldPointer { in_cdb: true, byte: u16::from(self.at), bit }
    }
}

/// How long the data phase is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataLength {
    /// No data.
    None,
    /// So many bytes, whatever the CDB says.
    Fixed(u32),
    /// Data-in of at most so many bytes (ALLOCATION LENGTH).
    Allocation(Field),
    /// Data-out of so many bytes (PARAMETER LIST LENGTH).
    ParameterList(Field),
    /// So many logical blocks.
    Blocks(Field),
    /// So many logical blocks, where zero means 256 (READ(6) and WRITE(6), SBC-4 5.16).
    BlocksOr256(Field),
    /// One logical block, or none when the NDOB bit (byte and bit given) is set (WRITE SAME).
    OneBlock(Option<(u8, u8)>),
    /// By BYTCHK in bits 2 and 1 of the given byte: 00b none, 01b so many blocks, 11b one block (VERIFY, SBC-4 5.36).
    Verify(Field, u8),
    /// Twice so many logical blocks: what to compare with and what to write (COMPARE AND WRITE, SBC-4 5.3).
    TwiceBlocks(Field),
    /// By FIXED in bit 0 of byte 1 (READ(6) of SSC-5): one, so many blocks of the current block length; zero, one block of so
    /// many bytes.
    Sequential(Field),
    /// The same, but none unless BYTCMP in bit 1 of byte 1 is set (VERIFY(6) and (16) of SSC-5).
    SequentialVerify(Field),
    /// The CDB does not say.
    Unknown,
}

/// Times of the command timeouts descriptor (SPC-6 6.42.4), in seconds; zero is "not indicated".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Timeout {
    /// NOMINAL COMMAND PROCESSING TIMEOUT.
    pub nominal: u32,
    /// RECOMMENDED COMMAND TIMEOUT.
    pub recommended: u32,
}

/// A command: one operation code, or one service action of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommandDescriptor {
    /// OPERATION CODE.
    pub opcode: u8,
    /// SERVICE ACTION, for operation codes that have them.
    pub service_action: Option<u16>,
    /// The standard's name.
    pub name: &'static str,
    /// Bytes in the CDB.
    pub cdb_length: u8,
    /// Direction of the data phase when there is one.
    pub direction: DataDirection,
    /// How long the data phase is.
    pub length: DataLength,
    /// LOGICAL BLOCK ADDRESS.
    pub lba: Option<Field>,
    /// Number of logical blocks that the command works on.
    pub blocks: Option<Field>,
    /// What the mid-level must know.
    pub flags: CommandFlags,
    /// CDB USAGE DATA (SPC-6 6.42.3): operation code and service action as values, then a one for each bit that is
    /// evaluated. RDPROTECT and its kin, and GROUP NUMBER, are zero: reserved as far as these tables go.
    pub usage: &'static [u8],
    /// Timeouts.
    pub timeout: Timeout,
}

impl CommandDescriptor {
    /// A row of a command without data; the functions below fill in the rest.
    pub(super) const fn new(name: &'static str, usage: &'static [u8]) -> Self {
        Self {
            opcode: usage[0],
            service_action: None,
            name,
            cdb_length: usage.len() as u8,
            direction: DataDirection::None,
            length: DataLength::None,
            lba: None,
            blocks: None,
            flags: CommandFlags::empty(),
            usage,
            timeout: Timeout { nominal: 0, recommended: 30 },
        }
    }

    /// With the service action that is in the usage data.
    pub(super) const fn service_action(mut self) -> Self {
        self.service_action = Some(if self.opcode == VARIABLE_LENGTH_OPCODE {
            (self.usage[8] as u16) << 8 | self.usage[9] as u16
        } else {
            (self.usage[1] & 0x1f) as u16
        });
        self
    }

    /// With data-in, cut at the allocation length.
    pub(super) const fn allocation(mut self, at: u8, width: u8) -> Self {
        self.direction = DataDirection::FromDevice;
        self.length = DataLength::Allocation(Field::new(at, width));
        self
    }

    /// With a parameter list.
    pub(super) const fn parameters(mut self, at: u8, width: u8) -> Self {
        self.direction = DataDirection::ToDevice;
        self.length = DataLength::ParameterList(Field::new(at, width));
        self
    }

    /// With data.
    pub(super) const fn data(mut self, direction: DataDirection, length: DataLength) -> Self {
        self.direction = direction;
        self.length = length;
        self
    }

    /// With a range of logical blocks.
    pub(super) const fn range(mut self, lba: Field, blocks: Option<Field>) -> Self {
        self.lba = Some(lba);
        self.blocks = blocks;
        self
    }

    /// With flags.
    pub(super) const fn flags(mut self, flags: CommandFlags) -> Self {
        self.flags = self.flags.union(flags);
        self
    }

    /// With a recommended timeout in seconds.
    pub(super) const fn timeout(mut self, recommended: u32) -> Self {
        self.timeout.recommended = recommended;
        self
    }

    /// The logical block address in a CDB of this command.
    pub fn lba(&self, cdb: &Cdb) -> Option<u64> {
        Some(self.lba?.get(cdb))
    }

    /// The number of logical blocks in a CDB of this command (256 for a zero in READ(6) and WRITE(6)). What else a
    /// zero means ("to the end of the medium", ...) is the command set's to say.
    pub fn blocks(&self, cdb: &Cdb) -> Option<u64> {
        let blocks = self.blocks?.get(cdb);
        let zero_is_256 = matches!(self.length, DataLength::BlocksOr256(_));
        Some(if blocks == 0 && zero_is_256 { 256 } else { blocks })
    }

    /// Length of the data phase in bytes: for data-in the most there can be. Commands of [`DataLength::Unknown`] give
    /// zero, and bear [`CommandFlags::UNKNOWN_LENGTH`].
    pub fn data_length(&self, cdb: &Cdb, block_size: u32) -> u64 {
        let block = u64::from(block_size);
        match self.length {
            DataLength::None | DataLength::Unknown => 0,
            DataLength::Fixed(bytes) => u64::from(bytes),
            DataLength::Allocation(field) | DataLength::ParameterList(field) => field.get(cdb),
            DataLength::Blocks(field) => field.get(cdb) * block,
            DataLength::BlocksOr256(field) => match field.get(cdb) {
                0 => 256 * block,
                blocks => blocks * block,
            },
            DataLength::OneBlock(Some((byte, bit))) if cdb.bit(usize::from(byte), bit) => 0,
            DataLength::OneBlock(_) => block,
            DataLength::Verify(field, byte) => match cdb.bits(usize::from(byte), 2, 1) {
                0b01 => field.get(cdb) * block,
                0b11 if field.get(cdb) > 0 => block,
                _ => 0,
            },
            DataLength::TwiceBlocks(field) => 2 * field.get(cdb) * block,
            DataLength::SequentialVerify(_) if !cdb.bit(1, 1) => 0,
            DataLength::Sequential(field) | DataLength::SequentialVerify(field) => {
                field.get(cdb) * if cdb.bit(1, 0) { block } else { 1 }
            }
        }
    }

    /// Direction of the data phase of a CDB: None when its length is zero.
    pub fn data_direction(&self, cdb: &Cdb) -> DataDirection {
        let unknown = self.length == DataLength::Unknown;
        if unknown || self.data_length(cdb, 1) > 0 { self.direction } else { DataDirection::None }
    }

    /// The first bit that is set in a CDB though the usage data say that it is not evaluated. GROUP NUMBER and the
    /// vendor specific bits of CONTROL are passed over: an initiator may set them for its own purposes.
    pub fn reserved_bit_set(&self, cdb: &Cdb) -> Option<FieldPointer> {
        let variable = self.opcode == VARIABLE_LENGTH_OPCODE;
        let control = if variable { 1 } else { self.usage.len() - 1 };
        let group = match (self.opcode, self.usage.len()) {
            (VARIABLE_LENGTH_OPCODE, _) => Some(6),
            (_, 10) => Some(6),
            (_, 12) => Some(10),
            (_, 16) => Some(14),
            _ => None,
        }
        .filter(|_| self.lba.is_some());
        (1..self.usage.len()).find_map(|at| {
            let service_action = match (self.service_action, variable, at) {
                (Some(_), false, 1) => 0x1f,
                (Some(_), true, 7..=9) => 0xff,
                _ => 0,
            };
            let free = match at {
                _ if at == control => 0xc0,
                _ if Some(at) == group => 0x3f,
                _ => 0,
            };
            let wrong = cdb.u8(at) & !(self.usage[at] | service_action | free);
            (wrong != 0).then(|| FieldPointer {
                in_cdb: true,
                byte: at as u16,
                bit: Some(7 - wrong.leading_zeros() as u8),
            })
        })
    }
}
