//! The OpenAPI document: valid by a validator that isn't ours, and true of what the agent answers.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use integration_tests::{
    Agent, Cgroup, Options, Workload, http, kernel, require_kernel,
    schema::fits_within,
    wait::{PATIENCE, wait_until},
};
use serde_json::Value;

fn document(agent: &Agent) -> Value {
    let told = http::get(agent.debug, "/v1/openapi.json").unwrap();
    assert_eq!((told.status, told.content_type.as_str()), (200, "application/json"));
    serde_json::from_str(&told.body).unwrap()
}

#[test]
fn the_document_is_valid() {
    require_kernel!();
    let Some(libraries) = std::env::var_os("PODWITNESS_OPENAPI_PYTHON") else {
        return kernel::not_run("PODWITNESS_OPENAPI_PYTHON names no validator (cargo xtask test has one)");
    };
    let agent = Agent::start(Options::default());
    let mut validator = Command::new("python3")
        .args(["-B", "-c", "import json, sys, openapi_spec_validator as v; v.validate(json.load(sys.stdin))"])
        .env("PYTHONPATH", libraries)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    validator.stdin.take().unwrap().write_all(document(&agent).to_string().as_bytes()).unwrap();
    let output = validator.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_the_agent_answers_is_as_documented() {
    require_kernel!();
    let agent = Agent::start(Options::default());
    let document = document(&agent);
    let cgroup = Cgroup::new("openapi");
    cgroup.limit_memory(32);
    let lines = agent.tail_of(&cgroup);
    let (workload, _) = Workload::run(&["loopback", "--count", "2"], &cgroup);
    let mut victim = Workload::prepare(&["hog", "--mib", "64"], &cgroup);
    victim.go();
    victim.wait();
    let ask = |path: &str| {
        let told = http::get(agent.debug, path).unwrap();
        (told.status, serde_json::from_str::<Value>(&told.body).unwrap())
    };
    wait_until(PATIENCE, "the death is told", || {
        let (_, told) = ask("/v1/containers");
        let containers = told["containers"].as_array().unwrap();
        containers.iter().any(|one| one["workload"] == cgroup.path() && one["deaths"] != Value::Array(vec![]))
    });
    for (path, status) in [
        ("/v1/containers", 200),
        ("/v1/status", 200),
        ("/v1/filter", 200),
        ("/v1/filter?filter=kind=tcp", 200),
        ("/v1/filter?filter=kind=tcp.conect", 400),
        ("/v1/filter?pid=x", 400),
        ("/v1/events?colour=red", 400),
    ] {
        let (found, body) = ask(path);
        assert_eq!(found, status, "{path}: {body}");
        let place = path.split('?').next().unwrap();
        let response = &document["paths"][place]["get"]["responses"][status.to_string()];
        let schema = &response["content"]["application/json"]["schema"];
        fits_within(&document, schema, &body).unwrap_or_else(|error| panic!("{path}: {error}\n{body:#}"));
    }
    lines.wait_of("oom.kill", cgroup.path(), 1);
    let schema = &document["paths"]["/v1/events"]["get"]["responses"]["200"]["content"];
    let schema = &schema["application/x-ndjson"]["schema"];
    let all = lines.events(|_| true);
    assert!(all.len() > 8, "{all:#?}");
    for line in all {
        fits_within(&document, schema, &line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    workload.finish();
}
