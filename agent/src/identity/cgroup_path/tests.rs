mod hostile;

use super::*;

const ID: &str = "c50dc242d28e75cfbe32c96a60280e0e6119fb0882e0f43d0474eebae765a78e";
const OUTER: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
const UID: &str = "dd81f911-29e4-4ac6-9355-28858e37cdd7";
const STATIC_UID: &str = "8a15c2f6d0b94e7f8a15c2f6d0b94e7f";

/// Fills in a path's placeholders.
fn path(form: &str) -> String {
    form.replace("{burstable}", "/kubepods.slice/kubepods-burstable.slice")
        .replace("{kind}", "/system.slice/docker-{outer}.scope/kubelet.slice/kubelet-kubepods.slice")
        .replace("{user}", "/user.slice/user-1000.slice/user@1000.service")
        .replace("{id}", ID)
        .replace("{outer}", OUTER)
        .replace("{uid}", UID)
        .replace("{u_id}", &UID.replace('-', "_"))
        .replace("{static}", STATIC_UID)
}

fn labels(form: &str) -> [String; 5] {
    Placement::parse(path(form)).labels().values().map(str::to_owned)
}

#[test]
fn pods_and_their_containers() {
    for [form, pod, container] in rows(PODS) {
        assert_eq!(labels(form), ["", "Pod", &path(pod), &path(pod), container], "{form}");
    }
    assert_eq!(labels("/kubepods/pod{uid}/{id} (deleted)\n")[4], "c50dc242d28e");
}

/// Path, pod, container.
const PODS: &str = "
    # cgroupfs driver, as recorded from Kubernetes 1.36.
    /kubepods/burstable/pod{uid}/{id}                                               {uid}      c50dc242d28e
    /kubepods/besteffort/pod{uid}/{id}                                              {uid}      c50dc242d28e
    /kubepods/pod{uid}/{id}                                                         {uid}      c50dc242d28e
    /kubepods/burstable/pod{uid}                                                    {uid}      -
    /kubepods/pod{uid}                                                              {uid}      -
    /kubepods/burstable/pod{static}/{id}                                            {static}   c50dc242d28e
    /kubepods/burstable/podmy-own.uid/{id}                                          my-own.uid c50dc242d28e
    /kubepods/burstable/pod{uid}/crio-{id}                                          {uid}      c50dc242d28e
    /kubepods/burstable/pod{uid}/kata_{id}                                          {uid}      c50dc242d28e
    # systemd driver.
    {burstable}/kubepods-burstable-pod{u_id}.slice/cri-containerd-{id}.scope        {uid}      c50dc242d28e
    /kubepods.slice/kubepods-pod{u_id}.slice/cri-containerd-{id}.scope              {uid}      c50dc242d28e
    /kubepods.slice/kubepods-pod{static}.slice/cri-containerd-{id}.scope            {static}   c50dc242d28e
    {burstable}/kubepods-burstable-pod{u_id}.slice                                  {uid}      -
    /kubepods.slice/kubepods-pod{u_id}.slice/crio-{id}.scope                        {uid}      c50dc242d28e
    /kubepods.slice/kubepods-pod{u_id}.slice/docker-{id}.scope                      {uid}      c50dc242d28e
    # CRI-O's monitor is charged to the pod, and is not the container.
    /kubepods.slice/kubepods-pod{u_id}.slice/crio-conmon-{id}.scope                 {uid}      -
    # A cgroupfs runtime below a systemd kubelet.
    /system.slice/containerd.service/kubepods-pod{u_id}.slice:cri-containerd:{id}   {uid}      c50dc242d28e
    # What the container makes inside of itself is the container.
    /kubepods/burstable/pod{uid}/{id}/init                                          {uid}      c50dc242d28e
    /kubepods/pod{uid}/{id}/system.slice/nginx.service                              {uid}      c50dc242d28e
    /kubepods/pod{uid}/{id}/{outer}                                                 {uid}      c50dc242d28e
    /kubepods.slice/kubepods-pod{u_id}.slice/crio-{id}.scope/container              {uid}      c50dc242d28e
    # What the pod has besides containers is the pod.
    /kubepods/pod{uid}/something/{id}                                               {uid}      -
    # kind, K3s in Docker, k0s, a cluster in a pod.
    /docker/{outer}/kubelet/kubepods/burstable/pod{uid}/{id}                        {uid}      c50dc242d28e
    {kind}/kubelet-kubepods-pod{u_id}.slice/cri-containerd-{id}.scope               {uid}      c50dc242d28e
    /system.slice/k0scontroller.service/kubepods/besteffort/pod{uid}/{id}           {uid}      c50dc242d28e
    /kubepods/pod{static}/{outer}/kubepods/burstable/pod{uid}/{id}                  {uid}      c50dc242d28e
    # Seen from a pod's own cgroup namespace.
    /../../pod{uid}/{id}                                                            {uid}      c50dc242d28e";

