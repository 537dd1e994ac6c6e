//! Archives of the kind the kernel unpacks into its first file system (cpio, the form "newc").

use std::collections::BTreeSet;
use std::path::{Component, Path};

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

/// The end of the archive is a file of this name.
const END: &str = "TRAILER!!!";

#[derive(Clone, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    made: BTreeSet<String>,
}

impl Archive {
    /// A directory and whatever of the way to it is missing.
    pub(super) fn directory(&mut self, path: &Path) {
        let mut name = String::new();
        for component in path.components() {
            let Component::Normal(part) = component else { continue };
            if !name.is_empty() {
                name.push('/');
            }
            name.push_str(&part.to_string_lossy());
            if self.made.insert(name.clone()) {
                self.entry(&name, DIRECTORY, &[]);
            }
        }
    }

    pub(super) fn file(&mut self, path: &Path, content: &[u8]) {
        self.add(path, FILE, content);
    }

    pub(super) fn program(&mut self, path: &Path, content: &[u8]) {
        self.add(path, PROGRAM, content);
    }

    pub(super) fn link(&mut self, path: &Path, to: &str) {
        self.add(path, LINK, to.as_bytes());
    }

    pub(super) fn has(&self, path: &Path) -> bool {
        self.made.contains(&relative(path))
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry(END, 0, &[]);
        self.bytes
    }

    /// The first of a name stays.
    fn add(&mut self, path: &Path, mode: u32, content: &[u8]) {
        if let Some(parent) = path.parent() {
            self.directory(parent);
        }
        let name = relative(path);
        if self.made.insert(name.clone()) {
            self.entry(&name, mode, content);
        }
    }

    /// A header of thirteen numbers in eight hexadecimal digits each, the name, the content.
    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        let inode = self.made.len() as u32;
        let length = u32::try_from(content.len()).expect("files of the test machine are small");
        let links = 1;
        let name_length = name.len() as u32 + 1;
        let header = [inode, mode, 0, 0, links, 0, length, 0, 0, 0, 0, name_length, 0];
        self.bytes.extend(b"070701");
        for number in header {
            self.bytes.extend(format!("{number:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

fn relative(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Archive;

    #[test]
    fn a_file_brings_its_directories_and_nothing_comes_twice() {
        let mut archive = Archive::default();
        archive.program(Path::new("/usr/bin/ip"), b"ELF");
        archive.program(Path::new("/usr/bin/ip"), b"other");
        assert!(archive.has(Path::new("/usr/bin/ip")));
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("070701").count(), 4, "usr, usr/bin, usr/bin/ip, the end");
        assert!(text.contains("usr/bin/ip\0") && !text.contains("other"));
        assert!(text.starts_with("0707010000000100004 1ed".replace(' ', "").as_str()));
    }
}
