//! Cgroups as a container runtime makes them: the same path in the v2 hierarchy and, on a hybrid machine,
//! in the v1 memory hierarchy.

use std::{
    cell::RefCell,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Instant,
};

use crate::{
    kernel::kill,
    wait::{PATIENCE, unique, wait_until},
};

/// A cgroup that is removed, with everybody in it, when this goes.
#[derive(Debug)]
pub struct Cgroup {
    path: String,
    /// Directories made by this, in the order of their making.
    made: RefCell<Vec<PathBuf>>,
}

/// Mount points of the hierarchies that tests use: v2 first, then the v1 memory hierarchy if it is mounted.
pub fn hierarchies() -> Vec<PathBuf> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mount = |wanted: &dyn Fn(&str, &str) -> bool| {
        mountinfo.lines().find_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let (kind, options) = filesystem.split_once(' ')?;
            wanted(kind, options).then(|| PathBuf::from(mount.split(' ').nth(4).unwrap_or_default()))
        })
    };
    let Some(v2) = mount(&|kind, _| kind == "cgroup2") else {
        return Vec::new();
    };
    let memory = mount(&|kind, options| {
        kind == "cgroup" && options.rsplit([',', ' ']).any(|option| option == "memory")
    });
    [Some(v2), memory].into_iter().flatten().collect()
}

impl Cgroup {
    /// Makes `/podwitness-test-<unique>`, with the label in its name.
    #[track_caller]
    pub fn new(label: &str) -> Self {
        Self::at(&format!("/podwitness-test-{label}-{}", unique()))
    }

    /// Makes the cgroup at `path` and its missing ancestors.
    #[track_caller]
    pub fn at(path: &str) -> Self {
        let cgroup = Self { path: path.to_owned(), made: RefCell::default() };
        for root in hierarchies() {
            wait_until(PATIENCE, &format!("{}{path} is made", root.display()), || {
                match cgroup.make(&root, path) {
                    // An ancestor was there, and went with another test that had made it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                    Err(error) => panic!("{}{path}: {error}", root.display()),
                    Ok(()) => true,
                }
            });
        }
        cgroup
    }

    fn make(&self, root: &Path, path: &str) -> io::Result<()> {
        let mut directory = root.to_owned();
        for component in path.split('/').filter(|component| !component.is_empty()) {
            // Where the controller belongs to v2, each level has to hand it down. Elsewhere this fails, and may.
            let _ = fs::write(directory.join("cgroup.subtree_control"), "+memory");
            directory.push(component);
            match fs::create_dir(&directory) {
                Ok(()) => self.made.borrow_mut().push(directory.clone()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A child of this one.
    #[track_caller]
    pub fn child(&self, name: &str) -> Self {
        Self::at(&format!("{}/{name}", self.path))
    }

    /// The path from the root of the hierarchy, which is also the workload's name where nothing better is known.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The id the kernel knows the cgroup by.
    pub fn id(&self) -> u64 {
        fs::metadata(&self.directories()[0]).expect("the cgroup's directory").ino()
    }

    /// Its directories, the one in the v2 hierarchy first.
    pub fn directories(&self) -> Vec<PathBuf> {
        hierarchies().into_iter().map(|root| root.join(self.path.trim_start_matches('/'))).collect()
    }

    /// Moves a process, with all its threads, into this cgroup.
    #[track_caller]
    pub fn add(&self, pid: u32) {
        for directory in self.directories() {
            let enter = || fs::write(directory.join("cgroup.procs"), pid.to_string());
            enter()
                .or_else(|error| {
                    // On v2, who hands a controller down can't hold processes.
                    fs::write(directory.join("cgroup.subtree_control"), "-memory").map_err(|_| error)?;
                    enter()
                })
                .unwrap_or_else(|error| panic!("move {pid} into {}: {error}", directory.display()));
        }
    }

    /// The same; whether this kernel moves that process.
    pub fn try_add(&self, pid: u32) -> bool {
        self.directories()
            .iter()
            .all(|directory| fs::write(directory.join("cgroup.procs"), pid.to_string()).is_ok())
    }

    /// Limits memory and swap together, so that reaching the limit means an OOM kill.
    #[track_caller]
    pub fn limit_memory(&self, mebibytes: u64) {
        let bytes = (mebibytes << 20).to_string();
        let v1 = |name: &str| self.directories().iter().map(|d| d.join(name)).find(|file| file.exists());
        if let Some(limit) = v1("memory.limit_in_bytes") {
            fs::write(&limit, &bytes).expect("memory.limit_in_bytes");
            if let Some(with_swap) = v1("memory.memsw.limit_in_bytes") {
                fs::write(with_swap, &bytes).expect("memory.memsw.limit_in_bytes");
            }
        } else {
            let v2 = &self.directories()[0];
            fs::write(v2.join("memory.max"), &bytes).expect("memory.max (is the memory controller enabled?)");
            let _ = fs::write(v2.join("memory.swap.max"), "0");
        }
    }

    /// Ends everybody inside and removes what this made.
    #[track_caller]
    pub fn remove(&self) {
        for directory in self.made.take().into_iter().rev() {
            let begin = Instant::now();
            wait_until(PATIENCE, &format!("{} is gone", directory.display()), || {
                for pid in members(&directory) {
                    let _ = kill(pid, libc::SIGKILL);
                }
                match fs::remove_dir(&directory) {
                    Ok(()) => true,
                    // Another test has put its own cgroup into this ancestor: let it finish, but not for ever.
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                        has_children(&directory) && begin.elapsed() > PATIENCE / 2
                    }
                    Err(error) => error.kind() == io::ErrorKind::NotFound,
                }
            });
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.remove();
            return;
        }
        // A second panic would hide the first: do what can be done at once.
        for directory in self.made.take().iter().rev() {
            for pid in members(directory) {
                let _ = kill(pid, libc::SIGKILL);
            }
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Processes directly in the cgroup. All were started by the test that made it.
fn members(directory: &Path) -> Vec<u32> {
    let members = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    // A zero is a process of another pid namespace: not ours, and a signal to it would go to ourselves.
    members.lines().filter_map(|pid| pid.parse().ok()).filter(|pid| *pid != 0).collect()
}

fn has_children(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_type().ok()).any(|kind| kind.is_dir())
}
