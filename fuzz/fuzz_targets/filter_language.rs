#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| podwitness::fuzz::run("filter_language", bytes));
