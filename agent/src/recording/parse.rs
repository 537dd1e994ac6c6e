//! A line of a recording, read back.

use std::sync::Arc;

use agent_ebpf::contract::event::EventKind;
use serde_json::Value;
use thiserror::Error;

use super::details::Containers;
use crate::{
    identity::{Labels, peers::Peer},
    observation::{Argument, Call, Cgroup, Detail, Exec, Exit, Observation, Oom, Process, Tcp, Traffic},
    otlp::Seen,
    sensor::{
        calls, process,
        syscalls::{self, errno_name},
    },
};

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Damage {
    #[error("`{0}` is missing, or is something else than it should be")]
    Field(&'static str),
    #[error("`{value}` is no {field} that this version knows")]
    Unknown { field: &'static str, value: String },
}

/// Everything that a line says, which follows those that were read into the same containers.
pub(super) fn seen(line: &Value, containers: &mut Containers) -> Result<Seen, Damage> {
    let cgroup_id = number(line, "cgroup_id")?;
    let path = line["cgroup_path"].as_str();
    let observation = observation(line)?;
    let container = path.map(|path| containers.of(cgroup_id, path, &observation.labels, line));
    Ok(Seen {
        observation,
        boot_ns: number(line, "boot_ns")?,
        offset_ns: line["offset_ns"].as_i64().ok_or(Damage::Field("offset_ns"))?,
        cgroup_id,
        container,
    })
}

/// An observation as the live stream has it.
pub fn observation(line: &Value) -> Result<Observation, Damage> {
    let name = text(line, "kind")?;
    let kind = EventKind::ALL.into_iter().find(|kind| kind.name() == name);
    let kind = kind.ok_or_else(|| Damage::Unknown { field: "kind", value: name.to_owned() })?;
    let labels = Labels {
        namespace: text(line, "namespace")?.to_owned(),
        workload_kind: text(line, "workload_kind")?.to_owned(),
        workload: text(line, "workload")?.to_owned(),
        pod: text(line, "pod")?.to_owned(),
        container: text(line, "container")?.to_owned(),
    };
    let process = match line.get("pid") {
        None => None,
        Some(_) => Some(Process {
            pid: number(line, "pid")?,
            tid: number(line, "tid")?,
            comm: text(line, "comm")?.into(),
        }),
    };
    let time = text(line, "time")?.parse().map_err(|_| Damage::Field("time"))?;
    Ok(Observation { time, kind, labels: Arc::new(labels), process, detail: detail(kind, line)? })
}

fn detail(kind: EventKind, line: &Value) -> Result<Detail, Damage> {
    Ok(match kind {
        EventKind::ProcessExec => Detail::Exec(Exec {
            ppid: number(line, "ppid")?,
            executable: text(line, "executable")?.to_owned(),
        }),
        EventKind::ProcessExit => Detail::Exit(Exit {
            ppid: number(line, "ppid")?,
            reason: known(line, "reason", &EXITS)?.ok_or(Damage::Field("reason"))?,
            exit_code: small(line, "exit_code"),
            signal: small(line, "signal"),
            core_dumped: line["core_dumped"].as_bool().unwrap_or(false),
            duration: line["duration"].as_f64().ok_or(Damage::Field("duration"))?,
        }),
        EventKind::TcpConnect | EventKind::TcpAccept | EventKind::TcpClose => Detail::Tcp(tcp(line)?),
        EventKind::OomKill => Detail::Oom(oom(line)?),
        EventKind::CgroupMkdir | EventKind::CgroupRmdir => {
            Detail::Cgroup(Cgroup { cgroup: text(line, "cgroup")?.to_owned() })
        }
        EventKind::SyscallSlow | EventKind::SyscallFailed | EventKind::SyscallCall => {
            Detail::Call(Box::new(call(line)?))
        }
    })
}

fn tcp(line: &Value) -> Result<Tcp, Damage> {
    let address = |field| text(line, field)?.parse().map_err(|_| Damage::Field(field));
    let peer = line["peer_workload"].as_str().map(|workload| {
        let namespace = line["peer_namespace"].as_str().unwrap_or_default().into();
        Arc::new(Peer { namespace, workload: workload.into() })
    });
    let errno = match line["errno"].as_str() {
        None => None,
        Some(name) => {
            let errno = (1..=133).filter_map(errno_name).find(|errno| *errno == name);
            Some(errno.ok_or_else(|| Damage::Unknown { field: "errno", value: name.to_owned() })?)
        }
    };
    Ok(Tcp {
        local_address: address("local_address")?,
        local_port: number(line, "local_port")?,
        remote_address: address("remote_address")?,
        remote_port: number(line, "remote_port")?,
        peer,
        duration: line["duration"].as_f64(),
        reason: known(line, "reason", &FAILURES)?,
        errno,
        side: known(line, "side", &SIDES)?,
        netns: number(line, "netns")?,
        traffic: match line.get("sent_bytes") {
            None => None,
            Some(_) => Some(Traffic {
                sent_bytes: number(line, "sent_bytes")?,
                received_bytes: number(line, "received_bytes")?,
                retransmits: number(line, "retransmits")?,
                rtt: line["rtt"].as_f64(),
            }),
        },
    })
}

fn call(line: &Value) -> Result<Call, Damage> {
    let syscall = text(line, "syscall")?.to_owned();
    let mut arguments = Vec::new();
    for (name, value) in line["arguments"].as_object().into_iter().flatten() {
        let known = calls::argument_name(&syscall, name);
        let name = known.ok_or_else(|| Damage::Unknown { field: "arguments", value: name.clone() })?;
        let value = match (value.as_i64(), value.as_str()) {
            (Some(number), _) => Argument::Number(number),
            (None, Some(text)) => Argument::Text(text.to_owned()),
            (None, None) => return Err(Damage::Field("arguments")),
        };
        arguments.push((name, value));
    }
    let remote_address = match line["remote_address"].as_str() {
        None => None,
        Some(address) => Some(address.parse().map_err(|_| Damage::Field("remote_address"))?),
    };
    let port = |field: &str| line[field].as_u64().and_then(|port| port.try_into().ok());
    Ok(Call {
        number: syscalls::number(&syscall).unwrap_or_default(),
        syscall,
        arguments,
        result: line["result"].as_i64(),
        errno: line["errno"].as_str().map(|errno| errno.to_owned().into()),
        duration: line["duration"].as_f64(),
        file: line["file"].as_str().map(str::to_owned),
        protocol: known(line, "protocol", &calls::PROTOCOLS)?,
        local_port: port("local_port"),
        remote_address,
        remote_port: port("remote_port"),
    })
}

fn oom(line: &Value) -> Result<Oom, Damage> {
    Ok(Oom {
        scope: known(line, "scope", &SCOPES)?.ok_or(Damage::Field("scope"))?,
        trigger_pid: number(line, "trigger_pid")?,
        trigger_tid: number(line, "trigger_tid")?,
        trigger_comm: text(line, "trigger_comm")?.into(),
        anon_rss_bytes: number(line, "anon_rss_bytes")?,
        file_rss_bytes: number(line, "file_rss_bytes")?,
        shmem_rss_bytes: number(line, "shmem_rss_bytes")?,
        total_vm_bytes: number(line, "total_vm_bytes")?,
        pgtables_bytes: number(line, "pgtables_bytes")?,
        uid: number(line, "uid")?,
        oom_score_adj: line["oom_score_adj"]
            .as_i64()
            .and_then(|adj| adj.try_into().ok())
            .ok_or(Damage::Field("oom_score_adj"))?,
    })
}

const EXITS: [&str; 4] = [process::COMPLETED, process::ERROR, process::SIGNAL, process::OOM_KILLED];
const FAILURES: [&str; 7] =
    ["refused", "reset", "timed_out", "host_unreachable", "net_unreachable", "aborted", "other"];
const SIDES: [&str; 2] = ["client", "server"];
const SCOPES: [&str; 5] = ["container", "pod", "ancestor", "node", "unknown"];

/// One of a few words, where there is one.
fn known(line: &Value, field: &'static str, words: &[&'static str]) -> Result<Option<&'static str>, Damage> {
    let Some(value) = line[field].as_str() else { return Ok(None) };
    let word = words.iter().copied().find(|word| *word == value);
    word.map(Some).ok_or_else(|| Damage::Unknown { field, value: value.to_owned() })
}

fn text<'l>(line: &'l Value, field: &'static str) -> Result<&'l str, Damage> {
    line[field].as_str().ok_or(Damage::Field(field))
}

fn number<T: TryFrom<u64>>(line: &Value, field: &'static str) -> Result<T, Damage> {
    line[field].as_u64().and_then(|number| number.try_into().ok()).ok_or(Damage::Field(field))
}

fn small(line: &Value, field: &str) -> Option<u8> {
    line[field].as_u64().and_then(|number| number.try_into().ok())
}
