//! Any bytes as what the Kubernetes API says.

use std::time::{Duration, Instant};

use super::{
    super::{NameBounds, Names, lines::Lines},
    mirror::Mirror,
    object::{Event, List, Meta, MetaOnly, PodObject},
};

/// Longest line of a watch.
const LONGEST: usize = 1 << 16;
/// Pods that there is room for.
const PODS: usize = 8;

/// A page of a list, the lines of a watch, and objects of which only the head matters.
pub(crate) fn answers(bytes: &[u8]) {
    let names = Names::new(NameBounds { containers: PODS, grace: Duration::ZERO });
    let mut mirror = Mirror::new("node1".into(), PODS);
    let now = Instant::now();
    if let Ok(list) = serde_json::from_slice::<List<PodObject>>(bytes) {
        for pod in list.into_objects().0 {
            mirror.put(&pod, &names, now);
        }
    }
    let mut lines = Lines::new(LONGEST);
    lines.push(bytes);
    while let Some(line) = lines.next() {
        let Ok(line) = line else { continue };
        match Event::<PodObject>::parse(line) {
            Ok(Event::Put(object)) => _ = mirror.put(&object, &names, now),
            Ok(Event::Gone(object)) => _ = mirror.remove(&object, &names, now),
            _ => {}
        }
        if let Ok(object) = serde_json::from_slice::<MetaOnly<Meta>>(line) {
            let _ = object.metadata.controller();
        }
        assert!(mirror.len() <= PODS, "{} pods", mirror.len());
    }
}
