//! Who it was: one OTLP resource for each container, by OpenTelemetry's semantic conventions.

use bytes::Bytes;

use super::{attributes::Attributes, wire::Message};
use crate::identity::{
    Engine, Labels, Placement,
    names::{
        Details, PodMetadata, Workload,
        kubernetes::service::{Described, WellKnownLabels},
    },
};

/// What all resources of this machine share.
#[derive(Clone, Debug, Default)]
pub struct Host {
    pub name: String,
    /// `/etc/machine-id`.
    pub id: String,
    /// What the cluster calls the machine, if it is in one.
    pub node: Option<String>,
    /// Whether the well-known labels of pods name services (`otlp.well_known_labels`).
    pub labels: WellKnownLabels,
    /// Of the user's choice (`OTEL_RESOURCE_ATTRIBUTES`).
    pub more: Vec<(String, String)>,
}

/// What a service is called whose name isn't known, as the specification has it.
const UNKNOWN_SERVICE: &str = "unknown_service";

/// Kinds of workloads that have an attribute for their name.
const KINDS: [(&str, &str); 6] = [
    ("Deployment", "k8s.deployment.name"),
    ("ReplicaSet", "k8s.replicaset.name"),
    ("StatefulSet", "k8s.statefulset.name"),
    ("DaemonSet", "k8s.daemonset.name"),
    ("Job", "k8s.job.name"),
    ("CronJob", "k8s.cronjob.name"),
];

impl Host {
    /// The resource of whoever has these labels; `placement` where it is one single container, or pod. Of an attribute that
    /// several tell, what is observed counts more than what the user has configured, and that more than what a pod says;
    /// but a pod knows best what service it is.
    pub fn resource(&self, placement: Option<&Placement>, labels: &Labels, details: &Details) -> Bytes {
        let id = placement.and_then(Placement::container_id);
        let uid = placement.and_then(Placement::pod_uid);
        // Where nobody knows a name, the labels have a part of the id, or the uid.
        let short = placement.and_then(Placement::short_id);
        let container = unless(&labels.container, short);
        let pod = unless(&labels.pod, uid);
        let is_pod = uid.is_some() || !labels.namespace.is_empty();
        let owners = [Workload { kind: labels.workload_kind.clone(), name: labels.workload.clone() }];
        let described = Described {
            metadata: details.pod.as_deref(),
            labels: self.labels,
            owners: &owners,
            namespace: &labels.namespace,
            pod,
            container,
            version: details.version.as_deref(),
        };
        let mut attributes =
            Attributes::default().text("service.name", service(labels, [short, uid], &described));
        if is_pod {
            let instance = described.service_instance_id();
            attributes = attributes
                .text("service.namespace", described.service_namespace().unwrap_or_default())
                .text("service.version", described.service_version().unwrap_or_default())
                .text("service.instance.id", instance.as_deref().or(id).unwrap_or_default())
                .text("k8s.namespace.name", labels.namespace.as_str())
                .text("k8s.pod.name", pod)
                .text("k8s.pod.uid", uid.unwrap_or_default())
                .text("k8s.container.name", container)
                .some(details.restart_count, |all, count| all.number("k8s.container.restart_count", count))
                .text("k8s.node.name", self.node.as_deref().unwrap_or_default());
            if let Some((_, key)) = KINDS.iter().find(|(kind, _)| *kind == labels.workload_kind) {
                attributes = attributes.text(key, labels.workload.as_str());
            }
        } else {
            attributes = attributes
                .text("service.instance.id", id.unwrap_or_default())
                .text("container.name", container);
        }
        let attributes = attributes
            .text("container.id", id.unwrap_or_default())
            .text("container.runtime.name", placement.map_or("", engine))
            .text("host.name", self.name.as_str())
            .text("host.id", self.id.as_str())
            .text("os.type", "linux")
            .text("podwitness.workload.kind", labels.workload_kind.as_str())
            .text("podwitness.workload.name", labels.workload.as_str())
            .and(&self.more)
            .and(details.pod.as_deref().map(PodMetadata::attributes).unwrap_or_default());
        encoded(&attributes)
    }

