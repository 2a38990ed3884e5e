//! Reload: read, compare, apply. An invalid file changes nothing.

use std::path::Path;

use anyhow::{Context, Result};
use scst_config::{Configuration, Parsed, counted};

use super::Control;
use crate::check;
use crate::notify;

/// Reads a configuration file.
///
/// # Errors
/// It cannot be read, or what is wrong in it.
pub fn read(path: &Path) -> Result<Parsed> {
    // A device or a pipe as configuration file must not fill the memory: one byte too many is enough to see.
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut text = Vec::new();
    let limit = scst_config::MAX_FILE_BYTES as u64 + 1;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, limit), &mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(scst_config::parse(&path.display().to_string(), &text)?)
}

impl Control {
    /// SIGHUP.
    pub(super) fn reload(&mut self) {
        notify::reloading();
        match self.wanted() {
            Ok(wanted) => self.change_to(&wanted),
            Err(error) => tracing::error!("the configuration is not changed:\n{error:#}"),
        }
        // The service manager waits for the end of the reload, whatever came of it.
        self.is_ready = true;
        self.announce();
    }

    fn wanted(&self) -> Result<Configuration> {
        let Some(path) = &self.config_file else { return Ok(self.wanted.clone()) };
        let parsed = read(path)?;
        for warning in &parsed.warnings {
            tracing::warn!("{warning}");
        }
        if let Some(finding) = check::readable_secrets(path, &parsed.configuration) {
            tracing::warn!("{}; {}", finding.message, finding.remedy);
        }
        Ok(parsed.configuration)
    }

    fn change_to(&mut self, wanted: &Configuration) {
        let outcome = self.apply(wanted);
        for done in &outcome.done {
            tracing::info!("reload: {done}");
        }
        for failed in &outcome.failed {
            tracing::error!("reload: {failed}");
        }
        if let Err(error) = outcome.listening {
            tracing::error!("reload: {error:#}");
        }
        self.resynchronise();
        let (done, failed) = (counted(outcome.done.len(), "change"), counted(outcome.failed.len(), "failure"));
        tracing::info!("reload complete: {done}, {failed}");
    }
}
