//! Which part of a run counts.
//!
//! Callgrind collects between entry and return of [`measured`] and nowhere else (`--toggle-collect`), so logging in,
//! making commands and checking answers cost nothing.

use std::hint::black_box;

/// Runs what is to be measured, and what is not.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    on: bool,
}

impl Meter {
    /// A meter that counts.
    pub const ON: Self = Self { on: true };
    /// A meter that counts nothing, for warming up.
    pub const OFF: Self = Self { on: false };

    /// Runs a piece of the path under measurement.
    pub fn run(self, mut work: impl FnMut()) {
        if self.on { measured(&mut work) } else { work() }
    }
}

/// The function that callgrind watches, by this name.
#[inline(never)]
pub fn measured(work: &mut dyn FnMut()) {
    work();
    // Keeps the call above from becoming a jump, which would be no return to here.
    black_box(true);
}
