//! Filters made by chance.

use super::event;
use crate::{
    filter::{FIELDS, Field, Filter, Type},
    fuzz::Random,
};

/// Filters of all shapes, as text that reads.
pub(super) fn filters(count: usize) -> impl Iterator<Item = Filter> {
    let mut random = Random::new(0x9482);
    std::iter::repeat_with(move || {
        let text = expression(&mut random, 0);
        Filter::parse(&text).unwrap_or_else(|error| panic!("{error}\n{}", error.pointer(&text)))
    })
    .take(count)
}

fn expression(random: &mut Random, depth: usize) -> String {
    let shape = if depth < 4 { random.below(8) } else { 0 };
    let mut part = || expression(random, depth + 1);
    match shape {
        0..=3 => test(random),
        4 => format!("({} and {})", part(), part()),
        5 => format!("({} {})", part(), part()),
        6 => format!("({} or {})", part(), part()),
        _ => format!("not ({})", part()),
    }
}

fn test(random: &mut Random) -> String {
    let field = &FIELDS[random.below(FIELDS.len())];
    let name = field.name;
    let operators: &[&str] = match field.kind {
        Type::Text | Type::Kind | Type::Errno | Type::Syscall => &["=", "!=", "~", "!~"],
        Type::Number | Type::Duration | Type::Bytes => &["=", "!=", "<", "<=", ">", ">="],
        Type::Address | Type::Signal | Type::Flag => &["=", "!="],
    };
    let operator = operators[random.below(operators.len())];
    match random.below(6) {
        0 => name.to_owned(),
        1 => format!("{name} in ({}, {})", value(random, field), value(random, field)),
        2 => format!("{name} not in ({})", value(random, field)),
        _ => format!("{name}{operator}{}", value(random, field)),
    }
}

/// Values that events of the tests have, and others.
fn value(random: &mut Random, field: &Field) -> &'static str {
    let values: &[&str] = match field.kind {
        Type::Text => {
            &["shop", "cart", "\"\"", "\"a b\"", "'\"'", r#""a\\\\b""#, "Deployment", "kube-system/dns", "x"]
        }
        Type::Kind => &["tcp", "tcp.connect", "oom.*", "process.exit", "cgroup"],
        Type::Number => &["0", "1", "-5", "42", "443", "9223372036854775807"],
        Type::Duration => &["0", "150ms", "1.5h", "90.5", "3us", "18446744073709551615ns"],
        Type::Bytes => &["0", "4KiB", "64Mi", "1.5GiB", "1k", "9223372036854775807"],
        Type::Errno => &["ECONNREFUSED", "ENOENT", "13", "512"],
        Type::Syscall => &["openat", "read", "i386"],
        Type::Signal => &["SIGKILL", "SEGV", "11", "64"],
        Type::Address => &["10.0.0.7", "10.0.0.0/8", "2001:db8::1", "::/0", "0.0.0.0/0"],
        Type::Flag => &["true", "false"],
    };
    values[random.below(values.len())]
}

#[test]
fn what_is_printed_reads_as_the_same() {
    let connect = event(agent_ebpf::contract::event::EventKind::TcpConnect);
    for filter in filters(5_000) {
        let printed = filter.to_string();
        let again = Filter::parse(&printed).unwrap_or_else(|error| panic!("{printed}: {error}"));
        assert_eq!(again, filter, "{printed}");
        assert_eq!(again.to_string(), printed);
        assert_eq!(again.matches(&connect), filter.matches(&connect));
    }
}

#[test]
fn every_mistake_is_within_the_text() {
    let words: [&[u8]; 14] = [
        b"(",
        b")",
        b"and ",
        b" or ",
        b"not ",
        b" in ",
        b"\"",
        b"'",
        b"\\",
        b"~",
        b">=",
        b"!",
        "é\u{202e}".as_bytes(),
        b",",
    ];
    let mut random = Random::new(0x9483);
    let mut refused = 0;
    for filter in filters(5_000) {
        let mut bytes = filter.to_string().into_bytes();
        for _ in 0..=random.below(3) {
            random.damage(&mut bytes, &words);
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Err(error) = Filter::parse(&text) {
            refused += 1;
            assert!(
                error.span.end <= text.len() && text.get(error.span.clone()).is_some(),
                "{text:?}: {error:?}"
            );
            assert_eq!(error.pointer(&text).lines().count(), 2);
        }
    }
    assert!(refused > 1_000, "{refused}");
}
