//! The canonical file: sorted, one attribute per line, only what was given.

use std::fmt::{self, Display, Formatter};

use crate::model::{Attributes, Configuration, DeviceGroup, Group, HandlerKind, Luns, Target};

impl Display for Configuration {
    /// Writes a file that reads back as the same configuration.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        attributes(f, 0, &self.globals)?;
        for handler in HandlerKind::ALL {
            let mut devices = self.devices.iter().filter(|(_, d)| d.handler == handler).peekable();
            if devices.peek().is_none() {
                continue;
            }
            writeln!(f, "HANDLER {} {{", handler.name())?;
            for (name, device) in devices {
                line(f, 1, &["DEVICE", name], " {")?;
                attributes(f, 2, &device.attributes)?;
                writeln!(f, "\t}}")?;
            }
            writeln!(f, "}}\n")?;
        }
        for (kind, driver) in &self.drivers {
            writeln!(f, "TARGET_DRIVER {} {{", kind.name())?;
            attributes(f, 1, &driver.attributes)?;
            for (name, target) in &driver.targets {
                line(f, 1, &["TARGET", name], " {")?;
                write_target(f, target)?;
                writeln!(f, "\t}}")?;
            }
            writeln!(f, "}}\n")?;
        }
        for (name, group) in &self.device_groups {
            device_group(f, name, group)?;
        }
        Ok(())
    }
}

fn write_target(f: &mut Formatter<'_>, target: &Target) -> fmt::Result {
    attributes(f, 2, &target.attributes)?;
    luns(f, 2, &target.luns)?;
    for Group { name, initiators, luns: own, attributes: given } in &target.groups {
        line(f, 2, &["GROUP", name], " {")?;
        attributes(f, 3, given)?;
        for initiator in initiators {
            line(f, 3, &["INITIATOR", initiator], "")?;
        }
        luns(f, 3, own)?;
        writeln!(f, "\t\t}}")?;
    }
    Ok(())
}

fn luns(f: &mut Formatter<'_>, depth: usize, luns: &Luns) -> fmt::Result {
    for (number, lun) in luns {
        let block = if lun.read_only { " {" } else { "" };
        line(f, depth, &["LUN", &number.to_string(), &lun.device], block)?;
        if lun.read_only {
            line(f, depth + 1, &["read_only", "1"], "")?;
            indent(f, depth)?;
            writeln!(f, "}}")?;
        }
    }
    Ok(())
}

fn device_group(f: &mut Formatter<'_>, name: &str, group: &DeviceGroup) -> fmt::Result {
    line(f, 0, &["DEVICE_GROUP", name], " {")?;
    for device in &group.devices {
        line(f, 1, &["DEVICE", device], "")?;
    }
    for (name, targets) in &group.target_groups {
        line(f, 1, &["TARGET_GROUP", name], " {")?;
        attributes(f, 2, &targets.attributes)?;
        for (name, member) in &targets.targets {
            line(f, 2, &["TARGET", name], " {")?;
            attributes(f, 3, member)?;
            writeln!(f, "\t\t}}")?;
        }
        writeln!(f, "\t}}")?;
    }
    writeln!(f, "}}\n")
}

fn attributes(f: &mut Formatter<'_>, depth: usize, attributes: &Attributes) -> fmt::Result {
    for (name, values) in attributes.given() {
        for value in values {
            line(f, depth, &[name, value], "")?;
        }
    }
    Ok(())
}

fn indent(f: &mut Formatter<'_>, depth: usize) -> fmt::Result {
    (0..depth).try_for_each(|_| f.write_str("\t"))
}

fn line(f: &mut Formatter<'_>, depth: usize, words: &[&str], end: &str) -> fmt::Result {
    indent(f, depth)?;
    for (i, word) in words.iter().enumerate() {
        write!(f, "{}{}", if i == 0 { "" } else { " " }, Quoted(word))?;
    }
    writeln!(f, "{end}")
}

/// A word as the file needs it.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let quotes = self.0.is_empty() || self.0 == "{" || self.0 == "}" || self.0.contains([' ', '\t']);
        if quotes {
            f.write_str("\"")?;
        }
        for c in self.0.chars() {
            // The original wants `#` escaped inside names, also in quotes.
            if matches!(c, '"' | '\\' | '#') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        if quotes { f.write_str("\"") } else { Ok(()) }
    }
}
