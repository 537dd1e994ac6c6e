//! The cgroup v2 hierarchy as a directory tree: which id is which path.
//!
//! On a node without v2 it is the v1 memory controller's hierarchy. A cgroup's id is the inode number of its directory (64-bit kernels from 5.5 on), and the root's is 1.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod mounts;

use std::{
    fs, io,
    ops::ControlFlow,
    os::unix::fs::{DirEntryExt, MetadataExt},
    path::{Path, PathBuf},
};

use thiserror::Error;

use self::mounts::{cgroup2_mounts, memory_hierarchy, memory_mounts};

/// Inode number, and so cgroup id, of the hierarchy's root.
const ROOT_ID: u64 = 1;

/// Whose cgroups tell containers apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// Those of cgroup v2, also where v1 has all the controllers (hybrid).
    V2,
    /// Those of the v1 memory controller; `id` is the hierarchy's number in `/proc/self/cgroup`.
    Memory { id: u32 },
}

/// Which hierarchy is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// v2 if it is mounted, else the v1 memory controller's.
    Auto,
    V2,
    Memory,
}

/// A mounted cgroup hierarchy.
#[derive(Clone, Debug)]
pub struct Tree {
    hierarchy: Hierarchy,
    directory: PathBuf,
    /// What the mounted directory is called in the hierarchy: `/`, unless only a part of it is mounted.
    root: PathBuf,
    root_id: u64,
    is_whole: bool,
}

/// Why there is no tree to read.
#[derive(Debug, Error)]
pub enum TreeError {
    #[error(
        "no cgroup v2 hierarchy is mounted (no `cgroup2` in /proc/self/mountinfo), so nothing can be attributed: \
         mount one (`mount -t cgroup2 none /sys/fs/cgroup/unified` beside v1 controllers, else at /sys/fs/cgroup); \
         in a container, mount the node's /sys/fs/cgroup read-only"
    )]
    NotMounted,
    #[error(
        "the v1 memory controller is not mounted (no `cgroup` with `memory` in /proc/self/mountinfo): set \
         identity.hierarchy to v2 or auto"
    )]
    NoMemory,
    #[error("can't read the mounts in /proc/self/mountinfo (is /proc mounted?)")]
    MountInfo(#[source] io::Error),
    #[error("can't read the cgroup hierarchy at {directory}: the agent's user must be allowed to list it")]
    Unreadable { directory: PathBuf, source: io::Error },
}

/// What one walk found.
#[derive(Debug, Default)]
pub struct Walk {
    /// Cgroup id, and path from the hierarchy's root.
    pub found: Vec<(u64, PathBuf)>,
    /// Directories known to be left out because of the limit; there may be more below them.
    pub cut: usize,
    /// Directories that could not be listed and still exist.
    pub unreadable: usize,
}

impl Walk {
    /// Whether a cgroup that was not found is gone.
    pub fn is_complete(&self) -> bool {
        self.cut == 0 && self.unreadable == 0
    }
}

impl Tree {
    /// Finds the hierarchy that is wanted among the mounts of this process.
    pub fn find(wanted: Wanted) -> Result<Self, TreeError> {
        let mounts = fs::read("/proc/self/mountinfo").map_err(TreeError::MountInfo)?;
        let v2 = || {
            let found = Self::whole_of(cgroup2_mounts(&mounts), Hierarchy::V2);
            found.unwrap_or(Err(TreeError::NotMounted))
        };
        let memory = || {
            let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
            let hierarchy = Hierarchy::Memory { id: memory_hierarchy(&cgroups).ok_or(TreeError::NoMemory)? };
            Self::whole_of(memory_mounts(&mounts), hierarchy).unwrap_or(Err(TreeError::NoMemory))
        };
        match wanted {
            Wanted::V2 => v2(),
            Wanted::Memory => memory(),
            // The error of v2 is the one that says what to do.
            Wanted::Auto => v2().or_else(|error| memory().map_err(|_| error)),
        }
    }

    /// In a cgroup namespace of its own a process may see a mount of its own corner besides one of the whole: the
    /// whole is taken.
    fn whole_of(
        mounts: impl Iterator<Item = (PathBuf, PathBuf)>,
        hierarchy: Hierarchy,
    ) -> Option<Result<Self, TreeError>> {
        let mut first: Option<Result<Self, TreeError>> = None;
        for (root, directory) in mounts {
            match Self::open(directory, root, hierarchy) {
                Ok(tree) if tree.is_whole() => return Some(Ok(tree)),
                Ok(tree) if !matches!(first, Some(Ok(_))) => first = Some(Ok(tree)),
                Err(error) if first.is_none() => first = Some(Err(error)),
                _ => {}
            }
        }
        first
    }

