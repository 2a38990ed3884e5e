//! From syntax to model: what each keyword may hold, and every check that needs more than one line.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::diagnostic::{Collector, Span};
use crate::doubts::{self, Clash};
use crate::model::{
    Attributes, Configuration, Device, DeviceGroup, Driver, DriverKind, Group, HandlerKind, Lun, Luns, MAX_LUN, Target,
    TargetGroup,
};
use crate::names;
use crate::rules::{self, Support};
use crate::syntax::{Item, Word};
use crate::value::{self, Kind};

/// Builds the model; what is wrong is added to `found` and left out of the model.
pub(crate) fn lower(items: &[Item], found: &mut Collector<'_>) -> Configuration {
    let mut lowering = Lowering { configuration: Configuration::default(), found, places: Places::default() };
    for item in items {
        lowering.top(item);
    }
    lowering.check_references();
    lowering.configuration
}

/// Where things were said, for messages about a second place.
#[derive(Default)]
struct Places {
    devices: HashMap<String, Span>,
    /// Devices that have an error of their own: no second message about their LUNs.
    broken_devices: HashSet<String>,
    targets: HashMap<(DriverKind, String), Span>,
    /// Device names in LUNs with the object they stand in, checked at the end: a LUN may come before its device.
    uses: Vec<(String, Span, String)>,
    relative_ids: HashMap<String, (Span, String)>,
    filenames: HashMap<String, String>,
    /// Identifiers (attribute, value) with the line and name of the device that has them.
    identifiers: HashMap<(&'static str, String), (u32, String)>,
}

/// What the groups of one target have said so far.
#[derive(Default)]
struct GroupPlaces {
    names: HashSet<String>,
    /// The first group of each pattern.
    initiators: HashMap<String, String>,
}

struct Lowering<'a, 'b> {
    configuration: Configuration,
    found: &'a mut Collector<'b>,
    places: Places,
}

impl Lowering<'_, '_> {
    fn top(&mut self, item: &Item) {
        match item.keyword().text.as_str() {
            "HANDLER" => self.handler(item),
            "TARGET_DRIVER" => self.driver(item),
            "DEVICE_GROUP" => self.device_group(item),
            "ALUA" => {
                let remedy = "leave the block out until then";
                self.found.error(item.keyword().span, "ALUA", "ALUA is not supported yet by this version", remedy);
            }
            text if text.starts_with('[') => {
                let message = format!("{text}: this is the format of SCST 1.0");
                let remedy = "rewrite it with HANDLER, DEVICE, TARGET_DRIVER, TARGET, GROUP; see scst.conf(5)";
                self.found.error(item.keyword().span, "", message, remedy);
            }
            _ => {
                let keywords = ["HANDLER", "TARGET_DRIVER", "DEVICE_GROUP"];
                let mut globals = std::mem::replace(&mut self.configuration.globals, Attributes::new(rules::GLOBAL));
                self.attribute(item, "", &mut globals, &keywords);
                self.configuration.globals = globals;
            }
        }
    }

