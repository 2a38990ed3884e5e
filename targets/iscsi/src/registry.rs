//! What the reactors of one process share: which sessions exist, and which reactor takes the next connection.
//!
//! Touched when a connection is accepted, at the end of a login, at the end of a session and when the configuration
//! changes; never for a command. It holds names only: a session's state lives on its reactor.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scst_core::Nanos;
use scst_core::ids::{ReactorId, TargetId};

use crate::complaint::{Complaint, Complaints, LeftOut, Verdict};

/// A connection of this process: on which reactor, and its name there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct ConnectionHandle {
    /// The reactor that owns it.
    pub reactor: ReactorId,
    /// Its slot and generation on that reactor.
    pub id: u64,
}

/// What makes two sessions the same nexus (RFC 7143 4.4.3, 6.3.5): initiator name, ISID, and the target with its one
/// portal group.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct SessionKey {
    /// The target.
    pub target: TargetId,
    /// Initiator name in lower case (names compare without case, RFC 7143 4.2.7.2).
    pub initiator: String,
    /// Initiator session identifier.
    pub isid: [u8; 6],
}

/// Answer to [`Registry::claim`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// The session is yours; its TSIH.
    Granted {
        /// Target session identifying handle.
        tsih: u16,
    },
    /// The old session of this nexus has to go first; [`Registry::release`] will name you as the next owner.
    Wait {
        /// Its leading connection, if nobody has asked it to close before.
        close: Option<ConnectionHandle>,
        /// A login that waited for the same and has lost its place to you: refuse it.
        displaced: Option<ConnectionHandle>,
    },
    /// MaxSessions of the target is reached, or no TSIH is left.
    TooMany,
    /// The login names a TSIH that does not exist (RFC 7143 11.13.5, status 020Ah).
    NoSuchSession,
    /// The login wants to add a connection to a session that has its one connection (status 0206h).
    NoMoreConnections,
}

/// A login that wants a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claimant {
    /// The connection.
    pub connection: ConnectionHandle,
    /// TSIH of the login request; 0 asks for a new session or for reinstatement.
    pub tsih: u16,
    /// Connection id of the login request.
    pub cid: u16,
}

#[derive(Debug)]
struct Entry {
    tsih: u16,
    cid: u16,
    owner: ConnectionHandle,
    closing: bool,
    waiter: Option<Claimant>,
}

#[derive(Debug, Default)]
struct Inner {
    sessions: BTreeMap<SessionKey, Entry>,
    per_target: BTreeMap<TargetId, u32>,
    used_tsih: BTreeSet<u16>,
    last_tsih: u16,
    next_reactor: u16,
    portals: Vec<SocketAddr>,
    complaints: Complaints,
}

/// The shared part of the driver; one per process, cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    inner: Arc<Mutex<Inner>>,
    reactors: u16,
}

impl Registry {
    /// A registry for so many reactors (at least one).
    pub fn new(reactors: u16) -> Self {
        Self { inner: Arc::default(), reactors: reactors.max(1) }
    }

    // Every change below is complete before the guard drops, so the content stays good if a holder panicked.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reactor for the next connection, in turn.
    pub fn assign_reactor(&self) -> ReactorId {
        let mut inner = self.lock();
        let reactor = inner.next_reactor % self.reactors;
        inner.next_reactor = (reactor + 1) % self.reactors;
        ReactorId(reactor)
    }

    /// A login is complete but for its session: asks for the session of `key`. `max_sessions` 0 is no limit.
    pub fn claim(&self, key: &SessionKey, claimant: Claimant, max_sessions: u32) -> Claim {
        let mut inner = self.lock();
        if let Some(entry) = inner.sessions.get_mut(key) {
            if claimant.tsih != 0 {
                if claimant.tsih != entry.tsih {
                    return Claim::NoSuchSession;
                }
                if claimant.cid != entry.cid {
                    return Claim::NoMoreConnections;
                }
            }
            let close = (!entry.closing).then_some(entry.owner);
            entry.closing = true;
            let displaced = entry.waiter.replace(claimant).map(|w| w.connection);
            return Claim::Wait { close, displaced };
        }
        if claimant.tsih != 0 {
            return Claim::NoSuchSession;
        }
        if max_sessions != 0 && inner.per_target.get(&key.target).copied().unwrap_or(0) >= max_sessions {
            return Claim::TooMany;
        }
        let Some(tsih) = inner.allocate_tsih() else {
            return Claim::TooMany;
        };
        *inner.per_target.entry(key.target).or_insert(0) += 1;
        let entry = Entry { tsih, cid: claimant.cid, owner: claimant.connection, closing: false, waiter: None };
        inner.sessions.insert(key.clone(), entry);
        Claim::Granted { tsih }
    }

