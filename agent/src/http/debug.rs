//! The listener for people: the page, the live events, the state of the agent.

use std::{sync::Arc, time::Duration};

use agent_ebpf::contract::event::EventKind;
use axum::{
    Extension, Router,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Connections, Gate, Health, Insight, Listener, Shutdown, Tls,
    events::{self, Reader},
    gate::guard,
    health::probe,
    not_found,
    openapi::{self, Place},
    page,
    server::{DISMISSAL, Door, FIRST_REQUEST, serve},
    state::{self, Answer},
    visit::Visit,
};
use crate::live::{Hub, Query as Wish, QueryError, Start, schema, to_line};

/// Connections beyond those of live readers: somebody must be left to hear that all places are taken.
const SPARE_CONNECTIONS: usize = 16;

/// For whoever doesn't take an answer. A reader of the stream may be as slow as it likes: it has a bounded queue of its
/// own, and is told what it loses.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the listener shows, and to whom.
pub struct Debug {
    pub hub: Arc<Hub>,
    pub health: Health,
    pub insight: Arc<dyn Insight>,
    pub gate: Gate,
    /// Plain HTTP without.
    pub tls: Option<Arc<Tls>>,
    pub connections: Arc<Connections>,
}

/// Serves the page, `/v1/…` and `/healthz` until `shutdown`.
pub async fn serve_debug(listener: Listener, debug: Debug, shutdown: Shutdown) {
    let Debug { hub, health, insight, gate, tls, connections } = debug;
    let url = listener.local_url(if tls.is_some() { "https" } else { "http" });
    let places = hub.max_clients().saturating_add(SPARE_CONNECTIONS);
    let door = Door {
        places,
        patience: PATIENCE,
        first_request: FIRST_REQUEST,
        dismissal: DISMISSAL,
        tls,
        connections,
    };
    let containers = Answer::new({
        let insight = Arc::clone(&insight);
        move || insight.containers()
    });
    let status = Answer::new(move || insight.status());
    let mut router = Router::new();
    for place in Place::ALL {
        let (url, containers, status) = (url.clone(), containers.clone(), status.clone());
        let handler = match place {
            Place::Page => get(async move |headers: HeaderMap| page::response(&headers, &url)),
            Place::Events => get(stream),
            Place::Filter => get(check),
            Place::Containers => get(async move || containers.get().await),
            Place::Status => get(async move || status.get().await),
            Place::Schema => get(async || answer(StatusCode::OK, &schema())),
            Place::OpenApi => get(async || answer(StatusCode::OK, &openapi::document())),
            Place::Health => get(async |State(site): State<Site>| probe(site.health.alive())),
        };
        router = router.route(place.path(), handler);
    }
    let router = router
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(gate, guard))
        .with_state(Site { hub, health, shutdown: shutdown.clone() });
    serve(listener, router, door, shutdown).await;
}

#[derive(Clone)]
struct Site {
    hub: Arc<Hub>,
    health: Health,
    shutdown: Shutdown,
}

type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// What is asked for, or the answer that says what is wrong with it.
fn wish(query: Pairs) -> Result<Wish, Box<Response>> {
    let refused = |body| Box::new(answer(StatusCode::BAD_REQUEST, &body));
    let Query(query) = query.map_err(|rejection| refused(json!({"error": rejection.body_text()})))?;
    Wish::parse(query, jiff::Timestamp::now()).map_err(|reason| refused(complaint(&reason)))
}

/// What is wrong with a query, or how it reads, without a stream: a browser isn't told why one is refused.
async fn check(query: Pairs) -> Response {
    match wish(query) {
        Ok(wish) => {
            let kinds: Vec<_> = wish.filter.kinds().map(EventKind::name).collect();
            answer(StatusCode::OK, &json!({"filter": wish.filter.to_string(), "kinds": kinds}))
        }
        Err(complaint) => *complaint,
    }
}

async fn stream(
    State(site): State<Site>,
    Extension(visit): Extension<Arc<Visit>>,
    headers: HeaderMap,
    query: Pairs,
) -> Response {
    let wish = match wish(query) {
        Ok(wish) => wish,
        Err(complaint) => return *complaint,
    };
    // A browser that comes back says where it was; that counts more than where it once began.
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let start = last.map_or(wish.start, Start::After);
    match site.hub.subscribe_from(wish.filter, start, wish.paths) {
        Ok(subscription) => {
            visit.allow_slowness();
            let format = wish.format.unwrap_or_else(|| events::accepted(&headers));
            events::response(Reader::new(subscription, site.shutdown).in_format(format).limited(wish.limit))
        }
        Err(reason) => {
            let refusal = answer(StatusCode::SERVICE_UNAVAILABLE, &json!({"error": reason.to_string()}));
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

fn answer(status: StatusCode, body: &Value) -> Response {
    // A value made of strings is always JSON; were it not, the status alone would say enough.
    state::json(status, to_line(body).unwrap_or_else(|_| Bytes::new()))
}