#[test]
fn containers_without_kubernetes() {
    for [form, kind, workload, container] in rows(CONTAINERS) {
        assert_eq!(labels(form), ["", kind, workload, "", container], "{form}");
    }
}

/// Path, workload kind, workload, container.
const CONTAINERS: &str = "
    /docker/{id}                                                docker c50dc242d28e          c50dc242d28e
    /docker/{id}/init.scope                                     docker c50dc242d28e          c50dc242d28e
    /system.slice/docker-{id}.scope                             docker c50dc242d28e          c50dc242d28e
    {user}/user.slice/docker-{id}.scope                         docker c50dc242d28e          c50dc242d28e
    /kubepods/pod{uid}/{outer}/docker/{id}                      docker c50dc242d28e          c50dc242d28e
    /machine.slice/libpod-{id}.scope                            podman c50dc242d28e          c50dc242d28e
    /machine.slice/libpod-{id}.scope/container                  podman c50dc242d28e          c50dc242d28e
    /libpod_parent/libpod-{id}                                  podman c50dc242d28e          c50dc242d28e
    /libpod_parent/{outer}/libpod-{id}                          podman c50dc242d28e          c50dc242d28e
    /libpod_parent/libpod_pod_{outer}/libpod-{id}               podman c50dc242d28e          c50dc242d28e
    /m.slice/machine-libpod_pod_{outer}.slice/libpod-{id}.scope podman c50dc242d28e          c50dc242d28e
    {user}/user.slice/libpod-{id}.scope/container               podman c50dc242d28e          c50dc242d28e
    /system.slice/web.service/libpod-payload-{id}               podman c50dc242d28e          c50dc242d28e
    /default/{id}                                               cgroup /default/c50dc242d28e c50dc242d28e
    /k8s.io/{id}                                                cgroup /k8s.io/c50dc242d28e  c50dc242d28e
    /{outer}/{id}                                               cgroup /*/c50dc242d28e       c50dc242d28e
    /system.slice/nerdctl-{id}.scope                            cgroup /nerdctl/c50dc242d28e c50dc242d28e
    /lxc.payload.web                                            cgroup /lxc/web              web
    /lxc.payload.web/system.slice/nginx.service                 cgroup /lxc/web              web
    /lxc/101                                                    cgroup /lxc/101              101
    /lxc/101/ns/init.scope                                      cgroup /lxc/101              101";

#[test]
fn units_and_everything_else() {
    for [form, kind, workload] in rows(OTHERS) {
        assert_eq!(labels(form), ["", kind, workload, "", ""], "{form}");
    }
    assert_eq!(labels("")[1], "host");
}

/// Path, workload kind, workload.
const OTHERS: &str = "
    /                                                           host    -
    //                                                          host    -
    /..                                                         host    -
    /system.slice/nginx.service                                 systemd nginx.service
    /system.slice/nginx.service/worker                          systemd nginx.service
    /system.slice/system-getty.slice/getty@tty1.service         systemd getty@tty1.service
    /system.slice/postgresql@17-main.service                    systemd postgresql@17-main.service
    /system.slice/ssh@7-192.0.2.1:22-192.0.2.2:5000.service     systemd ssh@*.service
    /system.slice/ssh@7-fe80::1:22-fe80::2:5000.service         systemd ssh@*.service
    /system.slice/systemd-coredump@3-4711-0.service             systemd systemd-coredump@*.service
    /system.slice                                               systemd system.slice
    /init.scope                                                 systemd init.scope
    /user.slice/user-1000.slice/session-3.scope                 systemd user-1000.slice
    /user.slice/user-0.slice/session-c1.scope                   systemd user-0.slice
    {user}/init.scope                                           systemd user@1000.service
    {user}/app.slice/foo.service                                systemd foo.service
    {user}/app.slice/app-org.x.Term-4711.scope                  systemd user@1000.service
    /system.slice/run-r0123456789abcdef0123456789abcdef.scope   systemd system.slice
    /system.slice/run-u12.scope                                 systemd system.slice
    /system.slice/run-u12.service                               systemd system.slice
    /system.slice/run-p4711-i4712.service                       systemd system.slice
    /system.slice/run-parts.service                             systemd run-parts.service
    /session-3.scope                                            systemd -.slice
    /system.slice/run-user.mount                                systemd run-user.mount
    # podman's monitor, and podman pods without their containers.
    /machine.slice/libpod-conmon-{id}.scope                     systemd machine.slice
    /machine.slice/machine-libpod_pod_{id}.slice                systemd machine.slice
    /libpod_parent/libpod-conmon-{id}                           cgroup  /libpod_parent/*
    /libpod_parent/{id}                                         cgroup  /libpod_parent/*
    /libpod_pod_{id}                                            cgroup  /*
    # What the kubelet has above its pods.
    /kubepods/burstable                                         cgroup  /kubepods/burstable
    {burstable}                                                 systemd kubepods-burstable.slice
    /podium/podcast                                             cgroup  /podium/podcast
    /batch/job-7                                                cgroup  /batch/job-7
    /a/b/c/d/e/f                                                cgroup  /a/b/c/d
    /mesos/{uid}                                                cgroup  /mesos/*
    /jobs/0123456789abcdef/step                                 cgroup  /jobs/*/step
    /jobs/0123456789abcde/step                                  cgroup  /jobs/0123456789abcde/step
    /docker/buildkit/rz8rz03ciho3wx9m5mvr5w4ph                  cgroup  /docker/buildkit/*";

/// The rows of a table; `-` stands for nothing.
fn rows<const COLUMNS: usize>(table: &str) -> impl Iterator<Item = [&str; COLUMNS]> {
    let lines = table.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let cells = line.split_whitespace().map(|cell| if cell == "-" { "" } else { cell });
        cells.collect::<Vec<_>>().try_into().unwrap()
    })
}

#[test]
fn what_is_not_utf8_or_too_long_is_replaced_and_cut() {
    assert_eq!(Placement::parse(b"/x\xff\xfe").labels().workload, "/x\u{fffd}\u{fffd}");
    let long = Placement::parse(format!("/{}", "é".repeat(200))).labels().workload;
    assert_eq!((long.len(), long.chars().count()), (127, 64));
}

#[test]
fn ids_are_kept_whole_for_the_runtime_to_name() {
    let pod = Placement::parse(path("/kubepods/pod{uid}/{id}"));
    assert_eq!((pod.pod_uid(), pod.container_id()), (Some(UID), Some(ID)));
    assert_eq!(Placement::parse(path("/docker/{id}")).container_id(), Some(ID));
    assert_eq!(Placement::parse("/batch").container_id(), None);
}

#[test]
fn a_limit_belongs_to_whoever_has_that_ancestor() {
    use LimitScope::{Ancestor, Container, Node, Pod};
    // Victim's path, scope by levels above its own cgroup.
    let table: &[(&str, &[LimitScope])] = &[
        ("/kubepods/burstable/pod{uid}/{id}", &[Container, Pod, Ancestor, Ancestor, Node, Node]),
        ("/kubepods/pod{uid}/{id}/worker", &[Container, Container, Pod, Ancestor, Node]),
        ("/kubepods/pod{uid}", &[Pod, Ancestor, Node]),
        ("/s.service/kubepods-pod{u_id}.slice:cri-containerd:{id}", &[Container, Ancestor, Node]),
        ("/docker/{outer}/kubepods/pod{uid}/{id}", &[Container, Pod, Ancestor, Ancestor, Ancestor, Node]),
        ("/docker/{id}", &[Container, Ancestor, Node]),
        ("/machine.slice/libpod-{id}.scope/container", &[Container, Container, Ancestor, Node]),
        ("/system.slice/nginx.service/worker", &[Container, Container, Ancestor, Node]),
        ("/user.slice/session-3.scope/run-u1.scope", &[Container, Ancestor, Ancestor, Node]),
        ("/user.slice/user-1000.slice/session-3.scope", &[Container, Ancestor, Ancestor, Node]),
        ("/batch/job-7", &[Container, Ancestor, Node]),
        ("/", &[Node, Node]),
    ];
    for (form, scopes) in table {
        let path = path(form);
        let depth = to_depth(path.split('/').filter(|part| !part.is_empty()).count());
        for (levels_up, scope) in (0..).zip(*scopes) {
            assert_eq!(Placement::parse(&path).scope_of(depth, levels_up), *scope, "{form}, {levels_up} up");
        }
    }
    // No memory controller below the pod: the victim's memory cgroup is the pod's.
    assert_eq!(Placement::parse(path("/kubepods/pod{uid}/{id}")).scope_of(2, 0), Pod);
}