    /// A session is gone, with all its commands. Its name goes to the login that waits for it, if there is one: the
    /// connection to tell, and its TSIH.
    pub fn release(&self, key: &SessionKey, tsih: u16) -> Option<(ConnectionHandle, u16)> {
        let mut inner = self.lock();
        let entry = inner.sessions.get_mut(key)?;
        if entry.tsih != tsih {
            return None;
        }
        if let Some(waiter) = entry.waiter.take() {
            entry.owner = waiter.connection;
            entry.cid = waiter.cid;
            entry.closing = false;
            // A login that named the old TSIH reinstates the connection and keeps it (RFC 7143 6.3.4); one with
            // TSIH 0 starts a new session, whose handle must not be mistaken for the old one.
            let new = if waiter.tsih != 0 { Some(tsih) } else { inner.allocate_tsih() };
            let new = new.unwrap_or(tsih);
            if new != tsih {
                inner.used_tsih.remove(&tsih);
            }
            if let Some(entry) = inner.sessions.get_mut(key) {
                entry.tsih = new;
            }
            return Some((waiter.connection, new));
        }
        inner.sessions.remove(key);
        inner.used_tsih.remove(&tsih);
        if let Some(count) = inner.per_target.get_mut(&key.target) {
            *count -= 1;
            if *count == 0 {
                inner.per_target.remove(&key.target);
            }
        }
        None
    }

    /// A login gives up waiting for a session.
    pub fn withdraw(&self, key: &SessionKey, connection: ConnectionHandle) {
        let mut inner = self.lock();
        if let Some(entry) = inner.sessions.get_mut(key)
            && entry.waiter.is_some_and(|w| w.connection == connection)
        {
            entry.waiter = None;
        }
    }

    /// The session that a connection owns; for the rare case that its login is gone when it gets the name.
    pub fn key_of(&self, owner: ConnectionHandle) -> Option<SessionKey> {
        self.lock().sessions.iter().find(|(_, entry)| entry.owner == owner).map(|(key, _)| key.clone())
    }

    /// Somebody listens on this address.
    pub fn add_portal(&self, portal: SocketAddr) {
        self.lock().portals.push(portal);
    }

    /// Addresses of all listeners.
    pub fn portals(&self) -> Vec<SocketAddr> {
        self.lock().portals.clone()
    }

    /// Counts something that would fill the log: one line for all reactors.
    pub(crate) fn complain(&self, now: Nanos, complaint: Complaint, peer: Option<IpAddr>) -> Verdict {
        self.lock().complaints.add(now, complaint, peer)
    }

    /// What was left out of the log and is over.
    pub(crate) fn complaints_over(&self, now: Nanos) -> Vec<LeftOut> {
        self.lock().complaints.over(now)
    }

    /// Sessions of a target, on all reactors.
    pub fn session_count(&self, target: TargetId) -> u32 {
        self.lock().per_target.get(&target).copied().unwrap_or(0)
    }

    /// A TSIH for a discovery session: not zero, belongs to nobody.
    pub fn discovery_tsih(&self) -> u16 {
        let mut inner = self.lock();
        let tsih = inner.allocate_tsih().unwrap_or(u16::MAX);
        inner.used_tsih.remove(&tsih);
        tsih
    }
}

