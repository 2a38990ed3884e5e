//! What is measured: targets, reference points, and in which cases each takes part.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::cases::Case;

/// Size of every disk; files are filled, so that reads hit the page cache and not a hole.
pub(super) const DISK_SIZE: u64 = 256 << 20;

/// The part of a contender in the comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// Ours, nothing behind the LUN.
    ScstdNull,
    /// Each connection has a LUN of its own.
    ScstdPrivate,
    /// Two reactors on the same core.
    ScstdTwo,
    /// With the adaptive spin.
    ScstdPoll,
    /// A file in the page cache.
    ScstdFile,
    /// The same, READ or WRITE without a copy.
    ScstdZeroCopy,
    /// Past the page cache, on a block device.
    ScstdDirect,
    /// Debian's tgt, its stores.
    TgtNull,
    /// Threads.
    TgtRdwr,
    /// Linux AIO, which it opens with O_DIRECT where it can.
    TgtAio,
    /// Debian's nbdkit with its memory plugin.
    Nbdkit,
    /// The minimal responder.
    Limit,
    /// The same bytes without PDUs.
    Echo,
    /// `pread` and `pwrite`.
    Inline,
    /// fio with io_uring.
    Fio,
    /// One CRC32C over what a command moves.
    Pass,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ScstdNull => "scstd nullio",
            Self::ScstdPrivate => "scstd nullio, private LUNs",
            Self::ScstdTwo => "scstd nullio, 2 reactors",
            Self::ScstdPoll => "scstd nullio, poll_us",
            Self::ScstdFile => "scstd fileio",
            Self::ScstdZeroCopy => "scstd fileio, zero-copy",
            Self::ScstdDirect => "scstd O_DIRECT",
            Self::TgtNull => "tgt null",
            Self::TgtRdwr => "tgt rdwr",
            Self::TgtAio => "tgt aio",
            Self::Nbdkit => "nbdkit memory",
            Self::Limit => "limit",
            Self::Echo => "echo",
            Self::Inline => "inline pread/pwrite",
            Self::Fio => "fio io_uring",
            Self::Pass => "one CRC32C pass",
        }
    }

    /// Whether it takes part in a case.
    pub(super) fn plays(self, case: &Case) -> bool {
        match self {
            Self::ScstdPrivate | Self::ScstdTwo => case.connections > 1 && !case.digests,
            Self::ScstdPoll => case.depth == 1,
            Self::Nbdkit | Self::Echo => !case.digests,
            Self::Inline => case.connections == 1 && !case.digests,
            Self::Fio => case.connections == 1 && !case.digests,
            Self::Pass => case.connections == 1 && case.digests,
            Self::ScstdZeroCopy | Self::ScstdDirect => case.connections == 1,
            _ => true,
        }
    }
}

/// How its load is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// iSCSI: target name and first LUN.
    Iscsi { portal: SocketAddr, target: &'static str, lun: u32, pid: u32 },
    /// NBD.
    Nbd { portal: SocketAddr, pid: u32 },
    /// Bytes.
    Echo { portal: SocketAddr, pid: u32 },
    /// A file, without a target.
    File(PathBuf),
    /// The processor alone.
    Processor,
}

/// One target and LUN to measure.
#[derive(Clone, Debug)]
pub(super) struct Contender {
    pub(super) role: Role,
    pub(super) way: Way,
}

impl Contender {
    #[cfg(test)]
    pub(super) fn for_test(role: Role) -> Self {
        Self { role, way: Way::File(PathBuf::new()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Operation;

    #[test]
    fn each_role_plays_where_it_says_something() {
        let case = |depth, connections, digests| Case::new(Operation::Read, 4096, depth, connections, digests);
        assert!(Role::Limit.plays(&case(32, 64, true)));
        assert!(!Role::ScstdPrivate.plays(&case(32, 1, false)) && Role::ScstdPrivate.plays(&case(32, 4, false)));
        assert!(Role::ScstdPoll.plays(&case(1, 1, false)) && !Role::ScstdPoll.plays(&case(32, 1, false)));
        assert!(!Role::Nbdkit.plays(&case(32, 1, true)) && !Role::Fio.plays(&case(32, 4, false)));
        assert!(Role::Pass.plays(&case(32, 1, true)) && !Role::Pass.plays(&case(32, 1, false)));
    }
}
