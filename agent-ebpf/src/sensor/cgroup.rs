//! Birth and death of cgroups, so that who they are is known before anything happens in them.

use agent_ebpf::contract::{
    cgroup::{CgroupEvent, PATH_LEN},
    event::EventKind,
    stats::SensorId,
};
use aya_ebpf::{Global, macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::kernel::{
    event::{Admission, Ring, fill_header, now_ns, reserve},
    load::{KernelPtr, field, string_to},
    log::trace_event,
    offset, task,
};

/// The hierarchy that counts. `cgrp_dfl_root`, the v2 one, is 0 (kernel/cgroup/cgroup.c); the agent sets another
/// number where there is none.
#[unsafe(no_mangle)]
static HIERARCHY: Global<u32> = Global::new(0);

/// match-proto: `void(struct cgroup *cgrp, const char *path)`
#[btf_tracepoint(function = "cgroup_mkdir")]
fn cgroup_mkdir(ctx: BtfTracePointContext) -> i32 {
    report(&ctx, EventKind::CgroupMkdir)
}

/// match-proto: `void(struct cgroup *cgrp, const char *path)`
#[btf_tracepoint(function = "cgroup_rmdir")]
fn cgroup_rmdir(ctx: BtfTracePointContext) -> i32 {
    report(&ctx, EventKind::CgroupRmdir)
}

#[inline(always)]
fn report(ctx: &BtfTracePointContext, kind: EventKind) -> i32 {
    let cgroup: KernelPtr = ctx.arg(0);
    let path: KernelPtr = ctx.arg(1);
    // SAFETY: the hook's typed argument, and what is loaded through it.
    let (hierarchy, cgroup_id) = unsafe {
        let root: KernelPtr = field(cgroup, &offset::CGROUP_ROOT);
        (field::<u32>(root, &offset::CGROUP_ROOT_HIERARCHY_ID), task::cgroup_of(cgroup))
    };
    if hierarchy != HIERARCHY.load() {
        return 0;
    }
    let now = now_ns();
    let (sensor, admission) = (SensorId::Cgroup, Admission::Always);
    let Some(mut record) = reserve::<CgroupEvent>(sensor, cgroup_id, Ring::Rare, admission, now) else {
        return 0;
    };
    let event = record.as_mut_ptr();
    let current = task::current();
    // SAFETY: the reserved record, every field of which is written; typed pointers.
    unsafe {
        fill_header(
            &raw mut (*event).header,
            kind,
            cgroup_id,
            task::current_ids(current),
            Some(current),
            now,
        );
        (*event).reserved = 0;
        let target = (&raw mut (*event).path).cast::<u8>();
        (*event).path_len = string_to(target, PATH_LEN as u32, path);
    }
    // A container of a few milliseconds has to be named while its runtime still knows it.
    record.submit_waking();
    trace_event!(ctx, "cgroup: {} event {}", cgroup_id, kind as u32);
    0
}
