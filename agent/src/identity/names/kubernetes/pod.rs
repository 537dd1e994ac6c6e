//! From the API's objects to what the store keeps.

use super::{
    super::{Container, Guess, Pod, PodMetadata, Workload, image},
    object::{Annotations, Labels, PodObject},
};

/// The pod under the name that its workload gives it.
pub(super) fn pod(object: &PodObject, workload: Workload, guess: Option<Guess>) -> Pod {
    let meta = &object.metadata;
    let mut says = PodMetadata::default();
    let annotations = meta.annotations.iter().flat_map(|annotations| &annotations.resource);
    annotations.for_each(|(key, value)| says.annotate(key, value));
    let labels = meta.labels.iter().flat_map(|labels| &labels.well_known);
    labels.for_each(|(key, value)| says.label(key, value));
    let hash = meta.annotations.as_ref().and_then(|annotations| annotations.config_hash.clone());
    Pod {
        uid: meta.uid.clone(),
        // The kubelet makes a static pod's cgroup before the API knows the pod, and calls it by this hash
        // (<https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-config-hash>).
        aliases: hash.filter(|hash| *hash != meta.uid).into_iter().collect(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        workload: Some(workload),
        guess,
        observe: observe(meta.labels.as_ref(), meta.annotations.as_ref()),
        metadata: says.shared(),
    }
}

/// The containers that have been started, with those before their last restart.
pub(super) fn containers(object: &PodObject) -> Vec<Container> {
    let statuses = object.status.containers();
    let found = statuses.flat_map(|status| status.ids().map(|id| (id, &status.name)));
    found
        .map(|((id, restart_count), name)| Container {
            id: id.to_owned(),
            pod_uid: Some(object.metadata.uid.clone()),
            name: name.clone(),
            version: object.spec.image(name).and_then(image::version),
            restart_count,
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
    use super::{super::super::WellKnown, *};

    fn object(json: &str) -> PodObject {
        serde_json::from_str(json).unwrap()
    }

    fn with_meta(more: &str) -> Pod {
        let json = format!(r#"{{"metadata":{{"name":"n","namespace":"ns","uid":"u"{more}}}}}"#);
        pod(&object(&json), Workload { kind: "Pod".into(), name: "n".into() }, None)
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
    fn what_a_pod_says_of_itself_is_kept_and_nothing_else_of_its_annotations() {
        let pod = with_meta(
            r#","labels":{"app.kubernetes.io/version":"2.4","app":"x","app.kubernetes.io/name":null},
            "annotations":{"a":{"strange":[1]},"resource.opentelemetry.io/service.name":"cart","b":"x"}"#,
        );
        let metadata = pod.metadata.unwrap();
        assert_eq!(metadata.attributes(), [("service.name".to_owned(), "cart".to_owned())]);
        assert_eq!(metadata.well_known(WellKnown::Version), Some("2.4"));
        assert_eq!(with_meta(r#","labels":{"app":"x"}"#).metadata, None);
    }

    #[test]
    fn containers_have_the_version_of_their_image_and_the_count_of_those_before() {
        let object = object(
            r#"{"metadata":{"name":"n","namespace":"ns","uid":"u"},"spec":{
            "containers":[{"name":"c","image":"shop/cart:2.4"}],"initContainers":[{"name":"i"}]},"status":{
            "initContainerStatuses":[{"name":"i","containerID":"containerd://1"}],
            "containerStatuses":[{"name":"c","containerID":"containerd://2","restartCount":2,
                "image":"sha256:0","lastState":{"terminated":{"containerID":"containerd://3"}}}]}}"#,
        );
        let found = containers(&object);
        let found: Vec<_> = found.iter().map(|c| (c.version.as_deref(), c.restart_count)).collect();
        assert_eq!(found, [(None, None), (Some("2.4"), Some(2)), (Some("2.4"), Some(1))]);
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
