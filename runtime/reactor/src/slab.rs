//! A table whose ids carry a reuse count, so that a stale id finds nothing.

const INDEX_BITS: u32 = 20;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;

struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

/// Values under ids of 20 bits index and 12 bits generation.
pub(crate) struct Slab<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    limit: usize,
}

impl<T> Slab<T> {
    pub(crate) fn new(limit: u32) -> Self {
        Self { entries: Vec::new(), free: Vec::new(), limit: limit.min(INDEX_MASK) as usize }
    }

    /// Adds a value; gives it back when the table is full.
    pub(crate) fn insert(&mut self, value: T) -> Result<u32, T> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.entries.len() < self.limit => {
                self.entries.push(Entry { generation: 0, value: None });
                (self.entries.len() - 1) as u32
            }
            None => return Err(value),
        };
        let entry = &mut self.entries[index as usize];
        entry.value = Some(value);
        Ok(entry.generation << INDEX_BITS | index)
    }

    /// Where in the table an id is.
    pub(crate) fn index(id: u32) -> u32 {
        id & INDEX_MASK
    }

    /// The id of the value at an index.
    pub(crate) fn id_at(&self, index: u32) -> Option<u32> {
        let entry = self.entries.get(index as usize).filter(|entry| entry.value.is_some())?;
        Some(entry.generation << INDEX_BITS | index)
    }

    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        let entry = self.entries.get((id & INDEX_MASK) as usize)?;
        if entry.generation == id >> INDEX_BITS { entry.value.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let entry = self.entries.get_mut((id & INDEX_MASK) as usize)?;
        if entry.generation == id >> INDEX_BITS { entry.value.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let index = id & INDEX_MASK;
        let entry = self.entries.get_mut(index as usize)?;
        if entry.generation != id >> INDEX_BITS {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = (entry.generation + 1) & (u32::MAX >> INDEX_BITS);
        self.free.push(index);
        Some(value)
    }

    /// All values with their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.entries).filter_map(|(i, e)| Some((e.generation << INDEX_BITS | i, e.value.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_id_finds_nothing_and_the_limit_holds() {
        let mut slab = Slab::new(2);
        let a = slab.insert('a').unwrap();
        let b = slab.insert('b').unwrap();
        assert_eq!(slab.insert('c'), Err('c'));
        assert_eq!(slab.remove(a), Some('a'));
        assert_eq!(slab.remove(a), None);
        let c = slab.insert('c').unwrap();
        assert_ne!(a, c);
        assert_eq!((slab.get(a), slab.get(b), slab.get(c)), (None, Some(&'b'), Some(&'c')));
        assert_eq!(slab.get_mut(a), None);
        assert_eq!(slab.iter().map(|(_, v)| *v).collect::<String>(), "cb");
    }
}
