//! `service.name` by OpenTelemetry's rule for Kubernetes:
//! <https://opentelemetry.io/docs/specs/semconv/non-normative/k8s-attributes/#how-servicename-should-be-calculated>
//! (read in November 2026). The first that is there, from the ancestor to the descendant:
//!
//! 1. the pod's annotation `resource.opentelemetry.io/service.name`
//! 2. the pod's label `app.kubernetes.io/instance`
//! 3. the pod's label `app.kubernetes.io/name`
//! 4. the name of its Deployment, ReplicaSet, StatefulSet, DaemonSet, CronJob or Job, in this order
//! 5. the name of the pod, then of the container
//!
//! The page demands that the use of the two labels is opt-in, because people may not know that their labels are used.

use super::super::Workload;

pub const ANNOTATION: &str = "resource.opentelemetry.io/service.name";
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";
pub const NAME_LABEL: &str = "app.kubernetes.io/name";

/// What is known about a container. What isn't known is absent, and so is what is empty.
#[derive(Clone, Debug, Default)]
pub struct Described<'a> {
    /// The pod's [`ANNOTATION`].
    pub annotation: Option<&'a str>,
    /// The pod's [`INSTANCE_LABEL`].
    pub instance: Option<&'a str>,
    /// The pod's [`NAME_LABEL`].
    pub name: Option<&'a str>,
    /// All owners that are known, in any order. Kinds that the rule doesn't name don't count.
    pub owners: &'a [Workload],
    pub pod: Option<&'a str>,
    pub container: Option<&'a str>,
}

/// Whether the `app.kubernetes.io` labels count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WellKnownLabels {
    Use,
    Ignore,
}

const KINDS: [&str; 6] = ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "CronJob", "Job"];

/// None if nothing at all is known.
pub fn service_name<'a>(of: &Described<'a>, labels: WellKnownLabels) -> Option<&'a str> {
    let use_labels = labels == WellKnownLabels::Use;
    let owner = |kind| of.owners.iter().find(|owner| owner.kind == kind).map(|owner| owner.name.as_str());
    let told = [of.annotation, of.instance.filter(|_| use_labels), of.name.filter(|_| use_labels)];
    let own = [of.pod, of.container];
    told.into_iter().chain(KINDS.map(owner)).chain(own).flatten().find(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(kinds: &[&str]) -> Vec<Workload> {
        kinds.iter().map(|kind| Workload { kind: (*kind).into(), name: format!("the-{kind}") }).collect()
    }

    #[test]
    fn the_first_that_is_there_counts() {
        let all =
            owners(&["Job", "CronJob", "DaemonSet", "StatefulSet", "ReplicaSet", "Deployment", "Rollout"]);
        let mut of = Described {
            annotation: Some("annotation"),
            instance: Some("instance"),
            name: Some("name"),
            owners: &all,
            pod: Some("pod"),
            container: Some("container"),
        };
        let mut found = Vec::new();
        found.extend(service_name(&of, WellKnownLabels::Use));
        of.annotation = Some("");
        found.extend(service_name(&of, WellKnownLabels::Use));
        of.instance = None;
        found.extend(service_name(&of, WellKnownLabels::Use));
        for kinds in (0..all.len()).rev() {
            found.extend(service_name(
                &Described { owners: &all[..=kinds], ..of.clone() },
                WellKnownLabels::Ignore,
            ));
        }
        of.owners = &all[6..];
        found.extend(service_name(&of, WellKnownLabels::Ignore));
        of.pod = None;
        found.extend(service_name(&of, WellKnownLabels::Ignore));
        assert_eq!(
            found,
            [
                "annotation",
                "instance",
                "name",
                "the-Deployment",
                "the-Deployment",
                "the-ReplicaSet",
                "the-StatefulSet",
                "the-DaemonSet",
                "the-CronJob",
                "the-Job",
                "pod",
                "container",
            ]
        );
        assert_eq!(service_name(&Described::default(), WellKnownLabels::Use), None);
    }

    #[test]
    fn labels_count_only_if_asked_for() {
        let of = Described { instance: Some("instance"), pod: Some("pod"), ..Described::default() };
        assert_eq!(service_name(&of, WellKnownLabels::Use), Some("instance"));
        assert_eq!(service_name(&of, WellKnownLabels::Ignore), Some("pod"));
    }
}
