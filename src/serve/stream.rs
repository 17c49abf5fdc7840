//! Tells clients to fetch again: OFREP's event stream (ADR 0008), server-sent events.
//! In: changes of the definitions, and instants at which allocations take effect. Out: `refetchEvaluation` messages. They carry no
//! flag: a client fetches with its own context.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State as Shared;
use axum::http::{HeaderMap, HeaderValue, Uri};
use futures::stream::unfold;
use serde_json::json;
use tokio::sync::watch;

use super::answer::{self, Answer, quoted, streamed};
use super::keys::{Caller, Denied, Scope};
use super::{Change, State};

/// Path of the stream.
pub const PATH: &str = "/ofrep/v1/stream";

/// The entry of `eventStreams` in a bulk answer. The address has no origin: the client's own base address is right also behind a
/// proxy.
pub fn description(state: &State, caller: &Caller<'_>) -> String {
    let address = match state.keys.stream_token(caller) {
        Some(token) => format!("{PATH}?token={token}"),
        None => PATH.to_string(),
    };
    format!(
        r#"{{"type":"sse","endpoint":{{"requestUri":{}}},"inactivityDelaySec":120}}"#,
        quoted(&address)
    )
}

/// `GET /ofrep/v1/stream`
pub async fn open(Shared(state): Shared<Arc<State>>, headers: HeaderMap, uri: Uri) -> Answer {
    if let Err(denied) = authorize(&state, &headers, &uri) {
        return answer::denied(denied);
    }
    let Some(place) = Place::take(&state) else {
        return answer::too_many(30, "too many event streams are open");
    };
    let last_seen = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let body = Body::from_stream(messages(&state, last_seen, place));
    let mut answer = streamed(body);
    answer
        .headers_mut()
        .insert("cache-control", HeaderValue::from_static("no-cache"));
    answer
}

fn authorize(state: &State, headers: &HeaderMap, uri: &Uri) -> Result<(), Denied> {
    let query = uri.query().unwrap_or_default();
    let token = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("token="));
    match token {
        Some(token) => state.keys.check_stream_token(token),
        None => state.keys.authorize(headers, Scope::Evaluate),
    }
    .map(|_| ())
}

/// How often a line is sent when nothing happens, so that proxies keep the connection and a client that left is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What a stream needs between messages.
struct Listener {
    changes: watch::Receiver<Change>,
    closing: watch::Receiver<bool>,
    first: Option<String>,
    _place: Place,
}

fn messages(
    state: &State,
    last_seen: Option<&str>,
    place: Place,
) -> impl futures::Stream<Item = Result<Bytes, Infallible>> + use<> {
    let mut changes = state.changes.subscribe();
    let current = changes.borrow_and_update().clone();
    // A client that was away while something changed is told at once.
    let missed = last_seen
        .filter(|seen| *seen != id_of(&current))
        .map(|_| message(&current));
    let first = format!("retry: 2000\n\n{}", missed.unwrap_or_default());
    let listener = Listener {
        changes,
        closing: state.closing.subscribe(),
        first: Some(first),
        _place: place,
    };
    unfold(listener, async |mut listener| {
        let text = next_message(&mut listener).await?;
        Some((Ok(Bytes::from(text)), listener))
    })
}

async fn next_message(listener: &mut Listener) -> Option<String> {
    if let Some(first) = listener.first.take() {
        return Some(first);
    }
    tokio::select! {
        _ = listener.closing.wait_for(|closing| *closing) => None,
        changed = listener.changes.changed() => {
            changed.ok()?;
            Some(message(&listener.changes.borrow_and_update()))
        }
        () = tokio::time::sleep(KEEP_ALIVE) => Some(":\n\n".to_string()),
    }
}

fn message(change: &Change) -> String {
    let data =
        json!({"type": "refetchEvaluation", "etag": change.version, "lastModified": change.at});
    format!("id: {}\nevent: message\ndata: {data}\n\n", id_of(change))
}

fn id_of(change: &Change) -> String {
    format!("{}-{}", change.version, change.at)
}

/// One of the streams that may be open.
struct Place(Arc<State>);

impl Place {
    fn take(state: &Arc<State>) -> Option<Place> {
        let place = Place(state.clone());
        (state.streams.fetch_add(1, Ordering::Relaxed) < state.config.streams).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
