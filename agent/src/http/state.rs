//! The state of the agent as JSON, made once for all who ask within a moment.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::Mutex;

use super::text;
use crate::live::to_line;

/// Younger than this, an answer is given again: however many pages look, the tables are read once.
const FRESH: Duration = Duration::from_millis(500);

/// What knows the state of the agent. Called on a thread that may block.
pub trait Insight: Send + Sync + 'static {
    /// Every container with what was counted for it, and who died in it.
    fn containers(&self) -> Value;
    /// The agent itself: sensors, sources of names, losses, bounds.
    fn status(&self) -> Value;
}

/// One of the answers.
#[derive(Clone)]
pub(super) struct Answer {
    make: Arc<dyn Fn() -> Value + Send + Sync>,
    last: Arc<Mutex<Option<(Instant, Bytes)>>>,
}

impl Answer {
    pub(super) fn new(make: impl Fn() -> Value + Send + Sync + 'static) -> Self {
        Self { make: Arc::new(make), last: Arc::default() }
    }

    pub(super) async fn get(self) -> Response {
        // Who comes while it is made waits for it.
        let mut last = self.last.lock().await;
        let body = match &*last {
            Some((made, body)) if made.elapsed() < FRESH => body.clone(),
            _ => {
                let make = Arc::clone(&self.make);
                let made = tokio::task::spawn_blocking(move || to_line(&make())).await;
                let Ok(Ok(body)) = made else {
                    return text(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        "the state can't be told: see the agent's log\n",
                    );
                };
                *last = Some((Instant::now(), body.clone()));
                body
            }
        };
        json(StatusCode::OK, body)
    }
}

pub(super) fn json(status: StatusCode, body: Bytes) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, body).into_response()
}
