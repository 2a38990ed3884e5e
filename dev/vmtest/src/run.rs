//! Runs scenarios place by place, and gives what is left a fresh boot when one fails.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::guest::{End, Guest, Setup};
use crate::host;
use crate::scenario::{self, Place, Scenario};
use crate::scstd::Scstd;

/// What to run, with what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The daemon's program.
    pub scstd: PathBuf,
    /// Where kernel, images and logs go. `$XDG_CACHE_HOME/scst-vm`, when there is one, keeps the kernel instead.
    pub directory: PathBuf,
    /// Names of scenarios; empty for all.
    pub names: Vec<String>,
    /// Show the guest kernel's messages.
    pub verbose: bool,
}

/// How one scenario ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its name.
    pub name: &'static str,
    /// Whether it showed what it should.
    pub verdict: Verdict,
    /// How long it took, without the boot unless it was the first in it.
    pub elapsed: Duration,
}

/// Whether a scenario showed what it should.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It did.
    Passed,
    /// It did not, for this reason.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f32();
        match &self.verdict {
            Verdict::Passed => write!(f, "passed  {:<16} {seconds:6.1} s", self.name),
            Verdict::Failed(reason) => write!(f, "FAILED  {:<16} {seconds:6.1} s  {reason}", self.name),
        }
    }
}

/// Runs the chosen scenarios; an error means that the tier itself could not work.
pub fn run(options: &Options) -> Result<Vec<Outcome>> {
    let chosen = choose(&options.names)?;
    let work = options.directory.join(format!("run.{}", std::process::id()));
    fs::create_dir_all(&work)?;
    let outcomes = Runner { options, work: &work, guest: None }.run(&chosen);
    // Gigabytes of images; what matters has been printed.
    fs::remove_dir_all(&work)?;
    outcomes
}

fn choose(names: &[String]) -> Result<Vec<Scenario>> {
    for name in names {
        ensure!(scenario::all().iter().any(|scenario| scenario.name == name), "no scenario {name}; --list shows all");
    }
    let wanted = |scenario: &&Scenario| names.is_empty() || names.iter().any(|name| name == scenario.name);
    Ok(scenario::all().iter().filter(wanted).copied().collect())
}

struct Runner<'a> {
    options: &'a Options,
    work: &'a Path,
    guest: Option<Guest>,
}

