use super::*;
use scst_core::ids::SessionId;

fn session(index: u32, initiator: &str) -> SessionStatistics {
    let target = "iqn.2026-01.example:t".to_owned();
    let id = SessionId { index, generation: 0 };
    SessionStatistics { id, initiator: initiator.to_owned(), target, active: 1, commands: u64::from(index) + 7 }
}

#[test]
fn parts_of_several_reactors_make_one_report() {
    let mut statistics = Statistics::default();
    statistics.add(ReactorId(1), Snapshot { more: true, sessions: vec![session(0, "iqn.a")] });
    statistics.add(ReactorId(0), Snapshot { more: false, sessions: vec![session(4, "iqn.b")] });
    assert!(statistics.is_incomplete());
    statistics.add(ReactorId(1), Snapshot { more: false, sessions: vec![session(1, "iqn.c")] });
    assert!(!statistics.is_incomplete());
    let text = report(&statistics, "0.1", 17);
    let expected = "\
scstd 0.1 time 17 reactors 2

[sessions]
initiator target reactor active_commands commands
iqn.b iqn.2026-01.example:t 0 1 11
iqn.a iqn.2026-01.example:t 1 1 7
iqn.c iqn.2026-01.example:t 1 1 8
";
    assert_eq!(text, expected);
}
