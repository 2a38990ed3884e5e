//! A session on its reactor: the protocol's state, the mid-level's name of it, and what each task is in the mid-level.

use std::net::SocketAddr;

use scst_core::buffer::SgList;
use scst_core::ids::{CmdId, SessionId};
use scst_core::shard::Shard;
use scst_protocol_iscsi::connection::ConnectionParameters;
use scst_protocol_iscsi::event::TaskHandle;
use scst_protocol_iscsi::session::Session;

use crate::connection::ChunkId;
use crate::ids::Slot;
use crate::registry::SessionKey;

/// A session. It begins when a login is granted its name and ends when the mid-level has let go of its last command
/// and its connection is closed.
#[derive(Debug)]
pub(crate) struct SessionState {
    /// Its one connection (the leading one, should there be more some day).
    pub(crate) connection: Slot,
    /// Its name in the mid-level; None in discovery sessions, and when the mid-level has nothing of it any more.
    pub(crate) core: Option<SessionId>,
    /// Its name in the registry and its TSIH, as long as it holds them.
    pub(crate) claim: Option<(SessionKey, u16)>,
    /// The protocol's state; None until the last login response has been handed over.
    pub(crate) protocol: Option<Session>,
    /// What the mid-level knows of its tasks.
    pub(crate) tasks: Tasks,
    /// A logout waits for the end of its commands.
    pub(crate) logout: bool,
}

/// Where a task is, as far as its buffer is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TaskState {
    /// With the mid-level.
    Given,
    /// Its data-out are being fetched.
    Fetching,
    /// Aborted, but bytes can still arrive in its buffer: the mid-level waits for `data_received`.
    Stopping,
    /// Its response is queued.
    Responding,
}

/// A task that the mid-level has, or that is being answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    generation: u32,
    /// The mid-level's command; None when it had no slot and BUSY is the answer.
    pub(crate) cmd: Option<CmdId>,
    /// Its data are in this read-ahead buffer of the connection.
    pub(crate) lent: Option<ChunkId>,
    pub(crate) state: TaskState,
}

/// The tasks of a session, by the protocol's slot.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    slots: Vec<Option<Task>>,
}

impl Tasks {
    /// Gives the memory of an empty table back.
    pub(crate) fn shrink(&mut self) {
        if self.len() == 0 {
            self.slots = Vec::new();
        }
    }

    pub(crate) fn insert(&mut self, handle: TaskHandle, cmd: Option<CmdId>) {
        let index = handle.index as usize;
        if self.slots.len() <= index {
            self.slots.resize(index + 1, None);
        }
        debug_assert!(self.slots[index].is_none(), "the protocol reused a task that is still here");
        self.slots[index] = Some(Task { generation: handle.generation, cmd, lent: None, state: TaskState::Given });
    }

    pub(crate) fn get(&self, handle: TaskHandle) -> Option<&Task> {
        self.slots.get(handle.index as usize)?.as_ref().filter(|t| t.generation == handle.generation)
    }

    pub(crate) fn get_mut(&mut self, handle: TaskHandle) -> Option<&mut Task> {
        self.slots.get_mut(handle.index as usize)?.as_mut().filter(|t| t.generation == handle.generation)
    }

    /// The buffer of a task; the mid-level keeps it until the task is answered and nothing arrives in it any more.
    pub(crate) fn sg<'a>(&self, handle: TaskHandle, shard: &'a Shard) -> Option<&'a SgList> {
        shard.sg(self.get(handle)?.cmd?)
    }

    pub(crate) fn remove(&mut self, handle: TaskHandle) -> Option<Task> {
        self.get(handle)?;
        self.slots[handle.index as usize].take()
    }

    /// Takes out all tasks that wait for the end of the connection: those that are being answered, and those whose
    /// buffer could still be written to.
    pub(crate) fn take_waiting(&mut self) -> impl Iterator<Item = Task> + '_ {
        self.slots
            .iter_mut()
            .filter_map(|slot| slot.take_if(|t| matches!(t.state, TaskState::Responding | TaskState::Stopping)))
    }

    /// Whether a task is aborted but can still get bytes.
    pub(crate) fn any_stopping(&self) -> bool {
        self.slots.iter().flatten().any(|t| t.state == TaskState::Stopping)
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }
}

/// A session as management shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionInfo {
    /// Initiator name.
    pub initiator: String,
    /// Target name; None for a discovery session.
    pub target: Option<String>,
    /// Initiator session identifier.
    pub isid: [u8; 6],
    /// Target session identifying handle.
    pub tsih: u16,
    /// Connection identifier.
    pub cid: u16,
    /// The initiator's address.
    pub peer: SocketAddr,
    /// Our address.
    pub local: SocketAddr,
    /// What was negotiated for the connection.
    pub parameters: ConnectionParameters,
    /// Tasks that are not fully answered.
    pub tasks: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_handle_finds_no_task() {
        let mut tasks = Tasks::default();
        let old = TaskHandle { index: 3, generation: 1 };
        let new = TaskHandle { index: 3, generation: 2 };
        tasks.insert(old, None);
        assert!(tasks.remove(new).is_none());
        assert!(tasks.remove(old).is_some());
        tasks.insert(new, None);
        tasks.shrink();
        assert!(tasks.get(old).is_none() && tasks.get(new).is_some());
        assert_eq!(tasks.len(), 1);
    }

    #[test]
    fn only_tasks_that_wait_for_the_socket_are_taken_at_its_end() {
        let mut tasks = Tasks::default();
        let states = [TaskState::Given, TaskState::Responding, TaskState::Fetching, TaskState::Stopping];
        for (index, state) in states.into_iter().enumerate() {
            let handle = TaskHandle { index: index as u32, generation: 0 };
            tasks.insert(handle, Some(CmdId { index: index as u32, generation: 0 }));
            tasks.get_mut(handle).unwrap().state = state;
        }
        let taken: Vec<u32> = tasks.take_waiting().filter_map(|t| t.cmd).map(|c| c.index).collect();
        assert_eq!(taken, [1, 3]);
        assert_eq!(tasks.len(), 2);
    }
}
