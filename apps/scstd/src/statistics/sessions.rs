//! Section `sessions`: who is logged in where, and how many commands they have sent.

use std::fmt::{self, Write};

use super::Statistics;

pub(super) fn print(statistics: &Statistics, out: &mut String) -> fmt::Result {
    writeln!(out, "initiator target reactor active_commands commands")?;
    for (reactor, snapshot) in &statistics.reactors {
        for s in &snapshot.sessions {
            let target = if s.target.is_empty() { "-" } else { &s.target };
            writeln!(out, "{} {target} {} {} {}", s.initiator, reactor.0, s.active, s.commands)?;
        }
    }
    Ok(())
}
