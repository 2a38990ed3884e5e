//! Who gets in, on which terms.

use std::sync::Arc;

use scst_protocol_iscsi::chap::ChapUser;
use scst_protocol_iscsi::params::DigestPolicy;
use scst_target_iscsi::{DiscoveryConfig, IscsiConfig, IscsiTargetConfig, Redirect};
use scst_testkit::chap::Chap;
use scst_testkit::initiator::{Command, Event, LoginConfig, LoginFailure};

use crate::harness::{INITIATOR, Setup, TARGET, normal};

fn refused(class: u8, detail: u8) -> Event {
    Event::LoginFailed(LoginFailure { class, detail })
}

fn user(name: &str, secret: &str) -> ChapUser {
    ChapUser { name: name.into(), secret: secret.into() }
}

#[test]
fn a_session_logs_in_works_and_logs_out_without_a_trace() {
    let mut world = Setup::default().build();
    let mut host = world.login(normal());
    assert_ne!(host.core.parameters().tsih, 0);
    assert_eq!(host.core.parameters().target_key("TargetPortalGroupTag"), Some("1"));
    let info: Vec<_> = world.reactors[0].iscsi.sessions().collect();
    assert_eq!(info.len(), 1);
    assert_eq!((info[0].initiator.as_str(), info[0].target.as_deref()), (INITIATOR, Some(TARGET)));
    assert_eq!(info[0].tsih, host.core.parameters().tsih);
    assert!(world.execute(&mut host, Command::new(0, vec![0; 6])).is_good());
    host.logout(&mut world);
    world.assert_clean();
}

#[test]
fn an_unknown_target_is_not_found() {
    let mut world = Setup::default().build();
    let (mut host, event) = world.try_login(LoginConfig::normal(INITIATOR, "iqn.2024-01.net.example:other"));
    assert_eq!(event, refused(2, 3));
    world.closed(&mut host);
    world.assert_clean();
}

#[test]
fn a_target_is_hidden_on_a_portal_that_is_not_allowed() {
    let target = IscsiTargetConfig { allowed_portals: vec!["198.51.100.*".into()], ..Default::default() };
    let mut world = Setup { target, ..Setup::default() }.build();
    assert_eq!(world.try_login(normal()).1, refused(2, 3));
}

#[test]
fn a_moved_target_says_where_it_is() {
    let redirect = Some(Redirect { address: "198.51.100.7:3260".into(), permanent: false });
    let target = IscsiTargetConfig { redirect, ..Default::default() };
    let mut world = Setup { target, ..Setup::default() }.build();
    let (_host, event) = world.try_login(normal());
    let Event::Redirected { detail: 1, addresses } = event else { panic!("{event:?}") };
    assert_eq!(addresses, ["198.51.100.7:3260"]);
}

#[test]
fn chap_one_way_and_mutual() {
    let target = IscsiTargetConfig {
        incoming: vec![user("joe", "a secret of joe"), user("ann", "a secret of ann")],
        outgoing: Some(user("target", "a secret of target")),
        ..Default::default()
    };
    let mut world = Setup { target, ..Setup::default() }.build();
    assert_eq!(world.try_login(normal()).1, refused(2, 1), "no credentials");
    assert_eq!(world.try_login(normal().with_chap(Chap::new("joe", "a secret of ann"))).1, refused(2, 1));
    let host = world.login(normal().with_chap(Chap::new("ann", "a secret of ann")));
    host.logout(&mut world);
    let mutual = Chap::new("joe", "a secret of joe").with_mutual("target", "a secret of target");
    let host = world.login(normal().with_chap(mutual));
    host.logout(&mut world);
    world.assert_clean();
}