    /// The resource of the agent itself.
    pub fn own(&self, service: &str) -> Bytes {
        let attributes = Attributes::default()
            .text("service.name", service)
            .text("service.version", env!("CARGO_PKG_VERSION"))
            .text("host.name", self.name.as_str())
            .text("host.id", self.id.as_str())
            .text("os.type", "linux")
            .text("k8s.node.name", self.node.as_deref().unwrap_or_default())
            .and(&self.more);
        encoded(&attributes)
    }
}

/// `Resource`
fn encoded(attributes: &Attributes) -> Bytes {
    const ATTRIBUTES: u8 = 1;
    Message::default().attributes(ATTRIBUTES, attributes).finish()
}

fn unless<'l>(label: &'l str, id: Option<&str>) -> &'l str {
    if id == Some(label) { "" } else { label }
}

fn service(labels: &Labels, ids: [Option<&str>; 2], described: &Described<'_>) -> String {
    if labels.namespace.is_empty() {
        let name = if labels.workload.is_empty() { &labels.workload_kind } else { &labels.workload };
        let is_known = !ids.contains(&Some(name)) && name != "unknown" && name != "other";
        return if is_known { name.clone() } else { UNKNOWN_SERVICE.to_owned() };
    }
    described.service_name().unwrap_or(UNKNOWN_SERVICE).to_owned()
}

