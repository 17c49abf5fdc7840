//! Reads a request body that a stranger sent.
//! In: a body, how many bytes and how much time it may take. Out: its bytes, or 413, 415, 408, 400. Memory is taken as bytes
//! come, never because a header announces them.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use axum::http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};

use super::answer::{self, Answer};

/// What a body may be.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub bytes: usize,
    pub time: Duration,
}

/// The whole body. `under_way` is asked only when it must be waited for, and what it gives lives as long.
///
/// # Errors
/// The answer to give instead.
pub async fn read<B: Body<Data = Bytes> + Unpin, G>(
    headers: &HeaderMap,
    mut body: B,
    limit: Limit,
    under_way: impl FnOnce() -> G,
) -> Result<Bytes, Box<Answer>> {
    if headers
        .get(CONTENT_ENCODING)
        .is_some_and(|encoding| encoding != "identity")
    {
        return Err(refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "compressed bodies are not read",
        ));
    }
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit.bytes as u64) {
        return Err(too_large(limit));
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    // Most bodies come whole with their head: for them no timer is set.
    let first = poll_fn(|context| Poll::Ready(Pin::new(&mut body).poll_frame(context)));
    let start = match first.await {
        Poll::Ready(Some(frame)) => joined(Bytes::new(), frame, limit)?,
        Poll::Ready(None) => return Ok(Bytes::new()),
        Poll::Pending => Bytes::new(),
    };
    if body.is_end_stream() {
        return Ok(start);
    }
    let _under_way = under_way();
    let rest = Box::pin(collect(start, body, limit));
    match tokio::time::timeout(limit.time, rest).await {
        Ok(read) => read,
        Err(_) => Err(refuse(
            StatusCode::REQUEST_TIMEOUT,
            "the body came too slowly",
        )),
    }
}

async fn collect<B: Body<Data = Bytes> + Unpin>(
    start: Bytes,
    mut body: B,
    limit: Limit,
) -> Result<Bytes, Box<Answer>> {
    let mut whole = start;
    // Asking for a frame behind the last would take another round through hyper.
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else {
            break;
        };
        whole = joined(whole, frame, limit)?;
    }
    Ok(whole)
}

/// What came so far with one piece more. A first piece is not copied.
fn joined<E>(
    whole: Bytes,
    frame: Result<Frame<Bytes>, E>,
    limit: Limit,
) -> Result<Bytes, Box<Answer>> {
    let Ok(frame) = frame else {
        return Err(refuse(StatusCode::BAD_REQUEST, "the body broke off"));
    };
    let Ok(piece) = frame.into_data() else {
        return Ok(whole);
    };
    if whole.len() + piece.len() > limit.bytes {
        return Err(too_large(limit));
    }
    if whole.is_empty() {
        return Ok(piece);
    }
    let mut joined = bytes::BytesMut::from(whole);
    joined.extend_from_slice(&piece);
    Ok(joined.freeze())
}

fn too_large(limit: Limit) -> Box<Answer> {
    refuse(
        StatusCode::PAYLOAD_TOO_LARGE,
        &format!("the body has more than {} bytes", limit.bytes),
    )
}

/// The rest of the body is not read: the connection ends with the answer.
fn refuse(status: StatusCode, details: &str) -> Box<Answer> {
    let mut refusal = answer::error(status, details);
    refusal
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    Box::new(refusal)
}
