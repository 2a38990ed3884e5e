//! The loop of a responder: epoll, and a turn for each connection that has something.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result};

use crate::sys::{Epoll, Events, Interest};

const LISTENER: usize = usize::MAX;
/// Bytes of the data that answers are made of.
pub(crate) const PAYLOAD_BYTES: usize = 1 << 20;

/// One connection of a responder.
pub(crate) trait Responder {
    /// Takes all that the socket has, answers all of it, sends once. False when the connection is over.
    fn turn(&mut self, payload: &[u8]) -> io::Result<bool>;
    fn stream(&self) -> &TcpStream;
    /// The socket did not take all that was to be sent.
    fn wants_write(&self) -> bool;
}

/// Serves until killed.
pub(crate) fn serve<R: Responder>(portal: SocketAddr, open: impl Fn(TcpStream) -> R) -> Result<()> {
    let listener = TcpListener::bind(portal).with_context(|| format!("listening on {portal}"))?;
    let epoll = Epoll::new()?;
    epoll.add(&listener, LISTENER, Interest::Read)?;
    // Memory with something in it: pages that nobody has written are all one and the same page of zeros, which never
    // leaves the nearest cache, and no target has its data there.
    let payload = scst_testkit::rng::Rng::new(2).bytes(PAYLOAD_BYTES);
    // With what the epoll instance waits for.
    let mut clients: BTreeMap<usize, (R, bool)> = BTreeMap::new();
    let mut next = 0;
    let mut events = Events::new();
    loop {
        epoll.wait(&mut events, -1)?;
        for token in events.tokens() {
            if token == LISTENER {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                epoll.add(&stream, next, Interest::Read)?;
                clients.insert(next, (open(stream), false));
                next += 1;
                continue;
            }
            let Some((client, armed)) = clients.get_mut(&token) else { continue };
            let turn = client.turn(&payload).and_then(|open| {
                let wants_write = client.wants_write();
                if wants_write != *armed {
                    *armed = wants_write;
                    let interest = if wants_write { Interest::ReadWrite } else { Interest::Read };
                    epoll.modify(client.stream(), token, interest)?;
                }
                Ok(open)
            });
            if !turn.unwrap_or(false) {
                clients.remove(&token);
            }
        }
    }
}
