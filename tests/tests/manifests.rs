//! What users install: the Helm chart rendered by Helm, the overlays by kustomize, without a cluster or a network.
//!
//! `PODWITNESS_HELM`, `PODWITNESS_KUBECTL` and `PODWITNESS_VALIDATOR` name the tools; `cargo xtask test` has them.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use integration_tests::{agent, kernel, wait::unique};

/// The versions of Kubernetes whose schemas are asked: recent ones, and the oldest that the chart takes.
const RECENT: [&str; 2] = ["1.33", "1.37"];
const OLDEST: [&str; 1] = ["1.27"];
/// An overlay, and the values of the chart that say the same.
const PAIRS: [(&str, Option<&str>); 5] = [
    ("base", None),
    ("overlays/k3s", Some("k3s.yaml")),
    ("overlays/no-api", Some("no-api.yaml")),
    ("overlays/otlp", Some("otlp.yaml")),
    ("overlays/peers", Some("peers.yaml")),
];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

struct Tools {
    helm: PathBuf,
    kubectl: PathBuf,
    validator: PathBuf,
    /// For what passes from one to the other.
    directory: PathBuf,
}

impl Tools {
    /// None, with a sentence, where they are missing.
    fn find() -> Option<Self> {
        let tool = |name: &str| env::var_os(name).map(PathBuf::from);
        let found = (tool("PODWITNESS_HELM"), tool("PODWITNESS_KUBECTL"), tool("PODWITNESS_VALIDATOR"));
        let (Some(helm), Some(kubectl), Some(validator)) = found else {
            let reason = "PODWITNESS_HELM, PODWITNESS_KUBECTL or PODWITNESS_VALIDATOR is not set: `cargo xtask test` has them";
            kernel::not_run(reason);
            return None;
        };
        let directory = env::temp_dir().join(format!("podwitness-manifests-{}", unique()));
        fs::create_dir_all(&directory).expect("a directory");
        Some(Self { helm, kubectl, validator, directory })
    }

