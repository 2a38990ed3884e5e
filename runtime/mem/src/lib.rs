//! Command buffers (the SGV cache of the original): arenas mapped once, power-of-two size classes, a byte budget.
//!
//! One [`BufferPool`] per reactor; not shared, no lock. It implements [`scst_core::buffer::Memory`].
