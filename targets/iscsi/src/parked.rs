//! Read-ahead buffers that parked commands keep.
//!
//! The data of a WRITE may lie in the read-ahead buffer of its connection while the storage takes them. When the mid-level
//! parks such a command its session and its connection may go, and the buffer has to stay until the command has ended.

use std::collections::BTreeMap;

use scst_core::buffer::SgList;
use scst_core::ids::CmdId;
use scst_mem::BufferPool;

use crate::connection::{Chunk, ChunkId};
use crate::ids::Slot;

/// Names a buffer by its connection, which may be gone.
pub(crate) type Place = (Slot, ChunkId);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    commands: BTreeMap<CmdId, Place>,
    /// Buffers whose connection is gone, with the number of commands whose data are in them.
    buffers: BTreeMap<Place, (SgList, u32)>,
    /// Buffers that no command uses any more.
    unused: Vec<SgList>,
}

impl Parked {
    /// Notes where the data of a parked command are.
    pub(crate) fn insert(&mut self, cmd: CmdId, place: Place) {
        self.commands.insert(cmd, place);
    }

    /// A parked command has ended. Returns where its data were, if they were in a read-ahead buffer.
    pub(crate) fn remove(&mut self, cmd: CmdId) -> Option<Place> {
        self.commands.remove(&cmd)
    }

    /// Takes over the buffers that a connection leaves to commands.
    pub(crate) fn adopt(&mut self, connection: Slot, chunks: impl Iterator<Item = Chunk>) {
        self.buffers.extend(chunks.map(|chunk| ((connection, chunk.id), (chunk.buffer, chunk.users))));
    }

    /// A command is done with its data in a buffer whose connection is gone.
    pub(crate) fn give_back(&mut self, place: Place) {
        let Some((buffer, users)) = self.buffers.get_mut(&place) else { return };
        *users -= 1;
        if *users == 0 {
            self.unused.push(*buffer);
            self.buffers.remove(&place);
        }
    }

    /// Releases the buffers that no command uses any more.
    #[inline]
    pub(crate) fn sweep(&mut self, pool: &mut BufferPool) {
        while let Some(buffer) = self.unused.pop() {
            pool.release(&buffer);
        }
    }
}
