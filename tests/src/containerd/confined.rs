//! A container that is given only what it asks for, as a manifest's `securityContext` says it.

use std::{fs, path::PathBuf};

use super::{IMAGE, Pod, api};

/// Which system calls are allowed.
#[derive(Clone, Debug, Default)]
pub enum Seccomp {
    /// Those of the runtime's own profile.
    #[default]
    Runtime,
    /// Those of the profile in a file.
    File(PathBuf),
}

/// What a container gets. All capabilities are taken away first, the root is read-only, and nothing can be gained.
#[derive(Clone, Debug, Default)]
pub struct Confinement {
    pub capabilities: Vec<&'static str>,
    /// Whether the capabilities are ambient, so that a user who isn't root has them, too.
    pub ambient: bool,
    pub user: i64,
    pub seccomp: Seccomp,
    /// The image; else the one of the tests.
    pub image: Option<String>,
    /// Files and directories of the node, at the same place inside; all read-only.
    pub shown: Vec<PathBuf>,
}

impl Pod<'_> {
    /// Starts a container of this kind. What it prints is told by [`Self::log`].
    #[track_caller]
    pub fn run_confined(&self, name: &str, confinement: &Confinement, command: &[&str]) -> String {
        let Confinement { capabilities, ambient, user, seccomp, image, shown } = confinement;
        let add: Vec<_> = capabilities.iter().map(|name| (*name).to_owned()).collect();
        let add_ambient = if *ambient { add.clone() } else { Vec::new() };
        let (kind, file) = match seccomp {
            Seccomp::Runtime => (0, String::new()),
            Seccomp::File(file) => (2, file.display().to_string()),
        };
        let security = api::LinuxContainerSecurity {
            capabilities: Some(api::Capability { add, drop: vec!["ALL".into()], add_ambient }),
            namespaces: Some(api::NamespaceOption { network: 2 }),
            user: Some(api::User { id: *user }),
            read_only_root: true,
            no_new_privileges: true,
            seccomp: Some(api::SecurityProfile { kind, file }),
        };
        fs::create_dir_all(&self.config.logs).expect("a directory for the log");
        let mount = |path: &PathBuf| api::Mount {
            inside: path.display().to_string(),
            outside: path.display().to_string(),
            read_only: true,
        };
        self.start(api::ContainerConfig {
            metadata: Some(api::ContainerMetadata { name: name.into(), attempt: 0 }),
            image: Some(api::Id { id: image.clone().unwrap_or_else(|| IMAGE.into()) }),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            mounts: shown.iter().map(mount).collect(),
            log: format!("{name}.log"),
            linux: Some(api::LinuxContainer { security: Some(security) }),
            ..Default::default()
        })
    }

    /// What a confined container has printed so far: standard output and standard error.
    pub fn log(&self, name: &str) -> String {
        let path = PathBuf::from(&self.config.logs).join(format!("{name}.log"));
        let text = fs::read_to_string(path).unwrap_or_default();
        // Each line begins with a time, a stream and a tag.
        text.lines()
            .map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default())
            .fold(String::new(), |all, line| all + line + "\n")
    }

    /// The exit code of a container that has ended.
    pub fn exit_code(&self, id: &str) -> Option<i32> {
        let request = api::Id { id: id.to_owned() };
        let answer = self.containerd.call::<_, api::StatusResponse>("ContainerStatus", request);
        let status = answer.status.expect("a status");
        (status.state == 2).then_some(status.exit_code)
    }
}
