//! Finds the operations of a command without a look at those of others.

use scst_core::ids::CmdId;

const NONE: u32 = u32::MAX;

/// Lists of the operations in flight by the index of their command. An operation is known by its slot in the table of its
/// back-end.
///
/// Commands whose indexes differ by a multiple of the number of lists share a list. There are at least as many lists as
/// operations can be in flight.
pub(crate) struct ByCommand {
    /// The newest operation of each list.
    heads: Box<[u32]>,
    /// The neighbours of each slot in its list.
    links: Box<[Link]>,
}

#[derive(Clone, Copy)]
struct Link {
    newer: u32,
    older: u32,
}

impl ByCommand {
    /// Prepares for so many operations in flight, whose slots are below `slots`.
    pub(crate) fn new(operations: u32, slots: u32) -> Self {
        Self {
            heads: vec![NONE; operations.next_power_of_two() as usize].into(),
            links: vec![Link { newer: NONE, older: NONE }; slots as usize].into(),
        }
    }

    fn list(&self, cmd: CmdId) -> usize {
        cmd.index as usize & (self.heads.len() - 1)
    }

    /// Adds an operation when it begins.
    #[inline]
    pub(crate) fn insert(&mut self, slot: u32, cmd: CmdId) {
        let list = self.list(cmd);
        let older = std::mem::replace(&mut self.heads[list], slot);
        self.links[slot as usize] = Link { newer: NONE, older };
        if older != NONE {
            self.links[older as usize].newer = slot;
        }
    }

    /// Removes an operation when it ends.
    #[inline]
    pub(crate) fn remove(&mut self, slot: u32, cmd: CmdId) {
        let Link { newer, older } = self.links[slot as usize];
        match newer {
            NONE => {
                let list = self.list(cmd);
                debug_assert_eq!(self.heads[list], slot, "an operation is removed once");
                self.heads[list] = older;
            }
            newer => self.links[newer as usize].older = older,
        }
        if older != NONE {
            self.links[older as usize].newer = newer;
        }
    }

    /// The newest operation in the list of a command.
    pub(crate) fn first(&self, cmd: CmdId) -> Option<u32> {
        Some(self.heads[self.list(cmd)]).filter(|slot| *slot != NONE)
    }

    /// The next older operation of the same list.
    pub(crate) fn next(&self, slot: u32) -> Option<u32> {
        Some(self.links[slot as usize].older).filter(|slot| *slot != NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cmd(index: u32) -> CmdId {
        CmdId { index, generation: 3 }
    }

    fn looked_at(of: &ByCommand, index: u32) -> Vec<u32> {
        std::iter::successors(of.first(cmd(index)), |slot| of.next(*slot)).collect()
    }

    #[test]
    fn only_the_operations_of_the_command_are_looked_at() {
        // As many commands as operations: 1,024 with one each, but the last has three.
        let mut of = ByCommand::new(1026, 5000);
        for n in 0..1024 {
            of.insert(n * 4, cmd(n));
        }
        of.insert(4999, cmd(1023));
        of.insert(1, cmd(1023));
        for n in 0..1023 {
            assert_eq!(looked_at(&of, n), [n * 4]);
        }
        assert_eq!(looked_at(&of, 1023), [1, 4999, 1023 * 4]);
        assert_eq!(looked_at(&of, 1024), [0; 0]);
    }

    #[test]
    fn an_operation_leaves_its_list_from_wherever_it_is() {
        let mut of = ByCommand::new(4, 8);
        for (leaves, stay) in [(0, [2, 1]), (1, [2, 0]), (2, [1, 0])] {
            (0..3).for_each(|slot| of.insert(slot, cmd(6)));
            of.remove(leaves, cmd(6));
            assert_eq!(looked_at(&of, 6), stay);
            stay.iter().for_each(|slot| of.remove(*slot, cmd(6)));
            assert_eq!(looked_at(&of, 6), [0; 0]);
        }
    }

    #[test]
    fn an_index_beyond_all_tables_has_a_list() {
        let mut of = ByCommand::new(4, 8);
        of.insert(7, cmd(u32::MAX));
        assert_eq!((looked_at(&of, u32::MAX), looked_at(&of, 3)), (vec![7], vec![7]), "they share one");
        of.remove(7, cmd(u32::MAX));
        assert_eq!(looked_at(&of, 3), [0; 0]);
    }
}
