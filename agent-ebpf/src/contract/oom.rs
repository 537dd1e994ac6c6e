//! The record of the `oom` sensor.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{COMM_LEN, event::Header};

/// `OomKill`: the kernel chose a victim (`oom:mark_victim`, mm/oom_kill.c). The header is the victim's.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct OomEvent {
    pub header: Header,
    /// Id of the cgroup of the task that ran out of memory and so triggered the kill.
    pub trigger_cgroup_id: u64,
    /// Pages of the victim's address space (`mm->total_vm`).
    pub total_vm_pages: u64,
    /// Resident pages of the victim: anonymous, of files, of shared memory (`mm->rss_stat`).
    pub anon_pages: u64,
    pub file_pages: u64,
    pub shmem_pages: u64,
    /// Bytes of the victim's page tables (`mm->pgtables_bytes`).
    pub pgtables_bytes: u64,
    /// The task that ran out of memory: process, thread and name.
    pub trigger_pid: u32,
    pub trigger_tid: u32,
    pub trigger_comm: [u8; COMM_LEN],
    /// Victim's user id in the initial user namespace.
    pub uid: u32,
    /// Victim's `oom_score_adj`, -1000..=1000.
    pub oom_score_adj: i32,
    /// How far above the victim's own memory cgroup the one lies whose limit was hit (0: its own);
    /// [`LIMIT_NODE`] if none was, [`LIMIT_UNKNOWN`] if this kernel can't tell.
    pub limit_level: i32,
    /// Depth of the victim's own memory cgroup below the root (`css->cgroup->level`).
    pub memcg_depth: i32,
}

const _: () = assert!(size_of::<OomEvent>() == 136);

pub const LIMIT_NODE: i32 = -1;
pub const LIMIT_UNKNOWN: i32 = -2;

/// How many ancestors of the victim's memory cgroup are asked whether their limit was hit.
pub const MAX_LEVELS: i32 = 16;