#[test]
fn discovery_lists_the_target_and_the_portal_in_use() {
    let config = IscsiConfig { portals: vec!["198.51.100.9:3260".parse().unwrap()], ..Default::default() };
    let mut world = Setup { config, ..Setup::default() }.build();
    let (mut host, event) = world.try_login(LoginConfig::discovery(INITIATOR));
    assert_eq!(event, Event::LoggedIn);
    host.core.text(&vec![("SendTargets".to_string(), "All".to_string())]);
    let Event::Text { keys, .. } = world.until(&mut host, |e| matches!(e, Event::Text { .. })) else { panic!() };
    let pairs: Vec<(&str, &str)> = keys.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let expected =
        [("TargetName", TARGET), ("TargetAddress", "192.0.2.1:3260,1"), ("TargetAddress", "198.51.100.9:3260,1")];
    assert_eq!(pairs, expected);
    host.logout(&mut world);
    world.assert_clean();
}

#[test]
fn discovery_has_its_own_users() {
    let discovery = DiscoveryConfig { incoming: vec![user("finder", "a secret of finder")], outgoing: None };
    let mut world = Setup { config: IscsiConfig { discovery, ..Default::default() }, ..Setup::default() }.build();
    assert_eq!(world.try_login(LoginConfig::discovery(INITIATOR)).1, refused(2, 1));
    let config = LoginConfig::discovery(INITIATOR).with_chap(Chap::new("finder", "a secret of finder"));
    assert_eq!(world.try_login(config).1, Event::LoggedIn);
    assert_eq!(world.try_login(normal()).1, Event::LoggedIn, "the target asks for nothing");
}

#[test]
fn max_sessions_refuses_one_more() {
    let mut world = Setup::parameters(|p| p.max_sessions = 1).build();
    let host = world.login(normal());
    assert_eq!(world.try_login(normal().with_isid(7)).1, refused(3, 2));
    host.logout(&mut world);
    let host = world.login(normal().with_isid(7));
    host.logout(&mut world);
    world.assert_clean();
}

#[test]
fn a_login_to_a_session_that_does_not_exist_is_refused() {
    let mut world = Setup::default().build();
    let mut config = normal();
    config.tsih = 99;
    assert_eq!(world.try_login(config).1, refused(2, 0x0a));
    world.assert_clean();
}

#[test]
fn new_settings_count_for_the_next_login() {
    let mut world = Setup::default().build();
    let host = world.login(normal());
    let mut target = IscsiTargetConfig::default();
    target.parameters.header_digest = DigestPolicy::Crc32cOnly;
    let mut config = IscsiConfig::default();
    config.targets.insert(scst_core::ids::TargetId(0), Arc::new(target));
    world.reactors[0].iscsi.configure(Arc::new(config));
    assert!(!host.core.digests().header);
    host.logout(&mut world);
    let host = world.login(normal().with_key("HeaderDigest", "None,CRC32C"));
    assert!(host.core.digests().header);
    host.logout(&mut world);
}

#[test]
fn without_memory_a_login_is_out_of_resources_and_gets_in_when_there_is_some() {
    let mut world = Setup::default().build();
    // What refusals need is set aside as long as there are connections.
    let host = world.login(normal());
    let taken = world.take_buffers();
    for isid in 11..=20 {
        let (mut other, event) = world.try_login(normal().with_isid(isid));
        assert_eq!(event, refused(3, 2), "{isid}");
        world.closed(&mut other);
    }
    world.give_buffers_back(&taken);
    let other = world.login(normal().with_isid(11));
    other.logout(&mut world);
    host.logout(&mut world);
    world.assert_clean();
}

#[test]
fn connections_beyond_the_limit_are_out_of_resources_and_cost_the_others_nothing() {
    let mut world = Setup::default().build();
    world.reactors[0].iscsi.limit_connections(2);
    let first = world.login(normal().with_isid(1));
    let second = world.login(normal().with_isid(2));
    // Those that say nothing give way to one that wants an answer.
    let silent: Vec<_> = (0..40).map(|_| world.connect(normal().with_isid(3))).collect();
    for isid in 4..10 {
        let (mut other, event) = world.try_login(normal().with_isid(isid));
        assert_eq!(event, refused(3, 2));
        world.closed(&mut other);
    }
    drop(silent);
    first.logout(&mut world);
    let third = world.login(normal().with_isid(3));
    third.logout(&mut world);
    second.logout(&mut world);
    world.assert_clean();
}
