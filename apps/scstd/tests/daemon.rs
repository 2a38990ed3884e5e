//! The daemon as a process, on loopback, against the test initiator.

#[path = "daemon/blockio.rs"]
mod blockio;
mod common;
#[path = "daemon/log.rs"]
mod log;
mod statistics;
#[path = "daemon/storage.rs"]
mod storage;
#[path = "daemon/unopened.rs"]
mod unopened;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use common::{Disks, HOST, TARGET, config, disk, options};
use scst_reactor::interfaces::interface_addresses;
use scst_testkit::initiator::Event;
use scst_testkit::scsi::cdb;
use scst_testkit::{Command, Initiator, LoginConfig, Scstd};

fn login(target: &Scstd, name: &str) -> Initiator {
    let mut initiator = Initiator::connect(target.portal(), LoginConfig::normal(name, TARGET)).unwrap();
    for lun in initiator.report_luns().unwrap() {
        initiator.clear_unit_attentions(lun).unwrap();
    }
    initiator
}

/// Content that tells every block from every other.
fn blocks(seed: u8, count: usize) -> Vec<u8> {
    (0..count * 512).map(|i| seed.wrapping_add((i / 512) as u8).wrapping_mul(31).wrapping_add(i as u8)).collect()
}

fn write_read(backend: &str) {
    let disks = Disks::new(&[("disk1", 16 << 20)]);
    let target =
        Scstd::start_with(options(&config(&disk(&disks, "disk1", ""), "LUN 0 disk1"), &["--backend", backend]))
            .unwrap();
    let found = Initiator::discover(target.portal(), LoginConfig::discovery(HOST), "All").unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].name, TARGET);
    assert_eq!(found[0].addresses, [format!("{},1", target.portal())]);

    let mut host = login(&target, HOST);
    let capacity = host.capacity(0).unwrap();
    assert_eq!((capacity.blocks, capacity.block_size), (32768, 512));
    // Larger than immediate and first-burst data: R2Ts, several data PDUs in each direction.
    let data = blocks(1, 1024);
    host.run(Command::write_blocks(0, 100, 512, data.clone())).unwrap();
    host.run(Command::flush(0)).unwrap();
    assert_eq!(host.run(Command::read_blocks(0, 100, 1024, 512)).unwrap().data_in, data);
    assert_eq!(disks.read("disk1", 100 * 512, data.len()), data, "the file has what was written");
    host.logout().unwrap();
}

#[test]
fn discovery_login_write_read_with_io_uring_or_what_there_is() {
    write_read("auto");
}

#[test]
fn discovery_login_write_read_with_posix() {
    write_read("posix");
}

#[test]
fn what_an_initiator_sees_depends_on_its_name() {
    let disks = Disks::new(&[("a", 1 << 20), ("b", 2 << 20), ("c", 3 << 20)]);
    let devices = ["a", "b", "c"].map(|d| disk(&disks, d, "")).concat();
    let target = "
        LUN 0 a
        GROUP first { INITIATOR iqn.2026-01.example:host1
            LUN 0 b
            LUN 7 c
        }
        GROUP second { INITIATOR iqn.2026-01.example:host?
            LUN 0 c { read_only 1 }
        }";
    let daemon = Scstd::start_with(options(&config(&devices, target), &[])).unwrap();
    let sees = |name: &str| {
        let mut host = login(&daemon, name);
        let luns = host.report_luns().unwrap();
        luns.into_iter().map(|lun| (lun, host.capacity(lun).unwrap().blocks)).collect::<Vec<_>>()
    };
    assert_eq!(sees("iqn.2026-01.example:HOST1"), [(0, 4096), (7, 6144)]);
    assert_eq!(sees("iqn.2026-01.example:host2"), [(0, 6144)]);
    assert_eq!(sees("iqn.2026-01.example:other"), [(0, 2048)]);

    let mut second = login(&daemon, "iqn.2026-01.example:host2");
    let refused = second.execute(Command::write_blocks(0, 0, 512, blocks(1, 1))).unwrap();
    assert_eq!(refused.kcq(), Some((7, 0x27, 0)), "DATA PROTECT, WRITE PROTECTED");
    // Read-only under this LUN is not read-only under the other.
    login(&daemon, "iqn.2026-01.example:host1").run(Command::write_blocks(7, 0, 512, blocks(1, 1))).unwrap();
    assert_eq!(second.run(Command::read_blocks(0, 0, 1, 512)).unwrap().data_in, blocks(1, 1));
}

