//! A few runs whose seeds stay the same; `cargo xtask test` plays fresh ones.

use scst_sim::run::run;

#[test]
fn fixed_seeds_show_no_violation() {
    let mut commands = 0;
    for seed in 1..=60 {
        let counters = run(seed, false).unwrap_or_else(|complaint| panic!("seed {seed}: {complaint}"));
        commands += counters.commands;
    }
    assert!(commands > 3_000, "{commands} commands: the load is not there");
}

#[test]
fn a_seed_is_one_run_only() {
    for seed in [3, 19, 52] {
        assert_eq!(run(seed, false), run(seed, false));
    }
}
