//! `/healthz`: the process runs. `/readyz`: it does what it is for. `/metrics`: numbers for Prometheus.
//! In: the state. Out: 503 when events cannot be made durable; 200 with the problems when older definitions or a growing log go on
//! serving. None of the three needs a key, and none tells a secret.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::answer::{Answer, json_text, typed};
use super::{Problems, State, lock};
use crate::events::log::Health;

/// `GET /healthz`
pub async fn alive() -> Answer {
    json_text(StatusCode::OK, r#"{"status":"alive"}"#)
}

/// `GET /readyz`
pub async fn ready(Shared(state): Shared<Arc<State>>) -> Answer {
    let log = match state.log.health() {
        Health::Ready => None,
        Health::Full(why) | Health::Failed(why) => Some(why),
    };
    let is_closing = *state.closing.borrow();
    let (status, word) = match (&log, is_closing, lock(&state.problems).is_empty()) {
        (Some(_), _, _) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        (None, true, _) => (StatusCode::SERVICE_UNAVAILABLE, "closing"),
        (None, false, false) => (StatusCode::OK, "degraded"),
        (None, false, true) => (StatusCode::OK, "ready"),
    };
    json_text(status, report(&state, word, log).to_string())
}

/// `GET /metrics`
pub async fn metrics(Shared(state): Shared<Arc<State>>) -> Answer {
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    typed(StatusCode::OK, content_type, state.metrics.render(&state))
}

fn report(state: &State, word: &str, log: Option<String>) -> Value {
    let served = state.served();
    let problems = lock(&state.problems);
    let check = |problem: Option<Value>| match problem {
        None => json!({"status": "ok"}),
        Some(problem) => json!({"status": "failing", "problem": problem}),
    };
    let definitions = (!problems.definitions.is_empty()).then(|| json!(problems.definitions));
    json!({
        "status": word,
        "version": served.version,
        "flags": served.set.flags.len(),
        "checks": {
            "event_log": check(log.map(Value::from)),
            "definitions": check(definitions),
            "rotation": check(problems.rotation.clone().map(Value::from)),
        },
    })
}

impl Problems {
    fn is_empty(&self) -> bool {
        self.definitions.is_empty() && self.rotation.is_none()
    }
}
