//! Fixed-limit slots with generations: a name that outlives its slot's content finds nothing.

/// Generations are 24 bits so that an id and a tag fit the 64 bits of an I/O completion.
const GENERATION_MASK: u32 = 0x00ff_ffff;

/// Beside the generation of a slot: nothing is in it, whatever value it may still hold.
const FREE: u32 = 1 << 31;

/// What stands in a slot that nobody uses; without it every look at a slot would have to ask twice.
pub(crate) trait Vacant {
    /// Such a value; it holds nothing worth dropping.
    fn vacant() -> Self;
}

#[derive(Debug)]
struct Slot<T> {
    /// The generation, with [`FREE`] or without; no name has that bit.
    key: u32,
    value: T,
}

impl<T: Vacant> Slot<T> {
    fn vacant() -> Self {
        Self { key: FREE, value: T::vacant() }
    }
}

impl<T> Slot<T> {
    #[inline]
    fn is_used(&self) -> bool {
        self.key & FREE == 0
    }
}

/// A slab of at most `limit` values, addressed by index and generation.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    limit: usize,
    used: usize,
}

impl<T: Vacant> Slab<T> {
    /// A slab that never holds more than `limit` values, with room for `ready` of them from the start.
    pub(crate) fn new(limit: usize, ready: usize) -> Self {
        let ready = ready.min(limit);
        let mut slab = Self { slots: Vec::with_capacity(ready), free: Vec::with_capacity(ready), limit, used: 0 };
        for index in 0..ready {
            slab.slots.push(Slot::vacant());
            slab.free.push((ready - 1 - index) as u32);
        }
        slab
    }

    /// Stores a value; None when the limit is reached.
    pub(crate) fn insert(&mut self, value: T) -> Option<(u32, u32)> {
        let (index, generation, slot) = self.claim()?;
        *slot = value;
        Some((index, generation))
    }

    /// Takes a slot for a value that the caller puts there, over what is in it: a vacant one, or one that was retired.
    /// None when the limit is reached.
    #[inline(always)]
    pub(crate) fn claim(&mut self) -> Option<(u32, u32, &mut T)> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => self.grow()?,
        };
        let slot = &mut self.slots[index as usize];
        debug_assert!(!slot.is_used());
        slot.key &= !FREE;
        self.used += 1;
        Some((index, slot.key, &mut slot.value))
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> Option<u32> {
        if self.slots.len() >= self.limit {
            return None;
        }
        self.slots.push(Slot::vacant());
        Some((self.slots.len() - 1) as u32)
    }

    /// Takes a value out; its name is void from now on.
    pub(crate) fn remove(&mut self, index: u32, generation: u32) -> Option<T> {
        self.retire(index, generation)?;
        Some(std::mem::replace(&mut self.slots[index as usize].value, T::vacant()))
    }

    /// Makes a name void and leaves the value for [`Slab::claim`] to reuse: for what is large and needs no drop.
    /// Returns it for a last look.
    #[inline]
    pub(crate) fn retire(&mut self, index: u32, generation: u32) -> Option<&T> {
        let slot = self.slots.get_mut(index as usize)?;
        if slot.key != generation {
            return None;
        }
        slot.key = (generation + 1) & GENERATION_MASK | FREE;
        self.free.push(index);
        self.used -= 1;
        Some(&slot.value)
    }

    #[inline]
    pub(crate) fn get(&self, index: u32, generation: u32) -> Option<&T> {
        let slot = self.slots.get(index as usize)?;
        if slot.key == generation { Some(&slot.value) } else { None }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32, generation: u32) -> Option<&mut T> {
        let slot = self.slots.get_mut(index as usize)?;
        if slot.key == generation { Some(&mut slot.value) } else { None }
    }

    /// The value at an index that is known to be in use.
    #[inline]
    pub(crate) fn at(&self, index: u32) -> Option<&T> {
        let slot = self.slots.get(index as usize)?;
        if slot.is_used() { Some(&slot.value) } else { None }
    }

    /// The same, to change.
    #[inline]
    pub(crate) fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        let slot = self.slots.get_mut(index as usize)?;
        if slot.is_used() { Some(&mut slot.value) } else { None }
    }

    /// The full name of a slot in use.
    pub(crate) fn name(&self, index: u32) -> Option<(u32, u32)> {
        let slot = self.slots.get(index as usize)?;
        slot.is_used().then_some((index, slot.key))
    }

    /// All values with index and generation, in index order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, u32, &T)> {
        let used = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_used());
        used.map(|(i, slot)| (i as u32, slot.key, &slot.value))
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

    impl Vacant for &str {
        fn vacant() -> Self {
            ""
        }
    }

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
    fn a_retired_value_is_found_by_nobody_but_who_reuses_it() {
        let mut slab = Slab::new(1, 1);
        let (i, g) = slab.insert("a").unwrap();
        assert_eq!((slab.retire(i, g).copied(), slab.retire(i, g)), (Some("a"), None));
        assert_eq!((slab.get(i, g), slab.get(i, g + 1), slab.at(i), slab.name(i)), (None, None, None, None));
        assert_eq!((slab.iter().count(), slab.len()), (0, 0));
        let (i2, g2, value) = slab.claim().unwrap();
        assert_eq!((i2, g2, *value), (i, g + 1, "a"));
        *value = "b";
        assert_eq!(slab.remove(i2, g2), Some("b"));
        assert_eq!(*slab.claim().unwrap().2, "");
    }

    #[test]
    fn the_limit_holds() {
        let mut slab = Slab::new(2, 0);
        assert!(slab.insert("1").is_some());
        assert!(slab.insert("2").is_some());
        assert!(slab.insert("3").is_none());
    }
}
