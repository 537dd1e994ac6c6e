//! The cgroup v2 hierarchy as a directory tree: which id is which path.
//!
//! A cgroup's id is the inode number of its directory (64-bit kernels from 5.5 on), and the root's is 1.

use std::{
    fs, io,
    ops::ControlFlow,
    os::unix::{
        ffi::OsStringExt,
        fs::{DirEntryExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Inode number, and so cgroup id, of the hierarchy's root.
const ROOT_ID: u64 = 1;

/// A mounted cgroup v2 hierarchy.
#[derive(Clone, Debug)]
pub struct Tree {
    directory: PathBuf,
    /// What the mounted directory is called in the hierarchy: `/`, unless only a part of it is mounted.
    root: PathBuf,
    root_id: u64,
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
    /// Finds the hierarchy among the mounts of this process: `/sys/fs/cgroup` on a pure v2 node,
    /// `/sys/fs/cgroup/unified` on a hybrid one, anywhere else if need be. In a cgroup namespace of its own a
    /// process may see a mount of its own corner besides one of the whole: the whole is taken.
    pub fn find() -> Result<Self, TreeError> {
        let mounts = fs::read("/proc/self/mountinfo").map_err(TreeError::MountInfo)?;
        let mut first: Option<Result<Self, TreeError>> = None;
        for (root, directory) in cgroup2_mounts(&mounts) {
            match Self::open(directory, root) {
                Ok(tree) if tree.is_whole() => return Ok(tree),
                Ok(tree) if !matches!(first, Some(Ok(_))) => first = Some(Ok(tree)),
                Err(error) if first.is_none() => first = Some(Err(error)),
                _ => {}
            }
        }
        first.unwrap_or(Err(TreeError::NotMounted))
    }

    /// Takes `directory` for the root of the hierarchy.
    pub fn at(directory: impl Into<PathBuf>) -> Result<Self, TreeError> {
        Self::open(directory.into(), PathBuf::from("/"))
    }

    fn open(directory: PathBuf, root: PathBuf) -> Result<Self, TreeError> {
        match fs::metadata(&directory).and_then(|meta| fs::read_dir(&directory).map(|_| meta.ino())) {
            Ok(root_id) => Ok(Self { directory, root, root_id }),
            Err(source) => Err(TreeError::Unreadable { directory, source }),
        }
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
        self.root_id == ROOT_ID
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
        let below = path.strip_prefix(&self.root).ok()?;
        fs::symlink_metadata(self.directory.join(below)).ok().map(|meta| meta.ino())
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

/// Root within the hierarchy and mount point of each cgroup2 mount in the text of `/proc/PID/mountinfo`:
/// `31 23 0:28 ROOT MOUNT-POINT OPTIONS [OPTIONAL…] - TYPE SOURCE OPTIONS`.
fn cgroup2_mounts(mountinfo: &[u8]) -> impl Iterator<Item = (PathBuf, PathBuf)> {
    mountinfo.split(|b| *b == b'\n').filter_map(|line| {
        let mut fields = line.split(|b| *b == b' ');
        let root = unescape(fields.nth(3)?);
        let directory = unescape(fields.next()?);
        fields.find(|field| *field == b"-")?;
        // A root outside of this process's cgroup namespace reads `/..`: where that is can't be told.
        let root = if root.starts_with(b"/..") { b"/".to_vec() } else { root };
        (fields.next()? == b"cgroup2").then(|| (to_path(root), to_path(directory)))
    })
}

/// Resolves the octal escapes (`\040` for a space) that the kernel writes into mountinfo.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        if let [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] = rest {
            out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = tail;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

fn to_path(bytes: Vec<u8>) -> PathBuf {
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests;
