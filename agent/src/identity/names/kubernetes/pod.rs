//! From the API's objects to what the store keeps.

use super::{
    super::{Container, Pod, Workload},
    object::{Annotations, Labels, PodObject},
};

/// The pod under the name that its workload gives it.
pub(super) fn pod(object: &PodObject, workload: Workload) -> Pod {
    let meta = &object.metadata;
    let hash = meta.annotations.as_ref().and_then(|annotations| annotations.config_hash.clone());
    Pod {
        uid: meta.uid.clone(),
        // The kubelet makes a static pod's cgroup before the API knows the pod, and calls it by this hash
        // (<https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-config-hash>).
        aliases: hash.filter(|hash| *hash != meta.uid).into_iter().collect(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        workload: Some(workload),
        observe: observe(meta.labels.as_ref(), meta.annotations.as_ref()),
    }
}

/// The containers that have been started, with those before their last restart.
pub(super) fn containers(object: &PodObject) -> Vec<Container> {
    let statuses = object.status.containers();
    let found = statuses.flat_map(|status| status.ids().map(|id| (id, &status.name)));
    found
        .map(|(id, name)| Container {
            id: id.to_owned(),
            pod_uid: Some(object.metadata.uid.clone()),
            name: name.clone(),
            ..Container::default()
        })
        .collect()
}

/// The annotation counts more than the label. Anything but the two words says nothing.
pub(super) fn observe(labels: Option<&Labels>, annotations: Option<&Annotations>) -> Option<bool> {
    let annotation = annotations.and_then(|annotations| annotations.observe.as_deref());
    let label = labels.and_then(|labels| labels.observe.as_deref());
    [annotation, label].into_iter().flatten().find_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(json: &str) -> PodObject {
        serde_json::from_str(json).unwrap()
    }

    fn with_meta(more: &str) -> Pod {
        let json = format!(r#"{{"metadata":{{"name":"n","namespace":"ns","uid":"u"{more}}}}}"#);
        pod(&object(&json), Workload { kind: "Pod".into(), name: "n".into() })
    }

    #[test]
    fn observe_is_taken_from_annotation_before_label() {
        let label = |word| format!(r#","labels":{{"podwitness.dev/observe":"{word}"}}"#);
        let annotation = |word| format!(r#","annotations":{{"podwitness.dev/observe":"{word}"}}"#);
        assert_eq!(with_meta("").observe, None);
        assert_eq!(with_meta(&label("false")).observe, Some(false));
        assert_eq!(with_meta(&annotation("true")).observe, Some(true));
        assert_eq!(with_meta(&(label("false") + &annotation("true"))).observe, Some(true));
        assert_eq!(with_meta(&(label("false") + &annotation("perhaps"))).observe, Some(false));
        assert_eq!(with_meta(r#","labels":null,"annotations":null"#).observe, None);
    }

    #[test]
    fn a_static_pod_is_also_known_by_its_hash() {
        let pod =
            with_meta(r#","annotations":{"kubernetes.io/config.hash":"0123456789abcdef0123456789abcdef"}"#);
        assert_eq!(pod.aliases, ["0123456789abcdef0123456789abcdef"]);
    }

    #[test]
    fn all_kinds_of_containers_and_the_one_before_a_restart() {
        let object = object(
            r#"{"metadata":{"name":"n","namespace":"ns","uid":"u"},"status":{
            "initContainerStatuses":[{"name":"i","containerID":"containerd://1"}],
            "containerStatuses":[
                {"name":"c","containerID":"cri-o://2","lastState":{"terminated":{"containerID":"cri-o://3"}}},
                {"name":"waiting"},{"name":"empty","containerID":""},{"name":"null","containerID":null}],
            "ephemeralContainerStatuses":[{"name":"e","containerID":"docker://4","lastState":{}}]}}"#,
        );
        let found = containers(&object);
        let found: Vec<_> = found.iter().map(|c| (c.id.as_str(), c.name.as_str())).collect();
        assert_eq!(found, [("1", "i"), ("2", "c"), ("3", "c"), ("4", "e")]);
    }
}
