//! Digests over payload where it lies.

use scst_core::buffer::SgList;
use scst_mem::BufferPool;
use scst_protocol_iscsi::digest::crc32c;

/// CRC32C of bytes `offset .. offset + len` of a buffer, continued from that of the bytes before them.
pub(crate) fn crc_of(pool: &BufferPool, sg: &SgList, offset: u32, len: u32, before: u32) -> u32 {
    sg.range(offset, len).fold(before, |crc, extent| crc32c(crc, pool.bytes(extent)))
}

#[cfg(test)]
mod tests {
    use scst_core::buffer::Memory;
    use scst_mem::PoolConfig;

    use super::*;

    #[test]
    fn a_buffer_of_several_extents_is_one_row_of_bytes() {
        let mut pool = BufferPool::new(PoolConfig { budget: 8 << 20, ..PoolConfig::default() });
        let sg = pool.allocate((1 << 20) + 4096).unwrap();
        assert_eq!(sg.extents().len(), 2);
        let data: Vec<u8> = (0..5000u32).map(|i| i as u8).collect();
        pool.copy_in(&sg, (1 << 20) - 904, &data);
        assert_eq!(crc_of(&pool, &sg, (1 << 20) - 904, 5000, 0), crc32c(0, &data));
        let head = crc_of(&pool, &sg, (1 << 20) - 904, 1000, 0);
        assert_eq!(crc_of(&pool, &sg, (1 << 20) + 96, 4000, head), crc32c(0, &data));
    }
}
