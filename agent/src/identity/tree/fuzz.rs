//! Any bytes as what the kernel shows of its hierarchies.

use super::mounts::{cgroup2_mounts, memory_hierarchy, memory_mounts};

/// `/proc/PID/mountinfo` and `/proc/self/cgroup`.
pub(crate) fn hierarchies(bytes: &[u8]) {
    for (root, directory) in cgroup2_mounts(bytes).chain(memory_mounts(bytes)) {
        let is_shorter = |path: &std::path::Path| path.as_os_str().len() < bytes.len();
        assert!(is_shorter(&root) && is_shorter(&directory), "{root:?} at {directory:?}");
    }
    memory_hierarchy(&String::from_utf8_lossy(bytes));
}