impl Runner<'_> {
    fn run(&mut self, chosen: &[Scenario]) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        while let Some(next) = chosen.get(outcomes.len()) {
            // Only scenarios that bring their own daemon share a boot.
            let alike = chosen[outcomes.len()..].iter().take_while(|other| other.place == next.place);
            let together = if next.place == Place::Guest { alike.count() } else { 1 };
            let some = &chosen[outcomes.len()..][..together];
            let ended = match next.place {
                Place::Guest => self.boot(&Setup::default(), some)?,
                Place::HostTarget => vec![self.with_host_daemon(next, host::start, Self::host_target)],
                Place::ManyLuns => vec![self.with_host_daemon(next, host::start_many, Self::many_luns)],
                Place::QemuInitiator => vec![self.with_host_daemon(next, host::start, Self::qemu_initiator)],
                Place::HostTools => {
                    vec![self.with_directory(next, |runner, dir| host::qemu_img(&runner.options.scstd, dir))]
                }
            };
            ensure!(!ended.is_empty(), "the boot for {} ran nothing", next.name);
            for outcome in &ended {
                println!("{outcome}");
            }
            outcomes.extend(ended);
        }
        Ok(outcomes)
    }

    fn host_target(portal: &str) -> Setup {
        Setup { network: true, environment: vec![format!("PORTAL={portal}")], ..Setup::default() }
    }

    fn many_luns(portal: &str) -> Setup {
        Setup { single: true, ..Self::host_target(portal) }
    }

    fn qemu_initiator(portal: &str) -> Setup {
        let port = portal.rsplit(':').next().unwrap_or_default();
        let url = format!("iscsi://127.0.0.1:{port}/{}/0", host::TARGET);
        let drive = format!("file={url},if=none,id=lun,format=raw,cache=none,discard=unmap");
        Setup {
            qemu: ["-drive", &drive, "-device", "virtio-blk-pci,drive=lun"].map(str::to_owned).to_vec(),
            ..Setup::default()
        }
    }

    /// One boot; at most one of the outcomes, the last, is a failure.
    fn boot(&mut self, setup: &Setup, scenarios: &[Scenario]) -> Result<Vec<Outcome>> {
        if self.guest.is_none() {
            let cache = match std::env::var_os("XDG_CACHE_HOME") {
                Some(cache) => PathBuf::from(cache).join("scst-vm"),
                None => self.options.directory.join("cache"),
            };
            fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
            self.guest = Some(Guest::prepare(&cache, self.work, self.options.verbose)?);
        }
        let guest = self.guest.as_ref().context("the guest was just prepared")?;
        let plan: Vec<_> = scenarios.iter().map(|scenario| (scenario.name, scenario.limit)).collect();
        let ends = guest.boot(setup, &self.options.scstd, &plan)?;
        let outcome = |(scenario, (_, end, elapsed)): (&Scenario, (String, End, Duration))| Outcome {
            name: scenario.name,
            verdict: verdict(&end),
            elapsed,
        };
        Ok(scenarios.iter().zip(ends).map(outcome).collect())
    }

    /// A boot of its own for a scenario whose daemon runs on the host.
    fn with_host_daemon(
        &mut self,
        scenario: &Scenario,
        start: fn(&Path, &Path) -> Result<Scstd>,
        setup: fn(&str) -> Setup,
    ) -> Outcome {
        self.with_directory(scenario, |runner, directory| {
            let scstd = start(&runner.options.scstd, directory)?;
            // The guest sees the host's loopback as 10.0.2.2.
            let setup = setup(&format!("10.0.2.2:{}", scstd.portals()[0].port()));
            let outcomes = runner.boot(&setup, &[*scenario])?;
            match outcomes.into_iter().next().context("the boot ran nothing")?.verdict {
                Verdict::Passed => scstd.stop(),
                Verdict::Failed(reason) => anyhow::bail!("{reason}\n{}", scstd.log_tail()),
            }
        })
    }

    fn with_directory(&mut self, scenario: &Scenario, body: impl FnOnce(&mut Self, &Path) -> Result<()>) -> Outcome {
        let started = Instant::now();
        let directory = self.work.join(scenario.name);
        let result = fs::create_dir_all(&directory).map_err(Into::into).and_then(|()| body(self, &directory));
        let verdict = result.map_or_else(|error| Verdict::Failed(format!("{error:#}")), |()| Verdict::Passed);
        let _ = fs::remove_dir_all(&directory); // again at the end of the run, with an error then
        Outcome { name: scenario.name, verdict, elapsed: started.elapsed() }
    }
}

fn verdict(end: &End) -> Verdict {
    match end {
        End::Exit(0) => Verdict::Passed,
        End::Exit(124) => Verdict::Failed("time limit".to_owned()),
        End::Exit(status) => Verdict::Failed(format!("exit status {status}")),
        End::Overdue => Verdict::Failed("time limit; the guest was stopped".to_owned()),
        End::Died => Verdict::Failed("the guest ended by itself".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_an_error_and_no_name_means_all() {
        assert_eq!(choose(&["nosuch".to_owned()]).unwrap_err().to_string(), "no scenario nosuch; --list shows all");
        assert_eq!(choose(&[]).unwrap().len(), scenario::all().len());
        let two = choose(&["qemu-img".to_owned(), "ext4".to_owned()]).unwrap();
        assert_eq!(two.iter().map(|scenario| scenario.name).collect::<Vec<_>>(), ["ext4", "qemu-img"]);
    }

    #[test]
    fn only_exit_status_zero_passes() {
        assert_eq!(verdict(&End::Exit(0)), Verdict::Passed);
        assert_eq!(verdict(&End::Exit(124)), Verdict::Failed("time limit".to_owned()));
        assert_eq!(verdict(&End::Exit(1)), Verdict::Failed("exit status 1".to_owned()));
        assert!(matches!(verdict(&End::Died), Verdict::Failed(_)));
        assert!(matches!(verdict(&End::Overdue), Verdict::Failed(_)));
    }
}
