use std::{fs, path::Path};

use super::*;

/// Damaged copies of each seed.
const COPIES: usize = 300;

/// What parsers stumble over.
const WORDS: [&[u8]; 16] = [
    b"\0",
    b"\n",
    b" ",
    b"/",
    b":",
    b"\"",
    b"\\",
    b"%",
    b"-1",
    b"18446744073709551616",
    b"null",
    b"{}",
    b"\xff",
    b"\xff\xff\xff\xff",
    "\u{202e}".as_bytes(),
    b"\xc3",
];

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no seeds of {target}");
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

#[test]
fn every_target_bears_its_seeds_and_damaged_ones() {
    let mut random = Random::new(0x9481);
    for (name, target) in TARGETS {
        target(b"");
        for seed in seeds(name) {
            target(&seed);
            for _ in 0..COPIES {
                let mut copy = seed.clone();
                for _ in 0..=random.below(4) {
                    random.damage(&mut copy, &WORDS);
                }
                target(&copy);
            }
        }
    }
}

#[test]
fn every_target_has_its_program() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = fs::read_to_string(directory.join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
        let program = fs::read_to_string(directory.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(program.contains(&format!("run(\"{name}\"")), "{program}");
    }
}
