use serde_json::json;

use super::*;
use crate::fuzz::Random;

fn printed(event: &Value, output: Output, colour: Colour) -> String {
    let mut printer =
        Printer { columns: Columns::new(output == Output::Wide), style: Style::new(colour, false), output };
    let mut out = Vec::new();
    printer.print(&event.to_string(), event, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn connect() -> Value {
    json!({
        "time": "2026-01-02T03:04:05.678901Z", "kind": "tcp.connect", "namespace": "shop", "workload_kind": "Deployment",
        "workload": "cart", "pod": "cart-5d9-x2x", "container": "app", "pid": 42, "tid": 43, "comm": "python3",
        "local_address": "10.0.0.7", "local_port": 40000, "remote_address": "10.0.0.9", "remote_port": 443,
        "peer_namespace": "pay", "peer_workload": "api", "duration": 0.00025, "reason": "refused",
        "errno": "ECONNREFUSED", "side": "client", "netns": 7, "id": "1-1",
    })
}

#[test]
fn an_event_is_a_line_in_columns() {
    assert_eq!(
        printed(&connect(), Output::Text, Colour::Never),
        "03:04:05.678 tcp.connect  shop/cart-5d9-x2x/app    python3[42]            → 10.0.0.9:443 (pay/api) refused \
         ECONNREFUSED 250µs\n"
    );
    let oom = json!({
        "time": "2026-01-02T03:04:05Z", "kind": "oom.kill", "namespace": "", "workload_kind": "cgroup",
        "workload": "/batch/job-7", "pod": "", "container": "", "pid": 7, "comm": "hog", "scope": "container",
        "trigger_pid": 8, "trigger_comm": "other", "anon_rss_bytes": 67_108_864, "file_rss_bytes": 4096,
        "shmem_rss_bytes": 0, "id": "1-2",
    });
    assert_eq!(
        printed(&oom, Output::Text, Colour::Never),
        "03:04:05.000 oom.kill     /batch/job-7             hog[7]                 killed: memory of the container \
         was short; anon 64.0MiB, file 4.0KiB, shmem 0B; asked by other[8]\n"
    );
    let exit = json!({
        "time": "2026-01-02T03:04:05Z", "kind": "process.exit", "pod": "p", "pid": 7, "comm": "a", "reason": "signal",
        "signal": 11, "core_dumped": true, "duration": 90.5, "id": "1-3",
    });
    assert!(
        printed(&exit, Output::Text, Colour::Never).ends_with("signal SIGSEGV core dumped after 90.5s\n")
    );
}

#[test]
fn a_system_call_is_written_with_its_arguments() {
    let call = json!({
        "time": "2026-01-02T03:04:05Z", "kind": "syscall.call", "pod": "p", "pid": 7, "comm": "a", "syscall": "openat",
        "arguments": {"dirfd": "AT_FDCWD", "pathname": "/etc/passwd"}, "result": 3, "duration": 0.00025, "id": "1-4",
    });
    let line = printed(&call, Output::Text, Colour::Never);
    assert!(line.ends_with(" openat(dirfd=AT_FDCWD, pathname=/etc/passwd) = 3 250µs\n"), "{line}");
    let failed = json!({
        "time": "2026-01-02T03:04:05Z", "kind": "syscall.failed", "pod": "p", "pid": 7, "comm": "a", "syscall": "write",
        "arguments": {"fd": 1}, "errno": "ENOSPC", "file": "/dev/full", "id": "1-5",
    });
    let line = printed(&failed, Output::Text, Colour::Never);
    assert!(line.ends_with(" write(fd=1) = ENOSPC /dev/full\n"), "{line}");
}

#[test]
fn what_is_new_is_shown_all_the_same() {
    let event =
        json!({"time": "2026-01-02T03:04:05Z", "kind": "dns.query", "question": "a.example", "ttl": 3});
    assert!(printed(&event, Output::Text, Colour::Never).ends_with("question=a.example ttl=3\n"));
}

#[test]
fn json_is_what_came() {
    let line = printed(&connect(), Output::Json, Colour::Always);
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), connect());
    let wide = printed(&connect(), Output::Wide, Colour::Never);
    assert!(wide.contains("2026-01-02T03:04:05.678901Z") && wide.contains("local_port=40000"), "{wide}");
}

