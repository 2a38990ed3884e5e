//! One boot of the guest: the QEMU command line, the console, and the wait for its end.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::initramfs;
use crate::kernel::Kernel;
use crate::shell;

/// How often the files that the guest writes are looked at.
const POLL: Duration = Duration::from_millis(100);

/// How much of the scenario's time limit is the guest's own business: it stops an overdue scenario itself and shows logs.
const GRACE: Duration = Duration::from_secs(20);

/// From power-on to the first scenario, on a slow machine.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// What a boot needs besides the scenarios.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// One processor instead of two: less to wake up, which the emulator does badly.
    pub single: bool,
    /// Give the guest a network card behind which this machine's loopback is 10.0.2.2.
    pub network: bool,
    /// More QEMU options.
    pub qemu: Vec<String>,
    /// Variables for the scenarios, as `NAME=value`.
    pub environment: Vec<String>,
}

/// How a scenario in the guest ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// It ran to its end with this exit status.
    Exit(i32),
    /// It, or the guest under it, did not end in time.
    Overdue,
    /// The guest ended without a word.
    Died,
}

/// Everything that several boots share.
pub struct Guest {
    kernel: Kernel,
    initramfs: PathBuf,
    work: PathBuf,
    verbose: bool,
}

impl Guest {
    /// Prepares kernel and first stage; `cache` keeps the kernel, `work` is this run's own.
    pub fn prepare(cache: &Path, work: &Path, verbose: bool) -> Result<Self> {
        let kernel = Kernel::prepare(cache)?;
        let initramfs = initramfs::build(&kernel, &sources().join("init"), work)?;
        Ok(Self { kernel, initramfs, work: work.to_path_buf(), verbose })
    }

    /// Boots once and runs scripts until all are done or one fails; reports the scripts that started, in order.
    ///
    /// `plan` holds the script names and their time limits.
    pub fn boot(&self, setup: &Setup, scstd: &Path, plan: &[(&str, Duration)]) -> Result<Vec<(String, End, Duration)>> {
        let share = self.share(setup, scstd, plan)?;
        let qemu = Qemu::start(self.command(setup, &share))?;
        let mut watch = Watch { share: &share, plan, ends: Vec::new(), since: Instant::now() };
        let ended = loop {
            match qemu.console.recv_timeout(POLL) {
                Ok(line) => qemu.show(&line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break End::Died,
            }
            watch.collect();
            if watch.overdue() {
                break End::Overdue;
            }
        };
        drop(qemu);
        watch.collect();
        Ok(watch.finish(ended))
    }

    /// Fills the directory that the guest sees as `/run/vm`, and the disk it sees as `/run/scratch`.
    fn share(&self, setup: &Setup, scstd: &Path, plan: &[(&str, Duration)]) -> Result<PathBuf> {
        let share = self.work.join("share");
        if share.exists() {
            fs::remove_dir_all(&share)?;
        }
        fs::create_dir_all(share.join("status"))?;
        shell::run(Command::new("cp").arg("-r").arg(sources().join(".")).arg(&share))?;
        fs::copy(scstd, share.join("scstd")).with_context(|| format!("cannot copy {}", scstd.display()))?;
        let plan = plan.iter().map(|(name, limit)| format!("{name} {}\n", limit.as_secs())).collect::<String>();
        fs::write(share.join("plan"), plan)?;
        let network = if setup.network { "yes" } else { "no" };
        fs::write(share.join("environment"), format!("VM_NET={network}\n{}\n", setup.environment.join("\n")))?;

        let scratch = self.scratch();
        fs::File::create(&scratch)?.set_len(8 << 30)?;
        shell::run(Command::new("/sbin/mkfs.ext4").args(["-q", "-F", "-E", "nodiscard"]).arg(&scratch))?;
        Ok(share)
    }

    fn scratch(&self) -> PathBuf {
        self.work.join("scratch.img")
    }

    fn command(&self, setup: &Setup, share: &Path) -> Command {
        let accelerator = std::env::var("SCST_VM_ACCEL").unwrap_or_else(|_| "tcg".to_owned());
        // "max" has what kernel and libc can use, less two things that suit hardware but not the emulator: five-level
        // page tables make every TLB miss dearer, and the "fast" string moves make large copies four times slower.
        let cpu = if accelerator == "kvm" { "host" } else { "max,la57=off,erms=off,fsrm=off" };
        // tsc=reliable: else the kernel mistrusts the emulated TSC and reads the HPET for every time stamp.
        // rcutree: each new disk waits for grace periods, and thousands of disks for thousands of them.
        let mut kernel_line = "console=ttyS0 panic=-1 mitigations=off tsc=reliable no_timer_check nokaslr audit=0 \
            apparmor=0 random.trust_cpu=on cryptomgr.notests net.ifnames=0 \
            rcutree.jiffies_till_first_fqs=0 rcutree.jiffies_till_next_fqs=0"
            .to_owned();
        kernel_line.push_str(if self.verbose { " ignore_loglevel" } else { " quiet" });

        let mut qemu = Command::new("qemu-system-x86_64");
        // qboot starts an ELF kernel at once and, unlike SeaBIOS, prints nothing.
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-bios", "qboot.rom"])
            .args(["-machine", &format!("q35,accel={accelerator}"), "-cpu", cpu, "-m", "2G"])
            .args(["-smp", if setup.single { "1" } else { "2" }])
            .args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"])
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(&self.initramfs)
            .args(["-append", &kernel_line])
            .args(["-virtfs", &share_option("root", Path::new("/"), true)])
            .args(["-virtfs", &share_option("modules", &self.kernel.modules(), true)])
            .args(["-virtfs", &share_option("vm", share, false)])
            .args(["-drive", &format!("file={},if=none,id=scratch,format=raw,cache=unsafe", self.scratch().display())])
            .args(["-device", "virtio-blk-pci,drive=scratch"]);
        if setup.network {
            qemu.args(["-nic", "user,model=virtio-net-pci"]);
        }
        qemu.args(&setup.qemu);
        qemu
    }
}

/// The scripts that run in the guest.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guest")
}