impl Inner {
    /// The next free TSIH; 0 is never one (RFC 7143 11.12.6).
    fn allocate_tsih(&mut self) -> Option<u16> {
        if self.used_tsih.len() >= usize::from(u16::MAX) {
            return None;
        }
        loop {
            self.last_tsih = self.last_tsih.checked_add(1).unwrap_or(1);
            if self.used_tsih.insert(self.last_tsih) {
                return Some(self.last_tsih);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(target: u32, initiator: &str, isid: u8) -> SessionKey {
        SessionKey { target: TargetId(target), initiator: initiator.into(), isid: [0, 0, 0, 0, 0, isid] }
    }

    fn connection(reactor: u16, id: u64) -> ConnectionHandle {
        ConnectionHandle { reactor: ReactorId(reactor), id }
    }

    fn new_session(reactor: u16, id: u64) -> Claimant {
        Claimant { connection: connection(reactor, id), tsih: 0, cid: 0 }
    }

    #[test]
    fn connections_go_round_the_reactors() {
        let registry = Registry::new(3);
        let order: Vec<u16> = (0..7).map(|_| registry.assign_reactor().0).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn a_second_login_of_the_same_nexus_waits_for_the_first_to_be_gone() {
        let registry = Registry::new(2);
        let k = key(1, "iqn.a", 1);
        assert_eq!(registry.claim(&k, new_session(0, 10), 0), Claim::Granted { tsih: 1 });
        let wait = Claim::Wait { close: Some(connection(0, 10)), displaced: None };
        assert_eq!(registry.claim(&k, new_session(1, 20), 0), wait);
        // A third one takes the place of the second; the first is not asked twice.
        let wait = Claim::Wait { close: None, displaced: Some(connection(1, 20)) };
        assert_eq!(registry.claim(&k, new_session(1, 21), 0), wait);
        registry.withdraw(&k, connection(1, 20));
        assert_eq!(registry.release(&k, 1), Some((connection(1, 21), 2)));
        assert_eq!(registry.session_count(TargetId(1)), 1);
        assert_eq!(registry.release(&k, 1), None, "the old name is void");
        assert_eq!(registry.release(&k, 2), None);
        assert_eq!(registry.session_count(TargetId(1)), 0);
    }

    #[test]
    fn another_isid_or_target_is_another_session() {
        let registry = Registry::new(1);
        assert_eq!(registry.claim(&key(1, "iqn.a", 1), new_session(0, 1), 0), Claim::Granted { tsih: 1 });
        assert_eq!(registry.claim(&key(1, "iqn.a", 2), new_session(0, 2), 0), Claim::Granted { tsih: 2 });
        assert_eq!(registry.claim(&key(2, "iqn.a", 1), new_session(0, 3), 0), Claim::Granted { tsih: 3 });
        assert_eq!(registry.claim(&key(1, "iqn.b", 1), new_session(0, 4), 0), Claim::Granted { tsih: 4 });
    }

    #[test]
    fn max_sessions_counts_per_target_and_lets_a_reinstatement_through() {
        let registry = Registry::new(1);
        let first = key(1, "iqn.a", 1);
        assert_eq!(registry.claim(&first, new_session(0, 1), 1), Claim::Granted { tsih: 1 });
        assert_eq!(registry.claim(&key(1, "iqn.a", 2), new_session(0, 2), 1), Claim::TooMany);
        assert_eq!(registry.claim(&key(2, "iqn.a", 2), new_session(0, 2), 1), Claim::Granted { tsih: 2 });
        let wait = Claim::Wait { close: Some(connection(0, 1)), displaced: None };
        assert_eq!(registry.claim(&first, new_session(0, 3), 1), wait);
    }

    #[test]
    fn a_login_with_a_tsih_must_name_a_live_session() {
        let registry = Registry::new(1);
        let k = key(1, "iqn.a", 1);
        let with = |tsih, cid| Claimant { connection: connection(0, 9), tsih, cid };
        assert_eq!(registry.claim(&k, with(5, 0), 0), Claim::NoSuchSession);
        assert_eq!(registry.claim(&k, new_session(0, 1), 0), Claim::Granted { tsih: 1 });
        assert_eq!(registry.claim(&k, with(5, 0), 0), Claim::NoSuchSession);
        assert_eq!(registry.claim(&k, with(1, 7), 0), Claim::NoMoreConnections);
        // The same connection again: reinstated under the same TSIH.
        let wait = Claim::Wait { close: Some(connection(0, 1)), displaced: None };
        assert_eq!(registry.claim(&k, with(1, 0), 0), wait);
        assert_eq!(registry.release(&k, 1), Some((connection(0, 9), 1)));
    }

    #[test]
    fn a_login_that_gave_up_gets_nothing() {
        let registry = Registry::new(1);
        let k = key(1, "iqn.a", 1);
        assert_eq!(registry.claim(&k, new_session(0, 1), 0), Claim::Granted { tsih: 1 });
        registry.claim(&k, new_session(0, 2), 0);
        registry.withdraw(&k, connection(0, 2));
        assert_eq!(registry.release(&k, 1), None);
        assert_eq!(registry.claim(&k, new_session(0, 3), 0), Claim::Granted { tsih: 2 });
    }

    #[test]
    fn tsih_zero_is_never_given_and_used_ones_are_skipped() {
        let registry = Registry::new(1);
        assert_eq!(registry.claim(&key(1, "iqn.a", 1), new_session(0, 1), 0), Claim::Granted { tsih: 1 });
        registry.lock().last_tsih = u16::MAX;
        assert_eq!(registry.claim(&key(1, "iqn.a", 2), new_session(0, 1), 0), Claim::Granted { tsih: 2 });
    }
}
