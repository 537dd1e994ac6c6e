//! A real containerd of its own: root, state and socket in a directory that goes with it, images made from busybox.
//!
//! `PODWITNESS_CONTAINERD` names the directories, as in `PATH`, where `containerd`, its shim, `ctr`, `runc` and a static
//! `busybox` are; else they are looked for in `PATH`.

mod api;
mod cleanup;
mod confined;
mod image;

pub use confined::{Confinement, Seccomp};

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use http::uri::PathAndQuery;
use prost::Message;
use tonic::{Request, client::Grpc, transport::Endpoint};
use tonic_prost::ProstCodec;

use self::cleanup::{cgroups_of, clear, shims, unmount_below};
use crate::{
    kernel::{self, kill},
    wait::{PATIENCE, scaled, unique, wait_for, wait_until},
};

const IMAGE: &str = "localhost/podwitness-test:1";
/// A handler whose name says that it hides a pod's containers from the kernel.
pub const SANDBOXED: &str = "kata";
/// Starting a container takes a fraction of a second, on a busy machine many of them.
const CALL: Duration = Duration::from_secs(60);

/// A running containerd; it ends with all its pods when this goes.
pub struct Containerd {
    directory: PathBuf,
    path: String,
    daemon: Mutex<Option<Child>>,
    runtime: tokio::runtime::Runtime,
    uids: Mutex<Vec<String>>,
}

/// A pod's sandbox.
pub struct Pod<'a> {
    containerd: &'a Containerd,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    config: api::PodConfig,
    sandbox: String,
}

/// Leaves the test with a sentence when there is no containerd.
#[macro_export]
macro_rules! require_containerd {
    () => {
        $crate::require_kernel!();
        if let Some(reason) = $crate::containerd::missing() {
            return $crate::kernel::not_run(reason);
        }
    };
}

/// Why there is no containerd here, if there is none.
pub fn missing() -> Option<String> {
    let path = search_path();
    let missing: Vec<_> = ["containerd", "containerd-shim-runc-v2", "ctr", "runc", "busybox"]
        .into_iter()
        .filter(|name| find(&path, name).is_none())
        .collect();
    (!missing.is_empty()).then(|| {
        format!(
            "{} missing: `cargo xtask test` unpacks Debian's, PODWITNESS_CONTAINERD names others",
            missing.join(", ")
        )
    })
}

fn search_path() -> String {
    let system = env::var("PATH").unwrap_or_default();
    env::var("PODWITNESS_CONTAINERD").map_or(system.clone(), |own| format!("{own}:{system}"))
}

