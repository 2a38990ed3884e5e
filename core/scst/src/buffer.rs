//! Command buffers as plain data: where bytes are, never the bytes themselves.

/// A run of bytes in an arena of `runtime/mem` (or, later, of a guest or an RDMA region).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Extent {
    /// Which arena.
    pub arena: u32,
    /// Length in bytes.
    pub len: u32,
    /// Offset of the first byte in the arena.
    pub offset: u64,
}

impl Extent {
    /// The part of the extent that starts at `from` and is at most `len` bytes long.
    #[must_use]
    pub fn slice(self, from: u32, len: u32) -> Self {
        let from = from.min(self.len);
        Self { arena: self.arena, len: len.min(self.len - from), offset: self.offset + u64::from(from) }
    }
}

/// Most extents in one command's buffer: with 1 MiB the largest size class this allows [`MAX_TRANSFER_BYTES`].
pub const MAX_EXTENTS: usize = 8;
/// The longest data phase of one command; the MAXIMUM TRANSFER LENGTH of VPD B0h says the same.
pub const MAX_TRANSFER_BYTES: u32 = 8 << 20;

/// The scatter list of one command. All extents but the last have the same power-of-two size.
#[derive(Clone, Copy, Debug, Default)]
pub struct SgList {
    extents: [Extent; MAX_EXTENTS],
    count: u8,
    bytes: u32,
}

impl PartialEq for SgList {
    /// What is behind the last extent does not count.
    fn eq(&self, other: &Self) -> bool {
        self.extents() == other.extents()
    }
}

impl Eq for SgList {}

impl SgList {
    /// Adds an extent at the end. Returns false when there is no room.
    pub fn push(&mut self, extent: Extent) -> bool {
        let at = usize::from(self.count);
        if at == MAX_EXTENTS {
            return false;
        }
        self.extents[at] = extent;
        self.count += 1;
        self.bytes += extent.len;
        true
    }

    /// Makes it the same as another list. Copies the extents that there are, which with commands of up to 1 MiB is one.
    #[inline]
    pub fn assign(&mut self, other: &Self) {
        (self.count, self.bytes) = (other.count, other.bytes);
        self.extents[0] = other.extents[0];
        if other.count > 1 {
            self.extents = other.extents;
        }
    }

    /// Makes it one extent.
    #[inline]
    pub fn set(&mut self, extent: Extent) {
        (self.count, self.bytes) = (1, extent.len);
        self.extents[0] = extent;
    }

    /// Makes it empty.
    #[inline]
    pub fn clear(&mut self) {
        (self.count, self.bytes) = (0, 0);
    }

    /// The extents in order.
    #[inline]
    pub fn extents(&self) -> &[Extent] {
        &self.extents[..usize::from(self.count)]
    }

    /// Sum of the lengths.
    #[inline]
    pub fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Whether there is no byte.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The extents that hold bytes `from .. from + len`, cut to that range.
    pub fn range(&self, from: u32, len: u32) -> impl Iterator<Item = Extent> + '_ {
        let mut skip = from;
        let mut left = len.min(self.bytes.saturating_sub(from));
        self.extents().iter().filter_map(move |e| {
            if left == 0 {
                return None;
            }
            if skip >= e.len {
                skip -= e.len;
                return None;
            }
            let part = e.slice(skip, left);
            skip = 0;
            left -= part.len;
            Some(part)
        })
    }
}

/// Access to the bytes of extents, for command emulation and the like; data paths pass extents on instead.
///
/// Ranges past the end of the list are cut, never an error: the caller has sized the list.
pub trait Memory {
    /// Copies `data` into the list at `offset`. Returns how many bytes found room.
    fn copy_in(&mut self, sg: &SgList, offset: u32, data: &[u8]) -> usize;
    /// Copies bytes at `offset` of the list to `out`. Returns how many there were.
    fn copy_out(&self, sg: &SgList, offset: u32, out: &mut [u8]) -> usize;
    /// Fills `len` bytes at `offset` with `value`.
    fn fill(&mut self, sg: &SgList, offset: u32, len: u32, value: u8);
}

/// Where a shard gets command buffers from.
pub trait BufferSource: Memory {
    /// A buffer of `bytes` (at most [`MAX_TRANSFER_BYTES`]), page-aligned; None when the budget or the pool is used
    /// up. Its content is undefined unless strict security asks for zeros.
    fn allocate(&mut self, bytes: u32) -> Option<SgList>;
    /// The same into a list that is there already, which costs less; false instead of None.
    fn allocate_into(&mut self, bytes: u32, sg: &mut SgList) -> bool {
        let list = self.allocate(bytes);
        sg.assign(&list.unwrap_or_default());
        list.is_some()
    }
    /// Gives a buffer back.
    fn release(&mut self, sg: &SgList);
}
