//! The two listeners: metrics for the network, and for people on loopback, or with a token.
//!
//! A listener is bound with [`bind`] before anything is loaded, so that a taken port is found at once, and served
//! later by [`serve_metrics`] or [`serve_debug`] until `shutdown` turns true (or its sender goes). Both bound
//! their connections, and end within a deadline. The one for people may speak TLS.

mod bind;
mod debug;
mod events;
mod gate;
mod health;
mod loopback;
mod metrics;
mod negotiation;
mod openapi;
mod page;
mod patience;
mod server;
mod state;
#[cfg(test)]
mod tests;
mod tls;
mod visit;

pub use bind::{BindError, Listener, bind};
pub use debug::{Debug, serve_debug};
pub use gate::{Gate, TokenError};
pub use health::Health;
pub use metrics::{Exposition, RenderError, Scrapes, Text, serve_metrics};
pub use negotiation::Format;
pub use state::Insight;
pub use tls::{Handshake, Tls, TlsError};
pub use visit::Connections;

use std::sync::Arc;

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::sync::watch;

/// What has figures of the listeners to show.
#[derive(Clone, Debug, Default)]
pub struct Listeners {
    pub metrics: Arc<Connections>,
    pub debug: Arc<Connections>,
    /// Of the debug listener, if it speaks TLS.
    pub tls: Option<Arc<Tls>>,
}

/// Turns true when the listeners are to end.
pub type Shutdown = watch::Receiver<bool>;

async fn stopped(shutdown: &mut Shutdown) {
    // An error says that the sender is gone: nobody is left who could stop it in any other way.
    drop(shutdown.wait_for(|stop| *stop).await);
}

fn text(status: StatusCode, body: impl Into<String>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, body.into()).into_response()
}

async fn not_found() -> Response {
    text(StatusCode::NOT_FOUND, "not found: see /\n")
}
