//! Pods, as far as it takes to choose one.

use serde::Deserialize;

use super::PodName;

#[derive(Debug, Deserialize)]
pub(super) struct List {
    #[serde(default)]
    pub(super) items: Vec<PodObject>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodObject {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    namespace: String,
    creation_timestamp: String,
    deletion_timestamp: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: String,
    reason: String,
    conditions: Vec<Condition>,
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    state: State,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct State {
    waiting: Option<Waiting>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Waiting {
    reason: String,
}

impl PodObject {
    pub(super) fn node(&self) -> Option<&str> {
        Some(self.spec.node_name.as_str()).filter(|node| !node.is_empty())
    }

    /// ` (Unschedulable: 0/3 nodes are available …)`, as far as somebody said so.
    pub(super) fn why_pending(&self) -> String {
        let told = self.condition("PodScheduled").filter(|condition| condition.status != "True");
        let Some(Condition { reason, message, .. }) = told else { return String::new() };
        let parts: Vec<_> = [reason, message].into_iter().filter(|part| !part.is_empty()).cloned().collect();
        if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(": ")) }
    }

    fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.kind == kind)
    }

    fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(|condition| condition.status == "True")
    }

    fn is_leaving(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether there is a process to talk to.
    fn is_running(&self) -> bool {
        self.status.phase == "Running" && self.waiting().is_none()
    }

    fn waiting(&self) -> Option<&str> {
        let mut states = self.status.container_statuses.iter().map(|status| &status.state);
        states.find_map(|state| Some(state.waiting.as_ref()?.reason.as_str()))
    }

    /// Why nobody answers there.
    fn why_not(&self) -> String {
        let phase = if self.status.phase.is_empty() { "no phase" } else { &self.status.phase };
        let parts = [
            Some(phase),
            self.waiting(),
            Some(self.status.reason.as_str()),
            self.is_leaving().then_some("about to go"),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
        parts.join(", ")
    }

    fn name(self) -> PodName {
        PodName { namespace: self.metadata.namespace, name: self.metadata.name }
    }
}

/// Of the agents on one node the one to ask: while a DaemonSet is rolled, an old one is leaving and a new one isn't
/// ready. Without one that runs, that of which most is to be hoped, and what keeps it.
pub(super) fn choose(mut agents: Vec<PodObject>) -> Result<PodName, (PodName, String)> {
    // The last is the best; times of this form sort as they are.
    agents.sort_by_cached_key(|agent| {
        let metadata = &agent.metadata;
        let (age, name) = (metadata.creation_timestamp.clone(), metadata.name.clone());
        (agent.is_running(), !agent.is_leaving(), agent.is_ready(), age, name)
    });
    let best = agents.pop().unwrap_or_default();
    // One that is leaving still answers, but not for long.
    if best.is_running() && !best.is_leaving() {
        return Ok(best.name());
    }
    let why = best.why_not();
    Err((best.name(), why))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, created: &str, more: &Value) -> PodObject {
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "podwitness", "creationTimestamp": created},
            "spec": {"nodeName": "node1"},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        });
        for (path, value) in more.as_object().unwrap() {
            *pod.pointer_mut(path.rsplit_once('/').unwrap().0).unwrap() = {
                let mut parent = pod.pointer(path.rsplit_once('/').unwrap().0).unwrap().clone();
                parent[path.rsplit_once('/').unwrap().1] = value.clone();
                parent
            };
        }
        serde_json::from_value(pod).unwrap()
    }

    const OLD: &str = "2026-11-22T08:00:00Z";
    const NEW: &str = "2026-11-22T09:00:00Z";

    fn chosen(agents: Vec<PodObject>) -> String {
        choose(agents).unwrap().to_string()
    }

    #[test]
    fn the_agent_is_the_one_that_answers_and_stays() {
        let leaving = json!({"/metadata/deletionTimestamp": NEW});
        let unready = json!({"/status/conditions": [{"type": "Ready", "status": "False"}]});
        let pending = json!({"/status/phase": "Pending"});
        let plain = json!({});
        assert_eq!(chosen(vec![pod("a", OLD, &plain)]), "podwitness/a");
        // A DaemonSet is rolled: the old one leaves, the new one isn't ready yet.
        for agents in [
            vec![pod("a", OLD, &leaving), pod("b", NEW, &unready)],
            vec![pod("b", NEW, &unready), pod("a", OLD, &leaving)],
            vec![pod("a", OLD, &unready), pod("b", OLD, &plain), pod("c", NEW, &pending)],
            // Two releases: the younger.
            vec![pod("b", NEW, &plain), pod("a", OLD, &plain)],
        ] {
            assert_eq!(chosen(agents), "podwitness/b");
        }
    }

    #[test]
    fn why_none_answers() {
        let waiting = json!({
            "/status/phase": "Pending",
            "/status/containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}],
        });
        let (agent, why) = choose(vec![pod("a", OLD, &waiting)]).unwrap_err();
        assert_eq!((agent.to_string().as_str(), why.as_str()), ("podwitness/a", "Pending, ErrImagePull"));
        let crashing =
            json!({"/status/containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
        assert_eq!(choose(vec![pod("a", OLD, &crashing)]).unwrap_err().1, "Running, CrashLoopBackOff");
        let evicted = json!({"/status/phase": "Failed", "/status/reason": "Evicted"});
        assert_eq!(choose(vec![pod("a", OLD, &evicted)]).unwrap_err().1, "Failed, Evicted");
        let leaving = json!({"/metadata/deletionTimestamp": NEW});
        assert_eq!(choose(vec![pod("a", OLD, &leaving)]).unwrap_err().1, "Running, about to go");
        assert!(choose(Vec::new()).is_err());
    }

    #[test]
    fn a_pod_without_a_node_says_why() {
        let unschedulable = json!({
            "/spec/nodeName": "",
            "/status/conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"},
            ],
        });
        let pending = pod("a", OLD, &unschedulable);
        assert_eq!(
            (pending.node(), &*pending.why_pending()),
            (None, " (Unschedulable: 0/3 nodes are available)")
        );
        let pending = pod("a", OLD, &json!({"/spec": {}}));
        assert_eq!((pending.node(), &*pending.why_pending()), (None, ""));
        assert_eq!(pod("a", OLD, &json!({})).node(), Some("node1"));
    }
}
