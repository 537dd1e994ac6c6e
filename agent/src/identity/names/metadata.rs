//! What pods say of themselves for OpenTelemetry: annotations `resource.opentelemetry.io/NAME`, which are attributes of
//! their resources, and the labels that everybody uses to name a service.

use std::sync::Arc;

/// Before the name of an attribute.
const PREFIX: &str = "resource.opentelemetry.io/";

/// Most attributes that are kept of one pod, and most bytes of one value; a cluster has no bound but that of all
/// annotations together, 256 KiB.
const ATTRIBUTES: usize = 32;
const VALUE_BYTES: usize = 1024;

/// The labels that are read: <https://kubernetes.io/docs/reference/labels-annotations-taints/>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WellKnown {
    Instance,
    Name,
    Version,
}

impl WellKnown {
    const ALL: [(&'static str, Self); 3] = [
        ("app.kubernetes.io/instance", Self::Instance),
        ("app.kubernetes.io/name", Self::Name),
        ("app.kubernetes.io/version", Self::Version),
    ];

    fn of(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(key, _)| *key == label).map(|(_, known)| known)
    }
}

/// What is empty was not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodMetadata {
    /// In the order of their names.
    attributes: Vec<(String, String)>,
    labels: [String; WellKnown::ALL.len()],
    /// Annotations that there was no room for.
    left_out: u64,
}

impl PodMetadata {
    /// Whether an annotation, or a label, says anything here.
    pub(super) fn is_annotation(key: &str) -> bool {
        key.starts_with(PREFIX)
    }

    pub(super) fn is_label(key: &str) -> bool {
        WellKnown::of(key).is_some()
    }

    /// Takes in one of the pod's annotations. Of too many, those whose names come first in the alphabet stay: a pod that
    /// is told of twice is the same pod.
    pub(crate) fn annotate(&mut self, key: &str, value: &str) {
        let Some(name) = key.strip_prefix(PREFIX).filter(|name| !name.is_empty()) else { return };
        if value.is_empty() {
            return;
        }
        if value.len() > VALUE_BYTES {
            self.left_out += 1;
            return;
        }
        let place = self.attributes.partition_point(|(other, _)| other.as_str() < name);
        self.attributes.insert(place, (name.to_owned(), value.to_owned()));
        if self.attributes.len() > ATTRIBUTES {
            self.attributes.pop();
            self.left_out += 1;
        }
    }

    /// Takes in one of the pod's labels.
    pub(crate) fn label(&mut self, key: &str, value: &str) {
        if let Some(known) = WellKnown::of(key).filter(|_| value.len() <= VALUE_BYTES) {
            value.clone_into(&mut self.labels[known as usize]);
        }
    }

    /// None if it says nothing, as most pods do: then it takes no memory.
    pub(crate) fn shared(self) -> Option<Arc<Self>> {
        (self != Self::default()).then(|| Arc::new(self))
    }

    /// What both say.
    pub(super) fn common(&self, other: &Self) -> Self {
        let mut both = Self { left_out: 0, ..self.clone() };
        both.attributes.retain(|(name, value)| other.attribute(name) == Some(value));
        for (label, others) in both.labels.iter_mut().zip(&other.labels) {
            if label != others {
                label.clear();
            }
        }
        both
    }

    pub fn attributes(&self) -> &[(String, String)] {
        &self.attributes
    }

    pub fn attribute(&self, name: &str) -> Option<&str> {
        let place = self.attributes.binary_search_by(|(other, _)| other.as_str().cmp(name)).ok()?;
        Some(&self.attributes[place].1)
    }

    pub fn well_known(&self, label: WellKnown) -> Option<&str> {
        Some(self.labels[label as usize].as_str()).filter(|value| !value.is_empty())
    }

    /// As they were taken in.
    pub(crate) fn annotations(&self) -> impl Iterator<Item = (String, &str)> {
        self.attributes.iter().map(|(name, value)| (format!("{PREFIX}{name}"), value.as_str()))
    }

    pub(crate) fn labels(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = WellKnown::ALL.into_iter();
        all.filter_map(|(key, label)| Some((key, self.well_known(label)?)))
    }

    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotated(pairs: &[(&str, &str)]) -> PodMetadata {
        let mut metadata = PodMetadata::default();
        pairs.iter().for_each(|(key, value)| metadata.annotate(key, value));
        metadata
    }

    #[test]
    fn annotations_are_attributes_by_their_prefix() {
        let metadata = annotated(&[
            ("resource.opentelemetry.io/service.name", "cart"),
            ("resource.opentelemetry.io/deployment.environment.name", "staging"),
            ("resource.opentelemetry.io/", "nameless"),
            ("resource.opentelemetry.io/empty", ""),
            ("service.name", "no"),
        ]);
        assert_eq!(metadata.attribute("service.name"), Some("cart"));
        let names: Vec<_> = metadata.attributes().iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["deployment.environment.name", "service.name"]);
        assert_eq!(annotated(&[("a", "b")]).shared(), None);
    }

    #[test]
    fn too_much_is_left_out_whatever_the_order() {
        let keys: Vec<_> = (0..ATTRIBUTES + 5).map(|n| format!("{PREFIX}{n:03}")).collect();
        let mut pairs: Vec<_> = keys.iter().map(|key| (key.as_str(), "x")).collect();
        let one = annotated(&pairs);
        pairs.reverse();
        assert_eq!(annotated(&pairs), one);
        assert_eq!((one.attributes().len(), one.left_out()), (ATTRIBUTES, 5));
        assert_eq!((one.attribute("000"), one.attribute(&format!("{ATTRIBUTES:03}"))), (Some("x"), None));
        let long = "x".repeat(VALUE_BYTES + 1);
        let long = annotated(&[("resource.opentelemetry.io/a", &long)]);
        assert_eq!((long.attributes().len(), long.left_out()), (0, 1));
    }

    #[test]
    fn well_known_labels_are_kept() {
        let mut metadata = PodMetadata::default();
        for (key, value) in
            [("app.kubernetes.io/instance", "cart-eu"), ("app.kubernetes.io/version", ""), ("app", "x")]
        {
            metadata.label(key, value);
        }
        let found = [WellKnown::Instance, WellKnown::Name, WellKnown::Version];
        assert_eq!(found.map(|label| metadata.well_known(label)), [Some("cart-eu"), None, None]);
    }
}
