//! `scstd`: see `scstd --help` and scstd(8).

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write;
use std::net::{Ipv6Addr, SocketAddr};
use std::panic;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use scst_config::{Configuration, Invalid, Severity, counted};
use scst_core::Nanos;
use scst_core::engine::Limits;
use scst_protocol_iscsi::address::ISCSI_PORT;
use scst_reactor::process;
use scstd::check::{self, System};
use scstd::cli::{Cli, MAX_REACTORS};
use scstd::control::{Control, End, Event, reload};
use scstd::log_queue::{LogDrain, LogQueue};
use scstd::reactors::{CacheOptions, ReactorOptions, Reactors};
use scstd::{logging, signals, state};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (mut queue, _drain) = match log(cli.log.as_deref()) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("scstd: {error:#}");
            return ExitCode::from(2);
        }
    };
    let result = match &cli.check {
        Some(file) => check(&cli, file),
        None => serve(&cli),
    };
    match result {
        Ok(code) => code,
        // The findings of a file say all by themselves. Behind what was logged, and without waiting for a reader.
        Err(error) => {
            let text = match error.downcast_ref::<Invalid>() {
                Some(invalid) => format!("{invalid}\n"),
                None => format!("scstd: {error:#}\n"),
            };
            drop(queue.write_all(text.as_bytes()));
            ExitCode::FAILURE
        }
    }
}

/// Logs go to standard error, through a queue; the service manager adds the time.
fn log(filter: Option<&str>) -> Result<(LogQueue, LogDrain)> {
    let (filter, refused) = match (filter, std::env::var("RUST_LOG")) {
        (Some(text), _) => (logging::filter(text).with_context(|| format!("--log {text}"))?, None),
        (None, Ok(text)) => match logging::filter(&text) {
            Ok(filter) => (filter, None),
            // It may be meant for another program.
            Err(error) => (EnvFilter::new("info"), Some(format!("RUST_LOG={text}: {error}; info is used"))),
        },
        (None, Err(_)) => (EnvFilter::new("info"), None),
    };
    let (queue, drain) = LogQueue::start(std::io::stderr(), |lost| {
        tracing::warn!("{lost} log lines are lost: what reads the log was too slow, or could not be written to");
    })
    .context("cannot start the thread that writes the log")?;
    let lines = queue.clone();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(move || lines.clone());
    if logging::is_journal() {
        builder.without_time().with_ansi(false).map_event_format(logging::WithPriority).init();
    } else {
        builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init();
    }
    // The standard hook writes to standard error by itself, and may wait there for ever.
    panic::set_hook(Box::new(|panic| {
        let trace = Backtrace::capture();
        let trace = if trace.status() == BacktraceStatus::Captured { format!("\n{trace}") } else { String::new() };
        tracing::error!("thread {}: {panic}{trace}", thread::current().name().unwrap_or("without a name"));
    }));
    if let Some(refused) = refused {
        tracing::warn!("{refused}");
    }
    Ok((queue, drain))
}