#[test]
fn an_exclamation_mark_keeps_out() {
    let disks = Disks::new(&[("a", 1 << 20), ("b", 2 << 20)]);
    let devices = ["a", "b"].map(|d| disk(&disks, d, "")).concat();
    let target = "
        LUN 0 a
        allowed_portal 127.0.0.*
        allowed_portal !127.0.0.2
        GROUP g { INITIATOR iqn.2026-01.example:host*
            INITIATOR !iqn.2026-01.example:host1
            LUN 0 b
        }
    }
    TARGET iqn.2026-01.example:hidden {
        enabled 1
        LUN 0 a
        allowed_portal !127.0.0.1
        allowed_portal 127.*";
    let daemon = Scstd::start_with(options(&config(&devices, target), &[])).unwrap();
    let found = Initiator::discover(daemon.portal(), LoginConfig::discovery(HOST), "All").unwrap();
    assert_eq!(found.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), [TARGET]);
    let hidden = LoginConfig::normal(HOST, "iqn.2026-01.example:hidden");
    assert!(Initiator::connect(daemon.portal(), hidden).is_err());
    for (name, blocks) in [("host2", 4096), ("host1", 2048), ("HOST1", 2048), ("other", 2048)] {
        let mut host = login(&daemon, &format!("iqn.2026-01.example:{name}"));
        assert_eq!(host.capacity(0).unwrap().blocks, blocks, "{name}");
    }
}

#[test]
fn several_reactors_serve_one_disk() {
    let disks = Disks::new(&[("disk1", 4 << 20)]);
    let configuration = config(&disk(&disks, "disk1", ""), "LUN 0 disk1");
    let daemon = Scstd::start_with(options(&configuration, &["--reactors", "4"])).unwrap();
    let mut hosts: Vec<Initiator> = (0..8).map(|n| login(&daemon, &format!("iqn.2026-01.example:host{n}"))).collect();
    for (n, host) in hosts.iter_mut().enumerate() {
        host.run(Command::write_blocks(0, n as u64 * 64, 512, blocks(n as u8, 64))).unwrap();
    }
    for host in &mut hosts {
        let all = host.run(Command::read_blocks(0, 0, 8 * 64, 512)).unwrap().data_in;
        let expected: Vec<u8> = (0..8).flat_map(|n| blocks(n, 64)).collect();
        assert!(all == expected);
    }
}

#[test]
fn a_reload_adds_and_removes_luns_under_a_live_session() {
    let disks = Disks::new(&[("disk1", 1 << 20), ("disk2", 2 << 20)]);
    let one = config(&disk(&disks, "disk1", ""), "LUN 0 disk1");
    let mut daemon = Scstd::start_with(options(&one, &[])).unwrap();
    let mut host = login(&daemon, HOST);

    let both = [disk(&disks, "disk1", ""), disk(&disks, "disk2", "")].concat();
    daemon.write_config(&config(&both, "LUN 0 disk1\nLUN 3 disk2")).unwrap();
    daemon.signal("HUP").unwrap();
    daemon.wait_for_log("reload complete: 2 changes, 0 failures").unwrap();
    assert!(daemon.log().contains(&format!("target {TARGET}: new LUN 3: disk2")), "{}", daemon.log());

    let changed = host.execute(Command::new(0, cdb::test_unit_ready())).unwrap();
    assert_eq!(changed.kcq(), Some((6, 0x3f, 0x0e)), "REPORTED LUNS DATA HAS CHANGED");
    assert_eq!(host.report_luns().unwrap(), [0, 3]);
    host.clear_unit_attentions(3).unwrap();
    assert_eq!(host.capacity(3).unwrap().blocks, 4096);
    host.run(Command::write_blocks(3, 0, 512, blocks(9, 8))).unwrap();

    daemon.write_config(&one).unwrap();
    daemon.signal("HUP").unwrap();
    daemon.wait_for_log("device disk2 is closed").unwrap();
    daemon.wait_for_log("reload complete: 2 changes, 0 failures").unwrap();
    assert_eq!(host.clear_unit_attentions(0).unwrap(), [(0x3f, 0x0e)]);
    assert_eq!(host.report_luns().unwrap(), [0]);
    let gone = host.execute(Command::new(3, cdb::test_unit_ready())).unwrap();
    assert_eq!(gone.kcq(), Some((5, 0x25, 0)), "LOGICAL UNIT NOT SUPPORTED");
    assert_eq!(disks.read("disk2", 0, 4096), blocks(9, 8));
}