fn share_option(tag: &str, path: &Path, read_only: bool) -> String {
    let suffix = if read_only { ",readonly=on" } else { "" };
    format!("local,path={},mount_tag={tag},security_model=none,multidevs=remap{suffix}", path.display())
}

/// The running emulator; killed when dropped.
struct Qemu {
    child: Child,
    console: Receiver<String>,
    started: Instant,
}

impl Qemu {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start qemu-system-x86_64; `cargo xtask setup` installs it")?;
        let stdout = child.stdout.take().context("no pipe from QEMU")?;
        let (sender, console) = channel();
        thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(text).is_err() {
                    break;
                }
                line.clear();
            }
        });
        Ok(Self { child, console, started: Instant::now() })
    }

    fn show(&self, line: &str) {
        println!("vm {:7.1} | {line}", self.started.elapsed().as_secs_f32());
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It has ended already unless a scenario is overdue; either way nothing is left to save.
        let _ = self.child.kill();
        let _ = self.child.wait();
        while let Ok(line) = self.console.recv() {
            self.show(&line);
        }
    }
}

/// Follows the guest's progress through the shared directory.
struct Watch<'a> {
    share: &'a Path,
    plan: &'a [(&'a str, Duration)],
    ends: Vec<(String, End, Duration)>,
    /// When the present scenario (or the boot) began.
    since: Instant,
}

impl Watch<'_> {
    /// Takes up what the guest has written about the scenario at hand.
    fn collect(&mut self) {
        while let Some((name, _)) = self.plan.get(self.ends.len()) {
            let text = fs::read_to_string(self.share.join("status").join(name)).unwrap_or_default();
            // Without its line feed it is not written yet.
            let Some(status) = text.strip_suffix('\n').and_then(|text| text.parse().ok()) else { break };
            self.ends.push((name.to_string(), End::Exit(status), self.since.elapsed()));
            self.since = Instant::now();
        }
    }

    fn overdue(&self) -> bool {
        let boot = if self.ends.is_empty() { BOOT_LIMIT } else { Duration::ZERO };
        let limit = self.plan.get(self.ends.len()).map_or(Duration::ZERO, |(_, limit)| *limit);
        self.since.elapsed() > limit + GRACE + boot
    }

    /// The scenario that ran when the guest ended without saying how it went did not pass.
    fn finish(mut self, ended: End) -> Vec<(String, End, Duration)> {
        let all_passed = self.ends.iter().all(|(_, end, _)| *end == End::Exit(0));
        if all_passed && let Some((name, _)) = self.plan.get(self.ends.len()) {
            self.ends.push((name.to_string(), ended, self.since.elapsed()));
        }
        self.ends
    }
}
