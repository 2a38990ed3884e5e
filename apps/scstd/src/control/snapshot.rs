//! From the configuration model to the snapshots that engines and the iSCSI driver take.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use scst_config::{Attributes, Configuration, DriverKind, Target, model::Luns};
use scst_core::config::{InitiatorGroup, LunEntry, LunMap, TargetConfig};
use scst_core::ids::{DeviceId, MAX_PLACES, TargetId};
use scst_protocol_iscsi::chap::ChapUser;
use scst_protocol_iscsi::params::{PARAMETERS, TargetParameters};
use scst_scsi::lun::LunAddressMethod;
use scst_target_iscsi::{DiscoveryConfig, IscsiConfig, IscsiTargetConfig, Redirect};

/// Numbers that were given out. The place of a device or target that has gone is used again, under another number.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    next_device: u32,
    next_target: u32,
    /// Numbers for places that are free again.
    free_devices: Vec<DeviceId>,
    free_targets: Vec<TargetId>,
    targets: BTreeMap<String, TargetId>,
    /// Relative target port identifiers that nobody chose.
    ports: BTreeMap<String, u16>,
}

impl Numbers {
    /// The number of a new device; none when there are as many as there can be.
    pub(super) fn device(&mut self) -> Option<DeviceId> {
        self.free_devices.pop().or_else(|| {
            let new = DeviceId(self.next_device);
            (self.next_device < MAX_PLACES).then(|| self.next_device += 1).map(|()| new)
        })
    }

    /// Nothing of a device is left on any reactor, or it was never there.
    pub(super) fn forget_device(&mut self, id: DeviceId) {
        self.free_devices.push(id.successor());
    }

    /// The number of a target; the same as long as the target exists.
    pub(super) fn target(&mut self, name: &str) -> TargetId {
        let (next, free) = (&mut self.next_target, &mut self.free_targets);
        *self.targets.entry(name.to_owned()).or_insert_with(|| {
            free.pop().unwrap_or_else(|| {
                *next += 1;
                TargetId(*next - 1)
            })
        })
    }

    /// A target is gone; one of the same name later is another one.
    pub(super) fn forget_target(&mut self, name: &str) -> Option<TargetId> {
        self.ports.remove(name);
        let id = self.targets.remove(name)?;
        self.free_targets.push(id.successor());
        Some(id)
    }

    /// The relative target port identifier: what the file says, else the lowest free one, kept.
    fn port(&mut self, name: &str, target: &Target, all: &Configuration) -> u16 {
        if let Some(chosen) = target.attributes.number("rel_tgt_id").and_then(|n| u16::try_from(n).ok()) {
            self.ports.remove(name);
            return chosen;
        }
        let others = all.drivers.values().flat_map(|d| d.targets.values());
        let chosen: BTreeSet<u64> = others.filter_map(|t| t.attributes.number("rel_tgt_id")).collect();
        if let Some(port) = self.ports.get(name).filter(|p| !chosen.contains(&u64::from(**p))) {
            return *port;
        }
        self.ports.remove(name);
        let taken = |p: &u16| chosen.contains(&u64::from(*p)) || self.ports.values().any(|used| used == p);
        // 65535 targets with as many identifiers: the last one is shared then, which only VPD page 88h shows.
        let port = (1..=u16::MAX).find(|p| !taken(p)).unwrap_or(u16::MAX);
        self.ports.insert(name.to_owned(), port);
        port
    }

    /// Targets whose given-out identifier somebody has chosen meanwhile.
    pub(super) fn displaced(&self, all: &Configuration) -> Vec<String> {
        let targets = || all.drivers.values().flat_map(|d| &d.targets);
        let chosen: BTreeSet<u64> = targets().filter_map(|(_, t)| t.attributes.number("rel_tgt_id")).collect();
        let given = self.ports.iter().filter(|(_, port)| chosen.contains(&u64::from(**port)));
        given.map(|(name, _)| name.clone()).collect()
    }

    /// What engines get to know of a target. A driver that is not enabled has no enabled target. LUNs whose device is not open are left out.
    pub(super) fn target_config(
        &mut self,
        name: &str,
        target: &Target,
        all: &Configuration,
        devices: impl Fn(&str) -> Option<DeviceId>,
    ) -> TargetConfig {
        let map = |luns: &Luns| {
            Arc::new(LunMap::new(luns.iter().filter_map(|(number, lun)| {
                let device = devices(&lun.device)?;
                Some(LunEntry { lun: *number, device, read_only: lun.read_only })
            })))
        };
        let group = |group: &scst_config::Group| InitiatorGroup {
            name: group.name.clone(),
            initiators: group.initiators.clone(),
            luns: map(&group.luns),
        };
        TargetConfig {
            id: self.target(name),
            name: name.to_owned(),
            enabled: target.attributes.flag("enabled") && driver_is_enabled(all),
            relative_port: self.port(name, target, all),
            addressing: match target.attributes.text("addr_method") {
                Some("FLAT") => LunAddressMethod::Flat,
                _ => LunAddressMethod::Peripheral,
            },
            luns: map(&target.luns),
            groups: target.groups.iter().map(group).collect(),
        }
    }

    /// What the iSCSI driver gets to know.
    ///
    /// # Errors
    /// A value that the driver does not take although the attribute table does.
    pub(super) fn iscsi_config(&mut self, all: &Configuration) -> Result<IscsiConfig> {
        let mut config = IscsiConfig::default();
        let Some(driver) = all.drivers.get(&DriverKind::Iscsi) else { return Ok(config) };
        config.link_local = driver.attributes.flag("link_local");
        config.discovery = DiscoveryConfig {
            incoming: users(&driver.attributes, "IncomingUser")?,
            outgoing: users(&driver.attributes, "OutgoingUser")?.pop(),
        };
        for (name, target) in &driver.targets {
            let settings = iscsi_target(&target.attributes).with_context(|| format!("target {name}"))?;
            config.targets.insert(self.target(name), Arc::new(settings));
        }
        Ok(config)
    }
}

/// Whether the iSCSI driver is switched on.
pub(super) fn driver_is_enabled(all: &Configuration) -> bool {
    all.drivers.get(&DriverKind::Iscsi).is_some_and(|d| d.attributes.flag("enabled"))
}

fn iscsi_target(attributes: &Attributes) -> Result<IscsiTargetConfig> {
    let mut parameters = TargetParameters::default();
    for row in PARAMETERS {
        if let Some(value) = attributes.text(row.name) {
            parameters.set(row.name, value)?;
        }
    }
    let redirect = attributes.text("redirect").and_then(|r| r.rsplit_once(' '));
    Ok(IscsiTargetConfig {
        parameters,
        alias: attributes.text("alias").map(str::to_owned),
        incoming: users(attributes, "IncomingUser")?,
        outgoing: users(attributes, "OutgoingUser")?.pop(),
        allowed_portals: attributes.values("allowed_portal").into_iter().map(str::to_owned).collect(),
        redirect: redirect.map(|(address, how)| Redirect { address: address.to_owned(), permanent: how == "perm" }),
    })
}

fn users(attributes: &Attributes, name: &str) -> Result<Vec<ChapUser>> {
    let one = |account: &str| {
        let (user, secret) = account.split_once(' ').ok_or_else(|| anyhow!("{name} has no secret"))?;
        ChapUser::new(user, secret.as_bytes()).with_context(|| format!("{name} {user}"))
    };
    attributes.values(name).into_iter().map(one).collect()
}
