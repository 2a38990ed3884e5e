//! Looking after what waits: a look now and then at everything that has a deadline.
//!
//! Deadlines here are tens of seconds, and nearly nothing ever reaches one. So nothing sets a timer of its own; while
//! something waits, the engine looks twice a second, and when nothing waits it does not.

use crate::Nanos;
use crate::engine::{Effects, Engine};

/// Time between two looks; what is overdue is at most so late.
const LOOK_EVERY: Nanos = Nanos::from_millis(500);

impl Engine {
    /// Something waits from now on.
    pub(crate) fn keep_looking(&mut self) {
        if self.next_look.is_none() {
            self.next_look = Some(self.now.after(LOOK_EVERY));
        }
    }

    /// The time at which `handle_timeout` has something to do. A time that has passed already means at once: a long piece of
    /// work goes on in the next turn.
    pub fn poll_timeout(&self) -> Option<Nanos> {
        if self.resets_can_go_on() { Some(self.now) } else { self.next_look }
    }

    /// Goes on with long work, and gives up what has waited too long.
    pub fn handle_timeout(&mut self, now: Nanos, fx: &mut Effects) {
        self.now = now;
        self.go_on_with_resets(fx);
        if self.next_look.is_some_and(|at| at <= now) {
            self.next_look = None;
            let owners = self.look_after_owners(fx);
            let blocked = self.look_after_blocked(fx);
            let functions = self.look_after_functions(fx);
            let closing = self.look_after_closing(fx);
            if owners || blocked || functions || closing {
                self.keep_looking();
            }
        }
        self.settle(fx);
    }
}
