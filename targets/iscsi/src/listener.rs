//! Listeners, and which reactor gets the next connection.

use std::io;
use std::net::SocketAddr;

use scst_reactor::backend::{Backend, SocketId};

use crate::complaint::Complaint;
use crate::ids::{Operation, Slot, token};
use crate::limits::ACCEPT_RETRY;
use crate::message::DriverMessage;
use crate::target::{Env, IscsiTarget};
use crate::timers::Timer;

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: SocketId,
    closing: bool,
}

impl IscsiTarget {
    /// Opens a portal. Connections of all portals are spread over the reactors in turn. Returns the address that is
    /// listened on, with the real port when 0 was asked for.
    ///
    /// # Errors
    /// Whatever the system says; or there are too many listeners.
    pub fn listen<B: Backend>(&mut self, backend: &mut B, addr: SocketAddr) -> io::Result<SocketAddr> {
        if !self.listeners.has_room() {
            return Err(io::Error::other("too many iSCSI portals"));
        }
        let socket = backend.listen(addr)?;
        let local = backend.local_addr(socket)?;
        if let Some(slot) = self.listeners.insert_with(|_| Listener { socket, closing: false }) {
            backend.accept(socket, token(Operation::Accept, slot));
        }
        self.shared.registry.add_portal(local);
        Ok(local)
    }

    pub(crate) fn close_listeners<B: Backend>(&mut self, backend: &mut B) {
        for slot in self.listeners.slots() {
            if let Some(listener) = self.listeners.get_mut(slot)
                && !std::mem::replace(&mut listener.closing, true)
            {
                backend.close(listener.socket, token(Operation::CloseListener, slot));
            }
        }
    }

    /// An accept has ended.
    pub(crate) fn accepted<B: Backend>(&mut self, slot: Slot, result: Result<SocketId, i32>, env: &mut Env<'_, B>) {
        match result {
            Ok(socket) => {
                self.place(socket, env);
                self.accept_again(slot, env);
            }
            Err(errno) => {
                let Some(listener) = self.listeners.get(slot) else { return };
                if !listener.closing {
                    // Out of file descriptors or memory, or the peer is gone already; not worth a busy loop.
                    let complaint = Complaint::Accept(errno);
                    if self.shared.complain(env.now, complaint, None) {
                        tracing::warn!("{complaint}");
                    }
                    self.shared.timers.set(env.now.after(ACCEPT_RETRY), Timer::Listener(slot));
                }
            }
        }
    }

    pub(crate) fn accept_again<B: Backend>(&self, slot: Slot, env: &mut Env<'_, B>) {
        if let Some(listener) = self.listeners.get(slot)
            && !listener.closing
        {
            env.backend.accept(listener.socket, token(Operation::Accept, slot));
        }
    }

    /// Keeps a connection, or gives it to the reactor whose turn it is.
    fn place<B: Backend>(&mut self, socket: SocketId, env: &mut Env<'_, B>) {
        let reactor = self.shared.registry.assign_reactor();
        if reactor == self.shared.reactor {
            return self.add_connection(socket, env);
        }
        match env.backend.detach(socket) {
            Ok(socket) => self.shared.outbox.push_back((reactor, DriverMessage::Connection(socket))),
            Err(error) => self.not_moved(&error, env.now),
        }
    }
}
