//! What a pod costs.

use super::{
    super::{mirror::Mirror, object::PodObject},
    recording::{WATCH, lines},
    *,
};

const PODS: usize = 5000;
/// Bytes of a pod with three containers, in the store and here.
const ALLOWED: usize = 6000;

#[test]
fn five_thousand_pods() {
    let sample = lines(WATCH).map(|mut event| event["object"].take());
    let sample = sample.filter(|pod| container_ids(pod).len() == 3).last().unwrap().to_string();
    let names = Names::new(NameBounds { containers: 3 * PODS, grace: Duration::ZERO });
    let mut mirror = Mirror::new(NODE.into(), PODS);
    let before = resident();
    for number in 0..PODS {
        // Everything that is different with every pod.
        let uid = format!("{number:08x}-0000-4000-8000-000000000000");
        let mut pod: Value = serde_json::from_str(&sample).unwrap();
        pod["metadata"]["uid"] = uid.into();
        pod["metadata"]["name"] = format!("web-5858fcc845-{number:05}").into();
        for kind in ["initContainerStatuses", "containerStatuses"] {
            for (index, status) in pod["status"][kind].as_array_mut().into_iter().flatten().enumerate() {
                let id = format!("containerd://{number:032x}{:032x}", index + kind.len());
                status["containerID"] = id.into();
            }
        }
        let object: PodObject = serde_json::from_value(pod).unwrap();
        mirror.put(&object, &names, Instant::now());
    }
    assert_eq!((mirror.len(), names.stats().facts), (PODS, 4 * PODS));
    let each = resident().saturating_sub(before) / PODS;
    println!("{each} bytes for each of {PODS} pods with 3 containers");
    assert!(each < ALLOWED, "{each} bytes for each pod");
}

/// Bytes that this process has in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().unwrap() * 1024
}
