//! What an error of the storage means to the initiator.

use scst_core::handler::Outcome;
use scst_scsi::{Asc, ScsiStatus, SenseData, SenseKey};

/// What was being done when the error came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Doing {
    /// Reading, with the first block that is missing.
    Read(u64),
    /// Writing, with the first block that is not written.
    Write(u64),
    /// Making earlier writes durable.
    Flush,
}

/// NOT READY while the backing file is away: somebody has to bring it back.
pub(crate) fn not_ready() -> SenseData {
    SenseData::not_ready(Asc::LUN_NOT_READY_MANUAL_INTERVENTION_REQUIRED)
}

/// NOT READY while the file is back but not yet known to this reactor: initiators retry this one by themselves.
pub(crate) fn becoming_ready() -> SenseData {
    SenseData::not_ready(Asc::LUN_BECOMING_READY)
}

/// The data-out are fewer than the command needs.
pub(crate) fn incomplete_data() -> SenseData {
    SenseData::illegal_request(Asc::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT)
}

/// Whether the errno says that the device behind the file is gone, so that opening it again may help.
pub(crate) fn is_gone(errno: i32) -> bool {
    matches!(errno, libc::ENODEV | libc::ENXIO | libc::ESTALE | libc::EBADF | libc::ESHUTDOWN | libc::ENOTCONN)
}

/// Whether the storage says that it cannot do the operation at all, not that it failed.
pub(crate) fn is_unsupported(errno: i32) -> bool {
    matches!(errno, libc::EOPNOTSUPP | libc::ENOSYS | libc::ENOTTY | libc::EINVAL)
}

/// How a command ends whose operation failed with a (positive) errno.
pub(crate) fn outcome(doing: Doing, errno: i32) -> Outcome {
    match errno {
        // Whatever has kept data from being written back, they are lost: it does not help to ask again.
        errno if doing == Doing::Flush && errno != libc::ECANCELED && !is_gone(errno) => {
            Outcome::check(sense(doing, errno))
        }
        // The initiator may simply try again.
        libc::EAGAIN | libc::ENOMEM | libc::ENOBUFS | libc::EBUSY => Outcome::status(ScsiStatus::BUSY),
        // Somebody else has reserved the device behind the disk.
        libc::EBADE => Outcome::status(ScsiStatus::RESERVATION_CONFLICT),
        // The way to the device behind the disk, not its medium.
        libc::ETIMEDOUT => aborted(Asc::LUN_COMMUNICATION_TIMEOUT),
        libc::ENOLINK => aborted(Asc::LUN_COMMUNICATION_FAILURE),
        libc::ECANCELED | libc::EINTR => aborted(Asc::NO_ADDITIONAL_SENSE_INFORMATION),
        errno if is_gone(errno) => Outcome::check(not_ready()),
        errno => Outcome::check(sense(doing, errno)),
    }
}

/// The initiator may send the command again.
fn aborted(asc: Asc) -> Outcome {
    Outcome::check(SenseData::new(SenseKey::ABORTED_COMMAND, asc))
}

fn sense(doing: Doing, errno: i32) -> SenseData {
    match (doing, errno) {
        (Doing::Read(lba), _) => SenseData::unrecovered_read_error(lba),
        (_, libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => SenseData::space_allocation_failed(),
        (_, libc::EROFS | libc::EPERM | libc::EACCES) => SenseData::write_protected(),
        (Doing::Write(lba), _) => SenseData::write_error(lba),
        // Which blocks are lost is not known: no INFORMATION.
        (Doing::Flush, _) => SenseData::new(SenseKey::MEDIUM_ERROR, Asc::WRITE_ERROR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_failure_has_its_sense() {
        let check = |sense| Outcome::check(sense);
        assert_eq!(outcome(Doing::Read(7), libc::EIO), check(SenseData::unrecovered_read_error(7)));
        assert_eq!(outcome(Doing::Write(7), libc::EIO), check(SenseData::write_error(7)));
        assert_eq!(outcome(Doing::Write(7), libc::ENOSPC), check(SenseData::space_allocation_failed()));
        for errno in [libc::EAGAIN, libc::ENOMEM, libc::ETIMEDOUT, libc::ENOLINK, libc::EINTR] {
            assert_eq!(outcome(Doing::Flush, errno), outcome(Doing::Flush, libc::EIO), "data are lost");
        }
        assert_eq!(outcome(Doing::Flush, libc::EDQUOT), check(SenseData::space_allocation_failed()));
        assert_eq!(outcome(Doing::Write(7), libc::EROFS), check(SenseData::write_protected()));
        assert_eq!(outcome(Doing::Read(7), libc::ESTALE), check(not_ready()));
        assert_eq!(outcome(Doing::Write(7), libc::EAGAIN), Outcome::status(ScsiStatus::BUSY));
        assert_eq!(outcome(Doing::Write(7), libc::EBADE), Outcome::status(ScsiStatus::RESERVATION_CONFLICT));
        assert_eq!(outcome(Doing::Read(7), libc::ENOLINK), aborted(Asc::LUN_COMMUNICATION_FAILURE));
        // What the block layer says of a medium and of a device that refuses.
        for errno in [libc::ENODATA, libc::EREMOTEIO, libc::EILSEQ] {
            assert_eq!(outcome(Doing::Read(7), errno), check(SenseData::unrecovered_read_error(7)));
            assert_eq!(outcome(Doing::Write(9), errno), check(SenseData::write_error(9)));
        }
        assert_eq!(outcome(Doing::Flush, libc::EIO).sense.unwrap().information, None);
    }
}
