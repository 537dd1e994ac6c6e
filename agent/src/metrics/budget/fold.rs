//! What labels become when they are folded.

/// What is folded, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::metrics) enum Fold {
    Errno,
    Peer,
    Syscall,
    Container,
    Workload,
}

impl Fold {
    pub(in crate::metrics) const ALL: [Self; 5] =
        [Self::Errno, Self::Peer, Self::Syscall, Self::Container, Self::Workload];

    pub(in crate::metrics) fn name(self) -> &'static str {
        match self {
            Self::Errno => "errno",
            Self::Peer => "peer",
            Self::Syscall => "syscall",
            Self::Container => "container",
            Self::Workload => "workload",
        }
    }

    /// What folds a label that no container's series has to have.
    fn of(label: &str) -> Option<Self> {
        match label {
            "errno" => Some(Self::Errno),
            "peer_namespace" | "peer_workload" => Some(Self::Peer),
            "syscall" | "opcode" | "class" => Some(Self::Syscall),
            _ => None,
        }
    }
}

/// Labels that nothing folds, and how many values each has at most.
const UNFOLDED: [(&str, usize); 2] = [("reason", 7), ("scope", 5)];

/// How many texts of own labels are left at most when every detail is folded.
pub(super) fn folded_at_most(names: &[&str]) -> usize {
    let values =
        |name: &&str| UNFOLDED.iter().find(|(label, _)| label == name).map_or(1, |(_, values)| *values);
    names.iter().map(values).product()
}

/// The text of own labels with the next detail folded, and what that was; none where there is no detail left.
pub(super) fn folded(text: &str, names: &[&str]) -> Option<(Fold, String)> {
    let values = values(text, names)?;
    let standing = |name: &str| if name == "peer_namespace" { "" } else { "other" };
    let labels = || names.iter().copied().zip(values.iter().copied());
    let next = labels().filter(|(name, value)| *value != standing(name));
    let fold = next.filter_map(|(name, _)| Fold::of(name)).min()?;
    let mut folded = String::with_capacity(text.len());
    for (name, value) in labels() {
        let value = if Fold::of(name).is_some_and(|of| of <= fold) { standing(name) } else { value };
        // They are escaped already.
        folded.extend([",", name, "=\"", value, "\""]);
    }
    folded.push_str("} ");
    Some((fold, folded))
}

/// The text without some of the labels.
pub(in crate::metrics) fn without(text: &str, names: &[&str], is_left_out: impl Fn(&str) -> bool) -> String {
    let values = values(text, names).unwrap_or_default();
    let mut left = String::with_capacity(text.len());
    for (name, value) in names.iter().zip(values).filter(|(name, _)| !is_left_out(name)) {
        left.extend([",", name, "=\"", value, "\""]);
    }
    left.push_str("} ");
    left
}

/// Values as they stand in `,a="x",b="y"} `.
fn values<'t>(text: &'t str, names: &[&str]) -> Option<Vec<&'t str>> {
    let mut rest = text;
    let mut values = Vec::with_capacity(names.len());
    for name in names {
        rest = rest.strip_prefix(',')?.strip_prefix(name)?.strip_prefix("=\"")?;
        let mut is_escaped = false;
        let end = rest.bytes().position(|byte| {
            let was_escaped = is_escaped;
            is_escaped = byte == b'\\' && !was_escaped;
            byte == b'"' && !was_escaped
        })?;
        values.push(&rest[..end]);
        rest = &rest[end + 1..];
    }
    Some(values)
}

/// What the base labels of a workload as a whole end with.
const WHOLE: &str = ",pod=\"other\",container=\"other\"";

/// Whether these are the base labels of a workload as a whole.
pub(super) fn is_whole(base: &str) -> bool {
    base.ends_with(WHOLE)
}

/// The base labels of a container's workload as a whole; none where the container is all that there is of it.
pub(super) fn workload_of(base: &str) -> Option<String> {
    let workload = workload(base);
    (!base.ends_with(",pod=\"\",container=\"\"") && !is_whole(base)).then(|| format!("{workload}{WHOLE}"))
}

