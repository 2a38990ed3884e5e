//! Waiting for commands to end: what a barrier that closes and a task management function have in common.
//!
//! A wait counts the commands that it is for; a command knows the waits that are for it. So neither side ever searches
//! the other, however many there are.

use crate::command::{CommandMarks, CommandState, NONE};
use crate::engine::{Effects, Engine};
use crate::event::{BarrierId, BarrierScope};
use crate::ids::{CmdId, DeviceId, TmfId};
use crate::slab::{Slab, Vacant};

/// What happens when the last command of a wait has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Then {
    /// Tells the home engine that a barrier is closed here.
    Closed {
        /// The logical unit.
        device: DeviceId,
        /// The barrier.
        barrier: BarrierId,
        /// What it keeps out.
        scope: BarrierScope,
    },
    /// Ends a step of a task management function.
    Tmf(TmfId),
}

/// A wait, as the one that asked for it names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WaitId {
    index: u32,
    generation: u32,
}

#[derive(Debug)]
struct Wait {
    /// Commands that have not ended.
    left: u32,
    then: Then,
}

/// One command of one wait, in the list of the command.
#[derive(Debug)]
struct Edge {
    wait: WaitId,
    next: u32,
}

/// Most pairs of a wait and a command: far more than commands and functions in progress can make.
const MAX_EDGES: usize = 1 << 24;

/// All waits of an engine.
#[derive(Debug)]
pub(crate) struct Waits {
    waits: Slab<Wait>,
    edges: Slab<Edge>,
}

impl Default for Waits {
    fn default() -> Self {
        Self { waits: Slab::new(MAX_EDGES, 0), edges: Slab::new(MAX_EDGES, 0) }
    }
}

impl Waits {
    fn is_alive(&self, wait: WaitId) -> bool {
        self.waits.get(wait.index, wait.generation).is_some()
    }

    /// Adds a wait to the list of a command and drops those that were given up meanwhile, so that the list of a command
    /// that never ends does not grow. Returns the new head of the list.
    fn link(&mut self, head: u32, wait: WaitId) -> u32 {
        let (mut kept, mut at) = (NONE, head);
        while let Some((index, generation)) = self.edges.name(at) {
            let Some(edge) = self.edges.at_mut(index) else { break };
            let (next, other) = (edge.next, edge.wait);
            if self.is_alive(other) {
                if let Some(edge) = self.edges.at_mut(index) {
                    edge.next = kept;
                }
                kept = index;
            } else {
                self.edges.remove(index, generation);
            }
            at = next;
        }
        self.edges.insert(Edge { wait, next: kept }).map_or(kept, |(index, _)| index)
    }

    /// Takes the first wait off the list of a command that has ended. Returns the rest of the list, and what happens now
    /// if this was the last command of the wait.
    fn unlink(&mut self, head: u32) -> Option<(u32, Option<Then>)> {
        let (index, generation) = self.edges.name(head)?;
        let Edge { wait, next } = self.edges.remove(index, generation)?;
        let Some(found) = self.waits.get_mut(wait.index, wait.generation) else { return Some((next, None)) };
        found.left -= 1;
        if found.left > 0 {
            return Some((next, None));
        }
        Some((next, self.waits.remove(wait.index, wait.generation).map(|wait| wait.then)))
    }
}

impl Engine {
    /// Does `then` when all of the commands have ended: at once if there are none, and then there is no wait.
    pub(crate) fn wait_for(&mut self, commands: &[CmdId], then: Then, fx: &mut Effects) -> Option<WaitId> {
        if commands.is_empty() {
            self.waited(then, fx);
            return None;
        }
        let wait = Wait { left: commands.len() as u32, then };
        let (index, generation) = self.waits.waits.insert(wait)?;
        let wait = WaitId { index, generation };
        for id in commands {
            let Some(command) = self.commands.get_mut(id.index, id.generation) else { continue };
            let head = if command.marks.contains(CommandMarks::AWAITED) { command.waits } else { NONE };
            command.marks |= CommandMarks::AWAITED;
            command.waits = self.waits.link(head, wait);
        }
        Some(wait)
    }

    /// Gives a wait up: nothing happens when its commands end.
    pub(crate) fn stop_waiting(&mut self, wait: WaitId) {
        self.waits.waits.remove(wait.index, wait.generation);
    }

