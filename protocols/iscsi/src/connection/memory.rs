//! Memory for the data of requests that are no commands: pings and texts.
//!
//! The data of commands go to buffers of the driver's, which have a budget. These go to the heap, so connections share a
//! budget of their own. A little is always there, so that the pings of most initiators need no share of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Data of a request up to this length need no share.
pub const SMALL_REQUEST: usize = 4096;
/// Time for the data segment of a ping or a text to come, and for the next part of an unfinished text.
pub const REQUEST_TIMEOUT: u64 = 30 * 1_000_000_000;

/// A budget for the data of pings and texts, shared by the connections that have a clone of it.
#[derive(Clone, Debug)]
pub struct RequestMemory(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    limit: u64,
    used: AtomicU64,
}

impl RequestMemory {
    /// Makes a budget of so many bytes.
    pub fn new(limit: u64) -> Self {
        Self(Arc::new(Budget { limit, used: AtomicU64::new(0) }))
    }

    /// Counts the bytes in use.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        let take = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.0.limit);
        self.0.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// What one holder has of the budget. Dropping it gives it back.
#[derive(Debug, Default)]
pub(crate) struct Share {
    bytes: u64,
    memory: Option<RequestMemory>,
}

impl Share {
    /// Makes sure of a share for data of this length. Returns false when the budget is used up; nothing has changed then.
    pub(crate) fn cover(&mut self, length: usize, memory: &RequestMemory) -> bool {
        let more = (length as u64).saturating_sub(self.bytes);
        if length <= SMALL_REQUEST || more == 0 {
            return true;
        }
        let taken = memory.take(more);
        if taken {
            self.bytes += more;
            self.memory.get_or_insert_with(|| memory.clone());
        }
        taken
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some(memory) = &self.memory {
            memory.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

/// The data of a request, or of the answer to one, with its share of the budget.
#[derive(Debug, Default)]
pub(crate) struct RequestData {
    pub(crate) bytes: Vec<u8>,
    share: Share,
    /// Bytes that are kept; the rest is thrown away.
    keep: usize,
    /// Some bytes have been thrown away.
    lost: bool,
}

impl RequestData {
    /// Makes room for a data segment of this length: for all of it, or for the little that is always there.
    pub(crate) fn begin(length: usize, memory: &RequestMemory) -> Self {
        let mut share = Share::default();
        let keep = if share.cover(length, memory) { length } else { SMALL_REQUEST };
        Self { bytes: Vec::new(), share, keep, lost: false }
    }

    /// Makes no room: what comes is thrown away.
    pub(crate) fn nothing() -> Self {
        Self::default()
    }

    /// Takes the next part.
    pub(crate) fn push(&mut self, part: &[u8]) {
        if self.bytes.is_empty() {
            // Once, so that growing never holds twice what the share is for.
            self.bytes.reserve_exact(self.keep);
        }
        let take = part.len().min(self.keep - self.bytes.len());
        self.bytes.extend_from_slice(&part[..take]);
        self.lost |= take < part.len();
    }

    /// Tells whether all bytes have been kept.
    pub(crate) fn is_whole(&self) -> bool {
        !self.lost
    }

    /// Gives up the bytes and keeps the share.
    pub(crate) fn into_share(self) -> Share {
        self.share
    }
}

impl From<Vec<u8>> for RequestData {
    fn from(bytes: Vec<u8>) -> Self {
        Self { keep: bytes.len(), bytes, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_small_is_always_there_and_the_rest_is_shared_and_given_back() {
        let memory = RequestMemory::new(10_000);
        let mut first = RequestData::begin(9000, &memory);
        let mut second = RequestData::begin(9000, &memory);
        let small = RequestData::begin(SMALL_REQUEST, &memory);
        assert_eq!((memory.used(), small.keep), (9000, 4096));
        for data in [&mut first, &mut second] {
            data.push(&[1; 5000]);
            data.push(&[2; 4000]);
        }
        assert_eq!((first.bytes.len(), first.is_whole()), (9000, true));
        assert_eq!((second.bytes.len(), second.is_whole()), (4096, false));
        drop(first);
        assert_eq!(memory.used(), 0);
        let mut share = Share::default();
        assert!(share.cover(6000, &memory) && share.cover(9999, &memory) && share.cover(5000, &memory));
        assert!(!share.cover(10_001, &memory));
        assert_eq!(memory.used(), 9999);
        drop(share);
        assert_eq!(memory.used(), 0);
    }
}
