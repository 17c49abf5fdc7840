//! OpenFeature's remote evaluation protocol, OFREP 0.3.0.
//! In: a context. Out: one flag's answer or all of them, and their assignments in the event log.
//! <https://github.com/open-feature/protocol/blob/main/service/openapi.yaml>

use std::borrow::Cow;

use axum::http::header::{ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use hyper::Request;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::answer::{self, Answer, flag_error, flag_error_text, json_text, quoted};
use super::assignments::Recorder;
use super::body::{self, Limit};
use super::keys::{Caller, Scope};
use super::served::Served;
use super::{State, etag, stream};
use crate::flags::{self, Context, Evaluation, EvaluationError, Reason};

/// `POST /ofrep/v1/evaluate/flags/{key}` and, without a key, `POST /ofrep/v1/evaluate/flags`.
pub async fn evaluate(state: &State, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let key = match key_of(head.uri.path()) {
        Ok(key) => key,
        Err(refusal) => return *refusal,
    };
    let caller = match admit(state, &head.headers) {
        Ok(caller) => caller,
        Err(refusal) => return *refusal,
    };
    match (read_context(state, &head.headers, body).await, key) {
        (Ok(context), Some(key)) => answer_one(state, &caller, &key, &context),
        (Ok(context), None) => answer_all(state, &caller, &head.headers, &context),
        (Err(refusal), key) => *refusal.of(key.as_deref()),
    }
}

/// The key in the path, percent-decoded (RFC 3986, 2.1); none in the path of all flags.
fn key_of(path: &str) -> Result<Option<Cow<'_, str>>, Box<Answer>> {
    let Some(key) = path.strip_prefix("/ofrep/v1/evaluate/flags/") else {
        return Ok(None);
    };
    if !key.contains('%') {
        return Ok(Some(Cow::Borrowed(key)));
    }
    let bytes = key.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes
            .get(at + 1..at + 3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits
            .filter(|_| bytes[at] == b'%')
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    let details = "the flag's key is not UTF-8";
    let refusal = |_| {
        Box::new(flag_error(
            StatusCode::BAD_REQUEST,
            None,
            "PARSE_ERROR",
            details,
        ))
    };
    String::from_utf8(decoded)
        .map(|key| Some(Cow::Owned(key)))
        .map_err(refusal)
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

/// Why a context was not read.
enum Refusal {
    Answered(Box<Answer>),
    Bad { code: &'static str, details: String },
}

impl Refusal {
    fn of(self, key: Option<&str>) -> Box<Answer> {
        match self {
            Refusal::Answered(answer) => answer,
            Refusal::Bad { code, details } => {
                Box::new(flag_error(StatusCode::BAD_REQUEST, key, code, &details))
            }
        }
    }
}

#[derive(Deserialize)]
struct EvaluationRequest {
    #[serde(default)]
    context: Value,
}

async fn read_context(
    state: &State,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Map<String, Value>, Refusal> {
    let limit = Limit {
        bytes: state.config.context_bytes,
        time: state.config.body_timeout,
    };
    let body = body::read(headers, body, limit)
        .await
        .map_err(Refusal::Answered)?;
    let bad = |code, details: String| Err(Refusal::Bad { code, details });
    let request: EvaluationRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(error) => {
            return bad(
                "PARSE_ERROR",
                format!("the body is not an evaluation request: {error}"),
            );
        }
    };
    let attributes = state.config.context_attributes;
    match request.context {
        Value::Object(context) if context.len() <= attributes => Ok(context),
        Value::Object(_) => bad(
            "INVALID_CONTEXT",
            format!("the context has more than {attributes} attributes"),
        ),
        Value::Null => Ok(Map::new()),
        _ => bad(
            "INVALID_CONTEXT",
            "the context is not an object".to_string(),
        ),
    }
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
            state.metrics.evaluation(evaluation.reason);
            let mut text = String::with_capacity(256);
            write_evaluation(&served, &evaluation, &mut text);
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

fn answer_all(
    state: &State,
    caller: &Caller<'_>,
    headers: &HeaderMap,
    request: &Map<String, Value>,
) -> Answer {
    let (served, now) = (state.served(), Utc::now());
    let tag = etag::bulk_tag(&served, served.epoch(now), request);
    let known = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|header| header.to_str().ok());
    if known.into_iter().any(|header| etag::matches(header, &tag)) {
        return tagged(answer::empty(StatusCode::NOT_MODIFIED), &tag);
    }
    let context = match served.set.schema.context(request) {
        Ok(context) => context,
        Err(error) => {
            return flag_error(
                StatusCode::BAD_REQUEST,
                None,
                "INVALID_CONTEXT",
                &error.to_string(),
            );
        }
    };
    // The address of the event stream is the key's own, and assignments are logged once a day.
    let place = format!(
        "{tag}{}/{}",
        caller.index,
        now.timestamp().div_euclid(86_400)
    );
    let text = state.answers.get_or_make(&place, || {
        evaluate_all(state, &served, caller, &context, now)
    });
    tagged(json_text(StatusCode::OK, text), &tag)
}

/// The text, and whether its assignments are in the log, so that the text may be given again.
fn evaluate_all(
    state: &State,
    served: &Served,
    caller: &Caller<'_>,
    context: &Context,
    now: DateTime<Utc>,
) -> (Bytes, bool) {
    let mut recorder = Recorder::new(state, served, caller, now);
    let mut text = String::with_capacity(64 + served.set.flags.len() * 128);
    text.push_str(r#"{"flags":["#);
    for (index, flag) in served.set.flags.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        match flags::evaluate(&served.set, &flag.key, context, now) {
            Ok(evaluation) => {
                recorder.record(&evaluation);
                state.metrics.evaluation(evaluation.reason);
                write_evaluation(served, &evaluation, &mut text);
            }
            Err(error) => {
                text.push_str(&flag_error_text(
                    Some(&flag.key),
                    "TARGETING_KEY_MISSING",
                    &error_details(&error),
                ));
            }
        }
    }
    let is_logged = recorder.append();
    text.push_str(r#"],"eventStreams":["#);
    text.push_str(&stream::description(state, caller));
    text.push_str(r#"],"metadata":{"version":"#);
    text.push_str(&quoted(&served.version));
    text.push_str("}}");
    (Bytes::from(text), is_logged)
}

/// Python's provider reads key, variant and reason of every answer, so all are always there.
fn write_evaluation(served: &Served, evaluation: &Evaluation<'_>, out: &mut String) {
    let rendered = served.rendered(evaluation.flag);
    out.push_str(rendered.head(evaluation.flag, evaluation.variant));
    out.push_str(reason_text(evaluation.reason, served.strict_reasons));
    out.push_str(r#"","metadata":{"#);
    out.push_str(&rendered.metadata);
    write_assignment(evaluation, !rendered.metadata.is_empty(), out);
    out.push_str("}}");
}

/// What a client needs to report an exposure: which experiment, by which allocation.
fn write_assignment(evaluation: &Evaluation<'_>, mut needs_comma: bool, out: &mut String) {
    let assignment = evaluation.assignment.as_ref();
    let parts = [
        (
            "experiment",
            assignment.and_then(|assignment| assignment.experiment),
        ),
        (
            "allocation",
            assignment.and_then(|assignment| assignment.allocation),
        ),
        ("rule", evaluation.rule),
    ];
    for (name, value) in parts {
        let Some(value) = value else {
            continue;
        };
        if std::mem::replace(&mut needs_comma, true) {
            out.push(',');
        }
        out.push('"');
        out.push_str(name);
        out.push_str("\":");
        out.push_str(&quoted(value));
    }
}

/// OFREP 0.3.0 knows STATIC, TARGETING_MATCH, SPLIT, DISABLED and UNKNOWN; OpenFeature's own list has DEFAULT too, and the
/// clients take it.
fn reason_text(reason: Reason, is_strict: bool) -> &'static str {
    match reason.openfeature() {
        "DEFAULT" if is_strict => "UNKNOWN",
        other => other,
    }
}

fn error_details(error: &EvaluationError<'_>) -> String {
    match error {
        EvaluationError::FlagNotFound => "there is no such flag".to_string(),
        EvaluationError::TargetingKeyMissing { unit } => {
            format!("the context has no `targetingKey` (`{unit}`) to split by")
        }
    }
}

fn tagged(mut answer: Answer, tag: &str) -> Answer {
    let tag = HeaderValue::from_str(tag).expect("a tag is hex digits in quotes");
    answer.headers_mut().insert(ETAG, tag);
    answer
}