    /// A command has ended: what waited for it goes on.
    pub(crate) fn end_waits(&mut self, id: CmdId, fx: &mut Effects) {
        let Some(command) = self.command_mut(id).filter(|c| c.marks.contains(CommandMarks::AWAITED)) else { return };
        command.marks.remove(CommandMarks::AWAITED);
        let mut head = std::mem::replace(&mut command.waits, NONE);
        while let Some((next, then)) = self.waits.unlink(head) {
            head = next;
            if let Some(then) = then {
                self.waited(then, fx);
            }
        }
    }

    fn waited(&mut self, then: Then, fx: &mut Effects) {
        match then {
            Then::Closed { device, barrier, scope } => self.tell_closed(device, barrier, scope, fx),
            Then::Tmf(tmf) => self.tmf_step_done(tmf, fx),
        }
    }

    /// Gives up all waits of a task management function. Returns the commands that they were for and that have not ended.
    ///
    /// It looks at every command: a function that waits too long is rare.
    pub(crate) fn stop_waits_of(&mut self, tmf: TmfId) -> Vec<CmdId> {
        let of_tmf = |wait: &Wait| wait.then == Then::Tmf(tmf);
        let waits: Vec<WaitId> = (self.waits.waits.iter().filter(|(_, _, wait)| of_tmf(wait)))
            .map(|(index, generation, _)| WaitId { index, generation })
            .collect();
        let mut commands = Vec::new();
        if !waits.is_empty() {
            for (index, generation, command) in self.commands.iter() {
                if command.marks.contains(CommandMarks::AWAITED) && self.is_awaited_by(command.waits, &waits) {
                    commands.push(CmdId { index, generation });
                }
            }
        }
        for wait in waits {
            self.stop_waiting(wait);
        }
        commands
    }

    fn is_awaited_by(&self, mut head: u32, waits: &[WaitId]) -> bool {
        while let Some(edge) = self.waits.edges.at(head) {
            if waits.contains(&edge.wait) {
                return true;
            }
            head = edge.next;
        }
        false
    }

    /// Returns true while something may still happen on behalf of a command.
    pub(crate) fn is_unfinished(&self, id: CmdId) -> bool {
        self.command(id).is_some_and(|c| c.state != CommandState::Responding)
    }
}

impl Vacant for Wait {
    fn vacant() -> Self {
        Self { left: 0, then: Then::Tmf(TmfId { index: NONE, generation: 0 }) }
    }
}

impl Vacant for Edge {
    fn vacant() -> Self {
        Self { wait: WaitId { index: NONE, generation: 0 }, next: NONE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(waits: &mut Waits, left: u32) -> WaitId {
        let then = Then::Tmf(TmfId { index: left, generation: 0 });
        let (index, generation) = waits.waits.insert(Wait { left, then }).unwrap();
        WaitId { index, generation }
    }

    #[test]
    fn the_last_command_of_a_wait_ends_it() {
        let mut waits = Waits::default();
        let (one, two) = (add(&mut waits, 1), add(&mut waits, 2));
        let first = waits.link(NONE, one);
        let first = waits.link(first, two);
        let second = waits.link(NONE, two);
        let (rest, then) = waits.unlink(first).unwrap();
        assert_eq!(then, None, "the second command of the later wait has not ended");
        assert_eq!(waits.unlink(rest), Some((NONE, Some(Then::Tmf(TmfId { index: 1, generation: 0 })))));
        assert_eq!(waits.unlink(second), Some((NONE, Some(Then::Tmf(TmfId { index: 2, generation: 0 })))));
        assert_eq!((waits.waits.len(), waits.edges.len()), (0, 0));
    }

    #[test]
    fn a_command_that_never_ends_keeps_only_the_waits_that_still_are() {
        let mut waits = Waits::default();
        let mut head = NONE;
        for _ in 0..1000 {
            let wait = add(&mut waits, 1);
            head = waits.link(head, wait);
            waits.waits.remove(wait.index, wait.generation);
        }
        assert_eq!(waits.edges.len(), 1);
        let live = add(&mut waits, 1);
        head = waits.link(head, live);
        assert_eq!(waits.edges.len(), 1);
        assert!(waits.unlink(head).unwrap().1.is_some());
    }
}
