//! Connections that rest: what they keep only to be fast goes back.
//!
//! A connection rests when no command came from one look to the next; a ping is no command. Its tables and queues give
//! their memory back, its read-ahead becomes small with the next bytes that come, and it has a header buffer only while it
//! sends. It is awake again when it has answered a command and has a header buffer to keep.
//!
//! A pool that is used up by commands must still be drained by sending. So as long as anybody rests, one header buffer is
//! set aside for those who wake up and get none from the pool; they take turns. Who waits for it takes one of the pool as
//! soon as that has one again: the buffer that is lent may be away for as long as an initiator is slow to take it.

use scst_core::Nanos;
use scst_core::buffer::SgList;
use scst_mem::BufferPool;
use scst_reactor::backend::Backend;

use crate::connection::{Connection, Output, Phase};
use crate::ids::Slot;
use crate::limits::{REST_AFTER, SEND_HEADER_BYTES};
use crate::starved::Starved;
use crate::target::{Env, IscsiTarget};
use crate::timers::Timer;

/// Connections that one turn looks at.
const STEP: u32 = 256;
/// Time between two steps of one look.
const PAUSE: Nanos = Nanos::from_millis(1);

/// Resting connections of one reactor, and what they share.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    resting: u32,
    /// The header buffer set aside; empty while it is lent, or nobody rests.
    spare: SgList,
    lent: bool,
    /// Who waits for it, or for one of the pool.
    starved: Starved,
    /// Where the look goes on.
    from: u32,
    /// A look is under way or has its time.
    looking: bool,
}

impl Rest {
    /// Counts one more; false when there is no memory to set aside, then nobody rests.
    fn begin(&mut self, pool: &mut BufferPool) -> bool {
        if self.resting == 0 && !self.lent {
            let Some(spare) = pool.allocate(SEND_HEADER_BYTES) else { return false };
            self.spare = spare;
        }
        self.resting += 1;
        true
    }

    fn end(&mut self, pool: &mut BufferPool) {
        self.resting -= 1;
        if self.resting == 0 {
            pool.release(&std::mem::take(&mut self.spare));
        }
    }

    /// Lends the spare buffer, because the pool has none. False: another one has it, and the connection is told when it
    /// may try again.
    pub(crate) fn lend(&mut self, connection: Slot, output: &mut Output, pool: &BufferPool) -> bool {
        if self.spare.is_empty() {
            self.starved.wait(connection, pool);
            return false;
        }
        output.buffer = std::mem::take(&mut self.spare);
        output.borrowed = true;
        self.lent = true;
        true
    }

    /// Takes a header buffer that is not sent from.
    fn take_back(&mut self, connection: &mut Connection, pool: &mut BufferPool) {
        let buffer = std::mem::take(&mut connection.output.buffer);
        if std::mem::take(&mut connection.output.borrowed) {
            self.lent = false;
            if self.resting > 0 {
                self.spare = buffer;
                return;
            }
        }
        pool.release(&buffer);
    }

    /// A resting connection has sent something; `served`: the answer to a command.
    pub(crate) fn sent(&mut self, connection: &mut Connection, served: bool, pool: &mut BufferPool) {
        if served && !connection.output.borrowed {
            connection.resting = false;
            self.end(pool);
        } else {
            self.take_back(connection, pool);
        }
    }

    /// A connection is closed.
    pub(crate) fn closed(&mut self, connection: &mut Connection, pool: &mut BufferPool) {
        self.take_back(connection, pool);
        if std::mem::take(&mut connection.resting) {
            self.end(pool);
        }
    }

    /// Whether somebody may try again now.
    pub(crate) fn has_starved(&self, pool: &BufferPool) -> bool {
        !self.starved.is_empty() && (!self.lent || self.starved.may_look(pool))
    }

    /// Who may try again now, one at a time.
    pub(crate) fn next_starved(&mut self, pool: &BufferPool) -> Option<Slot> {
        if self.has_starved(pool) { self.starved.pop() } else { None }
    }
}

impl IscsiTarget {
    /// There are connections to look at from now on.
    pub(crate) fn start_looking(&mut self, now: Nanos) {
        if !std::mem::replace(&mut self.shared.rest.looking, true) {
            self.shared.timers.set(now.after(REST_AFTER), Timer::Rest);
        }
    }

    /// Looks at some connections, and sets the time to go on.
    pub(crate) fn look_for_rest<B: Backend>(&mut self, env: &mut Env<'_, B>) {
        let from = self.shared.rest.from;
        let to = from.saturating_add(STEP);
        for index in from..to {
            if let Some(slot) = self.connections.name(index) {
                self.rest_if_quiet(slot, env.pool);
            }
        }
        let more = self.connections.slots_made() > to;
        let shared = &mut self.shared;
        shared.rest.from = if more { to } else { 0 };
        shared.rest.looking = more || self.connections.len() > 0;
        if shared.rest.looking {
            shared.timers.set(env.now.after(if more { PAUSE } else { REST_AFTER }), Timer::Rest);
        }
    }

    fn rest_if_quiet(&mut self, slot: Slot, pool: &mut BufferPool) {
        let Some((connection, Some(session), shared)) = self.parts(slot) else { return };
        let Some(state) = session.protocol.as_mut() else { return };
        let next_command = state.exp_cmd_sn();
        let quiet = connection.seen.replace(next_command) == Some(next_command) && state.tasks() == 0;
        let can = connection.is_open() && !connection.output.in_flight && connection.output.close_after.is_none();
        if connection.resting || !quiet || !can || !shared.rest.begin(pool) {
            return;
        }
        connection.resting = true;
        if let Phase::Full(protocol) = &mut connection.phase {
            protocol.shrink();
        }
        state.shrink();
        session.tasks.shrink();
        connection.output.commands = Vec::new();
        connection.input.rest(pool);
        shared.rest.take_back(connection, pool);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scst_mem::PoolConfig;

    #[test]
    fn the_spare_buffer_is_there_while_somebody_rests() {
        let mut pool = BufferPool::new(PoolConfig { budget: 1 << 20, huge_pages: false, ..PoolConfig::default() });
        let mut rest = Rest::default();
        assert!(rest.begin(&mut pool) && rest.begin(&mut pool));
        assert_eq!(pool.statistics().in_use, u64::from(SEND_HEADER_BYTES));
        rest.end(&mut pool);
        assert_eq!(pool.statistics().in_use, u64::from(SEND_HEADER_BYTES));
        rest.end(&mut pool);
        assert_eq!(pool.statistics().in_use, 0);
        let all = pool.allocate(1 << 20).unwrap();
        assert!(!rest.begin(&mut pool), "nobody rests who could not be woken up");
        pool.release(&all);
        assert!(rest.begin(&mut pool));
    }
}
