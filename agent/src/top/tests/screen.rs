//! What is drawn.

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::*;
use crate::{harmless::is_hostile, top::view};

fn drawn(app: &mut App, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(app, frame)).unwrap();
    let buffer = terminal.backend().buffer();
    assert!(buffer.content.iter().all(|cell| !cell.symbol().chars().any(is_hostile)));
    buffer
        .content
        .chunks(usize::from(width))
        .map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect())
        .collect()
}

fn press(app: &mut App, keys: &str) {
    for key in keys.chars() {
        let code = if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) };
        app.press(KeyEvent::new(code, KeyModifiers::NONE));
    }
}

/// Every state there is, beginning with that before anything was heard.
fn states() -> Vec<App> {
    let hostile = "\u{1b}[2J\u{202e}日本\u{301}";
    let odd = || {
        let mut odd = container(hostile, json!({"syscalls": u64::MAX, "process_exits": {hostile: 1}}));
        odd["calls"] = json!({hostile: 7});
        odd["deaths"] = json!([{"kind": hostile, "comm": hostile, "pid": 1, "time": hostile}]);
        odd
    };
    let full = |keys: &str| {
        let mut app = app("calls");
        busy(&mut app);
        app.hear(looked(look(4, vec![container("busy", json!({"syscalls": 1})), odd()])));
        press(&mut app, keys);
        app
    };
    let mut states = vec![app("calls"), full(""), full("r/pod~\"(")];
    let mut lost = full("");
    lost.hear(News::Looked(Box::new(Err(format!("no agent answers {hostile}")))));
    states.push(lost);
    for keys in ["\n", "r\n"] {
        let mut detail = full(keys);
        let labels = detail.followed().unwrap().clone();
        let event = json!({"time": "2026-01-02T03:04:05Z", "kind": hostile, "pid": 1, "comm": hostile, hostile: hostile});
        detail.hear(News::Events(labels, vec![event; 50]));
        states.push(detail);
    }
    let mut gone = full("\n");
    gone.hear(looked(look(6, vec![])));
    states.push(gone);
    states
}

#[test]
fn no_terminal_is_too_small() {
    for mut app in states() {
        for width in [1, 2, 3, 7, 12, 24, 40, 80, 140] {
            for height in [1, 2, 3, 4, 5, 6, 8, 9, 12, 30] {
                let lines = drawn(&mut app, width, height);
                assert_eq!(lines.len(), usize::from(height));
            }
        }
    }
}

#[test]
fn the_table_has_the_busiest_at_the_top() {
    let mut app = app("calls");
    busy(&mut app);
    let lines = drawn(&mut app, 150, 12);
    assert!(
        lines[0].starts_with("node-1  22:13:22 UTC  podwitness 0.1.0  2 of 2 containers, 2 alive"),
        "{}",
        lines[0]
    );
    assert!(lines[2].starts_with("CONTAINER") && lines[2].contains("CALLS/S↓"), "{}", lines[2]);
    let words: Vec<_> = lines[3].split_whitespace().collect();
    assert_eq!(
        words,
        [
            "shop/busy/app",
            "500",
            "0",
            "1.0",
            "0",
            "0",
            "0B",
            "0B",
            "-",
            "40.0MiB",
            "24.0MiB",
            "0",
            "0",
            "4",
            "read",
            "500"
        ]
    );
    assert!(lines[4].starts_with("shop/idle/app"), "{}", lines[4]);
    assert!(lines[10].starts_with("sort by n name  s calls  e errors"), "{}", lines[10]);
    assert!(lines[11].contains("Enter look into") && lines[11].contains("q quit"), "{}", lines[11]);
}

#[test]
fn columns_go_where_there_is_no_room() {
    let mut app = app("calls");
    busy(&mut app);
    for (width, there, gone) in [
        (150, "OOM", "nothing"),
        (90, "BUSIEST", "SENT/S"),
        (60, "CONN/S", "HEADROOM"),
        (34, "CALLS/S", "CONN/S"),
        (10, "CONTAINER", "CALLS/S"),
    ] {
        let header = &drawn(&mut app, width, 12)[2];
        assert!(header.contains(there) && !header.contains(gone), "{width}: {header}");
    }
    // What is sorted by stays.
    press(&mut app, "o");
    let header = &drawn(&mut app, 34, 12)[2];
    assert!(header.contains("OOM↓") && header.contains("CALLS/S"), "{header}");
}

