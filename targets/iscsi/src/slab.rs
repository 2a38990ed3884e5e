//! Slots with generations and a limit: a late name finds nothing.

use crate::ids::{GENERATION_MASK, Slot};

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

/// At most `limit` values, addressed by slot and generation.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    limit: usize,
}

impl<T> Slab<T> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: Vec::new(), free: Vec::new(), limit }
    }

    /// Stores what `make` builds for its own name; None when the limit is reached.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(Slot) -> T) -> Option<Slot> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.entries.len() < self.limit => {
                self.entries.push(Entry { generation: 0, value: None });
                (self.entries.len() - 1) as u32
            }
            None => return None,
        };
        let entry = &mut self.entries[index as usize];
        let slot = Slot { index, generation: entry.generation };
        entry.value = Some(make(slot));
        Some(slot)
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<T> {
        let entry = self.entries.get_mut(slot.index as usize).filter(|e| e.generation == slot.generation)?;
        let value = entry.value.take()?;
        entry.generation = (entry.generation + 1) & GENERATION_MASK;
        self.free.push(slot.index);
        Some(value)
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&T> {
        self.entries.get(slot.index as usize).filter(|e| e.generation == slot.generation)?.value.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.entries.get_mut(slot.index as usize).filter(|e| e.generation == slot.generation)?.value.as_mut()
    }

    /// The name of what is at an index.
    pub(crate) fn name(&self, index: u32) -> Option<Slot> {
        let entry = self.entries.get(index as usize)?;
        entry.value.is_some().then_some(Slot { index, generation: entry.generation })
    }

    /// Indices that are or have been in use are below this.
    pub(crate) fn slots_made(&self) -> u32 {
        self.entries.len() as u32
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether one more value finds room.
    pub(crate) fn has_room(&self) -> bool {
        self.len() < self.limit
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &T)> {
        self.entries.iter().enumerate().filter_map(|(index, entry)| {
            let slot = Slot { index: index as u32, generation: entry.generation };
            entry.value.as_ref().map(|value| (slot, value))
        })
    }

    /// The names in use.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        self.iter().map(|(slot, _)| slot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_name_finds_nothing_and_the_limit_holds() {
        let mut slab = Slab::new(2);
        let a = slab.insert_with(|_| "a").unwrap();
        let b = slab.insert_with(|_| "b").unwrap();
        assert_eq!(slab.insert_with(|_| "c"), None);
        assert!(!slab.has_room());
        assert_eq!(slab.remove(a), Some("a"));
        assert_eq!((slab.get(a), slab.get(b)), (None, Some(&"b")));
        assert_eq!(slab.remove(a), None);
        let c = slab.insert_with(|_| "c").unwrap();
        assert_eq!((c.index, c.generation), (a.index, a.generation + 1));
        assert_eq!(slab.get_mut(a), None);
        assert_eq!(slab.slots(), [c, b]);
        slab.remove(b);
        assert_eq!((slab.name(0), slab.name(1), slab.name(2), slab.slots_made()), (Some(c), None, None, 2));
    }
}
