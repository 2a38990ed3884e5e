//! Scatter lists for the kernel.
#![allow(unsafe_code)]

use scst_core::buffer::Extent;
use scst_mem::Arenas;

/// An `iovec` that may move between threads: it is an address range of an arena that outlives the operation.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct IoVec(libc::iovec);

// SAFETY: it is only an address; nobody dereferences it but the kernel, on behalf of the operation's owner.
unsafe impl Send for IoVec {}
// SAFETY: as above.
unsafe impl Sync for IoVec {}

/// A list of ranges that is consumed from the front. Keeps its capacity over its uses.
#[derive(Default)]
pub(crate) struct IoVecs {
    list: Vec<IoVec>,
    start: usize,
}

impl IoVecs {
    /// With room for so many ranges.
    pub(crate) fn with_capacity(ranges: usize) -> Self {
        Self { list: Vec::with_capacity(ranges), start: 0 }
    }

    /// Replaces the content. Neighbours in memory become one range. None when an extent is not in its arena.
    pub(crate) fn set(&mut self, arenas: &Arenas, extents: impl IntoIterator<Item = Extent>) -> Option<u32> {
        self.list.clear();
        self.start = 0;
        let mut total = 0u32;
        for extent in extents {
            let base = arenas.resolve(extent)?.as_ptr();
            total = total.checked_add(extent.len)?;
            match self.list.last_mut() {
                Some(last) if last.0.iov_base as usize + last.0.iov_len == base as usize => {
                    last.0.iov_len += extent.len as usize;
                }
                _ if extent.len == 0 => {}
                _ => self.list.push(IoVec(libc::iovec { iov_base: base.cast(), iov_len: extent.len as usize })),
            }
        }
        Some(total)
    }

    /// Drops the first `n` bytes.
    pub(crate) fn advance(&mut self, mut n: usize) {
        while n > 0 {
            let first = &mut self.list[self.start].0;
            if n < first.iov_len {
                // SAFETY: `n` is less than the length, so the address stays within the range.
                first.iov_base = unsafe { first.iov_base.byte_add(n) };
                first.iov_len -= n;
                return;
            }
            n -= first.iov_len;
            self.start += 1;
        }
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut libc::iovec {
        self.list[self.start..].as_mut_ptr().cast()
    }

    pub(crate) fn as_ptr(&self) -> *const libc::iovec {
        self.list[self.start..].as_ptr().cast()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len() - self.start
    }

    /// Address and length when there is exactly one range.
    pub(crate) fn single(&self) -> Option<(*mut u8, u32)> {
        match &self.list[self.start..] {
            [one] => Some((one.0.iov_base.cast(), u32::try_from(one.0.iov_len).ok()?)),
            _ => None,
        }
    }
}

/// A `msghdr` over these ranges.
pub(crate) fn header(iov: &mut IoVecs) -> libc::msghdr {
    // SAFETY: all zeros is a valid msghdr: no address, no ranges, no control data.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = iov.as_mut_ptr();
    header.msg_iovlen = iov.len() as _;
    header
}

#[cfg(test)]
mod tests {
    use scst_mem::{BufferPool, PoolConfig};

    use super::*;

    #[test]
    fn neighbours_merge_and_the_front_is_consumed() {
        let mut pool = BufferPool::new(PoolConfig { budget: 1 << 20, ..PoolConfig::default() });
        pool.allocate(1).unwrap();
        let at = |offset, len| Extent { arena: 0, offset, len };
        let mut iov = IoVecs::default();
        assert_eq!(iov.set(pool.arenas(), [at(0, 48), at(48, 16), at(4096, 100), at(9, 0)]), Some(164));
        assert_eq!(iov.len(), 2);
        iov.advance(60);
        assert_eq!(iov.len(), 2);
        iov.advance(5);
        let base = pool.as_ptr(at(4096 + 1, 0)).as_ptr();
        assert_eq!(iov.single(), Some((base, 99)));
        iov.advance(99);
        assert_eq!(iov.len(), 0);
        assert_eq!(iov.set(pool.arenas(), [at(1 << 20, 1)]), None);
    }
}
