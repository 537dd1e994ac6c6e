//! Where fields lie in the kernel's structures: asked from the running kernel's BTF at start, handed to the
//! programs as read-only globals of these names. No offset stands in source.

/// A field whose byte offset a program needs.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The global in the kernel half that receives the offset.
    pub global: &'static str,
    /// `struct.field[.field…]`; anonymous members are descended.
    pub path: &'static str,
    /// Bytes that the program loads: the kernel's field must be as wide.
    pub width: u32,
}

const fn field(global: &'static str, path: &'static str, width: u32) -> Field {
    Field { global, path, width }
}

/// All fields of all programs. A field that a kernel lacks leaves its global at `u64::MAX`: the verifier refuses
/// programs that load through it directly, the agent those that copy through it ([`COPIED`]).
pub const FIELDS: &[Field] = &[
    field("TASK_TGID", "task_struct.tgid", 4),
    field("TASK_PID", "task_struct.pid", 4),
    field("TASK_COMM", "task_struct.comm", 16),
    field("TASK_CGROUPS", "task_struct.cgroups", 8),
    field("TASK_SIGNAL", "task_struct.signal", 8),
    field("TASK_GROUP_LEADER", "task_struct.group_leader", 8),
    field("TASK_REAL_PARENT", "task_struct.real_parent", 8),
    field("TASK_EXIT_CODE", "task_struct.exit_code", 4),
    field("TASK_START_BOOTTIME", "task_struct.start_boottime", 8),
    field("TASK_FLAGS", "task_struct.flags", 4),
    field("TASK_MM", "task_struct.mm", 8),
    field("TASK_REAL_CRED", "task_struct.real_cred", 8),
    field("TASK_FILES", "task_struct.files", 8),
    field("SIGNAL_FLAGS", "signal_struct.flags", 4),
    field("SIGNAL_GROUP_EXIT_CODE", "signal_struct.group_exit_code", 4),
    field("SIGNAL_LIVE", "signal_struct.live", 4),
    field("SIGNAL_OOM_SCORE_ADJ", "signal_struct.oom_score_adj", 2),
    field("CRED_UID", "cred.uid", 4),
    field("CSS_SET_DFL_CGRP", "css_set.dfl_cgrp", 8),
    field("CSS_PARENT", "cgroup_subsys_state.parent", 8),
    field("CSS_CGROUP", "cgroup_subsys_state.cgroup", 8),
    field("CGROUP_KN", "cgroup.kn", 8),
    field("CGROUP_LEVEL", "cgroup.level", 4),
    field("CGROUP_ROOT", "cgroup.root", 8),
    field("CGROUP_ROOT_HIERARCHY_ID", "cgroup_root.hierarchy_id", 4),
    field("KERNFS_NODE_ID", "kernfs_node.id", 8),
    field("MEMCG_OOM_LOCK", "mem_cgroup.oom_lock", 1),
    field("OOM_CONTROL_MEMCG", "oom_control.memcg", 8),
    field("MM_TOTAL_VM", "mm_struct.total_vm", 8),
    field("MM_PGTABLES_BYTES", "mm_struct.pgtables_bytes", 8),
    field("BINPRM_FILENAME", "linux_binprm.filename", 8),
    field("SOCK_FAMILY", "sock.__sk_common.skc_family", 2),
    field("SOCK_NUM", "sock.__sk_common.skc_num", 2),
    field("SOCK_DPORT", "sock.__sk_common.skc_dport", 2),
    field("SOCK_RCV_SADDR", "sock.__sk_common.skc_rcv_saddr", 4),
    field("SOCK_DADDR", "sock.__sk_common.skc_daddr", 4),
    field("SOCK_V6_RCV_SADDR", "sock.__sk_common.skc_v6_rcv_saddr", 16),
    field("SOCK_V6_DADDR", "sock.__sk_common.skc_v6_daddr", 16),
    field("SOCK_NET", "sock.__sk_common.skc_net", 8),
    field("SOCK_PROTOCOL", "sock.sk_protocol", 2),
    field("SOCK_ERR", "sock.sk_err", 4),
    field("SOCK_SOCKET", "sock.sk_socket", 8),
    field("SOCK_OWNED", "sock.sk_lock.owned", 4),
    field("SOCK_FLAGS", "sock.__sk_common.skc_flags", 8),
    field("TCP_BYTES_SENT", "tcp_sock.bytes_sent", 8),
    field("TCP_BYTES_RETRANS", "tcp_sock.bytes_retrans", 8),
    field("TCP_BYTES_RECEIVED", "tcp_sock.bytes_received", 8),
    field("TCP_PACKETS_OUT", "tcp_sock.packets_out", 4),
    field("TCP_TOTAL_RETRANS", "tcp_sock.total_retrans", 4),
    field("TCP_SRTT", "tcp_sock.srtt_us", 4),
    field("TCP_WRITE_SEQ", "tcp_sock.write_seq", 4),
    field("MPTCP_FIRST", "mptcp_sock.first", 8),
    field("SOCK_CGROUP", "sock.sk_cgrp_data.cgroup", 8),
    field("SOCK_MEMCG", "sock.sk_memcg", 8),
    field("MEMCG_CGROUP", "mem_cgroup.css.cgroup", 8),
    field("INET_SOCK_SPORT", "inet_sock.inet_sport", 2),
    field("NET_INUM", "net.ns.inum", 4),
    field("FILES_FDT", "files_struct.fdt", 8),
    field("FDTABLE_MAX_FDS", "fdtable.max_fds", 4),
    field("FDTABLE_FD", "fdtable.fd", 8),
    field("FILE_PRIVATE_DATA", "file.private_data", 8),
    field("SOCKET_SK", "socket.sk", 8),
    field("SOCKET_STATE", "socket.state", 4),
    field("FILE_INODE", "file.f_inode", 8),
    field("FILE_DENTRY", "file.f_path.dentry", 8),
    field("FILE_MNT", "file.f_path.mnt", 8),
    field("INODE_MODE", "inode.i_mode", 2),
    field("INODE_NUMBER", "inode.i_ino", 8),
    field("DENTRY_PARENT", "dentry.d_parent", 8),
    field("DENTRY_NAME", "dentry.d_name.name", 8),
    field("MOUNT_ROOT", "mount.mnt.mnt_root", 8),
    field("MOUNT_PARENT", "mount.mnt_parent", 8),
    field("MOUNT_MOUNTPOINT", "mount.mnt_mountpoint", 8),
    TASK_ABI,
    field("IO_KIOCB_OPCODE", "io_kiocb.opcode", 1),
    field("SUBMIT_REQ_RECORD", "trace_event_raw_io_uring_submit_req.opcode", 1),
    field("REGS_NUMBER", REGS_NUMBER, REGS_NUMBER_WIDTH),
    field("REGS_ARG0", REGS_ARG0, 8),
    field("REGS_IP", "pt_regs.ip", 8),
    field("REGS_CX", "pt_regs.cx", 8),
    field("REGS_R11", "pt_regs.r11", 8),
    field("REGS_FLAGS", "pt_regs.flags", 8),
];

