//! What the path of a cgroup says about the one who lives there.
//!
//! Pure and total: any bytes give an answer. The forms are those that container engines and systemd have used on
//! cgroup v2 (and, on hybrid nodes, in the v2 hierarchy's mirror of v1); where several containers are nested,
//! the innermost that is recognized wins, and what is inside of a container belongs to it.

pub(super) mod fold;
mod form;
mod scope;
#[cfg(test)]
mod tests;

pub use scope::LimitScope;

use super::Labels;

/// Whose cgroup a path is. Depths count path components: the root of the hierarchy has depth 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The root: kernel threads, and what nobody has put anywhere.
    Host,
    /// A Kubernetes pod.
    Pod {
        /// As the kubelet names it, with dashes; 32 hex digits for a static pod.
        uid: String,
        /// Depth of the pod's cgroup.
        depth: u32,
        /// Absent at pod level.
        container: Option<PodContainer>,
    },
    /// A container outside of Kubernetes.
    Container {
        engine: Engine,
        /// The engine's id; for LXC the container's name.
        id: String,
        /// The user whose engine made it, unless that is root: podman and Docker run without root, too.
        user: Option<u32>,
        /// Depth of the container's cgroup.
        depth: u32,
    },
    /// A systemd unit.
    Unit {
        /// The unit, or the slice that a unit with a generated name is folded to.
        name: String,
        /// Depth of the unit's cgroup, before folding.
        depth: u32,
    },
    /// Anything else.
    Cgroup {
        /// The path, folded to a bounded name.
        name: String,
        depth: u32,
    },
}

/// A container of a Kubernetes pod, its sandbox ("pause") included: the path doesn't tell them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodContainer {
    /// The container runtime's id.
    pub id: String,
    /// Depth of the container's cgroup.
    pub depth: u32,
}

/// Who runs a container that is not Kubernetes'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    Docker,
    Podman,
    Lxc,
    /// A containerd namespace (`/default/<id>`), or the name in front of the id (`nerdctl-<id>.scope`).
    Namespace(String),
}

impl Placement {
    /// Reads a path from the root of the hierarchy, as after `0::` in `/proc/PID/cgroup`.
    ///
    /// Empty components, `.` and `..` (seen from inside of a cgroup namespace) say nothing and are skipped; so is
    /// the mark ` (deleted)` that procfs appends to the path of a cgroup that is gone.
    pub fn parse(path: impl AsRef<[u8]>) -> Self {
        let path = String::from_utf8_lossy(path.as_ref());
        let path = path.trim_end_matches('\n');
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect();
        if parts.is_empty() {
            return Self::Host;
        }
        innermost_container(&parts).or_else(|| fold::unit(&parts)).unwrap_or_else(|| fold::cgroup(&parts))
    }

    /// Base labels, as far as the path alone tells: Kubernetes' names have to come from elsewhere.
    pub fn labels(&self) -> Labels {
        let (kind, workload, pod, container) = match self {
            Self::Host => ("host", String::new(), "", ""),
            Self::Pod { uid, container, .. } => {
                ("Pod", uid.clone(), uid.as_str(), container.as_ref().map_or("", |c| short(&c.id)))
            }
            Self::Container { engine, id, .. } => match engine {
                Engine::Docker => ("docker", short(id).to_owned(), "", short(id)),
                Engine::Podman => ("podman", short(id).to_owned(), "", short(id)),
                Engine::Lxc => ("cgroup", format!("/lxc/{id}"), "", id.as_str()),
                Engine::Namespace(name) => ("cgroup", format!("/{name}/{}", short(id)), "", short(id)),
            },
            Self::Unit { name, .. } => ("systemd", name.clone(), "", ""),
            Self::Cgroup { name, .. } => ("cgroup", name.clone(), "", ""),
        };
        Labels {
            namespace: String::new(),
            workload_kind: kind.to_owned(),
            workload,
            pod: pod.to_owned(),
            container: container.to_owned(),
        }
    }

    /// What the labels have of the container's id for as long as nobody knows its name. LXC's ids are names.
    pub fn short_id(&self) -> Option<&str> {
        match self {
            Self::Container { engine: Engine::Lxc, .. } => None,
            _ => self.container_id().map(short),
        }
    }

    /// A container's pod; what isn't in one stays what it is.
    pub fn without_container(&self) -> Self {
        match self {
            Self::Pod { uid, depth, .. } => Self::Pod { uid: uid.clone(), depth: *depth, container: None },
            other => other.clone(),
        }
    }

    /// The pod's uid, with dashes.
    pub fn pod_uid(&self) -> Option<&str> {
        match self {
            Self::Pod { uid, .. } => Some(uid),
            _ => None,
        }
    }

    /// The container's full id, as its runtime names it.
    pub fn container_id(&self) -> Option<&str> {
        match self {
            Self::Pod { container, .. } => container.as_ref().map(|c| c.id.as_str()),
            Self::Container { id, .. } => Some(id),
            _ => None,
        }
    }
}

fn innermost_container(parts: &[&str]) -> Option<Placement> {
    let mut found = None;
    for (above, part) in parts.iter().enumerate() {
        let depth = to_depth(above + 1);
        // A pod's container is a direct child of the pod's cgroup, whatever its engine's prefix.
        if let Some(Placement::Pod { container: container @ None, depth: pod_depth, .. }) = &mut found
            && *pod_depth + 1 == depth
            && let Some((_, id)) = form::container(part)
        {
            *container = Some(PodContainer { id: id.to_owned(), depth });
            continue;
        }
        let here = pod(&parts[..above], part, depth).or_else(|| container(&parts[..above], part, depth));
        found = here.or(found);
    }
    found
}

fn pod(above: &[&str], part: &str, depth: u32) -> Option<Placement> {
    // runc names a cgroup `slice:prefix:id` when a systemd path meets its cgroupfs driver.
    let slice = part.split_once(':').map_or(part, |(slice, _)| slice);
    let uid = form::pod_slice(slice).or_else(|| form::pod_directory(above, part))?;
    let container = form::container(part).map(|(_, id)| PodContainer { id: id.to_owned(), depth });
    Some(Placement::Pod { uid, depth, container })
}

fn container(above: &[&str], part: &str, depth: u32) -> Option<Placement> {
    let parent = above.last().copied();
    if let Some(name) = form::lxc(parent, part) {
        let id = fold::text(name, fold::NAME_MAX - "/lxc/".len());
        return Some(Placement::Container { engine: Engine::Lxc, id, user: None, depth });
    }
    let (prefix, id) = form::container(part)?;
    let engine = match (prefix, parent) {
        ("docker", _) | ("", Some("docker")) => Engine::Docker,
        ("libpod" | "libpod-payload", _) => Engine::Podman,
        ("cri-containerd" | "containerd" | "crio" | "nerdctl" | "kata", _) => {
            Engine::Namespace(prefix.to_owned())
        }
        // podman's cgroupfs form of a podman pod.
        ("", Some("libpod_parent")) => return None,
        ("", Some(namespace)) if above.len() == 1 => Engine::Namespace(fold::component(namespace)),
        _ => return None,
    };
    let user = above.iter().find_map(|part| form::user_slice(part));
    Some(Placement::Container { engine, id: id.to_owned(), user, depth })
}

/// The 12 characters by which people know a container.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn to_depth(components: usize) -> u32 {
    u32::try_from(components).unwrap_or(u32::MAX)
}