#[test]
fn a_file_with_an_error_changes_nothing() {
    let disks = Disks::new(&[("disk1", 1 << 20)]);
    let good = config(&disk(&disks, "disk1", ""), "LUN 0 disk1");
    let mut daemon = Scstd::start_with(options(&good, &[])).unwrap();
    let mut host = login(&daemon, HOST);
    daemon.write_config(&good.replace("LUN 0 disk1", "LUN 0 disk1\nLUN 1 disk2")).unwrap();
    daemon.signal("HUP").unwrap();
    daemon.wait_for_log("there is no device \"disk2\"").unwrap();
    assert!(daemon.log().contains("the configuration is not changed"));
    assert_eq!(host.clear_unit_attentions(0).unwrap(), []);
    assert_eq!(host.report_luns().unwrap(), [0]);
}

#[test]
fn a_device_that_cannot_be_opened_leaves_the_rest_alone() {
    let disks = Disks::new(&[("disk1", 1 << 20), ("disk2", 1 << 20)]);
    let one = config(&disk(&disks, "disk1", ""), "LUN 0 disk1");
    let mut daemon = Scstd::start_with(options(&one, &[])).unwrap();
    let mut host = login(&daemon, HOST);
    // A directory is no disk.
    let bad = format!("DEVICE bad {{\nfilename {}\n}}\n", disks.path("").display());
    let more = [disk(&disks, "disk1", ""), bad, disk(&disks, "disk2", "")].concat();
    daemon.write_config(&config(&more, "LUN 0 disk1\nLUN 1 bad\nLUN 2 disk2")).unwrap();
    daemon.signal("HUP").unwrap();
    daemon.wait_for_log("reload complete").unwrap();
    assert!(daemon.log().contains("new device bad (vdisk_fileio): "), "{}", daemon.log());
    assert_eq!(host.clear_unit_attentions(0).unwrap(), [(0x3f, 0x0e)]);
    assert_eq!(host.report_luns().unwrap(), [0, 2]);
}

#[test]
fn a_grown_file_is_seen_after_a_reload() {
    let disks = Disks::new(&[("disk1", 1 << 20)]);
    let configuration = config(&disk(&disks, "disk1", ""), "LUN 0 disk1");
    let mut daemon = Scstd::start_with(options(&configuration, &[])).unwrap();
    let mut host = login(&daemon, HOST);
    assert_eq!(host.capacity(0).unwrap().blocks, 2048);
    disks.resize("disk1", 3 << 20);
    daemon.signal("HUP").unwrap();
    daemon.wait_for_log("reload complete: 0 changes, 0 failures").unwrap();
    let changed = host.execute(Command::new(0, cdb::test_unit_ready())).unwrap();
    assert_eq!(changed.kcq(), Some((6, 0x2a, 0x09)), "CAPACITY DATA HAS CHANGED");
    assert_eq!(host.capacity(0).unwrap().blocks, 6144);
    host.run(Command::write_blocks(0, 6143, 512, blocks(1, 1))).unwrap();
}

