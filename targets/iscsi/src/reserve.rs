//! Buffers that are set aside for refusing logins when there is no memory for anything else.

use scst_core::buffer::SgList;
use scst_mem::BufferPool;

use crate::limits::{LOGIN_READ_AHEAD_BYTES, RESERVED_BUFFERS};

/// Buffers of [`LOGIN_READ_AHEAD_BYTES`], of no use for anything but logins that end with a refusal. They are there as long as
/// there are connections; one that was taken goes back to the pool in the end, and [`Reserve::fill`] gets another.
#[derive(Debug, Default)]
pub(crate) struct Reserve(Vec<SgList>);

impl Reserve {
    /// Sets aside what is missing, as far as the pool has it.
    pub(crate) fn fill(&mut self, pool: &mut BufferPool) {
        while self.0.len() < RESERVED_BUFFERS
            && let Some(buffer) = pool.allocate(LOGIN_READ_AHEAD_BYTES)
        {
            self.0.push(buffer);
        }
    }

    /// Takes one.
    pub(crate) fn take(&mut self) -> Option<SgList> {
        self.0.pop()
    }

    /// Gives all back.
    pub(crate) fn release(&mut self, pool: &mut BufferPool) {
        for buffer in self.0.drain(..) {
            pool.release(&buffer);
        }
    }
}
