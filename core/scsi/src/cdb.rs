//! Command descriptor blocks.

/// The longest CDB that is kept: SPC-6 4.2.5 variable-length CDBs of SBC are 32 bytes.
pub const MAX_CDB_LENGTH: usize = 32;

/// A command descriptor block of 6 to 32 bytes; bytes past `len` are zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cdb {
    bytes: [u8; MAX_CDB_LENGTH],
    len: u8,
}

impl Cdb {
    /// Copies a CDB. A longer one than [`MAX_CDB_LENGTH`] is cut: no command that is implemented here has one, so the
    /// opcode table rejects it by its length.
    pub fn new(bytes: &[u8]) -> Self {
        let len = bytes.len().min(MAX_CDB_LENGTH);
        let mut cdb = Self { bytes: [0; MAX_CDB_LENGTH], len: len as u8 };
        cdb.bytes[..len].copy_from_slice(&bytes[..len]);
        cdb
    }

    /// The bytes of the CDB.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Byte 0, the operation code.
    pub fn opcode(&self) -> u8 {
        self.bytes[0]
    }
}
