//! The image that users get, in a real container: nothing but the agent in it, and all of it works.

use std::{
    net::{Ipv4Addr, UdpSocket},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use integration_tests::{
    Api, Confinement, Containerd, agent, kernel, require_containerd,
    wait::{PATIENCE, unique, wait_for, wait_until},
};

/// Given to the image by `cargo xtask image`.
const NAME: &str = concat!("localhost/podwitness:", env!("CARGO_PKG_VERSION"));
/// The most that a node may have to pull.
const BYTES_MAX: u64 = 12_000_000;

/// An address of loopback for a server of names, which has to have port 53: of this process alone.
fn names_at() -> Ipv4Addr {
    let [.., high, middle, low] = std::process::id().to_be_bytes();
    // Numbers of processes have 22 bits.
    Ipv4Addr::new(127, 64 + high, middle, low)
}

/// The archive, or none with a sentence.
fn archive() -> Option<PathBuf> {
    let archive = std::env::var_os("PODWITNESS_IMAGE").map(PathBuf::from);
    if archive.is_none() {
        kernel::not_run("PODWITNESS_IMAGE names no archive of `cargo xtask image`");
    }
    archive
}

/// What the manifests show of the node.
fn usual() -> Confinement {
    Confinement {
        capabilities: vec!["BPF", "PERFMON"],
        image: Some(NAME.into()),
        shown: ["/sys/fs/cgroup", "/sys/kernel/tracing"].map(PathBuf::from).into(),
        ..Confinement::default()
    }
}

#[test]
fn the_image_has_all_that_the_agent_needs() {
    require_containerd!();
    let Some(archive) = archive() else { return };
    let bytes = archive.metadata().expect("the image").len();
    assert!(bytes <= BYTES_MAX, "{bytes} bytes to pull are too many");
    let containerd = Containerd::start();
    containerd.import(&archive);
    let pod = containerd.pod(&format!("podwitness-{}", unique()), "agent");
    let id = pod.run_confined("doctor", &usual(), &["/podwitness", "doctor"]);
    let code = wait_for(PATIENCE * 3, "the doctor is done", || pod.exit_code(&id));
    assert_eq!(code, 0, "{}", pod.log("doctor"));
    let active = pod.log("doctor").matches(" active ").count();
    assert_eq!(active, agent::SENSORS.len(), "{}", pod.log("doctor"));
    // Whoever runs it as it is gets an answer, too, as somebody without any right.
    let nobody = Confinement { capabilities: vec![], user: 65532, ..usual() };
    let id = pod.run_confined("version", &nobody, &["/podwitness", "--version"]);
    assert_eq!(wait_for(PATIENCE, "the version is told", || pod.exit_code(&id)), 0);
    assert!(pod.log("version").starts_with("podwitness "), "{}", pod.log("version"));
}

/// An agent that trusts nobody ends at its start, before it attaches anything.
#[test]
fn the_image_has_the_authorities_for_a_collector_at_https() {
    require_containerd!();
    let Some(archive) = archive() else { return };
    let containerd = Containerd::start();
    containerd.import(&archive);
    let pod = containerd.pod(&format!("podwitness-{}", unique()), "agent");
    // Nobody has to be there.
    let words = ["/podwitness", "agent", "--otlp-endpoint", "https://127.0.0.1:9"];
    let id = pod.run_confined("agent", &usual(), &words);
    wait_until(PATIENCE * 3, "the agent is at work, or gone", || {
        pod.log("agent").contains(" active ") || pod.exit_code(&id).is_some()
    });
    assert_eq!(pod.exit_code(&id), None, "{}", pod.log("agent"));
}

/// There is no shared library in the image by which names could be resolved: it has to be in the agent.
#[test]
fn names_of_servers_are_resolved_in_the_image() {
    require_containerd!();
    let Some(archive) = archive() else { return };
    let api = Api::serve(&[("/api/v1/pods", "")]);
    // The same server by a name.
    let text = std::fs::read_to_string(api.kubeconfig()).expect("the kubeconfig");
    let (_, rest) = text.split_once("http://").expect("an address");
    let address = rest.split(':').next().expect("an address");
    let names = Names::start(address.parse().expect("an IPv4 address"));
    let text = text.replace(address, "api.podwitness.test");
    let containerd = Containerd::start();
    let kubeconfig = containerd.file("kubeconfig");
    std::fs::write(&kubeconfig, text).expect("a kubeconfig");
    containerd.import(&archive);
    let pod =
        containerd.pod_with_names(&format!("podwitness-{}", unique()), "agent", &names_at().to_string());
    let mut confinement = usual();
    confinement.shown.push(kubeconfig.clone());
    let kubeconfig = kubeconfig.to_str().expect("UTF-8");
    let words =
        ["/podwitness", "doctor", "--identity-kubeconfig", kubeconfig, "--identity-node-name", "node-1"];
    let id = pod.run_confined("doctor", &confinement, &words);
    wait_for(PATIENCE * 3, "the doctor is done", || pod.exit_code(&id));
    let log = pod.log("doctor");
    let line = log.lines().find(|line| line.starts_with("kubernetes ")).expect("a line");
    assert!(line.contains("kubernetes     ok           no pod on node-1"), "{log}");
    assert!(names.was_asked(), "the server of names was not asked");
}

/// A server of names that tells the same address for every one.
struct Names {
    asked: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Names {
    fn start(told: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind((names_at(), 53)).expect("port 53 of an address of loopback");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let (asked, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (noted, stopping) = (Arc::clone(&asked), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut question = [0; 512];
            while !stopping.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut question) else { continue };
                noted.store(true, Ordering::Relaxed);
                let _ = socket.send_to(&answer(&question[..length], told), from);
            }
        });
        Self { asked, stop, thread: Some(thread) }
    }

    fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// The question, and the address if it is for an IPv4 address (RFC 1035, section 4).
fn answer(question: &[u8], told: Ipv4Addr) -> Vec<u8> {
    let name = question[12..].iter().position(|byte| *byte == 0).expect("the end of the name") + 13;
    let wants_v4 = question[name..name + 2] == [0, 1];
    let mut answer = question[..2].to_vec();
    // An answer, recursion wanted and available, no error; one question, one or no record.
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(wants_v4), 0, 0, 0, 0]);
    answer.extend(&question[12..name + 4]);
    if wants_v4 {
        // The name as in the question, A, IN, a lifetime of 1 s, 4 bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(told.octets());
    }
    answer
}
