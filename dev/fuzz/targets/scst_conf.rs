//! Any bytes as `scst.conf`: errors or a model, never a panic; a model survives being written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(first) = scst_config::parse("fuzz", data) {
        let text = first.configuration.to_string();
        let second = scst_config::parse("fuzz", text.as_bytes()).expect("what is written can be read");
        assert_eq!(first.configuration, second.configuration);
        assert!(scst_config::difference(&first.configuration, &second.configuration).is_empty());
    }
});
