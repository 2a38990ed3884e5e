//! Command buffers: arenas, size classes, byte budget (the SGV cache)
