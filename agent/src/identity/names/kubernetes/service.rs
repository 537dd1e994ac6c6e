//! What a container of a pod is called as a service, by OpenTelemetry's rule for Kubernetes:
//! <https://opentelemetry.io/docs/specs/semconv/non-normative/k8s-attributes/> (read in November 2026, semantic
//! conventions 1.44). The first that is there counts:
//!
//! | `service.namespace` | `service.name` | `service.version` | `service.instance.id` |
//! |---|---|---|---|
//! | annotation | annotation | annotation | annotation |
//! | | label `app.kubernetes.io/instance` | label `app.kubernetes.io/version` | |
//! | | label `app.kubernetes.io/name` | | |
//! | namespace | Deployment, ReplicaSet, StatefulSet, DaemonSet, CronJob, Job, pod, container: from the ancestor to the descendant | tag and digest of the image | namespace, pod and container |
//!
//! Annotations are the pod's, `resource.opentelemetry.io/` before the attribute's name. The page demands that the use of
//! the labels is opt-in, because people may not know that their labels are used.

use super::super::{PodMetadata, WellKnown, Workload};

/// What is known about a container. What isn't known is absent, and so is what is empty.
#[derive(Clone, Debug, Default)]
pub struct Described<'a> {
    pub metadata: Option<&'a PodMetadata>,
    pub labels: WellKnownLabels,
    /// All owners that are known, in any order. Kinds that the rule doesn't name don't count.
    pub owners: &'a [Workload],
    pub namespace: &'a str,
    pub pod: &'a str,
    pub container: &'a str,
    /// Of the image.
    pub version: Option<&'a str>,
}

/// Whether the `app.kubernetes.io` labels count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WellKnownLabels {
    Use,
    #[default]
    Ignore,
}

const KINDS: [&str; 6] = ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "CronJob", "Job"];

impl<'a> Described<'a> {
    pub fn service_namespace(&self) -> Option<&'a str> {
        first([self.annotation("service.namespace"), Some(self.namespace)])
    }

    /// None if nothing at all is known.
    pub fn service_name(&self) -> Option<&'a str> {
        let owner =
            |kind| self.owners.iter().find(|owner| owner.kind == kind).map(|owner| owner.name.as_str());
        let told =
            [self.annotation("service.name"), self.label(WellKnown::Instance), self.label(WellKnown::Name)];
        let own = [Some(self.pod), Some(self.container)];
        first(told.into_iter().chain(KINDS.map(owner)).chain(own))
    }

    pub fn service_version(&self) -> Option<&'a str> {
        first([self.annotation("service.version"), self.label(WellKnown::Version), self.version])
    }

    /// None where a part of it isn't known: what would be the same for several containers is no id.
    pub fn service_instance_id(&self) -> Option<String> {
        let Self { namespace, pod, container, .. } = self;
        let is_known = ![namespace, pod, container].iter().any(|part| part.is_empty());
        let annotation = self.annotation("service.instance.id").map(str::to_owned);
        annotation.or_else(|| is_known.then(|| format!("{namespace}.{pod}.{container}")))
    }

    fn annotation(&self, name: &str) -> Option<&'a str> {
        self.metadata?.attribute(name)
    }

    fn label(&self, label: WellKnown) -> Option<&'a str> {
        let is_used = self.labels == WellKnownLabels::Use;
        self.metadata.filter(|_| is_used)?.well_known(label)
    }
}

fn first<'a>(of: impl IntoIterator<Item = Option<&'a str>>) -> Option<&'a str> {
    of.into_iter().flatten().find(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(kinds: &[&str]) -> Vec<Workload> {
        kinds.iter().map(|kind| Workload { kind: (*kind).into(), name: format!("the-{kind}") }).collect()
    }

    fn labelled() -> PodMetadata {
        let mut metadata = PodMetadata::default();
        metadata.label("app.kubernetes.io/instance", "instance");
        metadata.label("app.kubernetes.io/name", "name");
        metadata.label("app.kubernetes.io/version", "label");
        metadata
    }

    #[test]
    fn the_first_name_that_is_there_counts() {
        let all =
            owners(&["Job", "CronJob", "DaemonSet", "StatefulSet", "ReplicaSet", "Deployment", "Rollout"]);
        let labels = labelled();
        let mut annotation = labels.clone();
        annotation.annotate("resource.opentelemetry.io/service.name", "annotation");
        let mut name = PodMetadata::default();
        name.label("app.kubernetes.io/name", "name");
        let mut of = Described {
            labels: WellKnownLabels::Use,
            owners: &all,
            pod: "pod",
            container: "container",
            ..Described::default()
        };
        let mut found = Vec::new();
        for metadata in [Some(&annotation), Some(&labels), Some(&name)] {
            found.extend(Described { metadata, ..of.clone() }.service_name());
        }
        for kinds in (0..all.len()).rev() {
            found.extend(Described { owners: &all[..=kinds], ..of.clone() }.service_name());
        }
        of.owners = &all[6..];
        found.extend(of.service_name());
        of.pod = "";
        found.extend(of.service_name());
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
        assert_eq!(Described::default().service_name(), None);
    }

    #[test]
    fn labels_count_only_if_asked_for() {
        let metadata = labelled();
        let of = |labels| Described { labels, metadata: Some(&metadata), pod: "pod", ..Described::default() };
        assert_eq!(of(WellKnownLabels::Use).service_name(), Some("instance"));
        assert_eq!(of(WellKnownLabels::Ignore).service_name(), Some("pod"));
    }

    #[test]
    fn namespace_version_and_instance_have_rules_of_their_own() {
        let labels = labelled();
        let of = Described {
            namespace: "shop",
            pod: "cart-1",
            container: "app",
            version: Some("2.4"),
            metadata: Some(&labels),
            ..Described::default()
        };
        assert_eq!(of.service_namespace(), Some("shop"));
        assert_eq!(of.service_version(), Some("2.4"));
        assert_eq!(of.service_instance_id().as_deref(), Some("shop.cart-1.app"));
        assert_eq!(Described { container: "", ..of.clone() }.service_instance_id(), None);
        let by_label = Described { labels: WellKnownLabels::Use, ..of.clone() };
        assert_eq!(by_label.service_version(), Some("label"));

        let mut annotated = labels.clone();
        for name in ["service.namespace", "service.version", "service.instance.id"] {
            annotated.annotate(&format!("resource.opentelemetry.io/{name}"), name);
        }
        let of = Described { metadata: Some(&annotated), ..by_label };
        assert_eq!(of.service_namespace(), Some("service.namespace"));
        assert_eq!(of.service_version(), Some("service.version"));
        assert_eq!(of.service_instance_id().as_deref(), Some("service.instance.id"));
    }
}
