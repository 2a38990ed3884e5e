//! SIGUSR1: what all reactors have counted goes to a file.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process;
use std::time::SystemTime;

use anyhow::{Context, Result};

use super::{Control, OpenDevice};
use crate::reactor_loop::Request;
use crate::state;
use crate::statistics::{Statistics, report};

/// Its name in the state directory.
const FILE: &str = "statistics";

impl Control {
    /// Writes the report, and says in the log where it is or why it is not.
    pub(super) fn write_statistics(&mut self) {
        let statistics = self.collect_statistics();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let text = report(&statistics, env!("CARGO_PKG_VERSION"), now);
        match state::directory(self.state_dir.as_deref()).and_then(|directory| replace(&directory, &text)) {
            Ok(file) => tracing::info!("statistics are in {}", file.display()),
            Err(error) => tracing::error!("the statistics are not written: {error:#}"),
        }
    }

    /// Asks for one part after the other. A reactor that does not answer is missing in the report, and in the log.
    fn collect_statistics(&mut self) -> Statistics {
        let open = self.devices.values().map(|open| (open.id, open.disk.name()));
        let leaving = self.leaving.iter().map(|(id, (disk, _))| (*id, disk.name()));
        let devices = open.chain(leaving).map(|(id, name)| (id, name.to_owned())).collect();
        let errors = |open: &OpenDevice| Some((open.disk.name().to_owned(), open.disk.storage_errors()?));
        let storage = self.devices.values().filter_map(errors).collect();
        let mut statistics = Statistics { devices, storage, ..Statistics::default() };
        self.counted.clear();
        for part in 0.. {
            let answered = self.ask_all("count", || Request::Statistics { part });
            for (reactor, snapshot) in self.counted.drain(..) {
                statistics.add(reactor, snapshot);
            }
            if !answered || !statistics.is_incomplete() {
                break;
            }
        }
        statistics
    }
}

/// Puts a new file in the place of the old one, so that a reader always sees a whole report.
fn replace(directory: &Path, text: &str) -> Result<PathBuf> {
    let file = directory.join(FILE);
    let new = directory.join(format!(".{FILE}.{}", process::id()));
    let write = || {
        // What another process of this number has left; and no link is followed.
        drop(fs::remove_file(&new));
        OpenOptions::new().write(true).create_new(true).open(&new)?.write_all(text.as_bytes())?;
        fs::rename(&new, &file)
    };
    let written = write();
    if written.is_err() {
        drop(fs::remove_file(&new));
    }
    written.with_context(|| format!("cannot write {}; choose a directory with --state-dir", file.display()))?;
    Ok(file)
}
