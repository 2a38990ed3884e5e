//! The list of scenarios: what each shows, where its target runs, and how long it may take.

use std::time::Duration;

/// Where the target and its initiator are.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Place {
    /// Both in the guest; `guest/scenarios/NAME.sh` starts the daemon itself. These share boots.
    Guest,
    /// The daemon runs on the host at its natural speed, the guest's kernel reaches it at 10.0.2.2.
    HostTarget,
    /// The same with 4,096 LUNs.
    ManyLuns,
    /// The daemon runs on the host, QEMU's own initiator shows a LUN to the guest as the disk `/dev/vdb`.
    QemuInitiator,
    /// Daemon and initiator are programs on the host; there is no guest.
    HostTools,
}

/// One story, told by one script (or function) that exits zero when it came out right.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// What it is called on the command line.
    pub name: &'static str,
    /// One line for `--list`.
    pub about: &'static str,
    /// Where the parties run.
    pub place: Place,
    /// Its time limit: many times what it takes on a quiet machine.
    pub limit: Duration,
}

/// All scenarios in the order they run.
pub fn all() -> &'static [Scenario] {
    const fn scenario(name: &'static str, place: Place, seconds: u64, about: &'static str) -> Scenario {
        Scenario { name, about, place, limit: Duration::from_secs(seconds) }
    }
    const ALL: &[Scenario] = &[
        scenario(
            "ext4",
            Place::Guest,
            180,
            "discovery, login, ext4, fio with verify at several depths and sizes, fsck",
        ),
        scenario("xfs", Place::Guest, 180, "the same with xfs and both digests"),
        scenario(
            "digests",
            Place::Guest,
            120,
            "each combination of header and data digest is negotiated and carries data",
        ),
        scenario("chap", Place::Guest, 180, "CHAP one-way and mutual with every algorithm; wrong secrets are refused"),
        scenario("resize", Place::Guest, 120, "a mounted file system grows after the backing file did"),
        scenario("two-initiators", Place::Guest, 120, "LUN masking: two initiators, different LUN sets, one read-only"),
        scenario("crash", Place::Guest, 240, "kill -9 and restart of scstd during a verified write load, three times"),
        scenario("host-target", Place::HostTarget, 180, "verified load from the guest to scstd on the host"),
        scenario("luns-4096", Place::ManyLuns, 600, "4,096 LUNs scanned in one session"),
        scenario("qemu-initiator", Place::QemuInitiator, 120, "a guest mounts a LUN through QEMU's own initiator"),
        scenario("qemu-img", Place::HostTools, 180, "qemu-img convert to and from iscsi://, 1 GiB of random data"),
    ];
    ALL
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_guest_scenario_has_its_script_and_every_script_its_scenario() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest/scenarios");
        let mut scripts: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(".sh", ""))
            .collect();
        scripts.sort();
        let mut names: Vec<_> =
            all().iter().filter(|scenario| scenario.place != Place::HostTools).map(|scenario| scenario.name).collect();
        names.sort_unstable();
        assert_eq!(scripts, names);
    }
}
