//! The core around a blocking `TcpStream`.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::command::{Command, Outcome};
use super::config::{LoginConfig, Parameters};
use super::core::{Core, Phase};
use super::event::{AsyncMessage, Event, LoginFailure, R2t, Rejected, Violation};
use crate::pdu::{DecodeError, Pdu};
use crate::scsi::{self, cdb, param::Capacity};
use crate::text::{self, Keys};

/// No answer for so long is a failure; tests never wait by the clock for success.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// While we send a lot, look for answers this often, so that neither side waits for the other.
const WRITE_SLICE: Duration = Duration::from_millis(20);
const READ_SLICE: Duration = Duration::from_millis(1);
const READ_SIZE: usize = 256 << 10;

/// An Initiator Task Tag.
pub type Tag = u32;

/// Why a call of [`Initiator`] failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket failed.
    #[error("socket: {0}")]
    Io(#[from] io::Error),
    /// The target closed the connection.
    #[error("the target closed the connection")]
    Closed,
    /// Nothing came in time.
    #[error("no answer in time while waiting for {0}")]
    Timeout(&'static str),
    /// The login was refused.
    #[error("login refused with status class {:#04x} detail {:#04x}", .0.class, .0.detail)]
    Login(LoginFailure),
    /// The login was redirected.
    #[error("login redirected to {addresses:?}")]
    Redirected {
        /// Status-Detail: 1 temporarily, 2 permanently.
        detail: u8,
        /// TargetAddress values.
        addresses: Vec<String>,
    },
    /// We did not accept the target's side of the login.
    #[error("login given up: {0}")]
    GivenUp(String),
    /// The target broke the protocol.
    #[error("protocol violation: {}", .0.0)]
    Violation(Violation),
    /// A Reject came.
    #[error("rejected: {0:?}")]
    Rejected(Rejected),
    /// The byte stream is broken.
    #[error("byte stream: {0}")]
    Broken(#[from] DecodeError),
    /// A command that had to succeed did not.
    #[error("command failed: {0:?}")]
    Command(Box<Outcome>),
    /// An answer makes no sense.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
}

/// One target of SendTargets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiscoveredTarget {
    /// Its name.
    pub name: String,
    /// Its addresses, `host:port,tpgt`.
    pub addresses: Vec<String>,
}

/// An initiator on a TCP connection. Every violation of the protocol by the target is an error of the call that saw it,
/// unless [`Initiator::tolerate`] was called.
#[derive(Debug)]
pub struct Initiator {
    core: Core,
    stream: TcpStream,
    timeout: Duration,
    strict: bool,
    scratch: Vec<u8>,
    unsent: Vec<u8>,
    outcomes: BTreeMap<Tag, Outcome>,
    events: Vec<Event>,
}

impl Initiator {
    /// Connects without logging in: for raw PDUs, or for changing the core before [`Initiator::login`].
    ///
    /// # Errors
    /// The connection fails.
    pub fn open(address: SocketAddr, config: LoginConfig) -> Result<Self, Error> {
        let stream = TcpStream::connect_timeout(&address, DEFAULT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            core: Core::new(config),
            stream,
            timeout: DEFAULT_TIMEOUT,
            strict: true,
            scratch: vec![0; READ_SIZE],
            unsent: Vec::new(),
            outcomes: BTreeMap::new(),
            events: Vec::new(),
        })
    }

    /// Connects and logs in.
    ///
    /// # Errors
    /// The login fails.
    pub fn connect(address: SocketAddr, config: LoginConfig) -> Result<Self, Error> {
        let mut initiator = Self::open(address, config)?;
        initiator.login()?;
        Ok(initiator)
    }

    /// Logs in.
    ///
    /// # Errors
    /// The login fails: [`Error::Login`] has the status.
    pub fn login(&mut self) -> Result<(), Error> {
        self.core.start();
        self.wait_for("login", |event| matches!(event, Event::LoggedIn)).map(drop)
    }

    /// Discovery session, SendTargets of `what` ("All", or a target's name), logout.
    ///
    /// # Errors
    /// Any step fails.
    pub fn discover(address: SocketAddr, config: LoginConfig, what: &str) -> Result<Vec<DiscoveredTarget>, Error> {
        let mut initiator = Self::connect(address, config)?;
        let targets = initiator.send_targets(what)?;
        initiator.logout()?;
        Ok(targets)
    }

    /// No answer for so long is [`Error::Timeout`].
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Protocol violations and Rejects become events instead of errors.
    pub fn tolerate(&mut self) {
        self.strict = false;
    }

    /// The core, to look at or to send odd things with.
    pub fn core(&mut self) -> &mut Core {
        &mut self.core
    }

    /// Parameters in force.
    pub fn parameters(&self) -> &Parameters {
        self.core.parameters()
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Takes the events that no call waited for (pings, asynchronous messages, tolerated violations).
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Sends a command (when the window is open); several may be outstanding.
    ///
    /// # Errors
    /// The socket fails, or what came in meanwhile was bad.
    pub fn submit(&mut self, command: Command) -> Result<Tag, Error> {
        let tag = self.core.submit(command);
        self.flush()?;
        Ok(tag)
    }

    /// Waits for the end of one command.
    ///
    /// # Errors
    /// The connection breaks first.
    pub fn wait(&mut self, tag: Tag) -> Result<Outcome, Error> {
        let deadline = Instant::now() + self.timeout;
        loop {
            if let Some(outcome) = self.outcomes.remove(&tag) {
                return Ok(outcome);
            }
            self.step(deadline, "a command")?;
        }
    }

    /// Waits for the end of any command.
    ///
    /// # Errors
    /// The connection breaks first.
    pub fn wait_any(&mut self) -> Result<Outcome, Error> {
        let deadline = Instant::now() + self.timeout;
        loop {
            if let Some((_, outcome)) = self.outcomes.pop_first() {
                return Ok(outcome);
            }
            self.step(deadline, "any command")?;
        }
    }

    /// Takes the end of a command if it came already, without waiting.
    pub fn try_outcome(&mut self, tag: Tag) -> Option<Outcome> {
        self.outcomes.remove(&tag)
    }

    /// Runs one command, whatever its status.
    ///
    /// # Errors
    /// The connection breaks first.
    pub fn execute(&mut self, command: Command) -> Result<Outcome, Error> {
        let tag = self.submit(command)?;
        self.wait(tag)
    }

    /// Runs one command that has to end with GOOD.
    ///
    /// # Errors
    /// Any other end is [`Error::Command`].
    pub fn run(&mut self, command: Command) -> Result<Outcome, Error> {
        let outcome = self.execute(command)?;
        if outcome.is_good() { Ok(outcome) } else { Err(Error::Command(Box::new(outcome))) }
    }

    /// Reads pending unit attentions away with TEST UNIT READY; returns their (ASC, ASCQ).
    ///
    /// # Errors
    /// Another answer than UNIT ATTENTION or GOOD.
    pub fn clear_unit_attentions(&mut self, lun: u32) -> Result<Vec<(u8, u8)>, Error> {
        let mut seen = Vec::new();
        loop {
            let outcome = self.execute(Command::new(lun, cdb::test_unit_ready()))?;
            match outcome.kcq() {
                None if outcome.is_good() => return Ok(seen),
                Some((6, asc, ascq)) => seen.push((asc, ascq)),
                _ => return Err(Error::Command(Box::new(outcome))),
            }
        }
    }

    /// READ CAPACITY (16), or (10) where that is not supported.
    ///
    /// # Errors
    /// Neither works.
    pub fn capacity(&mut self, lun: u32) -> Result<Capacity, Error> {
        let outcome = self.execute(Command::read(lun, cdb::read_capacity16(32), 32))?;
        let capacity = if outcome.kcq().is_some_and(|(key, ..)| key == 5) {
            Capacity::decode10(&self.run(Command::read(lun, cdb::read_capacity10(), 8))?.data_in)
        } else if outcome.is_good() {
            Capacity::decode16(&outcome.data_in)
        } else {
            return Err(Error::Command(Box::new(outcome)));
        };
        capacity.ok_or_else(|| Error::Unexpected("short capacity data".to_owned()))
    }

    /// REPORT LUNS.
    ///
    /// # Errors
    /// The command fails or its data are malformed.
    pub fn report_luns(&mut self) -> Result<Vec<u32>, Error> {
        let length = 8 * 16_384 + 8;
        let outcome = self.run(Command::read(0, cdb::report_luns(0, length), length))?;
        scsi::param::report_luns(&outcome.data_in)
            .ok_or_else(|| Error::Unexpected(format!("REPORT LUNS: {:02x?}", outcome.data_in)))
    }

    /// Runs a task management function; `referenced` is the command to abort. Returns the response code.
    ///
    /// # Errors
    /// The connection breaks first.
    pub fn task_management(&mut self, function: u8, lun: u32, referenced: Option<Tag>) -> Result<u8, Error> {
        let referenced = referenced.map(|tag| (tag, self.core.cmd_sn_of(tag).unwrap_or(0)));
        let expected = self.core.task_management(function, scsi::lun(lun), referenced);
        let event = self.wait_for(
            "task management",
            |event| matches!(event, Event::TaskManagement { itt, .. } if *itt == expected),
        )?;
        let Event::TaskManagement { response, .. } = event else { unreachable!("matched above") };
        Ok(response)
    }

    /// NOP-Out with data; returns the data of the answer.
    ///
    /// # Errors
    /// The connection breaks first.
    pub fn ping(&mut self, data: &[u8]) -> Result<Vec<u8>, Error> {
        let expected = self.core.ping(data, false);
        let event = self.wait_for("NOP-In", |event| matches!(event, Event::NopIn { itt, .. } if *itt == expected))?;
        let Event::NopIn { data, .. } = event else { unreachable!("matched above") };
        Ok(data)
    }

    /// Text negotiation in full feature phase.
    ///
    /// # Errors
    /// The connection breaks first.
    pub fn text(&mut self, keys: &[(&str, &str)]) -> Result<Keys, Error> {
        let expected = self.core.text(&text::keys(keys));
        let event =
            self.wait_for("text response", |event| matches!(event, Event::Text { itt, .. } if *itt == expected))?;
        let Event::Text { keys, .. } = event else { unreachable!("matched above") };
        Ok(keys)
    }

    /// SendTargets.
    ///
    /// # Errors
    /// The answer is malformed.
    pub fn send_targets(&mut self, what: &str) -> Result<Vec<DiscoveredTarget>, Error> {
        let mut targets: Vec<DiscoveredTarget> = Vec::new();
        for (key, value) in self.text(&[("SendTargets", what)])? {
            match (key.as_str(), targets.last_mut()) {
                ("TargetName", _) => targets.push(DiscoveredTarget { name: value, addresses: Vec::new() }),
                ("TargetAddress", Some(target)) => target.addresses.push(value),
                _ => return Err(Error::Unexpected(format!("{key}={value} in SendTargets"))),
            }
        }
        Ok(targets)
    }

    /// Logs out, closes the connection, and returns the logout response.
    ///
    /// # Errors
    /// The connection breaks first.
    pub fn logout(mut self) -> Result<u8, Error> {
        self.request_logout()
    }

    /// Logs out and waits until the target has closed the connection, as RFC 7143 11.15 wants (some leave that to the
    /// initiator). Returns the logout response.
    ///
    /// # Errors
    /// The target does not close, or sends something else.
    pub fn logout_and_wait(mut self) -> Result<u8, Error> {
        let response = self.request_logout()?;
        self.wait_closed()?;
        Ok(response)
    }

    fn request_logout(&mut self) -> Result<u8, Error> {
        self.core.logout(0);
        let event = self.wait_for("logout", |event| matches!(event, Event::LoggedOut { .. }))?;
        let Event::LoggedOut { response, .. } = event else { unreachable!("matched above") };
        Ok(response)
    }

    /// Waits for a held R2T (see [`super::DataOutPlan::hold`]).
    ///
    /// # Errors
    /// The connection breaks first.
    pub fn wait_r2t(&mut self, tag: Tag) -> Result<R2t, Error> {
        let event = self.wait_for("R2T", |event| matches!(event, Event::R2t(r2t) if r2t.itt == tag))?;
        let Event::R2t(r2t) = event else { unreachable!("matched above") };
        Ok(r2t)
    }

    /// Waits for an asynchronous message.
    ///
    /// # Errors
    /// The connection breaks first.
    pub fn wait_async(&mut self) -> Result<AsyncMessage, Error> {
        let event = self.wait_for("an asynchronous message", |event| matches!(event, Event::Async(_)))?;
        let Event::Async(message) = event else { unreachable!("matched above") };
        Ok(message)
    }

    /// Waits for a Reject (call [`Initiator::tolerate`] first).
    ///
    /// # Errors
    /// The connection breaks first.
    pub fn wait_reject(&mut self) -> Result<Rejected, Error> {
        let event = self.wait_for("a Reject", |event| matches!(event, Event::Rejected(_)))?;
        let Event::Rejected(rejected) = event else { unreachable!("matched above") };
        Ok(rejected)
    }

    /// Waits for the next PDU as it is; nothing is interpreted from the first call on.
    ///
    /// # Errors
    /// The connection breaks first.
    pub fn receive_raw(&mut self) -> Result<Pdu, Error> {
        self.core.set_raw(true);
        let event = self.wait_for("a PDU", |event| matches!(event, Event::Raw(_)))?;
        let Event::Raw(pdu) = event else { unreachable!("matched above") };
        Ok(pdu)
    }

    /// Sends a PDU as it is.
    ///
    /// # Errors
    /// The socket fails.
    pub fn send_raw(&mut self, pdu: Pdu) -> Result<(), Error> {
        self.core.send_pdu(pdu);
        self.flush()
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The socket fails.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.core.send_bytes(bytes);
        self.flush()
    }

    /// Takes what has come, without waiting for it, and answers pings: all that an idle session needs.
    ///
    /// # Errors
    /// The socket fails, or what came was bad.
    pub fn serve(&mut self) -> Result<(), Error> {
        self.stream.set_nonblocking(true)?;
        let received = loop {
            match self.receive(READ_SLICE) {
                Ok(true) => {}
                other => break other,
            }
        };
        self.stream.set_nonblocking(false)?;
        received?;
        self.flush()
    }

    /// Closes our sending half.
    ///
    /// # Errors
    /// The socket fails.
    pub fn shutdown_write(&mut self) -> Result<(), Error> {
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }

    /// Waits until the target closes the connection; what comes before is kept as events.
    ///
    /// # Errors
    /// It does not close in time.
    pub fn wait_closed(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + self.timeout;
        loop {
            match self.step(deadline, "the connection to close") {
                Err(Error::Closed) => return Ok(()),
                Err(error) => return Err(error),
                Ok(()) => {}
            }
        }
    }

    /// Waits for an event; others are kept for [`Initiator::take_events`].
    ///
    /// # Errors
    /// The connection breaks first.
    pub fn wait_for(&mut self, what: &'static str, wanted: impl Fn(&Event) -> bool) -> Result<Event, Error> {
        let deadline = Instant::now() + self.timeout;
        loop {
            if let Some(at) = self.events.iter().position(&wanted) {
                return Ok(self.events.remove(at));
            }
            self.step(deadline, what)?;
        }
    }

    /// Sends all there is, and takes what comes in meanwhile.
    ///
    /// # Errors
    /// The socket fails, or what came in was bad.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.send_all(Instant::now() + self.timeout)
    }

    fn send_all(&mut self, deadline: Instant) -> Result<(), Error> {
        loop {
            self.unsent.append(&mut self.core.take_output());
            if self.unsent.is_empty() {
                return Ok(());
            }
            self.stream.set_write_timeout(Some(WRITE_SLICE))?;
            match self.stream.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if is_timeout(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(error)),
            }
            if !self.unsent.is_empty() {
                if Instant::now() > deadline {
                    return Err(Error::Timeout("the target to receive"));
                }
                self.receive(READ_SLICE)?;
            }
        }
    }

    /// Sends, then takes what came; returns after anything was received.
    fn step(&mut self, deadline: Instant, what: &'static str) -> Result<(), Error> {
        self.send_all(deadline)?;
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Timeout(what));
        }
        if self.receive(left)? { Ok(()) } else { Err(Error::Timeout(what)) }
    }

    fn receive(&mut self, patience: Duration) -> Result<bool, Error> {
        self.stream.set_read_timeout(Some(patience))?;
        let received = match self.stream.read(&mut self.scratch) {
            Ok(0) => return Err(Error::Closed),
            Ok(received) => received,
            Err(error) if is_timeout(&error) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(self.broken(error)),
        };
        self.core.handle_input(&self.scratch[..received]);
        self.sort_events()?;
        Ok(true)
    }

    /// A reset by the peer is a close to us: which one a target's close becomes depends on unread bytes.
    fn broken(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
                Error::Closed
            }
            _ => Error::Io(error),
        }
    }

    fn sort_events(&mut self) -> Result<(), Error> {
        let mut result = Ok(());
        while let Some(event) = self.core.poll_event() {
            let error = match event {
                Event::Completed(outcome) => {
                    self.outcomes.insert(outcome.itt, outcome);
                    continue;
                }
                Event::LoginFailed(failure) => Error::Login(failure),
                Event::Redirected { detail, addresses } => Error::Redirected { detail, addresses },
                Event::AuthenticationFailed(why) => Error::GivenUp(why),
                Event::Violation(violation) if self.strict => Error::Violation(violation),
                Event::Rejected(rejected) if self.strict || self.core.phase() == Phase::Failed => {
                    Error::Rejected(rejected)
                }
                Event::Broken(error) if self.strict || !matches!(error, DecodeError::DataDigest(_)) => {
                    Error::Broken(error)
                }
                other => {
                    self.events.push(other);
                    continue;
                }
            };
            if result.is_ok() {
                result = Err(error);
            }
        }
        result
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
