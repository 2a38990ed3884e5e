//! What follows from events, in order, until somebody carries it out.

use std::collections::VecDeque;

use crate::buffer::SgList;
use crate::event::Effect;

/// Effects of one or more events, in order, and buffers to be given back.
///
/// Buffers go apart: they are the largest thing an effect could have, and the sooner they are back the better.
#[derive(Debug, Default)]
pub struct Effects {
    queue: VecDeque<Effect>,
    /// The first `released` of these; the rest are there to be written over.
    buffers: Vec<SgList>,
    released: usize,
}

impl Effects {
    /// With room for so many.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { queue: VecDeque::with_capacity(capacity), buffers: Vec::with_capacity(capacity), released: 0 }
    }

    /// Whether there is nothing to do.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.released == 0
    }

    /// The next effect.
    #[inline]
    pub fn pop_front(&mut self) -> Option<Effect> {
        self.queue.pop_front()
    }

    /// A buffer to be given back. Take these before effects.
    #[inline]
    pub fn pop_released(&mut self) -> Option<&SgList> {
        self.released = self.released.checked_sub(1)?;
        self.buffers.get(self.released)
    }

    #[inline]
    pub(crate) fn push_back(&mut self, effect: Effect) {
        self.queue.push_back(effect);
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
