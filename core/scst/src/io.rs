//! Storage operations as data. A device handler submits them; a reactor's back-end carries them out.

use crate::buffer::{Extent, SgList};
use crate::ids::CmdId;

/// A file that a back-end knows (an open file or block device, or a simulated disk).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileId(pub u32);

/// Who gets the completion of an operation: a command and the handler's own tag (which step it was).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct IoToken {
    /// The command.
    pub cmd: CmdId,
    /// The handler's tag.
    pub tag: u8,
}

/// One operation on a file. The extents stay valid and untouched until the operation's own completion.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the sentence on each variant names its fields")]
pub enum IoOp<'a> {
    /// Reads `len` bytes at `offset` of the file into byte `sg_offset` and following of the list.
    Read { file: FileId, offset: u64, sg: &'a SgList, sg_offset: u32, len: u32 },
    /// Writes; with `dsync` the data are durable when it completes (RWF_DSYNC).
    Write { file: FileId, offset: u64, sg: &'a SgList, sg_offset: u32, len: u32, dsync: bool },
    /// Makes all completed writes durable (fdatasync).
    Flush { file: FileId },
    /// Starts read-ahead of a range (POSIX_FADV_WILLNEED); never fails visibly.
    Prefetch { file: FileId, offset: u64, len: u64 },
    /// Deallocates a range, which then reads as zeros; the size stays (punch hole, BLKDISCARD with zeroing).
    Discard { file: FileId, offset: u64, len: u64 },
    /// Tells the storage that a range is not needed: what it reads as is undefined until it is written again
    /// (BLKDISCARD).
    Trim { file: FileId, offset: u64, len: u64 },
    /// Makes a range read as zeros, keeping it allocated (zero range, BLKZEROOUT).
    Zero { file: FileId, offset: u64, len: u64 },
    /// Preallocates a range (fallocate keep size), for ANCHOR.
    Allocate { file: FileId, offset: u64, len: u64 },
    /// Asks for the allocation state at `offset`: the result is positive for data, zero for a hole; the length of the
    /// run, up to `len`, comes with the completion's `extra`.
    Mapped { file: FileId, offset: u64, len: u64 },
}

/// The end of one operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoCompletion {
    /// Whose it is.
    pub token: IoToken,
    /// Bytes moved or zero, or a negative errno.
    pub result: i32,
    /// Second result, see [`IoOp::Mapped`].
    pub extra: u64,
}

/// The back-end had no room; the handler answers BUSY.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueFull;

/// The submission side of a back-end.
///
/// Contract: neither `submit` nor `try_now` blocks; every accepted operation completes exactly once, also after `cancel`, which is
/// only a request. A short transfer is reported as such and never hidden.
pub trait IoQueue {
    /// Accepts an operation.
    ///
    /// # Errors
    /// [`QueueFull`] when the in-flight limit is reached; nothing was started then.
    fn submit(&mut self, token: IoToken, op: IoOp<'_>) -> Result<(), QueueFull>;
    /// Carries out a READ or WRITE at once, when that takes no waiting: a read from the page cache, a write into it.
    /// The result is that of the completion, and may be short; there is none to follow. None: there is no result, `submit` is
    /// the way, and of a WRITE a part may have been written already.
    fn try_now(&mut self, op: &IoOp<'_>) -> Option<i32> {
        let _ = op;
        None
    }
    /// Asks that all operations of a command end early.
    fn cancel(&mut self, cmd: CmdId);
    /// Data of a file as they are in the page cache, to be answered with instead of being read; None when there are
    /// some that are not there, when to read them costs no more, or when there is no such thing. The extent follows the file until it is released (as a
    /// buffer), and only the kernel may look at its bytes.
    fn cached_pages(&mut self, file: FileId, offset: u64, len: u32) -> Option<Extent> {
        let _ = (file, offset, len);
        None
    }
}
