//! What must change to get from one configuration to another, in an order that never leaves a LUN without its device.
//!
//! Order: global and driver settings; devices that come or are replaced; targets, each with all of its changes
//! together (so that a driver sees one new snapshot for each target); devices that go. A driver that is switched off
//! is switched off first, one that is switched on is switched on last.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::counted;
use crate::model::{Attributes, Configuration, Device, Driver, DriverKind, Group, Lun, Luns, Target};
use crate::rules;
use crate::value;

/// One step.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "fields are named like the objects they name")]
pub enum Change {
    /// A global attribute has other values.
    SetGlobal { name: &'static str, values: Attributes },
    /// A driver attribute has other values.
    SetDriver { driver: DriverKind, name: &'static str, values: Attributes },
    /// A new device.
    AddDevice { name: String, device: Device },
    /// A device of that name with other attributes, or of another handler; its LUNs stay.
    ReplaceDevice { name: String, device: Device, attributes: Vec<&'static str> },
    /// A device that nothing maps any more.
    RemoveDevice { name: String },
    /// A new target with all that is in it.
    AddTarget { driver: DriverKind, name: String, target: Target },
    /// A target that goes.
    RemoveTarget { driver: DriverKind, name: String },
    /// Something within a target.
    Target { driver: DriverKind, name: String, change: TargetChange },
}

/// A step within a target.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "fields are named like the objects they name")]
pub enum TargetChange {
    /// An attribute has other values.
    Set { name: &'static str, values: Attributes },
    /// A group that goes.
    RemoveGroup { group: String },
    /// A new group with all that is in it.
    AddGroup { group: Group },
    /// A group attribute has other values.
    SetGroup { group: String, name: &'static str, values: Attributes },
    /// An initiator pattern that goes.
    RemoveInitiator { group: String, initiator: String },
    /// A new initiator pattern.
    AddInitiator { group: String, initiator: String },
    /// A LUN that goes; `group` None: from the target's own list.
    RemoveLun { group: Option<String>, number: u32 },
    /// A new LUN.
    AddLun { group: Option<String>, number: u32, lun: Lun },
    /// A LUN with another device or another `read_only`.
    ReplaceLun { group: Option<String>, number: u32, lun: Lun },
    /// The order in which groups are searched.
    OrderGroups { groups: Vec<String> },
}

/// The steps from `old` to `new`. Attributes are compared by effective value: writing a default out is no change.
pub fn difference(old: &Configuration, new: &Configuration) -> Vec<Change> {
    let mut changes = Vec::new();
    for name in differing(&old.globals, &new.globals) {
        changes.push(Change::SetGlobal { name, values: new.globals.clone() });
    }
    let mut last = Vec::new();
    for kind in DriverKind::ALL {
        let (a, b) = (driver_of(old, kind), driver_of(new, kind));
        for name in differing(&a.attributes, &b.attributes) {
            let values = b.attributes.clone();
            let on = name == "enabled" && values.flag(name);
            let into = if on { &mut last } else { &mut changes };
            into.push(Change::SetDriver { driver: kind, name, values });
        }
    }
    devices_that_come(old, new, &mut changes);
    for kind in DriverKind::ALL {
        targets(kind, &driver_of(old, kind).targets, &driver_of(new, kind).targets, &mut changes);
    }
    for name in old.devices.keys().filter(|n| !new.devices.contains_key(*n)) {
        changes.push(Change::RemoveDevice { name: name.clone() });
    }
    changes.append(&mut last);
    changes
}

fn driver_of(configuration: &Configuration, kind: DriverKind) -> Driver {
    configuration.drivers.get(&kind).cloned().unwrap_or_else(|| Driver::new(kind))
}

/// Names of the attributes whose effective values are not the same.
fn differing(old: &Attributes, new: &Attributes) -> Vec<&'static str> {
    let names = rules::rows(old.table()).map(|r| r.name);
    names.filter(|name| old.values(name) != new.values(name)).collect()
}

fn devices_that_come(old: &Configuration, new: &Configuration, changes: &mut Vec<Change>) {
    for (name, device) in &new.devices {
        let (name, device) = (name.clone(), device.clone());
        match old.devices.get(&name) {
            None => changes.push(Change::AddDevice { name, device }),
            Some(before) if before.handler != device.handler => {
                changes.push(Change::ReplaceDevice { name, device, attributes: Vec::new() });
            }
            Some(before) => {
                let attributes = differing(&before.attributes, &device.attributes);
                if !attributes.is_empty() {
                    changes.push(Change::ReplaceDevice { name, device, attributes });
                }
            }
        }
    }
}

fn targets(
    driver: DriverKind,
    old: &BTreeMap<String, Target>,
    new: &BTreeMap<String, Target>,
    changes: &mut Vec<Change>,
) {
    // Those that go come first: their relative identifiers may be taken over.
    for name in old.keys().filter(|n| !new.contains_key(*n)) {
        changes.push(Change::RemoveTarget { driver, name: name.clone() });
    }
    for (name, target) in new {
        let Some(before) = old.get(name) else {
            changes.push(Change::AddTarget { driver, name: name.clone(), target: target.clone() });
            continue;
        };
        let mut steps = Vec::new();
        inside_target(before, target, &mut steps);
        changes.extend(steps.into_iter().map(|change| Change::Target { driver, name: name.clone(), change }));
    }
}

fn inside_target(old: &Target, new: &Target, steps: &mut Vec<TargetChange>) {
    for name in differing(&old.attributes, &new.attributes) {
        steps.push(TargetChange::Set { name, values: new.attributes.clone() });
    }
    luns(None, &old.luns, &new.luns, steps);
    let by_name = |t: &'_ Target| -> BTreeMap<String, usize> {
        t.groups.iter().enumerate().map(|(i, g)| (g.name.clone(), i)).collect()
    };
    let (in_old, in_new) = (by_name(old), by_name(new));
    for group in old.groups.iter().filter(|g| !in_new.contains_key(&g.name)) {
        steps.push(TargetChange::RemoveGroup { group: group.name.clone() });
    }
    for group in &new.groups {
        match in_old.get(&group.name) {
            None => steps.push(TargetChange::AddGroup { group: group.clone() }),
            Some(&before) => inside_group(&old.groups[before], group, steps),
        }
    }
    // After the steps so far the groups that stay are in the old order, the new ones behind them.
    let kept = old.groups.iter().filter(|g| in_new.contains_key(&g.name));
    let added = new.groups.iter().filter(|g| !in_old.contains_key(&g.name));
    let is: Vec<&String> = kept.chain(added).map(|g| &g.name).collect();
    if is.iter().copied().ne(new.groups.iter().map(|g| &g.name)) {
        steps.push(TargetChange::OrderGroups { groups: new.groups.iter().map(|g| g.name.clone()).collect() });
    }
}

fn inside_group(old: &Group, new: &Group, steps: &mut Vec<TargetChange>) {
    let group = &new.name;
    for name in differing(&old.attributes, &new.attributes) {
        steps.push(TargetChange::SetGroup { group: group.clone(), name, values: new.attributes.clone() });
    }
    let (before, after): (BTreeSet<_>, BTreeSet<_>) =
        (old.initiators.iter().collect(), new.initiators.iter().collect());
    for initiator in before.difference(&after) {
        steps.push(TargetChange::RemoveInitiator { group: group.clone(), initiator: (*initiator).clone() });
    }
    for initiator in after.difference(&before) {
        steps.push(TargetChange::AddInitiator { group: group.clone(), initiator: (*initiator).clone() });
    }
    luns(Some(group), &old.luns, &new.luns, steps);
}

fn luns(group: Option<&String>, old: &Luns, new: &Luns, steps: &mut Vec<TargetChange>) {
    for number in old.keys().copied().filter(|n| !new.contains_key(n)) {
        steps.push(TargetChange::RemoveLun { group: group.cloned(), number });
    }
    for (&number, lun) in new {
        let (group, lun) = (group.cloned(), lun.clone());
        match old.get(&number) {
            None => steps.push(TargetChange::AddLun { group, number, lun }),
            Some(before) if *before != lun => steps.push(TargetChange::ReplaceLun { group, number, lun }),
            Some(_) => {}
        }
    }
}

impl Configuration {
    /// Takes one step. A step about an object that is not there does nothing.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::SetGlobal { name, values } => self.globals.copy_from(values, name),
            Change::SetDriver { driver, name, values } => self.driver(*driver).attributes.copy_from(values, name),
            Change::AddDevice { name, device } | Change::ReplaceDevice { name, device, .. } => {
                self.devices.insert(name.clone(), device.clone());
            }
            Change::RemoveDevice { name } => {
                self.devices.remove(name);
            }
            Change::AddTarget { driver, name, target } => {
                self.driver(*driver).targets.insert(name.clone(), target.clone());
            }
            Change::RemoveTarget { driver, name } => {
                self.driver(*driver).targets.remove(name);
            }
            Change::Target { driver, name, change } => {
                if let Some(target) = self.driver(*driver).targets.get_mut(name) {
                    target.apply(change);
                }
            }
        }
    }

    fn driver(&mut self, kind: DriverKind) -> &mut Driver {
        self.drivers.entry(kind).or_insert_with(|| Driver::new(kind))
    }
}

impl Target {
    fn apply(&mut self, change: &TargetChange) {
        match change {
            TargetChange::Set { name, values } => self.attributes.copy_from(values, name),
            TargetChange::RemoveGroup { group } => self.groups.retain(|g| g.name != *group),
            TargetChange::AddGroup { group } => self.groups.push(group.clone()),
            TargetChange::SetGroup { group, name, values } => {
                self.change_group(group, |g| g.attributes.copy_from(values, name));
            }
            TargetChange::RemoveInitiator { group, initiator } => {
                self.change_group(group, |g| g.initiators.retain(|i| i != initiator));
            }
            TargetChange::AddInitiator { group, initiator } => {
                self.change_group(group, |g| g.initiators.push(initiator.clone()));
            }
            TargetChange::RemoveLun { group, number } => {
                self.change_luns(group.as_deref(), |l| drop(l.remove(number)));
            }
            TargetChange::AddLun { group, number, lun } | TargetChange::ReplaceLun { group, number, lun } => {
                self.change_luns(group.as_deref(), |l| drop(l.insert(*number, lun.clone())));
            }
            TargetChange::OrderGroups { groups } => {
                self.groups.sort_by_key(|g| groups.iter().position(|name| *name == g.name));
            }
        }
    }

