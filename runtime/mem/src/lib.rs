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
//! the kernel may use, or touch memory that nobody has asked for. An [`Extent`](scst_core::buffer::Extent) is checked against its arena on every access.
#![deny(unsafe_op_in_unsafe_fn)]

mod arena;
mod buddy;
mod pool;

pub use arena::{ArenaInfo, Arenas, MAX_ARENAS};
pub use buddy::{CLASSES, PAGE_BYTES};
pub use pool::{BufferPool, CacheConfig, ClassStatistics, MAX_CLASS_BYTES, PoolConfig, PoolStatistics};
