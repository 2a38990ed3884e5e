//! What follows from events, in order, until somebody carries it out.

use crate::buffer::SgList;
use crate::event::Effect;
use crate::ids::CmdId;

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
    /// See `keep_order`.
    in_order: bool,
    /// Some of them want buffers.
    wants_buffers: bool,
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
            in_order: false,
            wants_buffers: false,
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
            (self.in_order, self.wants_buffers) = (false, false);
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

    /// A command wants a buffer.
    #[inline(always)]
    pub(crate) fn allocate(&mut self, cmd: CmdId, bytes: u32) {
        self.wants_buffers = true;
        self.push_back(Effect::Allocate { cmd, bytes });
    }

    /// Whether any does.
    #[inline]
    pub(crate) fn wants_buffers(&self) -> bool {
        self.wants_buffers
    }

    /// Where the next effect will be.
    #[inline(always)]
    pub(crate) fn place(&self) -> usize {
        self.end
    }

    /// Adds an effect before those that have been added since a place was taken.
    #[inline(always)]
    pub(crate) fn insert(&mut self, place: usize, effect: Effect) {
        self.push_back(effect);
        if let Some(since) = self.queue.get_mut(place..self.end) {
            since.rotate_right(1);
        }
    }

    /// A command that others may have waited for has left its task set: until everything here has been carried out,
    /// nothing may overtake it.
    #[inline]
    pub(crate) fn keep_order(&mut self) {
        self.in_order = true;
    }

    /// Whether everything has to wait for its turn in the queue.
    #[inline(always)]
    pub(crate) fn is_in_order(&self) -> bool {
        self.in_order
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

#[cfg(test)]
mod tests {
    use super::*;

    fn respond(index: u32) -> Effect {
        Effect::Respond { cmd: CmdId { index, generation: 0 } }
    }

    #[test]
    fn what_is_inserted_comes_before_what_was_added_since_and_the_queue_does_not_grow() {
        let mut effects = Effects::with_capacity(4);
        for _ in 0..100 {
            effects.push_back(respond(0));
            let place = effects.place();
            effects.push_back(respond(2));
            effects.push_back(respond(3));
            effects.insert(place, respond(1));
            let place = effects.place();
            effects.insert(place, respond(4));
            let order: Vec<u32> = std::iter::from_fn(|| effects.pop_front())
                .map(|effect| if let Effect::Respond { cmd } = effect { cmd.index } else { panic!("{effect:?}") })
                .collect();
            assert_eq!(order, [0, 1, 2, 3, 4]);
        }
        assert_eq!(effects.queue.len(), 5);
    }

    #[test]
    fn order_is_kept_until_all_is_carried_out() {
        let mut effects = Effects::with_capacity(4);
        effects.push_back(respond(0));
        effects.keep_order();
        assert!(effects.pop_front().is_some() && effects.is_in_order());
        assert!(effects.pop_front().is_none() && !effects.is_in_order());
    }
}
