//! Whom to observe.

/// Namespaces that are wanted, or not; what a pod says of itself comes on top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these, unless empty.
    pub only: Vec<String>,
    pub excluded: Vec<String>,
}

impl Selection {
    /// Whether to observe something in `namespace` (empty outside of Kubernetes), which declines by its own
    /// label or annotation `podwitness.dev/observe`.
    pub fn wants(&self, namespace: &str, declines: bool) -> bool {
        let is = |names: &[String]| names.iter().any(|name| name == namespace);
        if declines || is(&self.excluded) {
            return false;
        }
        namespace.is_empty() || self.only.is_empty() || is(&self.only)
    }
}

#[cfg(test)]
mod tests {
    use super::Selection;

    #[test]
    fn a_no_is_a_no() {
        let all = Selection::default();
        assert!(all.wants("shop", false) && all.wants("", false));
        assert!(!all.wants("shop", true) && !all.wants("", true));

        let some = Selection { only: vec!["shop".into()], excluded: vec!["kube-system".into()] };
        assert!(some.wants("shop", false));
        assert!(!some.wants("other", false) && !some.wants("kube-system", false));
        // What is no pod has no namespace that could be meant.
        assert!(some.wants("", false));
    }
}
