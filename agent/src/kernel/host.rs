//! Plain questions to the operating system.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ptr,
};

/// Nanoseconds to add to `CLOCK_BOOTTIME`, by which events are stamped, to get the time since 1970; and by how many it
/// may be wrong, because the two clocks can't be read at once.
pub fn boot_to_unix_ns() -> (i64, u64) {
    let look = || {
        let before = now_ns(libc::CLOCK_BOOTTIME);
        let unix = now_ns(libc::CLOCK_REALTIME);
        let after = now_ns(libc::CLOCK_BOOTTIME);
        let between = after.saturating_sub(before).unsigned_abs();
        (unix.wrapping_sub(before.midpoint(after)), between.div_ceil(2))
    };
    // A thread that is interrupted between two looks is not so three times.
    (0..3).map(|_| look()).min_by_key(|(_, error)| *error).unwrap_or_default()
}

/// Now, by `CLOCK_BOOTTIME`.
pub fn boot_ns() -> u64 {
    now_ns(libc::CLOCK_BOOTTIME).unsigned_abs()
}

/// Bytes of a page of memory.
pub fn page_size() -> u64 {
    // SAFETY: takes and returns plain numbers.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

/// Clock ticks per second, in which /proc counts CPU time.
pub fn clock_ticks() -> u64 {
    // SAFETY: takes and returns plain numbers.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).unwrap_or(100)
}

/// Nanoseconds of one tick of the kernel's clock (`jiffies`), as the coarse clocks tell it.
pub(super) fn tick_ns() -> u64 {
    let mut resolution = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes into our own variable. A failure leaves it, and the longest tick that Linux has is assumed.
    unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &raw mut resolution) };
    match u64::try_from(resolution.tv_nsec) {
        Ok(ns) if ns > 0 => ns,
        _ => 10_000_000,
    }
}

/// Whether the process may do everything.
pub fn is_root() -> bool {
    // SAFETY: takes nothing, returns a plain number, cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Bytes of kernel memory behind all maps that this process has open, as the kernel accounts them (`memlock` in
/// their fdinfo, `bpf_map_show_fdinfo`, kernel/bpf/syscall.c).
pub fn map_memory() -> u64 {
    let Ok(entries) = fs::read_dir("/proc/self/fdinfo") else { return 0 };
    let maps: BTreeMap<_, _> = entries
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .filter_map(|text| {
            let number = |name| {
                let value = text.lines().find_map(|line| line.strip_prefix(name))?;
                value.trim().parse::<u64>().ok()
            };
            // A map may have several descriptors.
            Some((number("map_id:")?, number("memlock:")?))
        })
        .collect();
    maps.into_values().sum()
}

/// Whether tasks can preempt each other inside of BTF-typed tracepoints: Linux 7.0 and later, where
/// `__bpf_trace_run` (kernel/trace/bpf_trace.c) forbids migration only.
pub fn preempts_tracepoints() -> bool {
    is_from((7, 0))
}

/// Whether an element of an array may have more than 4 MiB: Linux 6.0 and later (`array_map_alloc_check`,
/// kernel/bpf/arraymap.c).
pub(super) fn has_large_elements() -> bool {
    is_from((6, 0))
}

/// Whether task storage has an allocator of its own: Linux 6.4 and later.
pub(super) fn has_storage_allocator() -> bool {
    is_from((6, 4))
}

fn is_from(version: (u32, u32)) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    numbers(&release).is_some_and(|numbers| numbers >= version)
}

/// The first two numbers of a release.
fn numbers(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Inode number of our network namespace; 0, which is nobody's, if it can't be read.
pub(super) fn network_namespace() -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self/ns/net").map_or(0, |namespace| namespace.ino())
}

/// Makes large blocks return to the kernel when they are freed. Call it before there are threads.
///
/// A page of metrics has megabytes. By default, glibc takes the first ones that are freed for a habit and keeps up
/// to 64 MiB for the next (mallopt(3), "dynamic mmap threshold").
pub fn keep_no_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes plain numbers and may be called at any time. That it knows the option is not needed.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 * 1024);
    }
}

/// Returns freed memory to the kernel, which glibc keeps otherwise.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a plain number and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Gives up the memory of code and constants that were needed until now, of ours and of libraries: reading the kernel's
/// types and loading programs are done once. What is used on comes back from the page cache when it is used.
pub fn give_code_back() {
    // SAFETY: the callback has the signature that is asked for, and takes no data.
    unsafe { libc::dl_iterate_phdr(Some(give_segments_back), ptr::null_mut()) };
}

