//! What is shown, without an agent and without a terminal.

mod keys;
mod rates;
mod screen;

use serde_json::{Value, json};

use super::{
    app::App,
    columns::{Column, Sort},
    source::News,
    told::Look,
};
use crate::{filter::Filter, identity::Labels};

/// A container of the pod with this name.
fn container(pod: &str, figures: Value) -> Value {
    json!({
        "namespace": "shop", "workload_kind": "Deployment", "workload": "web", "pod": pod, "container": "app",
        "alive": true, "figures": figures, "calls": {}, "deaths": [],
    })
}

/// What the agent tells a number of seconds after it has begun.
fn look(second: i64, containers: Vec<Value>) -> Look {
    look_of(0, second, containers)
}

/// The same of an agent that was started at some second.
fn look_of(started: i64, second: i64, containers: Vec<Value>) -> Look {
    let time = |second: i64| jiff::Timestamp::from_second(1_700_000_000 + second).unwrap();
    Look {
        containers: serde_json::from_value(json!({"time": time(second), "containers": containers})).unwrap(),
        status: serde_json::from_value(json!({
            "started": time(started), "version": "0.1.0", "node": "node-1",
            "sensors": {"tcp": {"state": "active", "reason": null, "hooks": [], "lost": 0}},
        }))
        .unwrap(),
    }
}

fn labels(pod: &str) -> Labels {
    serde_json::from_value(container(pod, json!({}))).unwrap()
}

fn app(sort: &str) -> App {
    let sort = Sort { column: Column::by_name(sort).unwrap(), is_reversed: false };
    App::new("127.0.0.1:9482".into(), String::new(), Filter::default(), sort)
}

fn looked(look: Look) -> News {
    News::Looked(Box::new(Ok(look)))
}

/// Two containers, one of which does a lot.
fn busy(app: &mut App) {
    let at = |second: i64| {
        let calls = 1000 + second as u64 * 500;
        let mut busy =
            container("busy", json!({"syscalls": calls, "syscall_errors": 5, "tcp_connects": second}));
        busy["calls"] = json!({"read": calls - 10, "futex": 10});
        busy["memory"] = json!({
            "usage_bytes": 50 << 20, "working_set_bytes": 40 << 20, "limit_bytes": 64 << 20, "headroom_bytes": 24 << 20,
        });
        busy["restart_count"] = 4.into();
        busy["deaths"] = json!([{
            "time": "2026-01-02T03:04:05Z", "kind": "process.exit", "pod": "busy", "pid": 7, "comm": "\u{1b}[2Jx",
            "reason": "signal", "signal": 9, "duration": 1.0,
        }]);
        let idle = container("idle", json!({"syscalls": 7, "process_exits": {"error": 3, "completed": 9}}));
        look(second, vec![busy, idle])
    };
    app.hear(looked(at(0)));
    app.hear(looked(at(2)));
}