/// That part of the base labels that names the workload. No value can end it early: its quotes are escaped.
pub(super) fn workload(base: &str) -> &str {
    base.find(",pod=\"").map_or(base, |end| &base[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::reference;

    fn chain(text: &str, names: &[&str]) -> Vec<(Fold, String)> {
        std::iter::successors(folded(text, names), |(_, text)| folded(text, names)).collect()
    }

    #[test]
    fn details_go_one_after_the_other() {
        let errors = [r#",syscall="openat",errno="ENOENT"} "#, r#",syscall="openat",errno="other"} "#];
        let names = ["syscall", "errno"];
        let steps = chain(errors[0], &names);
        assert_eq!(steps[0], (Fold::Errno, errors[1].into()));
        assert_eq!(steps[1], (Fold::Syscall, r#",syscall="other",errno="other"} "#.into()));
        assert_eq!(steps.len(), 2);
        assert_eq!(chain(errors[1], &names), steps[1..]);
        // An error of a call that has no name of its own.
        let odd = chain(r#",syscall="other",errno="ENOENT"} "#, &names);
        assert_eq!(odd, [(Fold::Errno, steps[1].1.clone())]);

        let names = ["peer_namespace", "peer_workload", "reason"];
        let failure = r#",peer_namespace="sh\"op",peer_workload="d\\b",reason="refused"} "#;
        let other = r#",peer_namespace="",peer_workload="other",reason="refused"} "#;
        assert_eq!(chain(failure, &names), [(Fold::Peer, other.into())]);
        assert_eq!(chain(",reason=\"error\"} ", &["reason"]), []);
        assert_eq!(chain("} ", &[]), []);
    }

    /// So that there is always room for what stands for all others.
    #[test]
    fn labels_that_nothing_folds_have_the_values_that_the_reference_says() {
        let sections = reference::sections().filter(|section| section.of_containers);
        for metric in sections.flat_map(|section| section.metrics) {
            for label in metric.labels.iter().filter(|label| Fold::of(label).is_none()) {
                let (_, most) = UNFOLDED.iter().find(|(unfolded, _)| unfolded == label).expect(label);
                let said = metric.bound.split_once(&format!(" values of `{label}`")).expect(metric.name).0;
                let values: usize =
                    said.rsplit(' ').next().and_then(|number| number.parse().ok()).expect(said);
                assert!(values <= *most, "{}: {values} values of {label}", metric.name);
            }
        }
        assert_eq!(folded_at_most(&["peer_namespace", "peer_workload", "reason"]), 7);
        assert_eq!(folded_at_most(&["syscall", "errno"]), 1);
        assert_eq!(folded_at_most(&[]), 1);
    }

    #[test]
    fn labels_are_left_out() {
        let names = ["syscall", "errno"];
        let text = r#",syscall="openat",errno="EN\"OENT"} "#;
        assert_eq!(without(text, &names, |name| name == "errno"), ",syscall=\"openat\"} ");
        assert_eq!(without(text, &names, |name| name == "syscall"), ",errno=\"EN\\\"OENT\"} ");
        assert_eq!(without(text, &names, |_| true), "} ");
    }

    #[test]
    fn a_container_is_folded_into_its_workload() {
        let base = r#"namespace="a",workload_kind="Pod",workload="x,pod=\"",pod="x-1",container="app""#;
        let whole = r#"namespace="a",workload_kind="Pod",workload="x,pod=\"",pod="other",container="other""#;
        assert_eq!(workload_of(base).as_deref(), Some(whole));
        assert_eq!(workload_of(whole), None);
        assert_eq!(workload(base), r#"namespace="a",workload_kind="Pod",workload="x,pod=\"""#);
        let unit = r#"namespace="",workload_kind="systemd",workload="cron.service",pod="",container="""#;
        assert_eq!(workload_of(unit), None);
    }
}