    /// The arguments of a keyword, if there are as many as it needs.
    fn arguments<'i>(&mut self, item: &'i Item, object: &str, usage: &str, count: usize) -> Option<&'i [Word]> {
        if item.words.len() == count + 1 {
            return Some(&item.words[1..]);
        }
        let keyword = &item.words[0];
        let (span, message) = match item.words.get(count + 1) {
            Some(extra) => (extra.span, format!("{}: {:?} is one word too many", keyword.text, extra.text)),
            None => (keyword.span, format!("{} needs more after it", keyword.text)),
        };
        self.found.error(span, object, message, format!("write {usage}; put quotes around a name with blanks"));
        None
    }

    /// The name of an object, checked.
    fn name(&mut self, word: &Word, object: &str) -> bool {
        match names::object_name(&word.text) {
            Ok(()) => true,
            Err(bad) => {
                self.found.error(word.span, object, bad.message, bad.remedy);
                false
            }
        }
    }

    fn handler(&mut self, item: &Item) {
        let Some([name]) = self.arguments(item, "HANDLER", "HANDLER name { ... }", 1) else { return };
        let object = format!("HANDLER {}", name.text);
        let Some(kind) = HandlerKind::ALL.into_iter().find(|k| k.name() == name.text) else {
            let remedy = value::meant(&name.text, HandlerKind::ALL.map(HandlerKind::name));
            let message = format!("the device handler {:?} is not in this version", name.text);
            self.found.error(name.span, &object, message, remedy);
            // Their devices are known all the same: the LUNs that name them need no message of their own.
            for device in item.block.iter().flatten().filter_map(|i| i.words.get(1)) {
                self.places.broken_devices.insert(device.text.clone());
            }
            return;
        };
        let mut own = Attributes::new(rules::HANDLER);
        for inner in item.block.iter().flatten() {
            match inner.keyword().text.as_str() {
                "DEVICE" => self.device(inner, kind),
                _ => self.attribute(inner, &object, &mut own, &["DEVICE"]),
            }
        }
    }

    fn device(&mut self, item: &Item, handler: HandlerKind) {
        let Some([name]) = self.arguments(item, "DEVICE", "DEVICE name { ... }", 1) else { return };
        let object = format!("DEVICE {}", name.text);
        if !self.name(name, &object) {
            return;
        }
        if let Some(first) = self.places.devices.insert(name.text.clone(), name.span) {
            let message = format!("a device {:?} is there already, in line {}", name.text, first.line);
            self.found.error(name.span, &object, message, "give each device its own name, also across handlers");
            return;
        }
        let mut device = Device::new(handler);
        for inner in item.block.iter().flatten() {
            self.attribute(inner, &object, &mut device.attributes, &[]);
        }
        // A line with an error of its own is not missing.
        let said = item.block.iter().flatten().any(|i| i.keyword().text == "filename");
        self.check_device(name, &object, &device, said);
        self.configuration.devices.insert(name.text.clone(), device);
    }

    /// Identifiers that initiators tell disks apart by.
    fn check_identifiers(&mut self, name: &Word, object: &str, device: &Device) {
        for attribute in ["naa_id", "eui64_id", "t10_dev_id", "usn"] {
            let Some(value) = device.attributes.text(attribute) else { continue };
            let key = (attribute, value.to_owned());
            let Some((line, other)) = self.places.identifiers.get(&key) else {
                self.places.identifiers.insert(key, (name.span.line, name.text.clone()));
                continue;
            };
            let message = format!("{attribute} {value:?} is also that of DEVICE {other} in line {line}");
            let remedy = "initiators take both for one disk and mix their data; give each device its own, or none";
            self.found.warning(name.span, object, message, remedy);
        }
    }

    fn check_device(&mut self, name: &Word, object: &str, device: &Device, filename_said: bool) {
        self.check_identifiers(name, object, device);
        let block = device.attributes.number("blocksize").unwrap_or(0);
        if let Some(bytes) = device.attributes.text_if_known("opt_trans_len").and_then(|n| n.parse::<u64>().ok())
            && block != 0
            && bytes % block != 0
        {
            let message = format!("opt_trans_len {bytes} is not a multiple of the block size {block}");
            let rounded = bytes - bytes % block;
            self.found.warning(name.span, object, message, format!("it is rounded down to {rounded}; write that"));
        }
        let given = |attribute| device.attributes.is_given(attribute);
        let set = |attribute| device.attributes.text_if_known(attribute) == Some("1");
        if set("write_through") && set("nv_cache") {
            let remedy = "remove one of them: write_through has no cache, nv_cache has one that need not be flushed";
            self.found.error(name.span, object, "nv_cache contradicts write_through", remedy);
        }
        if let Some(naa) = device.attributes.text("naa_id").filter(|n| !is_naa(n)) {
            let message = format!("naa_id {naa} is not an NAA designator");
            let remedy = "begin 16 digits with 2, 3 or 5, or 32 digits with 6 (SPC-6 7.7.6.6)";
            self.found.error(name.span, object, message, remedy);
        }
        match device.handler {
            HandlerKind::VdiskFileio | HandlerKind::VdiskBlockio => match device.attributes.text("filename") {
                None if filename_said => {}
                None => {
                    let remedy = "add the line: filename /path/of/the/file";
                    self.found.error(name.span, object, "the attribute filename is missing", remedy);
                }
                Some(path) => {
                    if let Some(other) = self.places.filenames.insert(path.to_owned(), name.text.clone()) {
                        let message = format!("the file {path:?} is also behind DEVICE {other}");
                        let remedy = "initiators of two devices see no reservation of each other; map one device twice";
                        self.found.warning(name.span, object, message, remedy);
                    }
                }
            },
            HandlerKind::VdiskNullio
            | HandlerKind::DevDiskPerf
            | HandlerKind::DevModiskPerf
            | HandlerKind::DevTapePerf => {
                if given("size") && given("size_mb") {
                    self.found.error(name.span, object, "both size and size_mb are given", "leave one of them out");
                } else if device.handler == HandlerKind::DevTapePerf {
                    self.check_tape(name, object, device);
                } else if !given("size_mb") {
                    self.check_size(name, object, device);
                }
                if device.handler != HandlerKind::VdiskNullio && is_scsi_address(&name.text) {
                    let message = format!("{:?} is the address of a SCSI device of this machine", name.text);
                    let remedy = "pass-through is not in this version; any other name makes an emulated device";
                    self.found.error(name.span, object, message, remedy);
                }
            }
        }
    }

    fn check_tape(&mut self, name: &Word, object: &str, device: &Device) {
        let megabytes = device.attributes.number("size_mb").map(|n| n << 20);
        let bytes = megabytes.or_else(|| device.attributes.number("size")).unwrap_or(0);
        if bytes == 0 {
            self.found.error(name.span, object, "size 0 leaves no room on the tape", "make it larger");
        } else if let Some(warning) = device.attributes.number("early_warning").filter(|w| *w >= bytes) {
            let message = format!("early_warning {warning} is not less than the size of the tape, {bytes}");
            self.found.error(name.span, object, message, "make it smaller, or leave it out");
        }
    }

    fn check_size(&mut self, name: &Word, object: &str, device: &Device) {
        let block = device.attributes.number("blocksize").unwrap_or(512);
        let bytes = device.attributes.number("size");
        if let Some(bytes) = bytes.filter(|b| b % block != 0 || *b == 0) {
            let message = format!("size {bytes} is not a multiple of the block size {block}, or it is 0");
            self.found.error(name.span, object, message, "round it");
        }
    }

    fn driver(&mut self, item: &Item) {
        let Some([name]) = self.arguments(item, "TARGET_DRIVER", "TARGET_DRIVER name { ... }", 1) else { return };
        let object = format!("TARGET_DRIVER {}", name.text);
        if name.text == "copy_manager" {
            let remedy = "this has no effect yet: there is no EXTENDED COPY in this version";
            self.found.warning(name.span, &object, "the copy manager is not in this version", remedy);
            return;
        }
        let Some(kind) = DriverKind::ALL.into_iter().find(|k| k.name() == name.text) else {
            let known = value::meant(&name.text, DriverKind::ALL.map(DriverKind::name));
            let message = format!("the target driver {:?} is not in this version", name.text);
            self.found.error(name.span, &object, message, known);
            return;
        };
        let mut driver = self.configuration.drivers.remove(&kind).unwrap_or_else(|| Driver::new(kind));
        for inner in item.block.iter().flatten() {
            match inner.keyword().text.as_str() {
                "TARGET" => {
                    if let Some((name, target)) = self.target(inner, kind) {
                        driver.targets.insert(name, target);
                    }
                }
                _ => self.attribute(inner, &object, &mut driver.attributes, &["TARGET"]),
            }
        }
        self.check_accounts(name.span, &object, &driver.attributes);
        let asks = |attributes: &Attributes| !attributes.values("IncomingUser").is_empty();
        if asks(&driver.attributes) {
            for (target, _) in driver.targets.iter().filter(|(_, target)| !asks(&target.attributes)) {
                let message = format!("discovery asks for a password, TARGET {target} does not");
                let remedy = "whoever knows the name of the target can log in; add an IncomingUser to it";
                self.found.warning(name.span, &object, message, remedy);
            }
        }
        if !driver.attributes.flag("enabled") && !driver.targets.is_empty() {
            let remedy = "add the line: enabled 1";
            self.found.warning(name.span, &object, "the driver is not enabled; nobody can connect", remedy);
        }
        self.configuration.drivers.insert(kind, driver);
    }

    fn target(&mut self, item: &Item, kind: DriverKind) -> Option<(String, Target)> {
        let [word] = self.arguments(item, "TARGET", "TARGET name { ... }", 1)? else { return None };
        let object = format!("TARGET {}", word.text);
        let name = match names::iscsi_name(&word.text) {
            Ok(name) => name,
            Err(bad) => {
                self.found.error(word.span, &object, bad.message, bad.remedy);
                return None;
            }
        };
        if name.contains('_') {
            let remedy = "RFC 7143 4.2.7.2 has no underscore; some initiators refuse it";
            self.found.warning(word.span, &object, format!("the name {name:?} has an underscore"), remedy);
        }
        if let Some(first) = self.places.targets.insert((kind, name.clone()), word.span) {
            let message = format!("a target {name:?} is there already, in line {}", first.line);
            self.found.error(word.span, &object, message, "merge the two blocks (names are compared in small letters)");
            return None;
        }
        let mut target = Target::new(kind);
        let mut places = GroupPlaces::default();
        for inner in item.block.iter().flatten() {
            match inner.keyword().text.as_str() {
                "LUN" => self.lun(inner, &object, &mut target.luns),
                "GROUP" => self.group(inner, &object, &mut target.groups, &mut places),
                "HW_TARGET" => {
                    let remedy = "remove the line";
                    self.found.error(inner.keyword().span, &object, "HW_TARGET is for hardware targets", remedy);
                }
                _ => self.attribute(inner, &object, &mut target.attributes, &["LUN", "GROUP"]),
            }
        }
        self.check_target(word, &object, &target);
        Some((name, target))
    }

    /// Accounts that cannot work, or that keep nobody out.
    fn check_accounts(&mut self, span: Span, object: &str, attributes: &Attributes) {
        for clash in doubts::clashes(&attributes.values("IncomingUser"), attributes.text("OutgoingUser")) {
            match clash {
                Clash::TwoSecrets(name) => {
                    let message = format!("IncomingUser {name} has two secrets");
                    self.found.error(span, object, message, "only the first could work; remove one of the two lines");
                }
                Clash::SameSecret(incoming, outgoing) => {
                    let message = format!("IncomingUser {incoming} and OutgoingUser {outgoing} have the same secret");
                    // The login refuses it, see scst_protocol_iscsi::chap.
                    let remedy = "a peer could send back what it was sent, so logins are refused; change one of them";
                    self.found.error(span, object, message, remedy);
                }
                Clash::OutgoingAlone(name) => {
                    let message =
                        format!("OutgoingUser {name} is without an IncomingUser: nobody is asked for a password");
                    let remedy =
                        "add an IncomingUser; the target proves itself only to initiators that prove themselves";
                    self.found.warning(span, object, message, remedy);
                }
            }
        }
    }

    /// Patterns that others of their list keep out.
    fn check_patterns(&mut self, span: Span, object: &str, what: &str, patterns: &[String]) {
        for (pattern, by) in doubts::kept_out(patterns) {
            let message = format!("{what} {pattern:?} has no effect: {by:?} keeps it out");
            self.found.warning(span, object, message, "! counts more than other lines; make its pattern narrower");
        }
    }

    fn check_target(&mut self, word: &Word, object: &str, target: &Target) {
        self.check_accounts(word.span, object, &target.attributes);
        let portals: Vec<String> = target.attributes.values("allowed_portal").into_iter().map(str::to_owned).collect();
        self.check_patterns(word.span, object, "allowed_portal", &portals);
        if !target.attributes.flag("enabled") {
            let remedy = "add the line: enabled 1";
            self.found.warning(word.span, object, "the target is not enabled; nobody can log in", remedy);
        }
        if let Some(id) = target.attributes.text("rel_tgt_id").map(str::to_owned)
            && let Some((first, other)) = self.places.relative_ids.insert(id.clone(), (word.span, object.to_owned()))
        {
            let message = format!("rel_tgt_id {id} is also that of {other} in line {}", first.line);
            self.found.error(word.span, object, message, "give each target its own, or leave it out");
        }
        let (first, burst) = ("FirstBurstLength", "MaxBurstLength");
        if target.attributes.number(first) > target.attributes.number(burst) {
            // RFC 7143 13.14: FirstBurstLength must not exceed MaxBurstLength.
            self.found.error(word.span, object, format!("{first} is larger than {burst}"), format!("lower {first}"));
        }
        if target.luns.is_empty() && target.groups.is_empty() {
            let remedy = "add LUN 0 name-of-a-device";
            self.found.warning(word.span, object, "the target has no LUN and no GROUP", remedy);
        }
        self.check_lun_zero(word.span, object, &target.luns);
    }

    fn check_lun_zero(&mut self, span: Span, object: &str, luns: &Luns) {
        if !luns.is_empty() && !luns.contains_key(&0) {
            let remedy = "some initiators find nothing without LUN 0; give one device that number";
            self.found.warning(span, object, "there is no LUN 0", remedy);
        }
    }

    fn group(&mut self, item: &Item, target: &str, out: &mut Vec<Group>, places: &mut GroupPlaces) {
        let Some([name]) = self.arguments(item, target, "GROUP name { ... }", 1) else { return };
        let object = format!("{target}, GROUP {}", name.text);
        if !self.name(name, &object) {
            return;
        }
        if !places.names.insert(name.text.clone()) {
            let message = format!("a group {:?} is there already in this target", name.text);
            self.found.error(name.span, &object, message, "merge the two blocks");
            return;
        }
        let mut group = Group::new(&name.text);
        for inner in item.block.iter().flatten() {
            match inner.keyword().text.as_str() {
                "LUN" => self.lun(inner, &object, &mut group.luns),
                "INITIATOR" => self.initiator(inner, &object, &mut group, places),
                _ => self.attribute(inner, &object, &mut group.attributes, &["LUN", "INITIATOR"]),
            }
        }
        if group.initiators.is_empty() {
            let remedy = "add INITIATOR name-or-pattern";
            self.found.warning(name.span, &object, "no initiator is in this group", remedy);
        }
        self.check_patterns(name.span, &object, "INITIATOR", &group.initiators);
        self.check_lun_zero(name.span, &object, &group.luns);
        out.push(group);
    }

    fn initiator(&mut self, item: &Item, object: &str, group: &mut Group, places: &mut GroupPlaces) {
        let Some([word]) = self.arguments(item, object, "INITIATOR name-or-pattern", 1) else { return };
        for inner in item.block.iter().flatten() {
            let remedy = "remove the block";
            self.found.error(inner.keyword().span, object, "an INITIATOR has no attributes", remedy);
        }
        let pattern = match names::initiator_pattern(&word.text) {
            Ok(pattern) => pattern,
            Err(bad) => {
                self.found.error(word.span, object, bad.message, bad.remedy);
                return;
            }
        };
        if let Some((message, remedy)) = doubts::initiator(&pattern) {
            self.found.warning(word.span, object, message, remedy);
        }
        match places.initiators.get(&pattern) {
            Some(first) if *first == group.name => {
                let message = format!("the initiator {pattern:?} is there twice in this group");
                self.found.error(word.span, object, message, "remove one of the two lines");
                return;
            }
            Some(first) => {
                let message = format!("the initiator {pattern:?} is in GROUP {first} too");
                self.found.warning(word.span, object, message, "the first group counts, this line does nothing");
            }
            None => drop(places.initiators.insert(pattern.clone(), group.name.clone())),
        }
        group.initiators.push(pattern);
    }

    fn lun(&mut self, item: &Item, object: &str, luns: &mut Luns) {
        let Some([number, device]) = self.arguments(item, object, "LUN number device", 2) else { return };
        let at = format!("{object}, LUN {}", number.text);
        let mut own = Attributes::new(rules::LUN);
        for inner in item.block.iter().flatten() {
            self.attribute(inner, &at, &mut own, &[]);
        }
        let Some(n) = value::number(&number.text).filter(|n| *n <= u64::from(MAX_LUN)) else {
            let message = format!("{:?} is not a LUN number", number.text);
            self.found.error(number.span, &at, message, format!("use a number from 0 to {MAX_LUN}"));
            return;
        };
        self.places.uses.push((device.text.clone(), device.span, at.clone()));
        let lun = Lun { device: device.text.clone(), read_only: own.flag("read_only") };
        if let Some(first) = luns.get(&(n as u32)) {
            let message = format!("LUN {n} is there already, for device {}", first.device);
            self.found.error(number.span, &at, message, "give each LUN of a list its own number");
            return;
        }
        luns.insert(n as u32, lun);
    }

    /// An attribute line: `name value`. A value of two parts (an account) needs no quotes.
    fn attribute(&mut self, item: &Item, object: &str, out: &mut Attributes, keywords: &[&'static str]) {
        let name = item.keyword();
        let table = out.table();
        let Some(rule) = rules::find(table, &name.text) else {
            let known = rules::rows(table).filter(|r| r.support == Support::Works).map(|r| r.name);
            let message = format!("there is no attribute {:?} here", name.text);
            self.found.error(
                name.span,
                object,
                message,
                value::meant(&name.text, known.chain(keywords.iter().copied())),
            );
            return;
        };
        if item.block.is_some() {
            self.found.error(name.span, object, format!("{} has no block", name.text), "remove the braces");
            return;
        }
        let Some(first) = item.words.get(1) else {
            let message = format!("{} has no value", name.text);
            self.found.error(name.span, object, message, "write the value after it; \"\" is the empty one");
            return;
        };
        let parts = usize::from(matches!(rule.kind, Kind::Account | Kind::Redirect)) + 1;
        if let Some(extra) = item.words.get(parts + 1) {
            let message = format!("{}: one word too many after the value", name.text);
            self.found.error(extra.span, object, message, "put quotes around a value with blanks in it");
            if rule.kind == Kind::Account {
                self.found.hide_line();
            }
            return;
        }
        let span = Span { to: item.words[item.words.len() - 1].span.to, ..first.span };
        let words: Vec<&str> = item.words[1..].iter().map(|w| w.text.as_str()).collect();
        let text = words.join(" ");
        if let Support::Refused(why) = rule.support {
            self.found.error(name.span, object, format!("{} cannot be set in the file", name.text), why);
            return;
        }
        let shown = value::shown(rule.kind, &text);
        if out.is_given(rule.name) && !rule.many {
            let message = format!("{} is given twice; this time {shown}", name.text);
            self.found.error(name.span, object, message, "remove one of the two lines");
            return;
        }
        if let Err(expected) = out.set(rule.name, &text) {
            let message = format!("{}: {shown} is not valid", name.text);
            self.found.error(span, object, message, format!("expected: {expected}"));
            if rule.kind == Kind::Account {
                self.found.hide_line();
            }
            return;
        }
        let last = out.values(rule.name).last().copied().unwrap_or("");
        let doubt = match rule.kind {
            Kind::Account => doubts::account(last),
            Kind::PortalPattern => doubts::portal(last),
            _ => None,
        };
        if let Some((message, remedy)) = doubt {
            self.found.warning(span, object, format!("{}: {message}", rule.name), remedy);
            if rule.kind == Kind::Account {
                self.found.hide_line();
            }
        }
        let is_default = out.text(rule.name).unwrap_or("") == rule.default;
        match rule.support {
            Support::NoEffect(why) if !is_default => {
                self.found.warning(name.span, object, format!("{} {shown} has no effect", name.text), why);
            }
            Support::OnlyDefault(why) if !is_default => {
                let message = format!("{} {shown}: only the default {:?} is possible", name.text, rule.default);
                self.found.error(span, object, message, why);
            }
            _ => {}
        }
    }

    fn device_group(&mut self, item: &Item) {
        let Some([name]) = self.arguments(item, "DEVICE_GROUP", "DEVICE_GROUP name { ... }", 1) else { return };
        let object = format!("DEVICE_GROUP {}", name.text);
        let message = "DEVICE_GROUP is not supported yet by this version (it needs ALUA)";
        self.found.error(item.keyword().span, &object, message, "leave the block out until then");
        let mut group = DeviceGroup::default();
        for inner in item.block.iter().flatten() {
            match inner.keyword().text.as_str() {
                "DEVICE" => {
                    if let Some([device]) = self.arguments(inner, &object, "DEVICE name", 1) {
                        self.places.uses.push((device.text.clone(), device.span, object.clone()));
                        group.devices.push(device.text.clone());
                    }
                }
                "TARGET_GROUP" => self.target_group(inner, &object, &mut group),
                other => {
                    let message = format!("there is no {other:?} here");
                    let remedy = value::meant(other, ["DEVICE", "TARGET_GROUP"]);
                    self.found.error(inner.keyword().span, &object, message, remedy);
                }
            }
        }
        self.configuration.device_groups.insert(name.text.clone(), group);
    }

    fn target_group(&mut self, item: &Item, parent: &str, out: &mut DeviceGroup) {
        let Some([name]) = self.arguments(item, parent, "TARGET_GROUP name { ... }", 1) else { return };
        let object = format!("{parent}, TARGET_GROUP {}", name.text);
        let mut group = TargetGroup { attributes: Attributes::new(rules::TARGET_GROUP), targets: BTreeMap::new() };
        for inner in item.block.iter().flatten() {
            if inner.keyword().text != "TARGET" {
                self.attribute(inner, &object, &mut group.attributes, &["TARGET"]);
                continue;
            }
            let Some([target]) = self.arguments(inner, &object, "TARGET name", 1) else { continue };
            let mut member = Attributes::new(rules::TARGET_GROUP_MEMBER);
            for attribute in inner.block.iter().flatten() {
                self.attribute(attribute, &format!("{object}, TARGET {}", target.text), &mut member, &[]);
            }
            group.targets.insert(target.text.clone(), member);
        }
        out.target_groups.insert(name.text.clone(), group);
    }

    /// Devices that LUNs name must be there.
    fn check_references(&mut self) {
        for (device, span, object) in std::mem::take(&mut self.places.uses) {
            if self.places.devices.contains_key(&device) || self.places.broken_devices.contains(&device) {
                continue;
            }
            let known = self.configuration.devices.keys().map(String::as_str);
            let known = if self.found.is_full() { None } else { Some(known) };
            let remedy = match names::closest(&device, known.into_iter().flatten()) {
                Some(close) => format!("did you mean {close}?"),
                None => "add a DEVICE of that name to a HANDLER".to_owned(),
            };
            self.found.error(span, &object, format!("there is no device {device:?}"), remedy);
        }
    }
}

/// Whether a name is host:channel:id:lun, as the original names devices that it passes through.
fn is_scsi_address(name: &str) -> bool {
    let parts: Vec<&str> = name.split(':').collect();
    parts.len() == 4 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether the first digit fits the length of an NAA designator in its normal form.
fn is_naa(value: &str) -> bool {
    match value.len() - 2 {
        16 => ["0x2", "0x3", "0x5"].iter().any(|p| value.starts_with(p)),
        _ => value.starts_with("0x6"),
    }
}
