//! What the figures were measured on.

use std::fs;

/// Kernel and CPU, as a line for the head of a report.
pub(crate) fn describe() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpus = info.lines().filter(|line| line.starts_with("processor")).count();
    format!("Linux {} on {} × {} ({})", kernel.trim(), cpus, model(&info), std::env::consts::ARCH)
}

fn model(info: &str) -> String {
    let model = info.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    model.unwrap_or_else(|| "unknown CPU".to_owned())
}
