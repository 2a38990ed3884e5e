//! Log lines that anybody can cause who reaches a portal: one for each reason and address in a time, then how many more
//! there were.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;

use scst_core::Nanos;
use scst_protocol_iscsi::login::RefusalReason;

/// How long a line stands for all that are like it.
pub(crate) const PERIOD: Nanos = Nanos::from_secs(60);
/// Addresses that are told apart. What comes from others beyond them is counted together, for each reason.
const MAX_ADDRESSES: usize = 256;

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Complaint {
    /// A login was refused.
    Refused(RefusalReason),
    /// A connection was closed because there was not even memory to refuse its login.
    Closed(RefusalReason),
    /// A connection could not be accepted; the errno.
    Accept(i32),
    /// A connection could not be given to its reactor; the errno, if there is one.
    Moved(Option<i32>),
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => write!(f, "login refused: {reason}"),
            Self::Closed(reason) => write!(f, "connection closed without an answer: {reason}"),
            Self::Accept(errno) => {
                let remedy = match *errno {
                    libc_errno::EMFILE | libc_errno::ENFILE => "; raise the limit of open files",
                    libc_errno::ENOMEM | libc_errno::ENOBUFS => "; the system has no memory for sockets",
                    _ => "",
                };
                write!(f, "connections cannot be accepted: {}{remedy}", io::Error::from_raw_os_error(*errno))
            }
            Self::Moved(errno) => {
                let error = errno.map_or_else(|| io::Error::other("an unknown error"), io::Error::from_raw_os_error);
                write!(f, "a connection could not be given to its reactor: {error}")
            }
        }
    }
}

/// Errnos by name; the driver makes no system calls and so does not need libc.
mod libc_errno {
    pub(super) const ENOMEM: i32 = 12;
    pub(super) const ENFILE: i32 = 23;
    pub(super) const EMFILE: i32 = 24;
    pub(super) const ENOBUFS: i32 = 105;
}

/// Whether a complaint is logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It is the first of its kind: log it, and ask for [`Complaints::over`] at that time.
    Log(Nanos),
    /// It is only counted.
    LeaveOut,
}

/// A kind of complaint whose time is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LeftOut {
    pub(crate) complaint: Complaint,
    /// None: from more addresses than are told apart.
    pub(crate) peer: Option<IpAddr>,
    /// How many were not logged.
    pub(crate) count: u64,
}

#[derive(Debug)]
struct Entry {
    until: Nanos,
    left_out: u64,
}

/// What was logged lately, and how often more it happened.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    entries: BTreeMap<(Complaint, Option<IpAddr>), Entry>,
}

impl Complaints {
    /// Counts a complaint about an address, or about nobody (None).
    pub(crate) fn add(&mut self, now: Nanos, complaint: Complaint, peer: Option<IpAddr>) -> Verdict {
        let peer = peer.map(|ip| ip.to_canonical());
        let known = self.entries.contains_key(&(complaint, peer));
        let key = (complaint, peer.filter(|_| known || self.entries.len() < MAX_ADDRESSES));
        match self.entries.get_mut(&key).filter(|entry| now < entry.until) {
            Some(entry) => {
                entry.left_out += 1;
                Verdict::LeaveOut
            }
            None => {
                let until = now.after(PERIOD);
                // What an entry of the past has counted goes on to the next time.
                self.entries.entry(key).or_insert(Entry { until, left_out: 0 }).until = until;
                Verdict::Log(until)
            }
        }
    }

    /// Takes out what is over, and returns of what there was more than the line that was logged.
    pub(crate) fn over(&mut self, now: Nanos) -> Vec<LeftOut> {
        let mut all = Vec::new();
        self.entries.retain(|(complaint, peer), entry| {
            let over = entry.until <= now;
            if over && entry.left_out > 0 {
                all.push(LeftOut { complaint: *complaint, peer: *peer, count: entry.left_out });
            }
            !over
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRONG: Complaint = Complaint::Refused(RefusalReason::NoTarget);
    const OTHER: Complaint = Complaint::Refused(RefusalReason::MaxSessions);

    fn at(seconds: u64) -> Nanos {
        Nanos::from_secs(seconds)
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn one_line_for_each_reason_and_address_in_a_time_then_the_count() {
        let mut complaints = Complaints::default();
        assert_eq!(complaints.add(at(0), WRONG, ip("192.0.2.1")), Verdict::Log(at(60)));
        assert_eq!(complaints.add(at(1), WRONG, ip("::ffff:192.0.2.1")), Verdict::LeaveOut);
        assert_eq!(complaints.add(at(1), OTHER, ip("192.0.2.1")), Verdict::Log(at(61)));
        assert_eq!(complaints.add(at(1), WRONG, ip("192.0.2.2")), Verdict::Log(at(61)));
        assert_eq!(complaints.add(at(59), WRONG, ip("192.0.2.1")), Verdict::LeaveOut);
        assert_eq!(complaints.over(at(59)), []);
        let left_out = LeftOut { complaint: WRONG, peer: ip("192.0.2.1"), count: 2 };
        assert_eq!(complaints.over(at(61)), [left_out]);
        assert!(complaints.entries.is_empty());
        assert_eq!(complaints.add(at(62), WRONG, ip("192.0.2.1")), Verdict::Log(at(122)));
    }

    #[test]
    fn many_addresses_are_counted_together_and_memory_is_bounded() {
        let mut complaints = Complaints::default();
        for n in 0..10_000u32 {
            let peer = Some(IpAddr::from(n.to_be_bytes()));
            let first = n <= 256;
            assert_eq!(
                complaints.add(at(0), WRONG, peer),
                if first { Verdict::Log(at(60)) } else { Verdict::LeaveOut }
            );
        }
        assert_eq!(complaints.entries.len(), 257);
        assert_eq!(complaints.add(at(1), WRONG, ip("0.0.0.1")), Verdict::LeaveOut, "known ones keep their own line");
        let own = LeftOut { complaint: WRONG, peer: ip("0.0.0.1"), count: 1 };
        assert_eq!(complaints.over(at(60)), [LeftOut { peer: None, count: 9743, ..own }, own]);
    }

    #[test]
    fn lines_say_what_helps() {
        let text = Complaint::Accept(24).to_string();
        assert_eq!(
            text,
            "connections cannot be accepted: Too many open files (os error 24); raise the limit of open files"
        );
        assert_eq!(WRONG.to_string(), "login refused: there is no such target");
    }
}
