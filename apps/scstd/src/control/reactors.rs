//! Asking reactors and waiting for their answers.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use scst_core::ids::ReactorId;
use scst_reactor::mailbox::Undelivered;

use super::{ANSWER, Control, Event};
use crate::reactor_loop::{Inbound, Report, ReportKind, Request};

/// Pause before a full mailbox is tried again.
const MAIL_RETRY: Duration = Duration::from_millis(1);

impl Control {
    /// Asks every reactor that runs and waits for the answers. False (and a line in the log) when one does not answer in
    /// time.
    pub(super) fn ask_all(&mut self, what: &str, request: impl Fn() -> Request) -> bool {
        let reactors = self.running();
        let mut tickets = BTreeMap::new();
        for reactor in reactors {
            if let Some(ticket) = self.post(reactor, request()) {
                tickets.insert(ticket, reactor);
            } else {
                tracing::error!(reactor = reactor.0, "a reactor cannot be asked: {what}");
            }
        }
        let deadline = Instant::now() + ANSWER;
        let asked = tickets.len();
        let mut answered = 0;
        while !tickets.is_empty() {
            match self.answer(deadline) {
                Some(Answer::Done(ticket, _)) => answered += usize::from(tickets.remove(&ticket).is_some()),
                Some(Answer::Ended(reactor)) => tickets.retain(|_, asked| *asked != reactor),
                None => {
                    for reactor in tickets.values() {
                        tracing::error!(reactor = reactor.0, "no answer from a reactor within {ANSWER:?}: {what}");
                    }
                    break;
                }
            }
        }
        answered == asked
    }

    /// Asks one reactor to listen.
    ///
    /// # Errors
    /// It cannot, or does not answer.
    pub(super) fn ask_to_listen(&mut self, reactor: ReactorId, address: SocketAddr) -> io::Result<SocketAddr> {
        let gone = || io::Error::new(io::ErrorKind::TimedOut, "the reactor does not answer");
        let asked = self.post(reactor, Request::Listen(address)).ok_or_else(gone)?;
        let deadline = Instant::now() + ANSWER;
        loop {
            match self.answer(deadline) {
                Some(Answer::Done(ticket, result)) if ticket == asked => return Ok(result?.unwrap_or(address)),
                Some(Answer::Done(..)) => {}
                Some(Answer::Ended(other)) if other != reactor => {}
                Some(Answer::Ended(_)) | None => return Err(gone()),
            }
        }
    }

    /// Reactors that have not ended.
    pub(super) fn running(&self) -> Vec<ReactorId> {
        (0..self.reactors.count()).map(ReactorId).filter(|r| !self.ended.contains(r)).collect()
    }

    /// Whether every reactor answers.
    pub(super) fn all_answer(&mut self) -> bool {
        self.ask_all("are you alive", || Request::Ping)
    }

    /// Sends a request without waiting for the answer. None when the reactor is gone or its mailbox stays full.
    pub(super) fn post(&mut self, reactor: ReactorId, request: Request) -> Option<u64> {
        let mail = self.reactors.mail.get(usize::from(reactor.0))?.clone();
        self.next_ticket += 1;
        let mut message = Inbound::Control { ticket: self.next_ticket, request };
        let deadline = Instant::now() + ANSWER;
        loop {
            match mail.send(message) {
                Ok(()) => return Some(self.next_ticket),
                Err(Undelivered::Full(back)) if Instant::now() < deadline => message = back,
                Err(_) => return None,
            }
            thread::sleep(MAIL_RETRY);
        }
    }

    /// The next answer; everything else that comes meanwhile is kept for later.
    fn answer(&mut self, deadline: Instant) -> Option<Answer> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.receive(Some(left))? {
                Event::Report(Report { kind: ReportKind::Done { ticket, result }, .. }) => {
                    return Some(Answer::Done(ticket, result));
                }
                Event::Report(report) if matches!(report.kind, ReportKind::Ended(_)) => {
                    let reactor = report.reactor;
                    self.report(report);
                    return Some(Answer::Ended(reactor));
                }
                Event::Report(Report { reactor, kind: ReportKind::Statistics(part) }) => {
                    self.counted.push((reactor, *part));
                }
                event => self.pending.push_back(event),
            }
        }
    }
}

/// What ends the waiting for an answer.
enum Answer {
    /// The answer to a ticket.
    Done(u64, io::Result<Option<SocketAddr>>),
    /// A reactor that will not answer any more.
    Ended(ReactorId),
}
