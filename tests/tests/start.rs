//! An agent that starts on a node where there is much already.

use std::{fs, path::PathBuf};

use integration_tests::{Agent, Cgroup, Options, require_kernel, wait::fewer};

/// Ten thousand cgroups: pods, each with containers in it.
const PODS: u64 = 250;
const CONTAINERS: u64 = 39;

#[test]
fn ten_thousand_cgroups_are_known_when_the_agent_is_ready() {
    require_kernel!();
    let crowd = Crowd::new();
    // How long that takes, benchmarks judge.
    let agent = Agent::start(Options::default().flag("limits-containers", "20000"));
    let metrics = agent.scrape();
    let resolved = |way| metrics.count("podwitness_identity_resolutions_total", &[("way", way)]);
    let expected = crowd.made.len() as u64;
    assert!(resolved("scan") >= expected, "{} of {expected}", resolved("scan"));
    assert_eq!(resolved("never"), 0);
    assert_eq!(metrics.count("podwitness_identity_refused_total", &[]), 0);
}

/// Pods as the kubelet makes them, with nobody in them. They are gone when this goes.
struct Crowd {
    /// In the order of their making.
    made: Vec<PathBuf>,
    /// Removed last.
    _root: Cgroup,
}

impl Crowd {
    fn new() -> Self {
        let root = Cgroup::new("crowd");
        let directory = root.directories()[0].clone();
        let mut crowd = Self { made: Vec::new(), _root: root };
        for pod in 0..fewer(PODS) {
            let pod = directory.join(format!("pod5ca1ab1e-0000-4000-8000-{pod:012x}"));
            crowd.make(pod.clone());
            for container in 0..CONTAINERS {
                crowd.make(pod.join(format!("{container:064x}")));
            }
        }
        crowd
    }

    fn make(&mut self, directory: PathBuf) {
        fs::create_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        self.made.push(directory);
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for directory in self.made.iter().rev() {
            // One that stays keeps the root from being removed, which says so.
            let _ = fs::remove_dir(directory);
        }
    }
}
