//! What keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::*;
use crate::top::{app::Flow, columns::COLUMNS};

fn press(app: &mut App, code: KeyCode) -> Flow {
    app.press(KeyEvent::new(code, KeyModifiers::NONE))
}

fn type_in(app: &mut App, text: &str) {
    for char in text.chars() {
        assert_eq!(press(app, KeyCode::Char(char)), Flow::Go);
    }
}

fn pods(app: &App) -> Vec<String> {
    app.rows().iter().map(|row| row.labels.pod.clone()).collect()
}

/// Containers with as many calls a second as their place says, least memory left where most are made.
fn several(app: &mut App) {
    let at = |second: u64| {
        let one = |(place, pod): (usize, &str)| {
            let calls = second * place as u64;
            let mut one = container(pod, json!({"syscalls": calls, "oom_kills": u64::from(place == 1)}));
            if place > 0 {
                one["memory"] =
                    json!({"usage_bytes": 1, "working_set_bytes": 1, "headroom_bytes": 100 - place});
            }
            one
        };
        look(second as i64, ["c", "a", "b"].into_iter().enumerate().map(one).collect())
    };
    app.hear(looked(at(1)));
    app.hear(looked(at(2)));
}

#[test]
fn rows_are_sorted_by_any_column() {
    let mut app = app("calls");
    several(&mut app);
    assert_eq!(pods(&app), ["b", "a", "c"]);
    type_in(&mut app, "r");
    assert_eq!(pods(&app), ["c", "a", "b"]);
    type_in(&mut app, "n");
    assert_eq!(pods(&app), ["a", "b", "c"]);
    type_in(&mut app, "h");
    assert_eq!(pods(&app), ["b", "a", "c"], "who has least left comes first, of whom it isn't known last");
    type_in(&mut app, "o");
    assert_eq!(pods(&app), ["a", "b", "c"]);
    for column in &COLUMNS {
        press(&mut app, KeyCode::Char(column.key));
        assert_eq!(COLUMNS[app.sort.column].name, column.name, "no other key is the same");
        assert_eq!(pods(&app).len(), 3);
    }
}

#[test]
fn the_choice_follows_its_container() {
    let mut app = app("calls");
    several(&mut app);
    press(&mut app, KeyCode::Down);
    assert_eq!(app.selected, Some(labels("a")));
    type_in(&mut app, "n");
    assert_eq!(app.position(&app.rows()), 0);
    press(&mut app, KeyCode::End);
    assert_eq!(app.selected, Some(labels("c")));
    press(&mut app, KeyCode::PageDown);
    press(&mut app, KeyCode::Down);
    assert_eq!(app.selected, Some(labels("c")));
    press(&mut app, KeyCode::PageUp);
    assert_eq!(app.selected, Some(labels("a")));
    // The chosen one is gone.
    app.hear(looked(look(9, vec![container("b", json!({}))])));
    assert_eq!(app.position(&app.rows()), 0);
}

#[test]
fn a_filter_is_taken_when_it_is_one() {
    let mut app = app("name");
    several(&mut app);
    type_in(&mut app, "/pod=b and pdi");
    assert_eq!(app.mistake().unwrap().span, 10..13);
    press(&mut app, KeyCode::Enter);
    assert!(app.entry.is_some() && pods(&app).len() == 3, "one with a mistake changes nothing");
    for _ in 0..8 {
        press(&mut app, KeyCode::Backspace);
    }
    assert!(app.mistake().is_none());
    press(&mut app, KeyCode::Enter);
    assert_eq!((pods(&app), &*app.filter_text), (vec!["b".to_owned()], "pod=b"));
    type_in(&mut app, "/ or qr");
    press(&mut app, KeyCode::Esc);
    assert_eq!((pods(&app).len(), &*app.filter_text), (1, "pod=b"));
    type_in(&mut app, "/");
    for _ in 0..9 {
        press(&mut app, KeyCode::Backspace);
    }
    press(&mut app, KeyCode::Enter);
    assert_eq!(pods(&app).len(), 3);
}

#[test]
fn one_container_is_looked_into() {
    let mut app = app("name");
    assert_eq!(press(&mut app, KeyCode::Enter), Flow::Go);
    assert_eq!(app.followed(), None, "there is none");
    several(&mut app);
    press(&mut app, KeyCode::Down);
    press(&mut app, KeyCode::Enter);
    assert_eq!(app.followed(), Some(&labels("b")));
    let exec = |comm: &str| json!({"time": "2026-01-02T03:04:05Z", "kind": "process.exec", "pid": 1, "comm": comm, "executable": "/x"});
    app.hear(News::Events(labels("b"), vec![exec("one")]));
    app.hear(News::Events(labels("a"), vec![exec("of another")]));
    type_in(&mut app, "p");
    app.hear(News::Events(labels("b"), vec![exec("while paused")]));
    type_in(&mut app, "p");
    app.hear(News::Events(labels("b"), vec![json!({"kind": "notice.heartbeat"}), exec("two")]));
    let lines: Vec<_> = app.detail.as_ref().unwrap().lines.iter().map(|line| line.text.as_str()).collect();
    assert!(lines.len() == 2 && lines[0].contains("one[1]") && lines[1].contains("two[1]"), "{lines:?}");
    press(&mut app, KeyCode::Esc);
    assert_eq!(app.followed(), None);
    assert_eq!(press(&mut app, KeyCode::Char('q')), Flow::Quit);
}

#[test]
fn connections_are_open_until_they_are_closed() {
    let mut app = app("name");
    several(&mut app);
    press(&mut app, KeyCode::Enter);
    let tcp = |kind: &str, port: u16| {
        json!({
            "time": "2026-01-02T03:04:05Z", "kind": kind, "local_address": "10.0.0.7", "local_port": port,
            "remote_address": "10.0.0.9", "remote_port": 443, "peer_namespace": "pay", "peer_workload": "api",
            "netns": 7, "duration": 0.1,
        })
    };
    let mut refused = tcp("tcp.connect", 9);
    refused["errno"] = "ECONNREFUSED".into();
    let slow = json!({"time": "2026-01-02T03:04:05Z", "kind": "syscall.slow", "syscall": "read", "file": "/data/\u{1b}x"});
    let events = vec![
        tcp("tcp.connect", 1),
        tcp("tcp.connect", 2),
        tcp("tcp.connect", 3),
        tcp("tcp.close", 2),
        refused,
        slow,
    ];
    app.hear(News::Events(labels("a"), events));
    let detail = app.detail.as_ref().unwrap();
    assert_eq!(detail.open_connections(), [("→ 10.0.0.9:443 (pay/api)".to_owned(), 2)]);
    assert_eq!(detail.troubled_files(), [("/data/\\u{1b}x".to_owned(), 1)]);
    // Who hears nothing knows nothing.
    app.hear(News::Silent(labels("a"), "the agent is gone".into()));
    assert_eq!(app.detail.as_ref().unwrap().open_connections(), []);
}

#[test]
fn control_c_leaves_from_everywhere() {
    let mut app = app("name");
    several(&mut app);
    let leave = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(app.press(leave), Flow::Quit);
    type_in(&mut app, "/pod=");
    assert_eq!(app.press(leave), Flow::Quit);
    press(&mut app, KeyCode::Esc);
    press(&mut app, KeyCode::Enter);
    assert_eq!(app.press(leave), Flow::Quit);
}
