//! Whether the agent lives, and whether it is ready. Both are latches.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{http::StatusCode, response::Response};

use super::text;

/// What the probes are told; clones share it.
#[derive(Clone, Debug)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    waits_for: Option<Cow<'static, str>>,
    failure: Option<String>,
}

impl Health {
    /// Alive, and not ready until what it waits for has happened.
    pub fn waiting_for(what: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Mutex::new(State { waits_for: Some(what.into()), failure: None })))
    }

    /// Names what it waits for now; means nothing once it is ready.
    pub fn now_waiting_for(&self, what: impl Into<Cow<'static, str>>) {
        if let Some(waits_for) = &mut self.state().waits_for {
            *waits_for = what.into();
        }
    }

    /// From now on ready.
    pub fn set_ready(&self) {
        self.state().waits_for = None;
    }

    /// A part that the agent can't do without has ended. The first reason stays, for it may be the cause of others.
    pub fn fail(&self, reason: impl Into<String>) {
        self.state().failure.get_or_insert_with(|| reason.into());
    }

    /// Nothing that the agent can't do without has ended; else the reason.
    pub fn alive(&self) -> Result<(), String> {
        self.state().failure.clone().map_or(Ok(()), Err)
    }

    /// Alive, and what it waited for has happened; else what is missing.
    pub fn ready(&self) -> Result<(), String> {
        self.alive()?;
        self.state().waits_for.as_ref().map_or(Ok(()), |what| Err(format!("waiting for {what}")))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer to a probe.
pub(super) fn probe(verdict: Result<(), String>) -> Response {
    match verdict {
        Ok(()) => text(StatusCode::OK, "ok\n"),
        Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, reason + "\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::Health;

    #[test]
    fn readiness_and_failure_are_latches() {
        let health = Health::waiting_for("a");
        assert_eq!((health.alive(), health.ready()), (Ok(()), Err("waiting for a".into())));
        health.now_waiting_for("b");
        assert_eq!(health.ready(), Err("waiting for b".into()));
        health.set_ready();
        health.now_waiting_for("c");
        assert_eq!(health.ready(), Ok(()));
        health.fail("first");
        health.fail("second");
        health.set_ready();
        assert_eq!((health.alive(), health.ready()), (Err("first".into()), Err("first".into())));
    }
}
