//! Who tells names, and how it is.

use super::{Page, Unit};
use crate::identity::names::{Names, Source, SourceState, kubernetes::KubernetesStats};

pub(super) fn expose(page: &mut Page, names: &Names, renamed: u64) {
    let stats = names.stats();
    let sources = || Source::ALL.into_iter().map(Source::name).chain(["none"]);
    let pods = sources().zip(stats.pods_named).map(|(source, count)| (["pod", source], count));
    let containers =
        sources().zip(stats.containers_named).map(|(source, count)| (["container", source], count));
    page.own_counter(
        "podwitness_identity_names",
        "Cgroups of pods and containers by the source that named them; none where only the cgroup's path did",
        &["of", "source"],
        pods.chain(containers),
    );
    page.own_counter(
        "podwitness_identity_renamed",
        "Containers whose labels were changed because a better name came after identity.hold",
        &[],
        [([], renamed)],
    );
    page.own_counter(
        "podwitness_identity_contradictions",
        "Disagreements of two sources, or of a source and the kernel, about one pod or container",
        &[],
        [([], stats.contradictions)],
    );
    page.own_counter(
        "podwitness_identity_names_refused",
        "Names turned away because limits.containers was reached",
        &[],
        [([], stats.refused)],
    );
    page.own_gauge(
        "podwitness_identity_facts",
        "Names of pods and containers that are remembered, of all sources",
        None,
        &[],
        [([], stats.facts as f64)],
    );
    let states = names.states().into_iter().flat_map(|(source, state)| {
        SourceState::ALL.map(|one| ([source.name(), one.name()], f64::from(u8::from(one == state))))
    });
    page.own_gauge(
        "podwitness_identity_source_state",
        "1 for the state that a source of names is in",
        None,
        &["source", "state"],
        states,
    );
    page.own_counter(
        "podwitness_identity_source_failures",
        "Sessions with a source of names that failed; of the Kubernetes API, lists and watches of pods",
        &["source"],
        Source::ALL.map(|source| ([source.name()], names.failures(source))),
    );
    page.own_counter(
        "podwitness_identity_source_undecodable",
        "Lines and objects of a source of names that could not be read",
        &["source"],
        Source::ALL.map(|source| ([source.name()], names.garbled_by(source))),
    );
    page.own_gauge(
        "podwitness_identity_sockets_left_out",
        "Sockets of an engine that are not asked for names because limits.engine_sockets was reached",
        None,
        &["source"],
        [Source::Docker, Source::Podman].map(|source| ([source.name()], names.left_out(source) as f64)),
    );
}

/// Zeros where the API isn't asked.
pub(super) fn expose_kubernetes(page: &mut Page, stats: &KubernetesStats) {
    page.own_counter(
        "podwitness_kubernetes_lists",
        "Lists of this node's pods from the Kubernetes API; more than one after something was missed",
        &[],
        [([], stats.lists)],
    );
    page.own_counter(
        "podwitness_kubernetes_watches",
        "Watches of this node's pods that began; the API server ends each after some minutes",
        &[],
        [([], stats.watches)],
    );
    page.own_counter(
        "podwitness_kubernetes_expired",
        "Lists and watches whose version the API server didn't have any more (410), so that pods are listed again",
        &[],
        [([], stats.expired)],
    );
    page.own_counter(
        "podwitness_kubernetes_pods_told",
        "Pods as the Kubernetes API told them, by what became of that",
        &["outcome"],
        [(["applied"], stats.applied), (["stale"], stats.stale), (["refused"], stats.refused)],
    );
    page.own_counter(
        "podwitness_kubernetes_owners_asked",
        "ReplicaSets and Jobs that were asked for to learn what they belong to",
        &["outcome"],
        [(["answered"], stats.lookups), (["failed"], stats.lookup_failures)],
    );
    page.own_counter(
        "podwitness_kubernetes_namespace_failures",
        "Lists and watches of namespaces that failed; meanwhile a new opt-out of a namespace isn't seen",
        &[],
        [([], stats.namespace_failures)],
    );
    page.own_gauge(
        "podwitness_kubernetes_pods",
        "Pods of this node that the Kubernetes API has told",
        None,
        &[],
        [([], stats.pods as f64)],
    );
    page.own_gauge(
        "podwitness_kubernetes_owners_wanted",
        "ReplicaSets and Jobs that are still to be asked for",
        None,
        &[],
        [([], stats.owners_wanted as f64)],
    );
    page.own_gauge(
        "podwitness_kubernetes_heard_timestamp",
        "When a list or a watch of pods last brought something, bookmarks included; 0 if never",
        Some(Unit::Seconds),
        &[],
        [([], stats.heard as f64)],
    );
}
