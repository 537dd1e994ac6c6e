//! Whatever the file holds: a configuration or an error, never a panic, and never anything else.

use super::*;
use crate::fuzz::Random;

/// A valid file with one value for each option, and no comments.
fn whole() -> String {
    let (_, effective) = Config::load(&Flags::default(), []).unwrap();
    let text = effective.to_string();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#') && !line.is_empty());
    lines.map(|line| format!("{line}\n")).collect()
}

fn survives(content: &[u8]) {
    let loaded = load_file(content);
    match &loaded {
        Ok((config, effective)) => assert_eq!(&load_file(effective.to_string()).unwrap().0, config),
        Err(_) => drop(errors(loaded)),
    }
}

#[test]
fn every_torn_file() {
    let whole = whole();
    assert!(load_file(&whole).is_ok());
    for end in 0..whole.len() {
        survives(&whole.as_bytes()[..end]);
    }
}

#[test]
fn damaged_files() {
    let bytes: Vec<&[u8]> = b"\0\t\n\r !\"#%&'*,-.:>?@[]`{|}~\x1b\xff\xc3\xb7a0".chunks(1).collect();
    let whole = whole().into_bytes();
    let mut random = Random::new(0x9481);
    for _ in 0..1500 {
        let mut damaged = whole.clone();
        for _ in 0..=random.below(4) {
            random.damage(&mut damaged, &bytes);
        }
        survives(&damaged);
    }
}

#[test]
fn random_bytes() {
    let mut random = Random::new(0x9482);
    for _ in 0..1500 {
        let length = random.below(200);
        let ascii = random.below(2) == 0;
        let bytes: Vec<u8> =
            (0..length).map(|_| u8::try_from(random.below(if ascii { 128 } else { 256 })).unwrap()).collect();
        survives(&bytes);
    }
}

#[test]
fn deep_and_wide_files() {
    for part in ["[", "{", "- ", "a: {", "? ", "&a ", "!!a ", "[[", "{a: [", "log: {", "*a ", "- - "] {
        survives(part.repeat(20_000).as_bytes());
    }
    let wide: String = (0..10_000).map(|n| format!("key{n}: {n}\n")).collect();
    let message = errors(load_file(wide));
    assert!(message.starts_with("the configuration has 10000 errors:"), "{message}");
    assert!(message.contains("  and 9950 more\n"), "{message}");
    // References that would grow without bound if they were followed.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..50 {
        bomb += &format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}, *a{0}, *a{0}]\n", n - 1);
    }
    survives(bomb.as_bytes());
}
