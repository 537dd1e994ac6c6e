//! The forms of directory names that container engines give their cgroups.

/// Shortest run of hex digits that is taken for a container's id. Engines use 64, ECS and some tools 32.
const CONTAINER_ID_MIN: usize = 32;
const CONTAINER_ID_MAX: usize = 128;
/// Longest pod uid. A uuid has 36 characters, but a static pod's manifest may bring its own.
const UID_MAX: usize = 64;

/// Prefix and id of a container's directory: `<id>`, `<prefix>-<id>`, `<prefix>-<id>.scope`, `kata_<id>`,
/// `<slice>:<prefix>:<id>`.
///
/// The monitor beside a container (`libpod-conmon-<id>.scope`, `crio-conmon-<id>.scope`) is the engine's
/// machinery, not the container: within a pod it belongs to the pod, elsewhere to the slice that it is in.
pub(super) fn container(part: &str) -> Option<(&str, &str)> {
    let stem = part.strip_suffix(".scope").unwrap_or(part);
    let (prefix, id) = if let Some((rest, id)) = stem.rsplit_once(':') {
        (rest.rsplit_once(':')?.1, id)
    } else if let Some(id) = stem.strip_prefix("kata_") {
        ("kata", id)
    } else {
        stem.rsplit_once('-').unwrap_or(("", stem))
    };
    (is_container_id(id) && !prefix.ends_with("conmon")).then_some((prefix, id))
}

/// The uid in the systemd driver's `kubepods-burstable-pod<uid>.slice`, which has underscores for dashes. A
/// nested kubelet puts the name of its own root in front: `kubelet-kubepods-…`.
pub(super) fn pod_slice(part: &str) -> Option<String> {
    let (parents, uid) = part.strip_suffix(".slice")?.rsplit_once("-pod")?;
    let certain = parents.split('-').any(|parent| parent == "kubepods");
    pod_uid(uid, certain)
}

/// The uid in the cgroupfs driver's `pod<uid>`, in `kubepods` or one of its QoS directories.
pub(super) fn pod_directory(above: &[&str], part: &str) -> Option<String> {
    let parents = above.strip_suffix(&["burstable"]).or_else(|| above.strip_suffix(&["besteffort"]));
    let certain = parents.unwrap_or(above).ends_with(&["kubepods"]);
    pod_uid(part.strip_prefix("pod")?, certain)
}

/// The name of an LXC container: `lxc.payload.NAME`, `lxc.payload/NAME`, `lxc/NAME`.
pub(super) fn lxc<'a>(parent: Option<&str>, part: &'a str) -> Option<&'a str> {
    match parent {
        Some("lxc" | "lxc.payload") => Some(part),
        _ => part.strip_prefix("lxc.payload.").filter(|name| !name.is_empty()),
    }
}

/// The user in systemd's `user-1000.slice`; none for root.
pub(super) fn user_slice(part: &str) -> Option<u32> {
    let user = part.strip_prefix("user-")?.strip_suffix(".slice")?;
    user.parse().ok().filter(|user| *user != 0)
}

/// Away from `kubepods` (`certain`) only what can't be anything else is taken for a pod.
fn pod_uid(uid: &str, certain: bool) -> Option<String> {
    let plausible = !uid.is_empty()
        && uid.len() <= UID_MAX
        && uid.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    let uid = uid.replace('_', "-");
    let usual = is_uuid(uid.as_bytes()) || (uid.len() == 32 && uid.bytes().all(is_lower_hex));
    (usual || (certain && plausible)).then_some(uid)
}

fn is_container_id(id: &str) -> bool {
    (CONTAINER_ID_MIN..=CONTAINER_ID_MAX).contains(&id.len()) && id.bytes().all(is_lower_hex)
}

pub(super) fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}
