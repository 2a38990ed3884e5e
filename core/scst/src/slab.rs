//! Fixed-limit slots with generations: a name that outlives its slot's content finds nothing.

/// Generations are 24 bits so that an id and a tag fit the 64 bits of an I/O completion.
const GENERATION_MASK: u32 = 0x00ff_ffff;

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// A slab of at most `limit` values, addressed by index and generation.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    limit: usize,
    used: usize,
}

impl<T> Slab<T> {
    /// A slab that never holds more than `limit` values, with room for `ready` of them from the start.
    pub(crate) fn new(limit: usize, ready: usize) -> Self {
        let ready = ready.min(limit);
        let mut slab = Self { slots: Vec::with_capacity(ready), free: Vec::with_capacity(ready), limit, used: 0 };
        for index in 0..ready {
            slab.slots.push(Slot { generation: 0, value: None });
            slab.free.push((ready - 1 - index) as u32);
        }
        slab
    }

    /// Stores a value; None when the limit is reached.
    pub(crate) fn insert(&mut self, value: T) -> Option<(u32, u32)> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < self.limit => {
                self.slots.push(Slot { generation: 0, value: None });
                (self.slots.len() - 1) as u32
            }
            None => return None,
        };
        let slot = &mut self.slots[index as usize];
        debug_assert!(slot.value.is_none());
        slot.value = Some(value);
        self.used += 1;
        Some((index, slot.generation))
    }

    /// Takes a value out; its name is void from now on.
    pub(crate) fn remove(&mut self, index: u32, generation: u32) -> Option<T> {
        let slot = self.slots.get_mut(index as usize)?;
        if slot.generation != generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = (slot.generation + 1) & GENERATION_MASK;
        self.free.push(index);
        self.used -= 1;
        Some(value)
    }

    pub(crate) fn get(&self, index: u32, generation: u32) -> Option<&T> {
        let slot = self.slots.get(index as usize)?;
        if slot.generation != generation { None } else { slot.value.as_ref() }
    }

    pub(crate) fn get_mut(&mut self, index: u32, generation: u32) -> Option<&mut T> {
        let slot = self.slots.get_mut(index as usize)?;
        if slot.generation != generation { None } else { slot.value.as_mut() }
    }

    /// The value at an index that is known to be in use.
    pub(crate) fn at(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.value.as_ref()
    }

    /// The same, to change.
    pub(crate) fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slots.get_mut(index as usize)?.value.as_mut()
    }

    /// The full name of a slot in use.
    pub(crate) fn name(&self, index: u32) -> Option<(u32, u32)> {
        let slot = self.slots.get(index as usize)?;
        slot.value.is_some().then_some((index, slot.generation))
    }

    /// All values with index and generation, in index order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, u32, &T)> {
        self.slots.iter().enumerate().filter_map(|(i, s)| s.value.as_ref().map(|v| (i as u32, s.generation, v)))
    }

    /// How many slots there are, in use or not.
    pub(crate) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_name_finds_nothing() {
        let mut slab = Slab::new(2, 1);
        let (i, g) = slab.insert("a").unwrap();
        assert_eq!(slab.get(i, g), Some(&"a"));
        assert_eq!(slab.remove(i, g), Some("a"));
        let (i2, g2) = slab.insert("b").unwrap();
        assert_eq!((i, g + 1), (i2, g2));
        assert_eq!(slab.get(i, g), None);
        assert_eq!(slab.remove(i, g), None);
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn the_limit_holds() {
        let mut slab = Slab::new(2, 0);
        assert!(slab.insert(1).is_some());
        assert!(slab.insert(2).is_some());
        assert!(slab.insert(3).is_none());
    }
}