#[test]
fn notices_stand_between_the_events() {
    let lost =
        json!({"time": "2026-01-02T03:04:05Z", "kind": "notice.lost", "message": "3 tcp events were lost"});
    assert_eq!(printed(&lost, Output::Text, Colour::Never), "-- 3 tcp events were lost\n");
    let heartbeat = json!({"time": "2026-01-02T03:04:05Z", "kind": "notice.heartbeat"});
    assert_eq!(printed(&heartbeat, Output::Text, Colour::Never), "");
}

#[test]
fn a_template_makes_a_line_of_each_event() {
    for template in ["{.kind} {.pod}:{.remote_port}", "{.kind} {.pod}:{.remote_port}{\"\\n\"}"] {
        let output = Output::Jsonpath(Template::parse(template).unwrap());
        assert_eq!(printed(&connect(), output.clone(), Colour::Always), "tcp.connect cart-5d9-x2x:443\n");
        let notice = json!({"time": "2026-01-02T03:04:05Z", "kind": "notice.end"});
        assert_eq!(printed(&notice, output, Colour::Always), "");
    }
}

/// A million strings of a workload's choice: none gets through to the terminal.
#[test]
fn no_workload_commands_a_terminal() {
    const STRINGS: usize = 1_000_000;
    const KINDS: [&str; 6] =
        ["tcp.connect", "oom.kill", "process.exec", "process.exit", "syscall.call", "new.kind"];
    const FIELDS: [&str; 11] = [
        "comm",
        "pod",
        "namespace",
        "container",
        "workload",
        "executable",
        "trigger_comm",
        "cgroup",
        "peer_workload",
        "errno",
        "file",
    ];
    const WORDS: [&str; 18] = [
        "\u{1b}[2J",
        "\u{1b}]0;x\u{7}",
        "\u{9b}31m",
        "\u{202e}",
        "\u{2066}",
        "\n",
        "\r",
        "\u{8}",
        "\u{7f}",
        "\u{200b}",
        "\u{feff}",
        "\u{e0041}",
        "\\",
        "a",
        "/bin/sh",
        "é",
        "日",
        "\0",
    ];
    let template = Template::parse("{.comm} {.arguments} {.pod}{.cgroup}").unwrap();
    let outputs = [Output::Text, Output::Wide, Output::Json, Output::Jsonpath(template)];
    let mut random = Random::new(0x9484);
    for round in 0..STRINGS / FIELDS.len() {
        let mut event = json!({"time": "2026-01-02T03:04:05Z", "id": "1-1", "pid": 1});
        event["kind"] = KINDS[round % KINDS.len()].into();
        for field in FIELDS {
            let mut text = String::new();
            for _ in 0..=random.below(4) {
                match random.below(3) {
                    0 => text.extend(char::from_u32(random.below(0x11_0000) as u32)),
                    1 => text.extend(char::from_u32(random.below(0x300) as u32)),
                    _ => text.push_str(WORDS[random.below(WORDS.len())]),
                }
            }
            event["arguments"][&text] = text.as_str().into();
            event[field] = text.into();
        }
        let output = &outputs[round % outputs.len()];
        let line = printed(&event, output.clone(), Colour::Never);
        let line = line.strip_suffix('\n').unwrap();
        assert!(!line.chars().any(is_hostile), "{line:?}");
        if round % 100 == 0 {
            // Colours are the only sequences.
            let coloured = printed(&event, output.clone(), Colour::Always);
            let mut rest = coloured.clone();
            for code in ["0", "2", "31", "32", "33", "36", "1;31"] {
                rest = rest.replace(&format!("\u{1b}[{code}m"), "");
            }
            assert!(!rest.trim_end_matches('\n').chars().any(is_hostile), "{coloured:?}");
        }
    }
}
