//! The `echo` sub-command, and the load for it: the bytes that a target moves, and nothing else.
//!
//! A request is as long as a command PDU with its immediate data, an answer as long as a Data-In or response PDU. Nobody looks
//! into either; a connection begins with both lengths. What the loop costs beyond that is loopback TCP.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::Result;
use clap::Args;

use crate::inbox::{Filled, Inbox};
use crate::load::{LoadOptions, Operation};
use crate::outbox::{Outbox, Payload};
use crate::peer::{Link, PAYLOAD, Peer, READY_BELOW, Ready, Shared, Tags, receive_fixed};
use crate::responder::{PAYLOAD_BYTES, Responder, serve};

/// Options of `echo`.
#[derive(Clone, Debug, Args)]
pub(crate) struct EchoOptions {
    /// Where to listen.
    #[arg(long)]
    portal: SocketAddr,
}

/// A basic header segment.
const HEADER: usize = 48;
/// Bytes of data behind the header of a request, and of an answer.
const GREETING: usize = 8;

/// Serves until killed.
pub(crate) fn run(options: &EchoOptions) -> Result<()> {
    serve(options.portal, Client::new)
}

struct Client {
    stream: TcpStream,
    inbox: Inbox,
    outbox: Outbox,
    /// Bytes of data in a request and in an answer, as soon as they are known.
    lengths: Option<(usize, usize)>,
    /// The data of the last request are not all there.
    owes: bool,
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        let inbox = Inbox::new(false, false, false);
        Self { stream, inbox, outbox: Outbox::default(), lengths: None, owes: false }
    }

    /// Answers what is there. False when the lengths are none that can be.
    fn answer_all(&mut self) -> bool {
        if self.lengths.is_none() {
            let Some(greeting) = self.inbox.next_fixed::<GREETING>(0) else { return true };
            let word =
                |at: usize| u32::from_be_bytes([greeting[at], greeting[at + 1], greeting[at + 2], greeting[at + 3]]);
            self.lengths = Some((word(0) as usize, word(4) as usize));
        }
        let Some((request, answer)) = self.lengths else { return true };
        if answer > PAYLOAD_BYTES {
            return false;
        }
        loop {
            if self.inbox.is_skipping() {
                return true;
            }
            if self.owes {
                self.owes = false;
                self.outbox.header(&[0; HEADER]);
                self.outbox.payload(0, answer);
            }
            if self.inbox.next_fixed::<HEADER>(request).is_none() {
                return true;
            }
            self.owes = true;
        }
    }
}

impl Responder for Client {
    fn turn(&mut self, payload: &[u8]) -> io::Result<bool> {
        loop {
            match self.inbox.fill(&self.stream)? {
                Filled::Some => {}
                Filled::Nothing => break,
                Filled::Closed => return Ok(false),
            }
            let full = self.inbox.is_full();
            if !self.answer_all() {
                return Ok(false);
            }
            if !full {
                break;
            }
        }
        self.outbox.send(&self.stream, Payload::Bytes(payload))?;
        Ok(true)
    }

    fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn wants_write(&self) -> bool {
        !self.outbox.is_empty()
    }
}

/// A connection of the load.
pub(crate) struct EchoConnection {
    link: Link,
    inbox: Inbox,
    tags: Tags,
    ready: Ready,
    /// The request that is answered next: answers come in order.
    oldest: u32,
    depth: usize,
    /// Bytes of data in a request and in an answer.
    request: usize,
    answer: usize,
}

impl EchoConnection {
    /// Connects and says how long requests and answers are.
    pub(crate) fn open(options: &LoadOptions) -> Result<Self> {
        let mut stream = TcpStream::connect(options.portal)?;
        stream.set_nodelay(true)?;
        let (request, answer) = match options.operation {
            Operation::Read => (0, options.size),
            Operation::Write => (options.size, 0),
        };
        stream.write_all(&[request.to_be_bytes(), answer.to_be_bytes()].concat())?;
        stream.set_nonblocking(true)?;
        let (request, answer) = (request as usize, answer as usize);
        let ready = if (1..READY_BELOW).contains(&request) { Ready::new(HEADER, request, 0) } else { Ready::default() };
        Ok(Self {
            link: Link::new(stream),
            inbox: Inbox::new(false, false, true),
            tags: Tags::new(options.depth),
            ready,
            oldest: 0,
            depth: options.depth,
            request,
            answer,
        })
    }
}

impl Peer for EchoConnection {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    fn tags(&self) -> &Tags {
        &self.tags
    }

    fn ready(&mut self) -> &mut Ready {
        &mut self.ready
    }

    fn issue(&mut self, now: u64, shared: &mut Shared) {
        while let Some(tag) = self.tags.next(now) {
            if self.ready.is_some() {
                let (start, request) = self.ready.pdu(tag, shared.memory.bytes_mut());
                let length = request.len();
                self.link.outbox.payload(start, length);
            } else {
                self.link.outbox.header(&[0; HEADER]);
                self.link.outbox.payload(PAYLOAD, self.request);
            }
        }
    }

    fn receive(&mut self, clock: impl Fn() -> u64, shared: &mut Shared) -> Result<Option<u64>> {
        let Self { link, inbox, tags, oldest, depth, .. } = self;
        receive_fixed::<HEADER>(&link.stream, inbox, self.answer, clock, |_, now| {
            let issued = tags.end(*oldest)?;
            *oldest = (*oldest + 1) % (2 * *depth) as u32;
            link.completed += 1;
            shared.count(now, issued);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{self, Protocol};
    use scst_testkit::free_portal;

    #[test]
    fn the_load_moves_bytes_both_ways() {
        let portal = free_portal().unwrap();
        std::thread::spawn(move || run(&EchoOptions { portal }));
        while TcpStream::connect(portal).is_err() {
            std::thread::yield_now();
        }
        for (operation, size, depth, connections) in [
            (Operation::Read, 4096, 32, 1),
            (Operation::Write, 4096, 32, 3),
            (Operation::Write, 512, 1, 16),
            (Operation::Read, 1 << 20, 4, 2),
            (Operation::Write, 1 << 20, 4, 2),
        ] {
            let options = LoadOptions::for_test(portal, operation, size, depth, connections);
            let report = load::run(&LoadOptions { protocol: Protocol::Echo, ..options }).unwrap();
            assert!(report.iops > 0.0, "{operation:?} {size}: {report}");
        }
        // Lengths that it has no data for.
        let options = LoadOptions::for_test(portal, Operation::Read, 2 << 20, 1, 1);
        assert!(load::run(&LoadOptions { protocol: Protocol::Echo, ..options }).is_err());
    }
}