fn find(path: &str, name: &str) -> Option<PathBuf> {
    env::split_paths(path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

impl Containerd {
    /// Starts it, and waits until it answers and has its image.
    #[track_caller]
    pub fn start() -> Self {
        let directory = env::temp_dir().join(format!("podwitness-cri-{}", unique()));
        fs::create_dir_all(&directory).expect("a directory for containerd");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("tokio");
        let (daemon, uids) = (Mutex::new(None), Mutex::default());
        let containerd = Self { directory, path: search_path(), daemon, runtime, uids };
        fs::write(containerd.directory.join("config.toml"), containerd.config()).expect("config.toml");
        containerd.resume();
        let archive =
            image::build(&containerd.directory, &find(&containerd.path, "busybox").expect("checked"));
        containerd.import(&archive);
        containerd
    }

    /// Takes an image out of an OCI archive.
    #[track_caller]
    pub fn import(&self, archive: &Path) {
        let import = self.ctr(&["images", "import", archive.to_str().expect("utf-8")]);
        assert!(import.status.success(), "ctr images import: {}", String::from_utf8_lossy(&import.stderr));
    }

    fn config(&self) -> String {
        let at = |name: &str| self.directory.join(name).display().to_string();
        let plugin = "plugins.\"io.containerd.grpc.v1.cri\"";
        // The root of an emulated machine is what the kernel was booted with, which can't be pivoted away.
        let no_pivot = kernel::is_vm();
        let runtime = |name: &str| {
            format!(
                "[{plugin}.containerd.runtimes.{name}]\nruntime_type = \"io.containerd.runc.v2\"\n\
                 [{plugin}.containerd.runtimes.{name}.options]\nSystemdCgroup = false\nNoPivotRoot = {no_pivot}\n"
            )
        };
        // Another handler, as a runtime class names it: not the real one, but called as that is.
        let (usual, other) = (runtime("runc"), runtime(SANDBOXED));
        format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\n[grpc]\naddress = \"{}\"\n[{plugin}]\n\
             sandbox_image = \"{IMAGE}\"\nrestrict_oom_score_adj = true\ndisable_apparmor = true\n\
             stream_server_port = \"0\"\n[{plugin}.containerd]\nsnapshotter = \"native\"\n\
             default_runtime_name = \"runc\"\n{usual}{other}\
             [{plugin}.cni]\nbin_dir = \"{}\"\nconf_dir = \"{}\"\n",
            at("root"),
            at("state"),
            at("containerd.sock"),
            at("cni/bin"),
            at("cni/net.d")
        )
    }

    /// Starts the daemon (again).
    #[track_caller]
    pub fn resume(&self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.directory.join("log"));
        let log = log.expect("the log of containerd");
        let child = Command::new(find(&self.path, "containerd").expect("checked by the test"))
            .arg("--config")
            .arg(self.directory.join("config.toml"))
            .env("PATH", &self.path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("containerd");
        *self.daemon.lock().expect("no panic") = Some(child);
        wait_until(PATIENCE * 2, "containerd answers", || {
            self.try_call::<_, api::Empty>("Version", api::Empty {}).is_ok()
        });
    }

    /// Ends the daemon and its socket; containers go on.
    #[track_caller]
    pub fn pause(&self) {
        let mut child = self.daemon.lock().expect("no panic").take().expect("a running containerd");
        kill(child.id(), libc::SIGTERM).expect("SIGTERM");
        wait_for(PATIENCE, "containerd ends", || child.try_wait().expect("wait for containerd"));
        let _ = fs::remove_file(self.socket());
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.join("containerd.sock")
    }

    /// A place for a file that goes with it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn version(&self) -> String {
        let output = Command::new(find(&self.path, "containerd").expect("checked")).arg("--version").output();
        String::from_utf8_lossy(&output.expect("containerd").stdout).trim().to_owned()
    }

    /// Whether the agent is told of new containers: from 2.0 on each listener gets every event.
    pub fn reports_events(&self) -> bool {
        let version = self.version();
        let number = version.split(' ').nth(2).unwrap_or_default();
        number.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 2)
    }

    /// Runs the sandbox of a new pod in the node's network.
    #[track_caller]
    pub fn pod(&self, namespace: &str, name: &str) -> Pod<'_> {
        self.pod_by("", namespace, name)
    }

    /// The same, with a server of names (DNS) at this address.
    #[track_caller]
    pub fn pod_with_names(&self, namespace: &str, name: &str, server: &str) -> Pod<'_> {
        let names = Some(api::DnsConfig { servers: vec![server.into()] });
        self.pod_of("", namespace, name, api::PodConfig { names, ..Default::default() })
    }

    /// The same, with these annotations.
    #[track_caller]
    pub fn pod_with_annotations(&self, namespace: &str, name: &str, all: &[(&str, &str)]) -> Pod<'_> {
        let annotations = all.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        self.pod_of("", namespace, name, api::PodConfig { annotations, ..Default::default() })
    }

    /// The same, by another handler than the usual one.
    #[track_caller]
    pub fn pod_by(&self, handler: &str, namespace: &str, name: &str) -> Pod<'_> {
        self.pod_of(handler, namespace, name, api::PodConfig::default())
    }

    #[track_caller]
    fn pod_of(&self, handler: &str, namespace: &str, name: &str, more: api::PodConfig) -> Pod<'_> {
        let number = format!("{:0>12}", unique().replace('-', ""));
        let uid = format!("5ca1ab1e-0000-4000-8000-{}", &number[number.len() - 12..]);
        self.uids.lock().expect("no panic").push(uid.clone());
        let metadata = api::PodMetadata { name: name.into(), uid: uid.clone(), namespace: namespace.into() };
        let security = api::SecurityContext { namespaces: Some(api::NamespaceOption { network: 2 }) };
        let linux = api::LinuxPod {
            cgroup_parent: format!("/kubepods/burstable/pod{uid}"),
            security: Some(security),
        };
        let logs = self.directory.join("logs").join(&uid).display().to_string();
        let config = api::PodConfig { metadata: Some(metadata), logs, linux: Some(linux), ..more };
        let request = api::RunPodRequest { config: Some(config.clone()), handler: handler.into() };
        let sandbox = self.call::<_, api::Id>("RunPodSandbox", request).id;
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Pod { containerd: self, namespace, name, uid, config, sandbox }
    }

    #[track_caller]
    fn call<T: Message + 'static, R: Message + Default + 'static>(&self, name: &str, request: T) -> R {
        self.try_call(name, request).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn try_call<T: Message + 'static, R: Message + Default + 'static>(
        &self,
        name: &str,
        request: T,
    ) -> Result<R, String> {
        let path = format!("/runtime.v1.RuntimeService/{name}");
        let path = PathAndQuery::from_maybe_shared(path).map_err(|error| error.to_string())?;
        let answer = async {
            let endpoint = Endpoint::from_shared(format!("unix:{}", self.socket().display()));
            let channel = endpoint.map_err(|error| error.to_string())?.connect().await;
            let mut grpc = Grpc::new(channel.map_err(|error| error.to_string())?);
            grpc.ready().await.map_err(|error| error.to_string())?;
            let answer = grpc.unary(Request::new(request), path, ProstCodec::<T, R>::new()).await;
            answer.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
        };
        self.runtime.block_on(async {
            tokio::time::timeout(scaled(CALL), answer).await.unwrap_or_else(|_| Err("no answer".into()))
        })
    }

    fn ctr(&self, arguments: &[&str]) -> std::process::Output {
        Command::new(find(&self.path, "ctr").expect("checked by the test"))
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", "k8s.io"])
            .args(arguments)
            .output()
            .expect("ctr")
    }
}

