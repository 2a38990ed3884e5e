//! What the system says of an open file or block device. Blocks: for the control plane, before a file is registered.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

const BLKROGET: libc::Ioctl = libc::_IO(0x12, 94);
const BLKGETSIZE64: libc::Ioctl = libc::_IOR::<usize>(0x12, 114);

/// What transfers past the page cache (O_DIRECT) must be multiples of, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirectAlignment {
    /// Address of every piece of memory.
    pub memory: u32,
    /// Offset in the file, and length of every piece.
    pub offset: u32,
}

/// Whether a file can be used with O_DIRECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DirectSupport {
    /// With this alignment.
    Aligned(DirectAlignment),
    /// The file system has no O_DIRECT for this file.
    Impossible,
    /// Neither the kernel (STATX_DIOALIGN came with Linux 6.1) nor the file system tells.
    Unknown,
}

/// Drops the pages of a file that are not to be written any more from the page cache, as far as nobody uses them. Reads see
/// after that what the storage has.
pub fn drop_clean_pages(file: &File) {
    // SAFETY: no memory is passed. It is advice, and never fails visibly.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

/// Asks for the alignment that O_DIRECT wants: `statx` first, and for a block device its logical block size.
///
/// # Errors
/// What the system says when asked.
pub fn direct_support(file: &File, block_device: bool) -> io::Result<DirectSupport> {
    // SAFETY: all zeros is a valid statx for the kernel to overwrite.
    let mut facts: libc::statx = unsafe { mem::zeroed() };
    let (fd, flags) = (file.as_raw_fd(), libc::AT_EMPTY_PATH);
    // SAFETY: the path is a C string, and `facts` is valid for the kernel to write to.
    let result = unsafe { libc::statx(fd, c"".as_ptr(), flags, libc::STATX_DIOALIGN, &raw mut facts) };
    if result == 0 && facts.stx_mask & libc::STATX_DIOALIGN != 0 {
        return Ok(match (facts.stx_dio_mem_align, facts.stx_dio_offset_align) {
            (0, _) | (_, 0) => DirectSupport::Impossible,
            (memory, offset) => DirectSupport::Aligned(DirectAlignment { memory, offset }),
        });
    }
    if !block_device {
        return Ok(DirectSupport::Unknown);
    }
    // Before Linux 6.0 memory had to be aligned as the offset is.
    let sector = logical_block_size(file)?;
    Ok(DirectSupport::Aligned(DirectAlignment { memory: sector, offset: sector }))
}

/// The logical block size of a block device (its sector).
///
/// # Errors
/// What the system says; ENOTTY for anything but a block device.
pub fn logical_block_size(device: &File) -> io::Result<u32> {
    let mut size: libc::c_int = 0;
    // SAFETY: BLKSSZGET writes an int.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), libc::BLKSSZGET as _, &raw mut size) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    u32::try_from(size).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The size of a block device in bytes.
///
/// # Errors
/// What the system says; ENOTTY for anything but a block device.
pub fn block_device_bytes(device: &File) -> io::Result<u64> {
    let mut bytes = 0_u64;
    // SAFETY: BLKGETSIZE64 writes 64 bits.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), BLKGETSIZE64 as _, &raw mut bytes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(bytes) }
}

/// Tells whether an open file or block device cannot be written any more, whatever it was opened for: a block device was set
/// read-only (blockdev --setro, losetup -r), a file system was mounted read-only or has done that itself after an error, a file
/// is immutable or may only be appended to (chattr(1)).
///
/// # Errors
/// What the system says when asked.
pub fn is_write_protected(file: &File, block_device: bool) -> io::Result<bool> {
    let fd = file.as_raw_fd();
    if block_device {
        let mut read_only: libc::c_int = 0;
        // SAFETY: BLKROGET writes an int.
        let result = unsafe { libc::ioctl(fd, BLKROGET as _, &raw mut read_only) };
        return if result < 0 { Err(io::Error::last_os_error()) } else { Ok(read_only != 0) };
    }
    // SAFETY: all zeros is a valid statvfs for the system to overwrite.
    let mut system: libc::statvfs = unsafe { mem::zeroed() };
    // SAFETY: `system` is valid to be written to.
    if unsafe { libc::fstatvfs(fd, &raw mut system) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all zeros is a valid statx for the kernel to overwrite.
    let mut facts: libc::statx = unsafe { mem::zeroed() };
    // SAFETY: the path is a C string, and `facts` is valid for the kernel to write to.
    if unsafe { libc::statx(fd, c"".as_ptr(), libc::AT_EMPTY_PATH, 0, &raw mut facts) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let fixed = (libc::STATX_ATTR_IMMUTABLE | libc::STATX_ATTR_APPEND) as u64;
    Ok(system.f_flag & libc::ST_RDONLY != 0 || facts.stx_attributes & fixed != 0)
}

/// Opens a file once more: a new open file description, that is, with a memory of its own for errors of writeback, of
/// which the kernel tells each description once. By its descriptor, so that it is the same file whatever has become of
/// its name; where /proc is not mounted, by `path`, if that is still the same file. `flags` are those of open(2) beside the mode.
///
/// # Errors
/// What the system says, or that the path is another file now.
pub fn open_again(file: &File, path: &Path, writable: bool, flags: i32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(writable).custom_flags(flags);
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    let by_number = match options.open(own) {
        Ok(again) => return Ok(again),
        Err(error) => error,
    };
    if by_number.kind() != io::ErrorKind::NotFound {
        return Err(by_number);
    }
    let again = options.open(path)?;
    let identity = |file: &File| file.metadata().map(|m| (m.dev(), m.ino(), m.rdev()));
    if identity(&again)? != identity(file)? {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the path is another file now"));
    }
    Ok(again)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom, Write};

    use super::*;

    #[test]
    fn a_file_opened_again_is_the_same_file_in_a_description_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        file.write_all(b"abc").unwrap();
        // The name is gone; the file is not.
        std::fs::remove_file(&path).unwrap();
        let mut again = open_again(&file, &path, false, 0).unwrap();
        let mut text = String::new();
        again.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
        again.seek(SeekFrom::Start(1)).unwrap();
        assert_eq!(file.stream_position().unwrap(), 3, "its own position");
        assert_eq!(again.write(b"x").unwrap_err().raw_os_error(), Some(libc::EBADF), "its own mode");
    }

    #[test]
    fn a_file_is_no_block_device() {
        let file = tempfile::tempfile().unwrap();
        assert!(!is_write_protected(&file, false).unwrap());
        assert_eq!(is_write_protected(&file, true).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
        assert_eq!(block_device_bytes(&file).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
        assert_eq!(logical_block_size(&file).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
    }

    #[test]
    fn the_alignment_of_a_file_is_powers_of_two() {
        let file = tempfile::tempfile().unwrap();
        if let DirectSupport::Aligned(alignment) = direct_support(&file, false).unwrap() {
            assert!(alignment.memory.is_power_of_two() && alignment.offset.is_power_of_two(), "{alignment:?}");
        }
    }
}
