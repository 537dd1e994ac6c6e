use serde_json::{Value, json};

use super::{
    tell::{Answer, Death, counted, deaths, unwatched, write},
    whose,
};

fn container(name: &str, deaths: &Value) -> Value {
    json!({"namespace": "shop", "pod": "web-0", "container": name, "deaths": deaths})
}

fn kill() -> Value {
    json!({
        "time": "2026-01-02T03:04:05.5Z", "kind": "oom.kill", "pid": 7, "comm": "hog", "scope": "container",
        "trigger_pid": 8, "trigger_comm": "other", "anon_rss_bytes": 67_108_864, "file_rss_bytes": 4096,
        "shmem_rss_bytes": 0,
    })
}

fn end(time: &str, pid: u64, more: &Value) -> Value {
    let mut end = json!({"time": time, "kind": "process.exit", "pid": pid, "comm": "hog", "duration": 2.5});
    end.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    end
}

fn told(deaths: Vec<Death>) -> String {
    told_of(0, deaths)
}

fn told_of(counted: u64, deaths: Vec<Death>) -> String {
    told_where(&Value::Null, counted, deaths)
}

fn told_where(sensors: &Value, counted: u64, deaths: Vec<Death>) -> String {
    let mut out = Vec::new();
    let since = "2026-01-01T00:00:00Z".parse().ok();
    let unwatched = unwatched(sensors);
    write(&mut out, &Answer { whose: "shop/web-0".into(), deaths, counted, since, unwatched }).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_kill_and_its_end_are_one_death() {
    let killed = json!({"reason": "oom_killed", "signal": 9});
    let app = container("app", &json!([kill(), end("2026-01-02T03:04:05.6Z", 7, &killed)]));
    let found = deaths(&[&app]);
    assert_eq!(
        told(found),
        "shop/web-0: one death since 2026-01-01T00:00:00Z, when the agent started\n\n\
         2026-01-02T03:04:05.500Z  app  hog[7]  killed for want of memory: the container's limit was reached\n    \
         it held 64.0MiB of its own, 4.0KiB of files and 0B of shared memory; more was asked for by other[8]; it had \
         lived for 2.5s\n"
    );
    // Another process, or the same number an hour later, is another death.
    let others =
        json!(
            [kill(), end("2026-01-02T03:04:05.6Z", 9, &killed), end("2026-01-02T04:04:05.6Z", 7, &killed),]
        );
    assert_eq!(deaths(&[&container("app", &others)]).len(), 3);
    // As is one in a neighbour that happens to be told first.
    let neighbour = container("side", &json!([end("2026-01-02T03:04:05.6Z", 7, &killed)]));
    assert_eq!(deaths(&[&neighbour, &container("app", &json!([kill()]))]).len(), 2);
}

#[test]
fn codes_and_signals_have_names() {
    let of = |more: Value| {
        let app = container("app", &json!([end("2026-01-02T03:04:05Z", 7, &more)]));
        deaths(&[&app])[0].json()["what"].as_str().unwrap().to_owned()
    };
    assert_eq!(of(json!({"reason": "error", "exit_code": 3})), "ended with exit code 3 after 2.5s");
    assert_eq!(
        of(json!({"reason": "error", "exit_code": 137})),
        "ended with exit code 137 (as of SIGKILL) after 2.5s"
    );
    assert_eq!(
        of(json!({"reason": "signal", "signal": 11, "core_dumped": true})),
        "ended by a signal (SIGSEGV, number 11), core dumped after 2.5s"
    );
    assert_eq!(of(json!({"reason": "signal", "signal": 40})), "ended by a signal (number 40) after 2.5s");
    assert_eq!(of(json!({"reason": "oom_killed", "signal": 9})), "killed for want of memory after 2.5s");
}

#[test]
fn what_failed_shortly_before_is_told_with_it() {
    let app = container("app", &json!([end("2026-01-02T03:04:05Z", 7, &json!({"exit_code": 1}))]));
    let mut found = deaths(&[&app]);
    let event = |time: &str, container: &str| {
        json!({
            "time": time, "kind": "tcp.connect", "container": container, "pid": 7, "comm": "a\u{1b}b", "id": "1-1",
            "remote_address": "10.0.0.9", "remote_port": 443, "reason": "refused", "errno": "ECONNREFUSED",
        })
    };
    let mut events = vec![
        event("2026-01-02T03:03:00Z", "app"),
        event("2026-01-02T03:04:04Z", "side"),
        event("2026-01-02T03:04:06Z", "app"),
    ];
    events.extend((0..8).map(|second| event(&format!("2026-01-02T03:04:04.{second}Z"), "app")));
    found[0].take_evidence(&events);
    let text = told(found.clone());
    let before: Vec<_> = text.lines().filter(|line| line.contains(" before: ")).collect();
    assert_eq!(before.len(), 5, "{text}");
    assert_eq!(before[4], "    300.0ms before: a\\u{1b}b[7] tcp.connect → 10.0.0.9:443 refused ECONNREFUSED");
    assert_eq!(found[0].json()["before"].as_array().unwrap().len(), 5);
}

#[test]
fn many_deaths_are_not_all_told() {
    let many: Vec<_> = (0..23)
        .map(|pid| end(&format!("2026-01-02T03:04:{pid:02}Z"), 100 + pid, &json!({"exit_code": 1})))
        .collect();
    let text = told(deaths(&[&container("app", &json!(many))]));
    assert!(text.contains("23 deaths") && text.contains("(13 others left out"), "{text}");
    assert_eq!(text.lines().filter(|line| line.contains("exit code 1")).count(), 10);
    let with_kill = [&[kill()], &many[..]].concat();
    let text = told(deaths(&[&container("app", &json!(with_kill))]));
    assert_eq!(text.lines().filter(|line| line.contains("exit code 1")).count(), 9);
    assert!(text.contains("24 deaths") && text.contains("want of memory"), "{text}");
    assert_eq!(told(Vec::new()), "shop/web-0: no death since 2026-01-01T00:00:00Z, when the agent started\n");
}

#[test]
fn what_is_not_remembered_is_told_too() {
    let exits = json!({"completed": 7, "error": 5, "signal": 1, "oom_killed": 1});
    let mut app = container("app", &json!([]));
    app["figures"] = json!({"process_exits": exits, "oom_kills": 2});
    assert_eq!(counted(&[&app, &app]), 14);
    let begin = told_of(14, Vec::new());
    assert!(
        begin.starts_with("shop/web-0: deaths since 2026-01-01T00:00:00Z, when the agent started: 14; none"),
        "{begin}"
    );
    let one =
        || deaths(&[&container("app", &json!([end("2026-01-02T03:04:05Z", 7, &json!({"exit_code": 1}))]))]);
    assert!(told_of(1, one()).starts_with("shop/web-0: one death since"));
    assert!(
        told_of(6, one())
            .starts_with("shop/web-0: of 6 deaths since 2026-01-01T00:00:00Z, when the agent started, 1")
    );
    // A kill whose victim has not ended counts once; containers that are forgotten don't count any more.
    app["figures"] = json!({"process_exits": {}, "oom_kills": 1});
    assert_eq!(counted(&[&app]), 1);
    assert_eq!(counted(&[&container("app", &json!([]))]), 0);
}

#[test]
fn what_nobody_looked_for_is_no_absence() {
    let sensors = json!({
        "process": {"state": "disabled", "reason": ""}, "tcp": {"state": "disabled", "reason": ""},
        "oom": {"state": "unsupported", "reason": "no \u{1b}BTF"},
    });
    let text = told_where(&sensors, 0, Vec::new());
    assert_eq!(
        text,
        "how processes end can't be seen there: the sensor process is disabled\n\
         kills for want of memory can't be seen there: the sensor oom is unsupported: no \\u{1b}BTF\n\
         shop/web-0: no death that was seen since 2026-01-01T00:00:00Z, when the agent started\n"
    );
    let active = json!({"process": {"state": "active"}, "oom": {"state": "degraded", "reason": "some"}});
    assert!(told_where(&active, 0, Vec::new()).starts_with("shop/web-0: no death since"));
}

#[test]
fn outside_of_pods_a_workload_is_meant() {
    let known = [
        json!({"namespace": "shop", "workload": "web", "pod": "web-0", "container": "app"}),
        json!({"namespace": "shop", "workload": "web", "pod": "web-0", "container": "side"}),
        json!({"namespace": "shop", "workload": "db", "pod": "db-0", "container": "app"}),
        json!({"namespace": "staging", "workload": "db", "pod": "db-0", "container": "app"}),
        json!({"namespace": "", "workload": "/system.slice/web-0", "pod": ""}),
        json!({"namespace": "", "workload": "/system.slice/nginx.service", "pod": ""}),
        json!({"namespace": "", "workload": "/user.slice/a/job", "pod": ""}),
        json!({"namespace": "", "workload": "/user.slice/b/job", "pod": ""}),
        json!({"namespace": "", "workload": "shop/cart", "pod": "", "container": "shop-cart-1"}),
        json!({"namespace": "", "workload": "blog/cart", "pod": "", "container": "blog-cart-1"}),
        json!({"namespace": "", "workload_kind": "host", "workload": "", "pod": "", "container": ""}),
    ];
    let known: Vec<_> = known.iter().collect();
    let found = |namespace, name| {
        whose(&known, namespace, name).map(|found| (found.by, found.name.to_owned(), found.containers.len()))
    };
    assert_eq!(found(None, "web-0").unwrap(), ("pod", "web-0".to_owned(), 2), "a pod goes first");
    let nginx = ("workload", "/system.slice/nginx.service".to_owned(), 1);
    assert_eq!(found(None, "nginx.service").unwrap(), nginx);
    assert_eq!(found(None, "/system.slice/nginx.service").unwrap(), nginx);
    let several = found(None, "job").unwrap_err();
    assert!(several.contains("/user.slice/a/job and /user.slice/b/job"), "{several}");
    assert_eq!(found(None, "/user.slice/b/job").unwrap().2, 1);
    // Nobody is answered for another namespace.
    let several = found(None, "db-0").unwrap_err();
    assert!(several.contains("shop/db-0 and staging/db-0"), "{several}");
    assert_eq!(found(Some("staging"), "db-0").unwrap().2, 1);
    // What runs in pods goes by these.
    assert!(found(None, "web").unwrap_err().contains("knows no pod web, and no workload or container"));
    assert!(found(Some("else"), "web-0").unwrap_err().contains("in the namespace else"));
    // What stands before the last part is no namespace then.
    assert_eq!(found(Some("system.slice"), "nginx.service").unwrap(), nginx);
    assert_eq!(found(Some("user.slice/a"), "job").unwrap().1, "/user.slice/a/job");
    assert!(found(Some("slice"), "nginx.service").is_err());
    let several = found(None, "cart").unwrap_err();
    assert!(several.contains("shop/cart and blog/cart"), "{several}");
    assert_eq!(found(Some("blog"), "cart").unwrap(), ("workload", "blog/cart".to_owned(), 1));
    assert_eq!(found(None, "blog-cart-1").unwrap(), ("container", "blog-cart-1".to_owned(), 1));
    assert_eq!(found(None, "host").unwrap(), ("workload_kind", "host".to_owned(), 1));
}
