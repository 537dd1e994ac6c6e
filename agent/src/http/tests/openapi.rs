//! The document of the debug listener, against the listener.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    client::{Lines, get, request},
    debug::site,
};
use crate::live::parameters;

fn document(address: std::net::SocketAddr) -> Value {
    let answer = get(address, "/v1/openapi.json");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    answer.json()
}

/// The names of the media types that an operation may answer 200 with.
fn media_types(operation: &Value) -> Vec<String> {
    let content = operation["responses"]["200"]["content"].as_object().unwrap();
    content.keys().cloned().collect()
}

#[test]
fn every_path_answers_as_documented() {
    let (site, _hub) = site(64, 2);
    let document = document(site.address);
    assert_eq!(document["openapi"], "3.1.0");
    for (path, methods) in document["paths"].as_object().unwrap() {
        assert_eq!(methods.as_object().unwrap().keys().collect::<Vec<_>>(), ["get"]);
        for media_type in media_types(&methods["get"]) {
            let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {media_type}\r\n");
            let found = if path == "/v1/events" {
                let format = if media_type == "text/event-stream" { "sse" } else { "ndjson" };
                let lines = Lines::open(site.address, &format!("{path}?format={format}"));
                lines.head.lines().find_map(|line| Some(line.strip_prefix("content-type: ")?.to_owned()))
            } else {
                let answer = request(site.address, &head);
                assert_eq!(answer.status, 200, "{path}");
                answer.header("content-type").map(str::to_owned)
            };
            let found = found.unwrap();
            assert_eq!(found.split(';').next(), Some(media_type.as_str()), "{path}");
        }
        let post = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n");
        assert_eq!(request(site.address, &post).status, 405, "{path}");
        // What it says of others is as true.
        let strange = request(site.address, &format!("GET {path} HTTP/1.1\r\nHost: elsewhere\r\n"));
        assert!(strange.status == 403 && methods["get"]["responses"].get("403").is_some(), "{path}");
    }
    for path in ["/v1", "/v1/", "/v1/events/", "/v1/openapi", "/v2/events", "/metrics", "/readyz"] {
        assert!(document["paths"].get(path).is_none());
        assert_eq!(get(site.address, path).status, 404, "{path}");
    }
    site.stop();
}

#[test]
fn every_parameter_is_known_and_no_other() {
    let (site, _hub) = site(64, 2);
    let document = document(site.address);
    let names = |path: &str| -> Vec<String> {
        let all = document["paths"][path]["get"]["parameters"].as_array().unwrap();
        let ours = all.iter().filter(|parameter| parameter["in"] == "query");
        ours.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("/v1/events"), names("/v1/filter"));
    let documented: HashSet<String> = names("/v1/events").into_iter().collect();
    for parameter in parameters() {
        assert!(documented.contains(parameter.name), "{parameter:?}");
        let value = parameter.example().replace(' ', "%20").replace('>', "%3E");
        let query = format!("?{}={value}", parameter.name);
        assert_eq!(get(site.address, &format!("/v1/filter{query}")).status, 200, "{query}");
        drop(Lines::open(site.address, &format!("/v1/events{query}")));
    }
    // The listener itself lists what it knows when it is asked for something else.
    for path in ["/v1/events", "/v1/filter"] {
        let refused = get(site.address, &format!("{path}?colour=red"));
        let known = refused.json()["allowed"].as_array().unwrap().clone();
        let known: HashSet<_> = known.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        assert_eq!((refused.status, &known), (400, &documented));
    }
    site.stop();
}

#[test]
fn the_document_shares_its_schemas_and_refers_to_nothing_else() {
    let (site, _hub) = site(64, 2);
    let document = document(site.address);
    assert_eq!(document["components"]["schemas"]["Line"], get(site.address, "/v1/schema").json());
    let mut ids = HashSet::new();
    let mut rest = vec![&document];
    while let Some(value) = rest.pop() {
        if let Some(name) = value.get("$ref").and_then(Value::as_str) {
            assert!(document.pointer(name.strip_prefix('#').unwrap()).is_some(), "{name}");
        }
        if let Some(id) = value.get("operationId") {
            assert!(ids.insert(id.to_string()), "{id} twice");
        }
        rest.extend(value.as_array().into_iter().flatten());
        rest.extend(value.as_object().into_iter().flat_map(|fields| fields.values()));
    }
    let words = get(site.address, "/").body;
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(words.lines().any(|line| line.split(' ').next() == Some(path)), "{path}: {words}");
    }
    for parameter in parameters() {
        assert!(words.contains(parameter.name), "{parameter:?}: {words}");
    }
    site.stop();
}
