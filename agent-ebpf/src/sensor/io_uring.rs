//! io_uring: rings and the requests submitted to them, counted in the kernel, per container.
//!
//! A request is counted when the kernel has taken it from the ring, by the task that submits it: the one in
//! io_uring_enter(2), or the kernel's thread that polls the ring (`IORING_SETUP_SQPOLL`). The latter is a thread of
//! the process that made the ring (`create_io_thread`, kernel/fork.c, since 5.12), with its process id and its
//! cgroup, and moves with it. Before, it was the kernel's own and nobody could be told by it: there the agent leaves
//! the submissions alone.
//!
//! Submissions happen in tasks alone, with preemption disabled until 7.0: nothing interrupts an increment that could
//! write to the same counter, so none is atomic. Later kernels let tasks preempt these hooks, and refuse to run a
//! program that is under way on the CPU; there the classic tracepoints are taken, as for system calls.

use agent_ebpf::contract::{
    io_uring::{OPCODE_MASK, RequestBank, opcode_index, submit_passes},
    slot::EXCLUDED,
    stats::SensorId,
};
use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::bpf_get_smp_processor_id,
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};

use crate::kernel::{
    event::{bump, stats},
    load::{KernelPtr, at, copied, field, masked},
    maps::{REQUESTS, SLOTS},
    offset, slot, task,
};

/// match-proto: `void(int fd, void *ctx, u32 sq_entries, u32 cq_entries, u32 flags)`
#[btf_tracepoint(function = "io_uring_create")]
fn io_uring_create(_ctx: BtfTracePointContext) -> i32 {
    created();
    0
}

#[tracepoint(category = "io_uring", name = "io_uring_create")]
fn io_uring_create_classic(_ctx: TracePointContext) -> u32 {
    created();
    0
}

/// match-proto: `void(struct io_kiocb *req)`
#[btf_tracepoint(function = "io_uring_submit_req")]
fn io_uring_submit_req(ctx: BtfTracePointContext) -> i32 {
    let request: KernelPtr = ctx.arg(0);
    // SAFETY: the hook's typed argument.
    submitted(unsafe { field(request, &offset::IO_KIOCB_OPCODE) });
    0
}

#[tracepoint(category = "io_uring", name = "io_uring_submit_req")]
fn io_uring_submit_req_classic(ctx: TracePointContext) -> u32 {
    // Through the helper: the verifier allows direct loads from a record at offsets that the compiler knows only.
    let record: KernelPtr = ctx.as_ptr().cast();
    submitted(at(record.wrapping_add(offset::SUBMIT_REQ_RECORD.load() as usize)));
    0
}

/// The same in kernels before 6.5; see [`submit_passes`].
///
/// match-proto: `void(struct io_kiocb *req, bool force_nonblock)`, before 6.0 `void(void *ctx, void *req, …)`
#[btf_tracepoint(function = "io_uring_submit_sqe")]
fn io_uring_submit_sqe(ctx: BtfTracePointContext) -> i32 {
    // Both at once: a choice between their addresses is one that the verifier can't follow.
    let (first, second): (KernelPtr, KernelPtr) = (ctx.arg(0), ctx.arg(1));
    submitted(match offset::SUBMIT_PASSES.load() {
        // SAFETY: the hook's typed argument where it passes the request first.
        submit_passes::REQUEST => unsafe { field(first, &offset::IO_KIOCB_OPCODE) },
        _ => copied(second, &offset::IO_KIOCB_OPCODE),
    });
    0
}

#[inline(always)]
fn created() {
    if let Some(bank) = bank() {
        // SAFETY: this CPU's counter, which only this hook writes to.
        unsafe { (*bank).rings += 1 };
    }
}

#[inline(always)]
fn submitted(opcode: u8) {
    if let Some(bank) = bank() {
        let index = masked::<OPCODE_MASK>(opcode_index(opcode) as u64);
        // SAFETY: this CPU's counter, which only this hook writes to; the index is masked.
        unsafe { *(&raw mut (*bank).submitted).cast::<u64>().add(index) += 1 };
    }
}

/// The counters of the current task's container on this CPU; `None`, and counted, if nobody wants to observe it.
#[inline(always)]
fn bank() -> Option<*mut RequestBank> {
    let task = task::current();
    let slot = slot::of(task::current_cgroup_id(task));
    if slot == EXCLUDED || task::is_self(task::current_pid(task)) {
        // SAFETY: a counter in our map, which both hooks add to.
        unsafe { bump(&raw mut (*stats(SensorId::IoUring)).filtered) };
        return None;
    }
    // SAFETY: the helper takes nothing.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    REQUESTS.get_ptr_mut(cpu * SLOTS.load() + slot)
}
