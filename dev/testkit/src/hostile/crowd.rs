//! Connections that misbehave and stay.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::initiator::{Initiator, LoginConfig};
use crate::pdu::{Digests, Pdu, opcode};
use crate::rng::Rng;
use crate::text;

const POLL: Duration = Duration::from_millis(5);

/// What a connection of a crowd does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misbehaviour {
    /// Connects and says nothing.
    Silent,
    /// Sends so many random bytes.
    Garbage(usize),
    /// Sends half of a login header.
    HalfHeader,
    /// Sends a login header and half of its text.
    HalfText,
    /// Sends a header that announces 16 MiB of text, and a little of it.
    HugeLength,
    /// Sends a command before any login.
    CommandFirst,
    /// Logs in, then says nothing.
    LoginThenSilent,
    /// Logs in, then sends half of a command PDU.
    LoginThenHalfCommand,
    /// Logs in, then announces a WRITE and sends none of its data.
    LoginThenNoData,
    /// Logs in, then sends so many random bytes.
    LoginThenGarbage(usize),
}

/// How many connections of a crowd are in which state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CrowdState {
    /// The target still holds the connection.
    pub open: usize,
    /// The target closed it.
    pub closed: usize,
    /// The connection, or the login that was to precede the misbehaviour, was refused.
    pub refused: usize,
}

#[derive(Debug)]
struct Intruder {
    stream: TcpStream,
    received: Vec<u8>,
    open: bool,
}

/// Connections that misbehave; closed when dropped.
#[derive(Debug)]
pub struct Crowd {
    intruders: Vec<Intruder>,
    refused: usize,
}

impl Crowd {
    /// Opens `count` connections; connection number i uses misbehaviour i modulo their number. `login` is used by those
    /// that log in first, each with an ISID of its own.
    ///
    /// # Errors
    /// A local resource is exhausted (a target that refuses is counted, not an error).
    pub fn open(
        portal: SocketAddr,
        login: &LoginConfig,
        misbehaviours: &[Misbehaviour],
        count: usize,
        seed: u64,
    ) -> io::Result<Self> {
        let mut rng = Rng::new(seed);
        let mut crowd = Self { intruders: Vec::new(), refused: 0 };
        for (number, &misbehaviour) in misbehaviours.iter().cycle().take(count).enumerate() {
            let config = login.clone().with_isid(0x1000_u16.wrapping_add(number as u16));
            match intrude(portal, config, misbehaviour, &mut rng) {
                Ok(stream) => {
                    stream.set_nonblocking(true)?;
                    crowd.intruders.push(Intruder { stream, received: Vec::new(), open: true });
                }
                Err(Refused::ByTarget) => crowd.refused += 1,
                Err(Refused::Local(error)) => return Err(error),
            }
        }
        Ok(crowd)
    }

    /// Looks at every connection once.
    pub fn state(&mut self) -> CrowdState {
        for intruder in &mut self.intruders {
            intruder.poll();
        }
        let open = self.intruders.iter().filter(|one| one.open).count();
        CrowdState { open, closed: self.intruders.len() - open, refused: self.refused }
    }

    /// Waits until the target has closed all of them.
    ///
    /// # Errors
    /// The state when the time was over.
    pub fn wait_all_closed(&mut self, patience: Duration) -> Result<CrowdState, CrowdState> {
        let deadline = Instant::now() + patience;
        loop {
            let state = self.state();
            if state.open == 0 {
                return Ok(state);
            }
            if Instant::now() > deadline {
                return Err(state);
            }
            thread::sleep(POLL);
        }
    }

    /// Bytes that the target sent to each connection, for a closer look.
    pub fn received(&self) -> impl Iterator<Item = &[u8]> {
        self.intruders.iter().map(|one| one.received.as_slice())
    }
}

impl Intruder {
    fn poll(&mut self) {
        let mut buffer = [0; 4096];
        while self.open {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.open = false,
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.open = false,
            }
        }
    }
}

enum Refused {
    ByTarget,
    Local(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted => Self::ByTarget,
            _ => Self::Local(error),
        }
    }
}

fn intrude(
    portal: SocketAddr,
    config: LoginConfig,
    misbehaviour: Misbehaviour,
    rng: &mut Rng,
) -> Result<TcpStream, Refused> {
    use Misbehaviour as M;
    let login_first = matches!(
        misbehaviour,
        M::LoginThenSilent | M::LoginThenHalfCommand | M::LoginThenNoData | M::LoginThenGarbage(_)
    );
    let (mut stream, digests) = if login_first {
        let initiator = Initiator::connect(portal, config).map_err(|_| Refused::ByTarget)?;
        let digests = initiator.parameters().digests;
        (initiator.stream().try_clone()?, digests)
    } else {
        (TcpStream::connect(portal)?, Digests::default())
    };
    let login = Pdu::new(opcode::LOGIN | 0x40).with_flags(0x87).with_u32(16, 1).with_u32(20, 0);
    let command = Pdu::new(opcode::SCSI_COMMAND).with_flags(0xa1).with_u32(16, 9).with_u32(20, 65_536);
    let mut write = command.with_u32(24, 1);
    write.bhs[32..42].copy_from_slice(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 128, 0]);
    let bytes = match misbehaviour {
        M::Silent | M::LoginThenSilent => Vec::new(),
        M::Garbage(length) | M::LoginThenGarbage(length) => rng.bytes(length),
        M::HalfHeader => login.to_bytes(digests)[..24].to_vec(),
        M::HalfText => {
            let text = text::encode(&text::keys(&[("InitiatorName", "iqn.2026-01.test:half"), ("A", "bcdefgh")]));
            let whole = login.with_data(text).to_bytes(digests);
            whole[..48 + (whole.len() - 48) / 2].to_vec()
        }
        M::HugeLength => {
            let mut bytes = login.to_bytes(digests);
            bytes[5..8].fill(0xff);
            bytes.extend_from_slice(b"InitiatorName=");
            bytes
        }
        M::CommandFirst => write.to_bytes(digests),
        M::LoginThenHalfCommand => write.to_bytes(digests)[..20].to_vec(),
        M::LoginThenNoData => write.with_flags(0x21).to_bytes(digests),
    };
    stream.write_all(&bytes)?;
    Ok(stream)
}
