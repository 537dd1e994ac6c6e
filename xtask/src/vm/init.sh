#!/busybox/busybox sh
# The first process of the test machine: makes it a system, runs the tests of /tests/plan, switches it off.
# Lines that begin with @@ are for the host, which reads the console.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/busybox
export HOME=/root

# Beside the real tools, and behind them in the search path.
/busybox/busybox --install -s /busybox

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir /dev/pts
mount -t devpts devpts /dev/pts
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
stty -onlcr
# The first process keeps out of the way: only the root may hold processes and hand controllers down.
echo "+memory +pids +cpu" > /sys/fs/cgroup/cgroup.subtree_control
ip link set lo up
for module in /modules/*; do
    case $module in *.xz) unxz "$module"; module=${module%.xz} ;; esac
    insmod "$module"
done

echo "@@ kernel $(uname -r)"
echo "@@ sensors"
/tests/podwitness doctor 2>&1
echo "@@ end"

run() {
    name=$1
    shift
    echo "@@ run $name"
    # CI: what can't run has to fail. The agent takes variables of its own prefix for configuration, so not before.
    CI=1 PODWITNESS_VM=1 PODWITNESS_TEST_SCALE=$SCALE \
        PODWITNESS_BIN=/tests/podwitness PODWITNESS_WORKLOAD=/tests/workload PODWITNESS_CONTAINERD=/containerd \
        "/tests/$name" --test-threads=1 --show-output --color=never "$@" < /dev/null 2>&1
    # A program that crashed left a line unfinished.
    printf '\n@@ ended %s %s\n' "$name" $?
}
. /tests/plan
echo "@@ done"
poweroff -f