#[test]
fn a_missing_file_is_not_ready_until_it_is_there() {
    let disks = Disks::new(&[]);
    let configuration = config(&disk(&disks, "late", ""), "LUN 0 late");
    let daemon = Scstd::start_with(options(&configuration, &[])).unwrap();
    let mut host = Initiator::connect(daemon.portal(), LoginConfig::normal(HOST, TARGET)).unwrap();
    let state = |host: &mut Initiator| host.execute(Command::new(0, cdb::test_unit_ready())).unwrap().kcq();
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut until = |host: &mut Initiator, wanted: Option<(u8, u8, u8)>| {
        while seen.last() != Some(&wanted) {
            assert!(Instant::now() < deadline, "{wanted:x?} does not come, only {seen:x?}");
            let now = state(host);
            if seen.last() != Some(&now) {
                seen.push(now);
            }
        }
    };
    until(&mut host, Some((2, 4, 3)));
    disks.make("late", 1 << 20);
    until(&mut host, Some((6, 0x28, 0)));
    until(&mut host, None);
    assert_eq!(host.capacity(0).unwrap().blocks, 2048);
    host.run(Command::write_blocks(0, 0, 512, blocks(1, 1))).unwrap();
}

#[test]
fn a_stop_asks_for_logout_and_leaves_the_data_on_disk() {
    let disks = Disks::new(&[("disk1", 1 << 20)]);
    let configuration = config(&disk(&disks, "disk1", ""), "LUN 0 disk1");
    let mut daemon = Scstd::start_with(options(&configuration, &["--reactors", "2"])).unwrap();
    let mut polite = login(&daemon, HOST);
    let mut silent = login(&daemon, "iqn.2026-01.example:silent");
    polite.run(Command::write_blocks(0, 0, 512, blocks(3, 16))).unwrap();
    daemon.signal("TERM").unwrap();
    let asked = polite.wait_async().unwrap();
    assert_eq!(asked.event, 1, "the target asks for a logout");
    polite.logout().unwrap();
    // The other one does not react and is cut off.
    silent.wait_for("the request", |e| matches!(e, Event::Async(_))).unwrap();
    silent.wait_closed().unwrap();
    let status = common::wait_for_end(&mut daemon);
    assert_eq!(status.code(), Some(0));
    assert!(daemon.log().contains("stopped; all data are on disk"), "{}", daemon.log());
    assert_eq!(disks.read("disk1", 0, 16 * 512), blocks(3, 16));
}

#[test]
fn chap_opens_with_the_right_secret_only() {
    use scst_testkit::chap::Chap;
    let disks = Disks::new(&[("disk1", 1 << 20)]);
    let access = "IncomingUser \"joe 12charsecret\"\nOutgoingUser \"us targetsecret1\"\nLUN 0 disk1";
    let daemon = Scstd::start_with(options(&config(&disk(&disks, "disk1", ""), access), &[])).unwrap();
    let open = |chap: Option<Chap>| {
        let config = LoginConfig::normal(HOST, TARGET);
        let config = match chap {
            Some(chap) => config.with_chap(chap),
            None => config,
        };
        Initiator::connect(daemon.portal(), config).map(drop).map_err(|e| e.to_string())
    };
    let refused = Err("login refused with status class 0x02 detail 0x01".to_owned());
    assert_eq!(open(None), refused);
    assert_eq!(open(Some(Chap::new("joe", "wrong-secret-1"))), refused);
    assert_eq!(open(Some(Chap::new("joe", "12charsecret"))), Ok(()));
    assert_eq!(open(Some(Chap::new("joe", "12charsecret").with_mutual("us", "targetsecret1"))), Ok(()));
}

