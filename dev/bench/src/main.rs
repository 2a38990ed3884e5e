//! Load generator and side-by-side comparison of iSCSI targets.
//!
//! * `load`: pipelined READs or WRITEs against any target; IOPS, latency percentiles, the target's CPU per I/O.
//! * `limit`: a minimal responder, login and then fixed answers: what loopback TCP and batching allow.
//! * `echo`: the same bytes without PDUs: what loopback TCP alone costs.
//! * `compare`: `scstd`, Debian's `tgt` and the responder in turn, each pinned to a core of its own, as a table.
//!
//! The load is one loop that never sleeps, with prebuilt PDUs that gathers all output of a turn into one `sendmsg`; it checks
//! statuses, not data (the verifying initiator is in `dev/testkit`).

mod ceiling;
mod compare;
mod connection;
mod echo;
mod histogram;
mod idle;
mod inbox;
mod limit;
mod load;
mod machine;
mod nbd;
mod outbox;
mod peer;
mod proc_cpu;
mod responder;
mod sys;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(version, about = "Measures iSCSI targets")]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Loads a running target.
    Load(load::LoadOptions),
    /// Runs a minimal responder, the reference limit.
    Limit(limit::LimitOptions),
    /// Answers as many bytes as a target would, without looking at any.
    Echo(echo::EchoOptions),
    /// Reads or writes a file directly, again and again: what a page-cached block costs.
    Inline(ceiling::InlineOptions),
    /// Computes one CRC32C per command, again and again: what a digest must cost.
    Pass(ceiling::PassOptions),
    /// Logs in and does nothing: what idle sessions cost a running target.
    Idle(idle::IdleOptions),
    /// Measures scstd, tgt and the minimal responder in turn, and prints a table.
    Compare(compare::CompareOptions),
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Subcommands::Load(options) => {
            let report = load::run(&options)?;
            if options.machine {
                println!("{}", report.to_line());
            } else {
                print!("{report}");
            }
            Ok(())
        }
        Subcommands::Limit(options) => limit::run(&options),
        Subcommands::Echo(options) => echo::run(&options),
        Subcommands::Inline(options) => {
            println!("{}", ceiling::run(&options)?.to_line());
            Ok(())
        }
        Subcommands::Pass(options) => {
            println!("{}", ceiling::pass(&options)?.to_line());
            Ok(())
        }
        Subcommands::Idle(options) => {
            println!("{}", idle::run(&options)?.to_line());
            Ok(())
        }
        Subcommands::Compare(options) => compare::run(&options),
    }
}
