//! The border to the kernel: the only room of the agent with `unsafe` in it, and no aya type leaves it.

mod bell;
mod btf;
mod constants;
#[cfg(test)]
pub(crate) mod heap;
mod host;
mod mapping;
mod object;
mod offsets;
mod old;
mod prefetch;
mod privilege;
mod program;
mod registers;
mod ring;
mod shared;
mod sizes;
mod slots;
mod table;
mod watch;

pub use bell::Bell;
pub use btf::{Btf, BtfError, SYSTEM_BTF};
pub use constants::ConstantError;
pub use host::{
    boot_ns, boot_to_unix_ns, clock_ticks, give_code_back, give_memory_back, heap_in_use, is_root,
    keep_no_large_blocks, local_addresses, map_memory, page_size, preempts_tracepoints,
};
pub use mapping::windows_refused;
pub use object::{Kernel, LoadError, Loaded, Running, Settings, possible_cpus};
pub use prefetch::prefetch;
pub use privilege::{Capabilities, Needs, Privilege, can_make_maps, is_filtered};
pub use program::{Attached, ProgramStats, Tracepoints};
pub use ring::{Rings, Source};
pub use sizes::Room;
pub use slots::Slots;
pub use table::Table;
pub use watch::CallSettings;
