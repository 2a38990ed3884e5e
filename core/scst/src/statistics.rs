//! What an engine says of its sessions: plain values, some slots at a time, so that no question holds up commands.

use std::ops::Range;

use crate::engine::Engine;
use crate::ids::SessionId;
use crate::latency::SizeLatency;

/// One session.
#[derive(Clone, PartialEq, Debug)]
pub struct SessionStatistics {
    /// Its name in the engine.
    pub id: SessionId,
    /// Initiator name, as the transport writes it.
    pub initiator: String,
    /// Name of the target; empty when the target is gone.
    pub target: String,
    /// Commands that have a slot.
    pub active: u32,
    /// Commands that have ended since the login, answered or not.
    pub commands: u64,
    /// Its commands by direction and size; None: they are not measured, or among others.
    pub latency: Option<Vec<SizeLatency>>,
}

impl Engine {
    /// Session slots there are, in use or not.
    pub fn session_slots(&self) -> u32 {
        self.sessions.slots()
    }

    /// The sessions in a range of slots.
    pub fn session_statistics(&self, slots: Range<u32>) -> impl Iterator<Item = SessionStatistics> + '_ {
        (slots.start..slots.end.min(self.session_slots())).filter_map(|slot| {
            let (index, generation) = self.sessions.name(slot)?;
            let session = self.sessions.get(index, generation)?;
            Some(SessionStatistics {
                id: SessionId { index, generation },
                initiator: session.initiator.clone(),
                target: self.target(session.target).map(|t| t.name.clone()).unwrap_or_default(),
                active: session.commands,
                commands: session.ended,
                latency: self.session_latency(slot),
            })
        })
    }
}
