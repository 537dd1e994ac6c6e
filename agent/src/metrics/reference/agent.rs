//! What the agent says of itself, by section of docs/metrics.md.

use super::{Metric, Section, counter, gauge};

pub(super) const SECTIONS: &[Section] = &[
    Section {
        title: "Sensors and programs",
        of_containers: false,
        metrics: &[
            Metric {
                bound: "7 sensors × 5 outcomes",
                ..counter(
                    "podwitness_sensor_events_total",
                    &["sensor", "outcome"],
                    "What a sensor has seen, and what became of it; see below.",
                    "events",
                )
            },
            Metric {
                bound: "7",
                ..counter(
                    "podwitness_sensor_untracked_total",
                    &["sensor"],
                    "Beginnings that found no room in a table, so that their end has no duration; for `calls`, that it isn't told; for `oom`, processes that the kernel killed, of which an OOM kill isn't told.",
                    "events",
                )
            },
            Metric {
                bound: "7 × 4",
                ..gauge(
                    "podwitness_sensor_state",
                    &["sensor", "state"],
                    "1 for the state that the sensor is in, 0 for the others: `active`, `degraded`, `unsupported`, `disabled`.",
                    "–",
                )
            },
            counter(
                "podwitness_syscalls_untimed_total",
                &[],
                "System calls without a duration: they began before the agent, their beginning found no room, or seccomp refused them before they began.",
                "calls",
            ),
            counter(
                "podwitness_syscall_errors_folded_total",
                &[],
                "Failed system calls whose error found no room in its table, or in the accounts of the dead (64 × `limits.containers` pairs of call and error). They show as `syscall=\"other\", errno=\"other\"`.",
                "calls",
            ),
            Metric {
                bound: "17 programs",
                ..counter(
                    "podwitness_program_runs_total",
                    &["program"],
                    "Runs of a kernel program. 0 unless `kernel.bpf_stats_enabled` is set.",
                    "runs",
                )
            },
            Metric {
                bound: "17",
                ..counter(
                    "podwitness_program_run_time_seconds_total",
                    &["program"],
                    "Time spent in it. 0 unless `kernel.bpf_stats_enabled` is set.",
                    "seconds",
                )
            },
            Metric {
                bound: "17",
                ..counter(
                    "podwitness_program_recursion_misses_total",
                    &["program"],
                    "Runs that the kernel refused because a run of the same program was under way, interrupted, on the same CPU.",
                    "runs",
                )
            },
            Metric {
                bound: "16",
                ..counter(
                    "podwitness_program_missed_runs_total",
                    &["program"],
                    "Those refused runs that no second program on the hook made up for. What they would have counted is in no other counter, and not in the sum below. Not 0 on Linux 7.0 or later under load.",
                    "runs",
                )
            },
            gauge(
                "podwitness_kernel_memory_bytes",
                &[],
                "Kernel memory behind all maps, as the kernel accounts it.",
                "bytes",
            ),
            counter(
                "podwitness_map_windows_refused_total",
                &[],
                "Parts of maps that could not be mapped when they were needed: what is counted there was missing from a page, or \
                 records waited in their ring. Look at `vm.max_map_count`.",
                "windows",
            ),
            Metric {
                bound: "21 keys",
                ..gauge(
                    "podwitness_limit",
                    &["key"],
                    "Bounds in force, by configuration key. `limits.slots` is what `limits.map_memory` has left of it; `limits.tasks` bounds something only on Linux before 6.4 or without BTF.",
                    "as the key",
                )
            },
        ],
    },
    Section {
        title: "Rings",
        of_containers: false,
        metrics: &[
            counter(
                "podwitness_ring_undecodable_total",
                &[],
                "Records out of the rings that could not be read: a bug.",
                "records",
            ),
            counter(
                "podwitness_ring_wakeups_total",
                &[],
                "Times that the reader looked at the rings.",
                "looks",
            ),
            counter(
                "podwitness_ring_looks_late_total",
                &[],
                "Pages of metrics and lists of containers that did not wait until the rings had been looked at: they may lack the latest events. The reader is busy, or gets no CPU (`ring.look_timeout`).",
                "looks",
            ),
        ],
    },
    Section {
        title: "Identity",
        of_containers: false,
        metrics: &[
            Metric {
                bound: "4",
                ..counter(
                    "podwitness_identity_resolutions_total",
                    &["way"],
                    "Cgroups by how they became known: `kernel_event` or `scan` before anybody asked, `late` after that, `never`.",
                    "cgroups",
                )
            },
            counter(
                "podwitness_identity_refused_total",
                &[],
                "Cgroups turned away because `limits.containers` was reached. One that there was no room to remember counts each time.",
                "cgroups",
            ),
            counter(
                "podwitness_identity_evicted_total",
                &[],
                "Dead cgroups forgotten before `metrics.grace` was over, to make room.",
                "cgroups",
            ),
            Metric {
                bound: "5",
                ..gauge(
                    "podwitness_identity_cgroups",
                    &["state"],
                    "Cgroups remembered now: `alive`, `dead`, `pending` (asked for, not yet decided), `given_up` (unknown for good), `settling` (known, waiting for a name; also `alive` or `dead`).",
                    "cgroups",
                )
            },
            Metric {
                bound: "10",
                ..counter(
                    "podwitness_identity_names_total",
                    &["of", "source"],
                    "Cgroups by who named them, counted when their labels are fixed: `of` is `pod` or `container`, `source` is `kubernetes`, `cri`, `docker`, `podman`, or `none` where only the cgroup's path says something.",
                    "cgroups",
                )
            },
            counter(
                "podwitness_identity_renamed_total",
                &[],
                "Containers whose labels were changed because a better name came later.",
                "containers",
            ),
            counter(
                "podwitness_identity_contradictions_total",
                &[],
                "Disagreements of two sources, or of a source and the kernel, about one pod or container. The cgroup's own uid decides, then the order of sources.",
                "facts",
            ),
            counter(
                "podwitness_identity_names_refused_total",
                &[],
                "Names turned away because `limits.containers` was reached, and annotations `resource.opentelemetry.io/…` of pods that were too many or too long.",
                "facts",
            ),
            gauge(
                "podwitness_identity_facts",
                &[],
                "Names of pods and containers remembered now, of all sources.",
                "facts",
            ),
            Metric {
                bound: "16",
                ..gauge(
                    "podwitness_identity_source_state",
                    &["source", "state"],
                    "1 for the state that a source of names is in: `absent`, `connecting`, `connected` or `failed`.",
                    "–",
                )
            },
            Metric {
                bound: "4",
                ..counter(
                    "podwitness_identity_source_failures_total",
                    &["source"],
                    "Sessions with a source that failed and were tried again; of `kubernetes`, lists and watches of pods.",
                    "failures",
                )
            },
            Metric {
                bound: "4",
                ..counter(
                    "podwitness_identity_source_undecodable_total",
                    &["source"],
                    "Lines and objects of a source that could not be read. For `cri`, such an answer ends the session and counts as its failure.",
                    "objects",
                )
            },
            Metric {
                bound: "2",
                ..gauge(
                    "podwitness_identity_sockets_left_out",
                    &["source"],
                    "Sockets of `docker` or `podman` that are not asked for names because `limits.engine_sockets` was reached.",
                    "sockets",
                )
            },
            counter(
                "podwitness_kubernetes_lists_total",
                &[],
                "Lists of this node's pods. More than one after something was missed.",
                "lists",
            ),
            counter(
                "podwitness_kubernetes_watches_total",
                &[],
                "Watches of this node's pods that began. The API server ends each after some minutes.",
                "watches",
            ),
            counter(
                "podwitness_kubernetes_expired_total",
                &[],
                "Lists and watches whose version the API server didn't have any more (410), so that pods were listed again.",
                "answers",
            ),
            Metric {
                bound: "3",
                ..counter(
                    "podwitness_kubernetes_pods_told_total",
                    &["outcome"],
                    "Pods as lists and watches told them: `applied`, `stale` (told before, out of order, or of another node), `refused` (`limits.containers` was reached).",
                    "pods",
                )
            },
            Metric {
                bound: "2",
                ..counter(
                    "podwitness_kubernetes_owners_asked_total",
                    &["outcome"],
                    "ReplicaSets and Jobs that were asked for to learn what they belong to: `answered` or `failed`. Where RBAC forbids it, workloads are told by names.",
                    "objects",
                )
            },
            counter(
                "podwitness_kubernetes_namespace_failures_total",
                &[],
                "Lists and watches of namespaces that failed. Meanwhile a new opt-out of a namespace isn't seen.",
                "failures",
            ),
            gauge(
                "podwitness_kubernetes_pods",
                &[],
                "Pods of this node that the Kubernetes API has told.",
                "pods",
            ),
            gauge(
                "podwitness_kubernetes_owners_wanted",
                &[],
                "ReplicaSets and Jobs that are still to be asked for.",
                "objects",
            ),
            gauge(
                "podwitness_kubernetes_heard_timestamp_seconds",
                &[],
                "When a list or a watch of pods last brought something, as seconds since 1970; 0 if never. The API server says something about once a minute.",
                "seconds",
            ),
            gauge("podwitness_slots_used", &[], "Container slots given out.", "slots"),
            gauge(
                "podwitness_excluded_cgroups",
                &[],
                "Cgroups that are left alone (`observe.exclude_namespaces`, or `podwitness.dev/observe` at a pod or its namespace).",
                "cgroups",
            ),
            counter(
                "podwitness_accounts_dropped_total",
                &[],
                "Counters of dead containers dropped because `limits.containers` was reached, although their workload lives on.",
                "accounts",
            ),
            counter(
                "podwitness_slots_recycled_total",
                &[],
                "Slots taken back from cgroups that have died.",
                "slots",
            ),
        ],
    },
    Section {
        title: "Peers of connections",
        of_containers: false,
        metrics: &[
            gauge(
                "podwitness_peer_addresses",
                &[],
                "Addresses that are known by name, those of the node among them. One that goes by two names counts twice.",
                "addresses",
            ),
            counter(
                "podwitness_peer_addresses_refused_total",
                &[],
                "Addresses turned away because `limits.peers` was reached, each time that they were told.",
                "addresses",
            ),
            counter(
                "podwitness_peers_folded_total",
                &[],
                "Events whose peer shows as `other` because `limits.peers_per_container` was reached.",
                "events",
            ),
            Metric {
                bound: "12",
                ..gauge(
                    "podwitness_peer_source_state",
                    &["source", "state"],
                    "1 for the state that the watch of `endpointslices`, `services` or `nodes` is in: `absent`, `connecting`, `connected` or `failed`.",
                    "–",
                )
            },
            Metric {
                bound: "6",
                ..counter(
                    "podwitness_peer_source_problems_total",
                    &["source", "problem"],
                    "Lists and watches that failed (`failure`), and lines and items that could not be read (`garbage`).",
                    "–",
                )
            },
        ],
    },
    Section {
        title: "OpenTelemetry",
        of_containers: false,
        metrics: &[
            Metric {
                bound: "3",
                ..counter(
                    "podwitness_otlp_produced_total",
                    &["signal"],
                    "Made to be sent: `logs`, spans (`traces`), points of `metrics`. produced = sent + dropped + those that wait.",
                    "items",
                )
            },
            Metric {
                bound: "3",
                ..counter(
                    "podwitness_otlp_sent_total",
                    &["signal"],
                    "Those that the collector has taken.",
                    "items",
                )
            },
            Metric {
                bound: "18",
                ..counter(
                    "podwitness_otlp_dropped_total",
                    &["signal", "reason"],
                    "Those that were not sent or not taken: `queue_full` (`otlp.queue`), `retries_exhausted` (`otlp.retry_for`), `refused`, `rejected` (of a request that was taken), `unanswered` (they may have arrived), `shutdown`.",
                    "items",
                )
            },
            Metric {
                bound: "3",
                ..counter(
                    "podwitness_otlp_retries_total",
                    &["signal"],
                    "Requests that were sent once more.",
                    "requests",
                )
            },
            Metric {
                bound: "5",
                ..counter(
                    "podwitness_otlp_spans_sampled_total",
                    &["decision"],
                    "Spans by what the sampling decided: `failure`, `slow`, `death`, `drawn`, or `left_out`. Up to 256 that wait for a death to happen are in none of them.",
                    "spans",
                )
            },
            counter(
                "podwitness_otlp_forgotten_total",
                &[],
                "Beginnings of processes, connections and containers forgotten because `otlp.tracked` or `limits.containers` was reached.",
                "beginnings",
            ),
        ],
    },
    Section {
        title: "Live stream, scrapes, process",
        of_containers: false,
        metrics: &[
            gauge("podwitness_live_clients", &[], "Readers of `/v1/events` now.", "readers"),
            Metric {
                bound: "2",
                ..counter(
                    "podwitness_live_events_total",
                    &["outcome"],
                    "Events for readers: `sent`, or `lost` because the reader was too slow. One that three readers get counts three times.",
                    "events",
                )
            },
            Metric {
                bound: "2",
                ..gauge(
                    "podwitness_live_kept",
                    &["what"],
                    "What is kept for readers: `events` for those who come back, at most `debug.replay`; `deaths`, at most `debug.deaths`.",
                    "events",
                )
            },
            counter(
                "podwitness_live_deaths_dropped_total",
                &[],
                "Deaths that are not remembered: others took their room, or `debug.deaths` is 0.",
                "deaths",
            ),
            counter(
                "podwitness_live_clients_refused_total",
                &[],
                "Readers turned away because `debug.clients` was reached.",
                "readers",
            ),
            Metric {
                bound: "4",
                ..counter(
                    "podwitness_http_connections_total",
                    &["listener", "outcome"],
                    "Connections to the `metrics` and the `debug` listener: `admitted`, or `refused` because every place was taken (64; `debug.clients` and 16) and none was idle.",
                    "connections",
                )
            },
            Metric {
                bound: "2",
                ..gauge(
                    "podwitness_http_connections_open",
                    &["listener"],
                    "Those that are open now.",
                    "connections",
                )
            },
            Metric {
                bound: "2",
                ..counter(
                    "podwitness_http_connections_silent_total",
                    &["listener"],
                    "Admitted ones that were closed because no request came within 10 s.",
                    "connections",
                )
            },
            Metric {
                bound: "2",
                ..counter(
                    "podwitness_http_connections_displaced_total",
                    &["listener"],
                    "Admitted ones that had nothing to be answered, and were closed for the sake of new ones because every place was taken: those that had asked for nothing for longest.",
                    "connections",
                )
            },
            Metric {
                bound: "7",
                ..counter(
                    "podwitness_debug_tls_handshakes_total",
                    &["outcome"],
                    "Handshakes of the debug listener, where it speaks TLS: `completed`, `timed_out`, `plain_http` (told to use https), `nothing_common` (no version, cipher or protocol), `refused` (the client doesn't want the certificate), `invalid` (no TLS), `broken_off`. Those that had to make place for another connection are counted as displaced alone.",
                    "handshakes",
                )
            },
            Metric {
                bound: "2",
                ..counter(
                    "podwitness_debug_tls_rotations_total",
                    &["outcome"],
                    "Times that the files of the certificate held something else: `taken`, or `refused` because it can't be used. Only where TLS is spoken.",
                    "rotations",
                )
            },
            gauge(
                "podwitness_debug_tls_outdated",
                &[],
                "1 while the files can't be used, and the certificate from before is shown. Only where TLS is spoken.",
                "–",
            ),
            gauge(
                "podwitness_calls_watched",
                &[],
                "System calls that readers of `/v1/events` have the kernel tell one by one. While it is 0, the programs for that are detached.",
                "calls",
            ),
            gauge(
                "podwitness_calls_watched_cgroups",
                &[],
                "Cgroups that are watched for them, at most 1,024; -1: all.",
                "cgroups",
            ),
            Metric {
                bound: "3",
                ..counter(
                    "podwitness_scrapes_total",
                    &["outcome"],
                    "Scrapes before this one: `rendered`, `failed`, `refused` (more than four at a time).",
                    "scrapes",
                )
            },
            gauge("podwitness_build_info", &["version"], "1, with the version of the agent.", "–"),
            counter("process_cpu_seconds_total", &[], "CPU time of the agent, user and system.", "seconds"),
            gauge("process_resident_memory_bytes", &[], "Resident memory of the agent.", "bytes"),
            gauge(
                "podwitness_heap_bytes",
                &[],
                "Memory that the agent has allocated and not freed, as its allocator counts it (glibc's `mallinfo`). Resident memory has also the binary, the mapped kernel tables, and what is free between what is in use.",
                "bytes",
            ),
            gauge(
                "podwitness_exposition_memory_bytes",
                &[],
                "Memory that is kept from one scrape to the next for the text of base labels: some 200 bytes for each container with series, a quarter more after some have gone.",
                "bytes",
            ),
            gauge(
                "podwitness_exposition_series",
                &[],
                "Series on this page. A scrape takes 16 bytes for each until the scraper has it all (of a histogram 8 for each bucket).",
                "series",
            ),
            gauge(
                "podwitness_container_series",
                &[],
                "Series of containers on this page, of which there are at most `metrics.series_limit`.",
                "series",
            ),
            Metric {
                bound: "5",
                ..gauge(
                    "podwitness_series_folded",
                    &["detail"],
                    "Series that the limit had no room for, by what was folded so that others count for them: `errno`, `peer`, `syscall`, `container`, `workload`. [Above](#how-many-series-there-can-be) has what that means.",
                    "series",
                )
            },
        ],
    },
];
