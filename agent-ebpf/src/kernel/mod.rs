//! What the sensors share: loads from kernel memory, container slots, and the way into the ring buffers.

pub(crate) mod cell;
pub(crate) mod event;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod maps;
pub(crate) mod offset;
pub(crate) mod registers;
pub(crate) mod shared;
pub(crate) mod slot;
pub(crate) mod task;
mod whoami;
