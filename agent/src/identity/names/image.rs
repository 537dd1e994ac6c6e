//! Which version of a service an image holds, by the image's name.

/// By OpenTelemetry's rule for Kubernetes: tag and digest, or the one that there is. None for a bare id, and where the
/// name tells no version at all. The form of names is that of <https://github.com/distribution/reference>.
pub(super) fn version(image: &str) -> Option<String> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest).filter(|digest| is_digest(digest))),
        // What a runtime knows by its id alone.
        None if is_digest(image) => return None,
        None => (image, None),
    };
    // A port stands before the last slash, a tag behind.
    let (_, last) = name.rsplit_once('/').unwrap_or(("", name));
    let tag = last.split_once(':').map(|(_, tag)| tag).filter(|tag| is_tag(tag));
    match (tag, digest) {
        (Some(tag), Some(digest)) => Some(format!("{tag}@{digest}")),
        (one, other) => one.or(other).map(str::to_owned),
    }
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii() && is_word(c as u8))
        && text.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

/// `sha256:…`
fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hash)| {
        !algorithm.is_empty()
            && algorithm.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+.-_".contains(&byte))
            && (32..=128).contains(&hash.len())
            && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_and_digest_are_told_apart_from_ports_and_ids() {
        let digest = format!("sha256:{}", "a0".repeat(32));
        for (image, expected) in [
            ("nginx", None),
            ("nginx:1.25", Some("1.25".to_owned())),
            ("registry:5000/team/nginx", None),
            ("registry:5000/team/nginx:v2_rc.1", Some("v2_rc.1".to_owned())),
            (format!("nginx@{digest}").as_str(), Some(digest.clone())),
            (format!("registry:5000/nginx:1.25@{digest}").as_str(), Some(format!("1.25@{digest}"))),
            (digest.as_str(), None),
            ("nginx@sha256:short", None),
            ("nginx:-no", None),
            ("nginx:", None),
            ("", None),
        ] {
            assert_eq!(version(image), expected, "{image}");
        }
    }
}