    fn helm(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.helm);
        // Nothing of the user's own.
        for name in ["HELM_CONFIG_HOME", "HELM_CACHE_HOME", "HELM_DATA_HOME"] {
            command.env(name, &self.directory);
        }
        command.args(arguments).output().expect("helm")
    }

    fn template(&self, arguments: &[&str]) -> String {
        let chart = deploy().join("helm/podwitness").display().to_string();
        let always = ["template", "podwitness", &chart, "--namespace", "podwitness"];
        text(self.helm(&[&always, arguments].concat()), &format!("helm template {arguments:?}"))
    }

    fn kustomize(&self, directory: &Path) -> String {
        text(
            Command::new(&self.kubectl).arg("kustomize").arg(directory).output().expect("kubectl"),
            "kustomize",
        )
    }

    /// The same objects in kustomize's hand, so that only what differs differs.
    fn rewritten(&self, manifests: &str) -> String {
        let directory = self.directory.join(unique());
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(directory.join("all.yaml"), manifests).expect("manifests");
        fs::write(directory.join("kustomization.yaml"), "resources: [all.yaml]\n").expect("kustomization");
        self.kustomize(&directory)
    }

    /// An overlay together with the component that older API servers need.
    fn kustomize_for_old(&self, overlay: &str) -> String {
        let kustomize = deploy().join("kustomize").canonicalize().expect("overlays");
        let directory = self.directory.canonicalize().expect("a directory").join(unique());
        fs::create_dir_all(&directory).expect("a directory");
        // It takes relative paths only.
        let up = "../".repeat(directory.components().count() - 1);
        let kustomize = format!("{up}{}", kustomize.strip_prefix("/").expect("an absolute path").display());
        let text =
            format!("resources: [{kustomize}/{overlay}]\ncomponents: [{kustomize}/components/before-1.30]\n");
        fs::write(directory.join("kustomization.yaml"), text).expect("kustomization");
        self.kustomize(&directory)
    }

    fn validate(&self, manifests: &str, versions: &[&str], what: &str) {
        let file = self.directory.join("validate.yaml");
        // What an operator defines is in no schema of Kubernetes.
        let own: Vec<_> =
            manifests.split("\n---\n").filter(|text| !text.contains("monitoring.coreos.com/v1")).collect();
        fs::write(&file, own.join("\n---\n")).expect("manifests");
        for version in versions {
            let output = Command::new("python3")
                .args(["-m", "kubernetes_validate", "--strict", "--quiet", "-k", *version])
                .arg(&file)
                .env("PYTHONPATH", &self.validator)
                .output();
            text(output.expect("python3"), &format!("{what} by the schemas of {version}"));
        }
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[track_caller]
fn text(output: Output, what: &str) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {said}{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Objects by kind and name, without what is Helm's or kustomize's own: who manages it, and how a change of the
/// configuration is noticed.
fn objects(manifests: &str) -> BTreeMap<String, String> {
    let mut objects = BTreeMap::new();
    for object in manifests.split("---\n") {
        let lines = object.lines().filter(|line| {
            !line.contains("app.kubernetes.io/managed-by:") && !line.contains("podwitness.dev/config-digest:")
        });
        let lines: Vec<_> = lines.map(without_digest).collect();
        let value =
            |key: &str| lines.iter().find_map(|line| line.strip_prefix(key)).unwrap_or_default().to_owned();
        let (kind, name) = (value("kind: "), value("  name: "));
        if kind == "Namespace" {
            continue;
        }
        let text = lines.join("\n").replace("      annotations:\n      labels:", "      labels:");
        objects.insert(format!("{kind} {name}"), text);
    }
    objects
}

/// `podwitness` of `podwitness-fk2b7g6h6b`.
fn without_digest(line: &str) -> String {
    match line.split_once("name: podwitness-") {
        Some((before, digest)) if digest.len() == 10 && !digest.contains('-') => {
            format!("{before}name: podwitness")
        }
        _ => line.to_owned(),
    }
}

/// The agent's configuration out of a ConfigMap in kustomize's hand.
fn configuration(manifests: &str) -> String {
    let (_, rest) = manifests.split_once("  config.yaml: |\n").expect("a configuration");
    let lines = rest.lines().take_while(|line| line.starts_with("    "));
    lines.map(|line| format!("{}\n", &line[4..])).filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn chart_and_overlays_agree_and_are_what_kubernetes_takes() {
    let Some(tools) = Tools::find() else { return };
    let mut all = String::new();
    for (overlay, values) in PAIRS {
        let values = values.map(|name| deploy().join("helm/values").join(name).display().to_string());
        let arguments: Vec<_> = values.iter().flat_map(|values| ["--values", values]).collect();
        let chart = tools.rewritten(&tools.template(&arguments));
        let overlaid = tools.kustomize(&deploy().join("kustomize").join(overlay));
        all += &format!("---\n{chart}\n---\n{overlaid}");
        assert_eq!(configuration(&chart), configuration(&overlaid), "{overlay}");
        let (mut by_helm, mut by_kustomize) = (objects(&chart), objects(&overlaid));
        // Compared above: the comments differ.
        by_helm.remove("ConfigMap podwitness").expect("a ConfigMap");
        by_kustomize.remove("ConfigMap podwitness").expect("a ConfigMap");
        assert_eq!(by_helm.keys().collect::<Vec<_>>(), by_kustomize.keys().collect::<Vec<_>>(), "{overlay}");
        for (name, text) in &by_helm {
            assert_eq!(text, &by_kustomize[name], "{overlay}: {name}");
        }
        // What is in it is what the agent takes.
        let file = tools.directory.join("config.yaml");
        fs::write(&file, configuration(&chart)).expect("a configuration");
        let output = agent::run(&["config", "--config", file.to_str().expect("UTF-8")]);
        text(output, &format!("the agent on the configuration of {overlay}"));
    }
    tools.validate(&all, &RECENT, "charts and overlays");
}

/// API servers that don't know a field refuse it.
#[test]
fn old_kubernetes_gets_no_field_that_it_doesnt_know() {
    let Some(tools) = Tools::find() else { return };
    let mut all = String::new();
    for (overlay, values) in PAIRS {
        let values = values.map(|name| deploy().join("helm/values").join(name).display().to_string());
        let mut arguments = vec!["--kube-version", "1.27.0"];
        arguments.extend(values.iter().flat_map(|values| ["--values", values]));
        let chart = tools.rewritten(&tools.template(&arguments));
        let overlaid = tools.kustomize_for_old(overlay);
        let name = "DaemonSet podwitness";
        assert_eq!(objects(&chart)[name], objects(&overlaid)[name], "{overlay}");
        all += &format!("---\n{chart}\n---\n{overlaid}");
    }
    assert!(all.contains("mountPath: /sys/fs/cgroup") && !all.contains("recursiveReadOnly"));
    tools.validate(&all, &OLDEST, "charts and overlays");
}

/// What a careful team looks for in a manifest.
#[test]
fn the_pod_asks_for_no_more_than_it_needs() {
    let Some(tools) = Tools::find() else { return };
    let pod =
        objects(&tools.rewritten(&tools.template(&[]))).remove("DaemonSet podwitness").expect("a DaemonSet");
    for expected in [
        "privileged: false",
        "allowPrivilegeEscalation: false",
        "readOnlyRootFilesystem: true",
        "drop:\n            - ALL",
        "add:\n            - BPF\n            - PERFMON\n",
        "seccompProfile:\n            type: RuntimeDefault",
        "path: /readyz",
        "path: /healthz",
        "priorityClassName: podwitness",
        "- operator: Exists",
        // Each hierarchy below is a mount of its own on hybrid nodes.
        "mountPath: /sys/fs/cgroup\n          name: cgroups\n          readOnly: true\n          recursiveReadOnly: IfPossible",
    ] {
        assert!(pod.contains(expected), "no `{expected}` in\n{pod}");
    }
    for unwanted in ["hostNetwork", "hostPID", "hostIPC", "SYS_ADMIN", "containerd.sock", "/run"] {
        assert!(!pod.contains(unwanted), "`{unwanted}` in\n{pod}");
    }
    let mounts = pod.matches("mountPath:").count();
    assert_eq!(mounts, pod.matches("readOnly: true").count(), "a mount that can be written to in\n{pod}");
}

#[test]
fn every_switch_of_the_chart_renders() {
    let Some(tools) = Tools::find() else { return };
    let all = [
        "metrics.podMonitor.enabled=true",
        "metrics.serviceMonitor.enabled=true",
        "metrics.rules.enabled=true",
        "metrics.rules.runbooks=https://runbooks.example/podwitness",
        "metrics.dashboards.enabled=true",
        "peers.enabled=true",
        "containerRuntime.socket=/run/containerd/containerd.sock",
        "securityContext.extraCapabilities={SYS_RESOURCE}",
        "securityContext.seccompProfile.type=Localhost",
        "securityContext.seccompProfile.localhostProfile=podwitness.json",
        "image.digest=sha256:0123456789012345678901234567890123456789012345678901234567890123",
        "commonLabels.team=nodes",
        "podLabels.a=b",
        "podAnnotations.c=d",
        "fullnameOverride=watcher",
        "viewers.enabled=true",
        "viewers.subjects[0].kind=Group,viewers.subjects[0].name=developers",
        "viewers.subjects[0].apiGroup=rbac.authorization.k8s.io",
        "extraVolumes[0].name=authorities,extraVolumes[0].secret.secretName=authorities",
        "extraVolumeMounts[0].name=authorities,extraVolumeMounts[0].mountPath=/etc/authorities",
    ];
    let arguments: Vec<_> = all.iter().flat_map(|value| ["--set", value]).collect();
    let old = tools.template(&[&arguments[..], &["--kube-version", "1.27.0"]].concat());
    tools.validate(&tools.rewritten(&old), &OLDEST, "all switches");
    let rendered = tools.rewritten(&tools.template(&arguments));
    tools.validate(&rendered, &RECENT, "all switches");
    for expected in [
        "honorLabels: true",
        "kind: PodMonitor",
        "kind: ServiceMonitor",
        "name: watcher-peers",
        "name: watcher-viewer",
        "- pods/portforward",
        "name: developers",
        "- SYS_RESOURCE",
        "@sha256:0123",
        "mountPath: /run/containerd",
        "mountPath: /etc/authorities",
        "secretName: authorities",
        "team: nodes",
    ] {
        assert!(rendered.contains(expected), "no `{expected}`");
    }
    let none = [
        "serviceAccount.create=false",
        "rbac.create=false",
        "networkPolicy.enabled=false",
        "priorityClass.create=false",
        "kubernetes.enabled=false",
        "tracefs=false",
    ];
    let arguments: Vec<_> = none.iter().flat_map(|value| ["--set", value]).collect();
    let rendered = objects(&tools.rewritten(&tools.template(&arguments)));
    assert_eq!(rendered.keys().collect::<Vec<_>>(), ["ConfigMap podwitness", "DaemonSet podwitness"]);
    text(
        tools.helm(&["lint", "--strict", &deploy().join("helm/podwitness").display().to_string()]),
        "helm lint",
    );
}

/// Values that are taken away leave the chart whole, and open nothing.
#[test]
fn values_that_say_nothing_render() {
    let Some(tools) = Tools::find() else { return };
    let nothing = ["config=null", "securityContext.extraCapabilities=null", "networkPolicy.apiPorts=[]"];
    let arguments: Vec<_> = nothing.iter().flat_map(|value| ["--set-json", value]).collect();
    let rendered = objects(&tools.rewritten(&tools.template(&arguments)));
    // A rule without ports would let out to all of them.
    let names = "egress:\n  - ports:\n    - port: 53\n      protocol: UDP\n    - port: 53\n      protocol: TCP\n  ingress:";
    assert!(rendered["NetworkPolicy podwitness"].contains(names), "{}", rendered["NetworkPolicy podwitness"]);
    assert!(rendered["DaemonSet podwitness"].contains("add:\n            - BPF\n            - PERFMON\n"));
    let bare = tools.template(&["--set-json", "securityContext.capabilities=null"]);
    let bare = &objects(&tools.rewritten(&bare))["DaemonSet podwitness"];
    assert!(bare.contains("drop:") && !bare.contains("add:"), "{bare}");
    let chart = configuration(&tools.rewritten(&tools.template(&["--set-json", "config=null"])));
    assert_eq!(chart, configuration(&tools.rewritten(&tools.template(&[]))));
    // What the agent takes in the form in which Helm writes it.
    let arguments = ["--set-json", "config={\"otlp\":{\"sample_ratio\":0.00001}}"];
    let written = configuration(&tools.rewritten(&tools.template(&arguments)));
    let file = tools.directory.join("config.yaml");
    fs::write(&file, &written).expect("a configuration");
    let output = agent::run(&["config", "--config", file.to_str().expect("UTF-8")]);
    text(output, &format!("the agent on {written}"));
}

/// A mistake in the values is told before anything is installed.
#[test]
fn the_schema_refuses_what_is_no_value() {
    let Some(tools) = Tools::find() else { return };
    let chart = deploy().join("helm/podwitness").display().to_string();
    for (mistake, told) in [
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("metrics.port=70000", "port"),
        ("securityContext.capabilities={CAP_BPF}", "capabilities"),
        ("securityContext.capabilities={ALL}", "capabilities"),
        ("containerRuntime.socket=run/containerd.sock", "socket"),
        ("metrics.podmonitor.enabled=true", "podmonitor"),
        ("hostNetwork=true", "hostNetwork"),
        ("securityContext.seccompProfile.type=Localhost", "localhostProfile"),
        ("metrics.podMonitor.interval=soon", "interval"),
        ("viewers.subjects[0].kind=Robot", "subjects"),
        // What other values decide.
        ("config.metrics\\.listen=:80", "metrics.listen"),
        ("config.metrics.listen=:80", "'listen'"),
        ("config.identity\\.cri_socket=/x", "identity.cri_socket"),
        ("config.identity.cri_socket=/x", "'cri_socket'"),
        ("config.identity.docker_socket=/x", "'docker_socket'"),
        ("config.peers.kubernetes=true", "'kubernetes'"),
    ] {
        let output = tools.helm(&["template", "podwitness", &chart, "--set", mistake]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(told), "{mistake}: {said}");
    }
}
