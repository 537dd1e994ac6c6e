//! What cgroups use of their memory, out of the files of the memory controller: how far it is to the next OOM kill.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{Hierarchy, Tree, Wanted};

/// Limits of v1 that are none: the largest number of pages, in bytes.
const UNLIMITED: u64 = i64::MAX as u64 & !0xffff;

/// The memory of the cgroups that go by the same labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// In use, with files that are kept in memory.
    pub usage_bytes: u64,
    /// The same without files that weren't used lately, which the kernel drops before it kills.
    pub working_set_bytes: u64,
    /// Of the cgroup itself; absent where it has none, or where there are several cgroups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// What the working set may still grow by until a limit is reached, its own or that of a cgroup around it. Absent
    /// where no limit is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headroom_bytes: Option<u64>,
}

/// The memory controller, wherever it is. What was read is kept, because many cgroups have the same ones around
/// them: for one answer, and no longer.
pub struct MemoryController {
    tree: Tree,
    files: &'static Files,
    read: HashMap<PathBuf, Option<Use>>,
}

/// Names of files, which differ between v1 and v2.
struct Files {
    usage: &'static str,
    limit: &'static str,
    /// The line of `memory.stat` that counts files which weren't used lately, of all cgroups below, too.
    inactive: &'static str,
}

const V1: Files =
    Files { usage: "memory.usage_in_bytes", limit: "memory.limit_in_bytes", inactive: "total_inactive_file" };
const V2: Files = Files { usage: "memory.current", limit: "memory.max", inactive: "inactive_file" };

/// One cgroup alone.
#[derive(Clone, Copy)]
struct Use {
    usage: u64,
    working_set: u64,
    limit: Option<u64>,
}

impl MemoryController {
    /// Finds the controller for the cgroups of a hierarchy. On hybrid nodes it is that of v1, in which container
    /// engines and systemd make the same directories as in v2.
    pub fn find(tree: &Tree) -> Option<Self> {
        let new = |tree, files| Self { tree, files, read: HashMap::new() };
        if matches!(tree.hierarchy(), Hierarchy::Memory { .. }) {
            return Some(new(tree.clone(), &V1));
        }
        let controllers = fs::read_to_string(tree.directory().join("cgroup.controllers")).unwrap_or_default();
        if controllers.split_whitespace().any(|name| name == "memory") {
            return Some(new(tree.clone(), &V2));
        }
        Tree::find(Wanted::Memory).ok().map(|tree| new(tree, &V1))
    }

    /// The memory of all these cgroups; of one within another only the outer one counts, which contains it.
    pub fn of<'p>(&mut self, paths: impl IntoIterator<Item = &'p Path>) -> Option<Memory> {
        let mut paths: Vec<_> = paths.into_iter().collect();
        // What is around comes before what is in it.
        paths.sort_unstable();
        let mut outer: Vec<&Path> = Vec::new();
        for path in paths {
            if !outer.iter().any(|around| path.starts_with(around)) {
                outer.push(path);
            }
        }
        let mut sum: Option<Memory> = None;
        for path in &outer {
            let Some(one) = self.one(path) else { continue };
            sum = Some(match sum {
                None => one,
                Some(sum) => Memory {
                    usage_bytes: sum.usage_bytes + one.usage_bytes,
                    working_set_bytes: sum.working_set_bytes + one.working_set_bytes,
                    limit_bytes: None,
                    headroom_bytes: [sum.headroom_bytes, one.headroom_bytes].into_iter().flatten().min(),
                },
            });
        }
        sum
    }

    fn one(&mut self, path: &Path) -> Option<Memory> {
        let own = self.read(path)?;
        let headroom = path.ancestors().filter_map(|path| {
            let Use { working_set, limit, .. } = self.read(path)?;
            Some(limit?.saturating_sub(working_set))
        });
        Some(Memory {
            usage_bytes: own.usage,
            working_set_bytes: own.working_set,
            limit_bytes: own.limit,
            headroom_bytes: headroom.min(),
        })
    }

    fn read(&mut self, path: &Path) -> Option<Use> {
        if let Some(known) = self.read.get(path) {
            return *known;
        }
        let read = self.tree.directory_of(path).and_then(|directory| self.files.read(&directory));
        self.read.insert(path.to_owned(), read);
        read
    }
}

impl Files {
    /// `None` where the cgroup is gone, or has no such files, as the root of v2.
    fn read(&self, directory: &Path) -> Option<Use> {
        let text = |name: &str| fs::read_to_string(directory.join(name)).ok();
        let usage = text(self.usage)?.trim().parse().ok()?;
        // `max` is no number.
        let limit = text(self.limit).and_then(|limit| limit.trim().parse().ok());
        let inactive = text("memory.stat").and_then(|stat| line(&stat, self.inactive)).unwrap_or(0);
        Some(Use {
            usage,
            working_set: usage.saturating_sub(inactive),
            limit: limit.filter(|limit| *limit < UNLIMITED),
        })
    }
}

fn line(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::testing::Scratch;

    const MIB: u64 = 1 << 20;

    fn make(root: &Path, path: &str, usage: u64, limit: &str, inactive: u64) {
        let directory = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("memory.current"), format!("{usage}\n")).unwrap();
        fs::write(directory.join("memory.max"), format!("{limit}\n")).unwrap();
        let stat = format!("anon 1\ninactive_anon 7\ninactive_file {inactive}\nactive_file 5\n");
        fs::write(directory.join("memory.stat"), stat).unwrap();
    }

    fn controller(root: &Path) -> MemoryController {
        fs::write(root.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        MemoryController::find(&Tree::at(root).unwrap()).unwrap()
    }

    #[test]
    fn the_nearest_limit_counts_and_idle_files_do_not() {
        let root = Scratch::new("memory");
        let limit = |mib: u64| (mib * MIB).to_string();
        make(root.path(), "/pods", 100 * MIB, "max", 0);
        make(root.path(), "/pods/one", 60 * MIB, &limit(64), 10 * MIB);
        make(root.path(), "/pods/one/app", 40 * MIB, &limit(100), 8 * MIB);
        make(root.path(), "/pods/two", 30 * MIB, "max", 40 * MIB);
        let mut controller = controller(root.path());
        let mut of = |paths: &[&str]| controller.of(paths.iter().map(Path::new));
        let told = of(&["/pods/one/app"]).unwrap();
        assert_eq!((told.usage_bytes, told.working_set_bytes), (40 * MIB, 32 * MIB));
        assert_eq!((told.limit_bytes, told.headroom_bytes), (Some(100 * MIB), Some(14 * MIB)));
        let free = of(&["/pods/two"]).unwrap();
        assert_eq!((free.working_set_bytes, free.limit_bytes, free.headroom_bytes), (0, None, None));
        let both = of(&["/pods/two", "/pods/one/app", "/pods/one"]).unwrap();
        assert_eq!((both.usage_bytes, both.limit_bytes), (90 * MIB, None), "one contains its child");
        assert_eq!(both.headroom_bytes, Some(14 * MIB));
        assert_eq!(of(&["/pods/gone"]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn the_largest_number_of_v1_is_no_limit() {
        let root = Scratch::new("memory-v1");
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text).unwrap();
        write("memory.usage_in_bytes", "5000\n");
        write("memory.limit_in_bytes", "9223372036854771712\n");
        write("memory.stat", "inactive_file 1\ntotal_inactive_file 1000\n");
        let told = V1.read(root.path()).unwrap();
        assert_eq!((told.usage, told.working_set, told.limit), (5000, 4000, None));
    }
}
