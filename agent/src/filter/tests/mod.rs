mod language;
mod mistakes;
mod pushdown;
mod random;

use std::sync::Arc;

use agent_ebpf::contract::event::EventKind;

use crate::{
    identity::{Labels, peers::Peer},
    observation::{Argument, Call, Cgroup, Detail, Exec, Exit, Observation, Oom, Process, Tcp},
    sensor::syscalls::number,
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
        EventKind::SyscallSlow | EventKind::SyscallFailed | EventKind::SyscallCall => {
            Detail::Call(Box::new(call((kind == EventKind::SyscallFailed).then_some("ENOENT"))))
        }
        EventKind::CgroupMkdir | EventKind::CgroupRmdir => Detail::Cgroup(Cgroup { cgroup: "/a/b".into() }),
    }
}

fn call(errno: Option<&'static str>) -> Call {
    Call {
        syscall: "openat".into(),
        number: number("openat").unwrap(),
        arguments: vec![("dirfd", Argument::Text("AT_FDCWD".into())), ("mode", Argument::Number(0))],
        result: errno.is_none().then_some(42),
        errno: errno.map(Into::into),
        duration: Some(1.5),
        file: Some("/a/b".into()),
        protocol: Some("tcp"),
        local_port: Some(40_000),
        remote_address: Some([10, 0, 0, 7].into()),
        remote_port: Some(443),
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
        traffic: None,
    }
}