/// Computed from more than one field: `css_set.subsys[memory_cgrp_id]`, and the resident-page counters of
/// `mm_struct.rss_stat` (an array of per-CPU counters since 6.2, of plain ones before). Or no offset at all: what
/// `io_uring_submit_sqe` passes, see `contract::io_uring`.
pub const COMPUTED: &[&str] = &[
    "CSS_SET_MEMORY",
    "MM_ANON_PAGES",
    "MM_FILE_PAGES",
    "MM_SHMEM_PAGES",
    "SUBMIT_PASSES",
    "MOUNT_MNT",
    "REGS_ARG1",
    "REGS_ARG2",
    "REGS_ARG3",
    "REGS_ARG4",
    "REGS_ARG5",
    "REGS_MODE",
];

/// By which the file behind a descriptor is found, and its path: without one of them, calls have no file.
pub const FILE: &[&str] = &[
    "DENTRY_NAME",
    "DENTRY_PARENT",
    "FILE_DENTRY",
    "FILE_INODE",
    "FILE_MNT",
    "INODE_MODE",
    "INODE_NUMBER",
    "MOUNT_MNT",
    "MOUNT_MOUNTPOINT",
    "MOUNT_PARENT",
    "MOUNT_ROOT",
];

/// Globals by program through which it copies with `bpf_probe_read_kernel`, which the verifier can't check: the
/// agent itself refuses the program where one of them was not found.
pub const COPIED: &[(&str, &[&str])] = &[
    ("sys_exit", SYS_EXIT),
    ("sys_exit_classic", SYS_EXIT),
    (
        "mark_victim",
        &[
            "MM_ANON_PAGES",
            "MM_FILE_PAGES",
            "MM_PGTABLES_BYTES",
            "MM_SHMEM_PAGES",
            "MM_TOTAL_VM",
            "SIGNAL_OOM_SCORE_ADJ",
            "TASK_COMM",
        ],
    ),
    ("sched_process_exec", &["TASK_COMM"]),
    ("sched_process_exit", &["SIGNAL_LIVE", "TASK_COMM"]),
    ("cgroup_mkdir", &["TASK_COMM"]),
    ("cgroup_rmdir", &["TASK_COMM"]),
    ("io_uring_submit_sqe", &["IO_KIOCB_OPCODE", "SUBMIT_PASSES"]),
    ("io_uring_submit_req_classic", &["SUBMIT_REQ_RECORD"]),
    ("sys_enter_watch", WATCH),
    ("sys_enter_watch_classic", WATCH),
    ("sys_exit_watch", WATCH),
    ("sys_exit_watch_classic", WATCH),
];

