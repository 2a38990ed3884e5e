//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use scst_config::value::{self, Kind};
use scst_protocol_iscsi::address::{PortalAddress, overlap};
use scst_reactor::BackendChoice;

/// Exports files and block devices as SCSI disks over iSCSI.
///
/// Without --config and --check it exports a 1 GiB sparse file on 127.0.0.1:3260 and prints how to connect. It needs
/// no root for iSCSI over files. SIGHUP reads the configuration again and applies what has changed; SIGUSR1 writes
/// statistics to the file "statistics" in the state directory; SIGUSR2 gives free command buffers back to the system; SIGTERM and
/// SIGINT stop it cleanly, a second one at once.
#[derive(Parser, Clone, Debug)]
#[command(name = "scstd", version = env!("SCSTD_VERSION"))]
pub struct Cli {
    /// Configuration file; see scst.conf(5)
    #[arg(short, long, value_name = "FILE", conflicts_with = "check")]
    pub config: Option<PathBuf>,

    /// Read a configuration file, say what is wrong with it, and end (0: it can be applied, 1: it cannot)
    #[arg(long, value_name = "FILE")]
    pub check: Option<PathBuf>,

    /// Address to listen on; may be given several times
    #[arg(
        long = "iscsi-portal",
        value_name = "ADDR:PORT",
        help = "Address to listen on, IPv6 in brackets; may be given several times [default: [::]:3260, all addresses]",
        value_parser = portal
    )]
    pub iscsi_portals: Vec<SocketAddr>,

    /// Number of reactors, threads that carry out commands [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_REACTORS)))]
    pub reactors: Option<u16>,

    /// How the system is asked for I/O: auto, uring (io_uring) or posix (epoll and threads)
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub backend: BackendChoice,

    /// Where state is kept [default: /var/lib/scst if writable, else $XDG_STATE_HOME/scst or ~/.local/state/scst]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Most memory for command buffers, in bytes (suffixes k, M, G) [default: 256M for each reactor]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub max_cmd_mem: Option<u64>,

    /// Free command buffers that are kept for ever, in bytes [default: 8M for each reactor]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub sgv_low_watermark: Option<u64>,

    /// Free command buffers above this are given back to the system soon, in bytes [default: 128M for each reactor]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub sgv_high_watermark: Option<u64>,

    /// Free command buffers that were not needed for so long are given back down to the low watermark; 0: never
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(..=86_400 * 365))]
    pub sgv_purge_interval: u64,

    /// Registers command buffers with io_uring: O_DIRECT and BLOCKIO transfers cost less, free buffers stay in memory
    #[arg(long)]
    pub register_buffers: bool,

    /// What to log: a level (error, warn, info, debug, trace, off) or a list such as info,scst_target_iscsi=debug
    /// [default: $RUST_LOG, else info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
}

/// The most reactors: more than any machine has processors for.
pub const MAX_REACTORS: u16 = 256;

fn portal(text: &str) -> Result<SocketAddr, String> {
    PortalAddress::local(text).map_err(|expected| format!("expected: {expected}"))
}

impl Cli {
    /// Finds two addresses to listen on that are in each other's way.
    ///
    /// # Errors
    /// Which they are, and which of them to leave out.
    pub fn check_portals(&self) -> Result<(), String> {
        for (at, b) in self.iscsi_portals.iter().enumerate() {
            let Some(a) = self.iscsi_portals[..at].iter().find(|a| overlap(**a, *b)) else { continue };
            if a == b {
                return Err(format!("--iscsi-portal {b} is given twice; leave one out"));
            }
            // The address of all takes the connections of the other: [::] those to IPv4 addresses, too.
            let wider = [a, b].into_iter().max_by_key(|p| (p.ip().is_unspecified(), p.is_ipv6())).unwrap_or(a);
            let other = if wider == a { b } else { a };
            return Err(format!("--iscsi-portal {wider} listens on {other}, too; leave {other} out"));
        }
        Ok(())
    }
}

fn size(text: &str) -> Result<u64, String> {
    let normal = value::check(Kind::Bytes, text).map_err(|expected| format!("expected: {expected}"))?;
    normal.parse().map_err(|_| "a number of bytes is needed".to_owned())
}

fn bytes(text: &str) -> Result<u64, String> {
    match size(text)? {
        n if n >= 1 << 20 => Ok(n),
        _ => Err("at least 1M is needed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_parse() {
        let cli = Cli::try_parse_from([
            "scstd",
            "--config",
            "/x",
            "--iscsi-portal",
            "127.0.0.1:1",
            "--iscsi-portal",
            "[::1]:2",
            "--reactors",
            "3",
            "--backend",
            "posix",
            "--max-cmd-mem",
            "64M",
        ])
        .unwrap();
        assert_eq!(cli.iscsi_portals.len(), 2);
        assert_eq!((cli.reactors, cli.backend, cli.max_cmd_mem), (Some(3), BackendChoice::Posix, Some(64 << 20)));
    }

    #[test]
    fn an_address_needs_no_port_and_no_other_in_its_way() {
        let cli = |portals: &[&str]| {
            let options = portals.iter().flat_map(|portal| ["--iscsi-portal", portal]);
            Cli::try_parse_from(["scstd"].into_iter().chain(options)).unwrap()
        };
        let one: Vec<String> = cli(&["192.0.2.1", "[::1]"]).iscsi_portals.iter().map(ToString::to_string).collect();
        assert_eq!(one, ["192.0.2.1:3260", "[::1]:3260"]);
        for (portals, problem) in [
            (&["127.0.0.1:5", "127.0.0.1:6", "[::1]:5"][..], None),
            (&["127.0.0.1:5", "127.0.0.1:5"], Some("--iscsi-portal 127.0.0.1:5 is given twice; leave one out")),
            (&["0.0.0.0:5", "[::]:5"], Some("--iscsi-portal [::]:5 listens on 0.0.0.0:5, too; leave 0.0.0.0:5 out")),
            (
                &["127.0.0.1", "0.0.0.0"],
                Some("--iscsi-portal 0.0.0.0:3260 listens on 127.0.0.1:3260, too; leave 127.0.0.1:3260 out"),
            ),
        ] {
            assert_eq!(cli(portals).check_portals().err().as_deref(), problem, "{portals:?}");
        }
    }

    #[test]
    fn wrong_options_are_refused() {
        for arguments in [
            &["--reactors", "0"][..],
            &["--backend", "kqueue"],
            &["--iscsi-portal", "localhost"],
            &["--iscsi-portal", "localhost:3260"],
            &["--iscsi-portal", "::1"],
            &["--max-cmd-mem", "1k"],
            &["--config", "a", "--check", "b"],
        ] {
            assert!(Cli::try_parse_from(["scstd"].iter().chain(arguments)).is_err(), "{arguments:?}");
        }
    }
}
