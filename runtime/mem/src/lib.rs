//! Command buffers (the SGV cache of the original): arenas mapped once, power-of-two size classes, a byte budget.
//!
//! Who calls it: a reactor owns one [`BufferPool`] and hands it to the engine as
//! [`BufferSource`](scst_core::buffer::BufferSource), to target drivers for headers and payload, and to its back-end,
//! which turns extents into addresses through the shared, append-only [`Arenas`].
//!
//! Memory that nobody has needed for a while goes back to the system in small steps ([`BufferPool::maintain`], called once
//! per turn of the reactor); its addresses stay.
//!
//! What it never does: lock, allocate per call, unmap an arena while it lives, give back memory that is in use or that
//! the kernel may use, or touch memory that nobody has asked for. An [`Extent`](scst_core::buffer::Extent) is checked
//! against its arena on every access.
//!
//! The arenas also lend extents of page-cached files ([`FilePages`]). They go the way of buffers, to the back-end and, in
//! the end, back to the pool; only their bytes are for nobody but the kernel.
#![deny(unsafe_op_in_unsafe_fn)]

mod arena;
mod buddy;
mod mapping;
mod pool;

pub use arena::{ArenaInfo, Arenas, MAX_ARENAS};
pub use buddy::{CLASSES, PAGE_BYTES};
pub use mapping::{FilePages, MAX_MAPPED_FILES, is_memory_file};
pub use pool::{BufferPool, CacheConfig, ClassStatistics, MAX_CLASS_BYTES, PoolConfig, PoolStatistics};