const SYS_EXIT: &[&str] = &[
    "FDTABLE_FD",
    "FDTABLE_MAX_FDS",
    "FILES_FDT",
    "FILE_PRIVATE_DATA",
    "NET_INUM",
    "SOCKET_SK",
    "SOCK_FAMILY",
    "SOCK_NET",
    "SOCK_PROTOCOL",
    "TASK_COMM",
    "TASK_FILES",
    "TCP_WRITE_SEQ",
];
const WATCH: &[&str] = &[
    "FDTABLE_FD",
    "FDTABLE_MAX_FDS",
    "FILES_FDT",
    "FILE_PRIVATE_DATA",
    "INET_SOCK_SPORT",
    "SOCKET_SK",
    "SOCK_DADDR",
    "SOCK_DPORT",
    "SOCK_FAMILY",
    "SOCK_PROTOCOL",
    "SOCK_V6_DADDR",
    "TASK_COMM",
    "TASK_FILES",
];
/// Where the kernel notes that a task is in a call of the 32-bit ABI, and the bit that says so: `TS_COMPAT`
/// (arch/x86/include/asm/thread_info.h), `TIF_32BIT` (arch/arm64/include/asm/thread_info.h).
#[cfg(not(target_arch = "aarch64"))]
const TASK_ABI: Field = field("TASK_ABI", "task_struct.thread_info.status", 4);
#[cfg(not(target_arch = "aarch64"))]
pub const COMPAT_MASK: u32 = 1 << 1;
#[cfg(target_arch = "aarch64")]
const TASK_ABI: Field = field("TASK_ABI", "task_struct.thread_info.flags", 8);
#[cfg(target_arch = "aarch64")]
pub const COMPAT_MASK: u32 = 1 << 22;

/// The number of the call in `pt_regs`, its arguments, and in which mode the processor was. The programs are loaded on the architecture that the agent
/// was built for.
#[cfg(not(target_arch = "aarch64"))]
const REGS_NUMBER: &str = "pt_regs.orig_ax";
#[cfg(not(target_arch = "aarch64"))]
const REGS_NUMBER_WIDTH: u32 = 8;
#[cfg(not(target_arch = "aarch64"))]
const REGS_ARG0: &str = "pt_regs.di";
#[cfg(not(target_arch = "aarch64"))]
pub const REGS_MODE: &str = "pt_regs.cs";
#[cfg(target_arch = "aarch64")]
const REGS_NUMBER: &str = "pt_regs.syscallno";
#[cfg(target_arch = "aarch64")]
const REGS_NUMBER_WIDTH: u32 = 4;
#[cfg(target_arch = "aarch64")]
const REGS_ARG0: &str = "pt_regs.orig_x0";
#[cfg(target_arch = "aarch64")]
pub const REGS_MODE: &str = "pt_regs.pstate";

/// The fields of the other arguments, in their order; or an array of which they are the elements, from 1 on.
#[cfg(not(target_arch = "aarch64"))]
pub const REGS_ARGS: &[&str] = &["pt_regs.si", "pt_regs.dx", "pt_regs.r10", "pt_regs.r8", "pt_regs.r9"];
#[cfg(target_arch = "aarch64")]
pub const REGS_ARGS: &[&str] = &["pt_regs.regs"];

/// The offset in an instruction that loads the first of [`FIELDS`]; of the others, and of [`COMPUTED`] after them, it is as
/// much higher. No structure of ours reaches so far.
pub const FIRST_PLACE: usize = 0x4000;

/// Where the global stands among all of both.
pub const fn place(global: &str) -> usize {
    let mut place = 0;
    while place < FIELDS.len() + COMPUTED.len() {
        let found = if place < FIELDS.len() { FIELDS[place].global } else { COMPUTED[place - FIELDS.len()] };
        if is_same(found.as_bytes(), global.as_bytes()) {
            return place;
        }
        place += 1;
    }
    panic!("an offset that the agent doesn't look up")
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut same = 0;
    while same < one.len() && same < other.len() && one[same] == other[same] {
        same += 1;
    }
    same == one.len() && same == other.len()
}
