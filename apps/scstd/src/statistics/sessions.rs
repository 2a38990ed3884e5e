//! Section `sessions`: who is logged in where, and how many commands they have sent.

use std::fmt::{self, Write};

use super::{Statistics, word};

pub(super) fn print(statistics: &Statistics, out: &mut String) -> fmt::Result {
    writeln!(out, "initiator target reactor active_commands commands")?;
    for (reactor, snapshot) in &statistics.reactors {
        for s in &snapshot.sessions {
            let (initiator, target) = (word(&s.initiator), word(&s.target));
            writeln!(out, "{initiator} {target} {} {} {}", reactor.0, s.active, s.commands)?;
        }
    }
    Ok(())
}
