//! Offsets of kernel fields, patched by the agent before load; see `contract::offsets`.

use aya_ebpf::Global;

macro_rules! offsets {
    ($($name:ident),* $(,)?) => {
        $(
            #[unsafe(no_mangle)]
            pub(crate) static $name: Global<u64> = Global::new(u64::MAX);
        )*
    };
}

offsets! {
    TASK_ABI,
    TASK_TGID,
    TASK_PID,
    TASK_COMM,
    TASK_CGROUPS,
    TASK_SIGNAL,
    TASK_GROUP_LEADER,
    TASK_REAL_PARENT,
    TASK_EXIT_CODE,
    TASK_START_BOOTTIME,
    TASK_MM,
    TASK_REAL_CRED,
    TASK_FILES,
    SIGNAL_FLAGS,
    SIGNAL_GROUP_EXIT_CODE,
    SIGNAL_LIVE,
    SIGNAL_OOM_SCORE_ADJ,
    CRED_UID,
    CSS_SET_DFL_CGRP,
    CSS_PARENT,
    CSS_CGROUP,
    CGROUP_KN,
    CGROUP_LEVEL,
    CGROUP_ROOT,
    CGROUP_ROOT_HIERARCHY_ID,
    KERNFS_NODE_ID,
    MEMCG_OOM_LOCK,
    OOM_CONTROL_MEMCG,
    MM_TOTAL_VM,
    MM_PGTABLES_BYTES,
    BINPRM_FILENAME,
    SOCK_FAMILY,
    SOCK_DPORT,
    SOCK_RCV_SADDR,
    SOCK_DADDR,
    SOCK_V6_RCV_SADDR,
    SOCK_V6_DADDR,
    SOCK_NET,
    SOCK_PROTOCOL,
    SOCK_ERR,
    SOCK_OWNED,
    SOCK_CGROUP,
    SOCK_MEMCG,
    MEMCG_CGROUP,
    INET_SOCK_SPORT,
    NET_INUM,
    FILES_FDT,
    FDTABLE_MAX_FDS,
    FDTABLE_FD,
    FILE_PRIVATE_DATA,
    SOCKET_SK,
    IO_KIOCB_OPCODE,
    SUBMIT_REQ_RECORD,
    REGS_NUMBER,
    REGS_ARG0,
    REGS_ARG1,
    CSS_SET_MEMORY,
    MM_ANON_PAGES,
    MM_FILE_PAGES,
    MM_SHMEM_PAGES,
    SUBMIT_PASSES,
}