    /// Takes `directory` for the root of the hierarchy.
    pub fn at(directory: impl Into<PathBuf>) -> Result<Self, TreeError> {
        let tree = Self::open(directory.into(), PathBuf::from("/"), Hierarchy::V2)?;
        Ok(Self { is_whole: true, ..tree })
    }

    /// Takes `directory` for the part of the hierarchy that is called `root` there.
    #[cfg(test)]
    pub(super) fn part(directory: impl Into<PathBuf>, root: &str) -> Result<Self, TreeError> {
        Self::open(directory.into(), PathBuf::from(root), Hierarchy::V2)
    }

    fn open(directory: PathBuf, root: PathBuf, hierarchy: Hierarchy) -> Result<Self, TreeError> {
        match fs::metadata(&directory).and_then(|meta| fs::read_dir(&directory).map(|_| meta.ino())) {
            Ok(root_id) => Ok(Self { hierarchy, directory, root, root_id, is_whole: root_id == ROOT_ID }),
            Err(source) => Err(TreeError::Unreadable { directory, source }),
        }
    }

    pub fn hierarchy(&self) -> Hierarchy {
        self.hierarchy
    }

    /// Where it is mounted.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The cgroup id of the mounted directory.
    pub fn root_id(&self) -> u64 {
        self.root_id
    }

    /// Whether this is the whole hierarchy; else the cgroups outside of the part that is mounted stay unknown.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Lists all cgroups, parents before children, but at most `limit` of them. Cgroups that vanish meanwhile are
    /// left out.
    pub fn walk(&self, limit: usize) -> Result<Walk, TreeError> {
        let mut found = Vec::new();
        let (cut, unreadable) = self.visit(limit, |id, path| {
            found.push((id, path.to_owned()));
            ControlFlow::Continue(())
        })?;
        Ok(Walk { found, cut, unreadable })
    }

    /// Finds the path of one cgroup among the first `limit`.
    pub fn path_of(&self, id: u64, limit: usize) -> Result<Option<PathBuf>, TreeError> {
        let mut found = None;
        self.visit(limit, |other, path| {
            if other != id {
                return ControlFlow::Continue(());
            }
            found = Some(path.to_owned());
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// The id of the cgroup at `path`, if there is one.
    pub fn id_at(&self, path: &Path) -> Option<u64> {
        fs::symlink_metadata(self.directory_of(path)?).ok().map(|meta| meta.ino())
    }

    /// Where the cgroup at `path` has its files, if it is in the part that is mounted.
    pub fn directory_of(&self, path: &Path) -> Option<PathBuf> {
        Some(self.directory.join(path.strip_prefix(&self.root).ok()?))
    }

    fn visit(
        &self,
        limit: usize,
        mut each: impl FnMut(u64, &Path) -> ControlFlow<()>,
    ) -> Result<(usize, usize), TreeError> {
        let (mut visited, mut cut, mut unreadable) = (0, 0, 0);
        let mut ahead = vec![(self.root_id, self.root.clone(), self.directory.clone())];
        while let Some((id, path, directory)) = ahead.pop() {
            visited += 1;
            if visited > limit {
                cut += 1;
                continue;
            }
            if each(id, &path).is_break() {
                break;
            }
            let entries = match subdirectories(&directory) {
                Ok(entries) => entries,
                Err(error) if path == self.root => {
                    return Err(TreeError::Unreadable { directory, source: error });
                }
                Err(error) => {
                    unreadable += usize::from(!is_gone(&error));
                    continue;
                }
            };
            for entry in entries {
                if visited + ahead.len() >= limit {
                    cut += 1;
                } else {
                    ahead.push((entry.ino(), path.join(entry.file_name()), entry.path()));
                }
            }
        }
        Ok((cut, unreadable))
    }
}

/// The directories right below.
fn subdirectories(directory: &Path) -> io::Result<Vec<fs::DirEntry>> {
    // A cgroup has dozens of files, and most are leaves: cgroupfs counts links as one for each subdirectory and
    // two of its own, which spares listing them. (Filesystems that don't count say 1.)
    if fs::symlink_metadata(directory)?.nlink() == 2 {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.push(entry),
            Err(error) if !is_gone(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(found)
}

/// A cgroup removed under a reader answers ENOENT to lookups and ENODEV to what was open.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

#[cfg(test)]
mod tests;
