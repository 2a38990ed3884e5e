//! Which commands belong to a device, a nexus or a session: found from there, never by a search through all commands.
//!
//! A nexus lists the commands that are in its task set ([`task_set`](crate::task_set)). What is not in one (a command
//! that came ahead of an older one, or to a LUN that is not there) is loose, in a short list of its session.

use crate::command::{Command, NONE};
use crate::engine::Engine;
use crate::ids::{CmdId, DeviceId, SessionId};

impl Engine {
    /// The commands of a device that a predicate takes, nexus by nexus in the order of arrival.
    pub(crate) fn commands_of_device(&self, device: DeviceId, take: impl Fn(&Command) -> bool) -> Vec<CmdId> {
        let mut commands = Vec::new();
        for &slot in self.device(device).into_iter().flat_map(|d| &d.nexuses) {
            self.add_commands_of_nexus(slot, &take, &mut commands);
        }
        commands
    }

    /// The commands of a nexus that a predicate takes, in the order of arrival.
    pub(crate) fn commands_of_nexus(&self, slot: u32, take: impl Fn(&Command) -> bool) -> Vec<CmdId> {
        let mut commands = Vec::new();
        self.add_commands_of_nexus(slot, &take, &mut commands);
        commands
    }

    fn add_commands_of_nexus(&self, slot: u32, take: &impl Fn(&Command) -> bool, out: &mut Vec<CmdId>) {
        let Some(nexus) = self.nexuses.at(slot) else { return };
        if nexus.commands == 0 {
            return;
        }
        let mut at = nexus.oldest;
        while let (Some(command), Some((index, generation))) = (self.commands.at(at), self.commands.name(at)) {
            if take(command) {
                out.push(CmdId { index, generation });
            }
            at = command.next;
        }
        self.add_loose(nexus.session, &|c: &Command| c.nexus == slot && take(c), out);
    }

    /// The commands of a session that a predicate takes.
    pub(crate) fn commands_of_session(&self, id: SessionId, take: impl Fn(&Command) -> bool) -> Vec<CmdId> {
        let mut commands = Vec::new();
        let Some(session) = self.sessions.get(id.index, id.generation) else { return commands };
        for &slot in session.by_lun.iter().filter(|slot| **slot != NONE).chain(&session.removed) {
            self.add_commands_of_nexus(slot, &take, &mut commands);
        }
        self.add_loose(id, &|c: &Command| c.nexus == NONE && take(c), &mut commands);
        commands
    }

    /// The commands of a session that no LUN of its map shows: their LUN was taken away, or never was there.
    pub(crate) fn strays_of_session(&self, id: SessionId, take: impl Fn(&Command) -> bool) -> Vec<CmdId> {
        let mut commands = Vec::new();
        let Some(session) = self.sessions.get(id.index, id.generation) else { return commands };
        for &slot in &session.removed {
            self.add_commands_of_nexus(slot, &take, &mut commands);
        }
        self.add_loose(id, &|c: &Command| c.nexus == NONE && take(c), &mut commands);
        commands
    }

    fn add_loose(&self, id: SessionId, take: &impl Fn(&Command) -> bool, out: &mut Vec<CmdId>) {
        let Some(session) = self.sessions.get(id.index, id.generation) else { return };
        for &at in &session.loose {
            if let (Some(command), Some((index, generation))) = (self.commands.at(at), self.commands.name(at))
                && take(command)
            {
                out.push(CmdId { index, generation });
            }
        }
    }

    /// Takes a command off the list of loose ones: it joins a task set, or its slot is given back.
    pub(crate) fn no_longer_loose(&mut self, session: SessionId, index: u32) {
        let Some(session) = self.sessions.get_mut(session.index, session.generation) else { return };
        if let Some(at) = session.loose.iter().position(|loose| *loose == index) {
            session.loose.swap_remove(at);
        }
    }
}