#[test]
fn discovery_on_a_wildcard_address_lists_every_address_of_the_machine_but_loopback() {
    for (wildcard, families) in [("0.0.0.0", &[4][..]), ("[::]", &[4, 6])] {
        let disks = Disks::new(&[("disk1", 1 << 20)]);
        let mut options = options(&config(&disk(&disks, "disk1", ""), "LUN 0 disk1"), &[]);
        let port = options.portal.port();
        options.portal = format!("{wildcard}:{port}").parse().unwrap();
        let daemon = Scstd::start_with(options).unwrap();
        let asked = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let found = Initiator::discover(asked, LoginConfig::discovery(HOST), "All").unwrap();
        let family = |address: &SocketAddr| if address.is_ipv4() { 4 } else { 6 };
        let mut expected = vec![format!("127.0.0.1:{port},1")];
        for mut address in interface_addresses().unwrap() {
            address.set_port(port);
            let link_local = matches!(address.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
            if !address.ip().is_loopback() && !link_local && families.contains(&family(&address)) {
                expected.push(format!("{address},1"));
            }
        }
        assert_eq!(found[0].addresses, expected, "{wildcard}");
        drop(daemon);
    }
}

#[test]
fn the_port_name_has_the_portal_group_tag_of_the_login_whatever_the_targets_number() {
    let disks = Disks::new(&[("disk1", 1 << 20)]);
    let second = "iqn.2026-01.example:second";
    let other = format!("LUN 0 disk1\n}}\nTARGET {second} {{\nenabled 1\nLUN 0 disk1");
    let daemon = Scstd::start_with(options(&config(&disk(&disks, "disk1", ""), &other), &[])).unwrap();
    let mut relative_ports = Vec::new();
    for target in [TARGET, second] {
        let mut host = Initiator::connect(daemon.portal(), LoginConfig::normal(HOST, target)).unwrap();
        host.clear_unit_attentions(0).unwrap();
        let tag: u16 = host.parameters().target_key("TargetPortalGroupTag").unwrap().parse().unwrap();
        let page = host.run(Command::read(0, vec![0x12, 1, 0x83, 1, 0, 0], 256)).unwrap().data_in;
        let mut names = Vec::new();
        let mut rest = &page[4..];
        while let [first, second, _, length, ..] = *rest {
            let body = &rest[4..4 + usize::from(length)];
            match (first & 0x0f, second & 0x3f) {
                (0x03, 0x18) => names.push(String::from_utf8_lossy(body).trim_end_matches('\0').to_owned()),
                (0x01, 0x14) => relative_ports.push(body[3]),
                _ => {}
            }
            rest = &rest[4 + usize::from(length)..];
        }
        assert_eq!(names, [format!("{target},t,0x{tag:04x}")]);
    }
    assert_eq!(relative_ports, [2, 1], "what tells the ports apart is another designator");
}

#[test]
fn a_disabled_target_lets_nobody_in_and_enabling_it_does() {
    let disks = Disks::new(&[("disk1", 1 << 20)]);
    let on = config(&disk(&disks, "disk1", ""), "LUN 0 disk1");
    let off = on.replace(&format!("TARGET {TARGET} {{\n    enabled 1"), &format!("TARGET {TARGET} {{\n    enabled 0"));
    assert_ne!(on, off);
    let mut daemon = Scstd::start_with(options(&off, &[])).unwrap();
    let found = Initiator::discover(daemon.portal(), LoginConfig::discovery(HOST), "All").unwrap();
    assert_eq!(found.len(), 0);
    let refused = Initiator::connect(daemon.portal(), LoginConfig::normal(HOST, TARGET)).err().unwrap().to_string();
    assert_eq!(refused, "login refused with status class 0x02 detail 0x03");
    daemon.write_config(&on).unwrap();
    daemon.signal("HUP").unwrap();
    daemon.wait_for_log("reload complete: 1 change, 0 failures").unwrap();
    let mut host = login(&daemon, HOST);
    // And off again: live sessions end.
    daemon.write_config(&off).unwrap();
    daemon.signal("HUP").unwrap();
    host.wait_closed().unwrap();
}

#[test]
fn a_second_request_to_stop_ends_it_at_once() {
    let disks = Disks::new(&[("disk1", 1 << 20)]);
    let configuration = config(&disk(&disks, "disk1", ""), "LUN 0 disk1");
    let mut daemon = Scstd::start_with(options(&configuration, &[])).unwrap();
    // An initiator that stays keeps the first request waiting.
    let mut host = login(&daemon, HOST);
    daemon.signal("INT").unwrap();
    host.wait_async().unwrap();
    daemon.signal("INT").unwrap();
    assert_eq!(common::wait_for_end(&mut daemon).code(), Some(130));
}

#[test]
fn the_service_manager_is_told() {
    let disks = Disks::new(&[("disk1", 1 << 20)]);
    let configuration = config(&disk(&disks, "disk1", ""), "LUN 0 disk1");
    let path = disks.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut start = options(&configuration, &[]);
    start.environment = vec![
        ("NOTIFY_SOCKET".to_owned(), path.display().to_string()),
        ("WATCHDOG_USEC".to_owned(), "100000".to_owned()),
    ];
    // As the service manager does; only the process itself knows its number.
    start.launcher = ["sh", "-c", "WATCHDOG_PID=$$ exec \"$@\"", "sh"].map(str::to_owned).to_vec();
    let mut daemon = Scstd::start_with(start).unwrap();
    // The next message that is no sign of life, after at least one of those.
    let next = |alive: bool| {
        let mut seen_alive = !alive;
        loop {
            let mut buffer = [0; 1024];
            let length = socket.recv(&mut buffer).unwrap();
            let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
            match text.trim_end() {
                "WATCHDOG=1" if seen_alive && alive => return text,
                "WATCHDOG=1" => seen_alive = true,
                _ => return text,
            }
        }
    };
    let status = format!("READY=1\nSTATUS=1 device, 1 target, portals {}\n", daemon.portal());
    assert_eq!(next(false), status);
    assert_eq!(next(true), "WATCHDOG=1\n");
    daemon.signal("HUP").unwrap();
    assert!(next(false).starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(next(false), status);
    daemon.signal("TERM").unwrap();
    assert_eq!(next(false), "STOPPING=1\n");
    assert_eq!(common::wait_for_end(&mut daemon).code(), Some(0));
}

#[test]
fn a_device_with_other_attributes_is_opened_anew_under_its_lun() {
    let disks = Disks::new(&[("disk1", 1 << 20)]);
    let mut daemon = Scstd::start_with(options(&config(&disk(&disks, "disk1", ""), "LUN 0 disk1"), &[])).unwrap();
    let mut host = login(&daemon, HOST);
    host.run(Command::write_blocks(0, 0, 512, blocks(5, 8))).unwrap();
    daemon.write_config(&config(&disk(&disks, "disk1", "blocksize 4096"), "LUN 0 disk1")).unwrap();
    daemon.signal("HUP").unwrap();
    daemon.wait_for_log("device disk1 is opened anew (changed: blocksize)").unwrap();
    daemon.wait_for_log("reload complete: 1 change, 0 failures").unwrap();
    // POWER ON, REPORTED LUNS, CAPACITY and INQUIRY DATA HAVE CHANGED (the limits in VPD page B0h are in blocks).
    let told = host.clear_unit_attentions(0).unwrap();
    assert_eq!(told, [(0x29, 0), (0x3f, 0x0e), (0x2a, 0x09), (0x3f, 0x03)]);
    let capacity = host.capacity(0).unwrap();
    assert_eq!((capacity.blocks, capacity.block_size), (256, 4096));
    assert_eq!(host.run(Command::read_blocks(0, 0, 1, 4096)).unwrap().data_in, blocks(5, 8));
}

#[test]
fn many_luns() {
    let count = 4096;
    let devices: String = (0..count).map(|n| format!("DEVICE d{n} {{ size_mb {} \n }}\n", n % 7 + 1)).collect();
    let luns: String = (0..count).map(|n| format!("LUN {n} d{n}\n")).collect();
    let configuration =
        config("", &luns).replace("HANDLER vdisk_fileio {\n", &format!("HANDLER vdisk_nullio {{\n{devices}"));
    let daemon = Scstd::start_with(options(&configuration, &[])).unwrap();
    let mut host = Initiator::connect(daemon.portal(), LoginConfig::normal(HOST, TARGET)).unwrap();
    assert_eq!(host.report_luns().unwrap(), (0..count).collect::<Vec<u32>>());
    for lun in [0, 255, 256, 4095] {
        host.clear_unit_attentions(lun).unwrap();
        assert_eq!(host.capacity(lun).unwrap().blocks, u64::from(lun % 7 + 1) * 2048);
    }
}
