//! Every option there is. File, environment, flags, help, documentation and `podwitness config` all follow
//! from this one table.

use std::time::Duration;

use super::choices::{
    DAY, HIERARCHIES, HOUR, LEVELS, MILLISECOND, MODES, OTLP_COMPRESSIONS, OTLP_PROTOCOLS, POLL_MAX, SECOND,
    SYSCALLS_HOOKS, SYSCALLS_MODES,
};
use super::kind::{
    Address, Choice, Cidrs, Details, Errnos, Form, Given, ModesByNamespace, Namespaces, Number, Ratio, Size,
    SlowCalls, Socket, Span, Switch,
};
use super::spec::OptionSpec;

/// Options of one section stand together.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        key: "metrics.listen",
        default: "0.0.0.0:9481",
        doc: "Where Prometheus finds /metrics.",
        kind: &Address { field: |config| &mut config.metrics.listen },
    },
    OptionSpec {
        key: "metrics.grace",
        default: "10m",
        doc: "How long the series of a container that is gone stay: for several scrapes, and longer than the kubelet's \
              longest wait for a restart (5m). Else last values are missed, and crash loops count from 1 again, unseen by alerts. These series count in metrics.series_limit.",
        kind: &Span { min: Duration::ZERO, max: DAY, field: |config| &mut config.metrics.grace },
    },
    OptionSpec {
        key: "metrics.series_limit",
        default: "20000",
        doc: "Series of all containers together on /metrics. Near it, what is new loses detail: errnos, peers, system \
              calls, containers, workloads become `other`, in this order. Sums stay exact. 0 is no limit.",
        kind: &Number { min: 0, max: 100_000_000, field: |config| &mut config.metrics.series_limit },
    },
    OptionSpec {
        key: "metrics.detail",
        default: "all",
        doc: "What the series of a workload are told apart by; what is left out is summed up. With `syscall` go the \
              classes of calls and the opcodes of io_uring, with `container` the pod.",
        kind: &Details { field: |config| &mut config.metrics.detail },
    },
    OptionSpec {
        key: "debug.listen",
        default: "127.0.0.1:9482",
        doc: "Where the page, the live events and the state of the agent are served. Whoever reaches it sees what \
              every pod on the node does, so any address but loopback needs a token (debug.token_file). `kubectl \
              port-forward` reaches loopback.",
        kind: &Address { field: |config| &mut config.debug.listen },
    },
    OptionSpec {
        key: "debug.token_file",
        default: "none",
        doc: "File with the token that readers of debug.listen have to show, 16 bytes or more: `Authorization: Bearer \
              TOKEN`, or as the password that a browser asks for. It is read for each request, so that it can be \
              replaced while the agent runs. Without debug.tls_certificate_file it goes unencrypted over the network.",
        kind: &Given {
            nothing: "none",
            form: Form::AbsolutePath,
            field: |config| &mut config.debug.token_file,
        },
    },
    OptionSpec {
        key: "debug.tls_certificate_file",
        default: "none",
        doc: "PEM file with the certificate that debug.listen shows, and those above it; with it, the listener speaks \
              HTTPS and nothing else. It is looked at for each connection, so that it can be replaced while the agent \
              runs, as Kubernetes does with a mounted Secret. Both files have to be readable for the agent's user \
              without any capability.",
        kind: &Given {
            nothing: "none",
            form: Form::AbsolutePath,
            field: |config| &mut config.debug.tls_certificate_file,
        },
    },
    OptionSpec {
        key: "debug.tls_key_file",
        default: "none",
        doc: "PEM file with the private key of debug.tls_certificate_file, not encrypted.",
        kind: &Given {
            nothing: "none",
            form: Form::AbsolutePath,
            field: |config| &mut config.debug.tls_key_file,
        },
    },
    OptionSpec {
        key: "debug.buffer",
        default: "4096",
        doc: "Events kept for a slow reader of /v1/events before it loses some. It is told how many.",
        kind: &Number { min: 16, max: 1 << 20, field: |config| &mut config.debug.buffer },
    },
    OptionSpec {
        key: "debug.clients",
        default: "64",
        doc: "Readers of /v1/events at once. One more is turned away.",
        kind: &Number { min: 1, max: 4096, field: |config| &mut config.debug.clients },
    },
    OptionSpec {
        key: "debug.replay",
        default: "1024",
        doc: "Events kept for readers of /v1/events who lost their connection and come back, or who ask for a moment \
              ago. They are kept while somebody reads, and for a minute after the last one has gone; without any, \
              no event is even looked at. 0 keeps none.",
        kind: &Number { min: 0, max: 1 << 20, field: |config| &mut config.debug.replay },
    },
    OptionSpec {
        key: "debug.deaths",
        default: "512",
        doc: "OOM kills and processes that ended badly that /v1/containers remembers, all containers together; one \
              container gets a sixteenth at most. They are kept whether anybody reads or not. 0 keeps none.",
        kind: &Number { min: 0, max: 1 << 16, field: |config| &mut config.debug.deaths },
    },
    OptionSpec {
        key: "sensors.syscalls",
        default: "true",
        doc: "Whether system calls are counted and timed, per container.",
        kind: &Switch { field: |config| &mut config.sensors.syscalls },
    },
    OptionSpec {
        key: "sensors.syscalls_hook",
        default: "auto",
        doc: "Where system calls are seen: at BTF-typed tracepoints, which cost least, at classic ones, \
              which need tracefs, or at raw ones, which need no BTF. Auto takes the classic ones on Linux 7.0 and \
              later, where tasks can preempt the others, so that calls would be missed. Where the kernel has no BTF, \
              the raw ones are taken whatever stands here.",
        kind: &Choice { names: SYSCALLS_HOOKS, field: |config| &mut config.sensors.syscalls_hook },
    },
    OptionSpec {
        key: "sensors.syscalls_mode",
        default: "default",
        doc: "How system calls are measured. They are counted exactly, with their errors, in all modes. `counts` \
              leaves it at that. `default` also times every call that sleeps or takes two ticks of the kernel's clock \
              (8 ms at 250 Hz), and of the others one of 16, which then stands for 16. `full` times every call.",
        kind: &Choice { names: SYSCALLS_MODES, field: |config| &mut config.sensors.syscalls_mode },
    },
    OptionSpec {
        key: "sensors.syscalls_modes",
        default: "none",
        doc: "The same for single Kubernetes namespaces, from the moment on at which a container's namespace is known.",
        kind: &ModesByNamespace { field: |config| &mut config.sensors.syscalls_modes },
    },
    OptionSpec {
        key: "sensors.io_uring",
        default: "true",
        doc: "Whether the rings of io_uring and the requests submitted to them are counted, per container.",
        kind: &Switch { field: |config| &mut config.sensors.io_uring },
    },
    OptionSpec {
        key: "sensors.tcp",
        default: "true",
        doc: "Whether TCP connections are watched.",
        kind: &Switch { field: |config| &mut config.sensors.tcp },
    },
    OptionSpec {
        key: "sensors.oom",
        default: "true",
        doc: "Whether kills by the kernel for lack of memory are watched.",
        kind: &Switch { field: |config| &mut config.sensors.oom },
    },
    OptionSpec {
        key: "sensors.process",
        default: "true",
        doc: "Whether the start and the end of processes are watched.",
        kind: &Switch { field: |config| &mut config.sensors.process },
    },
    OptionSpec {
        key: "sensors.cgroup",
        default: "true",
        doc: "Whether control groups are watched as they come and go. Without it a new container is known \
              only after the next scan (identity.scan_interval) or its first event.",
        kind: &Switch { field: |config| &mut config.sensors.cgroup },
    },
    OptionSpec {
        key: "sensors.calls",
        default: "true",
        doc: "Whether single system calls become events: slow and failed ones by themselves (which takes \
              sensors.syscalls), others while somebody asks for them by name at /v1/events.",
        kind: &Switch { field: |config| &mut config.sensors.calls },
    },
    OptionSpec {
        key: "sensors.calls_slow",
        default: "file=1s,memory=1s,open=1s,stat=1s,write=1s",
        doc: "How long a system call takes to be a slow one, by class or by its own name, which counts more; `off` takes one out \
              of its class. Calls that wait by their nature (futex, poll, epoll_wait, nanosleep, wait4, accept, recv, \
              ioctl, …) belong to no class here, only to their own name; nor should read be one, unless nobody reads \
              from idle sockets. Only calls that are timed can be slow: none where sensors.syscalls_mode is \
              counts, and in mode default below two ticks of the kernel's clock only those that sleep.",
        kind: &SlowCalls { field: |config| &mut config.sensors.calls_slow },
    },
    OptionSpec {
        key: "sensors.calls_failed",
        default: "EDQUOT,EIO,EMFILE,ENFILE,ENOMEM,ENOSPC",
        doc: "Errors that make a system call an event: those that say that something has run out or is broken.",
        kind: &Errnos { field: |config| &mut config.sensors.calls_failed },
    },
    OptionSpec {
        key: "sensors.calls_paths",
        default: "false",
        doc: "Whether slow and failed calls show the path in their arguments, up to 127 bytes of it. Paths may \
              tell more than everybody should know. The files that are open are told in any case.",
        kind: &Switch { field: |config| &mut config.sensors.calls_paths },
    },
    OptionSpec {
        key: "sensors.calls_rate",
        default: "10",
        doc: "Slow and failed calls per second and container that become events, and ten times as many at once. \
              What exceeds it is counted as throttled. Calls that somebody asks for have events.rate alone.",
        kind: &Number { min: 1, max: 100_000, field: |config| &mut config.sensors.calls_rate },
    },
    OptionSpec {
        key: "observe.namespaces",
        default: "all",
        doc: "Kubernetes namespaces whose pods are observed. What is no pod is observed all the same.",
        kind: &Namespaces { empty: "all", field: |config| &mut config.observe.namespaces },
    },
    OptionSpec {
        key: "observe.exclude_namespaces",
        default: "none",
        doc: "Kubernetes namespaces whose pods are left alone: the kernel programs pass over them, and nothing \
              of them is shown. A single pod, or a namespace for all its pods, says \
              so itself with the label or annotation podwitness.dev/observe set to \"false\"; the pod's own \
              word counts more.",
        kind: &Namespaces { empty: "none", field: |config| &mut config.observe.exclude_namespaces },
    },
    OptionSpec {
        key: "events.rate",
        default: "100000",
        doc: "Events per second and container, on average. What exceeds it is dropped in the kernel and \
              counted as throttled for that container, so that a noisy one can't silence the others. 0 is \
              no limit.",
        kind: &Number { min: 0, max: 10_000_000, field: |config| &mut config.events.rate },
    },
    OptionSpec {
        key: "events.burst",
        default: "200000",
        doc: "Events that a container may cause at once after it was quiet, beyond its average \
              (events.rate).",
        kind: &Number { min: 1, max: 10_000_000, field: |config| &mut config.events.burst },
    },
    OptionSpec {
        key: "ring.size",
        default: "4MiB",
        doc: "Bytes of the ring buffer that brings the bulk of the events from the kernel. A larger one \
              survives longer bursts; what doesn't fit is counted as lost.",
        kind: &Size { min: 4096, max: 1 << 30, ring: true, field: |config| &mut config.ring.size },
    },
    OptionSpec {
        key: "ring.rare_size",
        default: "1MiB",
        doc: "Bytes of the ring buffer for what is rare and precious: OOM kills, exits, failed connects, \
              control groups. A control group that comes or goes takes 576 bytes, so that 1 MiB holds 900 pods \
              with one container each that come at once.",
        kind: &Size { min: 4096, max: 1 << 30, ring: true, field: |config| &mut config.ring.rare_size },
    },
    OptionSpec {
        key: "ring.poll_min",
        default: "1ms",
        doc: "Time between two looks at the ring buffers while somebody reads the live stream.",
        kind: &Span { min: MILLISECOND, max: POLL_MAX, field: |config| &mut config.ring.poll_min },
    },
    OptionSpec {
        key: "ring.poll_max",
        default: "500ms",
        doc: "Time between two looks at the ring buffers while nobody reads the live stream. Who asks for metrics or \
              containers has the agent look at once, and so has the kernel before they are full. Not below \
              ring.poll_min.",
        kind: &Span { min: MILLISECOND, max: POLL_MAX, field: |config| &mut config.ring.poll_max },
    },
    OptionSpec {
        key: "ring.look_timeout",
        default: "1s",
        doc: "How long a page of metrics, or a list of containers, waits until the ring buffers have been looked at. \
              Past that it shows what is known, and podwitness_ring_looks_late_total counts it.",
        kind: &Span {
            min: MILLISECOND,
            max: Duration::from_secs(10),
            field: |config| &mut config.ring.look_timeout,
        },
    },
    OptionSpec {
        key: "limits.slots",
        default: "256",
        doc: "Containers whose system calls are told apart at once. Those beyond it are counted together.",
        kind: &Number { min: 2, max: 65535, field: |config| &mut config.limits.slots },
    },
    OptionSpec {
        key: "limits.map_memory",
        default: "64MiB",
        doc: "Bytes of kernel memory that all tables and rings may take together. There are fewer slots than \
              limits.slots where they don't fit beside the others, but at least two.",
        kind: &Size {
            min: 16 << 20,
            max: 16 << 30,
            ring: false,
            field: |config| &mut config.limits.map_memory,
        },
    },
    OptionSpec {
        key: "limits.containers",
        default: "10000",
        doc: "Containers remembered, alive and dead.",
        kind: &Number { min: 16, max: 1_000_000, field: |config| &mut config.limits.containers },
    },
    OptionSpec {
        key: "limits.sockets",
        default: "16384",
        doc: "TCP sockets tracked at once. The table has room for a quarter more: those that are gone wait there.",
        kind: &Number { min: 16, max: 1 << 24, field: |config| &mut config.limits.sockets },
    },
    OptionSpec {
        key: "limits.tasks",
        default: "16384",
        doc: "Tasks that sleep in a system call at once, on Linux before 6.4 or without BTF; others keep with each task \
              what belongs to it. Calls of those beyond it, the longest asleep first, are counted as untimed.",
        kind: &Number { min: 128, max: 1 << 22, field: |config| &mut config.limits.tasks },
    },
    OptionSpec {
        key: "limits.engine_sockets",
        default: "32",
        doc: "Sockets of Docker, and of podman, that are asked for names: one of root, and one of each user who is \
              logged in. Those beyond it are left out. One user's engine may name as many containers as half of \
              limits.containers divided by this.",
        kind: &Number { min: 1, max: 1024, field: |config| &mut config.limits.engine_sockets },
    },
    OptionSpec {
        key: "limits.peers",
        default: "100000",
        doc: "Addresses that are known by name. Those beyond it are told by the network that they lie in.",
        kind: &Number { min: 16, max: 10_000_000, field: |config| &mut config.limits.peers },
    },
    OptionSpec {
        key: "limits.peers_per_container",
        default: "64",
        doc: "Kubernetes Services that one container's TCP counters tell apart as peers. Others are `other`.",
        kind: &Number { min: 0, max: 10_000, field: |config| &mut config.limits.peers_per_container },
    },
    OptionSpec {
        key: "identity.hierarchy",
        default: "auto",
        doc: "Whose control groups tell containers apart: those of v2, also where v1 has the controllers, or \
              those of the v1 memory controller. Auto takes v2 where it is mounted.",
        kind: &Choice { names: HIERARCHIES, field: |config| &mut config.identity.hierarchy },
    },
    OptionSpec {
        key: "identity.hold",
        default: "10s",
        doc: "How long the container of an unknown control group is looked for before its events count as \
              unknown.",
        kind: &Span {
            min: Duration::ZERO,
            max: Duration::from_secs(300),
            field: |config| &mut config.identity.hold,
        },
    },
    OptionSpec {
        key: "identity.scan_interval",
        default: "30s",
        doc: "Time between two walks over the control group tree, which find what was missed and what is \
              gone.",
        kind: &Span { min: SECOND, max: HOUR, field: |config| &mut config.identity.scan_interval },
    },
    OptionSpec {
        key: "identity.kubernetes",
        default: "auto",
        doc: "Whether the Kubernetes API is asked for the pods of this node and what they belong to. `auto` \
              asks if the agent runs in a pod with a service account's token, or identity.kubeconfig is set. \
              Its ClusterRole needs list and watch on pods; list and watch on namespaces, for those that \
              decline to be observed; get on replicasets (apps) and jobs (batch), for what pods belong to. \
              `podwitness doctor` says which of these lacks.",
        kind: &Choice { names: MODES, field: |config| &mut config.identity.kubernetes },
    },
    OptionSpec {
        key: "identity.kubeconfig",
        default: "none",
        doc: "File that tells how to reach the Kubernetes API. Without it the pod's service account does.",
        kind: &Given {
            nothing: "none",
            form: Form::AbsolutePath,
            field: |config| &mut config.identity.kubeconfig,
        },
    },
    OptionSpec {
        key: "identity.node_name",
        default: "auto",
        doc: "What the Kubernetes API calls this node. `auto` is the environment variable NODE_NAME, which \
              the pod's template should take from the field spec.nodeName, else the host's name.",
        kind: &Given {
            nothing: "auto",
            form: Form::NodeName,
            field: |config| &mut config.identity.node_name,
        },
    },
    OptionSpec {
        key: "identity.cri_socket",
        default: "auto",
        doc: "Where the container runtime tells the names of pods and containers, which is only read. \
              `auto` takes the first that answers of containerd, K3s, k0s, MicroK8s, CRI-O and cri-dockerd \
              at their usual places.",
        kind: &Socket { field: |config| &mut config.identity.cri_socket },
    },
    OptionSpec {
        key: "identity.cri_interval",
        default: "10s",
        doc: "Time between two lists of a container runtime that doesn't report changes; one that does is \
              listed six times less often. A container that nobody knows yet is looked for at once.",
        kind: &Span { min: SECOND, max: HOUR, field: |config| &mut config.identity.cri_interval },
    },
    OptionSpec {
        key: "identity.docker_socket",
        default: "auto",
        doc: "Where Docker tells the names of containers, which is only read. `auto` takes /run/docker.sock, and \
              docker.sock in /run/user/UID of every user who is logged in.",
        kind: &Socket { field: |config| &mut config.identity.docker_socket },
    },
    OptionSpec {
        key: "identity.podman_socket",
        default: "auto",
        doc: "The same for podman. `auto` takes /run/podman/podman.sock, and podman/podman.sock in /run/user/UID \
              of every user who is logged in. Where systemd starts podman's service for whoever asks, it runs for \
              as long as the agent listens.",
        kind: &Socket { field: |config| &mut config.identity.podman_socket },
    },
    OptionSpec {
        key: "peers.kubernetes",
        default: "false",
        doc: "Whether the Kubernetes API is asked for the addresses of the whole cluster, so that the other ends of \
              TCP connections go by the names of their Services. Each agent then watches all EndpointSlices, \
              Services and Nodes, which its ClusterRole must allow. The API is reached as for the pods \
              (identity.kubeconfig).",
        kind: &Switch { field: |config| &mut config.peers.kubernetes },
    },
    OptionSpec {
        key: "peers.cidrs",
        default: "none",
        doc: "Names for networks outside of the cluster, by which the other ends of TCP connections are shown \
              (peer_workload). Of several networks around an address the narrowest counts.",
        kind: &Cidrs { field: |config| &mut config.peers.cidrs },
    },
    OptionSpec {
        key: "otlp.endpoint",
        default: "none",
        doc: "Collector that logs, spans and metrics are sent to by OTLP, such as http://localhost:4318; none sends \
              nothing and costs nothing. With https, TLS is used. docs/otlp.md tells what is sent, and which of \
              OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT and its kin) say the same as these options.",
        kind: &Given { nothing: "none", form: Form::Url, field: |config| &mut config.otlp.endpoint },
    },
    OptionSpec {
        key: "otlp.protocol",
        default: "http/protobuf",
        doc: "How the collector is spoken to. Its usual ports are 4318 for http/protobuf and 4317 for grpc.",
        kind: &Choice { names: OTLP_PROTOCOLS, field: |config| &mut config.otlp.protocol },
    },
    OptionSpec {
        key: "otlp.compression",
        default: "gzip",
        doc: "How what is sent is compressed. Not every collector knows zstd.",
        kind: &Choice { names: OTLP_COMPRESSIONS, field: |config| &mut config.otlp.compression },
    },
    OptionSpec {
        key: "otlp.certificate",
        default: "none",
        doc: "PEM file with the certificates of the authorities that the collector's must come from. None trusts \
              those that the system trusts.",
        kind: &Given {
            nothing: "none",
            form: Form::AbsolutePath,
            field: |config| &mut config.otlp.certificate,
        },
    },
    OptionSpec {
        key: "otlp.client_certificate",
        default: "none",
        doc: "PEM file with the certificate that the agent shows to the collector (mTLS), and those above it.",
        kind: &Given {
            nothing: "none",
            form: Form::AbsolutePath,
            field: |config| &mut config.otlp.client_certificate,
        },
    },
    OptionSpec {
        key: "otlp.client_key",
        default: "none",
        doc: "PEM file with the private key of otlp.client_certificate.",
        kind: &Given {
            nothing: "none",
            form: Form::AbsolutePath,
            field: |config| &mut config.otlp.client_key,
        },
    },
    OptionSpec {
        key: "otlp.logs",
        default: "true",
        doc: "Whether OOM kills and ends of containers and processes are sent as logs.",
        kind: &Switch { field: |config| &mut config.otlp.logs },
    },
    OptionSpec {
        key: "otlp.traces",
        default: "true",
        doc: "Whether connections, processes and containers are sent as spans.",
        kind: &Switch { field: |config| &mut config.otlp.traces },
    },
    OptionSpec {
        key: "otlp.metrics",
        default: "true",
        doc: "Whether what /metrics shows is sent, too.",
        kind: &Switch { field: |config| &mut config.otlp.metrics },
    },
    OptionSpec {
        key: "otlp.timeout",
        default: "10s",
        doc: "How long the collector may take to answer. Half of it may go by until there is a connection.",
        kind: &Span {
            min: Duration::from_millis(10),
            max: Duration::from_secs(300),
            field: |config| &mut config.otlp.timeout,
        },
    },
    OptionSpec {
        key: "otlp.retry_for",
        default: "1m",
        doc: "How long the same batch is tried again while the collector can't be reached or says that it is busy. \
              Then it is dropped and counted.",
        kind: &Span { min: Duration::ZERO, max: HOUR, field: |config| &mut config.otlp.retry_for },
    },
    OptionSpec {
        key: "otlp.queue",
        default: "2048",
        doc: "Logs, and spans, that wait to be sent. Those beyond it are dropped and counted.",
        kind: &Number { min: 1, max: 1 << 20, field: |config| &mut config.otlp.queue },
    },
    OptionSpec {
        key: "otlp.batch",
        default: "512",
        doc: "Logs or spans, or series of metrics, that are sent in one request.",
        kind: &Number { min: 1, max: 1 << 16, field: |config| &mut config.otlp.batch },
    },
    OptionSpec {
        key: "otlp.delay",
        default: "1s",
        doc: "How long a log or span may wait for others to fill its batch.",
        kind: &Span {
            min: MILLISECOND,
            max: Duration::from_secs(300),
            field: |config| &mut config.otlp.delay,
        },
    },
    OptionSpec {
        key: "otlp.metrics_interval",
        default: "1m",
        doc: "Time between two times that metrics are sent.",
        kind: &Span { min: SECOND, max: HOUR, field: |config| &mut config.otlp.metrics_interval },
    },
    OptionSpec {
        key: "otlp.slow",
        default: "1s",
        doc: "Connects that take at least so long are slow: their spans are sent always.",
        kind: &Span { min: Duration::ZERO, max: HOUR, field: |config| &mut config.otlp.slow },
    },
    OptionSpec {
        key: "otlp.sample_ratio",
        default: "1",
        doc: "Which part of the spans of what went well is sent. Spans of failures, of slow connects, and of what \
              belongs to a death are sent always.",
        kind: &Ratio { field: |config| &mut config.otlp.sample_ratio },
    },
    OptionSpec {
        key: "otlp.sample_rate",
        default: "100",
        doc: "Spans per second and workload, on average, of what went well; what exceeds it is not sent and counted. \
              0 is no limit.",
        kind: &Number { min: 0, max: 1_000_000, field: |config| &mut config.otlp.sample_rate },
    },
    OptionSpec {
        key: "otlp.tracked",
        default: "16384",
        doc: "Processes, and open connections, whose beginnings are remembered for their spans. Of those beyond it \
              the oldest are forgotten; their spans begin when their end says so, or are as short as their end.",
        kind: &Number { min: 16, max: 1 << 20, field: |config| &mut config.otlp.tracked },
    },
    OptionSpec {
        key: "otlp.well_known_labels",
        default: "false",
        doc: "Whether a pod's labels app.kubernetes.io/instance, name and version tell the name and the version of its \
              service. Its annotations resource.opentelemetry.io/service.name and service.version count more.",
        kind: &Switch { field: |config| &mut config.otlp.well_known_labels },
    },
    OptionSpec {
        key: "log.level",
        default: "info",
        doc: "The least severe messages that the agent writes about itself to standard error.",
        kind: &Choice { names: LEVELS, field: |config| &mut config.log.level },
    },
];

/// The options of each section, in the order of the table.
pub(super) fn sections() -> impl Iterator<Item = &'static [OptionSpec]> {
    OPTIONS.chunk_by(|one, next| one.section() == next.section())
}
