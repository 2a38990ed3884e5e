//! Any order of events on the engines of up to three reactors; the checks are those of the engine's random histories.
#![no_main]

#[expect(dead_code, reason = "the engine's stories use all of it, its histories a part")]
#[path = "../../../core/scst/tests/engine/common.rs"]
mod common;
#[path = "../../../core/scst/tests/engine/random.rs"]
mod random;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| random::play(random::Random::Bytes(data.to_vec()), 2000));
