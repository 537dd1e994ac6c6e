//! What is counted of containers, by section of docs/metrics.md.

use super::{Metric, Section, counter, histogram};

pub(super) const SECTIONS: &[Section] = &[
    Section {
        title: "System calls",
        of_containers: true,
        metrics: &[
            Metric {
                bound: "512 values of `syscall`",
                ..counter(
                    "podwitness_syscalls_total",
                    &["syscall"],
                    "Calls that ended. `exit` and `exit_group` count when their thread ends (before Linux 5.15: when they begin).",
                    "calls",
                )
            },
            Metric {
                bound: "pairs that occurred; 8,192 table entries per CPU for all workloads together",
                ..counter(
                    "podwitness_syscall_errors_total",
                    &["syscall", "errno"],
                    "Calls that returned an error. `errno` is the symbol, such as `ENOENT`.",
                    "calls",
                )
            },
            Metric {
                bound: "16 classes × 26 buckets",
                ..histogram(
                    "podwitness_syscall_duration_seconds",
                    &["class"],
                    "Time from entry to return. In `sensors.syscalls_mode: default` one of 16 fast calls stands for 16; absent in `counts`.",
                    "seconds",
                )
            },
            Metric {
                bound: "16 classes",
                ..counter(
                    "podwitness_syscall_duration_estimated_total",
                    &["class"],
                    "Of the calls in the histogram, those that were not timed themselves. The others are exact, and among them is every call that slept or took two ticks of the kernel's clock.",
                    "calls",
                )
            },
        ],
    },
    Section {
        title: "io_uring",
        of_containers: true,
        metrics: &[
            counter("podwitness_io_uring_rings_total", &[], "Rings that were made.", "rings"),
            Metric {
                bound: "127 values of `opcode`",
                ..counter(
                    "podwitness_io_uring_submissions_total",
                    &["opcode"],
                    "Requests that the kernel has taken from rings.",
                    "requests",
                )
            },
        ],
    },
    Section {
        title: "TCP",
        of_containers: true,
        metrics: &[
            Metric {
                bound: "[peers](#peers)",
                ..counter(
                    "podwitness_tcp_connects_total",
                    &["peer_namespace", "peer_workload"],
                    "Attempts to connect that ended, the failed ones too.",
                    "attempts",
                )
            },
            Metric {
                bound: "peers × 7 values of `reason`",
                ..counter(
                    "podwitness_tcp_connect_failures_total",
                    &["peer_namespace", "peer_workload", "reason"],
                    "Attempts that failed.",
                    "attempts",
                )
            },
            Metric {
                bound: "23 buckets",
                ..histogram(
                    "podwitness_tcp_connect_duration_seconds",
                    &[],
                    "Time from `connect` to the outcome, good or bad.",
                    "seconds",
                )
            },
            Metric {
                bound: "peers",
                ..counter(
                    "podwitness_tcp_accepts_total",
                    &["peer_namespace", "peer_workload"],
                    "Connections whose handshake was completed on a listening socket, whether or not `accept` was called.",
                    "connections",
                )
            },
            Metric {
                bound: "peers",
                ..counter(
                    "podwitness_tcp_closes_total",
                    &["peer_namespace", "peer_workload"],
                    "Established connections that reached their end, on either side.",
                    "connections",
                )
            },
            Metric {
                bound: "peers",
                ..counter(
                    "podwitness_tcp_sent_bytes_total",
                    &["peer_namespace", "peer_workload"],
                    "Data sent over connections, counted when they are closed; what is sent again counts once.",
                    "bytes",
                )
            },
            Metric {
                bound: "peers",
                ..counter(
                    "podwitness_tcp_received_bytes_total",
                    &["peer_namespace", "peer_workload"],
                    "Data received over connections, counted when they are closed.",
                    "bytes",
                )
            },
            Metric {
                bound: "peers",
                ..counter(
                    "podwitness_tcp_retransmits_total",
                    &["peer_namespace", "peer_workload"],
                    "Segments sent once more, counted when their connection is closed.",
                    "segments",
                )
            },
            Metric {
                bound: "23 buckets",
                ..histogram(
                    "podwitness_tcp_rtt_seconds",
                    &[],
                    "Smoothed round-trip time of a connection when it is closed.",
                    "seconds",
                )
            },
        ],
    },
    Section {
        title: "Events refused",
        of_containers: true,
        metrics: &[counter(
            "podwitness_events_throttled_total",
            &[],
            "Events that the container's token bucket has refused (`events.rate`, `events.burst`). They are missing from the other counters, system calls and io_uring excepted.",
            "events",
        )],
    },
    Section {
        title: "OOM kills",
        of_containers: true,
        metrics: &[Metric {
            bound: "5 values of `scope`",
            ..counter(
                "podwitness_oom_kills_total",
                &["scope"],
                "Processes that the kernel killed for want of memory.",
                "kills",
            )
        }],
    },
    Section {
        title: "Processes",
        of_containers: true,
        metrics: &[
            counter(
                "podwitness_processes_started_total",
                &[],
                "Executables started: successful calls of `execve` and `execveat`.",
                "executables",
            ),
            Metric {
                bound: "4 values of `reason`",
                ..counter(
                    "podwitness_process_exits_total",
                    &["reason"],
                    "Processes that ended; threads of the kernel's own are none.",
                    "processes",
                )
            },
        ],
    },
];
