//! Folding: cgroups that are no containers get names out of a set that stays bounded while sessions, jobs and
//! transient units come and go.

use super::{Placement, form, to_depth};

/// Longest name, in bytes.
pub(in crate::identity) const NAME_MAX: usize = 128;
/// Longest single component that is kept within a name, in bytes.
const COMPONENT_MAX: usize = 64;
/// How many components of a path are kept.
const COMPONENTS_MAX: usize = 4;
/// How many hex digits in a row are an id rather than a word.
const ID_DIGITS: usize = 16;
/// Length of BuildKit's ids, in base 36.
const BASE36_ID: usize = 25;

/// The systemd unit that a path lies in: the innermost service (socket, mount, swap), else the innermost scope, else the innermost
/// slice.
///
/// Units with generated names (`session-3.scope`, `run-u12.service`, `run-r<hex>.scope`, `app-x-4711.scope`,
/// anything with an id in it) are passed over, so they end up with the unit around them; with no unit around
/// them that is `-.slice`, systemd's root. A generated instance becomes `*`: `sshd@*.service`.
pub(super) fn unit(parts: &[&str]) -> Option<Placement> {
    let mut best: Option<(u8, &str, usize)> = None;
    let mut passed_over = 0;
    for (above, part) in parts.iter().enumerate().rev() {
        let Some(rank) = unit_rank(part) else { continue };
        if is_generated(part) {
            passed_over = passed_over.max(above + 1);
        } else if best.is_none_or(|(other, ..)| rank > other) {
            best = Some((rank, part, above + 1));
        }
    }
    let (name, depth) = match best {
        Some((_, part, depth)) => (fold_instance(part), depth.max(passed_over)),
        None if passed_over > 0 => ("-.slice".to_owned(), passed_over),
        None => return None,
    };
    Some(Placement::Unit { name: text(&name, NAME_MAX), depth: to_depth(depth) })
}

/// A cgroup that nothing is known about: its path, of which at most 4 components and 128 bytes are kept, and
/// where a component with an id in it (16 hex digits or more in a row, a uuid, a BuildKit id) becomes `*`.
pub(super) fn cgroup(parts: &[&str]) -> Placement {
    let kept = parts.iter().take(COMPONENTS_MAX);
    let path: String = kept.flat_map(|part| ["/".to_owned(), component_up_to(part, NAME_MAX)]).collect();
    Placement::Cgroup { name: text(&path, NAME_MAX), depth: to_depth(parts.len()) }
}

/// One component of a path as part of a name.
pub(super) fn component(part: &str) -> String {
    component_up_to(part, COMPONENT_MAX)
}

fn component_up_to(part: &str, max: usize) -> String {
    if has_id(part) { "*".to_owned() } else { text(part, max) }
}

/// `raw` without control characters (U+FFFD stands for each), cut at a character's boundary to `max` bytes.
pub(in crate::identity) fn text(raw: &str, max: usize) -> String {
    let mut out = String::new();
    for c in raw.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }) {
        if out.len() + c.len_utf8() > max {
            break;
        }
        out.push(c);
    }
    out
}

fn unit_rank(part: &str) -> Option<u8> {
    match part.rsplit_once('.')? {
        ("", _) => None,
        (_, "service" | "socket" | "mount" | "swap") => Some(3),
        (_, "scope") => Some(2),
        (_, "slice") => Some(1),
        _ => None,
    }
}

fn is_generated(part: &str) -> bool {
    let (stem, kind) = part.rsplit_once('.').unwrap_or((part, ""));
    // A template's instance is folded by itself: the unit's name stays.
    let stem = stem.split_once('@').map_or(stem, |(template, _)| template);
    let last = stem.rsplit_once('-').map_or("", |(_, last)| last);
    (kind == "scope" && (is_decimal(last) || stem.starts_with("session-")))
        || stem.strip_prefix("run-").is_some_and(is_transient)
        || has_id(stem)
}

/// What systemd-run puts behind `run-`: `u12`, `r<hex>`, `p4711-i4712`, a process id.
fn is_transient(rest: &str) -> bool {
    let first = rest.split('-').next().unwrap_or(rest);
    is_decimal(first)
        || first.strip_prefix(['u', 'p']).is_some_and(is_decimal)
        || first.strip_prefix('r').is_some_and(|hex| hex.len() >= ID_DIGITS && is_hex(hex))
}

/// `sshd@7-192.0.2.1:22-192.0.2.2:5000.service` (one unit per connection, with its addresses) and
/// `systemd-coredump@3-4711-0.service` begin with a count; `postgresql@17-main.service` has a name.
fn fold_instance(part: &str) -> String {
    let Some(((template, instance), kind)) =
        part.rsplit_once('.').and_then(|(stem, kind)| Some((stem.split_once('@')?, kind)))
    else {
        return part.to_owned();
    };
    let counted = instance.split_once('-').is_some_and(|(count, rest)| {
        is_decimal(count) && (rest.starts_with(|c: char| c.is_ascii_digit()) || rest.contains(':'))
    });
    if counted || has_id(instance) { format!("{template}@*.{kind}") } else { part.to_owned() }
}

/// Whether an id stands in `part`, by itself or between other things.
fn has_id(part: &str) -> bool {
    let unescaped = part.replace("\\x2d", "-");
    unescaped.split(|c: char| !c.is_ascii_alphanumeric()).any(is_id)
        || unescaped.as_bytes().windows(36).any(form::is_uuid)
}

fn is_id(word: &str) -> bool {
    let base36 = || {
        word.len() == BASE36_ID
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && word.bytes().filter(u8::is_ascii_digit).count() >= 2
    };
    (word.len() >= ID_DIGITS && is_hex(word)) || base36()
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_decimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}
