//! `POST /v1/events` and OpenTelemetry's `POST /v1/logs`: events in, 200 once they are on disk.
//! In: the body of a client. Out: what became of its events. Anything but 2xx means: not all of it is safe, send it again with the
//! same ids. Reading events is left to `events::accept`.

use std::net::IpAddr;

use axum::http::header::USER_AGENT;
use axum::http::{HeaderMap, StatusCode};
use chrono::Utc;
use hyper::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::State;
use super::answer::{self, Answer, json_text};
use super::body::{self, Limit};
use super::keys::Scope;
use crate::events::accept::{Accepted, Malformed, Reception, accept};
use crate::events::bots;
use crate::events::log::{Batch, Outcome, Refusal};

/// `POST /v1/events` and `POST /v1/logs`, the OTLP/HTTP path for JSON logs, whose answer has OTLP's shape.
pub async fn receive(state: &State, peer: IpAddr, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    match take(state, peer, &head.headers, body).await {
        Ok(_) if head.uri.path() == "/v1/logs" => json_text(StatusCode::OK, "{}"),
        Ok((accepted, outcome)) => json_text(StatusCode::OK, summary(&accepted, outcome)),
        Err(refusal) => *refusal,
    }
}

async fn take(
    state: &State,
    peer: IpAddr,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<(Accepted, Outcome), Box<Answer>> {
    let caller = state
        .keys
        .authorize(headers, Scope::Events)
        .map_err(|denied| Box::new(answer::denied(denied)))?;
    state
        .rate
        .take(caller.index)
        .map_err(|seconds| Box::new(answer::too_many(seconds, "the key's rate is used up")))?;
    let limit = Limit {
        bytes: state.config.events_bytes,
        time: state.config.body_timeout,
    };
    let body = body::read(headers, body, limit, || ()).await?;
    let user_agent = headers
        .get(USER_AGENT)
        .and_then(|agent| agent.to_str().ok())
        .unwrap_or_default();
    let reception = Reception {
        received_at: Utc::now().timestamp_micros(),
        environment: caller.environment.unwrap_or(&state.config.environment),
        bot_reason: bots::reason_for(user_agent),
        sender: Some((sender(state, peer, headers), &state.crowds)),
        plan: &state.plan(),
    };
    let mut batch = Batch::default();
    let accepted = accept(&body, &reception, &mut batch).map_err(malformed)?;
    drop(body);
    let outcome = store(state, &batch).await?;
    state.metrics.events(&accepted);
    Ok((accepted, outcome))
}

/// Who sent: the peer, or whom the proxy names last in the header that is believed.
fn sender(state: &State, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let named = (!state.config.address_header.is_empty())
        .then(|| headers.get_all(state.config.address_header.as_str()))
        .and_then(|values| values.iter().next_back()?.to_str().ok());
    named
        .and_then(|list| list.rsplit(',').next()?.trim().parse().ok())
        .unwrap_or(peer)
}

/// Waits until the batch is on disk.
async fn store(state: &State, batch: &Batch) -> Result<Outcome, Box<Answer>> {
    if batch.is_empty() {
        return Ok(Outcome::default());
    }
    let receipt = state.log.submit(batch).map_err(|refusal| {
        Box::new(match refusal {
            Refusal::Busy => answer::too_many(1, "too many events wait to be written"),
            Refusal::Unavailable(why) => answer::unavailable(&why),
        })
    })?;
    receipt
        .wait()
        .await
        .map_err(|why| Box::new(answer::unavailable(&why)))
}

fn malformed(Malformed(why): Malformed) -> Box<Answer> {
    Box::new(json_text(
        StatusCode::BAD_REQUEST,
        json!({"errorCode": "PARSE_ERROR", "errorDetails": why}).to_string(),
    ))
}

fn summary(accepted: &Accepted, outcome: Outcome) -> String {
    let violations = accepted.violations.iter();
    let violations: Value = violations
        .map(|one| json!({"index": one.index, "event_id": one.event_id, "reason": one.reason}))
        .collect();
    format!(
        r#"{{"accepted":{},"stored":{},"duplicates":{},"quarantined":{},"violations":{violations}}}"#,
        accepted.events, outcome.stored, outcome.duplicates, accepted.quarantined
    )
}
