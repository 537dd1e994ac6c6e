//! Records of the `calls` sensor, and what decides which system calls become one.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{event::Header, syscalls::NUMBERS};

/// Arguments of a system call.
pub const ARGUMENTS: usize = 6;
/// Longest path that is read out of an argument, its NUL included; longer ones are cut.
pub const PATH_LEN: usize = 128;
/// Steps that are climbed from a file towards the root; one is taken by each name and each mount.
pub const FILE_STEPS: usize = 10;
/// Longest name on the way, its NUL included; longer ones are cut.
pub const FILE_NAME_LEN: usize = 48;

/// `SyscallSlow`, `SyscallFailed` and `SyscallCall`: one system call.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CallEvent {
    pub header: Header,
    /// Nanoseconds from entry to return; 0 unless [`DURATION_KNOWN`].
    pub duration_ns: u64,
    /// What the call returned: an errno below zero.
    pub result: i64,
    pub arguments: [u64; ARGUMENTS],
    /// Where the call is counted: its number, or one that stands for others (`contract::syscalls`).
    pub number: u32,
    /// Bits: [`DURATION_KNOWN`] and so on.
    pub flags: u32,
    /// Bytes of `path` that hold, without a NUL.
    pub path_len: u32,
    /// Type and permissions of the file behind the descriptor in the arguments.
    pub mode: u32,
    /// Inode number of that file.
    pub inode: u64,
    /// Of a socket: its remote address, as in `TcpEvent`.
    pub remote: [u8; 16],
    /// Of a socket: ports in host order, `AF_…` and `IPPROTO_…`.
    pub remote_port: u16,
    pub local_port: u16,
    pub family: u16,
    pub protocol: u16,
    /// The path in the arguments. Workload-controlled: any byte may appear.
    pub path: [u8; PATH_LEN],
    /// The file's name, then those of its directories, upwards; an empty one is a mount that was crossed. Nothing
    /// holds behind `steps`.
    pub names: [[u8; FILE_NAME_LEN]; FILE_STEPS],
    /// How many of `names` hold.
    pub steps: u64,
}

const _: () = assert!(size_of::<CallEvent>() == 776);

/// The beginning was seen, so `duration_ns` holds.
pub const DURATION_KNOWN: u32 = 1;
/// The call has returned, so `result` holds.
pub const RETURNED: u32 = 2;
/// `arguments` hold: not so for calls of other ABIs.
pub const ARGUMENTS_KNOWN: u32 = 4;
/// There is a file behind the descriptor in the arguments.
pub const FILE_KNOWN: u32 = 8;
/// `names` lead to the root.
pub const ROOTED: u32 = 16;
/// The file is in no directory: a pipe, a socket, an anonymous inode, shared memory.
pub const DETACHED: u32 = 32;

/// What the programs know of a system call's number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Rule {
    /// Nanoseconds from which on a call is slow; 0: never.
    pub slow_ns: u64,
    /// One more than the index of the argument that is a path; 0 if there is none.
    pub path: u32,
    /// The same for a file descriptor.
    pub file: u32,
}

/// Words of the table of errnos: a bit for each.
pub const ERRNO_WORDS: usize = 64;

/// A set of numbers of system calls: a bit for each.
pub type CallSet = [u64; NUMBERS / 64];

/// Puts a number into the set; what is beyond the table isn't there.
pub fn insert(set: &mut CallSet, number: u32) {
    if let Some(word) = set.get_mut(number as usize / 64) {
        *word |= 1 << (number % 64);
    }
}

/// What user space tells the programs that watch.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// Calls that are wanted of any container.
    pub any: CallSet,
    /// Calls that are wanted of all containers.
    pub everywhere: CallSet,
    /// Counts the times that the programs were attached: what began under another number ends unseen.
    pub epoch: u64,
    /// Whether somebody wants the paths in the arguments.
    pub paths: u64,
}

/// Containers that can be told apart by the programs that watch. Beyond that, the calls of all are looked at, and
/// user space picks out those that are wanted.
pub const WATCHED: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_one_bit() {
        let mut set = CallSet::default();
        for number in [0, 63, 64, 511, 512] {
            insert(&mut set, number);
        }
        assert_eq!(set, [1 | 1 << 63, 1, 0, 0, 0, 0, 0, 1 << 63]);
    }
}