/// Those of one object that nobody ever writes to: they are as they are in its file. Relocations and `mprotect` only
/// concern segments that the file calls writable.
///
/// # Safety
///
/// `object` describes an object that is loaded, as `dl_iterate_phdr` does.
unsafe extern "C" fn give_segments_back(
    object: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    _data: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: by the caller's promise.
    let (object, headers) = unsafe {
        let object = &*object;
        (object, std::slice::from_raw_parts(object.dlpi_phdr, object.dlpi_phnum.into()))
    };
    let is_constant =
        |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0;
    for header in headers.iter().filter(is_constant) {
        let page = page_size() - 1;
        let begin = (object.dlpi_addr + header.p_vaddr) & !page;
        let end = object.dlpi_addr + header.p_vaddr + header.p_memsz;
        // SAFETY: whole pages that the object has mapped from its file and that nobody has written to, so they can be
        // had from there again. Of what isn't mapped from a file the kernel refuses it, and nothing is lost.
        unsafe { libc::madvise(begin as *mut libc::c_void, (end - begin) as usize, libc::MADV_DONTNEED) };
    }
    0
}

/// Bytes that the process has allocated and not freed, as its allocator counts them; 0 where that isn't known. What each
/// thread keeps for its next allocations counts as allocated.
pub fn heap_in_use() -> u64 {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: takes nothing, returns plain numbers, and may be called at any time. `mallinfo2`, whose numbers have
        // 64 bits, would demand glibc 2.33 of whoever runs this; these are right up to 4 GiB.
        let counts = unsafe { libc::mallinfo() };
        u64::from(counts.uordblks.cast_unsigned()) + u64::from(counts.hblkhd.cast_unsigned())
    }
    #[cfg(not(target_env = "gnu"))]
    0
}

/// Addresses of all interfaces of our network namespace; none if the kernel doesn't say.
pub fn local_addresses() -> Vec<IpAddr> {
    let mut first = ptr::null_mut();
    // SAFETY: writes the head of a list into our pointer, and only if it succeeds.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut next = first;
    while !next.is_null() {
        // SAFETY: an entry of the list, which is whole until it is freed below.
        let entry = unsafe { &*next };
        // SAFETY: null, or an address as large as its family says.
        found.extend(unsafe { address(entry.ifa_addr) });
        next = entry.ifa_next;
    }
    // SAFETY: the list that `getifaddrs` has made; nothing points into it any more.
    unsafe { libc::freeifaddrs(first) };
    found
}

/// None for what is no IP address, such as that of a packet socket.
///
/// # Safety
///
/// `socket` is null, or points to an address that is as large as its family says.
unsafe fn address(socket: *const libc::sockaddr) -> Option<IpAddr> {
    if socket.is_null() {
        return None;
    }
    // SAFETY: by the caller's promise; libc allocates addresses with the alignment of any type.
    unsafe {
        match i32::from((*socket).sa_family) {
            libc::AF_INET => {
                let bits = (*socket.cast::<libc::sockaddr_in>()).sin_addr.s_addr;
                Some(Ipv4Addr::from_bits(u32::from_be(bits)).into())
            }
            libc::AF_INET6 => {
                Some(Ipv6Addr::from((*socket.cast::<libc::sockaddr_in6>()).sin6_addr.s6_addr).into())
            }
            _ => None,
        }
    }
}

fn now_ns(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes into our own struct; the clocks named here exist on every supported kernel.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_any_release() {
        for (release, expected) in [
            ("7.3.4+deb13-cloud-amd64\n", Some((7, 3))),
            ("6.18.44", Some((6, 18))),
            ("10.0", Some((10, 0))),
            ("6.4-rc1", Some((6, 4))),
            ("6", None),
            ("x.y", None),
        ] {
            assert_eq!(numbers(release), expected, "{release}");
        }
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn what_is_allocated_counts_as_in_use() {
        // Other tests allocate meanwhile; none of them so much.
        const MUCH: usize = 256 << 20;
        let before = heap_in_use();
        let block = std::hint::black_box(Vec::<u8>::with_capacity(MUCH));
        let with_block = heap_in_use();
        drop(block);
        assert!(with_block >= before + MUCH as u64 / 2, "{before}, then {with_block}");
        assert!(heap_in_use() < with_block - MUCH as u64 / 2);
    }

    #[test]
    fn every_machine_has_a_loopback() {
        let addresses = local_addresses();
        assert!(addresses.contains(&Ipv4Addr::LOCALHOST.into()), "{addresses:?}");
    }
}
