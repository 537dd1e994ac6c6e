//! What bytes from outside go through, for the fuzzer: a function for each parser, which panics if it does wrong.
//!
//! `fuzz/` has a target of libFuzzer for each. The unit tests run all of them over the same seeds and over damaged
//! copies, so that no target rots.

#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;

use agent_ebpf::contract::event::EventKind;
use axum::extract::Query;

#[cfg(test)]
pub(crate) use self::random::Random;
use crate::{
    config,
    filter::Filter,
    identity::{Placement, fuzz_tree, names},
    kernel::{Btf, ProgramStats},
    live::Query as Wish,
    sensor::Kept,
};

/// Takes any bytes.
pub type Target = fn(&[u8]);

/// The targets by name, which is that of their directory in `fuzz/seeds/`, too.
pub const TARGETS: [(&str, Target); 13] = [
    ("btf", btf),
    ("cgroup_path", cgroup_path),
    ("config_file", config::fuzz::file),
    ("config_value", config::fuzz::value),
    ("cri", names::cri::fuzz::answers),
    ("docker", names::docker::fuzz::answers),
    ("fdinfo", fdinfo),
    ("filter", filter),
    ("filter_language", filter_language),
    ("hierarchies", fuzz_tree::hierarchies),
    ("kubernetes", names::kubernetes::fuzz::answers),
    ("kubernetes_cluster", names::kubernetes::cluster::fuzz::answers),
    ("record", record),
];

/// Runs a target.
///
/// # Panics
///
/// If the parser does wrong, or there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.into_iter().find(|(known, _)| *known == name);
    target.unwrap_or_else(|| panic!("no target {name}")).1(bytes);
}

/// The kernel's types, and every way to ask for one.
fn btf(bytes: &[u8]) {
    let Ok(btf) = Btf::parse(bytes.to_vec()) else { return };
    for path in ["task_struct.tgid", "task_struct.comm", "task_struct.self.self.tgid", "."] {
        let _ = (btf.field(path), btf.field_of_width(path, 4), btf.element_width(path));
    }
    let _ =
        (btf.constant("ONE"), btf.constants_of("O").count(), btf.function("exit"), btf.tracepoint("exit"));
}

/// The path of a cgroup: labels that a page of metrics can bear.
fn cgroup_path(bytes: &[u8]) {
    let placement = Placement::parse(bytes);
    let labels = placement.labels();
    for value in labels.values() {
        assert!(value.len() <= 128 && !value.chars().any(char::is_control), "{value:?}");
    }
    assert!(!labels.workload_kind.is_empty());
    for depth in 0..4 {
        let _ = placement.scope_at(depth);
    }
}

/// `/proc/self/fdinfo` of a program.
fn fdinfo(bytes: &[u8]) {
    let _ = ProgramStats::parse(&String::from_utf8_lossy(bytes));
}

/// The query of `/v1/events`.
fn filter(bytes: &[u8]) {
    let query = String::from_utf8_lossy(bytes);
    let Ok(uri) = format!("/v1/events?{query}").parse() else { return };
    let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(&uri) else { return };
    if let Err(error) = Wish::parse(pairs, jiff::Timestamp::UNIX_EPOCH) {
        let _ = (error.to_string(), error.key(), error.allowed());
    }
}

/// The filter language: a mistake has its place in the text, and what is printed reads as the same.
fn filter_language(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match Filter::parse(&text) {
        Ok(filter) => {
            let printed = filter.to_string();
            let again = Filter::parse(&printed).unwrap_or_else(|error| panic!("{printed:?}: {error}"));
            assert_eq!(filter, again, "{printed:?}");
        }
        Err(error) => {
            let span = &error.span;
            assert!(span.start <= span.end && span.end <= text.len(), "{text:?}: {span:?}");
            assert!(
                text.is_char_boundary(span.start) && text.is_char_boundary(span.end),
                "{text:?}: {span:?}"
            );
            assert_eq!(error.pointer(&text).lines().count(), 2, "{text:?}");
        }
    }
}

/// A record out of a ring: what is read has the kind it says, and can be shown.
fn record(bytes: &[u8]) {
    let kept = Kept::new(bytes);
    let Ok(record) = kept.record() else { return };
    assert!(EventKind::from_number(record.header().kind) == Some(record.kind()));
    let _ = (record.process(), record.detail("unknown", "error", None), record.sensor());
}
