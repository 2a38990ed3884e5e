//! Connections that found no memory, and when it is worth looking again.

use std::collections::VecDeque;

use scst_mem::BufferPool;

use crate::ids::Slot;

/// They look again one at a time, who has waited longest first: as long as one finds memory the next may as well, and when
/// one finds none, nobody does before the pool has taken something back.
#[derive(Debug, Default)]
pub(crate) struct Starved {
    waiting: VecDeque<Slot>,
    /// What the pool had taken back when the last of them found nothing.
    returned: u64,
}

impl Starved {
    /// A connection has just found nothing.
    #[cold]
    pub(crate) fn wait(&mut self, connection: Slot, pool: &BufferPool) {
        if !self.waiting.contains(&connection) {
            self.waiting.push_back(connection);
        }
        self.returned = pool.returned();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether the next one may find something now.
    pub(crate) fn may_look(&self, pool: &BufferPool) -> bool {
        !self.is_empty() && pool.returned() != self.returned
    }

    /// The next one, whether it may find something or not.
    pub(crate) fn pop(&mut self) -> Option<Slot> {
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scst_mem::PoolConfig;

    #[test]
    fn they_look_again_when_the_pool_has_taken_something_back() {
        let mut pool = BufferPool::new(PoolConfig { budget: 1 << 20, huge_pages: false, ..PoolConfig::default() });
        let (first, second) = (pool.allocate(512 << 10).unwrap(), pool.allocate(512 << 10).unwrap());
        let slot = |index| Slot { index, generation: 0 };
        let mut starved = Starved::default();
        assert!(!starved.may_look(&pool), "nobody waits");
        for index in [1, 2, 1] {
            assert!(pool.allocate(4096).is_none());
            starved.wait(slot(index), &pool);
        }
        assert!(!starved.may_look(&pool));
        pool.release(&first);
        assert!(starved.may_look(&pool));
        assert_eq!(starved.pop(), Some(slot(1)));
        let all = pool.allocate(512 << 10).unwrap();
        // It has found what it wanted; the next one does not, and waits for more.
        assert!(starved.may_look(&pool));
        assert_eq!(starved.pop(), Some(slot(2)));
        starved.wait(slot(2), &pool);
        assert!(!starved.may_look(&pool));
        pool.release(&second);
        pool.release(&all);
        assert!(starved.may_look(&pool));
        assert_eq!((starved.pop(), starved.pop()), (Some(slot(2)), None));
    }
}