    fn change_group(&mut self, name: &str, change: impl FnOnce(&mut Group)) {
        if let Some(group) = self.groups.iter_mut().find(|g| g.name == name) {
            change(group);
        }
    }

    fn change_luns(&mut self, group: Option<&str>, change: impl FnOnce(&mut Luns)) {
        match group {
            None => change(&mut self.luns),
            Some(name) => self.change_group(name, |g| change(&mut g.luns)),
        }
    }
}

/// `name value`, for the log.
fn shown(values: &Attributes, name: &str) -> String {
    let kind = rules::find(values.table(), name).map(|r| r.kind);
    let all: Vec<String> = values.values(name).iter().filter_map(|v| Some(value::shown(kind?, v))).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

impl Change {
    /// The devices that the LUNs of this step name.
    pub fn devices(&self) -> BTreeSet<&str> {
        let luns: Vec<&Lun> = match self {
            Self::AddTarget { target, .. } => target.all_luns().collect(),
            Self::Target { change: TargetChange::AddGroup { group }, .. } => group.luns.values().collect(),
            Self::Target {
                change: TargetChange::AddLun { lun, .. } | TargetChange::ReplaceLun { lun, .. }, ..
            } => {
                vec![lun]
            }
            _ => Vec::new(),
        };
        luns.into_iter().map(|lun| lun.device.as_str()).collect()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetGlobal { name, values } => write!(f, "{name} is now {}", shown(values, name)),
            Self::SetDriver { driver, name, values } => {
                write!(f, "driver {}: {name} is now {}", driver.name(), shown(values, name))
            }
            Self::AddDevice { name, device } => write!(f, "new device {name} ({})", device.handler.name()),
            Self::ReplaceDevice { name, attributes, .. } => {
                write!(f, "device {name} is opened anew")?;
                if attributes.is_empty() { Ok(()) } else { write!(f, " (changed: {})", attributes.join(", ")) }
            }
            Self::RemoveDevice { name } => write!(f, "device {name} is closed"),
            Self::AddTarget { name, target, .. } => {
                let (luns, groups) = (counted(target.luns.len(), "LUN"), counted(target.groups.len(), "group"));
                write!(f, "new target {name} ({luns}, {groups})")
            }
            Self::RemoveTarget { name, .. } => write!(f, "target {name} is gone"),
            Self::Target { name, change, .. } => write!(f, "target {name}: {change}"),
        }
    }
}

impl fmt::Display for TargetChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |group: &Option<String>| group.as_ref().map_or(String::new(), |g| format!("group {g}: "));
        let right = |lun: &Lun| if lun.read_only { " (read-only)" } else { "" };
        match self {
            Self::Set { name, values } => write!(f, "{name} is now {}", shown(values, name)),
            Self::RemoveGroup { group } => write!(f, "group {group} is gone"),
            Self::AddGroup { group } => write!(f, "new group {}", group.name),
            Self::SetGroup { group, name, values } => write!(f, "group {group}: {name} is now {}", shown(values, name)),
            Self::RemoveInitiator { group, initiator } => write!(f, "group {group}: initiator {initiator} is out"),
            Self::AddInitiator { group, initiator } => write!(f, "group {group}: initiator {initiator} is in"),
            Self::RemoveLun { group, number } => write!(f, "{}LUN {number} is gone", place(group)),
            Self::AddLun { group, number, lun } => {
                write!(f, "{}new LUN {number}: {}{}", place(group), lun.device, right(lun))
            }
            Self::ReplaceLun { group, number, lun } => {
                write!(f, "{}LUN {number} is now {}{}", place(group), lun.device, right(lun))
            }
            Self::OrderGroups { groups } => write!(f, "groups are searched in the order {}", groups.join(", ")),
        }
    }
}
