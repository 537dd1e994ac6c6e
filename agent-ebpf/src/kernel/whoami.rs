//! Tells the programs who the agent is.

use aya_ebpf::{
    helpers::generated::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext,
};

use super::shared::CONTROL;

/// Run once by the agent itself (`BPF_PROG_TEST_RUN`), never attached: only the kernel knows the agent's process
/// id in the initial pid namespace when the agent lives in one of its own.
#[raw_tracepoint]
fn whoami(_: RawTracePointContext) -> i32 {
    // SAFETY: memory of ours; the helper takes nothing.
    unsafe { (*CONTROL.at()).self_pid = bpf_get_current_pid_tgid() >> 32 };
    0
}