#[test]
fn a_mistake_in_a_filter_is_shown_in_its_place() {
    let mut app = app("calls");
    busy(&mut app);
    press(&mut app, "/pod=web pid=1");
    let lines = drawn(&mut app, 120, 12);
    assert!(lines[10].starts_with("filter: pod=web pid=1▏"), "{}", lines[10]);
    assert!(lines[11].starts_with("                ^^^ `pid` is told of events"), "{}", lines[11]);
}

#[test]
fn an_agent_that_is_gone_is_told_and_forgotten_when_it_is_back() {
    let mut app = app("calls");
    app.hear(News::Looked(Box::new(Err("no agent answers at 127.0.0.1:9482".into()))));
    let line = &drawn(&mut app, 120, 12)[1];
    assert!(line.starts_with("no answer, trying again: no agent answers at 127.0.0.1:9482"), "{line}");
    busy(&mut app);
    app.hear(News::Looked(Box::new(Err("no agent answers".into()))));
    let lines = drawn(&mut app, 120, 12);
    assert!(lines[1].starts_with("no answer since 22:13:22 UTC, trying again: no agent"), "{}", lines[1]);
    assert!(lines[3].starts_with("shop/busy/app"), "what was known stays: {}", lines[3]);
    app.hear(looked(look_of(8, 9, vec![container("busy", json!({"syscalls": 10}))])));
    let lines = drawn(&mut app, 120, 12);
    assert!(lines[1].trim().is_empty() && lines[3].contains(" 10 "), "{lines:#?}");
}

#[test]
fn sensors_that_lose_or_lack_something_are_named() {
    let mut app = app("calls");
    let mut look = look(1, vec![]);
    look.status.sensors = serde_json::from_value(json!({
        "tcp": {"state": "active", "lost": 7}, "oom": {"state": "degraded", "reason": "no mark_victim", "lost": 0},
        "io_uring": {"state": "disabled"},
    }))
    .unwrap();
    app.hear(looked(look));
    let lines = drawn(&mut app, 120, 12);
    assert!(lines[1].starts_with("oom degraded: no mark_victim; tcp lost 7 events"), "{}", lines[1]);
    assert!(lines[3].contains("no container is known yet"), "{}", lines[3]);
}

#[test]
fn one_container_is_shown_with_all_that_is_known() {
    let mut app = app("calls");
    busy(&mut app);
    press(&mut app, "\n");
    let labels = app.followed().unwrap().clone();
    let exec = json!({"time": "2026-01-02T03:04:06Z", "kind": "process.exec", "pid": 8, "comm": "sh", "executable": "/bin/sh"});
    app.hear(News::Events(labels, vec![exec]));
    let screen = drawn(&mut app, 130, 40).join("\n");
    for part in [
        "shop/busy/app  Deployment web",
        "a second: 500 calls, 0 of them failed; 1.0 connects",
        "  and 0 connections closed: 0B sent, 0B received, 0 retransmits",
        "memory: 50.0MiB in use, 40.0MiB of it needed; limit 64.0MiB; 24.0MiB to the next OOM kill",
        "read                    500     1990",
        "\\u{1b}[2Jx[7]",
        "signal SIGKILL after 1.0s",
        "CONNECTIONS OPENED SINCE",
        "03:04:06.000 process.exec sh[8]                  /bin/sh",
        "Esc back",
    ] {
        assert!(screen.contains(part), "no {part:?} in\n{screen}");
    }
}

#[test]
fn what_nobody_looks_at_is_not_known_of_one_container_either() {
    let mut app = app("calls");
    let mut look = look(1, vec![container("a", json!({"tcp_connects": 7}))]);
    look.status.sensors = serde_json::from_value(json!({
        "process": {"state": "disabled"}, "oom": {"state": "unsupported"}, "tcp": {"state": "active"},
    }))
    .unwrap();
    app.hear(looked(look));
    press(&mut app, "\n");
    let screen = drawn(&mut app, 130, 40).join("\n");
    for part in ["since the agent runs - processes, - OOM kills", "how processes end is not seen there"] {
        assert!(screen.contains(part), "no {part:?} in\n{screen}");
    }
}
