//! What follows from events, in order, until somebody carries it out.

use crate::buffer::SgList;
use crate::event::Effect;

/// Effects of one or more events, in order, and buffers to be given back.
///
/// Buffers go apart: they are the largest thing an effect could have, and the sooner they are back the better.
#[derive(Debug, Default)]
pub struct Effects {
    /// Those from `next` to `end`. It starts over when all have been taken out, which is once in every run.
    queue: Vec<Effect>,
    next: usize,
    end: usize,
    /// The first `released` of these; the rest are there to be written over.
    buffers: Vec<SgList>,
    released: usize,
}

impl Effects {
    /// With room for so many.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            queue: Vec::with_capacity(capacity),
            next: 0,
            end: 0,
            buffers: Vec::with_capacity(capacity),
            released: 0,
        }
    }

    /// Whether there is nothing to do.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.next == self.end && self.released == 0
    }

    /// The next effect.
    #[inline(always)]
    pub fn pop_front(&mut self) -> Option<Effect> {
        if self.next == self.end {
            (self.next, self.end) = (0, 0);
            return None;
        }
        let effect = self.queue.get_mut(self.next)?;
        self.next += 1;
        Some(std::mem::replace(effect, Effect::Nothing))
    }

    /// A buffer to be given back. Take these before effects.
    #[inline]
    pub fn pop_released(&mut self) -> Option<&SgList> {
        self.released = self.released.checked_sub(1)?;
        self.buffers.get(self.released)
    }

    #[inline(always)]
    pub(crate) fn push_back(&mut self, effect: Effect) {
        match self.queue.get_mut(self.end) {
            Some(place) => *place = effect,
            None => self.grow(effect),
        }
        self.end += 1;
    }

    /// Where the next effect will be.
    #[inline(always)]
    pub(crate) fn place(&self) -> usize {
        self.end
    }

    /// Adds an effect before those that have been added since a place was taken.
    #[inline(always)]
    pub(crate) fn insert(&mut self, place: usize, effect: Effect) {
        if place >= self.end {
            self.push_back(effect);
        } else {
            self.queue.insert(place, effect);
            self.end += 1;
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, effect: Effect) {
        self.queue.push(effect);
    }

    /// A buffer that nobody uses any more.
    #[inline]
    pub(crate) fn release(&mut self, sg: &SgList) {
        match self.buffers.get_mut(self.released) {
            Some(buffer) => buffer.assign(sg),
            None => self.buffers.push(*sg),
        }
        self.released += 1;
    }
}
