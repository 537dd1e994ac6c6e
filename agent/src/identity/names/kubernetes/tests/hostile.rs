//! Whatever bytes come: an event, an error, never a panic, and a mirror within its bound.

use super::{
    super::{
        super::lines::Lines,
        mirror::Mirror,
        object::{Event, PodObject},
    },
    recording::WATCH,
    *,
};
use crate::fuzz::Random;

#[test]
fn damaged_events() {
    const WORDS: [&str; 10] =
        ["null", "{}", "[]", "-1", "\"\"", "1e999", "true", "\"a://\"", "\0", "\u{202e}"];
    let lines: Vec<_> = WATCH.lines().collect();
    let names = Names::new(NameBounds { containers: 10_000, grace: Duration::ZERO });
    let mut mirror = Mirror::new(NODE.into(), 8);
    let mut random = Random::new(0x9481);
    let mut survived = 0;
    for _ in 0..20_000 {
        let mut line = lines[random.below(lines.len())].as_bytes().to_vec();
        for _ in 0..random.below(3) {
            if random.below(3) == 0 {
                let at = random.below(line.len() + 1);
                value(&mut line, at, WORDS[random.below(WORDS.len())]);
            } else {
                random.damage(&mut line, &WORDS.map(str::as_bytes));
            }
        }
        match Event::<PodObject>::parse(&line) {
            Ok(Event::Put(object)) => _ = mirror.put(&object, &names, Instant::now()),
            Ok(Event::Gone(object)) => _ = mirror.remove(&object, &names, Instant::now()),
            Ok(_) => {}
            Err(_) => continue,
        }
        survived += 1;
        assert!(mirror.len() <= 8);
    }
    assert!((8_000..19_000).contains(&survived), "{survived}");
}

/// Replaces the value after the next colon.
fn value(line: &mut Vec<u8>, at: usize, word: &str) {
    let Some(colon) = line[at..].iter().position(|byte| *byte == b':') else { return };
    let start = at + colon + 1;
    let end = line[start..]
        .iter()
        .position(|byte| matches!(byte, b',' | b'}'))
        .map_or(line.len(), |end| start + end);
    line.splice(start..end, word.bytes());
}

#[test]
fn pieces_of_any_size() {
    let mut random = Random::new(0x1234);
    for longest in [10, 900, 1 << 20] {
        let mut lines = Lines::new(longest);
        let (mut whole, mut long) = (0, 0);
        let mut rest = WATCH.as_bytes();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((1 + random.below(3000)).min(rest.len()));
            rest = after;
            lines.push(piece);
            while let Some(line) = lines.next() {
                match line {
                    Ok(line) => whole += usize::from(Event::<PodObject>::parse(line).is_ok()),
                    Err(_) => long += 1,
                }
            }
        }
        assert_eq!(whole + long, 123, "{longest}");
    }
}
