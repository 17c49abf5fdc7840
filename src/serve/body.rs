//! Reads a request body that a stranger sent.
//! In: a body, how many bytes and how much time it may take. Out: its bytes, or 413, 415, 408, 400. Memory is taken as bytes
//! come, never because a header announces them.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use axum::http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;

use super::answer::{self, Answer};

/// What a body may be.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub bytes: usize,
    pub time: Duration,
}

/// The whole body.
///
/// # Errors
/// The answer to give instead.
pub async fn read<B: Body<Data = Bytes> + Unpin>(
    headers: &HeaderMap,
    body: B,
    limit: Limit,
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
    let mut reading = pin!(collect(body, limit));
    // Most bodies come with their head: for them no timer is set.
    if let Some(read) = at_once(reading.as_mut()).await {
        return read;
    }
    match tokio::time::timeout(limit.time, reading).await {
        Ok(read) => read,
        Err(_) => Err(refuse(
            StatusCode::REQUEST_TIMEOUT,
            "the body came too slowly",
        )),
    }
}

/// What a future gives without waiting for anybody else. It is asked twice, because hyper hands over a body that it has only after
/// it was asked for it.
async fn at_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    let mut was_asked = false;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if was_asked => Poll::Ready(None),
        Poll::Pending => {
            was_asked = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

async fn collect<B: Body<Data = Bytes> + Unpin>(
    mut body: B,
    limit: Limit,
) -> Result<Bytes, Box<Answer>> {
    let mut whole: Option<Bytes> = None;
    // Asking for a frame behind the last would take another round through hyper.
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else {
            break;
        };
        let Ok(frame) = frame else {
            return Err(refuse(StatusCode::BAD_REQUEST, "the body broke off"));
        };
        let Ok(chunk) = frame.into_data() else {
            continue;
        };
        let length = whole.as_ref().map_or(0, Bytes::len) + chunk.len();
        if length > limit.bytes {
            return Err(too_large(limit));
        }
        // Most bodies come in one piece, which is not copied.
        whole = Some(match whole {
            None => chunk,
            Some(start) => {
                let mut joined = bytes::BytesMut::from(start);
                joined.extend_from_slice(&chunk);
                joined.freeze()
            }
        });
    }
    Ok(whole.unwrap_or_default())
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