fn engine(placement: &Placement) -> &'static str {
    match placement {
        Placement::Container { engine: Engine::Docker, .. } => "docker",
        Placement::Container { engine: Engine::Podman, .. } => "podman",
        Placement::Container { engine: Engine::Lxc, .. } => "lxc",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{common::v1::any_value::Value, resource::v1::Resource};
    use prost::Message as _;

    use super::*;

    const UID: &str = "6d5f1c1e-8c0b-4f0e-9a7e-3f2b1c0d9e8f";
    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn attributes(path: &str, labels: Option<Labels>) -> Vec<(String, String)> {
        let host = Host { name: "node1".into(), node: Some("node-1".into()), ..Host::default() };
        attributes_of(&host, path, labels, &Details::default())
    }

    fn attributes_of(
        host: &Host,
        path: &str,
        labels: Option<Labels>,
        details: &Details,
    ) -> Vec<(String, String)> {
        let placement = Placement::parse(path);
        let labels = labels.unwrap_or_else(|| placement.labels());
        let resource = Resource::decode(host.resource(Some(&placement), &labels, details)).unwrap();
        let text = |value: Option<Value>| match value {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            other => panic!("{other:?}"),
        };
        resource
            .attributes
            .into_iter()
            .map(|pair| (pair.key, text(pair.value.and_then(|value| value.value))))
            .collect()
    }

    fn of<'a>(attributes: &'a [(String, String)], key: &str) -> &'a str {
        attributes.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }

    fn cart() -> Labels {
        Labels {
            namespace: "shop".into(),
            workload_kind: "Deployment".into(),
            workload: "cart".into(),
            pod: "cart-5d9-x".into(),
            container: "app".into(),
        }
    }

    #[test]
    fn a_pod_says_what_service_it_is_but_not_whose_else() {
        let mut pod = PodMetadata::default();
        for (name, value) in [
            ("service.name", "cart-api"),
            ("service.namespace", "web-shop"),
            ("deployment.environment.name", "staging"),
            ("k8s.pod.name", "forged"),
            ("k8s.cluster.name", "forged"),
        ] {
            pod.annotate(&format!("resource.opentelemetry.io/{name}"), value);
        }
        pod.label("app.kubernetes.io/version", "label");
        let version = Some("2.4".to_owned());
        let details = Details { pod: pod.shared(), version, restart_count: Some(2) };
        let mut host = Host { more: vec![("k8s.cluster.name".into(), "prod".into())], ..Host::default() };
        let path = format!("/kubepods/burstable/pod{UID}/{ID}");
        let found = attributes_of(&host, &path, Some(cart()), &details);
        for (key, value) in [
            ("service.name", "cart-api"),
            ("service.namespace", "web-shop"),
            ("service.version", "2.4"),
            ("service.instance.id", "shop.cart-5d9-x.app"),
            ("deployment.environment.name", "staging"),
            ("k8s.namespace.name", "shop"),
            ("k8s.pod.name", "cart-5d9-x"),
            ("k8s.cluster.name", "prod"),
            ("k8s.container.restart_count", "2"),
        ] {
            assert_eq!(of(&found, key), value, "{key} in {found:?}");
        }
        let keys: std::collections::BTreeSet<_> = found.iter().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), found.len(), "an attribute twice: {found:?}");
        host.labels = WellKnownLabels::Use;
        let found = attributes_of(&host, &path, Some(cart()), &details);
        assert_eq!((of(&found, "service.name"), of(&found, "service.version")), ("cart-api", "label"));
    }

    #[test]
    fn a_pods_container_is_described_in_full() {
        let labels = cart();
        let found = attributes(&format!("/kubepods/burstable/pod{UID}/{ID}"), Some(labels));
        for (key, value) in [
            ("service.name", "cart"),
            ("service.namespace", "shop"),
            ("service.instance.id", "shop.cart-5d9-x.app"),
            ("k8s.namespace.name", "shop"),
            ("k8s.pod.name", "cart-5d9-x"),
            ("k8s.pod.uid", UID),
            ("k8s.container.name", "app"),
            ("k8s.deployment.name", "cart"),
            ("k8s.node.name", "node-1"),
            ("container.id", ID),
            ("host.name", "node1"),
        ] {
            assert_eq!(of(&found, key), value, "{key} in {found:?}");
        }
    }

    #[test]
    fn ids_are_not_passed_off_as_names() {
        let path = format!("/kubepods/burstable/pod{UID}/{ID}");
        let found = attributes(&path, None);
        assert_eq!(of(&found, "service.name"), UNKNOWN_SERVICE);
        assert_eq!((of(&found, "k8s.pod.name"), of(&found, "k8s.container.name")), ("", ""));
        assert_eq!((of(&found, "k8s.pod.uid"), of(&found, "container.id")), (UID, ID));
        assert_eq!(of(&found, "service.instance.id"), ID);
        let docker = attributes(&format!("/docker/{ID}"), None);
        assert_eq!((of(&docker, "service.name"), of(&docker, "container.name")), (UNKNOWN_SERVICE, ""));
        assert_eq!((of(&docker, "service.instance.id"), of(&docker, "container.id")), (ID, ID));
    }

    #[test]
    fn names_are_not_taken_for_ids() {
        let named = |container: &str| Labels { container: container.into(), ..cart() };
        let path = format!("/kubepods/burstable/pod{UID}/{ID}");
        for name in ["0", "0123", "0123456789ab-x"] {
            assert_eq!(of(&attributes(&path, Some(named(name))), "k8s.container.name"), name);
        }
        assert_eq!(of(&attributes("/lxc/web", None), "container.name"), "web");
    }

    #[test]
    fn what_is_no_pod_has_no_kubernetes() {
        for (path, service) in
            [("/system.slice/nginx.service", "nginx.service"), ("/some/group", "/some/group"), ("/", "host")]
        {
            let found = attributes(path, None);
            assert_eq!(of(&found, "service.name"), service);
            assert!(!found.iter().any(|(key, _)| key.starts_with("k8s.")), "{found:?}");
        }
        let docker = attributes(&format!("/docker/{ID}"), None);
        assert_eq!((of(&docker, "container.id"), of(&docker, "container.runtime.name")), (ID, "docker"));
    }

    #[test]
    fn what_is_unknown_says_so_and_the_users_attributes_come_along() {
        let host = Host {
            more: vec![("k8s.cluster.name".into(), "prod".into()), ("os.type".into(), "x".into())],
            ..Host::default()
        };
        let resource = host.resource(None, &Labels::unknown(), &Details::default());
        let resource = Resource::decode(resource).unwrap();
        let keys: Vec<_> = resource.attributes.iter().map(|pair| pair.key.as_str()).collect();
        assert_eq!(keys.iter().filter(|key| **key == "os.type").count(), 1);
        assert!(keys.contains(&"k8s.cluster.name"));
        let service = &resource.attributes[0];
        let value = service.value.as_ref().and_then(|value| value.value.clone());
        assert_eq!(
            (service.key.as_str(), value),
            ("service.name", Some(Value::StringValue(UNKNOWN_SERVICE.into())))
        );
    }
}
