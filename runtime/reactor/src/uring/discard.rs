//! Discard by the ring (BLOCK_URING_CMD_DISCARD, Linux 6.12): no thread waits for it.
//!
//! Only for devices that are used past the page cache: with cached pages in the way the kernel may refuse.

use std::fs::File;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, squeue, types};

const COMMAND: u32 = libc::_IO(0x12, 0) as u32;

/// Discards a range of a block device.
pub(crate) fn entry(fd: types::Fd, offset: u64, len: u64) -> squeue::Entry {
    // The length is in `addr3`, which the space for the command's own data overlays.
    let mut data = [0; 16];
    data[..8].copy_from_slice(&len.to_ne_bytes());
    opcode::UringCmd16::new(fd, COMMAND).addr(Some(offset)).cmd(data).build()
}

/// Whether the kernel can do it for this device: nothing is discarded, and that is EINVAL where the command is known.
pub(crate) fn works_on(device: &File) -> bool {
    let Ok(mut ring) = IoUring::new(2) else { return false };
    let entry = entry(types::Fd(device.as_raw_fd()), 0, 0);
    // SAFETY: the entry points to nothing, and the descriptor is open until the completion has been waited for.
    if unsafe { ring.submission().push(&entry) }.is_err() || ring.submit_and_wait(1).is_err() {
        return false;
    }
    ring.completion().next().is_some_and(|completion| completion.result() == -libc::EINVAL)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    #[test]
    fn a_block_device_has_it_from_linux_6_12_on() {
        let dir = tempfile::tempdir().unwrap();
        let device = scst_testkit::LoopDevice::new(&dir.path().join("image"), 1 << 20, 512);
        let device = device.unwrap_or_else(|e| panic!("{e:#}"));
        let file = OpenOptions::new().read(true).write(true).open(device.path()).unwrap();
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
        let version = (numbers.next().unwrap(), numbers.next().unwrap());
        assert_eq!(works_on(&file), version >= (6, 12), "on {release}");
    }

    #[test]
    fn a_file_has_no_such_command() {
        assert!(!works_on(&tempfile::tempfile().unwrap()));
    }
}
