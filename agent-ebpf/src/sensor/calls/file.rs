//! The file behind a descriptor: a path by the names on the way to the root, or a socket's other end.

use agent_ebpf::contract::calls::{CallEvent, DETACHED, FILE_KNOWN, FILE_NAME_LEN, FILE_STEPS, ROOTED};
use aya_ebpf::Global;

use crate::kernel::{
    load::{KernelPtr, copied, copy_to, string_to},
    offset, task,
};

/// Whether all that this takes was found in the kernel's types.
#[unsafe(no_mangle)]
static FILES_KNOWN: Global<u8> = Global::new(0);

// Types of files (include/uapi/linux/stat.h) and families of addresses (include/linux/socket.h).
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Fills in what is known of the file; the flags that say so.
///
/// # Safety
///
/// `event` is a reserved record.
#[inline(always)]
pub(super) unsafe fn fill(event: *mut CallEvent, current: KernelPtr, fd: Option<u32>) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        (*event).mode = 0;
        (*event).inode = 0;
        (*event).remote = [0; 16];
        (*event).remote_port = 0;
        (*event).local_port = 0;
        (*event).family = 0;
        (*event).protocol = 0;
        (*event).steps = 0;
        if FILES_KNOWN.load() == 0 {
            return 0;
        }
        let Some(file) = fd.and_then(|fd| task::file(current, fd)).filter(|file| !file.is_null()) else {
            return 0;
        };
        let inode = copied::<u64>(file, &offset::FILE_INODE) as KernelPtr;
        let mode = copied::<u16>(inode, &offset::INODE_MODE);
        (*event).mode = mode.into();
        (*event).inode = copied(inode, &offset::INODE_NUMBER);
        if mode & S_IFMT == S_IFSOCK {
            fill_socket(event, file);
            return FILE_KNOWN | DETACHED;
        }
        FILE_KNOWN | fill_names(event, file)
    }
}

/// # Safety
///
/// `event` is a reserved record.
#[inline(always)]
unsafe fn fill_socket(event: *mut CallEvent, file: KernelPtr) {
    let socket = copied::<u64>(file, &offset::FILE_PRIVATE_DATA) as KernelPtr;
    let sk = copied::<u64>(socket, &offset::SOCKET_SK) as KernelPtr;
    let family = copied::<u16>(sk, &offset::SOCK_FAMILY);
    // SAFETY: the caller's promise.
    unsafe {
        (*event).family = family;
        (*event).protocol = copied(sk, &offset::SOCK_PROTOCOL);
        let remote = (&raw mut (*event).remote).cast::<u8>();
        match family {
            AF_INET => copy_to(remote, 4, sk.wrapping_add(offset::SOCK_DADDR.load() as usize)),
            AF_INET6 => copy_to(remote, 16, sk.wrapping_add(offset::SOCK_V6_DADDR.load() as usize)),
            _ => return,
        }
        (*event).remote_port = u16::from_be(copied(sk, &offset::SOCK_DPORT));
        (*event).local_port = u16::from_be(copied(sk, &offset::INET_SOCK_SPORT));
    }
}

/// Climbs from the file towards the root, through the mounts, by as many steps as there is room for.
///
/// # Safety
///
/// `event` is a reserved record.
#[inline(always)]
unsafe fn fill_names(event: *mut CallEvent, file: KernelPtr) -> u32 {
    let mut dentry = copied::<u64>(file, &offset::FILE_DENTRY);
    // A file names the `vfsmount` that is a part of its `mount` (fs/mount.h).
    let mut mount = copied::<u64>(file, &offset::FILE_MNT).wrapping_sub(offset::MOUNT_MNT.load());
    // SAFETY: the caller's promise; the step is below the length of the array.
    unsafe {
        let names = (&raw mut (*event).names).cast::<[u8; FILE_NAME_LEN]>();
        for step in 0..FILE_STEPS {
            (*event).steps = step as u64;
            let name = names.add(step).cast::<u8>();
            if dentry == copied::<u64>(mount as KernelPtr, &offset::MOUNT_ROOT) {
                let parent = copied::<u64>(mount as KernelPtr, &offset::MOUNT_PARENT);
                if parent == mount {
                    return ROOTED;
                }
                dentry = copied(mount as KernelPtr, &offset::MOUNT_MOUNTPOINT);
                mount = parent;
                name.write(0);
                continue;
            }
            let parent = copied::<u64>(dentry as KernelPtr, &offset::DENTRY_PARENT);
            let text = copied::<u64>(dentry as KernelPtr, &offset::DENTRY_NAME) as KernelPtr;
            string_to(name, FILE_NAME_LEN as u32, text);
            if parent == dentry {
                (*event).steps = step as u64 + 1;
                return DETACHED;
            }
            dentry = parent;
        }
        (*event).steps = FILE_STEPS as u64;
    }
    0
}
