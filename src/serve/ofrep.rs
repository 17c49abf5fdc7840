//! OpenFeature's remote evaluation protocol, OFREP 0.3.0.
//! In: a context. Out: one flag's answer and its assignment in the event log; all flags are left to [`super::bulk`].
//! <https://github.com/open-feature/protocol/blob/main/service/openapi.yaml>

use axum::http::{HeaderMap, StatusCode};
use chrono::Utc;
use hyper::Request;
use hyper::body::Incoming;

use super::answer::{self, Answer, flag_error, json_text};
use super::assignments::Recorder;
use super::body::{self, Limit};
use super::keys::{Caller, Scope};
use super::request::{self, Bad};
use super::routes::InFlight;
use super::served::Served;
use super::{State, bulk};
use crate::flags::{self, Context, EvaluationError};

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
    let under_way = || InFlight::enter(state);
    let body = match body::read(&head.headers, body, limit, under_way).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    state.with_served(|served| {
        let most = state.config.context_attributes;
        match (request::context_of(&body, &served.set.schema, most), key) {
            (Ok(context), Some(key)) => answer_one(state, served, &caller, &key, &context),
            (Ok(context), None) => {
                bulk::answer_all(state, served, &caller, &head.headers, &context)
            }
            (Err(bad), key) => refuse(key.as_deref(), &bad),
        }
    })
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
    served: &Served,
    caller: &Caller<'_>,
    key: &str,
    context: &Context,
) -> Answer {
    let Some(index) = served.set.position(key) else {
        let details = format!("there is no flag `{key}`");
        return flag_error(StatusCode::NOT_FOUND, Some(key), "FLAG_NOT_FOUND", &details);
    };
    let now = Utc::now();
    match flags::evaluate_flag(&served.set, &served.set.flags[index], context, now) {
        Ok(evaluation) => {
            let (_, answer) = served.answer(index, &evaluation);
            Recorder::new(state, caller, now).record_now(&evaluation, answer);
            state.metrics.evaluations(evaluation.reason, 1);
            json_text(StatusCode::OK, String::from(&*answer.text))
        }
        Err(error) => {
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
