//! OpenFeature's remote evaluation protocol, OFREP 0.3.0.
//! In: a context. Out: one flag's answer and its assignment in the event log; all flags are left to [`super::bulk`].
//! <https://github.com/open-feature/protocol/blob/main/service/openapi.yaml>

use axum::http::{HeaderMap, StatusCode};
use chrono::Utc;
use hyper::Request;
use hyper::body::Incoming;
use serde_json::{Map, Value};

use super::answer::{self, Answer, flag_error, json_text};
use super::assignments::Recorder;
use super::body::{self, Limit};
use super::keys::{Caller, Scope};
use super::request::{self, Bad};
use super::{State, bulk};
use crate::flags::{self, EvaluationError};

/// `POST /ofrep/v1/evaluate/flags/{key}` and, without a key, `POST /ofrep/v1/evaluate/flags`.
pub async fn evaluate(state: &State, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let key = match request::key_of(head.uri.path()) {
        Ok(key) => key,
        Err(bad) => return refuse(None, &bad),
    };
    let caller = match admit(state, &head.headers) {
        Ok(caller) => caller,
        Err(refusal) => return *refusal,
    };
    let limit = Limit {
        bytes: state.config.context_bytes,
        time: state.config.body_timeout,
    };
    let body = match body::read(&head.headers, body, limit).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    match (
        request::context_of(&body, state.config.context_attributes),
        key,
    ) {
        (Ok(context), Some(key)) => answer_one(state, &caller, &key, &context),
        (Ok(context), None) => bulk::answer_all(state, &caller, &head.headers, &context),
        (Err(bad), key) => refuse(key.as_deref(), &bad),
    }
}

fn refuse(key: Option<&str>, bad: &Bad) -> Answer {
    flag_error(StatusCode::BAD_REQUEST, key, bad.code, &bad.details)
}

/// Checks key and rate.
fn admit<'a>(state: &'a State, headers: &HeaderMap) -> Result<Caller<'a>, Box<Answer>> {
    let caller = state
        .keys
        .authorize(headers, Scope::Evaluate)
        .map_err(|denied| Box::new(answer::denied(denied)))?;
    state
        .rate
        .take(caller.index)
        .map_err(|seconds| Box::new(answer::too_many(seconds, "the key's rate is used up")))?;
    Ok(caller)
}

fn answer_one(
    state: &State,
    caller: &Caller<'_>,
    key: &str,
    request: &Map<String, Value>,
) -> Answer {
    let (served, now) = (state.served(), Utc::now());
    let context = match served.set.schema.context(request) {
        Ok(context) => context,
        Err(error) => {
            return flag_error(
                StatusCode::BAD_REQUEST,
                Some(key),
                "INVALID_CONTEXT",
                &error.to_string(),
            );
        }
    };
    match flags::evaluate(&served.set, key, &context, now) {
        Ok(evaluation) => {
            let mut recorder = Recorder::new(state, &served, caller, now);
            recorder.record(&evaluation);
            recorder.append();
            state.metrics.evaluations(evaluation.reason, 1);
            let mut text = String::with_capacity(256);
            served.write(&evaluation, &mut text);
            json_text(StatusCode::OK, text)
        }
        Err(EvaluationError::FlagNotFound) => {
            let details = format!("there is no flag `{key}`");
            flag_error(StatusCode::NOT_FOUND, Some(key), "FLAG_NOT_FOUND", &details)
        }
        Err(error @ EvaluationError::TargetingKeyMissing { .. }) => {
            let details = error_details(&error);
            flag_error(
                StatusCode::BAD_REQUEST,
                Some(key),
                "TARGETING_KEY_MISSING",
                &details,
            )
        }
    }
}

/// Why a flag has no answer, in words.
pub fn error_details(error: &EvaluationError<'_>) -> String {
    match error {
        EvaluationError::FlagNotFound => "there is no such flag".to_string(),
        EvaluationError::TargetingKeyMissing { unit } => {
            format!("the context has no `targetingKey` (`{unit}`) to split by")
        }
    }
}
