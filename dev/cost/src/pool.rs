//! The buffer pool: a command's buffer is taken and given back.

use scst_core::buffer::{BufferSource, SgList};
use scst_mem::{BufferPool, PoolConfig};

use crate::BYTES;
use crate::meter::Meter;
use crate::scenario::Batch;

/// A pool as a reactor has it, but for huge pages, which change nothing here.
pub fn pool() -> BufferPool {
    BufferPool::new(PoolConfig { huge_pages: false, poison: false, ..PoolConfig::default() })
}

/// See the module.
pub struct Pool {
    pool: BufferPool,
    taken: Vec<SgList>,
}

impl Pool {
    /// So many buffers at a time.
    pub fn new(batch: u32) -> Self {
        Self { pool: pool(), taken: vec![SgList::default(); batch as usize] }
    }
}

impl Batch for Pool {
    fn run(&mut self, meter: Meter) {
        let Self { pool, taken } = self;
        let source: &mut dyn BufferSource = pool;
        meter.run(|| {
            for sg in taken.iter_mut() {
                source.allocate_into(BYTES, sg);
            }
            for sg in taken.iter() {
                source.release(sg);
            }
        });
        assert!(taken.iter().all(|sg| sg.bytes() == BYTES));
        assert_eq!(pool.statistics().in_use, 0);
    }
}
