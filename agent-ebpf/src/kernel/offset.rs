//! Offsets of kernel fields, patched by the agent before load; see `contract::offsets`.

use agent_ebpf::contract::offsets::{FIRST_PLACE, place};
use aya_ebpf::Global;

use super::load::KernelPtr;

/// An offset, and its place among all.
#[repr(transparent)]
pub(crate) struct Offset<const PLACE: usize>(Global<u64>);

impl<const PLACE: usize> Offset<PLACE> {
    const UNKNOWN: Self = Self(Global::new(u64::MAX));

    #[inline(always)]
    pub(crate) fn load(&self) -> u64 {
        self.0.load()
    }
}

/// A field of the kernel's, whose offset it is.
pub(crate) trait Field {
    fn offset(&self) -> usize;

    /// A load in one instruction, which says the place until the agent puts the offset there.
    ///
    /// # Safety
    ///
    /// As for [`field`](super::load::field).
    unsafe fn through<T: Copy>(&self, base: KernelPtr) -> T;
}

macro_rules! load {
    ($width:literal, $base:ident) => {{
        let value: u64;
        core::arch::asm!(
            concat!("{value} = *(", $width, " *)({base} + {place})"),
            value = out(reg) value,
            base = in(reg) $base,
            place = const FIRST_PLACE + PLACE,
            options(pure, readonly, nostack, preserves_flags),
        );
        value
    }};
}

impl<const PLACE: usize> Field for Offset<PLACE> {
    #[inline(always)]
    fn offset(&self) -> usize {
        self.load() as usize
    }

    #[inline(always)]
    unsafe fn through<T: Copy>(&self, base: KernelPtr) -> T {
        const { assert!(size_of::<T>().is_power_of_two() && size_of::<T>() <= size_of::<u64>()) }
        // SAFETY: the caller's promise, which the verifier checks; of a value of as many bytes as were loaded the lowest
        // are taken.
        unsafe {
            let value = match size_of::<T>() {
                1 => load!("u8", base),
                2 => load!("u16", base),
                4 => load!("u32", base),
                _ => load!("u64", base),
            };
            core::mem::transmute_copy(&value)
        }
    }
}

macro_rules! offsets {
    ($($name:ident),* $(,)?) => {
        $(
            #[unsafe(no_mangle)]
            pub(crate) static $name: Offset<{ place(stringify!($name)) }> = Offset::UNKNOWN;
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
    TASK_FLAGS,
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
    SOCK_SOCKET,
    SOCK_NUM,
    SOCK_OWNED,
    SOCK_FLAGS,
    TCP_BYTES_SENT,
    TCP_BYTES_RETRANS,
    TCP_BYTES_RECEIVED,
    TCP_PACKETS_OUT,
    TCP_TOTAL_RETRANS,
    TCP_SRTT,
    TCP_WRITE_SEQ,
    MPTCP_FIRST,
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
    SOCKET_STATE,
    FILE_INODE,
    FILE_DENTRY,
    FILE_MNT,
    INODE_MODE,
    INODE_NUMBER,
    DENTRY_PARENT,
    DENTRY_NAME,
    MOUNT_ROOT,
    MOUNT_PARENT,
    MOUNT_MOUNTPOINT,
    MOUNT_MNT,
    IO_KIOCB_OPCODE,
    SUBMIT_REQ_RECORD,
    REGS_NUMBER,
    REGS_ARG0,
    REGS_ARG1,
    REGS_IP,
    REGS_CX,
    REGS_R11,
    REGS_FLAGS,
    REGS_ARG2,
    REGS_ARG3,
    REGS_ARG4,
    REGS_ARG5,
    REGS_MODE,
    CSS_SET_MEMORY,
    MM_ANON_PAGES,
    MM_FILE_PAGES,
    MM_SHMEM_PAGES,
    SUBMIT_PASSES,
}
