//! Who an event belongs to: cgroup id → container → pod → workload.
//!
//! The kernel names a cgroup by a number. [`Tree`] knows which directory of the cgroup v2 hierarchy that is,
//! [`Placement`] what the directory's path says, [`names::Names`] what the cluster and the runtimes call it, and
//! [`Registry`] keeps all of it for as long as somebody may ask.

mod cgroup_path;
mod labels;
mod memory;
pub mod names;
pub mod peers;
mod registry;
mod selection;
#[cfg(test)]
mod testing;
mod tree;

pub use cgroup_path::{Engine, LimitScope, Placement, PodContainer};
pub use labels::Labels;
pub use memory::{Memory, MemoryController};
pub use registry::{Bounds, Container, Forgotten, Listed, Registry, Renamed, Resolution, ScanReport, Stats};
pub use selection::Selection;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use tree::fuzz as fuzz_tree;
pub use tree::{Hierarchy, Tree, TreeError, Walk, Wanted};