impl Pod<'_> {
    /// Creates a container that runs this script, and starts it.
    #[track_caller]
    pub fn run(&self, name: &str, attempt: u32, script: &str) -> String {
        let namespaces = Some(api::NamespaceOption { network: 2 });
        let security = Some(api::LinuxContainerSecurity { namespaces, ..Default::default() });
        self.start(api::ContainerConfig {
            metadata: Some(api::ContainerMetadata { name: name.into(), attempt }),
            image: Some(api::Id { id: IMAGE.into() }),
            command: ["/bin/busybox", "sh", "-c", script].map(str::to_owned).into(),
            linux: Some(api::LinuxContainer { security }),
            ..Default::default()
        })
    }

    #[track_caller]
    fn start(&self, config: api::ContainerConfig) -> String {
        let request = api::CreateRequest {
            sandbox_id: self.sandbox.clone(),
            config: Some(config),
            sandbox: Some(self.config.clone()),
        };
        let id = self.containerd.call::<_, api::Id>("CreateContainer", request).id;
        self.containerd.call::<_, api::Empty>("StartContainer", api::Id { id: id.clone() });
        id
    }

    /// Waits until a container has ended, as it has to: without an error.
    #[track_caller]
    pub fn wait(&self, id: &str) {
        wait_until(PATIENCE, "the container has ended", || {
            let request = api::Id { id: id.to_owned() };
            let answer = self.containerd.call::<_, api::StatusResponse>("ContainerStatus", request);
            let status = answer.status.expect("a status");
            assert_eq!(status.exit_code, 0, "of the container");
            status.state == 2
        });
    }

    #[track_caller]
    pub fn remove_container(&self, id: &str) {
        self.containerd.call::<_, api::Empty>("RemoveContainer", api::Id { id: id.to_owned() });
    }

    /// Ends the pod and everything in it.
    #[track_caller]
    pub fn remove(self) {
        for call in ["StopPodSandbox", "RemovePodSandbox"] {
            self.containerd.call::<_, api::Empty>(call, api::Id { id: self.sandbox.clone() });
        }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            let from = log.len().saturating_sub(4000);
            eprintln!("--- end of the log of containerd\n{}\n---", log.get(from..).unwrap_or(&log));
        }
        if let Some(mut child) = self.daemon.lock().ok().and_then(|mut daemon| daemon.take()) {
            let _ = kill(child.id(), libc::SIGTERM);
            let begin = Instant::now();
            while begin.elapsed() < scaled(PATIENCE) && child.try_wait().is_ok_and(|status| status.is_none())
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        // Shims outlive their daemon; whoever names this socket belongs to it.
        let mark = self.directory.display().to_string();
        for pid in shims(&mark) {
            let _ = kill(pid, libc::SIGKILL);
        }
        for uid in self.uids.lock().map(|uids| uids.clone()).unwrap_or_default() {
            cgroups_of(&uid).iter().for_each(|directory| clear(directory));
        }
        unmount_below(&self.directory);
        let _ = fs::remove_dir_all(&self.directory);
    }
}