/// `--check`.
fn check(cli: &Cli, file: &Path) -> Result<ExitCode> {
    let parsed = reload::read(file)?;
    for warning in &parsed.warnings {
        eprintln!("{warning}");
    }
    let configuration = parsed.configuration;
    let system = System::here(state::candidates(cli.state_dir.as_deref()));
    let findings = check::configuration(file, &configuration, &system);
    for finding in &findings {
        eprintln!("{}: {finding}", file.display());
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    if errors > 0 {
        eprintln!("{}: {}", file.display(), counted(errors, "error"));
        return Ok(ExitCode::FAILURE);
    }
    let targets: usize = configuration.drivers.values().map(|d| d.targets.len()).sum();
    let (devices, targets) = (counted(configuration.devices.len(), "device"), counted(targets, "target"));
    println!("{}: good: {devices}, {targets}", file.display());
    if configuration.devices.values().any(|device| device.attributes.text_if_known("filename").is_some()) {
        println!("not checked: {}", check::NOT_CHECKED);
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(cli: &Cli) -> Result<ExitCode> {
    // Before anything is opened: what cannot be read must not leave traces.
    let configuration = match &cli.config {
        Some(file) => {
            let parsed = reload::read(file)?;
            for warning in &parsed.warnings {
                tracing::warn!("{warning}");
            }
            if let Some(finding) = check::readable_secrets(file, &parsed.configuration) {
                tracing::warn!("{}; {}", finding.message, finding.remedy);
            }
            parsed.configuration
        }
        None => embedded_default(cli)?,
    };
    match process::raise_file_limit() {
        Ok(limit) => tracing::debug!("at most {limit} open files"),
        Err(error) => tracing::warn!("the limit of open files cannot be raised: {error}"),
    }
    let portals = portals(cli)?;
    let (events, received) = mpsc::channel();
    let options = ReactorOptions {
        reactors: cli.reactors.unwrap_or_else(default_reactors),
        backend: cli.backend,
        max_cmd_mem: cli.max_cmd_mem,
        limits: Limits::default(),
        cache: cache(cli)?,
        register_buffers: cli.register_buffers,
    };
    let reactors = Reactors::start(&options, &events)?;
    tracing::info!("{}, back-end {}", counted(options.reactors.into(), "reactor"), reactors.backend);
    signals::forward(move |signal| drop(events.send(Event::Signal(signal)))).context("cannot catch signals")?;
    let mut control = Control::new(reactors, received, cli.config.clone(), portals, cli.state_dir.clone());
    if let Err(error) = control.start(&configuration) {
        control.abandon();
        return Err(error);
    }
    if cli.config.is_none() {
        if let Some(reason) = control.unusable().first() {
            let error = anyhow!("there is nothing to export: {reason}");
            control.abandon();
            return Err(error);
        }
        print_how_to_connect(cli, &control)?;
    }
    Ok(match control.run() {
        End::Clean => ExitCode::SUCCESS,
        End::Broken => ExitCode::FAILURE,
    })
}

/// How much free memory command buffers keep, over all reactors.
fn cache(cli: &Cli) -> Result<CacheOptions> {
    let (low, high) = (cli.sgv_low_watermark, cli.sgv_high_watermark);
    if let (Some(low), Some(high)) = (low, high)
        && low > high
    {
        bail!("--sgv-low-watermark {low} is above --sgv-high-watermark {high}; exchange them");
    }
    Ok(CacheOptions { low, high, purge_interval: Nanos::from_secs(cli.sgv_purge_interval) })
}

fn embedded_default(cli: &Cli) -> Result<Configuration> {
    let directory = state::directory(cli.state_dir.as_deref())?;
    let text = state::default_export(&directory)?;
    Ok(scst_config::parse("the embedded default", text.as_bytes())?.configuration)
}

fn print_how_to_connect(cli: &Cli, control: &Control) -> Result<()> {
    let disk = state::directory(cli.state_dir.as_deref())?.join("disk1.img");
    if let Some(portal) = control.portals().first() {
        // A closed standard output is no reason not to serve.
        drop(std::io::stdout().write_all(state::how_to_connect(&disk, *portal).as_bytes()));
    }
    Ok(())
}

fn default_reactors() -> u16 {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    u16::try_from(processors).unwrap_or(MAX_REACTORS).min(MAX_REACTORS)
}

fn portals(cli: &Cli) -> Result<Vec<SocketAddr>> {
    cli.check_portals().map_err(|problem| anyhow!(problem))?;
    if !cli.iscsi_portals.is_empty() {
        return Ok(cli.iscsi_portals.clone());
    }
    // The embedded default has no password: it stays on this machine.
    if cli.config.is_none() {
        return Ok(vec![state::DEFAULT_EXPORT_PORTAL.parse()?]);
    }
    Ok(vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, ISCSI_PORT))])
}
