//! One connection of the load to an NBD server (the NBD project's proto.md): another block protocol as a reference.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail, ensure};
use scst_testkit::rng::Rng;

use crate::inbox::Inbox;
use crate::load::{LoadOptions, Operation};
use crate::peer::{Link, PAYLOAD, Peer, Picker, READY_BELOW, Ready, Shared, Tags, receive_fixed};

const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REQUEST: usize = 28;
const REPLY: usize = 16;

/// A connection in the transmission phase.
pub(crate) struct NbdConnection {
    link: Link,
    inbox: Inbox,
    tags: Tags,
    ready: Ready,
    picker: Picker,
    operation: Operation,
    length: usize,
}

impl NbdConnection {
    /// Connects and opens the default export.
    pub(crate) fn open(options: &LoadOptions, number: u16) -> Result<Self> {
        let mut stream = TcpStream::connect(options.portal)?;
        stream.set_nodelay(true)?;
        let size = negotiate(&mut stream, &options.target).context("NBD negotiation")?;
        stream.set_nonblocking(true)?;
        let length = options.size as usize;
        let ready = match options.operation {
            Operation::Write if length < READY_BELOW => Ready::new(REQUEST, length, 0),
            _ => Ready::default(),
        };
        Ok(Self {
            link: Link::new(stream),
            inbox: Inbox::new(false, false, true),
            tags: Tags::new(options.depth),
            ready,
            picker: Picker::new(options, size, Rng::new(u64::from(number) + 1))?,
            operation: options.operation,
            length,
        })
    }
}

/// The handshake, fixed newstyle; the size of the export.
fn negotiate(stream: &mut TcpStream, export: &str) -> Result<u64> {
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting)?;
    ensure!(&greeting[..16] == b"NBDMAGICIHAVEOPT", "this is no NBD server of the new style");
    // Fixed newstyle, no zeroes.
    let mut request = 3_u32.to_be_bytes().to_vec();
    request.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
    request.extend_from_slice(&OPTION_GO.to_be_bytes());
    request.extend_from_slice(&(export.len() as u32 + 6).to_be_bytes());
    request.extend_from_slice(&(export.len() as u32).to_be_bytes());
    request.extend_from_slice(export.as_bytes());
    request.extend_from_slice(&[0; 2]);
    stream.write_all(&request)?;
    let mut size = None;
    loop {
        let mut reply = [0; 20];
        stream.read_exact(&mut reply)?;
        let word = |at: usize| u32::from_be_bytes([reply[at], reply[at + 1], reply[at + 2], reply[at + 3]]);
        ensure!(reply[..8] == OPTION_REPLY_MAGIC.to_be_bytes(), "no option reply: {reply:02x?}");
        let (kind, length) = (word(12), word(16) as usize);
        ensure!(length <= 4096, "an option reply of {length} bytes");
        let mut data = vec![0; length];
        stream.read_exact(&mut data)?;
        match kind {
            REPLY_ACK => return size.context("the server did not say how large the export is"),
            REPLY_INFO if length >= 10 && data[..2] == [0, 0] => {
                size = Some(data[2..10].iter().fold(0, |size, byte| size << 8 | u64::from(*byte)));
            }
            REPLY_INFO => {}
            _ => bail!("the server refuses the export {export:?}: {}", String::from_utf8_lossy(&data)),
        }
    }
}

impl Peer for NbdConnection {
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
            let mut request = [0; REQUEST];
            request[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
            request[7] = u8::from(self.operation == Operation::Write);
            request[8..16].copy_from_slice(&(tag as u64).to_be_bytes());
            let offset = self.picker.next() * self.length as u64;
            request[16..24].copy_from_slice(&offset.to_be_bytes());
            request[24..].copy_from_slice(&(self.length as u32).to_be_bytes());
            if self.ready.is_some() {
                let (start, pdu) = self.ready.pdu(tag, shared.memory.bytes_mut());
                pdu[..REQUEST].copy_from_slice(&request);
                let length = pdu.len();
                self.link.outbox.payload(start, length);
                continue;
            }
            self.link.outbox.header(&request);
            if self.operation == Operation::Write {
                self.link.outbox.payload(PAYLOAD, self.length);
            }
        }
    }

    fn receive(&mut self, clock: impl Fn() -> u64, shared: &mut Shared) -> Result<Option<u64>> {
        let data = if self.operation == Operation::Read { self.length } else { 0 };
        let Self { link, inbox, tags, .. } = self;
        receive_fixed::<REPLY>(&link.stream, inbox, data, clock, |reply, now| {
            let word = |at: usize| u32::from_be_bytes([reply[at], reply[at + 1], reply[at + 2], reply[at + 3]]);
            ensure!(word(0) == REPLY_MAGIC, "no reply: {reply:02x?}");
            ensure!(word(4) == 0, "a command ended with error {}", word(4));
            let issued = tags.end(word(12))?;
            link.completed += 1;
            shared.count(now, issued);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// The request of the handshake is what the protocol says, byte by byte, and the size comes from the information.
    #[test]
    fn negotiation() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"NBDMAGICIHAVEOPT\0\x03").unwrap();
            let mut request = [0; 4 + 16 + 6 + 4];
            stream.read_exact(&mut request).unwrap();
            let mut reply = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
            reply.extend_from_slice(&[0, 0, 0, 7, 0, 0, 0, 3, 0, 0, 0, 12]);
            reply.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 1]);
            reply.extend_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
            reply.extend_from_slice(&[0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0]);
            stream.write_all(&reply).unwrap();
            request.to_vec()
        });
        let size = negotiate(&mut TcpStream::connect(address).unwrap(), "disk").unwrap();
        assert_eq!(size, 1 << 28);
        assert_eq!(server.join().unwrap(), b"\0\0\0\x03IHAVEOPT\0\0\0\x07\0\0\0\x0a\0\0\0\x04disk\0\0");
    }
}
