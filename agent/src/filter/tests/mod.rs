mod language;
mod mistakes;
mod pushdown;
mod random;

use std::sync::Arc;

use agent_ebpf::contract::event::EventKind;

use crate::{
    identity::{Labels, peers::Peer},
    observation::{Cgroup, Detail, Exec, Exit, Observation, Oom, Process, Tcp},
};

/// An event of each kind, the same every time.
fn events() -> Vec<Observation> {
    EventKind::ALL.into_iter().map(event).collect()
}

fn event(kind: EventKind) -> Observation {
    let labels = Labels {
        namespace: "shop".into(),
        workload_kind: "Deployment".into(),
        workload: "cart".into(),
        pod: "cart-5d9-x2x".into(),
        container: "app".into(),
    };
    Observation {
        time: jiff::Timestamp::UNIX_EPOCH,
        kind,
        labels: Arc::new(labels),
        process: Some(Process { pid: 42, tid: 43, comm: "cart worker".into() }),
        detail: detail(kind),
    }
}

fn detail(kind: EventKind) -> Detail {
    match kind {
        EventKind::ProcessExec => Detail::Exec(Exec { ppid: 1, executable: "/usr/bin/cart".into() }),
        EventKind::ProcessExit => Detail::Exit(Exit {
            ppid: 1,
            reason: "signal",
            exit_code: None,
            signal: Some(11),
            core_dumped: true,
            duration: 90.5,
        }),
        EventKind::TcpConnect => Detail::Tcp(tcp(Some("ECONNREFUSED"))),
        EventKind::TcpAccept | EventKind::TcpClose => Detail::Tcp(tcp(None)),
        EventKind::OomKill => Detail::Oom(Oom {
            scope: "container",
            trigger_pid: 42,
            trigger_tid: 43,
            trigger_comm: "cart".into(),
            anon_rss_bytes: 64 << 20,
            file_rss_bytes: 4096,
            shmem_rss_bytes: 0,
            total_vm_bytes: 1 << 30,
            pgtables_bytes: 8192,
            uid: 1000,
            oom_score_adj: -5,
        }),
        EventKind::CgroupMkdir | EventKind::CgroupRmdir => Detail::Cgroup(Cgroup { cgroup: "/a/b".into() }),
    }
}

fn tcp(errno: Option<&'static str>) -> Tcp {
    Tcp {
        local_address: [10, 0, 0, 7].into(),
        local_port: 40_000,
        remote_address: "2001:db8::1".parse().unwrap(),
        remote_port: 443,
        peer: Some(Arc::new(Peer { namespace: "kube-system".into(), workload: "dns".into() })),
        duration: Some(0.15),
        reason: errno.map(|_| "refused"),
        errno,
        side: Some("client"),
        netns: 7,
    }
}
