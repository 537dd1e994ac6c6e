//! By which table a call's number is read, and what some numbers mean.

use aya_ebpf::Global;

use crate::kernel::{offset, registers::Registers, task};

/// The bit of `task_struct.thread_info` that says that the task is in a call of the 32-bit ABI; 0 where there is none.
#[unsafe(no_mangle)]
static COMPAT_MASK: Global<u32> = Global::new(0);
/// Where the task can't be asked: the bits of a register that tell in which mode of the processor it made the call, and what
/// they are in that of the 32-bit ABI; no bits where nothing tells.
#[unsafe(no_mangle)]
static COMPAT_MODE_MASK: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static COMPAT_MODE: Global<u64> = Global::new(0);
/// Whether the registers of a call tell on their own that it came by SYSCALL, as those of x86-64 do.
#[unsafe(no_mangle)]
static ENTRY_TELLS: Global<u8> = Global::new(0);
/// Numbers of the calls that the programs treat in a way of their own; `u64::MAX` where there is none.
#[unsafe(no_mangle)]
static NR_EXIT: Global<u64> = Global::new(u64::MAX);
#[unsafe(no_mangle)]
static NR_EXIT_GROUP: Global<u64> = Global::new(u64::MAX);
#[unsafe(no_mangle)]
static NR_CLONE: Global<u64> = Global::new(u64::MAX);
#[unsafe(no_mangle)]
static NR_CLONE3: Global<u64> = Global::new(u64::MAX);
#[unsafe(no_mangle)]
static NR_FORK: Global<u64> = Global::new(u64::MAX);
#[unsafe(no_mangle)]
static NR_VFORK: Global<u64> = Global::new(u64::MAX);

/// Numbers of the 32-bit ABI: the same on i386 and arm but for exit_group (arch/x86/entry/syscalls/syscall_32.tbl,
/// arch/arm/tools/syscall.tbl).
mod compat {
    pub(super) const EXIT: u64 = 1;
    pub(super) const EXIT_GROUP_I386: u64 = 252;
    pub(super) const EXIT_GROUP_ARM: u64 = 248;
    pub(super) const FORK: u64 = 2;
    pub(super) const CLONE: u64 = 120;
    pub(super) const VFORK: u64 = 190;
    pub(super) const CLONE3: u64 = 435;
}

/// The number of the call that these registers were made for; `u64::MAX` if they are of no call. It is an `int`, though
/// x86-64 keeps the whole register (arch/x86/include/asm/syscall.h, `syscall_get_nr`): what a program leaves in the upper
/// half is not looked at.
#[inline(always)]
pub(in crate::sensor) fn number(regs: impl Registers) -> u64 {
    regs.read::<i32>(&offset::REGS_NUMBER) as u64
}

/// Whether the current task, which entered the kernel with these registers, is in a call of the 32-bit ABI.
///
/// SYSCALL leaves the address of the next instruction in one register and the flags in another (Intel SDM, volume 2):
/// where they are still found there, the task itself needn't be asked. A program that takes the pains to forge them
/// before `int 0x80` has its call booked by the wrong name. So has any 64-bit program that makes one where the task can't
/// be asked.
#[inline(always)]
pub(in crate::sensor) fn is_compat<R: Registers>(regs: R) -> bool {
    if R::ARE_COPIED && COMPAT_MODE_MASK.load() != 0 {
        return regs.read::<u64>(&offset::REGS_MODE) & COMPAT_MODE_MASK.load() == COMPAT_MODE.load();
    }
    if COMPAT_MASK.load() == 0 {
        return false;
    }
    // To copy four registers costs more than to ask the task.
    if !R::ARE_COPIED
        && ENTRY_TELLS.load() != 0
        && regs.read::<u64>(&offset::REGS_CX) == regs.read::<u64>(&offset::REGS_IP)
        && regs.read::<u64>(&offset::REGS_R11) == regs.read::<u64>(&offset::REGS_FLAGS)
    {
        return false;
    }
    task::current_abi(task::current()) & COMPAT_MASK.load() != 0
}

/// Whether the call makes the task that returns from it as well: the child.
#[inline(always)]
pub(super) fn is_fork(number: u64, is_compat: bool) -> bool {
    if is_compat {
        return matches!(number, compat::FORK | compat::CLONE | compat::VFORK | compat::CLONE3);
    }
    number == NR_CLONE.load()
        || number == NR_CLONE3.load()
        || number == NR_FORK.load()
        || number == NR_VFORK.load()
}

/// Whether the call ends the thread by one of the ABIs.
#[inline(always)]
pub(super) fn may_be_exit(number: u64) -> bool {
    is_exit(number, false)
        || COMPAT_MASK.load() | COMPAT_MODE_MASK.load() as u32 != 0 && is_exit(number, true)
}

/// Whether the call ends the thread, and so never returns.
#[inline(always)]
pub(in crate::sensor) fn is_exit(number: u64, is_compat: bool) -> bool {
    if is_compat {
        return matches!(number, compat::EXIT | compat::EXIT_GROUP_I386 | compat::EXIT_GROUP_ARM);
    }
    number == NR_EXIT.load() || number == NR_EXIT_GROUP.load()
}
