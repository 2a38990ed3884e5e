//! What a command costs, in instructions: scenarios for `cargo xtask cost`.
//!
//! `cargo xtask cost` runs the program of this crate under callgrind, once per scenario, counts the instructions that
//! fall into [`meter::measured`] and compares them with `budget.toml` beside this crate. Instructions do not depend on
//! how busy the machine is, so a growth of a few per cent is seen.
//!
//! * [`meter`]: what is counted and what is not.
//! * [`scenario`]: the list: the engine and the shard alone, the protocol alone, the whole path, the buffer pool.
//! * [`mid_level`], [`protocol`], [`path`], [`pool`]: the scenarios; [`backend`]: a back-end that costs nothing.
//!
//! It measures no time, and takes part in no build of the daemon.

pub mod backend;
pub mod meter;
pub mod mid_level;
pub mod path;
pub mod pool;
pub mod protocol;
pub mod scenario;

/// Commands read or write so many bytes.
pub const BYTES: u32 = 4096;
/// Logical block size of the disk.
pub const BLOCK: u32 = 512;
/// Size of the disk.
pub const DISK_BYTES: u64 = 1 << 30;

/// What the commands of a scenario do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// READ (10).
    Read,
    /// WRITE (10) with immediate data.
    Write,
}

impl Direction {
    /// The CDB of the command with this number; ranges differ so that nothing is read or written twice in a row.
    pub fn cdb(self, number: u32) -> [u8; 10] {
        let opcode = match self {
            Self::Read => 0x28,
            Self::Write => 0x2a,
        };
        let blocks = BYTES / BLOCK;
        let lba = number.wrapping_mul(0x9e37_79b1) % (DISK_BYTES as u32 / BYTES) * blocks;
        let [a, b, c, d] = lba.to_be_bytes();
        [opcode, 0, a, b, c, d, 0, 0, blocks as u8, 0]
    }
}
