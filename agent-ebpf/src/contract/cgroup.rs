//! Records of the `cgroup` sensor: birth and death of cgroups, so that identity is known before first use.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::event::Header;

/// Longest cgroup path that is reported, its NUL included; a longer one is left to the scan of the tree.
pub const PATH_LEN: usize = 512;

/// `CgroupMkdir` and `CgroupRmdir` of the v2 hierarchy; the header's cgroup id is the cgroup itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CgroupEvent {
    pub header: Header,
    /// Bytes of `path` that hold, without a NUL; `PATH_LEN - 1` means it may have been cut.
    pub path_len: u32,
    pub reserved: u32,
    /// From the root of the hierarchy.
    pub path: [u8; PATH_LEN],
}

const _: () = assert!(size_of::<CgroupEvent>() == 56 + PATH_LEN);
