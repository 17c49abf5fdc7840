//! Builds HTTP answers. In: a status and a body. Out: a response with the headers every answer of its kind has.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Response, StatusCode};
use bytes::Bytes;
use http_body_util::{Either, Full};
use serde_json::{Value, json};

use super::keys::Denied;

/// Any answer.
pub type Answer = Response<AnswerBody>;

/// A text that is there, or one that the router or a stream gives.
pub type AnswerBody = Either<Full<Bytes>, Body>;

/// An answer with a JSON body.
pub fn json_text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    typed(status, HeaderValue::from_static("application/json"), body)
}

/// An answer with a body of another type.
pub fn typed(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Answer {
    with_body(status, content_type, Either::Left(Full::new(body.into())))
}

/// An answer whose text comes as it is made.
pub fn streamed(body: Body) -> Answer {
    with_body(StatusCode::OK, EVENT_STREAM, Either::Right(body))
}

fn with_body(status: StatusCode, content_type: HeaderValue, body: AnswerBody) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

/// Whether an answer's text goes on until the client or the server ends it.
pub fn is_endless(answer: &Answer) -> bool {
    matches!(answer.body(), Either::Right(_))
        && answer.headers().get(CONTENT_TYPE) == Some(&EVENT_STREAM)
}

/// The type of server-sent events.
pub const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// An answer without a body.
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Either::Left(Full::default()));
    *answer.status_mut() = status;
    answer
}

/// An error outside any flag: OFREP's `generalErrorResponse`, with OpenFeature's error code.
pub fn error(status: StatusCode, details: &str) -> Answer {
    json_text(
        status,
        json!({"errorCode": "GENERAL", "errorDetails": details}).to_string(),
    )
}

/// An error of one flag, or of a bulk request when there is no key.
pub fn flag_error(status: StatusCode, key: Option<&str>, code: &str, details: &str) -> Answer {
    json_text(status, flag_error_text(key, code, details))
}

/// The body of [`flag_error`].
pub fn flag_error_text(key: Option<&str>, code: &str, details: &str) -> String {
    match key {
        Some(key) => json!({"key": key, "errorCode": code, "errorDetails": details}),
        None => json!({"errorCode": code, "errorDetails": details}),
    }
    .to_string()
}

/// 429: try again in so many seconds.
pub fn too_many(seconds: u64, details: &str) -> Answer {
    later(StatusCode::TOO_MANY_REQUESTS, seconds, details)
}

/// 503: nothing can be stored now.
pub fn unavailable(details: &str) -> Answer {
    later(StatusCode::SERVICE_UNAVAILABLE, 5, details)
}

/// 401 or 403.
pub fn denied(denied: Denied) -> Answer {
    match denied {
        Denied::Unauthorized => {
            let mut answer = error(StatusCode::UNAUTHORIZED, "an API key is needed");
            answer
                .headers_mut()
                .insert("www-authenticate", HeaderValue::from_static("Bearer"));
            answer
        }
        Denied::Forbidden => error(
            StatusCode::FORBIDDEN,
            "the API key lacks the scope for this",
        ),
    }
}

/// The text of a JSON string.
pub fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn later(status: StatusCode, seconds: u64, details: &str) -> Answer {
    let mut answer = error(status, details);
    answer
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(seconds));
    answer
}
