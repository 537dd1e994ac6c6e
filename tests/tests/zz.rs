use integration_tests::netns::*;
use integration_tests::*;
#[test]
fn h() {
    let c = Cgroup::new("x");
    println!("{} {} {:?}", c.path(), c.id(), c.directories());
    let (w, t) = Workload::run(
        &[
            "syscalls",
            "--getppid",
            "100000",
            "--openat-enoent",
            "1000",
            "--nanosleep-1ms",
            "500",
            "--threads",
            "8",
        ],
        &c,
    );
    println!(
        "{t} {:?}",
        std::fs::read_to_string(format!("/proc/{}/cgroup", w.pid()))
    );
    w.finish();
    let (w, t) = Workload::run(&["spawn", "--count", "200", "--getppid", "5"], &c);
    println!("{}", t["lived"]);
    w.finish();
    let mut w = Workload::born_in(&["syscalls"], &c);
    w.go();
    println!("{}", w.report());
    w.finish();
    let n = NetNs::new();
    let ns = n.path().display().to_string();
    for a in [
        CLOSED_V4,
        CLOSED_V6,
        CLOSED_MAPPED,
        NO_ROUTE_V4,
        NO_ROUTE_V6,
        UNREACHABLE_V4,
        UNREACHABLE_V6,
        BLACK_HOLE_V4,
        BLACK_HOLE_V6,
    ] {
        let (w, t) = Workload::run(
            &[
                "connect",
                "--addr",
                a,
                "--count",
                "5",
                "--threads",
                "5",
                "--netns",
                &ns,
            ],
            &c,
        );
        println!("{a} {t}");
        w.finish();
    }
    for a in [BLACK_HOLE_V4, BLACK_HOLE_V6] {
        let (w, t) = Workload::run(&["abort", "--addr", a, "--count", "5", "--netns", &ns], &c);
        println!("{a} {t}");
        w.finish();
    }
    let t0 = std::time::Instant::now();
    let (w, t) = Workload::run(&["loopback", "--count", "250000", "--threads", "2"], &c);
    println!("{t} {:?}", t0.elapsed());
    w.finish();
    let mut s = Workload::prepare(
        &["listen", "--addr", "[::1]:0", "--count", "1000", "--netns", &ns],
        &c,
    );
    s.go();
    let l = s.report();
    let (w, t) = Workload::run(
        &[
            "connect",
            "--addr",
            l["listening"].as_str().unwrap(),
            "--count",
            "1000",
            "--netns",
            &ns,
        ],
        &c,
    );
    println!("{l} {t} {}", s.report());
    w.finish();
    let o = Cgroup::new("oom");
    o.limit_memory(64);
    let (mut v, _) = Workload::run(&["hog", "--mib", "44"], &o);
    let (tr, _) = Workload::run(&["hog", "--mib", "32"], &o);
    println!("{}", v.wait());
    tr.finish();
    let p = Prometheus::start("127.0.0.1:1".parse().unwrap());
    wait_until(wait::PATIENCE, "up", || p.query("up") == [0.0]);
    println!("{}", prometheus::check("# TYPE a counter\na 1\n"));
    println!("{:?}", bpf::held_by(1));
}
