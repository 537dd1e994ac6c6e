//! The listener for people on the machine itself.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};

use super::{
    Health, Listener, Shutdown,
    events::{self, Reader},
    health::probe,
    loopback::only_loopback,
    not_found,
    server::{Limits, serve},
    text,
};
use crate::live::{Hub, Query as Wish, QueryError, to_line};

/// Connections beyond those of live readers: somebody must be left to hear that all places are taken.
const SPARE_CONNECTIONS: usize = 16;

/// Serves `/v1/events` and `/healthz` until `shutdown`, to loopback names only.
pub async fn serve_debug(listener: Listener, hub: Arc<Hub>, health: Health, shutdown: Shutdown) {
    // A reader may be as slow as it likes: it has a bounded queue of its own, and is told what it loses.
    let limits = Limits { connections: hub.max_clients().saturating_add(SPARE_CONNECTIONS), patience: None };
    let index: Arc<str> = index(&listener.local_url()).into();
    let router = Router::new()
        .route("/", get(async move || text(StatusCode::OK, &*index)))
        .route("/v1/events", get(stream))
        .route("/healthz", get(async |State(site): State<Site>| probe(site.health.alive())))
        .fallback(not_found)
        .layer(middleware::from_fn(only_loopback))
        .with_state(Site { hub, health, shutdown: shutdown.clone() });
    serve(listener, router, limits, shutdown).await;
}

#[derive(Clone)]
struct Site {
    hub: Arc<Hub>,
    health: Health,
    shutdown: Shutdown,
}

async fn stream(
    State(site): State<Site>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Response {
    let Query(query) = match query {
        Ok(query) => query,
        Err(rejection) => return error(StatusCode::BAD_REQUEST, &json!({"error": rejection.body_text()})),
    };
    let wish = match Wish::parse(query) {
        Ok(wish) => wish,
        Err(reason) => return error(StatusCode::BAD_REQUEST, &complaint(&reason)),
    };
    match site.hub.subscribe(wish.filter) {
        Ok(subscription) => events::response(Reader::new(subscription, site.shutdown)),
        Err(reason) => {
            let refusal = error(StatusCode::SERVICE_UNAVAILABLE, &json!({"error": reason.to_string()}));
            ([(header::RETRY_AFTER, "10")], refusal).into_response()
        }
    }
}

/// What is wrong with a query, for programs and for people.
fn complaint(reason: &QueryError) -> Value {
    let mut body = json!({"error": reason.to_string(), "key": reason.key(), "allowed": reason.allowed()});
    if let QueryError::Filter { text, error } = reason {
        body["message"] = error.message.as_str().into();
        body["suggestion"] = error.suggestion.as_deref().into();
        body["span"] = json!({"start": error.span.start, "end": error.span.end});
        body["pointer"] = error.pointer(text).into();
    }
    body
}

fn error(status: StatusCode, body: &Value) -> Response {
    let json = HeaderValue::from_static("application/json");
    // A value made of strings is always JSON; were it not, the status alone would say enough.
    let body = to_line(body).unwrap_or_default();
    let mut response = (status, body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn index(url: &str) -> String {
    format!(
        "\
podwitness: live

/v1/events  what happens, as it happens: one JSON object per line
            kind, namespace, workload_kind, workload, pod, container, pid choose; commas and
            repetition mean any of them; a sensor stands for all its kinds
/healthz    200 while the agent works

curl -N '{url}/v1/events'
curl -N '{url}/v1/events?kind=tcp.connect,oom&namespace=default'
"
    )
}
